//! The DTLS sessions of a shard, by their peers.

use std::hash::RandomState;

use super::identity::SecureSession;
use super::peer::Peer;
use crate::tables::digest::{Digest, DigestIndex};
use crate::tables::pieces::Slab;

/// See the module. There may be a million: a peer stands here by its hash and the number of its session.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    state: RandomState,
    entries: Slab<Entry>,
    /// Numbers of the entries.
    index: DigestIndex,
}

#[derive(Debug)]
struct Entry {
    /// [`Peer::session`]
    number: u32,
    session: SecureSession,
}

impl Sessions {
    pub(super) fn get(&self, peer: Peer) -> Option<&SecureSession> {
        let entry = self.entries.get(self.place(peer)?)?;
        Some(&entry.session)
    }

    pub(super) fn get_mut(&mut self, peer: Peer) -> Option<&mut SecureSession> {
        let place = self.place(peer)?;
        let entry = self.entries.get_mut(place)?;
        Some(&mut entry.session)
    }

    /// In place of what was there.
    pub(super) fn insert(&mut self, peer: Peer, session: SecureSession) {
        self.remove(peer);
        let number = peer.session;
        let place = self.entries.insert(Entry { number, session });
        self.index.set(self.digest(peer), place);
    }

    pub(super) fn remove(&mut self, peer: Peer) -> Option<SecureSession> {
        let place = self.place(peer)?;
        self.index.remove(self.digest(peer));
        let entry = self.entries.remove(place)?;
        Some(entry.session)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SecureSession> {
        self.entries.iter().map(|entry| &entry.session)
    }

    #[cfg(feature = "internals")]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn place(&self, peer: Peer) -> Option<u32> {
        // Without DTLS: most of what asks.
        if peer.session == 0 {
            return None;
        }
        let place = self.index.get(self.digest(peer))?;
        let entry = self.entries.get(place)?;
        (entry.number == peer.session).then_some(place)
    }

    fn digest(&self, peer: Peer) -> Digest {
        Digest::new(&self.state, &peer)
    }
}
