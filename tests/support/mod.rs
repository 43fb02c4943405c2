//! A gateway engine in virtual time, with scripted devices: what goes in and what comes out,
//! step by step, without sockets or sleeping.

#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::unwrap_used)] // each test file uses its part

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{self, Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::credentials::{Credential, Key};
use lwm2m_gateway::engine::{
    AuthorizationId, Change, CommandInput, Decision, DeviceEvent, Directory, Engine, EngineOptions,
    Handoff, Keeping, Output, Peer, RegistrationRequest, SecureSession, Settings,
};
use lwm2m_gateway::lwm2m::model::ObjectModels;
use lwm2m_gateway::memory::{Kind, Memory, Shares};
use lwm2m_gateway::network::LocalAddress;
use lwm2m_gateway::store::{Backend, MemoryBackend};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::{Instant, Now};
use serde_json::Value;

/// An MQTT message that came out, its JSON parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub topic: String,
    pub json: Value,
    pub qos: u8,
    pub correlation: Option<Box<[u8]>>,
}

const KEEPING: Keeping = Keeping {
    deadline_interval: Duration::from_secs(60),
    confirms: true,
};

/// Shards that share a directory, and everything that came out of them.
pub struct World {
    pub now: Now,
    pub engines: Vec<Engine>,
    pub counters: Vec<Arc<Counters>>,
    pub directory: Arc<Directory>,
    pub memory: Arc<Memory>,
    pub sent: VecDeque<(Peer, Vec<u8>)>,
    pub published: VecDeque<Published>,
    pub subscribed: Vec<(String, bool)>,
    pub events: VecDeque<DeviceEvent>,
    /// By shard.
    pub asked: VecDeque<(usize, AuthorizationId, RegistrationRequest)>,
    pub disconnected: Vec<Peer>,
    /// By destination, in order; only while `hold_handoffs` is set.
    pub held: Vec<VecDeque<Handoff>>,
    /// Handoffs wait in `held` for [`World::hand_over`] instead of arriving at once.
    pub hold_handoffs: bool,
    /// What the engines have given to be kept; `None` without a store.
    pub store: Option<MemoryBackend>,
    /// So often it has crashed: no two processes draw the same tokens.
    pub crashes: u8,
    /// Whether the store is silent about what it has written.
    pub store_waits: bool,
    /// Whether the broker is away: no answer reaches it.
    pub broker_away: bool,
    settings: Arc<Settings>,
    /// Devices answer pings as CoAP wants (RFC 7252 §4.3), and nobody sees them.
    pub answers_pings: bool,
    deadlines: Vec<Option<Instant>>,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::sharded(1, change)
    }

    pub fn sharded(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        Self::build(shards, false, change)
    }

    /// One shard that asks before it takes a registration.
    pub fn authorized() -> Self {
        Self::build(1, true, |_| {})
    }

    fn build(shards: u16, authorize: bool, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let settings = Arc::new(Settings::new(config));
        let models = Arc::new(ObjectModels::builtin());
        let directory = Arc::new(Directory::default());
        let ceiling = settings.config.limits.memory.unwrap_or(1 << 32);
        let limits = &settings.config.limits;
        let shares = Shares::new(ceiling, true)
            .at_most(Kind::Duplicates, limits.dedup_bytes)
            .at_most(Kind::Blocks, limits.blockwise_bytes);
        let memory = Arc::new(Memory::new(shares));
        let counters: Vec<_> = (0..shards).map(|_| Arc::new(Counters::default())).collect();
        let engines = (0..shards)
            .map(|shard| {
                Engine::new(EngineOptions {
                    settings: settings.clone(),
                    models: models.clone(),
                    counters: counters[usize::from(shard)].clone(),
                    directory: directory.clone(),
                    memory: memory.clone(),
                    shards,
                    shard,
                    seed: [shard as u8 + 1; 32],
                    per_device_subscriptions: true,
                    authorize,
                    device_events: true,
                    states: false,
                })
            })
            .collect();
        Self {
            now: Now {
                mono: Instant::from_micros(1_000_000),
                unix_ms: 1_700_000_000_000,
            },
            engines,
            counters,
            directory,
            memory,
            sent: VecDeque::new(),
            published: VecDeque::new(),
            subscribed: Vec::new(),
            events: VecDeque::new(),
            asked: VecDeque::new(),
            disconnected: Vec::new(),
            held: (0..shards).map(|_| VecDeque::new()).collect(),
            hold_handoffs: false,
            store: None,
            crashes: 0,
            store_waits: false,
            broker_away: false,
            settings,
            answers_pings: true,
            deadlines: vec![None; usize::from(shards)],
        }
    }

    /// Shards with a store.
    pub fn stored(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        let mut world = Self::sharded(shards, change);
        world.store = Some(MemoryBackend::default());
        world.engines.iter_mut().for_each(|it| it.keep(KEEPING));
        world
    }

    /// The process ends without a word, and another one begins after `down`, with `settings` of its
    /// own if there are any. Nothing that came out of the old one is left.
    pub fn crash(&mut self, down: Duration, settings: Option<Config>) {
        self.crash_early(down, settings);
        self.restore_rest();
    }

    /// As [`World::crash`], and no device is back yet: the next process has just begun.
    pub fn crash_early(&mut self, down: Duration, settings: Option<Config>) {
        let contents = self.store.as_mut().expect("a store").load().expect("one");
        let settings = settings.map(|config| Arc::new(Settings::new(config)));
        let settings = settings.unwrap_or_else(|| self.settings.clone());
        let shards = self.engines.len();
        self.now = self.now.after(down);
        self.crashes += 1;
        self.directory = Arc::new(Directory::default());
        self.memory = Arc::new(Memory::new(Shares::new(1 << 32, true)));
        self.counters = (0..shards).map(|_| Arc::default()).collect();
        self.settings = settings.clone();
        self.engines = (0..shards)
            .map(|shard| {
                Engine::new(EngineOptions {
                    settings: settings.clone(),
                    models: Arc::new(ObjectModels::builtin()),
                    counters: self.counters[shard].clone(),
                    directory: self.directory.clone(),
                    memory: self.memory.clone(),
                    shards: shards as u16,
                    shard: shard as u16,
                    seed: [128 ^ self.crashes ^ shard as u8; 32],
                    per_device_subscriptions: true,
                    authorize: false,
                    device_events: true,
                    states: false,
                })
            })
            .collect();
        self.sent.clear();
        self.published.clear();
        self.subscribed.clear();
        self.events.clear();
        self.held.iter_mut().for_each(VecDeque::clear);
        for shard in 0..shards {
            let of_shard = |it: &&_| {
                let restored: &lwm2m_gateway::engine::Restored = it;
                usize::from(restored.device.shard) == shard
            };
            let devices: Vec<_> = contents.devices.iter().filter(of_shard).cloned().collect();
            self.engines[shard].keep(KEEPING);
            self.engines[shard].expect(self.now, devices);
            self.drain(shard);
        }
    }

    /// All devices are back that were not needed before.
    pub fn restore_rest(&mut self) {
        for shard in 0..self.engines.len() {
            while self.engines[shard].restore_some(self.now, 1) {
                self.drain(shard);
            }
            self.drain(shard);
        }
    }

    /// The store tells a shard that it has noted that a command is sent.
    pub fn confirm(&mut self, shard: usize, endpoint: &str, number: u64) {
        self.engines[shard].handle_stored(self.now, endpoint, number);
        self.drain(shard);
    }

    /// The store has lost something of a device, and has room again.
    pub fn store_again(&mut self, endpoint: &str) {
        self.engines[0].store_again(endpoint);
        self.drain(0);
    }

    /// A datagram arrives at shard 0.
    pub fn datagram(&mut self, from: Peer, bytes: &[u8]) {
        self.datagram_at(0, from, bytes);
    }

    pub fn datagram_at(&mut self, shard: usize, from: Peer, bytes: &[u8]) {
        self.engines[shard].handle_datagram(self.now, from, bytes);
        self.drain(shard);
    }

    /// A command arrives, as the runtime would route it.
    pub fn command(&mut self, endpoint: &str, json: &str) {
        self.command_with(endpoint, json, Dialect::Current, None);
    }

    pub fn command_with(
        &mut self,
        endpoint: &str,
        json: &str,
        dialect: Dialect,
        expiry: Option<u32>,
    ) {
        let shard = usize::from(self.directory.shard_of(endpoint).unwrap_or(0));
        self.command_at(shard, endpoint, json, dialect, expiry);
    }

    pub fn command_at(
        &mut self,
        shard: usize,
        endpoint: &str,
        json: &str,
        dialect: Dialect,
        expiry: Option<u32>,
    ) {
        let input = CommandInput {
            order: 0,
            endpoint: endpoint.into(),
            mount: format!("lwm2m/{endpoint}/").into(),
            dialect,
            payload: json.as_bytes().to_vec(),
            expiry,
            origin: None,
            reply: None,
        };
        self.command_input(shard, input);
    }

    pub fn command_input(&mut self, shard: usize, input: CommandInput) {
        self.engines[shard].handle_command(self.now, input);
        self.drain(shard);
    }

    /// A DTLS session is established.
    pub fn session(&mut self, shard: usize, peer: Peer, presented: &str, public: &str) {
        let credential = Credential {
            identity: public.as_bytes().into(),
            key: Key::new(vec![1; 16]),
            endpoints: Vec::new(),
        };
        self.session_by(shard, peer, presented, credential);
    }

    /// A DTLS session is established by this credential.
    pub fn session_by(
        &mut self,
        shard: usize,
        peer: Peer,
        presented: &str,
        credential: Credential,
    ) {
        let session = SecureSession::new(presented.as_bytes(), Arc::new(credential));
        self.engines[shard].handle_session(self.now, peer, session);
        self.drain(shard);
    }

    /// A DTLS session comes back from the store.
    pub fn session_back(&mut self, shard: usize, peer: Peer, presented: &str) {
        let credential = Credential {
            identity: presented.as_bytes().into(),
            key: Key::new(vec![1; 16]),
            endpoints: Vec::new(),
        };
        let session = SecureSession::new(presented.as_bytes(), Arc::new(credential)).restored();
        self.engines[shard].handle_session(self.now, peer, session);
        self.drain(shard);
    }

    /// A DTLS session ends.
    pub fn session_closed(&mut self, shard: usize, peer: Peer) {
        self.engines[shard].handle_session_closed(peer);
        self.drain(shard);
    }

    /// The host decides about the oldest Register that waits.
    pub fn decide(&mut self, decision: Decision) -> RegistrationRequest {
        let (shard, id, request) = self.asked.pop_front().expect("a Register waits");
        self.engines[shard].handle_authorization(self.now, id, decision);
        self.drain(shard);
        request
    }

    pub fn export(&mut self, endpoint: &str) -> Option<Value> {
        let session = self.engines[0].export(self.now, endpoint);
        self.drain(0);
        Some(serde_json::to_value(session?).expect("plain data"))
    }

    pub fn import(&mut self, endpoint: &str, session: Value) -> bool {
        let session = serde_json::from_str(&session.to_string()).expect("as exported");
        let known = self.engines[0].import(self.now, endpoint, session);
        self.drain(0);
        known
    }

    /// A shard hears of a new configuration.
    pub fn reconfigure(&mut self, shard: usize, config: Config) {
        let models = Arc::new(ObjectModels::builtin());
        self.engines[shard].reconfigure(Arc::new(Settings::new(config)), models);
        self.drain(shard);
    }

    pub fn kick(&mut self, endpoint: &str) {
        self.engines[0].kick(endpoint);
        self.drain(0);
    }

    /// A shard comes to its end.
    pub fn shut_down(&mut self, shard: usize) {
        self.engines[shard].shut_down();
        self.drain(shard);
    }

    /// Lets time pass, with every timer on the way.
    pub fn pass(&mut self, by: Duration) {
        let end = self.now.after(by);
        loop {
            let next = self
                .deadlines
                .iter()
                .enumerate()
                .filter_map(|(shard, at)| Some(((*at)?, shard)));
            let Some((at, shard)) = next.min().filter(|(at, _)| *at <= end.mono) else {
                break;
            };
            self.now = self.now.after(at - self.now.mono);
            self.engines[shard].handle_timeout(self.now);
            self.drain(shard);
        }
        self.now = end;
    }

    /// Delivers the oldest handoff that waits for `shard`; false when there is none.
    pub fn hand_over(&mut self, shard: usize) -> bool {
        let Some(handoff) = self.held[shard].pop_front() else {
            return false;
        };
        self.engines[shard].handle_handoff(self.now, handoff);
        self.drain(shard);
        true
    }

    fn drain(&mut self, shard: usize) {
        let mut pinged = Vec::new();
        let mut confirmed = Vec::new();
        loop {
            match self.engines[shard].poll_output() {
                Output::Transmit { to, datagram } => match message::as_empty(&datagram) {
                    Some((MessageType::Confirmable, mid)) if self.answers_pings => {
                        pinged.push((to, message::empty(MessageType::Reset, mid)));
                    }
                    _ => self.sent.push_back((to, datagram)),
                },
                Output::Publish(publish) => self.published.push_back(Published {
                    topic: publish.topic,
                    json: serde_json::from_slice(&publish.payload).expect("payloads are JSON"),
                    qos: publish.qos,
                    correlation: publish.correlation,
                }),
                // Nobody waits for one here.
                Output::Answer { .. } => {}
                Output::Authorize { id, request } => self.asked.push_back((shard, id, request)),
                Output::DeviceEvent(event) => self.events.push_back(event),
                Output::Disconnect(peer) => self.disconnected.push(peer),
                // Of an answer the store hears when the broker has it.
                Output::Store(Change::Answered { .. }) if self.broker_away => {}
                Output::Store(change) => {
                    self.store.as_mut().expect("a store").apply(&change);
                    if let Change::Sent {
                        endpoint,
                        number,
                        confirm: true,
                    } = change
                        && !self.store_waits
                    {
                        confirmed.push((endpoint, number));
                    }
                }
                Output::Subscribe { filter, .. } => self.subscribed.push((filter, true)),
                Output::Unsubscribe { filter, .. } => self.subscribed.push((filter, false)),
                Output::Handoff { shard: to, handoff } => {
                    let to = usize::from(to);
                    if self.hold_handoffs {
                        self.held[to].push_back(handoff);
                    } else {
                        self.engines[to].handle_handoff(self.now, handoff);
                        self.drain(to);
                    }
                }
                Output::Idle(deadline) => {
                    self.deadlines[shard] = deadline.map(|(at, _)| at);
                    if pinged.is_empty() && confirmed.is_empty() {
                        return;
                    }
                    for (endpoint, number) in std::mem::take(&mut confirmed) {
                        self.engines[shard].handle_stored(self.now, &endpoint, number);
                    }
                    for (from, reset) in std::mem::take(&mut pinged) {
                        self.engines[shard].handle_datagram(self.now, from, &reset);
                    }
                }
            }
        }
    }

    /// The next message for a device; there must be one.
    pub fn next_for(&mut self, peer: Peer) -> Message {
        let (to, datagram) = self.sent.pop_front().expect("a datagram was sent");
        assert_eq!(to, peer);
        Message::parse(&datagram).expect("the gateway sends well-formed messages")
    }

    /// The next MQTT message; there must be one.
    pub fn next_published(&mut self) -> Published {
        self.published.pop_front().expect("a message was published")
    }

    /// Nothing has come out that was not taken.
    #[track_caller]
    pub fn assert_quiet(&self) {
        assert!(
            self.sent.is_empty(),
            "unexpected datagrams: {:?}",
            self.sent
        );
        assert!(
            self.published.is_empty(),
            "unexpected messages: {:?}",
            self.published
        );
    }

    pub fn counter(&self, name: &str) -> u64 {
        let find = |counters: &Arc<Counters>| {
            counters
                .snapshot()
                .into_iter()
                .find(|(known, _)| *known == name)
                .expect("a counter")
                .1
        };
        self.counters.iter().map(find).sum()
    }
}

