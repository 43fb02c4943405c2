//! Which session and which handshake there is at an address.

use std::hash::RandomState;
use std::net::SocketAddr;

use super::super::session::Session;
use super::super::table::{Key, Table};
use crate::network::NetworkPath;
use crate::tables::digest::{Digest, DigestMap};
use crate::tables::numbers::Numbers;

/// Sessions and handshakes by address. A new handshake goes beside the session until it is complete
/// (RFC 6347 §4.2.8). Sessions with connection ids may be more at one address: the one here is that
/// which came last, unless there is one without an id, which is found by its address only.
#[derive(Default)]
pub(super) struct Peers {
    state: RandomState,
    sessions: Numbers,
    handshakes: DigestMap<Option<Key>>,
}

impl Peers {
    /// The session and the handshake at an address.
    pub(super) fn both(
        &self,
        sessions: &Table<Session>,
        at: NetworkPath,
    ) -> (Option<Key>, Option<Key>) {
        let digest = digest(&self.state, at);
        let session = self.find(sessions, digest, at);
        let session = session.and_then(|index| sessions.key_at(index));
        (session, self.handshakes.get(digest).flatten())
    }

    pub(super) fn session(&self, sessions: &Table<Session>, at: NetworkPath) -> Option<Key> {
        let digest = digest(&self.state, at);
        sessions.key_at(self.find(sessions, digest, at)?)
    }

    /// Of the sessions that are at an address, this one is found there.
    pub(super) fn set_session(&mut self, sessions: &Table<Session>, at: NetworkPath, key: Key) {
        let digest = digest(&self.state, at);
        let hash_of = |index| hash_of(&self.state, sessions, index);
        match self.find(sessions, digest, at) {
            Some(known) if known == key.index() => return,
            Some(other) => {
                self.sessions.remove(digest.value(), other, hash_of);
            }
            None => {}
        }
        self.sessions.insert(digest.value(), key.index(), hash_of);
    }

    /// This session is no longer at an address, if it was found there.
    pub(super) fn remove_session(&mut self, sessions: &Table<Session>, at: NetworkPath, key: Key) {
        let digest = digest(&self.state, at);
        let hash_of = |index| hash_of(&self.state, sessions, index);
        self.sessions.remove(digest.value(), key.index(), hash_of);
    }

    fn find(&self, sessions: &Table<Session>, digest: Digest, at: NetworkPath) -> Option<u32> {
        let is_it = |index| sessions.at(index).is_some_and(|it| it.peer() == at);
        self.sessions.find(digest.value(), is_it)
    }

    pub(super) fn handshake(&self, at: NetworkPath) -> Option<Key> {
        self.handshakes.get(digest(&self.state, at)).flatten()
    }

    pub(super) fn set_handshake(&mut self, at: NetworkPath, key: Key) {
        self.handshakes.set(digest(&self.state, at), Some(key));
    }

    pub(super) fn remove_handshake(&mut self, at: NetworkPath) {
        self.handshakes.remove(digest(&self.state, at));
    }
}

/// Devices choose their addresses, so the hash has a secret (SipHash). It takes a few whole words: to
/// hash an address field by field takes three times as long, and there is one for each record.
fn digest(state: &RandomState, at: NetworkPath) -> Digest {
    let ends = u64::from(at.remote.port()) << 16 | u64::from(at.local.number());
    match at.remote {
        SocketAddr::V4(remote) => {
            let address = u64::from(remote.ip().to_bits());
            Digest::new(state, &(address << 32 | ends))
        }
        SocketAddr::V6(remote) => {
            let scope = u64::from(remote.scope_id()) << 32;
            let key = (remote.ip().to_bits(), scope | ends, remote.flowinfo());
            Digest::new(state, &key)
        }
    }
}

fn hash_of(state: &RandomState, sessions: &Table<Session>, index: u32) -> u64 {
    let session = sessions.at(index);
    session.map_or(0, |session| digest(state, session.peer()).value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LocalAddress;

    #[test]
    fn each_part_of_a_path_counts() {
        let state = RandomState::new();
        let digest = |remote: &str, local| {
            let remote = remote.parse().unwrap();
            let local = LocalAddress::new(local);
            digest(&state, NetworkPath { remote, local })
        };
        let all = [
            digest("192.0.2.1:1", 0),
            digest("192.0.2.2:1", 0),
            digest("192.0.2.1:2", 0),
            digest("192.0.2.1:1", 1),
            digest("[2001:db8::1]:1", 0),
            digest("[2001:db8::2]:1", 0),
            digest("[2001:db8::1]:2", 0),
            digest("[2001:db8::1]:1", 1),
            digest("[2001:db8::1%1]:1", 0),
            digest("[::192.0.2.1]:1", 0),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| one != other), "{n}");
        }
        assert_eq!(all[0], digest("192.0.2.1:1", 0));
        assert_eq!(all[4], digest("[2001:db8::1]:1", 0));
    }
}
