//! The account of memory at its ceiling: what is answered, what others can still do, and that
//! everything is given back.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Device, World};
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, Message};
use lwm2m_gateway::engine::{Decision, Peer};
use lwm2m_gateway::memory::{Kind, Shares};
use lwm2m_gateway::network::LocalAddress;

/// Longer than any lifetime, wait or memory of these tests.
const LONG: Duration = Duration::from_secs(400);

fn world(ceiling: usize) -> World {
    World::with(|config| config.limits.memory = Some(ceiling))
}

fn at(address: &str) -> Peer {
    let address: SocketAddr = address.parse().unwrap();
    Peer {
        listener: 0,
        local: LocalAddress::default(),
        address,
        session: 0,
    }
}

/// A Register with about `size` bytes of query; the device and the answer.
fn register(world: &mut World, endpoint: &str, from: Peer, size: usize) -> (Device, Message) {
    let mut device = Device::new(endpoint, 1);
    device.peer = from;
    let ep = format!("ep={endpoint}");
    let mut query = vec![ep, "lt=300".to_owned(), "lwm2m=1.1".to_owned()];
    query.extend((0..size / 100).map(|n| format!("q{n:02}={}", "x".repeat(95))));
    let query: Vec<&str> = query.iter().map(String::as_str).collect();
    let request = device
        .request(Code::POST, &["rd"], &query)
        .payload(*b"</1/0>,</3/0>");
    world.datagram(from, &request.build());
    let answer = match world.sent.pop_front() {
        Some((to, datagram)) if to == from => Message::parse(&datagram).unwrap(),
        other => panic!("no answer but {other:?}"),
    };
    if answer.code() == Code::CREATED {
        let segment = answer.option_values(option::LOCATION_PATH).nth(1).unwrap();
        device.location = String::from_utf8_lossy(segment).into_owned();
        world.next_published();
    }
    (device, answer)
}

/// Refused for want of memory, with a time to come back at.
#[track_caller]
fn assert_refused(answer: &Message) {
    let text = String::from_utf8_lossy(answer.payload());
    assert_eq!(answer.code(), Code::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.contains("limits.memory"), "{text}");
    let max_age = answer.uint_option(option::MAX_AGE, 4).unwrap();
    assert!((60..120).contains(&max_age), "{max_age}");
}

/// Time passes until nothing is left.
#[track_caller]
fn assert_all_given_back(world: &mut World) {
    audit(world);
    world.pass(LONG);
    audit(world);
    assert!(world.directory.is_empty());
    for kind in Kind::ALL {
        assert_eq!(world.memory.used(kind), 0, "{kind:?}");
    }
}

#[track_caller]
fn audit(world: &World) {
    for engine in &world.engines {
        for (kind, charged, counted) in engine.audit() {
            assert_eq!(charged, counted, "{kind:?}");
        }
    }
}

#[test]
fn c3_registrations_end_at_their_share_and_nobody_is_thrown_out() {
    let mut world = world(2 << 20);
    let limit = world.memory.limit(Kind::Registrations);
    let (mut first, answer) = register(&mut world, "first", at("192.0.2.1:5683"), 0);
    assert_eq!(answer.code(), Code::CREATED);
    let mut registered = 1;
    let mut size = 3000;
    let refused = loop {
        // Each from an address of its own.
        let address = format!("198.51.{}.{}:5683", registered / 250, registered % 250);
        let endpoint = format!("flood{registered}");
        let (_, answer) = register(&mut world, &endpoint, at(&address), size);
        match answer.code() {
            Code::CREATED => registered += 1,
            // Small ones still fit.
            _ if size > 0 => size = 0,
            _ => break answer,
        }
        assert!(world.memory.used(Kind::Registrations) <= limit);
    };
    assert_refused(&refused);
    assert!(registered > limit / 6000, "{registered} in {limit} bytes");
    assert_eq!(world.engines[0].len(), registered);
    assert_eq!(world.counter("register_refused"), 2);
    audit(&world);

    // Who is there goes on: Updates that do not grow, commands, Registers anew.
    assert_eq!(first.update(&mut world, &["lt=200"], ""), Code::CHANGED);
    let long: Vec<_> = (0..18)
        .map(|n| format!("x{n}={}", "y".repeat(195)))
        .collect();
    let mut long: Vec<&str> = long.iter().map(String::as_str).collect();
    long.push("lt=100");
    let code = first.update(&mut world, &long, "");
    assert_eq!(code, Code::SERVICE_UNAVAILABLE, "growth is refused");
    assert_eq!(first.update(&mut world, &[], ""), Code::CHANGED);
    let info = world.engines[0].device_info(world.now, "first").unwrap();
    assert_eq!(info.lifetime, 200, "all of an Update applies or nothing");
    world.command(
        "first",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#,
    );
    let request = world.next_for(first.peer);
    let answer = first.answer(&request, Code::CONTENT).payload(*b"x").build();
    world.datagram(first.peer, &answer);
    assert_eq!(world.next_published().json["data"]["code"], "2.05");
    first.register(&mut world, &[], "</1/0>");
    world.next_published();

    assert_all_given_back(&mut world);
    let (_, answer) = register(&mut world, "late", at("192.0.2.7:5683"), 3000);
    assert_eq!(answer.code(), Code::CREATED);
    assert_all_given_back(&mut world);
}

