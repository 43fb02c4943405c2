//! Who is where: the one structure that the shards share. It is asked when a device registers,
//! when a location is not known here and when a command is routed, never on the way of a
//! notification.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::Peer;
use super::registration::Location;
use super::sessions::Identity;
use crate::coap::Token;

/// Index of a shard.
pub type ShardId = u16;

/// Endpoints, locations and mountpoints of all shards.
#[derive(Debug, Default)]
pub struct Directory {
    inner: RwLock<Inner>,
}

/// Why an endpoint cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimError {
    /// Another shard has it.
    Elsewhere(ShardId),
    /// A limit is reached.
    Full,
}

#[derive(Debug, Default)]
struct Inner {
    endpoints: HashMap<Arc<str>, ShardId>,
    locations: HashMap<Location, ShardId>,
    /// Registrations by listener.
    listeners: HashMap<u16, usize>,
    /// Tokens of living observations, and whether a notification came from a strange address.
    observations: HashMap<Token, bool>,
    /// DTLS identities that are connected or have registrations.
    identities: HashMap<Arc<Identity>, Connection>,
    /// Rendered mountpoints, only where the template does not name the endpoint, and those that a
    /// host has given.
    mounts: HashMap<Box<str>, Vec<Arc<str>>>,
}

/// The newest connection of an identity.
#[derive(Debug)]
struct Connection {
    shard: ShardId,
    peer: Peer,
    live: bool,
    registrations: usize,
}

impl Directory {
    /// The shard of an endpoint.
    pub fn shard_of(&self, endpoint: &str) -> Option<ShardId> {
        self.inner.read().endpoints.get(endpoint).copied()
    }

    /// The shard of a registration location.
    pub fn shard_of_location(&self, location: &Location) -> Option<ShardId> {
        self.inner.read().locations.get(location).copied()
    }

    /// Endpoints whose rendered mountpoint is `mount`.
    pub fn endpoints_at(&self, mount: &str) -> Vec<Arc<str>> {
        self.inner
            .read()
            .mounts
            .get(mount)
            .cloned()
            .unwrap_or_default()
    }

    /// Whether there are devices whose mountpoint does not name them.
    pub fn has_mounts(&self) -> bool {
        !self.inner.read().mounts.is_empty()
    }

    /// Registrations in all shards.
    pub fn len(&self) -> usize {
        self.inner.read().endpoints.len()
    }

    /// Whether nothing is registered, and nothing is left of what was.
    pub fn is_empty(&self) -> bool {
        let inner = self.inner.read();
        let listeners: usize = inner.listeners.values().sum();
        listeners == 0
            && inner.endpoints.is_empty()
            && inner.locations.is_empty()
            && inner.mounts.is_empty()
            && inner.identities.is_empty()
    }

    /// Takes an endpoint for `shard`. `limits` are the most registrations of the gateway and of
    /// the listener.
    pub(super) fn claim(
        &self,
        endpoint: &Arc<str>,
        shard: ShardId,
        listener: u16,
        limits: (usize, usize),
    ) -> Result<(), ClaimError> {
        let mut inner = self.inner.write();
        match inner.endpoints.get(endpoint) {
            Some(owner) if *owner != shard => return Err(ClaimError::Elsewhere(*owner)),
            Some(_) => return Ok(()),
            None => {}
        }
        let total = inner.endpoints.len();
        let of_listener = inner.listeners.entry(listener).or_default();
        if total >= limits.0 || *of_listener >= limits.1 {
            return Err(ClaimError::Full);
        }
        *of_listener += 1;
        inner.endpoints.insert(endpoint.clone(), shard);
        Ok(())
    }

    pub(super) fn change_listener(&self, from: u16, to: u16) {
        let mut inner = self.inner.write();
        let old = inner.listeners.entry(from).or_default();
        *old = old.saturating_sub(1);
        *inner.listeners.entry(to).or_default() += 1;
    }

    /// Hands an endpoint and its location over to `shard`.
    pub(super) fn assign(&self, endpoint: &Arc<str>, location: &Location, shard: ShardId) {
        let mut inner = self.inner.write();
        inner.endpoints.insert(endpoint.clone(), shard);
        inner.locations.insert(location.clone(), shard);
    }

