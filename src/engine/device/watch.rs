//! When an observation should have been heard of.

use std::time::Duration;

use crate::memory::{Heap, block};
use crate::time::Instant;

/// What is known of the period of an observation: nothing, for nearly all.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Watch(Option<Box<Period>>);

#[derive(Debug, Clone)]
struct Period {
    /// Seconds.
    pmax: u32,
    /// When it has passed twice.
    due: Instant,
    /// How often it was asked for again since it was last heard of.
    failures: u8,
}

impl Heap for Watch {
    fn heap(&self) -> usize {
        self.0.as_ref().map_or(0, |_| block(size_of::<Period>()))
    }
}

impl Watch {
    /// For a period of so many seconds; zero when none was set through us.
    pub(in crate::engine) fn new(pmax: u32, now: Instant) -> Self {
        let period = (pmax > 0).then(|| {
            Box::new(Period {
                pmax,
                due: now,
                failures: 0,
            })
        });
        let mut watch = Self(period);
        watch.put_off(now);
        watch
    }

    /// Seconds; zero when none was set through us.
    pub(in crate::engine) fn pmax(&self) -> u32 {
        self.0.as_ref().map_or(0, |period| period.pmax)
    }

    /// It was heard of.
    pub(in crate::engine) fn heard(&mut self, now: Instant) {
        if let Some(period) = &mut self.0 {
            period.failures = 0;
        }
        self.put_off(now);
    }

    /// It is not looked at for another two periods.
    pub(in crate::engine) fn put_off(&mut self, now: Instant) {
        if let Some(period) = &mut self.0 {
            period.due = now + Duration::from_secs(u64::from(period.pmax) * 2);
        }
    }

    /// When it is to be looked at.
    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|period| period.due)
    }

    /// How often it was asked for again since it was last heard of.
    pub(in crate::engine) fn failures(&self) -> u8 {
        self.0.as_ref().map_or(0, |period| period.failures)
    }

    /// It was not heard of, and is asked for again.
    pub(in crate::engine) fn failed(&mut self) {
        if let Some(period) = &mut self.0 {
            period.failures = period.failures.saturating_add(1);
        }
    }
}
