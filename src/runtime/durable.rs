//! What hosts ask of the store, and of gateways that are not there.

use super::gateway::Gateway;
use crate::bridge::RouteKey;
use crate::engine::{self, Change, CommandInput, Settings};
use crate::mqtt::{Message, Publish};
use crate::store::{Log, Receipt};

/// Bytes of [`Gateway::note`] at most.
pub const MAX_NOTE: usize = 64 << 10;

type Refusal = fn(&Settings, &CommandInput) -> Option<Publish>;

impl Gateway {
    /// As [`Gateway::deliver`]; `receipt` tells when each command that comes of it is in the store or
    /// has its answer.
    pub fn deliver_durably(&self, message: Message, receipt: Receipt) {
        self.deliver_all(message, Some(receipt));
    }

    /// As [`Gateway::deliver_to`]; `receipt` as for [`Gateway::deliver_durably`].
    pub fn deliver_to_durably(
        &self,
        endpoint: &str,
        mountpoint: &str,
        message: Message,
        receipt: Receipt,
    ) {
        self.deliver_to_one(endpoint, mountpoint, message, Some(receipt));
    }

    /// Keeps `note` with a device in the store: the host gets it back with the event about the device
    /// when that is restored ([`DeviceInfo::note`](crate::DeviceInfo::note)). It ends with the registration. False when there
    /// is no store or no such device, and when the note has more than [`MAX_NOTE`] bytes.
    pub fn note(&self, endpoint: &str, note: &[u8]) -> bool {
        let inner = &self.inner;
        let shard = inner.directory.shard_of(endpoint);
        let (Some(store), Some(shard)) = (&inner.store, shard) else {
            return false;
        };
        let fits = note.len() <= MAX_NOTE;
        if fits {
            let (endpoint, note) = (endpoint.into(), note.into());
            let note = Change::Note { endpoint, note };
            store.push(shard, &Log::from_iter([note]));
        }
        fits
    }

    /// Answers a command that the broker has given to nobody: 4.04 `not_registered` for a device that is
    /// not here either, 5.03 `not_subscribed` for one that is. That one came back from the store a moment
    /// ago, or may not subscribe. Nothing for a topic that says no endpoint.
    pub fn refuse_absent(&self, message: &Message) {
        let directory = &self.inner.directory;
        self.refuse(message, |endpoint| match directory.shard_of(endpoint) {
            Some(_) => engine::unsubscribed_answer,
            None => engine::absent_answer,
        });
    }

    /// Answers a command for a device of another gateway that does not answer: 5.03 `node_unreachable`.
    /// Whether it is carried out nobody knows. Nothing for a topic that says no endpoint.
    pub fn refuse_unreachable(&self, message: &Message) {
        self.refuse(message, |_| engine::unreachable_answer);
    }

    fn refuse(&self, message: &Message, why: impl Fn(&str) -> Refusal) {
        let inner = &self.inner;
        let mut answers = Vec::new();
        let routes = inner.routes.read();
        let reply = inner.reply_of(&routes, message.reply.clone());
        for route in routes.router.routes(&message.topic) {
            let RouteKey::Endpoint(name) = route.key else {
                continue;
            };
            let input = CommandInput {
                order: 0,
                endpoint: (&*name).into(),
                mount: route.mount.into(),
                dialect: route.dialect,
                payload: message.payload.clone(),
                expiry: None,
                origin: None,
                reply: reply.clone(),
            };
            let Some(answer) = why(&input.endpoint)(&routes.settings, &input) else {
                continue;
            };
            inner.own_counters.commands_refused.add_shared(1);
            answers.extend(reply.as_ref().map(|reply| reply.copy_of(&answer)));
            answers.push(answer);
        }
        drop(routes);
        if !answers.is_empty() {
            inner.host.publish(&mut answers);
        }
    }
}
