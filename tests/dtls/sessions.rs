//! The DTLS server against OpenSSL's client and dimpl's: handshakes and sessions as they should be.
//! `dtls_hostile.rs` has those as they should not be.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{
    Client, ClientOptions, DimplClient, KEY, Network, OpensslClient, World, address, assert_talks,
    connect, exchange, options, run_until, suites_of_keys,
};
use lwm2m_gateway::config::CipherSuite;
use lwm2m_gateway::dtls::{CloseReason, Options, Output, SendError};

fn openssl() -> OpensslClient {
    OpensslClient::new(ClientOptions::default())
}

/// A connected client of OpenSSL; its Established is taken.
fn connected(world: &mut World, at: SocketAddr) -> OpensslClient {
    let mut client = openssl();
    connect(world, &mut client, at);
    world.established().unwrap();
    client
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
    assert_eq!(suite, CipherSuite::PskAes128Ccm8);
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
    for (n, mut client) in (1..).zip([
        Box::new(openssl()) as Box<dyn Client>,
        Box::new(DimplClient::new(b"device", KEY, 1200)),
    ]) {
        let at = address(n);
        connect(&mut world, &mut *client, at);
        world.established().unwrap();
        world.close(at);
        assert_eq!(world.closed(), Some((at, CloseReason::Local)));
        exchange(&mut world, &mut *client, at);
        assert!(client.is_closed());
        assert_eq!(world.server.identity(at), None);
    }
}

#[test]
fn all_sessions_are_closed_at_the_end() {
    let mut world = World::new(&options());
    let mut clients: Vec<_> = (1..4).map(|n| connected(&mut world, address(n))).collect();
    let mut late = openssl();
    exchange(&mut world, &mut late, address(9));
    exchange(&mut world, &mut late, address(9));
    assert_eq!(world.server.handshakes(), 1);
    let now = world.now();
    world.server.close_all(now);
    world.drain();
    for (n, client) in (1..).zip(&mut clients) {
        assert_eq!(world.closed(), Some((address(n), CloseReason::Local)));
        exchange(&mut world, client, address(n));
        assert!(client.is_closed());
    }
    assert_eq!((world.server.sessions(), world.server.handshakes()), (0, 0));
    assert_eq!(world.deadline, None);
}

#[test]
fn bad_network() {
    let network = |seed| Network {
        flip: 0,
        ..Network::bad(12, seed)
    };
    for seed in 0..8 {
        let mut world = World::new(&options());
        let mut clients = [
            Box::new(openssl()) as Box<dyn Client>,
            Box::new(DimplClient::new(b"device", KEY, 1200)),
            Box::new(OpensslClient::new(ClientOptions {
                identity: vec![b'i'; 120],
                mtu: 256,
                suites: "ECDHE-PSK-CHACHA20-POLY1305",
                ..ClientOptions::default()
            })),
        ];
        world.keys.insert(vec![b'i'; 120], KEY.to_vec());
        for (n, client) in (1..).zip(&mut clients) {
            let at = address(n);
            // A client that has its Finished may have to hear it again.
            let is_done = run_until(&mut world, &mut **client, at, network(seed), |w, c| {
                c.is_connected() && w.server.identity(at).is_some()
            });
            assert!(is_done, "client {n} with seed {seed}");
            world.take_sent(at);
            client.take_sent();
            world.events.clear();
            assert_talks(&mut world, &mut **client, at);
        }
    }
}

#[test]
fn every_suite() {
    for suite in suites_of_keys() {
        let mut world = World::new(&Options {
            suites: vec![suite],
            ..options()
        });
        let mut client = OpensslClient::new(ClientOptions {
            suites: suite.openssl_name(),
            ..ClientOptions::default()
        });
        connect(&mut world, &mut client, address(1));
        assert_eq!(world.established().unwrap().3, suite);
        assert_eq!(client.suite(), suite.openssl_name());
        assert_talks(&mut world, &mut client, address(1));
    }
}

#[test]
fn the_preferred_suite_is_taken() {
    let mut world = World::new(&options());
    let mut client = OpensslClient::new(ClientOptions {
        suites: "ECDHE-PSK-CHACHA20-POLY1305:PSK-AES128-GCM-SHA256:PSK-AES128-CCM8",
        ..ClientOptions::default()
    });
    connect(&mut world, &mut client, address(1));
    assert_eq!(world.established().unwrap().3, CipherSuite::PskAes128Ccm8);
}

