//! Block-wise transfers with devices that get them wrong, in virtual time: every one of them ends.

use std::time::Duration;

use crate::support::{Device, World};
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, Message, MessageType};
use serde_json::{Value, json};

const READ: &str = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#;
const OBSERVE: &str = r#"{"reqID":9,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#;

/// Answers every request by what `answer` makes of it, until nothing more is asked; returns how
/// many requests there were. `limit` is far beyond what is allowed.
fn serve(
    world: &mut World,
    device: &Device,
    limit: usize,
    mut answer: impl FnMut(&Message, usize) -> Vec<u8>,
) -> usize {
    let mut requests = 0;
    while !world.sent.is_empty() {
        let request = world.next_for(device.peer);
        if !request.code().is_request() {
            continue;
        }
        let datagram = answer(&request, requests);
        requests += 1;
        assert!(requests < limit, "there is no end");
        world.datagram(device.peer, &datagram);
    }
    requests
}

/// The number of the block that a request asks for.
fn asked(request: &Message) -> u32 {
    request.uint_option(option::BLOCK2, 3).unwrap_or(0) >> 4
}

/// Block `number` of 1,024 bytes, with more to come.
fn block(device: &Device, request: &Message, number: u32, etag: Option<&str>) -> Vec<u8> {
    let mut answer = device.answer(request, Code::CONTENT);
    if let Some(etag) = etag {
        answer = answer.option(option::ETAG, etag);
    }
    answer
        .uint(option::CONTENT_FORMAT, 0)
        .uint(option::BLOCK2, number << 4 | 8 | 6)
        .payload(vec![b'x'; 1024])
        .build()
}

fn refusal(world: &mut World) -> (Value, Value) {
    let data = world.next_published().json["data"].take();
    (data["code"].clone(), data["reason"].clone())
}

/// The device is still there for others.
fn assert_usable(world: &mut World, device: &Device) {
    world.command("ep1", READ);
    let requests = serve(world, device, 2, |request, _| {
        let answer = device.answer(request, Code::CONTENT);
        answer.uint(option::CONTENT_FORMAT, 0).payload("ok").build()
    });
    assert_eq!(requests, 1);
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["content"][0]["value"], "ok", "{answer}");
    world.assert_quiet();
}

#[test]
fn a1_a_block_that_was_not_asked_for_ends_the_transfer() {
    type Number = fn(u32) -> u32;
    let variants: [(&str, Number, Option<&str>); 4] = [
        ("always block 0", |_| 0, None),
        ("always block 0, with an ETag", |_| 0, Some("v1")),
        ("one block behind", |asked| asked.saturating_sub(1), None),
        (
            "one block behind, with an ETag",
            |asked| asked.saturating_sub(1),
            Some("v1"),
        ),
    ];
    for (variant, number, etag) in variants {
        let mut world = World::new();
        let device = Device::registered(&mut world, "ep1", 5001);
        world.command("ep1", READ);
        let requests = serve(&mut world, &device, 50, |request, _| {
            block(&device, request, number(asked(request)), etag)
        });
        assert_eq!(requests, 5, "{variant}");
        let expected = (json!("5.02"), json!("bad_block"));
        assert_eq!(refusal(&mut world), expected, "{variant}");
        assert_eq!(world.counter("transfers_failed"), 1);
        assert_usable(&mut world, &device);
    }
}

#[test]
fn a1_in_the_middle_of_a_body_and_ahead_of_it() {
    for (ahead, expected) in [(false, 9), (true, 6)] {
        let mut world = World::new();
        let device = Device::registered(&mut world, "ep1", 5001);
        world.command("ep1", READ);
        let requests = serve(&mut world, &device, 50, |request, _| {
            let number = match asked(request) {
                number @ 0..5 => number,
                number if ahead => number + 1,
                _ => 2,
            };
            block(&device, request, number, None)
        });
        assert_eq!(requests, expected);
        assert_eq!(refusal(&mut world), (json!("5.02"), json!("bad_block")));
        assert_usable(&mut world, &device);
    }
}

#[test]
fn a1_one_stray_block_does_no_harm() {
    // RIOT pull request 20952: block 0 comes again once, then the right one.
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let requests = serve(&mut world, &device, 50, |request, count| {
        let number = if count == 4 { 0 } else { asked(request) };
        if number == 9 {
            let answer = device.answer(request, Code::CONTENT);
            let answer = answer.uint(option::CONTENT_FORMAT, 0);
            return answer
                .uint(option::BLOCK2, 9 << 4 | 6)
                .payload("end")
                .build();
        }
        block(&device, request, number, None)
    });
    assert_eq!(requests, 11);
    let answer = world.next_published().json;
    let value = answer["data"]["content"][0]["value"].as_str().unwrap();
    assert_eq!((value.len(), &value[9216..]), (9219, "end"));
    world.assert_quiet();
}

