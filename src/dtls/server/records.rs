//! The part of the server that deals with records of our own layer, wherever they come from.

use super::super::connection_id::ConnectionId;
use super::super::record::{Record, records};
use super::super::session::{Session, Taken};
use super::super::table::{Key, Table};
use super::super::{Output, SessionId};
use super::Server;
use crate::network::NetworkPath;
use crate::time::Instant;

/// Tries to find an id that no session has. One try is enough unless ids of before a restart are still
/// in use.
const MAX_TRIES: usize = 64;

fn hash_of_id(sessions: &Table<Session>, index: u32) -> u64 {
    let id = sessions.at(index).and_then(Session::id);
    id.map_or(0, ConnectionId::hash)
}

impl Server {
    /// A datagram whose first record bears an id: for that session wherever it comes from.
    pub(super) fn handle_identified(
        &mut self,
        now: Instant,
        from: NetworkPath,
        datagram: &[u8],
        first: &Record<'_>,
    ) {
        if let Some(key) = self.session_with(first.id) {
            self.handle_session(now, key, from, datagram);
            return;
        }
        let Some(id) = ConnectionId::from_slice(first.id) else {
            self.counters.dtls_malformed.inc();
            return;
        };
        let handshake = self.peers.handshake(from);
        let shard = self.context.ids.as_ref().map(|ids| ids.shard(id));
        match (handshake, shard) {
            // The client's Finished is the first record with its id.
            (Some(handshake), _) => self.handle_handshake(now, handshake, datagram),
            (None, Some(shard)) if shard != self.shard && shard < self.shards => {
                self.counters.dtls_records_forwarded.inc();
                self.outputs.push_back(Output::Elsewhere {
                    shard,
                    from,
                    datagram: datagram.to_vec(),
                });
            }
            _ => self.counters.dtls_unknown_ids.inc(),
        }
    }

    /// The session with an id of ours.
    pub(super) fn session_with(&self, id: &[u8]) -> Option<Key> {
        self.session_of_id(ConnectionId::from_slice(id)?)
    }

    pub(super) fn session_of_id(&self, id: ConnectionId) -> Option<Key> {
        let is_it = |index| self.sessions.at(index).and_then(Session::id) == Some(id);
        self.sessions.key_at(self.ids.find(id.hash(), is_it)?)
    }

    /// A session, which is in its table, bears an id that no other one has.
    pub(super) fn note_id(&mut self, id: ConnectionId, key: Key) {
        let hash_of = |index| hash_of_id(&self.sessions, index);
        self.ids.insert(id.hash(), key.index(), hash_of);
    }

    /// The session with an id has gone.
    pub(super) fn forget_id(&mut self, id: ConnectionId, key: Key) {
        let hash_of = |index| hash_of_id(&self.sessions, index);
        self.ids.remove(id.hash(), key.index(), hash_of);
    }

    /// Gives a datagram to a session of ours. Returns whether there was anything authentic in it.
    pub(super) fn open_records(
        &mut self,
        now: Instant,
        key: Key,
        from: NetworkPath,
        datagram: &[u8],
    ) -> bool {
        let mut is_authentic = false;
        for record in records(datagram) {
            let Some(session) = self.sessions.get_mut(key) else {
                break;
            };
            match session.take(&record, &mut self.payload, &mut self.wire) {
                Taken::Dropped => {}
                Taken::Closed(reason) => {
                    self.close_session(key, reason);
                    return true;
                }
                Taken::Read {
                    payload,
                    is_at_home,
                } => {
                    is_authentic = true;
                    let home = session.peer();
                    if is_at_home && home != from {
                        self.move_session(key, home, from);
                    }
                    self.transmit(if is_at_home { from } else { home });
                    if payload > 0 {
                        let mut bytes = std::mem::take(&mut self.payload);
                        bytes.truncate(payload);
                        self.outputs.push_back(Output::Received {
                            from: if is_at_home { from } else { home },
                            session: SessionId(key),
                            payload: bytes,
                        });
                    }
                }
            }
        }
        if is_authentic {
            self.note_use(now, key);
            self.keep_if_due(key);
        } else {
            self.counters.dtls_records_dropped.inc();
        }
        is_authentic
    }

    /// The newest record of a session has come from another address.
    fn move_session(&mut self, key: Key, from: NetworkPath, to: NetworkPath) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.move_to(to);
        self.peers.remove_session(&self.sessions, from, key);
        let other = self.peers.session(&self.sessions, to);
        let other = other.and_then(|other| self.sessions.get(other));
        if other.is_none_or(|other| other.id().is_some()) {
            self.peers.set_session(&self.sessions, to, key);
        }
        self.counters.dtls_moves.inc();
        tracing::debug!(%from, %to, "session moved");
        let session = SessionId(key);
        self.outputs.push_back(Output::Moved { session, from, to });
    }

    /// An id for a new handshake, if there shall be ids.
    pub(super) fn new_id(&mut self) -> Option<ConnectionId> {
        let ids = self.context.ids.as_ref()?;
        for _ in 0..MAX_TRIES {
            self.next_id = self.next_id.wrapping_add(1);
            let id = ids.make(self.shard, self.next_id);
            if self.session_of_id(id).is_none() {
                return Some(id);
            }
        }
        None
    }
}
