//! What a device is given with each call: time, settings, and where what it says goes.

use std::time::{Duration, Instant};

use super::dtls::Failure;

/// What all devices of a run have in common.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) prefix: String,
    pub(super) version: String,
    pub(super) objects: Vec<u16>,
    pub(super) lifetime: u32,
    pub(super) notify_every: Duration,
    pub(super) confirmable: bool,
    pub(super) queue_mode: bool,
    /// How long a queue-mode device listens after its last message.
    pub(super) awake: Duration,
    /// Time between two messages that a device sends by itself; zero for none.
    pub(super) send_every: Duration,
    /// Time after which a device takes another port; zero for never.
    pub(super) rebind_every: Duration,
    /// Time between the Updates of a queue-mode device; zero: as its lifetime needs them.
    pub(super) sleep: Duration,
    /// SHA-256 that the image of a firmware must have, in small hexadecimal digits.
    pub(super) firmware_sha256: Option<String>,
}

/// Counted over all devices of a run.
#[derive(Debug, Default, Clone)]
pub(super) struct Counters {
    /// Devices whose first registration has ended, well or badly.
    pub(super) settled: usize,
    /// Devices that have been registered at least once.
    pub(super) registered: usize,
    pub(super) notifications: u64,
    pub(super) requests_served: u64,
    pub(super) updates: u64,
    /// Sends that were answered well.
    pub(super) sends: u64,
    /// Images of a firmware that came whole.
    pub(super) images: u64,
    pub(super) errors: u64,
    /// Ports that devices have taken instead of others.
    pub(super) rebinds: u64,
    /// DTLS handshakes that were completed.
    pub(super) handshakes: u64,
    /// DTLS handshakes that failed and connections that the server ended.
    pub(super) connections_lost: u64,
    /// Why the last of them failed.
    pub(super) last_failure: Option<Failure>,
    /// Time from the first Register datagram to its answer, in microseconds.
    pub(super) latencies: Vec<u32>,
}

/// The time of one call: a monotonic point and seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) mono: Instant,
    pub(super) unix: f64,
}

/// What a device wants sent and counted.
pub(super) struct Context<'a> {
    pub(super) clock: Clock,
    pub(super) profile: &'a Profile,
    pub(super) out: &'a mut Vec<Vec<u8>>,
    pub(super) counters: &'a mut Counters,
    /// What people may want to know.
    pub(super) said: &'a mut Vec<String>,
    /// What a device wants fetched.
    pub(super) wanted: &'a mut Option<String>,
}
