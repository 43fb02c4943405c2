//! The DTLS server against wrong keys, floods, damaged and repeated datagrams.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, unsafe_code)]

#[path = "support/dtls.rs"]
#[allow(missing_docs)]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use lwm2m_gateway::dtls::{CloseReason, Options, Output};
use openssl::ssl::SslVersion;
use support::{
    Client, ClientOptions, DimplClient, KEY, Network, OpensslClient, World, address, assert_talks,
    connect, exchange, options, run_until, suites_of_keys,
};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes that each thread has.
struct Counting;

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LIVE.try_with(|live| live.set(live.get() + layout.size() as isize));
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|live| live.set(live.get() - layout.size() as isize));
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn openssl() -> OpensslClient {
    OpensslClient::new(ClientOptions::default())
}

fn connected(world: &mut World, at: SocketAddr) -> OpensslClient {
    let mut client = openssl();
    connect(world, &mut client, at);
    world.established().unwrap();
    client
}

/// A handshake that must fail; the lengths of the server's datagrams.
fn fails(world: &mut World, client: &mut OpensslClient, at: SocketAddr) -> Vec<usize> {
    let mut lengths = Vec::new();
    let done = run_until(world, client, at, Network::default(), |world, client| {
        lengths.extend(world.sent.iter().map(|(_, datagram)| datagram.len()));
        client.has_failed()
    });
    assert!(done, "the client was not told");
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.server.identity(at), None);
    lengths
}

#[test]
fn wrong_key_and_unknown_identity_look_the_same() {
    let mut world = World::new(&Options {
        // No repetitions of the server's flight between.
        retransmit_timeout: Duration::from_secs(5),
        ..options()
    });
    let client = |identity: &[u8], key: &[u8]| {
        OpensslClient::new(ClientOptions {
            identity: identity.to_vec(),
            key: key.to_vec(),
            ..ClientOptions::default()
        })
    };
    let mut wrong = client(b"device", b"another key 1234");
    let wrong_key = fails(&mut world, &mut wrong, address(1));
    assert_eq!(world.counters.dtls_unknown_identities.get(), 0);
    let mut unknown = client(b"nobody", KEY);
    let unknown_identity = fails(&mut world, &mut unknown, address(2));
    assert_eq!(world.counters.dtls_unknown_identities.get(), 1);
    assert_eq!(wrong_key, unknown_identity);
    for client in [&wrong, &unknown] {
        assert!(
            client.failure().contains("alert decrypt error"),
            "{}",
            client.failure()
        );
    }
    assert_eq!(world.counters.dtls_handshakes_failed.get(), 2);
    assert!(world.events.is_empty());
    assert_talks_after(&mut world);
}

/// The server is well.
fn assert_talks_after(world: &mut World) {
    let mut client = connected(world, address(99));
    assert_talks(world, &mut client, address(99));
    world.close(address(99));
    world.closed().unwrap();
}

#[test]
fn the_alert_is_not_taken_for_a_repetition() {
    let mut world = World::new(&options());
    let mut client = OpensslClient::new(ClientOptions {
        key: b"another key 1234".to_vec(),
        ..ClientOptions::default()
    });
    let at = address(1);
    exchange(&mut world, &mut client, at);
    exchange(&mut world, &mut client, at);
    let flight = client.take_sent();
    // The server repeats its own flight before the client's arrives.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(50));
        world.tick();
        for datagram in world.take_sent(at) {
            client.handle_datagram(&datagram);
        }
    }
    for datagram in flight {
        world.datagram(at, &datagram);
    }
    fails(&mut world, &mut client, at);
    assert!(
        client.failure().contains("alert decrypt error"),
        "{}",
        client.failure()
    );
}

#[test]
fn identities_with_nul_are_not_asked_about() {
    let mut world = World::new(&options());
    world.keys.insert(b"dev".to_vec(), KEY.to_vec());
    world.keys.insert(b"dev\0ice".to_vec(), KEY.to_vec());
    let mut client = DimplClient::new(b"dev\0ice", KEY, 1200);
    let done = run_until(
        &mut world,
        &mut client,
        address(1),
        Network::default(),
        |world, _| world.counters.dtls_handshakes_failed.get() > 0,
    );
    assert!(done);
    assert_eq!(world.counters.dtls_unknown_identities.get(), 1);
    assert_eq!(world.server.sessions(), 0);
}

