//! What one credential or one source may take of a DTLS server: sessions, and handshakes that fail.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Client, ClientOptions, KEY, Network, OpensslClient, World, address, assert_talks, connect,
    exchange, options, run_until,
};
use lwm2m_gateway::config::{CipherSuite, Group};
use lwm2m_gateway::dtls::{CloseReason, Options, Output};

fn client(identity: &str) -> OpensslClient {
    OpensslClient::new(ClientOptions {
        identity: identity.as_bytes().to_vec(),
        ..ClientOptions::default()
    })
}

/// Connects with an identity whose credential is what stands before its `#`.
fn join(world: &mut World, identity: &str, at: SocketAddr) -> OpensslClient {
    let known = identity.as_bytes().to_vec();
    world.keys.insert(known, KEY.to_vec());
    let mut client = client(identity);
    connect(world, &mut client, at);
    let credential = identity.split('#').next().unwrap();
    let session = world.server.session_at(at).unwrap();
    world.server.set_credential(session, credential.as_bytes());
    client
}

/// The sessions that were closed since this was asked last, with the reason.
fn closed(world: &mut World) -> Vec<(SocketAddr, CloseReason)> {
    // Room is made with the next call.
    world.pass(Duration::ZERO);
    let events = std::mem::take(&mut world.events);
    let closed = events.into_iter().filter_map(|event| match event {
        Output::Closed { peer, reason, .. } => Some((peer.remote, reason)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn c13_who_opens_many_pushes_out_only_his_own() {
    let mut world = World::new(&Options {
        max_sessions: 40,
        ..options()
    });
    let at = address(1);
    let mut victim = join(&mut world, "victim", at);
    let mut others: Vec<_> = (0..45)
        .map(|n| join(&mut world, &format!("beta#{n}"), address(100 + n)))
        .collect();
    let gone = closed(&mut world);
    let first: Vec<_> = (100..106)
        .map(|n| (address(n), CloseReason::Evicted))
        .collect();
    assert_eq!(gone, first, "the longest unused of the same key");
    assert_eq!(world.server.sessions(), 40);
    assert_eq!(world.counters.dtls_sessions_evicted.get(), 6);
    assert_eq!(world.counters.dtls_sessions_over_share.get(), 6);
    assert_talks(&mut world, &mut victim, at);
    // Another one with a key of its own comes in, at their cost.
    let at = address(2);
    let mut late = join(&mut world, "late", at);
    assert_eq!(closed(&mut world), [(address(106), CloseReason::Evicted)]);
    assert_talks(&mut world, &mut late, at);
    assert_talks(&mut world, &mut others[44], address(144));
}

#[test]
fn c13_of_a_fleet_the_source_with_most_gives_way() {
    let mut world = World::new(&Options {
        max_sessions: 10,
        ..options()
    });
    for n in 0..6 {
        join(&mut world, &format!("fleet#{n}"), address(n));
    }
    // One device of the fleet opens many, from ports of one address.
    let port = |n: u16| SocketAddr::new(address(50).ip(), 1000 + n);
    for n in 0..8 {
        join(&mut world, &format!("fleet#x{n}"), port(n));
    }
    let gone: Vec<_> = closed(&mut world).into_iter().map(|(at, _)| at).collect();
    assert_eq!(gone, (0..4).map(port).collect::<Vec<_>>());
}

#[test]
fn c13_the_longest_unused_goes_first() {
    let mut world = World::new(&Options {
        max_sessions: 3,
        ..options()
    });
    let mut clients: Vec<_> = (0..3)
        .map(|n| join(&mut world, &format!("fleet#{n}"), address(n)))
        .collect();
    closed(&mut world);
    world.pass(Duration::from_secs(2));
    assert_talks(&mut world, &mut clients[0], address(0));
    join(&mut world, "fleet#3", address(3));
    assert_eq!(closed(&mut world), [(address(1), CloseReason::Evicted)]);
    // With a key of its own for each, the same holds for all of them.
    let mut world = World::new(&Options {
        max_sessions: 3,
        ..options()
    });
    let mut clients: Vec<_> = (0..3)
        .map(|n| join(&mut world, &format!("device{n}"), address(n)))
        .collect();
    closed(&mut world);
    assert_talks(&mut world, &mut clients[0], address(0));
    join(&mut world, "device3", address(3));
    assert_eq!(closed(&mut world), [(address(1), CloseReason::Evicted)]);
    assert_eq!(world.counters.dtls_sessions_over_share.get(), 0);
}

#[test]
fn c13_fixed_limits() {
    let mut world = World::new(&Options {
        max_sessions_per_credential: 2,
        max_sessions_per_source: 3,
        ..options()
    });
    for n in 0..3 {
        join(&mut world, &format!("fleet#{n}"), address(n));
    }
    assert_eq!(closed(&mut world), [(address(0), CloseReason::Evicted)]);
    let port = |n: u16| SocketAddr::new(address(50).ip(), 1000 + n);
    for n in 0..4 {
        join(&mut world, &format!("device{n}"), port(n));
    }
    assert_eq!(closed(&mut world), [(port(0), CloseReason::Evicted)]);
    assert_eq!(world.counters.dtls_sessions_over_share.get(), 2);
}

/// Shards of a listener count together; each closes its own sessions.
#[test]
fn c13_sessions_of_another_server_give_way() {
    let mut one = World::new(&Options {
        max_sessions: 5,
        ..options()
    });
    let mut two = World::with_context(Arc::clone(&one.context));
    for n in 0..4 {
        join(&mut one, &format!("beta#{n}"), address(n));
    }
    let mut victim = join(&mut two, "victim", address(10));
    join(&mut two, "late", address(11));
    two.events.clear();
    two.pass(Duration::ZERO);
    assert_eq!(two.events.pop_front(), Some(Output::Crowded));
    assert!(two.events.is_empty());
    one.events.clear();
    one.server.give_way();
    one.drain();
    assert_eq!(closed(&mut one), [(address(0), CloseReason::Evicted)]);
    // Nothing more to do, for neither.
    one.server.give_way();
    two.server.give_way();
    one.drain();
    two.drain();
    assert!(one.events.is_empty() && two.events.is_empty());
    assert_talks(&mut two, &mut victim, address(10));
}

/// Tries with a wrong key from `at`; whether there was a handshake at all.
fn guess(world: &mut World, identity: &str, key: &[u8], at: SocketAddr) -> bool {
    let mut wrong = OpensslClient::new(ClientOptions {
        identity: identity.as_bytes().to_vec(),
        key: key.to_vec(),
        ..ClientOptions::default()
    });
    let slowed = world.counters.dtls_handshakes_slowed.get();
    run_until(world, &mut wrong, at, Network::default(), |world, wrong| {
        wrong.has_failed() || world.counters.dtls_handshakes_slowed.get() > slowed
    });
    world.take_sent(at);
    wrong.has_failed()
}

#[test]
fn c14_failed_keys_of_a_source_are_slowed() {
    let mut world = World::new(&options());
    let port = |n: u16| SocketAddr::new(address(7).ip(), 1000 + n);
    let begun = (0..30u16).filter(|n| {
        let (identity, key) = match n % 2 {
            0 => ("device", &b"another key 1234"[..]),
            _ => ("nobody", KEY),
        };
        guess(&mut world, identity, key, port(*n))
    });
    let begun = begun.count();
    assert!((10..15).contains(&begun), "{begun}");
    assert_eq!(world.counters.dtls_keys_failed.get(), begun as u64);
    assert!(world.counters.dtls_handshakes_slowed.get() >= 15);
    // With the right key from elsewhere, at once.
    connect(&mut world, &mut client("device"), address(8));
    // From the same address when some time has passed; that makes up for the failures.
    world.pass(Duration::from_secs(120));
    let mut device = client("device");
    connect(&mut world, &mut device, port(99));
    world.events.clear();
    assert_talks(&mut world, &mut device, port(99));
    let mut again = (100..110).map(|n| guess(&mut world, "device", b"wrong", port(n)));
    assert!(again.all(|begun| begun));
}

/// Sends a whole flight with a wrong key.
fn send_guess(world: &mut World, at: SocketAddr) {
    let mut wrong = OpensslClient::new(ClientOptions {
        key: b"another key 1234".to_vec(),
        ..ClientOptions::default()
    });
    exchange(world, &mut wrong, at);
    exchange(world, &mut wrong, at);
    for datagram in wrong.take_sent() {
        world.datagram(at, &datagram);
    }
    assert_eq!(world.server.handshakes(), 1);
}

/// Who tries keys may end a handshake in other ways than by waiting for its failure.
#[test]
fn c14_guesses_are_counted_however_they_end() {
    let mut world = World::new(&Options {
        retransmit_timeout: Duration::from_secs(60),
        ..options()
    });
    let at = address(7);
    // A new hello.
    send_guess(&mut world, at);
    send_guess(&mut world, at);
    assert_eq!(world.counters.dtls_keys_failed.get(), 1);
    // Silence.
    world.pass(Duration::from_secs(100));
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.counters.dtls_keys_failed.get(), 2);
    // A handshake without a guess is none.
    let mut client = client("device");
    exchange(&mut world, &mut client, at);
    exchange(&mut world, &mut client, at);
    world.pass(Duration::from_secs(100));
    assert_eq!(world.counters.dtls_handshakes_timed_out.get(), 2);
    assert_eq!(world.counters.dtls_keys_failed.get(), 2);
}

#[test]
fn c14_no_p384_unless_it_is_asked_for() {
    let only_p384 = |suites| {
        OpensslClient::new(ClientOptions {
            suites,
            groups: Some("P-384"),
            ..ClientOptions::default()
        })
    };
    let ecdhe = CipherSuite::EcdhePskChacha20Poly1305.openssl_name();
    let mut world = World::new(&options());
    // Nothing else in common: an alert, counted.
    let mut device = only_p384(ecdhe);
    let at = address(1);
    let failed = run_until(&mut world, &mut device, at, Network::default(), |_, it| {
        it.has_failed()
    });
    assert!(failed && device.failure().contains("handshake failure"));
    assert_eq!(world.counters.dtls_handshakes_failed.get(), 1);
    assert_eq!(world.counters.dtls_keys_failed.get(), 0);
    // A suite without ECDHE where there is one.
    let mut device = only_p384("ECDHE-PSK-CHACHA20-POLY1305:PSK-AES128-GCM-SHA256");
    connect(&mut world, &mut device, address(2));
    assert_eq!(device.suite(), "PSK-AES128-GCM-SHA256");
    // The others do as they did.
    for groups in ["X25519", "P-256", "P-384:P-256"] {
        let mut device = OpensslClient::new(ClientOptions {
            suites: ecdhe,
            groups: Some(groups),
            ..ClientOptions::default()
        });
        connect(&mut world, &mut device, address(3));
        assert_eq!(device.suite(), ecdhe);
    }
    let mut world = World::new(&Options {
        groups: Group::ALL.to_vec(),
        ..options()
    });
    connect(&mut world, &mut only_p384(ecdhe), address(4));
}
