//! The Echo option: whoever registers shows first that he receives at his address (RFC 9175 §2.3).

use super::request::Server;
use super::response::Response;
use crate::coap::block::BlockOption;
use crate::coap::message::option;
use crate::coap::{Code, Message};
use crate::config::EchoMode;
use crate::engine::peer::Peer;

impl Server<'_> {
    /// Whether a request has to come with an Echo option first; it has been answered then
    /// (RFC 9175 §2.3).
    pub(super) fn challenge(&mut self, from: Peer, message: &Message) -> bool {
        let mode = self.core.env.config().coap.echo;
        if mode == EchoMode::Off || from.session != 0 {
            return false;
        }
        let mut path = message.option_values(option::URI_PATH);
        let registers =
            path.next() == Some(b"rd") && matches!(message.code(), Code::POST | Code::DELETE);
        // Who sends further blocks has shown itself with the first one.
        let block = message
            .uint_option(option::BLOCK1, 3)
            .and_then(BlockOption::from_uint);
        let begun = block.is_some_and(|block| block.number > 0);
        if !registers || begun || self.has_shown(from, message) {
            return false;
        }
        if mode == EchoMode::NewAddress && self.is_proven(from) {
            return false;
        }
        self.core.env.counters.echo_challenges.inc();
        let echo = self
            .core
            .reach
            .challenges
            .make(self.core.now.mono, from.listener, from.address);
        let response = Response::new(Code::UNAUTHORIZED).option(option::ECHO, echo);
        self.respond(from, message, response);
        // The answer to a repetition is as good when it is made anew.
        self.core.dedup.forget(from, message.mid());
        true
    }

    /// Whether `message` bears an Echo option that was made for its sender.
    pub(super) fn has_shown(&mut self, from: Peer, message: &Message) -> bool {
        if self.core.env.config().coap.echo == EchoMode::Off {
            return false;
        }
        let Some(echo) = message.first_option(option::ECHO) else {
            return false;
        };
        let challenges = &mut self.core.reach.challenges;
        challenges.verify(self.core.now.mono, from.listener, from.address, echo)
    }

    fn is_proven(&self, peer: Peer) -> bool {
        let key = self.core.registry.at(peer);
        let device = key.and_then(|key| self.core.device(key));
        device.is_some_and(|device| device.trust.is_proven())
    }
}
