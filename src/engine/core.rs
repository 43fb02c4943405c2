//! What all parts of an engine work on: the registry, what is charged for it, and the effects. A
//! device is called through [`Core::with`], which is the one place that plans its next deadline.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tracing::debug;

use super::account::Accounts;
use super::awaited::Awaited;
use super::context::{Context, Environment, Numbers};
use super::device::{Device, Refusal, Shown};
use super::effects::{Effects, Output};
use super::identity::Identity;
use super::info::{DeviceEvent, DeviceInfo, GoneReason};
use super::mountpoint::{mount_claim, mountpoint};
use super::peer::{DeviceKey, Peer, ShardId};
use super::reach::{Reach, Trust};
use super::registration::{Location, Registration};
use super::registry::Registry;
use super::sessions::Sessions;
use super::sharding::{Departed, HANDOFF_TIMEOUT};
use super::stored::Change;
use crate::bridge::report::Event;
use crate::coap::dedup::Dedup;
use crate::config::AddressChange;
use crate::memory::{Full, Kind, Memory, Tally};
use crate::telemetry::limited;
use crate::time::{Instant, Now};

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    /// As of the call that is being handled, or the last one that knew.
    pub(super) now: Now,
    pub(super) env: Environment,
    pub(super) rng: ChaCha8Rng,
    pub(super) registry: Registry,
    pub(super) accounts: Accounts,
    pub(super) reach: Reach,
    pub(super) numbers: Numbers,
    pub(super) effects: Effects,
    /// Replies to requests, for those that come again.
    pub(super) dedup: Dedup<Peer>,
    pub(super) departed: Departed,
    /// Devices of the store that are not back yet.
    pub(super) awaited: Awaited,
    pub(super) sessions: Sessions,
}

impl Core {
    pub(super) fn new(env: Environment, memory: &Arc<Memory>, shards: u16, seed: [u8; 32]) -> Self {
        Self {
            now: Now {
                mono: Instant::ZERO,
                unix_ms: 0,
            },
            rng: ChaCha8Rng::from_seed(seed),
            registry: Registry::default(),
            accounts: Accounts::new(memory),
            reach: Reach::new(&seed),
            numbers: Numbers::default(),
            effects: Effects::new(env.counters.clone()),
            dedup: Dedup::new(Tally::new(memory.clone(), Kind::Duplicates), shards),
            departed: Departed::default(),
            awaited: Awaited::default(),
            sessions: Sessions::default(),
            env,
        }
    }

