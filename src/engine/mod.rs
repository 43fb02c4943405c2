//! The LwM2M server as a state machine.
//!
//! [`Engine`] holds the registered devices of one shard. Datagrams, commands and time go in,
//! datagrams, messages for the broker and the next deadline come out. It has no socket, clock,
//! thread or randomness of its own.
//!
//! > **The rule of the run loop:** every call that takes `now` is followed by draining
//! > [`Engine::poll_output`] until it returns [`Output::Idle`].

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tracing::debug;

use crate::admission::Bucket;
use crate::bridge::Dialect;
use crate::coap::dedup::{Dedup, Seen};
use crate::coap::echo::Challenges;
use crate::coap::message::{self, MessageError};
use crate::coap::{Code, Message, MessageType, Token};
use crate::host::Publish;
use crate::lwm2m::model::ObjectModels;
use crate::memory::{Heap, Kind, Memory, Tally};
use crate::telemetry::Counters;
use crate::time::{Instant, Now};

mod account;
mod arrivals;
mod authorization;
mod blocks;
mod departed;
mod device;
mod directory;
mod downlink;
mod exchanges;
pub mod format;
mod handoff;
mod info;
mod intake;
mod load;
mod mounts;
mod observations;
mod pending;
mod portable;
mod query;
mod queue;
mod reach;
mod registration;
mod registration_interface;
mod registry;
pub mod request;
mod requests;
mod response;
mod sessions;
mod settings;
mod strings;
mod timer;
mod transfer;
mod uplink;
mod waiting;

pub use authorization::AuthorizationId;
pub use device::Device;
pub use directory::{Directory, ShardId};
pub use handoff::{Handoff, Wanted, Withheld};
pub use info::{Decision, DeviceEvent, DeviceInfo, GoneReason, RegistrationRequest};
pub use load::Load;
pub use portable::PortableSession;
pub use registration::Location;
pub use sessions::{Identity, SecureSession};
pub use settings::{ListenerIds, ListenerSettings, Settings};
pub use timer::Reason;

use account::Accounts;
use arrivals::Arrivals;
use authorization::Authorizations;
use blocks::Assemblies;
use departed::Departed;
use device::DeviceKey;
use pending::Pending;
use reach::Allowance;
use response::Response;
use sessions::Identified;
use timer::Timers;
use uplink::Refusal;

pub use uplink::{overflow_answer, stopping_answer};

/// Devices looked at in one call of [`Engine::handle_timeout`]; the rest is due at once again.
const TIMEOUTS_PER_CALL: usize = 1024;

/// How long a device that was asked of another shard is waited for.
const HANDOFF_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// The other end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Number of the listener, see [`Settings::listener`].
    pub listener: u16,
    /// Address and port of the device.
    pub address: SocketAddr,
    /// Which DTLS session of that address; 0 without DTLS. Messages of one session have nothing
    /// to do with those of another (RFC 7252 §9.1.1).
    pub session: u32,
}

/// In as few pieces as there can be: most of the tables are by peer, and each piece costs. Flow label
/// and scope of IPv6 are left out, peers that differ in nothing else are few.
impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = u64::from(self.address.port()) << 48;
        state.write_u64(port | u64::from(self.listener) << 32 | u64::from(self.session));
        match self.address.ip() {
            IpAddr::V4(address) => state.write_u32(address.to_bits()),
            IpAddr::V6(address) => state.write_u128(address.to_bits()),
        }
    }
}

/// A command of an application for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandInput {
    /// Endpoint name.
    pub endpoint: Arc<str>,
    /// Rendered mountpoint of the topic it came by, which also starts the topic of its answers.
    pub mount: Box<str>,
    /// By which topic pair it came.
    pub dialect: Dialect,
    /// JSON.
    pub payload: Vec<u8>,
    /// What is left of the message's expiry interval, in seconds (MQTT 5 §3.3.2.3.3).
    pub expiry: Option<u32>,
}

impl CommandInput {
    /// Bytes that it takes where it waits.
    pub fn bytes(&self) -> usize {
        self.endpoint.heap() + self.mount.heap() + self.payload.heap()
    }
}

