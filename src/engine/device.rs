//! Everything the engine knows of one registered device. A device moves between shards as a whole.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::Peer;
use super::account::{Charged, registration_bytes};
use super::format::{DeviceFormats, FormatChoice, Refused};
use super::queue::CommandQueue;
use super::reach::Trust;
use super::registration::Registration;
use super::request::RequestParts;
use super::sessions::Identity;
use super::timer::Reason;
use super::transfer::Effort;
use crate::bridge::uplink::Ids;
use crate::bridge::{Command, Echo, Target};
use crate::coap::block::{BlockOption, Receiver, Sender};
use crate::coap::exchange::Transmission;
use crate::coap::observe::Freshness;
use crate::coap::{Code, Token};
use crate::memory::block;
use crate::time::Instant;

/// Longest `imei` and `imsi` in bytes that answers carry.
const MAX_ID: usize = 255;

/// Index of a device in its shard.
pub(super) type DeviceKey = u32;

/// A registered device.
#[derive(Debug)]
pub struct Device {
    pub(super) endpoint: Arc<str>,
    pub(super) peer: Peer,
    /// PSK identity that registered it; `None` without DTLS.
    pub(super) identity: Option<Arc<Identity>>,
    /// It was moved to the newest connection of its identity, which has not spoken for it yet.
    pub(super) unconfirmed: bool,
    /// Milliseconds since 1970.
    pub(super) registered_at: u64,
    /// Rendered mountpoint.
    pub(super) mount: Box<str>,
    /// The mountpoint is the host's, not the configuration's.
    pub(super) fixed_mount: bool,
    pub(super) registration: Registration,
    pub(super) last_seen: Instant,
    /// Until when a queue-mode device is taken to be awake.
    pub(super) awake_until: Instant,
    /// When the engine will look at the device.
    pub(super) timer_at: Option<Instant>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) queue: CommandQueue,
    pub(super) observations: Vec<Observation>,
    /// Content formats it would not take since it registered.
    pub(super) refused: Refused,
    /// Transfers whose first block came, in that order: devices that cannot tell them apart serve
    /// the rest of them so.
    pub(super) transfers: VecDeque<Transfer>,
    /// Observations to be asked for again after a new registration, each once.
    pub(super) refresh: Vec<Token>,
    /// Message id of its Register.
    pub(super) register_mid: u16,
    /// Message id of the last separate response, whose repetition is acknowledged again.
    pub(super) last_separate: Option<u16>,
    /// What it takes of the account of memory.
    pub(super) charged: Charged,
    /// Whether it has shown that it receives at its address.
    pub(super) trust: Trust,
    /// Acknowledgements and resets from its address since the last request that named nothing that
    /// was under way.
    pub(super) strays: u8,
}

/// A body of which the first block is here.
#[derive(Debug)]
pub(super) enum Transfer {
    /// Of a notification; at most one an observation.
    Notification { observation: Token, body: Body },
    /// Of the answer to a request.
    Answer(Box<Job>),
}

/// A request on its way to the device.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) token: Token,
    pub(super) mid: u16,
    /// For retransmission.
    pub(super) datagram: Box<[u8]>,
    pub(super) transmission: Transmission,
    /// It was not sent because the device has not shown itself.
    pub(super) withheld: bool,
    pub(super) job: Box<Job>,
}

/// What one or more exchanges work on: several when blocks are needed.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) purpose: Purpose,
    pub(super) request: RequestParts,
    /// The content formats of the request.
    pub(super) choice: FormatChoice,
    /// The request's body, block by block (Block1).
    pub(super) sender: Option<Sender>,
    /// The response's body so far (Block2).
    pub(super) body: Option<Body>,
    /// What may still be asked.
    pub(super) effort: Effort,
    /// Bytes of all but the bodies in blocks.
    pub(super) fixed: usize,
}

impl Job {
    pub(super) fn new(
        purpose: Purpose,
        request: RequestParts,
        choice: FormatChoice,
        effort: Effort,
    ) -> Self {
        Self {
            fixed: Self::fixed_bytes(&purpose, &request),
            purpose,
            request,
            choice,
            sender: None,
            body: None,
            effort,
        }
    }
}

/// Why a request is sent.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A command of an application.
    Command {
        command: Box<Command>,
        /// The token that notifications will carry, if this is an Observe.
        observation: Option<Token>,
        /// The application knows that the response comes separately.
        ack_reported: bool,
    },
    /// An observation is asked for again after the device registered anew.
    Refresh { observation: Token },
    /// The rest of a notification that came in blocks.
    Notification { observation: Token },
}

/// A response in blocks.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) receiver: Receiver,
    pub(super) code: Code,
    pub(super) content_format: Option<u16>,
    pub(super) observe: Option<u32>,
    pub(super) etag: Option<Box<[u8]>>,
    /// The block to ask for.
    pub(super) next: BlockOption,
    /// How often the transfer began anew because the representation changed.
    pub(super) restarts: u8,
    /// Blocks in a row that were not asked for.
    pub(super) strays: u8,
}

