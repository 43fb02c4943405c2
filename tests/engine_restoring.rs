//! The next process serves before all devices are back: whoever is spoken of comes first.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

mod support;

use std::time::Duration;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{DeviceEvent, Peer};
use serde_json::{Value, json};

use support::{Device, World};

const NOTHING: Duration = Duration::from_secs(1);

fn command(id: u32, kind: &str, data: Value) -> String {
    json!({"reqID": id, "msgType": kind, "data": data}).to_string()
}

/// Five devices, each with an observation, and none of them back yet.
fn begun(shards: u16) -> (World, Vec<Device>, Vec<Message>) {
    let mut world = World::stored(shards, |_| {});
    let mut devices = Vec::new();
    let mut observations = Vec::new();
    for number in 0..5 {
        let device = Device::registered(&mut world, &format!("dev{number}"), 5000 + number);
        let text = command(70, "observe", json!({"path": "/3303/0/5700"}));
        observations.push(device.observed(&mut world, &text, "20"));
        world.next_published();
        devices.push(device);
    }
    world.crash_early(NOTHING, None);
    assert_eq!(world.engines[0].len(), 0);
    assert_eq!(world.directory.len(), 5);
    (world, devices, observations)
}

fn notification(request: &Message, from: &Device, value: &str) -> (Peer, Vec<u8>) {
    let datagram = Builder::new(MessageType::Confirmable, Code::CONTENT, 77, request.token())
        .uint(option::OBSERVE, 9)
        .uint(option::CONTENT_FORMAT, 0)
        .payload(value);
    (from.peer, datagram.build())
}

/// Endpoints that have come back as hosts have heard, in that order.
fn heard(world: &mut World) -> Vec<String> {
    let events = world.events.drain(..);
    let names = events.filter_map(|event| match event {
        DeviceEvent::Registered(info) if info.restored => Some(info.endpoint.to_string()),
        _ => None,
    });
    names.collect()
}

#[test]
fn whoever_speaks_before_its_turn_is_first() {
    let (mut world, mut devices, observations) = begun(1);
    // By its location.
    assert_eq!(devices[3].update(&mut world, &[], ""), Code::CHANGED);
    assert_eq!(world.engines[0].len(), 1);
    assert_eq!(heard(&mut world), ["dev3"]);

    // By the token of its observation, and by its address.
    let (from, datagram) = notification(&observations[4], &devices[4], "21");
    world.datagram(from, &datagram);
    assert_eq!(
        world.next_for(from).kind(),
        MessageType::Acknowledgement,
        "no RST"
    );
    let json = world.next_published().json;
    assert_eq!(
        (&json["msgType"], &json["reqID"]),
        (&json!("notify"), &json!(70))
    );
    assert_eq!(heard(&mut world), ["dev4"]);

    // A Send has nothing but its address.
    let send = devices[1]
        .request(Code::POST, &["dp"], &[])
        .uint(option::CONTENT_FORMAT, 110)
        .payload(r#"[{"n":"/3303/0/5700","v":21}]"#);
    world.datagram(devices[1].peer, &send.build());
    assert_eq!(world.next_for(devices[1].peer).code(), Code::CHANGED);
    assert_eq!(world.next_published().json["msgType"], "send");
    assert_eq!(heard(&mut world), ["dev1"]);

    // By its endpoint name, from another address: one registration, not two.
    devices[2].peer.address.set_port(6000);
    devices[2].register(&mut world, &[], "</3/0>,</3303/0>");
    assert_eq!(world.engines[0].len(), 4);
    assert_eq!(world.directory.len(), 5);

    world.restore_rest();
    assert!(!world.engines[0].is_restoring());
    assert_eq!(world.engines[0].len(), 5);
    assert_eq!(world.counter("store_restored"), 5);
    assert_eq!(heard(&mut world), ["dev2", "dev0"]);
}

#[test]
fn a_device_that_has_moved_is_found_by_its_location() {
    let (mut world, mut devices, _) = begun(1);
    devices[3].peer.address.set_port(6000);
    assert_eq!(devices[3].update(&mut world, &[], ""), Code::CHANGED);
    let location = devices[0].location.clone();
    let leaves = devices[0].request(Code::DELETE, &["rd", &location], &[]);
    world.datagram(devices[0].peer, &leaves.build());
    assert_eq!(world.next_for(devices[0].peer).code(), Code::DELETED);
    world.restore_rest();
    assert_eq!(world.engines[0].len(), 4);
    assert_eq!(world.directory.len(), 4);
    world.crash(NOTHING, None);
    assert_eq!(world.engines[0].len(), 4);
}

#[test]
fn a_command_finds_its_device() {
    let (mut world, devices, _) = begun(1);
    world.command("dev2", &command(1, "read", json!({"path": "/3/0/0"})));
    assert_eq!(heard(&mut world), ["dev2"]);
    let request = world.next_for(devices[2].peer);
    let answer = devices[2].answer(&request, Code::CONTENT).payload("x");
    world.datagram(devices[2].peer, &answer.build());
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["content"][0]["value"], "x", "{answer}");
    // One that never was is none of theirs.
    world.command("dev9", &command(2, "read", json!({"path": "/3/0/0"})));
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["reason"], "not_registered");
    assert_eq!(world.engines[0].len(), 1);
    world.kick("dev0");
    world.restore_rest();
    assert_eq!(world.engines[0].len(), 4);
}

