//! The part of the server that deals with handshakes: from the first hello to the session.

use crate::network::NetworkPath;
use std::time::Duration;

use super::super::cookie::COOKIE;
use super::super::failures::Report;
use super::super::handshake::{Completed, Handshake, Step};
use super::super::hello::{self, ClientHello};
use super::super::identity::Identity;
use super::super::record::{HANDSHAKE_FAILURE, Record, fatal_alert};
use super::super::session::{Protection, Session};
use super::super::shares::Seat;
use super::super::sources::source;
use super::super::table::Key;
use super::super::{CloseReason, CredentialTicket, Output, SessionId};
use super::Server;
use crate::config::CipherSuite;
use crate::memory::Reservation;
use crate::telemetry::limited;
use crate::time::Instant;

/// Number of the hello with the cookie: the second message of the client (RFC 6347 §4.2.2). OpenSSL
/// can begin with no other.
const COOKIE_HELLO_SEQUENCE: u16 = 1;

/// Times the first retransmission timeout that a handshake has its place for sure, unless its source
/// has more of them than others: our flight was sent three times until then.
const PATIENCE: u32 = 3;

impl Server {
    /// A datagram that begins with a ClientHello: the cookie exchange, without state until the peer
    /// has shown that it receives at its address.
    pub(super) fn handle_hello(
        &mut self,
        now: Instant,
        from: NetworkPath,
        datagram: &[u8],
        record: &Record<'_>,
    ) {
        let hello = match hello::parse(record) {
            Some(hello) if datagram.len() >= hello::verify_request_len(COOKIE) => hello,
            _ => {
                self.counters.dtls_malformed.inc();
                return;
            }
        };
        if !self.cookies.verify(now, from.remote, &hello) {
            if hello.cookie.is_empty() {
                self.counters.dtls_hellos.inc();
            } else {
                self.counters.dtls_bad_cookies.inc();
            }
            let cookie = self.cookies.make(now, from.remote, &hello);
            self.outputs.push_back(Output::Transmit {
                to: from,
                datagram: hello::verify_request(record, &hello, &cookie),
            });
            return;
        }
        if hello.message_sequence != COOKIE_HELLO_SEQUENCE {
            // After a bad cookie the client is one message further than OpenSSL can begin with.
            // It shall begin anew instead of trying on.
            self.outputs.push_back(Output::Transmit {
                to: from,
                datagram: fatal_alert(record.sequence, HANDSHAKE_FAILURE),
            });
            return;
        }
        if let Some(key) = self.peers.handshake(from)
            && let Some(handshake) = self.handshakes.get(key)
        {
            if handshake.is_from(hello.random) {
                self.handle_handshake(now, key, datagram);
                return;
            }
            tracing::debug!(peer = %from, "handshake started again");
            self.counters.dtls_handshakes_failed.inc();
            self.drop_handshake(now, key);
        }
        let session = self.peers.session(&self.sessions, from);
        if let Some(session) = session.and_then(|key| self.sessions.get(key))
            && session.is_from(hello.random)
        {
            self.counters.dtls_records_dropped.inc();
            return;
        }
        self.begin_handshake(now, from, datagram, record, &hello);
    }

    fn begin_handshake(
        &mut self,
        now: Instant,
        from: NetworkPath,
        datagram: &[u8],
        record: &Record<'_>,
        hello: &ClientHello<'_>,
    ) {
        if !self.context.failures.lock().admits(now, from.ip()) {
            self.counters.dtls_handshakes_slowed.inc();
            return;
        }
        let door = self.door.as_ref();
        if door.is_some_and(|door| door.admit(now, from.ip()).is_err()) {
            self.counters.dtls_handshakes_limited.inc();
            return;
        }
        let Some(reserved) = self.place(now, from) else {
            self.counters.dtls_handshakes_refused.inc();
            return;
        };
        let id = self.new_id();
        let wire = &mut self.wire;
        let mut handshake =
            match Handshake::new(&self.context, now, from, *hello.random, record, id, wire) {
                Ok(Some(handshake)) => handshake,
                Ok(None) => {
                    self.counters.dtls_malformed.inc();
                    return;
                }
                Err(error) => {
                    limited!(WARN, self.counters, now, HandshakeMemory,
                    %error, "no memory for a handshake");
                    self.counters.dtls_handshakes_refused.inc();
                    return;
                }
            };
        handshake.reserved = reserved;
        self.counters.dtls_handshakes_started.inc();
        let (timer, deadline) = (handshake.timer, handshake.deadline);
        let key = self.handshakes.insert(Box::new(handshake));
        self.sources.add(from.ip(), deadline, key);
        self.timers.insert((timer, key));
        self.peers.set_handshake(from, key);
        if let Some(handshake) = self.handshakes.get_mut(key) {
            let step = handshake.start(&mut self.wire);
            self.after_step(now, key, step);
        }
        let rest = datagram.get(record.bytes.len()..).unwrap_or_default();
        if !rest.is_empty() {
            self.handle_handshake(now, key, rest);
        }
    }

