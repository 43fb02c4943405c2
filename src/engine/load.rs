//! What an engine holds, for statistics and for tests that look for leaks.

/// Sizes of an engine's tables. At the first event after every device has gone and
/// EXCHANGE_LIFETIME (RFC 7252 §4.8.2) has passed, all are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Registered devices.
    pub devices: usize,
    /// Observations of all devices.
    pub observations: usize,
    /// Requests under way to devices.
    pub exchanges: usize,
    /// Commands waiting in queues.
    pub queued: usize,
    /// Registration locations.
    pub locations: usize,
    /// Addresses of devices.
    pub peers: usize,
    /// Tokens that messages of devices may carry.
    pub tokens: usize,
    /// Message ids that devices may acknowledge.
    pub in_flight: usize,
    /// Replies remembered for repeated requests.
    pub replies: usize,
    /// Requests of devices of which not all blocks have come.
    pub transfers: usize,
    /// Requests waiting for a device of another shard.
    pub pending: usize,
    /// Registers waiting for the host.
    pub authorizations: usize,
    /// DTLS sessions.
    pub sessions: usize,
    /// DTLS sessions whose registrations are on their way from another shard.
    pub arrivals: usize,
    /// Addresses that have to show that they are a device's new ones.
    pub rebindings: usize,
    /// DTLS identities with registrations here.
    pub identities: usize,
    /// Devices that left for another shard a moment ago.
    pub departed: usize,
    /// Planned looks at devices.
    pub timers: usize,
    /// Effects that nobody has taken yet.
    pub outputs: usize,
}
