//! What a device or an application can make the engine hold, repeat or pass on, in virtual time.

use std::time::Duration;

use crate::support::{Device, World, peer};
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{empty, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::AutoObserve;
use lwm2m_gateway::engine::Peer;
use serde_json::json;

const READ: &str = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#;

#[test]
fn c1_an_update_beyond_the_bounds_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let items: Vec<String> = (0..16_000).map(|n| format!("{n:03x}")).collect();
    let items: Vec<&str> = items.iter().map(|item| &item[item.len() - 3..]).collect();
    for _ in 0..8 {
        let code = device.update(&mut world, &items, "");
        assert_eq!(code, Code::BAD_REQUEST);
    }
    assert_eq!(device.update(&mut world, &[], "</5/0>"), Code::CHANGED);
    let report = world.next_published().json;
    assert_eq!(report["data"]["objectList"], json!(["/5/0"]));
    assert_eq!(report["data"].as_object().unwrap().len(), 6, "{report}");
    world.assert_quiet();
    assert_eq!(world.counter("register_too_large"), 8);
    assert_eq!(world.counter("register_refused"), 8);

    // Little by little.
    let mut refused = 0;
    for round in 0..1051 {
        let items: Vec<String> = (0..6)
            .map(|n| format!("{round:04}{n}{}", "x".repeat(95)))
            .collect();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        refused += u32::from(device.update(&mut world, &items, "") == Code::BAD_REQUEST);
    }
    assert_eq!(refused, 1051 - 6, "4 kB hold six of them");
    assert_eq!(device.update(&mut world, &[], "</5/1>"), Code::CHANGED);
    let report = world.next_published().json.to_string();
    assert!(report.len() < 5000, "{}", report.len());
    world.assert_quiet();
}

