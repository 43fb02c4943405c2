//! By what the messages of devices are known: tokens, message ids, addresses. A device makes and
//! forgets its own through [`DeviceIndex`], so that they stand here for as long as it has them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::RandomState;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::peer::{DeviceKey, Peer};
use crate::admission::Bucket;
use crate::coap::Token;
use crate::tables::digest::{Digest, DigestIndex};
use crate::tables::pieces::Pieces;

/// What remains of a peer between messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerState {
    /// Message id of the next message to it.
    next_mid: u16,
    /// Datagrams it may send.
    pub(super) sent: Bucket,
    /// Requests that are remembered for it alone.
    pub(super) remembered: Bucket,
}

impl Default for PeerState {
    fn default() -> Self {
        Self {
            next_mid: 0,
            sent: Bucket::FULL,
            remembered: Bucket::FULL,
        }
    }
}

/// See the module. There may be a million devices: tokens, which are random, and peers stand here by their
/// hashes alone.
#[derive(Debug, Default)]
pub(super) struct MessageIndex {
    tokens: DigestIndex,
    /// Message ids in flight, for ACK and RST without a token.
    in_flight: HashMap<(Peer, u16), DeviceKey>,
    /// The device that registered last from a peer.
    peers: DigestIndex,
    /// What remains of its peer, by the device.
    states: Pieces<PeerState>,
    state: RandomState,
}

/// The half that a shard asks.
impl MessageIndex {
    pub(super) fn by_token(&self, token: Token) -> Option<DeviceKey> {
        self.tokens.get(Digest::of_random(token.0))
    }

    pub(super) fn by_message(&self, peer: Peer, mid: u16) -> Option<DeviceKey> {
        self.in_flight.get(&(peer, mid)).copied()
    }

    /// The device that registered last from `peer`, by the peer's hash: whoever acts on it looks whether it
    /// is there.
    pub(super) fn device(&self, peer: Peer) -> Option<DeviceKey> {
        self.peers.get(self.digest(peer))
    }

    pub(super) fn peer_mut(&mut self, peer: Peer) -> Option<&mut PeerState> {
        let key = self.device(peer)?;
        self.states.get_mut(key)
    }

    /// The next message id for a peer: random start, then counting, so that none repeats within
    /// EXCHANGE_LIFETIME (RFC 7252 §4.4).
    pub(super) fn next_mid(&mut self, peer: Peer, rng: &mut ChaCha8Rng) -> u16 {
        match self.peer_mut(peer) {
            Some(state) => {
                let mid = state.next_mid;
                state.next_mid = mid.wrapping_add(1);
                mid
            }
            None => random_mid(rng),
        }
    }

    /// A device is the one that registered last from `peer`.
    pub(super) fn bind(&mut self, key: DeviceKey, peer: Peer, rng: &mut ChaCha8Rng) {
        let next_mid = random_mid(rng);
        let state = match self.peer_mut(peer) {
            Some(state) => *state,
            None => PeerState {
                next_mid,
                ..PeerState::default()
            },
        };
        self.states.set(key, state);
        self.peers.set(self.digest(peer), key);
    }

    pub(super) fn unbind(&mut self, key: DeviceKey, peer: Peer) {
        if self.device(peer) == Some(key) {
            self.peers.remove(self.digest(peer));
        }
    }

    fn digest(&self, peer: Peer) -> Digest {
        Digest::new(&self.state, &peer)
    }

    /// Of one device.
    pub(super) fn of(&mut self, key: DeviceKey) -> DeviceIndex<'_> {
        DeviceIndex { key, all: self }
    }

    /// Tokens, message ids and peers.
    #[cfg(any(debug_assertions, feature = "internals"))]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.tokens.len(), self.in_flight.len(), self.peers.len())
    }
}

fn random_mid(rng: &mut ChaCha8Rng) -> u16 {
    (rng.next_u32() >> 16) as u16
}

/// The part that belongs to one device.
pub(super) struct DeviceIndex<'a> {
    key: DeviceKey,
    all: &'a mut MessageIndex,
}

impl DeviceIndex<'_> {
    /// A token that no other message has.
    pub(super) fn new_token(&mut self, rng: &mut ChaCha8Rng) -> Token {
        loop {
            let token = Token(rng.next_u64());
            if !self.has_token(token) {
                self.all.tokens.set(Digest::of_random(token.0), self.key);
                return token;
            }
        }
    }

    /// A token of this device, which it may have already; false when it is another one's.
    pub(super) fn add_token(&mut self, token: Token) -> bool {
        match self.all.by_token(token) {
            Some(known) => known == self.key,
            None => {
                self.all.tokens.set(Digest::of_random(token.0), self.key);
                true
            }
        }
    }

    /// Whether a token is somebody's.
    pub(super) fn has_token(&self, token: Token) -> bool {
        self.all.by_token(token).is_some()
    }

    pub(super) fn remove_token(&mut self, token: Token) {
        self.all.tokens.remove(Digest::of_random(token.0));
    }

    /// A message id that no message under way to `peer` has: one that came along with a device
    /// stands before the count.
    pub(super) fn next_mid(&mut self, peer: Peer, rng: &mut ChaCha8Rng) -> u16 {
        let mut mid = self.all.next_mid(peer, rng);
        // One is free: nobody has 65,536 requests under way.
        for _ in 0..u16::MAX {
            if !self.has_message(peer, mid) {
                break;
            }
            mid = self.all.next_mid(peer, rng);
        }
        mid
    }

    /// Whether a message id is somebody's.
    pub(super) fn has_message(&self, peer: Peer, mid: u16) -> bool {
        self.all.in_flight.contains_key(&(peer, mid))
    }

    /// A message of this device's is under way.
    pub(super) fn add_message(&mut self, peer: Peer, mid: u16) {
        self.all.in_flight.insert((peer, mid), self.key);
    }

    pub(super) fn remove_message(&mut self, peer: Peer, mid: u16) {
        if let Entry::Occupied(entry) = self.all.in_flight.entry((peer, mid))
            && *entry.get() == self.key
        {
            entry.remove();
        }
    }
}
