//! What the application hears: every command is answered with its own members, whatever goes
//! wrong, and what the device says comes through. In virtual time.

use std::time::Duration;

use crate::support::{Device, World, uri};
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{empty, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{self, CommandInput, Settings};
use serde_json::{Value, json};

/// A command with members of its own.
fn command(name: &str, data: Value) -> Value {
    json!({"reqID": "a-1", "trace": {"id": [1.5, null]}, "msgType": name, "data": data})
}

fn read() -> Value {
    command("read", json!({"path": "/3/0/0"}))
}

/// The next message is the answer to `command`, as the device's mountpoint has it; its `data`.
#[track_caller]
fn answered(world: &mut World, endpoint: &str, command: &Value) -> Value {
    let answer = world.next_published();
    assert_eq!(answer.topic, format!("lwm2m/{endpoint}/up/resp"));
    let mut members = answer.json;
    let data = members["data"].take();
    let mut expected = command.clone();
    expected["data"] = Value::Null;
    assert_eq!(members, expected, "{data}");
    data
}

/// The same for a refusal of the gateway: code and reason.
#[track_caller]
fn refused(world: &mut World, endpoint: &str, command: &Value) -> (String, String) {
    let data = answered(world, endpoint, command);
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    (text("code"), text("reason"))
}

fn pair(code: &str, reason: &str) -> (String, String) {
    (code.to_owned(), reason.to_owned())
}

fn sleeping(world: &mut World) -> Device {
    let mut device = Device::new("ep1", 5001);
    device.register(world, &["b=UQ"], "</3/0>");
    world.next_published();
    world.pass(Duration::from_secs(100));
    device
}

fn queries(message: &Message) -> Vec<String> {
    let values = message.option_values(option::URI_QUERY);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

#[test]
fn b2_attributes_are_unset_by_their_names_alone() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let data = json!({"path": "/3/0/9", "pmin": "", "pmax": 60, "gt": null});
    world.command("ep1", &command("write-attr", data).to_string());
    let request = world.next_for(device.peer);
    assert_eq!(
        (request.code(), uri(&request)),
        (Code::PUT, "/3/0/9".to_owned())
    );
    assert_eq!(queries(&request), ["gt", "pmax=60", "pmin"]);
    assert!(request.payload().is_empty() && request.content_format().is_none());
}

#[test]
fn b3_arguments_of_execute_are_the_devices_business() {
    let execute = command("execute", json!({"path": "/3/0/4", "args": "2-3"}));
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", &execute.to_string());
    let request = world.next_for(device.peer);
    assert_eq!(
        (request.code(), request.payload()),
        (Code::POST, &b"2-3"[..])
    );
    assert_eq!(request.content_format(), Some(0));

    let mut world = World::with(|config| config.compat.pass_execute_arguments = false);
    let _device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", &execute.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &execute),
        pair("4.00", "bad_arguments")
    );
    world.assert_quiet();
}

/// An image of `size` bytes as one write.
fn image(size: usize) -> Value {
    // Three bytes of zeros are four letters.
    let value = "AAAA".repeat(size / 3);
    command(
        "write",
        json!({"path": "/5/0/0", "type": "Opaque", "value": value}),
    )
}

#[test]
fn b4_an_image_is_one_write_with_the_default_limits() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let image = image(800_000);
    world.command("ep1", &image.to_string());
    let mut body = 0;
    loop {
        let request = world.next_for(device.peer);
        body += request.payload().len();
        let block1 = request.uint_option(option::BLOCK1, 3).unwrap();
        let (code, last) = match block1 & 8 {
            0 => (Code::CHANGED, true),
            _ => (Code::CONTINUE, false),
        };
        let answer = device.answer(&request, code).uint(option::BLOCK1, block1);
        world.datagram(device.peer, &answer.build());
        if last {
            break;
        }
    }
    assert!((799_998..800_020).contains(&body), "{body}");
    let data = answered(&mut world, "ep1", &image);
    assert_eq!(data["code"], "2.04");
    world.assert_quiet();
}