#[test]
fn no_common_suite_or_version() {
    let mut world = World::new(&options());
    let mut client = OpensslClient::new(ClientOptions {
        suites: "PSK-AES256-GCM-SHA384",
        ..ClientOptions::default()
    });
    fails(&mut world, &mut client, address(1));
    assert!(
        client.failure().contains("handshake failure"),
        "{}",
        client.failure()
    );
    let mut client = OpensslClient::new(ClientOptions {
        suites: "PSK-AES128-CBC-SHA",
        version: Some(SslVersion::DTLS1),
        ..ClientOptions::default()
    });
    fails(&mut world, &mut client, address(1));
    assert!(
        client.failure().contains("protocol version"),
        "{}",
        client.failure()
    );
    assert_talks_after(&mut world);
}

#[test]
fn replayed_and_damaged_records() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = connected(&mut world, at);
    client.send(b"once");
    client.send(b"twice");
    let records = client.take_sent();
    for datagram in records.iter().rev().chain(&records) {
        world.datagram(at, datagram);
    }
    assert_eq!(world.received(), Some((at, b"twice".to_vec())));
    assert_eq!(world.received(), Some((at, b"once".to_vec())));
    assert!(world.events.is_empty());
    assert_eq!(world.counters.dtls_records_dropped.get(), 2);
    assert_talks(&mut world, &mut client, at);
}

/// Nobody who does not have the keys may end a session, whatever is sent to it.
#[test]
fn forged_records_change_nothing() {
    for suite in suites_of_keys() {
        let mut world = World::new(&Options {
            suites: vec![suite],
            ..options()
        });
        let at = address(1);
        let mut client = OpensslClient::new(ClientOptions {
            suites: suite.openssl_name(),
            ..ClientOptions::default()
        });
        connect(&mut world, &mut client, at);
        world.established().unwrap();
        client.send(b"genuine");
        let record = client.take_sent().remove(0);
        for bit in 0..record.len() * 8 {
            let mut forged = record.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            world.datagram(at, &forged);
        }
        for content_type in 19..27 {
            for epoch in 0..3 {
                for length in 0..100u8 {
                    let mut forged = vec![content_type, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1];
                    forged.extend([length, 0, length]);
                    forged.extend((0..length).map(|n| n.wrapping_mul(37) ^ content_type));
                    world.datagram(at, &forged);
                    forged[13..].fill(0);
                    world.datagram(at, &forged);
                }
            }
        }
        assert!(world.events.is_empty(), "{suite:?}: {:?}", world.events);
        assert_eq!(world.sent.len(), 0, "{suite:?}");
        world.datagram(at, &record);
        assert_eq!(world.received(), Some((at, b"genuine".to_vec())));
        assert_talks(&mut world, &mut client, at);
    }
}

#[test]
fn records_from_elsewhere() {
    let mut world = World::new(&options());
    let mut client = connected(&mut world, address(1));
    client.send(b"moved");
    let record = client.take_sent().remove(0);
    world.datagram(address(2), &record);
    assert_eq!(world.counters.dtls_unknown_peer.get(), 1);
    assert!(world.events.is_empty());
    // Nor does it spoil the session that it belongs to.
    world.datagram(address(1), &record);
    assert_eq!(world.received(), Some((address(1), b"moved".to_vec())));
}

#[test]
fn no_dtls_at_all() {
    let mut world = World::new(&options());
    let datagrams: [&[u8]; 6] = [
        b"",
        b"\x40\x02\x00\x01",
        &[22; 12],
        &[0; 100],
        &[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    for datagram in datagrams {
        world.datagram(address(1), datagram);
    }
    let mut long = vec![0; 17_000];
    long[..13].copy_from_slice(&[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0x42, 0x5b]);
    world.datagram(address(1), &long);
    assert_eq!(world.counters.dtls_malformed.get(), 7);
    assert!(world.sent.is_empty());
}

#[test]
fn a_flood_of_first_hellos_leaves_nothing() {
    let mut world = World::new(&options());
    let hello = openssl().take_sent().remove(0);
    let mut flood = |from: u32| {
        for n in from..from + 50_000 {
            world.datagram(address(n), &hello);
            let (to, answer) = world.sent.pop_front().unwrap();
            assert!(to == address(n) && answer.len() <= hello.len());
        }
        assert_eq!(world.server.handshakes(), 0);
        LIVE.get()
    };
    let before = flood(0);
    let after = flood(100_000);
    assert_eq!(before, after);
    assert_eq!(world.counters.dtls_hellos.get(), 100_000);
    assert_talks_after(&mut world);
}

#[test]
fn cookies_of_others_are_not_taken() {
    let mut world = World::new(&options());
    let mut client = openssl();
    exchange(&mut world, &mut client, address(1));
    let hello = client.take_sent().pop().unwrap();
    world.datagram(address(2), &hello);
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.counters.dtls_bad_cookies.get(), 1);
    // It is answered as one without cookie.
    assert_eq!(world.take_sent(address(2)).len(), 1);
    world.pass(Duration::from_secs(200));
    world.datagram(address(1), &hello);
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.counters.dtls_bad_cookies.get(), 2);
    let fresh = &world.take_sent(address(1))[0];
    // A client that goes on from there is told to begin anew.
    let cookie = &fresh[28..45];
    // It is behind headers, version, random, an empty session id and its length.
    assert_eq!(hello[59..61], [0, 17]);
    let mut third = hello.clone();
    third[61..78].copy_from_slice(cookie);
    third[18] = 2;
    world.datagram(address(1), &third);
    let alert = world.take_sent(address(1));
    assert_eq!(alert[0][13..], [2, 40]);
    assert_eq!(world.server.handshakes(), 0);
    third[18] = 1;
    world.datagram(address(1), &third);
    assert_eq!(world.server.handshakes(), 1);
}

