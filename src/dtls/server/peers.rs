//! Which session and which handshake there is at an address.

use std::hash::RandomState;
use std::net::SocketAddr;

use super::super::session::Session;
use super::super::table::{Key, Table};
use crate::network::NetworkPath;
use crate::tables::digest::{Digest, DigestIndex, DigestMap};

/// Sessions and handshakes by address. A new handshake goes beside the session until it is complete
/// (RFC 6347 §4.2.8). Sessions with connection ids may be more at one address: the one here is that
/// which came last, unless there is one without an id, which is found by its address only.
#[derive(Default)]
pub(super) struct Peers {
    state: RandomState,
    sessions: DigestIndex,
    handshakes: DigestMap<Option<Key>>,
}

impl Peers {
    /// The session and the handshake at an address.
    pub(super) fn both(
        &self,
        sessions: &Table<Session>,
        at: NetworkPath,
    ) -> (Option<Key>, Option<Key>) {
        let digest = self.digest(at);
        let session = self.sessions.get(digest);
        let session = session.and_then(|index| sessions.key_at(index));
        (session, self.handshakes.get(digest).flatten())
    }

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
        self.handshakes.get(self.digest(at)).flatten()
    }

    pub(super) fn set_handshake(&mut self, at: NetworkPath, key: Key) {
        self.handshakes.set(self.digest(at), Some(key));
    }

    pub(super) fn remove_handshake(&mut self, at: NetworkPath) {
        self.handshakes.remove(self.digest(at));
    }

    /// Devices choose their addresses, so the hash has a secret (SipHash). It takes a few whole words: to
    /// hash an address field by field takes three times as long, and there is one for each record.
    fn digest(&self, at: NetworkPath) -> Digest {
        let ends = u64::from(at.remote.port()) << 16 | u64::from(at.local.number());
        match at.remote {
            SocketAddr::V4(remote) => {
                let address = u64::from(remote.ip().to_bits());
                Digest::new(&self.state, &(address << 32 | ends))
            }
            SocketAddr::V6(remote) => {
                let scope = u64::from(remote.scope_id()) << 32;
                let key = (remote.ip().to_bits(), scope | ends, remote.flowinfo());
                Digest::new(&self.state, &key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::LocalAddress;

    #[test]
    fn each_part_of_a_path_counts() {
        let peers = Peers::default();
        let digest = |remote: &str, local| {
            peers.digest(NetworkPath {
                remote: remote.parse().unwrap(),
                local: LocalAddress::new(local),
            })
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