impl Body {
    /// Bytes of the heap it takes.
    pub(super) fn bytes(&self) -> usize {
        let etag = self.etag.as_ref().map_or(0, |etag| block(etag.len()));
        self.receiver.heap() + etag
    }
}

/// An observation that the device confirmed (RFC 7641).
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) token: Token,
    pub(super) target: Target,
    pub(super) echo: Echo,
    /// The content formats it was asked for in.
    pub(super) choice: FormatChoice,
    pub(super) freshness: Freshness,
}

impl Device {
    /// Everything it takes, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        let Charged {
            registration,
            work,
            queue,
        } = self.charged;
        registration + work + queue
    }

    /// What its registration takes, in bytes.
    pub(super) fn registration_bytes(&self) -> usize {
        let identity = self.identity.as_deref();
        registration_bytes(&self.endpoint, &self.mount, &self.registration, identity)
    }

    /// What stands in every answer (`imei`, `imsi`): fifteen digits each. What is far longer is none,
    /// and is not repeated with each notification.
    pub(super) fn ids(&self) -> Ids<'_> {
        let query = &self.registration.query;
        let id = |name| query.get(name).filter(|id| id.len() <= MAX_ID);
        Ids {
            imei: id("imei"),
            imsi: id("imsi"),
        }
    }

    /// What is known of its content formats.
    pub(super) fn formats(&self) -> DeviceFormats<'_> {
        let links = self.registration.links.as_ref();
        DeviceFormats {
            version: self.registration.version,
            declared: links
                .map(|links| &*links.content_formats)
                .unwrap_or_default(),
            refused: self.refused,
        }
    }

    /// Whether a command waits for the device's answer.
    pub(super) fn has_command_under_way(&self) -> bool {
        let exchanges = self.exchanges.iter().map(|exchange| &exchange.job.purpose);
        exchanges
            .chain(self.transfers.iter().filter_map(|it| match it {
                Transfer::Answer(job) => Some(&job.purpose),
                Transfer::Notification { .. } => None,
            }))
            .any(|purpose| matches!(purpose, Purpose::Command { .. }))
    }

    /// Requests that count against NSTART.
    pub(super) fn outstanding(&self) -> usize {
        self.exchanges
            .iter()
            .filter(|exchange| exchange.transmission.is_outstanding())
            .count()
    }

    /// When the lifetime ends. What bears a token or location of ours counts as a sign of life, as
    /// in EMQX; LwM2M asks for an Update only.
    pub(super) fn expires_at(&self) -> Instant {
        self.last_seen + self.registration.lifetime
    }

    /// The earliest deadline and its reason.
    pub(super) fn next_deadline(&self) -> (Instant, Reason) {
        let mut next = (self.expires_at(), Reason::Lifetime);
        for exchange in &self.exchanges {
            let reason = if exchange.transmission.is_outstanding() {
                Reason::Retransmission
            } else {
                Reason::SeparateResponse
            };
            next = next.min((exchange.transmission.deadline(), reason));
        }
        if let Some(at) = self.queue.next_expiry() {
            next = next.min((at, Reason::QueuedCommand));
        }
        next
    }

    /// Observations to be asked for again, each once however often that is wanted.
    pub(super) fn refresh_again(&mut self, tokens: impl Iterator<Item = Token>) {
        let known: HashSet<Token> = self.refresh.iter().copied().collect();
        self.refresh
            .extend(tokens.filter(|token| !known.contains(token)));
    }

    /// The rest of a notification is no longer wanted. Returns the bytes it took.
    pub(super) fn forget_transfer(&mut self, of: Token) -> usize {
        let mut freed = 0;
        self.transfers.retain(|transfer| {
            let wanted =
                !matches!(transfer, Transfer::Notification { observation, .. } if *observation == of);
            freed += if wanted { 0 } else { transfer.bytes() };
            wanted
        });
        freed
    }

    pub(super) fn observation(&self, token: Token) -> Option<usize> {
        self.observations
            .iter()
            .position(|observation| observation.token == token)
    }

    pub(super) fn exchange_by_token(&self, token: Token) -> Option<usize> {
        self.exchanges
            .iter()
            .position(|exchange| exchange.token == token)
    }

    pub(super) fn exchange_by_mid(&self, mid: u16) -> Option<usize> {
        self.exchanges
            .iter()
            .position(|exchange| exchange.mid == mid)
    }

    /// All tokens a message of this device may carry.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        let exchanges = self.exchanges.iter().map(|exchange| exchange.token);
        exchanges.chain(
            self.observations
                .iter()
                .map(|observation| observation.token),
        )
    }
}
