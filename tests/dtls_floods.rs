//! Floods at a DTLS server, measured by what they make it do: bytes out for bytes in, memory for
//! records.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, unsafe_code)]

#[path = "support/dtls.rs"]
#[allow(missing_docs)]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use lwm2m_gateway::dtls::{CloseReason, Options, Output};
use support::{
    Client, ClientOptions, OpensslClient, World, address, assert_talks, connect, exchange,
};

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Counts the bytes that each thread takes.
struct Counting;

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() + layout.size()));
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn openssl() -> OpensslClient {
    OpensslClient::new(ClientOptions::default())
}

/// Without repetitions of the server's flights between.
fn slow() -> Options {
    Options {
        retransmit_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

/// A hello with its cookie.
fn hello(world: &mut World, at: SocketAddr) -> (OpensslClient, Vec<u8>) {
    let mut client = openssl();
    exchange(world, &mut client, at);
    let hello = client.take_sent().pop().unwrap();
    (client, hello)
}

fn bytes_sent(world: &mut World, to: SocketAddr) -> usize {
    world.take_sent(to).iter().map(Vec::len).sum()
}

#[test]
fn a_cookie_that_is_replayed_begins_one_handshake_and_is_answered_once() {
    let mut world = World::new(&slow());
    let at = address(1);
    let (_, hello) = hello(&mut world, at);
    for _ in 0..10_000 {
        world.datagram(at, &hello);
    }
    assert_eq!(world.server.handshakes(), 1);
    assert_eq!(world.counters.dtls_handshakes_started.get(), 1);
    let sent = bytes_sent(&mut world, at);
    assert!(sent < 3 * hello.len(), "{sent} for {}", hello.len());
    assert!(world.counters.dtls_records_dropped.get() > 9000);
}

#[test]
fn a_handshake_that_is_left_alone_sends_a_few_flights() {
    let mut world = World::new(&Options {
        retransmit_timeout: Duration::from_millis(20),
        ..Options::default()
    });
    let at = address(1);
    let (_, hello) = hello(&mut world, at);
    world.datagram(at, &hello);
    let flight = bytes_sent(&mut world, at);
    let mut sent = flight;
    while world.server.handshakes() > 0 {
        std::thread::sleep(Duration::from_millis(50));
        world.pass(Duration::from_secs(1));
        sent += bytes_sent(&mut world, at);
    }
    // From 20 ms on, doubled each time: in 15 s of the server's clock and one of OpenSSL's.
    assert!(sent <= 8 * flight, "{sent} of {flight}");
}

#[test]
fn a_replayed_cookie_does_not_disturb_the_session_that_it_began() {
    let mut world = World::new(&slow());
    let at = address(1);
    let (mut client, hello) = hello(&mut world, at);
    world.datagram(at, &hello);
    connect(&mut world, &mut client, at);
    world.events.clear();
    for _ in 0..1000 {
        world.datagram(at, &hello);
    }
    assert_eq!((world.server.handshakes(), world.sent.len()), (0, 0));
    assert_talks(&mut world, &mut client, at);
}

/// One record of a handshake with this many fragments of a ClientKeyExchange.
fn fragments(count: u8, length: u8) -> Vec<u8> {
    let mut body = Vec::new();
    for n in 0..count {
        body.extend([16, 0, 0, 200, 0, 2, 0, 0, n, 0, 0, length]);
        body.extend(vec![0; usize::from(length)]);
    }
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, length[0], length[1]];
    record.extend(body);
    record
}

#[test]
fn a_handshake_message_in_crumbs_is_not_put_together() {
    let mut world = World::new(&slow());
    let at = address(1);
    let (mut client, hello) = hello(&mut world, at);
    world.datagram(at, &hello);
    world.datagram(at, &fragments(100, 0));
    world.datagram(at, &fragments(100, 1));
    assert_eq!(world.counters.dtls_records_dropped.get(), 2);
    // Another message than a client has, one that is too long, one too late, and none at all.
    for (index, value) in [(13, 11), (15, 64), (18, 3), (24, 200)] {
        let mut record = fragments(1, 8);
        record[index] = value;
        world.datagram(at, &record);
    }
    assert_eq!(world.counters.dtls_records_dropped.get(), 6);
    // Payload and ChangeCipherSpecs in the clear that no client sends.
    world.datagram(at, &[23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 1]);
    world.datagram(at, &[20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 2]);
    assert_eq!(world.counters.dtls_records_dropped.get(), 8);
    connect(&mut world, &mut client, at);
}

/// What a datagram of `count` records with a byte each makes the server take.
fn taken_by_small_records(count: usize) -> usize {
    let mut world = World::new(&slow());
    let at = address(1);
    let mut client = openssl();
    connect(&mut world, &mut client, at);
    world.events.clear();
    world.events.reserve(1000);
    // The buffers that are kept.
    client.send(b"x");
    let mut warm = client.take_sent().remove(0);
    client.send(b"x");
    warm.extend(client.take_sent().remove(0));
    warm.resize(16_384, 0);
    world.datagram(at, &warm);
    let mut datagram = Vec::new();
    for _ in 0..count {
        client.send(b"x");
        datagram.extend(client.take_sent().remove(0));
    }
    let before = TAKEN.get();
    world.datagram(at, &datagram);
    let taken = TAKEN.get() - before;
    assert_eq!(world.events.len(), count + 2);
    taken
}

#[test]
fn many_small_records_cost_what_they_are() {
    let (few, many) = (taken_by_small_records(250), taken_by_small_records(500));
    assert!(many < 128 * 1024, "{many}");
    assert!(many <= few * 22 / 10 + 4096, "{few} {many}");
}

#[test]
fn records_of_another_epoch_never_reach_a_session() {
    let mut world = World::new(&slow());
    let at = address(1);
    let mut client = openssl();
    connect(&mut world, &mut client, at);
    world.events.clear();
    let mut datagram = Vec::new();
    for _ in 0..1000 {
        datagram.extend([23, 0xfe, 0xfd, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
    for _ in 0..100 {
        world.datagram(at, &datagram);
    }
    assert_eq!(world.counters.dtls_records_dropped.get(), 100);
    assert_talks(&mut world, &mut client, at);
}

#[test]
fn alerts_of_the_peer_cost_him_his_own_session_at_most() {
    let mut world = World::new(&slow());
    let mut other = openssl();
    connect(&mut world, &mut other, address(2));
    let at = address(1);
    let mut client = openssl();
    connect(&mut world, &mut client, at);
    world.events.clear();
    // In the clear, warnings and fatal ones, to the session and to nobody.
    for n in 0..10_000u16 {
        let [high, low] = n.to_be_bytes();
        let level = 1 + (n % 2) as u8;
        let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 1, high, low, 0, 2, level, 90];
        world.datagram(at, &alert);
        world.datagram(address(3), &alert);
    }
    assert!(world.sent.is_empty());
    assert_eq!(world.counters.dtls_unknown_peer.get(), 10_000);
    assert_talks(&mut world, &mut client, at);
    // Requests to negotiate again, each answered by one warning at most.
    let mut answers = 0;
    for _ in 0..100 {
        client.renegotiate();
        for datagram in client.take_sent() {
            world.datagram(at, &datagram);
            answers += bytes_sent(&mut world, at) / 20;
        }
    }
    assert!(answers <= 200, "{answers}");
    let ended: Vec<_> = world.events.drain(..).collect();
    assert!(ended.iter().all(|event| matches!(
        event,
        Output::Closed { peer, reason: CloseReason::Failed | CloseReason::Peer, .. } if *peer == at
    )));
    assert_talks(&mut world, &mut other, address(2));
}
