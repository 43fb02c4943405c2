//! What the store takes: the start with many devices, commands that are accepted in a second, what is left of
//! the rates of a gateway, and a day of queue mode in virtual time. Figures of one run, to be read as
//! ratios; with a broker, `benches/store.sh` measures the same (see README.md).

// What is measured must not fail quietly.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lwm2m_gateway::coap::message::Builder;
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{Change, Keeping, Output, StoredObservation};
use lwm2m_gateway::store::{Backend as _, Batch, Clocks, Database, MemoryBackend};
use lwm2m_gateway::{
    Config, ConfigSource, Gateway, Host, Message as MqttMessage, Publish, Receipt,
};

mod support;

use support::Fleet;

/// Devices of the start.
const DEVICES: usize = 100_000;

/// Commands that are accepted.
const COMMANDS: usize = 200_000;

/// Devices that they are for.
const SLEEPERS: usize = 2_000;

fn main() {
    let wanted = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let parts: [(&str, fn()); 3] = [("start", start), ("rates", rates), ("day", day)];
    for (name, part) in parts {
        if wanted.as_deref().is_none_or(|wanted| wanted == name) {
            part();
        }
    }
}

/// CPU time of the threads of the gateway in this process: of its shards, and of the store.
fn cpu() -> [f64; 2] {
    let mut sums = [0.0; 2];
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let ran = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let ran = ran.split(' ').next().and_then(|it| it.parse::<f64>().ok());
        match name.trim() {
            "lwm2m-store" => sums[1] += ran.unwrap_or_default() / 1e9,
            name if name.starts_with("lwm2m-") => sums[0] += ran.unwrap_or_default() / 1e9,
            _ => {}
        }
    }
    sums
}

/// CPU time of this thread.
fn own_cpu() -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = ran.split(' ').next().and_then(|it| it.parse::<f64>().ok());
    ran.unwrap_or_default() / 1e9
}

/// Takes what is published and forgets it.
struct Nobody(AtomicU64);

impl Host for Nobody {
    fn publish(&self, batch: &mut Vec<Publish>) {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.clear();
    }

    fn subscribe(&self, _: &str, _: u8) {}

    fn unsubscribe(&self, _: &str) {}
}

fn config(path: &std::path::Path) -> Config {
    let text = format!(
        "store.path = {path:?}\nqueue.max_commands = 100000\nlimits.memory = \"2GB\"\n\
         listeners.udp.default.bind = \"127.0.0.1:0\"\n"
    );
    let (config, _) = ConfigSource::from_toml(&text).read().unwrap();
    config
}

/// A file with so many devices, each with two observations.
fn filled(path: &std::path::Path) {
    let mut fleet = Fleet::new();
    fleet.engine.keep(Keeping {
        deadline_interval: Duration::from_secs(60),
        confirms: false,
    });
    let mut changes = Vec::new();
    let (mut database, _) = Database::open(path, true, 0).unwrap();
    let clocks = Clocks::now(fleet.now.mono, fleet.now.unix_ms);
    for index in 0..DEVICES {
        fleet.add(index);
        let datagram = fleet.register_datagram(index);
        let peer = fleet.devices[index].peer;
        fleet.engine.handle_datagram(fleet.now, peer, &datagram);
        stored(&mut fleet, &mut changes);
        let text = br#"{"reqID":1,"msgType":"observe","data":{"path":"/3/0/9"}}"#;
        let endpoint = fleet.devices[index].endpoint.clone();
        for number in 0..2 {
            changes.push(Change::Observed {
                endpoint: endpoint.as_str().into(),
                observation: Box::new(observation(text, (index * 2 + number) as u64 + 1)),
            });
        }
        if changes.len() > 20_000 {
            let batch: Batch = changes.drain(..).collect();
            database.commit(&batch, &clocks).unwrap();
        }
    }
    let batch: Batch = changes.drain(..).collect();
    database.commit(&batch, &clocks).unwrap();
}

/// An observation as an engine stores it, with another token.
fn observation(text: &[u8], token: u64) -> StoredObservation {
    static TEMPLATE: std::sync::OnceLock<StoredObservation> = std::sync::OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let mut fleet = Fleet::new();
        fleet.engine.keep(Keeping {
            deadline_interval: Duration::from_secs(60),
            confirms: false,
        });
        let mut store = MemoryBackend::default();
        fleet.add(0);
        let datagram = fleet.register_datagram(0);
        let peer = fleet.devices[0].peer;
        fleet.engine.handle_datagram(fleet.now, peer, &datagram);
        let mut changes = Vec::new();
        stored(&mut fleet, &mut changes);
        let request = fleet.command(0, str::from_utf8(text).unwrap());
        let request = Message::parse(&request).unwrap();
        let answer = Builder::new(
            MessageType::Acknowledgement,
            Code::CONTENT,
            request.mid(),
            request.token(),
        )
        .uint(6, 1)
        .uint(12, 0)
        .payload("1");
        fleet
            .engine
            .handle_datagram(fleet.now, peer, &answer.build());
        stored(&mut fleet, &mut changes);
        changes.iter().for_each(|change| store.apply(change));
        let contents = store.load().unwrap();
        contents.devices[0].observations[0].clone()
    });
    StoredObservation {
        token,
        ..template.clone()
    }
}

