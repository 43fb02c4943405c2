//! Whole conversations: devices, applications and two shards, typed so that a fuzzer gets deep.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{
    CommandInput, Directory, Engine, EngineOptions, Handoff, Load, Output, Peer, Settings,
};
use lwm2m_gateway::memory::{Memory, Shares};
use lwm2m_gateway::network::LocalAddress;
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::{Instant, Now};
use serde_json::Value;

use super::work::{Work, bounded};

const SHARDS: usize = 2;
const PEERS: usize = 4;
const ENDPOINTS: usize = 3;
/// Longest datagram over IPv4.
const LARGEST: usize = 65_507;
/// What comes out of one event at most, beside what a device's answers and its queue explain.
const MAX_OUTPUTS: usize = 2000;

/// What any event may do, and for each byte of it. Some events bring a whole registration out
/// again (a report), a whole body, or everything that waited in a queue, each of which is bounded.
const EVENT: (Work, Work) = (
    Work {
        allocations: 4000,
        bytes: 1 << 20,
    },
    Work {
        allocations: 16,
        bytes: 64,
    },
);

/// An input is a list of events, each an operation with its parameters. Whatever happens: each
/// event costs bounded work, what comes out is CoAP and JSON, each command is answered once, the
/// gateway comes to rest and forgets everybody in the end.
pub fn sequence(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input(data);
    while let Some(operation) = input.byte() {
        let before = input.0.len();
        let event = world.event(operation, &mut input);
        let length = before - input.0.len() + event.size();
        bounded("an event", EVENT.0.of_bytes(EVENT.1, length), || {
            world.apply(event);
        });
    }
    world.rest();
}

/// Reads parameters; what is missing is zero.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn small(&mut self) -> usize {
        usize::from(self.byte().unwrap_or_default())
    }

    fn wide(&mut self) -> u32 {
        (self.small() << 8 | self.small()) as u32
    }

    /// A length and so many bytes; from 255 on two more bytes are the length.
    fn bytes(&mut self) -> &'a [u8] {
        let length = match self.small() {
            255 => self.wide() as usize,
            length => length,
        };
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Bytes and how often they come, which makes little input large.
    fn repeated(&mut self) -> Vec<u8> {
        let bytes = self.bytes();
        let times = match self.small() {
            255 => self.wide() as usize,
            times => times,
        };
        let most = LARGEST / bytes.len().max(1);
        bytes.repeat(times.clamp(1, most.max(1)))
    }
}

enum Event {
    Datagram(usize, Vec<u8>),
    Command(usize, Vec<u8>),
    Time(Duration),
    HoldHandoffs(bool),
}

impl Event {
    fn size(&self) -> usize {
        match self {
            Self::Datagram(_, bytes) | Self::Command(_, bytes) => bytes.len(),
            Self::Time(_) | Self::HoldHandoffs(_) => 0,
        }
    }
}

struct World {
    engines: Vec<Engine>,
    directory: Arc<Directory>,
    now: Now,
    deadlines: [Option<Instant>; SHARDS],
    /// Handoffs under way to each shard.
    handoffs: [VecDeque<Handoff>; SHARDS],
    hold: bool,
    /// Of each peer: the newest request to it, its location, its newest observation.
    requests: [Vec<u8>; PEERS],
    locations: [Vec<u8>; PEERS],
    observations: [Vec<u8>; PEERS],
    newest: (usize, Vec<u8>),
    mid: u16,
    /// Final answers by command.
    answers: HashMap<u64, u32>,
    commands: u64,
}

impl World {
    fn new() -> Self {
        let mut config = Config::default();
        // Reached within an input, so that their ends are seen.
        config.queue.max_commands = 8;
        config.limits.max_observations = 8;
        config.blockwise.max_body_size = 64 << 10;
        let settings = Arc::new(Settings::new(config));
        let directory = Arc::new(Directory::default());
        let memory = Arc::new(Memory::new(Shares::new(1 << 30, false)));
        let engine = |shard| {
            Engine::new(EngineOptions {
                settings: Arc::clone(&settings),
                models: super::MODELS.with(Arc::clone),
                counters: Arc::new(Counters::default()),
                directory: Arc::clone(&directory),
                memory: Arc::clone(&memory),
                shards: SHARDS as u16,
                shard,
                seed: [shard as u8 + 1; 32],
                per_device_subscriptions: true,
                authorize: false,
                device_events: true,
                states: false,
            })
        };
        Self {
            engines: (0..SHARDS as u16).map(engine).collect(),
            directory,
            now: Now {
                mono: Instant::ZERO,
                unix_ms: 1_700_000_000_000,
            },
            deadlines: [None; SHARDS],
            handoffs: Default::default(),
            hold: false,
            requests: Default::default(),
            locations: Default::default(),
            observations: Default::default(),
            newest: (0, Vec::new()),
            mid: 0,
            answers: HashMap::new(),
            commands: 0,
        }
    }

