//! The front door: datagrams, commands, hand-offs and time come in, whose business it is gets
//! called, and the effects go out.

use std::net::SocketAddr;
use std::sync::Arc;

use super::awaited::Awaited;
use super::context::Environment;
use super::core::Core;
use super::device::{Device, PortableSession, Refusal};
use super::effects::Output;
use super::identity::SecureSession;
use super::info::{AuthorizationId, Decision, DeviceEvent, GoneReason};
use super::input::CommandInput;
use super::peer::{Peer, ShardId};
use super::rebinding::Rebindings;
use super::server::{Assemblies, Requests};
use super::settings::Settings;
use super::sharding::{Arrivals, Directory, Handoff};
use super::timer::Reason;
use crate::admission::Limit;
use crate::credentials::Credential;
use crate::lwm2m::model::ObjectModels;
use crate::memory::{Kind, Memory, Tally};
use crate::telemetry::Counters;
use crate::time::{Instant, Now};

/// Devices looked at in one call of [`Engine::handle_timeout`]; the rest is due at once again.
pub(super) const TIMEOUTS_PER_CALL: usize = 1024;

/// See [the module](super).
#[derive(Debug)]
pub struct Engine {
    pub(super) core: Core,
    pub(super) requests: Requests,
    pub(super) arrivals: Arrivals,
    pub(super) rebindings: Rebindings,
    /// Whether commands are only refused.
    pub(super) stopping: bool,
}

/// What an [`Engine`] is made of.
#[derive(Debug)]
pub struct EngineOptions {
    /// Configuration.
    pub settings: Arc<Settings>,
    /// Object definitions.
    pub models: Arc<ObjectModels>,
    /// Where to count.
    pub counters: Arc<Counters>,
    /// Shared by all shards of a gateway.
    pub directory: Arc<Directory>,
    /// Shared by all shards of a gateway.
    pub memory: Arc<Memory>,
    /// How many shards there are.
    pub shards: u16,
    /// Index of this shard.
    pub shard: ShardId,
    /// Source of all randomness; must be unguessable outside of tests, since registration
    /// locations and tokens come from it.
    pub seed: [u8; 32],
    /// Whether to emit [`Output::Subscribe`] for each device.
    pub per_device_subscriptions: bool,
    /// Whether to emit [`Output::Authorize`] for each Register.
    pub authorize: bool,
    /// Whether to emit [`Output::DeviceEvent`].
    pub device_events: bool,
    /// Whether to publish whether devices can be reached, if the configuration wants it.
    pub states: bool,
}

/// What comes in.
impl Engine {
    /// An engine without devices.
    pub fn new(options: EngineOptions) -> Self {
        let env = Environment {
            settings: options.settings,
            models: options.models,
            counters: options.counters,
            directory: options.directory,
            shard: options.shard,
            per_device_subscriptions: options.per_device_subscriptions,
            device_events: options.device_events,
            states: options.states,
            authorize: options.authorize,
            keeping: None,
            volatile: false,
        };
        let blocks = Tally::new(options.memory.clone(), Kind::Blocks);
        Self {
            core: Core::new(env, &options.memory, options.shards, options.seed),
            requests: Requests::new(Assemblies::new(blocks)),
            arrivals: Arrivals::default(),
            rebindings: Rebindings::default(),
            stopping: false,
        }
    }

    /// Whether a datagram from `from` is within what its device may send; `None` when no device is
    /// registered there. Counts it.
    pub fn admit(&mut self, now: Instant, from: Peer, limit: Option<Limit>) -> Option<bool> {
        let Some(state) = self.core.registry.messages().peer_mut(from) else {
            return self.core.awaited.has_peer(from).then_some(true);
        };
        Some(limit.is_none_or(|limit| state.sent.take(now, limit, 1)))
    }

    /// Takes a datagram. Network input is never an error: it is answered or counted.
    pub fn handle_datagram(&mut self, now: Now, from: Peer, datagram: &[u8]) {
        self.core.now = now;
        self.recall_for(from, datagram);
        self.take_datagram(from, datagram);
        self.check();
    }

