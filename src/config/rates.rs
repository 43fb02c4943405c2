//! How much the gateway takes a second.

use std::time::Duration;

use crate::admission::Rate;

/// `rates.*`. A rate of zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Datagrams of one source address from which no device is registered or connected. Default
    /// 100,000/s.
    pub datagrams_per_source: Rate,
    /// Datagrams of all such addresses. Default 500,000/s.
    pub datagrams: Rate,
    /// Datagrams of one registered or connected device. Default 20,000 at once,
    /// then 2,000/s.
    pub datagrams_per_device: Rate,
    /// Registers from one source address. Default 100,000/s.
    pub registrations_per_source: Rate,
    /// Registers in all. Default 200,000/s.
    pub registrations: Rate,
    /// DTLS handshakes begun from one source address. Default 10,000/s.
    pub handshakes_per_source: Rate,
    /// DTLS handshakes begun in all. Default 20,000/s.
    pub handshakes: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            datagrams_per_source: Rate::per_second(100_000),
            datagrams: Rate::per_second(500_000),
            datagrams_per_device: Rate {
                count: 20_000,
                per: Duration::from_secs(10),
            },
            registrations_per_source: Rate::per_second(100_000),
            registrations: Rate::per_second(200_000),
            handshakes_per_source: Rate::per_second(10_000),
            handshakes: Rate::per_second(20_000),
        }
    }
}