/// A scripted device: it builds messages, the test decides when they arrive.
#[derive(Debug, Clone)]
pub struct Device {
    pub peer: Peer,
    pub endpoint: String,
    pub mid: u16,
    pub location: String,
}

pub fn peer(port: u16) -> Peer {
    Peer {
        listener: 0,
        local: LocalAddress::default(),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        session: 0,
    }
}

impl Device {
    pub fn new(endpoint: &str, port: u16) -> Self {
        Self {
            peer: peer(port),
            endpoint: endpoint.into(),
            mid: 100,
            location: String::new(),
        }
    }

    /// A device that has registered with `links`; its report has been taken.
    pub fn registered(world: &mut World, endpoint: &str, port: u16) -> Self {
        let mut device = Self::new(endpoint, port);
        device.register(world, &[], "</1/0>,</3/0>,</5/0>,</3303/0>");
        assert_eq!(world.next_published().json["msgType"], "register");
        device
    }

    pub fn next_mid(&mut self) -> u16 {
        self.mid += 1;
        self.mid
    }

    pub fn request(&mut self, code: Code, path: &[&str], query: &[&str]) -> Builder {
        let mid = self.next_mid();
        let mut builder = Builder::new(MessageType::Confirmable, code, mid, &mid.to_be_bytes());
        for segment in path {
            builder = builder.option(option::URI_PATH, *segment);
        }
        for item in query {
            builder = builder.option(option::URI_QUERY, *item);
        }
        builder
    }