    /// Takes a command.
    pub fn handle_command(&mut self, now: Now, input: CommandInput) {
        self.core.now = now;
        self.core.env.counters.commands.inc();
        self.core.recall(&input.endpoint);
        self.take_command(input, 0);
        self.check();
    }

    /// The host's word on [`Output::Authorize`]. One that comes too late changes nothing.
    pub fn handle_authorization(&mut self, now: Now, id: AuthorizationId, decision: Decision) {
        self.core.now = now;
        self.server().handle_authorization(id, decision);
        self.check();
    }

    /// A DTLS session was established: an older connection of the identity ends, its
    /// registrations come here or end (`takeover`).
    pub fn handle_session(&mut self, now: Now, peer: Peer, session: SecureSession) {
        self.core.now = now;
        let held = self.arrivals.connect(&mut self.core, peer, session);
        self.take_held(held);
        self.check();
    }

    /// A DTLS session ended. Its registrations stay for a newer one.
    pub fn handle_session_closed(&mut self, peer: Peer) {
        self.arrivals.disconnect(&mut self.core, peer);
        self.check();
    }

    /// Who speaks from `peer` has another credential now, with other endpoints for instance.
    pub fn renew_credential(&mut self, peer: Peer, credential: Arc<Credential>) {
        if let Some(session) = self.core.sessions.get_mut(peer) {
            let address = session.address.take();
            *session = SecureSession::new(session.identity.presented(), credential);
            session.address = address;
        }
    }

    /// The device of a DTLS session has another address from now on. All that is under way goes on: to
    /// the engine it is the same peer.
    pub fn note_address(&mut self, peer: Peer, address: SocketAddr) {
        let Some(session) = self.core.sessions.get_mut(peer) else {
            return;
        };
        session.address = (address != peer.address).then(|| Box::new(address));
        self.core.env.counters.address_changed.inc();
        if let Some(key) = self.core.registry.bound(peer) {
            self.core.announce(key, DeviceEvent::Updated);
        }
    }

    /// Takes what another shard says.
    pub fn handle_handoff(&mut self, now: Now, handoff: Handoff) {
        self.core.now = now;
        if self.stopping {
            self.refuse_handoff(handoff);
        } else {
            self.recall_for_handoff(&handoff);
            self.take_handoff(handoff);
        }
        self.check();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.core.now = now;
        self.core.dedup.expire(now.mono);
        self.requests.assemblies.expire(now.mono);
        let freed = self.core.departed.expire(now.mono);
        self.core.accounts.waiting.release(freed);
        self.rebindings.expire(now.mono);
        self.expire_arrivals();
        let mut server = self.server();
        // What is still to be answered must be known to have been acknowledged.
        if server.expire_authorizations(TIMEOUTS_PER_CALL) {
            server.expire_pending();
        }
        for _ in 0..TIMEOUTS_PER_CALL {
            let Some(key) = self.core.registry.pop_due(now.mono) else {
                break;
            };
            if self.core.with(key, Device::handle_timeout) == Some(false) {
                self.core.env.counters.expired.inc();
                self.core.remove(key, GoneReason::Expired);
            }
        }
        self.check();
    }

    /// The next effect, or [`Output::Idle`] with the next deadline. Its answer changes with every
    /// `handle_*` call; extra calls are harmless.
    #[must_use]
    pub fn poll_output(&mut self) -> Output {
        match self.core.effects.pop() {
            Some(Output::Publish(mut publish)) => {
                if self.core.env.config().received_at {
                    publish.stamp(self.core.now.unix_ms);
                }
                Output::Publish(publish)
            }
            Some(output) => output,
            None => Output::Idle(self.next_deadline()),
        }
    }

    fn next_deadline(&self) -> Option<(Instant, Reason)> {
        let blocks = self.requests.assemblies.deadline();
        let blocks = blocks.map(|at| (at, Reason::BlockTransfer));
        let handoff = [
            self.requests.pending.deadline(),
            self.core.departed.deadline(),
            self.requests.authorizations.deadline(),
            self.arrivals.deadline(),
        ];
        let handoff = handoff.into_iter().flatten().min();
        let handoff = handoff.map(|at| (at, Reason::Handoff));
        let device = self.core.registry.next_deadline();
        [device, blocks, handoff].into_iter().flatten().min()
    }
}

