//! Devices that follow their identity or their address, within a shard and to another one.

use tracing::debug;

use super::handoff::{Handoff, Wanted, Withheld};
use crate::config::Takeover;
use crate::engine::claims::Claim;
use crate::engine::core::Core;
use crate::engine::device::Device;
use crate::engine::identity::Identity;
use crate::engine::info::GoneReason;
use crate::engine::peer::{DeviceKey, Peer, ShardId};
use crate::engine::reach::Trust;
use crate::telemetry::limited;

impl Core {
    /// A device is at its newer connection now; the handshake was a sign of life.
    pub(super) fn follow(&mut self, key: DeviceKey, new: Peer) {
        self.move_peer(key, new);
        self.env.counters.address_changed.inc();
        let now = self.now.mono;
        self.with(key, |device, _| {
            device.last_seen = now;
            let endpoint = &device.endpoint;
            debug!(%endpoint, peer = %new.address, "registration follows its identity");
        });
        self.registry.set_unconfirmed(key);
    }

    /// A device that came back from the store goes where its identity has connected meanwhile, or ends,
    /// as one that had been there already.
    pub(in crate::engine) fn follow_connection(&mut self, key: DeviceKey, identity: &Identity) {
        let Some((shard, new)) = self.env.directory.connection(identity) else {
            return;
        };
        let is_there = self.device(key).is_none_or(|device| device.peer == new);
        if is_there {
            return;
        }
        match self.takeover(key, new) {
            Takeover::End => self.remove(key, GoneReason::Displaced),
            Takeover::Move if shard == self.env.shard => self.follow(key, new),
            Takeover::Move => self.send_after(key, new, shard),
        }
    }

    /// What becomes of a device whose identity has a newer connection. The connection of one that came
    /// back from the store has ended with its process: nothing has displaced it.
    pub(super) fn takeover(&self, key: DeviceKey, new: Peer) -> Takeover {
        let came_back = self.device(key).is_some_and(|device| device.absent);
        let listener = self.env.listener(new.listener).filter(|_| !came_back);
        listener.map_or(Takeover::Move, |listener| listener.takeover)
    }

    /// A connection has registered `speaker`. What was moved to it and it has not spoken for
    /// belongs to another device with the same identity, which has no connection any more: its
    /// commands must not go to this one.
    pub(in crate::engine) fn end_unconfirmed(&mut self, speaker: DeviceKey) {
        let Some((device, _)) = self.registry.get_mut(speaker) else {
            return;
        };
        device.unconfirmed = false;
        let Some(identity) = device.identity.clone() else {
            return;
        };
        for key in self.registry.take_unconfirmed(&identity) {
            if let Some(device) = self.device(key) {
                let endpoint = &device.endpoint;
                limited!(INFO, self.env.counters, self.now.mono, RegistrationDisplaced,
                    %endpoint,
                    "registration ended: its identity has registered another endpoint");
            }
            self.remove(key, GoneReason::Displaced);
        }
    }

    /// Gives a device to the shard of its newer connection.
    pub(super) fn send_after(&mut self, key: DeviceKey, new: Peer, to: ShardId) {
        let Some(mut device) = self.detach(key) else {
            return;
        };
        let directory = &self.env.directory;
        if device.peer.listener != new.listener {
            directory.change_listener(device.peer.listener, new.listener);
        }
        let endpoint = &device.endpoint;
        debug!(%endpoint, peer = %new.address, "registration follows its identity");
        device.peer = new;
        device.absent = false;
        device.trust = Trust::Proven;
        device.last_seen = self.now.mono;
        device.unconfirmed = true;
        self.depart(&mut device, to);
        self.effects.hand_off(to, Handoff::Adopt(device));
    }

    /// Takes in a device whose identity connected here, or had connected here and is elsewhere by
    /// now.
    pub(in crate::engine) fn adopt_identified(&mut self, device: Box<Device>) {
        let directory = &self.env.directory;
        let identity = device.identity.as_ref();
        let newest = identity.and_then(|identity| directory.connection(identity));
        let peer = device.peer;
        let endpoint = device.endpoint.clone();
        self.adopt(device);
        self.env.counters.address_changed.inc();
        let Some(key) = self.registry.by_endpoint(&endpoint) else {
            return;
        };
        match newest {
            Some((shard, new)) if shard != self.env.shard => self.send_after(key, new, shard),
            Some((_, new)) if new != peer => self.follow(key, new),
            _ => {}
        }
    }

    /// Gives a device away with all its state, because it was heard of in another shard.
    pub(in crate::engine) fn release(
        &mut self,
        wanted: &Wanted,
        identity: Option<&Identity>,
        to: ShardId,
    ) -> Result<Box<Device>, Withheld> {
        let (key, claim) = match wanted {
            Wanted::Endpoint(endpoint) => (self.registry.by_endpoint(endpoint), Claim::Register),
            Wanted::Location(location) if self.may_move(location) => {
                (self.registry.by_location(location), Claim::Keep)
            }
            Wanted::Location(_) => return Err(Withheld::Absent),
            Wanted::Token(token) => (self.registry.by_token(*token), Claim::Keep),
            Wanted::Peer(peer) => (self.registry.at(*peer), Claim::Keep),
        };
        let key = key.ok_or(Withheld::Absent)?;
        let device = self.device(key).ok_or(Withheld::Absent)?;
        if !self.may_claim(device, identity, claim) {
            return Err(Withheld::OtherIdentity);
        }
        let mut device = self.detach(key).ok_or(Withheld::Absent)?;
        self.depart(&mut device, to);
        Ok(device)
    }
}
