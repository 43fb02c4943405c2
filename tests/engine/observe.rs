//! Observations and notifications, in virtual time.

use std::time::Duration;

use crate::support::{Device, World, uri};
use lwm2m_gateway::coap::message::{empty, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::AddressChange;
use serde_json::json;

const OBSERVE: &str = r#"{"reqID":9,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#;

/// An observation that the device has confirmed; returns the request.
fn observed(world: &mut World, device: &Device) -> Message {
    world.command(&device.endpoint, OBSERVE);
    let request = world.next_for(device.peer);
    assert_eq!(
        (request.observe(), uri(&request).as_str()),
        (Some(0), "/3303/0/5700")
    );
    let answer = device
        .answer(&request, Code::CONTENT)
        .uint(option::OBSERVE, 1)
        .payload("20.0");
    world.datagram(device.peer, &answer.build());
    let published = world.next_published();
    assert_eq!(published.topic, "lwm2m/ep1/up/resp");
    assert_eq!(
        (&published.json["msgType"], &published.json["seqNum"]),
        (&json!("observe"), &json!(1))
    );
    request
}

#[test]
fn notifications_with_the_devices_own_message_ids() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    for (sequence, kind) in [
        (2, MessageType::NonConfirmable),
        (3, MessageType::Confirmable),
    ] {
        let notification = device
            .separate(kind, &request, Code::CONTENT)
            .uint(option::OBSERVE, sequence)
            .payload("20.5")
            .build();
        for _ in 0..2 {
            world.datagram(device.peer, &notification);
            if kind == MessageType::Confirmable {
                let ack = world.next_for(device.peer);
                assert_eq!(
                    (ack.kind(), ack.mid()),
                    (MessageType::Acknowledgement, device.mid)
                );
            }
        }
        let published = world.next_published();
        assert_eq!(published.topic, "lwm2m/ep1/up/notify");
        assert_eq!(published.json["reqID"], 9);
        assert_eq!(published.json["msgType"], "notify");
        assert_eq!(published.json["seqNum"], sequence);
        assert_eq!(published.json["data"]["reqPath"], "/3303/0/5700");
        assert_eq!(published.json["data"]["content"][0]["path"], "/3303/0/5700");
        world.assert_quiet();
    }
    let stale = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 2)
        .payload("19")
        .build();
    world.datagram(device.peer, &stale);
    world.assert_quiet();
    assert_eq!(world.counter("notifications_stale"), 3);
}

#[test]
fn cancel_carries_the_token_and_ends_the_observation() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    world.command(
        "ep1",
        r#"{"reqID":10,"msgType":"cancel-observe","data":{"path":"/3303/0/5700"}}"#,
    );
    let cancel = world.next_for(device.peer);
    assert_eq!(
        (cancel.observe(), cancel.token()),
        (Some(1), request.token())
    );
    // A notification on its way is still one.
    let notification = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 2)
        .payload("20.5");
    world.datagram(device.peer, &notification.build());
    assert_eq!(world.next_published().json["msgType"], "notify");
    world.datagram(
        device.peer,
        &device.answer(&cancel, Code::CONTENT).payload("21").build(),
    );
    let answer = world.next_published();
    assert_eq!(
        (&answer.json["msgType"], &answer.json["reqID"]),
        (&json!("cancel-observe"), &json!(10))
    );
    assert_eq!(world.counter("observations"), 0);
    let late = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 3)
        .payload("22");
    world.datagram(device.peer, &late.build());
    assert_eq!(world.next_for(device.peer).kind(), MessageType::Reset);
    world.assert_quiet();
}

#[test]
fn an_error_ends_the_observation_and_says_so() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let error = device
        .separate(MessageType::Confirmable, &request, Code::NOT_FOUND)
        .build();
    world.datagram(device.peer, &error);
    assert_eq!(
        world.next_for(device.peer).kind(),
        MessageType::Acknowledgement
    );
    let published = world.next_published();
    assert_eq!(published.topic, "lwm2m/ep1/up/notify");
    assert_eq!(
        (&published.json["msgType"], &published.json["data"]["code"]),
        (&json!("notify"), &json!("4.04"))
    );
    assert_eq!(world.counter("observations"), 0);
    world.assert_quiet();
}

