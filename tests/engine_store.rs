//! A process that ends without a word, and the next one that goes on with what was stored.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

mod support;

use std::time::Duration;

use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use serde_json::{Value, json};

use support::{Device, World};

const NOTHING: Duration = Duration::from_secs(1);

fn world() -> World {
    World::stored(1, |_| {})
}

/// A device in queue mode that has just registered.
fn sleeper(world: &mut World) -> Device {
    let mut device = Device::new("dev", 5000);
    device.register(world, &["b=UQ"], "</1/0>,</3/0>,</5/0>,</3303/0>");
    world.next_published();
    device
}

fn update(world: &mut World, device: &mut Device) -> Code {
    let location = device.location.clone();
    let request = device.request(Code::POST, &["rd", &location], &[]);
    world.datagram(device.peer, &request.build());
    world.next_for(device.peer).code()
}

fn command(id: u32, kind: &str, data: Value) -> String {
    json!({"reqID": id, "msgType": kind, "data": data}).to_string()
}

/// The next request for a device, answered with 2.04 or 2.05.
fn serve(world: &mut World, device: &Device, payload: &str) -> Message {
    let request = world.next_for(device.peer);
    let code = match request.code() {
        Code::GET => Code::CONTENT,
        _ => Code::CHANGED,
    };
    let answer = Builder::new(
        MessageType::Acknowledgement,
        code,
        request.mid(),
        request.token(),
    );
    let answer = match request.observe() {
        Some(0) => answer.uint(option::OBSERVE, 1),
        _ => answer,
    };
    let answer = match code {
        Code::CONTENT => answer.uint(option::CONTENT_FORMAT, 0).payload(payload),
        _ => answer,
    };
    world.datagram(device.peer, &answer.build());
    request
}

fn notify(world: &mut World, device: &Device, token: &[u8], sequence: u32, payload: &str) {
    let datagram = Builder::new(
        MessageType::Confirmable,
        Code::CONTENT,
        9000 + sequence as u16,
        token,
    )
    .uint(option::OBSERVE, sequence)
    .uint(option::CONTENT_FORMAT, 0)
    .payload(payload);
    world.datagram(device.peer, &datagram.build());
}

#[test]
fn a_registration_is_there_again() {
    let mut world = world();
    let mut device = Device::registered(&mut world, "dev", 5000);
    let before = world.engines[0].device_info(world.now, "dev").unwrap();
    world.crash(NOTHING, None);
    let after = world.engines[0].device_info(world.now, "dev").unwrap();
    assert_eq!(before.objects, after.objects);
    assert_eq!(before.query, after.query);
    assert_eq!(before.mountpoint, after.mountpoint);
    assert_eq!(before.registered_at, after.registered_at);
    assert_eq!((&*after.listener, after.lifetime), ("udp:default", 300));
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
    serve(&mut world, &device, "x");
    let answer = world.next_published().json;
    assert_eq!(answer["data"]["content"][0]["value"], "x");
    assert_eq!(answer.get("repeated"), None);
    world.assert_quiet();
}

#[test]
fn lifetimes_go_on_and_end() {
    let mut world = world();
    let mut device = Device::registered(&mut world, "dev", 5000);
    world.crash(Duration::from_secs(200), None);
    world.pass(Duration::from_secs(90));
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    // That Update was noted, with the sign of life of a notification at most a minute late.
    world.crash(Duration::from_secs(290), None);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    world.crash(Duration::from_secs(361), None);
    world.pass(Duration::from_secs(1));
    assert_eq!(update(&mut world, &mut device), Code::NOT_FOUND);
    assert_eq!(world.directory.len(), 0);
    world.crash(NOTHING, None);
    assert!(world.engines[0].is_empty(), "the store knows as well");
}

