//! Disorder in virtual time: datagrams that are lost, repeated, reordered or damaged, devices that
//! change their address and their shard, commands at any moment. Whatever happens, each command
//! gets one final answer, the gauges are right, and nothing is left when all devices are gone.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{World, peer};
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, empty, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::LifetimePolicy;
use lwm2m_gateway::engine::{Load, Peer};
use lwm2m_gateway::memory::Kind;
use serde_json::Value;

const SHARDS: u16 = 2;
const DEVICES: usize = 5;
const PORTS: u16 = 7;
const STEPS: usize = 400;
const RUNS: u64 = 300;

const LONGEST_LIFETIME: Duration = Duration::from_secs(300);

/// After this time without a sign of life nothing may be left; replies are remembered for less.
const SILENCE: Duration = Duration::from_secs(301);

/// SplitMix64: a run is repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// A device that answers as it likes.
#[derive(Default)]
struct Wild {
    port: u16,
    mid: u16,
    location: Option<String>,
    /// Tokens of Observe requests it has seen.
    observed: Vec<Vec<u8>>,
    sequence: u32,
}

/// What is known of a command.
#[derive(Default)]
struct Fate {
    observe: bool,
    answers: Vec<Value>,
}

struct Chaos {
    world: World,
    random: Random,
    devices: Vec<Wild>,
    /// Datagrams on their way to the gateway.
    inbound: Vec<(Peer, Vec<u8>)>,
    commands: HashMap<u64, Fate>,
}

fn endpoint(index: usize) -> String {
    format!("ep{index}")
}

