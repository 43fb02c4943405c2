//! Who holds how much, by source address or credential, in a fixed room however many there are.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kind::{KINDS, Kind};

/// The address of a source: IPv4 as it is, IPv6 by /64, which is what one subscriber has.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(bits).into()
        }
        address => address,
    }
}

/// The same as a number: each registration is hashed by it.
pub(super) const fn source_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => address.to_bits(),
        IpAddr::V6(address) => address.to_bits() & !(u64::MAX as u128),
    }
}

/// A source address or a credential as the account knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(u64);

/// Rows of a sketch, and bytes counted in each.
const ROWS: usize = 2;
const COLUMNS: usize = 4096;

/// How much each holder has, in a fixed room however many there are: a count-min sketch. A holder
/// seems to have what it has and what others have that share both of its cells; a flood must meet
/// an honest holder twice, one chance in 16 million, to be taken for it.
#[derive(Debug, Default)]
pub(super) struct Sketches {
    hasher: RandomState,
    cells: Cells,
}

#[derive(Debug)]
struct Cells(Box<[AtomicUsize]>);

impl Default for Cells {
    fn default() -> Self {
        let cells = KINDS * ROWS * COLUMNS;
        Self((0..cells).map(|_| AtomicUsize::new(0)).collect())
    }
}

impl Sketches {
    pub(super) fn holder(&self, of: impl Hash) -> Holder {
        Holder(self.hasher.hash_one(of))
    }

    fn cells(&self, kind: Kind, Holder(hash): Holder) -> impl Iterator<Item = &AtomicUsize> {
        (0..ROWS).filter_map(move |row| {
            let column = (hash >> (row * 32)) as usize % COLUMNS;
            self.cells
                .0
                .get((kind as usize * ROWS + row) * COLUMNS + column)
        })
    }

    pub(super) fn get(&self, kind: Kind, holder: Holder) -> usize {
        let cells = self.cells(kind, holder);
        cells
            .map(|cell| cell.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }

    pub(super) fn add(&self, kind: Kind, holder: Holder, bytes: usize) {
        for cell in self.cells(kind, holder) {
            cell.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(&self, kind: Kind, holder: Holder, bytes: usize) {
        for cell in self.cells(kind, holder) {
            let less = |held: usize| Some(held.saturating_sub(bytes));
            let before = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            debug_assert!(
                before.is_ok_and(|held| held >= bytes),
                "{kind:?}: more let go than held"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_is() {
        let source = |text: &str| source(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        let bits = |text: &str| source_bits(text.parse().unwrap());
        assert_eq!(bits("2001:db8::1"), bits("2001:db8::2:3"));
        assert_ne!(bits("2001:db8::1"), bits("2001:db8:0:1::1"));
        assert_eq!(bits("::ffff:192.0.2.1"), bits("192.0.2.1"));
        assert_ne!(bits("192.0.2.1"), bits("192.0.2.2"));
    }
}