#[test]
fn what_ends_is_gone() {
    let mut world = world();
    let mut device = Device::registered(&mut world, "dev", 5000);
    Device::registered(&mut world, "other", 5001);
    let location = device.location.clone();
    let request = device.request(Code::DELETE, &["rd", &location], &[]);
    world.datagram(device.peer, &request.build());
    world.crash(NOTHING, None);
    assert_eq!(world.engines[0].len(), 1);
    world.kick("other");
    world.crash(NOTHING, None);
    assert!(world.engines[0].is_empty());
}

#[test]
fn a_notification_of_before_is_published() {
    for legacy in [false, true] {
        let mut world = World::stored(1, |config| config.translators.legacy.enable = true);
        let device = Device::registered(&mut world, "dev", 5000);
        if legacy {
            let text = json!({"msgId": 7, "Command": "Observe", "BaseName": "/3303/0/5700"});
            world.command_with("dev", &text.to_string(), Dialect::Legacy, None);
        } else {
            let text = command(7, "observe", json!({"path": "/3303/0/5700"}));
            world.command("dev", &text);
        }
        let token = serve(&mut world, &device, "20").token().to_vec();
        let first = world.next_published();
        world.crash(NOTHING, None);
        notify(&mut world, &device, &token, 2, "21");
        let ack = world.next_for(device.peer);
        assert_eq!(ack.kind(), MessageType::Acknowledgement, "no RST");
        let published = world.next_published();
        if legacy {
            assert_eq!(published.topic, first.topic);
            assert_eq!(published.json["msgId"], 7);
        } else {
            assert_eq!(published.json["reqID"], 7);
            assert_eq!(published.json["msgType"], "notify");
            assert_eq!(published.json.get("repeated"), None);
        }
        world.assert_quiet();

        // It ends as any other, and stays so.
        let text = command(8, "cancel-observe", json!({"path": "/3303/0/5700"}));
        world.command("dev", &text);
        let request = serve(&mut world, &device, "22");
        assert_eq!(request.token(), token);
        world.crash(NOTHING, None);
        notify(&mut world, &device, &token, 3, "23");
        assert_eq!(world.next_for(device.peer).kind(), MessageType::Reset);
    }
}

#[test]
fn a_composite_observation_of_before_is_published() {
    let mut world = world();
    let device = Device::registered(&mut world, "dev", 5000);
    let paths = json!({"paths": ["/3/0/0", "/3303/0/5700"]});
    world.command("dev", &command(7, "observe-composite", paths));
    let request = world.next_for(device.peer);
    let senml = r#"[{"n":"/3303/0/5700","v":20}]"#;
    let answer = Builder::new(
        MessageType::Acknowledgement,
        Code::CONTENT,
        request.mid(),
        request.token(),
    );
    let answer = answer
        .uint(option::OBSERVE, 1)
        .uint(option::CONTENT_FORMAT, 110);
    world.datagram(device.peer, &answer.payload(senml).build());
    let first = world.next_published().json;
    world.crash(NOTHING, None);
    let datagram = Builder::new(MessageType::Confirmable, Code::CONTENT, 9, request.token())
        .uint(option::OBSERVE, 2)
        .uint(option::CONTENT_FORMAT, 110)
        .payload(senml);
    world.datagram(device.peer, &datagram.build());
    world.next_for(device.peer);
    let json = world.next_published().json;
    assert_eq!(json["data"]["reqPaths"], first["data"]["reqPaths"]);
    assert_eq!(json["data"]["content"], first["data"]["content"]);
}

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
fn a_device_whose_listener_is_gone_ends() {
    let mut world = world();
    sleeper(&mut world);
    world.pass(Duration::from_secs(30));
    world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
    let mut config = lwm2m_gateway::Config::default();
    let listener = config.listeners.udp.remove("default").unwrap();
    config.listeners.udp.insert("new".to_owned(), listener);
    world.crash(NOTHING, Some(config));
    assert_eq!(
        world.next_published().json["data"]["reason"],
        "not_registered"
    );
    let gone = format!("{:?}", world.events.pop_back());
    assert!(gone.contains("ListenerClosed"), "{gone}");
    assert!(world.directory.is_empty());
    world.crash(NOTHING, None);
    assert!(world.engines[0].is_empty());
}

