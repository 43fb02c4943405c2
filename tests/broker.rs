//! The broker side of the stand-alone host over real sockets, with MQTT clients of both versions.

#![cfg(feature = "standalone")]
// Tests of a shell: they wait, connect and start threads.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lwm2m_gateway::config::Config;
use lwm2m_gateway::host::standalone::{Broker, BrokerError, Commands};
use lwm2m_gateway::host::{Host as _, Message, Publish, PublishKind};
use lwm2m_gateway::telemetry::Counters;
use parking_lot::Mutex;
use rumqttc::v5;

const WAIT: Duration = Duration::from_secs(20);

/// Takes what matches for commands, and remembers it.
struct Recorder {
    matches: fn(&str) -> bool,
    got: Mutex<Vec<Message>>,
}

impl Commands for Recorder {
    fn is_command(&self, topic: &str) -> bool {
        (self.matches)(topic)
    }

    fn deliver(&self, message: Message) {
        self.got.lock().push(message);
    }
}

fn recorder(matches: fn(&str) -> bool) -> Arc<Recorder> {
    Arc::new(Recorder {
        matches,
        got: Mutex::default(),
    })
}

fn is_downlink(topic: &str) -> bool {
    topic.starts_with("lwm2m/") && topic.contains("/dn")
}

fn embedded_at(bind: SocketAddr, change: impl FnOnce(&mut Config)) -> Broker {
    let mut config = Config::default();
    config.mqtt.bind = bind;
    change(&mut config);
    Broker::new(&config, Arc::new(Counters::default())).unwrap()
}

