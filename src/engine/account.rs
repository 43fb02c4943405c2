//! What the devices of a shard take of the account of memory, and what is refused when it is used
//! up.
//!
//! What a device holds is charged where it comes and given back where it goes; the amounts stand
//! in [`Charged`], so that a device that leaves for another shard takes all of it along.

use std::sync::Arc;

use super::identity::Identity;
use super::peer::Peer;
use crate::memory::{Full, Holder, Kind, Memory, Tally};

/// What a shard holds, by kind.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) memory: Arc<Memory>,
    pub(super) registrations: Tally,
    pub(super) observations: Tally,
    pub(super) queues: Tally,
    pub(super) waiting: Tally,
}

/// What a device is charged with, in bytes: far less than four gigabytes, which is the bound of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charged {
    registration: u32,
    work: u32,
    queue: u32,
}

impl Charged {
    /// Of a device that has nothing but a registration of so many bytes.
    pub(super) fn of_registration(bytes: usize) -> Self {
        Self {
            registration: bounded(bytes),
            ..Self::default()
        }
    }

    /// Of a registration, work and a queue.
    #[cfg(feature = "internals")]
    pub(super) fn of(registration: usize, work: usize, queue: usize) -> Self {
        Self {
            registration: bounded(registration),
            work: bounded(work),
            queue: bounded(queue),
        }
    }

    /// All of it.
    pub(super) const fn sum(self) -> usize {
        self.registration() + self.work() + self.queue()
    }

    pub(super) const fn registration(self) -> usize {
        self.registration as usize
    }

    /// Of observations, exchanges and transfers.
    pub(super) const fn work(self) -> usize {
        self.work as usize
    }

    pub(super) const fn queue(self) -> usize {
        self.queue as usize
    }

    /// Returns what it was, and what it is.
    pub(super) fn set_registration(&mut self, bytes: usize) -> (usize, usize) {
        let before = std::mem::replace(&mut self.registration, bounded(bytes));
        (before as usize, self.registration())
    }

    /// Returns what it was, and what it is.
    pub(super) fn set_work(&mut self, bytes: usize) -> (usize, usize) {
        let before = std::mem::replace(&mut self.work, bounded(bytes));
        (before as usize, self.work())
    }

    /// Returns what it was, and what it is.
    pub(super) fn set_queue(&mut self, bytes: usize) -> (usize, usize) {
        let before = std::mem::replace(&mut self.queue, bounded(bytes));
        (before as usize, self.queue())
    }
}

fn bounded(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Who is behind a registration.
fn holders(memory: &Memory, peer: Peer, identity: Option<&Identity>) -> [Option<Holder>; 2] {
    let credential = identity.map(|identity| memory.credential(identity.public()));
    [Some(memory.source(peer.address.ip())), credential]
}

impl Accounts {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        let tally = |kind| Tally::new(memory.clone(), kind);
        Self {
            memory: memory.clone(),
            registrations: tally(Kind::Registrations),
            observations: tally(Kind::Observations),
            queues: tally(Kind::Queues),
            waiting: tally(Kind::Waiting),
        }
    }

    /// Charges what a device has that comes into this shard.
    pub(super) fn charge(&mut self, charged: Charged, peer: Peer, identity: Option<&Identity>) {
        self.registrations.charge(charged.registration());
        self.observations.charge(charged.work());
        self.queues.charge(charged.queue());
        self.hold(peer, identity, charged.registration());
    }

    /// Takes [`Accounts::charge`] back.
    pub(super) fn release(&mut self, charged: Charged, peer: Peer, identity: Option<&Identity>) {
        self.registrations.release(charged.registration());
        self.observations.release(charged.work());
        self.queues.release(charged.queue());
        self.let_go(peer, identity, charged.registration());
    }

    /// Notes whose registration of `bytes` it is; to be taken back before that changes.
    pub(super) fn hold(&self, peer: Peer, identity: Option<&Identity>, bytes: usize) {
        for holder in holders(&self.memory, peer, identity).into_iter().flatten() {
            self.memory.hold(Kind::Registrations, holder, bytes);
        }
    }

    /// Takes [`Accounts::hold`] back.
    pub(super) fn let_go(&self, peer: Peer, identity: Option<&Identity>, bytes: usize) {
        for holder in holders(&self.memory, peer, identity).into_iter().flatten() {
            self.memory.let_go(Kind::Registrations, holder, bytes);
        }
    }

    /// A registration takes `after` bytes instead of `before`.
    pub(super) fn change_registration(
        &mut self,
        peer: Peer,
        identity: Option<&Identity>,
        before: usize,
        after: usize,
    ) {
        self.registrations.release(before);
        self.registrations.charge(after);
        self.let_go(peer, identity, before);
        self.hold(peer, identity, after);
    }

    /// Whether a registration may grow by `bytes`. There is room for it until the next charge.
    pub(super) fn check_registration(
        &mut self,
        peer: Peer,
        identity: Option<&Identity>,
        bytes: usize,
    ) -> Result<(), Full> {
        let Self {
            memory,
            registrations,
            ..
        } = self;
        if !registrations.fits(bytes) {
            return Err(memory.refuse(Kind::Registrations, bytes, false));
        }
        if memory.is_crowded(Kind::Registrations) {
            for holder in holders(memory, peer, identity).into_iter().flatten() {
                let checked = memory.check_holder(Kind::Registrations, holder, bytes);
                checked.inspect_err(|_| registrations.trim())?;
            }
        }
        Ok(())
    }

    /// Whether a device that has `own` bytes of observations and requests under way may have
    /// `bytes` more.
    pub(super) fn check_work(&mut self, own: usize, bytes: usize) -> Result<(), Full> {
        let Self {
            memory,
            observations,
            ..
        } = self;
        if !observations.fits(bytes) {
            return Err(memory.refuse(Kind::Observations, bytes, false));
        }
        let checked = memory.check_share(Kind::Observations, own, bytes);
        checked.inspect_err(|_| observations.trim())
    }

    /// Whether a device with a queue of `own` bytes may have a command of `bytes` more in it.
    pub(super) fn check_queue(&mut self, own: usize, bytes: usize) -> Result<(), Full> {
        let Self { memory, queues, .. } = self;
        if !queues.fits(bytes) {
            return Err(memory.refuse(Kind::Queues, bytes, false));
        }
        let checked = memory.check_share(Kind::Queues, own, bytes);
        checked.inspect_err(|_| queues.trim())
    }

    /// Whether a request of `peer` that takes `bytes` may wait.
    pub(super) fn check_waiting(&mut self, peer: Peer, bytes: usize) -> Result<(), Full> {
        let Self {
            memory, waiting, ..
        } = self;
        if !waiting.fits(bytes) {
            return Err(memory.refuse(Kind::Waiting, bytes, false));
        }
        if memory.is_crowded(Kind::Waiting) {
            let source = memory.source(peer.address.ip());
            let checked = memory.check_holder(Kind::Waiting, source, bytes);
            checked.inspect_err(|_| waiting.trim())?;
        }
        Ok(())
    }

    /// A request of `peer` waits.
    pub(super) fn charge_waiting(&mut self, peer: Peer, bytes: usize) {
        self.waiting.charge(bytes);
        let memory = &self.memory;
        memory.hold(Kind::Waiting, memory.source(peer.address.ip()), bytes);
    }

    /// Takes [`Accounts::charge_waiting`] back.
    pub(super) fn release_waiting(&mut self, peer: Peer, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.waiting.release(bytes);
        let memory = &self.memory;
        memory.let_go(Kind::Waiting, memory.source(peer.address.ip()), bytes);
    }
}
