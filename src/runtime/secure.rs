//! A DTLS listener in a shard: between its socket and the engine.

mod kept;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::awaited::AwaitedSessions;
use super::host::{Host, PskRequest};
use super::mail::{Mail, SecureSettings};
use super::mailbox::Mailbox;
use crate::admission::{Bucket, Door, Limit};
use crate::config::{DtlsListener, IdleTimeout};
use crate::credentials::{Credential, Key};
use crate::dtls::{
    BySession, Certificates, Certified, CloseReason, Context, CredentialTicket, DtlsError,
    Identity, Options, Output, Server, SessionId,
};
use crate::engine::{Peer, SecureSession, ShardId};
use crate::memory::Memory;
use crate::network::{LocalAddresses, NetworkPath};
use crate::store::SessionStore;
use crate::tables::numbers::Numbers;
use crate::telemetry::{Counters, limited};
use crate::time::Instant;

/// Cipher suites, limits and timers as OpenSSL's side wants them, for so many shards. The kernel
/// spreads devices evenly over them, so each has its part of the handshakes; sessions are counted
/// together.
pub(super) fn context(
    listener: &DtlsListener,
    shards: usize,
    memory: &Arc<Memory>,
    (certificates, id_key): (Option<&Certificates>, Option<[u8; 16]>),
) -> Result<Context, DtlsError> {
    let options = &listener.options;
    let idle_timeout = match options.idle_timeout {
        IdleTimeout::Registration => Some(options.session_timeout),
        IdleTimeout::After(time) => Some(time),
        IdleTimeout::Never => None,
    };
    let options = Options {
        suites: options.ciphers.clone(),
        groups: options.groups.clone(),
        mtu: u16::try_from(options.mtu).unwrap_or(u16::MAX),
        handshake_timeout: options.handshake_timeout,
        retransmit_timeout: options.retransmit_timeout,
        max_handshakes: options.max_handshakes.div_ceil(shards.max(1)),
        max_failures: options.max_failures,
        max_sessions: listener.common.max_connections,
        max_sessions_per_credential: listener.max_sessions_per_credential,
        max_sessions_per_source: listener.max_sessions_per_source,
        session_cache: if options.reuse_sessions {
            options.session_cache
        } else {
            0
        },
        session_timeout: options.session_timeout,
        idle_timeout,
        ask_idle: options.idle_timeout == IdleTimeout::Registration,
        connection_ids: listener.connection_id_length > 0,
        connection_id_key: id_key,
        padding: listener.connection_id_padding,
        memory: Some(memory.clone()),
    };
    Context::with_certificates(&options, certificates)
}

/// Those of a second.
const MICROS: u64 = 1_000_000;

/// An event for the engine.
#[derive(Debug)]
pub(super) enum Event {
    /// To be sent as it is.
    Transmit(NetworkPath, Vec<u8>),
    /// A CoAP message.
    Received(Peer, Vec<u8>),
    Established(Peer, SecureSession),
    Closed(Peer),
    /// Who is there has another credential with the same key.
    Renewed(Peer, Arc<Credential>),
    /// A device has another address.
    Moved(Peer, NetworkPath),
    /// A datagram for a session of another shard.
    Elsewhere(ShardId, NetworkPath, Vec<u8>),
    /// A session was not used for long; see [`Secure::close_unused`].
    Unused(Peer),
    /// Sessions of other shards should give way; see [`Secure::give_way`].
    Crowded,
    /// Nothing more until then.
    Idle(Option<Instant>),
}

struct Session {
    number: u32,
    /// In which second its handshake was done, counted from 1 on; `None` for one that the store brought back.
    since: Option<NonZeroU32>,
    /// What it is called where it is kept; 0: it is not.
    name: u64,
    /// Datagrams it may send.
    sent: Bucket,
    credential: Arc<Credential>,
    rare: Option<Box<Rare>>,
}

/// What few sessions have.
#[derive(Default)]
struct Rare {
    /// Where its device was at the handshake, if it has moved since: to the engine it goes by that.
    home: Option<NetworkPath>,
    /// What it was let in by, if it was no key.
    certified: Option<Arc<Certified>>,
}