#[test]
fn b4_a_command_that_is_too_large_is_refused_with_its_members() {
    for (change, key) in [
        (
            (|config: &mut lwm2m_gateway::config::Config| {
                config.limits.max_command_size = Some(2048);
            }) as fn(&mut _),
            "limits.max_command_size",
        ),
        (
            |config| config.blockwise.max_body_size = 2048,
            "blockwise.max_body_size",
        ),
    ] {
        let mut world = World::with(change);
        let _device = Device::registered(&mut world, "ep1", 5001);
        let image = image(9000);
        world.command("ep1", &image.to_string());
        let data = answered(&mut world, "ep1", &image);
        assert_eq!(
            (&data["code"], &data["reason"]),
            (&json!("4.00"), &json!("too_large"))
        );
        assert_eq!(data["reqPath"], "/5/0/0");
        let detail = data["detail"].as_str().unwrap();
        assert!(
            detail.contains(key) && detail.contains("at most 2048"),
            "{detail}"
        );
        world.assert_quiet();
        // The device is there for others.
        world.command("ep1", &read().to_string());
        assert_eq!(world.sent.len(), 1);
    }
}

/// A bridge that copies everything the gateway publishes back to the device's commands.
fn copy_back(world: &mut World) -> usize {
    let mut copied = 0;
    while let Some(message) = world.published.pop_front() {
        copied += 1;
        assert!(copied < 100, "a loop: {}", message.json);
        world.command("ep1", &message.json.to_string());
    }
    copied
}

#[test]
fn b8_a_loop_ends_with_the_first_answer() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &[], "</3/0>");
    // The report of the registration.
    assert_eq!(copy_back(&mut world), 1);
    let mut returned = 1;
    for (payload, copies) in [
        (read().to_string(), 1),
        (command("read", json!({})).to_string(), 1),
        (command("dance", json!({"path": "/3"})).to_string(), 1),
        ("{bad".to_owned(), 1),
        ("[]".to_owned(), 1),
    ] {
        world.command("ep1", &payload);
        if let Some((_, datagram)) = world.sent.pop_front() {
            let request = Message::parse(&datagram).unwrap();
            // With an acknowledgement of its own first.
            let ack = empty(MessageType::Acknowledgement, request.mid());
            world.datagram(device.peer, &ack);
            assert_eq!(copy_back(&mut world), 1);
            returned += 1;
            let answer = device.separate(MessageType::NonConfirmable, &request, Code::CONTENT);
            world.datagram(device.peer, &answer.payload("ACME").build());
        }
        assert_eq!(copy_back(&mut world), copies, "{payload}");
        returned += copies as u64;
        world.assert_quiet();
    }
    assert_eq!(world.counter("commands_returned"), returned);
    // Those that never reach a shard, or come at its end.
    let answer = r#"{"msgType":"read","data":{"reqPath":"/3","code":"2.05","codeMsg":"content"}}"#;
    let input = input(answer);
    let settings = Settings::new(lwm2m_gateway::config::Config::default());
    assert!(engine::overflow_answer(&settings, &input).is_none());
    assert!(engine::stopping_answer(&settings, &input).is_none());
    world.shut_down(0);
    world.command("ep1", answer);
    world.assert_quiet();
}

#[test]
fn b12_content_may_name_whole_paths() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let write = |path: &str| {
        let content = json!([{"path": path, "type": "Integer", "value": 5}]);
        command("write", json!({"basePath": "/1/0", "content": content}))
    };
    let mut requests = Vec::new();
    for path in ["/1/0/2", "2"] {
        world.command("ep1", &write(path).to_string());
        let request = world.next_for(device.peer);
        requests.push((request.code(), uri(&request), request.payload().to_vec()));
        let answer = device.answer(&request, Code::CHANGED).build();
        world.datagram(device.peer, &answer);
        assert_eq!(answered(&mut world, "ep1", &write(path))["code"], "2.04");
    }
    assert_eq!(requests[0], requests[1]);
    world.command("ep1", &write("/1/1/2").to_string());
    assert_eq!(
        refused(&mut world, "ep1", &write("/1/1/2")),
        pair("4.00", "bad_path")
    );
}