    fn event(&mut self, operation: u8, input: &mut Input<'_>) -> Event {
        let peer = input.small() % PEERS;
        let kind = match operation & 0x80 {
            0 => MessageType::Confirmable,
            _ => MessageType::NonConfirmable,
        };
        self.mid = self.mid.wrapping_add(1);
        let mid = self.mid;
        let request = |code| Builder::new(kind, code, mid, &mid.to_be_bytes());
        let bytes = match operation & 0x7f {
            0 | 1 => {
                let endpoint = input.small() % ENDPOINTS;
                let lifetime = 1 + input.small() * 10;
                let builder = request(Code::POST)
                    .option(option::URI_PATH, *b"rd")
                    .uint(option::CONTENT_FORMAT, 40)
                    .option(option::URI_QUERY, format!("ep=e{endpoint}"))
                    .option(option::URI_QUERY, format!("lt={lifetime}"));
                let builder = queries(builder, input);
                builder.payload(input.repeated()).build()
            }
            2 | 3 => {
                let location = &self.locations[input.small() % PEERS];
                let builder = request(Code::POST)
                    .option(option::URI_PATH, *b"rd")
                    .option(option::URI_PATH, location)
                    .uint(option::CONTENT_FORMAT, 40);
                let builder = queries(builder, input);
                builder.payload(input.repeated()).build()
            }
            4 => request(Code::DELETE)
                .option(option::URI_PATH, *b"rd")
                .option(option::URI_PATH, &self.locations[input.small() % PEERS])
                .build(),
            // A part of a request in blocks.
            5 | 6 => {
                let to = input.small();
                let block = input.wide() << 4 | input.small() as u32;
                let builder = match to % 3 {
                    0 => request(Code::POST)
                        .option(option::URI_PATH, *b"rd")
                        .option(option::URI_QUERY, format!("ep=e{}", to / 3 % ENDPOINTS))
                        .uint(option::CONTENT_FORMAT, 40),
                    1 => request(Code::POST)
                        .option(option::URI_PATH, *b"rd")
                        .option(option::URI_PATH, &self.locations[to / 3 % PEERS])
                        .uint(option::CONTENT_FORMAT, 40),
                    _ => request(Code::POST)
                        .option(option::URI_PATH, *b"dp")
                        .uint(option::CONTENT_FORMAT, 110),
                };
                let mut payload = input.repeated();
                payload.resize(payload.len().min(1024), 0);
                builder.uint(option::BLOCK1, block).payload(payload).build()
            }
            // Answers to the newest request, and separate ones.
            7 | 8 => {
                let code = input.small() as u8;
                let Ok(asked) = Message::parse(&self.requests[peer]) else {
                    return Event::Datagram(peer, input.repeated());
                };
                let builder = match operation & 0x80 {
                    0 => Builder::new(
                        MessageType::Acknowledgement,
                        Code(code),
                        asked.mid(),
                        asked.token(),
                    ),
                    _ => Builder::new(MessageType::Confirmable, Code(code), mid, asked.token()),
                };
                let asked = asked.uint_option(option::BLOCK2, 3).unwrap_or_default();
                let builder = options(builder, input, asked);
                builder.payload(input.repeated()).build()
            }
            9 | 10 => {
                let token = &self.observations[peer];
                let builder = Builder::new(kind, Code::CONTENT, mid, token);
                let builder = builder.uint(option::OBSERVE, input.wide());
                let builder = options(builder, input, 0);
                builder.payload(input.repeated()).build()
            }
            11 => request(Code::POST)
                .option(option::URI_PATH, *b"dp")
                .uint(option::CONTENT_FORMAT, input.wide())
                .payload(input.repeated())
                .build(),
            12..=15 => return self.command(peer, input),
            16 => {
                let payload = input.repeated();
                return Event::Command(peer % ENDPOINTS, payload);
            }
            17 => return Event::Time(Duration::from_millis(u64::from(input.wide()) * 20)),
            18 => return Event::HoldHandoffs(input.small() % 2 == 1),
            19 => {
                let kind = match input.small() % 3 {
                    0 => MessageType::Acknowledgement,
                    1 => MessageType::Reset,
                    _ => MessageType::Confirmable,
                };
                let newest = Message::parse(&self.requests[peer]);
                Builder::new(kind, Code::EMPTY, newest.map_or(mid, |m| m.mid()), &[]).build()
            }
            20 => return Event::Datagram(self.newest.0, self.newest.1.clone()),
            _ => input.repeated(),
        };
        Event::Datagram(peer, bytes)
    }