#[test]
fn other_shards_find_it() {
    // The kernel shares addresses out in another way: everything comes to the second shard.
    let (mut world, mut devices, observations) = begun(2);
    let (from, datagram) = notification(&observations[4], &devices[4], "21");
    world.datagram_at(1, from, &datagram);
    assert_eq!(world.next_for(from).kind(), MessageType::Acknowledgement);
    assert_eq!(world.next_published().json["msgType"], "notify");

    let location = devices[3].location.clone();
    devices[3].peer.address.set_port(6000);
    let update = devices[3].request(Code::POST, &["rd", &location], &[]);
    world.datagram_at(1, devices[3].peer, &update.build());
    assert_eq!(world.next_for(devices[3].peer).code(), Code::CHANGED);

    devices[2].peer.address.set_port(6001);
    let register = devices[2]
        .request(Code::POST, &["rd"], &["ep=dev2", "lt=300", "lwm2m=1.1"])
        .payload("</3/0>");
    world.datagram_at(1, devices[2].peer, &register.build());
    assert_eq!(world.next_for(devices[2].peer).code(), Code::CREATED);

    assert_eq!((world.engines[0].len(), world.engines[1].len()), (0, 3));
    world.restore_rest();
    assert_eq!((world.engines[0].len(), world.engines[1].len()), (2, 3));
    assert_eq!(world.directory.len(), 5);
}

#[test]
fn a_stop_before_all_are_back_loses_none() {
    let (mut world, mut devices, _) = begun(1);
    assert_eq!(devices[3].update(&mut world, &[], ""), Code::CHANGED);
    world.shut_down(0);
    world.crash_early(NOTHING, None);
    assert_eq!(world.directory.len(), 5);
    for device in &mut devices {
        assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    }
    assert!(!world.engines[0].restore_some(world.now, 1));
}

#[test]
fn an_identity_that_connects_early_has_its_registration() {
    let mut world = World::stored(1, |config| {
        let dtls = lwm2m_gateway::config::DtlsListener::default();
        config.listeners.udp.clear();
        config.listeners.dtls.insert("default".to_owned(), dtls);
    });
    let mut devices = Vec::new();
    for number in 0..3 {
        let name = format!("dev{number}");
        let mut device = Device::new(&name, 5000 + number);
        device.peer.session = u32::from(number) + 1;
        world.session(0, device.peer, &name, &name);
        device.register(&mut world, &[], "</1/0>,</3/0>");
        world.next_published();
        devices.push(device);
    }
    world.crash_early(NOTHING, None);
    // Two sessions go on, and only one of their devices says something.
    for device in &devices[..2] {
        world.session(0, device.peer, &device.endpoint, &device.endpoint);
    }
    assert_eq!(world.engines[0].len(), 0);
    assert_eq!(devices[0].update(&mut world, &[], ""), Code::CHANGED);
    assert_eq!(world.engines[0].len(), 1);
    world.restore_rest();
    for device in &devices[..2] {
        let text = command(1, "read", json!({"path": "/3/0/0"}));
        world.command(&device.endpoint, &text);
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT).payload("x");
        world.datagram(device.peer, &answer.build());
        assert_eq!(world.next_published().json["data"]["code"], "2.05");
    }
    // The third is not connected: its command waits.
    world.command("dev2", &command(1, "read", json!({"path": "/3/0/0"})));
    world.assert_quiet();
    world.session(0, devices[2].peer, "dev2", "dev2");
    assert_eq!(devices[2].update(&mut world, &[], ""), Code::CHANGED);
    world.next_for(devices[2].peer);
}

#[test]
fn another_configuration_is_for_all_of_them() {
    let (mut world, mut devices, _) = begun(1);
    let config = lwm2m_gateway::Config {
        mountpoint: "fleet/${endpoint_name}/".to_owned(),
        ..lwm2m_gateway::Config::default()
    };
    world.reconfigure(0, config);
    assert_eq!(world.engines[0].len(), 5);
    let info = world.engines[0].device_info(world.now, "dev1").unwrap();
    assert_eq!(&*info.mountpoint, "fleet/dev1/");
    assert_eq!(devices[1].update(&mut world, &[], ""), Code::CHANGED);
}
