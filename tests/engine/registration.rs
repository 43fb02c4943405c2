//! The registration interface, in virtual time.

use std::time::Duration;

use crate::support::{Device, World, peer, uri};
use lwm2m_gateway::coap::message::{Builder, empty, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::{AddressChange, AutoObserve, Config, HostileEndpoint, UpdateCondition};
use serde_json::json;

#[test]
fn register_update_deregister() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(
        &mut world,
        &["sms=123", "Q"],
        r#"</>;rt="oma.lwm2m";ct=110,</1/0>,</3>;ver=1.1,</3/0>"#,
    );
    let report = world.next_published();
    assert_eq!(
        (report.topic.as_str(), report.qos),
        ("lwm2m/ep1/up/resp", 0)
    );
    assert_eq!(
        report.json,
        json!({"msgType": "register", "data": {
            "ep": "ep1", "lt": 300, "lwm2m": "1.1", "b": "U", "sms": "123", "Q": "",
            "alternatePath": "/", "objectList": ["/1/0", "/3", "/3/0"]}})
    );
    assert_eq!(device.update(&mut world, &["lt=600"], ""), Code::CHANGED);
    assert_eq!(
        device.update(&mut world, &[], "</1/0>,</3>;ver=1.1,</3/0>"),
        Code::CHANGED
    );
    world.assert_quiet();
    assert_eq!(
        device.update(&mut world, &[], "</1/0>,</3/0>,</5/0>"),
        Code::CHANGED
    );
    let update = world.next_published();
    assert_eq!(update.json["msgType"], "update");
    assert_eq!(update.json["data"]["lt"], 600);
    assert_eq!(
        update.json["data"]["objectList"],
        json!(["/1/0", "/3/0", "/5/0"])
    );
    let location = device.location.clone();
    let request = device
        .request(Code::DELETE, &["rd", &location], &[])
        .build();
    world.datagram(device.peer, &request);
    assert_eq!(world.next_for(device.peer).code(), Code::DELETED);
    assert_eq!(device.update(&mut world, &[], ""), Code::NOT_FOUND);
    world.assert_quiet();
    assert_eq!(
        (world.counter("registrations"), world.directory.len()),
        (0, 0)
    );
    assert_eq!(
        world.subscribed,
        [
            ("lwm2m/ep1/dn/#".into(), true),
            ("lwm2m/ep1/dn/#".into(), false)
        ]
    );
}

#[test]
fn what_is_refused() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    for (query, code) in [
        (&["lt=300", "lwm2m=1.1"][..], Code::BAD_REQUEST),
        (&["ep=", "lt=300", "lwm2m=1.1"], Code::BAD_REQUEST),
        (&["ep=a", "lt=300", "lwm2m=8.3"], Code::PRECONDITION_FAILED),
        (&["ep=a", "lt=300", "lwm2m=2.0"], Code::PRECONDITION_FAILED),
        (&["ep=a", "lt=soon", "lwm2m=1.1"], Code::BAD_REQUEST),
        (&["ep=a/b", "lt=300", "lwm2m=1.1"], Code::BAD_REQUEST),
        (&["ep=#", "lt=300", "lwm2m=1.1"], Code::BAD_REQUEST),
        (&["ep=a+b", "lt=300", "lwm2m=1.1"], Code::BAD_REQUEST),
        (
            &["ep=a", "imei=+", "lt=300", "lwm2m=2.1"],
            Code::PRECONDITION_FAILED,
        ),
    ] {
        let request = device.request(Code::POST, &["rd"], query).payload("</3/0>");
        world.datagram(device.peer, &request.build());
        assert_eq!(world.next_for(device.peer).code(), code, "{query:?}");
        world.assert_quiet();
    }
    for (code, path, expected) in [
        (Code::POST, &["bs"][..], Code::NOT_FOUND),
        (Code::GET, &["bspack"], Code::NOT_FOUND),
        (Code::POST, &["rd", "AAAAAAAAAAA"], Code::NOT_FOUND),
        (Code::DELETE, &["rd", "ep1"], Code::NOT_FOUND),
        (Code::GET, &["rd"], Code::METHOD_NOT_ALLOWED),
        (Code::PUT, &["rd"], Code::METHOD_NOT_ALLOWED),
        (Code::POST, &[], Code::NOT_FOUND),
        (Code::GET, &[".well-known", "core"], Code::CONTENT),
    ] {
        let request = device.request(code, path, &[]).build();
        world.datagram(device.peer, &request);
        assert_eq!(world.next_for(device.peer).code(), expected, "{path:?}");
    }
}

