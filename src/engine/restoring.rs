//! Devices that come back from the store.

use std::sync::Arc;

use super::core::Core;
use super::device::{Device, Refusal, registration_bytes};
use super::front::Engine;
use super::info::{DeviceEvent, GoneReason};
use super::mountpoint::{mount_claim, mountpoint};
use super::peer::Peer;
use super::registration::Registration;
use super::sharding::MountClaim;
use super::stored::{Change, Keeping, Restored};
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

    /// Takes devices in that the store has. A device whose listener is gone ends, and so does one
    /// whose mountpoint is another endpoint's by now; their commands are answered.
    pub fn restore(&mut self, now: Now, devices: impl IntoIterator<Item = Restored>) {
        self.core.now = now;
        for device in devices {
            self.core.restore(device);
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

impl Core {
    fn restore(&mut self, restored: Restored) {
        let stored = restored.device;
        let settings = self.env.settings.clone();
        let endpoint: Arc<str> = (*stored.endpoint).into();
        let number = settings.number_of(&stored.listener);
        let listener = number.and_then(|number| settings.listener(number));
        // One that listens at a single address does not tell them apart.
        let any = listener.is_some_and(|listener| listener.bind.ip().is_unspecified());
        let local = stored.local.filter(|_| any);
        let peer = Peer {
            listener: number.unwrap_or(NO_LISTENER),
            local: local.map_or_else(LocalAddress::default, |address| {
                self.env.directory.locals().number(address)
            }),
            address: stored.address,
            session: if stored.session == 0 { 0 } else { NO_SESSION },
        };
        let registration = Registration::of_stored(&endpoint, &stored.registration);
        let mut device = {
            let place = (endpoint.clone(), peer, stored.mount.to_string());
            Device::of_stored(self.now, &stored, place, registration, 0)
        };
        let identity = device.identity.clone();
        let mut named = false;
        if let Some(listener) = listener.filter(|_| !stored.fixed_mount) {
            let query = &device.registration.query;
            let identity = identity.as_deref();
            let config = &settings.config;
            let mount = mountpoint(listener, config, peer, &endpoint, query, identity);
            // A name that cannot stand in a new one keeps the old.
            if let Ok(mount) = mount {
                named = listener.names_endpoint;
                device.unsaved |= *mount != *device.mount;
                device.mount = mount.into();
            }
        }
        let mount = device.mount.clone();
        let claim = match listener {
            Some(listener) => mount_claim(&settings, listener, &mount, named),
            None => MountClaim {
                mount: &mount,
                named: false,
                shared: true,
                rivals: Vec::new(),
            },
        };
        let directory = self.env.directory.clone();
        let shard = self.env.shard;
        let most = (usize::MAX, usize::MAX);
        let claimed = directory.claim(&endpoint, shard, peer.listener, most, &claim);
        if claimed.is_err() {
            limited!(WARN, self.env.counters, self.now.mono, MountpointTaken, %endpoint, %mount,
                "registration ended: its mountpoint is another endpoint's");
            self.effects.keep(|| Change::Gone(endpoint.clone()));
            self.with_stray(&mut device, |device, cx| {
                device.restore(cx, Vec::new(), restored.commands);
                device.refuse_waiting(cx, &Refusal::NOT_REGISTERED);
            });
            return self.accounts.queues.release(device.charged.queue);
        }
        device.charged.registration =
            registration_bytes(&endpoint, &mount, &device.registration, identity.as_deref());
        directory.insert_location(&device.registration.location, shard);
        if let Some(identity) = &identity {
            directory.remember(identity, shard, peer);
        }
        let key = self.insert(device);
        self.with(key, |device, cx| {
            device.restore(cx, restored.observations, restored.commands);
            device.subscribe(cx);
        });
        if listener.is_none() {
            return self.remove(key, GoneReason::ListenerClosed);
        }
        self.announce(key, DeviceEvent::Registered);
        self.with(key, Device::pump);
    }
}
