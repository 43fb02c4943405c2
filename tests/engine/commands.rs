//! Commands, their requests and answers, in virtual time.

use std::time::Duration;

use crate::support::{Device, World, uri};
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{empty, option};
use lwm2m_gateway::coap::{Code, MessageType};
use lwm2m_gateway::engine::CommandInput;
use lwm2m_gateway::host::ReplyTo;
use serde_json::{Value, json};

const READ: &str = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#;

#[test]
fn read_and_piggybacked_answer() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    assert_eq!(
        (request.code(), uri(&request).as_str()),
        (Code::GET, "/3/0/0")
    );
    assert!(!request.token().is_empty());
    world.datagram(
        device.peer,
        &device
            .answer(&request, Code::CONTENT)
            .payload("ACME")
            .build(),
    );
    let answer = world.next_published();
    assert_eq!(answer.topic, "lwm2m/ep1/up/resp");
    assert_eq!(
        answer.json,
        json!({"reqID": 1, "msgType": "read", "data": {
            "reqPath": "/3/0/0", "code": "2.05", "codeMsg": "content",
            "content": [{"path": "/3/0/0", "value": "ACME"}]}})
    );
    world.assert_quiet();
}

#[test]
fn a_lost_datagram_is_sent_again_with_the_same_message_id() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let first = world.next_for(device.peer);
    world.pass(Duration::from_secs(3));
    let again = world.next_for(device.peer);
    assert_eq!((first.mid(), first.token()), (again.mid(), again.token()));
    world.datagram(
        device.peer,
        &device.answer(&again, Code::CONTENT).payload("x").build(),
    );
    assert_eq!(world.next_published().json["data"]["code"], "2.05");
    world.pass(Duration::from_secs(200));
    world.assert_quiet();
}

#[test]
fn silence_is_reported_once_and_does_not_block() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    world.command(
        "ep1",
        r#"{"reqID":2,"msgType":"read","data":{"path":"/3/0/1"}}"#,
    );
    while world.published.is_empty() {
        world.pass(Duration::from_millis(100));
    }
    let sent: Vec<_> = (0..5).map(|_| world.next_for(device.peer)).collect();
    assert!(sent.iter().all(|request| request.mid() == sent[0].mid()));
    let timeout = world.next_published();
    assert_eq!(
        timeout.json,
        json!({"reqID": 1, "msgType": "coap_timeout", "data": {"path": "/3/0/0"}})
    );
    let second = world.next_for(device.peer);
    assert_eq!(uri(&second), "/3/0/1");
    world.datagram(
        device.peer,
        &device.answer(&second, Code::CONTENT).payload("x").build(),
    );
    assert_eq!(world.next_published().json["reqID"], 2);
    world.assert_quiet();
    // The answer to the first comes after all: an ACK nobody waits for is ignored.
    world.datagram(
        device.peer,
        &device
            .answer(&sent[0], Code::CONTENT)
            .payload("late")
            .build(),
    );
    world.assert_quiet();
}

#[test]
fn separate_response() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    for _ in 0..2 {
        world.datagram(
            device.peer,
            &empty(MessageType::Acknowledgement, request.mid()),
        );
    }
    assert_eq!(
        world.next_published().json,
        json!({"reqID": 1, "msgType": "ack", "data": {"path": "/3/0/0"}}),
        "reported once"
    );
    world.pass(Duration::from_secs(30));
    world.assert_quiet();
    let response = device
        .separate(MessageType::Confirmable, &request, Code::CONTENT)
        .payload("ACME")
        .build();
    world.datagram(device.peer, &response);
    let ack = world.next_for(device.peer);
    assert_eq!(
        (ack.kind(), ack.code(), ack.mid()),
        (MessageType::Acknowledgement, Code::EMPTY, device.mid)
    );
    assert_eq!(
        world.next_published().json["data"]["content"][0]["value"],
        "ACME"
    );
    // The acknowledgement was lost: it is repeated, the response is not published twice.
    world.datagram(device.peer, &response);
    assert_eq!(
        world.next_for(device.peer).kind(),
        MessageType::Acknowledgement
    );
    world.assert_quiet();
}