/// A broker that has just been closed may hold its port for a moment.
fn embedded_again(bind: SocketAddr) -> Broker {
    let mut config = Config::default();
    config.mqtt.bind = bind;
    let end = Instant::now() + WAIT;
    loop {
        match Broker::new(&config, Arc::new(Counters::default())) {
            Ok(broker) => return broker,
            Err(error) if Instant::now() > end => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn embedded(commands: Arc<Recorder>) -> (Broker, SocketAddr) {
    let broker = embedded_at(([127, 0, 0, 1], 0).into(), |_| {});
    broker.open(commands);
    let address = broker.address().unwrap();
    (broker, address)
}

fn remote(address: SocketAddr, counters: Arc<Counters>) -> Broker {
    let mut config = Config::default();
    config.mqtt.broker = Some(format!("mqtt://{address}"));
    Broker::new(&config, counters).unwrap()
}

fn message(topic: &str, payload: &str, qos: u8) -> Publish {
    Publish {
        kind: PublishKind::Notify,
        endpoint: "ep".into(),
        topic: topic.to_owned(),
        payload: payload.as_bytes().to_vec(),
        qos,
        correlation: None,
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a subscriber has got: topic, payload, QoS, retain flag.
type Got = Arc<Mutex<Vec<(String, String, u8, bool)>>>;

/// A client identifier that no earlier connection had: taking over a session that is just ending
/// may be refused by the embedded broker.
fn unique(id: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{id}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn options_v4(id: &str, address: SocketAddr) -> rumqttc::MqttOptions {
    let mut options =
        rumqttc::MqttOptions::new(unique(id), address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(30));
    options
}

fn options_v5(id: &str, address: SocketAddr) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(unique(id), address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(30));
    options
}

/// An MQTT 3.1.1 subscriber, returned when its subscription stands.
fn subscriber_v4(id: &str, address: SocketAddr, filter: &str, qos: u8) -> Got {
    let (client, mut connection) = rumqttc::Client::new(options_v4(id, address), 100);
    client
        .subscribe(filter, rumqttc::qos(qos).unwrap())
        .unwrap();
    let got = Got::default();
    let ready = Arc::new(AtomicBool::new(false));
    let (sink, flag) = (Arc::clone(&got), Arc::clone(&ready));
    std::thread::spawn(move || {
        let _client = client;
        for event in connection.iter() {
            match event {
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) => {
                    let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                    sink.lock()
                        .push((publish.topic, payload, publish.qos as u8, publish.retain));
                }
                Ok(rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))) => {
                    flag.store(true, Ordering::SeqCst);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    until("subscription", || ready.load(Ordering::SeqCst));
    got
}

fn subscriber_v5(id: &str, address: SocketAddr, filter: &str, qos: u8) -> Got {
    let (client, mut connection) = v5::Client::new(options_v5(id, address), 100);
    client
        .subscribe(filter, v5::mqttbytes::qos(qos).unwrap())
        .unwrap();
    let got = Got::default();
    let ready = Arc::new(AtomicBool::new(false));
    let (sink, flag) = (Arc::clone(&got), Arc::clone(&ready));
    std::thread::spawn(move || {
        let _client = client;
        for event in connection.iter() {
            match event {
                Ok(v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(publish))) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let (topic, payload) = (text(&publish.topic), text(&publish.payload));
                    assert_eq!(
                        publish.properties.and_then(|p| p.message_expiry_interval),
                        None,
                        "nobody asked for an expiry"
                    );
                    sink.lock()
                        .push((topic, payload, publish.qos as u8, publish.retain));
                }
                Ok(v5::Event::Incoming(v5::mqttbytes::v5::Packet::SubAck(_))) => {
                    flag.store(true, Ordering::SeqCst);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    until("subscription", || ready.load(Ordering::SeqCst));
    got
}

/// Publishes one message as an application does, and waits until the broker has it.
fn publish_v4(address: SocketAddr, topic: &str, payload: &str, retain: bool) {
    let (client, mut connection) = rumqttc::Client::new(options_v4("app4", address), 10);
    client
        .publish(topic, rumqttc::QoS::AtLeastOnce, retain, payload)
        .unwrap();
    for event in connection.iter() {
        if let rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_)) = event.unwrap() {
            return;
        }
    }
}

fn publish_v5(address: SocketAddr, topic: &str, payload: &str, expiry: Option<u32>) {
    let (client, mut connection) = v5::Client::new(options_v5("app5", address), 10);
    let properties = v5::mqttbytes::v5::PublishProperties {
        message_expiry_interval: expiry,
        ..Default::default()
    };
    let qos = v5::mqttbytes::QoS::AtLeastOnce;
    client
        .publish_with_properties(topic, qos, false, payload.to_owned(), properties)
        .unwrap();
    for event in connection.iter() {
        if let v5::Event::Incoming(v5::mqttbytes::v5::Packet::PubAck(_)) = event.unwrap() {
            return;
        }
    }
}

#[test]
fn publishes_reach_subscribers_of_both_versions_in_order() {
    let (broker, address) = embedded(recorder(is_downlink));
    let subscribers = [
        (subscriber_v4("a", address, "lwm2m/#", 0), 0),
        (subscriber_v4("b", address, "lwm2m/#", 1), 1),
        (subscriber_v5("c", address, "lwm2m/+/up/notify", 0), 0),
        (subscriber_v5("d", address, "lwm2m/+/up/notify", 2), 2),
    ];
    let mut expected = Vec::new();
    for start in (0..900).step_by(30) {
        let mut batch: Vec<_> = (start..start + 30)
            .map(|n| message("lwm2m/e/up/notify", &n.to_string(), [0, 1, 2][n % 3]))
            .collect();
        expected.extend((start..start + 30).map(|n| n.to_string()));
        broker.publish(&mut batch);
        assert!(batch.is_empty());
    }
    for (got, most) in &subscribers {
        until("every message", || got.lock().len() >= 900);
        let got = got.lock();
        let payloads: Vec<_> = got.iter().map(|(_, payload, ..)| payload.clone()).collect();
        assert_eq!(payloads, expected);
        for (n, (topic, _, qos, retain)) in got.iter().enumerate() {
            assert_eq!(topic, "lwm2m/e/up/notify");
            assert_eq!(*qos, [0, 1, 2][n % 3].min(*most));
            assert!(!retain);
        }
    }
    broker.close(WAIT);
}

#[test]
fn commands_reach_the_gateway_with_their_expiry() {
    let commands = recorder(is_downlink);
    let (broker, address) = embedded(Arc::clone(&commands));
    publish_v4(address, "lwm2m/e/dn/x", "{\"a\":1}", false);
    publish_v5(address, "lwm2m/e/dn", "{\"a\":2}", Some(77));
    publish_v5(address, "lwm2m/e/dn", "{\"a\":3}", None);
    publish_v5(address, "elsewhere", "{}", None);
    publish_v4(address, "lwm2m/e/up/resp", "{}", false);
    let got: Vec<_> = commands
        .got
        .lock()
        .iter()
        .map(|m| {
            (
                m.topic.clone(),
                String::from_utf8(m.payload.clone()).unwrap(),
                m.expiry,
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            ("lwm2m/e/dn/x".to_owned(), "{\"a\":1}".to_owned(), None),
            ("lwm2m/e/dn".to_owned(), "{\"a\":2}".to_owned(), Some(77)),
            ("lwm2m/e/dn".to_owned(), "{\"a\":3}".to_owned(), None),
        ]
    );
    broker.close(WAIT);
}

#[test]
fn a_retained_command_is_delivered_once() {
    let commands = recorder(is_downlink);
    let (broker, address) = embedded(Arc::clone(&commands));
    let early = subscriber_v5("early", address, "lwm2m/+/dn/#", 1);
    publish_v4(address, "lwm2m/e/dn", "once", true);
    until("delivery", || early.lock().len() == 1);
    let late = subscriber_v4("late", address, "lwm2m/+/dn/#", 1);
    publish_v4(address, "lwm2m/e/dn", "marker", false);
    until("marker", || !late.lock().is_empty());
    assert_eq!(late.lock()[0].1, "marker");
    assert_eq!(commands.got.lock().len(), 2);
    broker.close(WAIT);
}

#[test]
fn own_publishes_are_no_commands() {
    let commands = recorder(|_| true);
    let (broker, address) = embedded(Arc::clone(&commands));
    let got = subscriber_v5("s", address, "#", 1);
    broker.publish(&mut vec![message("lwm2m/e/dn", "own", 1)]);
    until("delivery", || got.lock().len() == 1);
    publish_v4(address, "lwm2m/e/dn", "foreign", false);
    assert_eq!(commands.got.lock().len(), 1);
    assert_eq!(commands.got.lock()[0].payload, b"foreign");
    broker.close(WAIT);
}

#[test]
fn a_blocked_subscriber_does_not_hold_up_the_others() {
    let (broker, address) = embedded(recorder(is_downlink));
    // CONNECT and SUBSCRIBE of MQTT 3.1.1, then nothing is read any more.
    let mut blocked = TcpStream::connect(address).unwrap();
    blocked
        .write_all(b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04slow\x82\x06\0\x01\0\x01#\0")
        .unwrap();
    let got = subscriber_v4("quick", address, "#", 0);
    let payload = "x".repeat(4000);
    for _ in 0..40 {
        let mut batch: Vec<_> = (0..100).map(|_| message("t", &payload, 0)).collect();
        broker.publish(&mut batch);
    }
    until("16 MB past a blocked subscriber", || {
        got.lock().len() == 4000
    });
    drop(blocked);
    broker.close(WAIT);
}

#[test]
fn c9_a_subscriber_that_takes_nothing_holds_no_more_than_the_bound() {
    const BOUND: usize = 4 << 20;
    let counters = Arc::new(Counters::default());
    let mut config = Config::default();
    config.mqtt.bind = ([127, 0, 0, 1], 0).into();
    config.mqtt.max_queued_bytes = BOUND;
    let broker = Broker::new(&config, Arc::clone(&counters)).unwrap();
    broker.open(recorder(is_downlink));
    let address = broker.address().unwrap();
    // CONNECT and SUBSCRIBE with QoS 1, then nothing is read any more.
    let mut blocked = TcpStream::connect(address).unwrap();
    blocked
        .write_all(b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04slow\x82\x06\0\x01\0\x01#\x01")
        .unwrap();
    let got = subscriber_v4("quick", address, "#", 1);
    let payload = "x".repeat(9_000);
    for n in 1..=4000 {
        broker.publish(&mut vec![message("t", &payload, 1)]);
        // What the quick one has not got yet does not count against the other.
        until("the quick one", || got.lock().len() + 20 >= n);
    }
    until("36 MB past a blocked subscriber", || {
        got.lock().len() == 4000
    });
    // Its queue gave way, or its connection did.
    drop(blocked);
    broker.close(WAIT);
}

#[test]
fn the_one_user_needs_the_password() {
    let broker = embedded_at(([127, 0, 0, 1], 0).into(), |config| {
        config.mqtt.username = Some("u".to_owned());
        config.mqtt.password = Some("secret".to_owned());
    });
    broker.open(recorder(is_downlink));
    let address = broker.address().unwrap();
    for (credentials, welcome) in [
        (None, false),
        (Some(("u", "wrong")), false),
        (Some(("u", "")), false),
        (Some(("x", "secret")), false),
        (Some(("u", "secret")), true),
    ] {
        let mut options = options_v4("c", address);
        if let Some((name, password)) = credentials {
            options.set_credentials(name, password);
        }
        let (_client, mut connection) = rumqttc::Client::new(options, 1);
        let first = connection.iter().next().unwrap();
        assert_eq!(first.is_ok(), welcome, "{credentials:?}: {first:?}");
        let mut options = options_v5("d", address);
        if let Some((name, password)) = credentials {
            options.set_credentials(name, password);
        }
        let (_client, mut connection) = v5::Client::new(options, 1);
        let first = connection.iter().next().unwrap();
        assert_eq!(first.is_ok(), welcome, "{credentials:?}: {first:?}");
    }
    broker.close(WAIT);
}

#[test]
fn a_taken_port_is_one_clear_error() {
    let (broker, address) = embedded(recorder(is_downlink));
    let mut config = Config::default();
    config.mqtt.bind = address;
    let Err(error) = Broker::new(&config, Arc::default()) else {
        panic!("two brokers on {address}");
    };
    assert!(matches!(error, BrokerError::Bind { .. }));
    assert!(
        error
            .to_string()
            .starts_with("mqtt.bind: cannot listen on 127.0.0.1:")
    );
    broker.close(WAIT);
}

#[test]
fn closing_hands_over_what_waits() {
    let (broker, address) = embedded(recorder(is_downlink));
    let got = subscriber_v4("s", address, "#", 1);
    broker.publish(&mut (0..2000).map(|n| message("t", &n.to_string(), 1)).collect());
    broker.close(WAIT);
    until("everything", || got.lock().len() == 2000);
}

#[test]
fn the_client_loses_no_qos_1_message_when_the_broker_restarts() {
    const MESSAGES: usize = 6000;
    let first = recorder(|_| true);
    let (mut broker, address) = embedded(Arc::clone(&first));
    let counters = Arc::new(Counters::default());
    let client = remote(address, Arc::clone(&counters));
    client.open(recorder(is_downlink));
    let mut seen = vec![first];
    for n in 0..MESSAGES {
        let qos = if n % 7 == 0 { 2 } else { 1 };
        client.publish(&mut vec![message("lwm2m/e/up", &n.to_string(), qos)]);
        if n % 1500 == 1400 {
            // In the middle of the stream, with messages on the way; then a while without any.
            broker.close(Duration::ZERO);
            std::thread::sleep(Duration::from_millis(100));
            let next = recorder(|_| true);
            broker = embedded_again(address);
            broker.open(Arc::clone(&next) as Arc<dyn Commands>);
            seen.push(next);
        }
        if n % 100 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    client.close(WAIT);
    let arrived: Vec<usize> = seen
        .iter()
        .flat_map(|recorder| {
            let got = recorder.got.lock();
            got.iter()
                .map(|m| {
                    String::from_utf8(m.payload.clone())
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect::<Vec<usize>>()
        })
        .collect();
    let mut newest = None;
    let mut repeated = 0;
    for n in arrived {
        // At least once: a message may come again, but a new one only when its turn has come.
        match newest {
            Some(newest) if n <= newest => repeated += 1,
            _ => {
                assert_eq!(
                    n,
                    newest.map_or(0, |newest: usize| newest + 1),
                    "lost or out of order"
                );
                newest = Some(n);
            }
        }
    }
    assert_eq!(newest, Some(MESSAGES - 1));
    assert!(
        repeated < 4 * 300,
        "{repeated} repeated: more than was on the way"
    );
    assert_eq!(counters.publish_dropped.get(), 0);
    broker.close(WAIT);
}

/// A relay whose connections can be cut, while the broker keeps its sessions.
struct Relay {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn new(broker: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let streams = Arc::clone(&open);
        std::thread::spawn(move || {
            for inward in listener.incoming() {
                let inward = inward.unwrap();
                let outward = TcpStream::connect(broker).unwrap();
                for (mut from, mut to) in [
                    (inward.try_clone().unwrap(), outward.try_clone().unwrap()),
                    (outward.try_clone().unwrap(), inward.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                streams.lock().extend([inward, outward]);
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[test]
fn the_client_resumes_its_session_when_the_connection_breaks() {
    const MESSAGES: usize = 4000;
    let seen = recorder(|topic| topic != "lwm2m/e/dn");
    let (broker, address) = embedded(Arc::clone(&seen));
    let relay = Relay::new(address);
    let counters = Arc::new(Counters::default());
    let client = remote(relay.address, Arc::clone(&counters));
    let commands = recorder(is_downlink);
    client.subscribe("lwm2m/+/dn", 1);
    client.open(Arc::clone(&commands) as Arc<dyn Commands>);
    until("subscription", || {
        publish_v5(address, "lwm2m/e/dn", "first", None);
        std::thread::sleep(Duration::from_millis(20));
        !commands.got.lock().is_empty()
    });
    for n in 0..MESSAGES {
        let qos = if n % 5 == 0 { 2 } else { 1 };
        client.publish(&mut vec![message("lwm2m/e/up", &n.to_string(), qos)]);
        if n % 1000 == 700 {
            relay.cut();
            // The broker keeps a command for the session meanwhile.
            publish_v5(address, "lwm2m/e/dn", &format!("cut {n}"), None);
        }
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    for n in [700, 1700, 2700, 3700] {
        let payload = format!("cut {n}").into_bytes();
        until("the command of the gap", || {
            commands.got.lock().iter().any(|m| m.payload == payload)
        });
    }
    client.close(WAIT);
    let mut numbers: Vec<usize> = seen
        .got
        .lock()
        .iter()
        .map(|m| {
            String::from_utf8(m.payload.clone())
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    let in_all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), MESSAGES, "lost");
    assert!(
        in_all - MESSAGES < 4 * 300,
        "{} repeated",
        in_all - MESSAGES
    );
    assert_eq!(counters.publish_dropped.get(), 0);
    broker.close(WAIT);
}

#[test]
fn the_client_gets_commands_also_after_a_restart_and_none_of_its_own() {
    let (broker, address) = embedded(recorder(|_| false));
    let commands = recorder(|_| true);
    let client = remote(address, Arc::default());
    client.subscribe("lwm2m/+/dn/#", 1);
    client.subscribe("unwanted/#", 0);
    client.unsubscribe("unwanted/#");
    client.open(Arc::clone(&commands) as Arc<dyn Commands>);
    let command = |address, n: u32| {
        // Until the subscription stands, a command reaches nobody.
        until("command", || {
            publish_v5(address, "lwm2m/e/dn/x", &n.to_string(), Some(100 + n));
            std::thread::sleep(Duration::from_millis(20));
            commands
                .got
                .lock()
                .iter()
                .any(|m| m.payload == n.to_string().as_bytes())
        });
    };
    command(address, 1);
    let got = commands.got.lock()[0].clone();
    assert_eq!(got.topic, "lwm2m/e/dn/x");
    assert!(
        got.expiry.is_some_and(|left| left == 101 || left == 100),
        "{got:?}"
    );

    // A filter asked for later, one given up, and messages of our own that match.
    client.subscribe("later/#", 1);
    until("later", || {
        publish_v4(address, "later/x", "later", false);
        std::thread::sleep(Duration::from_millis(20));
        commands.got.lock().iter().any(|m| m.topic == "later/x")
    });
    publish_v4(address, "unwanted/x", "unwanted", false);
    client.publish(&mut vec![message("lwm2m/e/dn/own", "own", 1)]);

    broker.close(Duration::ZERO);
    let broker = embedded_again(address);
    broker.open(recorder(|_| false));
    command(address, 2);
    let got = commands.got.lock().clone();
    assert!(!got.iter().any(|m| m.topic.starts_with("unwanted")));
    assert!(!got.iter().any(|m| m.payload == b"own"));
    client.close(WAIT);
    broker.close(WAIT);
}

#[test]
fn the_client_bounds_what_it_keeps_while_there_is_no_broker() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut config = Config::default();
    config.mqtt.broker = Some(format!("mqtt://{address}"));
    config.mqtt.max_queued = 50;
    let counters = Arc::new(Counters::default());
    let client = Broker::new(&config, Arc::clone(&counters)).unwrap();
    client.open(recorder(is_downlink));
    for n in 0..1000 {
        client.publish(&mut vec![message("t", &n.to_string(), 1)]);
    }
    let dropped = counters.publish_dropped.get();
    assert!((800..1000).contains(&dropped), "{dropped} dropped");
    let begin = Instant::now();
    client.close(Duration::from_millis(100));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