fn stored(fleet: &mut Fleet, changes: &mut Vec<Change>) {
    loop {
        match fleet.engine.poll_output() {
            Output::Store(change) => changes.push(change),
            Output::Idle(_) => return,
            _ => {}
        }
    }
}

fn start() {
    let path = std::env::temp_dir().join(format!("lwm2m-bench-store-{}", std::process::id()));
    filled(&path);
    let bytes = std::fs::metadata(path.join("store.redb")).unwrap().len();
    println!(
        "{DEVICES} devices with two observations each: {} MB",
        bytes / 1_000_000
    );
    let (begin, before) = (Instant::now(), own_cpu());
    drop(Database::open(&path, true, 0).unwrap());
    let (took, cpu_took) = (begin.elapsed().as_secs_f64(), own_cpu() - before);
    println!("the store is read: {took:.2} s, {cpu_took:.2} s of CPU");
    let (begin, before) = (Instant::now(), own_cpu());
    let host = Arc::new(Nobody(AtomicU64::new(0)));
    let gateway = Gateway::start(config(&path), host).unwrap();
    let (up, cpu_up) = (begin.elapsed(), own_cpu() - before);
    assert_eq!(gateway.registrations(), DEVICES);
    // Whoever asks for a device is answered, although it is the last one.
    let last = format!("urn:imei:35000000{:07}", DEVICES - 1);
    assert!(gateway.device(&last).is_some());
    let first = begin.elapsed();
    let restored = || gateway.statistics().0["store_restored"];
    while restored() < DEVICES as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "serving: {:.2} s, {cpu_up:.2} s of CPU; the last device is found: {:.2} s; all are back: {:.2} s, \
         {:.2} s of CPU more",
        up.as_secs_f64(),
        first.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        cpu()[0],
    );
    accept(&gateway);
    gateway.stop(Duration::from_secs(20));
    std::fs::remove_dir_all(PathBuf::from(&path)).unwrap();
}

