//! An engine with a fleet of devices, without sockets: the caller brings datagrams and time.

// What the benchmarks measure must not fail quietly, and each uses its part.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub
)]

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{
    CommandInput, Directory, Engine, EngineOptions, Output, Peer, Settings,
};
use lwm2m_gateway::lwm2m::model::ObjectModels;
use lwm2m_gateway::memory::{Memory, Shares};
use lwm2m_gateway::network::LocalAddress;
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::{Instant, Now};

/// `/3/0` of a small device as TLV, with nested resource instances (LwM2M Core 1.0 §6.4.3.2).
pub const DEVICE_TLV: &[u8] = &[
    0xc8, 0x00, 0x14, b'O', b'p', b'e', b'n', b' ', b'M', b'o', b'b', b'i', b'l', b'e', b' ', b'A',
    b'l', b'l', b'i', b'a', b'n', b'c', b'e', 0xc8, 0x01, 0x16, b'L', b'i', b'g', b'h', b't', b'w',
    b'e', b'i', b'g', b'h', b't', b' ', b'M', b'2', b'M', b' ', b'C', b'l', b'i', b'e', b'n', b't',
    0xc8, 0x02, 0x09, b'3', b'4', b'5', b'0', b'0', b'0', b'1', b'2', b'3', 0xc3, 0x03, b'1', b'.',
    b'0', 0x86, 0x06, 0x41, 0x00, 0x01, 0x41, 0x01, 0x05, 0x88, 0x07, 0x08, 0x42, 0x00, 0x0e, 0xd8,
    0x42, 0x01, 0x13, 0x88, 0x87, 0x08, 0x41, 0x00, 0x7d, 0x42, 0x01, 0x03, 0x84, 0xc1, 0x09, 0x64,
    0xc1, 0x0a, 0x0f, 0x83, 0x0b, 0x41, 0x00, 0x00, 0xc4, 0x0d, 0x51, 0x82, 0x42, 0x8f, 0xc6, 0x0e,
    b'+', b'0', b'2', b':', b'0', b'0', 0xc1, 0x10, b'U',
];

/// What a device needs to speak.
pub struct Device {
    pub endpoint: String,
    pub peer: Peer,
    pub mid: u16,
    /// Path segment of its registration.
    pub location: String,
    /// Of its observation.
    pub token: [u8; 8],
}

/// Where the token is in a notification.
const TOKEN: Range<usize> = 4..12;

/// Where the value of the Observe option is.
const SEQUENCE: Range<usize> = 13..16;

/// Devices notify in an order that defeats the cache, as they do in the field.
const STRIDE: usize = 7919;

/// Three bytes long, so that it can be changed in place.
const FIRST_SEQUENCE: u32 = 0x01_0000;

pub struct Fleet {
    pub engine: Engine,
    pub now: Now,
    pub devices: Vec<Device>,
    /// Who notifies next, in order; read one after the other, like datagrams from a socket.
    turns: Vec<(Peer, [u8; 8])>,
    turn: usize,
    /// How often all have notified.
    round: u32,
    /// The notification of all devices but for message id, token and sequence number.
    notification: Vec<u8>,
}