/// What an operator does.
impl Engine {
    /// Replaces the configuration. Mountpoints of registered devices follow it.
    pub fn reconfigure(&mut self, settings: Arc<Settings>, models: Arc<ObjectModels>) {
        // Places were taken by the old one.
        if !Arc::ptr_eq(&settings, &self.core.env.settings) {
            self.core.recall_all();
        }
        self.core.env.settings = settings;
        self.core.env.models = models;
        for key in self.core.registry.keys_of(|_| true) {
            self.core.remount(key);
        }
        self.check();
    }

    /// Ends a registration by order of the host. Its device is not told; it finds out by its next
    /// Update.
    pub fn kick(&mut self, endpoint: &str) {
        self.core.recall(endpoint);
        if let Some(key) = self.core.registry.by_endpoint(endpoint) {
            self.core.remove(key, GoneReason::Kicked);
        }
        self.check();
    }

    /// A listener was closed: its registrations end.
    pub fn close_listener(&mut self, listener: u16) {
        self.core.recall_all();
        let registry = &self.core.registry;
        for key in registry.keys_of(|device| device.peer.listener == listener) {
            self.core.remove(key, GoneReason::ListenerClosed);
        }
        self.check();
    }

    /// Ends a registration here and returns what another gateway needs to go on with the device.
    /// A request that is under way is answered as for a device that is gone. No report is
    /// published, since the device is still there.
    pub fn export(&mut self, now: Now, endpoint: &str) -> Option<PortableSession> {
        self.core.now = now;
        self.core.recall(endpoint);
        let key = self.core.registry.by_endpoint(endpoint)?;
        let session = self.core.with(key, Device::export)?;
        self.core.remove(key, GoneReason::Exported);
        self.check();
        Some(session)
    }

    /// Goes on with what [`Engine::export`] returned elsewhere; false when the device is not
    /// registered here. Observations are asked for again, with their tokens.
    pub fn import(&mut self, now: Now, endpoint: &str, session: PortableSession) -> bool {
        self.core.now = now;
        self.core.recall(endpoint);
        let key = self.core.registry.by_endpoint(endpoint);
        let imported = key.and_then(|key| {
            self.core
                .with(key, |device, cx| device.import(cx, &session))
        });
        self.check();
        imported.is_some()
    }

    /// Whether no command is at a device, also one that has only acknowledged it so far.
    pub fn is_quiet(&self) -> bool {
        let mut devices = self.core.registry.devices();
        !devices.any(Device::has_command_under_way)
    }

    /// The gateway stops: every command that still waits is answered, but those that the store
    /// keeps for the next start, and every command and device that comes later. Devices are not told; they find the gateway again, or register anew.
    pub fn shut_down(&mut self) {
        self.stopping = true;
        // The store has all of them.
        self.core.awaited = Awaited::default();
        for mut device in self.core.registry.take_all() {
            let identity = device.identity.as_deref();
            let accounts = &mut self.core.accounts;
            accounts.release(device.charged, device.peer, identity);
            self.core.refuse_unkept(&mut device, &Refusal::STOPPING);
        }
        self.check();
    }

    /// Gives up everything after a panic: takes it out of the directory. Returns the endpoints.
    pub fn abandon(mut self) -> Vec<String> {
        let (directory, shard) = (&self.core.env.directory, self.core.env.shard);
        for session in self.core.sessions.iter() {
            directory.abandon(&session.identity, shard);
        }
        let devices = self.core.registry.take_all();
        let forget = |device: Box<Device>| {
            self.core.forget_in_directory(&device);
            let (identity, bytes) = (device.identity.as_deref(), device.charged.registration());
            self.core.accounts.let_go(device.peer, identity, bytes);
            device.endpoint.to_string()
        };
        devices.map(forget).collect()
    }

    /// In tests and fuzz targets: every index of the registry agrees with its devices.
    pub(super) fn check(&mut self) {
        #[cfg(debug_assertions)]
        self.core.registry.check();
    }
}