    /// The place of one more handshake, and its bytes; another one may be given up for it. `None`
    /// when there is none.
    fn place(&mut self, now: Instant, from: NetworkPath) -> Option<Option<Reservation>> {
        if self.handshakes.len() < self.context.options.max_handshakes
            && let Ok(reserved) = self.context.reserve_handshake()
        {
            return Some(reserved);
        }
        if !self.give_up_another(now, from) {
            return None;
        }
        self.context.reserve_handshake().ok()
    }

    fn give_up_another(&mut self, now: Instant, from: NetworkPath) -> bool {
        let options = &self.context.options;
        let patience = options.retransmit_timeout.saturating_mul(PATIENCE);
        let late = now + options.handshake_timeout.saturating_sub(patience);
        let Some(key) = self.sources.dispensable(from.ip(), late) else {
            return false;
        };
        if let Some(handshake) = self.handshakes.get(key) {
            tracing::debug!(peer = %handshake.peer, by = %from, "handshake ended to make room for another");
        }
        self.counters.dtls_handshakes_evicted.inc();
        self.drop_handshake(now, key);
        true
    }

    pub(super) fn handle_handshake(&mut self, now: Instant, key: Key, datagram: &[u8]) {
        if let Some(handshake) = self.handshakes.get_mut(key) {
            let step = handshake.handle(datagram, &mut self.wire);
            self.after_step(now, key, step);
        }
    }

