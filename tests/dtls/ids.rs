//! Connection ids (RFC 9146): devices that move, and those who pretend that one has.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Client, ClientOptions, KEY, Network, OpensslClient, World, address, assert_talks, connect,
    exchange, options, run_until,
};
use lwm2m_gateway::dtls::{CloseReason, Context, Options, Output};

const TLS12_CID: u8 = 25;

fn client(id: &'static [u8]) -> OpensslClient {
    OpensslClient::new(ClientOptions {
        id: Some(id),
        ..ClientOptions::default()
    })
}

fn named(identity: &str) -> OpensslClient {
    OpensslClient::new(ClientOptions {
        id: Some(b""),
        identity: identity.as_bytes().to_vec(),
        ..ClientOptions::default()
    })
}

fn connected(id: &'static [u8]) -> (World, OpensslClient) {
    let mut world = World::new(&options());
    let mut client = client(id);
    connect(&mut world, &mut client, address(1));
    assert!(client.has_ids());
    world.events.clear();
    (world, client)
}

/// The record that a client makes of a payload.
fn record(client: &mut OpensslClient, payload: &[u8]) -> Vec<u8> {
    client.send(payload);
    let mut sent = client.take_sent();
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

fn moved(world: &mut World) -> SocketAddr {
    match world.events.pop_front() {
        Some(Output::Moved { to, .. }) => to.remote,
        other => panic!("not moved: {other:?}"),
    }
}

/// What the server sends to its only session goes to `to`.
fn assert_at(world: &mut World, client: &mut OpensslClient, to: SocketAddr) {
    world.send(to, b"down");
    let sent = world.take_sent(to);
    assert_eq!(sent.len(), 1, "nothing for {to}");
    client.handle_datagram(&sent[0]);
    assert_eq!(client.take_received(), [b"down"]);
}

#[test]
fn a_device_that_moves_goes_on() {
    for id in [&b""[..], b"c", b"ids may be long or short"] {
        for suites in ["PSK-AES128-CCM8", "PSK-AES128-CCM", "PSK-AES128-GCM-SHA256"] {
            let mut world = World::new(&options());
            let mut client = OpensslClient::new(ClientOptions {
                id: Some(id),
                suites,
                ..ClientOptions::default()
            });
            connect(&mut world, &mut client, address(1));
            assert_eq!(client.suite(), suites);
            world.events.clear();
            assert_talks(&mut world, &mut client, address(1));
            for n in 2..20 {
                client.pad(n as usize % 7);
                let sent = record(&mut client, b"up");
                assert_eq!(
                    (sent[0], sent.len() >= 13 + 8 + 8 + 3 + 8),
                    (TLS12_CID, true)
                );
                world.datagram(address(n), &sent);
                assert_eq!(moved(&mut world), address(n));
                assert_eq!(world.received(), Some((address(n), b"up".to_vec())));
                world.send(address(n), b"down");
                let down = world.take_sent(address(n));
                let expected = if id.is_empty() { 23 } else { TLS12_CID };
                assert_eq!(down[0][0], expected);
                client.handle_datagram(&down[0]);
                assert_eq!(client.take_received(), [b"down"]);
            }
            assert_eq!(world.counters.dtls_handshakes_completed.get(), 1);
            assert_eq!(world.server.sessions(), 1);
            client.close();
            exchange(&mut world, &mut client, address(19));
            assert_eq!(world.closed(), Some((address(19), CloseReason::Peer)));
        }
    }
}

#[test]
fn a_datagram_is_for_the_session_of_its_id_or_else_of_its_address() {
    let (world, mut client) = connected(b"");
    let session = world.server.session_at(address(1));
    assert!(session.is_some());
    let sent = record(&mut client, b"up");
    let of = |world: &World, n, datagram: &[u8]| world.server.session_of(address(n), datagram);
    assert_eq!(of(&world, 1, &sent), session);
    assert_eq!(of(&world, 2, &sent), session, "wherever it comes from");
    let mut other_id = sent.clone();
    other_id[11] ^= 1;
    assert_eq!(of(&world, 2, &other_id), None);
    assert_eq!(of(&world, 1, &other_id), session, "by its address");
    for end in 0..sent.len() {
        assert_eq!(of(&world, 2, &sent[..end]), None, "{end} bytes");
    }
}

#[test]
fn records_to_a_device_with_an_id_can_be_padded() {
    for (id, padding, lengths) in [
        (&b"dev"[..], 0, [2, 3, 101]),
        (b"dev", 64, [64, 64, 128]),
        (b"dev", 100, [100, 100, 200]),
        // It wants no id: its records have no room for zeros.
        (b"", 64, [1, 2, 100]),
    ] {
        let mut world = World::new(&Options {
            padding,
            ..options()
        });
        let mut client = client(id);
        connect(&mut world, &mut client, address(1));
        for (payload, inner) in [1, 2, 100].into_iter().zip(lengths) {
            world.send(address(1), &vec![7; payload]);
            let sent = world.take_sent(address(1));
            // Header, id, explicit nonce and tag of CCM_8.
            assert_eq!(sent[0].len(), 13 + id.len() + 8 + inner + 8);
            client.handle_datagram(&sent[0]);
            assert_eq!(client.take_received(), [vec![7; payload]]);
        }
    }
}

#[test]
fn a_replayed_or_older_record_moves_nobody() {
    let (mut world, mut client) = connected(b"");
    let (home, thief) = (address(1), address(66));
    let first = record(&mut client, b"first");
    let second = record(&mut client, b"second");
    world.datagram(home, &second);
    assert_eq!(world.received(), Some((home, b"second".to_vec())));
    // Captured on its way, and faster from elsewhere than the device: it is authentic, but older.
    world.datagram(thief, &first);
    assert_eq!(world.received(), Some((home, b"first".to_vec())));
    for replayed in [&first, &second] {
        world.datagram(thief, replayed);
        assert!(world.events.is_empty());
    }
    assert_at(&mut world, &mut client, home);
    assert_eq!(world.counters.dtls_moves.get(), 0);
}

#[test]
fn the_finished_of_the_handshake_moves_nobody() {
    let mut world = World::new(&options());
    let mut client = client(b"");
    let mut finished = Vec::new();
    let is_done = run_until(
        &mut world,
        &mut client,
        address(1),
        Network::default(),
        |world, client| {
            finished.extend(world.sent.iter().map(|(_, datagram)| datagram.clone()));
            client.is_connected()
        },
    );
    assert!(is_done);
    world.events.clear();
    // Neither as it was nor in front of the rest of its flight.
    client.take_sent();
    for datagram in finished {
        world.datagram(address(66), &datagram);
    }
    assert!(world.events.is_empty());
    assert_eq!(world.server.sessions(), 1);
    assert_talks(&mut world, &mut client, address(1));
}

#[test]
fn damaged_records_move_nobody_and_harm_nobody() {
    let (mut world, mut client) = connected(b"");
    let whole = record(&mut client, b"the whole payload");
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            world.datagram(address(66), &changed);
        }
        world.datagram(address(66), &whole[..at]);
    }
    assert!(world.events.is_empty());
    assert!(world.sent.is_empty(), "nobody is told anything");
    world.datagram(address(1), &whole);
    assert_eq!(
        world.received(),
        Some((address(1), b"the whole payload".to_vec()))
    );
}

