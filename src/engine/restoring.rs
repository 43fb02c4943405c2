//! Devices that come back from the store: first all of them get their place, then a few at a time are
//! made, and one that is spoken of before its turn is made at once.

use super::awaited::Prepared;
use super::core::Core;
use super::device::{Device, Refusal, registration_bytes};
use super::front::Engine;
use super::identity::Identity;
use super::info::{DeviceEvent, DeviceInfo, GoneReason};
use super::mountpoint::{mount_claim, mountpoint};
use super::peer::Peer;
use super::registration::Location;
use super::settings::{ListenerSettings, Settings};
use super::sharding::{Handoff, MountClaim, Wanted};
use super::stored::{Change, Keeping, Restored};
use crate::coap::message::option;
use crate::coap::{Message, Token};
use crate::network::LocalAddress;
use crate::telemetry::limited;
use crate::time::Now;

/// The number of a DTLS session that ended with the process: none that is made has it.
const NO_SESSION: u32 = u32::MAX;

/// The number of a listener that is gone.
const NO_LISTENER: u16 = u16::MAX;

impl Engine {
    /// Emits [`Output::Store`](super::Output::Store) from now on. To be called before anything
    /// else.
    pub fn keep(&mut self, keeping: Keeping) {
        self.core.env.keeping = Some(keeping);
        self.core.effects.begin_keeping();
    }

    /// Whether the store can be written at the moment.
    pub fn set_durable(&mut self, durable: bool) {
        self.core.env.volatile = !durable;
    }

    /// Takes devices in that the store has, all at once.
    pub fn restore(&mut self, now: Now, devices: impl IntoIterator<Item = Restored>) {
        self.expect(now, devices);
        while self.restore_some(now, usize::MAX) {}
    }

    /// Gives devices that the store has their places: from now on nobody else gets their endpoints
    /// and mountpoints, and whatever is for one of them finds it. They are taken in by
    /// [`Engine::restore_some`], or as soon as they are needed. A device whose listener is gone ends,
    /// and so does one whose mountpoint is another endpoint's by now; their commands are answered.
    pub fn expect(&mut self, now: Now, devices: impl IntoIterator<Item = Restored>) {
        self.core.now = now;
        let devices = devices.into_iter();
        let (least, _) = devices.size_hint();
        self.core.env.directory.reserve(least);
        self.core.awaited.reserve(least);
        for restored in devices {
            let place = self.core.place_of(restored);
            if place.restored.ended {
                self.core.end_without_place(place);
                continue;
            }
            let Some(prepared) = self.core.prepare(place) else {
                continue;
            };
            if self.core.env.listener(prepared.peer.listener).is_some() {
                self.core.awaited.insert(prepared);
            } else {
                self.core.complete(prepared);
            }
        }
        self.check();
    }

    /// Takes in at most so many of the devices that are expected; whether there are more.
    pub fn restore_some(&mut self, now: Now, most: usize) -> bool {
        self.core.now = now;
        for _ in 0..most {
            let Some(prepared) = self.core.awaited.pop() else {
                break;
            };
            self.core.complete(*prepared);
        }
        self.check();
        self.is_restoring()
    }

    /// Whether devices are expected that are not back yet.
    pub fn is_restoring(&self) -> bool {
        !self.core.awaited.is_empty()
    }

    /// Takes a device in before its turn, if it is expected.
    pub fn recall(&mut self, now: Now, endpoint: &str) {
        self.core.now = now;
        self.core.recall(endpoint);
        self.check();
    }

    /// Goes on with the devices that another engine of this shard expected, which has ended.
    pub fn inherit(&mut self, other: &mut Self) {
        self.core.awaited = std::mem::take(&mut other.core.awaited);
    }

    /// Whoever a datagram may come from, or be about, is needed.
    pub(super) fn recall_for(&mut self, from: Peer, datagram: &[u8]) {
        if self.core.awaited.is_empty() {
            return;
        }
        for prepared in self.core.awaited.take_peer(from) {
            self.core.complete(*prepared);
        }
        let session = self.core.sessions.get(from);
        if let Some(identity) = session.map(|session| session.identity.clone()) {
            self.core.recall_identity(&identity);
        }
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        if !message.code().is_request() {
            self.core.recall_token(&message);
            return;
        }
        let mut path = message.option_values(option::URI_PATH);
        if path.next() != Some(b"rd") {
            return;
        }
        // With `compat.location = "endpoint"` there may be slashes in a name.
        let rest = path.map(str::from_utf8).collect::<Result<Vec<_>, _>>();
        let segment = rest.unwrap_or_default().join("/");
        if segment.is_empty() {
            let mut queries = message.option_values(option::URI_QUERY);
            let name = queries.find_map(|query| query.strip_prefix(b"ep="));
            if let Some(name) = name.and_then(|name| str::from_utf8(name).ok()) {
                self.core.recall(name);
            }
        } else {
            if let Some(location) = Location::from_random_segment(&segment) {
                self.core.recall_location(&location);
            }
            self.core.recall(&segment);
        }
    }

