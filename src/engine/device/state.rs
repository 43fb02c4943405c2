//! Everything the engine knows of one registered device. A device moves between shards as a whole.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::format::{DeviceFormats, Refused};
use super::job::{Exchange, Purpose, Transfer};
use super::moving::Moving;
use super::observation::Observation;
use super::queue::CommandQueue;
#[cfg(any(feature = "http", feature = "internals"))]
use super::seen::Seen;
use crate::bridge::state::State;
use crate::bridge::uplink::Ids;
use crate::coap::Token;
use crate::engine::account::Charged;
use crate::engine::identity::Identity;
use crate::engine::index::DeviceIndex;
use crate::engine::peer::Peer;
use crate::engine::reach::Trust;
use crate::engine::registration::{Links, Registration};
use crate::engine::timer::Reason;
use crate::lwm2m::Path;
use crate::lwm2m::codec::Guesses;
use crate::tables::rare::Rare;
use crate::time::{Instant, Now};

/// Longest `imei` and `imsi` in bytes that answers carry.
const MAX_ID: usize = 255;

/// A registered device. What other parts of the engine read or write is marked so; the conversation
/// is this folder's.
#[derive(Debug)]
pub struct Device {
    pub(in crate::engine) endpoint: Arc<str>,
    /// Changes in the registry only.
    pub(in crate::engine) peer: Peer,
    /// PSK identity that registered it; `None` without DTLS. Changes in the registry only.
    pub(in crate::engine) identity: Option<Arc<Identity>>,
    /// It was moved to the newest connection of its identity, which has not spoken for it yet.
    pub(in crate::engine) unconfirmed: bool,
    /// Milliseconds since 1970.
    pub(in crate::engine) registered_at: u64,
    /// Rendered mountpoint.
    pub(in crate::engine) mount: Box<str>,
    /// The mountpoint is the host's, not the configuration's.
    pub(in crate::engine) fixed_mount: bool,
    /// Its location changes in the registry only.
    pub(in crate::engine) registration: Registration,
    pub(in crate::engine) last_seen: Instant,
    /// Until when a queue-mode device is taken to be awake.
    pub(super) awake_until: Instant,
    /// When the engine will look at the device; the registry's.
    pub(in crate::engine) timer_at: Option<Instant>,
    /// Tokens and message ids of exchanges and observations stand in the index as well.
    pub(super) exchanges: Rare<Exchange>,
    pub(super) queue: CommandQueue,
    /// The latest command that was taken, by its order of receipt.
    pub(super) latest: u64,
    /// It has come from another shard, and commands may still follow it.
    pub(super) moving: Option<Box<Moving>>,
    pub(super) observations: Vec<Observation>,
    /// Content formats it would not take since it registered.
    pub(super) refused: Refused,
    /// What its resources without a definition have been since it is known.
    pub(super) guesses: RefCell<Guesses>,
    /// Transfers whose first block came, in that order: devices that cannot tell them apart serve
    /// the rest of them so.
    pub(super) transfers: Rare<Transfer>,
    /// Observations to be asked for again after a new registration, each once.
    pub(super) refresh: Rare<Token>,
    /// The longest period between notifications, in seconds, where it was set through us.
    pub(super) periods: Rare<(Path, u32)>,
    /// Message id of its Register.
    pub(in crate::engine) register_mid: u16,
    /// Message id of the last separate response, whose repetition is acknowledged again.
    pub(in crate::engine) last_separate: Option<u16>,
    /// What it takes of the account of memory.
    pub(in crate::engine) charged: Charged,
    /// Whether it has shown that it receives at its address.
    pub(in crate::engine) trust: Trust,
    /// Something of it has changed that outlives the process and is not written yet.
    pub(in crate::engine) unsaved: bool,
    /// It came back from the store and its DTLS session is gone: nothing can be sent to it.
    pub(in crate::engine) absent: bool,
    /// The command that is just being taken, by its number: nothing of it has been noted yet.
    pub(super) fresh: u64,
    /// Commands that count among those of the whole gateway.
    pub(in crate::engine) counted: u32,
    /// What the broker was told of whether it can be reached.
    pub(in crate::engine) shown: Shown,
    /// What the store knows of [`Device::last_seen`].
    pub(super) saved_seen: Instant,
    /// Acknowledgements and resets from its address since the last request that named nothing that
    /// was under way.
    pub(super) strays: u8,
    /// What the HTTP API shows, where there is one.
    #[cfg(any(feature = "http", feature = "internals"))]
    pub(super) seen: Option<Box<Seen>>,
}

/// What a Register makes a device of.
pub(in crate::engine) struct NewDevice {
    pub(in crate::engine) endpoint: Arc<str>,
    pub(in crate::engine) peer: Peer,
    pub(in crate::engine) mount: String,
    pub(in crate::engine) fixed_mount: bool,
    pub(in crate::engine) registration: Registration,
    /// Message id of the Register.
    pub(in crate::engine) register_mid: u16,
    /// What the registration takes, in bytes.
    pub(in crate::engine) bytes: usize,
}

/// What the broker was told last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Shown {
    /// Nothing, or nothing at this mountpoint.
    #[default]
    Nothing,
    /// This, with this lifetime in seconds.
    There(State, u32),
    /// That the device is gone.
    Gone,
}

