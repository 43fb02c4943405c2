//! DTLS sessions of before a restart that are not taken in yet, by everything that a datagram may name
//! them by.

use std::collections::HashMap;

use crate::network::{LocalAddresses, NetworkPath};
use crate::store::KeptSession;

/// A session, what it is called where it is kept, and where its device was.
pub(super) struct Awaited {
    pub(super) name: u64,
    pub(super) kept: KeptSession,
    pub(super) path: NetworkPath,
}

/// See the module. What leads to a session that is taken in stays until all are: it leads to nothing.
#[derive(Default)]
pub(super) struct AwaitedSessions {
    sessions: Vec<Option<Box<Awaited>>>,
    /// Those before it are taken in.
    next: usize,
    paths: HashMap<NetworkPath, Vec<usize>>,
    ids: HashMap<[u8; 8], usize>,
}

impl AwaitedSessions {
    pub(super) fn new(kept: Vec<(u64, KeptSession)>, locals: &LocalAddresses) -> Self {
        let mut all = Self::default();
        for (place, (name, kept)) in kept.into_iter().enumerate() {
            let local = kept.local.map(|address| locals.number(address));
            let path = NetworkPath {
                remote: kept.session.address,
                local: local.unwrap_or_default(),
            };
            all.paths.entry(path).or_default().push(place);
            if let Some(id) = kept.session.connection_id() {
                all.ids.insert(id, place);
            }
            all.sessions
                .push(Some(Box::new(Awaited { name, kept, path })));
        }
        all
    }

    /// Whether all are taken in.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The next one in order; nothing when all are taken in.
    pub(super) fn pop(&mut self) -> Option<Box<Awaited>> {
        while let Some(session) = self.sessions.get_mut(self.next) {
            self.next += 1;
            if let Some(session) = session.take() {
                return Some(session);
            }
        }
        *self = Self::default();
        None
    }

    /// Those that were at an address.
    #[expect(clippy::vec_box, reason = "they stay where they are: each is large")]
    pub(super) fn take_path(&mut self, from: NetworkPath) -> Vec<Box<Awaited>> {
        let places = self.paths.remove(&from).unwrap_or_default();
        let places = places.into_iter();
        places.filter_map(|place| self.take(place)).collect()
    }

    /// The one whose connection id the first record of a datagram has (RFC 9146 §4).
    pub(super) fn take_id(&mut self, datagram: &[u8]) -> Option<Box<Awaited>> {
        /// Content type `tls12_cid`.
        const CID: u8 = 25;
        /// Behind content type, version, epoch and sequence number.
        const ID_AT: usize = 11;
        if datagram.first() != Some(&CID) {
            return None;
        }
        let id: &[u8; 8] = datagram.get(ID_AT..)?.first_chunk()?;
        self.take(*self.ids.get(id)?)
    }

    fn take(&mut self, place: usize) -> Option<Box<Awaited>> {
        self.sessions.get_mut(place)?.take()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn kept(port: u16, id: Option<[u8; 8]>) -> KeptSession {
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        let (identity, suite, keys) = (b"dev".as_slice(), "", b"keys".as_slice());
        let (theirs, random) = (b"".as_slice(), [0u8; 8]);
        let saved = (
            address, identity, suite, keys, 0u64, 0u64, id, theirs, random,
        );
        let saved = postcard::to_allocvec(&saved).unwrap();
        KeptSession {
            listener: "dtls:default".into(),
            shard: 0,
            local: None,
            credential: [0; 8],
            session: postcard::from_bytes(&saved).unwrap(),
            certified: None,
        }
    }

    #[test]
    fn who_speaks_is_first_and_all_others_come_in_order() {
        let ids = [None, Some([1; 8]), Some([2; 8]), None, None];
        // Two were at one address, one after the other.
        let ports = [1000, 1001, 1002, 1003, 1003];
        let sessions = (10..).zip(ports.into_iter().zip(ids));
        let sessions = sessions.map(|(name, (port, id))| (name, kept(port, id)));
        let mut all = AwaitedSessions::new(sessions.collect(), &LocalAddresses::default());
        let path = |port| NetworkPath {
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            local: Default::default(),
        };
        let names = |sessions: Vec<Box<Awaited>>| -> Vec<u64> {
            sessions.into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(all.take_path(path(9))), [0; 0]);
        assert_eq!(names(all.take_path(path(1003))), [13, 14]);
        assert_eq!(names(all.take_path(path(1003))), [0; 0]);
        let mut record = vec![25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 7];
        assert!(all.take_id(&record).is_none());
        record.extend([2; 8]);
        assert_eq!(all.take_id(&record).map(|it| it.name), Some(12));
        assert!(all.take_id(&record).is_none());
        assert!(all.take_id(&[23, 0xfe, 0xfd]).is_none());
        let rest = std::iter::from_fn(|| all.pop()).map(|it| it.name);
        assert_eq!(rest.collect::<Vec<_>>(), [10, 11]);
        assert!(all.is_empty());
        assert_eq!(names(all.take_path(path(1000))), [0; 0]);
    }
}