#[test]
fn hostile_names_can_be_escaped() {
    let mut world = World::with(|config| config.hostile_endpoint = HostileEndpoint::Escape);
    let mut device = Device::new("a/+#%", 5001);
    device.register(&mut world, &[], "</3/0>");
    assert_eq!(world.next_published().topic, "lwm2m/a%2F%2B%23%25/up/resp");
}

#[test]
fn repeated_requests_are_answered_from_memory() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    let register = device
        .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.0"])
        .payload("</3/0>")
        .build();
    world.datagram(device.peer, &register);
    let (_, first) = world.sent.pop_front().unwrap();
    world.next_published();
    world.datagram(device.peer, &register);
    let (_, second) = world.sent.pop_front().unwrap();
    assert_eq!(first, second);
    world.assert_quiet();
    assert_eq!(world.counter("datagrams_duplicate"), 1);
    // After EXCHANGE_LIFETIME the same message id is a new request.
    world.pass(Duration::from_secs(248));
    world.datagram(device.peer, &register);
    let (_, third) = world.sent.pop_front().unwrap();
    assert_ne!(first, third);
    assert_eq!(world.next_published().json["msgType"], "register");
}

#[test]
fn an_unknown_location_is_not_guessed() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let mut stranger = Device {
        location: "ep1".into(),
        ..Device::new("ep1", 5002)
    };
    assert_eq!(stranger.update(&mut world, &[], ""), Code::NOT_FOUND);
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
}

#[test]
fn an_update_from_a_new_address_moves_the_registration() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let mut moved = Device {
        peer: peer(5002),
        ..device.clone()
    };
    assert_eq!(moved.update(&mut world, &[], ""), Code::CHANGED);
    world.command("ep1", r#"{"msgType":"read","data":{"path":"/3/0/0"}}"#);
    let request = world.next_for(moved.peer);
    world.datagram(
        moved.peer,
        &moved.answer(&request, Code::CONTENT).payload("x").build(),
    );
    assert_eq!(world.next_published().json["data"]["code"], "2.05");
    assert_eq!(world.counter("address_changed"), 1);
    // A15: whoever knows the location may end it, from wherever.
    let location = device.location.clone();
    let request = device
        .request(Code::DELETE, &["rd", &location], &[])
        .build();
    world.datagram(device.peer, &request);
    assert_eq!(world.next_for(device.peer).code(), Code::DELETED);
    assert_eq!(world.counter("deregistered"), 1);
}

