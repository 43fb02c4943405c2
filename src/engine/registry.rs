//! The devices of a shard and every index to them. It knows nothing of CoAP or MQTT; of time it
//! orders deadlines. Whatever an index holds of a device changes here, and nowhere else.

use std::collections::{BTreeMap, HashMap};
#[cfg(any(feature = "http", feature = "internals"))]
use std::ops::Bound;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::device::Device;
use super::identified::Identified;
use super::identity::Identity;
use super::index::{DeviceIndex, MessageIndex};
use super::peer::{DeviceKey, Peer};
use super::registration::{Location, Registration};
use super::timer::{Reason, Timers};
use crate::coap::Token;
use crate::tables::digest::{Digest, DigestIndex};
use crate::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    devices: Vec<Option<Box<Device>>>,
    free: Vec<DeviceKey>,
    /// In order, for those who list them page by page.
    endpoints: BTreeMap<Arc<str>, DeviceKey>,
    /// By the random ones.
    locations: DigestIndex,
    /// Devices that registered over DTLS.
    identities: HashMap<Arc<Identity>, Identified>,
    messages: MessageIndex,
    timers: Timers,
    /// Calls until the next walk of [`Registry::check`].
    #[cfg(debug_assertions)]
    unchecked: usize,
}

/// Finding.
impl Registry {
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    #[cfg(feature = "internals")]
    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub(super) fn get(&self, key: DeviceKey) -> Option<&Device> {
        self.devices.get(key as usize)?.as_deref()
    }

    /// A device and what stands of it in the index of messages.
    pub(super) fn get_mut(&mut self, key: DeviceKey) -> Option<(&mut Device, DeviceIndex<'_>)> {
        let device = self.devices.get_mut(key as usize)?.as_deref_mut()?;
        Some((device, self.messages.of(key)))
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().flatten().map(|device| &**device)
    }

    /// Keys of the devices that are wanted.
    pub(super) fn keys_of(&self, wanted: impl Fn(&Device) -> bool) -> Vec<DeviceKey> {
        (0..)
            .zip(&self.devices)
            .filter(|(_, device)| device.as_deref().is_some_and(&wanted))
            .map(|(key, _)| key)
            .collect()
    }

    pub(super) fn by_endpoint(&self, endpoint: &str) -> Option<DeviceKey> {
        self.endpoints.get(endpoint).copied()
    }

    #[cfg(any(feature = "http", feature = "internals"))]
    /// Endpoints in the order of their bytes, from the first one behind `after` that does not stand
    /// before `from`.
    pub(super) fn behind<'r>(
        &'r self,
        after: Option<&str>,
        from: &str,
    ) -> impl Iterator<Item = (&'r Arc<str>, DeviceKey)> + use<'r> {
        let start = match after {
            Some(after) if after >= from => Bound::Excluded(after),
            _ => Bound::Included(from),
        };
        let endpoints = self.endpoints.range::<str, _>((start, Bound::Unbounded));
        endpoints.map(|(endpoint, key)| (endpoint, *key))
    }

    pub(super) fn by_location(&self, location: &Location) -> Option<DeviceKey> {
        let key = match location {
            Location::Random(number) => self.locations.get(Digest::of_random(*number)),
            Location::Endpoint(name) => self.by_endpoint(name),
        }?;
        let device = self.get(key)?;
        (device.registration.location == *location).then_some(key)
    }

    pub(super) fn by_token(&self, token: Token) -> Option<DeviceKey> {
        self.messages.by_token(token)
    }

    pub(super) fn by_message(&self, peer: Peer, mid: u16) -> Option<DeviceKey> {
        self.messages.by_message(peer, mid)
    }

    /// The device that registered last from a peer.
    pub(super) fn bound(&self, peer: Peer) -> Option<DeviceKey> {
        self.messages.device(peer)
    }

    /// The same if it is still there.
    pub(super) fn at(&self, peer: Peer) -> Option<DeviceKey> {
        let key = self.bound(peer)?;
        self.get(key).filter(|device| device.peer == peer)?;
        Some(key)
    }

    /// All registrations of an identity.
    pub(super) fn of_identity(&self, identity: &Identity) -> Vec<DeviceKey> {
        let known = self.identities.get(identity);
        known.map_or_else(Vec::new, Identified::keys)
    }

    pub(super) fn messages(&mut self) -> &mut MessageIndex {
        &mut self.messages
    }

    /// Locations, tokens, message ids, peers, identities and timers.
    #[cfg(feature = "internals")]
    pub(super) fn sizes(&self) -> [usize; 6] {
        let (tokens, messages, peers) = self.messages.sizes();
        let (locations, identities) = (self.locations.len(), self.identities.len());
        let timers = self.timers.len();
        [locations, tokens, messages, peers, identities, timers]
    }
}