    /// Calls a device, and plans its next deadline. `None` when there is no such device.
    pub(super) fn with<R>(
        &mut self,
        key: DeviceKey,
        act: impl FnOnce(&mut Device, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let (device, index) = self.registry.get_mut(key)?;
        let mut cx = Context {
            now: self.now,
            env: &self.env,
            rng: &mut self.rng,
            index,
            accounts: &mut self.accounts,
            reach: &mut self.reach,
            numbers: &mut self.numbers,
            effects: &mut self.effects,
        };
        let result = act(device, &mut cx);
        device.show_presence(&mut cx);
        if cx.effects.keeps() {
            device.keep(&mut cx);
        }
        self.registry.plan(key);
        Some(result)
    }

    /// The same for a device that is no longer in the registry, or not yet: nothing is planned.
    pub(super) fn with_stray(
        &mut self,
        device: &mut Device,
        act: impl FnOnce(&mut Device, &mut Context<'_>),
    ) {
        let mut cx = Context {
            now: self.now,
            env: &self.env,
            rng: &mut self.rng,
            index: self.registry.messages().of(DeviceKey::MAX),
            accounts: &mut self.accounts,
            reach: &mut self.reach,
            numbers: &mut self.numbers,
            effects: &mut self.effects,
        };
        act(device, &mut cx);
    }

    pub(super) fn device(&self, key: DeviceKey) -> Option<&Device> {
        self.registry.get(key)
    }

    /// Who speaks from `peer`; `None` without DTLS.
    pub(super) fn identity_of(&self, peer: Peer) -> Option<Arc<Identity>> {
        let session = self.sessions.get(peer)?;
        Some(session.identity.clone())
    }

    pub(super) fn random(&mut self) -> u32 {
        self.rng.next_u32()
    }
}

/// Sending.
impl Core {
    /// Answers whoever sent a datagram, if he may get that much.
    pub(super) fn transmit(&mut self, to: Peer, datagram: Vec<u8>) {
        if self.spend(to, datagram.len()) {
            self.effects.transmit(to, datagram);
        }
    }

    /// Whether a datagram of `length` bytes may be sent to `to`; counts it.
    fn spend(&mut self, to: Peer, length: usize) -> bool {
        if to.session != 0 || self.reach.spend(to, length) {
            return true;
        }
        let key = self.registry.at(to);
        let device = key.and_then(|key| self.registry.get_mut(key));
        let spent = device.is_some_and(|(device, _)| device.trust.spend(length));
        if !spent {
            self.env.counters.answers_withheld.inc();
        }
        spent
    }

    /// Cuts the diagnostic payload of `datagram`, its last `payload` bytes, to what may be sent.
    pub(super) fn trim(&self, to: Peer, datagram: &mut Vec<u8>, payload: usize) {
        if payload == 0 || to.session != 0 {
            return;
        }
        let allowance = self.reach.room(to).unwrap_or_default();
        if datagram.len() <= allowance {
            return;
        }
        let device = self.registry.at(to).and_then(|key| self.device(key));
        let credit = device.map_or(0, |device| device.trust.room());
        let room = allowance.max(credit);
        if datagram.len() <= room {
            return;
        }
        // The payload marker goes with the last byte.
        let bare = datagram.len().saturating_sub(payload + 1);
        let text = datagram.get(bare + 1..).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        let kept = text.floor_char_boundary(room.saturating_sub(bare + 1));
        datagram.truncate(if kept == 0 { bare } else { bare + 1 + kept });
    }

    /// The device at an address has been heard of, if that is certain: anybody can send in the name
    /// of an address, but not by its DTLS session.
    pub(super) fn touch_authentic(&mut self, from: Peer) {
        if from.session != 0
            && let Some(key) = self.registry.bound(from)
            && let Some((device, _)) = self.registry.get_mut(key)
        {
            device.touch(self.now, &self.env);
        }
    }
}

/// The way of a device in and out.
impl Core {
    pub(super) fn insert(&mut self, device: Box<Device>) -> DeviceKey {
        let identity = device.identity.as_deref();
        self.accounts.charge(device.charged, device.peer, identity);
        let observations = device.observed().count() as u64;
        self.env.counters.observations.add(observations);
        let key = self.registry.insert(device, &mut self.rng);
        self.count_registrations();
        key
    }

    /// Takes a device out of this shard.
    pub(super) fn detach(&mut self, key: DeviceKey) -> Option<Box<Device>> {
        let device = self.registry.take(key)?;
        let identity = device.identity.as_deref();
        self.accounts.release(device.charged, device.peer, identity);
        let observations = &self.env.counters.observations;
        let rest = observations.get() - device.observed().count() as u64;
        observations.set(rest);
        self.count_registrations();
        Some(device)
    }

    fn count_registrations(&self) {
        let registrations = self.registry.len() as u64;
        self.env.counters.registrations.set(registrations);
    }

    /// The device is gone; what waited for it is answered.
    pub(super) fn remove(&mut self, key: DeviceKey, reason: GoneReason) {
        let event = match reason {
            GoneReason::Expired => Event::Expired,
            _ => Event::Deregister,
        };
        let reports = self.env.config().publish_deregister && reason != GoneReason::Exported;
        self.with(key, |device, cx| {
            if reports {
                device.report(cx, event);
            }
            // Another gateway has it, and says so.
            if reason == GoneReason::Exported {
                device.shown = Shown::Gone;
            }
            device.show_gone(cx);
            device.unsubscribe(cx);
        });
        self.forget_register(key, None);
        let Some(mut device) = self.detach(key) else {
            return;
        };
        self.forget_in_directory(&device);
        debug!(endpoint = %device.endpoint, ?reason, "gone");
        if self.env.device_events {
            let endpoint = device.endpoint.to_string();
            let event = DeviceEvent::Gone { endpoint, reason };
            self.effects.push(Output::DeviceEvent(event));
        }
        self.refuse_waiting(&mut device, &Refusal::NOT_REGISTERED);
        // Behind what is said of its commands: that stays until the broker has it.
        self.effects.keep(|| Change::Gone(device.endpoint.clone()));
    }

    /// Answers all commands of a device that is gone.
    pub(super) fn refuse_waiting(&mut self, device: &mut Device, refusal: &Refusal) {
        self.with_stray(device, |device, cx| device.refuse_waiting(cx, refusal));
    }

    /// Answers those commands of a device that the store does not keep.
    pub(super) fn refuse_unkept(&mut self, device: &mut Device, refusal: &Refusal) {
        self.with_stray(device, |device, cx| device.refuse_unkept(cx, refusal));
    }

    pub(super) fn forget_in_directory(&self, device: &Device) {
        let directory = &self.env.directory;
        directory.remove(&device.endpoint, device.peer.listener);
        directory.take_restored(device.peer);
        directory.change_queued([device.counted as usize, device.charged.queue()], [0, 0]);
        directory.remove_location(&device.registration.location);
        if let Some(identity) = &device.identity {
            directory.unregistered(identity);
        }
        for token in device.observed() {
            directory.forget_observation(token);
        }
        directory.remove_mount(&device.mount, &device.endpoint);
    }

    /// The reply to a Register that no longer stands must not be given again: a device that
    /// restarts may begin with the same message id, token and content.
    pub(super) fn forget_register(&mut self, key: DeviceKey, newer: Option<u16>) {
        let Some((device, _)) = self.registry.get_mut(key) else {
            return;
        };
        let (peer, mid) = (device.peer, device.register_mid);
        device.register_mid = newer.unwrap_or(mid);
        if newer != Some(mid) {
            self.dedup.forget(peer, mid);
        }
    }

    /// A registration location that nobody can guess.
    pub(super) fn new_location(&mut self) -> Location {
        loop {
            let location = Location::Random(self.rng.next_u64());
            if self.registry.by_location(&location).is_none() {
                return location;
            }
        }
    }

    /// Whether a registration may take `bytes` instead of `before`.
    pub(super) fn check_growth(
        &mut self,
        peer: Peer,
        identity: Option<&Identity>,
        before: usize,
        bytes: usize,
    ) -> Result<(), Full> {
        match bytes.saturating_sub(before) {
            0 => Ok(()),
            growth => self.accounts.check_registration(peer, identity, growth),
        }
    }

    /// A device that is known has registered again, with other words perhaps, or elsewhere.
    pub(super) fn reregister(
        &mut self,
        key: DeviceKey,
        from: Peer,
        registration: Registration,
        mount: String,
        fixed_mount: bool,
    ) {
        self.with(key, |device, cx| {
            device.unsubscribe(cx);
            if *device.mount != *mount {
                device.show_gone(cx);
            }
        });
        let new = registration.location.clone();
        let old = self.registry.replace_registration(key, registration);
        let Some((device, _)) = self.registry.get_mut(key) else {
            return;
        };
        let directory = &self.env.directory;
        if let Some(old) = old.filter(|old| old.location != new) {
            directory.remove_location(&old.location);
        }
        if *device.mount != *mount {
            directory.remove_mount(&device.mount, &device.endpoint);
            device.shown = Shown::Nothing;
        }
        device.mount = mount.into();
        device.fixed_mount = fixed_mount;
        device.unsaved = true;
        if device.peer == from {
            self.bind_peer(key);
        } else {
            self.move_peer(key, from);
            self.env.counters.address_changed.inc();
        }
        self.with(key, Device::begin_anew);
    }

    /// A device is the one that spoke last from its peer.
    pub(super) fn bind_peer(&mut self, key: DeviceKey) {
        if let Some(peer) = self.device(key).map(|device| device.peer) {
            self.registry.move_to(key, peer, &mut self.rng);
        }
    }

    /// A device is at another peer from now on.
    pub(super) fn move_peer(&mut self, key: DeviceKey, to: Peer) {
        let Some((device, _)) = self.registry.get_mut(key) else {
            return;
        };
        device.trust = Trust::of(to, true);
        device.unsaved = true;
        device.absent = false;
        let (from, bytes) = (device.peer, device.charged.registration());
        let identity = device.identity.clone();
        let identity = identity.as_deref();
        self.accounts.let_go(from, identity, bytes);
        self.accounts.hold(to, identity, bytes);
        self.registry.move_to(key, to, &mut self.rng);
        if from.listener != to.listener {
            let directory = &self.env.directory;
            directory.change_listener(from.listener, to.listener);
        }
    }

    /// A registration belongs to somebody else now.
    pub(super) fn set_identity(&mut self, key: DeviceKey, new: Option<Arc<Identity>>) {
        let Some(device) = self.device(key).filter(|device| device.identity != new) else {
            return;
        };
        let (peer, bytes) = (device.peer, device.charged.registration());
        let old = self.registry.replace_identity(key, new.clone());
        self.accounts.let_go(peer, old.as_deref(), bytes);
        self.accounts.hold(peer, new.as_deref(), bytes);
        self.with(key, |device, cx| {
            device.unsaved = true;
            device.settle_registration(cx);
        });
        if let Some(old) = old {
            self.env.directory.unregistered(&old);
        }
        if let Some(new) = new {
            self.env.directory.registered(&new);
        }
    }

    /// Gives a device the mountpoint that the configuration has for it now. A name that cannot
    /// stand in the new one keeps the old. One whose new mountpoint is another endpoint's ends: its
    /// device hears why when it registers again.
    pub(super) fn remount(&mut self, key: DeviceKey) {
        let settings = self.env.settings.clone();
        let Some(device) = self.device(key).filter(|device| !device.fixed_mount) else {
            return;
        };
        let (peer, endpoint) = (device.peer, device.endpoint.clone());
        let Some(listener) = settings.listener(peer.listener) else {
            return;
        };
        let query = &device.registration.query;
        let identity = device.identity.as_deref();
        let mount = mountpoint(listener, &settings.config, peer, &endpoint, query, identity);
        let old_mount = device.mount.clone();
        let (mount, named) = match mount {
            Ok(mount) => (mount, listener.names_endpoint),
            Err(_) => (old_mount.to_string(), false),
        };
        let as_before = *mount == *old_mount;
        let directory = &self.env.directory;
        // Most devices of most gateways.
        if as_before && named && listener.others.is_empty() && !directory.has_mounts() {
            return;
        }
        let claim = mount_claim(&settings, listener, &mount, named);
        let changed = directory.change_mount(&endpoint, &old_mount, &claim);
        if changed.is_err() {
            limited!(WARN, self.env.counters, self.now.mono, MountpointTaken, %endpoint, mount,
                "registration ended: its new mountpoint belongs to another endpoint");
            return self.remove(key, GoneReason::Kicked);
        }
        if as_before {
            return;
        }
        self.with(key, |device, cx| {
            device.unsubscribe(cx);
            device.show_gone(cx);
            device.shown = Shown::Nothing;
            device.mount = mount.into();
            device.unsaved = true;
            device.settle_registration(cx);
            device.subscribe(cx);
        });
    }

    /// What hosts get to know of a device.
    pub(super) fn info(&self, now: Now, device: &Device) -> DeviceInfo {
        let mut info = device.info(now, &self.env);
        let session = self.sessions.get(device.peer);
        if let Some(address) = session.and_then(|session| session.address.as_deref()) {
            info.peer = *address;
        }
        info
    }

    /// Tells the host of a device that came or changed, if it wants to know.
    pub(super) fn announce(
        &mut self,
        key: DeviceKey,
        event: impl FnOnce(DeviceInfo) -> DeviceEvent,
    ) {
        if !self.env.device_events {
            return;
        }
        if let Some(device) = self.device(key) {
            let event = event(self.info(self.now, device));
            self.effects.push(Output::DeviceEvent(event));
        }
    }
}

/// Other shards.
impl Core {
    /// Whether the holder of `location` may come from a new address: only if nobody can guess it.
    pub(super) fn may_move(&self, location: &Location) -> bool {
        matches!(location, Location::Random(_))
            && self.env.config().address_change == AddressChange::Accept
    }

    /// A device goes to another shard; commands that still come follow it.
    pub(super) fn depart(&mut self, device: &mut Device, to: ShardId) {
        device.leave(self.env.shard, self.now.mono);
        let until = self.now.mono + HANDOFF_TIMEOUT;
        let (bytes, freed) = self.departed.insert(device.endpoint.clone(), to, until);
        self.accounts.waiting.charge(bytes);
        self.accounts.waiting.release(freed);
    }

    /// The shard that is about to take a device over: the directory still has it here.
    pub(super) fn on_its_way(&self, endpoint: &str) -> Option<ShardId> {
        if self.registry.by_endpoint(endpoint).is_some()
            || self.env.directory.shard_of(endpoint) != Some(self.env.shard)
        {
            return None;
        }
        self.departed.get(endpoint)
    }

    /// The shard that a device which is not here lives in, or has just been sent to.
    pub(super) fn elsewhere(&self, endpoint: &str) -> Option<ShardId> {
        match self.env.directory.shard_of(endpoint) {
            Some(shard) if shard != self.env.shard => Some(shard),
            _ => self.departed.get(endpoint),
        }
    }

    /// Takes a device in from another shard.
    pub(super) fn adopt(&mut self, mut device: Box<Device>) {
        let (endpoint, location) = (
            device.endpoint.clone(),
            device.registration.location.clone(),
        );
        if self.registry.by_endpoint(&endpoint).is_some() {
            // It has registered here meanwhile; what waited for the old registration is answered.
            return self.refuse_waiting(&mut device, &Refusal::NOT_REGISTERED);
        }
        let freed = self.departed.remove(&endpoint);
        self.accounts.waiting.release(freed);
        let directory = &self.env.directory;
        directory.assign(&endpoint, &location, self.env.shard);
        for token in device.observed() {
            directory.observe(token, self.env.shard);
        }
        // It lives in this shard now, perhaps at another address.
        device.unsaved = true;
        device.ask_store_again();
        let key = self.insert(device);
        self.with(key, |device, cx| device.awaits_others(cx));
    }
}
