//! The runtime over real sockets: shards, mailboxes, batches, stop and reload.

// Helpers of tests may panic, and tests own sockets.
#![allow(clippy::disallowed_types, clippy::expect_used, clippy::unwrap_used)]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use lwm2m_gateway::Config;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::host::{Host, Message as MqttMessage, Publish};
use lwm2m_gateway::runtime::{Gateway, StartError};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// A host that keeps what it is given.
struct Recorder {
    published: Sender<Publish>,
    subscribed: Sender<(String, bool)>,
}

impl Host for Recorder {
    fn publish(&self, batch: &mut Vec<Publish>) {
        for publish in batch.drain(..) {
            assert!(!publish.topic.contains("panic"), "as asked for");
            let _ = self.published.send(publish);
        }
    }

    fn subscribe(&self, filter: &str, _qos: u8) {
        let _ = self.subscribed.send((filter.to_owned(), true));
    }

    fn unsubscribe(&self, filter: &str) {
        let _ = self.subscribed.send((filter.to_owned(), false));
    }
}

struct Running {
    gateway: Gateway,
    published: Receiver<Publish>,
    subscribed: Receiver<(String, bool)>,
}

fn config(shards: usize) -> Config {
    let mut config = Config {
        shards,
        ..Config::default()
    };
    let listener = config.listeners.udp.get_mut("default").unwrap();
    listener.bind = "127.0.0.1:0".parse().unwrap();
    config
}

fn start(shards: usize, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(shards);
    change(&mut config);
    let (published, publish_queue) = channel();
    let (subscribed, subscribe_queue) = channel();
    let host = Arc::new(Recorder {
        published,
        subscribed,
    });
    let gateway = Gateway::start(config, host).unwrap();
    Running {
        gateway,
        published: publish_queue,
        subscribed: subscribe_queue,
    }
}

impl Running {
    fn next(&self) -> (String, Value) {
        let publish = self
            .published
            .recv_timeout(PATIENCE)
            .expect("a message is published");
        (
            publish.topic,
            serde_json::from_slice(&publish.payload).unwrap(),
        )
    }

    fn command(&self, endpoint: &str, command: &Value) {
        self.gateway.deliver(MqttMessage {
            topic: format!("lwm2m/{endpoint}/dn"),
            payload: command.to_string().into_bytes(),
            expiry: None,
            reply: None,
        });
    }
}

struct Device {
    socket: UdpSocket,
    mid: u16,
    location: Vec<Vec<u8>>,
}

impl Device {
    fn new(running: &Running) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(running.gateway.listeners()[0].1).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            mid: 0,
            location: Vec::new(),
        }
    }

    fn request(&mut self, path: &[&[u8]], query: &[&str], payload: &[u8]) -> Message {
        self.mid += 1;
        let mut builder = Builder::new(MessageType::Confirmable, Code::POST, self.mid, b"tkn");
        for segment in path {
            builder = builder.option(option::URI_PATH, *segment);
        }
        for item in query {
            builder = builder.option(option::URI_QUERY, *item);
        }
        self.socket.send(&builder.payload(payload).build()).unwrap();
        self.receive()
    }

    fn receive(&self) -> Message {
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer).expect("the gateway answers");
        Message::parse(&buffer[..length]).unwrap()
    }

    fn register(&mut self, endpoint: &str, links: &str) {
        let ep = format!("ep={endpoint}");
        let answer = self.request(&[b"rd"], &[&ep, "lt=300", "lwm2m=1.1"], links.as_bytes());
        assert_eq!(answer.code(), Code::CREATED);
        self.location = answer
            .option_values(option::LOCATION_PATH)
            .map(<[u8]>::to_vec)
            .collect();
    }

    fn answer(&self, request: &Message, payload: &[u8]) {
        let kind = MessageType::Acknowledgement;
        let answer = Builder::new(kind, Code::CONTENT, request.mid(), request.token());
        self.socket.send(&answer.payload(payload).build()).unwrap();
    }
}

#[test]
fn devices_roam_between_shards() {
    let running = start(4, |_| {});
    assert_eq!(
        running.subscribed.recv_timeout(PATIENCE).unwrap(),
        ("lwm2m/+/dn/#".to_owned(), true)
    );
    let mut first = Device::new(&running);
    first.register("ep1", "</3/0>");
    assert_eq!(running.next().1["msgType"], "register");
    // Each new socket is another address, and most of them another shard.
    for round in 0..20 {
        let mut moved = Device {
            location: first.location.clone(),
            mid: round * 10,
            ..Device::new(&running)
        };
        let path: Vec<&[u8]> = first.location.iter().map(Vec::as_slice).collect();
        assert_eq!(
            moved.request(&path, &[], b"").code(),
            Code::CHANGED,
            "round {round}"
        );
        running.command(
            "ep1",
            &json!({"reqID": round, "msgType": "read", "data": {"path": "/3/0/0"}}),
        );
        let request = moved.receive();
        moved.answer(&request, b"ACME");
        let (topic, answer) = running.next();
        assert_eq!(topic, "lwm2m/ep1/up/resp");
        assert_eq!(
            (&answer["reqID"], &answer["data"]["content"][0]["value"]),
            (&json!(round), &json!("ACME"))
        );
    }
    assert_eq!(running.gateway.registrations(), 1);
    assert_eq!(running.gateway.statistics().0["address_changed"], 20);
    running.gateway.stop(PATIENCE);
}