    /// Whatever another shard says something about is needed.
    pub(super) fn recall_for_handoff(&mut self, handoff: &Handoff) {
        if self.core.awaited.is_empty() {
            return;
        }
        match handoff {
            Handoff::Take { wanted, peer, .. } => match wanted {
                Wanted::Endpoint(endpoint) => self.core.recall(endpoint),
                Wanted::Location(location) => self.core.recall_location(location),
                Wanted::Token(token) => self.core.recall_by_token(*token),
                Wanted::Peer(_) => {
                    for prepared in self.core.awaited.take_peer(*peer) {
                        self.core.complete(*prepared);
                    }
                }
            },
            Handoff::Notification { datagram } => {
                if let Ok(message) = Message::parse(datagram) {
                    self.core.recall_token(&message);
                }
            }
            Handoff::Displace { identity, .. } => self.core.recall_identity(identity),
            Handoff::Command { input, .. } => self.core.recall(&input.endpoint),
            Handoff::Give { .. }
            | Handoff::Adopt(_)
            | Handoff::Arrived { .. }
            | Handoff::Flush { .. } => {}
        }
    }

    /// The store has lost changes of a device: it is told again what there is, its registration and its
    /// observations. Commands that it did not take are not durable.
    pub fn store_again(&mut self, endpoint: &str) {
        match self.core.registry.by_endpoint(endpoint) {
            Some(key) => {
                self.core.with(key, Device::keep_again);
            }
            // In another shard it tells by itself.
            None if self.core.env.directory.shard_of(endpoint).is_some() => {}
            None => self.core.effects.keep(|| Change::Gone(endpoint.into())),
        }
        self.check();
    }

    /// The store has noted that a command is sent ([`Change::Sent`]).
    pub fn handle_stored(&mut self, now: Now, endpoint: &str, number: u64) {
        self.core.now = now;
        // A device that has left meanwhile asks again where it is.
        if let Some(key) = self.core.registry.by_endpoint(endpoint) {
            let act = |device: &mut Device, cx: &mut super::context::Context<'_>| {
                device.handle_stored(cx, number);
            };
            self.core.with(key, act);
        }
        self.check();
    }
}

/// Devices that are needed before their turn.
impl Core {
    pub(super) fn recall(&mut self, endpoint: &str) {
        if let Some(prepared) = self.awaited.take_endpoint(endpoint) {
            self.complete(*prepared);
        }
    }

    fn recall_location(&mut self, location: &Location) {
        if let Some(prepared) = self.awaited.take_location(location) {
            self.complete(*prepared);
        }
    }

    fn recall_token(&mut self, message: &Message) {
        if let Some(token) = Token::from_slice(message.token()) {
            self.recall_by_token(token);
        }
    }

    fn recall_by_token(&mut self, token: Token) {
        if let Some(prepared) = self.awaited.take_token(token) {
            self.complete(*prepared);
        }
    }

    fn recall_identity(&mut self, identity: &Identity) {
        for prepared in self.awaited.take_identity(identity) {
            self.complete(*prepared);
        }
    }

    /// All that are left.
    pub(super) fn recall_all(&mut self) {
        while let Some(prepared) = self.awaited.pop() {
            self.complete(*prepared);
        }
    }
}

impl Core {
    /// Where a device is to be.
    fn place_of(&self, restored: Restored) -> Prepared {
        let stored = &restored.device;
        let settings = &self.env.settings;
        let endpoint = stored.endpoint.clone();
        let number = settings.number_of(&stored.listener);
        let listener = number.and_then(|number| settings.listener(number));
        // One that listens at a single address does not tell them apart.
        let any = listener.is_some_and(|listener| listener.bind.ip().is_unspecified());
        let local = stored.local.filter(|_| any);
        let directory = self.env.directory.clone();
        let peer = Peer {
            listener: number.unwrap_or(NO_LISTENER),
            local: local.map_or_else(LocalAddress::default, |address| {
                directory.locals().number(address)
            }),
            address: stored.address,
            session: if stored.session == 0 { 0 } else { NO_SESSION },
        };
        Prepared {
            mount: stored.mount.clone(),
            restored,
            endpoint,
            peer,
        }
    }

