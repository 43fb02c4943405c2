//! Who is where: the one structure that the shards share. It is asked when a device registers,
//! when a location is not known here and when a command is routed, never on the way of a
//! notification.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::connections::{Connection, Connections};
use super::mounts::{MountTaken, Mounts};
use crate::coap::Token;
use crate::engine::identity::Identity;
use crate::engine::peer::{Peer, ShardId};
use crate::engine::registration::Location;
use crate::network::LocalAddresses;
use crate::tables::digest::{Digest, DigestMap};

/// Endpoints, locations and mountpoints of all shards.
#[derive(Debug, Default)]
pub struct Directory {
    locals: Arc<LocalAddresses>,
    inner: RwLock<Inner>,
    /// Commands that wait for devices of all shards, and bytes of memory that they take.
    queued: [AtomicUsize; 2],
    /// Addresses in `restored`.
    restored: AtomicUsize,
    /// The last number that was given.
    order: AtomicU64,
}

/// Why an endpoint cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum ClaimError {
    /// Another shard has it.
    Elsewhere(ShardId),
    /// A limit is reached.
    Full,
    /// Its mountpoint is another endpoint's.
    Mount,
}

/// The identity has a newer connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Outdated;

/// The rendered mountpoint that a device is to have.
#[derive(Debug)]
pub(in crate::engine) struct MountClaim<'a> {
    pub(in crate::engine) mount: &'a str,
    /// It names its endpoint by its form: no other endpoint of the same listener can have it.
    pub(in crate::engine) named: bool,
    /// Others may have it as well, if they say so too.
    pub(in crate::engine) shared: bool,
    /// Endpoints whose mountpoint it would be at other listeners.
    pub(in crate::engine) rivals: Vec<Cow<'a, str>>,
}

/// What a claim has changed.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Claimed {
    was_named: bool,
}

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy)]
struct Endpoint {
    shard: ShardId,
    /// Its mountpoint names it, and is not among the mounts therefore.
    named: bool,
}

#[derive(Debug, Default)]
struct Inner {
    endpoints: HashMap<Arc<str>, Endpoint>,
    /// By the random ones; another names its endpoint.
    locations: DigestMap<ShardId>,
    /// Registrations by listener.
    listeners: HashMap<u16, usize>,
    /// Tokens of living observations.
    observations: DigestMap<Observed>,
    /// Of DTLS identities that are connected or have registrations.
    connections: Connections,
    /// Rendered mountpoints, only where the template does not name the endpoint, and those that a
    /// host has given.
    mounts: Mounts,
    /// The shard of devices that came back from the store and speak without DTLS, by their address.
    restored: HashMap<Peer, ShardId>,
}

impl Inner {
    /// Whether an endpoint may have a mountpoint.
    fn check_mount(&self, endpoint: &str, claim: &MountClaim<'_>) -> Result<(), MountTaken> {
        let is_rival = |name: &Cow<'_, str>| {
            **name != *endpoint && self.endpoints.get(&**name).is_some_and(|it| it.named)
        };
        if claim.rivals.iter().any(is_rival) {
            return Err(MountTaken);
        }
        let shared = claim.shared && !claim.named;
        self.mounts.check(claim.mount, endpoint, shared)
    }

    fn insert_location(&mut self, location: &Location, shard: ShardId) {
        if let Location::Random(number) = location {
            self.locations.set(Digest::of_random(*number), shard);
        }
    }

    fn insert_mount(&mut self, endpoint: &Arc<str>, claim: &MountClaim<'_>) {
        if !claim.named {
            self.mounts.insert(claim.mount, endpoint, claim.shared);
        }
    }
}

/// What is known of an observation.
#[derive(Debug, Default, Clone, Copy)]
struct Observed {
    shard: ShardId,
    /// A notification came from a strange address and was not taken.
    missed: bool,
}

impl Directory {
    /// The addresses of this machine that devices speak to.
    pub const fn locals(&self) -> &Arc<LocalAddresses> {
        &self.locals
    }

    /// Whether another command may wait.
    pub(in crate::engine) fn may_queue(&self, bytes: usize, most: (usize, usize)) -> bool {
        let [commands, total] = &self.queued;
        commands.load(Ordering::Relaxed) < most.0
            && total.load(Ordering::Relaxed).saturating_add(bytes) <= most.1
    }

    /// The queue of a device has changed from so many commands and bytes to others.
    pub(in crate::engine) fn change_queued(&self, from: [usize; 2], to: [usize; 2]) {
        for (total, (from, to)) in self.queued.iter().zip(from.into_iter().zip(to)) {
            // Wraps around, and comes out right.
            total.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
        }
    }

