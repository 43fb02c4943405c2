//! Requests that wait for the host's word or for their device to come from another shard, each
//! until its deadline.

use std::collections::{BTreeSet, HashMap};

use crate::engine::peer::Peer;
use crate::time::Instant;

/// A request by its peer and message id.
type Key = (Peer, u16);

/// A request that waits.
#[derive(Debug)]
pub(in crate::engine) struct PendingRequest {
    /// Given by the host when it allowed the registration.
    pub(in crate::engine) mountpoint: Option<String>,
    /// Its peer was told by an Empty ACK that the response comes separately.
    pub(in crate::engine) acknowledged: bool,
    /// Charged for it.
    pub(in crate::engine) bytes: usize,
    deadline: Instant,
}

/// All of them, with their deadlines in order of time: what is due next is found at once, however
/// many there are, and an answered one leaves nothing behind.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pending {
    requests: HashMap<Key, PendingRequest>,
    deadlines: BTreeSet<(Instant, Key)>,
}

impl Pending {
    /// A request waits until `deadline`. One that waits already keeps its deadline.
    pub(in crate::engine) fn insert(&mut self, peer: Peer, mid: u16, deadline: Instant) {
        let key = (peer, mid);
        if !self.requests.contains_key(&key) {
            self.plan(key, deadline, 0);
        }
    }

    /// A request waits until `deadline` and takes `bytes`; one that waits already gets this
    /// deadline. Returns the bytes that it took.
    pub(in crate::engine) fn prolong(
        &mut self,
        peer: Peer,
        mid: u16,
        deadline: Instant,
        bytes: usize,
    ) -> usize {
        let key = (peer, mid);
        if let Some(request) = self.requests.get_mut(&key) {
            self.deadlines.remove(&(request.deadline, key));
            request.deadline = deadline;
            self.deadlines.insert((deadline, key));
            std::mem::replace(&mut request.bytes, bytes)
        } else {
            self.plan(key, deadline, bytes);
            0
        }
    }

    fn plan(&mut self, key: Key, deadline: Instant, bytes: usize) {
        let request = PendingRequest {
            mountpoint: None,
            acknowledged: false,
            bytes,
            deadline,
        };
        self.requests.insert(key, request);
        self.deadlines.insert((deadline, key));
    }

    pub(in crate::engine) fn get(&self, peer: Peer, mid: u16) -> Option<&PendingRequest> {
        self.requests.get(&(peer, mid))
    }

    pub(in crate::engine) fn get_mut(
        &mut self,
        peer: Peer,
        mid: u16,
    ) -> Option<&mut PendingRequest> {
        self.requests.get_mut(&(peer, mid))
    }

    /// The request is answered.
    pub(in crate::engine) fn remove(&mut self, peer: Peer, mid: u16) -> Option<PendingRequest> {
        let key = (peer, mid);
        let request = self.requests.remove(&key)?;
        self.deadlines.remove(&(request.deadline, key));
        Some(request)
    }

    /// When [`Pending::expire`] has something to do.
    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets requests whose time is over. Returns whose they were and the bytes they took.
    pub(in crate::engine) fn expire(&mut self, now: Instant) -> Vec<(Peer, usize)> {
        let mut freed = Vec::new();
        while let Some((at, key)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.remove(&(at, key));
            let request = self.requests.remove(&key);
            freed.extend(request.map(|request| (key.0, request.bytes)));
        }
        freed
    }

    /// Bytes of all of them, counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn recount(&self) -> usize {
        self.requests.values().map(|request| request.bytes).sum()
    }

    /// Requests that wait.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn len(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::network::LocalAddress;

    fn peer(port: u16) -> Peer {
        Peer {
            listener: 0,
            local: LocalAddress::default(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: 0,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn c7_deadlines_are_in_order_and_leave_nothing_behind() {
        let mut pending = Pending::default();
        for port in 0..60_000 {
            pending.insert(peer(port), 1, at(15 + u64::from(port) / 10_000));
        }
        assert_eq!(pending.deadline(), Some(at(15)));
        // Answered: half of them.
        for port in (0..60_000).step_by(2) {
            assert!(pending.remove(peer(port), 1).is_some());
            assert!(pending.remove(peer(port), 1).is_none());
        }
        assert_eq!((pending.len(), pending.deadlines.len()), (30_000, 30_000));
        pending.expire(at(17));
        assert_eq!((pending.len(), pending.deadlines.len()), (15_000, 15_000));
        assert_eq!(pending.deadline(), Some(at(18)));
        pending.expire(at(20));
        assert_eq!((pending.len(), pending.deadlines.len()), (0, 0));
        assert_eq!(pending.deadline(), None);
    }

    #[test]
    fn one_that_waits_keeps_or_changes_its_deadline() {
        let mut pending = Pending::default();
        pending.insert(peer(1), 7, at(15));
        pending.insert(peer(1), 7, at(20));
        assert_eq!(pending.deadline(), Some(at(15)));
        pending.prolong(peer(1), 7, at(12), 0);
        pending.prolong(peer(2), 7, at(30), 0);
        assert_eq!(pending.deadline(), Some(at(12)));
        assert_eq!((pending.len(), pending.deadlines.len()), (2, 2));
        pending.expire(at(12));
        assert!(pending.get(peer(1), 7).is_none());
        assert!(pending.get(peer(2), 7).is_some());
    }
}