impl Device {
    /// A device that has just registered.
    pub(in crate::engine) fn new(now: Now, new: NewDevice) -> Box<Self> {
        Box::new(Self {
            endpoint: new.endpoint,
            peer: new.peer,
            identity: None,
            unconfirmed: false,
            registered_at: now.unix_ms,
            mount: new.mount.into(),
            fixed_mount: new.fixed_mount,
            registration: new.registration,
            last_seen: now.mono,
            awake_until: now.mono,
            timer_at: None,
            exchanges: Rare::default(),
            queue: CommandQueue::default(),
            latest: 0,
            moving: None,
            observations: Vec::new(),
            refused: Refused::default(),
            guesses: RefCell::default(),
            transfers: Rare::default(),
            refresh: Rare::default(),
            periods: Rare::default(),
            register_mid: new.register_mid,
            last_separate: None,
            charged: Charged::of_registration(new.bytes),
            trust: Trust::of(new.peer, false),
            unsaved: true,
            absent: false,
            fresh: 0,
            counted: 0,
            shown: Shown::Nothing,
            saved_seen: now.mono,
            strays: 0,
            #[cfg(any(feature = "http", feature = "internals"))]
            seen: None,
        })
    }

    /// What stands in every answer (`imei`, `imsi`): fifteen digits each. What is far longer is none,
    /// and is not repeated with each notification.
    pub(in crate::engine) fn ids(&self) -> Ids<'_> {
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
            declared: links.map(Links::content_formats).unwrap_or_default(),
            refused: self.refused,
        }
    }

    /// Whether a command waits for the device's answer.
    pub(in crate::engine) fn has_command_under_way(&self) -> bool {
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
        self.last_seen + self.registration.lifetime()
    }

    /// The earliest deadline and its reason.
    pub(in crate::engine) fn next_deadline(&self) -> (Instant, Reason) {
        let mut next = (self.expires_at(), Reason::Lifetime);
        for exchange in &self.exchanges {
            let reason = if exchange.transmission.is_outstanding() {
                Reason::Retransmission
            } else {
                Reason::SeparateResponse
            };
            next = next.min((exchange.transmission.deadline(), reason));
        }
        let watched = self
            .observations
            .iter()
            .filter_map(|it| it.watch.deadline());
        if let Some(at) = watched.min() {
            next = next.min((at, Reason::Silence));
        }
        if let Some(at) = self.queue.next_expiry() {
            next = next.min((at, Reason::QueuedCommand));
        }
        if let Some(at) = self.moving.as_ref().map(|it| it.deadline()) {
            next = next.min((at, Reason::Handoff));
        }
        if let Some(at) = self.falls_asleep_at() {
            next = next.min((at, Reason::Sleep));
        }
        next
    }

    /// Observations to be asked for again, each once however often that is wanted.
    pub(super) fn refresh_again(&mut self, tokens: impl Iterator<Item = Token>) {
        let known: HashSet<Token> = self.refresh.iter().copied().collect();
        self.refresh
            .extend(tokens.filter(|token| !known.contains(token)));
    }

    pub(super) fn observation(&self, token: Token) -> Option<&Observation> {
        self.observations.iter().find(|known| known.token == token)
    }

    pub(super) fn observation_mut(&mut self, token: Token) -> Option<&mut Observation> {
        let mut observations = self.observations.iter_mut();
        observations.find(|known| known.token == token)
    }

    /// Tokens of its observations.
    pub(in crate::engine) fn observed(&self) -> impl Iterator<Item = Token> {
        self.observations.iter().map(|known| known.token)
    }

    /// Whether what bears this token is a notification.
    pub(in crate::engine) fn notifies(&self, token: Token) -> bool {
        self.observation(token).is_some() && self.exchange_by_token(token).is_none()
    }

    pub(super) fn exchange_by_token(&self, token: Token) -> Option<&Exchange> {
        self.exchanges.iter().find(|it| it.token == token)
    }

    pub(super) fn exchange_by_mid(&mut self, mid: u16) -> Option<&mut Exchange> {
        self.exchanges.iter_mut().find(|it| it.mid == mid)
    }

    /// All tokens a message of this device may carry; one may occur twice.
    pub(in crate::engine) fn tokens(&self) -> impl Iterator<Item = Token> {
        let exchanges = self.exchanges.iter().map(|exchange| exchange.token);
        exchanges.chain(self.observed())
    }

    /// How many different ones there are.
    #[cfg(debug_assertions)]
    pub(in crate::engine) fn distinct_tokens(&self) -> usize {
        let first = |at: usize| {
            let token = self.tokens().nth(at);
            self.tokens().take(at).all(|other| Some(other) != token)
        };
        (0..self.tokens().count()).filter(|at| first(*at)).count()
    }

    /// Enters its requests under way, at an address that is new to them or to this shard. Another
    /// device there may have one of their message ids: such a request gets a new one, and is only
    /// waited for if doing it twice would do harm.
    pub(in crate::engine) fn index_messages(
        &mut self,
        index: &mut DeviceIndex<'_>,
        rng: &mut ChaCha8Rng,
    ) {
        for exchange in &mut self.exchanges {
            if index.has_message(self.peer, exchange.mid) {
                exchange.renumber(index.next_mid(self.peer, rng));
            }
            index.add_message(self.peer, exchange.mid);
        }
    }

    /// Message ids of its requests under way.
    pub(in crate::engine) fn mids(&self) -> impl Iterator<Item = u16> {
        self.exchanges.iter().map(|exchange| exchange.mid)
    }

    /// Observations, exchanges and waiting commands.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn sizes(&self) -> [usize; 3] {
        let (observations, exchanges) = (self.observations.len(), self.exchanges.len());
        [observations, exchanges, self.queue.len()]
    }
}