    /// A command by a template, with a number of its own.
    fn command(&mut self, endpoint: usize, input: &mut Input<'_>) -> Event {
        const PATHS: [&str; 8] = [
            "/3/0/0",
            "/3/0",
            "/3",
            "/5/0/0",
            "/3303/0/5700",
            "/3/0/14",
            "/1/0/1",
            "/3/0/11/0",
        ];
        let (kind, path) = (input.small(), PATHS[input.small() % PATHS.len()]);
        let id = self.commands;
        let value = "v".repeat(input.small() * 64);
        let command = match kind % 10 {
            0 | 1 => format!(r#"{{"reqID":{id},"msgType":"read","data":{{"path":"{path}"}}}}"#),
            2 | 3 => format!(r#"{{"reqID":{id},"msgType":"observe","data":{{"path":"{path}"}}}}"#),
            4 => {
                format!(r#"{{"reqID":{id},"msgType":"cancel-observe","data":{{"path":"{path}"}}}}"#)
            }
            5 => format!(
                r#"{{"reqID":{id},"msgType":"write","data":{{"path":"{path}","type":"String","value":"{value}"}}}}"#
            ),
            6 => format!(r#"{{"reqID":{id},"msgType":"discover","data":{{"path":"{path}"}}}}"#),
            7 => format!(
                r#"{{"reqID":{id},"msgType":"execute","data":{{"path":"{path}","args":"0"}}}}"#
            ),
            8 => format!(
                r#"{{"reqID":{id},"msgType":"write-attr","data":{{"path":"{path}","pmin":"1"}}}}"#
            ),
            _ => format!(
                r#"{{"reqID":{id},"msgType":"read-composite","data":{{"paths":["{path}","/3/0/1"]}}}}"#
            ),
        };
        self.commands += 1;
        self.answers.insert(id, 0);
        Event::Command(endpoint % ENDPOINTS, command.into_bytes())
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Datagram(peer, bytes) => {
                self.newest = (peer, bytes.clone());
                self.engines[peer % SHARDS].handle_datagram(self.now, address(peer), &bytes);
            }
            Event::Command(endpoint, payload) => {
                let name = format!("e{endpoint}");
                let shard = self.directory.shard_of(&name).unwrap_or(0);
                let input = CommandInput {
                    order: 0,
                    mount: format!("lwm2m/{name}/").into(),
                    endpoint: name.into(),
                    dialect: Dialect::Current,
                    payload,
                    expiry: None,
                    origin: None,
                    reply: None,
                };
                self.engines[usize::from(shard)].handle_command(self.now, input);
            }
            Event::Time(time) => {
                self.now = self.now.after(time);
                for engine in &mut self.engines {
                    engine.handle_timeout(self.now);
                }
            }
            Event::HoldHandoffs(hold) => self.hold = hold,
        }
        self.settle();
    }

    /// Takes what the engines have to say, and carries it between them.
    fn settle(&mut self) {
        let mut outputs = 0;
        loop {
            for shard in 0..SHARDS {
                outputs += self.drain(shard);
            }
            assert!(outputs < MAX_OUTPUTS, "{outputs} outputs of one event");
            if self.hold {
                return;
            }
            let Some((shard, handoff)) =
                (0..SHARDS).find_map(|shard| Some((shard, self.handoffs[shard].pop_front()?)))
            else {
                return;
            };
            self.engines[shard].handle_handoff(self.now, handoff);
        }
    }

    fn drain(&mut self, shard: usize) -> usize {
        for outputs in 0.. {
            match self.engines[shard].poll_output() {
                Output::Transmit { to, datagram } => self.sent(to, datagram),
                Output::Publish(publish) => self.published(&publish.payload),
                Output::Handoff { shard, handoff } => {
                    self.handoffs[usize::from(shard)].push_back(handoff);
                }
                Output::Subscribe { .. }
                | Output::Unsubscribe { .. }
                | Output::Authorize { .. }
                | Output::DeviceEvent(_)
                | Output::Store(_)
                | Output::Disconnect(_)
                | Output::Answer { .. } => {}
                Output::Idle(deadline) => {
                    self.deadlines[shard] = deadline.map(|(at, _)| at);
                    return outputs;
                }
            }
            assert!(outputs < MAX_OUTPUTS, "no end of outputs");
        }
        0
    }

    fn sent(&mut self, to: Peer, datagram: Vec<u8>) {
        let peer = usize::from(to.address.port() - PORT);
        let message = Message::parse(&datagram).expect("own bytes");
        if message.code().is_request() {
            if message.observe() == Some(0) {
                self.observations[peer] = message.token().to_vec();
            }
            self.requests[peer] = datagram;
        } else if message.code() == Code::CREATED {
            let location = message.option_values(option::LOCATION_PATH).nth(1);
            self.locations[peer] = location.unwrap_or_default().to_vec();
        }
    }

    fn published(&mut self, payload: &[u8]) {
        super::assert_json(payload);
        // What is echoed of a command that is no template may be JSON that `Value` does not take.
        let Ok(json) = serde_json::from_slice::<Value>(payload) else {
            return;
        };
        let kind = json.get("msgType").and_then(Value::as_str);
        let id = json.get("reqID").and_then(Value::as_u64);
        if let Some(answers) = id.and_then(|id| self.answers.get_mut(&id))
            && !matches!(kind, Some("ack" | "notify"))
        {
            *answers += 1;
        }
    }

    /// Time passes until nothing is planned any more, and it does not take many steps.
    fn rest(&mut self) {
        self.hold = false;
        self.settle();
        for _ in 0..20_000 {
            let next = self.deadlines.into_iter().flatten().min();
            let step = match next {
                Some(at) => (at - self.now.mono).max(Duration::from_micros(1)),
                None => Duration::from_secs(300),
            };
            self.apply(Event::Time(step));
            if next.is_none() {
                for engine in &self.engines {
                    assert_eq!(engine.load(), Load::default());
                }
                let open = self.answers.iter().find(|(_, count)| **count == 0);
                assert_eq!(open, None, "a command without an answer");
                return;
            }
        }
        panic!("no rest");
    }
}

const PORT: u16 = 5000;

fn address(peer: usize) -> Peer {
    Peer {
        listener: 0,
        local: LocalAddress::default(),
        address: SocketAddr::from(([127, 0, 0, 1], PORT + peer as u16)),
        session: 0,
    }
}

/// Query items: one as it is, and others by a number.
fn queries(mut builder: Builder, input: &mut Input<'_>) -> Builder {
    let text = input.bytes();
    if !text.is_empty() {
        builder = builder.option(option::URI_QUERY, text);
    }
    let (first, count) = (input.wide(), input.wide() % 16_000);
    for number in first..first + count {
        builder = builder.option(option::URI_QUERY, format!("{:03x}", number & 0xf_ffff));
    }
    builder
}

/// Options of an answer, by flags; `asked` is the block that was asked for.
fn options(mut builder: Builder, input: &mut Input<'_>, asked: u32) -> Builder {
    const FORMATS: [u32; 8] = [0, 42, 60, 110, 112, 11542, 11543, 40];
    let flags = input.small();
    if flags & 1 != 0 {
        builder = builder.option(option::ETAG, [input.small() as u8]);
    }
    if flags & 2 != 0 {
        builder = builder.uint(option::OBSERVE, input.wide());
    }
    if flags & 4 != 0 {
        builder = builder.uint(
            option::CONTENT_FORMAT,
            FORMATS[input.small() % FORMATS.len()],
        );
    }
    // The block that was asked for, with or without more to follow, or any other.
    builder = match flags >> 3 & 3 {
        0 => builder,
        1 => builder.uint(option::BLOCK2, asked & !0xf | 0x8 | asked & 7),
        2 => builder.uint(option::BLOCK2, asked & !0xf | asked & 7),
        _ => builder.uint(option::BLOCK2, input.wide() << 4 | input.small() as u32),
    };
    if flags & 32 != 0 {
        builder = builder.uint(option::BLOCK1, input.wide() << 4 | input.small() as u32);
    }
    if flags & 64 != 0 {
        builder = builder.uint(option::SIZE1, input.wide());
    }
    builder
}