impl Session {
    /// What the device, which is at an address now, goes by to the engine.
    fn peer(&self, listener: u16, at: NetworkPath) -> Peer {
        let home = self.rare.as_ref().and_then(|rare| rare.home);
        peer(listener, home.unwrap_or(at), self.number)
    }

    fn certified(&self) -> Option<&Arc<Certified>> {
        self.rare.as_ref()?.certified.as_ref()
    }
}

/// See the module.
pub(super) struct Secure {
    listener: u16,
    settings: Arc<SecureSettings>,
    server: Server,
    sessions: BySession<Session>,
    /// Their places by the numbers that are names to the engine.
    numbered: Numbers,
    /// Credentials the engine has to hear of.
    renewed: Vec<(Peer, Arc<Credential>)>,
    /// Numbers sessions across the shards.
    numbers: Arc<AtomicU32>,
    host: Arc<dyn Host>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    keeping: Option<Keeping>,
    shard: ShardId,
    /// Names of the sessions that are being taken in, in this order.
    restoring: VecDeque<u64>,
    /// Those whose turn has not come.
    awaited: AwaitedSessions,
}

/// Where sessions are kept, and what the addresses of this machine are called.
#[derive(Clone)]
pub(super) struct Keeping {
    pub(super) store: Arc<SessionStore>,
    pub(super) locals: Arc<LocalAddresses>,
}

impl Secure {
    pub(super) fn new(
        listener: u16,
        settings: Arc<SecureSettings>,
        (shard, shards): (ShardId, u16),
        seed: [u8; 32],
        numbers: Arc<AtomicU32>,
        (host, mailbox, counters): (Arc<dyn Host>, Arc<Mailbox>, Arc<Counters>),
        keeping: Option<Keeping>,
    ) -> Self {
        let mut server = Server::new(settings.context.clone(), seed, counters.clone());
        server.set_shard(shard, shards);
        if keeping.is_some() {
            server.begin_keeping();
        }
        Self {
            listener,
            server,
            settings,
            sessions: BySession::default(),
            numbered: Numbers::default(),
            renewed: Vec::new(),
            numbers,
            host,
            mailbox,
            counters,
            keeping,
            shard,
            restoring: VecDeque::new(),
            awaited: AwaitedSessions::default(),
        }
    }

    fn numbered(&self, number: u32) -> Option<SessionId> {
        let session = |place| {
            let session = self.sessions.at(place);
            session.filter(|(_, session)| session.number == number)
        };
        let place = (self.numbered).find(hash(number), |place| session(place).is_some())?;
        session(place).map(|(id, _)| id)
    }

    /// How many handshakes are let in from now on.
    pub(super) fn set_door(&mut self, door: Arc<Door>) {
        self.server.set_door(door);
    }