#[test]
fn a1_in_the_rest_of_a_notification() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", OBSERVE);
    let observe = world.next_for(device.peer);
    let answer = device
        .answer(&observe, Code::CONTENT)
        .uint(option::OBSERVE, 1);
    world.datagram(device.peer, &answer.payload("20.0").build());
    assert_eq!(world.next_published().json["msgType"], "observe");
    for sequence in [5, 6] {
        let first = device
            .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
            .uint(option::OBSERVE, sequence)
            .uint(option::CONTENT_FORMAT, 0)
            .uint(option::BLOCK2, 8 | 6)
            .payload(vec![b'x'; 1024]);
        world.datagram(device.peer, &first.build());
        let requests = serve(&mut world, &device, 50, |request, _| {
            block(&device, request, 0, None)
        });
        assert_eq!(requests, 4);
        world.assert_quiet();
    }
    assert_eq!(world.counter("decode_errors"), 2);
    assert_eq!(world.counter("observations"), 1, "the observation lives on");
    let whole = device
        .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
        .uint(option::OBSERVE, 7);
    world.datagram(device.peer, &whole.payload("21.5").build());
    assert_eq!(world.next_published().json["msgType"], "notify");
    assert_usable(&mut world, &device);
}

#[test]
fn a1_as_separate_responses() {
    let mut world = World::new();
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let mut requests = 0;
    while !world.sent.is_empty() {
        let request = world.next_for(device.peer);
        if !request.code().is_request() {
            continue;
        }
        requests += 1;
        assert!(requests < 50);
        let answer = device
            .separate(MessageType::Confirmable, &request, Code::CONTENT)
            .uint(option::BLOCK2, 8 | 6)
            .payload(vec![b'x'; 1024]);
        world.datagram(device.peer, &answer.build());
    }
    assert_eq!(requests, 5);
    assert_eq!(refusal(&mut world), (json!("5.02"), json!("bad_block")));
    assert_usable(&mut world, &device);
}

#[test]
fn a6_a_reserved_block_size_is_no_value() {
    for value in [&[0x0f][..], &[0x07], &[0, 0, 0, 0x0e]] {
        let mut world = World::new();
        let mut device = Device::registered(&mut world, "ep1", 5001);
        world.command("ep1", READ);
        let requests = serve(&mut world, &device, 50, |request, _| {
            let answer = device.answer(request, Code::CONTENT);
            let answer = answer.uint(option::CONTENT_FORMAT, 0);
            let answer = answer.option(option::BLOCK2, value);
            answer.payload(vec![b'x'; 1024]).build()
        });
        assert_eq!(requests, 1);
        assert_eq!(refusal(&mut world), (json!("5.02"), json!("bad_block")));

        // Nor is it in a notification.
        world.command("ep1", OBSERVE);
        let observe = world.next_for(device.peer);
        let answer = device
            .answer(&observe, Code::CONTENT)
            .uint(option::OBSERVE, 1);
        world.datagram(device.peer, &answer.payload("20.0").build());
        assert_eq!(world.next_published().json["msgType"], "observe");
        let first = device
            .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
            .uint(option::OBSERVE, 5)
            .option(option::BLOCK2, value);
        world.datagram(device.peer, &first.payload("21.0").build());
        world.assert_quiet();
        assert_eq!(world.counter("decode_errors"), 1);
    }
    // As part of a request it is a bad option.
    for value in [&[0x0f][..], &[0, 0, 0, 0x0e]] {
        let mut world = World::new();
        let mut device = Device::new("ep1", 5001);
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300"])
            .option(option::BLOCK1, value);
        world.datagram(device.peer, &request.payload("</3/0>").build());
        assert_eq!(world.next_for(device.peer).code(), Code::BAD_OPTION);
    }
}

/// A write of `length` bytes to a device that answers by `answer`; returns the number of requests
/// and the code that the application gets.
fn write(
    length: usize,
    limit: usize,
    answer: impl FnMut(&Device, &Message, usize) -> Vec<u8>,
) -> (usize, Value, World) {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    let value = "x".repeat(length);
    let command = json!({"reqID": 1, "msgType": "write",
                         "data": {"path": "/5/0/1", "type": "String", "value": value}});
    world.command("ep1", &command.to_string());
    let mut answer = answer;
    let requests = serve(&mut world, &device, limit, |request, count| {
        answer(&device, request, count)
    });
    let code = world.next_published().json["data"]["code"].clone();
    assert_usable(&mut world, &device);
    (requests, code, world)
}

