//! What real devices do that no text foresaw, in virtual time; each test has the number of the
//! report it was made from in its name.

use std::time::Duration;

use crate::support::{Device, World, uri};
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, MessageType};
use lwm2m_gateway::config::{AutoObserve, LifetimePolicy};
use serde_json::json;

const READ: &str = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0"}}"#;
/// TLV of resource 9 with the value 95.
const TLV_95: &[u8] = &[0xc1, 0x09, 95];

fn of_1_0() -> (World, Device) {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["lwm2m=1.0"], "</1/0>,</3/0>");
    world.published.clear();
    (world, device)
}

fn tlv(device: &Device, request: &lwm2m_gateway::coap::Message) -> Vec<u8> {
    let answer = device.answer(request, Code::CONTENT);
    let answer = answer.uint(option::CONTENT_FORMAT, 11542);
    answer.payload(TLV_95).build()
}

#[test]
fn a13_a_device_of_1_0_that_wants_to_be_told_a_format() {
    for code in [Code(2 << 5), Code(0x86)] {
        let (mut world, device) = of_1_0();
        for first in [true, false] {
            world.command("ep1", READ);
            let mut request = world.next_for(device.peer);
            if first {
                assert_eq!(request.first_option(option::ACCEPT), None);
                world.datagram(device.peer, &device.answer(&request, code).build());
                request = world.next_for(device.peer);
            }
            // Once is enough to know it.
            assert_eq!(request.uint_option(option::ACCEPT, 2), Some(11542));
            world.datagram(device.peer, &tlv(&device, &request));
            let json = world.next_published().json;
            assert_eq!(json["data"]["content"][0]["value"], 95, "{json}");
            world.assert_quiet();
        }
    }
}

#[test]
fn a13_the_refusal_is_the_answer_in_the_end() {
    let (mut world, device) = of_1_0();
    world.command("ep1", READ);
    for accept in [None, Some(11542), Some(1542)] {
        let request = world.next_for(device.peer);
        assert_eq!(request.uint_option(option::ACCEPT, 2), accept);
        let refusal = device.answer(&request, Code(0x86));
        world.datagram(device.peer, &refusal.build());
    }
    assert_eq!(world.next_published().json["data"]["code"], "4.06");
    world.assert_quiet();
}

#[test]
fn a16_a_part_of_a_register_that_comes_again_is_acknowledged_again() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    let links = "</1/0>,</3/0>,</4/0>,</5/0>,</6/0>,</7/0>,</3303/0>,</3303/1>,</3303/2>";
    let parts: Vec<&[u8]> = links.as_bytes().chunks(32).collect();
    let last = parts.len() - 1;
    for (number, part) in parts.iter().enumerate() {
        for again in [false, true] {
            if again && number == last {
                continue;
            }
            // Each with a message id of its own.
            let more = u32::from(number != last);
            let block = (number as u32) << 4 | more << 3 | 1;
            let request = device.request(Code::POST, &["rd"], &["ep=ep1", "lt=60", "lwm2m=1.1"]);
            let request = request.uint(option::BLOCK1, block).payload(*part);
            world.datagram(device.peer, &request.build());
            let expected = match number == last {
                true => Code::CREATED,
                false => Code::CONTINUE,
            };
            assert_eq!(
                world.next_for(device.peer).code(),
                expected,
                "part {number}"
            );
        }
    }
    let json = world.next_published().json;
    let list = json["data"]["objectList"].as_array().map(Vec::len);
    assert_eq!(list, Some(9), "{json}");
}

#[test]
fn b10_auto_observe_finds_what_is_above_or_below_a_listed_path() {
    for (wanted, links, observed) in [
        (&["/3303/0/5700"][..], "</3303/0>", &["/3303/0/5700"][..]),
        (&["/3303"], "</3303/0>", &["/3303"]),
        (
            &["/3/0/9", "/3303"],
            "</3/0>,</3303/0>",
            &["/3/0/9", "/3303"],
        ),
        (&["/3303/1"], "</3303/0>", &[]),
    ] {
        let paths = wanted.iter().map(|path| path.parse().unwrap()).collect();
        let mut world = World::with(|config| config.auto_observe = AutoObserve::Paths(paths));
        let mut device = Device::new("ep1", 5001);
        device.register(&mut world, &[], links);
        for path in observed {
            let request = world.next_for(device.peer);
            assert_eq!((request.observe(), &*uri(&request)), (Some(0), *path));
            let answer = device.answer(&request, Code::CONTENT);
            let answer = answer.uint(option::OBSERVE, 1).payload("1");
            world.datagram(device.peer, &answer.build());
        }
        assert!(world.sent.is_empty(), "{wanted:?}");
        assert_eq!(world.counter("observations"), observed.len() as u64);
    }
}

#[test]
fn b11_a_command_in_flight_goes_out_again_at_a_sign_of_life() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=UQ"], "</3/0>");
    world.published.clear();
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#,
    );
    let request = world.next_for(device.peer);
    // It sleeps already: it hears none of these. The third is sent 9 s after the first at the latest.
    world.pass(Duration::from_secs(12));
    while world.sent.pop_front().is_some() {}
    // It wakes up for a moment.
    device.update(&mut world, &[], "");
    let again = world.next_for(device.peer);
    assert_eq!(
        (again.mid(), again.token()),
        (request.mid(), request.token())
    );
    // Not with each message of a moment.
    device.update(&mut world, &[], "");
    assert!(world.sent.is_empty());
    let answer = device.answer(&again, Code::CONTENT).payload("x");
    world.datagram(device.peer, &answer.build());
    assert_eq!(world.next_published().json["data"]["code"], "2.05");
}