    /// Registers and takes the 2.01.
    pub fn register(&mut self, world: &mut World, extra: &[&str], links: &str) {
        let ep = format!("ep={}", self.endpoint);
        let mut query = vec![ep.as_str(), "lt=300", "lwm2m=1.1", "b=U"];
        query.retain(|item| {
            !extra
                .iter()
                .any(|other| item.split('=').next() == other.split('=').next())
        });
        query.extend_from_slice(extra);
        let request = self.request(Code::POST, &["rd"], &query);
        let request = request.uint(option::CONTENT_FORMAT, 40).payload(links);
        world.datagram(self.peer, &request.build());
        let answer = world.next_for(self.peer);
        assert_eq!(
            answer.code(),
            Code::CREATED,
            "{:?}",
            String::from_utf8_lossy(answer.payload())
        );
        assert_eq!(answer.mid(), self.mid);
        let path: Vec<_> = answer
            .option_values(option::LOCATION_PATH)
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect();
        assert_eq!(path[0], "rd");
        self.location = path[1].clone();
    }

    /// Sends an Update with `query`; returns the code of the answer.
    pub fn update(&mut self, world: &mut World, query: &[&str], links: &str) -> Code {
        let location = self.location.clone();
        let request = self
            .request(Code::POST, &["rd", &location], query)
            .payload(links);
        world.datagram(self.peer, &request.build());
        world.next_for(self.peer).code()
    }

    /// A piggybacked response to `request`.
    pub fn answer(&self, request: &Message, code: Code) -> Builder {
        Builder::new(
            MessageType::Acknowledgement,
            code,
            request.mid(),
            request.token(),
        )
    }

    /// Observes by the command `json`, and confirms it with `payload`; returns the request.
    pub fn observed(&self, world: &mut World, json: &str, payload: &str) -> Message {
        world.command(&self.endpoint, json);
        let request = world.next_for(self.peer);
        let answer = self
            .answer(&request, Code::CONTENT)
            .uint(option::OBSERVE, 1)
            .payload(payload);
        world.datagram(self.peer, &answer.build());
        request
    }

    /// A message of its own with the token of `request`: a separate response or notification.
    pub fn separate(&mut self, kind: MessageType, request: &Message, code: Code) -> Builder {
        let mid = self.next_mid();
        Builder::new(kind, code, mid, request.token())
    }
}

/// The path of a request, as text.
pub fn uri(message: &Message) -> String {
    message
        .option_values(option::URI_PATH)
        .map(|part| format!("/{}", String::from_utf8_lossy(part)))
        .collect()
}
