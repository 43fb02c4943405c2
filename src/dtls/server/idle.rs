//! The sessions of a server by last use, in the groups that may have too many.

use std::hash::RandomState;

use super::super::identity::Identity;
use super::super::session::Session;
use super::super::shares::{Seat, Victim};
use super::super::sources::Source;
use super::super::table::{Groups, Key, Table};
use crate::tables::digest::Digest;

/// The sessions of a server by last use, for each credential, each source, and both.
#[derive(Default)]
pub(super) struct Idle {
    state: RandomState,
    owners: Groups,
    /// Only of credentials that have more than one session here: most have one.
    pairs: Groups,
    sources: Groups,
}

impl Idle {
    /// Puts a session behind the others of its groups; a new one, or one that was used again.
    pub(super) fn touch(&mut self, sessions: &Table<Session>, key: Key) {
        let Some(seat) = sessions.get(key).map(|session| &session.seat) else {
            return;
        };
        let (owner, source) = (seat.owner(), seat.source());
        let group = self.owner(owner);
        self.owners.touch(group, key);
        self.sources.touch(self.source(source), key);
        // The first one is another one now, or there is no other one.
        let Some(first) = self.owners.first(group).filter(|first| *first != key) else {
            return;
        };
        if let Some(seat) = sessions.get(first).map(|session| &session.seat) {
            let pair = self.pair(owner, seat.source());
            if !self.pairs.has(pair, first) {
                self.pairs.touch(pair, first);
            }
        }
        self.pairs.touch(self.pair(owner, source), key);
    }

    pub(super) fn remove(&mut self, seat: &Seat, key: Key) {
        let (owner, source) = (seat.owner(), seat.source());
        self.owners.remove(self.owner(owner), key);
        self.pairs.remove(self.pair(owner, source), key);
        self.sources.remove(self.source(source), key);
    }

    /// The one of a group that was not used for the longest time; `None` where no group is meant.
    pub(super) fn first(&self, sessions: &Table<Session>, victim: &Victim) -> Option<Key> {
        match victim {
            Victim::Any => None,
            Victim::Owner(owner) => self.owners.first(self.owner(owner)),
            Victim::Pair(owner, source) => {
                let first = self.pairs.first(self.pair(owner, *source));
                first.or_else(|| {
                    let only = self.owners.first(self.owner(owner))?;
                    let seat = &sessions.get(only)?.seat;
                    (seat.source() == *source).then_some(only)
                })
            }
            Victim::Source(source) => self.sources.first(self.source(*source)),
        }
    }

    fn owner(&self, owner: &Identity) -> Digest {
        Digest::new(&self.state, owner)
    }

    fn pair(&self, owner: &Identity, source: Source) -> Digest {
        Digest::new(&self.state, &(owner, source))
    }

    fn source(&self, source: Source) -> Digest {
        Digest::new(&self.state, &source)
    }
}
