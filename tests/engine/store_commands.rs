//! Commands that wait or are under way when a process ends, and what the next one does with them.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

use std::time::Duration;

use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::Code;
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::engine::{CommandInput, Origin};
use serde_json::json;

use super::store::{NOTHING, command, serve, sleeper, update, world};
use crate::support::{Device, World};

#[test]
fn commands_wait_over_a_restart_in_their_order() {
    let mut world = world();
    let mut device = sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    for (id, kind) in [(1, "read"), (2, "execute"), (3, "read")] {
        let path = if kind == "read" { "/3/0/0" } else { "/3/0/4" };
        world.command("dev", &command(id, kind, json!({"path": path})));
    }
    world.assert_quiet();
    world.crash(Duration::from_secs(60), None);
    world.assert_quiet();
    // And over another one, with more behind them.
    world.command("dev", &command(4, "read", json!({"path": "/3/0/0"})));
    world.crash(Duration::from_secs(60), None);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    for id in 1..=4 {
        serve(&mut world, &device, "x");
        let answer = world.next_published().json;
        assert_eq!(answer["reqID"], id);
        assert_eq!(answer.get("repeated"), None);
    }
    world.assert_quiet();
    world.crash(NOTHING, None);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.assert_quiet();
}

#[test]
fn commands_for_a_device_that_is_awake_go_out_at_once() {
    let mut world = world();
    let device = Device::registered(&mut world, "dev", 5000);
    world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
    world.command("dev", &command(2, "read", json!({"path": "/3/0/1"})));
    let first = world.next_for(device.peer);
    // The first was sent, and nobody knows what came of it.
    world.crash(NOTHING, None);
    let again = serve(&mut world, &device, "x");
    assert_eq!(
        first.option_values(option::URI_PATH).collect::<Vec<_>>(),
        again.option_values(option::URI_PATH).collect::<Vec<_>>()
    );
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["reqID"], &answer["repeated"]),
        (&json!(1), &json!(true))
    );
    serve(&mut world, &device, "y");
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["reqID"], answer.get("repeated")),
        (&json!(2), None)
    );
    world.assert_quiet();
}

#[test]
fn what_must_not_be_sent_twice_is_not() {
    let data = |kind| match kind {
        "execute" => json!({"path": "/3/0/4"}),
        "create" => json!({"basePath": "/3303", "content": []}),
        _ => json!({"basePath": "/3/0", "mode": "update",
                    "content": [{"path": "14", "type": "String", "value": "+02"}]}),
    };
    for kind in ["execute", "create", "write"] {
        let mut world = world();
        let device = Device::registered(&mut world, "dev", 5000);
        world.store_waits = true;
        world.command("dev", &command(1, kind, data(kind)));
        world.command("dev", &command(2, "read", json!({"path": "/3/0/0"})));
        // Nothing goes out before it is noted: neither this command nor one behind it.
        world.assert_quiet();
        let number = world.store.as_mut().map(|store| {
            let restored = lwm2m_gateway::store::Backend::load(store).unwrap();
            let commands = &restored.devices[0].commands;
            assert_eq!(commands.len(), 2, "{kind}");
            commands[0].0.number
        });
        world.confirm(0, "dev", number.unwrap());
        let request = world.next_for(device.peer);
        assert_eq!(request.code(), Code::POST, "{kind}");
        // The one behind it is noted as well before it is sent.
        world.store_waits = false;
        world.crash(NOTHING, None);
        let answer = world.next_published().json;
        assert_eq!(answer["data"]["code"], "5.04", "{kind}");
        assert_eq!(answer["data"]["reason"], "restarted");
        assert_eq!(answer["repeated"], true);
        let request = serve(&mut world, &device, "x");
        assert_eq!(request.code(), Code::GET);
        assert_eq!(world.next_published().json["reqID"], 2);
        world.assert_quiet();
    }
}

