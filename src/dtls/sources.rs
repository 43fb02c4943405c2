//! Where handshakes under way come from, so that nobody takes all the places there are.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::table::Key;
use crate::time::Instant;

/// Room for so many sources is kept when there are none.
const MANY: usize = 32;

/// The handshakes of one server by source. Cookies have shown that each of them receives at its
/// address, so a source is whoever has that: an IPv4 address, or a /64 of IPv6.
#[derive(Default)]
pub(super) struct Sources {
    /// With the deadlines of the handshakes, all equally far from their beginnings.
    handshakes: HashMap<Source, BTreeSet<(Instant, Key)>>,
    /// Sources by number of handshakes.
    ranks: BTreeSet<(usize, Source)>,
}

/// An IPv4 address, or a /64 of IPv6: its first half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source(u64);

/// Stands before an IPv4 address. As a /64 of IPv6 these are multicast, where nothing comes from.
const IPV4: u64 = 0xffff_ffff << 32;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0 ^ IPV4) {
            Ok(address) => Ipv4Addr::from_bits(address).fmt(f),
            Err(_) => Ipv6Addr::from_bits(u128::from(self.0) << 64).fmt(f),
        }
    }
}

impl Sources {
    /// A handshake begins.
    pub(super) fn add(&mut self, address: IpAddr, deadline: Instant, key: Key) {
        self.change(address, |handshakes| {
            handshakes.insert((deadline, key));
        });
    }

    /// A handshake is over.
    pub(super) fn remove(&mut self, address: IpAddr, deadline: Instant, key: Key) {
        self.change(address, |handshakes| {
            handshakes.remove(&(deadline, key));
        });
    }

    /// The handshake to give up for a new one from `newcomer` when there is no place: the oldest of
    /// the source that has most, if the newcomer's has clearly less, or if that handshake's deadline
    /// is before `patience`. `None`: the new one has to wait; many that push each other out would
    /// get nowhere.
    pub(super) fn dispensable(&self, newcomer: IpAddr, patience: Instant) -> Option<Key> {
        let own = self
            .handshakes
            .get(&source(newcomer))
            .map_or(0, BTreeSet::len);
        let (most, largest) = self.ranks.last()?;
        let (deadline, oldest) = self.handshakes.get(largest)?.first()?;
        (*most > own.saturating_add(1) || *deadline < patience).then_some(*oldest)
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut BTreeSet<(Instant, Key)>)) {
        let source = source(address);
        let handshakes = self.handshakes.entry(source).or_default();
        self.ranks.remove(&(handshakes.len(), source));
        change(handshakes);
        if handshakes.is_empty() {
            self.handshakes.remove(&source);
            if self.handshakes.is_empty() {
                self.handshakes.shrink_to(MANY);
            }
        } else {
            self.ranks.insert((handshakes.len(), source));
        }
    }
}

/// The source that an address belongs to.
pub(super) fn source(address: IpAddr) -> Source {
    Source(match address.to_canonical() {
        IpAddr::V4(address) => IPV4 | u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::from_micros(second * 1_000_000)
    }

    #[test]
    fn the_oldest_of_the_source_that_has_most_goes() {
        let mut table = Table::new();
        let mut sources = Sources::default();
        let [busy, quiet, new]: [IpAddr; 3] =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| text.parse().unwrap());
        let mut add = |sources: &mut Sources, address, second| {
            let key = table.insert(());
            sources.add(address, at(second), key);
            key
        };
        assert_eq!(sources.dispensable(new, at(99)), None);
        let first = add(&mut sources, quiet, 10);
        // One each is fair. The one that is overdue goes all the same.
        assert_eq!(sources.dispensable(new, at(10)), None);
        assert_eq!(sources.dispensable(new, at(11)), Some(first));
        let old = add(&mut sources, busy, 11);
        let newer = add(&mut sources, busy, 12);
        let newest = add(&mut sources, busy, 12);
        assert_eq!(sources.dispensable(new, at(0)), Some(old));
        assert_eq!(sources.dispensable(quiet, at(0)), Some(old));
        assert_eq!(sources.dispensable(busy, at(11)), None);
        assert_eq!(sources.dispensable(busy, at(12)), Some(old));
        sources.remove(busy, at(11), old);
        assert_eq!(sources.dispensable(quiet, at(0)), None);
        assert_eq!(sources.dispensable(new, at(0)), Some(newer));
        for (deadline, key) in [(12, newer), (12, newest)] {
            sources.remove(busy, at(deadline), key);
        }
        sources.remove(quiet, at(10), first);
        assert!(sources.handshakes.is_empty() && sources.ranks.is_empty());
    }

    #[test]
    fn what_a_source_is() {
        let source = |text: &str| source(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(source("2001:db8::2:3").to_string(), "2001:db8::");
    }
}
