//! Which datagrams a shard looks at.

use tracing::warn;

use super::shard::Shard;
use crate::admission::Refused;
use crate::engine::Peer;
use crate::network::NetworkPath;
use crate::telemetry::LogReason;
use crate::time::Instant;

impl Shard {
    /// Who may come in by each listener, from now on.
    pub(super) fn set_admission(&mut self) {
        let settings = self.plan.0.clone();
        for listener in &mut self.listeners {
            let Some(wanted) = settings.listener(listener.number) else {
                continue;
            };
            listener.access = wanted.access.clone();
            if let Some(secure) = &mut listener.secure {
                secure.set_door(wanted.door.clone());
            }
        }
    }

    /// How full the receive buffer of a listener is, in thousandths. Counts what was lost there.
    pub(super) fn backlog(&mut self, index: usize) -> u32 {
        let Some(listener) = self.listeners.get_mut(index) else {
            return 0;
        };
        let Some(backlog) = listener.socket.backlog() else {
            return 0;
        };
        let before = std::mem::replace(&mut listener.overrun, backlog.drops);
        let lost = backlog.drops.wrapping_sub(before);
        self.counters.datagrams_overrun.add(u64::from(lost));
        backlog.fill
    }

    /// Says once in a while that datagrams are refused: a flood is the worst time to log much.
    pub(super) fn report_refusals(&mut self, now: Instant) {
        let lines = &self.counters.lines;
        if self.refusals == 0 || lines.admit(now, LogReason::RateExceeded).is_none() {
            return;
        }
        let count = std::mem::take(&mut self.refusals);
        let overloaded = self.gate.is_shedding();
        warn!(
            shard = self.index,
            count, overloaded, "datagrams refused: over the rate limits, or too many for the shard"
        );
    }

    /// Whether a datagram is looked at. With `strict` its sender may have sent too many.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        index: usize,
        (from, datagram): (NetworkPath, &[u8]),
        strict: bool,
    ) -> bool {
        let Some(listener) = self.listeners.get_mut(index) else {
            return false;
        };
        if !listener.access.allow(from.ip()) {
            self.counters.datagrams_denied.inc();
            return false;
        }
        if !strict {
            return true;
        }
        let limit = self.gate.device();
        let known = match &mut listener.secure {
            Some(secure) => secure.admit(now, from, datagram, limit),
            None => {
                let peer = Peer {
                    listener: listener.number,
                    local: from.local,
                    address: from.remote,
                    session: 0,
                };
                self.engine.admit(now, peer, limit)
            }
        };
        let verdict = match known {
            Some(true) => return true,
            Some(false) => Err(Refused::Rate),
            None => self.gate.stranger(now, from.ip()),
        };
        match verdict {
            Ok(()) => return true,
            Err(Refused::Rate) => self.counters.datagrams_limited.inc(),
            Err(Refused::Shed) => self.counters.datagrams_shed.inc(),
        }
        self.refusals += 1;
        false
    }
}
