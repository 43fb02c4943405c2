//! The clocks of the operating system.

use std::sync::LazyLock;
use std::time::{Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Now};

/// The operating system's clocks, as the core wants them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: SystemInstant,
    from: Instant,
}

/// Monotonic time for hosts, whose log lines are [`limited`](crate::telemetry) as those of the core
/// are.
pub(crate) fn monotonic() -> Instant {
    static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);
    CLOCK.now().mono
}

impl Clock {
    pub(super) fn new() -> Self {
        Self::at(Instant::ZERO)
    }

    /// One that shows `now` at this moment.
    pub(super) fn at(now: Instant) -> Self {
        Self {
            origin: SystemInstant::now(),
            from: now,
        }
    }

    pub(super) fn now(&self) -> Now {
        let mono = self.from + self.origin.elapsed();
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono,
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