#[test]
fn an_empty_ack_without_a_response_has_a_deadline() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    world.datagram(
        device.peer,
        &empty(MessageType::Acknowledgement, request.mid()),
    );
    assert_eq!(world.next_published().json["msgType"], "ack");
    world.pass(Duration::from_secs(61));
    assert_eq!(world.next_published().json["msgType"], "coap_timeout");
    world.pass(Duration::from_secs(200));
    world.assert_quiet();
}

#[test]
fn reset_is_reported() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    world.datagram(device.peer, &empty(MessageType::Reset, request.mid()));
    assert_eq!(world.next_published().json["msgType"], "coap_reset");
    world.pass(Duration::from_secs(200));
    world.assert_quiet();
}

#[test]
fn nstart_is_honoured_in_order() {
    let mut world = World::with(|config| config.coap.nstart = 2);
    let device = Device::registered(&mut world, "ep1", 5001);
    for id in 0..4 {
        world.command(
            "ep1",
            &format!(r#"{{"reqID":{id},"msgType":"read","data":{{"path":"/3/0/{id}"}}}}"#),
        );
    }
    let (first, second) = (world.next_for(device.peer), world.next_for(device.peer));
    assert_eq!(
        (uri(&first), uri(&second)),
        ("/3/0/0".into(), "/3/0/1".into())
    );
    world.assert_quiet();
    world.datagram(
        device.peer,
        &device.answer(&second, Code::CONTENT).payload("x").build(),
    );
    assert_eq!(world.next_published().json["reqID"], 1);
    assert_eq!(uri(&world.next_for(device.peer)), "/3/0/2");
    world.assert_quiet();
}

#[test]
fn any_code_is_reported() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    for (code, text) in [
        (Code::new(4, 4), "4.04"),
        (Code::new(4, 9), "4.09"),
        (Code::new(4, 29), "4.29"),
        (Code::new(5, 31), "5.31"),
        (Code::new(2, 17), "2.17"),
        (Code::new(3, 1), "3.01"),
    ] {
        world.command(
            "ep1",
            r#"{"reqID":1,"msgType":"execute","data":{"path":"/3/0/4","args":"2,7"}}"#,
        );
        let request = world.next_for(device.peer);
        assert_eq!(
            (request.code(), request.payload()),
            (Code::POST, &b"2,7"[..])
        );
        world.datagram(device.peer, &device.answer(&request, code).build());
        assert_eq!(world.next_published().json["data"]["code"], text);
    }
    world.assert_quiet();
}