    /// Whether a datagram is within what its session may send; `None` when there is no session. Counts
    /// it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        from: NetworkPath,
        datagram: &[u8],
        limit: Option<Limit>,
    ) -> Option<bool> {
        self.recall(now, from, datagram);
        let session = self.server.session_of(from, datagram)?;
        let session = self.sessions.get_mut(session)?;
        Some(limit.is_none_or(|limit| session.sent.take(now, limit, 1)))
    }

    pub(super) fn settings(&self) -> Arc<SecureSettings> {
        self.settings.clone()
    }

    /// New credentials; cipher suites and limits stay.
    pub(super) fn set_credentials(&mut self, now: Instant, settings: Arc<SecureSettings>) {
        self.settings = settings;
        self.check_credentials(now);
    }

    /// Credentials have changed: ends what keys allow that are not valid any more, and looks up the
    /// others again. Handshakes begin anew, and none can resume a session: that would not look at
    /// keys.
    pub(super) fn check_credentials(&mut self, now: Instant) {
        self.server.abandon_handshakes();
        self.settings.context.flush_sessions();
        let mut revoked = Vec::new();
        let mut reassigned = Vec::new();
        for (id, session) in self.sessions.iter_mut() {
            let at = self.server.address_of(id);
            let (Some(identity), Some(at)) = (self.server.identity_of(id), at) else {
                continue;
            };
            let peer = session.peer(self.listener, at);
            if let Some(certified) = session.certified() {
                if !self.settings.context.trusts(certified) {
                    revoked.push((id, peer.path()));
                    continue;
                }
                let found = certified_credential(&self.settings, identity);
                if found != session.credential {
                    session.credential = found.clone();
                    self.renewed.push((peer, found));
                }
                continue;
            }
            // The host's keys are not looked up again: they are empty here.
            if session.credential.key.as_bytes().is_empty() {
                continue;
            }
            match self.settings.credentials.find(identity.as_bytes()) {
                Some(found) if found.key == session.credential.key => {
                    if found != session.credential {
                        session.credential = found.clone();
                        reassigned.push((id, found.clone()));
                        self.renewed.push((peer, found));
                    }
                }
                _ => revoked.push((id, peer.path())),
            }
        }
        for (id, credential) in reassigned {
            self.server.set_credential(id, &credential.identity);
        }
        for (id, peer) in revoked {
            limited!(INFO, self.counters, now, KeyWithdrawn,
                %peer, "connection closed: its key or certificate is no longer valid");
            self.server.close_one(now, id);
        }
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, from: NetworkPath, datagram: &[u8]) {
        self.recall(now, from, datagram);
        self.server.handle_datagram(now, from, datagram);
    }

    /// Sends a CoAP message; false when the session is not there any more.
    pub(super) fn send(&mut self, now: Instant, to: Peer, payload: &[u8]) -> bool {
        let session = self.numbered(to.session);
        session.is_some_and(|session| self.server.send_to(now, session, payload).is_ok())
    }

    /// Ends a session, if it is still the one meant.
    pub(super) fn disconnect(&mut self, now: Instant, peer: Peer) {
        if let Some(session) = self.numbered(peer.session) {
            self.server.close_one(now, session);
        }
    }

    /// Nobody is registered over a session that was not used for long.
    pub(super) fn close_unused(&mut self, peer: Peer) {
        if let Some(session) = self.numbered(peer.session) {
            self.server.close_unused(session);
        }
    }

    /// Another shard has too many sessions of this listener.
    pub(super) fn give_way(&mut self) {
        self.server.give_way();
    }

    pub(super) fn close_all(&mut self, now: Instant) {
        for (name, _) in self.take_awaited() {
            if let Some(keeping) = &self.keeping {
                keeping.store.forget(name);
            }
        }
        self.server.close_all(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.server.handle_timeout(now);
    }

    /// The host's answer to a look-up for a handshake.
    pub(super) fn handle_key(&mut self, now: Instant, ticket: CredentialTicket, key: Option<Key>) {
        self.server.handle_credential(now, ticket, key);
    }

    /// The host's answer to a look-up for a session that was resumed.
    pub(super) fn handle_confirmation(&mut self, now: Instant, peer: Peer, known: bool) {
        if !known {
            self.disconnect(now, peer);
        }
    }

    /// The next thing to do; [`Event::Idle`] when there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Event {
        if let Some((peer, credential)) = self.renewed.pop() {
            return Event::Renewed(peer, credential);
        }
        loop {
            match self.server.poll_output() {
                Output::Transmit { to, datagram } => return Event::Transmit(to, datagram),
                Output::Received {
                    from,
                    session,
                    payload,
                } => {
                    if let Some(session) = self.sessions.get(session) {
                        return Event::Received(session.peer(self.listener, from), payload);
                    }
                }
                Output::Moved { session, from, to } => {
                    if let Some(session) = self.sessions.get_mut(session) {
                        let rare = session.rare.get_or_insert_default();
                        rare.home.get_or_insert(from);
                        return Event::Moved(session.peer(self.listener, from), to);
                    }
                }
                Output::Keep {
                    session,
                    is_awaited,
                } => {
                    let named = self.sessions.get(session).is_some_and(|it| it.name != 0);
                    if named {
                        self.keep(session, is_awaited);
                    } else {
                        // Nothing of it has to be on the disk.
                        self.server.note_kept(session, u64::MAX);
                    }
                }
                Output::Unused(id) => {
                    let at = self.server.address_of(id);
                    if let (Some(session), Some(at)) = (self.sessions.get(id), at) {
                        return Event::Unused(session.peer(self.listener, at));
                    }
                }
                Output::Elsewhere {
                    shard,
                    from,
                    datagram,
                } => return Event::Elsewhere(shard, from, datagram),
                Output::CredentialWanted {
                    ticket,
                    peer,
                    identity,
                } => self.look_up(now, ticket, peer, &identity),
                Output::Established {
                    peer,
                    session,
                    identity,
                    resumed,
                    key,
                    certified,
                    ..
                } => {
                    let at = (session, peer);
                    return match certified {
                        Some(certified) => self.certified(now, at, &identity, certified),
                        None => self.established(now, at, &identity, resumed, key),
                    };
                }
                Output::Closed {
                    peer,
                    session,
                    identity,
                    reason,
                } => {
                    match reason {
                        CloseReason::Failed | CloseReason::Evicted => {
                            limited!(INFO, self.counters, now, ConnectionEnded,
                                %peer, %identity, ?reason, "connection ended");
                        }
                        _ => debug!(%peer, %identity, ?reason, "connection ended"),
                    }
                    let place = BySession::<Session>::index(session);
                    if let Some(session) = self.sessions.remove(session) {
                        let hash_of = |place| hash_of(&self.sessions, place);
                        (self.numbered).remove(hash(session.number), place, hash_of);
                        if let Some(keeping) = &self.keeping
                            && session.name != 0
                        {
                            keeping.store.forget(session.name);
                        }
                        return Event::Closed(session.peer(self.listener, peer));
                    }
                }
                Output::Crowded => return Event::Crowded,
                Output::Idle(deadline) => return Event::Idle(deadline),
            }
        }
    }

    fn established(
        &mut self,
        now: Instant,
        (id, address): (SessionId, NetworkPath),
        identity: &Identity,
        resumed: bool,
        key: Option<Key>,
    ) -> Event {
        // Zero means "no session".
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).max(1);
        let peer = peer(self.listener, address, number);
        let (name, since) = self.name(now);
        let known = self.settings.credentials.find(identity.as_bytes());
        if known.is_none() && resumed {
            let (listener, mailbox) = (self.listener, self.mailbox.clone());
            self.ask_host(address, identity, move |key| {
                let known = key.is_some();
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::Confirmation(listener, peer, known));
            });
        }
        let credential = known.unwrap_or_else(|| {
            Arc::new(Credential {
                identity: identity.as_bytes().into(),
                key: Key::new(Vec::new()),
                endpoints: Vec::new(),
            })
        });
        self.server.set_credential(id, &credential.identity);
        if known_key_changed(&credential, key.as_ref()) {
            limited!(INFO, self.counters, now, KeyWithdrawn,
                peer = %address, "connection closed: its key is no longer valid");
            self.server.close_one(now, id);
        }
        let session = SecureSession::of(identity.shared(), credential.clone());
        let entry = Session {
            number,
            since,
            name,
            sent: Bucket::FULL,
            credential,
            rare: None,
        };
        self.enter(id, peer, entry, session)
    }

    /// A session is there, by a handshake or out of the store.
    fn enter(
        &mut self,
        id: SessionId,
        peer: Peer,
        entry: Session,
        session: SecureSession,
    ) -> Event {
        let session = if entry.since.is_none() {
            session.restored()
        } else {
            session
        };
        let (number, place) = (entry.number, BySession::<Session>::index(id));
        self.sessions.insert(id, entry);
        let hash_of = |place| hash_of(&self.sessions, place);
        self.numbered.insert(hash(number), place, hash_of);
        Event::Established(peer, session)
    }

    /// A device has shown a certificate: nobody is asked about its identity, which has no suffix.
    fn certified(
        &mut self,
        now: Instant,
        (id, address): (SessionId, NetworkPath),
        identity: &Identity,
        certified: Arc<Certified>,
    ) -> Event {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).max(1);
        let credential = certified_credential(&self.settings, identity);
        let session = SecureSession::of(identity.shared(), credential.clone()).certified();
        let (name, since) = self.name(now);
        let rare = Rare {
            home: None,
            certified: Some(certified),
        };
        let entry = Session {
            number,
            since,
            name,
            sent: Bucket::FULL,
            credential,
            rare: Some(Box::new(rare)),
        };
        let peer = peer(self.listener, address, number);
        self.enter(id, peer, entry, session)
    }

    /// What a new session is called where it is kept, and when its handshake was done, if not before a
    /// restart.
    fn name(&mut self, now: Instant) -> (u64, Option<NonZeroU32>) {
        let second = u32::try_from(now.as_micros() / MICROS).unwrap_or(u32::MAX);
        let since = Some(NonZeroU32::MIN.saturating_add(second));
        match (self.restoring.pop_front(), &self.keeping) {
            (Some(restored), _) => (restored, None),
            (None, Some(keeping)) => (keeping.store.name(), since),
            (None, None) => (0, since),
        }
    }

    fn look_up(
        &mut self,
        now: Instant,
        ticket: CredentialTicket,
        peer: NetworkPath,
        identity: &Identity,
    ) {
        let known = self.settings.credentials.find(identity.as_bytes());
        // Those that only list endpoints of certificates have no key.
        let known = known.filter(|credential| !credential.key.as_bytes().is_empty());
        if known.is_some() || !self.host.provides_psk() {
            let key = known.map(|credential| credential.key.clone());
            if key.is_none() {
                limited!(INFO, self.counters, now, UnknownIdentity,
                    %peer, %identity, "unknown identity");
            }
            return self.server.handle_credential(now, ticket, key);
        }
        let (listener, mailbox) = (self.listener, self.mailbox.clone());
        self.ask_host(peer, identity, move |key| {
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Key(listener, ticket, key));
        });
    }

    fn ask_host(
        &self,
        peer: NetworkPath,
        identity: &Identity,
        answer: impl FnOnce(Option<Key>) + Send + 'static,
    ) {
        self.host.psk_lookup(PskRequest {
            listener: self.settings.name.clone(),
            peer: peer.remote,
            identity: identity.as_bytes().into(),
            answer: Some(Box::new(answer)),
        });
    }

    /// What protects a session, for the HTTP API.
    #[cfg(feature = "http")]
    pub(super) fn detail(&self, now: Instant, peer: Peer) -> Option<crate::http::SessionDetail> {
        let id = self.numbered(peer.session)?;
        let session = self.sessions.get(id)?;
        let (suite, connection_id) = self.server.protection_of(id)?;
        let identity = self.server.identity_of(id)?;
        Some(crate::http::SessionDetail {
            suite: suite.iana_name().to_owned(),
            identity: String::from_utf8_lossy(identity.as_bytes()).into_owned(),
            certificate: session.certified().is_some(),
            connection_id,
            age: session.since.map(|since| {
                let second = u64::from(since.get().saturating_sub(1));
                now.saturating_since(Instant::from_micros(second.saturating_mul(MICROS)))
            }),
        })
    }
}

