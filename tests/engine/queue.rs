//! What waits for devices: its bounds, how long a window is open, and commands about it.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

use std::time::Duration;

use lwm2m_gateway::coap::Code;
use lwm2m_gateway::config::{AutoObserve, Config};
use serde_json::{Value, json};

use crate::support::{Device, World};

fn command(id: u32, kind: &str, data: Value) -> String {
    json!({"reqID": id, "msgType": kind, "data": data}).to_string()
}

fn read(id: u32) -> String {
    command(id, "read", json!({"path": "/3/0/0"}))
}

fn sleeper(world: &mut World, endpoint: &str, port: u16) -> Device {
    let mut device = Device::new(endpoint, port);
    device.register(world, &["b=UQ"], "</1/0>,</3/0>,</3303/0>");
    world.next_published();
    device
}

#[test]
fn a_window_may_be_that_of_lwm2m_or_a_devices_own() {
    let mut source = lwm2m_gateway::ConfigSource::default();
    source.set("qmode_time_window", "lwm2m");
    source.set("qmode_time_windows", r#"["valve-*=5s"]"#);
    let (config, _) = source.read().expect("a configuration");
    let mut world = World::with(|it| *it = config.clone());
    for (endpoint, port, seconds) in [("meter", 5000, 93), ("valve-7", 5001, 5)] {
        let device = sleeper(&mut world, endpoint, port);
        world.pass(Duration::from_secs(seconds - 1));
        world.command(endpoint, &read(1));
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT).payload("x");
        world.datagram(device.peer, &answer.build());
        world.next_published();
        world.pass(Duration::from_secs(seconds + 1));
        world.command(endpoint, &read(2));
        world.assert_quiet();
    }
}

#[test]
fn all_devices_together_may_have_so_many_waiting() {
    let mut world = World::with(|config| config.queue.max_total = 5);
    let devices: Vec<_> = (0..3)
        .map(|it| sleeper(&mut world, &format!("dev{it}"), 5000 + it))
        .collect();
    world.pass(Duration::from_secs(30));
    for number in 0..5 {
        world.command(&format!("dev{}", number % 2), &read(number));
    }
    assert_eq!(world.directory.queued(), 5);
    world.assert_quiet();
    world.command("dev2", &read(9));
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["data"]["code"], &answer["data"]["reason"]),
        (&json!("5.03"), &json!("queue_full"))
    );
    // The end of one makes room.
    world.kick("dev0");
    for _ in 0..3 {
        world.next_published();
    }
    assert_eq!(world.directory.queued(), 2);
    world.command("dev2", &read(10));
    assert_eq!(world.directory.queued(), 3);
    drop(devices);
}

#[test]
fn and_so_many_bytes() {
    let mut world = World::with(|config| config.queue.max_total_bytes = 1 << 20);
    sleeper(&mut world, "dev", 5000);
    world.pass(Duration::from_secs(30));
    let value = "x".repeat(300_000);
    let data = json!({"path": "/3/0/14", "type": "String", "value": value});
    let mut taken = 0;
    while world.published.is_empty() {
        world.command("dev", &command(taken, "write", data.clone()));
        taken += 1;
        assert!(taken < 10);
    }
    assert!(taken > 1);
    assert_eq!(world.next_published().json["data"]["reason"], "queue_full");
}

#[test]
fn a_long_queue_is_listed_in_part() {
    let mut world = World::with(|config| config.queue.max_commands = 5000);
    sleeper(&mut world, "dev", 5000);
    world.pass(Duration::from_secs(30));
    for number in 0..3000 {
        world.command("dev", &read(number));
    }
    world.command("dev", &command(9999, "list-queue", json!({})));
    let data = world.next_published().json["data"].clone();
    let listed = data["content"].as_array().unwrap().len();
    assert_eq!(data["content"][0]["reqID"], 0, "the next one first");
    assert_eq!(listed as u64 + data["more"].as_u64().unwrap(), 3000);
    assert!(data.to_string().len() < 400 << 10);
    world.command("dev", &command(9998, "cancel", json!({"all": true})));
    for _ in 0..3000 {
        assert_eq!(world.next_published().json["data"]["reason"], "cancelled");
    }
    world.next_published();
    world.command("dev", &command(9999, "list-queue", json!({})));
    let data = world.next_published().json["data"].clone();
    assert_eq!((&data["content"], data.get("more")), (&json!([]), None));
}

#[test]
fn what_is_under_way_is_cancelled_as_well() {
    let mut world = World::new();
    let device = Device::registered(&mut world, "dev", 5000);
    world.command("dev", &read(1));
    world.command("dev", &read(2));
    world.command("dev", &read(3));
    let first = world.next_for(device.peer);
    world.command("dev", &command(9, "cancel", json!({"reqID": 1})));
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["reqID"], &answer["data"]["reason"]),
        (&json!(1), &json!("cancelled"))
    );
    assert_eq!(world.next_published().json["data"]["cancelled"], 1);
    // The next has its turn, and the answer to the first is for nobody.
    let second = world.next_for(device.peer);
    let answer = device.answer(&first, Code::CONTENT).payload("x").build();
    world.datagram(device.peer, &answer);
    world.assert_quiet();
    let answer = device.answer(&second, Code::CONTENT).payload("x").build();
    world.datagram(device.peer, &answer);
    assert_eq!(world.next_published().json["reqID"], 2);
    world.next_for(device.peer);
    world.command("dev", &command(9, "cancel", json!({"all": true})));
    assert_eq!(world.next_published().json["reqID"], 3);
    assert_eq!(world.next_published().json["data"]["cancelled"], 1);
    world.pass(Duration::from_secs(300));
    assert!(world.published.is_empty(), "answered once");
}

#[test]
fn what_the_gateway_observes_by_itself_is_not_cancelled() {
    let paths = ["/3/0", "/3303/0"].map(|path| path.parse().unwrap());
    let auto = |config: &mut Config| config.auto_observe = AutoObserve::Paths(paths.to_vec());
    let mut world = World::with(auto);
    let device = Device::registered(&mut world, "dev", 5000);
    world.command("dev", &read(1));
    let request = world.next_for(device.peer);
    assert_eq!(request.observe(), Some(0));
    world.command("dev", &command(9, "cancel", json!({"all": true})));
    assert_eq!(world.next_published().json["reqID"], 1);
    assert_eq!(world.next_published().json["data"]["cancelled"], 1);
    let answer = device.answer(&request, Code::NOT_FOUND).build();
    world.datagram(device.peer, &answer);
    world.published.clear();
    let next = world.next_for(device.peer);
    assert_eq!(next.observe(), Some(0), "the next object is observed");
}

#[test]
fn a_gateway_that_stops_knows_these_commands() {
    let mut world = World::new();
    Device::registered(&mut world, "dev", 5000);
    world.shut_down(0);
    world.published.clear();
    for (kind, data) in [("list-queue", json!({})), ("cancel", json!({"all": true}))] {
        world.command("dev", &command(1, kind, data));
        let answer = world.next_published().json;
        assert_eq!(
            (&answer["msgType"], &answer["data"]["reason"]),
            (&json!(kind), &json!("gateway_stopping"))
        );
    }
}