#[test]
fn c3_one_source_has_half_of_the_registrations_at_most() {
    for (flood, honest) in [
        ("192.0.2.1", "192.0.2.2"),
        ("[2001:db8::$]", "[2001:db8:0:1::1]"),
    ] {
        let mut world = world(2 << 20);
        let limit = world.memory.limit(Kind::Registrations);
        let mut last = None;
        for number in 0..1000 {
            let address = flood.replace('$', &format!("{number:x}"));
            let peer = at(&format!("{address}:{}", 1000 + number));
            let (_, answer) = register(&mut world, &format!("flood{number}"), peer, 1000);
            if answer.code() != Code::CREATED {
                last = Some(answer);
                break;
            }
        }
        assert_refused(&last.unwrap());
        let used = world.memory.used(Kind::Registrations);
        // Within what one registration takes.
        let half = limit / 2 - 4000;
        assert!((half..limit / 3 * 2).contains(&used), "{used} {limit}");
        for number in 0..10 {
            let peer = at(&format!("{honest}:{}", 2000 + number));
            let (_, answer) = register(&mut world, &format!("honest{number}"), peer, 1000);
            assert_eq!(answer.code(), Code::CREATED);
        }
        assert_all_given_back(&mut world);
    }
}

#[test]
fn a_lowered_ceiling_drops_nothing() {
    let mut world = world(4 << 20);
    let mut devices = Vec::new();
    for number in 0..100 {
        let peer = at(&format!("192.0.2.{number}:5683"));
        let (device, answer) = register(&mut world, &format!("ep{number}"), peer, 1000);
        assert_eq!(answer.code(), Code::CREATED);
        devices.push(device);
    }
    world.memory.set_shares(Shares::new(1 << 17, true));
    for device in &mut devices {
        assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    }
    let (_, answer) = register(&mut world, "new", at("198.51.100.1:5683"), 0);
    assert_refused(&answer);
    world.memory.set_shares(Shares::new(4 << 20, true));
    let (_, answer) = register(&mut world, "newer", at("198.51.100.2:5683"), 0);
    assert_eq!(answer.code(), Code::CREATED);
    assert_all_given_back(&mut world);
}

fn write(id: usize, size: usize) -> String {
    let value = "v".repeat(size);
    format!(
        r#"{{"reqID":{id},"msgType":"write","data":{{"path":"/3/0/15","type":"String","value":"{value}"}}}}"#
    )
}

#[test]
fn commands_beyond_the_share_of_queues_are_answered() {
    let mut world = World::with(|config| {
        config.limits.memory = Some(1 << 20);
        config.queue.max_commands = 1000;
    });
    let mut greedy = Device::new("greedy", 5000);
    let mut other = Device::new("other", 5001);
    for device in [&mut greedy, &mut other] {
        device.register(&mut world, &["b=UQ"], "</3/0>");
        world.next_published();
    }
    world.pass(Duration::from_secs(100));
    let limit = world.memory.limit(Kind::Queues);
    let mut waiting = 0;
    let refused = loop {
        world.command("greedy", &write(waiting, 1000));
        if let Some(answer) = world.published.pop_front() {
            break answer;
        }
        waiting += 1;
    };
    assert_eq!(refused.json["reqID"], waiting);
    assert_eq!(refused.json["data"]["code"], "5.03");
    assert_eq!(refused.json["data"]["reason"], "memory_full");
    let detail = refused.json["data"]["detail"].as_str().unwrap();
    assert!(detail.contains("limits.memory"), "{detail}");
    let used = world.memory.used(Kind::Queues);
    assert!(
        (limit / 5 * 2..limit).contains(&used),
        "one device: {used} of {limit}"
    );
    audit(&world);

    world.command("other", &write(5000, 1000));
    assert!(world.published.is_empty(), "another one still has room");
    assert_eq!(other.update(&mut world, &[], ""), Code::CHANGED);
    let request = world.next_for(other.peer);
    let answer = other.answer(&request, Code::CHANGED).build();
    world.datagram(other.peer, &answer);
    assert_eq!(world.next_published().json["reqID"], 5000);

    world.kick("greedy");
    let answered = world.published.drain(..);
    assert_eq!(answered.count(), waiting, "none is lost");
    assert_all_given_back(&mut world);
}