#[test]
fn a15_a_de_register_from_a_new_address_finds_its_shard() {
    let mut world = World::sharded(2, |_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let location = device.location.clone();
    for (at, code) in [("strange", Code::NOT_FOUND), (&*location, Code::DELETED)] {
        let request = device.request(Code::DELETE, &["rd", at], &[]).build();
        let moved = peer(6001);
        world.datagram_at(1, moved, &request);
        assert_eq!(world.next_for(moved).code(), code);
    }
    assert_eq!(world.directory.len(), 0);
}

#[test]
fn address_changes_can_be_rejected() {
    for with_endpoint_location in [false, true] {
        let mut world = World::with(|config| {
            config.compat.endpoint_location = with_endpoint_location;
            if !with_endpoint_location {
                config.address_change = AddressChange::Reject;
            }
        });
        let mut device = Device::registered(&mut world, "ep1", 5001);
        if with_endpoint_location {
            assert_eq!(device.location, "ep1");
        }
        let mut moved = Device {
            peer: peer(5002),
            ..device.clone()
        };
        assert_eq!(moved.update(&mut world, &[], ""), Code::NOT_FOUND);
        let location = device.location.clone();
        let request = moved.request(Code::DELETE, &["rd", &location], &[]);
        world.datagram(moved.peer, &request.build());
        assert_eq!(world.next_for(moved.peer).code(), Code::NOT_FOUND);
        assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    }
}

#[test]
fn registering_again_from_a_new_address() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let old = device.location.clone();
    device.peer = peer(5002);
    device.register(&mut world, &[], "</3/0>");
    assert_eq!(world.next_published().json["msgType"], "register");
    assert_ne!(device.location, old);
    world.command("ep1", r#"{"msgType":"read","data":{"path":"/3/0/0"}}"#);
    assert_eq!(uri(&world.next_for(device.peer)), "/3/0/0");
    let mut ghost = Device {
        peer: peer(5001),
        location: old,
        ..device.clone()
    };
    assert_eq!(ghost.update(&mut world, &[], ""), Code::NOT_FOUND);
    assert_eq!(world.counter("registrations"), 1);
}

#[test]
fn lifetimes_end() {
    let mut world = World::with(|config| config.publish_deregister = true);
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["lt=60"], "</3/0>");
    world.next_published();
    world.pass(Duration::from_secs(59));
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    world.pass(Duration::from_secs(59));
    world.assert_quiet();
    world.command(
        "ep1",
        r#"{"reqID":7,"msgType":"read","data":{"path":"/3/0/0"}}"#,
    );
    world.next_for(device.peer);
    world.pass(Duration::from_secs(2));
    let expired = world.next_published();
    assert_eq!(
        (&expired.json["msgType"], &expired.json["data"]["ep"]),
        (&json!("expired"), &json!("ep1"))
    );
    let orphan = world.next_published();
    assert_eq!(orphan.json["reqID"], 7, "a command under way is answered");
    assert_eq!(orphan.json["data"]["reason"], "not_registered");
    assert_eq!(device.update(&mut world, &[], ""), Code::NOT_FOUND);
    world.pass(Duration::from_secs(300));
    world.assert_quiet();
    assert_eq!(
        (world.counter("registrations"), world.counter("expired")),
        (0, 1)
    );
}

#[test]
fn update_conditions() {
    for (condition, empty, same) in [
        (UpdateCondition::Always, true, true),
        (UpdateCondition::ContainsObjectList, false, true),
        (UpdateCondition::ObjectListChanged, false, false),
    ] {
        let mut world = World::with(|config| config.update_msg_publish_condition = condition);
        let mut device = Device::new("ep1", 5001);
        device.register(&mut world, &[], "</3/0>");
        world.next_published();
        for (links, published) in [("", empty), ("</3/0>", same), ("</3/0>,</4/0>", true)] {
            device.update(&mut world, &[], links);
            assert_eq!(
                world.published.pop_front().is_some(),
                published,
                "{condition:?} {links}"
            );
        }
    }
}

#[test]
fn a_large_registration_in_blocks() {
    let links: String = (0..200)
        .map(|n| format!("</3303/{n}>,"))
        .collect::<String>()
        + "</3/0>";
    for max_block_size in [1024, 256] {
        let mut world = World::with(|config| config.blockwise.max_block_size = max_block_size);
        let mut device = Device::new("ep1", 5001);
        let (mut offset, mut szx) = (0, 6u32);
        let code = loop {
            let size = 16usize << szx;
            let block = &links.as_bytes()[offset..(offset + size).min(links.len())];
            let more = offset + block.len() < links.len();
            let number = (offset >> (szx + 4)) as u32;
            let request = device
                .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.0"])
                .uint(option::BLOCK1, number << 4 | u32::from(more) << 3 | szx)
                .payload(block);
            world.datagram(device.peer, &request.build());
            let answer = world.next_for(device.peer);
            let echoed = answer
                .uint_option(option::BLOCK1, 3)
                .expect("Block1 is answered by Block1");
            offset += block.len();
            if !more {
                break answer.code();
            }
            assert_eq!(answer.code(), Code::CONTINUE);
            szx = szx.min(echoed & 7);
        };
        assert_eq!(
            (code, szx),
            (Code::CREATED, if max_block_size == 256 { 4 } else { 6 })
        );
        let report = world.next_published();
        assert_eq!(
            report.json["data"]["objectList"].as_array().unwrap().len(),
            201
        );
        world.assert_quiet();
    }
}