/// An effect, or the time to sleep.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// To whom.
        to: Peer,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// Publish a message.
    Publish(Publish),
    /// A device registered: for hosts that subscribe per device.
    Subscribe {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// Its rendered mountpoint.
        mountpoint: String,
        /// Topic filter of its commands.
        filter: String,
        /// QoS of the command translator.
        qos: u8,
    },
    /// The device is gone.
    Unsubscribe {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// As subscribed.
        filter: String,
    },
    /// Whether a device may register; the answer goes to [`Engine::handle_authorization`].
    Authorize {
        /// To be given back.
        id: AuthorizationId,
        /// Who wants to register.
        request: RegistrationRequest,
    },
    /// A device came, changed or went.
    DeviceEvent(DeviceEvent),
    /// A DTLS session shall end with close_notify.
    Disconnect(Peer),
    /// For another shard.
    Handoff {
        /// Which.
        shard: ShardId,
        /// What.
        handoff: Handoff,
    },
    /// Nothing more to do until the deadline, if there is one.
    Idle(Option<(Instant, Reason)>),
}

/// What remains of a peer between messages.
#[derive(Debug, Clone, Copy)]
struct PeerState {
    /// Message id of the next message to it.
    next_mid: u16,
    /// The device that registered last from there.
    device: DeviceKey,
    /// Datagrams it may send.
    sent: Bucket,
    /// Requests that are remembered for it alone.
    remembered: Bucket,
}

/// See the module.
#[derive(Debug)]
pub struct Engine {
    settings: Arc<Settings>,
    models: Arc<ObjectModels>,
    counters: Arc<Counters>,
    directory: Arc<Directory>,
    accounts: Accounts,
    shard: ShardId,
    rng: ChaCha8Rng,
    devices: Vec<Option<Box<Device>>>,
    free: Vec<DeviceKey>,
    endpoints: HashMap<Arc<str>, DeviceKey>,
    locations: HashMap<Location, DeviceKey>,
    peers: HashMap<Peer, PeerState>,
    tokens: HashMap<Token, DeviceKey>,
    /// Message ids in flight, for ACK and RST without a token.
    in_flight: HashMap<(Peer, u16), DeviceKey>,
    dedup: Dedup<Peer>,
    /// What may be sent to whoever sent the datagram that is being handled.
    allowance: Option<Allowance>,
    challenges: Challenges,
    assemblies: Assemblies,
    pending: Pending,
    departed: Departed,
    timers: Timers,
    outputs: VecDeque<Output>,
    per_device_subscriptions: bool,
    device_events: bool,
    authorize: bool,
    authorizations: Authorizations,
    /// Whether commands are only refused.
    stopping: bool,
    sessions: HashMap<Peer, SecureSession>,
    arrivals: Arrivals,
    /// Devices that registered over DTLS.
    identified: HashMap<Arc<Identity>, Identified>,
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
}

impl Engine {
    /// An engine without devices.
    pub fn new(options: EngineOptions) -> Self {
        let tally = |kind| Tally::new(options.memory.clone(), kind);
        Self {
            dedup: Dedup::new(tally(Kind::Duplicates), options.shards),
            assemblies: Assemblies::new(tally(Kind::Blocks)),
            allowance: None,
            challenges: Challenges::new(&options.seed),
            settings: options.settings,
            models: options.models,
            counters: options.counters,
            directory: options.directory,
            accounts: Accounts::new(&options.memory),
            shard: options.shard,
            rng: ChaCha8Rng::from_seed(options.seed),
            devices: Vec::new(),
            free: Vec::new(),
            endpoints: HashMap::new(),
            locations: HashMap::new(),
            peers: HashMap::new(),
            tokens: HashMap::new(),
            in_flight: HashMap::new(),
            pending: Pending::default(),
            departed: Departed::default(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            per_device_subscriptions: options.per_device_subscriptions,
            device_events: options.device_events,
            authorize: options.authorize,
            authorizations: Authorizations::default(),
            stopping: false,
            sessions: HashMap::new(),
            arrivals: Arrivals::default(),
            identified: HashMap::new(),
        }
    }

    /// Takes a datagram. Network input is never an error: it is answered or counted.
    pub fn handle_datagram(&mut self, now: Now, from: Peer, datagram: &[u8]) {
        if self.hold(from, datagram) {
            return;
        }
        self.counters.datagrams_received.inc();
        self.counters.bytes_received.add(datagram.len() as u64);
        self.begin_answering(from, datagram.len());
        self.take_datagram(now, from, datagram);
        self.allowance = None;
    }

    fn take_datagram(&mut self, now: Now, from: Peer, datagram: &[u8]) {
        if let Some((kind, mid)) = message::as_empty(datagram) {
            return self.handle_empty(now, from, kind, mid);
        }
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(error) => return self.reject_malformed(from, error),
        };
        match (message.kind(), message.code()) {
            (MessageType::Confirmable | MessageType::NonConfirmable, code) if code.is_request() => {
                self.deduplicate(now, from, &message, datagram);
            }
            (MessageType::Reset, _) | (_, Code::EMPTY) => self.counters.datagrams_unexpected.inc(),
            (_, code) if code.is_request() => self.counters.datagrams_unexpected.inc(),
            _ => self.handle_response(now, from, &message),
        }
    }