#[test]
fn large_datagrams_without_blocks() {
    let running = start(1, |_| {});
    let links: String = (0..1000)
        .map(|n| format!("</3303/{n}>,"))
        .collect::<String>()
        + "</3/0>";
    let mut device = Device::new(&running);
    device.register("ep1", &links);
    assert_eq!(
        running.next().1["data"]["objectList"]
            .as_array()
            .unwrap()
            .len(),
        1001
    );
    running.gateway.stop(PATIENCE);
}

#[test]
fn stop_answers_what_waits() {
    let running = start(2, |_| {});
    let mut device = Device::new(&running);
    device.register("ep1", "</3/0>");
    running.next();
    for id in 0..3 {
        running.command(
            "ep1",
            &json!({"reqID": id, "msgType": "read", "data": {"path": "/3/0/0"}}),
        );
    }
    device.receive();
    running.gateway.stop(PATIENCE);
    for id in 0..3 {
        let (_, answer) = running.next();
        assert_eq!(
            (&answer["reqID"], &answer["data"]["reason"]),
            (&json!(id), &json!("gateway_stopping"))
        );
    }
    assert!(running.gateway.reload(Config::default()).is_err());
}

#[test]
fn reload_changes_topics_of_registered_devices() {
    let running = start(1, |_| {});
    running.subscribed.recv_timeout(PATIENCE).unwrap();
    let mut device = Device::new(&running);
    device.register("ep1", "</3/0>");
    running.next();
    let config = Config {
        mountpoint: "iot/${endpoint_name}/".into(),
        ..config(1)
    };
    running.gateway.reload(config).unwrap();
    assert_eq!(
        running.subscribed.recv_timeout(PATIENCE).unwrap(),
        ("lwm2m/+/dn/#".to_owned(), false)
    );
    assert_eq!(
        running.subscribed.recv_timeout(PATIENCE).unwrap(),
        ("iot/+/dn/#".to_owned(), true)
    );
    assert!(
        running.gateway.is_command("iot/ep1/dn") && !running.gateway.is_command("lwm2m/ep1/dn")
    );
    running.gateway.deliver(MqttMessage {
        topic: "iot/ep1/dn".into(),
        payload: br#"{"msgType":"read","data":{"path":"/3/0/0"}}"#.to_vec(),
        expiry: None,
        reply: None,
    });
    let request = device.receive();
    device.answer(&request, b"ACME");
    assert_eq!(running.next().0, "iot/ep1/up/resp");
    running.gateway.stop(PATIENCE);
}

#[test]
fn an_address_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config = Config {
        shards: 2,
        ..Config::default()
    };
    let listener = config.listeners.udp.get_mut("default").unwrap();
    listener.bind = taken.local_addr().unwrap();
    let (published, _) = channel();
    let (subscribed, _) = channel();
    let host = Arc::new(Recorder {
        published,
        subscribed,
    });
    let error = Gateway::start(config, host).unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("listeners.udp.default.bind 127.0.0.1:"),
        "{error}"
    );
}

#[test]
fn listeners_change_while_devices_are_registered() {
    for shards in [1, 3] {
        let running = start(shards, |_| {});
        let mut device = Device::new(&running);
        device.register("ep1", "</3/0>");
        running.next();
        assert_eq!(
            running.gateway.device("ep1").unwrap().listener,
            "udp:default"
        );

        // A second listener, and the first one elsewhere.
        let mut wanted = config(shards);
        wanted.publish_deregister = true;
        let default = wanted.listeners.udp.get_mut("default").unwrap();
        default.bind = "127.0.0.2:0".parse().unwrap();
        let mut second = default.clone();
        second.bind = "127.0.0.1:0".parse().unwrap();
        wanted.listeners.udp.insert("second".to_owned(), second);
        running.gateway.reload(wanted.clone()).unwrap();
        let addresses = running.gateway.listeners();
        assert_eq!(
            addresses.iter().map(|it| &*it.0).collect::<Vec<_>>(),
            ["udp:default", "udp:second"]
        );
        assert_eq!(addresses[0].1.ip().to_string(), "127.0.0.2");

        // The registration is kept and comes by either.
        for (_, address) in &addresses {
            let mut moved = Device {
                location: device.location.clone(),
                ..Device::new(&running)
            };
            moved.socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            moved.socket.connect(address).unwrap();
            moved.socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let path: Vec<&[u8]> = device.location.iter().map(Vec::as_slice).collect();
            assert_eq!(moved.request(&path, &[], b"").code(), Code::CHANGED);
        }
        assert_eq!(
            running.gateway.device("ep1").unwrap().listener,
            "udp:second"
        );

        // A wrong one changes nothing.
        let mut wrong = wanted.clone();
        wrong.listeners.udp.get_mut("default").unwrap().bind = "192.0.2.1:1".parse().unwrap();
        assert!(running.gateway.reload(wrong).is_err());
        assert_eq!(running.gateway.listeners(), addresses);

        // The listener is closed, its registration ends.
        wanted.listeners.udp.remove("second");
        running.gateway.reload(wanted).unwrap();
        let (topic, report) = running.next();
        assert_eq!(topic, "lwm2m/ep1/up/resp");
        assert_eq!(report["msgType"], "deregister");
        assert!(running.gateway.devices().is_empty());
        running.gateway.stop(PATIENCE);
    }
}

