//! Handshakes under way: their datagrams in any order, what clients may ask for, and who gets a place
//! when there are too many.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{
    Client, ClientOptions, KEY, OpensslClient, World, address, assert_talks, connect, exchange,
    options,
};
use lwm2m_gateway::dtls::Options;

fn openssl() -> OpensslClient {
    OpensslClient::new(ClientOptions::default())
}

/// All orders of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = orders(last).into_iter();
    shorter
        .flat_map(|order| {
            (0..=last).map(move |at| {
                let mut order = order.clone();
                order.insert(at, last);
                order
            })
        })
        .collect()
}

#[test]
fn a_flight_in_any_order_needs_no_repetition() {
    // Wakaama's client never repeats its flights. Three datagrams, and four with a long identity.
    for (identity, mtu, datagrams) in [(b"device".to_vec(), 1200, 3), (vec![b'i'; 250], 256, 4)] {
        for order in orders(datagrams) {
            let mut world = World::new(&options());
            world.keys.insert(identity.clone(), KEY.to_vec());
            let mut client = OpensslClient::new(ClientOptions {
                identity: identity.clone(),
                mtu,
                ..ClientOptions::default()
            });
            let at = address(1);
            exchange(&mut world, &mut client, at);
            exchange(&mut world, &mut client, at);
            let sent = client.take_sent();
            let records = sent.iter().flat_map(|datagram| split(datagram));
            // On a slow machine there are repetitions, of the hello before it and of itself behind.
            let is_hello = |record: &Vec<u8>| record[0] == 22 && record[13] == 1;
            let flight: Vec<_> = records.skip_while(is_hello).take(datagrams).collect();
            for n in &order {
                world.datagram(at, &flight[*n]);
            }
            assert!(world.server.identity(at).is_some(), "{order:?}");
            exchange(&mut world, &mut client, at);
            world.events.clear();
            assert_talks(&mut world, &mut client, at);
        }
    }
}

/// The records of a datagram.
fn split(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut rest = datagram;
    while rest.len() > 13 {
        let length = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        let (record, after) = rest.split_at(13 + length);
        records.push(record.to_vec());
        rest = after;
    }
    records
}

#[test]
fn a_connection_id_is_not_agreed_on_where_they_are_switched_off() {
    let mut world = World::new(&Options {
        connection_ids: false,
        ..options()
    });
    let mut client = OpensslClient::new(ClientOptions {
        // An empty connection_id (RFC 9146 §3): the client wants none itself, but would use ours.
        extension: Some((54, &[0])),
        ..ClientOptions::default()
    });
    connect(&mut world, &mut client, address(1));
    world.events.clear();
    assert_talks(&mut world, &mut client, address(1));
}

/// Begins handshakes and leaves them alone.
fn begin(world: &mut World, from: impl IntoIterator<Item = SocketAddr>) -> Vec<OpensslClient> {
    let begun = from.into_iter().map(|at| {
        let mut client = openssl();
        exchange(world, &mut client, at);
        exchange(world, &mut client, at);
        client
    });
    begun.collect()
}

fn crowded() -> World {
    World::new(&Options {
        max_handshakes: 10,
        retransmit_timeout: Duration::from_secs(4),
        ..Options::default()
    })
}

/// Ports of one address.
fn ports(n: u32, from: u16, count: u16) -> impl Iterator<Item = SocketAddr> {
    (from..from + count).map(move |port| SocketAddr::new(address(n).ip(), port))
}

#[test]
fn one_address_does_not_take_all_places() {
    let mut world = crowded();
    let slow = &mut begin(&mut world, ports(2, 1, 1))[0];
    begin(&mut world, ports(1, 1, 100));
    assert_eq!(world.server.handshakes(), 10);
    assert!(world.counters.dtls_handshakes_refused.get() >= 91);
    // Others come in at once, and who was there before goes on.
    for n in 3..6 {
        connect(&mut world, &mut openssl(), address(n));
        begin(&mut world, ports(1, 200, 20));
        assert_eq!(world.server.handshakes(), 10);
    }
    exchange(&mut world, slow, ports(2, 1, 1).next().unwrap());
    assert_eq!(world.server.sessions(), 4);
    assert_eq!(world.counters.dtls_handshakes_evicted.get(), 3);
}

#[test]
fn handshakes_without_progress_give_way() {
    let mut world = crowded();
    begin(&mut world, ports(1, 1, 10));
    let mut late = openssl();
    let at = SocketAddr::new(address(1).ip(), 2000);
    exchange(&mut world, &mut late, at);
    exchange(&mut world, &mut late, at);
    assert!(world.counters.dtls_handshakes_refused.get() >= 1);
    world.pass(Duration::from_millis(12_100));
    connect(&mut world, &mut late, at);
    assert_eq!(world.counters.dtls_handshakes_evicted.get(), 1);
    assert_eq!(world.server.handshakes(), 9);
}

#[test]
fn only_so_many_sessions_can_be_resumed() {
    let mut world = World::new(&Options {
        session_cache: 3,
        ..options()
    });
    // Clients forget the sessions of connections that they do not close.
    let mut clients: Vec<_> = (0..5).map(|_| openssl()).collect();
    for (n, client) in (0..).zip(&mut clients) {
        connect(&mut world, client, address(n));
    }
    // The oldest are forgotten, and cost a full handshake. The newest first: each full one is
    // remembered in its turn.
    for (n, first) in (0..5).zip(&clients).rev() {
        world.events.clear();
        let mut client = OpensslClient::new(ClientOptions {
            session: Some(first.session()),
            ..ClientOptions::default()
        });
        connect(&mut world, &mut client, address(100 + n));
        assert_eq!(world.established().unwrap().2, n >= 2, "session {n}");
    }
}
