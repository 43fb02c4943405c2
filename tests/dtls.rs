//! The DTLS server against OpenSSL's client and dimpl's.

#![allow(clippy::unwrap_used)]

#[path = "support/dtls.rs"]
#[allow(missing_docs)]
mod support;

use std::time::Duration;

use lwm2m_gateway::dtls::{CloseReason, Identity, Options, Output, SendError, Suite};
use support::{
    Client, ClientOptions, DimplClient, KEY, Network, OpensslClient, World, address, connect,
    exchange, options, run_until,
};

fn openssl() -> OpensslClient {
    OpensslClient::new(ClientOptions::default())
}

/// Payloads both ways, then close_notify from the client and the answer to it.
fn talk_and_close(world: &mut World, client: &mut dyn Client) {
    let at = address(1);
    connect(world, client, at);
    let (peer, identity, resumed, suite) = world.established().unwrap();
    assert_eq!(
        (peer, identity.as_bytes(), resumed),
        (at, &b"device"[..], false)
    );
    assert_eq!(suite, Suite::PskAes128Ccm8);
    for length in [1, 64, 1152] {
        client.send(&vec![0xa5; length]);
        exchange(world, client, at);
        assert_eq!(world.received(), Some((at, vec![0xa5; length])));
        world.send(at, &vec![0x5a; length]);
        exchange(world, client, at);
        assert_eq!(client.take_received(), [vec![0x5a; length]]);
    }
    client.close();
    exchange(world, client, at);
    assert_eq!(world.closed(), Some((at, CloseReason::Peer)));
    assert!(client.is_closed());
    assert_eq!(world.server.sessions(), 0);
    let now = world.now();
    assert_eq!(
        world.server.send(now, at, b"late"),
        Err(SendError::NoSession)
    );
    assert_eq!(world.counters.dtls_handshakes_completed.get(), 1);
    assert_eq!(world.counters.dtls_sessions.get(), 0);
}

#[test]
fn openssl_client() {
    talk_and_close(&mut World::new(&options()), &mut openssl());
}

#[test]
fn dimpl_client() {
    let mut client = DimplClient::new(b"device", KEY, 1200);
    talk_and_close(&mut World::new(&options()), &mut client);
}

#[test]
fn close_from_here() {
    let mut world = World::new(&options());
    for (n, mut client) in [
        Box::new(openssl()) as Box<dyn Client>,
        Box::new(DimplClient::new(b"device", KEY, 1200)),
    ]
    .into_iter()
    .enumerate()
    {
        let at = address(u32::try_from(n).unwrap());
        connect(&mut world, &mut *client, at);
        world.established().unwrap();
        world.close(at);
        assert_eq!(world.closed(), Some((at, CloseReason::Local)));
        exchange(&mut world, &mut *client, at);
        assert!(client.is_closed());
        assert_eq!(world.server.identity(at), None);
    }
}
