//! What the devices of a run have done, in numbers.

use std::time::Duration;

use super::context::Counters;

/// What the devices of a run have done.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Devices asked for.
    pub devices: usize,
    /// Devices that were registered at least once.
    pub registered: usize,
    /// Time until the last first registration.
    pub registered_in: Duration,
    /// Notifications sent, without repetitions.
    pub notifications: u64,
    /// Requests of the server that were answered.
    pub requests_served: u64,
    /// Updates that were answered.
    pub updates: u64,
    /// Messages that devices sent by themselves (Send) and the server took.
    pub sends: u64,
    /// Images of a firmware that came whole.
    pub images: u64,
    /// Requests without a good answer, notifications without an ACK, datagrams that are no CoAP.
    pub errors: u64,
    /// Ports that devices have taken instead of others.
    pub rebinds: u64,
    /// DTLS handshakes that were completed; 0 over plain UDP.
    pub handshakes: u64,
    /// DTLS handshakes that failed and connections that the server ended.
    pub connections_lost: u64,
    /// Why the last of them failed.
    pub last_failure: Option<String>,
    /// Median time from the first Register to its answer, with the handshake where there is one.
    pub register_p50: Duration,
    /// 99th percentile of the same.
    pub register_p99: Duration,
}

impl Summary {
    pub(super) fn new(devices: usize, registered_in: Duration, counters: &Counters) -> Self {
        let mut latencies = counters.latencies.clone();
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let index = latencies.len().saturating_sub(1) * percent / 100;
            Duration::from_micros(u64::from(latencies.get(index).copied().unwrap_or(0)))
        };
        Self {
            devices,
            registered: counters.registered,
            registered_in,
            notifications: counters.notifications,
            requests_served: counters.requests_served,
            updates: counters.updates,
            sends: counters.sends,
            images: counters.images,
            errors: counters.errors,
            rebinds: counters.rebinds,
            handshakes: counters.handshakes,
            connections_lost: counters.connections_lost,
            last_failure: counters.last_failure.as_ref().map(ToString::to_string),
            register_p50: percentile(50),
            register_p99: percentile(99),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "registered {} of {} in {:.2} s, register latency p50 {:.1} ms p99 {:.1} ms, \
             notifications sent {}, requests served {}, updates {}, errors {}",
            self.registered,
            self.devices,
            self.registered_in.as_secs_f64(),
            self.register_p50.as_secs_f64() * 1e3,
            self.register_p99.as_secs_f64() * 1e3,
            self.notifications,
            self.requests_served,
            self.updates,
            self.errors,
        )?;
        if self.sends > 0 {
            write!(f, ", sends {}", self.sends)?;
        }
        if self.images > 0 {
            write!(f, ", firmware images {}", self.images)?;
        }
        if self.rebinds > 0 {
            write!(f, ", ports changed {}", self.rebinds)?;
        }
        if self.handshakes + self.connections_lost > 0 {
            write!(
                f,
                ", handshakes {}, connections lost {}",
                self.handshakes, self.connections_lost
            )?;
        }
        match &self.last_failure {
            Some(failure) => write!(f, " ({failure})"),
            None => Ok(()),
        }
    }
}
