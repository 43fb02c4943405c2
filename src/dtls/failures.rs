//! Sources whose handshakes fail again and again for want of a key, and how they are slowed.
//!
//! Each such failure is a debt that is paid off by time. A source whose debt is a minute's worth may
//! begin a handshake only now and then; completed handshakes pay off much more than a failure costs,
//! so that one device with a wrong key does not keep out those behind the same address.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::sources::{Source, source};
use crate::time::Instant;

/// Sources with a debt that are remembered. The one that has paid off most gives way to a new one.
const MAX_SOURCES: usize = 4096;

/// The debt at which a source is slowed.
const LIMIT: Duration = Duration::from_secs(60);

/// The largest debt: a source that stops failing is as good as any other after twice this.
const MOST: Duration = Duration::from_secs(120);

/// Failures that a completed handshake pays off.
const CREDIT: u32 = 10;

/// Time between two reports of one source.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The failures of all sources of a listener.
pub(super) struct Failures {
    /// What one failure costs; zero: nobody is slowed.
    cost: Duration,
    entries: HashMap<Source, Entry>,
    /// By the time when the debt is paid off.
    order: BTreeSet<(Instant, Source)>,
}

struct Entry {
    /// When the debt is paid off.
    until: Instant,
    /// Since the last report.
    failed: u64,
    slowed: u64,
    reported: Option<Instant>,
}

/// What an operator should know of a source, at most once a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Handshakes that failed for want of a key since the last report.
    pub failed: u64,
    /// Hellos that were not answered since then.
    pub slowed: u64,
}

impl Failures {
    /// Lets a source fail `per_minute` times in a minute before it is slowed to about as many
    /// handshakes; 0: any number of times.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            cost: LIMIT.checked_div(per_minute).unwrap_or_default(),
            entries: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Whether a handshake from `address` may begin now. One that may, though its source is close to
    /// its limit, is paid for in advance: of many at once only some may begin.
    pub(super) fn admits(&mut self, now: Instant, address: IpAddr) -> bool {
        let source = source(address);
        let Some(entry) = self.entries.get_mut(&source) else {
            return true;
        };
        let debt = entry.until - now;
        if debt > LIMIT {
            entry.slowed = entry.slowed.saturating_add(1);
            return false;
        }
        if debt + self.cost > LIMIT {
            let until = entry.until + self.cost;
            self.set(source, until);
        }
        true
    }

    /// A handshake from `address` has failed for want of a key. Returns what to tell, if anything.
    pub(super) fn failed(&mut self, now: Instant, address: IpAddr) -> Option<Report> {
        if self.cost.is_zero() {
            return None;
        }
        let source = source(address);
        if !self.entries.contains_key(&source) {
            self.make_room(now);
            self.order.insert((now, source));
            let entry = Entry {
                until: now,
                failed: 0,
                slowed: 0,
                reported: None,
            };
            self.entries.insert(source, entry);
        }
        let entry = self.entries.get_mut(&source)?;
        entry.failed = entry.failed.saturating_add(1);
        // Credit is worth as much as a full debt, at most.
        let least = Instant::from_micros(now.as_micros().saturating_sub(micros(LIMIT)));
        let until = (entry.until.max(least) + self.cost).min(now + MOST);
        let is_due = entry
            .reported
            .is_none_or(|reported| now - reported >= REPORT_INTERVAL);
        let report = (is_due && until - now > LIMIT).then(|| {
            entry.reported = Some(now);
            Report {
                failed: std::mem::take(&mut entry.failed),
                slowed: std::mem::take(&mut entry.slowed),
            }
        });
        self.set(source, until);
        report
    }

    /// A handshake from `address` is complete.
    pub(super) fn succeeded(&mut self, address: IpAddr) {
        let source = source(address);
        if let Some(entry) = self.entries.get(&source) {
            let credit = micros(self.cost.saturating_mul(CREDIT));
            let until = Instant::from_micros(entry.until.as_micros().saturating_sub(credit));
            self.set(source, until);
        }
    }