#[test]
fn guessed_ids_cost_nothing() {
    let (mut world, mut client) = connected(b"");
    let real = record(&mut client, b"real");
    let before = world.counters.dtls_unknown_ids.get();
    for n in 0..10_000u64 {
        let mut guessed = real.clone();
        guessed[11..19].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        world.datagram(address(100 + (n % 50) as u32), &guessed);
    }
    assert!(world.events.is_empty() && world.sent.is_empty());
    assert_eq!(world.counters.dtls_unknown_ids.get() - before, 10_000);
    world.datagram(address(1), &real);
    assert_eq!(world.received(), Some((address(1), b"real".to_vec())));
}

#[test]
fn without_its_id_a_record_is_not_of_this_session() {
    let (mut world, mut client) = connected(b"");
    let with_id = record(&mut client, b"with an id");
    let mut without = with_id.clone();
    without[0] = 23;
    without.drain(11..19);
    world.datagram(address(1), &without);
    assert!(world.events.is_empty());
    assert_eq!(world.counters.dtls_records_dropped.get(), 1);
}

#[test]
fn devices_may_take_each_others_addresses() {
    let mut world = World::new(&options());
    world.keys.insert(b"a".to_vec(), KEY.to_vec());
    world.keys.insert(b"b".to_vec(), KEY.to_vec());
    let (mut a, mut b) = (named("a"), named("b"));
    connect(&mut world, &mut a, address(1));
    connect(&mut world, &mut b, address(2));
    world.events.clear();
    for (to_a, to_b) in [(2, 1), (3, 3), (1, 2)] {
        let (to_a, to_b) = (address(to_a), address(to_b));
        world.datagram(to_a, &record(&mut a, b"a"));
        assert_eq!(moved(&mut world), to_a);
        assert_eq!(world.received(), Some((to_a, b"a".to_vec())));
        world.datagram(to_b, &record(&mut b, b"b"));
        assert_eq!(moved(&mut world), to_b);
        assert_eq!(world.received(), Some((to_b, b"b".to_vec())));
    }
    assert_eq!(world.server.sessions(), 2);
    assert_eq!(world.counters.dtls_handshakes_completed.get(), 2);
    // A third one makes a handshake where one of them is: that one is somewhere else, perhaps.
    let mut c = OpensslClient::new(ClientOptions::default());
    connect(&mut world, &mut c, address(1));
    world.events.clear();
    world.datagram(address(9), &record(&mut a, b"still here"));
    assert_eq!(moved(&mut world), address(9));
    assert_eq!(world.received(), Some((address(9), b"still here".to_vec())));
    // A session without id is found by its address, and stays there whoever else comes.
    world.datagram(address(1), &record(&mut b, b"b"));
    world.events.clear();
    world.datagram(address(1), &record(&mut c, b"c"));
    assert_eq!(world.received(), Some((address(1), b"c".to_vec())));
    assert_eq!(world.server.sessions(), 3);
}