#[test]
fn devices_are_listed_and_kicked() {
    let running = start(3, |_| {});
    for n in 0..20 {
        Device::new(&running).register(&format!("ep{n}"), "</3/0>,</3303/1>");
    }
    let mut devices = running.gateway.devices();
    devices.sort_by_key(|device| device.endpoint[2..].parse::<u32>().unwrap());
    assert_eq!(devices.len(), 20);
    assert_eq!(devices[7].endpoint, "ep7");
    assert_eq!(devices[7].objects, ["/3/0", "/3303/1"]);
    assert_eq!(running.gateway.device("ep7").unwrap().lifetime, 300);
    assert!(running.gateway.kick("ep7"));
    assert!(running.gateway.device("ep7").is_none());
    assert!(!running.gateway.kick("ep7"));
    running.gateway.stop(PATIENCE);
    assert!(running.gateway.devices().is_empty());
}

#[test]
fn a_panic_costs_a_shard_its_registrations_only() {
    let running = start(1, |_| {});
    let mut device = Device::new(&running);
    device.register("ep1", "</3/0>");
    running.next();
    // The host panics at this one.
    let mut evil = Device::new(&running);
    evil.register("panic", "</3/0>");
    let path: Vec<Vec<u8>> = device.location.clone();
    let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
    assert_eq!(device.request(&path, &[], b"").code(), Code::NOT_FOUND);
    device.register("ep1", "</3/0>");
    running.next();
    assert_eq!(running.gateway.registrations(), 1);
    assert_eq!(running.gateway.statistics().0["shard_panics"], 1);
    running.gateway.stop(PATIENCE);
}

#[test]
fn a_panic_costs_nothing_that_the_store_has() {
    let directory = temporary("panic");
    let running = start(1, |config| config.store.path = Some(directory.clone()));
    let mut device = Device::new(&running);
    device.register("ep1", "</3/0>");
    running.next();
    let mut evil = Device::new(&running);
    evil.register("panic", "</3/0>");
    let path: Vec<Vec<u8>> = device.location.clone();
    let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
    assert_eq!(device.request(&path, &[], b"").code(), Code::CHANGED);
    let statistics = running.gateway.statistics().0;
    assert_eq!(statistics["shard_panics"], 1);
    assert_eq!(statistics["store_restored"], 2);
    assert!(running.gateway.stop(PATIENCE));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_gateway_goes_on_with_what_the_one_before_has_stored() {
    for shards in [1, 3] {
        let directory = temporary(&format!("again-{shards}"));
        let keep = |config: &mut Config| config.store.path = Some(directory.clone());
        let running = start(2, keep);
        for number in 0..20 {
            Device::new(&running).register(&format!("ep{number}"), "</3/0>");
        }
        let mut before = running.gateway.devices();
        // A second one is refused for as long as the first runs.
        let mut config = config(1);
        keep(&mut config);
        let (published, _) = channel();
        let (subscribed, _) = channel();
        let host = Arc::new(Recorder {
            published,
            subscribed,
        });
        let error = Gateway::start(config, host).unwrap_err();
        assert!(error.to_string().contains("in use by another process"));
        assert!(running.gateway.stop(PATIENCE));

        // Another number of shards; all are known before it says that it runs.
        let running = start(shards, keep);
        assert_eq!(running.gateway.registrations(), 20);
        let mut after = running.gateway.devices();
        before.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        after.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.objects, after.objects);
            assert_eq!(before.registered_at, after.registered_at);
        }
        assert!(running.gateway.kick("ep7"));
        assert!(running.gateway.stop(PATIENCE));
        let running = start(1, keep);
        assert_eq!(running.gateway.registrations(), 19);
        assert!(running.gateway.stop(PATIENCE));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

/// A directory of this test run's own.
fn temporary(name: &str) -> std::path::PathBuf {
    let name = format!("lwm2m-store-{}-{name}", std::process::id());
    std::env::temp_dir().join(name)
}

#[test]
fn a_panic_does_not_lose_the_order_to_stop() {
    let running = start(1, |_| {});
    // Its refusal is published to a topic that the host panics at.
    running.command(
        "panic",
        &json!({"msgType": "read", "data": {"path": "/3/0"}}),
    );
    assert!(running.gateway.stop(PATIENCE));
    assert_eq!(running.gateway.statistics().0["shard_panics"], 1);
}