#[test]
fn a12_a_body_that_is_too_large_is_not_sent_in_smaller_blocks() {
    // With or without a Block1 option, at the first block or a later one.
    for (named, at) in [(false, 0), (true, 0), (false, 8)] {
        let (requests, code, _) = write(12_372, 100, |device, request, count| {
            let block1 = request.uint_option(option::BLOCK1, 3).unwrap();
            if count < at {
                let answer = device.answer(request, Code::CONTINUE);
                return answer.uint(option::BLOCK1, block1).build();
            }
            let mut answer = device.answer(request, Code::REQUEST_ENTITY_TOO_LARGE);
            if named {
                answer = answer.uint(option::BLOCK1, 4);
            }
            answer.uint(option::SIZE1, 8192).build()
        });
        assert_eq!((requests, code), (at + 1, json!("4.13")));
    }
    // Without Size1, or with one that the body does not exceed, smaller blocks are right.
    for size in [None, Some(12_376)] {
        let (requests, code, _) = write(12_372, 100, |device, request, _| {
            let block1 = request.uint_option(option::BLOCK1, 3).unwrap();
            let (code, block1) = match (block1 & 7, block1 & 8) {
                (5.., _) => (Code::REQUEST_ENTITY_TOO_LARGE, 4),
                (_, 0) => (Code::CHANGED, block1),
                _ => (Code::CONTINUE, block1),
            };
            let mut answer = device.answer(request, code).uint(option::BLOCK1, block1);
            if let Some(size) = size.filter(|_| code == Code::REQUEST_ENTITY_TOO_LARGE) {
                answer = answer.uint(option::SIZE1, size);
            }
            answer.build()
        });
        assert_eq!((requests, code), (1 + 49, json!("2.04")));
    }
}

/// Sends a Register part by part; `repeats` says how often each part comes again with a new
/// message id.
fn register_in_parts(world: &mut World, repeats: impl Fn(usize) -> Vec<usize>) -> Code {
    let links: Vec<String> = (0..40).map(|n| format!("</3303/{n}>")).collect();
    let links = links.join(",");
    let parts: Vec<&[u8]> = links.as_bytes().chunks(64).collect();
    let mut device = Device::new("ep1", 5001);
    let mut send = |world: &mut World, part: usize| {
        let more = u32::from(part + 1 < parts.len()) << 3;
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.1"])
            .uint(option::BLOCK1, (part as u32) << 4 | more | 2)
            .payload(parts[part]);
        world.datagram(device.peer, &request.build());
        world.next_for(device.peer).code()
    };
    for part in 0..parts.len() - 1 {
        assert_eq!(send(world, part), Code::CONTINUE, "{part}");
        for again in repeats(part) {
            assert_eq!(send(world, again), Code::CONTINUE, "{again} again");
        }
    }
    send(world, parts.len() - 1)
}

#[test]
fn a16_a_part_that_comes_again_is_answered_again() {
    let mut world = World::new();
    assert_eq!(register_in_parts(&mut world, |_| vec![]), Code::CREATED);
    let report = world.next_published().json;
    assert_eq!(report["data"]["objectList"].as_array().unwrap().len(), 40);
    type Repeats = fn(usize) -> Vec<usize>;
    let variants: [Repeats; 3] = [
        |part| vec![part],
        |part| vec![part, part, part],
        // Late ones from before, the first of all among them.
        |part| vec![part.saturating_sub(2), 0, part],
    ];
    for repeats in variants {
        let mut world = World::new();
        assert_eq!(register_in_parts(&mut world, repeats), Code::CREATED);
        assert_eq!(world.next_published().json["data"], report["data"]);
        world.assert_quiet();
    }
}

