//! Token buckets, eight bytes each: the generic cell rate algorithm (ITU-T I.371). A bucket keeps
//! the time at which it will be full again; what is taken moves that time on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::rate::Rate;
use crate::time::Instant;

/// A rate as buckets use it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Time that one event takes to be given back.
    interval: u64,
    /// How far an empty bucket is from being full.
    depth: u64,
}

impl Limit {
    /// `None`: no limit.
    pub fn new(rate: Rate) -> Option<Self> {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = per.checked_div(u64::from(rate.count))?.max(1);
        Some(Self {
            interval,
            depth: per.max(interval),
        })
    }

    /// The part of one of `parts` equal ones; one event at a time is always possible.
    #[must_use]
    pub fn divided(self, parts: usize) -> Self {
        let parts = u64::try_from(parts.max(1)).unwrap_or(u64::MAX);
        let interval = self.interval.saturating_mul(parts);
        Self {
            interval,
            depth: self.depth.max(interval),
        }
    }

    /// The limit that keeps whoever keeps to it within both.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        let burst = |limit: Self| limit.depth / limit.interval;
        let interval = self.interval.max(other.interval);
        Self {
            interval,
            depth: interval.saturating_mul(burst(self).min(burst(other)).max(1)),
        }
    }

    /// The time of `full` after `count` events at `now`; `None` when that is more than the bucket
    /// has.
    fn after(self, full: u64, now: u64, count: u32) -> Option<u64> {
        let cost = self.interval.saturating_mul(u64::from(count));
        let after = full.max(now).saturating_add(cost);
        (after.saturating_sub(now) <= self.depth).then_some(after)
    }

    /// Time until one event is possible.
    fn wait(self, full: u64, now: u64) -> Duration {
        let after = full.max(now).saturating_add(self.interval);
        Duration::from_nanos(after.saturating_sub(now).saturating_sub(self.depth))
    }
}

/// The clock of buckets.
pub(super) const fn nanos(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1000)
}

/// A bucket with one owner; full at the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again, in nanoseconds.
    full: u64,
}

impl Bucket {
    /// A full one.
    pub const FULL: Self = Self { full: 0 };

    /// Takes `count` events out, or nothing: false when there are not that many.
    pub fn take(&mut self, now: Instant, limit: Limit, count: u32) -> bool {
        match limit.after(self.full, nanos(now), count) {
            Some(full) => {
                self.full = full;
                true
            }
            None => false,
        }
    }

    /// Counts `count` events that happen whatever it says; whether they were more than it had. It
    /// has to be given back what it did not have before it says no again, up to its depth.
    pub fn exceeded(&mut self, now: Instant, limit: Limit, count: u32) -> bool {
        let now = nanos(now);
        let cost = limit.interval.saturating_mul(u64::from(count));
        let bound = now.saturating_add(limit.depth.saturating_mul(2));
        self.full = self.full.max(now).saturating_add(cost).min(bound);
        self.full - now > limit.depth
    }

    /// When it is full again, in nanoseconds; an order by how much is missing.
    pub(super) const fn full_at(self) -> u64 {
        self.full
    }
}

/// A bucket that all shards take from.
#[derive(Debug, Default)]
pub(crate) struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// Takes one event out.
    ///
    /// # Errors
    /// How long until there is one.
    pub(crate) fn take(&self, now: Instant, limit: Limit) -> Result<(), Duration> {
        let now = nanos(now);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
                limit.after(full, now, 1)
            });
        match taken {
            Ok(_) => Ok(()),
            Err(full) => Err(limit.wait(full, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(text: &str) -> Limit {
        Limit::new(text.parse().unwrap()).unwrap()
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (mut bucket, limit) = (Bucket::default(), limit("10/s"));
        let take = |bucket: &mut Bucket, millis| bucket.take(at(millis), limit, 1);
        assert!((0..10).all(|_| take(&mut bucket, 5000)));
        assert!(!take(&mut bucket, 5000));
        assert!(!take(&mut bucket, 5099));
        assert!(take(&mut bucket, 5100));
        assert!(!take(&mut bucket, 5100));
        assert!((0..10).all(|_| take(&mut bucket, 60_000)));
        assert!(!take(&mut bucket, 60_000));
        assert!(!bucket.take(at(90_000), limit, 11), "more than it ever has");
        assert!(bucket.take(at(90_000), limit, 10));
    }

    #[test]
    fn off_and_parts() {
        assert_eq!(Limit::new(Rate::OFF), None);
        let tenth = limit("100/s").divided(10);
        let mut bucket = Bucket::default();
        assert_eq!(
            (0..100).filter(|_| bucket.take(at(0), tenth, 1)).count(),
            10
        );
        let tiny = limit("1/s").divided(8);
        let mut bucket = Bucket::default();
        assert!(bucket.take(at(0), tiny, 1));
        assert!(!bucket.take(at(7_999), tiny, 1));
        assert!(bucket.take(at(8_000), tiny, 1));
    }

    #[test]
    fn the_strictest_of_two() {
        let of = |a, b| limit(a).strictest(limit(b));
        assert_eq!(of("10/s", "100/s"), limit("10/s"));
        // Few a minute but many at once, and the reverse.
        let both = of("600/1m", "20/s");
        let mut bucket = Bucket::default();
        assert_eq!((0..100).filter(|_| bucket.take(at(0), both, 1)).count(), 20);
        assert!(!bucket.take(at(99), both, 1));
        assert!(bucket.take(at(100), both, 1));
    }

    #[test]
    fn what_happens_anyway_is_counted_up_to_a_bound() {
        let (mut bucket, limit) = (Bucket::default(), limit("10/s"));
        assert!(!bucket.exceeded(at(1000), limit, 10));
        assert!(bucket.exceeded(at(1000), limit, 1_000_000));
        assert!(bucket.exceeded(at(1900), limit, 1));
        assert!(!bucket.exceeded(at(2200), limit, 1));
    }

    #[test]
    fn a_shared_one_says_how_long_to_wait() {
        let (bucket, limit) = (SharedBucket::default(), limit("2/1m"));
        assert_eq!(bucket.take(at(1), limit), Ok(()));
        assert_eq!(bucket.take(at(1), limit), Ok(()));
        assert_eq!(bucket.take(at(1), limit), Err(Duration::from_secs(30)));
        assert_eq!(bucket.take(at(10_001), limit), Err(Duration::from_secs(20)));
        assert_eq!(bucket.take(at(30_001), limit), Ok(()));
    }

    proptest! {
        /// In any window of time no more than a burst and the rate's share of it gets through, and
        /// what waits long enough always does.
        #[test]
        fn never_more_than_the_rate(
            count in 1u32..50,
            period in 1u64..5_000,
            steps in prop::collection::vec(0u64..500, 1..200),
        ) {
            let rate = Rate { count, per: Duration::from_millis(period) };
            let limit = Limit::new(rate).unwrap();
            let mut bucket = Bucket::default();
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if bucket.take(at(now), limit, 1) {
                    passed.push(now);
                }
            }
            for (index, start) in passed.iter().enumerate() {
                for (further, end) in passed[index..].iter().enumerate() {
                    // Nanoseconds that do not come out even may add one.
                    let allowed = u64::from(count) * (end - start) / period + u64::from(count) + 1;
                    prop_assert!(further as u64 <= allowed);
                }
            }
            prop_assert!(bucket.take(at(now + period), limit, 1));
        }
    }
}
