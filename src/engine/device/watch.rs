//! When an observation should have been heard of.

use std::time::Duration;

use crate::time::Instant;

/// What is known of the period of an observation.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Watch {
    /// Seconds; zero when none was set through us.
    pub(in crate::engine) pmax: u32,
    /// When it has passed twice.
    pub(in crate::engine) due: Instant,
    /// How often it was asked for again since it was last heard of.
    pub(in crate::engine) failures: u8,
}

impl Watch {
    pub(in crate::engine) fn new(pmax: u32, now: Instant) -> Self {
        let mut watch = Self {
            pmax,
            due: now,
            failures: 0,
        };
        watch.put_off(now);
        watch
    }

    /// It was heard of.
    pub(in crate::engine) fn heard(&mut self, now: Instant) {
        self.failures = 0;
        self.put_off(now);
    }

    /// It is not looked at for another two periods.
    pub(in crate::engine) fn put_off(&mut self, now: Instant) {
        self.due = now + Duration::from_secs(u64::from(self.pmax) * 2);
    }

    /// When it is to be looked at.
    pub(in crate::engine) const fn deadline(&self) -> Option<Instant> {
        if self.pmax == 0 { None } else { Some(self.due) }
    }
}
