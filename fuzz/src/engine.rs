//! One engine: datagrams, commands and time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::Builder;
use lwm2m_gateway::coap::{Message, MessageType};
use lwm2m_gateway::engine::{
    CommandInput, Directory, Engine, EngineOptions, Load, Output, Peer, Settings,
};
use lwm2m_gateway::memory::{Kind, Memory, Shares};
use lwm2m_gateway::network::LocalAddress;
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::{Instant, Now};

use super::work::{Work, bounded};

/// Peers that speak in [`engine`].
const PEERS: u8 = 4;

/// What an event may do, and for each byte of it.
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

/// An input is a sequence of events: a byte for what happens, a byte for the length of the rest
/// (two with [`LONG`]), the rest. Events are datagrams of a few peers, which may answer the newest request of the
/// gateway, commands, and time. Whatever happens, the gateway sends CoAP and JSON, comes to rest,
/// and forgets its devices in the end.
pub fn engine(mut data: &[u8]) {
    let memory = Arc::new(Memory::new(Shares::new(1 << 30, false)));
    let mut engine = Engine::new(EngineOptions {
        settings: Arc::new(Settings::new(Config::default())),
        models: super::MODELS.with(Arc::clone),
        counters: Arc::new(Counters::default()),
        directory: Arc::new(Directory::default()),
        memory: Arc::clone(&memory),
        shards: 1,
        shard: 0,
        seed: [1; 32],
        per_device_subscriptions: true,
        authorize: false,
        device_events: false,
        states: false,
    });
    let mut now = Now {
        mono: Instant::ZERO,
        unix_ms: 1_700_000_000_000,
    };
    let mut request = Vec::new();
    while let Some((event, length, bytes)) = next_event(&mut data) {
        let work = EVENT.0.of_bytes(EVENT.1, bytes.len());
        let peer = Peer {
            listener: 0,
            local: LocalAddress::default(),
            address: SocketAddr::from(([127, 0, 0, 1], 5000 + u16::from(event % PEERS))),
            session: 0,
        };
        bounded("an event", work, || match event / PEERS % 8 {
            0..4 => engine.handle_datagram(now, peer, bytes),
            4 => engine.handle_datagram(now, peer, &answer(&request, bytes)),
            5 | 6 => engine.handle_command(
                now,
                CommandInput {
                    order: 0,
                    endpoint: "e".into(),
                    mount: "lwm2m/e/".into(),
                    dialect: [Dialect::Current, Dialect::Legacy][usize::from(event >> 7)],
                    payload: bytes.to_vec(),
                    expiry: None,
                    origin: None,
                    reply: None,
                },
            ),
            _ => {
                now = now.after(Duration::from_millis(length as u64 * 500));
                engine.handle_timeout(now);
            }
        });
        take_outputs(&mut engine, &mut request);
        for (kind, charged, counted) in engine.audit() {
            assert_eq!(charged, counted, "{kind:?}");
        }
    }
    // Time passes until nothing is planned any more, and it does not take many steps.
    for _ in 0..10_000 {
        match take_outputs(&mut engine, &mut request) {
            Some(at) => now = now.after((at - now.mono).max(Duration::from_micros(1))),
            None => {
                now = now.after(Duration::from_secs(300));
                engine.handle_timeout(now);
                take_outputs(&mut engine, &mut request);
                assert_eq!(engine.load(), Load::default());
                let used = Kind::ALL.map(|kind| memory.used(kind));
                assert!(used.iter().all(|bytes| *bytes == 0), "{used:?}");
                return;
            }
        }
        engine.handle_timeout(now);
    }
    panic!("no rest");
}

/// Set in the byte for what happens: two bytes are the length.
pub(super) const LONG: u8 = 0x20;

/// The next event, its length as written, and its bytes.
pub(super) fn next_event<'a>(data: &mut &'a [u8]) -> Option<(u8, usize, &'a [u8])> {
    let (event, length, rest) = match *data {
        [event, high, low, rest @ ..] if event & LONG != 0 => {
            (*event, usize::from(*high) << 8 | usize::from(*low), rest)
        }
        [event, length, rest @ ..] => (*event, usize::from(*length), rest),
        _ => return None,
    };
    let (bytes, rest) = rest.split_at(rest.len().min(length));
    *data = rest;
    Some((event, length, bytes))
}

/// `bytes` as an answer to `request`: message type, code, then options and payload.
fn answer(request: &[u8], bytes: &[u8]) -> Vec<u8> {
    let (Ok(request), [kind, code, rest @ ..]) = (Message::parse(request), bytes) else {
        return bytes.to_vec();
    };
    let own_mid = [MessageType::Confirmable, MessageType::NonConfirmable];
    let kinds = [
        own_mid[0],
        own_mid[1],
        MessageType::Acknowledgement,
        MessageType::Reset,
    ];
    let kind = kinds[usize::from(kind % 4)];
    let mid = match own_mid.contains(&kind) {
        true => u16::from(*code) << 8 | rest.len() as u16 & 0xff,
        false => request.mid(),
    };
    let code = lwm2m_gateway::coap::Code(*code);
    let mut datagram = match code.0 {
        0 => Builder::new(kind, code, mid, &[]),
        _ => Builder::new(kind, code, mid, request.token()),
    }
    .build();
    datagram.extend_from_slice(rest);
    datagram
}

/// Takes everything an engine has to say; returns its next deadline.
fn take_outputs(engine: &mut Engine, request: &mut Vec<u8>) -> Option<Instant> {
    for _ in 0..100_000 {
        match engine.poll_output() {
            Output::Transmit { datagram, .. } => {
                let message = Message::parse(&datagram).expect("own bytes");
                if message.code().is_request() {
                    *request = datagram;
                }
            }
            Output::Publish(publish) => super::assert_json(&publish.payload),
            Output::Subscribe { .. }
            | Output::Unsubscribe { .. }
            | Output::Authorize { .. }
            | Output::DeviceEvent(_)
            | Output::Store(_)
            | Output::Disconnect(_)
            | Output::Answer { .. } => {}
            Output::Handoff { .. } => panic!("there is one shard"),
            Output::Idle(deadline) => return deadline.map(|(at, _)| at),
        }
    }
    panic!("no rest");
}
