//! The threads around the engine: each shard owns a socket for every listener, an engine and a
//! mailbox, and shares nothing with the others but the directory.

#![allow(clippy::disallowed_methods)] // a shell: clocks, threads and files live here

mod gateway;
mod intake;
mod listeners;
mod mailbox;
mod memory;
mod models;
mod secure;
mod shard;
mod signals;

pub use gateway::{Gateway, ReloadError, StartError, Statistics};
pub use models::load as load_models;
pub(crate) use signals::block_signals;

use std::sync::LazyLock;
use std::time::{Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Now};

/// The operating system's clocks, as the core wants them.
#[derive(Debug, Clone, Copy)]
struct Clock {
    origin: SystemInstant,
}

/// Monotonic time for hosts, whose log lines are [`limited`](crate::telemetry) as those of the core
/// are.
pub(crate) fn monotonic() -> Instant {
    static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);
    CLOCK.now().mono
}

impl Clock {
    fn new() -> Self {
        Self {
            origin: SystemInstant::now(),
        }
    }

    fn now(&self) -> Now {
        let mono = Instant::ZERO + self.origin.elapsed();
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono,
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