#[test]
fn a_device_that_does_not_observe_leaves_no_observation() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", OBSERVE);
    let request = world.next_for(device.peer);
    world.datagram(
        device.peer,
        &device.answer(&request, Code::CONTENT).payload("20").build(),
    );
    assert_eq!(world.next_published().json["msgType"], "observe");
    world.command("ep1", OBSERVE);
    let request = world.next_for(device.peer);
    world.datagram(device.peer, &empty(MessageType::Reset, request.mid()));
    assert_eq!(world.next_published().json["msgType"], "coap_reset");
    assert_eq!(world.counter("observations"), 0);
}

#[test]
fn observing_again_replaces() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let first = observed(&mut world, &device);
    let second = observed(&mut world, &device);
    assert_ne!(first.token(), second.token());
    assert_eq!(world.counter("observations"), 1);
    let old = device
        .separate(MessageType::NonConfirmable, &first, Code::CONTENT)
        .uint(option::OBSERVE, 7)
        .payload("20");
    world.datagram(device.peer, &old.build());
    assert_eq!(
        world.next_for(device.peer).kind(),
        MessageType::Reset,
        "the device drops it then"
    );
}

#[test]
fn a_notification_in_blocks() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let first = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 5)
        .uint(option::BLOCK2, 8)
        .payload("0123456789abcdef");
    world.datagram(device.peer, &first.build());
    let rest = world.next_for(device.peer);
    assert_eq!(
        (rest.observe(), rest.uint_option(option::BLOCK2, 3)),
        (None, Some(1 << 4))
    );
    assert_ne!(rest.token(), request.token());
    let answer = device
        .answer(&rest, Code::CONTENT)
        .uint(option::BLOCK2, 1 << 4)
        .payload("g");
    world.datagram(device.peer, &answer.build());
    let published = world.next_published();
    assert_eq!(
        (&published.json["msgType"], &published.json["seqNum"]),
        (&json!("notify"), &json!(5))
    );
    assert_eq!(
        published.json["data"]["content"][0]["value"],
        "0123456789abcdefg"
    );
    world.assert_quiet();
}

#[test]
fn observations_outlive_a_new_registration() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let notification = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 500)
        .payload("29");
    world.datagram(device.peer, &notification.build());
    world.next_published();
    device.register(&mut world, &[], "</3303/0>");
    assert_eq!(world.next_published().json["msgType"], "register");
    let again = world.next_for(device.peer);
    assert_eq!((again.observe(), again.token()), (Some(0), request.token()));
    let answer = device
        .answer(&again, Code::CONTENT)
        .uint(option::OBSERVE, 1)
        .payload("30");
    world.datagram(device.peer, &answer.build());
    let value = world.next_published();
    assert_eq!(
        (&value.json["msgType"], &value.json["reqID"]),
        (&json!("notify"), &json!(9))
    );
    let notification = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 2)
        .payload("31");
    world.datagram(device.peer, &notification.build());
    assert_eq!(
        world.next_published().json["data"]["content"][0]["value"],
        31
    );
    world.pass(Duration::from_secs(60));
    world.assert_quiet();
}

#[test]
fn notifications_of_unknown_objects_are_delivered() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", r#"{"msgType":"observe","data":{"path":"/40000/0"}}"#);
    let request = world.next_for(device.peer);
    let answer = device
        .answer(&request, Code::CONTENT)
        .uint(option::OBSERVE, 1)
        .uint(option::CONTENT_FORMAT, 11542)
        .payload([0xc1, 7, 42, 0xc3, 8, b'o', b'k', b'!']);
    world.datagram(device.peer, &answer.build());
    assert_eq!(
        world.next_published().json["data"]["content"],
        json!([{"path": "/40000/0/7", "value": 42, "inferred": true},
               {"path": "/40000/0/8", "value": "ok!", "inferred": true}])
    );
    device.next_mid();
}

