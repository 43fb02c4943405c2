//! Identities of DTLS sessions and the host's word on registrations, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Device, World, peer, uri};
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, MessageType};
use lwm2m_gateway::engine::{
    CommandInput, Decision, DeviceEvent, GoneReason, Load, PageRequest, Peer,
};
use lwm2m_gateway::host::ReplyTo;

const OBSERVE: &str = r#"{"reqID":1,"msgType":"observe","data":{"path":"/3/0/9"}}"#;

/// A device on a DTLS session of its own.
fn secured(world: &mut World, shard: usize, endpoint: &str, port: u16, identity: &str) -> Device {
    let mut device = Device::new(endpoint, port);
    device.peer.session = u32::from(port);
    world.session(shard, device.peer, identity, identity);
    device
}

fn session(port: u16, session: u32) -> Peer {
    Peer {
        session,
        ..peer(port)
    }
}

fn register_code(world: &mut World, shard: usize, device: &mut Device) -> Code {
    let ep = format!("ep={}", device.endpoint);
    let request = device
        .request(Code::POST, &["rd"], &[&ep, "lt=300", "lwm2m=1.1"])
        .payload("</3/0>")
        .build();
    world.datagram_at(shard, device.peer, &request);
    let answer = world.next_for(device.peer);
    if let Some(location) = answer.option_values(option::LOCATION_PATH).nth(1) {
        device.location = String::from_utf8_lossy(location).into_owned();
    }
    answer.code()
}

fn update_code(world: &mut World, shard: usize, device: &mut Device) -> Code {
    let location = device.location.clone();
    let request = device.request(Code::POST, &["rd", &location], &[]).build();
    world.datagram_at(shard, device.peer, &request);
    world.next_for(device.peer).code()
}

#[test]
fn a_device_is_shown_where_its_session_is() {
    let mut world = World::sharded(1, |_| {});
    let mut device = secured(&mut world, 0, "ep", 5001, "a");
    assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
    let elsewhere = peer(5009).address;
    world.engines[0].note_address(device.peer, elsewhere);
    let detail = world.engines[0].detail(world.now, "ep").unwrap();
    assert_eq!(detail.state.info.peer, elsewhere);
    let listed = PageRequest {
        after: None,
        filter: Arc::default(),
        limit: 10,
    };
    let page = world.engines[0].page(world.now, &listed);
    assert_eq!(page.devices[0].info.peer, elsewhere);
    // To the engine it is the same peer.
    assert_eq!(detail.peer, device.peer);
}

#[test]
fn a_registration_belongs_to_its_identity() {
    for shards in [1, 2] {
        let mut world = World::sharded(shards, |_| {});
        let last = usize::from(shards) - 1;
        let mut device = secured(&mut world, 0, "ep", 5001, "a");
        assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
        world.published.clear();

        // Another identity, and none at all: neither Register, Update nor De-register.
        let mut other = secured(&mut world, last, "ep", 5002, "b");
        let mut plain = Device::new("ep", 5003);
        for (thief, code) in [(&mut other, Code::FORBIDDEN), (&mut plain, Code::FORBIDDEN)] {
            thief.location = device.location.clone();
            assert_eq!(register_code(&mut world, last, thief), Code::FORBIDDEN);
            assert_eq!(update_code(&mut world, last, thief), Code::FORBIDDEN);
            let request = thief
                .request(Code::DELETE, &["rd", &device.location], &[])
                .build();
            world.datagram_at(last, thief.peer, &request);
            assert_eq!(world.next_for(thief.peer).code(), code);
        }
        world.assert_quiet();
        assert_eq!(update_code(&mut world, 0, &mut device), Code::CHANGED);
        assert_eq!(world.counter("identity_refused"), 6);
    }
}