#[test]
fn unregistered_malformed_and_unknown_commands_are_answered() {
    let mut world = World::new();
    let _device = Device::registered(&mut world, "ep1", 5001);
    world.command("nobody", READ);
    let answer = world.next_published();
    assert_eq!(answer.topic, "lwm2m/nobody/up/resp");
    assert_eq!(answer.json["reqID"], 1);
    assert_eq!(answer.json["data"]["code"], "4.04");
    assert_eq!(answer.json["data"]["reason"], "not_registered");
    for (json, reason) in [
        ("{bad json", "malformed_json"),
        (
            r#"{"reqID":5,"msgType":"dance","data":{"path":"/3"}}"#,
            "unknown_msgType",
        ),
        (r#"{"reqID":5,"msgType":"read"}"#, "missing_data"),
        (
            r#"{"reqID":5,"msgType":"read","data":{"path":"/1/2/3/4/5"}}"#,
            "bad_path",
        ),
    ] {
        world.command("ep1", json);
        let answer = world.next_published();
        assert_eq!(answer.json["data"]["code"], "4.00", "{json}");
        assert_eq!(answer.json["data"]["codeMsg"], "bad_request");
        assert_eq!(answer.json["data"]["reason"], reason);
        world.assert_quiet();
    }
}

#[test]
fn alternate_paths_are_added_and_taken_off() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &[], r#"</lwm2m>;rt="oma.lwm2m",</lwm2m/3/0>"#);
    let report = world.next_published().json;
    assert_eq!(report["data"]["alternatePath"], "/lwm2m");
    assert_eq!(report["data"]["objectList"], json!(["/3/0"]));
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    assert_eq!(uri(&request), "/lwm2m/3/0/0");
    let answer = device
        .answer(&request, Code::CONTENT)
        .uint(option::CONTENT_FORMAT, 11543)
        .payload(r#"{"bn":"/lwm2m/3/0/","e":[{"n":"0","sv":"ACME"}]}"#);
    world.datagram(device.peer, &answer.build());
    let content = &world.next_published().json["data"]["content"];
    assert_eq!(*content, json!([{"path": "/3/0/0", "value": "ACME"}]));
}

#[test]
fn large_write_in_blocks() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let value = "x".repeat(4000);
    world.command(
        "ep1",
        &json!({"reqID": 1, "msgType": "write",
                "data": {"path": "/5/0/1", "type": "String", "value": value}})
        .to_string(),
    );
    let mut body = Vec::new();
    let mut tokens = Vec::new();
    for number in 0..4u32 {
        let request = world.next_for(device.peer);
        tokens.push(request.token().to_vec());
        let block1 = request.uint_option(option::BLOCK1, 3).unwrap();
        assert_eq!(block1, number << 4 | u32::from(number < 3) << 3 | 6);
        assert_eq!(request.uint_option(option::SIZE1, 4).is_some(), number == 0);
        assert_eq!(request.content_format(), Some(11542));
        body.extend_from_slice(request.payload());
        let code = if number < 3 {
            Code::CONTINUE
        } else {
            Code::CHANGED
        };
        let answer = device.answer(&request, code).uint(option::BLOCK1, block1);
        world.datagram(device.peer, &answer.build());
    }
    assert_eq!(body.len(), 4004, "TLV header and value");
    tokens.dedup();
    assert_eq!(tokens.len(), 4, "a token for each exchange");
    assert_eq!(world.next_published().json["data"]["code"], "2.04");
    world.assert_quiet();
}

#[test]
fn a_device_that_wants_smaller_blocks_gets_them() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let value = "x".repeat(500);
    world.command(
        "ep1",
        &json!({"msgType": "write", "data": {"path": "/5/0/1", "type": "String", "value": value}})
            .to_string(),
    );
    let request = world.next_for(device.peer);
    assert_eq!(request.first_option(option::BLOCK1), None);
    // 4.13 with the size the device can take (RFC 7959 §2.9.3).
    let refusal = device
        .answer(&request, Code::REQUEST_ENTITY_TOO_LARGE)
        .uint(option::BLOCK1, 4);
    world.datagram(device.peer, &refusal.build());
    let mut body = 0;
    for number in 0..2u32 {
        let request = world.next_for(device.peer);
        let block1 = request.uint_option(option::BLOCK1, 3).unwrap();
        assert_eq!((block1 >> 4, block1 & 7), (number, 4));
        body += request.payload().len();
        let code = if number == 0 {
            Code::CONTINUE
        } else {
            Code::CHANGED
        };
        world.datagram(
            device.peer,
            &device
                .answer(&request, code)
                .uint(option::BLOCK1, block1)
                .build(),
        );
    }
    assert_eq!(body, 504);
    assert_eq!(world.next_published().json["data"]["code"], "2.04");
}