#[test]
fn b15_a_command_beyond_the_queue_names_the_limit() {
    let mut world = World::with(|config| config.queue.max_bytes = 4096);
    let _device = sleeping(&mut world);
    let image = image(9000);
    let size = image.to_string().len();
    world.command("ep1", &image.to_string());
    let data = answered(&mut world, "ep1", &image);
    assert_eq!(
        (&data["code"], &data["reason"]),
        (&json!("5.03"), &json!("too_large"))
    );
    let detail = format!("{size} bytes, at most 4096 may wait for a device (queue.max_bytes)");
    assert_eq!(data["detail"], json!(detail));
    // One that fits but for others finds a full queue.
    let large = command(
        "write",
        json!({"path": "/3/0/15", "value": "x".repeat(3000)}),
    );
    world.command("ep1", &large.to_string());
    world.assert_quiet();
    world.command("ep1", &large.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &large),
        pair("5.03", "queue_full")
    );
}

/// One exchange: the answer of the device to `sent`, and the `data` that comes of it.
fn exchange(world: &mut World, device: &Device, sent: &Value, answer: Said<'_>) -> Value {
    world.command("ep1", &sent.to_string());
    let request = world.next_for(device.peer);
    let mut builder = device.answer(&request, answer.code);
    for segment in answer.location {
        builder = builder.option(option::LOCATION_PATH, *segment);
    }
    if let Some(size) = answer.size1 {
        builder = builder.uint(option::SIZE1, size);
    }
    world.datagram(device.peer, &builder.payload(answer.payload).build());
    answered(world, "ep1", sent)
}

struct Said<'a> {
    code: Code,
    payload: &'a [u8],
    location: &'a [&'a str],
    size1: Option<u32>,
}

fn said(code: Code, payload: &[u8]) -> Said<'_> {
    Said {
        code,
        payload,
        location: &[],
        size1: None,
    }
}

#[test]
fn what_the_device_says_reaches_the_application() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(
        &mut world,
        &[],
        r#"</lwm2m>;rt="oma.lwm2m",</lwm2m/3/0>,</lwm2m/5/0>"#,
    );
    world.next_published();

    let data = exchange(
        &mut world,
        &device,
        &read(),
        said(Code::NOT_FOUND, b"no such thing"),
    );
    assert_eq!(
        data,
        json!({"reqPath": "/3/0/0", "code": "4.04", "codeMsg": "not_found",
            "diagnostic": "no such thing"})
    );

    let execute = command("execute", json!({"path": "/3/0/4", "args": "2"}));
    let data = exchange(
        &mut world,
        &device,
        &execute,
        said(Code::CHANGED, b"in 5 s"),
    );
    assert_eq!(
        data,
        json!({"reqPath": "/3/0/4", "code": "2.04", "codeMsg": "changed",
            "content": [{"path": "/3/0/4", "value": "in 5 s"}]})
    );

    let create = command("create", json!({"basePath": "/3303", "content": []}));
    for (location, expected) in [
        (&["lwm2m", "3303", "1"][..], json!("/3303/1")),
        (&["3303", "1"], json!("/3303/1")),
        (&["lwm2mx", "1"], json!("/lwm2mx/1")),
        (&[], Value::Null),
    ] {
        let answer = Said {
            location,
            ..said(Code::CREATED, b"")
        };
        let data = exchange(&mut world, &device, &create, answer);
        assert_eq!(
            (&data["code"], &data["location"]),
            (&json!("2.01"), &expected)
        );
    }
    // Only a Create makes something that has a place.
    let answer = Said {
        location: &["3303", "1"],
        ..said(Code::CREATED, b"")
    };
    let data = exchange(&mut world, &device, &execute, answer);
    assert_eq!(
        data,
        json!({"reqPath": "/3/0/4", "code": "2.01", "codeMsg": "created"})
    );

    let write = command(
        "write",
        json!({"path": "/5/0/1", "type": "String", "value": "x".repeat(900)}),
    );
    let answer = Said {
        size1: Some(512),
        ..said(Code::REQUEST_ENTITY_TOO_LARGE, b"512 bytes")
    };
    let data = exchange(&mut world, &device, &write, answer);
    assert_eq!(
        data,
        json!({"reqPath": "/5/0/1", "code": "4.13", "codeMsg": "request_entity_too_large",
            "diagnostic": "512 bytes", "size1": 512})
    );
    world.assert_quiet();
}