#[test]
fn a_new_suffix_may_register_but_not_update() {
    let mut world = World::new();
    let mut first = Device::new("ep", 5001);
    first.peer.session = 1;
    world.session(0, first.peer, "key#1", "key");
    assert_eq!(register_code(&mut world, 0, &mut first), Code::CREATED);
    let mut second = Device::new("ep", 5002);
    second.peer.session = 2;
    world.session(0, second.peer, "key#2", "key");
    assert!(world.disconnected.is_empty(), "two identities");
    second.location = first.location.clone();
    assert_eq!(update_code(&mut world, 0, &mut second), Code::FORBIDDEN);
    assert_eq!(register_code(&mut world, 0, &mut second), Code::CREATED);
    assert_eq!(update_code(&mut world, 0, &mut second), Code::CHANGED);
}

#[test]
fn a_newer_connection_displaces_and_takes_the_registration_along() {
    for shards in [1, 2, 3] {
        let mut world = World::sharded(shards, |_| {});
        let last = usize::from(shards) - 1;
        let mut device = secured(&mut world, 0, "ep", 5001, "a");
        assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
        world.published.clear();
        // An observation, and a request under way.
        let observe = device.observed(&mut world, OBSERVE, "50");
        assert_eq!(world.next_published().json["msgType"], "observe");
        world.command(
            "ep",
            r#"{"reqID":2,"msgType":"read","data":{"path":"/3/0/0"}}"#,
        );
        assert_eq!(uri(&world.next_for(device.peer)), "/3/0/0");

        let old = device.peer;
        device.peer = session(6001, 77);
        world.session(last, device.peer, "a", "a");
        assert_eq!(world.disconnected, [old]);
        world.session_closed(0, old);
        // The request is repeated, to the new address.
        world.pass(Duration::from_secs(4));
        let read = world.next_for(device.peer);
        assert_eq!(uri(&read), "/3/0/0");
        let answer = device.answer(&read, Code::CONTENT).payload("x").build();
        world.datagram_at(last, device.peer, &answer);
        assert_eq!(world.next_published().json["msgType"], "read");
        // The observation goes on, and the registration too.
        let notify = device
            .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
            .uint(option::OBSERVE, 2)
            .payload("51");
        world.datagram_at(last, device.peer, &notify.build());
        assert_eq!(world.next_published().json["msgType"], "notify");
        assert_eq!(update_code(&mut world, last, &mut device), Code::CHANGED);
        world.assert_quiet();
        assert_eq!(world.directory.len(), 1);
    }
}

#[test]
fn a_registration_waits_for_the_next_connection() {
    let mut world = World::sharded(2, |_| {});
    let mut device = secured(&mut world, 0, "ep", 5001, "a");
    assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
    world.session_closed(0, device.peer);
    world.pass(Duration::from_secs(60));
    device.peer = session(6001, 78);
    world.session(1, device.peer, "a", "a");
    assert!(world.disconnected.is_empty());
    assert_eq!(update_code(&mut world, 1, &mut device), Code::CHANGED);
    // Nothing of it is left in the end.
    world.session_closed(1, device.peer);
    world.pass(Duration::from_secs(1000));
    world.pass(Duration::from_secs(1000));
    assert!(world.directory.is_empty());
    for engine in &world.engines {
        let load = engine.load();
        let rest = Load {
            replies: load.replies,
            departed: load.departed,
            ..Load::default()
        };
        assert_eq!(load, rest);
    }
}

#[test]
fn two_moves_at_once_end_at_the_newest_connection() {
    let mut world = World::sharded(3, |_| {});
    let mut device = secured(&mut world, 0, "ep", 5001, "a");
    assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
    world.hold_handoffs = true;
    world.session(1, session(5002, 2), "a", "a");
    world.session(2, session(5003, 3), "a", "a");
    // Shard 1 hears of the third connection before it has the device.
    assert!(world.hand_over(1));
    for _ in 0..3 {
        for shard in 0..3 {
            while world.hand_over(shard) {}
        }
    }
    world.hold_handoffs = false;
    assert_eq!(world.directory.shard_of("ep"), Some(2));
    device.peer = session(5003, 3);
    assert_eq!(update_code(&mut world, 2, &mut device), Code::CHANGED);
}