#[test]
fn a_cut_in_the_middle() {
    let mut world = World::new(&options());
    for rounds in 1..4 {
        let mut client = openssl();
        for _ in 0..rounds {
            for datagram in client.take_sent() {
                world.datagram(address(rounds), &datagram);
            }
            if rounds == 3 {
                world.hold_credentials = true;
            }
            for datagram in world.take_sent(address(rounds)) {
                client.handle_datagram(&datagram);
            }
        }
    }
    // One without cookie, one before and one behind the ClientKeyExchange.
    assert_eq!(world.server.handshakes(), 2);
    let (ticket, ..) = world.asked.pop().unwrap();
    world.pass(Duration::from_secs(14));
    assert_eq!(world.server.handshakes(), 2);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.counters.dtls_handshakes_timed_out.get(), 2);
    assert_eq!(world.deadline, None);
    world.answer(ticket, Some(KEY));
    world.hold_credentials = false;
    world.sent.clear();
    assert_talks_after(&mut world);
}

#[test]
fn handshakes_are_bounded() {
    let mut world = World::new(&Options {
        max_handshakes: 3,
        ..options()
    });
    let mut clients: Vec<_> = (0..5).map(|_| openssl()).collect();
    for (n, client) in (0..).zip(&mut clients) {
        exchange(&mut world, client, address(n));
        exchange(&mut world, client, address(n));
    }
    assert_eq!(world.server.handshakes(), 3);
    assert_eq!(world.counters.dtls_handshakes_refused.get(), 2);
    // Those refused try again, and there is room when the others are done.
    for (n, client) in (0..).zip(&mut clients) {
        connect(&mut world, client, address(n));
    }
    assert_eq!(world.server.sessions(), 5);
}

#[test]
fn a_failing_handshake_does_not_disturb_the_session_of_its_address() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = connected(&mut world, at);
    let mut wrong = OpensslClient::new(ClientOptions {
        key: b"wrong".to_vec(),
        ..ClientOptions::default()
    });
    let done = run_until(
        &mut world,
        &mut wrong,
        at,
        Network::default(),
        |_, client| client.has_failed(),
    );
    assert!(done);
    assert_talks(&mut world, &mut client, at);
    // One that is cut.
    let mut cut = openssl();
    exchange(&mut world, &mut cut, at);
    exchange(&mut world, &mut cut, at);
    assert_eq!(world.server.handshakes(), 1);
    assert_talks(&mut world, &mut client, at);
    world.pass(Duration::from_secs(20));
    world.take_sent(at);
    assert_eq!(world.server.handshakes(), 0);
    assert_talks(&mut world, &mut client, at);
    // And one with an alert in the clear, which anybody can make.
    let mut cut = openssl();
    exchange(&mut world, &mut cut, at);
    exchange(&mut world, &mut cut, at);
    world.datagram(at, &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 77, 0, 2, 2, 40]);
    assert_eq!(world.server.handshakes(), 0);
    world.take_sent(at);
    world.datagram(at, &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 78, 0, 2, 2, 40]);
    assert_talks(&mut world, &mut client, at);
    assert_eq!(world.server.sessions(), 1);
}

#[test]
fn repeated_hellos_do_not_disturb() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = openssl();
    let mut all = Vec::new();
    for _ in 0..6 {
        for datagram in client.take_sent() {
            world.datagram(at, &datagram);
            all.push(datagram);
        }
        // Everything so far, once more.
        for datagram in &all {
            world.datagram(at, datagram);
        }
        for datagram in world.take_sent(at) {
            client.handle_datagram(&datagram);
        }
    }
    world.established().unwrap();
    assert_eq!((world.server.sessions(), world.server.handshakes()), (1, 0));
    for datagram in &all {
        world.datagram(at, datagram);
    }
    assert_eq!((world.server.sessions(), world.server.handshakes()), (1, 0));
    for datagram in world.take_sent(at) {
        client.handle_datagram(&datagram);
    }
    assert_talks(&mut world, &mut client, at);
}