#[test]
fn smaller_blocks_are_tried_unasked() {
    // Anjay with a small receive buffer answers 4.13 without a Block1 option.
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let value = "x".repeat(900);
    world.command(
        "ep1",
        &json!({"msgType": "write", "data": {"path": "/5/0/1", "type": "String", "value": value}})
            .to_string(),
    );
    let mut sizes = Vec::new();
    let (mut body, mut tries) = (0, 0);
    while world.published.is_empty() {
        let request = world.next_for(device.peer);
        let block1 = request.uint_option(option::BLOCK1, 3);
        sizes.push(request.payload().len());
        let answer = if request.payload().len() > 256 {
            device.answer(&request, Code::REQUEST_ENTITY_TOO_LARGE)
        } else {
            body += request.payload().len();
            let block1 = block1.unwrap();
            let code = if block1 & 8 == 0 {
                Code::CHANGED
            } else {
                Code::CONTINUE
            };
            device.answer(&request, code).uint(option::BLOCK1, block1)
        };
        world.datagram(device.peer, &answer.build());
        tries += 1;
        assert!(tries < 20);
    }
    assert_eq!((&sizes[..3], body), (&[904, 512, 256][..], 904));
    assert_eq!(world.next_published().json["data"]["code"], "2.04");
    // A device that takes nothing is not asked forever.
    world.command(
        "ep1",
        &json!({"msgType": "write", "data": {"path": "/5/0/1", "type": "String", "value": value}})
            .to_string(),
    );
    let mut tries = 0;
    while world.published.is_empty() {
        let request = world.next_for(device.peer);
        let refusal = device.answer(&request, Code::REQUEST_ENTITY_TOO_LARGE);
        world.datagram(device.peer, &refusal.build());
        tries += 1;
        assert!(tries < 10);
    }
    assert_eq!(world.next_published().json["data"]["code"], "4.13");
}

#[test]
fn large_read_in_blocks() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let value: String = ('a'..='z').cycle().take(5000).collect();
    world.command("ep1", READ);
    for number in 0..5u32 {
        let request = world.next_for(device.peer);
        if number > 0 {
            assert_eq!(
                request.uint_option(option::BLOCK2, 3),
                Some(number << 4 | 6)
            );
        }
        let more = u32::from(number < 4) << 3;
        let block = value.as_bytes().chunks(1024).nth(number as usize).unwrap();
        let answer = device
            .answer(&request, Code::CONTENT)
            .option(option::ETAG, *b"v1")
            .uint(option::CONTENT_FORMAT, 0)
            .uint(option::BLOCK2, number << 4 | more | 6)
            .payload(block);
        world.datagram(device.peer, &answer.build());
    }
    assert_eq!(
        world.next_published().json["data"]["content"][0]["value"],
        value.as_str()
    );
    world.assert_quiet();
}

#[test]
fn a_representation_that_changes_is_read_anew() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let answer = |world: &mut World, etag: &str, number: u32, more: bool, text: &str| {
        let request = world.next_for(device.peer);
        let asked = request.uint_option(option::BLOCK2, 3).unwrap_or(0) >> 4;
        assert_eq!(asked, number);
        let answer = device
            .answer(&request, Code::CONTENT)
            .option(option::ETAG, etag)
            .uint(option::BLOCK2, number << 4 | u32::from(more) << 3)
            .payload(text);
        world.datagram(device.peer, &answer.build());
    };
    answer(&mut world, "1", 0, true, "0123456789abcdef");
    answer(&mut world, "2", 1, false, "new");
    answer(&mut world, "2", 0, true, "fedcba9876543210");
    answer(&mut world, "2", 1, false, "new");
    assert_eq!(
        world.next_published().json["data"]["content"][0]["value"],
        "fedcba9876543210new"
    );
}

#[test]
fn a_body_beyond_the_limit_is_given_up() {
    let mut world = World::with(|config| config.blockwise.max_body_size = 2000);
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    for number in 0..2u32 {
        let request = world.next_for(device.peer);
        let answer = device
            .answer(&request, Code::CONTENT)
            .uint(option::BLOCK2, number << 4 | 8 | 6)
            .payload(vec![b'x'; 1024]);
        world.datagram(device.peer, &answer.build());
    }
    let answer = world.next_published();
    assert_eq!(answer.json["data"]["reason"], "body_too_large");
    world.assert_quiet();
}