#[test]
fn small_fragments() {
    // Hello, ClientKeyExchange and the server's flight do not fit into one datagram each.
    let identity = vec![b'x'; 128];
    let mut world = World::new(&Options {
        mtu: 256,
        ..options()
    });
    world.keys.insert(identity.clone(), KEY.to_vec());
    let mut client = OpensslClient::new(ClientOptions {
        identity: identity.clone(),
        mtu: 256,
        suites: "ALL:@SECLEVEL=0",
        ..ClientOptions::default()
    });
    connect(&mut world, &mut client, address(1));
    assert_eq!(world.established().unwrap().1.as_bytes(), identity);
    assert_talks(&mut world, &mut client, address(1));
}

#[test]
fn long_identities() {
    let identity = [b'y'; 256];
    let mut world = World::new(&options());
    world.keys.insert(identity.to_vec(), KEY.to_vec());
    let mut client = DimplClient::new(&identity, KEY, 1200);
    connect(&mut world, &mut client, address(1));
    assert_eq!(world.established().unwrap().1.as_bytes(), identity);
}

#[test]
fn keys_may_come_late() {
    let mut world = World::new(&options());
    world.hold_credentials = true;
    let mut client = openssl();
    let at = address(1);
    let asked = run_until(&mut world, &mut client, at, Network::default(), |w, _| {
        !w.asked.is_empty()
    });
    assert!(asked);
    // The client repeats its flight meanwhile; the question stands once.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(20));
        client.handle_timers();
        world.tick();
        exchange(&mut world, &mut client, at);
    }
    assert_eq!(world.asked.len(), 1);
    assert!(!client.is_connected());
    let (ticket, peer, identity) = world.asked.pop().unwrap();
    assert_eq!((peer, identity.as_bytes()), (at, &b"device"[..]));
    world.answer(ticket, Some(KEY));
    connect(&mut world, &mut client, at);
    world.established().unwrap();
    assert_talks(&mut world, &mut client, at);
    // An answer that nobody waits for.
    world.answer(ticket, Some(b"another key"));
    world.answer(ticket, None);
    assert_talks(&mut world, &mut client, at);
}

#[test]
fn handshakes_with_old_keys_are_abandoned() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut live = connected(&mut world, address(2));
    let mut client = openssl();
    exchange(&mut world, &mut client, at);
    exchange(&mut world, &mut client, at);
    world.server.abandon_handshakes();
    assert_eq!(world.server.handshakes(), 0);
    exchange(&mut world, &mut client, at);
    assert_eq!(world.server.identity(at), None);
    assert_talks(&mut world, &mut live, address(2));
    let mut again = connected(&mut world, at);
    assert_talks(&mut world, &mut again, at);
}

#[test]
fn closing_leaves_the_next_handshake_alone() {
    let mut world = World::new(&options());
    let at = address(1);
    let _old = connected(&mut world, at);
    let mut new = openssl();
    exchange(&mut world, &mut new, at);
    exchange(&mut world, &mut new, at);
    world.close(at);
    assert_eq!(world.closed(), Some((at, CloseReason::Local)));
    assert_eq!((world.server.sessions(), world.server.handshakes()), (0, 1));
    connect(&mut world, &mut new, at);
    world.established().unwrap();
    assert_talks(&mut world, &mut new, at);
}

#[test]
fn several_records_in_a_datagram() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = connected(&mut world, at);
    for payload in [b"one".as_slice(), b"two", b"three"] {
        client.send(payload);
    }
    client.close();
    let datagram = client.take_sent().concat();
    world.datagram(at, &datagram);
    for payload in [b"one".as_slice(), b"two", b"three"] {
        assert_eq!(world.received(), Some((at, payload.to_vec())));
    }
    assert_eq!(world.closed(), Some((at, CloseReason::Peer)));
}

#[test]
fn long_payloads() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = connected(&mut world, at);
    // More than the MTU goes in one datagram; more than a record does not go.
    world.send(at, &[3; 5000]);
    exchange(&mut world, &mut client, at);
    assert_eq!(client.take_received(), [vec![3; 5000]]);
    let now = world.now();
    for payload in [&[][..], &[0; 16_385]] {
        assert_eq!(world.server.send(now, at, payload), Err(SendError::Length));
    }
    assert_eq!(world.counters.dtls_send_failed.get(), 2);
    assert_talks(&mut world, &mut client, at);
}

