//! How long things take, by listener: histograms with one writer, the thread of their shard. A
//! measurement costs a few loads and stores; nothing is allocated and nobody waits.

use std::time::Duration;

use super::counter::Counter;

/// Upper bounds of the buckets in microseconds; one more bucket holds what is above.
pub const BOUNDS_US: [u64; 15] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
];

/// Listeners that are told apart; all others share one more place. Numbers grow with each listener
/// that a new configuration brings.
pub const LISTENERS: usize = 15;

/// Times of one kind at one listener.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

/// Sum in microseconds, and how many fell into each bucket, the one above all bounds last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Of all times.
    pub sum_us: u64,
    /// As in [`BOUNDS_US`], not cumulative.
    pub buckets: [u64; BOUNDS_US.len() + 1],
}

/// How long things took at a listener.
#[derive(Debug, Clone)]
pub struct ListenerTimes {
    /// As in `udp:default`.
    pub name: String,
    /// From requests to their answers.
    pub exchanges: Times,
    /// Until messages were handed to the host.
    pub publishes: Times,
}

impl ListenerTimes {
    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.publishes.is_empty()
    }
}

impl Times {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Whether anything was measured.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|count| *count == 0)
    }
}

impl Histogram {
    fn record(&self, time: Duration, times: u64) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.iter().position(|bound| us <= *bound);
        let bucket = self.buckets.get(at.unwrap_or(BOUNDS_US.len()));
        if let Some(bucket) = bucket {
            bucket.add(times);
        }
        self.sum_us.add(us.saturating_mul(times));
    }

    fn times(&self) -> Times {
        let mut times = Times {
            sum_us: self.sum_us.get(),
            ..Times::default()
        };
        for (into, bucket) in times.buckets.iter_mut().zip(&self.buckets) {
            *into = bucket.get();
        }
        times
    }
}

/// The histograms of a shard.
#[derive(Debug, Default)]
pub struct Timings {
    exchanges: [Histogram; LISTENERS + 1],
    publishes: [Histogram; LISTENERS + 1],
    /// Messages that were made and are not handed over yet.
    made: [Counter; LISTENERS + 1],
}

impl Timings {
    /// A request was answered, this long after it was sent.
    pub fn exchanged(&self, listener: u16, time: Duration) {
        if let Some(histogram) = self.exchanges.get(place(listener)) {
            histogram.record(time, 1);
        }
    }

    /// A message for the broker was made.
    pub fn made(&self, listener: u16) {
        if let Some(count) = self.made.get(place(listener)) {
            count.inc();
        }
    }

    /// All messages that were made are with the host, this long after what caused them had come.
    pub fn handed_over(&self, time: Duration) {
        for (count, histogram) in self.made.iter().zip(&self.publishes) {
            let made = count.get();
            if made > 0 {
                count.set(0);
                histogram.record(time, made);
            }
        }
    }

    /// Times from requests to their answers, by the number of the listener.
    pub fn exchange_times(&self) -> [Times; LISTENERS + 1] {
        self.exchanges.each_ref().map(Histogram::times)
    }

    /// Times until messages were handed over, by the number of the listener.
    pub fn publish_delays(&self) -> [Times; LISTENERS + 1] {
        self.publishes.each_ref().map(Histogram::times)
    }
}

fn place(listener: u16) -> usize {
    usize::from(listener).min(LISTENERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let timings = Timings::default();
        for ms in [0, 1, 2, 3, 400_000] {
            timings.exchanged(1, Duration::from_millis(ms));
        }
        timings.exchanged(200, Duration::from_millis(1));
        let all = timings.exchange_times();
        assert_eq!(all[1].buckets[..3], [2, 1, 1]);
        assert_eq!(all[1].buckets[BOUNDS_US.len()], 1);
        assert_eq!(all[1].sum_us, 400_006_000);
        assert_eq!(all[LISTENERS].buckets[0], 1);
        let mut sum = all[1];
        sum.add(&all[LISTENERS]);
        assert_eq!(sum.buckets[0], 3);
        assert!(!sum.is_empty() && all[0].is_empty());
    }

    #[test]
    fn messages_have_the_time_of_their_round() {
        let timings = Timings::default();
        timings.made(0);
        timings.made(0);
        timings.made(3);
        timings.handed_over(Duration::from_micros(10));
        timings.handed_over(Duration::from_secs(1));
        let all = timings.publish_delays();
        assert_eq!((all[0].buckets[0], all[0].sum_us), (2, 20));
        assert_eq!((all[3].buckets[0], all[3].sum_us), (1, 10));
        assert_eq!(all[0].buckets[1..], [0; BOUNDS_US.len()]);
    }
}
