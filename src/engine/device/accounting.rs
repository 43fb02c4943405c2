//! What a device takes of memory, and what it is charged with.

use std::sync::Arc;

use super::job::{Exchange, Job, Purpose, Transfer};
use super::observation::TOKEN_TABLES;
use super::queue::{PLACE_BYTES, Queued};
use super::request::RequestParts;
use super::state::Device;
use crate::bridge::Command;
use crate::engine::context::Context;
use crate::engine::identity::Identity;
use crate::engine::registration::Registration;
use crate::memory::{Heap, block};

/// What a device takes in the tables of its shard and of the directory, as full as they usually are:
/// endpoint, location, address and deadline.
const REGISTRATION_TABLES: usize = 200;

/// What an identity takes there.
const IDENTITY_TABLES: usize = 170;

/// What a message id takes there.
const MID_TABLES: usize = 90;

/// What a registration takes, about.
pub(in crate::engine) fn registration_bytes(
    endpoint: &Arc<str>,
    mount: &str,
    registration: &Registration,
    identity: Option<&Identity>,
) -> usize {
    let identity = identity.map_or(0, |identity| IDENTITY_TABLES + identity.heap());
    REGISTRATION_TABLES
        + block(size_of::<Device>())
        + endpoint.heap()
        + block(mount.len())
        + registration.heap()
        + identity
}

impl Exchange {
    /// Bytes it takes; does not change while it is under way.
    pub(in crate::engine) fn bytes(&self) -> usize {
        size_of::<Self>()
            + MID_TABLES
            + TOKEN_TABLES
            + block(self.datagram.len())
            + self.job.bytes()
    }
}

impl Transfer {
    /// Bytes it takes; does not change while it waits.
    pub(in crate::engine) fn bytes(&self) -> usize {
        let inner = match self {
            Self::Notification { body, .. } => body.bytes(),
            Self::Answer(job) => job.bytes(),
        };
        size_of::<Self>() + inner
    }
}

impl Job {
    /// Bytes it takes, bodies in blocks included.
    pub(in crate::engine) fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.bytes());
        let sender = self.sender.as_ref().map_or(0, |sender| block(sender.len()));
        self.fixed + body + sender
    }

    /// Bytes of what stays the same from the first block to the last.
    pub(in crate::engine) fn fixed_bytes(purpose: &Purpose, request: &RequestParts) -> usize {
        let command = match purpose {
            Purpose::Command { command, .. } => command_bytes(command),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => 0,
        };
        block(size_of::<Self>()) + command + request.heap()
    }
}

/// What a command takes that waits or is under way.
pub(in crate::engine) fn command_bytes(command: &Command) -> usize {
    block(size_of::<Command>()) + command.heap()
}

impl Queued {
    /// What a command takes in the queue.
    pub(in crate::engine) fn bytes_of(command: &Command) -> usize {
        size_of::<Self>() + PLACE_BYTES + command_bytes(command)
    }
}

impl Device {
    /// Everything it takes, in bytes.
    pub(in crate::engine) const fn bytes(&self) -> usize {
        self.charged.sum()
    }

    /// What its registration takes, and what is remembered of its resources, in bytes.
    fn registration_bytes(&self) -> usize {
        let identity = self.identity.as_deref();
        registration_bytes(&self.endpoint, &self.mount, &self.registration, identity)
            + self.guesses.borrow().heap()
    }

    /// Charges a device with what is remembered of its resources, if that took `before` bytes and
    /// takes more by now.
    pub(super) fn settle_guesses(&mut self, cx: &mut Context<'_>, before: usize) {
        if self.guesses.get_mut().heap() != before {
            self.settle_registration(cx);
        }
    }

    /// Charges a device with what its registration takes by now.
    pub(in crate::engine) fn settle_registration(&mut self, cx: &mut Context<'_>) {
        let bytes = self.registration_bytes();
        let (before, bytes) = self.charged.set_registration(bytes);
        if bytes != before {
            let identity = self.identity.as_deref();
            let accounts = &mut cx.accounts;
            accounts.change_registration(self.peer, identity, before, bytes);
        }
    }

    /// A device has that much more of observations and requests under way.
    pub(super) fn charge_work(&mut self, cx: &mut Context<'_>, bytes: usize) {
        let (before, after) = self.charged.set_work(self.charged.work() + bytes);
        cx.accounts.observations.charge(after - before);
    }

    /// And that much less.
    pub(super) fn release_work(&mut self, cx: &mut Context<'_>, bytes: usize) {
        let left = self.charged.work().saturating_sub(bytes);
        let (before, after) = self.charged.set_work(left);
        cx.accounts.observations.release(before - after);
    }

    /// Charges a device with what its queue takes by now.
    pub(super) fn settle_queue(&mut self, cx: &mut Context<'_>) {
        let (before, bytes) = self.charged.set_queue(self.queue.bytes());
        let length = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        let length_before = std::mem::replace(&mut self.counted, length) as usize;
        (cx.env.directory).change_queued([length_before, before], [length as usize, bytes]);
        if bytes != before {
            cx.accounts.queues.release(before);
            cx.accounts.queues.charge(bytes);
        }
    }

    /// Everything it is charged with, counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn recount(&self) -> crate::engine::account::Charged {
        let observations = self.observations.iter().map(|it| it.bytes());
        let exchanges = self.exchanges.iter().map(Exchange::bytes);
        let transfers = self.transfers.iter().map(Transfer::bytes);
        let work = observations.chain(exchanges).chain(transfers).sum();
        crate::engine::account::Charged::of(self.registration_bytes(), work, self.queue.recount())
    }
}