#[test]
fn resumption_from_another_port() {
    let mut world = World::new(&options());
    for suite in ["PSK-AES128-CCM8", "ECDHE-PSK-CHACHA20-POLY1305"] {
        let mut client = OpensslClient::new(ClientOptions {
            suites: suite,
            ..ClientOptions::default()
        });
        connect(&mut world, &mut client, address(1));
        assert!(!world.established().unwrap().2);
        let session = client.session();
        world.close(address(1));
        world.closed().unwrap();
        let again = |session| {
            OpensslClient::new(ClientOptions {
                session: Some(session),
                suites: suite,
                ..ClientOptions::default()
            })
        };
        // The key is not asked for.
        world.hold_credentials = true;
        let mut client = again(session.clone());
        connect(&mut world, &mut client, address(2));
        let (peer, identity, resumed, _) = world.established().unwrap();
        assert_eq!((peer, resumed), (address(2), true));
        assert_eq!(identity.as_bytes(), b"device");
        assert_talks(&mut world, &mut client, address(2));
        world.hold_credentials = false;
        // Also while the first session is open, from the same address.
        world.sent.clear();
        let mut client = again(session.clone());
        connect(&mut world, &mut client, address(2));
        assert_eq!(world.closed(), Some((address(2), CloseReason::Replaced)));
        assert!(world.established().unwrap().2);
        world.context.flush_sessions();
        let mut client = again(session);
        connect(&mut world, &mut client, address(3));
        assert!(!world.established().unwrap().2);
        for n in 2..4 {
            world.close(address(n));
        }
        world.events.clear();
        world.sent.clear();
    }
}

#[test]
fn resumption_over_a_bad_network() {
    for seed in 0..10 {
        let mut world = World::new(&options());
        // Clients forget the sessions of connections that they do not close.
        let first = connected(&mut world, address(1));
        let mut client = OpensslClient::new(ClientOptions {
            session: Some(first.session()),
            ..ClientOptions::default()
        });
        let network = Network {
            flip: 0,
            ..Network::bad(12, seed)
        };
        let is_done = run_until(&mut world, &mut client, address(2), network, |w, c| {
            c.is_connected() && w.server.identity(address(2)).is_some()
        });
        assert!(is_done, "seed {seed}");
        assert!(world.established().unwrap().2);
    }
}

#[test]
fn no_resumption_when_turned_off() {
    let mut world = World::new(&Options {
        session_cache: 0,
        ..options()
    });
    let first = connected(&mut world, address(1));
    let mut client = OpensslClient::new(ClientOptions {
        session: Some(first.session()),
        ..ClientOptions::default()
    });
    connect(&mut world, &mut client, address(2));
    assert!(!world.established().unwrap().2);
}

#[test]
fn payload_that_overtakes_the_finished_of_a_resumption() {
    let mut world = World::new(&options());
    let first = connected(&mut world, address(1));
    let mut client = OpensslClient::new(ClientOptions {
        session: Some(first.session()),
        ..ClientOptions::default()
    });
    let at = address(2);
    while !client.is_connected() {
        for datagram in client.take_sent() {
            world.datagram(at, &datagram);
        }
        for datagram in world.take_sent(at) {
            client.handle_datagram(&datagram);
        }
    }
    // The records of the flight, which may have been repeated. Before the ChangeCipherSpec OpenSSL
    // takes no payload.
    let flight = client.take_sent().concat();
    let mut records = Vec::new();
    let mut rest = flight.as_slice();
    while !rest.is_empty() {
        let (record, after) = rest.split_at(13 + usize::from(rest[12]));
        records.push(record);
        rest = after;
    }
    let find = |kind, epoch| {
        records
            .iter()
            .find(|record| (record[0], record[4]) == (kind, epoch))
    };
    let change_cipher_spec = find(20, 0).unwrap();
    let finished = find(22, 1).unwrap();
    client.send(b"early");
    let early = client.take_sent().remove(0);
    for datagram in [*change_cipher_spec, &early, finished] {
        world.datagram(at, datagram);
    }
    assert!(world.established().unwrap().2);
    assert_eq!(world.received(), Some((at, b"early".to_vec())));
}

#[test]
fn a_device_that_restarts_on_its_port() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut old = connected(&mut world, at);
    let mut new = openssl();
    // Both work until the new handshake is complete.
    while world.server.handshakes() == 0 || world.server.sessions() == 0 {
        exchange(&mut world, &mut new, at);
    }
    assert_talks(&mut world, &mut old, at);
    connect(&mut world, &mut new, at);
    assert_eq!(world.closed(), Some((at, CloseReason::Replaced)));
    world.established().unwrap();
    assert_eq!(world.server.sessions(), 1);
    assert_talks(&mut world, &mut new, at);
}

