//! Registers that wait for the host's word.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::info::{Decision, RegistrationRequest};
use super::registration::RegisterError;
use super::requests::{Request, Stage};
use super::{Engine, Output, Peer, PendingRequest};
use crate::coap::Message;
use crate::time::{Instant, Now};

/// How long the host may think. Longer than a client waits with the default transmission
/// parameters of RFC 7252 §4.8 before its second repetition, shorter than before its last.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Registers that wait at most; more are answered 5.03.
const MAX_WAITING: usize = 65_536;

/// Names a waiting Register within its shard.
pub type AuthorizationId = u64;

#[derive(Debug)]
struct Waiting {
    peer: Peer,
    datagram: Vec<u8>,
    body: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Authorizations {
    next: AuthorizationId,
    waiting: HashMap<AuthorizationId, Waiting>,
    /// In order of time; answered ones leave a stale element behind.
    order: VecDeque<(Instant, AuthorizationId)>,
}

impl Authorizations {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Elements held, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

impl Engine {
    /// Keeps a Register until the host has spoken.
    pub(super) fn ask_host(
        &mut self,
        now: Now,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
        register: RegistrationRequest,
    ) -> Result<(), RegisterError> {
        let waiting = &mut self.authorizations;
        if waiting.waiting.len() >= MAX_WAITING {
            return Err(RegisterError::Unavailable);
        }
        let id = waiting.next;
        waiting.next += 1;
        let deadline = now.mono + TIMEOUT;
        waiting.order.push_back((deadline, id));
        waiting.waiting.insert(
            id,
            Waiting {
                peer: from,
                datagram: request.datagram.to_vec(),
                body: body.to_vec(),
            },
        );
        let pending = PendingRequest {
            acknowledged: false,
            deadline,
            mountpoint: None,
        };
        self.pending
            .entry((from, request.message.mid()))
            .or_insert(pending);
        self.outputs.push_back(Output::Authorize {
            id,
            request: register,
        });
        Ok(())
    }

    /// The host's word on [`Output::Authorize`]. One that comes too late changes nothing.
    pub fn handle_authorization(&mut self, now: Now, id: AuthorizationId, decision: Decision) {
        let Some(waiting) = self.authorizations.waiting.remove(&id) else {
            return;
        };
        let Ok(message) = Message::parse(&waiting.datagram) else {
            return;
        };
        let from = waiting.peer;
        let result = match decision {
            Decision::Allow { mountpoint } => {
                if let Some(pending) = self.pending.get_mut(&(from, message.mid())) {
                    pending.mountpoint = mountpoint;
                }
                let request = Request {
                    message: &message,
                    datagram: &waiting.datagram,
                    stage: Stage::Authorized,
                };
                self.register(now, from, &request, &waiting.body)
            }
            Decision::Deny { reason } => Err(RegisterError::Denied(reason)),
            Decision::Unavailable => Err(RegisterError::Unavailable),
        };
        if let Err(error) = result {
            self.refuse_register(from, &message, &error);
        }
    }

    pub(super) fn expire_authorizations(&mut self, now: Now) {
        while let Some((_, id)) = self
            .authorizations
            .order
            .pop_front_if(|(at, _)| *at <= now.mono)
        {
            self.handle_authorization(now, id, Decision::Unavailable);
        }
    }
}