#[test]
fn what_was_sent_may_be_answered_in_any_case() {
    let mut world = World::stored(1, |config| {
        config.store.on_restart = lwm2m_gateway::config::OnRestart::Answer;
    });
    let device = Device::registered(&mut world, "dev", 5000);
    world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
    world.command("dev", &command(2, "read", json!({"path": "/3/0/1"})));
    world.next_for(device.peer);
    world.crash(NOTHING, None);
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["data"]["reason"], &answer["repeated"]),
        (&json!("restarted"), &json!(true))
    );
    // The other one had not been sent.
    serve(&mut world, &device, "y");
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["reqID"], answer.get("repeated")),
        (&json!(2), None)
    );
    world.assert_quiet();
}

#[test]
fn commands_expire_while_nobody_runs() {
    let mut world = world();
    let mut device = sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    let text = command(1, "read", json!({"path": "/3/0/0"}));
    world.command_with("dev", &text, Dialect::Current, Some(60));
    world.crash(Duration::from_secs(90), None);
    world.pass(NOTHING);
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["reqID"], &answer["data"]["reason"]),
        (&json!(1), &json!("expired"))
    );
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.assert_quiet();
}

#[test]
fn a_stop_keeps_what_waits() {
    let mut world = world();
    let mut device = sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
    world.shut_down(0);
    world.assert_quiet();
    world.crash(NOTHING, None);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    serve(&mut world, &device, "x");
    assert_eq!(world.next_published().json["reqID"], 1);
}

#[test]
fn a_command_that_a_new_configuration_refuses_is_answered() {
    let mut world = world();
    let mut device = sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    let long = "x".repeat(2000);
    let data = json!({"path": "/3/0/14", "type": "String", "value": long});
    world.command("dev", &command(1, "write", data));
    world.command("dev", &command(2, "read", json!({"path": "/3/0/0"})));
    let mut config = lwm2m_gateway::Config::default();
    config.limits.max_command_size = Some(1000);
    world.crash(NOTHING, Some(config));
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["code"], "4.00", "{answer}");
    world.assert_quiet();
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    serve(&mut world, &device, "x");
    assert_eq!(world.next_published().json["reqID"], 2);
    world.crash(NOTHING, None);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.assert_quiet();
}

#[test]
fn a_command_that_the_broker_gives_again_is_marked() {
    let mut world = world();
    let device = Device::registered(&mut world, "dev", 5000);
    for again in [false, true] {
        let input = CommandInput {
            order: 0,
            endpoint: "dev".into(),
            mount: "lwm2m/dev/".into(),
            dialect: Dialect::Current,
            payload: command(1, "read", json!({"path": "/3/0/0"})).into_bytes(),
            expiry: None,
            origin: Some(Origin {
                id: 7,
                digest: 9,
                again,
            }),
            reply: None,
        };
        world.command_input(0, input);
        serve(&mut world, &device, "x");
        let answer = world.next_published().json;
        assert_eq!(answer.get("repeated").is_some(), again);
    }
}