/// Numbers follow each other: nobody outside chooses them.
const fn hash(number: u32) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_of(sessions: &BySession<Session>, place: u32) -> u64 {
    let session = sessions.at(place);
    session.map_or(0, |(_, session)| hash(session.number))
}

const fn peer(listener: u16, path: NetworkPath, session: u32) -> Peer {
    Peer {
        listener,
        local: path.local,
        address: path.remote,
        session,
    }
}

/// What is known of the identity of a certificate.
fn certified_credential(settings: &SecureSettings, identity: &Identity) -> Arc<Credential> {
    let known = settings.credentials.find_exactly(identity.as_bytes());
    known.unwrap_or_else(|| {
        Arc::new(Credential {
            identity: identity.as_bytes().into(),
            key: Key::new(Vec::new()),
            endpoints: Vec::new(),
        })
    })
}

/// Whether a device was let in with another key than its credential has by now. The host's keys are
/// empty here.
fn known_key_changed(credential: &Credential, used: Option<&Key>) -> bool {
    !credential.key.as_bytes().is_empty() && used.is_some_and(|used| *used != credential.key)
}

/// Shows after a restart whether a credential has still the same key: nothing of the key can be had of
/// it, unless the key can be guessed. Zeros stand for keys of the host.
fn mark(credential: &Credential) -> [u8; 8] {
    if credential.key.as_bytes().is_empty() {
        return [0; 8];
    }
    let hash = Sha256::new()
        .chain_update(&credential.identity)
        .chain_update([0])
        .chain_update(credential.key.as_bytes())
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a million.
    #[test]
    fn what_is_kept_of_a_session_is_small() {
        assert_eq!(BySession::<Session>::PLACE, 48);
    }
}
