//! The datagrams of one shard: which of them are looked at.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::bucket::{Bucket, Limit};
use super::pressure::Pressure;
use super::rate::Rate;
use super::sources::{Source, Sources};
use crate::time::Instant;

/// Bytes of the table of sources.
const SOURCES: usize = 128 << 10;

/// Why a datagram of a stranger is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its source, or all strangers together, sent more than their rate.
    Rate,
    /// More arrives than the shard can handle.
    Shed,
}

/// Decides about datagrams before anything is done for them. Known devices come first: what they
/// send counts in a bucket of their own, which their owner keeps.
#[derive(Debug)]
pub struct Gate {
    source: Option<Limit>,
    total: Option<Limit>,
    device: Option<Limit>,
    /// As long as the shard receives less than this in all, nobody can exceed a limit.
    quiet: Option<Limit>,
    received: Bucket,
    strangers: Bucket,
    sources: Sources,
    pressure: Pressure,
    hasher: RandomState,
}

impl Gate {
    /// The gate of one of `shards`, each of which has its part of the rates: of one source, of all
    /// strangers, and of one device.
    pub fn new([source, total, device]: [Rate; 3], shards: usize) -> Self {
        let part = |rate| Limit::new(rate).map(|limit| limit.divided(shards));
        // A device talks to one shard at a time.
        let (source, total, device) = (part(source), part(total), Limit::new(device));
        let limits = [source, total, device].into_iter().flatten();
        Self {
            source,
            total,
            device,
            quiet: limits.reduce(Limit::strictest),
            received: Bucket::default(),
            strangers: Bucket::default(),
            sources: Sources::new(SOURCES),
            pressure: Pressure::default(),
            hasher: RandomState::new(),
        }
    }

    /// A turn of the shard begins, see [`Pressure::begin_turn`].
    pub fn begin_turn(&mut self, fill: u32) {
        self.pressure.begin_turn(fill);
    }

    /// Whether more arrives than the shard can handle.
    pub const fn is_shedding(&self) -> bool {
        self.pressure.is_on()
    }

    /// So many datagrams have arrived. Returns whether each of them has to be asked about; as long
    /// as few come in all, none has.
    pub fn received(&mut self, now: Instant, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let quiet = self.quiet;
        let many = quiet.is_some_and(|limit| self.received.exceeded(now, limit, count));
        many || self.is_shedding()
    }

    /// What a single device may send; `None`: no limit.
    pub const fn device(&self) -> Option<Limit> {
        self.device
    }

    /// A datagram of somebody who is not known.
    ///
    /// # Errors
    /// Why it is not looked at.
    pub fn stranger(&mut self, now: Instant, address: IpAddr) -> Result<(), Refused> {
        let source = Source::of(address);
        let hash = self.hasher.hash_one(source);
        if !self.pressure.take(hash) {
            return Err(Refused::Shed);
        }
        let own = |limit| self.sources.take(now, source, hash, limit);
        if !self.source.is_none_or(own) {
            return Err(Refused::Rate);
        }
        let all = |limit| self.strangers.take(now, limit, 1);
        if !self.total.is_none_or(all) {
            return Err(Refused::Rate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(source: &str, total: &str, device: &str, shards: usize) -> Gate {
        Gate::new(
            [source, total, device].map(|text| text.parse().unwrap()),
            shards,
        )
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn few_datagrams_are_not_asked_about() {
        let mut gate = gate("100/s", "1000/s", "50/s", 1);
        assert!(!gate.received(at(1000), 50));
        assert!(
            gate.received(at(1000), 1),
            "one device may have sent them all"
        );
        assert!(gate.received(at(1001), 1_000_000));
        assert!(gate.received(at(1900), 1));
        assert!(!gate.received(at(3000), 1));
    }

    #[test]
    fn a_flood_of_one_source_is_its_own_loss() {
        let mut gate = gate("100/s", "150/s", "50/s", 1);
        let [flood, other, third] = ["192.0.2.1", "2001:db8::1", "192.0.2.3"].map(ip);
        let passed = |gate: &mut Gate, from| {
            let passes = (0..1000).filter(|_| gate.stranger(at(1000), from).is_ok());
            passes.count()
        };
        assert_eq!(passed(&mut gate, flood), 100);
        assert_eq!(passed(&mut gate, other), 50, "the total is used up");
        assert_eq!(passed(&mut gate, third), 0);
        assert_eq!(gate.stranger(at(1000), flood), Err(Refused::Rate));
    }

    #[test]
    fn off_at_zero_but_for_overload() {
        let mut gate = gate("0", "infinity", "0/s", 4);
        assert_eq!(gate.device(), None);
        assert!(!gate.received(at(0), usize::MAX));
        let flood = ip("192.0.2.1");
        assert!((0..100_000).all(|_| gate.stranger(at(0), flood).is_ok()));
        gate.begin_turn(1000);
        assert!(gate.is_shedding());
        assert!(gate.received(at(0), 1));
        let passed = (0..100_000).filter(|_| gate.stranger(at(0), flood).is_ok());
        assert!(passed.count() < 512);
        assert_eq!(gate.stranger(at(0), flood), Err(Refused::Shed));
        // Another source may share its place by chance, but not all others.
        let others = ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"];
        assert!(others.iter().any(|it| gate.stranger(at(0), ip(it)).is_ok()));
    }

    #[test]
    fn shards_share_the_rates_of_the_gateway() {
        let mut gates: Vec<_> = (0..4).map(|_| gate("100/s", "0", "0", 4)).collect();
        let passed = |gate: &mut Gate| {
            let passes = (0..1000).filter(|_| gate.stranger(at(0), ip("192.0.2.1")).is_ok());
            passes.count()
        };
        assert_eq!(gates.iter_mut().map(passed).sum::<usize>(), 100);
    }
}
