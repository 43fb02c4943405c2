//! The sessions of a server by last use, in the groups that may have too many.

use super::super::identity::Identity;
use super::super::shares::{Seat, Victim};
use super::super::sources::Source;
use super::super::table::{Groups, Key};
use crate::time::Instant;

/// The sessions of a server by last use, for each credential, each source, and both.
pub(super) struct Idle {
    owners: Groups<Identity>,
    pairs: Groups<(Identity, Source)>,
    sources: Groups<Source>,
}

impl Idle {
    pub(super) fn new() -> Self {
        Self {
            owners: Groups::new(),
            pairs: Groups::new(),
            sources: Groups::new(),
        }
    }

    pub(super) fn touch(&mut self, seat: &Seat, now: Instant, key: Key) {
        let (owner, source) = (seat.owner(), seat.source());
        self.owners.touch(owner.clone(), now, key);
        self.pairs.touch((owner.clone(), source), now, key);
        self.sources.touch(source, now, key);
    }

    pub(super) fn remove(&mut self, seat: &Seat, key: Key) {
        let (owner, source) = (seat.owner(), seat.source());
        self.owners.remove(owner, key);
        self.pairs.remove(&(owner.clone(), source), key);
        self.sources.remove(&source, key);
    }

    /// The one of a group that was not used for the longest time; `None` where no group is meant.
    pub(super) fn first(&self, victim: &Victim) -> Option<Key> {
        match victim {
            Victim::Any => None,
            Victim::Owner(owner) => self.owners.first(owner),
            Victim::Pair(owner, source) => self.pairs.first(&(owner.clone(), *source)),
            Victim::Source(source) => self.sources.first(source),
        }
    }
}