#[test]
fn the_end_of_an_observation_says_why() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let observe = command("observe", json!({"path": "/3/0/9"}));
    world.command("ep1", &observe.to_string());
    let request = world.next_for(device.peer);
    let answer = device.answer(&request, Code::CONTENT);
    let answer = answer.uint(option::OBSERVE, 1).payload("5").build();
    world.datagram(device.peer, &answer);
    answered(&mut world, "ep1", &observe_with_number(&observe));
    let end = device.separate(MessageType::NonConfirmable, &request, Code::NOT_FOUND);
    world.datagram(device.peer, &end.payload("instance deleted").build());
    let notification = world.next_published().json;
    assert_eq!(notification["msgType"], "notify");
    assert_eq!(notification["reqID"], "a-1");
    assert_eq!(notification["data"]["diagnostic"], "instance deleted");
}

fn observe_with_number(observe: &Value) -> Value {
    let mut with = observe.clone();
    with["seqNum"] = json!(1);
    with
}

fn input(payload: &str) -> CommandInput {
    CommandInput {
        order: 0,
        endpoint: "ep1".into(),
        mount: "lwm2m/ep1/".into(),
        dialect: Dialect::Current,
        payload: payload.as_bytes().to_vec(),
        expiry: None,
        origin: None,
        reply: None,
    }
}