impl Fleet {
    pub fn new() -> Self {
        let settings = Arc::new(Settings::new(Config::default()));
        let engine = Engine::new(EngineOptions {
            settings,
            models: Arc::new(ObjectModels::builtin()),
            counters: Arc::new(Counters::default()),
            directory: Arc::new(Directory::default()),
            memory: Arc::new(Memory::new(Shares::new(1 << 30, false))),
            shards: 1,
            shard: 0,
            seed: [7; 32],
            per_device_subscriptions: false,
            authorize: false,
            device_events: false,
            states: false,
        });
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix_ms: 1_700_000_000_000,
        };
        Self {
            engine,
            now,
            devices: Vec::new(),
            turns: Vec::new(),
            turn: 0,
            round: 0,
            notification: Vec::new(),
        }
    }

    /// `count` registered devices.
    pub fn registered(count: usize) -> Self {
        let mut fleet = Self::new();
        for index in 0..count {
            fleet.add(index);
            fleet.register(index);
        }
        fleet
    }

    /// `count` registered devices, `path` observed on each, which answers with `payload` (TLV).
    pub fn observed(count: usize, path: &str, payload: &[u8]) -> Self {
        let mut fleet = Self::registered(count);
        for index in 0..count {
            fleet.observe(index, path, payload);
        }
        fleet.take_turns();
        fleet
    }

    /// A device that has not registered yet.
    pub fn add(&mut self, index: usize) {
        let [_, a, b, c] = u32::try_from(index).unwrap().to_be_bytes();
        self.devices.push(Device {
            endpoint: format!("urn:imei:35000000{index:07}"),
            peer: Peer {
                listener: 0,
                local: LocalAddress::default(),
                address: SocketAddr::from(([10, a, b, c], 56_830)),
                session: 0,
            },
            mid: 1,
            location: String::new(),
            token: [0; 8],
        });
    }

    /// A Register with three objects, as small devices send it.
    pub fn register_datagram(&mut self, index: usize) -> Vec<u8> {
        let device = &mut self.devices[index];
        device.mid = device.mid.wrapping_add(1);
        Builder::new(
            MessageType::Confirmable,
            Code::POST,
            device.mid,
            &[1, 2, 3, 4],
        )
        .option(option::URI_PATH, *b"rd")
        .uint(option::CONTENT_FORMAT, 40)
        .option(option::URI_QUERY, format!("ep={}", device.endpoint))
        .option(option::URI_QUERY, *b"lt=86400")
        .option(option::URI_QUERY, *b"lwm2m=1.1")
        .option(option::URI_QUERY, *b"b=U")
        .payload(*b"</1/0>,</3/0>,</4/0>")
        .build()
    }

    pub fn register(&mut self, index: usize) {
        let datagram = self.register_datagram(index);
        let answer = self.exchange(index, &datagram);
        self.take_location(index, &answer);
    }

    /// Remembers where a registration lives.
    pub fn take_location(&mut self, index: usize, created: &[u8]) {
        let answer = Message::parse(created).unwrap();
        assert_eq!(answer.code(), Code::CREATED);
        let segment = answer.option_values(option::LOCATION_PATH).nth(1).unwrap();
        self.devices[index].location = String::from_utf8(segment.to_vec()).unwrap();
    }

    /// An Update without anything new, or a De-register.
    pub fn location_datagram(&mut self, index: usize, code: Code) -> Vec<u8> {
        let device = &mut self.devices[index];
        device.mid = device.mid.wrapping_add(1);
        Builder::new(MessageType::Confirmable, code, device.mid, &[1, 2, 3, 4])
            .option(option::URI_PATH, *b"rd")
            .option(option::URI_PATH, device.location.as_str())
            .build()
    }

    pub fn observe(&mut self, index: usize, path: &str, payload: &[u8]) {
        let command =
            format!(r#"{{"reqID":{index},"msgType":"observe","data":{{"path":"{path}"}}}}"#);
        let request = self.command(index, &command);
        let request = Message::parse(&request).unwrap();
        let build = |kind, mid, sequence| {
            Builder::new(kind, Code::CONTENT, mid, request.token())
                .uint(option::OBSERVE, sequence)
                .uint(option::CONTENT_FORMAT, 11542)
                .payload(payload)
                .build()
        };
        let answer = build(MessageType::Acknowledgement, request.mid(), FIRST_SEQUENCE);
        self.notification = build(MessageType::NonConfirmable, 0, FIRST_SEQUENCE);
        self.devices[index].token = request.token().try_into().unwrap();
        let peer = self.devices[index].peer;
        self.engine.handle_datagram(self.now, peer, &answer);
        assert_eq!(self.drain(), 1, "one answer");
    }

    /// Lays down the order of notifications.
    pub fn take_turns(&mut self) {
        let count = self.devices.len();
        self.turns = (0..count)
            .map(|turn| &self.devices[turn * STRIDE % count])
            .map(|device| (device.peer, device.token))
            .collect();
    }

    /// The next notification; returns how many messages came out.
    pub fn notify(&mut self) -> usize {
        if self.turn == 0 {
            self.round += 1;
        }
        let (peer, token) = self.turns[self.turn];
        self.turn = (self.turn + 1) % self.turns.len();
        let [_, _, mid @ ..] = self.round.to_be_bytes();
        let [_, sequence @ ..] = (FIRST_SEQUENCE + self.round).to_be_bytes();
        self.notification[2..4].copy_from_slice(&mid);
        self.notification[TOKEN].copy_from_slice(&token);
        self.notification[SEQUENCE].copy_from_slice(&sequence);
        self.engine
            .handle_datagram(self.now, peer, &self.notification);
        self.drain()
    }

    /// Hands a command over and returns the request it becomes.
    pub fn command(&mut self, index: usize, json: &str) -> Vec<u8> {
        let endpoint = self.devices[index].endpoint.as_str();
        let input = CommandInput {
            order: 0,
            endpoint: endpoint.into(),
            mount: format!("lwm2m/{endpoint}/").into(),
            dialect: Dialect::Current,
            payload: json.as_bytes().to_vec(),
            expiry: None,
            origin: None,
            reply: None,
        };
        self.engine.handle_command(self.now, input);
        self.transmitted()
    }

    /// A read and its answer; returns how many messages came out.
    pub fn read(&mut self, index: usize) -> usize {
        let request = self.command(
            index,
            r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/9"}}"#,
        );
        let request = Message::parse(&request).unwrap();
        let answer = Builder::new(
            MessageType::Acknowledgement,
            Code::CONTENT,
            request.mid(),
            request.token(),
        )
        .uint(option::CONTENT_FORMAT, 11542)
        .payload([0xc1, 0x09, 0x64])
        .build();
        let peer = self.devices[index].peer;
        self.engine.handle_datagram(self.now, peer, &answer);
        self.drain()
    }

    /// Hands a datagram over and returns the one that answers it.
    pub fn exchange(&mut self, index: usize, datagram: &[u8]) -> Vec<u8> {
        let peer = self.devices[index].peer;
        self.engine.handle_datagram(self.now, peer, datagram);
        self.transmitted()
    }

    /// Lets time pass, with every timer on the way.
    pub fn pass(&mut self, by: Duration) {
        let end = self.now.after(by);
        while let Output::Idle(Some((at, _))) = self.engine.poll_output() {
            if at > end.mono {
                break;
            }
            self.now = self.now.after(at - self.now.mono);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
        self.engine.handle_timeout(end);
        self.drain();
    }

    /// Takes all effects; returns how many were messages for the broker.
    pub fn drain(&mut self) -> usize {
        let mut published = 0;
        loop {
            match self.engine.poll_output() {
                Output::Idle(_) => return published,
                Output::Publish(_) => published += 1,
                _ => {}
            }
        }
    }

    /// Takes all effects, among them exactly one datagram.
    pub fn transmitted(&mut self) -> Vec<u8> {
        let mut sent = None;
        loop {
            match self.engine.poll_output() {
                Output::Idle(_) => return sent.unwrap(),
                Output::Transmit { datagram, .. } => {
                    assert!(sent.replace(datagram).is_none(), "one datagram");
                }
                _ => {}
            }
        }
    }
}
