//! What the devices of a shard take of the account of memory, and what is refused when it is used
//! up.
//!
//! What a device holds is charged where it comes and given back where it goes; the amounts stand
//! in [`Charged`], so that a device that leaves for another shard takes all of it along.

use std::sync::Arc;

use super::device::{Device, DeviceKey, Exchange, Job, Observation, Purpose, Transfer};
use super::queue::{PLACE_BYTES, Queued};
use super::registration::Registration;
use super::request::RequestParts;
use super::sessions::Identity;
use super::{Engine, Peer};
use crate::bridge::Command;
use crate::memory::{Full, Heap, Holder, Kind, Memory, Tally, block};

/// What a device takes in the tables of its shard and of the directory, about two thirds full:
/// endpoint, location, address and deadline.
const REGISTRATION_TABLES: usize = 300;

/// What an identity takes there.
const IDENTITY_TABLES: usize = 150;

/// What a token takes there.
const TOKEN_TABLES: usize = 60;

/// What a message id takes there.
const MID_TABLES: usize = 90;

/// What a shard holds, by kind.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) memory: Arc<Memory>,
    pub(super) registrations: Tally,
    pub(super) observations: Tally,
    pub(super) queues: Tally,
    pub(super) waiting: Tally,
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
}

/// What a device is charged with, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charged {
    pub(super) registration: usize,
    /// Observations, exchanges and transfers.
    pub(super) work: usize,
    pub(super) queue: usize,
}

/// What a registration takes, about.
pub(super) fn registration_bytes(
    endpoint: &Arc<str>,
    mount: &str,
    registration: &Registration,
    identity: Option<&Identity>,
) -> usize {
    let identity = identity.map_or(0, |identity| {
        IDENTITY_TABLES + block(identity.presented.len()) + block(identity.public.len())
    });
    REGISTRATION_TABLES
        + block(size_of::<Device>())
        + endpoint.heap()
        + block(mount.len())
        + registration.heap()
        + identity
}

impl Observation {
    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        TOKEN_TABLES + size_of::<Self>() + self.target.heap() + self.echo.heap()
    }
}

impl Exchange {
    /// Bytes it takes; does not change while it is under way.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + MID_TABLES
            + TOKEN_TABLES
            + block(self.datagram.len())
            + self.job.bytes()
    }
}

impl Transfer {
    /// Bytes it takes; does not change while it waits.
    pub(super) fn bytes(&self) -> usize {
        let inner = match self {
            Self::Notification { body, .. } => body.bytes(),
            Self::Answer(job) => job.bytes(),
        };
        size_of::<Self>() + inner
    }
}

impl Job {
    /// Bytes it takes, bodies in blocks included.
    pub(super) fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.bytes());
        let sender = self.sender.as_ref().map_or(0, |sender| block(sender.len()));
        self.fixed + body + sender
    }

    /// Bytes of what stays the same from the first block to the last.
    pub(super) fn fixed_bytes(purpose: &Purpose, request: &RequestParts) -> usize {
        let command = match purpose {
            Purpose::Command { command, .. } => command_bytes(command),
            Purpose::Refresh { .. } | Purpose::Notification { .. } => 0,
        };
        block(size_of::<Self>()) + command + request.heap()
    }
}

/// What a command takes that waits or is under way.
pub(super) fn command_bytes(command: &Command) -> usize {
    block(size_of::<Command>()) + command.heap()
}

impl Queued {
    /// What a command takes in the queue.
    pub(super) fn bytes_of(command: &Command) -> usize {
        size_of::<Self>() + PLACE_BYTES + command_bytes(command)
    }
}

/// Who is behind a registration.
fn holders(memory: &Memory, peer: Peer, identity: Option<&Identity>) -> [Option<Holder>; 2] {
    let credential = identity.map(|identity| memory.credential(&identity.public));
    [Some(memory.source(peer.address.ip())), credential]
}