    /// Takes for a device what must not be anybody else's. Nothing when that is not possible: the
    /// device ends then.
    fn prepare(&mut self, mut prepared: Prepared) -> Option<Prepared> {
        let settings = self.env.settings.clone();
        let directory = self.env.directory.clone();
        let (endpoint, peer) = (prepared.endpoint.clone(), prepared.peer);
        let listener = settings.listener(peer.listener);
        let identity = prepared.restored.device.identity.as_ref();
        let identity = identity.map(Identity::of_stored);
        let (mount, claimed) = {
            let place = (&*endpoint, peer, identity.as_ref());
            let (mount, named) = mount_of(&settings, listener, &prepared.restored, place);
            let claim = match listener {
                Some(listener) => mount_claim(&settings, listener, &mount, named),
                None => MountClaim {
                    mount: &mount,
                    named: false,
                    shared: true,
                    rivals: Vec::new(),
                },
            };
            let most = (usize::MAX, usize::MAX);
            let claimed = directory.claim(&endpoint, self.env.shard, peer.listener, most, &claim);
            (mount, claimed.is_ok())
        };
        prepared.mount = mount;
        if !claimed {
            let mount = &prepared.mount;
            limited!(WARN, self.env.counters, self.now.mono, MountpointTaken, %endpoint, %mount,
                "registration ended: its mountpoint belongs to another endpoint");
            self.end_without_place(prepared);
            return None;
        }
        let Restored {
            device,
            observations,
            commands,
            ..
        } = &prepared.restored;
        let shard = self.env.shard;
        let location = device.registration.location(&prepared.endpoint);
        directory.insert_location(&location, shard);
        if let Some(identity) = &identity {
            directory.remember(identity, shard, peer);
        }
        if peer.session == 0 {
            directory.insert_restored(peer, shard);
        }
        for observation in observations {
            directory.observe(Token(observation.token), shard);
        }
        for (command, _) in commands {
            self.numbers.note(command.number);
        }
        Some(prepared)
    }

    /// Answers the commands of a device that is not registered any more.
    fn end_without_place(&mut self, prepared: Prepared) {
        let Prepared {
            restored,
            endpoint,
            peer,
            mount,
        } = prepared;
        let stored = restored.device;
        let gone = Change::Gone(endpoint.clone());
        let place = (endpoint, peer, mount.into());
        let mut device = Device::of_stored(self.now, stored, place);
        self.with_stray(&mut device, |device, cx| {
            device.restore(cx, Vec::new(), restored.commands);
            device.refuse_waiting(cx, &Refusal::NOT_REGISTERED);
        });
        let queued = [device.counted as usize, device.charged.queue()];
        self.env.directory.change_queued(queued, [0, 0]);
        self.accounts.queues.release(device.charged.queue());
        self.effects.keep(|| gone);
    }

    /// Takes a device in whose place is taken.
    fn complete(&mut self, prepared: Prepared) {
        let Prepared {
            restored,
            endpoint,
            peer,
            mount,
        } = prepared;
        let stored = restored.device;
        let place = (endpoint, peer, mount.into());
        let mut device = Device::of_stored(self.now, stored, place);
        let bytes = registration_bytes(
            &device.endpoint,
            &device.mount,
            &device.registration,
            device.identity.as_deref(),
        );
        device.charged.set_registration(bytes);
        self.env.counters.store_restored.inc();
        let identity = device.identity.clone();
        let key = self.insert(device);
        self.with(key, |device, cx| {
            device.restore(cx, restored.observations, restored.commands);
            device.subscribe(cx);
        });
        if self.env.listener(peer.listener).is_none() {
            return self.remove(key, GoneReason::ListenerClosed);
        }
        let note = restored.note;
        self.announce(key, |info| {
            DeviceEvent::Registered(DeviceInfo {
                restored: true,
                note,
                ..info
            })
        });
        self.with(key, Device::pump);
        if let Some(identity) = identity {
            self.follow_connection(key, &identity);
        }
    }
}

/// The mountpoint that the configuration has for a device now, and whether it names it.
fn mount_of(
    settings: &Settings,
    listener: Option<&ListenerSettings>,
    restored: &Restored,
    (endpoint, peer, identity): (&str, Peer, Option<&Identity>),
) -> (Box<str>, bool) {
    let stored = &restored.device;
    if let Some(listener) = listener.filter(|_| !stored.fixed_mount) {
        let query = stored.registration.items();
        let config = &settings.config;
        // A name that cannot stand in a new one keeps the old.
        if let Ok(mount) = mountpoint(listener, config, peer, endpoint, query, identity) {
            return (mount.into(), listener.names_endpoint);
        }
    }
    (stored.mount.clone(), false)
}