    fn set(&mut self, source: Source, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&source) {
            self.order.remove(&(entry.until, source));
            self.order.insert((until, source));
            entry.until = until;
        }
    }

    /// Forgets sources that owe nothing and have no credit left, and one that owes least when there
    /// are too many. Two at a time, so that a call does not take long.
    fn make_room(&mut self, now: Instant) {
        for _ in 0..2 {
            let Some((until, source)) = self.order.first().copied() else {
                return;
            };
            if until + LIMIT > now && self.entries.len() < MAX_SOURCES {
                return;
            }
            self.order.remove(&(until, source));
            self.entries.remove(&source);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros((3_600_000 + millis) * 1000)
    }

    /// Handshakes that may begin among `tries`, one every `every` milliseconds; all of them fail.
    fn guesses(failures: &mut Failures, from: u64, tries: u64, every: u64) -> usize {
        let begun = (0..tries).filter(|n| {
            let now = at(from + n * every);
            let begins = failures.admits(now, address(1));
            if begins {
                failures.failed(now, address(1));
            }
            begins
        });
        begun.count()
    }

    #[test]
    fn c14_ten_a_minute_then_a_trickle() {
        let mut failures = Failures::new(10);
        // At once: the tenth is still free, the eleventh pays in advance.
        let begun = guesses(&mut failures, 0, 1000, 0);
        assert!((10..=12).contains(&begun), "{begun}");
        // Ten tries a second for ten minutes.
        let begun = guesses(&mut failures, 1000, 6000, 100);
        assert!((40..=110).contains(&begun), "{begun}");
        assert!(failures.admits(at(601_000), address(2)), "another source");
        // Two minutes after the last failure it is as good as new.
        assert!(guesses(&mut failures, 800_000, 20, 0) >= 10);
    }

    #[test]
    fn c14_zero_slows_nobody() {
        let mut failures = Failures::new(0);
        assert_eq!(guesses(&mut failures, 0, 1000, 0), 1000);
        assert!(failures.entries.is_empty());
    }

    #[test]
    fn c14_devices_with_keys_behind_the_same_address_are_let_in() {
        let mut failures = Failures::new(10);
        // One device with a wrong key tries every two seconds, for an hour; another one completes a
        // handshake every 20 seconds.
        let mut kept_out = 0;
        for second in 0..3600 {
            let now = at(second * 1000);
            if second % 20 == 0 {
                if failures.admits(now, address(1)) {
                    failures.succeeded(address(1));
                } else {
                    kept_out += 1;
                }
            }
            if second % 2 == 0 && failures.admits(now, address(1)) {
                failures.failed(now, address(1));
            }
        }
        assert_eq!(kept_out, 0);
    }

    #[test]
    fn c14_credit_is_bounded() {
        let mut failures = Failures::new(10);
        failures.failed(at(0), address(1));
        for _ in 0..10_000 {
            failures.succeeded(address(1));
        }
        let begun = guesses(&mut failures, 1000, 1000, 0);
        assert!((20..=22).contains(&begun), "{begun}");
    }

    #[test]
    fn c14_one_report_a_minute() {
        let mut failures = Failures::new(10);
        let mut reports = Vec::new();
        let mut told = Report {
            failed: 0,
            slowed: 0,
        };
        let mut all = told;
        for n in 0..1500 {
            let now = at(n * 100);
            if !failures.admits(now, address(1)) {
                all.slowed += 1;
                continue;
            }
            all.failed += 1;
            if let Some(report) = failures.failed(now, address(1)) {
                told.failed += report.failed;
                told.slowed += report.slowed;
                reports.push(n * 100);
            }
        }
        assert!((2..=3).contains(&reports.len()), "{reports:?}");
        assert!(told.failed <= all.failed && told.slowed <= all.slowed);
        assert!(all.failed - told.failed < 20, "{told:?} of {all:?}");
    }

    #[test]
    fn c14_the_table_is_bounded_and_who_owes_most_stays() {
        let mut failures = Failures::new(10);
        guesses(&mut failures, 0, 1000, 0);
        for n in 0..100_000 {
            failures.failed(at(1), address(100 + n));
            assert!(failures.entries.len() <= MAX_SOURCES);
        }
        assert_eq!(failures.entries.len(), failures.order.len());
        assert!(!failures.admits(at(2), address(1)));
        // What is paid off goes, a little with each new source.
        for n in 0..5000 {
            failures.failed(at(400_000), address(n));
        }
        assert!(failures.entries.len() <= MAX_SOURCES);
        for n in 0..4000 {
            failures.failed(at(900_000), address(1_000_000 + n % 2));
        }
        failures.failed(at(900_000), address(7));
        assert!(failures.entries.len() < MAX_SOURCES);
    }

    #[test]
    fn c14_sources_of_ipv6_are_networks() {
        let mut failures = Failures::new(1);
        for host in 1..5 {
            failures.failed(at(0), format!("2001:db8::{host}").parse().unwrap());
        }
        assert!(!failures.admits(at(0), "2001:db8::ffff".parse().unwrap()));
        assert!(failures.admits(at(0), "2001:db8:0:1::1".parse().unwrap()));
    }
}
