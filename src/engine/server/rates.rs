//! How much of what devices send is taken: Registers a second, and whose requests are remembered
//! in whose share.

use std::time::Duration;

use super::request::Server;
use super::response::Response;
use crate::admission::{Limit, Rate};
use crate::coap::dedup::Class;
use crate::coap::message::option;
use crate::coap::{Code, Message, MessageType};
use crate::engine::index::PeerState;
use crate::engine::peer::Peer;
use crate::telemetry::limited;
use crate::time::Instant;

/// Requests of one device in EXCHANGE_LIFETIME that are remembered for it alone. A device that asks
/// one thing after the other (NSTART, RFC 7252 §4.7) sends fewer; what is more shares the room of
/// strangers.
const REMEMBERED: u32 = 64;

/// Longest wait that is asked of a device, in seconds.
const LONGEST_WAIT: u32 = 60;

/// Further seconds of it, at random, so that not all come again at once.
const SPREAD: u32 = 10;

impl Server<'_> {
    /// Counts a Register; when there are too many it is answered, and true returned.
    pub(super) fn is_one_too_many(&mut self, from: Peer, message: &Message) -> bool {
        let settings = self.core.env.settings.clone();
        let core = &*self.core;
        let now = core.now.mono;
        let Some(listener) = settings.listener(from.listener) else {
            return false;
        };
        let address = from.address.ip();
        let admitted = if from.session == 0 {
            let is_new = || core.registry.bound(from).is_none();
            listener.door.admit_if(now, address, is_new)
        } else {
            settings.registrations.admit(now, address)
        };
        let Err(wait) = admitted else {
            return false;
        };
        self.core.env.counters.registers_limited.inc();
        self.core.env.counters.register_refused.inc();
        limited!(WARN, self.core.env.counters, self.core.now.mono, RateExceeded, peer = %from.address,
            "registration refused: too many per second");
        if message.kind() == MessageType::Confirmable {
            self.ask_to_wait(from, message, wait);
        }
        // It is another one when it comes again.
        self.core.dedup.forget(from, message.mid());
        true
    }

    /// 5.03 with the time after which to try again (RFC 7252 §5.9.3.4).
    fn ask_to_wait(&mut self, to: Peer, message: &Message, wait: Duration) {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        let seconds = seconds.saturating_add(1).min(LONGEST_WAIT) + self.core.random() % SPREAD;
        let response = Response::new(Code::SERVICE_UNAVAILABLE).uint(option::MAX_AGE, seconds);
        self.respond(to, message, response);
    }
}

/// In whose share a new request is remembered.
pub(super) fn class(sender: Option<&mut PeerState>, now: Instant, lifetime: Duration) -> Class {
    let share = Limit::new(Rate {
        count: REMEMBERED,
        per: lifetime,
    });
    let own = sender.zip(share);
    if own.is_some_and(|(sender, share)| sender.remembered.take(now, share, 1)) {
        Class::Known
    } else {
        Class::Stranger
    }
}
