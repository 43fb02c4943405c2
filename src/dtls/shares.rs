//! Who has how many sessions of a listener, and who gives way when there are too many.
//!
//! A credential may serve many sessions: one key for a fleet, with a suffix for each device. Whoever
//! has such a key can open as many as he likes, and shall push out nobody else's: when there are too
//! many, the credential with most gives way, and of its sessions those of the source with most.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::identity::Identity;
use super::sources::Source;
use crate::tables::digest::{Digest, DigestMap};

/// The sessions of all servers of a listener, counted.
pub(super) struct Shares {
    limits: Limits,
    total: usize,
    state: RandomState,
    /// Where the only session of a credential comes from: most have one, and there may be a million.
    single: DigestMap<Source>,
    /// The sessions by source of credentials that have more.
    many: HashMap<Identity, Ranking<Source>>,
    /// These credentials by number of sessions.
    ranks: BTreeSet<(usize, Identity)>,
    sources: Ranking<Source>,
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub all: usize,
    pub per_credential: usize,
    pub per_source: usize,
}

/// Of which sessions the longest unused one has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// Of any: each credential has one session.
    Any,
    /// Of those of a credential.
    Owner(Identity),
    /// Of those of a credential from one source.
    Pair(Identity, Source),
    /// Of those from a source.
    Source(Source),
}

impl Shares {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: 0,
            state: RandomState::new(),
            single: DigestMap::default(),
            many: HashMap::new(),
            ranks: BTreeSet::new(),
            sources: Ranking::default(),
        }
    }

    /// Who gives way, if there are too many sessions, or if there is one too many for other reasons
    /// (`is_over`).
    pub(super) fn victim(&self, is_over: bool) -> Option<Victim> {
        let largest = self.ranks.last();
        if let Some((most, owner)) = largest
            && *most > self.limits.per_credential
        {
            return Some(self.among(owner));
        }
        if let Some((most, source)) = self.sources.largest()
            && most > self.limits.per_source
        {
            return Some(Victim::Source(source));
        }
        if self.total == 0 || self.total <= self.limits.all && !is_over {
            return None;
        }
        Some(largest.map_or(Victim::Any, |(_, owner)| self.among(owner)))
    }

    /// Number of sessions.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.total
    }

    /// An owner of these bytes. One that has many sessions is not kept once for each.
    pub(super) fn owner(&self, bytes: &[u8]) -> Identity {
        let known = self.many.get_key_value(bytes);
        known.map_or_else(|| Identity::new(bytes), |(owner, _)| owner.clone())
    }

    fn among(&self, owner: &Identity) -> Victim {
        match self.many.get(owner).and_then(Ranking::largest) {
            Some((_, source)) => Victim::Pair(owner.clone(), source),
            None => Victim::Owner(owner.clone()),
        }
    }

    fn enter(&mut self, owner: &Identity, source: Source) {
        self.total = self.total.saturating_add(1);
        self.sources.change(source, 1);
        let sources = match self.many.get_mut(owner) {
            Some(sources) => {
                self.ranks.remove(&(sources.total, owner.clone()));
                sources
            }
            None => {
                let digest = Digest::new(&self.state, owner);
                let Some(first) = self.single.remove(digest) else {
                    self.single.set(digest, source);
                    return;
                };
                let sources = self.many.entry(owner.clone()).or_default();
                sources.change(first, 1);
                sources
            }
        };
        sources.change(source, 1);
        self.ranks.insert((sources.total, owner.clone()));
    }

    fn leave(&mut self, owner: &Identity, source: Source) {
        self.total = self.total.saturating_sub(1);
        self.sources.change(source, -1);
        let digest = Digest::new(&self.state, owner);
        let Some(sources) = self.many.get_mut(owner) else {
            self.single.remove(digest);
            return;
        };
        self.ranks.remove(&(sources.total, owner.clone()));
        sources.change(source, -1);
        match sources.only() {
            Some(source) => {
                self.many.remove(owner);
                self.single.set(digest, source);
            }
            None => {
                self.ranks.insert((sources.total, owner.clone()));
            }
        }
    }
}

/// Numbers of sessions, and whose is the largest.
struct Ranking<K> {
    counts: HashMap<K, u32>,
    /// Those with more than one session.
    ranks: BTreeSet<(u32, K)>,
    total: usize,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            ranks: BTreeSet::new(),
            total: 0,
        }
    }
}

impl<K: Copy + Ord + Hash> Ranking<K> {
    /// Who has most, if anybody has more than one.
    fn largest(&self) -> Option<(usize, K)> {
        let (count, of) = self.ranks.last()?;
        Some((usize::try_from(*count).unwrap_or(usize::MAX), *of))
    }