#[test]
fn a_notification_and_an_update_of_the_deadline_store_nothing() {
    let mut world = world();
    let mut device = Device::registered(&mut world, "dev", 5000);
    let text = command(7, "observe", json!({"path": "/3303/0/5700"}));
    world.command("dev", &text);
    let token = serve(&mut world, &device, "20").token().to_vec();
    let before = world.store.clone();
    for sequence in 2..20 {
        world.pass(Duration::from_secs(3));
        notify(&mut world, &device, &token, sequence, "21");
        world.sent.clear();
        assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    }
    let now = format!("{:?}", world.store);
    assert_eq!(now, format!("{before:?}"), "54 seconds");
    world.pass(Duration::from_secs(9));
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    assert_ne!(format!("{:?}", world.store), now, "once a minute");
}

#[test]
fn an_identity_finds_its_registration_again() {
    let mut world = World::stored(1, |config| {
        let dtls = lwm2m_gateway::config::DtlsListener::default();
        config.listeners.udp.clear();
        config.listeners.dtls.insert("default".to_owned(), dtls);
    });
    let mut device = Device::new("dev", 5000);
    device.peer.session = 1;
    world.session(0, device.peer, "dev", "dev");
    device.register(&mut world, &[], "</1/0>,</3/0>");
    world.next_published();
    world.crash(NOTHING, None);
    world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
    // There is nobody to be sent anything.
    world.pass(Duration::from_secs(100));
    world.assert_quiet();
    // The next process counts its sessions from one again, and the device may come from where it was.
    world.session(0, device.peer, "dev", "dev");
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    serve(&mut world, &device, "x");
    let answer = world.next_published().json;
    assert_eq!(
        (&answer["reqID"], &answer["data"]["code"]),
        (&json!(1), &json!("2.05"))
    );
    world.assert_quiet();
}

/// What an application and a device can tell of an engine.
fn picture(world: &mut World) -> Vec<String> {
    let mut infos = world.engines[0].device_infos(world.now);
    infos.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    let stored = world.store.as_mut().map(|store| {
        let contents = lwm2m_gateway::store::Backend::load(store).unwrap();
        let tokens = contents.devices.into_iter().map(|it| it.observations);
        tokens.collect::<Vec<_>>()
    });
    let devices = infos.into_iter().map(|mut info| {
        info.idle_ms = 0;
        // One that was sent waits again, or is sent again.
        info.queued = 0;
        format!("{info:?}")
    });
    devices.chain([format!("{stored:?}")]).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any sequence of events, restored from its changes, gives the same engine; and every command
    /// that has no answer yet gets one.
    #[test]
    fn a_restored_engine_is_the_same(
        steps in proptest::collection::vec((0..9u8, 0..3usize, 0..4u8), 1..40)
    ) {
        let mut world = world();
        let mut devices: Vec<_> = (0..3)
            .map(|number| Device::new(&format!("dev{number}"), 5000 + number))
            .collect();
        let (mut asked, mut answered) = (0, std::collections::BTreeMap::<u64, u32>::new());
        for (step, which, detail) in steps {
            let device = &mut devices[which];
            let there = world.directory.shard_of(&device.endpoint).is_some();
            match step {
                0 => {
                    let mut before = std::mem::take(&mut world.sent);
                    device.register(&mut world, &["b=UQ"], "</1/0>,</3/0>,</3303/0>");
                    before.append(&mut world.sent);
                    world.sent = before;
                }
                1 if there => {
                    let location = device.location.clone();
                    let lifetime = format!("lt={}", 300 + u32::from(detail));
                    let query = [lifetime.as_str()];
                    let query = if detail > 1 { &query[..] } else { &[] };
                    let request = device.request(Code::POST, &["rd", &location], query);
                    world.datagram(device.peer, &request.build());
                }
                2 if there && detail == 0 => {
                    let location = device.location.clone();
                    let request = device.request(Code::DELETE, &["rd", &location], &[]);
                    world.datagram(device.peer, &request.build());
                }
                3 | 4 if there => {
                    let kinds = ["read", "execute", "observe", "cancel-observe"];
                    let kind = kinds[usize::from(detail)];
                    asked += 1;
                    let text = command(asked, kind, json!({"path": "/3303/0/5700"}));
                    let endpoint = device.endpoint.clone();
                    world.command(&endpoint, &text);
                }
                5 | 6 => {
                    let at = world.sent.iter().position(|(to, datagram)| {
                        let code = Message::parse(datagram).map(|it| it.code());
                        *to == device.peer && code.is_ok_and(Code::is_request)
                    });
                    if let Some(at) = at {
                        let request = world.sent.remove(at).unwrap();
                        world.sent.push_front(request);
                        serve(&mut world, device, "20");
                    }
                }
                7 => world.pass(Duration::from_secs(u64::from(detail) * 10)),
                8 => {
                    collect(&mut world, &mut answered);
                    let before = picture(&mut world);
                    world.crash(Duration::ZERO, None);
                    let after = picture(&mut world);
                    proptest::prop_assert_eq!(before, after);
                }
                _ => {}
            }
        }
        collect(&mut world, &mut answered);
        let before = picture(&mut world);
        world.crash(Duration::ZERO, None);
        proptest::prop_assert_eq!(before, picture(&mut world));
        // Silent devices: everything that waits is answered in the end.
        world.pass(Duration::from_secs(8000));
        collect(&mut world, &mut answered);
        for number in 1..=u64::from(asked) {
            let count = answered.get(&number).copied().unwrap_or_default();
            proptest::prop_assert_eq!(count, 1, "answers to {}", number);
        }
    }
}

