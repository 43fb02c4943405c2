//! Deadlines of devices: one entry each, which is early when a message has moved the deadline
//! later, so that such a message costs nothing.

use std::collections::BTreeMap;

use super::peer::DeviceKey;
use crate::time::Instant;

/// Why something is due; travels with each deadline, so that a busy loop can be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A Confirmable message is to be sent again, or given up (RFC 7252 §4.2).
    Retransmission,
    /// A separate response did not come (RFC 7252 §5.2.2).
    SeparateResponse,
    /// A queued command has waited too long.
    QueuedCommand,
    /// An observation should have been heard of.
    Silence,
    /// A device in queue mode no longer listens (LwM2M Core 1.2 §6.5).
    Sleep,
    /// A lifetime ends (LwM2M Core 1.2 §6.2.1).
    Lifetime,
    /// An unfinished block-wise request of a device is given up (RFC 7959 §2.5).
    BlockTransfer,
    /// A device that left for another shard is not heard of again.
    Handoff,
}

/// Deadlines in order of time, at most one a device.
#[derive(Debug, Default)]
pub(super) struct Timers {
    planned: BTreeMap<(Instant, DeviceKey), Reason>,
}

impl Timers {
    /// Plans a look at a device.
    pub(super) fn insert(&mut self, at: Instant, reason: Reason, device: DeviceKey) {
        self.planned.insert((at, device), reason);
    }

    /// Takes a plan back.
    pub(super) fn remove(&mut self, at: Instant, device: DeviceKey) {
        self.planned.remove(&(at, device));
    }

    /// The earliest look.
    pub(super) fn peek(&self) -> Option<(Instant, Reason)> {
        let ((at, _), reason) = self.planned.first_key_value()?;
        Some((*at, *reason))
    }

    /// Planned looks.
    #[cfg(any(debug_assertions, feature = "internals"))]
    pub(super) fn len(&self) -> usize {
        self.planned.len()
    }

    /// Takes a look that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<DeviceKey> {
        let entry = self.planned.first_entry()?;
        let (at, device) = *entry.key();
        (at <= now).then(|| {
            entry.remove();
            device
        })
    }
}