    /// Whose is the only session, if there is one.
    fn only(&self) -> Option<K> {
        let first = self.counts.keys().next();
        first.filter(|_| self.total == 1).copied()
    }

    fn change(&mut self, of: K, by: i32) {
        let old = self.counts.get(&of).copied().unwrap_or(0);
        let new = old.saturating_add_signed(by);
        if old > 1 {
            self.ranks.remove(&(old, of));
        }
        if new > 1 {
            self.ranks.insert((new, of));
        }
        if new == 0 {
            self.counts.remove(&of);
        } else {
            self.counts.insert(of, new);
        }
        let by = isize::try_from(by).unwrap_or_default();
        self.total = self.total.saturating_add_signed(by);
    }
}

/// One of the sessions that are counted, for as long as it lives.
pub(super) struct Seat {
    shares: Arc<Mutex<Shares>>,
    owner: Identity,
    source: Source,
}

impl Seat {
    pub(super) fn new(shares: &Arc<Mutex<Shares>>, owner: Identity, source: Source) -> Self {
        shares.lock().enter(&owner, source);
        Self {
            shares: Arc::clone(shares),
            owner,
            source,
        }
    }

    /// The session is another credential's.
    pub(super) fn set_owner(&mut self, owner: Identity) {
        let mut shares = self.shares.lock();
        shares.leave(&self.owner, self.source);
        shares.enter(&owner, self.source);
        drop(shares);
        self.owner = owner;
    }

    pub(super) const fn owner(&self) -> &Identity {
        &self.owner
    }

    pub(super) const fn source(&self) -> Source {
        self.source
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shares.lock().leave(&self.owner, self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sources::source;
    use super::*;

    const LIMITS: Limits = Limits {
        all: 4,
        per_credential: usize::MAX,
        per_source: usize::MAX,
    };

    fn shares(limits: Limits) -> Arc<Mutex<Shares>> {
        Arc::new(Mutex::new(Shares::new(limits)))
    }

    fn seat(shares: &Arc<Mutex<Shares>>, owner: &str, source: u8) -> Seat {
        Seat::new(shares, Identity::new(owner.as_bytes()), source_of(source))
    }

    fn source_of(last: u8) -> Source {
        source([192, 0, 2, last].into())
    }

    fn owner(name: &str) -> Victim {
        Victim::Owner(Identity::new(name.as_bytes()))
    }

    #[test]
    fn c13_the_credential_with_most_gives_way() {
        let shares = shares(LIMITS);
        let victim = || shares.lock().victim(false);
        assert_eq!(victim(), None);
        let mut seats: Vec<_> = (1..5).map(|n| seat(&shares, &format!("d{n}"), n)).collect();
        assert_eq!(victim(), None);
        seats.push(seat(&shares, "fleet", 9));
        assert_eq!(victim(), Some(Victim::Any));
        seats.push(seat(&shares, "fleet", 8));
        assert_eq!(victim(), Some(owner("fleet")));
        seats.push(seat(&shares, "fleet", 8));
        let of_8 = Victim::Pair(Identity::new(b"fleet"), source_of(8));
        assert_eq!(victim(), Some(of_8));
        seats.drain(4..);
        assert_eq!((victim(), shares.lock().len()), (None, 4));
        for seat in &mut seats {
            seat.set_owner(Identity::new(b"all"));
        }
        seats.push(seat(&shares, "zzz", 1));
        assert_eq!(victim(), Some(owner("all")));
        seats.clear();
        let shares = shares.lock();
        assert!(shares.single.is_empty() && shares.many.is_empty());
        assert!(shares.ranks.is_empty() && shares.len() == 0);
        assert!(shares.sources.counts.is_empty() && shares.sources.ranks.is_empty());
    }

    #[test]
    fn c13_fixed_limits() {
        let shares = shares(Limits {
            all: 100,
            per_credential: 2,
            per_source: 3,
        });
        let mut seats: Vec<_> = (1..3).map(|n| seat(&shares, "fleet", n)).collect();
        assert_eq!(shares.lock().victim(false), None);
        seats.push(seat(&shares, "fleet", 3));
        assert_eq!(shares.lock().victim(false), Some(owner("fleet")));
        seats.pop();
        seats.extend((1..5).map(|n| seat(&shares, &format!("d{n}"), 7)));
        assert_eq!(
            shares.lock().victim(false),
            Some(Victim::Source(source_of(7)))
        );
    }
}
