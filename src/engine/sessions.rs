//! DTLS sessions as the engine sees them: who is at the other end, and what that permits.
//!
//! An identity is one namespace for the whole gateway and has one live connection. Its
//! registrations are where its newest connection is, in whatever shard that is.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tracing::debug;

use super::arrivals::Successor;
use super::device::{Device, DeviceKey};
use super::info::GoneReason;
use super::query::Query;
use super::reach::Trust;
use super::registration::RegisterError;
use super::{Engine, Handoff, ListenerSettings, Output, Peer, Response, ShardId};
use crate::coap::{Code, Message};
use crate::config::{EndpointRule, PlainRegisters};
use crate::credentials::Credential;
use crate::telemetry::limited;
use crate::time::Now;

/// Who is at the other end of a DTLS session. Two are equal when the presented identities are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// As sent in the handshake, suffix included.
    pub presented: Arc<[u8]>,
    /// As configured.
    pub public: Box<[u8]>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.presented == other.presented
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.presented.hash(state);
    }
}

impl Identity {
    /// For people; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.presented).into_owned()
    }
}

/// A DTLS session that is established.
#[derive(Debug, Clone)]
pub struct SecureSession {
    /// Who.
    pub identity: Arc<Identity>,
    /// By which key.
    pub credential: Arc<Credential>,
}

impl SecureSession {
    /// A session of `presented`, proved by `credential`.
    pub fn new(presented: &[u8], credential: Arc<Credential>) -> Self {
        let identity = Identity {
            presented: presented.into(),
            public: credential.identity.clone(),
        };
        Self {
            identity: Arc::new(identity),
            credential,
        }
    }
}

/// The registrations of one identity in a shard.
#[derive(Debug, Default)]
pub(super) struct Identified {
    pub(super) keys: BTreeSet<DeviceKey>,
    /// Those that were moved to the newest connection. Some may have spoken there meanwhile.
    unconfirmed: BTreeSet<DeviceKey>,
}

/// What somebody wants of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// To register the endpoint anew: allowed to every identity of the same key, since a device
    /// may choose its suffix anew.
    Register,
    /// To update or end it: its own identity only.
    Keep,
}

impl Engine {
    /// Whether `who` has a right to `device`, besides the rule of its listener. A device without
    /// identity belongs to everybody. Who registers an endpoint that its credential covers takes it
    /// from one whose credential does not.
    pub(super) fn may_claim(&self, device: &Device, who: Option<&Identity>, claim: Claim) -> bool {
        let registers = claim == Claim::Register;
        match (&device.identity, who) {
            (None, None) => true,
            (None, Some(_)) => registers,
            (Some(_), None) => false,
            (Some(own), Some(who)) if **own == *who => true,
            (Some(own), Some(who)) if registers => {
                let coverage = &self.settings.coverage;
                let owns = |identity: &Identity| coverage.owns(&identity.public, &device.endpoint);
                own.public == who.public || owns(who) && !owns(own)
            }
            (Some(_), Some(_)) => false,
        }
    }

    /// A DTLS session was established: an older connection of the identity ends, its
    /// registrations come here or end (`takeover`).
    pub fn handle_session(&mut self, now: Now, peer: Peer, session: SecureSession) {
        let identity = session.identity.clone();
        self.sessions.insert(peer, session);
        match self.directory.connect(&identity, self.shard, peer) {
            Some((shard, old)) if shard == self.shard => {
                if self.arrivals.contains(old) {
                    self.arrivals.expect(now, peer);
                }
                self.displace(now, identity, old, peer, shard);
            }
            Some((shard, old)) => {
                self.arrivals.expect(now, peer);
                let handoff = Handoff::Displace {
                    identity,
                    old,
                    new: peer,
                    to: self.shard,
                };
                self.outputs.push_back(Output::Handoff { shard, handoff });
            }
            None => {}
        }
    }