    pub(super) fn after_step(&mut self, now: Instant, key: Key, step: Step) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        let peer = handshake.peer;
        let dropped = handshake.take_dropped();
        if dropped > 0 {
            self.counters.dtls_records_dropped.add(dropped);
        }
        self.transmit(peer);
        match step {
            Step::Dropped => {}
            Step::Pending => self.set_timer(now, key),
            Step::Ask(identity) => {
                self.set_timer(now, key);
                let ticket = CredentialTicket(key);
                if identity.is_usable() {
                    self.outputs.push_back(Output::CredentialWanted {
                        ticket,
                        peer,
                        identity,
                    });
                } else {
                    self.handle_credential(now, ticket, None);
                }
            }
            Step::Complete => self.establish(now, key),
            Step::Refused => {
                if let Some(identity) = self.handshakes.get(key).and_then(|it| it.identity()) {
                    // Somebody who knows an identity, or a device with another key than ours.
                    let reason = "the key is wrong or the identity is unknown";
                    limited!(INFO, self.counters, now, HandshakeFailed,
                        %peer, %identity, reason, "handshake failed");
                }
                self.counters.dtls_handshakes_failed.inc();
                self.drop_handshake(now, key);
            }
            Step::Rejected(reason) => {
                limited!(INFO, self.counters, now, HandshakeFailed,
                    %peer, reason, "handshake with certificates failed");
                self.counters.dtls_handshakes_failed.inc();
                self.drop_handshake(now, key);
            }
            Step::Failed(reason) => {
                match self.handshakes.get(key).and_then(|it| it.identity()) {
                    Some(identity) => limited!(INFO, self.counters, now, HandshakeFailed,
                        %peer, %identity, reason, "handshake failed"),
                    None => tracing::debug!(%peer, reason, "handshake failed"),
                }
                self.counters.dtls_handshakes_failed.inc();
                self.drop_handshake(now, key);
            }
        }
    }

    /// A handshake is complete.
    fn establish(&mut self, now: Instant, key: Key) {
        let Some(handshake) = self.take_handshake(key) else {
            return;
        };
        let peer = handshake.peer;
        let Some(completed) = handshake.complete() else {
            self.counters.dtls_handshakes_failed.inc();
            return;
        };
        let Completed {
            protection,
            identity,
            resumed,
            suite,
            key: used,
            certified,
            early,
        } = completed;
        self.context.failures.lock().succeeded(peer.ip());
        self.counters.dtls_handshakes_completed.inc();
        if resumed {
            self.counters.dtls_handshakes_resumed.inc();
        }
        tracing::debug!(%peer, %identity, resumed, suite = suite.openssl_name(), "session established");
        if let Some(key) = self.peers.session(&self.sessions, peer)
            && let Some(session) = self.sessions.get(key)
            // One with an id may have moved, and this is another device at its old address.
            && (session.id().is_none() || session.identity == identity)
        {
            self.close_session(key, CloseReason::Replaced);
        }
        let is_warm = matches!(protection, Protection::OpenSsl(_));
        let key = self.take_in(now, peer, identity.clone(), suite, protection);
        self.peers.set_session(&self.sessions, peer, key);
        self.is_crowded = true;
        if is_warm {
            self.keep_warm(key);
        }
        self.outputs.push_back(Output::Established {
            peer,
            session: SessionId(key),
            identity,
            resumed,
            suite,
            key: used,
            certified,
        });
        self.keep_if_due(key);
        for record in early {
            self.handle_session(now, key, peer, &record);
        }
    }

    /// A session that was not there before. At its address it is found when that is said.
    pub(super) fn take_in(
        &mut self,
        now: Instant,
        peer: NetworkPath,
        identity: Identity,
        suite: CipherSuite,
        protection: Protection,
    ) -> Key {
        let seat = Seat::new(&self.context.shares, identity.clone(), source(peer.ip()));
        let session = Session::new(peer, identity, suite, protection, seat, now);
        if let Some(reserved) = &mut self.reserved {
            reserved.grow(self.context.session_bytes(session.is_of_openssl()));
        }
        let id = session.id();
        let key = self.sessions.insert(session);
        if let Some(id) = id {
            self.note_id(id, key);
        }
        self.idle.touch(&self.sessions, key);
        self.order.touch(now, key);
        self.count_sessions();
        key
    }

    /// A handshake has failed for want of a key.
    fn note_failure(&self, now: Instant, peer: NetworkPath) {
        self.counters.dtls_keys_failed.inc();
        let report = self.context.failures.lock().failed(now, peer.ip());
        if let Some(Report { failed, slowed }) = report {
            limited!(INFO, self.counters, now, SourceSlowed,
                source = %source(peer.ip()), failed, slowed,
                "repeated handshakes with wrong keys or unknown identities: slowing this address down");
        }
    }

    pub(super) fn take_handshake(&mut self, key: Key) -> Option<Box<Handshake>> {
        let handshake = self.handshakes.remove(key)?;
        self.timers.remove(&(handshake.timer, key));
        let address = handshake.peer.ip();
        self.sources.remove(address, handshake.deadline, key);
        self.peers.remove_handshake(handshake.peer);
        Some(handshake)
    }

    /// Gives a handshake up.
    pub(super) fn drop_handshake(&mut self, now: Instant, key: Key) {
        if let Some(handshake) = self.take_handshake(key)
            && handshake.lacks_key()
        {
            self.note_failure(now, handshake.peer);
        }
    }

    pub(super) fn set_timer(&mut self, now: Instant, key: Key) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        let retransmission = handshake.retransmission();
        let timer = retransmission.map_or(handshake.deadline, |left| {
            // OpenSSL's clock is another one; do not come back to it at once.
            let at = now + left.max(Duration::from_millis(1));
            at.min(handshake.deadline)
        });
        if timer != handshake.timer {
            self.timers.remove(&(handshake.timer, key));
            handshake.timer = timer;
        }
        self.timers.insert((timer, key));
    }
}