impl Engine {
    /// Whether a registration may grow by `bytes`. There is room for it until the next charge.
    pub(super) fn check_registration(
        &mut self,
        peer: Peer,
        identity: Option<&Identity>,
        bytes: usize,
    ) -> Result<(), Full> {
        let Accounts {
            memory,
            registrations,
            ..
        } = &mut self.accounts;
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

    /// Charges a device with what its registration takes by now.
    pub(super) fn settle_registration(&mut self, key: DeviceKey) {
        let Some(device) = self.devices.get_mut(key as usize).and_then(Option::as_mut) else {
            return;
        };
        let bytes = device.registration_bytes();
        let before = std::mem::replace(&mut device.charged.registration, bytes);
        if bytes == before {
            return;
        }
        let Accounts {
            memory,
            registrations,
            ..
        } = &mut self.accounts;
        registrations.release(before);
        registrations.charge(bytes);
        let identity = device.identity.as_deref();
        for holder in holders(memory, device.peer, identity).into_iter().flatten() {
            memory.let_go(Kind::Registrations, holder, before);
            memory.hold(Kind::Registrations, holder, bytes);
        }
    }

    /// Charges a device that comes into this shard with all it has.
    pub(super) fn charge_device(&mut self, device: &Device) {
        let Charged {
            registration,
            work,
            queue,
        } = device.charged;
        self.accounts.registrations.charge(registration);
        self.accounts.observations.charge(work);
        self.accounts.queues.charge(queue);
        self.hold_registration(device);
    }

    /// Takes [`Engine::charge_device`] back.
    pub(super) fn release_device(&mut self, device: &Device) {
        let Charged {
            registration,
            work,
            queue,
        } = device.charged;
        self.accounts.registrations.release(registration);
        self.accounts.observations.release(work);
        self.accounts.queues.release(queue);
        self.let_go_registration(device);
    }

    /// Notes whose registration it is; to be taken back before its address or identity changes.
    pub(super) fn hold_registration(&self, device: &Device) {
        let memory = &self.accounts.memory;
        let holders = holders(memory, device.peer, device.identity.as_deref());
        for holder in holders.into_iter().flatten() {
            memory.hold(Kind::Registrations, holder, device.charged.registration);
        }
    }

    /// Takes [`Engine::hold_registration`] back.
    pub(super) fn let_go_registration(&self, device: &Device) {
        let memory = &self.accounts.memory;
        let holders = holders(memory, device.peer, device.identity.as_deref());
        for holder in holders.into_iter().flatten() {
            memory.let_go(Kind::Registrations, holder, device.charged.registration);
        }
    }

    /// Whether a device may have `bytes` more of observations and requests under way.
    pub(super) fn check_work(&mut self, key: DeviceKey, bytes: usize) -> Result<(), Full> {
        let own = self.device(key).map_or(0, |device| device.charged.work);
        let Accounts {
            memory,
            observations,
            ..
        } = &mut self.accounts;
        if !observations.fits(bytes) {
            return Err(memory.refuse(Kind::Observations, bytes, false));
        }
        let checked = memory.check_share(Kind::Observations, own, bytes);
        checked.inspect_err(|_| observations.trim())
    }

    /// A device has that much more of them.
    pub(super) fn charge_work(&mut self, key: DeviceKey, bytes: usize) {
        if let Some(device) = self.devices.get_mut(key as usize).and_then(Option::as_mut) {
            device.charged.work += bytes;
            self.accounts.observations.charge(bytes);
        }
    }

    /// And that much less.
    pub(super) fn release_work(&mut self, key: DeviceKey, bytes: usize) {
        if let Some(device) = self.devices.get_mut(key as usize).and_then(Option::as_mut) {
            device.charged.work = device.charged.work.saturating_sub(bytes);
            self.accounts.observations.release(bytes);
        }
    }

    /// Whether a device may have a command of `bytes` more in its queue.
    pub(super) fn check_queue(&mut self, key: DeviceKey, bytes: usize) -> Result<(), Full> {
        let own = self.device(key).map_or(0, |device| device.charged.queue);
        let Accounts { memory, queues, .. } = &mut self.accounts;
        if !queues.fits(bytes) {
            return Err(memory.refuse(Kind::Queues, bytes, false));
        }
        let checked = memory.check_share(Kind::Queues, own, bytes);
        checked.inspect_err(|_| queues.trim())
    }

    /// Charges a device with what its queue takes by now.
    pub(super) fn settle_queue(&mut self, key: DeviceKey) {
        if let Some(device) = self.devices.get_mut(key as usize).and_then(Option::as_mut) {
            let bytes = device.queue.bytes();
            let before = std::mem::replace(&mut device.charged.queue, bytes);
            if bytes != before {
                self.accounts.queues.release(before);
                self.accounts.queues.charge(bytes);
            }
        }
    }

    /// Everything a device is charged with, counted anew.
    fn recount(device: &Device) -> Charged {
        let observations = device.observations.iter().map(Observation::bytes);
        let exchanges = device.exchanges.iter().map(Exchange::bytes);
        let transfers = device.transfers.iter().map(Transfer::bytes);
        Charged {
            registration: device.registration_bytes(),
            work: observations.chain(exchanges).chain(transfers).sum(),
            queue: device.queue.recount(),
        }
    }

    /// What the shard is charged with and what it holds, counted anew, by kind: for tests, which
    /// find them equal after every call.
    pub fn audit(&self) -> [(Kind, usize, usize); 6] {
        let mut sum = Charged::default();
        for device in self.devices.iter().flatten() {
            let counted = Self::recount(device);
            sum.registration += counted.registration;
            sum.work += counted.work;
            sum.queue += counted.queue;
        }
        let (blocks, replies) = (self.assemblies.audit(), self.dedup.audit());
        let Accounts {
            registrations,
            observations,
            queues,
            waiting,
            ..
        } = &self.accounts;
        [
            (Kind::Registrations, registrations.used(), sum.registration),
            (Kind::Observations, observations.used(), sum.work),
            (Kind::Queues, queues.used(), sum.queue),
            (Kind::Waiting, waiting.used(), self.recount_waiting()),
            (Kind::Blocks, blocks.0, blocks.1),
            (Kind::Duplicates, replies.0, replies.1),
        ]
    }
}
