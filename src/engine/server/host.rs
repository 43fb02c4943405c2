//! Registers that wait for the host's word.

use std::time::Duration;

use super::authorization::Waiting;
use super::request::{Request, Server, Stage};
use super::waiting::waiting_bytes;
use crate::coap::Message;
use crate::engine::effects::Output;
use crate::engine::info::{AuthorizationId, Decision, RegistrationRequest};
use crate::engine::peer::Peer;
use crate::engine::registration::RegisterError;
use crate::telemetry::limited;

/// How long the host may think. Longer than a client waits with the default transmission
/// parameters of RFC 7252 §4.8 before its second repetition, shorter than before its last.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Server<'_> {
    /// Keeps a Register until the host has spoken.
    pub(super) fn ask_host(
        &mut self,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
        register: RegistrationRequest,
    ) -> Result<(), RegisterError> {
        if !self.requests.authorizations.has_room(from) {
            limited!(WARN, self.core.env.counters, self.core.now.mono, HostSilent,
                peer = %from.address, waiting = self.requests.authorizations.len(),
                "registration refused: too many devices wait for authorization by the host");
            return Err(RegisterError::Unavailable);
        }
        // Here and at the host.
        let bytes = waiting_bytes(request.datagram, body) + register.bytes();
        self.core.accounts.check_waiting(from, bytes)?;
        self.core.accounts.charge_waiting(from, bytes);
        let deadline = self.core.now.mono + TIMEOUT;
        let id = self.requests.authorizations.insert(Waiting {
            peer: from,
            datagram: request.datagram.to_vec(),
            body: body.to_vec(),
            deadline,
            bytes,
        });
        self.requests
            .pending
            .insert(from, request.message.mid(), deadline);
        self.core.effects.push(Output::Authorize {
            id,
            request: register,
        });
        Ok(())
    }

    /// The host's word on [`Output::Authorize`]. One that comes too late changes nothing.
    pub(in crate::engine) fn handle_authorization(
        &mut self,
        id: AuthorizationId,
        decision: Decision,
    ) {
        let Some(waiting) = self.requests.authorizations.remove(id) else {
            return;
        };
        self.core
            .accounts
            .release_waiting(waiting.peer, waiting.bytes);
        let Ok(message) = Message::parse(&waiting.datagram) else {
            return;
        };
        let from = waiting.peer;
        self.core.reach.begin(from, waiting.datagram.len());
        let result = match decision {
            Decision::Allow { mountpoint } => {
                if let Some(pending) = self.requests.pending.get_mut(from, message.mid()) {
                    pending.mountpoint = mountpoint;
                }
                let request = Request {
                    message: &message,
                    datagram: &waiting.datagram,
                    stage: Stage::Authorized,
                };
                self.register(from, &request, &waiting.body)
            }
            Decision::Deny { reason } => Err(RegisterError::Denied(reason)),
            Decision::Unavailable => Err(RegisterError::Unavailable),
        };
        if let Err(error) = result {
            self.refuse_register(from, &message, &error);
        }
        self.core.reach.end();
    }

    /// Answers Registers that have waited too long, `most` at most; the rest is due
    /// at once again. Whether none is left.
    pub(in crate::engine) fn expire_authorizations(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(id) = self.requests.authorizations.due(self.core.now.mono) else {
                return true;
            };
            limited!(
                WARN,
                self.core.env.counters,
                self.core.now.mono,
                HostSilent,
                "the host did not answer in time whether a device may register"
            );
            self.handle_authorization(id, Decision::Unavailable);
        }
        self.requests
            .authorizations
            .due(self.core.now.mono)
            .is_none()
    }
}