/// Commands for devices that do not answer: what is accepted waits in the store.
fn accept(gateway: &Gateway) {
    let safe = Arc::new(AtomicU64::new(0));
    let (begin, before) = (Instant::now(), cpu());
    for number in 0..COMMANDS {
        let endpoint = format!("urn:imei:35000000{:07}", number % SLEEPERS);
        let text = format!(r#"{{"reqID":{number},"msgType":"read","data":{{"path":"/3/0/9"}}}}"#);
        let message = MqttMessage {
            topic: format!("lwm2m/{endpoint}/dn/dm"),
            payload: text.into_bytes(),
            expiry: None,
            reply: None,
        };
        let count = Arc::clone(&safe);
        let receipt = Receipt::new(move |outcome| {
            count.fetch_add(u64::from(outcome.is_ok()), Ordering::Relaxed);
        });
        gateway.deliver_durably(message, receipt);
        // What a broker leaves without acknowledgement at most.
        while (number as u64).saturating_sub(safe.load(Ordering::Relaxed)) > 10_000 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    while safe.load(Ordering::Relaxed) < COMMANDS as u64 {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "not all are safe"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let rate = COMMANDS as f64 / begin.elapsed().as_secs_f64();
    let [shard, store] = each(before, COMMANDS);
    println!(
        "commands accepted and in the store: {rate:.0} a second, {shard:.1} us of the shard and {store:.1} us \
         of the store"
    );
}

/// Microseconds of CPU of each of so many, since `before`.
fn each(before: [f64; 2], count: usize) -> [f64; 2] {
    let now = cpu();
    [0, 1].map(|at| (now[at] - before[at]) * 1e6 / count as f64)
}

/// Devices of each socket, each at an address of its own.
const PER_SOCKET: usize = 100;
const SOCKETS: usize = 200;

/// Notifications of each device.
const NOTIFICATIONS: usize = 20;

/// Rounds with a store and as many without.
const ROUNDS: usize = 5;

/// What one round says: of registrations the rate, and microseconds of the shards, of the store and of the
/// devices; of notifications the rate, and microseconds of the shards.
type Figures = [f64; 6];

/// Registrations and notifications on real sockets with a store and without, in turns. A round may leave the
/// memory of the process, the disk and the machine warmer or busier than it found them: each of the two comes
/// first as often as the other, after a round that nobody counts.
fn rates() {
    rate(false);
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let first = round % 2 == 1;
        for stored in [first, !first] {
            let of_round = rate(stored);
            println!(
                "{}: {:.0} registrations a second, {:.1} us of the shard, {:.1} us of the store and {:.1} us of \
                 the devices; {:.0} notifications a second, {:.2} us",
                if stored { "with a store" } else { "in memory" },
                of_round[0],
                of_round[1],
                of_round[2],
                of_round[3],
                of_round[4],
                of_round[5],
            );
            figures[usize::from(stored)].push(of_round);
        }
    }
    let [memory, store] = figures.map(|rounds| medians(&rounds));
    println!(
        "medians: {:.0} of {:.0} registrations a second ({:.2}), {:.1} and {:.1} us of the shard ({:.2}), {:.1} us \
         of the store, {:.1} and {:.1} us of the devices; {:.0} of {:.0} notifications a second ({:.2}), {:.2} \
         and {:.2} us of the shard ({:.2})",
        store[0],
        memory[0],
        store[0] / memory[0],
        store[1],
        memory[1],
        memory[1] / store[1],
        store[2],
        store[3],
        memory[3],
        store[4],
        memory[4],
        store[4] / memory[4],
        store[5],
        memory[5],
        memory[5] / store[5],
    );
}

fn medians(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|at| {
        let mut figures: Vec<f64> = rounds.iter().map(|figures| figures[at]).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    })
}

fn rate(stored: bool) -> Figures {
    let path = std::env::temp_dir().join(format!("lwm2m-bench-rates-{}", std::process::id()));
    let mut config = config(&path);
    if !stored {
        config.store.path = None;
    }
    let host = Arc::new(Nobody(AtomicU64::new(0)));
    let published = || host.0.load(Ordering::Relaxed);
    let gateway = Gateway::start(config, host.clone()).unwrap();
    let to = gateway.listeners()[0].1;
    let sockets: Vec<_> = (0..SOCKETS)
        .map(|number| {
            let address = std::net::Ipv4Addr::new(127, 0, 1, number as u8 + 1);
            let socket = std::net::UdpSocket::bind((address, 0)).unwrap();
            socket.connect(to).unwrap();
            let patience = Some(Duration::from_secs(20));
            socket.set_read_timeout(patience).unwrap();
            socket
        })
        .collect();
    let count = SOCKETS * PER_SOCKET;
    let mut buffer = [0; 1500];
    let (begin, before, own) = (Instant::now(), cpu(), own_cpu());
    for (number, socket) in sockets.iter().enumerate() {
        for index in 0..PER_SOCKET {
            let name = format!("ep=urn:imei:35{:013}", number * PER_SOCKET + index);
            let register = Builder::new(MessageType::Confirmable, Code::POST, index as u16, b"r")
                .option(11, "rd")
                .uint(12, 40);
            let register = [name.as_str(), "lt=86400", "lwm2m=1.1", "b=U"]
                .iter()
                .fold(register, |register, query| register.option(15, *query));
            let links = "</>;rt=\"oma.lwm2m\";ct=11543,</1/0>,</3/0>,</4/0>,</5/0>,</3303/0>";
            socket.send(&register.payload(links).build()).unwrap();
        }
        for _ in 0..PER_SOCKET {
            let length = socket.recv(&mut buffer).unwrap();
            let answer = Message::parse(&buffer[..length]).unwrap();
            assert_eq!(answer.code(), Code::CREATED);
        }
    }
    let registered = count as f64 / begin.elapsed().as_secs_f64();
    let devices = (own_cpu() - own) * 1e6 / count as f64;
    std::thread::sleep(Duration::from_millis(200));
    let registering = each(before, count);
    let mut tokens = vec![Vec::new(); SOCKETS];
    for (number, socket) in sockets.iter().enumerate() {
        for index in 0..PER_SOCKET {
            let endpoint = format!("urn:imei:35{:013}", number * PER_SOCKET + index);
            let text = br#"{"reqID":1,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#;
            gateway.deliver(MqttMessage {
                topic: format!("lwm2m/{endpoint}/dn/dm"),
                payload: text.to_vec(),
                expiry: None,
                reply: None,
            });
        }
        while tokens[number].len() < PER_SOCKET {
            let length = socket.recv(&mut buffer).unwrap();
            let request = Message::parse(&buffer[..length]).unwrap();
            if request.code() == Code::GET {
                let (mid, token) = (request.mid(), request.token());
                let kind = MessageType::Acknowledgement;
                let answer = Builder::new(kind, Code::CONTENT, mid, token).uint(6, 1);
                socket
                    .send(&answer.uint(12, 0).payload("20.5").build())
                    .unwrap();
                if !tokens[number].iter().any(|it| it == token) {
                    tokens[number].push(token.to_vec());
                }
            }
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let (begin, before, first) = (Instant::now(), cpu(), published());
    let (mut sent, mut mid) = (0, 1000u16);
    for sequence in 0..NOTIFICATIONS {
        for (socket, tokens) in sockets.iter().zip(&tokens) {
            for token in tokens {
                let kind = MessageType::NonConfirmable;
                let notification = Builder::new(kind, Code::CONTENT, mid, token)
                    .uint(6, sequence as u32 + 2)
                    .uint(12, 0)
                    .payload("21.5");
                socket.send(&notification.build()).unwrap();
                sent += 1;
            }
            mid = mid.wrapping_add(1);
            let late = Instant::now() + Duration::from_secs(5);
            while sent > published() - first + 400 && Instant::now() < late {
                std::thread::yield_now();
            }
        }
    }
    let arrived = published() - first;
    let notified = arrived as f64 / begin.elapsed().as_secs_f64();
    let notifying = each(before, arrived as usize);
    assert!(arrived > 0, "no notification of {sent} arrived");
    gateway.stop(Duration::from_secs(20));
    if stored {
        std::fs::remove_dir_all(&path).unwrap();
    }
    let [shard, store] = registering;
    [registered, shard, store, devices, notified, notifying[0]]
}

/// 10,000 devices in queue mode, which wake once an hour for a day; each finds a command.
fn day() {
    const FLEET: usize = 10_000;
    let begin = Instant::now();
    let mut fleet = Fleet::new();
    fleet.engine.keep(Keeping {
        deadline_interval: Duration::from_secs(60),
        confirms: false,
    });
    let mut changes = Vec::new();
    for index in 0..FLEET {
        fleet.add(index);
        let datagram = fleet.register_datagram(index);
        // In queue mode.
        let datagram = replaced(&datagram, b"b=U", b"b=Q");
        let peer = fleet.devices[index].peer;
        fleet.engine.handle_datagram(fleet.now, peer, &datagram);
        let created = sent(&mut fleet, &mut changes).pop().expect("an answer");
        fleet.take_location(index, &created);
    }
    let (mut answered, mut expected) = (0, 0);
    for _hour in 0..24 {
        fleet.pass(Duration::from_secs(30));
        for index in 0..FLEET {
            let text = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/9"}}"#;
            queue(&mut fleet, index, text);
            assert!(sent(&mut fleet, &mut changes).is_empty(), "it sleeps");
            expected += 1;
        }
        fleet.pass(Duration::from_secs(3570));
        for index in 0..FLEET {
            let update = fleet.location_datagram(index, Code::POST);
            let peer = fleet.devices[index].peer;
            fleet.engine.handle_datagram(fleet.now, peer, &update);
            let requests = sent(&mut fleet, &mut changes);
            let mut request = requests.iter().map(|it| Message::parse(it).unwrap());
            let request = request.rfind(|it| it.code() == Code::GET);
            let request = request.expect("the command");
            let answer = Builder::new(
                MessageType::Acknowledgement,
                Code::CONTENT,
                request.mid(),
                request.token(),
            )
            .uint(12, 0)
            .payload("1");
            fleet
                .engine
                .handle_datagram(fleet.now, peer, &answer.build());
            sent(&mut fleet, &mut changes);
            answered += 1;
        }
        let open = changes.drain(..).fold(0i64, |open, change| match change {
            Change::Queued { .. } => open + 1,
            Change::Answered { .. } => open - 1,
            _ => open,
        });
        assert_eq!(open, 0, "the store knows of each answer");
    }
    assert_eq!(answered, expected);
    assert_eq!(fleet.engine.len(), FLEET);
    println!(
        "a day of {FLEET} sleeping devices, {answered} commands: {:.1} s",
        begin.elapsed().as_secs_f64()
    );
}

fn queue(fleet: &mut Fleet, index: usize, text: &str) {
    let endpoint = fleet.devices[index].endpoint.as_str();
    let input = lwm2m_gateway::engine::CommandInput {
        order: 0,
        endpoint: endpoint.into(),
        mount: format!("lwm2m/{endpoint}/").into(),
        dialect: lwm2m_gateway::bridge::Dialect::Current,
        payload: text.as_bytes().to_vec(),
        expiry: None,
        origin: None,
        reply: None,
    };
    fleet.engine.handle_command(fleet.now, input);
}

/// Datagrams for devices; what is for the store is kept.
fn sent(fleet: &mut Fleet, changes: &mut Vec<Change>) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    loop {
        match fleet.engine.poll_output() {
            Output::Transmit { datagram, .. } => datagrams.push(datagram),
            Output::Store(change) => changes.push(change),
            Output::Idle(_) => return datagrams,
            _ => {}
        }
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|it| it == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