/// Counts final answers that are the first as far as they say.
fn collect(world: &mut World, answered: &mut std::collections::BTreeMap<u64, u32>) {
    for published in world.published.drain(..) {
        let json = published.json;
        let is_final = json["msgType"] != "ack" && json["msgType"] != "notify";
        if let Some(number) = json["reqID"].as_u64().filter(|_| is_final) {
            *answered.entry(number).or_default() += 1;
        }
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
    assert_eq!(world.next_published().json["reqID"], 3);
    assert_eq!(world.next_published().json["reqID"], 4);
    assert_eq!(world.next_published().json["data"]["cancelled"], 2);
    serve(&mut world, &device, "x");
    assert_eq!(world.next_published().json["reqID"], 1);
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
fn observations_of_a_new_registration_follow_the_policy() {
    use lwm2m_gateway::config::ObservePolicy;
    for policy in [
        ObservePolicy::Keep,
        ObservePolicy::Renew,
        ObservePolicy::Drop,
    ] {
        let mut world = World::stored(1, |config| config.observe_policy = policy);
        let mut device = Device::registered(&mut world, "dev", 5000);
        let text = command(7, "observe", json!({"path": "/3303/0/5700"}));
        world.command("dev", &text);
        let token = serve(&mut world, &device, "20").token().to_vec();
        world.next_published();
        device.register(&mut world, &[], "</1/0>,</3/0>,</3303/0>");
        world.next_published();
        match policy {
            ObservePolicy::Renew => {
                let request = serve(&mut world, &device, "21");
                assert_eq!((request.token(), request.observe()), (&*token, Some(0)));
                assert_eq!(world.next_published().json["msgType"], "notify");
            }
            ObservePolicy::Keep | ObservePolicy::Drop => world.assert_quiet(),
        }
        world.crash(NOTHING, None);
        notify(&mut world, &device, &token, 22, "22");
        let reply = world.next_for(device.peer).kind();
        let goes_on = policy != ObservePolicy::Drop;
        assert_eq!(reply == MessageType::Acknowledgement, goes_on, "{policy:?}");
    }
}