#[test]
fn a_handshake_from_the_address_replaces_a_session_when_it_is_complete() {
    let (mut world, mut old) = connected(b"");
    let mut new = client(b"");
    let hello = new.take_sent();
    world.datagram(address(1), &hello[0]);
    let verify = world.take_sent(address(1));
    new.handle_datagram(&verify[0]);
    let hello = new.take_sent();
    world.datagram(address(1), &hello[0]);
    world.take_sent(address(1));
    assert_eq!(world.server.handshakes(), 1);
    assert_talks(&mut world, &mut old, address(1));
    let mut new = client(b"");
    connect(&mut world, &mut new, address(1));
    assert!(world.events.iter().any(|event| matches!(
        event,
        Output::Closed {
            reason: CloseReason::Replaced,
            ..
        }
    )));
    world.events.clear();
    assert_talks(&mut world, &mut new, address(1));
    world.datagram(address(1), &record(&mut old, b"old"));
    assert!(world.events.is_empty());
}

#[test]
fn a_bad_network() {
    for seed in 0..20 {
        let mut world = World::new(&options());
        let mut client = client(if seed % 2 == 0 { b"" } else { b"id" });
        let network = Network {
            flip: 0,
            ..Network::bad(12, seed)
        };
        let done = run_until(&mut world, &mut client, address(1), network, |_, client| {
            client.is_connected() || client.has_failed()
        });
        assert!(
            done && client.is_connected(),
            "seed {seed}: {}",
            client.failure()
        );
        assert!(client.has_ids());
        client.take_sent();
        world.take_sent(address(1));
        // Until its first payload the server repeats its last flight; then payload passes.
        let mut n = 0;
        let done = run_until(&mut world, &mut client, address(1), network, |world, _| {
            n += 1;
            world
                .events
                .iter()
                .any(|event| matches!(event, Output::Received { .. }))
                || n > 2
        });
        assert!(done);
        world
            .events
            .retain(|event| matches!(event, Output::Established { .. }));
        assert_eq!(world.events.len(), 1, "seed {seed}");
        world.events.clear();
        let sent = record(&mut client, b"up");
        world.datagram(address(7), &sent);
        assert_eq!(moved(&mut world), address(7));
        assert_eq!(world.received(), Some((address(7), b"up".to_vec())));
    }
}

