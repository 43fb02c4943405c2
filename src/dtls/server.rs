//! Which session or handshake a datagram belongs to, and what comes of it.

mod handshakes;
mod idle;
mod keeping;
mod peers;
mod records;
mod room;

use crate::network::NetworkPath;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::context::Context;
use super::cookie::Cookies;
use super::handshake::{Handshake, Step};
use super::identity::Identity;
use super::openssl::NoMemory;
use super::psk::Decoys;
use super::record::{self, ALERT, APPLICATION_DATA, Record, TLS12_CID, is_possible};
use super::session::{Read, Session};
use super::sources::Sources;
use super::table::{Key, Order, Table};
use super::wire::Wire;
use super::{CloseReason, CredentialTicket, Output, SendError, SessionId};
use crate::admission::Door;
#[cfg(feature = "http")]
use crate::config::CipherSuite;
use crate::credentials;
use crate::memory::Reservation;
use crate::tables::numbers::Numbers;
use crate::telemetry::{Counters, limited};
use crate::time::Instant;
use idle::Idle;
use peers::Peers;

/// Longest datagram in bytes: OpenSSL has no room for more.
const MAX_DATAGRAM: usize = 16_384;

/// Sessions that keep their record buffers (33 kB each) because they were used lately. To get and
/// give back buffers costs about as much as to seal a record.
const WARM: usize = 16;

/// Idle sessions that are dealt with at a time. After a restart all of them were used last at once.
const MAX_IDLE: usize = 256;

/// The DTLS server of one shard of a listener.
pub struct Server {
    context: Arc<Context>,
    counters: Arc<Counters>,
    cookies: Cookies,
    decoys: Decoys,
    peers: Peers,
    sessions: Table<Session>,
    /// Their bytes in the account of memory.
    reserved: Option<Reservation>,
    /// Sessions by their connection ids.
    ids: Numbers,
    /// Number of the next id.
    next_id: u64,
    /// The shard that is in its ids, and how many there are.
    shard: u16,
    shards: u16,
    /// Sessions by last use.
    order: Order,
    /// The same for each credential and source.
    idle: Idle,
    /// Sessions with record buffers, or that had some; the first go first.
    warm: VecDeque<Key>,
    /// Boxed: a place is kept for each that was there at once.
    handshakes: Table<Box<Handshake>>,
    sources: Sources,
    timers: BTreeSet<(Instant, Key)>,
    wire: Wire,
    /// Room for the next payload.
    payload: Vec<u8>,
    outputs: VecDeque<Output>,
    /// A session came since there was last room made.
    is_crowded: bool,
    /// Sessions are to be kept.
    is_keeping: bool,
    /// As `payload`, for the records of a datagram that has many.
    scratch: Vec<u8>,
    /// How many handshakes are let in; all without one.
    door: Option<Arc<Door>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("sessions", &self.sessions())
            .field("handshakes", &self.handshakes())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server without sessions. The secrets of its cookies are derived from `seed`, which must be
    /// random; a cookie of another server with the same seed is taken.
    pub fn new(context: Arc<Context>, seed: [u8; 32], counters: Arc<Counters>) -> Self {
        Self {
            reserved: context.sessions_account(),
            context,
            counters,
            cookies: Cookies::new(&seed),
            decoys: Decoys::new(&seed),
            peers: Peers::default(),
            sessions: Table::new(),
            ids: Numbers::default(),
            next_id: seed
                .first_chunk()
                .map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            shard: 0,
            shards: 1,
            order: Order::default(),
            idle: Idle::default(),
            warm: VecDeque::with_capacity(WARM),
            handshakes: Table::new(),
            sources: Sources::default(),
            timers: BTreeSet::new(),
            wire: Wire::default(),
            payload: Vec::new(),
            outputs: VecDeque::new(),
            is_crowded: false,
            is_keeping: false,
            scratch: Vec::new(),
            door: None,
        }
    }

    /// Lets in as many handshakes as `door` says, from now on.
    pub fn set_door(&mut self, door: Arc<Door>) {
        self.door = Some(door);
    }

    /// Says which shard of how many this is: what bears an id of another one is
    /// [`Output::Elsewhere`]. Before anything else.
    pub fn set_shard(&mut self, shard: u16, shards: u16) {
        (self.shard, self.shards) = (shard, shards);
    }

