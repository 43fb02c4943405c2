//! Who may have which registration: the identity of a DTLS session, and the rule of a listener.

use super::core::Core;
use super::device::Device;
use super::identity::{Identity, SecureSession};
use super::peer::{DeviceKey, Peer};
use super::registration::{Query, RegisterError};
use super::settings::ListenerSettings;
use crate::config::{EndpointRule, PlainRegisters};

/// What somebody wants of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// To register the endpoint anew: allowed to every identity of the same key, since a device
    /// may choose its suffix anew.
    Register,
    /// To update or end it: its own identity only.
    Keep,
}

impl Core {
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
                let coverage = &self.env.settings.coverage;
                let owns = |identity: &Identity| coverage.owns(identity.public(), &device.endpoint);
                own.public() == who.public() || owns(who) && !owns(own)
            }
            (Some(_), Some(_)) => false,
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
        let limit = self.env.config().limits.max_identity_registrations;
        if self.env.directory.registrations_of(&identity) >= limit {
            return Err(RegisterError::Full);
        }
        Ok(())
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
        let session = self.sessions.get(from);
        let who = session.map(|session| &*session.identity);
        let known = self.registry.by_endpoint(endpoint);
        match known.and_then(|key| self.device(key)) {
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
        match (listener.endpoint_rule, self.sessions.get(from)) {
            (Some(rule), Some(session)) if self.permits(rule, session, endpoint) => Ok(()),
            (Some(_), _) => Err(RegisterError::EndpointNotPermitted),
            (None, Some(_)) => Ok(()),
            (None, None) => {
                let asked = self.env.settings.has_dtls
                    && listener.plain_registers == PlainRegisters::Uncovered;
                let covered = asked
                    && (self.is_covered(endpoint)
                        || (self.env.authorize || listener.mountpoint.has_other_name())
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
        if session.is_certified && rule == EndpointRule::Owned {
            let coverage = &self.env.settings.coverage;
            return coverage.owns(&credential.identity, endpoint);
        }
        self.env
            .settings
            .coverage
            .permits(rule, credential, identity.presented(), endpoint)
            && (rule != EndpointRule::Owned
                || [identity.presented(), identity.public()].contains(&endpoint.as_bytes())
                || self
                    .env
                    .settings
                    .coverage
                    .owns(&credential.identity, endpoint)
                || !self.env.directory.knows_identity(endpoint.as_bytes()))
    }

    /// Whether a name is for one credential only: those that are known, and identities that a host
    /// knows while they are connected or have registrations.
    fn is_covered(&self, name: &str) -> bool {
        self.env.settings.coverage.covers(name)
            || self.env.directory.knows_identity(name.as_bytes())
    }
}