#[test]
fn b11_a_command_that_was_sent_to_a_sleeping_device_does_not_hold_up_others() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=UQ"], "</3/0>");
    world.published.clear();
    world.pass(Duration::from_secs(30));
    let read = |id: u32, ttl: &str| {
        json!({"reqID": id, "msgType": "read", "data": {"path": format!("/3/0/{id}")},
            "mheaders": {"ttl": ttl.parse::<u64>().ok()}})
        .to_string()
    };
    world.command("ep1", &read(1, ""));
    world.command("ep1", &read(2, "0"));
    assert_eq!(uri(&world.next_for(device.peer)), "/3/0/2");
    world.command("ep1", &read(3, ""));
    world.pass(Duration::from_secs(12));
    while world.sent.pop_front().is_some() {}
    // One wake-up is enough for all three, in their order.
    device.update(&mut world, &[], "");
    for path in ["/3/0/2", "/3/0/1", "/3/0/3"] {
        let request = world.next_for(device.peer);
        assert_eq!(
            (request.kind(), uri(&request).as_str()),
            (MessageType::Confirmable, path)
        );
        let answer = device.answer(&request, Code::CONTENT).payload("x");
        world.datagram(device.peer, &answer.build());
        assert_eq!(world.next_published().json["data"]["code"], "2.05");
    }
}

#[test]
fn b5_a_device_gets_the_lifetime_it_asks_for_and_the_report_has_the_effective_one() {
    for (policy, effective) in [
        (LifetimePolicy::Ignore, 604_800),
        (LifetimePolicy::Clamp, 86_400),
    ] {
        let mut world = World::with(|config| config.lifetime_policy = policy);
        let mut device = Device::new("ep1", 5001);
        device.register(&mut world, &["lt=604800"], "</3/0>");
        assert_eq!(world.next_published().json["data"]["lt"], effective);
        world.pass(Duration::from_secs(effective - 1));
        assert_eq!(world.counter("expired"), 0);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.counter("expired"), 1);
    }
}

/// Message ids count by address, so that two devices can have the same one under way, until one of
/// them moves to where the other is.
#[test]
fn a_message_id_that_another_device_has_at_the_new_address() {
    const READ: &str = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#;
    const EXECUTE: &str = r#"{"reqID":1,"msgType":"execute","data":{"path":"/3/0/4"}}"#;
    fn asked(world: &mut World, device: &Device, command: &str) -> lwm2m_gateway::coap::Message {
        world.command(&device.endpoint, command);
        world.next_for(device.peer)
    }
    fn text(device: &Device, request: &lwm2m_gateway::coap::Message, text: &str) -> Vec<u8> {
        let answer = device.answer(request, Code::CONTENT);
        let answer = answer.uint(option::CONTENT_FORMAT, 0);
        answer.payload(text).build()
    }
    fn answered(world: &mut World, device: &Device) -> u16 {
        let request = asked(world, device, READ);
        world.datagram(device.peer, &text(device, &request, "x"));
        world.next_published();
        request.mid()
    }
    for command in [READ, EXECUTE] {
        let mut world = World::new();
        let mut devices: Vec<_> = (0..60)
            .map(|number| Device::registered(&mut world, &format!("ep{number}"), 5001 + number))
            .collect();
        let mut mids: Vec<_> = (0..)
            .zip(&devices)
            .map(|(at, device)| (answered(&mut world, device), at))
            .collect();
        mids.sort_unstable();
        let pairs = mids
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0, pair[0].1, pair[1].1));
        let (gap, first, second): (u16, usize, usize) = pairs.min().expect("some");
        for _ in 0..gap {
            answered(&mut world, &devices[first]);
        }
        let of_first = asked(&mut world, &devices[first], command);
        let of_second = asked(&mut world, &devices[second], READ);
        assert_eq!(of_first.mid(), of_second.mid());
        devices[first].peer = devices[second].peer;
        assert_eq!(devices[first].update(&mut world, &[], ""), Code::CHANGED);
        // An acknowledgement with that number is of the one who has always been there.
        let answer = text(&devices[second], &of_second, "second");
        world.datagram(devices[second].peer, &answer);
        let published = world.next_published();
        assert!(published.topic.contains(&devices[second].endpoint));
        assert_eq!(published.json["data"]["content"][0]["value"], "second");
        let answer = devices[first].separate(MessageType::NonConfirmable, &of_first, Code::CHANGED);
        world.sent.clear();
        world.datagram(devices[first].peer, &answer.build());
        let published = world.next_published();
        assert!(published.topic.contains(&devices[first].endpoint));
        // The next message has a number that nobody else has there.
        let numbers: Vec<_> = [first, second]
            .map(|at| asked(&mut world, &devices[at], READ).mid())
            .into();
        assert_ne!(numbers[0], numbers[1]);
    }
}