#[test]
fn a14_a_notification_from_a_new_address_is_taken_and_the_address_asked() {
    for shard in [0, 1] {
        let mut world = World::sharded(2, |_| {});
        world.answers_pings = false;
        let mut device = Device::registered(&mut world, "ep1", 5001);
        let request = observed(&mut world, &device);
        let mut moved = Device {
            peer: crate::support::peer(6001),
            ..device.clone()
        };
        for (sequence, kind) in [
            (2, MessageType::Confirmable),
            (3, MessageType::NonConfirmable),
        ] {
            let notification = moved
                .separate(kind, &request, Code::CONTENT)
                .uint(option::OBSERVE, sequence)
                .payload("21");
            // At another shard even.
            world.datagram_at(shard, moved.peer, &notification.build());
            if kind == MessageType::Confirmable {
                let ack = world.next_for(moved.peer);
                let expected = (MessageType::Acknowledgement, moved.mid);
                assert_eq!((ack.kind(), ack.mid()), expected);
            }
            let json = world.next_published().json;
            assert_eq!(json["seqNum"], sequence);
            // A ping, then a question, since some clients do not answer pings.
            let question = world.next_for(moved.peer);
            assert_eq!(question.kind(), MessageType::Confirmable);
            let expected = if sequence == 2 {
                Code::EMPTY
            } else {
                Code::GET
            };
            assert_eq!(question.code(), expected);
            // Commands go to the old address as long as the new one has not answered.
            assert_eq!(world.counter("address_changed"), 0);
            if sequence == 3 {
                let mut answer = moved.answer(&question, Code::CONTENT);
                answer = answer.payload("maker");
                world.datagram_at(shard, moved.peer, &answer.build());
            }
        }
        assert_eq!(world.counter("address_changed"), 1);
        world.command("ep1", r#"{"msgType":"read","data":{"path":"/3/0/0"}}"#);
        let read = world.next_for(moved.peer);
        assert_eq!(uri(&read), "/3/0/0");
        let answer = moved.answer(&read, Code::CONTENT).payload("x");
        world.datagram_at(shard, moved.peer, &answer.build());
        assert_eq!(world.next_published().json["data"]["code"], "2.05");
        // The old address is nobody's now; it would be a second move.
        let late = device.separate(MessageType::NonConfirmable, &request, Code::CONTENT);
        let late = late.uint(option::OBSERVE, 4).payload("22");
        world.datagram_at(0, device.peer, &late.build());
        assert_eq!(world.next_published().json["seqNum"], 4);
        assert_eq!(world.next_for(device.peer).code(), Code::EMPTY, "a ping");
        world.assert_quiet();
        assert_eq!(world.counter("resets"), 0);
    }
}

#[test]
fn a14_the_ping_is_answered() {
    for shard in [0, 1] {
        let mut world = World::sharded(2, |_| {});
        let device = Device::registered(&mut world, "ep1", 5001);
        let request = observed(&mut world, &device);
        let mut moved = Device {
            peer: crate::support::peer(6001),
            ..device.clone()
        };
        let notification = moved
            .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
            .uint(option::OBSERVE, 2)
            .payload("21");
        world.datagram_at(shard, moved.peer, &notification.build());
        assert_eq!(world.counter("address_changed"), 1);
        assert_eq!(world.next_published().json["seqNum"], 2);
        let location = device.location.clone();
        let update = moved.request(Code::POST, &["rd", &location], &[]).build();
        world.datagram_at(shard, moved.peer, &update);
        assert_eq!(world.next_for(moved.peer).code(), Code::CHANGED);
        assert_eq!(world.counter("address_changed"), 1);
    }
}

#[test]
fn a14_nobody_else_is_taken_for_a_device() {
    let mut world = World::with(|config| config.address_change = AddressChange::Reject);
    let device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let mut moved = Device {
        peer: crate::support::peer(6001),
        ..device.clone()
    };
    let notification = moved
        .separate(MessageType::Confirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 2)
        .payload("21");
    world.datagram(moved.peer, &notification.build());
    assert_eq!(world.next_for(moved.peer).kind(), MessageType::Reset);
    world.assert_quiet();
    // The answer to a request is not taken from elsewhere, though its token is right.
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", OBSERVE);
    let request = world.next_for(device.peer);
    let forged = moved.separate(MessageType::Confirmable, &request, Code::CONTENT);
    let forged = forged.uint(option::OBSERVE, 1).payload("666");
    world.datagram(moved.peer, &forged.build());
    assert_eq!(world.next_for(moved.peer).kind(), MessageType::Reset);
    world.assert_quiet();
    // A token that nobody has is reset.
    let mut device = device;
    let mut world = World::new();
    let strange = Message::parse(&device.request(Code::GET, &[], &[]).build()).unwrap();
    let kind = MessageType::NonConfirmable;
    let strange = device.separate(kind, &strange, Code::CONTENT).build();
    world.datagram(moved.peer, &strange);
    assert_eq!(world.next_for(moved.peer).kind(), MessageType::Reset);
    assert!(world.published.is_empty());
}

#[test]
fn blocks_of_a_notification_are_of_one_format() {
    // Wakaama chooses a format for each request; Anjay wants all requests of a transfer alike.
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let first = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 5)
        .uint(option::CONTENT_FORMAT, 11543)
        .uint(option::BLOCK2, 8)
        .payload("0123456789abcdef");
    world.datagram(device.peer, &first.build());
    let rest = world.next_for(device.peer);
    assert_eq!(
        rest.first_option(option::ACCEPT),
        None,
        "like the first request"
    );
    let other = device
        .answer(&rest, Code::CONTENT)
        .option(option::CONTENT_FORMAT, [42])
        .uint(option::BLOCK2, 1 << 4)
        .payload("g");
    world.datagram(device.peer, &other.build());
    let again = world.next_for(device.peer);
    assert_eq!((again.observe(), again.token()), (Some(0), request.token()));
    assert_eq!(again.uint_option(option::ACCEPT, 2), Some(11543));
    let answer = device
        .answer(&again, Code::CONTENT)
        .uint(option::OBSERVE, 6)
        .uint(option::CONTENT_FORMAT, 11543)
        .payload(r#"{"bn":"/3303/0/5700","e":[{"v":21}]}"#);
    world.datagram(device.peer, &answer.build());
    assert_eq!(
        world.next_published().json["data"]["content"][0]["value"],
        21
    );
    world.assert_quiet();
}

#[test]
fn an_observe_in_blocks_of_two_formats_begins_anew() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command(
        "ep1",
        r#"{"reqID":9,"msgType":"observe","data":{"path":"/3303/0"}}"#,
    );
    let request = world.next_for(device.peer);
    let first = |request: &Message| {
        device
            .answer(request, Code::CONTENT)
            .uint(option::OBSERVE, 1)
            .uint(option::CONTENT_FORMAT, 11543)
            .uint(option::BLOCK2, 8)
            .payload(r#"{"bn":"/3303/0/""#)
            .build()
    };
    world.datagram(device.peer, &first(&request));
    let rest = world.next_for(device.peer);
    world.datagram(device.peer, &device.answer(&rest, Code::BAD_OPTION).build());
    let again = world.next_for(device.peer);
    assert_eq!((again.observe(), again.token()), (Some(0), request.token()));
    assert_eq!(again.uint_option(option::ACCEPT, 2), Some(11543));
    world.datagram(device.peer, &first(&again));
    let rest = world.next_for(device.peer);
    assert_eq!(rest.uint_option(option::ACCEPT, 2), Some(11543));
    let last = device
        .answer(&rest, Code::CONTENT)
        .uint(option::CONTENT_FORMAT, 11543)
        .uint(option::BLOCK2, 1 << 4)
        .payload(r#","e":[]}"#);
    world.datagram(device.peer, &last.build());
    assert_eq!(world.next_published().json["data"]["code"], "2.05");
    assert_eq!(world.counter("observations"), 1);
    world.assert_quiet();
}

#[test]
fn blocks_of_a_notification_wait_for_a_request_under_way() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let block = |device: &mut Device, sequence: u32| {
        device
            .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
            .uint(option::OBSERVE, sequence)
            .uint(option::BLOCK2, 8)
            .payload("0123456789abcdef")
            .build()
    };
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#,
    );
    let read = world.next_for(device.peer);
    let notification = block(&mut device, 5);
    world.datagram(device.peer, &notification);
    world.assert_quiet();
    world.datagram(
        device.peer,
        &device.answer(&read, Code::CONTENT).payload("x").build(),
    );
    assert_eq!(world.next_published().json["msgType"], "read");
    let rest = world.next_for(device.peer);
    assert_eq!(rest.uint_option(option::BLOCK2, 3), Some(1 << 4));
    // The fetch fails; the observation lives on.
    world.datagram(
        device.peer,
        &device.answer(&rest, Code::SERVICE_UNAVAILABLE).build(),
    );
    world.assert_quiet();
    assert_eq!(
        (
            world.counter("observations"),
            world.counter("decode_errors")
        ),
        (1, 1)
    );

    // While a cancellation is under way nothing is fetched.
    world.command(
        "ep1",
        r#"{"reqID":2,"msgType":"cancel-observe","data":{"path":"/3303/0/5700"}}"#,
    );
    let cancel = world.next_for(device.peer);
    let notification = block(&mut device, 6);
    world.datagram(device.peer, &notification);
    world.datagram(
        device.peer,
        &device.answer(&cancel, Code::CONTENT).payload("21").build(),
    );
    assert_eq!(world.next_published().json["msgType"], "cancel-observe");
    world.assert_quiet();
}