    /// An identity connected; returns where it was before, if something of it is left there.
    pub(super) fn connect(
        &self,
        identity: &Arc<Identity>,
        shard: ShardId,
        peer: Peer,
    ) -> Option<(ShardId, Peer)> {
        let mut inner = self.inner.write();
        if let Some(connection) = inner.identities.get_mut(identity) {
            let old = (connection.shard, connection.peer);
            (connection.shard, connection.peer, connection.live) = (shard, peer, true);
            return Some(old);
        }
        let connection = Connection {
            shard,
            peer,
            live: true,
            registrations: 0,
        };
        inner.identities.insert(identity.clone(), connection);
        None
    }

    /// A connection ended; that of a newer one is nobody's business.
    pub(super) fn disconnect(&self, identity: &Identity, peer: Peer) {
        let mut inner = self.inner.write();
        if let Some(connection) = inner.identities.get_mut(identity)
            && connection.peer == peer
        {
            connection.live = false;
            if connection.registrations == 0 {
                inner.identities.remove(identity);
            }
        }
    }

    /// Where an identity is connected or was last.
    pub(super) fn connection(&self, identity: &Identity) -> Option<(ShardId, Peer)> {
        let inner = self.inner.read();
        let connection = inner.identities.get(identity)?;
        Some((connection.shard, connection.peer))
    }

    /// Registrations of an identity in all shards.
    pub(super) fn registrations_of(&self, identity: &Identity) -> usize {
        let inner = self.inner.read();
        let connection = inner.identities.get(identity);
        connection.map_or(0, |connection| connection.registrations)
    }

    pub(super) fn registered(&self, identity: &Identity) {
        if let Some(connection) = self.inner.write().identities.get_mut(identity) {
            connection.registrations += 1;
        }
    }

    pub(super) fn unregistered(&self, identity: &Identity) {
        let mut inner = self.inner.write();
        if let Some(connection) = inner.identities.get_mut(identity) {
            connection.registrations = connection.registrations.saturating_sub(1);
            if connection.registrations == 0 && !connection.live {
                inner.identities.remove(identity);
            }
        }
    }

    pub(super) fn observe(&self, token: Token) {
        self.inner.write().observations.insert(token, false);
    }

    pub(super) fn forget_observation(&self, token: Token) {
        self.inner.write().observations.remove(&token);
    }

    /// A message with this token came from an address that is not its device's; true when the
    /// token is that of a living observation.
    pub(super) fn missed(&self, token: Token) -> bool {
        let mut inner = self.inner.write();
        let missed = inner.observations.get_mut(&token);
        missed.is_some_and(|missed| {
            *missed = true;
            true
        })
    }

    /// Whether a notification was missed since this was last asked.
    pub(super) fn take_missed(&self, token: Token) -> bool {
        let mut inner = self.inner.write();
        let missed = inner.observations.get_mut(&token);
        missed.is_some_and(std::mem::take)
    }

    pub(super) fn insert_location(&self, location: &Location, shard: ShardId) {
        self.inner.write().locations.insert(location.clone(), shard);
    }

    pub(super) fn remove_location(&self, location: &Location) {
        self.inner.write().locations.remove(location);
    }

    pub(super) fn insert_mount(&self, mount: &str, endpoint: &Arc<str>) {
        let mut inner = self.inner.write();
        let endpoints = inner.mounts.entry(mount.into()).or_default();
        if !endpoints.contains(endpoint) {
            endpoints.push(endpoint.clone());
        }
    }

    pub(super) fn remove_mount(&self, mount: &str, endpoint: &str) {
        let mut inner = self.inner.write();
        if let Some(endpoints) = inner.mounts.get_mut(mount) {
            endpoints.retain(|known| &**known != endpoint);
            if endpoints.is_empty() {
                inner.mounts.remove(mount);
            }
        }
    }

    pub(super) fn remove(&self, endpoint: &str, listener: u16) {
        let mut inner = self.inner.write();
        if inner.endpoints.remove(endpoint).is_some() {
            let of_listener = inner.listeners.entry(listener).or_default();
            *of_listener = of_listener.saturating_sub(1);
        }
    }
}
