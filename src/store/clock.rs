//! The clock of a gateway goes on from one start to the next. While no gateway runs it goes on with
//! the clock of the machine, which counts from its start; after a new start of the machine it goes
//! on where it stopped. The wall clock, which people set, is not asked: a device may stay registered
//! for longer than it should, never shorter.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// The clocks of a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// The gateway's, in microseconds.
    pub gateway: u64,
    /// Names the start of the machine.
    pub boot: Box<str>,
    /// Since then, sleep included, in microseconds.
    pub machine: u64,
    /// Milliseconds since 1970, for people.
    pub unix_ms: u64,
}

impl Clocks {
    /// As of now; `gateway` is the clock of the gateway.
    pub fn now(gateway: Instant, unix_ms: u64) -> Self {
        Self {
            gateway: gateway.as_micros(),
            boot: boot().into(),
            machine: since_boot(),
            unix_ms,
        }
    }

    /// Where the clock of the gateway goes on at `now`, which was made with whatever gateway clock.
    pub fn continued(&self, now: &Self) -> Instant {
        let same = !self.boot.is_empty() && self.boot == now.boot;
        let down = if same {
            now.machine.saturating_sub(self.machine)
        } else {
            0
        };
        Instant::from_micros(self.gateway) + Duration::from_micros(down)
    }
}

/// Empty where the system does not say.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// From the system's own clock since its start; 0 where it does not say.
fn since_boot() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
    let seconds: f64 = seconds.unwrap_or_default();
    (seconds * 1e6) as u64
}
