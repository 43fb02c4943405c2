//! The tables of a shard: devices by endpoint, location, peer and token, and their way in and out.

use tracing::{debug, warn};

use super::device::{Device, DeviceKey};
use super::directory::MountClaim;
use super::query::Query;
use super::reach::Trust;
use super::sessions::{Claim, Identity};
use super::uplink::Refusal;
use super::{
    DeviceEvent, Engine, GoneReason, ListenerSettings, Output, Peer, PeerState, Settings, ShardId,
    Wanted, Withheld,
};
use crate::admission::Bucket;
use crate::bridge::report::Event;
use crate::bridge::topic::{self, TopicError, Vars};
use crate::config::Config;
use crate::time::Now;

impl Engine {
    /// Gives a device away with all its state.
    pub(super) fn release(
        &mut self,
        now: Now,
        wanted: &Wanted,
        identity: Option<&Identity>,
        to: ShardId,
    ) -> Result<Box<Device>, Withheld> {
        let (key, claim) = match wanted {
            Wanted::Endpoint(endpoint) => (self.endpoints.get(endpoint), Claim::Register),
            Wanted::Location(location) if self.may_move(location) => {
                (self.locations.get(location), Claim::Keep)
            }
            Wanted::Location(_) => return Err(Withheld::Absent),
        };
        let key = *key.ok_or(Withheld::Absent)?;
        let device = self.device(key).ok_or(Withheld::Absent)?;
        if !self.may_claim(device, identity, claim) {
            return Err(Withheld::OtherIdentity);
        }
        let device = self.detach(key).ok_or(Withheld::Absent)?;
        self.depart(now, &device, to);
        Ok(device)
    }

    /// The shard that is about to take a device over: the directory still has it here.
    pub(super) fn on_its_way(&self, endpoint: &str) -> Option<ShardId> {
        if self.endpoints.contains_key(endpoint)
            || self.directory.shard_of(endpoint) != Some(self.shard)
        {
            return None;
        }
        self.departed.get(endpoint)
    }

    /// Takes a device in from another shard.
    pub(super) fn adopt(&mut self, mut device: Box<Device>) {
        let (endpoint, location) = (
            device.endpoint.clone(),
            device.registration.location.clone(),
        );
        if self.endpoints.contains_key(&endpoint) {
            // It has registered here meanwhile; what waited for the old registration is answered.
            return self.refuse_waiting(&mut device, &Refusal::NOT_REGISTERED);
        }
        let freed = self.departed.remove(&endpoint);
        self.accounts.waiting.release(freed);
        self.directory.assign(&endpoint, &location, self.shard);
        let key = self.insert(device);
        self.locations.insert(location, key);
        self.schedule(key);
    }

    /// Puts a device into the tables.
    pub(super) fn insert(&mut self, mut device: Box<Device>) -> DeviceKey {
        device.timer_at = None;
        self.charge_device(&device);
        let (endpoint, peer) = (device.endpoint.clone(), device.peer);
        let key = self.free.pop().unwrap_or_else(|| {
            self.devices.push(None);
            DeviceKey::try_from(self.devices.len() - 1).unwrap_or(DeviceKey::MAX)
        });
        self.tokens
            .extend(device.tokens().map(|token| (token, key)));
        self.in_flight.extend(
            device
                .exchanges
                .iter()
                .map(|exchange| ((peer, exchange.mid), key)),
        );
        self.counters
            .observations
            .add(device.observations.len() as u64);
        if let Some(identity) = &device.identity {
            self.identify(identity.clone(), key, device.unconfirmed);
        }
        if let Some(slot) = self.devices.get_mut(key as usize) {
            *slot = Some(device);
        }
        self.endpoints.insert(endpoint, key);
        self.bind_peer(key, peer);
        self.counters.registrations.set(self.endpoints.len() as u64);
        key
    }

    /// Takes a device out of the tables of this shard.
    pub(super) fn detach(&mut self, key: DeviceKey) -> Option<Box<Device>> {
        let device = self.devices.get_mut(key as usize)?.take()?;
        self.release_device(&device);
        self.free.push(key);
        if let Some(at) = device.timer_at {
            self.timers.remove(at, key);
        }
        self.endpoints.remove(&device.endpoint);
        self.locations.remove(&device.registration.location);
        for token in device.tokens() {
            self.tokens.remove(&token);
        }
        for exchange in &device.exchanges {
            self.in_flight.remove(&(device.peer, exchange.mid));
        }
        self.unbind_peer(key, device.peer);
        self.forget_identified(device.identity.as_deref(), key);
        let observations = self.counters.observations.get();
        self.counters
            .observations
            .set(observations - device.observations.len() as u64);
        self.counters.registrations.set(self.endpoints.len() as u64);
        Some(device)
    }

    /// The device is gone; what waited for it is answered.
    pub(super) fn remove(&mut self, key: DeviceKey, reason: GoneReason) {
        let event = match reason {
            GoneReason::Expired => Event::Expired,
            _ => Event::Deregister,
        };
        if self.settings.config.publish_deregister && reason != GoneReason::Exported {
            self.report(key, event);
        }
        self.forget_register(key, None);
        self.unsubscribe(key);
        let Some(mut device) = self.detach(key) else {
            return;
        };
        self.forget_in_directory(&device);
        debug!(endpoint = %device.endpoint, ?reason, "gone");
        if self.device_events {
            let endpoint = device.endpoint.to_string();
            let event = DeviceEvent::Gone { endpoint, reason };
            self.outputs.push_back(Output::DeviceEvent(event));
        }
        self.refuse_waiting(&mut device, &Refusal::NOT_REGISTERED);
    }