#[test]
fn b9_what_is_remembered_of_resources_is_bounded_and_charged() {
    let mut world = world(1 << 20);
    let mut device = Device::registered(&mut world, "dev", 5000);
    let before = world.memory.used(Kind::Registrations);
    let read = |world: &mut World, resource: u8, value: &[u8]| {
        let path = format!("/40000/0/{resource}");
        let json = format!(r#"{{"reqID":1,"msgType":"read","data":{{"path":"{path}"}}}}"#);
        world.command("dev", &json);
        let request = world.next_for(device.peer);
        let payload = [&[0xc0 | value.len() as u8, resource], value].concat();
        let answer = device
            .answer(&request, Code::CONTENT)
            .uint(option::CONTENT_FORMAT, 11542)
            .payload(payload);
        world.datagram(device.peer, &answer.build());
        let content = world.next_published().json["data"]["content"].clone();
        audit(world);
        content[0]["value"].clone()
    };
    assert_eq!(read(&mut world, 0, b"off"), "off");
    assert_eq!(read(&mut world, 0, b"on"), "on", "it has shown itself");
    assert!(world.memory.used(Kind::Registrations) > before);
    for resource in 1..100 {
        read(&mut world, resource, b"off");
    }
    let taken = world.memory.used(Kind::Registrations) - before;
    assert!(taken < 1000, "{taken} bytes");
    assert_eq!(read(&mut world, 99, b"on"), 0x6f6e, "one too many");

    device.register(&mut world, &[], "</3/0>");
    world.next_published();
    audit(&world);
    assert_all_given_back(&mut world);
}

#[test]
fn observations_and_answers_beyond_their_share_are_refused() {
    let mut world = World::with(|config| {
        config.limits.memory = Some(1 << 20);
        config.limits.max_observations = 1000;
    });
    let device = Device::registered(&mut world, "ep", 5000);
    let limit = world.memory.limit(Kind::Observations);
    let filler = "f".repeat(2000);
    let mut observed = 0;
    let refused = loop {
        let json = format!(
            r#"{{"reqID":{observed},"filler":"{filler}","msgType":"observe","data":{{"path":"/3303/{observed}"}}}}"#
        );
        world.command("ep", &json);
        let Some((_, datagram)) = world.sent.pop_front() else {
            break world.next_published();
        };
        let request = Message::parse(&datagram).unwrap();
        let answer = device.answer(&request, Code::CONTENT);
        let answer = answer.uint(option::OBSERVE, 1).payload(*b"1").build();
        world.datagram(device.peer, &answer);
        world.next_published();
        observed += 1;
    };
    assert_eq!(refused.json["data"]["reason"], "memory_full");
    let used = world.memory.used(Kind::Observations);
    assert!((limit / 5 * 2..=limit).contains(&used), "{used} of {limit}");
    audit(&world);
    assert!(observed > 10);

    // Another device still reads; an answer that is too large for what is left is refused.
    let other = Device::registered(&mut world, "other", 5001);
    world.command(
        "other",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3303"}}"#,
    );
    let answer = loop {
        let Some((_, datagram)) = world.sent.pop_front() else {
            break world.next_published();
        };
        let request = Message::parse(&datagram).unwrap();
        let block = request.uint_option(option::BLOCK2, 3).unwrap_or(6) | 8;
        let answer = other.answer(&request, Code::CONTENT);
        let answer = answer.uint(option::BLOCK2, block).payload([b'x'; 1024]);
        world.datagram(other.peer, &answer.build());
    };
    assert_eq!(answer.json["data"]["code"], "5.03");
    assert_eq!(answer.json["data"]["reason"], "memory_full");
    audit(&world);
    assert_all_given_back(&mut world);
}

#[test]
fn c7_registers_that_wait_for_the_host_are_bounded_by_bytes_and_source() {
    let mut world = World::authorized();
    world.memory.set_shares(Shares::new(4 << 20, true));
    let limit = world.memory.limit(Kind::Waiting);
    let send = |world: &mut World, endpoint: &str, from: Peer| {
        let mut device = Device::new(endpoint, 1);
        let ep = format!("ep={endpoint}");
        let request = device.request(Code::POST, &["rd"], &[&ep, "lt=300"]);
        world.datagram(
            from,
            &request.payload("</3/0>,".repeat(100) + "</1>").build(),
        );
        let answer = world.sent.pop_front();
        answer.map(|(_, datagram)| Message::parse(&datagram).unwrap())
    };
    let mut waiting = 0;
    let refused = loop {
        let from = at(&format!("192.0.2.1:{}", 1000 + waiting));
        if let Some(answer) = send(&mut world, &format!("flood{waiting}"), from) {
            break answer;
        }
        waiting += 1;
    };
    assert_refused(&refused);
    let used = world.memory.used(Kind::Waiting);
    assert!(
        (limit / 5 * 2..limit / 4 * 3).contains(&used),
        "{used} of {limit}"
    );
    audit(&world);
    let honest = at("192.0.2.2:5683");
    assert!(send(&mut world, "honest", honest).is_none(), "it waits");
    let id = world.asked.pop_back().unwrap();
    world.asked.push_front(id);
    world.decide(Decision::Allow { mountpoint: None });
    let (to, datagram) = world.sent.pop_front().unwrap();
    assert_eq!(to, honest);
    assert_eq!(Message::parse(&datagram).unwrap().code(), Code::CREATED);

    world.pass(Duration::from_secs(16));
    assert_eq!(
        world.sent.len(),
        waiting,
        "each is told that nobody answered"
    );
    assert_eq!(world.memory.used(Kind::Waiting), 0);
    assert_all_given_back(&mut world);
}