#[test]
fn a_registration_in_blocks_from_another_shard() {
    let mut world = World::sharded(2, |_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    device.peer = peer(6001);
    for (number, more, links) in [(0, 8, "</3303/0>,</33/0"), (1, 0, ">")] {
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.1"])
            .uint(option::BLOCK1, number << 4 | more)
            .payload(links);
        world.datagram_at(1, device.peer, &request.build());
        let answer = world.next_for(device.peer);
        let expected = if more == 8 {
            Code::CONTINUE
        } else {
            Code::CREATED
        };
        assert_eq!(answer.code(), expected);
    }
    let report = world.next_published();
    assert_eq!(
        report.json["data"]["objectList"],
        json!(["/3303/0", "/33/0"])
    );
    assert_eq!((world.engines[0].len(), world.engines[1].len()), (0, 1));
}

#[test]
fn blocks_out_of_order_and_too_large() {
    let mut world = World::with(|config| config.blockwise.max_body_size = 100);
    let mut device = Device::new("ep1", 5001);
    let mut block = |world: &mut World, number: u32| {
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.0"])
            .uint(option::BLOCK1, number << 4 | 8)
            .payload([b'x'; 16]);
        world.datagram(device.peer, &request.build());
        world.next_for(device.peer)
    };
    assert_eq!(block(&mut world, 1).code(), Code::REQUEST_ENTITY_INCOMPLETE);
    for number in 0..6 {
        assert_eq!(block(&mut world, number).code(), Code::CONTINUE);
    }
    let refused = block(&mut world, 6);
    assert_eq!(refused.code(), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(refused.uint_option(option::SIZE1, 4), Some(100));
}

#[test]
fn message_layer_rules() {
    let mut world = World::new();
    let peer = peer(5001);
    // Ping.
    world.datagram(peer, &empty(MessageType::Confirmable, 7));
    let pong = world.next_for(peer);
    assert_eq!(
        (pong.kind(), pong.code(), pong.mid()),
        (MessageType::Reset, Code::EMPTY, 7)
    );
    // An unknown critical option: 4.02 for CON, silence for NON.
    for (kind, answered) in [
        (MessageType::Confirmable, true),
        (MessageType::NonConfirmable, false),
    ] {
        let request = Builder::new(kind, Code::POST, 8, b"t")
            .option(option::URI_PATH, *b"rd")
            .option(9, *b"oscore")
            .build();
        world.datagram(peer, &request);
        let answer = world
            .sent
            .pop_front()
            .map(|(_, bytes)| Message::parse(&bytes).unwrap());
        assert_eq!(
            answer.map(|answer| answer.code()),
            answered.then_some(Code::BAD_OPTION)
        );
    }
    // Malformed: reset when confirmable, silence otherwise; never a crash.
    for (bytes, reset) in [
        (&[0x40, 1, 0, 9, 0xff][..], true),
        (&[0x50, 1, 0, 9, 0xff], false),
        (&[0x40, 1, 0], false),
        (&[], false),
        (&[0x80, 1, 0, 9], false),
    ] {
        world.datagram(peer, bytes);
        assert_eq!(world.sent.pop_front().is_some(), reset, "{bytes:?}");
    }
    assert_eq!(world.counter("datagrams_malformed"), 5);
    // Responses nobody asked for.
    for (kind, reset) in [
        (MessageType::Confirmable, true),
        (MessageType::NonConfirmable, true),
        (MessageType::Acknowledgement, false),
    ] {
        world.datagram(
            peer,
            &Builder::new(kind, Code::CONTENT, 10, b"12345678").build(),
        );
        assert_eq!(world.sent.pop_front().is_some(), reset, "{kind:?}");
    }
    // A Non-confirmable Register gets a Non-confirmable answer.
    let register = Builder::new(MessageType::NonConfirmable, Code::POST, 11, b"t")
        .option(option::URI_PATH, *b"rd")
        .option(option::URI_QUERY, *b"ep=non")
        .payload("</3/0>")
        .build();
    world.datagram(peer, &register);
    let answer = world.next_for(peer);
    assert_eq!(
        (answer.kind(), answer.code()),
        (MessageType::NonConfirmable, Code::CREATED)
    );
}

#[test]
fn auto_observe() {
    let all = AutoObserve::All;
    let listed = AutoObserve::Paths(vec![
        "/3/0".parse().unwrap(),
        "/9/0".parse().unwrap(),
        "/1/0".parse().unwrap(),
    ]);
    for (rule, expected) in [(all, &["/3/0"][..]), (listed, &["/3/0", "/1/0"])] {
        let mut world = World::with(|config| config.auto_observe = rule.clone());
        let mut device = Device::new("ep1", 5001);
        device.register(&mut world, &[], "</1/0>,</2/0>,</3/0>,</59102/0>");
        world.next_published();
        for path in expected {
            let request = world.next_for(device.peer);
            assert_eq!(
                (request.observe(), uri(&request).as_str()),
                (Some(0), *path)
            );
            let answer = device
                .answer(&request, Code::CONTENT)
                .uint(option::OBSERVE, 1);
            let answer = answer
                .uint(option::CONTENT_FORMAT, 11542)
                .payload([0xc1, 0, 65]);
            world.datagram(device.peer, &answer.build());
            let published = world.next_published();
            assert_eq!(published.json["is_auto_observe"], true);
            assert_eq!(published.json["msgType"], "observe");
        }
        world.assert_quiet();
    }
}

#[test]
fn auto_observe_that_is_switched_off_ends_when_a_device_registers_again() {
    let everything = AutoObserve::All;
    let another = AutoObserve::Paths(vec!["/1/0".parse().unwrap()]);
    for (rule, asked) in [
        (AutoObserve::Off, &["/3303/0/5700"][..]),
        (another, &["/1/0", "/3303/0/5700"]),
        (everything.clone(), &["/3/0", "/3303/0/5700"]),
    ] {
        let mut world = World::with(|config| config.auto_observe = everything.clone());
        let mut device = Device::new("ep1", 5001);
        device.register(&mut world, &[], "</1/0>,</3/0>");
        world.next_published();
        let confirm = |world: &mut World, device: &Device| {
            let request = world.next_for(device.peer);
            let answer = device
                .answer(&request, Code::CONTENT)
                .uint(option::OBSERVE, 1)
                .payload("x");
            world.datagram(device.peer, &answer.build());
            world.next_published();
            request
        };
        let automatic = confirm(&mut world, &device);
        world.command(
            "ep1",
            r#"{"reqID":1,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#,
        );
        confirm(&mut world, &device);

        let config = Config {
            auto_observe: rule.clone(),
            ..Config::default()
        };
        world.reconfigure(0, config);
        device.register(&mut world, &[], "</1/0>,</3/0>");
        world.next_published();
        let mut seen = Vec::new();
        while let Some((_, datagram)) = world.sent.pop_front() {
            let request = Message::parse(&datagram).unwrap();
            seen.push(uri(&request));
            let answer = device
                .answer(&request, Code::CONTENT)
                .uint(option::OBSERVE, 1)
                .payload("x");
            world.datagram(device.peer, &answer.build());
        }
        seen.sort();
        assert_eq!(seen, asked, "{rule:?}");
        // Whoever still notifies of what nobody wants, with the token of that, is told so.
        let notification = device
            .separate(MessageType::Confirmable, &automatic, Code::CONTENT)
            .uint(option::OBSERVE, 2)
            .payload("y");
        world.datagram(device.peer, &notification.build());
        assert_eq!(world.next_for(device.peer).kind(), MessageType::Reset);
    }
}

#[test]
fn a_device_moves_between_shards() {
    let mut world = World::sharded(2, |_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    assert_eq!(world.directory.shard_of("ep1"), Some(0));
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#,
    );
    let pending = world.next_for(device.peer);

    // An Update from a new address arrives at the other shard.
    let moved = peer(6001);
    let location = device.location.clone();
    let update = device.request(Code::POST, &["rd", &location], &[]).build();
    world.datagram_at(1, moved, &update);
    let answer = world.next_for(moved);
    assert_eq!(
        (answer.code(), answer.kind()),
        (Code::CHANGED, MessageType::Acknowledgement)
    );
    assert_eq!(world.directory.shard_of("ep1"), Some(1));
    assert_eq!((world.engines[0].len(), world.engines[1].len()), (0, 1));

    // The request under way goes on from there, with its message id and token.
    world.pass(Duration::from_secs(3));
    let again = world.next_for(moved);
    assert_eq!(
        (pending.mid(), pending.token()),
        (again.mid(), again.token())
    );
    world.datagram_at(
        1,
        moved,
        &device.answer(&again, Code::CONTENT).payload("x").build(),
    );
    assert_eq!(world.next_published().json["reqID"], 1);

    // A command that was on its way to the old shard follows.
    world.command_at(
        0,
        "ep1",
        r#"{"reqID":2,"msgType":"read","data":{"path":"/3/0/1"}}"#,
        lwm2m_gateway::bridge::Dialect::Current,
        None,
    );
    assert_eq!(uri(&world.next_for(moved)), "/3/0/1");

    // A Register from a third address comes back to the first shard.
    device.peer = peer(7001);
    device.register(&mut world, &[], "</3/0>");
    assert_eq!(world.next_published().json["msgType"], "register");
    assert_eq!((world.engines[0].len(), world.engines[1].len()), (1, 0));
    world.pass(Duration::from_secs(400));
    assert_eq!(
        (world.directory.len(), world.counter("registrations")),
        (0, 0)
    );
}

#[test]
fn limits_on_registrations() {
    let mut world = World::with(|config| config.limits.max_registrations = 2);
    for n in 0..2 {
        Device::registered(&mut world, &format!("ep{n}"), 5001 + n);
    }
    let mut third = Device::new("ep9", 5009);
    let request = third
        .request(Code::POST, &["rd"], &["ep=ep9", "lt=60"])
        .payload("</3/0>")
        .build();
    world.datagram(third.peer, &request);
    assert_eq!(world.next_for(third.peer).code(), Code::SERVICE_UNAVAILABLE);
    // One that is registered may register again.
    let mut known = Device {
        mid: 500,
        ..Device::new("ep1", 5002)
    };
    known.register(&mut world, &[], "</3/0>");
}

#[test]
fn blocks_of_an_update_with_and_without_content_format() {
    // Wakaama's Update has the option in its later blocks only.
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let location = device.location.clone();
    for (number, more, links) in [(0, 8, "</3303/0>,</33/0"), (1, 0, ">")] {
        let mut request = device
            .request(Code::POST, &["rd", &location], &[])
            .uint(option::BLOCK1, number << 4 | more);
        if number == 1 {
            request = request.uint(option::CONTENT_FORMAT, 0);
        }
        world.datagram(device.peer, &request.payload(links).build());
        let answer = world.next_for(device.peer);
        let expected = if more == 8 {
            Code::CONTINUE
        } else {
            Code::CHANGED
        };
        assert_eq!(answer.code(), expected);
    }
    let update = world.next_published();
    assert_eq!(
        update.json["data"]["objectList"],
        json!(["/3303/0", "/33/0"])
    );
}

#[test]
fn a_restarted_device_may_begin_with_the_same_message() {
    let mut world = World::new();
    for round in 0..3 {
        // The same port, message id, token and content each time.
        let mut device = Device::registered(&mut world, "ep1", 5001);
        assert_eq!(world.directory.len(), 1);
        if round == 1 {
            // It registers once more, with another message, and restarts without a word.
            device.register(&mut world, &[], "</3/0>");
            world.next_published();
            continue;
        }
        let location = device.location.clone();
        let request = device.request(Code::DELETE, &["rd", &location], &[]);
        // The message ids of the rounds are alike, the locations are not.
        world.datagram(device.peer, &request.build());
        assert_eq!(world.next_for(device.peer).code(), Code::DELETED);
        assert_eq!(world.directory.len(), 0);
    }
}
