//! Who has how many sessions of a listener, and who gives way when there are too many.
//!
//! A credential may serve many sessions: one key for a fleet, with a suffix for each device. Whoever
//! has such a key can open as many as he likes, and shall push out nobody else's: when there are too
//! many, the credential with most gives way, and of its sessions those of the source with most.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::identity::Identity;
use super::sources::Source;

/// The sessions of all servers of a listener, counted.
pub(super) struct Shares {
    limits: Limits,
    owners: Ranking<Identity>,
    sources: Ranking<Source>,
    /// Sessions of a credential from a source.
    pairs: HashMap<(Identity, Source), usize>,
    /// The same, to find the source with most.
    pair_ranks: BTreeSet<(Identity, usize, Source)>,
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
            owners: Ranking::default(),
            sources: Ranking::default(),
            pairs: HashMap::new(),
            pair_ranks: BTreeSet::new(),
        }
    }

    /// Who gives way, if there are too many sessions, or if there is one too many for other reasons
    /// (`is_over`).
    pub(super) fn victim(&self, is_over: bool) -> Option<Victim> {
        let (most, owner) = self.owners.largest()?;
        if most > self.limits.per_credential {
            return Some(self.among(owner));
        }
        if let Some((most, source)) = self.sources.largest()
            && most > self.limits.per_source
        {
            return Some(Victim::Source(*source));
        }
        if self.owners.total <= self.limits.all && !is_over {
            None
        } else if most > 1 {
            Some(self.among(owner))
        } else {
            Some(Victim::Any)
        }
    }

    /// Number of sessions.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.owners.total
    }

    fn among(&self, owner: &Identity) -> Victim {
        let least = (owner.clone(), 0, Ipv4Addr::UNSPECIFIED.into());
        let most = (owner.clone(), usize::MAX, LAST);
        match self.pair_ranks.range(least..=most).next_back() {
            Some((_, 2.., source)) => Victim::Pair(owner.clone(), *source),
            _ => Victim::Owner(owner.clone()),
        }
    }

    fn enter(&mut self, owner: &Identity, source: Source) {
        self.owners.change(owner, 1);
        self.sources.change(&source, 1);
        self.change_pair(owner, source, 1);
    }

    fn leave(&mut self, owner: &Identity, source: Source) {
        self.owners.change(owner, -1);
        self.sources.change(&source, -1);
        self.change_pair(owner, source, -1);
    }

    fn change_pair(&mut self, owner: &Identity, source: Source, by: isize) {
        let pair = (owner.clone(), source);
        let old = self.pairs.get(&pair).copied().unwrap_or(0);
        let new = old.saturating_add_signed(by);
        self.pair_ranks.remove(&(owner.clone(), old, source));
        if new == 0 {
            self.pairs.remove(&pair);
        } else {
            self.pair_ranks.insert((owner.clone(), new, source));
            self.pairs.insert(pair, new);
        }
    }
}

/// The last address in their order.
const LAST: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// Numbers of sessions, and whose is the largest.
struct Ranking<K> {
    counts: HashMap<K, usize>,
    ranks: BTreeSet<(usize, K)>,
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

impl<K: Clone + Ord + Hash> Ranking<K> {
    fn largest(&self) -> Option<(usize, &K)> {
        self.ranks.last().map(|(count, of)| (*count, of))
    }

    fn change(&mut self, of: &K, by: isize) {
        let old = self.counts.get(of).copied().unwrap_or(0);
        let new = old.saturating_add_signed(by);
        self.ranks.remove(&(old, of.clone()));
        if new == 0 {
            self.counts.remove(of);
        } else {
            self.ranks.insert((new, of.clone()));
            self.counts.insert(of.clone(), new);
        }
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
        Seat::new(
            shares,
            Identity::new(owner.as_bytes()),
            [192, 0, 2, source].into(),
        )
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
        let of_8 = Victim::Pair(Identity::new(b"fleet"), [192, 0, 2, 8].into());
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
        assert!(shares.pairs.is_empty() && shares.pair_ranks.is_empty() && shares.len() == 0);
        assert!(shares.owners.counts.is_empty() && shares.owners.ranks.is_empty());
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
        let source = [192, 0, 2, 7].into();
        assert_eq!(shares.lock().victim(false), Some(Victim::Source(source)));
    }
}
