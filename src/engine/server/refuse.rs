//! Why a device is not registered: its answer, and what the operator hears of it.

use std::str;

use tracing::debug;

use super::request::Server;
use super::response::Response;
use crate::coap::message::option;
use crate::coap::{Code, Message};
use crate::engine::peer::Peer;
use crate::engine::registration::RegisterError;
use crate::telemetry::limited;

/// The least Max-Age of a refusal, in seconds.
const RETRY_AFTER: u32 = 60;

impl Server<'_> {
    pub(in crate::engine) fn refuse_register(
        &mut self,
        from: Peer,
        message: &Message,
        error: &RegisterError,
    ) {
        self.core.env.counters.register_refused.inc();
        if error.is_size() {
            self.core.env.counters.register_too_large.inc();
        }
        match error {
            // Somebody tries what is not theirs: worth an operator's attention.
            RegisterError::EndpointNotPermitted
            | RegisterError::OtherIdentity
            | RegisterError::Covered
            | RegisterError::MountTaken(_) => {
                self.core.env.counters.identity_refused.inc();
                let identity = self.core.identity_of(from);
                let identity = identity.map_or_else(String::new, |identity| identity.text());
                let endpoint = message
                    .option_values(option::URI_QUERY)
                    .find_map(|item| str::from_utf8(item).ok()?.strip_prefix("ep="));
                limited!(WARN, self.core.env.counters, self.core.now.mono, IdentityRefused,
                    peer = %from.address, identity, endpoint, %error, "registration refused");
            }
            _ => debug!(peer = %from.address, %error, "registration refused"),
        }
        let code = error.code(&self.core.env.config().compat);
        let response = Response::error(code, &error.to_string());
        let response = match error {
            // RFC 7959 §2.9.3
            RegisterError::ObjectListTooLong(limit) => {
                response.uint(option::SIZE1, u32::try_from(*limit).unwrap_or(u32::MAX))
            }
            _ if code == Code::SERVICE_UNAVAILABLE => {
                response.uint(option::MAX_AGE, self.retry_after())
            }
            _ => response,
        };
        self.respond(from, message, response);
    }

    pub(in crate::engine) fn refuse_identity(&mut self, from: Peer, message: &Message) {
        self.core.env.counters.identity_refused.inc();
        limited!(INFO, self.core.env.counters, self.core.now.mono, IdentityRefused,
            peer = %from.address, "refused: the registration belongs to another identity");
        let response = Response::error(Code::FORBIDDEN, "registered by another identity");
        self.respond(from, message, response);
    }

    /// Max-Age of a refusal in seconds (RFC 7252 §5.9.3.4): when to try again. Not the same for
    /// all, who would come back together.
    pub(super) fn retry_after(&mut self) -> u32 {
        RETRY_AFTER + self.core.random() % RETRY_AFTER
    }
}