    /// Who speaks from `peer` has another credential now, with other endpoints for instance.
    pub fn renew_credential(&mut self, peer: Peer, credential: Arc<Credential>) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            *session = SecureSession::new(&session.identity.presented, credential);
        }
    }

    /// A DTLS session ended. Its registrations stay for a newer one.
    pub fn handle_session_closed(&mut self, peer: Peer) {
        let freed = self.arrivals.forget_messages(peer);
        self.accounts.waiting.release(freed);
        if let Some(session) = self.sessions.remove(&peer) {
            self.directory.disconnect(&session.identity, peer);
        }
    }

    /// Who speaks from `peer`; `None` without DTLS.
    pub(super) fn identity_of(&self, peer: Peer) -> Option<Arc<Identity>> {
        let session = self.sessions.get(&peer)?;
        Some(session.identity.clone())
    }

    /// A registration belongs to somebody else now.
    pub(super) fn set_identity(&mut self, key: DeviceKey, identity: Option<Arc<Identity>>) {
        let Some(device) = self.device(key) else {
            return;
        };
        if device.identity == identity {
            return;
        }
        self.let_go_registration(device);
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let old = std::mem::replace(&mut device.identity, identity.clone());
        if let Some(device) = self.device(key) {
            self.hold_registration(device);
        }
        self.settle_registration(key);
        self.forget_identified(old.as_deref(), key);
        if let Some(old) = old {
            self.directory.unregistered(&old);
        }
        if let Some(identity) = identity {
            self.directory.registered(&identity);
            self.identify(identity, key, false);
        }
    }

    pub(super) fn forget_identified(&mut self, identity: Option<&Identity>, key: DeviceKey) {
        let Some(identity) = identity else {
            return;
        };
        if let Some(known) = self.identified.get_mut(identity) {
            known.keys.remove(&key);
            known.unconfirmed.remove(&key);
            if known.keys.is_empty() {
                self.identified.remove(identity);
            }
        }
    }

    /// Notes that a device belongs to an identity.
    pub(super) fn identify(&mut self, identity: Arc<Identity>, key: DeviceKey, unconfirmed: bool) {
        let known = self.identified.entry(identity).or_default();
        known.keys.insert(key);
        if unconfirmed {
            known.unconfirmed.insert(key);
        }
    }

    /// Whether the identity of `from` may have one more registration; one that it has already, in
    /// this shard, is no further one.
    pub(super) fn check_share(
        &self,
        from: Peer,
        known: Option<DeviceKey>,
    ) -> Result<(), RegisterError> {
        let Some(identity) = self.identity_of(from) else {
            return Ok(());
        };
        let known = known.and_then(|key| self.device(key));
        if known.is_some_and(|device| device.identity.as_ref() == Some(&identity)) {
            return Ok(());
        }
        let limit = self.settings.config.limits.max_identity_registrations;
        if self.directory.registrations_of(&identity) >= limit {
            return Err(RegisterError::Full);
        }
        Ok(())
    }

    pub(super) fn refuse_identity(&mut self, now: Now, from: Peer, message: &Message) {
        self.counters.identity_refused.inc();
        limited!(INFO, self.counters, now.mono, IdentityRefused,
            peer = %from.address, "refused: the registration belongs to another identity");
        let response = Response::error(Code::FORBIDDEN, "registered by another identity");
        self.respond(from, message, response);
    }

    /// Whether `from` may register `endpoint`.
    pub(super) fn check_identity(
        &self,
        from: Peer,
        endpoint: &str,
        query: &Query,
        listener: &ListenerSettings,
    ) -> Result<(), RegisterError> {
        self.check_rule(from, endpoint, query, listener)?;
        let session = self.sessions.get(&from);
        let who = session.map(|session| &*session.identity);
        let known = self.endpoints.get(endpoint);
        match known.and_then(|key| self.device(*key)) {
            Some(device) if !self.may_claim(device, who, Claim::Register) => {
                Err(RegisterError::OtherIdentity)
            }
            _ => Ok(()),
        }
    }

    /// Whether the rule of its listener lets `from` have `endpoint`, and without DTLS the other
    /// names that it gives itself, where its mountpoint or a host that is asked looks at them.
    pub(super) fn check_rule(
        &self,
        from: Peer,
        endpoint: &str,
        query: &Query,
        listener: &ListenerSettings,
    ) -> Result<(), RegisterError> {
        match (listener.endpoint_rule, self.sessions.get(&from)) {
            (Some(rule), Some(session)) if self.permits(rule, session, endpoint) => Ok(()),
            (Some(_), _) => Err(RegisterError::EndpointNotPermitted),
            (None, Some(_)) => Ok(()),
            (None, None) => {
                let asked =
                    self.settings.has_dtls && listener.plain_registers == PlainRegisters::Uncovered;
                let covered = asked
                    && (self.is_covered(endpoint)
                        || (self.authorize || listener.mountpoint.has_other_name())
                            && [query.get("device_id"), query.get("imei")]
                                .into_iter()
                                .flatten()
                                .any(|name| self.is_covered(name)));
                if covered {
                    Err(RegisterError::Covered)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn permits(&self, rule: EndpointRule, session: &SecureSession, endpoint: &str) -> bool {
        let (identity, credential) = (&session.identity, &session.credential);
        self.settings
            .coverage
            .permits(rule, credential, &identity.presented, endpoint)
            && (rule != EndpointRule::Owned
                || [&*identity.presented, &*identity.public].contains(&endpoint.as_bytes())
                || self.settings.coverage.owns(&credential.identity, endpoint)
                || !self.directory.knows_identity(endpoint.as_bytes()))
    }

    /// Whether a name is for one credential only: those that are known, and identities that a host
    /// knows while they are connected or have registrations.
    fn is_covered(&self, name: &str) -> bool {
        self.settings.coverage.covers(name) || self.directory.knows_identity(name.as_bytes())
    }

    /// The connection `old` ends because its identity has `new` in shard `to`.
    pub(super) fn displace(
        &mut self,
        now: Now,
        identity: Arc<Identity>,
        old: Peer,
        new: Peer,
        to: ShardId,
    ) {
        if self.sessions.remove(&old).is_some() {
            limited!(INFO, self.counters, now.mono, ConnectionDisplaced,
                peer = %old.address, by = %new.address, "connection displaced");
            self.counters.sessions_displaced.inc();
            self.outputs.push_back(Output::Disconnect(old));
        }
        let successor = Successor {
            identity,
            peer: new,
            shard: to,
        };
        self.hand_over(now, old, successor);
    }

    /// A device is at its newer connection now; the handshake was a sign of life.
    pub(super) fn follow(&mut self, now: Now, key: DeviceKey, new: Peer) {
        self.move_peer(key, new);
        self.counters.address_changed.inc();
        let Some(device) = self.device_mut(key) else {
            return;
        };
        device.last_seen = now.mono;
        device.unconfirmed = true;
        let endpoint = &device.endpoint;
        debug!(%endpoint, peer = %new.address, "registration follows its identity");
        if let Some(identity) = device.identity.clone() {
            self.identify(identity, key, true);
        }
        self.schedule(key);
    }

    /// A connection has registered `speaker`. What was moved to it and it has not spoken for
    /// belongs to another device with the same identity, which has no connection any more: its
    /// commands must not go to this one.
    pub(super) fn end_unconfirmed(&mut self, now: Now, speaker: DeviceKey) {
        let Some(device) = self.device_mut(speaker) else {
            return;
        };
        device.unconfirmed = false;
        let Some(identity) = device.identity.clone() else {
            return;
        };
        let known = self.identified.get_mut(&identity);
        let moved = known.map(|known| std::mem::take(&mut known.unconfirmed));
        for key in moved.unwrap_or_default() {
            if let Some(device) = self.device(key).filter(|device| device.unconfirmed) {
                let endpoint = &device.endpoint;
                limited!(INFO, self.counters, now.mono, RegistrationDisplaced,
                    %endpoint,
                    "registration ended: its identity has registered another endpoint");
                self.remove(key, GoneReason::Displaced);
            }
        }
    }

    /// Gives a device to the shard of its newer connection.
    pub(super) fn send_after(&mut self, now: Now, key: DeviceKey, new: Peer, to: ShardId) {
        let Some(mut device) = self.detach(key) else {
            return;
        };
        if device.peer.listener != new.listener {
            self.directory
                .change_listener(device.peer.listener, new.listener);
        }
        let endpoint = &device.endpoint;
        debug!(%endpoint, peer = %new.address, "registration follows its identity");
        device.peer = new;
        device.trust = Trust::Proven;
        device.last_seen = now.mono;
        device.unconfirmed = true;
        self.depart(now, &device, to);
        let handoff = Handoff::Adopt(device);
        self.outputs
            .push_back(Output::Handoff { shard: to, handoff });
    }

    /// Takes in a device whose identity connected here, or had connected here and is elsewhere by
    /// now.
    pub(super) fn adopt_identified(&mut self, now: Now, device: Box<Device>) {
        let newest = device
            .identity
            .as_ref()
            .and_then(|identity| self.directory.connection(identity));
        let peer = device.peer;
        let endpoint = device.endpoint.clone();
        self.adopt(device);
        self.counters.address_changed.inc();
        let Some(key) = self.endpoints.get(&endpoint).copied() else {
            return;
        };
        match newest {
            Some((shard, new)) if shard != self.shard => self.send_after(now, key, new, shard),
            Some((_, new)) if new != peer => self.follow(now, key, new),
            _ => {}
        }
    }
}
