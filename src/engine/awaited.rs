//! Devices of the store that are not back yet, by everything that a message may name them by. The
//! directory knows them already: to other shards, and to whoever routes commands, they are there.

use std::collections::HashMap;
use std::sync::Arc;

use super::identity::Identity;
use super::peer::Peer;
use super::registration::Location;
use super::stored::Restored;
use crate::coap::Token;

/// A device whose place is taken: its endpoint, its mountpoint and whatever leads to it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) restored: Restored,
    pub(super) endpoint: Arc<str>,
    pub(super) peer: Peer,
    /// As the configuration has it now.
    pub(super) mount: Box<str>,
}

/// Where a device stands.
type Place = u32;

/// Where one device stands, and rarely more of them.
#[derive(Debug, Default)]
struct Places {
    first: Option<Place>,
    more: Vec<Place>,
}

impl Places {
    fn add(&mut self, place: Place) {
        match self.first {
            None => self.first = Some(place),
            Some(_) => self.more.push(place),
        }
    }

    fn all(&self) -> impl Iterator<Item = Place> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// See the module. What leads to a device that is back stays until all are: it leads to nothing.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    devices: Vec<Option<Box<Prepared>>>,
    /// Those before it are back.
    next: usize,
    endpoints: HashMap<Arc<str>, Place>,
    /// Random ones; others are endpoint names.
    locations: HashMap<u64, Place>,
    tokens: HashMap<Token, Place>,
    peers: HashMap<Peer, Places>,
    /// By what was presented.
    identities: HashMap<Box<[u8]>, Places>,
}

impl Awaited {
    /// Whether all are back.
    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// So many will come: tables that grow step by step are filled twice.
    pub(super) fn reserve(&mut self, devices: usize) {
        self.devices.reserve(devices);
        self.endpoints.reserve(devices);
        self.locations.reserve(devices);
        self.tokens.reserve(devices);
        self.peers.reserve(devices);
    }

    pub(super) fn insert(&mut self, device: Prepared) {
        // There are never so many devices.
        let Ok(place) = Place::try_from(self.devices.len()) else {
            return;
        };
        let stored = &device.restored.device;
        self.endpoints.insert(device.endpoint.clone(), place);
        if let Some(number) = stored.registration.random_location() {
            self.locations.insert(number, place);
        }
        for observation in &device.restored.observations {
            self.tokens.insert(Token(observation.token), place);
        }
        self.peers.entry(device.peer).or_default().add(place);
        if let Some(identity) = &stored.identity {
            let presented = identity.presented.clone();
            self.identities.entry(presented).or_default().add(place);
        }
        self.devices.push(Some(Box::new(device)));
    }

    /// The next one in order; nothing when all are back.
    pub(super) fn pop(&mut self) -> Option<Box<Prepared>> {
        while let Some(device) = self.devices.get_mut(self.next) {
            self.next += 1;
            if let Some(device) = device.take() {
                return Some(device);
            }
        }
        *self = Self::default();
        None
    }

    pub(super) fn take_endpoint(&mut self, endpoint: &str) -> Option<Box<Prepared>> {
        self.take(*self.endpoints.get(endpoint)?)
    }

    pub(super) fn take_location(&mut self, location: &Location) -> Option<Box<Prepared>> {
        match location {
            Location::Random(number) => self.take(*self.locations.get(number)?),
            Location::Endpoint(name) => self.take_endpoint(name),
        }
    }

    pub(super) fn take_token(&mut self, token: Token) -> Option<Box<Prepared>> {
        self.take(*self.tokens.get(&token)?)
    }

    /// In the order in which they are stored.
    #[expect(clippy::vec_box, reason = "they stay where they are: each is large")]
    pub(super) fn take_peer(&mut self, peer: Peer) -> Vec<Box<Prepared>> {
        let places = self.peers.remove(&peer).unwrap_or_default();
        places.all().filter_map(|place| self.take(place)).collect()
    }

    #[expect(clippy::vec_box, reason = "they stay where they are: each is large")]
    pub(super) fn take_identity(&mut self, identity: &Identity) -> Vec<Box<Prepared>> {
        let places = self.identities.remove(identity.presented());
        let places = places.unwrap_or_default();
        places.all().filter_map(|place| self.take(place)).collect()
    }

    /// Whether a device is awaited from there.
    pub(super) fn has_peer(&self, peer: Peer) -> bool {
        self.peers.contains_key(&peer)
    }

    fn take(&mut self, place: Place) -> Option<Box<Prepared>> {
        self.devices.get_mut(place as usize)?.take()
    }
}
