//! Which session and which handshake there is at an address.

use std::collections::HashMap;
use std::hash::RandomState;

use super::super::digest::{Digest, DigestIndex};
use super::super::session::Session;
use super::super::table::{Key, Table};
use crate::network::NetworkPath;

/// Room for so many handshakes is kept when there are none.
const MANY: usize = 32;

/// Sessions and handshakes by address. A new handshake goes beside the session until it is complete
/// (RFC 6347 §4.2.8). Sessions with connection ids may be more at one address: the one here is that
/// which came last, unless there is one without an id, which is found by its address only.
#[derive(Default)]
pub(super) struct Peers {
    state: RandomState,
    sessions: DigestIndex,
    handshakes: HashMap<NetworkPath, Key>,
}

impl Peers {
    pub(super) fn session(&self, sessions: &Table<Session>, at: NetworkPath) -> Option<Key> {
        sessions.key_at(self.sessions.get(self.digest(at))?)
    }

    pub(super) fn set_session(&mut self, at: NetworkPath, key: Key) {
        self.sessions.set(self.digest(at), key.index());
    }

    /// This session, which is still in its table, is no longer at an address, if it was there.
    pub(super) fn remove_session(&mut self, at: NetworkPath, key: Key) {
        let digest = self.digest(at);
        if self.sessions.get(digest) == Some(key.index()) {
            self.sessions.remove(digest);
        }
    }

    pub(super) fn handshake(&self, at: NetworkPath) -> Option<Key> {
        self.handshakes.get(&at).copied()
    }

    pub(super) fn set_handshake(&mut self, at: NetworkPath, key: Key) {
        self.handshakes.insert(at, key);
    }

    pub(super) fn remove_handshake(&mut self, at: NetworkPath) {
        self.handshakes.remove(&at);
        if self.handshakes.is_empty() {
            self.handshakes.shrink_to(MANY);
        }
    }

    fn digest(&self, at: NetworkPath) -> Digest {
        Digest::new(&self.state, &at)
    }
}