    /// Takes a command.
    pub fn handle_command(&mut self, now: Now, input: CommandInput) {
        self.counters.commands.inc();
        self.take_command(now, input, 0);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.dedup.expire(now.mono);
        self.assemblies.expire(now.mono);
        let freed = self.departed.expire(now.mono);
        self.accounts.waiting.release(freed);
        self.expire_arrivals(now);
        // What is still to be answered must be known to have been acknowledged.
        if self.expire_authorizations(now) {
            self.expire_pending(now);
        }
        for _ in 0..TIMEOUTS_PER_CALL {
            let Some(key) = self.timers.pop_due(now.mono) else {
                return;
            };
            if let Some(device) = self.device_mut(key) {
                device.timer_at = None;
                self.handle_device_timeout(now, key);
            }
        }
    }

    /// The next effect, or [`Output::Idle`] with the next deadline. Its answer changes with every
    /// `handle_*` call; extra calls are harmless.
    #[must_use]
    pub fn poll_output(&mut self) -> Output {
        match self.outputs.pop_front() {
            Some(output) => output,
            None => Output::Idle(self.next_deadline()),
        }
    }

    /// Replaces the configuration. Mountpoints of registered devices follow it.
    pub fn reconfigure(&mut self, settings: Arc<Settings>, models: Arc<ObjectModels>) {
        self.settings = settings;
        self.models = models;
        for index in 0..self.devices.len() {
            self.remount(DeviceKey::try_from(index).unwrap_or(DeviceKey::MAX));
        }
    }

    /// Ends a registration by order of the host. Its device is not told; it finds out by its next
    /// Update.
    pub fn kick(&mut self, endpoint: &str) {
        if let Some(key) = self.endpoints.get(endpoint).copied() {
            self.remove(key, GoneReason::Kicked);
        }
    }

    /// A listener was closed: its registrations end.
    pub fn close_listener(&mut self, listener: u16) {
        let concerned: Vec<DeviceKey> = (0..)
            .zip(&self.devices)
            .filter(|(_, device)| {
                let device = device.as_ref();
                device.is_some_and(|device| device.peer.listener == listener)
            })
            .map(|(key, _)| key)
            .collect();
        for key in concerned {
            self.remove(key, GoneReason::ListenerClosed);
        }
    }

    /// Whether no command is at a device, also one that has only acknowledged it so far.
    pub fn is_quiet(&self) -> bool {
        let mut devices = self.devices.iter().flatten();
        !devices.any(|device| device.has_command_under_way())
    }

    /// The gateway stops: every command that still waits is answered, and every command and device
    /// that comes later. Devices are not told; they find the gateway again, or register anew.
    pub fn shut_down(&mut self) {
        self.stopping = true;
        let devices = std::mem::take(&mut self.devices);
        for mut device in devices.into_iter().flatten() {
            self.release_device(&device);
            self.refuse_waiting(&mut device, &Refusal::STOPPING);
        }
    }

    /// Gives up everything after a panic: takes it out of the directory. Returns the endpoints.
    pub fn abandon(mut self) -> Vec<String> {
        for (peer, session) in &self.sessions {
            self.directory.disconnect(&session.identity, *peer);
        }
        let devices = std::mem::take(&mut self.devices);
        let forget = |device: Box<Device>| {
            self.forget_in_directory(&device);
            self.let_go_registration(&device);
            device.endpoint.to_string()
        };
        devices.into_iter().flatten().map(forget).collect()
    }

