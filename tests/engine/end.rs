//! The end of a gateway: every command is answered once, wherever it is at that moment.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Device, World};
use lwm2m_gateway::coap::message::empty;
use lwm2m_gateway::coap::{Code, MessageType};

const COMMANDS: u64 = 5;

fn read(number: u64) -> String {
    format!(r#"{{"reqID":{number},"msgType":"read","data":{{"path":"/3/0/0"}}}}"#)
}

/// How often each command was refused because of the end.
fn refused(world: &mut World) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    while let Some(message) = world.published.pop_front() {
        if message.json["data"]["reason"] == "gateway_stopping" {
            assert_eq!(message.json["data"]["code"], "5.03");
            *times
                .entry(message.json["reqID"].as_u64().unwrap())
                .or_default() += 1;
        }
    }
    times
}

fn each_once(from: u64, to: u64) -> BTreeMap<u64, usize> {
    (from..to).map(|number| (number, 1)).collect()
}

#[test]
fn c8_what_waits_and_what_comes_later_is_answered_once() {
    let mut world = World::new();
    let _device = Device::registered(&mut world, "ep1", 5001);
    for number in 0..COMMANDS {
        world.command("ep1", &read(number));
    }
    world.shut_down(0);
    assert_eq!(refused(&mut world), each_once(0, COMMANDS));
    world.command("ep1", &read(COMMANDS));
    world.command("nobody", &read(COMMANDS + 1));
    assert_eq!(refused(&mut world), each_once(COMMANDS, COMMANDS + 2));
    world.pass(Duration::from_secs(300));
    world.shut_down(0);
    assert_eq!(refused(&mut world), BTreeMap::new());
}

#[test]
fn c8_commands_of_a_device_on_its_way_between_shards_are_answered_once() {
    for ends_first in [0, 1] {
        let mut world = World::sharded(2, |_| {});
        let mut device = Device::registered(&mut world, "ep1", 5001);
        for number in 0..COMMANDS {
            world.command("ep1", &read(number));
        }
        world.hold_handoffs = true;
        // It registers again, and the datagram reaches the other shard.
        let register = device
            .request(Code::POST, &["rd"], &["ep=ep1", "lt=60"])
            .payload("</3/0>")
            .build();
        world.datagram_at(1, device.peer, &register);
        assert!(world.hand_over(0), "shard 1 asks");
        // A command that still comes here follows the device.
        world.command("ep1", &read(COMMANDS));
        world.shut_down(ends_first);
        world.shut_down(1 - ends_first);
        while world.hand_over(0) || world.hand_over(1) {}
        assert_eq!(
            refused(&mut world),
            each_once(0, COMMANDS + 1),
            "{ends_first}"
        );
    }
}

#[test]
fn c8_a_device_that_has_only_acknowledged_is_waited_for() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "ep1", 5001);
    assert!(world.engines[0].is_quiet());
    world.command("ep1", &read(1));
    let request = world.next_for(device.peer);
    assert!(!world.engines[0].is_quiet());
    let acknowledgement = empty(MessageType::Acknowledgement, request.mid());
    world.datagram(device.peer, &acknowledgement);
    assert!(!world.engines[0].is_quiet(), "the answer comes separately");
    world.pass(Duration::from_secs(300));
    assert!(world.engines[0].is_quiet());
}
