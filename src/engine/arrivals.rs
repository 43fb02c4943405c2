//! New connections of identities whose registrations are still in another shard. What such a
//! connection says waits until they are here: a notification would be reset otherwise, a Send or
//! De-register answered 4.04.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::info::GoneReason;
use super::sessions::Identity;
use super::{Engine, HANDOFF_TIMEOUT, Handoff, Output, Peer, ShardId, TIMEOUTS_PER_CALL};
use crate::config::Takeover;
use crate::memory::{Heap, block};
use crate::time::{Instant, Now};

/// Messages of a connection that wait; it says no more before it has heard anything (NSTART,
/// RFC 7252 §4.7) but for repetitions and notifications.
const MAX_HELD: usize = 16;

/// An even newer connection.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) identity: Arc<Identity>,
    pub(super) peer: Peer,
    pub(super) shard: ShardId,
}

#[derive(Debug)]
struct Arrival {
    held: Vec<Vec<u8>>,
    /// Whoever gets what arrives.
    successor: Option<Successor>,
    deadline: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    expected: HashMap<Peer, Arrival>,
    /// The same in order of time.
    deadlines: BTreeSet<(Instant, Peer)>,
}

impl Arrivals {
    pub(super) fn contains(&self, peer: Peer) -> bool {
        self.expected.contains_key(&peer)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.expected.len()
    }

    /// What belongs to the identity of `peer` is asked for.
    pub(super) fn expect(&mut self, now: Now, peer: Peer) {
        let deadline = now.mono + HANDOFF_TIMEOUT;
        let arrival = Arrival {
            held: Vec::new(),
            successor: None,
            deadline,
        };
        if let Some(old) = self.expected.insert(peer, arrival) {
            self.deadlines.remove(&(old.deadline, peer));
        }
        self.deadlines.insert((deadline, peer));
    }

    fn remove(&mut self, peer: Peer) -> Option<Arrival> {
        let arrival = self.expected.remove(&peer)?;
        self.deadlines.remove(&(arrival.deadline, peer));
        Some(arrival)
    }

    /// The connection has ended; what arrives is still for its successor. Returns the bytes that
    /// this frees.
    pub(super) fn forget_messages(&mut self, peer: Peer) -> usize {
        let arrival = self.expected.get_mut(&peer);
        arrival.map_or(0, |arrival| std::mem::take(&mut arrival.held).heap())
    }

    /// Bytes of what waits, counted anew.
    pub(super) fn recount(&self) -> usize {
        let held = self.expected.values().map(|arrival| arrival.held.heap());
        held.sum()
    }
}

impl Engine {
    /// Keeps a datagram of a connection whose registrations are on their way; false when none
    /// are.
    pub(super) fn hold(&mut self, from: Peer, datagram: &[u8]) -> bool {
        let Some(arrival) = self.arrivals.expected.get_mut(&from) else {
            return false;
        };
        let before = arrival.held.heap();
        let most = block(datagram.len()) + MAX_HELD * size_of::<Vec<u8>>();
        if arrival.held.len() < MAX_HELD && self.accounts.waiting.fits(most) {
            arrival.held.push(datagram.to_vec());
            self.accounts.waiting.charge(arrival.held.heap() - before);
        } else {
            self.counters.mailbox_overflow.inc();
        }
        true
    }

    /// What belongs to the identity of `old` goes to its successor: at once, or as soon as it is
    /// here.
    pub(super) fn hand_over(&mut self, now: Now, old: Peer, to: Successor) {
        if let Some(arrival) = self.arrivals.expected.get_mut(&old) {
            let held = std::mem::take(&mut arrival.held);
            self.accounts.waiting.release(held.heap());
            arrival.successor = Some(to);
            return;
        }
        if let Some(here) = self.pass_on(now, to) {
            self.arrived(now, here);
        }
    }

    /// Everything that belongs to the identity of `peer` is here.
    pub(super) fn arrived(&mut self, now: Now, peer: Peer) {
        let mut next = Some(peer);
        while let Some(peer) = next.take() {
            let Some(arrival) = self.arrivals.remove(peer) else {
                return;
            };
            self.accounts.waiting.release(arrival.held.heap());
            for datagram in arrival.held {
                self.handle_datagram(now, peer, &datagram);
            }
            next = arrival
                .successor
                .and_then(|successor| self.pass_on(now, successor));
        }
    }

    /// Nothing waits for a shard that does not answer. Looks at [`TIMEOUTS_PER_CALL`] connections
    /// at most; the rest is due at once again.
    pub(super) fn expire_arrivals(&mut self, now: Now) {
        for _ in 0..TIMEOUTS_PER_CALL {
            match self.arrivals.deadlines.first().copied() {
                Some((at, peer)) if at <= now.mono => self.arrived(now, peer),
                _ => return,
            }
        }
    }

    /// Returns the peer of the successor if it is in this shard.
    fn pass_on(&mut self, now: Now, to: Successor) -> Option<Peer> {
        let takeover = self
            .settings
            .listener(to.peer.listener)
            .map_or(Takeover::Move, |listener| listener.takeover);
        let known = self.identified.get(&to.identity);
        for key in known.map(|known| known.keys.clone()).unwrap_or_default() {
            match takeover {
                Takeover::End => self.remove(key, GoneReason::Displaced),
                Takeover::Move if to.shard == self.shard => self.follow(now, key, to.peer),
                Takeover::Move => self.send_after(now, key, to.peer, to.shard),
            }
        }
        if to.shard == self.shard {
            return Some(to.peer);
        }
        let handoff = Handoff::Arrived { peer: to.peer };
        self.outputs.push_back(Output::Handoff {
            shard: to.shard,
            handoff,
        });
        None
    }
}