/// The kernel sends all datagrams of one address to the same shard.
fn shard_of(peer: Peer) -> usize {
    usize::from(peer.address.port() % SHARDS)
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut world = World::sharded(SHARDS, |config| {
            // A damaged Register may ask for any lifetime.
            config.lifetime_max = LONGEST_LIFETIME;
            // Also of a Register whose `lt` was damaged on its way.
            config.lifetime_policy = LifetimePolicy::Clamp;
            config.queue.max_commands = 1 + random.below(4);
            config.limits.max_observations = 1 + random.below(3);
            config.limits.max_registrations = DEVICES - random.below(2);
            config.coap.nstart = 1 + random.below(2);
            // Enough for everything, for some of it, for hardly anything.
            config.limits.memory = Some(random.pick(&[1 << 32, 300_000, 60_000]));
            config.blockwise.max_block_size = random.pick(&[16, 64, 1024]);
            config.compat.endpoint_location = random.percent(20);
            config.compat.reregister_204 = random.percent(30);
            if random.percent(20) {
                config.mountpoint = "lwm2m/".to_owned();
                config.shared_mountpoint = true;
            }
        });
        world.hold_handoffs = true;
        let devices = (0..DEVICES).map(|_| Wild::default()).collect();
        Self {
            world,
            random,
            devices,
            inbound: Vec::new(),
            commands: HashMap::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..15 => self.device_request(),
            15..35 => self.command(),
            35..45 => self.device_notification(),
            45..80 => self.deliver(),
            80..92 => {
                let shard = self.random.below(usize::from(SHARDS));
                self.world.hand_over(shard);
            }
            _ => {
                self.hand_over_all();
                let most = self.random.pick(&[10, 1000, 20_000, 100_000]);
                let millis = 1 + self.random.below(most) as u64;
                self.world.pass(Duration::from_millis(millis));
            }
        }
        self.collect();
    }

    /// Handoffs come to rest: shards do not send one round and round.
    fn hand_over_all(&mut self) {
        for _ in 0..10_000 {
            let moved = (0..usize::from(SHARDS)).any(|shard| self.world.hand_over(shard));
            if !moved {
                return;
            }
        }
        panic!("handoffs go round in circles");
    }

    fn send(&mut self, from: Peer, datagram: Vec<u8>) {
        self.inbound.push((from, datagram));
    }

    /// Register, Update or De-register, perhaps from another address, perhaps in blocks.
    fn device_request(&mut self) {
        let index = self.random.below(DEVICES);
        let random = &mut self.random;
        let device = &mut self.devices[index];
        if device.port == 0 || random.percent(20) {
            device.port = 5000 + random.below(usize::from(PORTS)) as u16;
        }
        device.mid = device.mid.wrapping_add(1);
        let from = peer(device.port);
        let kind = random.pick(&[MessageType::Confirmable, MessageType::NonConfirmable]);
        let location = device.location.clone().filter(|_| random.percent(70));
        let code = match location {
            Some(_) if random.percent(25) => Code::DELETE,
            _ => Code::POST,
        };
        let token = [index as u8, 7];
        let mut request =
            Builder::new(kind, code, device.mid, &token).option(option::URI_PATH, *b"rd");
        let lifetime = random.pick(&["lt=20", "lt=100", "lt=300"]);
        request = match location {
            Some(location) => request.option(option::URI_PATH, location),
            None => {
                let queue = random.pick(&["b=U", "b=UQ"]);
                [&format!("ep={}", endpoint(index)), "lwm2m=1.1", queue]
                    .into_iter()
                    .fold(request, |it, query| it.option(option::URI_QUERY, query))
            }
        };
        if code == Code::POST {
            request = request.option(option::URI_QUERY, lifetime);
            if random.percent(15) {
                // The first half of a body in blocks; the second often never comes.
                let links = b"</1/0>,</3/0>,</";
                let next = request.clone();
                let first = request.uint(option::BLOCK1, 0x08).payload(*links).build();
                self.send(from, first);
                request = next.uint(option::BLOCK1, 0x10).payload(*b"5/0>");
                let mid = self.devices[index].mid.wrapping_add(1);
                self.devices[index].mid = mid;
                let mut second = request.build();
                second[2..4].copy_from_slice(&mid.to_be_bytes());
                return self.send(from, second);
            }
            request = request.payload(*b"</1/0>,</3/0>,</5/0>");
        }
        self.send(from, request.build());
    }

    fn device_notification(&mut self) {
        let index = self.random.below(DEVICES);
        let random = &mut self.random;
        let device = &mut self.devices[index];
        if device.observed.is_empty() {
            return;
        }
        let token = device.observed[random.below(device.observed.len())].clone();
        device.mid = device.mid.wrapping_add(1);
        device.sequence += 1;
        let kind = random.pick(&[MessageType::Confirmable, MessageType::NonConfirmable]);
        let code = if random.percent(90) {
            Code::CONTENT
        } else {
            Code::NOT_FOUND
        };
        let mut message = Builder::new(kind, code, device.mid, &token);
        if random.percent(90) {
            message = message.uint(option::OBSERVE, device.sequence);
        }
        if random.percent(20) {
            message = message.uint(option::BLOCK2, 0x08);
        }
        let from = peer(device.port);
        self.send(from, message.payload(*b"0123456789abcdef").build());
    }

    fn command(&mut self) {
        let id = self.commands.len() as u64 + 1;
        let random = &mut self.random;
        let (name, data) = random.pick(&[
            ("read", r#"{"path":"/3/0/0"}"#),
            ("read", r#"{"path":"/3/0/0"}"#),
            ("observe", r#"{"path":"/3/0/9"}"#),
            ("observe", r#"{"path":"/3/0"}"#),
            ("observe", r#"{"path":"/5/0/3"}"#),
            ("cancel-observe", r#"{"path":"/3/0/9"}"#),
            ("cancel-observe", r#"{"path":"/3/0"}"#),
            ("discover", r#"{"path":"/3"}"#),
            ("execute", r#"{"path":"/3/0/4"}"#),
            ("delete", r#"{"path":"/1/1"}"#),
            ("write", r#"{"path":"/3/0/14","type":"String","value":"+01:00"}"#),
            ("write", r#"{"path":"/5/0/1","type":"String","value":"coap://host/a/name/that/needs/more/than/one/block/of/sixty-four/bytes"}"#),
            ("write", r#"{"path":"/3/0/13","type":"Time","value":"never"}"#),
            ("dance", r#"{"path":"/3"}"#),
        ]);
        let headers = random.pick(&["", r#","mheaders":{"ttl":0}"#, r#","mheaders":{"ttl":30}"#]);
        let expiry = random.percent(20).then_some(5);
        let to = endpoint(random.below(DEVICES + 1));
        let json = format!(r#"{{"reqID":{id},"msgType":"{name}","data":{data}{headers}}}"#);
        let fate = Fate {
            observe: name == "observe",
            answers: Vec::new(),
        };
        self.commands.insert(id, fate);
        // Routing by a directory that changes at the same time finds the wrong shard at times.
        let routed = self.world.directory.shard_of(&to).unwrap_or(0);
        let shard = if random.percent(90) {
            routed
        } else {
            random.below(usize::from(SHARDS)) as u16
        };
        self.world
            .command_at(usize::from(shard), &to, &json, Dialect::Current, expiry);
    }

    /// A datagram arrives, or is lost, damaged or sent twice on the way.
    fn deliver(&mut self) {
        if self.inbound.is_empty() {
            return;
        }
        let (from, mut datagram) = match self.random.percent(70) {
            true => self.inbound.remove(0),
            false => self
                .inbound
                .swap_remove(self.random.below(self.inbound.len())),
        };
        match self.random.below(20) {
            0 => return,
            1 => self.inbound.push((from, datagram.clone())),
            2 => {
                let at = self.random.below(datagram.len());
                datagram[at] ^= 1 << self.random.below(8);
            }
            3 => datagram.truncate(self.random.below(datagram.len() + 1)),
            _ => {}
        }
        self.world.datagram_at(shard_of(from), from, &datagram);
    }

    /// What came out: devices react, answers are noted.
    fn collect(&mut self) {
        while let Some((to, datagram)) = self.world.sent.pop_front() {
            let message = Message::parse(&datagram).unwrap();
            self.react(to, &message);
        }
        while let Some(published) = self.world.published.pop_front() {
            let json = published.json;
            let Some(id) = json["reqID"].as_u64() else {
                continue;
            };
            if matches!(json["msgType"].as_str(), Some("ack" | "notify")) {
                continue;
            }
            self.commands.entry(id).or_default().answers.push(json);
        }
        self.world.subscribed.clear();
    }

    fn react(&mut self, to: Peer, message: &Message) {
        let random = &mut self.random;
        if !message.code().is_request() {
            // The token of our requests says who asked.
            if let [index, 7] = message.token()
                && let Some(device) = self.devices.get_mut(usize::from(*index))
            {
                if message.code() == Code::CREATED {
                    let segment = message.option_values(option::LOCATION_PATH).nth(1);
                    device.location =
                        segment.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                }
                if message.code() == Code::NOT_FOUND || message.code() == Code::DELETED {
                    device.location = None;
                }
            }
            return;
        }
        let Some(device) = self
            .devices
            .iter_mut()
            .find(|it| it.port == to.address.port())
        else {
            return;
        };
        let code = random.pick(&[
            Code::CONTENT,
            Code::CONTENT,
            Code::CHANGED,
            Code::NOT_FOUND,
            Code::CONTINUE,
            Code::REQUEST_ENTITY_TOO_LARGE,
        ]);
        let observes = message.observe() == Some(0) && code == Code::CONTENT;
        if observes {
            device.observed.push(message.token().to_vec());
        }
        let chance = random.below(100);
        device.mid = device.mid.wrapping_add(1);
        let build = |kind, mid, random: &mut Random| {
            let mut answer = Builder::new(kind, code, mid, message.token());
            if observes {
                answer = answer.uint(option::OBSERVE, 1);
            }
            if let Some(block) = message.uint_option(option::BLOCK1, 3) {
                answer = answer.uint(option::BLOCK1, block);
            }
            match message.uint_option(option::BLOCK2, 3) {
                // Blocks go on, more often than not to an end.
                Some(block) => {
                    let more = u32::from(random.percent(40)) << 3;
                    answer = answer.uint(option::BLOCK2, (block & !0xf) | more);
                }
                None if random.percent(10) => answer = answer.uint(option::BLOCK2, 0x08),
                None => {}
            }
            answer.payload(*b"0123456789abcdef").build()
        };
        let ack = empty(MessageType::Acknowledgement, message.mid());
        match chance {
            0..55 => {
                let answer = build(MessageType::Acknowledgement, message.mid(), random);
                self.inbound.push((to, answer));
            }
            55..70 => {
                let kind = random.pick(&[MessageType::Confirmable, MessageType::NonConfirmable]);
                let answer = build(kind, device.mid, random);
                self.inbound.push((to, ack));
                self.inbound.push((to, answer));
            }
            70..75 => self.inbound.push((to, ack)),
            75..80 => self
                .inbound
                .push((to, empty(MessageType::Reset, message.mid()))),
            _ => {}
        }
    }

    fn load(&self) -> Vec<Load> {
        self.world
            .engines
            .iter()
            .map(|engine| engine.load())
            .collect()
    }

    fn check_gauges(&self) {
        let load = self.load();
        let sum = |of: fn(&Load) -> usize| load.iter().map(of).sum::<usize>() as u64;
        assert_eq!(self.world.counter("registrations"), sum(|it| it.devices));
        assert_eq!(
            self.world.counter("observations"),
            sum(|it| it.observations)
        );
        // A device in a held handoff is in no shard for the moment.
        if self.world.held.iter().all(|held| held.is_empty()) {
            assert_eq!(self.world.directory.len() as u64, sum(|it| it.devices));
        }
        for shard in &load {
            assert!(shard.in_flight <= shard.exchanges, "{shard:?}");
            assert!(
                shard.tokens <= shard.exchanges + shard.observations,
                "{shard:?}"
            );
            assert!(shard.timers <= shard.devices, "{shard:?}");
            assert_eq!(shard.outputs, 0);
        }
        for engine in &self.world.engines {
            for (kind, charged, counted) in engine.audit() {
                assert_eq!(charged, counted, "{kind:?}");
            }
        }
    }

    /// All devices fall silent; then nothing may be left.
    fn finish(mut self) {
        self.inbound.clear();
        self.hand_over_all();
        self.collect();
        self.world.pass(SILENCE);
        self.hand_over_all();
        // Remembered replies have no deadline of their own; they go with the next event.
        for engine in &mut self.world.engines {
            engine.handle_timeout(self.world.now);
        }
        self.collect();
        for (id, fate) in &self.commands {
            let [first, later @ ..] = fate.answers.as_slice() else {
                panic!("command {id} was never answered");
            };
            // What ends an observation is reported with the id of its command.
            let code = first["data"]["code"].as_str();
            let success = code.is_some_and(|code| code.starts_with('2'));
            // An answer that cannot be read is 4.00, and establishes the observation all the same.
            let established = fate.observe && (success || first["seqNum"].is_u64());
            let ends = |json: &Value| {
                established
                    && matches!(
                        json["msgType"].as_str(),
                        Some("coap_timeout" | "coap_reset")
                    )
            };
            assert!(later.iter().all(ends), "command {id}: {:?}", fate.answers);
        }
        self.check_gauges();
        assert_eq!(self.load(), vec![Load::default(); usize::from(SHARDS)]);
        assert!(self.world.directory.is_empty());
        for kind in Kind::ALL {
            assert_eq!(self.world.memory.used(kind), 0, "{kind:?}");
        }
    }
}

#[test]
fn chaos() {
    // Other runs, or more of them: CHAOS_SEED=1000 CHAOS_RUNS=3000 cargo test --test engine_chaos
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("CHAOS_SEED").unwrap_or(0);
    for seed in first..first + number("CHAOS_RUNS").unwrap_or(RUNS) {
        let run = std::panic::catch_unwind(|| {
            let mut chaos = Chaos::new(seed);
            for _ in 0..STEPS {
                chaos.step();
                chaos.check_gauges();
            }
            chaos.finish();
        });
        if let Err(panic) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