    /// Takes a datagram from a device. Whatever is wrong with it is counted, nothing more.
    pub fn handle_datagram(&mut self, now: Instant, from: impl Into<NetworkPath>, datagram: &[u8]) {
        let from = from.into();
        self.make_room(true);
        let first = match Record::split_any(datagram) {
            Some((first, _)) if datagram.len() <= MAX_DATAGRAM => first,
            _ => {
                self.counters.dtls_malformed.inc();
                return;
            }
        };
        if first.begins_client_hello() {
            self.handle_hello(now, from, datagram, &first);
            return;
        }
        if first.content_type == TLS12_CID {
            self.handle_identified(now, from, datagram, &first);
            return;
        }
        match self.peers.both(&self.sessions, from) {
            (Some(session), None) => {
                self.handle_session(now, session, from, datagram);
            }
            (None, Some(handshake)) => self.handle_handshake(now, handshake, datagram),
            (Some(session), Some(handshake)) => {
                let is_for_session = first.epoch > 0
                    && matches!(first.content_type, APPLICATION_DATA | ALERT)
                    && self.handle_session(now, session, from, datagram);
                if !is_for_session {
                    self.handle_handshake(now, handshake, datagram);
                }
            }
            (None, None) => self.counters.dtls_unknown_peer.inc(),
        }
    }

    /// Takes the answer to [`Output::CredentialWanted`]; `None`: nobody knows the identity. That
    /// ends as a wrong key does (RFC 4279 §2).
    pub fn handle_credential(
        &mut self,
        now: Instant,
        ticket: CredentialTicket,
        key: Option<credentials::Key>,
    ) {
        let CredentialTicket(handshake) = ticket;
        let Some(entry) = self.handshakes.get_mut(handshake) else {
            return;
        };
        let Some(identity) = entry.awaits_key_of() else {
            return;
        };
        let key = key.filter(|key| !key.as_bytes().is_empty() && identity.is_usable());
        let is_unknown = key.is_none();
        let key = key.unwrap_or_else(|| {
            self.counters.dtls_unknown_identities.inc();
            tracing::debug!(peer = %entry.peer, %identity, "no key for this identity");
            self.decoys.make()
        });
        let step = entry.set_key(key, is_unknown, &mut self.wire);
        self.after_step(now, handshake, step);
    }

    /// Sends a payload to the device at an address.
    ///
    /// # Errors
    ///
    /// When there is no session with it, or the payload is empty or longer than a record.
    #[cfg(feature = "internals")]
    pub fn send(
        &mut self,
        now: Instant,
        to: impl Into<NetworkPath>,
        payload: &[u8],
    ) -> Result<(), SendError> {
        match self.session_at(to) {
            Some(session) => self.send_to(now, session, payload),
            None => {
                self.counters.dtls_send_failed.inc();
                Err(SendError::NoSession)
            }
        }
    }

    /// Sends a payload to the device of a session, wherever it is now.
    ///
    /// # Errors
    ///
    /// When the session is over, or the payload is empty or longer than a record.
    pub fn send_to(
        &mut self,
        now: Instant,
        session: SessionId,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let result = self.seal(now, session.0, payload);
        if result.is_err() {
            self.counters.dtls_send_failed.inc();
        }
        result
    }

    /// The session at an address; of several there with connection ids, the one that came last.
    pub fn session_at(&self, address: impl Into<NetworkPath>) -> Option<SessionId> {
        self.peers
            .session(&self.sessions, address.into())
            .map(SessionId)
    }

    /// The session that a datagram is for: that of the id in its first record, wherever it comes from, or
    /// the one at its address. Nothing is proved by that.
    pub fn session_of(&self, from: impl Into<NetworkPath>, datagram: &[u8]) -> Option<SessionId> {
        let identified = Record::split_any(datagram)
            .filter(|(first, _)| first.content_type == TLS12_CID)
            .and_then(|(first, _)| self.session_with(first.id));
        identified.map(SessionId).or_else(|| self.session_at(from))
    }

    fn seal(&mut self, now: Instant, key: Key, payload: &[u8]) -> Result<(), SendError> {
        if self.sessions.get(key).is_none() {
            return Err(SendError::NoSession);
        }
        self.warm_up(key).ok_or(SendError::Failed)?;
        let session = self.sessions.get_mut(key).ok_or(SendError::NoSession)?;
        let to = session.peer();
        let block = self.context.options.padding;
        let result = session.write(&mut self.wire, payload, block);
        self.transmit(to);
        match result {
            Ok(()) => {
                self.note_use(now, key);
                self.keep_if_due(key);
            }
            Err(SendError::Failed) => self.close_session(key, CloseReason::Failed),
            Err(_) => (),
        }
        result
    }

    /// Closes the session at an address, if there is one. A handshake goes on.
    #[cfg(feature = "internals")]
    pub fn close(&mut self, now: Instant, peer: impl Into<NetworkPath>) {
        if let Some(session) = self.session_at(peer) {
            self.close_one(now, session);
        }
    }