#[test]
fn a_part_with_other_content_ends_the_transfer() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    let mut send = |number: u32, more: u32, content: u8| {
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300"])
            .uint(option::BLOCK1, number << 4 | more)
            .payload(vec![content; 16]);
        world.datagram(device.peer, &request.build());
        world.next_for(device.peer).code()
    };
    assert_eq!(send(0, 8, b'a'), Code::CONTINUE);
    assert_eq!(send(1, 8, b'b'), Code::CONTINUE);
    assert_eq!(send(2, 8, b'c'), Code::CONTINUE);
    assert_eq!(send(1, 8, b'd'), Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(send(3, 0, b'e'), Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn a_transfer_as_a_whole_has_a_deadline() {
    // Each block comes after 40 s, within the deadline of its exchange.
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["lt=86400"], "</5/0>");
    world.next_published();
    world.command("ep1", READ);
    let begun = world.now.mono;
    let mut blocks = 0;
    while world.published.is_empty() {
        let request = world.next_for(device.peer);
        let ack = lwm2m_gateway::coap::message::empty(MessageType::Acknowledgement, request.mid());
        world.datagram(device.peer, &ack);
        world.pass(Duration::from_secs(40));
        world.published.retain(|it| it.json["msgType"] != "ack");
        let answer = device
            .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
            .uint(option::BLOCK2, blocks << 4 | 8 | 6)
            .payload(vec![b'x'; 1024]);
        world.datagram(device.peer, &answer.build());
        blocks += 1;
        assert!(blocks < 20, "there is no end");
    }
    assert_eq!(
        refusal(&mut world),
        (json!("5.04"), json!("transfer_timeout"))
    );
    let took = world.now.mono - begun;
    assert!(took <= Duration::from_secs(247 + 80), "{took:?}");
    assert_usable(&mut world, &device);
}

#[test]
fn a_request_in_blocks_as_a_whole_has_a_deadline() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    let begun = world.now.mono;
    let mut number = 0;
    loop {
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=300"])
            .uint(option::BLOCK1, number << 4 | 8)
            .payload([b'x'; 16]);
        world.datagram(device.peer, &request.build());
        match world.next_for(device.peer).code() {
            Code::CONTINUE => number += 1,
            Code::REQUEST_ENTITY_INCOMPLETE => break,
            code => panic!("{code:?}"),
        }
        assert!(number < 20, "there is no end");
        world.pass(Duration::from_secs(40));
    }
    assert!(world.now.mono - begun <= Duration::from_secs(247 + 40));
    assert_eq!(world.engines[0].load().transfers, 0);
    // At a block each ten seconds a long one goes on.
    let mut device = Device::new("ep2", 5002);
    for number in 0..60 {
        let request = device
            .request(Code::POST, &["rd"], &["ep=ep2", "lt=300"])
            .uint(option::BLOCK1, number << 4 | 8)
            .payload([b'x'; 16]);
        world.datagram(device.peer, &request.build());
        assert_eq!(world.next_for(device.peer).code(), Code::CONTINUE);
        world.pass(Duration::from_secs(10));
    }
}

#[test]
fn a_command_causes_a_bounded_number_of_requests() {
    // A device that finds something else wrong each time, and registers anew in between so that
    // nothing is remembered against its formats.
    for blocks in [1usize, 20, 40] {
        let mut world = World::new();
        let mut device = Device::registered(&mut world, "ep1", 5001);
        let value = "x".repeat(blocks * 1024 - 100);
        let command = json!({"reqID": 1, "msgType": "write",
                             "data": {"path": "/5/0/1", "type": "String", "value": value}});
        world.command("ep1", &command.to_string());
        let mut requests = 0;
        let answer = 'served: loop {
            let request = world.next_for(device.peer);
            if !request.code().is_request() {
                continue;
            }
            requests += 1;
            assert!(requests < 1000, "there is no end");
            let block1 = request.uint_option(option::BLOCK1, 3);
            let last = block1.is_none_or(|block1| block1 & 8 == 0);
            let answer = match block1.filter(|_| !last) {
                Some(block1) => device
                    .answer(&request, Code::CONTINUE)
                    .uint(option::BLOCK1, block1),
                None => device.answer(&request, Code::new(4, 15)),
            };
            world.datagram(device.peer, &answer.build());
            if last {
                // Its own requests wait for the answer.
                let mut waiting = std::mem::take(&mut world.sent);
                device.register(&mut world, &[], "</5/0>");
                waiting.append(&mut world.sent);
                world.sent = waiting;
            }
            while let Some(published) = world.published.pop_front() {
                if published.json["msgType"] == "write" {
                    break 'served published.json;
                }
            }
        };
        assert!(requests <= 33 + 4 * blocks, "{requests} of {blocks} blocks");
        let code = answer["data"]["code"].as_str().unwrap();
        assert!(["4.15", "5.02"].contains(&code), "{answer}");
        world.published.clear();
        assert_usable(&mut world, &device);
    }
}

#[test]
fn a_representation_that_never_settles_is_given_up() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let requests = serve(&mut world, &device, 100, |request, count| {
        block(&device, request, asked(request), Some(&count.to_string()))
    });
    assert!(requests <= 10, "{requests}");
    assert_eq!(
        refusal(&mut world),
        (json!("5.02"), json!("representation_changes"))
    );
    assert_usable(&mut world, &device);
}

#[test]
fn blocks_of_sixteen_bytes_end_where_their_numbers_end() {
    // 2^20 blocks of 16 bytes are 16 MiB; the largest body of all is a gigabyte.
    use lwm2m_gateway::coap::block::{BlockOption, Sender};
    let mut sender = Sender::new(vec![0; 17 << 20], 1024);
    let smallest = BlockOption {
        number: 0,
        more: true,
        szx: 0,
    };
    let mut blocks: usize = 0;
    while sender.advance((blocks == 0).then_some(smallest)) {
        blocks += 1;
    }
    assert!(sender.current().0.more && blocks < 1 << 20);
}