#[test]
fn c2_an_object_list_has_a_bound_of_its_own() {
    // In one datagram as in blocks; the size stands in the answer.
    let mut world = World::with(|config| config.limits.max_object_list = 2048);
    let mut device = Device::new("ep1", 5001);
    let list = format!("</1>{}", ";a=1".repeat(600));
    let request = device
        .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.1"])
        .payload(list.as_bytes());
    world.datagram(device.peer, &request.build());
    let answer = world.next_for(device.peer);
    assert_eq!(answer.code(), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(answer.uint_option(option::SIZE1, 4), Some(2048));
    for (number, block) in (0u32..).zip(list.as_bytes().chunks(1024)) {
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.1"])
            .uint(option::BLOCK1, number << 4 | u32::from(number < 2) << 3 | 6)
            .payload(block);
        world.datagram(device.peer, &request.build());
        let answer = world.next_for(device.peer);
        if number == 2 {
            assert_eq!(answer.code(), Code::REQUEST_ENTITY_TOO_LARGE);
            assert_eq!(answer.uint_option(option::SIZE1, 4), Some(2048));
        } else {
            assert_eq!(answer.code(), Code::CONTINUE);
        }
    }
    world.assert_quiet();
    assert_eq!(world.engines[0].load().transfers, 0);
}

#[test]
fn an_endpoint_name_has_a_bound() {
    let mut world = World::new();
    let name = "e".repeat(255);
    Device::registered(&mut world, &name, 5001);
    let mut device = Device::new("", 5002);
    let query = format!("ep={name}x");
    let request = device.request(Code::POST, &["rd"], &[&query, "lt=300"]);
    world.datagram(device.peer, &request.payload("</3/0>").build());
    let answer = world.next_for(device.peer);
    assert_eq!(answer.code(), Code::BAD_REQUEST);
    let text = String::from_utf8_lossy(answer.payload()).into_owned();
    assert_eq!(text, "the endpoint name is longer than 255 bytes");
    assert_eq!(world.counter("register_too_large"), 1);
}

#[test]
fn an_identity_has_so_many_registrations() {
    let mut world = World::with(|config| config.limits.max_identity_registrations = 3);
    let from = |session| Peer {
        session,
        ..peer(6001)
    };
    world.session(0, from(1), "alpha", "alpha");
    world.session(0, from(2), "beta", "beta");
    let register = |world: &mut World, session: u32, endpoint: &str| {
        let mut device = Device::new(endpoint, 6001);
        device.mid = 1000 * session as u16 + endpoint.len() as u16 * 10;
        device.peer = from(session);
        let query = format!("ep={endpoint}");
        let request = device.request(Code::POST, &["rd"], &[&query, "lt=300"]);
        world.datagram(device.peer, &request.payload("</3/0>").build());
        let code = world.next_for(device.peer).code();
        world.published.clear();
        code
    };
    for endpoint in ["a", "aa", "aaa"] {
        assert_eq!(register(&mut world, 1, endpoint), Code::CREATED);
    }
    assert_eq!(register(&mut world, 1, "aaaa"), Code::SERVICE_UNAVAILABLE);
    assert_eq!(register(&mut world, 2, "b"), Code::CREATED, "another one");
    world.kick("aa");
    world.published.clear();
    assert_eq!(register(&mut world, 1, "aaaaa"), Code::CREATED);
    assert_eq!(world.engines[0].load().identities, 2);
}

#[test]
fn auto_observe_of_a_long_list_stays_within_its_bounds() {
    let mut world = World::with(|config| {
        config.auto_observe = AutoObserve::All;
        config.limits.max_observations = 10;
        config.queue.max_commands = 1000;
    });
    let mut device = Device::new("ep1", 5001);
    let links: Vec<String> = (0..500).map(|n| format!("</3/{}>", n % 400)).collect();
    device.register(&mut world, &[], &links.join(","));
    assert_eq!(world.next_published().json["msgType"], "register");
    assert_eq!(world.engines[0].load().queued, 9, "one is under way");
    assert_eq!(world.counter("commands_refused"), 390);
    assert_eq!(world.sent.len(), 1);
    assert!(world.published.is_empty());
}

#[test]
fn a_device_that_only_acknowledges_is_not_sent_everything() {
    let mut world = World::with(|config| config.queue.max_commands = 1000);
    let device = Device::registered(&mut world, "ep1", 5001);
    for _ in 0..300 {
        world.command("ep1", READ);
    }
    let mut requests = 0;
    while let Some((_, datagram)) = world.sent.pop_front() {
        requests += 1;
        let request = Message::parse(&datagram).unwrap();
        let ack = empty(MessageType::Acknowledgement, request.mid());
        world.datagram(device.peer, &ack);
    }
    assert_eq!(requests, 64);
    let load = world.engines[0].load();
    assert_eq!((load.exchanges, load.queued), (64, 300 - 64));
    // Each of them has its deadline, then the next ones get their turn.
    world.published.clear();
    world.pass(Duration::from_secs(61));
    let timeouts = world.published.iter();
    let timeouts = timeouts.filter(|it| it.json["msgType"] == "coap_timeout");
    assert_eq!(timeouts.count(), 64);
    assert!(!world.sent.is_empty());
}

#[test]
fn a_command_for_a_device_that_was_lost_on_its_way_comes_to_an_end() {
    // Shard 0 gave the device to shard 1, which has begun anew and knows nothing of it: each takes
    // it to be in the other.
    let mut world = World::sharded(2, |_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.hold_handoffs = true;
    device.peer = peer(6001);
    let location = device.location.clone();
    let request = device.request(Code::POST, &["rd", &location], &[]);
    world.datagram_at(1, device.peer, &request.build());
    assert!(world.hand_over(0), "shard 1 asks");
    let given = world.held[1].pop_front();
    assert!(given.is_some(), "the device, which gets lost");
    world.command_at(0, "ep1", READ, Dialect::Current, None);
    let mut hops = 0;
    while world.hand_over(0) || world.hand_over(1) {
        hops += 1;
        assert!(hops < 100, "there is no end");
    }
    assert_eq!(hops, 64);
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["reason"], "not_registered");
}

#[test]
fn what_notifications_repeat_has_a_bound() {
    let mut world = World::new();
    Device::registered(&mut world, "ep1", 5001);
    let command = |kind: &str, note: usize| {
        json!({"reqID": 1, "note": "x".repeat(note), "msgType": kind,
               "data": {"path": "/3303/0"}})
        .to_string()
    };
    world.command("ep1", &command("observe", 70_000));
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["reason"], "too_large");
    world.assert_quiet();
    for (kind, note) in [("observe", 60_000), ("read", 70_000)] {
        let mut world = World::new();
        Device::registered(&mut world, "ep1", 5001);
        world.command("ep1", &command(kind, note));
        assert_eq!(world.sent.len(), 1, "{kind}");
    }
}

#[test]
fn an_observation_is_renewed_once_however_often_its_device_registers() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let command = r#"{"reqID":9,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#;
    let observe = device.observed(&mut world, command, "20.0");
    // A command that is not answered keeps the renewals waiting.
    world.command("ep1", READ);
    world.sent.clear();
    world.published.clear();
    for round in 0..20u16 {
        device.peer = peer(7000 + round);
        let early = device
            .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
            .uint(option::OBSERVE, 2 + u32::from(round));
        world.datagram(device.peer, &early.payload("21.0").build());
        world.sent.clear();
        device.register(&mut world, &[], "</3/0>,</3303/0>");
    }
    world.sent.clear();
    world.pass(Duration::from_secs(100));
    let renewals = world.sent.iter().filter(|(_, datagram)| {
        let message = Message::parse(datagram).unwrap();
        message.observe() == Some(0)
    });
    let mids: std::collections::HashSet<u16> = renewals
        .map(|(_, datagram)| u16::from_be_bytes([datagram[2], datagram[3]]))
        .collect();
    assert_eq!(mids.len(), 1, "one request and its repetitions");
}

