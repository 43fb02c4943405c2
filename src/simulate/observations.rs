//! Notifications of a simulated device (RFC 7641).

use std::time::{Duration, Instant};

use super::content;
use super::device::Context;
use super::resources::{BLOCK_EXPONENT, Resources, add_slice};
use super::wire::{Block, Kind, Message, code, option};
use crate::lwm2m::Path;

/// Most observations of one device.
const MAX_OBSERVATIONS: usize = 32;

const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RETRANSMIT: u32 = 4;

/// The server's wish for notifications of one path (RFC 7641).
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) token: Vec<u8>,
    pub(super) path: Path,
    accept: Option<u16>,
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

impl Resources {
    pub(super) fn observe(
        &mut self,
        ctx: &Context<'_>,
        path: &Path,
        accept: Option<u16>,
        message: &Message,
    ) -> bool {
        self.observations
            .retain(|o| o.token != message.token && o.path != *path);
        if self.observations.len() >= MAX_OBSERVATIONS {
            return false;
        }
        let now = ctx.clock.mono;
        self.observations.push(Observation {
            token: message.token.clone(),
            path: path.clone(),
            accept,
            sequence: 0,
            last_sent: now,
            next: self
                .period(ctx.profile.notify_every, path)
                .map(|period| now + period),
            last_mid: message.mid,
            unacknowledged: None,
        });
        true
    }

    /// Time between two notifications: the configured one within pmin and pmax.
    fn period(&self, configured: Duration, path: &Path) -> Option<Duration> {
        let (pmin, pmax) = (self.attribute(path, "pmin"), self.attribute(path, "pmax"));
        let wanted = (!configured.is_zero()).then_some(configured);
        let period = match (wanted, pmax) {
            (Some(wanted), Some(pmax)) => wanted.min(pmax),
            (wanted, pmax) => wanted.or(pmax)?,
        };
        Some(
            period
                .max(pmin.unwrap_or_default())
                .max(Duration::from_millis(1)),
        )
    }

    /// When the next notification, or the repetition of one, is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.observations
            .iter()
            .filter_map(|o| match &o.unacknowledged {
                Some(waiting) => Some(waiting.deadline),
                None => o.next,
            })
            .min()
    }

    /// Sends what is due.
    pub(super) fn notify(&mut self, ctx: &mut Context<'_>, mid: &mut u16) {
        let now = ctx.clock.mono;
        self.observations.retain_mut(|observation| {
            let Some(waiting) = &mut observation.unacknowledged else {
                return true;
            };
            if waiting.deadline > now {
                return true;
            }
            // RFC 7641 §4.5: a client that does not acknowledge is no longer interested.
            if waiting.retransmissions == MAX_RETRANSMIT {
                ctx.counters.errors += 1;
                return false;
            }
            waiting.retransmissions += 1;
            waiting.deadline = now + ACK_TIMEOUT * (1 << waiting.retransmissions);
            ctx.out.push(waiting.bytes.clone());
            true
        });
        for index in 0..self.observations.len() {
            let due = self.observations.get(index).filter(|observation| {
                observation.unacknowledged.is_none()
                    && observation.next.is_some_and(|next| next <= now)
            });
            let Some((path, accept)) = due.map(|o| (o.path.clone(), o.accept)) else {
                continue;
            };
            let period = self.period(ctx.profile.notify_every, &path);
            self.objects.refresh(&path, ctx.clock.unix);
            let body = content::read(&self.objects, &path, accept);
            if let Some(observation) = self.observations.get_mut(index) {
                observation.next = period.map(|period| now + period);
                if let Ok((form, body)) = body {
                    *mid = mid.wrapping_add(1);
                    observation.send(ctx, *mid, form, &body);
                }
            }
        }
    }

    pub(super) fn on_ack(&mut self, mid: u16) {
        for observation in &mut self.observations {
            if observation.last_mid == mid {
                observation.unacknowledged = None;
            }
        }
    }

    /// RFC 7641 §3.6: a reset notification ends the observation.
    pub(super) fn on_reset(&mut self, mid: u16) {
        self.observations
            .retain(|o| o.last_mid != mid || o.sequence == 0);
    }
}

impl Observation {
    fn send(&mut self, ctx: &mut Context<'_>, mid: u16, form: u16, body: &[u8]) {
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