    /// Closes a session, if it is still there. A handshake goes on.
    pub fn close_one(&mut self, _now: Instant, session: SessionId) {
        self.close_session(session.0, CloseReason::Local);
    }

    /// Closes a session that was not used ([`Output::Unused`]), if it is still there.
    pub fn close_unused(&mut self, session: SessionId) {
        self.close_session(session.0, CloseReason::Idle);
    }

    /// Gives up all handshakes: they may have keys that are not valid any more. Devices begin anew.
    pub fn abandon_handshakes(&mut self) {
        for handshake in self.handshakes.keys() {
            self.counters.dtls_handshakes_failed.inc();
            drop(self.take_handshake(handshake));
        }
    }

    /// Closes all sessions and gives up all handshakes.
    pub fn close_all(&mut self, _now: Instant) {
        self.abandon_handshakes();
        for session in self.sessions.keys() {
            self.close_session(session, CloseReason::Local);
        }
    }

    /// Does what it is time for: retransmissions, ends of handshakes and of idle sessions.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.make_room(true);
        while let Some((timer, key)) = self.timers.first().copied()
            && timer <= now
        {
            self.timers.remove(&(timer, key));
            let Some(handshake) = self.handshakes.get_mut(key) else {
                continue;
            };
            if handshake.deadline <= now {
                let peer = handshake.peer;
                match handshake.identity() {
                    // With another key than ours a device may just fall silent.
                    Some(identity) => limited!(INFO, self.counters, now, HandshakeTimedOut,
                        %peer, %identity, "handshake timed out"),
                    None => tracing::debug!(%peer, "handshake timed out"),
                }
                self.counters.dtls_handshakes_timed_out.inc();
                self.drop_handshake(now, key);
            } else if let Some(step) = handshake.refuse_silent(&mut self.wire) {
                let peer = handshake.peer;
                self.transmit(peer);
                self.after_step(now, key, step);
            } else if handshake.retransmit(&mut self.wire) {
                let peer = handshake.peer;
                self.transmit(peer);
                self.set_timer(now, key);
            } else {
                let reason = "too many retransmissions".to_owned();
                self.after_step(now, key, Step::Failed(reason));
            }
        }
        // What is beyond has its turn when this is asked again, which is at once.
        for _ in 0..MAX_IDLE {
            match self.first_idle() {
                Some((key, until)) if until <= now => self.handle_idle(now, key),
                _ => break,
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let timer = self.timers.first().map(|(timer, _)| *timer);
        let idle = self.first_idle().map(|(_, until)| until);
        Output::Idle(timer.into_iter().chain(idle).min())
    }

    /// Number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Number of handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// The identity of the session with a device.
    #[cfg(feature = "internals")]
    pub fn identity(&self, peer: impl Into<NetworkPath>) -> Option<&Identity> {
        let key = self.peers.session(&self.sessions, peer.into())?;
        self.sessions.get(key).map(|session| &session.identity)
    }

    /// Address and identity of all sessions.
    #[cfg(feature = "internals")]
    pub fn peers(&self) -> impl Iterator<Item = (NetworkPath, &Identity)> {
        let sessions = self.sessions.iter();
        sessions.map(|session| (session.peer(), &session.identity))
    }

    /// Where the device of a session is, if it is still there.
    pub fn address_of(&self, session: SessionId) -> Option<NetworkPath> {
        self.sessions.get(session.0).map(Session::peer)
    }

    /// Identity of a session, if it is still there.
    pub fn identity_of(&self, session: SessionId) -> Option<&Identity> {
        self.sessions.get(session.0).map(|it| &it.identity)
    }

    /// The cipher suite of a session, and whether its records to us bear a connection id, if it is
    /// still there.
    #[cfg(feature = "http")]
    pub fn protection_of(&self, session: SessionId) -> Option<(CipherSuite, bool)> {
        let session = self.sessions.get(session.0)?;
        Some((session.suite, session.id().is_some()))
    }

    /// Gives a datagram to a session. Returns whether there was anything authentic in it.
    fn handle_session(
        &mut self,
        now: Instant,
        key: Key,
        from: NetworkPath,
        datagram: &[u8],
    ) -> bool {
        if self.sessions.get(key).is_some_and(|it| !it.is_of_openssl()) {
            return self.open_records(now, key, from, datagram);
        }
        let overhead = self
            .sessions
            .get(key)
            .map(|session| record::overhead(session.suite));
        if !overhead.is_some_and(|overhead| is_possible(datagram, overhead))
            || self.warm_up(key).is_none()
        {
            self.counters.dtls_records_dropped.inc();
            return false;
        }
        self.wire.put(datagram);
        let is_single =
            Record::split(datagram).is_some_and(|(_, after_first)| after_first.is_empty());
        let is_authentic = self.read_all(now, key, datagram.len(), is_single);
        if !is_authentic {
            self.counters.dtls_records_dropped.inc();
        }
        is_authentic
    }

    /// Reads the payloads in the datagram on the wire, each of `longest` bytes at most; only one if
    /// it `is_single`. Returns whether there was a payload or the end of the session.
    fn read_all(&mut self, now: Instant, key: Key, longest: usize, is_single: bool) -> bool {
        let mut is_authentic = false;
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        let from = session.peer();
        // A payload on its own leaves in the buffer that it was read into. Of many each is copied:
        // the work is that of their bytes, not of the buffer's for each.
        let buffer = if is_single {
            &mut self.payload
        } else {
            &mut self.scratch
        };
        if buffer.len() < longest {
            buffer.resize(longest, 0);
        }
        let end = loop {
            match session.read(&mut self.wire, buffer) {
                Read::Payload(length) if is_single => {
                    is_authentic = true;
                    let mut payload = std::mem::take(buffer);
                    payload.truncate(length);
                    if payload.capacity() > length.saturating_mul(4).max(1024) {
                        payload.shrink_to_fit();
                    }
                    let session = SessionId(key);
                    self.outputs.push_back(Output::Received {
                        from,
                        session,
                        payload,
                    });
                    break None;
                }
                Read::Payload(length) => {
                    is_authentic = true;
                    let payload = buffer.get(..length).unwrap_or_default().to_vec();
                    let session = SessionId(key);
                    self.outputs.push_back(Output::Received {
                        from,
                        session,
                        payload,
                    });
                }
                Read::Nothing => break None,
                Read::Closed(reason) => break Some(reason),
            }
        };
        self.transmit(from);
        if is_authentic {
            self.note_use(now, key);
        }
        if let Some(reason) = end {
            self.close_session(key, reason);
        }
        is_authentic || end.is_some()
    }

    fn close_session(&mut self, key: Key, reason: CloseReason) {
        // Without memory to say goodbye it has gone already.
        if self.warm_up(key).is_some() {
            self.end_session(key, reason);
        }
    }

    fn end_session(&mut self, key: Key, reason: CloseReason) {
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        self.order.remove(key);
        self.idle.remove(&session.seat, key);
        let peer = session.peer();
        let identity = session.identity.clone();
        if let Some(id) = session.id() {
            self.forget_id(id, key);
        }
        self.peers.remove_session(&self.sessions, peer, key);
        if let Some(reserved) = &mut self.reserved {
            reserved.shrink(self.context.session_bytes(session.is_of_openssl()));
        }
        if reason == CloseReason::Replaced {
            session.forget();
        } else {
            session.close(&mut self.wire);
            self.transmit(peer);
        }
        self.count_sessions();
        tracing::debug!(%peer, %identity, ?reason, "session closed");
        self.outputs.push_back(Output::Closed {
            peer,
            session: SessionId(key),
            identity,
            reason,
        });
    }

    fn handle_idle(&mut self, now: Instant, key: Key) {
        if self.context.options.ask_idle {
            self.order.touch(now, key);
            self.outputs.push_back(Output::Unused(SessionId(key)));
        } else {
            self.close_session(key, CloseReason::Idle);
        }
    }

    /// The session that will be idle for too long first, and when.
    fn first_idle(&self) -> Option<(Key, Instant)> {
        let limit = self.context.options.idle_timeout?;
        self.order.first().map(|(key, used)| (key, used + limit))
    }

    /// Sees that a session has its record buffers. `None`: no such session; without memory for them
    /// it is closed.
    fn warm_up(&mut self, key: Key) -> Option<()> {
        match self.sessions.get_mut(key)?.warm() {
            Ok(false) => Some(()),
            Ok(true) => {
                self.keep_warm(key);
                Some(())
            }
            Err(NoMemory) => {
                self.end_session(key, CloseReason::Failed);
                None
            }
        }
    }

    /// Takes the buffers of another session for a new one with buffers.
    fn keep_warm(&mut self, key: Key) {
        if self.warm.len() >= WARM
            && let Some(oldest) = self.warm.pop_front()
            && let Some(session) = self.sessions.get_mut(oldest)
            && !session.cool()
        {
            self.warm.push_back(oldest);
        }
        self.warm.push_back(key);
    }

    fn transmit(&mut self, to: NetworkPath) {
        while let Some(datagram) = self.wire.take() {
            self.outputs.push_back(Output::Transmit { to, datagram });
        }
    }

    fn count_sessions(&self) {
        let sessions = u64::try_from(self.sessions.len()).unwrap_or(u64::MAX);
        self.counters.dtls_sessions.set(sessions);
    }
}