#[test]
fn queue_mode_keeps_order_and_bounds() {
    let mut world = World::with(|config| config.queue.max_commands = 3);
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=UQ"], "</3/0>");
    world.next_published();
    world.pass(Duration::from_secs(23));
    let read =
        |id: u32| format!(r#"{{"reqID":{id},"msgType":"read","data":{{"path":"/3/0/{id}"}}}}"#);
    for id in 0..4 {
        world.command("ep1", &read(id));
    }
    assert!(world.sent.is_empty(), "the device sleeps");
    let overflow = world.next_published();
    assert_eq!(
        (
            overflow.json["reqID"].as_u64(),
            &overflow.json["data"]["reason"]
        ),
        (Some(3), &json!("queue_full"))
    );
    world.assert_quiet();
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    for id in 0..3 {
        let request = world.next_for(device.peer);
        assert_eq!(uri(&request), format!("/3/0/{id}"));
        world.datagram(
            device.peer,
            &device.answer(&request, Code::CONTENT).payload("x").build(),
        );
        assert_eq!(world.next_published().json["reqID"], id);
    }
    world.assert_quiet();
}

#[test]
fn queued_commands_expire() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=U", "Q"], "</3/0>");
    world.next_published();
    world.pass(Duration::from_secs(23));
    world.command_with("ep1", READ, Dialect::Current, Some(5));
    world.command_with(
        "ep1",
        r#"{"reqID":2,"msgType":"read","data":{"path":"/3/0/1"}}"#,
        Dialect::Current,
        None,
    );
    world.pass(Duration::from_secs(6));
    let expired = world.next_published();
    assert_eq!(
        (
            expired.json["reqID"].as_u64(),
            &expired.json["data"]["reason"]
        ),
        (Some(1), &json!("expired"))
    );
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    assert_eq!(uri(&world.next_for(device.peer)), "/3/0/1");
    world.assert_quiet();
}

#[test]
fn ttl_zero_does_not_wait_for_a_sleeping_device() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=UQ"], "</3/0>");
    world.next_published();
    world.pass(Duration::from_secs(23));
    world.command("ep1", READ);
    world.assert_quiet();
    world.command(
        "ep1",
        r#"{"reqID":2,"msgType":"read","data":{"path":"/3/0/1"},"mheaders":{"ttl":0}}"#,
    );
    assert_eq!(uri(&world.next_for(device.peer)), "/3/0/1");
    world.assert_quiet();
}

#[test]
fn a_reboot_command_is_not_repeated_after_the_reboot() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"execute","data":{"path":"/3/0/4"}}"#,
    );
    assert_eq!(world.next_for(device.peer).code(), Code::POST);
    device.register(&mut world, &[], "</3/0>");
    assert_eq!(world.next_published().json["msgType"], "register");
    world.pass(Duration::from_secs(59));
    world.assert_quiet();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.next_published().json["msgType"], "coap_timeout");
}

#[test]
fn a_failed_block_is_reported_with_its_code() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    let first = device
        .answer(&request, Code::CONTENT)
        .uint(option::BLOCK2, 8)
        .payload("0123456789abcdef");
    world.datagram(device.peer, &first.build());
    let request = world.next_for(device.peer);
    let failure = device.answer(&request, Code::INTERNAL_SERVER_ERROR);
    world.datagram(device.peer, &failure.build());
    assert_eq!(
        world.next_published().json["data"],
        json!({"reqPath": "/3/0/0", "code": "5.00", "codeMsg": "internal_server_error"})
    );
    world.assert_quiet();
}