/// Changing.
impl Registry {
    pub(super) fn insert(&mut self, mut device: Box<Device>, rng: &mut ChaCha8Rng) -> DeviceKey {
        device.timer_at = None;
        let (endpoint, peer) = (device.endpoint.clone(), device.peer);
        let key = self.free.pop().unwrap_or_else(|| {
            self.devices.push(None);
            DeviceKey::try_from(self.devices.len() - 1).unwrap_or(DeviceKey::MAX)
        });
        let mut index = self.messages.of(key);
        device.tokens().for_each(|token| {
            index.add_token(token);
        });
        device.index_messages(&mut index, rng);
        self.note_location(&device.registration.location, key);
        self.note_identity(&device, key);
        if let Some(slot) = self.devices.get_mut(key as usize) {
            *slot = Some(device);
        }
        self.endpoints.insert(endpoint, key);
        self.messages.bind(key, peer, rng);
        self.plan(key);
        key
    }

    /// Takes a device out with all that points to it.
    pub(super) fn take(&mut self, key: DeviceKey) -> Option<Box<Device>> {
        let device = self.devices.get_mut(key as usize)?.take()?;
        self.free.push(key);
        if let Some(at) = device.timer_at {
            self.timers.remove(at, key);
        }
        self.endpoints.remove(&device.endpoint);
        self.forget_location(&device.registration.location);
        let mut index = self.messages.of(key);
        device.tokens().for_each(|token| index.remove_token(token));
        device
            .mids()
            .for_each(|mid| index.remove_message(device.peer, mid));
        self.messages.unbind(key, device.peer);
        self.forget_identity(device.identity.as_deref(), key);
        Some(device)
    }

    /// Takes all of them out, with everything that points to them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Box<Device>> + use<> {
        std::mem::take(self).devices.into_iter().flatten()
    }

    /// A device is at another peer, or registers again from its own. Returns where it was.
    pub(super) fn move_to(
        &mut self,
        key: DeviceKey,
        to: Peer,
        rng: &mut ChaCha8Rng,
    ) -> Option<Peer> {
        let device = self.devices.get_mut(key as usize)?.as_deref_mut()?;
        let from = std::mem::replace(&mut device.peer, to);
        if from != to {
            let mut index = self.messages.of(key);
            device
                .mids()
                .for_each(|mid| index.remove_message(from, mid));
            device.index_messages(&mut index, rng);
            self.messages.unbind(key, from);
        }
        self.messages.bind(key, to, rng);
        Some(from)
    }

    /// A device has registered anew. Returns what it said of itself before.
    pub(super) fn replace_registration(
        &mut self,
        key: DeviceKey,
        registration: Registration,
    ) -> Option<Registration> {
        let device = self.devices.get_mut(key as usize)?.as_deref_mut()?;
        let new = registration.location.clone();
        let old = std::mem::replace(&mut device.registration, registration);
        if old.location != new {
            self.forget_location(&old.location);
            self.note_location(&new, key);
        }
        Some(old)
    }

    /// A device belongs to another identity; whether it has said so itself at its connection.
    /// Returns the identity before.
    pub(super) fn replace_identity(
        &mut self,
        key: DeviceKey,
        identity: Option<Arc<Identity>>,
    ) -> Option<Arc<Identity>> {
        let device = self.devices.get_mut(key as usize)?.as_deref_mut()?;
        let old = std::mem::replace(&mut device.identity, identity);
        self.forget_identity(old.as_deref(), key);
        if let Some(device) = self.devices.get(key as usize).and_then(Option::as_deref)
            && let Some(identity) = &device.identity
        {
            let known = self.identities.entry(identity.clone()).or_default();
            known.insert(key);
        }
        old
    }

    /// A device was moved to the newest connection of its identity, which has not spoken for it.
    pub(super) fn set_unconfirmed(&mut self, key: DeviceKey) {
        if let Some(device) = self
            .devices
            .get_mut(key as usize)
            .and_then(Option::as_deref_mut)
        {
            device.unconfirmed = true;
            if let Some(identity) = &device.identity
                && let Some(known) = self.identities.get_mut(identity)
            {
                known.set_unconfirmed(key);
            }
        }
    }

    /// All registrations that were moved to the newest connection of an identity and that nobody
    /// has spoken for since; each is told once.
    pub(super) fn take_unconfirmed(&mut self, identity: &Identity) -> Vec<DeviceKey> {
        let known = self.identities.get_mut(identity);
        let moved = known.map(Identified::take_unconfirmed);
        let moved = moved.unwrap_or_default().into_iter();
        moved
            .filter(|key| self.get(*key).is_some_and(|device| device.unconfirmed))
            .collect()
    }

    fn note_location(&mut self, location: &Location, key: DeviceKey) {
        if let Location::Random(number) = location {
            self.locations.set(Digest::of_random(*number), key);
        }
    }

    fn forget_location(&mut self, location: &Location) {
        if let Location::Random(number) = location {
            self.locations.remove(Digest::of_random(*number));
        }
    }

    fn note_identity(&mut self, device: &Device, key: DeviceKey) {
        if let Some(identity) = &device.identity {
            let known = self.identities.entry(identity.clone()).or_default();
            known.insert(key);
            if device.unconfirmed {
                known.set_unconfirmed(key);
            }
        }
    }

    fn forget_identity(&mut self, identity: Option<&Identity>, key: DeviceKey) {
        let Some(identity) = identity else {
            return;
        };
        if let Some(known) = self.identities.get_mut(identity) {
            known.remove(key);
            if known.is_empty() {
                self.identities.remove(identity);
            }
        }
    }
}