/// Every refusal but those of parsing (`bridge::tests`) and of bad blocks (below).
#[test]
fn every_refusal_has_the_members_of_its_command() {
    let read = read();

    let mut world = World::new();
    world.command("nobody", &read.to_string());
    assert_eq!(
        refused(&mut world, "nobody", &read),
        pair("4.04", "not_registered")
    );

    let settings = Settings::new(lwm2m_gateway::config::Config::default());
    for (answer, reason) in [
        (
            engine::overflow_answer(&settings, &input(&read.to_string())),
            "overloaded",
        ),
        (
            engine::stopping_answer(&settings, &input(&read.to_string())),
            "gateway_stopping",
        ),
    ] {
        let answer = answer.unwrap();
        let json: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(
            (&json["reqID"], &json["trace"]),
            (&read["reqID"], &read["trace"])
        );
        assert_eq!(
            (&json["msgType"], &json["data"]["reason"]),
            (&json!("read"), &json!(reason))
        );
    }

    // What waits: too long, too much, at the end of the gateway.
    let mut world = World::with(|config| config.queue.max_commands = 2);
    let _device = sleeping(&mut world);
    world.command_with("ep1", &read.to_string(), Dialect::Current, Some(5));
    world.command("ep1", &read.to_string());
    world.assert_quiet();
    world.command("ep1", &read.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &read),
        pair("5.03", "queue_full")
    );
    world.pass(Duration::from_secs(6));
    assert_eq!(refused(&mut world, "ep1", &read), pair("5.04", "expired"));
    world.shut_down(0);
    assert_eq!(
        refused(&mut world, "ep1", &read),
        pair("5.03", "gateway_stopping")
    );
    world.command("ep1", &read.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &read),
        pair("5.03", "gateway_stopping")
    );

    // The registration ends.
    let mut world = World::new();
    let _device = sleeping(&mut world);
    world.command("ep1", &read.to_string());
    world.kick("ep1");
    assert_eq!(
        refused(&mut world, "ep1", &read),
        pair("4.04", "not_registered")
    );

    // Memory and observations.
    let mut world = World::with(|config| config.limits.memory = Some(1 << 20));
    let _device = sleeping(&mut world);
    let large = command(
        "write",
        json!({"path": "/3/0/15", "value": "x".repeat(500_000)}),
    );
    world.command("ep1", &large.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &large),
        pair("5.03", "memory_full")
    );
    let mut world = World::with(|config| config.limits.memory = Some(1 << 20));
    let _device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", &large.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &large),
        pair("5.03", "memory_full")
    );
    let mut world = World::with(|config| config.limits.max_observations = 0);
    let _device = Device::registered(&mut world, "ep1", 5001);
    let observe = command("observe", json!({"path": "/3/0/9"}));
    world.command("ep1", &observe.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &observe),
        pair("5.03", "too_many_observations")
    );

    // What makes no request.
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let data = json!({"path": "/3/0/13", "value": "x"});
    let unsuitable = command("write", data);
    world.command("ep1", &unsuitable.to_string());
    assert_eq!(
        refused(&mut world, "ep1", &unsuitable),
        pair("4.00", "bad_value")
    );

    // What the device leaves unanswered, or cannot bring to an end.
    world.command("ep1", &read.to_string());
    let request = world.next_for(device.peer);
    world.datagram(device.peer, &empty(MessageType::Reset, request.mid()));
    let reset = world.next_published().json;
    assert_eq!(reset, repeated(&read, "coap_reset"));
    world.command("ep1", &read.to_string());
    world.sent.clear();
    world.pass(Duration::from_secs(200));
    world.sent.clear();
    assert_eq!(world.next_published().json, repeated(&read, "coap_timeout"));
    world.assert_quiet();
}

fn repeated(command: &Value, name: &str) -> Value {
    let mut repeated = command.clone();
    repeated["msgType"] = json!(name);
    repeated
}

/// Answers of a device that cannot be put together.
#[test]
fn answers_that_are_none_have_the_members_of_their_command() {
    let read = read();
    for (block2, reason) in [(3 << 4 | 8 | 6, "bad_block"), (7 | 8, "bad_block")] {
        let mut world = World::new();
        let device = Device::registered(&mut world, "ep1", 5001);
        world.command("ep1", &read.to_string());
        let mut tries = 0;
        while let Some((_, datagram)) = world.sent.pop_front() {
            let request = Message::parse(&datagram).unwrap();
            let answer = device.answer(&request, Code::CONTENT);
            let answer = answer.uint(option::BLOCK2, block2).payload([b'x'; 1024]);
            world.datagram(device.peer, &answer.build());
            tries += 1;
            assert!(tries < 100);
        }
        assert_eq!(refused(&mut world, "ep1", &read), pair("5.02", reason));
    }
    let mut world = World::with(|config| config.blockwise.max_body_size = 1500);
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", &read.to_string());
    for number in 0..2_u32 {
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT);
        let block2 = number << 4 | 8 | 6;
        let answer = answer.uint(option::BLOCK2, block2).payload([b'x'; 1024]);
        world.datagram(device.peer, &answer.build());
    }
    assert_eq!(
        refused(&mut world, "ep1", &read),
        pair("5.02", "body_too_large")
    );

    // A payload that breaks its format.
    let data = {
        world.command("ep1", &read.to_string());
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT);
        let answer = answer
            .uint(option::CONTENT_FORMAT, 11542)
            .payload(b"\xff\xff".to_vec());
        world.datagram(device.peer, &answer.build());
        answered(&mut world, "ep1", &read)
    };
    assert_eq!(
        (&data["code"], &data["reason"]),
        (&json!("4.00"), &json!("undecodable"))
    );
}