#[test]
fn renegotiation_is_refused() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = connected(&mut world, at);
    let mut other = connected(&mut world, address(2));
    client.renegotiate();
    let requests = client.take_sent();
    assert!(!requests.is_empty());
    for datagram in requests {
        world.datagram(at, &datagram);
    }
    // A warning, and the session stands.
    assert_eq!(world.take_sent(at).len(), 1);
    assert_eq!((world.server.sessions(), world.server.handshakes()), (2, 0));
    assert!(world.events.is_empty());
    world.send(at, b"still there");
    assert_talks(&mut world, &mut other, address(2));
}

#[test]
fn fatal_alerts_end_the_session() {
    let mut world = World::new(&options());
    let at = address(1);
    let mut client = DimplClient::new(b"device", KEY, 1200);
    connect(&mut world, &mut client, at);
    world.established().unwrap();
    // Unencrypted, nobody believes it.
    world.datagram(at, &[21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 77, 0, 2, 2, 40]);
    world.datagram(at, &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 78, 0, 2, 2, 40]);
    assert_talks(&mut world, &mut client, at);
    client.close();
    exchange(&mut world, &mut client, at);
    assert_eq!(world.closed(), Some((at, CloseReason::Peer)));
}

#[test]
fn questions_are_bounded() {
    let mut world = World::new(&options());
    world.hold_credentials = true;
    let at = address(1);
    let mut client = openssl();
    let asked = run_until(&mut world, &mut client, at, Network::default(), |w, _| {
        !w.asked.is_empty()
    });
    assert!(asked);
    let before = LIVE.get();
    let mut junk = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 4, 0];
    junk.extend([0; 1024]);
    for n in 0..10_000u16 {
        junk[9..11].copy_from_slice(&n.to_be_bytes());
        world.datagram(at, &junk);
    }
    assert!(LIVE.get() - before < 32_000, "{}", LIVE.get() - before);
    assert!(world.counters.dtls_records_dropped.get() > 9_000);
    // The handshake goes on all the same.
    let (ticket, ..) = world.asked.pop().unwrap();
    world.answer(ticket, Some(KEY));
    connect(&mut world, &mut client, at);
}

#[test]
fn damaged_handshakes() {
    for seed in 0..60 {
        let mut world = World::new(&options());
        let network = Network::bad(15, seed);
        let mut client = openssl();
        let mut dimpl = DimplClient::new(b"device", KEY, 1200);
        let clients: [&mut dyn Client; 2] = [&mut client, &mut dimpl];
        for (n, client) in (1..).zip(clients) {
            // A changed bit may end a handshake: what it is will be noticed at the end.
            let mut rounds = 0;
            run_until(&mut world, client, address(n), network, |_, client| {
                rounds += 1;
                rounds > 100 || client.is_connected() || client.has_failed()
            });
        }
        world.pass(Duration::from_secs(20));
        assert_eq!(world.server.handshakes(), 0);
        world.events.clear();
        world.sent.clear();
        assert_talks_after(&mut world);
    }
}

#[test]
fn many_sessions_come_and_go() {
    let mut world = World::new(&options());
    for n in 0..300 {
        let mut client = openssl();
        connect(&mut world, &mut client, address(n % 7));
        world.events.clear();
        assert_talks(&mut world, &mut client, address(n % 7));
        match n % 3 {
            0 => {
                client.close();
                exchange(&mut world, &mut client, address(n % 7));
            }
            1 => world.close(address(n % 7)),
            _ => (),
        }
        let kinds = world.events.drain(..);
        assert!(
            kinds
                .into_iter()
                .all(|event| matches!(event, Output::Closed { .. }))
        );
    }
    assert!(world.server.sessions() <= 7);
}

#[test]
fn a_wrong_key_is_refused_though_the_device_falls_silent() {
    let mut world = World::new(&options());
    let mut client = OpensslClient::new(ClientOptions {
        key: b"another key than ours".to_vec(),
        ..ClientOptions::default()
    });
    let at = address(1);
    for _ in 0..4 {
        exchange(&mut world, &mut client, at);
    }
    assert_eq!(world.counters.dtls_handshakes_failed.get(), 0);
    world.take_sent(at);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while world.counters.dtls_handshakes_failed.get() == 0 {
        assert!(std::time::Instant::now() < end, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
        world.tick();
    }
    // The last thing it hears is an alert.
    let last = world.take_sent(at).pop().unwrap();
    assert_eq!(last[0], 21);
    assert_eq!(world.server.handshakes(), 0);
}