/// Deadlines.
impl Registry {
    /// Plans the next look at a device, if it is earlier than the one already planned. To be called
    /// after whatever may have changed its deadlines.
    pub(super) fn plan(&mut self, key: DeviceKey) {
        let slot = self.devices.get_mut(key as usize);
        let Some(device) = slot.and_then(Option::as_deref_mut) else {
            return;
        };
        let (at, reason) = device.next_deadline();
        match device.timer_at {
            Some(planned) if planned <= at => return,
            Some(planned) => self.timers.remove(planned, key),
            None => {}
        }
        device.timer_at = Some(at);
        self.timers.insert(at, reason, key);
    }

    /// A device to be looked at by `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<DeviceKey> {
        let key = self.timers.pop_due(now)?;
        let slot = self.devices.get_mut(key as usize);
        if let Some(device) = slot.and_then(Option::as_deref_mut) {
            device.timer_at = None;
        }
        Some(key)
    }

    pub(super) fn next_deadline(&self) -> Option<(Instant, Reason)> {
        self.timers.peek()
    }
}

/// The check of tests and fuzz targets.
#[cfg(debug_assertions)]
impl Registry {
    /// So many calls there are between two walks for each of so many devices.
    const WALK: usize = 32;

    /// Walks all devices and asserts that each index has what they have, and nothing else. With
    /// many devices not at every call: as often as makes the work of a call constant.
    pub(super) fn check(&mut self) {
        self.unchecked += 1;
        if self.unchecked <= self.devices.len() / Self::WALK {
            return;
        }
        self.unchecked = 0;
        let (mut tokens, mut mids, mut owned, mut planned, mut random) = (0, 0, 0, 0, 0);
        for (key, device) in (0..).zip(&self.devices) {
            let Some(device) = device else {
                continue;
            };
            let location = &device.registration.location;
            assert_eq!(self.endpoints.get(&device.endpoint), Some(&key));
            assert_eq!(self.by_location(location), Some(key));
            random += usize::from(matches!(location, Location::Random(_)));
            for token in device.tokens() {
                assert_eq!(self.messages.by_token(token), Some(key), "{token:?}");
            }
            tokens += device.distinct_tokens();
            for mid in device.mids() {
                assert_eq!(self.messages.by_message(device.peer, mid), Some(key));
                mids += 1;
            }
            if let Some(identity) = &device.identity {
                let known = self.identities.get(identity);
                assert!(known.is_some_and(|known| known.contains(key)));
                owned += 1;
            }
            let (at, _) = device.next_deadline();
            assert!(device.timer_at.is_some_and(|planned| planned <= at));
            planned += 1;
        }
        assert_eq!(
            [self.endpoints.len(), self.locations.len()],
            [planned, random]
        );
        assert_eq!((tokens, mids), {
            let (tokens, mids, _) = self.messages.sizes();
            (tokens, mids)
        });
        assert!(self.messages.sizes().2 <= planned, "a peer without device");
        let keys = self.identities.values().map(Identified::len);
        assert_eq!(keys.sum::<usize>(), owned);
        assert_eq!(self.timers.len(), planned);
        assert_eq!(self.free.len() + planned, self.devices.len());
    }
}
