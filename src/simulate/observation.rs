//! One observation of a simulated device and its notifications (RFC 7641).

use std::time::{Duration, Instant};

use super::context::Context;
use super::wire::{BLOCK_EXPONENT, Block, Kind, Message, add_slice, code, option};
use crate::lwm2m::Path;

const ACK_TIMEOUT: Duration = Duration::from_secs(2);

const MAX_RETRANSMIT: u32 = 4;

/// The server's wish for notifications of one path (RFC 7641).
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) token: Vec<u8>,
    /// Several where it is of a composite.
    pub(super) paths: Vec<Path>,
    pub(super) accept: Option<u16>,
    sequence: u32,
    pub(super) last_sent: Instant,
    pub(super) next: Option<Instant>,
    last_mid: u16,
    /// The confirmable notification that waits for its ACK.
    unacknowledged: Option<Unacknowledged>,
}

#[derive(Debug)]
struct Unacknowledged {
    bytes: Vec<u8>,
    deadline: Instant,
    retransmissions: u32,
}

impl Observation {
    /// What the request `message` asks for; its answer is the first notification.
    pub(super) fn new(
        now: Instant,
        paths: Vec<Path>,
        accept: Option<u16>,
        message: &Message,
    ) -> Self {
        Self {
            token: message.token.clone(),
            paths,
            accept,
            sequence: 0,
            last_sent: now,
            next: None,
            last_mid: message.mid,
            unacknowledged: None,
        }
    }

    /// Whether a change of `path` is a change of what is observed.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.paths.iter().any(|observed| observed.contains(path))
    }

    /// When the next notification, or the repetition of one, is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.unacknowledged {
            Some(waiting) => Some(waiting.deadline),
            None => self.next,
        }
    }

    /// Whether a new notification is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.unacknowledged.is_none() && self.next.is_some_and(|next| next <= now)
    }

    /// Repeats what was not acknowledged in time. False when the server is no longer interested:
    /// it does not acknowledge (RFC 7641 §4.5).
    pub(super) fn repeat(&mut self, ctx: &mut Context<'_>) -> bool {
        let now = ctx.clock.mono;
        let Some(waiting) = &mut self.unacknowledged else {
            return true;
        };
        if waiting.deadline > now {
            return true;
        }
        if waiting.retransmissions == MAX_RETRANSMIT {
            ctx.counters.errors += 1;
            return false;
        }
        waiting.retransmissions += 1;
        waiting.deadline = now + ACK_TIMEOUT * (1 << waiting.retransmissions);
        ctx.out.push(waiting.bytes.clone());
        true
    }

    pub(super) fn on_ack(&mut self, mid: u16) {
        if self.last_mid == mid {
            self.unacknowledged = None;
        }
    }

    /// Whether a reset of the message `mid` refuses a notification of this one.
    pub(super) const fn is_refused_by(&self, mid: u16) -> bool {
        self.last_mid == mid && self.sequence != 0
    }

    pub(super) fn send(&mut self, ctx: &mut Context<'_>, mid: u16, form: u16, body: &[u8]) {
        let now = ctx.clock.mono;
        self.sequence = (self.sequence + 1) & 0x00ff_ffff;
        self.last_mid = mid;
        self.last_sent = now;
        let kind = if ctx.profile.confirmable {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let mut message = Message::new(kind, code::CONTENT, mid, self.token.clone());
        message.add_uint(option::OBSERVE, self.sequence);
        add_slice(&mut message, form, body, Block::from_uint(BLOCK_EXPONENT));
        let bytes = message.write();
        if ctx.profile.confirmable {
            self.unacknowledged = Some(Unacknowledged {
                bytes: bytes.clone(),
                deadline: now + ACK_TIMEOUT,
                retransmissions: 0,
            });
        }
        ctx.out.push(bytes);
        ctx.counters.notifications += 1;
    }
}
