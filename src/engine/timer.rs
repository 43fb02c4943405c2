//! Deadlines of devices: one lazy heap entry each, so that a message that only moves a deadline
//! later costs nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::device::DeviceKey;
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
    /// A lifetime ends (LwM2M Core 1.2 §6.2.1).
    Lifetime,
    /// An unfinished block-wise request of a device is given up (RFC 7959 §2.5).
    BlockTransfer,
    /// A device that left for another shard is not heard of again.
    Handoff,
}

impl Reason {
    /// For logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retransmission => "retransmission",
            Self::SeparateResponse => "separate response",
            Self::QueuedCommand => "queued command",
            Self::Lifetime => "lifetime",
            Self::BlockTransfer => "block transfer",
            Self::Handoff => "handoff",
        }
    }
}

/// Deadlines by device.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Reason, DeviceKey)>>,
}

impl Timers {
    /// Plans a look at a device.
    pub(super) fn push(&mut self, at: Instant, reason: Reason, device: DeviceKey) {
        self.heap.push(Reverse((at, reason, device)));
    }

    /// The earliest entry, which may be stale.
    pub(super) fn peek(&self) -> Option<(Instant, Reason)> {
        self.heap
            .peek()
            .map(|Reverse((at, reason, _))| (*at, *reason))
    }

    /// Planned looks, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes an entry due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, DeviceKey)> {
        if self.heap.peek().is_none_or(|Reverse((at, _, _))| *at > now) {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, device))| (at, device))
    }
}
