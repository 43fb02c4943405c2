//! One log line a reason and interval: what a peer can cause as often as it likes must not fill
//! the log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Instant;

/// Default of `log.interval`.
pub const INTERVAL: Duration = Duration::from_secs(10);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Why a line is written that peers can cause. Each reason has its own line an interval.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LogReason { $($(#[$doc])* $name,)* }

        impl LogReason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// A device or client is refused for what it presents: another identity's endpoint, say.
    IdentityRefused,
    /// A registration ended because its identity has another one.
    RegistrationDisplaced,
    /// A connection ended because its identity has a newer one.
    ConnectionDisplaced,
    /// A connection ended because its key is not valid any more.
    KeyWithdrawn,
    /// A connection ended by a failure, or to make room.
    ConnectionEnded,
    /// A handshake with an identity that nobody knows.
    UnknownIdentity,
    /// A handshake that failed, with a wrong key for instance.
    HandshakeFailed,
    /// A handshake that ran out of time.
    HandshakeTimedOut,
    /// Handshakes of one source that fail again and again.
    SourceSlowed,
    /// No memory for a handshake.
    HandshakeMemory,
    /// Somebody sends more than they may.
    RateExceeded,
    /// A bound of memory is reached.
    MemoryExceeded,
    /// A socket does not give or take datagrams.
    Socket,
    /// Messages are dropped because the broker does not take them.
    PublishDropped,
    /// The embedded broker has no room for a retained message.
    RetainedRefused,
    /// The embedded broker cannot keep a session, or a message of one, for the next start.
    SessionsRefused,
    /// The broker refuses a message.
    PublishRefused,
    /// The broker refuses a subscription.
    SubscriptionRefused,
    /// The host does not answer for a device.
    HostSilent,
    /// A registration ended because its new mountpoint is another endpoint's.
    MountpointTaken,
    /// A message about which gateway has a device is refused.
    OwnershipRefused,
    /// A device of another gateway came, and nothing of what it had set up.
    OwnershipWithout,
    /// A message of the gateway's own came back as a command.
    OwnMessage,
}

/// Lets one line a reason and interval pass and counts the others. Shared by the shards of a
/// gateway; takes no lock, and a few bytes for each reason, whatever peers do.
pub struct LogLimiter {
    /// Microseconds.
    interval: AtomicU64,
    slots: [Slot; LogReason::ALL.len()],
}

#[derive(Default)]
struct Slot {
    /// When the next line may come, in microseconds.
    next: AtomicU64,
    /// Lines left out since the last one.
    suppressed: AtomicU64,
}

impl LogLimiter {
    /// One line each `interval`; every line when it is zero.
    pub fn new(interval: Duration) -> Self {
        let limiter = Self {
            interval: AtomicU64::new(0),
            slots: Default::default(),
        };
        limiter.set_interval(interval);
        limiter
    }

    /// Another interval from the next line on.
    pub fn set_interval(&self, interval: Duration) {
        let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        self.interval.store(micros, Ordering::Relaxed);
    }

    /// Whether a line may be written, and how many were not since the last one.
    pub fn admit(&self, now: Instant, reason: LogReason) -> Option<u64> {
        let slot = self.slots.get(reason as usize)?;
        let now = now.as_micros();
        let next = slot.next.load(Ordering::Relaxed);
        let after = now.saturating_add(self.interval.load(Ordering::Relaxed));
        // Of several shards at the same moment one writes the line.
        let is_first = now >= next
            && slot
                .next
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_first {
            return Some(slot.suppressed.swap(0, Ordering::Relaxed));
        }
        slot.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for LogLimiter {
    fn default() -> Self {
        Self::new(INTERVAL)
    }
}

impl fmt::Debug for LogLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLimiter")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Writes a line that a peer can cause: one a reason and interval, with the number of those left
/// out since (`suppressed`). The others are single messages at DEBUG.
///
/// ```text
/// limited!(WARN, self.counters, now.mono, IdentityRefused, peer = %from.address, "refused");
/// ```
macro_rules! limited {
    ($level:ident, $counters:expr, $now:expr, $reason:ident, $($line:tt)+) => {
        if tracing::enabled!(tracing::Level::$level) {
            let reason = $crate::telemetry::LogReason::$reason;
            match $counters.lines.admit($now, reason) {
                Some(suppressed) => {
                    let suppressed = (suppressed > 0).then_some(suppressed);
                    tracing::event!(tracing::Level::$level, suppressed, $($line)+);
                }
                None => tracing::debug!($($line)+),
            }
        }
    };
}

pub(crate) use limited;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn c11_one_line_a_reason_and_interval_with_the_number_left_out() {
        let limiter = LogLimiter::new(Duration::from_secs(10));
        let mut lines = Vec::new();
        for second in 0..25 {
            for _ in 0..1000 {
                let admitted = limiter.admit(at(second), LogReason::UnknownIdentity);
                lines.extend(admitted.map(|suppressed| (second, suppressed)));
            }
        }
        assert_eq!(lines, [(0, 0), (10, 9_999), (20, 9_999)]);
        assert_eq!(
            limiter.admit(at(40), LogReason::UnknownIdentity),
            Some(4_999)
        );
        assert_eq!(limiter.admit(at(60), LogReason::UnknownIdentity), Some(0));
    }

    #[test]
    fn c11_reasons_do_not_silence_each_other() {
        let limiter = LogLimiter::default();
        for reason in LogReason::ALL {
            assert_eq!(limiter.admit(at(1), *reason), Some(0), "{reason:?}");
            assert_eq!(limiter.admit(at(1), *reason), None, "{reason:?}");
        }
    }

    #[test]
    fn interval_zero_leaves_nothing_out() {
        let limiter = LogLimiter::new(Duration::ZERO);
        for _ in 0..3 {
            assert_eq!(limiter.admit(at(1), LogReason::Socket), Some(0));
        }
        limiter.set_interval(Duration::from_secs(1));
        assert_eq!(limiter.admit(at(1), LogReason::Socket), Some(0));
        assert_eq!(limiter.admit(at(1), LogReason::Socket), None);
    }
}
