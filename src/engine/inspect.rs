//! What an engine knows and holds, for hosts, statistics and tests.

use super::front::Engine;
use super::info::DeviceInfo;
#[cfg(feature = "internals")]
use super::load::Load;
use super::peer::{Peer, ShardId};
#[cfg(feature = "internals")]
use crate::memory::Kind;
use crate::time::Now;

impl Engine {
    /// Registered devices.
    #[cfg(feature = "internals")]
    pub fn len(&self) -> usize {
        self.core.registry.len()
    }

    /// Whether no device is registered.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.core.registry.is_empty()
    }

    /// Whether a device that speaks from `peer` is registered.
    pub fn is_registered(&self, peer: Peer) -> bool {
        self.core.registry.bound(peer).is_some()
    }

    /// What is known of all devices of this shard.
    pub fn device_infos(&self, now: Now) -> Vec<DeviceInfo> {
        let devices = self.core.registry.devices();
        let infos = devices.map(|device| self.core.info(now, device));
        infos.collect()
    }

    /// What is known of one device.
    pub fn device_info(&self, now: Now, endpoint: &str) -> Option<DeviceInfo> {
        let key = self.core.registry.by_endpoint(endpoint)?;
        let device = self.core.device(key)?;
        Some(self.core.info(now, device))
    }

    /// The shard to which a device that is not here has gone, or is on its way.
    pub fn shard_of_absent(&self, endpoint: &str) -> Option<ShardId> {
        match self.core.registry.by_endpoint(endpoint) {
            Some(_) => None,
            None => self.core.elsewhere(endpoint),
        }
    }

    /// What the engine holds now. Goes through all devices.
    #[cfg(feature = "internals")]
    pub fn load(&self) -> Load {
        let registry = &self.core.registry;
        let mut sums = [0; 3];
        for device in registry.devices() {
            for (sum, size) in sums.iter_mut().zip(device.sizes()) {
                *sum += size;
            }
        }
        let [observations, exchanges, queued] = sums;
        let [locations, tokens, in_flight, peers, identities, timers] = registry.sizes();
        Load {
            devices: registry.len(),
            observations,
            exchanges,
            queued,
            locations,
            peers,
            tokens,
            in_flight,
            replies: self.core.dedup.len(),
            transfers: self.requests.assemblies.len(),
            pending: self.requests.pending.len(),
            authorizations: self.requests.authorizations.len(),
            sessions: self.core.sessions.len(),
            arrivals: self.arrivals.len(),
            rebindings: self.rebindings.len(),
            identities,
            departed: self.core.departed.len(),
            timers,
            outputs: self.core.effects.len(),
        }
    }

    /// What the shard is charged with and what it holds, counted anew, by kind: for tests, which
    /// find them equal after every call.
    #[cfg(feature = "internals")]
    pub fn audit(&self) -> [(Kind, usize, usize); 6] {
        let mut sum = [0; 3];
        for device in self.core.registry.devices() {
            let counted = device.recount();
            let counted = [counted.registration(), counted.work(), counted.queue()];
            sum.iter_mut().zip(counted).for_each(|(sum, it)| *sum += it);
        }
        let [registrations, work, queues] = sum;
        let waiting = self.requests.pending.recount()
            + self.requests.authorizations.recount()
            + self.arrivals.recount()
            + self.core.departed.recount();
        let blocks = self.requests.assemblies.audit();
        let replies = self.core.dedup.audit();
        let accounts = &self.core.accounts;
        [
            (
                Kind::Registrations,
                accounts.registrations.used(),
                registrations,
            ),
            (Kind::Observations, accounts.observations.used(), work),
            (Kind::Queues, accounts.queues.used(), queues),
            (Kind::Waiting, accounts.waiting.used(), waiting),
            (Kind::Blocks, blocks.0, blocks.1),
            (Kind::Duplicates, replies.0, replies.1),
        ]
    }
}