#[test]
fn what_waits_is_listed_and_cancelled() {
    let mut world = world();
    let mut device = sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    for id in 1..=4 {
        world.command(
            "dev",
            &command(id, "read", json!({"path": format!("/3/0/{id}")})),
        );
    }
    world.crash(NOTHING, None);
    world.command(
        "dev",
        &json!({"reqID": "l", "msgType": "list-queue"}).to_string(),
    );
    let list = world.next_published().json;
    assert_eq!(
        (&list["reqID"], &list["msgType"]),
        (&json!("l"), &json!("list-queue"))
    );
    assert_eq!(list["data"]["code"], "2.05");
    let content = list["data"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 4);
    assert_eq!(content[1]["reqID"], 2);
    assert_eq!(content[1]["msgType"], "read");
    assert_eq!(content[1]["reqPath"], "/3/0/2");
    assert_eq!(content[1]["state"], "waiting");
    let time = |name: &str| content[1][name].as_u64().unwrap();
    assert_eq!(time("until") - time("since"), 7_200_000);

    world.command("dev", &command(5, "cancel", json!({"reqID": 2})));
    let gone = world.next_published().json;
    assert_eq!(
        (&gone["reqID"], &gone["data"]["reason"]),
        (&json!(2), &json!("cancelled"))
    );
    assert_eq!(world.next_published().json["data"]["cancelled"], 1);
    world.command("dev", &command(6, "cancel", json!({"reqID": 2})));
    assert_eq!(
        world.next_published().json["data"]["reason"],
        "no_such_command"
    );
    world.command("dev", &command(7, "cancel", json!({})));
    assert_eq!(world.next_published().json["data"]["code"], "4.00");

    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.command("dev", &command(8, "list-queue", json!({})));
    let list = world.next_published().json;
    let states: Vec<_> = list["data"]["content"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&states[0]["reqID"], &states[0]["state"]),
        (&json!(1), &json!("sent"))
    );
    world.command("dev", &command(9, "cancel", json!({"all": true})));
    for id in [3, 4, 1] {
        let answer = world.next_published().json;
        assert_eq!(
            (&answer["reqID"], &answer["data"]["reason"]),
            (&json!(id), &json!("cancelled"))
        );
    }
    assert_eq!(world.next_published().json["data"]["cancelled"], 3);
    // What the device has done is for nobody.
    serve(&mut world, &device, "x");
    world.assert_quiet();
    world.crash(NOTHING, None);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.assert_quiet();
    world.command("other", &command(10, "list-queue", json!({})));
    assert_eq!(
        world.next_published().json["data"]["reason"],
        "not_registered"
    );
}

#[test]
fn what_was_refused_is_not_done_after_a_crash() {
    for reason in ["cancelled", "not_registered", "expired"] {
        let mut world = world();
        let mut device = sleeper(&mut world);
        world.pass(Duration::from_secs(30));
        let text = command(1, "execute", json!({"path": "/3/0/4"}));
        world.command_with("dev", &text, Dialect::Current, Some(60));
        world.broker_away = true;
        match reason {
            "cancelled" => world.command("dev", &command(2, "cancel", json!({"reqID": 1}))),
            "not_registered" => world.kick("dev"),
            _ => world.pass(Duration::from_secs(61)),
        }
        let answer = world.next_published().json;
        assert_eq!(answer["data"]["reason"], reason);
        assert_eq!(answer.get("repeated"), None);
        // The answer died with the process, as far as anybody knows, twice.
        for _ in 0..2 {
            world.crash(NOTHING, None);
            let answer = world.next_published().json;
            assert_eq!(answer["reqID"], 1);
            assert_eq!(answer["data"]["reason"], reason, "{answer}");
            assert_eq!(answer["repeated"], true);
            assert!(world.published.is_empty());
        }
        world.broker_away = false;
        world.crash(NOTHING, None);
        assert_eq!(world.next_published().json["data"]["reason"], reason);
        if reason == "not_registered" {
            assert_eq!(update(&mut world, &mut device), Code::NOT_FOUND);
        } else {
            assert_eq!(update(&mut world, &mut device), Code::CHANGED);
        }
        world.assert_quiet();
        world.crash(NOTHING, None);
        world.assert_quiet();
        let left = lwm2m_gateway::store::Backend::load(world.store.as_mut().unwrap()).unwrap();
        assert!(
            left.devices
                .iter()
                .all(|it| !it.ended && it.commands.is_empty())
        );
    }
}

#[test]
fn what_was_refused_stays_so_for_the_next_registration() {
    let mut world = world();
    let mut device = sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    world.command("dev", &command(1, "execute", json!({"path": "/3/0/4"})));
    world.broker_away = true;
    world.kick("dev");
    world.next_published();
    device.register(&mut world, &["b=UQ"], "</3/0>");
    world.next_published();
    world.crash(NOTHING, None);
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["reason"], "not_registered");
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.assert_quiet();
}
