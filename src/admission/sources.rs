//! Buckets by source address: a table of fixed size, looked up in a fixed number of steps.

use std::net::IpAddr;

use super::bucket::{Bucket, Limit};
use crate::time::Instant;

/// Who sends, as far as limits are concerned: an IPv4 address, or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64);

impl Source {
    /// The source that `address` belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        /// `::ffff:0:0/64` is no prefix that anybody has.
        const IPV4: u64 = 0xffff << 32;
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

/// Entries that a source may be kept in.
const WAYS: usize = 8;

/// Bytes of an entry.
const ENTRY: usize = size_of::<Entry>();

#[derive(Debug, Clone, Copy)]
struct Entry {
    source: Source,
    bucket: Bucket,
}

/// An entry that nobody has used: its bucket has always been full.
const VACANT: Entry = Entry {
    source: Source(0),
    bucket: Bucket::FULL,
};

/// One bucket a source, for the sources that were heard of last. A new source takes the place of
/// the one that has been idle longest; when none is idle, of the one that has used least, which
/// loses that it has.
#[derive(Debug)]
pub(crate) struct Sources {
    entries: Vec<[Entry; WAYS]>,
}

impl Sources {
    /// Takes about `bytes`, now and always.
    pub(crate) fn new(bytes: usize) -> Self {
        let sets = (bytes / (ENTRY * WAYS)).max(1);
        // A power of two, so that a hash is an index.
        let sets = 1 << sets.ilog2();
        Self {
            entries: vec![[VACANT; WAYS]; sets],
        }
    }

    /// Takes one event out of the bucket of `source`, which has `hash`; false when it is empty.
    pub(crate) fn take(&mut self, now: Instant, source: Source, hash: u64, limit: Limit) -> bool {
        let mask = self.entries.len() - 1;
        let set = usize::try_from(hash & mask as u64).unwrap_or(0);
        let Some(set) = self.entries.get_mut(set) else {
            return true;
        };
        let known = set.iter().position(|entry| entry.source == source);
        let place = known.or_else(|| (0..WAYS).min_by_key(|way| set[*way].bucket.full_at()));
        let Some(entry) = place.and_then(|way| set.get_mut(way)) else {
            return true;
        };
        if entry.source != source {
            *entry = Entry {
                source,
                bucket: Bucket::default(),
            };
        }
        entry.bucket.take(now, limit, 1)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};
    use std::net::Ipv4Addr;

    use super::*;
    use crate::admission::bucket::nanos;

    impl Sources {
        /// Sources whose buckets are not full at `now`.
        fn active(&self, now: Instant) -> usize {
            let entries = self.entries.iter().flatten();
            entries
                .filter(|entry| entry.bucket.full_at() > nanos(now))
                .count()
        }

        /// Bytes it takes.
        fn bytes(&self) -> usize {
            self.entries.len() * WAYS * ENTRY
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn what_a_source_is() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn each_source_has_its_own_bucket_within_a_fixed_size() {
        let limit = Limit::new("5/s".parse().unwrap()).unwrap();
        let hasher = RandomState::new();
        let mut sources = Sources::new(64 << 10);
        let bytes = sources.bytes();
        assert!(bytes <= 64 << 10);
        let mut take = |millis, address: u32| {
            let source = Source::of(Ipv4Addr::from_bits(address).into());
            sources.take(at(millis), source, hasher.hash_one(source), limit)
        };
        assert_eq!((0..100).filter(|_| take(1000, 1)).count(), 5);
        assert_eq!((0..100).filter(|_| take(1000, 2)).count(), 5);
        assert!(take(1200, 1));
        // A million further ones do not make it grow.
        assert_eq!(
            (3..1_000_003).filter(|source| take(1200, *source)).count(),
            1_000_000
        );
        assert_eq!(sources.bytes(), bytes);
        assert!(sources.active(at(1200)) <= bytes / ENTRY);
        assert_eq!(sources.active(at(9000)), 0);
    }

    #[test]
    fn whoever_is_idle_goes_first() {
        let limit = Limit::new("10/s".parse().unwrap()).unwrap();
        // One set only.
        let mut sources = Sources::new(1);
        let mut take = |millis, source| sources.take(at(millis), Source(source), 0, limit);
        let busy = 100;
        assert_eq!((0..20).filter(|_| take(5000, busy)).count(), 10);
        // Others come and go; the busy one stays what it is.
        for source in 1000..2000 {
            assert!(take(5000, source));
            assert!(!take(5000, busy));
        }
        assert!(take(5100, busy));
    }
}
