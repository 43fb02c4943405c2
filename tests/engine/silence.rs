//! Observations that are not heard of though `pmax` was set (zephyr#58278).

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

use std::time::Duration;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use serde_json::{Value, json};

use crate::support::{Device, World};

const MINUTE: Duration = Duration::from_secs(60);

fn send(world: &mut World, id: u32, kind: &str, data: Value) {
    let text = json!({"reqID": id, "msgType": kind, "data": data}).to_string();
    world.command("dev", &text);
}

fn observed(world: &World, device: &Device, request: &Message, value: &str) -> Vec<u8> {
    let _ = world;
    device
        .answer(request, Code::CONTENT)
        .uint(option::OBSERVE, 1)
        .uint(option::CONTENT_FORMAT, 0)
        .payload(value)
        .build()
}

/// Observes `/3303/0/5700`, with a period of a minute set on `path`.
fn observing(world: &mut World, path: &str) -> (Device, Vec<u8>) {
    let mut device = Device::new("dev", 5000);
    device.register(world, &["lt=86400"], "</1/0>,</3303/0>");
    world.next_published();
    send(
        world,
        1,
        "write-attr",
        json!({"path": path, "pmin": "1", "pmax": "60"}),
    );
    let request = world.next_for(device.peer);
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    world.next_published();
    send(world, 2, "observe", json!({"path": "/3303/0/5700"}));
    let request = world.next_for(device.peer);
    let answer = observed(world, &device, &request, "20");
    world.datagram(device.peer, &answer);
    world.next_published();
    (device, request.token().to_vec())
}

#[test]
fn a_silent_observation_is_asked_for_again() {
    for (path, crashes) in [("/3303/0/5700", false), ("/3303/0", false), ("/3303", true)] {
        let mut world = World::stored(1, |_| {});
        let (device, token) = observing(&mut world, path);
        world.pass(MINUTE);
        let value = Builder::new(MessageType::NonConfirmable, Code::CONTENT, 900, &token)
            .uint(option::OBSERVE, 2)
            .uint(option::CONTENT_FORMAT, 0)
            .payload("21");
        world.datagram(device.peer, &value.build());
        world.next_published();
        if crashes {
            world.crash(Duration::from_secs(1), None);
        }
        world.pass(2 * MINUTE - Duration::from_secs(5));
        assert!(world.sent.is_empty(), "{path} {crashes}");
        world.pass(Duration::from_secs(10));
        let request = world.next_for(device.peer);
        assert_eq!(
            (request.observe(), request.token()),
            (Some(0), &*token),
            "{path}"
        );
        assert_eq!(world.counter("observations_silent"), 1);
        // And its retransmission.
        world.sent.clear();
        let answer = observed(&world, &device, &request, "22");
        world.datagram(device.peer, &answer);
        let json = world.next_published().json;
        assert_eq!(json["msgType"], "notify");
        assert_eq!(json["reqID"], 2);
        assert_eq!(json["data"]["content"][0]["value"], 22);
        world.assert_quiet();
    }
}

#[test]
fn one_that_is_not_answered_three_times_ends() {
    let mut world = World::new();
    let (device, _) = observing(&mut world, "/3303/0/5700");
    let mut asked = 0;
    let mut last = None;
    for _ in 0..200 {
        world.pass(Duration::from_secs(10));
        while let Some((_, datagram)) = world.sent.pop_front() {
            let mid = Message::parse(&datagram).unwrap().mid();
            asked += usize::from(last.replace(mid) != Some(mid));
        }
        if !world.published.is_empty() {
            break;
        }
    }
    assert_eq!(asked, 3);
    let json = world.next_published().json;
    assert_eq!(
        (&json["reqID"], &json["msgType"]),
        (&json!(2), &json!("notify"))
    );
    assert_eq!(json["data"]["code"], "5.04", "{json}");
    assert_eq!(world.counter("observations_lost"), 1);
    world.pass(20 * MINUTE);
    assert!(world.published.is_empty() && world.sent.is_empty());
    let _ = device;
}

#[test]
fn without_a_period_nothing_is_expected() {
    let mut world = World::new();
    let (device, token) = observing(&mut world, "/3303/0/5700");
    send(
        &mut world,
        3,
        "write-attr",
        json!({"path": "/3303/0/5700", "pmax": ""}),
    );
    let request = world.next_for(device.peer);
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    world.next_published();
    world.pass(60 * MINUTE);
    world.assert_quiet();
    let _ = token;
}