#[test]
fn answers_go_by_the_topic_pair_of_their_command() {
    let mut world = World::with(|config| config.translators.legacy.enable = true);
    let device = Device::registered(&mut world, "ep1", 5001);
    let old = r#"{"CmdID":5,"Command":"Read","BaseName":"/3/0/0"}"#;
    for (command, id) in [(READ, "reqID"), (old, "CmdID")] {
        world.command_with("ep1", command, Dialect::Legacy, None);
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT).payload("ACME");
        world.datagram(device.peer, &answer.build());
        let answer = world.next_published();
        assert_eq!(answer.topic, "lwm2m/ep1/response");
        assert!(answer.json[id].is_number());
    }
    world.command_with("ep1", "{bad", Dialect::Legacy, None);
    assert_eq!(world.next_published().topic, "lwm2m/ep1/response");
}

/// A command with a response topic, and Correlation Data `c`.
fn with_reply(endpoint: &str, json: &str) -> CommandInput {
    CommandInput {
        order: 0,
        endpoint: endpoint.into(),
        mount: format!("lwm2m/{endpoint}/").into(),
        dialect: Dialect::Current,
        payload: json.as_bytes().to_vec(),
        expiry: None,
        origin: None,
        reply: Some(Box::new(ReplyTo::new("answers/7", Some(b"c")))),
    }
}

/// The next answer comes on its own topic, and then in the same words where it was asked for.
fn assert_answered_twice(world: &mut World) -> Value {
    let (own, copy) = (world.next_published(), world.next_published());
    assert!(own.topic.ends_with("/up/resp") && own.correlation.is_none());
    assert_eq!(copy.topic, "answers/7");
    assert_eq!(copy.correlation.as_deref(), Some(&b"c"[..]));
    assert_eq!((&copy.json, copy.qos), (&own.json, own.qos));
    own.json
}

#[test]
fn b14_answers_go_to_the_response_topic_with_the_correlation_data() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command_input(0, with_reply("ep1", READ));
    let request = world.next_for(device.peer);
    let answer = device.answer(&request, Code::CONTENT).payload("x").build();
    world.datagram(device.peer, &answer);
    assert_eq!(assert_answered_twice(&mut world)["msgType"], "read");
    // Nobody answers.
    world.command_input(0, with_reply("ep1", READ));
    while world.published.is_empty() {
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(assert_answered_twice(&mut world)["msgType"], "coap_timeout");
    // Answers of our own.
    for (endpoint, json, reason) in [
        ("nobody", READ, "not_registered"),
        ("ep1", "{bad json", "malformed_json"),
    ] {
        world.command_input(0, with_reply(endpoint, json));
        let answer = assert_answered_twice(&mut world);
        assert_eq!(answer["data"]["reason"], reason);
    }
    world.shut_down(0);
    world.published.clear();
    world.command_input(0, with_reply("ep1", READ));
    assert_eq!(assert_answered_twice(&mut world)["data"]["code"], "5.03");
}

#[test]
fn b14_notifications_stay_on_their_topic() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let observe = r#"{"reqID":1,"msgType":"observe","data":{"path":"/3/0/9"}}"#;
    world.command_input(0, with_reply("ep1", observe));
    let request = world.next_for(device.peer);
    let answer = device.answer(&request, Code::CONTENT);
    let answer = answer.uint(option::OBSERVE, 1).payload("1");
    world.datagram(device.peer, &answer.build());
    assert_answered_twice(&mut world);
    let notification = device.separate(MessageType::NonConfirmable, &request, Code::CONTENT);
    let notification = notification.uint(option::OBSERVE, 2).payload("2");
    world.datagram(device.peer, &notification.build());
    assert_eq!(world.next_published().topic, "lwm2m/ep1/up/notify");
    world.assert_quiet();
}

#[test]
fn b14_a_response_topic_is_charged_where_it_waits() {
    let mut input = with_reply("ep1", READ);
    let long = "t".repeat(1000);
    input.reply = Some(Box::new(ReplyTo::new(&long, Some(long.as_bytes()))));
    let with = input.bytes();
    input.reply = None;
    assert!(with >= input.bytes() + 2000);
}