#[test]
fn notifications_do_not_repeat_what_is_no_identity() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    let imsi = format!("imsi={}", "9".repeat(3000));
    device.register(&mut world, &["imei=350450797746546", &imsi], "</3/0>");
    let report = world.next_published().json;
    assert_eq!(report["data"]["imsi"].as_str().map(str::len), Some(3000));
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    let answer = device.answer(&request, Code::CONTENT).payload("x").build();
    world.datagram(device.peer, &answer);
    let answer = world.next_published().json;
    assert_eq!(answer["imei"], "350450797746546");
    assert_eq!(answer["imsi"], json!(null));
}

#[test]
fn renewals_that_a_device_does_not_want_are_not_repeated() {
    type Answer = fn(&mut Device, &Message) -> Option<Vec<u8>>;
    let answers: [(&str, Answer); 5] = [
        ("reset", |_, request| {
            Some(empty(MessageType::Reset, request.mid()))
        }),
        ("refused", |device, request| {
            Some(device.answer(request, Code::NOT_FOUND).build())
        }),
        ("not observed", |device, request| {
            Some(device.answer(request, Code::CONTENT).payload("1").build())
        }),
        ("silent", |_, _| None),
        ("a block of nothing", |device, request| {
            let answer = device.answer(request, Code::CONTENT);
            Some(answer.uint(option::BLOCK2, 3 << 4 | 8).build())
        }),
    ];
    for (what, answer) in answers {
        let mut world = World::new();
        let mut device = Device::new("ep1", 5001);
        device.register(&mut world, &["lt=86400"], "</3303/0>");
        for resource in 0..20 {
            let path = format!("/3303/0/{resource}");
            let command = json!({"reqID": 1, "msgType": "observe", "data": {"path": path}});
            world.command("ep1", &command.to_string());
            let request = world.next_for(device.peer);
            let answer = device.answer(&request, Code::CONTENT);
            let answer = answer.uint(option::OBSERVE, 1).payload("1").build();
            world.datagram(device.peer, &answer);
        }
        assert_eq!(world.counter("observations"), 20);
        world.published.clear();
        let before = world.counter("requests");
        device.register(&mut world, &["lt=86400"], "</3303/0>");
        for _ in 0..100 {
            while let Some((_, datagram)) = world.sent.pop_front() {
                let request = Message::parse(&datagram).unwrap();
                if let Some(answer) = answer(&mut device, &request) {
                    world.datagram(device.peer, &answer);
                }
            }
            world.pass(Duration::from_secs(30));
        }
        assert_eq!(world.counter("requests") - before, 20, "{what}");
        // A notification in blocks that make no body does not tell that nobody observes.
        let left = if what == "a block of nothing" { 20 } else { 0 };
        assert_eq!(world.counter("observations"), left, "{what}");
        assert_eq!(world.engines[0].load().exchanges, 0);
    }
}

#[test]
fn a_device_that_jumps_between_shards_is_handed_over_once_a_datagram() {
    let mut world = World::sharded(2, |_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.hold_handoffs = true;
    for round in 0..40 {
        let shard = (round + 1) % 2;
        device.peer = peer(6000 + shard as u16);
        let request = if round % 4 < 2 {
            let location = device.location.clone();
            device.request(Code::POST, &["rd", &location], &[])
        } else {
            device.request(Code::POST, &["rd"], &["ep=ep1", "lt=300"])
        };
        world.datagram_at(shard, device.peer, &request.build());
        let mut handoffs = 0;
        while world.hand_over(0) || world.hand_over(1) {
            handoffs += 1;
        }
        assert!(handoffs <= 2, "a question and its answer");
        let answer = world.next_for(device.peer);
        assert!(answer.code().is_success());
        if let Some(location) = answer.option_values(option::LOCATION_PATH).nth(1) {
            device.location = String::from_utf8_lossy(location).into_owned();
        }
        assert_eq!(world.engines[shard].len(), 1);
        assert_eq!(world.engines[1 - shard].len(), 0);
        assert!(world.engines[shard].load().departed <= 1);
    }
}