    /// Commands that wait for devices of all shards.
    pub fn queued(&self) -> usize {
        self.queued[0].load(Ordering::Relaxed)
    }

    /// Bytes that these take.
    pub fn queued_bytes(&self) -> usize {
        self.queued[1].load(Ordering::Relaxed)
    }

    /// The shard of an endpoint.
    pub fn shard_of(&self, endpoint: &str) -> Option<ShardId> {
        let inner = self.inner.read();
        inner.endpoints.get(endpoint).map(|known| known.shard)
    }

    /// Gives a command its place in the order of receipt and hands it to the shard of its endpoint.
    /// No endpoint changes its shard meanwhile: what a shard is asked afterwards comes to it behind
    /// all commands that were meant for it before.
    pub fn route<T>(&self, endpoint: &str, hand: impl FnOnce(Option<ShardId>, u64) -> T) -> T {
        let inner = self.inner.read();
        let shard = inner.endpoints.get(endpoint).map(|known| known.shard);
        hand(shard, self.next_number())
    }

    /// A number that nobody else has, from one upwards.
    pub(in crate::engine) fn next_number(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The shard of a registration location.
    pub fn shard_of_location(&self, location: &Location) -> Option<ShardId> {
        match location {
            Location::Random(number) => {
                let inner = self.inner.read();
                inner.locations.get(Digest::of_random(*number))
            }
            Location::Endpoint(name) => self.shard_of(name),
        }
    }

    /// Endpoints whose rendered mountpoint is `mount`.
    pub fn endpoints_at(&self, mount: &str) -> Vec<Arc<str>> {
        self.inner.read().mounts.endpoints_at(mount)
    }

    /// Whether there are devices whose mountpoint does not name them.
    pub fn has_mounts(&self) -> bool {
        !self.inner.read().mounts.is_empty()
    }

    /// Registrations in all shards.
    pub fn len(&self) -> usize {
        self.inner.read().endpoints.len()
    }

    /// Registrations by the number of their listener.
    pub fn by_listener(&self) -> Vec<(u16, usize)> {
        let inner = self.inner.read();
        let listeners = inner.listeners.iter();
        listeners.map(|(number, count)| (*number, *count)).collect()
    }

    /// Whether nothing is registered, and nothing is left of what was.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        let inner = self.inner.read();
        let listeners: usize = inner.listeners.values().sum();
        listeners == 0
            && inner.endpoints.is_empty()
            && inner.locations.is_empty()
            && inner.mounts.is_empty()
            && inner.connections.is_empty()
    }

    /// Takes an endpoint for `shard`, and its mountpoint. `limits` are the most registrations of the
    /// gateway and of the listener. A mountpoint that it had before stays its own until
    /// [`Directory::remove_mount`].
    pub(in crate::engine) fn claim(
        &self,
        endpoint: &Arc<str>,
        shard: ShardId,
        listener: u16,
        limits: (usize, usize),
        mount: &MountClaim<'_>,
    ) -> Result<Claimed, ClaimError> {
        let mut inner = self.inner.write();
        // Before the device is asked of another shard: it had left its own for nothing.
        inner
            .check_mount(endpoint, mount)
            .map_err(|MountTaken| ClaimError::Mount)?;
        match inner.endpoints.get_mut(endpoint) {
            Some(owner) if owner.shard != shard => return Err(ClaimError::Elsewhere(owner.shard)),
            Some(known) => {
                let was_named = std::mem::replace(&mut known.named, mount.named);
                inner.insert_mount(endpoint, mount);
                return Ok(Claimed { was_named });
            }
            None => {}
        }
        let total = inner.endpoints.len();
        let of_listener = inner.listeners.entry(listener).or_default();
        if total >= limits.0 || *of_listener >= limits.1 {
            return Err(ClaimError::Full);
        }
        *of_listener += 1;
        let named = mount.named;
        inner
            .endpoints
            .insert(endpoint.clone(), Endpoint { shard, named });
        inner.insert_mount(endpoint, mount);
        Ok(Claimed { was_named: named })
    }

    /// Undoes [`Directory::claim`]. `own` is the mountpoint that the endpoint keeps, if it was
    /// registered before.
    pub(in crate::engine) fn give_back(
        &self,
        endpoint: &str,
        listener: u16,
        mount: &str,
        claimed: Claimed,
        own: Option<&str>,
    ) {
        if own != Some(mount) {
            self.remove_mount(mount, endpoint);
        }
        match own {
            None => self.remove(endpoint, listener),
            Some(_) => {
                if let Some(known) = self.inner.write().endpoints.get_mut(endpoint) {
                    known.named = claimed.was_named;
                }
            }
        }
    }

