//! A DTLS listener in a shard: between its socket and the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::debug;

use super::host::{Host, PskRequest};
use super::mail::{Mail, SecureSettings};
use super::mailbox::Mailbox;
use crate::admission::{Bucket, Door, Limit};
use crate::config::DtlsListener;
use crate::credentials::{Credential, Key};
use crate::dtls::{
    CloseReason, Context, CredentialTicket, DtlsError, Identity, Options, Output, Server,
};
use crate::engine::{Peer, SecureSession};
use crate::memory::Memory;
use crate::network::NetworkPath;
use crate::telemetry::{Counters, limited};
use crate::time::Instant;

/// Cipher suites, limits and timers as OpenSSL's side wants them, for so many shards. The kernel
/// spreads devices evenly over them, so each has its part of the handshakes; sessions are counted
/// together.
pub(super) fn context(
    listener: &DtlsListener,
    shards: usize,
    memory: &Arc<Memory>,
) -> Result<Context, DtlsError> {
    let options = &listener.options;
    Context::new(&Options {
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
        idle_timeout: options.idle_timeout,
        memory: Some(memory.clone()),
    })
}

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
    /// Sessions of other shards should give way; see [`Secure::give_way`].
    Crowded,
    /// Nothing more until then.
    Idle(Option<Instant>),
}

struct Session {
    number: u32,
    /// Datagrams it may send.
    sent: Bucket,
    credential: Arc<Credential>,
}

/// See the module.
pub(super) struct Secure {
    listener: u16,
    settings: Arc<SecureSettings>,
    server: Server,
    sessions: HashMap<NetworkPath, Session>,
    /// Credentials the engine has to hear of.
    renewed: Vec<(Peer, Arc<Credential>)>,
    /// Numbers sessions across the shards.
    numbers: Arc<AtomicU32>,
    host: Arc<dyn Host>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
}

impl Secure {
    pub(super) fn new(
        listener: u16,
        settings: Arc<SecureSettings>,
        seed: [u8; 32],
        numbers: Arc<AtomicU32>,
        (host, mailbox, counters): (Arc<dyn Host>, Arc<Mailbox>, Arc<Counters>),
    ) -> Self {
        Self {
            listener,
            server: Server::new(settings.context.clone(), seed, counters.clone()),
            settings,
            sessions: HashMap::new(),
            renewed: Vec::new(),
            numbers,
            host,
            mailbox,
            counters,
        }
    }

    /// How many handshakes are let in from now on.
    pub(super) fn set_door(&mut self, door: Arc<Door>) {
        self.server.set_door(door);
    }

    /// Whether a datagram from `from` is within what its session may send; `None` when there is no
    /// session. Counts it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        from: NetworkPath,
        limit: Option<Limit>,
    ) -> Option<bool> {
        let session = self.sessions.get_mut(&from)?;
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
        for (address, identity) in self.server.peers() {
            let Some(session) = self.sessions.get_mut(&address) else {
                continue;
            };
            // The host's keys are not looked up again: they are empty here.
            if session.credential.key.as_bytes().is_empty() {
                continue;
            }
            match self.settings.credentials.find(identity.as_bytes()) {
                Some(found) if found.key == session.credential.key => {
                    if found != session.credential {
                        session.credential = found.clone();
                        reassigned.push((address, found.clone()));
                        let peer = peer(self.listener, address, session.number);
                        self.renewed.push((peer, found));
                    }
                }
                _ => revoked.push(address),
            }
        }
        for (address, credential) in reassigned {
            self.server.set_credential(address, &credential.identity);
        }
        for peer in revoked {
            limited!(INFO, self.counters, now, KeyWithdrawn,
                %peer, "connection closed: its key is not valid any more");
            self.server.close(now, peer);
        }
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, from: NetworkPath, datagram: &[u8]) {
        self.server.handle_datagram(now, from, datagram);
    }

    /// Sends a CoAP message; false when the session is not there any more.
    pub(super) fn send(&mut self, now: Instant, to: Peer, payload: &[u8]) -> bool {
        self.is_current(to) && self.server.send(now, to.path(), payload).is_ok()
    }

    /// Ends a session, if it is still the one meant.
    pub(super) fn disconnect(&mut self, now: Instant, peer: Peer) {
        if self.is_current(peer) {
            self.server.close(now, peer.path());
        }
    }

    /// Another shard has too many sessions of this listener.
    pub(super) fn give_way(&mut self) {
        self.server.give_way();
    }

    pub(super) fn close_all(&mut self, now: Instant) {
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
                Output::Received { from, payload } => {
                    if let Some(session) = self.sessions.get(&from) {
                        return Event::Received(self.peer(from, session.number), payload);
                    }
                }
                Output::CredentialWanted {
                    ticket,
                    peer,
                    identity,
                } => self.look_up(now, ticket, peer, &identity),
                Output::Established {
                    peer,
                    identity,
                    resumed,
                    key,
                    ..
                } => {
                    return self.established(now, peer, &identity, resumed, key);
                }
                Output::Closed {
                    peer,
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
                    if let Some(session) = self.sessions.remove(&peer) {
                        return Event::Closed(self.peer(peer, session.number));
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
        address: NetworkPath,
        identity: &Identity,
        resumed: bool,
        key: Option<Key>,
    ) -> Event {
        // Zero means "no session".
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).max(1);
        let peer = self.peer(address, number);
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
        self.server.set_credential(address, &credential.identity);
        if known_key_changed(&credential, key.as_ref()) {
            limited!(INFO, self.counters, now, KeyWithdrawn,
                peer = %address, "connection closed: its key is not valid any more");
            self.server.close(now, address);
        }
        let session = SecureSession::new(identity.as_bytes(), credential.clone());
        let sent = Bucket::FULL;
        let entry = Session {
            number,
            sent,
            credential,
        };
        self.sessions.insert(address, entry);
        Event::Established(peer, session)
    }

    fn look_up(
        &mut self,
        now: Instant,
        ticket: CredentialTicket,
        peer: NetworkPath,
        identity: &Identity,
    ) {
        let known = self.settings.credentials.find(identity.as_bytes());
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

    fn is_current(&self, peer: Peer) -> bool {
        self.sessions
            .get(&peer.path())
            .is_some_and(|session| session.number == peer.session)
    }

    const fn peer(&self, path: NetworkPath, session: u32) -> Peer {
        peer(self.listener, path, session)
    }
}

const fn peer(listener: u16, path: NetworkPath, session: u32) -> Peer {
    Peer {
        listener,
        local: path.local,
        address: path.remote,
        session,
    }
}

/// Whether a device was let in with another key than its credential has by now. The host's keys are
/// empty here.
fn known_key_changed(credential: &Credential, used: Option<&Key>) -> bool {
    !credential.key.as_bytes().is_empty() && used.is_some_and(|used| *used != credential.key)
}