    pub(super) fn forget_in_directory(&self, device: &Device) {
        let directory = &self.directory;
        directory.remove(&device.endpoint, device.peer.listener);
        directory.remove_location(&device.registration.location);
        if let Some(identity) = &device.identity {
            directory.unregistered(identity);
        }
        for observation in &device.observations {
            directory.forget_observation(observation.token);
        }
        directory.remove_mount(&device.mount, &device.endpoint);
    }

    pub(super) fn bind_peer(&mut self, key: DeviceKey, peer: Peer) {
        let next_mid = self.random_u16();
        self.peers
            .entry(peer)
            .or_insert(PeerState {
                next_mid,
                device: key,
                sent: Bucket::FULL,
                remembered: Bucket::FULL,
            })
            .device = key;
    }

    fn unbind_peer(&mut self, key: DeviceKey, peer: Peer) {
        if self
            .peers
            .get(&peer)
            .is_some_and(|state| state.device == key)
        {
            self.peers.remove(&peer);
        }
    }

    pub(super) fn move_peer(&mut self, key: DeviceKey, to: Peer) {
        if let Some(device) = self.device(key) {
            self.let_go_registration(device);
        }
        let Some(device) = self.device_mut(key) else {
            return;
        };
        let from = std::mem::replace(&mut device.peer, to);
        device.trust = Trust::of(to, true);
        let mids: Vec<u16> = device
            .exchanges
            .iter()
            .map(|exchange| exchange.mid)
            .collect();
        for mid in mids {
            self.in_flight.remove(&(from, mid));
            self.in_flight.insert((to, mid), key);
        }
        if let Some(device) = self.device(key) {
            self.hold_registration(device);
        }
        self.unbind_peer(key, from);
        self.bind_peer(key, to);
        if from.listener != to.listener {
            self.directory.change_listener(from.listener, to.listener);
        }
    }

    /// Emits an output for each topic filter of a device's commands, if the host subscribes for
    /// each device.
    fn for_command_filters(
        &mut self,
        key: DeviceKey,
        output: impl Fn(&Device, String, u8) -> Output,
    ) {
        let Some(device) = self.device(key).filter(|_| self.per_device_subscriptions) else {
            return;
        };
        let translators = &self.settings.config.translators;
        let legacy = translators
            .legacy
            .enable
            .then_some(&translators.legacy.command);
        let outputs: Vec<_> = std::iter::once(&translators.command)
            .chain(legacy)
            .map(|it| output(device, topic::topic(&device.mount, it), it.qos))
            .collect();
        self.outputs.extend(outputs);
    }

    pub(super) fn subscribe(&mut self, key: DeviceKey) {
        self.for_command_filters(key, |device, filter, qos| Output::Subscribe {
            endpoint: device.endpoint.clone(),
            mountpoint: device.mount.to_string(),
            filter,
            qos,
        });
    }

    pub(super) fn unsubscribe(&mut self, key: DeviceKey) {
        self.for_command_filters(key, |device, filter, _| Output::Unsubscribe {
            endpoint: device.endpoint.clone(),
            filter,
        });
    }

    /// Gives a device the mountpoint that the configuration has for it now. A name that cannot
    /// stand in the new one keeps the old. One whose new mountpoint is another endpoint's ends: its
    /// device hears why when it registers again.
    pub(super) fn remount(&mut self, key: DeviceKey) {
        let settings = self.settings.clone();
        let Some(device) = self.device(key) else {
            return;
        };
        if device.fixed_mount {
            return;
        }
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
        // Most devices of most gateways.
        if as_before && named && listener.others.is_empty() && !self.directory.has_mounts() {
            return;
        }
        let claim = mount_claim(&settings, listener, &mount, named);
        let changed = self.directory.change_mount(&endpoint, &old_mount, &claim);
        if changed.is_err() {
            warn!(%endpoint, mount, "registration ended: its new mountpoint is another endpoint's");
            return self.remove(key, GoneReason::Kicked);
        }
        if as_before {
            return;
        }
        self.unsubscribe(key);
        if let Some(device) = self.device_mut(key) {
            device.mount = mount.into();
        }
        self.settle_registration(key);
        self.subscribe(key);
    }
}

/// What the directory has to know of a mountpoint. `named`: it is that of the listener, which names
/// the endpoint.
pub(super) fn mount_claim<'a>(
    settings: &'a Settings,
    listener: &ListenerSettings,
    mount: &'a str,
    named: bool,
) -> MountClaim<'a> {
    let others = if named {
        &listener.others
    } else {
        &settings.named
    };
    let policy = settings.config.hostile_endpoint;
    MountClaim {
        mount,
        named,
        shared: listener.shared_mountpoint,
        rivals: others
            .iter()
            .filter_map(|other| other.endpoint_at(mount, policy))
            .collect(),
    }
}

/// The rendered mountpoint of a device. With DTLS the names that stand in it beside the endpoint
/// name are its identity's, as it is configured: a device can choose its suffix and its queries.
pub(super) fn mountpoint(
    listener: &ListenerSettings,
    config: &Config,
    peer: Peer,
    endpoint: &str,
    query: &Query,
    identity: Option<&Identity>,
) -> Result<String, TopicError> {
    let peerhost = peer.address.ip().to_string();
    let (clientid, username) = match identity {
        Some(_) if !listener.mountpoint.has_other_name() => (endpoint, endpoint),
        Some(identity) => {
            let name = str::from_utf8(&identity.public).map_err(|_| TopicError::NotText)?;
            (name, name)
        }
        None => (
            query.get("device_id").unwrap_or(endpoint),
            query.get("imei").unwrap_or(endpoint),
        ),
    };
    let vars = Vars {
        endpoint_name: endpoint,
        clientid,
        username,
        peerhost: &peerhost,
        zone: "default",
    };
    listener.mountpoint.render(&vars, config.hostile_endpoint)
}