    /// Gives a device another mountpoint than `old`, which it may have had already.
    pub(in crate::engine) fn change_mount(
        &self,
        endpoint: &Arc<str>,
        old: &str,
        claim: &MountClaim<'_>,
    ) -> Result<(), MountTaken> {
        let mut inner = self.inner.write();
        inner.check_mount(endpoint, claim)?;
        if old != claim.mount || claim.named {
            inner.mounts.remove(old, endpoint);
        }
        inner.insert_mount(endpoint, claim);
        if let Some(known) = inner.endpoints.get_mut(endpoint) {
            known.named = claim.named;
        }
        Ok(())
    }

    pub(in crate::engine) fn change_listener(&self, from: u16, to: u16) {
        let mut inner = self.inner.write();
        let old = inner.listeners.entry(from).or_default();
        *old = old.saturating_sub(1);
        *inner.listeners.entry(to).or_default() += 1;
    }

    /// Hands an endpoint and its location over to `shard`.
    pub(in crate::engine) fn assign(
        &self,
        endpoint: &Arc<str>,
        location: &Location,
        shard: ShardId,
    ) {
        let mut inner = self.inner.write();
        inner
            .endpoints
            .entry(endpoint.clone())
            .and_modify(|known| known.shard = shard)
            .or_insert(Endpoint {
                shard,
                named: false,
            });
        inner.insert_location(location, shard);
    }

    /// An identity connected; returns where it was before, if something of it is left there. A
    /// connection that `came_back` from the store is older than any other.
    pub(in crate::engine) fn connect(
        &self,
        identity: &Arc<Identity>,
        shard: ShardId,
        peer: Peer,
        came_back: bool,
    ) -> Result<Option<(ShardId, Peer)>, Outdated> {
        let mut inner = self.inner.write();
        if let Some(connection) = inner.connections.get_mut(identity.presented()) {
            // Of two that came back the second is the newer one.
            if came_back && connection.live && !connection.came_back {
                return Err(Outdated);
            }
            let old = (connection.shard, connection.peer);
            (connection.shard, connection.peer, connection.live) = (shard, peer, true);
            connection.came_back = came_back;
            return Ok(Some(old));
        }
        let connection = Connection {
            shard,
            peer,
            live: true,
            came_back,
            registrations: 0,
        };
        inner
            .connections
            .get_or_insert(&identity.shared(), connection);
        Ok(None)
    }

    /// A connection ended; that of a newer one is nobody's business.
    pub(in crate::engine) fn disconnect(&self, identity: &Identity, peer: Peer) {
        let mut inner = self.inner.write();
        if let Some(connection) = inner.connections.get_mut(identity.presented())
            && connection.peer == peer
        {
            connection.live = false;
            if connection.registrations == 0 {
                inner.connections.remove(identity.presented());
            }
        }
    }

    /// All connections of a shard are ended; this is one of them, unless its identity has a newer one.
    pub(in crate::engine) fn abandon(&self, identity: &Identity, shard: ShardId) {
        let connection = self.connection(identity);
        if let Some((_, peer)) = connection.filter(|(of, _)| *of == shard) {
            self.disconnect(identity, peer);
        }
    }

    /// Where an identity is connected or was last.
    pub(in crate::engine) fn connection(&self, identity: &Identity) -> Option<(ShardId, Peer)> {
        let inner = self.inner.read();
        let connection = inner.connections.get(identity.presented())?;
        Some((connection.shard, connection.peer))
    }

    /// Registrations of an identity in all shards.
    pub(in crate::engine) fn registrations_of(&self, identity: &Identity) -> usize {
        let inner = self.inner.read();
        let connection = inner.connections.get(identity.presented());
        connection.map_or(0, |connection| connection.registrations as usize)
    }

    /// Whether an identity of this name is connected or has registrations.
    pub(in crate::engine) fn knows_identity(&self, presented: &[u8]) -> bool {
        self.inner.read().connections.get(presented).is_some()
    }

    /// A registration of an identity came back from the store; the identity is not connected.
    pub(in crate::engine) fn remember(&self, identity: &Identity, shard: ShardId, peer: Peer) {
        let mut inner = self.inner.write();
        let new = Connection {
            shard,
            peer,
            live: false,
            came_back: false,
            registrations: 0,
        };
        if let Some(known) = inner.connections.get_or_insert(&identity.shared(), new) {
            known.registrations += 1;
        }
    }