#[test]
fn a_new_hello_replaces_a_handshake() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut given_up = openssl();
    exchange(&mut world, &mut given_up, at);
    exchange(&mut world, &mut given_up, at);
    assert_eq!(world.server.handshakes(), 1);
    let mut client = connected(&mut world, at);
    assert_talks(&mut world, &mut client, at);
    assert_eq!(world.counters.dtls_handshakes_failed.get(), 1);
}

#[test]
fn the_session_unused_for_longest_makes_room() {
    let mut world = World::new(&Options {
        max_sessions: 2,
        ..options()
    });
    let mut first = connected(&mut world, address(1));
    let mut second = connected(&mut world, address(2));
    assert_talks(&mut world, &mut first, address(1));
    let mut client = openssl();
    connect(&mut world, &mut client, address(3));
    world.established().unwrap();
    world.pass(Duration::from_millis(1));
    assert_eq!(world.closed(), Some((address(2), CloseReason::Evicted)));
    exchange(&mut world, &mut second, address(2));
    assert!(second.is_closed());
    assert_eq!(world.counters.dtls_sessions_evicted.get(), 1);
    let mut left: Vec<_> = world.server.peers().map(|(peer, _)| peer).collect();
    left.sort_unstable();
    assert_eq!(left, [address(1), address(3)]);
}

#[test]
fn idle_sessions_are_closed() {
    let mut world = World::new(&Options {
        idle_timeout: Some(Duration::from_secs(100)),
        ..options()
    });
    let mut first = connected(&mut world, address(1));
    let _second = connected(&mut world, address(2));
    world.pass(Duration::from_secs(60));
    assert_talks(&mut world, &mut first, address(1));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.closed(), Some((address(2), CloseReason::Idle)));
    assert_eq!(world.server.sessions(), 1);
    let deadline = world.deadline.unwrap();
    assert!(deadline > world.now());
    world.pass(Duration::from_secs(60));
    assert_eq!(world.closed(), Some((address(1), CloseReason::Idle)));
    assert_eq!(world.deadline, None);
}

#[test]
fn whoever_has_use_for_an_idle_session_keeps_it() {
    let mut world = World::new(&Options {
        idle_timeout: Some(Duration::from_secs(100)),
        ask_idle: true,
        ..options()
    });
    let mut first = connected(&mut world, address(1));
    let mut second = connected(&mut world, address(2));
    let [of_first, of_second] = [1, 2].map(|n| world.server.session_at(address(n)).unwrap());
    world.pass(Duration::from_secs(60));
    assert_talks(&mut world, &mut first, address(1));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.events.pop_front(), Some(Output::Unused(of_second)));
    assert_eq!(world.events.pop_front(), None);
    // It is asked for again as if it had been used.
    world.pass(Duration::from_secs(60));
    assert_eq!(world.events.pop_front(), Some(Output::Unused(of_first)));
    world.server.close_unused(of_first);
    world.drain();
    assert_eq!(world.closed(), Some((address(1), CloseReason::Idle)));
    world.pass(Duration::from_secs(39));
    assert_eq!(world.events.pop_front(), None);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.events.pop_front(), Some(Output::Unused(of_second)));
    assert_talks(&mut world, &mut second, address(2));
}

#[test]
fn more_sessions_than_have_buffers() {
    let mut world = World::new(&options());
    let mut clients: Vec<_> = (0..40).map(|n| connected(&mut world, address(n))).collect();
    for round in 0..3u8 {
        for (n, client) in (0..).zip(&mut clients) {
            assert_talks(&mut world, client, address(n));
            world.send(address(n), &[round]);
            exchange(&mut world, client, address(n));
            assert_eq!(client.take_received(), [[round]]);
        }
    }
    assert_eq!(world.server.sessions(), 40);
}

#[test]
fn a_lost_last_flight_is_sent_again() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = openssl();
    let done = run_until(&mut world, &mut client, at, Network::default(), |w, _| {
        w.server.sessions() == 1
    });
    assert!(done && !client.is_connected());
    world.take_sent(at);
    let done = run_until(&mut world, &mut client, at, Network::default(), |_, c| {
        c.is_connected()
    });
    assert!(done);
    world.established().unwrap();
    assert_talks(&mut world, &mut client, at);
}

#[test]
fn outputs_are_events_in_order() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = openssl();
    connect(&mut world, &mut client, at);
    client.send(b"x");
    client.close();
    exchange(&mut world, &mut client, at);
    let kinds: Vec<_> = world
        .events
        .iter()
        .map(|event| match event {
            Output::Established { .. } => 'e',
            Output::Received { .. } => 'r',
            Output::Closed { .. } => 'c',
            _ => '?',
        })
        .collect();
    assert_eq!(kinds, ['e', 'r', 'c']);
}
