//! Registers that wait for a host that is slow or silent: bounded, fair, and cheap for the others.

#![allow(clippy::expect_used)] // a test

use std::net::SocketAddr;
use std::time::Duration;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{Decision, Peer};
use lwm2m_gateway::network::LocalAddress;

use crate::support::World;

/// Registers that wait at most.
const PLACES: usize = 65_536;

fn peer(address: impl Into<SocketAddr>) -> Peer {
    Peer {
        listener: 0,
        local: LocalAddress::default(),
        address: address.into(),
        session: 0,
    }
}

/// A peer with an address of its own.
fn stranger(number: u32) -> Peer {
    peer((number.to_be_bytes(), 5683))
}

fn register(world: &mut World, from: Peer, mid: u16) {
    let datagram = Builder::new(MessageType::Confirmable, Code::POST, mid, &[1])
        .option(option::URI_PATH, *b"rd")
        .option(option::URI_QUERY, format!("ep={}-{mid}", from.address))
        .option(option::URI_QUERY, "lt=300")
        .payload("</3/0>")
        .build();
    world.datagram(from, &datagram);
}

fn codes(world: &mut World) -> Vec<Code> {
    let sent = world.sent.drain(..);
    sent.map(|(_, datagram)| Message::parse(&datagram).expect("well-formed").code())
        .collect()
}

#[test]
fn c7_sixty_thousand_registers_wait_and_answered_ones_leave_nothing() {
    let mut world = World::authorized();
    for number in 0..60_000 {
        register(&mut world, stranger(0x0a00_0000 + number), 1);
    }
    let load = world.engines[0].load();
    assert_eq!((load.pending, load.authorizations), (60_000, 60_000));
    assert!(codes(&mut world).is_empty());

    // The host wakes up for half of them.
    for _ in 0..30_000 {
        let reason = "no such device".to_owned();
        world.decide(Decision::Deny { reason });
    }
    let load = world.engines[0].load();
    assert_eq!((load.pending, load.authorizations), (30_000, 30_000));
    assert_eq!(codes(&mut world), vec![Code::FORBIDDEN; 30_000]);

    // The others are answered when their time is over.
    world.pass(Duration::from_secs(15));
    assert_eq!(codes(&mut world), vec![Code::SERVICE_UNAVAILABLE; 30_000]);
    let load = world.engines[0].load();
    assert_eq!((load.pending, load.authorizations), (0, 0));
    assert_eq!(load.timers, 0);
}

#[test]
fn c7_a_host_that_answers_at_once_leaves_nothing_to_expire() {
    let mut world = World::authorized();
    for number in 0..2_000 {
        register(&mut world, stranger(0x0a00_0000 + number), 1);
        world.decide(Decision::Unavailable);
        let load = world.engines[0].load();
        assert_eq!((load.pending, load.authorizations), (0, 0));
    }
}

#[test]
fn c7_one_source_leaves_places_for_others() {
    let mut world = World::authorized();
    let flood = |port: u16| peer(([192, 0, 2, 1], port));
    let refused = 200;
    for port in 0..(PLACES / 2 + refused) as u16 {
        register(&mut world, flood(port), 1);
    }
    assert_eq!(world.asked.len(), PLACES / 2);
    assert_eq!(codes(&mut world), vec![Code::SERVICE_UNAVAILABLE; refused]);
    assert_eq!(world.counter("register_refused"), refused as u64);

    // An honest device is asked about.
    register(&mut world, stranger(0x0a00_0001), 1);
    assert_eq!(world.asked.len(), PLACES / 2 + 1);
    assert!(codes(&mut world).is_empty());

    // As is the source again, once the host has said something.
    world.decide(Decision::Unavailable);
    world.sent.clear();
    register(&mut world, flood(1), 2);
    assert!(codes(&mut world).is_empty());
}