    /// Registered devices.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether no device is registered.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    fn next_deadline(&self) -> Option<(Instant, Reason)> {
        let blocks = self
            .assemblies
            .deadline()
            .map(|at| (at, Reason::BlockTransfer));
        let handoff = self
            .pending
            .deadline()
            .into_iter()
            .chain(self.departed.deadline())
            .chain(self.authorizations.deadline())
            .chain(self.arrivals.deadline())
            .min()
            .map(|at| (at, Reason::Handoff));
        [self.timers.peek(), blocks, handoff]
            .into_iter()
            .flatten()
            .min()
    }

    fn reject_malformed(&mut self, from: Peer, error: MessageError) {
        self.counters.datagrams_malformed.inc();
        debug!(peer = %from.address, %error, "malformed datagram");
        if let MessageError::Format {
            kind: MessageType::Confirmable,
            mid,
            ..
        } = error
        {
            self.transmit(from, message::empty(MessageType::Reset, mid));
        }
    }

    /// Answers a repeated request from memory (RFC 7252 §4.5) and lets a new one through.
    fn deduplicate(&mut self, now: Now, from: Peer, message: &Message, datagram: &[u8]) {
        let mut hasher = DefaultHasher::new();
        datagram.hash(&mut hasher);
        let lifetime = self.settings.config.coap.exchange_lifetime;
        let (key, peers) = ((from, message.mid()), &mut self.peers);
        let class = || intake::class(peers.get_mut(&from), now.mono, lifetime);
        match self
            .dedup
            .check(now.mono, lifetime, key, hasher.finish(), class)
        {
            Seen::New => {
                self.touch_authentic(now, from);
                self.handle_request(now, from, message, datagram);
            }
            Seen::Answered(reply) => {
                self.counters.datagrams_duplicate.inc();
                self.transmit(from, reply);
            }
            Seen::Pending => {
                self.counters.datagrams_duplicate.inc();
                self.acknowledge_pending(from, message);
            }
        }
    }

    /// A request that waits for another shard is repeated: an Empty ACK stops the repetition, the
    /// response will be separate (RFC 7252 §5.2.2).
    fn acknowledge_pending(&mut self, from: Peer, message: &Message) {
        if message.kind() == MessageType::Confirmable
            && let Some(pending) = self.pending.get_mut(from, message.mid())
        {
            pending.acknowledged = true;
            self.transmit(
                from,
                message::empty(MessageType::Acknowledgement, message.mid()),
            );
        }
    }

    /// Sends the response to a request: piggybacked, NON for NON, or separate if an Empty ACK
    /// went before.
    fn respond(&mut self, to: Peer, request: &Message, response: Response) {
        let separate = self
            .take_pending(to, request.mid())
            .is_some_and(|pending| pending.acknowledged);
        let (kind, mid) = match request.kind() {
            MessageType::Confirmable if !separate => (MessageType::Acknowledgement, request.mid()),
            // A separate response goes without retransmission of its own: a device that misses
            // it repeats its request, which is answered from memory.
            _ => (MessageType::NonConfirmable, self.next_mid(to)),
        };
        let diagnostic = match response.code.class() {
            4 | 5 => response.payload.len(),
            _ => 0,
        };
        let mut datagram = response.into_builder(kind, mid, request).build();
        self.trim(to, &mut datagram, diagnostic);
        self.dedup.answered(to, request.mid(), &datagram);
        self.transmit(to, datagram);
    }

    /// Answers whoever sent a datagram, if he may get that much.
    fn transmit(&mut self, to: Peer, datagram: Vec<u8>) {
        if self.spend(to, datagram.len()) {
            self.emit(to, datagram);
        }
    }

    fn publish(&mut self, publish: Publish) {
        self.counters.published.inc();
        self.outputs.push_back(Output::Publish(publish));
    }

    /// The next message id for a peer: random start, then counting, so that none repeats within
    /// EXCHANGE_LIFETIME (RFC 7252 §4.4).
    fn next_mid(&mut self, peer: Peer) -> u16 {
        match self.peers.get_mut(&peer) {
            Some(state) => {
                let mid = state.next_mid;
                state.next_mid = mid.wrapping_add(1);
                mid
            }
            None => self.random_u16(),
        }
    }

    fn random_u16(&mut self) -> u16 {
        (self.rng.next_u32() >> 16) as u16
    }

    fn new_token(&mut self, key: DeviceKey) -> Token {
        loop {
            let token = Token(self.rng.next_u64());
            if let std::collections::hash_map::Entry::Vacant(entry) = self.tokens.entry(token) {
                entry.insert(key);
                return token;
            }
        }
    }

    fn device(&self, key: DeviceKey) -> Option<&Device> {
        self.devices.get(key as usize)?.as_deref()
    }

    fn device_mut(&mut self, key: DeviceKey) -> Option<&mut Device> {
        self.devices.get_mut(key as usize)?.as_deref_mut()
    }

    /// Plans the next look at a device, if it is earlier than the one already planned.
    fn schedule(&mut self, key: DeviceKey) {
        let Some(device) = self.device(key) else {
            return;
        };
        let (at, reason) = device.next_deadline();
        match device.timer_at {
            Some(planned) if planned <= at => return,
            Some(planned) => self.timers.remove(planned, key),
            None => {}
        }
        if let Some(device) = self.device_mut(key) {
            device.timer_at = Some(at);
        }
        self.timers.insert(at, reason, key);
    }
}