#[test]
fn the_server_repeats_its_finished_under_new_numbers() {
    let mut world = World::new(&options());
    let mut client = client(b"c");
    let at = address(1);
    // Everything but the server's last flight arrives, three times.
    let mut lost = Vec::new();
    let done = run_until(
        &mut world,
        &mut client,
        at,
        Network::default(),
        |world, _| world.server.sessions() == 1,
    );
    assert!(done);
    lost.extend(world.take_sent(at));
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(450));
        client.handle_timers();
        for datagram in client.take_sent() {
            world.datagram(at, &datagram);
        }
        lost.extend(world.take_sent(at));
    }
    assert!(lost.len() >= 3 && !client.is_connected());
    let mut numbers: Vec<u64> = lost
        .iter()
        .filter_map(|datagram| {
            let at = datagram.iter().position(|byte| *byte == TLS12_CID)?;
            Some(u64::from_be_bytes(
                datagram[at + 3..at + 11].try_into().unwrap(),
            ))
        })
        .collect();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "a number was used twice");
    client.handle_datagram(lost.last().unwrap());
    assert!(client.is_connected());
    world.events.clear();
    assert_talks(&mut world, &mut client, at);
}

#[test]
fn resumed_sessions_have_ids_too() {
    let (mut world, mut client) = connected(b"");
    let session = client.session();
    assert_talks(&mut world, &mut client, address(1));
    let mut again = OpensslClient::new(ClientOptions {
        id: Some(b""),
        session: Some(session),
        ..ClientOptions::default()
    });
    connect(&mut world, &mut again, address(2));
    assert_eq!(world.counters.dtls_handshakes_resumed.get(), 1);
    assert!(again.has_ids());
    world.events.clear();
    world.datagram(address(3), &record(&mut again, b"up"));
    assert_eq!(moved(&mut world), address(3));
}

#[test]
fn a_wrong_key_is_refused_as_ever() {
    let mut world = World::new(&options());
    let mut client = OpensslClient::new(ClientOptions {
        id: Some(b""),
        key: b"another key that is wrong".to_vec(),
        ..ClientOptions::default()
    });
    let done = run_until(
        &mut world,
        &mut client,
        address(1),
        Network::default(),
        |world, client| {
            client.has_failed()
                || world.server.handshakes() == 0 && world.counters.dtls_keys_failed.get() > 0
        },
    );
    assert!(done);
    assert_eq!(world.server.sessions(), 0);
    assert_eq!(world.counters.dtls_keys_failed.get(), 1);
}

#[test]
fn ids_can_be_switched_off_and_other_suites_have_none() {
    for (connection_ids, suites) in [
        (false, "PSK-AES128-CCM8"),
        (true, "ECDHE-PSK-CHACHA20-POLY1305"),
        (true, "ECDHE-PSK-AES128-CBC-SHA256"),
    ] {
        let mut world = World::new(&Options {
            connection_ids,
            ..options()
        });
        let mut client = OpensslClient::new(ClientOptions {
            id: Some(b""),
            suites,
            ..ClientOptions::default()
        });
        connect(&mut world, &mut client, address(1));
        assert!(!client.has_ids());
        world.events.clear();
        assert_talks(&mut world, &mut client, address(1));
    }
}

#[test]
fn a_record_finds_its_shard() {
    let context = Arc::new(Context::new(&options()).unwrap());
    let mut shards: Vec<_> = (0..4)
        .map(|shard| {
            let mut world = World::with_context(context.clone());
            world.server.set_shard(shard, 4);
            world
        })
        .collect();
    let mut client = client(b"");
    connect(&mut shards[2], &mut client, address(1));
    shards[2].events.clear();
    for other in [0, 1, 3] {
        let sent = record(&mut client, b"up");
        shards[other].datagram(address(7), &sent);
        let Some(Output::Elsewhere {
            shard,
            from,
            datagram,
        }) = shards[other].events.pop_front()
        else {
            panic!("not sent on");
        };
        assert_eq!((shard, from.remote, &datagram), (2, address(7), &sent));
        shards[2].datagram(address(7), &datagram);
        shards[2]
            .events
            .retain(|event| !matches!(event, Output::Moved { .. }));
        assert_eq!(shards[2].received(), Some((address(7), b"up".to_vec())));
    }
    // What was sent on to a shard that does not know it either ends there.
    let sent = record(&mut client, b"up");
    shards[2].close(address(7));
    shards[2].events.clear();
    shards[2].datagram(address(7), &sent);
    assert!(shards[2].events.is_empty());
}
