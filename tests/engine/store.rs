//! A process that ends without a word, and the next one that goes on with what was stored: registrations
//! and observations.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

use std::time::Duration;

use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use serde_json::{Value, json};

use crate::support::{Device, World};

pub(crate) const NOTHING: Duration = Duration::from_secs(1);

pub(crate) fn world() -> World {
    World::stored(1, |_| {})
}

/// A device in queue mode that has just registered.
pub(crate) fn sleeper(world: &mut World) -> Device {
    let mut device = Device::new("dev", 5000);
    device.register(world, &["b=UQ"], "</1/0>,</3/0>,</5/0>,</3303/0>");
    world.next_published();
    device
}

pub(crate) fn update(world: &mut World, device: &mut Device) -> Code {
    update_at(world, 0, device)
}

fn update_at(world: &mut World, shard: usize, device: &mut Device) -> Code {
    let location = device.location.clone();
    let request = device.request(Code::POST, &["rd", &location], &[]);
    world.datagram_at(shard, device.peer, &request.build());
    world.next_for(device.peer).code()
}

pub(crate) fn command(id: u32, kind: &str, data: Value) -> String {
    json!({"reqID": id, "msgType": kind, "data": data}).to_string()
}

/// The next request for a device, answered with 2.04 or 2.05.
pub(crate) fn serve(world: &mut World, device: &Device, payload: &str) -> Message {
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

pub(crate) fn notify(
    world: &mut World,
    device: &Device,
    token: &[u8],
    sequence: u32,
    payload: &str,
) {
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
fn a_device_whose_messages_come_to_another_shard_is_found_there() {
    for sends in [true, false] {
        let mut world = World::stored(2, |_| {});
        let device = Device::registered(&mut world, "dev", 5000);
        world.command(
            "dev",
            &command(7, "observe", json!({"path": "/3303/0/5700"})),
        );
        let token = serve(&mut world, &device, "20").token().to_vec();
        world.next_published();
        world.crash(NOTHING, None);
        assert_eq!(world.engines[0].len(), 1);
        // The kernel shares addresses out in another way now.
        let message = if sends {
            let payload = r#"[{"n":"/3303/0/5700","v":21}]"#;
            Builder::new(MessageType::Confirmable, Code::POST, 77, b"t")
                .option(option::URI_PATH, "dp")
                .uint(option::CONTENT_FORMAT, 110)
                .payload(payload)
        } else {
            Builder::new(MessageType::Confirmable, Code::CONTENT, 77, &token)
                .uint(option::OBSERVE, 2)
                .uint(option::CONTENT_FORMAT, 0)
                .payload("21")
        };
        world.datagram_at(1, device.peer, &message.build());
        let answer = world.next_for(device.peer);
        assert_eq!(answer.kind(), MessageType::Acknowledgement);
        if sends {
            assert_eq!(answer.code(), Code::CHANGED);
        }
        let published = world.next_published().json;
        assert_eq!(published["data"]["content"][0]["value"], 21, "{published}");
        assert_eq!((world.engines[0].len(), world.engines[1].len()), (0, 1));
        world.command("dev", &command(8, "read", json!({"path": "/3/0/0"})));
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT).payload("x");
        world.datagram_at(1, device.peer, &answer.build());
        assert_eq!(world.next_published().json["reqID"], 8);
        world.assert_quiet();
    }
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

/// Sessions come back in turns: a device may have made a handshake before it was its turn.
#[test]
fn a_session_that_comes_back_is_older_than_any_handshake() {
    for (at, back_at) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = World::stored(2, |config| {
            config.listeners.udp.clear();
            let dtls = lwm2m_gateway::config::DtlsListener::default();
            config.listeners.dtls.insert("default".to_owned(), dtls);
        });
        let mut device = Device::new("dev", 5000);
        device.peer.session = 1;
        world.session(0, device.peer, "dev", "dev");
        device.register(&mut world, &[], "</1/0>,</3/0>");
        world.next_published();
        world.crash(NOTHING, None);
        let mut old = device.clone();
        (device.peer.session, old.peer.session) = (7, 9);
        world.session(at, device.peer, "dev", "dev");
        assert!(world.disconnected.is_empty());
        world.session_back(back_at, old.peer, "dev");
        assert_eq!(world.disconnected, [old.peer]);
        assert_eq!(update_at(&mut world, at, &mut device), Code::CHANGED);
        world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT).payload("x");
        world.datagram_at(at, device.peer, &answer.build());
        assert_eq!(world.next_published().json["reqID"], 1);
    }
}

/// With `takeover = "end"` a newer connection ends what it displaces; after a restart there is none.
#[test]
fn a_handshake_after_a_restart_displaces_nothing() {
    for (shards, at, early) in [
        (1, 0, false),
        (1, 0, true),
        (2, 0, false),
        (2, 1, false),
        (2, 1, true),
    ] {
        let mut world = World::stored(shards, |config| {
            let dtls = lwm2m_gateway::config::DtlsListener {
                takeover: lwm2m_gateway::config::Takeover::End,
                ..Default::default()
            };
            config.listeners.udp.clear();
            config.listeners.dtls.insert("default".to_owned(), dtls);
        });
        let mut device = Device::new("dev", 5000);
        device.peer.session = 1;
        world.session(0, device.peer, "dev", "dev");
        device.register(&mut world, &[], "</1/0>,</3/0>");
        world.next_published();
        if early {
            world.crash_early(NOTHING, None);
        } else {
            world.crash(NOTHING, None);
        }
        device.peer.session = 7;
        world.session(at, device.peer, "dev", "dev");
        world.restore_rest();
        assert_eq!(update_at(&mut world, at, &mut device), Code::CHANGED);
        world.command("dev", &command(1, "read", json!({"path": "/3/0/0"})));
        let request = world.next_for(device.peer);
        let answer = device.answer(&request, Code::CONTENT).payload("x");
        world.datagram_at(at, device.peer, &answer.build());
        assert_eq!(world.next_published().json["reqID"], 1);
        // From then on it is as with any connection.
        let mut again = device.clone();
        again.peer.session = 8;
        world.session(at, again.peer, "dev", "dev");
        assert_eq!(world.directory.len(), 0);
    }
}

#[test]
fn changes_that_were_lost_are_told_again() {
    let mut world = world();
    let mut device = Device::registered(&mut world, "dev", 5000);
    let full = world.store.clone();
    // A full disk: what is said from now on finds no room.
    let text = command(7, "observe", json!({"path": "/3303/0/5700"}));
    world.command("dev", &text);
    let token = serve(&mut world, &device, "20").token().to_vec();
    world.next_published();
    let gone = Device::registered(&mut world, "other", 5001);
    let location = gone.location.clone();
    let kept = Device::registered(&mut world, "new", 5002);
    let mut leaves = gone.clone();
    let request = leaves.request(Code::DELETE, &["rd", &location], &[]);
    world.datagram(gone.peer, &request.build());
    world.sent.clear();
    world.store = full;
    for name in ["dev", "other", "new"] {
        world.store_again(name);
    }
    world.crash(NOTHING, None);
    assert_eq!(world.engines[0].len(), 2);
    notify(&mut world, &device, &token, 2, "21");
    assert_eq!(
        world.next_for(device.peer).kind(),
        MessageType::Acknowledgement
    );
    assert_eq!(world.next_published().json["reqID"], 7);
    assert_eq!(update(&mut world, &mut device), Code::CHANGED);
    assert_eq!(update(&mut world, &mut kept.clone()), Code::CHANGED);
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