    /// So many devices will come.
    pub(in crate::engine) fn reserve(&self, devices: usize) {
        let mut inner = self.inner.write();
        inner.endpoints.reserve(devices);
    }

    /// A device came back from the store in `shard`, and nothing but its address shows whose its
    /// messages are.
    pub(in crate::engine) fn insert_restored(&self, peer: Peer, shard: ShardId) {
        let mut inner = self.inner.write();
        inner.restored.insert(peer, shard);
        self.restored.store(inner.restored.len(), Ordering::Relaxed);
    }

    /// Whether any such device may be elsewhere.
    pub(in crate::engine) fn has_restored(&self) -> bool {
        self.restored.load(Ordering::Relaxed) > 0
    }

    /// The shard of such a device; asked for once.
    pub(in crate::engine) fn take_restored(&self, peer: Peer) -> Option<ShardId> {
        if !self.has_restored() || !self.inner.read().restored.contains_key(&peer) {
            return None;
        }
        let mut inner = self.inner.write();
        let shard = inner.restored.remove(&peer);
        let few = inner.restored.len().saturating_mul(2);
        if inner.restored.capacity() > few.saturating_mul(4).max(64) {
            inner.restored.shrink_to(few);
        }
        self.restored.store(inner.restored.len(), Ordering::Relaxed);
        shard
    }

    pub(in crate::engine) fn registered(&self, identity: &Identity) {
        if let Some(connection) = self.inner.write().connections.get_mut(identity.presented()) {
            connection.registrations += 1;
        }
    }

    pub(in crate::engine) fn unregistered(&self, identity: &Identity) {
        let mut inner = self.inner.write();
        if let Some(connection) = inner.connections.get_mut(identity.presented()) {
            connection.registrations = connection.registrations.saturating_sub(1);
            if connection.registrations == 0 && !connection.live {
                inner.connections.remove(identity.presented());
            }
        }
    }

    /// A device of `shard` has an observation with this token.
    pub(in crate::engine) fn observe(&self, token: Token, shard: ShardId) {
        let new = Observed {
            shard,
            missed: false,
        };
        let mut inner = self.inner.write();
        let known = inner.observations.get_mut(Digest::of_random(token.0));
        match known {
            Some(known) => known.shard = shard,
            None => inner.observations.set(Digest::of_random(token.0), new),
        }
    }

    /// The shard of the device that has an observation with this token.
    pub(in crate::engine) fn shard_of_observation(&self, token: Token) -> Option<ShardId> {
        let inner = self.inner.read();
        inner
            .observations
            .get(Digest::of_random(token.0))
            .map(|known| known.shard)
    }

    pub(in crate::engine) fn forget_observation(&self, token: Token) {
        self.inner
            .write()
            .observations
            .remove(Digest::of_random(token.0));
    }

    /// A message with this token came from an address that is not its device's; true when the
    /// token is that of a living observation.
    pub(in crate::engine) fn missed(&self, token: Token) -> bool {
        let mut inner = self.inner.write();
        let known = inner.observations.get_mut(Digest::of_random(token.0));
        known.map(|known| known.missed = true).is_some()
    }

    /// Whether a notification was missed since this was last asked.
    pub(in crate::engine) fn take_missed(&self, token: Token) -> bool {
        let mut inner = self.inner.write();
        let known = inner.observations.get_mut(Digest::of_random(token.0));
        known.is_some_and(|known| std::mem::take(&mut known.missed))
    }

    pub(in crate::engine) fn insert_location(&self, location: &Location, shard: ShardId) {
        self.inner.write().insert_location(location, shard);
    }

    pub(in crate::engine) fn remove_location(&self, location: &Location) {
        if let Location::Random(number) = location {
            let mut inner = self.inner.write();
            inner.locations.remove(Digest::of_random(*number));
        }
    }

    pub(in crate::engine) fn remove_mount(&self, mount: &str, endpoint: &str) {
        self.inner.write().mounts.remove(mount, endpoint);
    }

    pub(in crate::engine) fn remove(&self, endpoint: &str, listener: u16) {
        let mut inner = self.inner.write();
        if inner.endpoints.remove(endpoint).is_some() {
            let of_listener = inner.listeners.entry(listener).or_default();
            *of_listener = of_listener.saturating_sub(1);
        }
    }
}
