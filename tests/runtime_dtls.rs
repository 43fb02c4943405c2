//! DTLS through the runtime, with OpenSSL's client on real sockets.

// Helpers of tests may panic, and tests own sockets.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/dtls.rs"]
#[allow(missing_docs)]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use lwm2m_gateway::Config;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::DtlsListener;
use lwm2m_gateway::credentials::{Credential, Key};
use lwm2m_gateway::host::{Host, PskRequest, Publish};
use lwm2m_gateway::runtime::Gateway;
use support::{Client, ClientOptions, KEY, OpensslClient};

const PATIENCE: Duration = Duration::from_secs(10);

/// A host that knows the key of `device`, and answers from another thread after a while.
struct Keys {
    asked: Sender<String>,
    known: bool,
}

impl Host for Keys {
    fn publish(&self, batch: &mut Vec<Publish>) {
        batch.clear();
    }

    fn subscribe(&self, _filter: &str, _qos: u8) {}

    fn unsubscribe(&self, _filter: &str) {}

    fn provides_psk(&self) -> bool {
        true
    }

    fn psk_lookup(&self, request: PskRequest) {
        let identity = String::from_utf8(request.identity.to_vec()).unwrap();
        let known = self.known && identity == "device";
        let _ = self.asked.send(identity);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            request.answer(known.then(|| Key::new(KEY.to_vec())));
        });
    }
}

fn start(known: bool, shards: usize) -> (Gateway, Receiver<String>) {
    start_with(known, shards, |_| {})
}

fn start_with(
    known: bool,
    shards: usize,
    change: impl FnOnce(&mut DtlsListener),
) -> (Gateway, Receiver<String>) {
    let mut config = Config {
        shards,
        ..Config::default()
    };
    config.listeners.udp.clear();
    let mut listener = DtlsListener::default();
    listener.common.bind = "127.0.0.1:0".parse().unwrap();
    change(&mut listener);
    config.listeners.dtls.insert("main".to_owned(), listener);
    let (asked, questions) = channel();
    let gateway = Gateway::start(config, Arc::new(Keys { asked, known })).unwrap();
    (gateway, questions)
}

struct Connection {
    client: OpensslClient,
    socket: UdpSocket,
}

impl Connection {
    fn new(to: SocketAddr, options: ClientOptions) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Self {
            client: OpensslClient::new(options),
            socket,
        }
    }

    fn run_until(&mut self, done: impl Fn(&mut OpensslClient) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while !done(&mut self.client) {
            assert!(Instant::now() < end, "nothing happens");
            for datagram in self.client.take_sent() {
                self.socket.send(&datagram).unwrap();
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.client.handle_datagram(&buffer[..length]),
                Err(_) => self.client.handle_timers(),
            }
        }
        for datagram in self.client.take_sent() {
            self.socket.send(&datagram).unwrap();
        }
    }

    fn register(&mut self, endpoint: &str) -> Message {
        let ep = format!("ep={endpoint}");
        let request = Builder::new(MessageType::Confirmable, Code::POST, 1, b"t")
            .option(option::URI_PATH, *b"rd")
            .option(option::URI_QUERY, ep.as_bytes())
            .option(option::URI_QUERY, *b"lwm2m=1.1")
            .option(option::URI_QUERY, *b"lt=60");
        self.client.send(&request.build());
        let answer = std::cell::RefCell::new(Vec::new());
        self.run_until(|client| {
            answer.borrow_mut().extend(client.take_received());
            !answer.borrow().is_empty()
        });
        Message::parse(&answer.into_inner()[0]).unwrap()
    }
}

#[test]
fn the_host_answers_later() {
    for shards in [1, 2] {
        let (gateway, questions) = start(true, shards);
        let to = gateway.listeners()[0].1;
        let mut connection = Connection::new(to, ClientOptions::default());
        connection.run_until(|client| client.is_connected());
        assert_eq!(questions.recv_timeout(PATIENCE).unwrap(), "device");
        assert_eq!(connection.register("ep").code(), Code::CREATED);
        let info = gateway.device("ep").unwrap();
        assert_eq!(info.identity.as_deref(), Some("device"));
        assert_eq!(info.listener, "dtls:main");
        gateway.stop(PATIENCE);
        connection.run_until(|client| client.is_closed());
    }
}

#[test]
fn an_identity_that_the_host_does_not_know_is_refused() {
    let (gateway, questions) = start(false, 1);
    let mut connection = Connection::new(gateway.listeners()[0].1, ClientOptions::default());
    connection.run_until(|client| client.has_failed());
    assert_eq!(questions.recv_timeout(PATIENCE).unwrap(), "device");
    assert_eq!(gateway.statistics().0["dtls_sessions"], 0);
    gateway.stop(PATIENCE);
}

/// One key opens many connections with suffixes, in all shards: its own give way, wherever they are.
#[test]
fn c13_connections_of_one_key_push_out_their_own_in_all_shards() {
    let (gateway, _questions) = start_with(true, 4, |listener| {
        listener.common.max_connections = 8;
        listener.identity_separator = "#".to_owned();
        let credentials = ["beta", "victim"].map(|identity| Credential {
            identity: identity.as_bytes().into(),
            key: Key::new(KEY.to_vec()),
            endpoints: Vec::new(),
        });
        listener.psk = credentials.to_vec();
    });
    let to = gateway.listeners()[0].1;
    let connect = |identity: &str| {
        let options = ClientOptions {
            identity: identity.as_bytes().to_vec(),
            ..ClientOptions::default()
        };
        let mut connection = Connection::new(to, options);
        connection.run_until(|client| client.is_connected());
        connection
    };
    let mut victim = connect("victim");
    assert_eq!(victim.register("victim").code(), Code::CREATED);
    let mut others: Vec<_> = (0..30).map(|n| connect(&format!("beta#{n}"))).collect();
    // Room is made with the next datagram of a shard: these belong to nobody.
    let end = Instant::now() + PATIENCE;
    while gateway.statistics().0["dtls_sessions"] > 8 {
        assert!(Instant::now() < end, "{:?}", gateway.statistics());
        for _ in 0..16 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&[0; 20], to).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(victim.register("victim").code(), Code::CREATED);
    let statistics = gateway.statistics().0;
    assert!(
        statistics["dtls_sessions_over_share"] >= 23,
        "{statistics:?}"
    );
    others[0].run_until(|client| client.is_closed());
    gateway.stop(PATIENCE);
}