/// Until nothing is left in the mailboxes.
fn deliver(world: &mut World) {
    while (0..world.engines.len()).any(|shard| world.hand_over(shard)) {}
    world.hold_handoffs = false;
}

#[test]
fn what_a_new_connection_says_waits_for_its_registration() {
    let mut world = World::sharded(2, |_| {});
    let mut device = secured(&mut world, 0, "ep", 5001, "a");
    assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
    world.published.clear();
    let observe = device.observed(&mut world, OBSERVE, "50");
    assert_eq!(world.next_published().json["msgType"], "observe");

    world.hold_handoffs = true;
    device.peer = session(6001, 77);
    world.session(1, device.peer, "a", "a");
    let notify = device
        .separate(MessageType::Confirmable, &observe, Code::CONTENT)
        .uint(option::OBSERVE, 2)
        .payload("51")
        .build();
    let send = device
        .request(Code::POST, &["dp"], &[])
        .uint(option::CONTENT_FORMAT, 110)
        .payload(r#"[{"n":"/3/0/9","v":52}]"#)
        .build();
    let location = device.location.clone();
    let goodbye = device
        .request(Code::DELETE, &["rd", &location], &[])
        .build();
    for datagram in [&notify, &send, &goodbye] {
        world.datagram_at(1, device.peer, datagram);
    }
    world.assert_quiet();
    deliver(&mut world);
    let ack = world.next_for(device.peer);
    assert_eq!(
        (ack.kind(), ack.code()),
        (MessageType::Acknowledgement, Code::EMPTY)
    );
    assert_eq!(world.next_for(device.peer).code(), Code::CHANGED);
    assert_eq!(world.next_for(device.peer).code(), Code::DELETED);
    assert_eq!(world.next_published().json["msgType"], "notify");
    assert_eq!(world.next_published().json["msgType"], "send");
    assert_eq!(world.engines[1].load().arrivals, 0);
}

#[test]
fn messages_wait_for_a_registration_that_is_passed_on() {
    // The last two connections in every order of shards, and every order of delivery.
    for shards in [[1, 2], [1, 0], [1, 1], [0, 1], [0, 0]] {
        for first in 0..3 {
            let mut world = World::sharded(3, |_| {});
            let mut device = secured(&mut world, 0, "ep", 5001, "a");
            assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
            world.hold_handoffs = true;
            for (number, shard) in (2..).zip(shards) {
                device.peer = session(5000, number);
                world.session(shard, device.peer, "a", "a");
            }
            let location = device.location.clone();
            let update = device.request(Code::POST, &["rd", &location], &[]).build();
            world.datagram_at(shards[1], device.peer, &update);
            world.hand_over(first);
            deliver(&mut world);
            assert_eq!(world.next_for(device.peer).code(), Code::CHANGED);
            let at = u16::try_from(shards[1]).unwrap();
            assert_eq!(world.directory.shard_of("ep"), Some(at));
            let left: usize = world.engines.iter().map(|it| it.load().arrivals).sum();
            assert_eq!(left, 0);
        }
    }
}

#[test]
fn nothing_waits_for_a_shard_that_is_silent() {
    let mut world = World::sharded(2, |_| {});
    let mut device = secured(&mut world, 0, "ep", 5001, "a");
    assert_eq!(register_code(&mut world, 0, &mut device), Code::CREATED);
    world.published.clear();
    world.hold_handoffs = true;
    device.peer = session(6001, 77);
    world.session(1, device.peer, "a", "a");
    let send = device.request(Code::POST, &["dp"], &[]).build();
    world.datagram_at(1, device.peer, &send);
    world.assert_quiet();
    world.pass(Duration::from_secs(11));
    assert_eq!(world.next_for(device.peer).code(), Code::NOT_FOUND);
    assert_eq!(world.engines[1].load().arrivals, 0);
}

#[test]
fn the_host_decides_about_registrations() {
    let mut world = World::authorized();
    let mut device = Device::new("ep", 5001);
    let request = device
        .request(
            Code::POST,
            &["rd"],
            &["ep=ep", "lt=300", "lwm2m=1.1", "imei=7", "password=x"],
        )
        .payload("</3/0>")
        .build();
    world.datagram(device.peer, &request);
    world.assert_quiet();
    // Repeated while the host thinks: acknowledged, not asked again.
    world.datagram(device.peer, &request);
    assert_eq!(world.next_for(device.peer).code(), Code::EMPTY);
    let asked = world.decide(Decision::Allow {
        mountpoint: Some("tenant/ep/".to_owned()),
    });
    assert!(world.asked.is_empty());
    assert_eq!((asked.endpoint.as_str(), asked.lifetime), ("ep", 300));
    assert!(asked.query.contains(&("password".into(), "x".into())));
    let answer = world.next_for(device.peer);
    assert_eq!(
        (answer.code(), answer.kind()),
        (Code::CREATED, MessageType::NonConfirmable)
    );
    assert_eq!(world.next_published().topic, "tenant/ep/up/resp");
    assert!(matches!(
        world.events.pop_front(),
        Some(DeviceEvent::Registered(info))
            if info.mountpoint == "tenant/ep/" && !info.query.iter().any(|(name, _)| name == "password")
    ));

    world.kick("ep");
    assert_eq!(
        world.events.pop_front(),
        Some(DeviceEvent::Gone {
            endpoint: "ep".to_owned(),
            reason: GoneReason::Kicked
        })
    );
    assert!(world.directory.is_empty());
}

#[test]
fn a_refusal_and_silence_are_answered() {
    let mut world = World::authorized();
    for (decision, code) in [
        (
            Some(Decision::Deny {
                reason: "no such device".to_owned(),
            }),
            Code::FORBIDDEN,
        ),
        (Some(Decision::Unavailable), Code::SERVICE_UNAVAILABLE),
        (None, Code::SERVICE_UNAVAILABLE),
    ] {
        let mut device = Device::new("ep", 5001);
        device.mid += u16::try_from(world.counter("register_refused")).unwrap();
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep", "lt=300", "lwm2m=1.1"])
            .build();
        world.datagram(device.peer, &request);
        match decision {
            Some(decision) => drop(world.decide(decision)),
            None => world.pass(Duration::from_secs(16)),
        }
        assert_eq!(world.next_for(device.peer).code(), code);
        world.asked.clear();
    }
    assert!(world.directory.is_empty());
}

#[test]
fn a_session_goes_to_another_gateway() {
    let mut old = World::new();
    let mut device = Device::registered(&mut old, "ep", 5001);
    old.command(
        "ep",
        r#"{"reqID":"o","x":{"y":1},"msgType":"observe","data":{"path":"/3/0/9"}}"#,
    );
    let observe = old.next_for(device.peer);
    let answer = device
        .answer(&observe, Code::CONTENT)
        .uint(option::OBSERVE, 7)
        .payload("50");
    old.datagram(device.peer, &answer.build());
    old.published.clear();
    // One under way, two waiting.
    for id in 1..=3 {
        let path = format!("/3/0/{id}");
        old.command(
            "ep",
            &format!(r#"{{"reqID":{id},"msgType":"read","data":{{"path":"{path}"}}}}"#),
        );
    }
    assert_eq!(uri(&old.next_for(device.peer)), "/3/0/1");
    let session = old.export("ep").unwrap();
    assert_eq!(old.next_published().json["reqID"], 1);
    old.assert_quiet();
    assert!(old.directory.is_empty() && old.export("ep").is_none());

    let mut new = World::new();
    assert!(!new.import("ep", session.clone()));
    device.register(&mut new, &[], "</3/0>");
    new.published.clear();
    assert!(new.import("ep", session));
    // Asked for again with its token, then the commands.
    let again = new.next_for(device.peer);
    assert_eq!(
        (uri(&again), again.token()),
        ("/3/0/9".to_owned(), observe.token())
    );
    let answer = device
        .answer(&again, Code::CONTENT)
        .uint(option::OBSERVE, 8)
        .payload("51");
    new.datagram(device.peer, &answer.build());
    for id in 2..=3 {
        let read = new.next_for(device.peer);
        assert_eq!(uri(&read), format!("/3/0/{id}"));
        let answer = device.answer(&read, Code::CONTENT).payload("v").build();
        new.datagram(device.peer, &answer);
    }
    let ids: Vec<_> = new
        .published
        .iter()
        .map(|message| message.json["reqID"].clone())
        .collect();
    assert_eq!(ids.last(), Some(&3.into()));
    let notify = device
        .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
        .uint(option::OBSERVE, 9)
        .payload("52");
    new.published.clear();
    new.datagram(device.peer, &notify.build());
    let notify = new.next_published().json;
    assert_eq!(
        (&notify["msgType"], &notify["x"]["y"]),
        (&"notify".into(), &1.into())
    );
}

#[test]
fn devices_that_share_an_identity_do_not_answer_for_each_other() {
    for shards in [1, 2] {
        let mut world = World::sharded(shards, |_| {});
        let last = usize::from(shards) - 1;
        let mut first = secured(&mut world, 0, "one", 5001, "a");
        assert_eq!(register_code(&mut world, 0, &mut first), Code::CREATED);
        let mut second = secured(&mut world, last, "two", 5002, "a");
        assert_eq!(register_code(&mut world, last, &mut second), Code::CREATED);
        assert_eq!(world.directory.shard_of("one"), None);
        // Two endpoints on one connection are both its own, also on the next one.
        let mut third = Device::new("three", 5002);
        third.peer = second.peer;
        third.mid = 500;
        assert_eq!(register_code(&mut world, last, &mut third), Code::CREATED);
        assert_eq!(world.directory.len(), 2);
        let new = session(6001, 99);
        world.session(0, new, "a", "a");
        (second.peer, third.peer) = (new, new);
        assert_eq!(update_code(&mut world, 0, &mut second), Code::CHANGED);
        assert_eq!(update_code(&mut world, 0, &mut third), Code::CHANGED);
        assert_eq!(register_code(&mut world, 0, &mut second), Code::CREATED);
        assert_eq!(world.directory.len(), 2);
    }
}

#[test]
fn b14_a_response_topic_goes_along_to_another_gateway() {
    let mut old = World::new();
    let mut device = Device::registered(&mut old, "ep", 5001);
    for id in 1..=2 {
        let json = format!(r#"{{"reqID":{id},"msgType":"read","data":{{"path":"/3/0/{id}"}}}}"#);
        old.command_input(
            0,
            CommandInput {
                order: 0,
                endpoint: "ep".into(),
                mount: "lwm2m/ep/".into(),
                dialect: Dialect::Current,
                payload: json.into_bytes(),
                expiry: None,
                origin: None,
                reply: Some(Box::new(ReplyTo::new("answers/7", Some(b"\0c")))),
            },
        );
    }
    let session = old.export("ep").unwrap();
    let mut new = World::new();
    device.register(&mut new, &[], "</3/0>");
    new.published.clear();
    assert!(new.import("ep", session));
    let read = new.next_for(device.peer);
    assert_eq!(uri(&read), "/3/0/2");
    let answer = device.answer(&read, Code::CONTENT).payload("x").build();
    new.datagram(device.peer, &answer);
    assert_eq!(new.next_published().topic, "lwm2m/ep/up/resp");
    let copy = new.next_published();
    assert_eq!(copy.topic, "answers/7");
    assert_eq!(copy.correlation.as_deref(), Some(&b"\0c"[..]));
    new.assert_quiet();
}
