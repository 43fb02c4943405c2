//! An observation that the device has confirmed (RFC 7641).

use super::format::FormatChoice;
use super::watch::Watch;
use crate::bridge::{Echo, Target};
use crate::coap::Token;
use crate::coap::observe::Freshness;
use crate::lwm2m::Path;
use crate::memory::Heap;
use crate::time::Instant;

/// What a token takes in the tables of its shard and of the directory, in bytes.
pub(in crate::engine) const TOKEN_TABLES: usize = 40;

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Observation {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) target: Target,
    pub(in crate::engine) echo: Echo,
    /// The content formats it was asked for in.
    pub(in crate::engine) choice: FormatChoice,
    /// When it should have been heard of.
    pub(in crate::engine) watch: Watch,
    /// When it began, milliseconds since 1970; its device sets it.
    pub(in crate::engine) since: u64,
    /// When its last notification came, milliseconds since 1970; 0: none yet.
    pub(in crate::engine) last_at: u64,
    /// Notifications that were published.
    pub(in crate::engine) notifications: u32,
    /// Of the newest value that was published.
    freshness: Freshness,
}

/// The path of a target, unless there are several.
pub(super) fn single(target: &Target) -> Option<&Path> {
    target.path.as_ref().filter(|_| target.paths.is_empty())
}

impl Observation {
    /// One whose first value has the Observe option `sequence`.
    pub(in crate::engine) fn new(
        token: Token,
        target: Target,
        echo: Echo,
        choice: FormatChoice,
        sequence: u32,
        now: Instant,
    ) -> Self {
        Self {
            token,
            target,
            echo,
            choice,
            watch: Watch::new(0, now),
            since: 0,
            last_at: 0,
            notifications: 0,
            freshness: Freshness::new(sequence, now),
        }
    }

    /// One that came back from the store: how many values there were since is not known.
    pub(in crate::engine) fn restored(
        token: Token,
        target: Target,
        echo: Echo,
        choice: FormatChoice,
        sequence: u32,
        now: Instant,
    ) -> Self {
        Self {
            token,
            target,
            echo,
            choice,
            watch: Watch::new(0, now),
            since: 0,
            last_at: 0,
            notifications: 0,
            freshness: Freshness::unknown(sequence, now),
        }
    }

    /// The Observe option of the newest value that was published.
    pub(in crate::engine) const fn sequence(&self) -> u32 {
        self.freshness.sequence()
    }

    /// The one place that judges freshness (RFC 7641 §3.4), where a value is about to be
    /// published: whether it is newer than what was. A message without Observe is the last one.
    pub(in crate::engine) fn accept(&mut self, sequence: Option<u32>, now: Instant) -> bool {
        let newer = sequence.is_none_or(|sequence| self.freshness.accept(sequence, now));
        if newer {
            self.watch.heard(now);
        }
        newer
    }

    /// Whether [`Observation::accept`] would take it now.
    pub(in crate::engine) fn would_accept(&self, sequence: Option<u32>, now: Instant) -> bool {
        let mut freshness = self.freshness;
        sequence.is_none_or(|sequence| freshness.accept(sequence, now))
    }

    /// The device counts anew, and the value with this number is still to be published.
    pub(in crate::engine) fn begin_anew(&mut self, sequence: Option<u32>, now: Instant) {
        let before = sequence.map_or(0, |sequence| sequence.wrapping_sub(1));
        self.freshness = Freshness::new(before, now);
    }

    /// What is observed, unless it is several paths.
    pub(in crate::engine) fn single_path(&self) -> Option<&Path> {
        single(&self.target)
    }

    /// Bytes it takes.
    pub(in crate::engine) fn bytes(&self) -> usize {
        TOKEN_TABLES + size_of::<Self>() + self.target.heap() + self.echo.heap()
    }
}
