//! Registers that wait for the host's word.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::engine::info::AuthorizationId;
use crate::engine::peer::Peer;
use crate::memory::source;
use crate::time::Instant;

/// Registers that wait in a shard at most; more are answered 5.03. The account of memory bounds
/// them in bytes, for all shards.
const MAX_WAITING: usize = 65_536;

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) peer: Peer,
    pub(super) datagram: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) deadline: Instant,
    /// Charged for it.
    pub(super) bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::engine) struct Authorizations {
    next: AuthorizationId,
    /// Ids are given in order of time and all wait equally long, so this is the order of their
    /// deadlines as well.
    waiting: BTreeMap<AuthorizationId, Waiting>,
    /// How many of them are whose.
    by_source: HashMap<IpAddr, usize>,
}

impl Authorizations {
    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        let (_, first) = self.waiting.first_key_value()?;
        Some(first.deadline)
    }

    /// Bytes of what waits, counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn recount(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.bytes).sum()
    }

    /// Registers that wait.
    pub(in crate::engine) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether one more Register of `peer` may wait. A source holds at most as many places as are
    /// free: half of all when it is alone, and never the last ones, which are for others.
    pub(super) fn has_room(&self, peer: Peer) -> bool {
        let free = MAX_WAITING.saturating_sub(self.waiting.len());
        let own = self.by_source.get(&source(peer.address.ip())).copied();
        free > own.unwrap_or_default()
    }

    pub(super) fn insert(&mut self, waiting: Waiting) -> AuthorizationId {
        let id = self.next;
        self.next += 1;
        *self
            .by_source
            .entry(source(waiting.peer.address.ip()))
            .or_default() += 1;
        self.waiting.insert(id, waiting);
        id
    }

    pub(super) fn remove(&mut self, id: AuthorizationId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        let source = source(waiting.peer.address.ip());
        if let Some(own) = self.by_source.get_mut(&source) {
            *own -= 1;
            if *own == 0 {
                self.by_source.remove(&source);
            }
        }
        Some(waiting)
    }

    pub(super) fn due(&self, now: Instant) -> Option<AuthorizationId> {
        let (id, first) = self.waiting.first_key_value()?;
        (first.deadline <= now).then_some(*id)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;
    use crate::network::LocalAddress;

    fn waiting(address: impl Into<SocketAddr>) -> Waiting {
        Waiting {
            peer: Peer {
                listener: 0,
                local: LocalAddress::default(),
                address: address.into(),
                session: 0,
            },
            datagram: Vec::new(),
            body: Vec::new(),
            deadline: Instant::ZERO,
            bytes: 0,
        }
    }

    #[test]
    fn c7_addresses_of_a_64_are_one_source() {
        let device = |network: u128, host: u128| {
            let address = (0x2001_0db8_u128 << 96) | (network << 64) | host;
            waiting((Ipv6Addr::from_bits(address), 5683))
        };
        let mut all = Authorizations::default();
        for host in 0..MAX_WAITING as u128 / 2 {
            assert!(all.has_room(device(0, host).peer));
            all.insert(device(0, host));
        }
        assert_eq!(all.by_source.len(), 1);
        assert!(!all.has_room(device(0, u128::from(u64::MAX)).peer));

        // A second source gets half of what is left, and so on: there is always a place.
        for network in 1..6 {
            let mut host = 0;
            while all.has_room(device(network, host).peer) {
                all.insert(device(network, host));
                host += 1;
            }
            assert_eq!(host, MAX_WAITING as u128 >> (network + 1));
        }
        assert!(all.has_room(device(6, 0).peer));

        // An IPv4 address in IPv6 clothes is that IPv4 address.
        let dressed: SocketAddr = "[::ffff:192.0.2.1]:5683".parse().unwrap();
        assert_eq!(
            source(waiting(dressed).peer.address.ip()),
            source(waiting(([192, 0, 2, 1], 1)).peer.address.ip())
        );
    }

    #[test]
    fn c7_answered_ones_leave_nothing_behind() {
        let mut all = Authorizations::default();
        let ids: Vec<_> = (0..1000)
            .map(|number: u32| all.insert(waiting((number.to_be_bytes(), 5683))))
            .collect();
        for id in ids {
            assert!(all.remove(id).is_some() && all.remove(id).is_none());
        }
        assert_eq!(
            (all.len(), all.by_source.len(), all.deadline()),
            (0, 0, None)
        );
    }
}
