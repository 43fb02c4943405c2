//! A client against a scripted server, in memory.

use super::*;

const KEY: &[u8] = b"0123456789abcdef";

/// A server made with OpenSSL, with the datagrams of both sides in the test's hands.
struct Bench {
    client: Client,
    session: Session,
    server: SslStream<Datagrams>,
    now: Instant,
    wire: Vec<Vec<u8>>,
}

impl Bench {
    fn new(key: &'static [u8]) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls_server()).unwrap();
        context.set_security_level(0);
        context.set_cipher_list("PSK").unwrap();
        context.set_options(SslOptions::NO_QUERY_MTU);
        context.set_psk_server_callback(|_, identity, key| {
            if identity != Some(b"sim-0") {
                return Ok(0);
            }
            key[..KEY.len()].copy_from_slice(KEY);
            Ok(KEY.len())
        });
        let mut ssl = Ssl::new(&context.build()).unwrap();
        ssl.set_mtu(MTU).unwrap();
        Self {
            client: Client::new("PSK-AES128-CCM8", true, None).unwrap(),
            session: Session::new(Credentials {
                identity: "sim-0".to_owned(),
                key: Key::new(key.to_vec()),
                certificate: None,
            }),
            server: SslStream::new(ssl, Datagrams::default()).unwrap(),
            now: Instant::now(),
            wire: Vec::new(),
        }
    }

    fn send(&mut self, message: &[u8]) {
        let (client, wire) = (&self.client, &mut self.wire);
        self.session
            .send(client, self.now, message.to_vec(), wire)
            .unwrap();
    }

    /// Passes datagrams to and fro until there is nothing more; returns the messages that
    /// reached the server.
    fn run(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut messages = Vec::new();
        while !self.wire.is_empty() {
            self.server.get_mut().incoming.extend(self.wire.drain(..));
            let mut buffer = [0; 2048];
            if self.server.accept().is_ok() {
                while let Ok(length) = self.server.ssl_read(&mut buffer) {
                    messages.push(buffer[..length].to_vec());
                }
            }
            for datagram in std::mem::take(&mut self.server.get_mut().outgoing) {
                self.session.receive(&datagram, &mut self.wire)?;
            }
        }
        Ok(messages)
    }
}

#[test]
fn what_is_said_before_the_handshake_arrives_after_it() {
    let mut bench = Bench::new(KEY);
    bench.send(b"first");
    bench.send(b"first");
    bench.send(b"second");
    assert!(!bench.session.is_established());
    let messages = bench.run().unwrap();
    assert_eq!(messages, [b"first".to_vec(), b"second".to_vec()]);
    assert!(bench.session.is_established());
    assert_eq!(bench.session.deadline(), None);
    assert_eq!(bench.server.ssl().psk_identity(), Some(&b"sim-0"[..]));

    bench.send(b"third");
    assert_eq!(bench.run().unwrap(), [b"third".to_vec()]);
    for message in [b"a", b"b"] {
        bench.server.ssl_write(message).unwrap();
    }
    let datagrams = std::mem::take(&mut bench.server.get_mut().outgoing).concat();
    let both = bench.session.receive(&datagrams, &mut bench.wire).unwrap();
    assert_eq!(
        both,
        [b"a".to_vec(), b"b".to_vec()],
        "two records of a datagram"
    );
}

#[test]
fn a_lost_hello_is_repeated() {
    let mut bench = Bench::new(KEY);
    bench.send(b"x");
    let hello = std::mem::take(&mut bench.wire).concat();
    assert_eq!(bench.session.deadline(), Some(bench.now + POKE));
    while bench.wire.is_empty() {
        std::thread::sleep(Duration::from_millis(20));
        bench.now = bench.session.deadline().unwrap();
        let (session, wire) = (&mut bench.session, &mut bench.wire);
        session.on_timeout(bench.now, wire).unwrap();
        // OpenSSL repeats after a second of its own clock.
        bench.now = Instant::now();
    }
    assert_eq!(bench.wire.concat().len(), hello.len());
    assert_eq!(bench.run().unwrap(), [b"x".to_vec()]);
}

#[test]
fn both_sides_say_goodbye() {
    let mut bench = Bench::new(KEY);
    bench.send(b"x");
    bench.run().unwrap();
    bench.session.close(&mut bench.wire);
    assert_eq!(bench.wire.len(), 1);
    bench.run().unwrap();
    assert!(
        bench
            .server
            .get_shutdown()
            .contains(ShutdownState::RECEIVED)
    );

    let mut bench = Bench::new(KEY);
    bench.send(b"x");
    bench.run().unwrap();
    bench.server.shutdown().unwrap();
    let goodbye = std::mem::take(&mut bench.server.get_mut().outgoing).concat();
    let end = bench.session.receive(&goodbye, &mut bench.wire);
    assert_eq!(end, Err(Failure::Closed));
    assert_eq!(bench.wire.len(), 1, "an answer to close_notify");
    bench.wire.clear();
    bench.send(b"y");
    assert!(!bench.wire.is_empty(), "a new handshake");
}

#[test]
fn failures_have_their_reason() {
    let mut bench = Bench::new(KEY);
    bench.session.credentials.identity = "nobody".to_owned();
    bench.send(b"x");
    let Err(Failure::OpenSsl(reason)) = bench.run() else {
        panic!("an unknown identity is refused");
    };
    assert!(reason.contains("unknown psk identity"), "{reason}");

    let mut bench = Bench::new(b"another key");
    bench.send(b"x");
    bench.run().unwrap();
    assert!(!bench.session.is_established());
    let late = bench.now + HANDSHAKE_TIMEOUT;
    let end = bench.session.on_timeout(late, &mut bench.wire);
    assert_eq!(end, Err(Failure::Timeout));
    assert_eq!(bench.session.deadline(), None);
}

#[test]
fn an_identity_without_room_is_not_cut() {
    let long = Credentials {
        identity: "x".repeat(256),
        key: Key::new(vec![1]),
        certificate: None,
    };
    assert_eq!(copy(&long, &mut [0; 256], &mut [0; 512]), None);
    assert_eq!(copy(&long, &mut [0; 257], &mut [0; 512]), Some(1));
    assert_eq!(copy(&long, &mut [0; 257], &mut []), None);
}