#[test]
fn transfers_go_on_in_the_order_of_their_first_blocks() {
    // Anjay cannot tell two transfers of one resource apart, and serves the oldest first.
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3303/0/5700"}}"#,
    );
    let read = world.next_for(device.peer);
    let notification = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 5)
        .uint(option::BLOCK2, 8)
        .payload("notification 16!");
    world.datagram(device.peer, &notification.build());
    let answer = device.answer(&read, Code::CONTENT).uint(option::BLOCK2, 8);
    world.datagram(device.peer, &answer.payload("answer, 16 bytes").build());
    for (text, kind) in [("N", "notify"), ("A", "read")] {
        let rest = world.next_for(device.peer);
        assert!(world.sent.is_empty(), "one at a time");
        let answer = device
            .answer(&rest, Code::CONTENT)
            .uint(option::BLOCK2, 1 << 4);
        world.datagram(device.peer, &answer.payload(text).build());
        let published = world.next_published().json;
        assert_eq!(published["msgType"], kind);
        let value = published["data"]["content"][0]["value"].as_str().unwrap();
        assert!(value.ends_with(text), "{value}");
    }
    world.assert_quiet();
}

#[test]
fn a_notification_that_cannot_be_put_together_is_counted() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let request = observed(&mut world, &device);
    let first = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 5)
        .uint(option::BLOCK2, 8)
        .payload("0123456789abcdef");
    world.datagram(device.peer, &first.build());
    let rest = world.next_for(device.peer);
    let wrong = device
        .answer(&rest, Code::CONTENT)
        .uint(option::BLOCK2, 3 << 4)
        .payload("g");
    world.datagram(device.peer, &wrong.build());
    world.assert_quiet();
    assert_eq!(world.counter("decode_errors"), 1);
    assert_eq!(world.counter("observations"), 1);
}
