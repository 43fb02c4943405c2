//! What a call brings along for the device it concerns.

use std::net::IpAddr;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::account::Accounts;
use super::effects::Effects;
use super::index::DeviceIndex;
use super::peer::{Peer, ShardId};
use super::reach::Reach;
use super::settings::{ListenerSettings, Settings};
use super::sharding::Directory;
use super::stored::Keeping;
use crate::config::Config;
use crate::lwm2m::model::ObjectModels;
use crate::telemetry::Counters;
use crate::time::{Instant, Now};

/// What stays the same from call to call: the configuration, and what all shards share.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) settings: Arc<Settings>,
    pub(super) models: Arc<ObjectModels>,
    pub(super) counters: Arc<Counters>,
    pub(super) directory: Arc<Directory>,
    pub(super) shard: ShardId,
    pub(super) per_device_subscriptions: bool,
    pub(super) device_events: bool,
    /// Whether the host takes messages about whether devices can be reached.
    pub(super) states: bool,
    pub(super) authorize: bool,
    /// With a store: what is to be kept in it, and how.
    pub(super) keeping: Option<Keeping>,
    /// The store cannot be written at the moment.
    pub(super) volatile: bool,
}

impl Environment {
    pub(super) fn config(&self) -> &Config {
        &self.settings.config
    }

    /// As in `udp:default`.
    pub(super) fn listener_name(&self, peer: Peer) -> String {
        let listener = self.listener(peer.listener);
        listener.map(|it| it.name.to_string()).unwrap_or_default()
    }

    /// The same for whoever keeps it.
    pub(super) fn shared_listener_name(&self, peer: Peer) -> Arc<str> {
        let listener = self.listener(peer.listener);
        listener.map_or_else(|| "".into(), |it| it.name.clone())
    }

    /// The address of this machine that a device speaks to, if that is known.
    pub(super) fn address_of(&self, peer: Peer) -> Option<IpAddr> {
        let one = |listener: &ListenerSettings| {
            let address = listener.bind.ip();
            (!address.is_unspecified()).then_some(address)
        };
        let told = self.directory.locals().address(peer.local);
        told.or_else(|| self.listener(peer.listener).and_then(one))
    }

    pub(super) fn listener(&self, number: u16) -> Option<&ListenerSettings> {
        self.settings.listener(number)
    }
}

/// Numbers for commands in the store: none is used twice, by whichever shard, and they grow.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: u64,
}

impl Numbers {
    /// The next one of this shard. The clock goes on from one start to the next.
    pub(super) fn next(&mut self, now: Instant, shard: ShardId) -> u64 {
        let by_time = now.as_micros() << 8;
        let next = by_time.max((self.last | 0xff) + 1) | u64::from(shard & 0xff);
        self.last = next;
        next
    }

    /// One that was given before.
    pub(super) fn note(&mut self, number: u64) {
        self.last = self.last.max(number);
    }
}

/// Everything that a device may touch beside itself.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) env: &'a Environment,
    pub(super) rng: &'a mut ChaCha8Rng,
    /// The part of the registry's tables that is this device's.
    pub(super) index: DeviceIndex<'a>,
    pub(super) accounts: &'a mut Accounts,
    pub(super) reach: &'a mut Reach,
    pub(super) numbers: &'a mut Numbers,
    pub(super) effects: &'a mut Effects,
}

impl<'a> Context<'a> {
    pub(super) fn config(&self) -> &'a Config {
        &self.env.settings.config
    }

    pub(super) fn counters(&self) -> &'a Counters {
        &self.env.counters
    }
}
