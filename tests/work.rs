//! What a device or an application makes the engine do is linear in what it sends: allocations,
//! their bytes and what comes out are counted for an input and for one of twice its size.

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::sync::Arc;

use counting::{Counting, Work, assert_linear, count};
use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::AutoObserve;
use lwm2m_gateway::credentials::{Credential, Key};
use lwm2m_gateway::engine::{
    CommandInput, Directory, Engine, EngineOptions, Output, Peer, SecureSession, Settings,
};
use lwm2m_gateway::lwm2m::link::RegistrationLinks;
use lwm2m_gateway::lwm2m::model::ObjectModels;
use lwm2m_gateway::memory::{Memory, Shares};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::{Instant, Now};
use support::peer;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One shard without a harness around it, so that only its own work is counted.
struct Shard {
    engine: Engine,
    now: Now,
}

impl Shard {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let engine = Engine::new(EngineOptions {
            settings: Arc::new(Settings::new(config)),
            models: Arc::new(ObjectModels::builtin()),
            counters: Arc::new(Counters::default()),
            directory: Arc::new(Directory::default()),
            memory: Arc::new(Memory::new(Shares::new(1 << 40, true))),
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
        Self { engine, now }
    }

    /// What a datagram costs, with all that comes of it.
    fn datagram(&mut self, from: Peer, datagram: &[u8]) -> (Work, Option<Message>) {
        let mut answer = None;
        let work = count(|| {
            self.engine.handle_datagram(self.now, from, datagram);
            self.drain(&mut answer)
        });
        (work, answer.and_then(|it| Message::parse(&it).ok()))
    }

    fn command(&mut self, endpoint: &str, json: &str) -> Work {
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
        count(|| {
            self.engine.handle_command(self.now, input);
            self.drain(&mut None)
        })
    }

    /// Takes everything that has come out: its bytes, and the first datagram.
    fn drain(&mut self, first: &mut Option<Vec<u8>>) -> u64 {
        let mut out = 0;
        loop {
            match self.engine.poll_output() {
                Output::Transmit { datagram, .. } => {
                    out += datagram.len() as u64;
                    first.get_or_insert(datagram);
                }
                Output::Publish(publish) => out += (publish.payload.len() + 100) as u64,
                Output::Idle(_) => return out,
                _ => out += 100,
            }
        }
    }

    fn register(&mut self, from: Peer, endpoint: &str, mid: u16, links: &[u8]) -> Work {
        let request = request_to(&["rd"], mid)
            .option(option::URI_QUERY, format!("ep={endpoint}"))
            .option(option::URI_QUERY, "lt=86400")
            .option(option::URI_QUERY, "lwm2m=1.1");
        let (work, answer) = self.datagram(from, &request.payload(links).build());
        assert_eq!(answer.map(|it| it.code()), Some(Code::CREATED));
        work
    }
}

fn request_to(path: &[&str], mid: u16) -> Builder {
    let builder = Builder::new(MessageType::Confirmable, Code::POST, mid, &[1, 2]);
    path.iter().fold(builder, |builder, segment| {
        builder.option(option::URI_PATH, *segment)
    })
}

/// A message with so many options that a datagram is full of them, without the help of a builder
/// that would look at each.
fn many_options(path: &[u8], options: usize, mid: u16) -> Vec<u8> {
    let [high, low] = mid.to_be_bytes();
    let mut datagram = vec![0x40, 2, high, low, 0xb0 | path.len() as u8];
    datagram.extend_from_slice(path);
    // Uri-Query comes 4 after Uri-Path, then 0 after the last.
    for index in 0..options {
        datagram.push(if index == 0 { 0x40 } else { 0 });
    }
    datagram
}

#[test]
fn c1_queries_of_a_registration() {
    // As large as a configuration allows.
    assert_linear("merged queries", 1000, |n| {
        let mut shard = Shard::new(|config| {
            config.limits.max_query_items = 4096;
            config.limits.max_query_bytes = 64 << 10;
        });
        shard.register(peer(1), "ep1", 1, b"</3/0>");
        let items = (0..n).map(|item| format!("{item:04}={item}"));
        let request = request_to(&["rd"], 2)
            .option(option::URI_QUERY, "ep=ep1")
            .option(option::URI_QUERY, "lt=86400");
        let request = items.fold(request, |builder, item| {
            builder.option(option::URI_QUERY, item)
        });
        let (mut work, answer) = shard.datagram(peer(1), &request.build());
        let answer = answer.unwrap();
        assert_eq!(answer.code(), Code::CREATED);
        let location: Vec<&[u8]> = answer.option_values(option::LOCATION_PATH).collect();
        let location = std::str::from_utf8(location[1]).unwrap();
        // Every one of them with another value.
        let request = request_to(&["rd", location], 3);
        let request = (0..n).fold(request, |builder, item| {
            builder.option(option::URI_QUERY, format!("{item:04}=x"))
        });
        let (update, answer) = shard.datagram(peer(1), &request.build());
        assert_eq!(answer.map(|it| it.code()), Some(Code::CHANGED));
        work += update;
        work
    });
    // What the default refuses is not even kept while it is read.
    let mut shard = Shard::new(|_| {});
    let (work, answer) = shard.datagram(peer(1), &many_options(b"rd", 60_000, 9));
    assert_eq!(answer.map(|it| it.code()), Some(Code::BAD_REQUEST));
    assert!(work.allocations < 50, "{work:?}");
    assert!(work.bytes < 70_000, "{work:?}");
}

#[test]
fn c1_megabytes_of_updates_make_no_more_than_a_few_of_mqtt() {
    let mut shard = Shard::new(|_| {});
    let request = request_to(&["rd"], 1)
        .option(option::URI_QUERY, "ep=ep1")
        .option(option::URI_QUERY, "lt=86400")
        .payload("</3/0>");
    let (_, answer) = shard.datagram(peer(1), &request.build());
    let answer = answer.unwrap();
    let location: Vec<&[u8]> = answer.option_values(option::LOCATION_PATH).collect();
    let location = String::from_utf8(location[1].to_vec()).unwrap();
    let (mut received, mut out) = (0, 0);
    for mid in 2..2000u16 {
        let mut request = request_to(&["rd", &location], mid);
        if mid % 2 == 0 {
            for item in 0..6 {
                let item = format!("{mid:04}{item}{}", "x".repeat(95));
                request = request.option(option::URI_QUERY, item);
            }
        } else {
            request = request.payload(format!("</5/{mid}>"));
        }
        let datagram = request.build();
        received += datagram.len() as u64;
        out += shard.datagram(peer(1), &datagram).0.out;
    }
    // 4 kB of query stand in each report, and no more.
    assert!(out < 1000 * 5000, "{received} bytes made {out}");
}

#[test]
fn c2_links() {
    assert_linear("attributes of one link", 10_000, |n| {
        let list = format!("</1>{}", ";a=1".repeat(n));
        count(|| {
            RegistrationLinks::parse(list.as_bytes())
                .unwrap()
                .objects
                .len() as u64
        })
    });
    assert_linear("names of attributes", 1000, |n| {
        let name = "n".repeat(n);
        let list: String = (0..60).map(|i| format!(";{name}{i}={name}")).collect();
        let list = format!("</1>{list}");
        count(|| {
            RegistrationLinks::parse(list.as_bytes())
                .unwrap()
                .objects
                .len() as u64
        })
    });
    for pattern in [
        "</1/0>,",
        "</1>;a=\"x\",",
        "<",
        "</1>;a=\"",
        "\"\\\"",
        ";;",
        "</1>;ct=\"1 2 3\",",
        ",",
        "<>,",
        "</3>;ver=1.1,",
    ] {
        assert_linear(pattern, 2000, |n| {
            let list = pattern.repeat(n);
            count(|| {
                let links = RegistrationLinks::parse(list.as_bytes());
                links.map_or(0, |links| links.objects.len() as u64)
            })
        });
    }
    assert_linear("Registers in blocks", 20, |n| {
        let mut shard = Shard::new(|config| config.limits.max_object_list = 1 << 20);
        let block = ";a=1".repeat(256);
        let mut total = Work::default();
        for number in 0..n as u32 {
            let more = u32::from(number + 1 < n as u32) << 3;
            let head = if number == 0 { "</1>" } else { "    " };
            let request = request_to(&["rd"], number as u16)
                .option(option::URI_QUERY, "ep=ep1")
                .uint(option::BLOCK1, number << 4 | more | 6)
                .payload(format!("{head}{}", &block[4..]));
            total += shard.datagram(peer(1), &request.build()).0;
        }
        assert_eq!(shard.engine.len(), 1);
        total
    });
}

#[test]
fn object_lists_that_are_observed() {
    let all = || AutoObserve::All;
    let chosen = || {
        AutoObserve::Paths(
            (0..500u16)
                .map(|n| format!("/3/{n}").parse().unwrap())
                .collect(),
        )
    };
    let rules: [(&str, &dyn Fn() -> AutoObserve); 2] = [("all", &all), ("chosen", &chosen)];
    for (name, rule) in rules {
        assert_linear(name, 3000, |n| {
            let mut shard = Shard::new(|config| config.auto_observe = rule());
            let links: Vec<String> = (0..n).map(|n| format!("</3/{n}>")).collect();
            shard.register(peer(1), "ep1", 1, links.join(",").as_bytes())
        });
    }
}

#[test]
fn options_of_a_datagram() {
    for path in [&b"rd"[..], b"dp", b"xx"] {
        assert_linear("options", 30_000, |n| {
            let mut shard = Shard::new(|_| {});
            shard.datagram(peer(1), &many_options(path, n, 1)).0
        });
    }
    // Path segments, and options that nobody knows.
    for (number, nibble) in [("path", 0xb0), ("elective", 0xc0)] {
        assert_linear(number, 30_000, |n| {
            let mut datagram = vec![0x40, 2, 0, 1, nibble];
            datagram.resize(5 + n, 0);
            Shard::new(|_| {}).datagram(peer(1), &datagram).0
        });
    }
}

#[test]
fn commands_that_wait() {
    // A device that sleeps, with more commands than anybody wants: what each of them, and a
    // message of the device, costs does not depend on how many there are.
    let prepared = |n: usize| {
        let mut shard = Shard::new(|config| {
            config.queue.max_commands = 1_000_000;
            config.queue.max_bytes = 1 << 30;
        });
        let request = request_to(&["rd"], 1)
            .option(option::URI_QUERY, "ep=ep1")
            .option(option::URI_QUERY, "lt=86400")
            .payload("</3/0>");
        shard.datagram(peer(1), &request.build());
        // One that is not answered keeps the others waiting.
        let mut total = Work::default();
        for index in 0..n {
            let ttl = if index % 2 == 0 { 0 } else { 100 + index };
            let command = format!(
                r#"{{"msgType":"read","mheaders":{{"ttl":{ttl}}},"data":{{"path":"/3/0/{}"}}}}"#,
                index % 1000
            );
            total += shard.command("ep1", &command);
        }
        (shard, total)
    };
    assert_linear("commands", 2000, |n| prepared(n).1);
    assert_linear("their expiry", 2000, |n| {
        let (mut shard, _) = prepared(n);
        shard.now = shard.now.after(std::time::Duration::from_secs(10_000));
        count(|| {
            shard.engine.handle_timeout(shard.now);
            shard.drain(&mut None)
        })
    });
    let ping = |n: usize| {
        let (mut shard, _) = prepared(n);
        shard.datagram(peer(1), &[0x40, 0, 0, 9]).0
    };
    assert_eq!(ping(1000).allocations, ping(4000).allocations);
}

#[test]
fn registrations_of_one_identity() {
    let registered = |n: usize| {
        let mut shard = Shard::new(|config| config.limits.max_identity_registrations = 1 << 20);
        let from = Peer {
            session: 1,
            ..peer(1)
        };
        let credential = Credential {
            identity: b"alpha"[..].into(),
            key: Key::new(vec![1; 16]),
            endpoints: Vec::new(),
        };
        let session = SecureSession::new(b"alpha", Arc::new(credential));
        shard.engine.handle_session(shard.now, from, session);
        let mut total = Work::default();
        for index in 0..n {
            total += shard.register(from, &format!("ep{index:05}"), index as u16, b"</3/0>");
        }
        let ended = count(|| {
            for index in 0..n {
                shard.engine.kick(&format!("ep{index:05}"));
            }
            shard.drain(&mut None)
        });
        assert_eq!(shard.engine.load().identities, 0);
        total += ended;
        total
    };
    assert_linear("registrations", 2000, registered);
}
