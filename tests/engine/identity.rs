//! Whose an endpoint is, and whose a mountpoint: no sender gets the commands of another, nor speaks
//! in its name. In virtual time.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use crate::support::{Device, World, peer};
use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::{CommandRouter, Dialect, RouteKey};
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, MessageType};
use lwm2m_gateway::config::{DtlsListener, EndpointRule, PlainRegisters, UdpListener};
use lwm2m_gateway::credentials::{Credential, EndpointPattern, Key};
use lwm2m_gateway::engine::{CommandInput, Decision, DeviceEvent, GoneReason, Peer, Settings};
use lwm2m_gateway::network::LocalAddress;
use proptest::prelude::*;

const PLAIN: u16 = 0;
const SECURE: u16 = 1;

fn credential(identity: &str, endpoints: &[&str]) -> Credential {
    Credential {
        identity: identity.as_bytes().into(),
        key: Key::new(vec![1; 16]),
        endpoints: endpoints
            .iter()
            .map(|text| EndpointPattern::new(text).unwrap())
            .collect(),
    }
}

/// A plain listener, and one with DTLS that has these credentials and suffixes behind `@`.
fn both(config: &mut Config, psk: &[(&str, &[&str])]) {
    let psk = psk
        .iter()
        .map(|(identity, list)| credential(identity, list));
    let listener = DtlsListener {
        psk: psk.collect(),
        identity_separator: "@".to_owned(),
        ..DtlsListener::default()
    };
    let dtls = &mut config.listeners.dtls;
    dtls.insert("default".to_owned(), listener);
}

fn world(shards: u16, psk: &[(&str, &[&str])], change: impl FnOnce(&mut Config)) -> World {
    World::sharded(shards, |config| {
        both(config, psk);
        change(config);
    })
}

/// A device with a session of its own at the DTLS listener.
fn secured(world: &mut World, shard: usize, endpoint: &str, port: u16, presented: &str) -> Device {
    let public = presented.split('@').next().unwrap_or_default();
    secured_by(
        world,
        shard,
        endpoint,
        port,
        (presented, credential(public, &[])),
    )
}

fn secured_by(
    world: &mut World,
    shard: usize,
    endpoint: &str,
    port: u16,
    (presented, credential): (&str, Credential),
) -> Device {
    let mut device = Device::new(endpoint, port);
    device.peer = Peer {
        listener: SECURE,
        local: LocalAddress::default(),
        session: u32::from(port),
        ..device.peer
    };
    world.session_by(shard, device.peer, presented, credential);
    device
}

/// Code and diagnostic of the answer to a Register.
fn register_with(
    world: &mut World,
    shard: usize,
    device: &mut Device,
    extra: &[&str],
) -> (Code, String) {
    let ep = format!("ep={}", device.endpoint);
    let mut query = vec![ep.as_str(), "lt=300", "lwm2m=1.1"];
    query.extend_from_slice(extra);
    let request = device
        .request(Code::POST, &["rd"], &query)
        .payload("</3/0>");
    world.datagram_at(shard, device.peer, &request.build());
    if world.sent.is_empty() {
        return (Code::EMPTY, String::new());
    }
    let answer = world.next_for(device.peer);
    if let Some(location) = answer.option_values(option::LOCATION_PATH).nth(1) {
        device.location = String::from_utf8_lossy(location).into_owned();
    }
    let text = String::from_utf8_lossy(answer.payload()).into_owned();
    (answer.code(), text)
}

fn register(world: &mut World, shard: usize, device: &mut Device) -> Code {
    register_with(world, shard, device, &[]).0
}

fn update(world: &mut World, shard: usize, device: &mut Device) -> Code {
    let location = device.location.clone();
    let request = device.request(Code::POST, &["rd", &location], &[]).build();
    world.datagram_at(shard, device.peer, &request);
    world.next_for(device.peer).code()
}

fn deregister(world: &mut World, shard: usize, device: &mut Device) -> Code {
    let location = device.location.clone();
    let request = device.request(Code::DELETE, &["rd", &location], &[]);
    world.datagram_at(shard, device.peer, &request.build());
    world.next_for(device.peer).code()
}

/// A command, routed as the runtime does it. Returns whom it went to.
fn command(world: &mut World, config: &Config, topic: &str) -> Vec<Peer> {
    let router = CommandRouter::new(config).unwrap();
    let mut targets = Vec::new();
    for route in router.routes(topic) {
        let endpoints = match &route.key {
            RouteKey::Endpoint(name) => vec![name.as_ref().into()],
            RouteKey::Mountpoint(mount) => world.directory.endpoints_at(mount),
        };
        for endpoint in endpoints {
            let shard = world.directory.shard_of(&endpoint).unwrap_or(0);
            let input = CommandInput {
                order: 0,
                endpoint,
                mount: route.mount.into(),
                dialect: Dialect::Current,
                payload: br#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#.to_vec(),
                expiry: None,
                origin: None,
                reply: None,
            };
            world.command_input(usize::from(shard), input);
        }
    }
    targets.extend(world.sent.drain(..).map(|(to, _)| to));
    targets
}

#[test]
fn c5_plain_udp_leaves_alone_what_a_credential_covers() {
    for shards in [1, 2] {
        let psk: &[(&str, &[&str])] = &[("alpha", &["truck-*"]), ("beta", &[])];
        let mut world = world(shards, psk, |_| {});
        let last = usize::from(shards) - 1;
        let covered = ["alpha", "beta", "beta@2", "truck-7"];
        for (port, endpoint) in (5001..).zip(covered) {
            let mut plain = Device::new(endpoint, port);
            let (code, text) = register_with(&mut world, 0, &mut plain, &[]);
            assert_eq!(code, Code::FORBIDDEN, "{endpoint}");
            assert!(text.contains("must register over DTLS"), "{text}");
        }
        assert_eq!(world.counter("identity_refused"), 4);
        let mut free = Device::new("free", 5010);
        assert_eq!(register(&mut world, 0, &mut free), Code::CREATED);

        // Asleep, its connection gone: neither a Register nor an Update nor a De-register.
        let mut beta = secured(&mut world, 0, "beta", 5011, "beta");
        assert_eq!(register(&mut world, 0, &mut beta), Code::CREATED);
        world.session_closed(0, beta.peer);
        let mut thief = Device::new("beta", 5012);
        thief.location = beta.location.clone();
        assert_eq!(register(&mut world, last, &mut thief), Code::FORBIDDEN);
        assert_eq!(update(&mut world, last, &mut thief), Code::FORBIDDEN);
        assert_ne!(deregister(&mut world, last, &mut thief), Code::DELETED);
        assert_eq!(world.directory.len(), 2);
    }
}

#[test]
fn c5_any_endpoint_over_plain_udp_when_that_is_wanted() {
    for own in [false, true] {
        let mut world = world(2, &[("beta", &[])], |config| {
            let any = PlainRegisters::Any;
            match own {
                false => config.plain_registers = any,
                true => {
                    let listener = config.listeners.udp.get_mut("default").unwrap();
                    listener.plain_registers = Some(any);
                }
            }
        });
        let mut plain = Device::new("beta", 5001);
        assert_eq!(register(&mut world, 0, &mut plain), Code::CREATED);
        // Its owner takes it over at once, and keeps it.
        let mut beta = secured(&mut world, 1, "beta", 5002, "beta");
        assert_eq!(register(&mut world, 1, &mut beta), Code::CREATED);
        assert_eq!(update(&mut world, 1, &mut beta), Code::CHANGED);
        assert_ne!(update(&mut world, 0, &mut plain), Code::CHANGED);
        assert_eq!(register(&mut world, 0, &mut plain), Code::FORBIDDEN);
        assert_eq!(world.directory.len(), 1);
    }
}

#[test]
fn c6_an_endpoint_that_a_credential_covers_is_its_own() {
    for shards in [1, 2] {
        let psk: &[(&str, &[&str])] = &[("alpha", &["truck-*", "x"]), ("beta", &[])];
        let mut world = world(shards, psk, |_| {});
        let last = usize::from(shards) - 1;
        let mut port = 5000;
        let mut tries = |world: &mut World, identity: &str, endpoint: &str| {
            port += 1;
            let mut device = secured(world, last, endpoint, port, identity);
            register(world, last, &mut device)
        };
        for (identity, endpoint, code) in [
            ("alpha", "beta", Code::FORBIDDEN),
            ("alpha@1", "beta@1", Code::FORBIDDEN),
            ("beta", "alpha@7", Code::FORBIDDEN),
            ("beta", "truck-7", Code::FORBIDDEN),
            ("beta", "x", Code::FORBIDDEN),
            ("beta", "beta", Code::CREATED),
            ("beta@1", "beta@1", Code::CREATED),
            ("alpha@2", "truck-7", Code::CREATED),
            ("alpha@3", "x", Code::CREATED),
            // Nobody's: whoever is first, with all its suffixes.
            ("alpha@4", "urn:imei:1", Code::CREATED),
            ("beta@2", "urn:imei:1", Code::FORBIDDEN),
            ("alpha@5", "urn:imei:1", Code::CREATED),
            ("alpha@6", "urn:imei:2", Code::CREATED),
        ] {
            assert_eq!(
                tries(&mut world, identity, endpoint),
                code,
                "{identity} {endpoint}"
            );
        }
    }
}

#[test]
fn c6_the_owner_takes_its_endpoint_from_another_identity() {
    let mut world = world(2, &[("alpha", &[]), ("beta", &[])], |config| {
        let listener = config.listeners.dtls.get_mut("default").unwrap();
        listener.endpoint_rule = EndpointRule::Any;
    });
    let mut alpha = secured(&mut world, 0, "beta", 5001, "alpha");
    assert_eq!(register(&mut world, 0, &mut alpha), Code::CREATED);
    let mut beta = secured(&mut world, 1, "beta", 5002, "beta");
    assert_eq!(register(&mut world, 1, &mut beta), Code::CREATED);
    assert_eq!(register(&mut world, 0, &mut alpha), Code::FORBIDDEN);
    assert_ne!(update(&mut world, 0, &mut alpha), Code::CHANGED);
    assert_eq!(update(&mut world, 1, &mut beta), Code::CHANGED);
}

/// What a host knows cannot be looked up, but who is here can be seen.
#[test]
fn c6_an_identity_of_a_host_has_its_name_while_it_is_here() {
    let mut world = world(2, &[("beta", &[])], |_| {});
    let mut host = secured(&mut world, 0, "other", 5001, "host");
    let mut plain = Device::new("host", 5002);
    assert_eq!(register(&mut world, 1, &mut plain), Code::FORBIDDEN);
    let mut beta = secured(&mut world, 1, "host", 5003, "beta");
    assert_eq!(register(&mut world, 1, &mut beta), Code::FORBIDDEN);
    // When it is away without a registration, its name is open, and it takes it back.
    world.session_closed(0, host.peer);
    assert_eq!(register(&mut world, 1, &mut beta), Code::CREATED);
    host = secured(&mut world, 0, "host", 5004, "host");
    assert_eq!(register(&mut world, 0, &mut host), Code::CREATED);
    assert_eq!(register(&mut world, 1, &mut beta), Code::FORBIDDEN);
}

#[test]
fn c5_credentials_that_come_while_the_gateway_runs_count_at_once() {
    for owner_first in [false, true] {
        let mut world = world(1, &[("alpha", &[])], |_| {});
        let mut plain = Device::new("gamma", 5001);
        let mut alpha = secured(&mut world, 0, "delta", 5002, "alpha");
        for device in [&mut plain, &mut alpha] {
            assert_eq!(register(&mut world, 0, device), Code::CREATED);
            assert_eq!(update(&mut world, 0, device), Code::CHANGED);
        }
        let mut config = Config::default();
        both(
            &mut config,
            &[("alpha", &[]), ("gamma", &[]), ("delta", &[])],
        );
        world.reconfigure(0, config);
        assert_eq!(world.directory.len(), 2, "until they say something");
        if owner_first {
            for (port, name) in [(5003, "gamma"), (5004, "delta")] {
                let mut owner = secured(&mut world, 0, name, port, name);
                assert_eq!(register(&mut world, 0, &mut owner), Code::CREATED);
            }
        }
        for device in [&mut plain, &mut alpha] {
            assert_ne!(update(&mut world, 0, device), Code::CHANGED);
            assert_eq!(register(&mut world, 0, device), Code::FORBIDDEN);
        }
        assert_eq!(world.directory.len(), if owner_first { 2 } else { 0 });
    }
}

fn user_names(config: &mut Config) {
    config.mountpoint = "lwm2m/${username}/".to_owned();
}

#[test]
fn c4_with_dtls_placeholders_are_the_identity() {
    for shards in [1, 2] {
        for placeholder in ["${username}", "${clientid}"] {
            let mut settings = Config::default();
            let psk: &[(&str, &[&str])] = &[("alpha", &[]), ("beta", &[])];
            both(&mut settings, psk);
            settings.mountpoint = format!("lwm2m/{placeholder}/");
            settings
                .listeners
                .dtls
                .get_mut("default")
                .unwrap()
                .endpoint_rule = EndpointRule::Equal;
            let mut world = World::sharded(shards, |config| *config = settings.clone());
            let last = usize::from(shards) - 1;
            let mut alpha = secured(&mut world, 0, "alpha", 5001, "alpha");
            let lie = ["imei=beta", "device_id=beta"];
            assert_eq!(
                register_with(&mut world, 0, &mut alpha, &lie).0,
                Code::CREATED
            );
            assert_eq!(world.next_published().topic, "lwm2m/alpha/up/resp");
            // Nor may somebody without DTLS call itself so, before or after beta is there.
            let mut plain = Device::new("plain", 5002);
            for _ in 0..2 {
                let (code, text) = register_with(&mut world, last, &mut plain, &lie);
                assert_eq!(code, Code::FORBIDDEN);
                assert!(text.contains("over DTLS"), "{text}");
                let mut beta = secured(&mut world, last, "beta", 5003, "beta");
                assert_eq!(register(&mut world, last, &mut beta), Code::CREATED);
            }
            world.published.clear();
            let to = command(&mut world, &settings, "lwm2m/beta/dn/dm");
            assert_eq!(to.len(), 1);
            assert_eq!(to[0].address.port(), 5003);
            // What alpha sends is alpha's.
            let send = alpha
                .request(Code::POST, &["dp"], &[])
                .uint(option::CONTENT_FORMAT, 110)
                .payload(r#"[{"n":"/3/0/9","v":1}]"#);
            world.datagram_at(0, alpha.peer, &send.build());
            assert_eq!(world.next_for(alpha.peer).code(), Code::CHANGED);
            assert_eq!(world.next_published().topic, "lwm2m/alpha/up/send");
        }
    }
}

#[test]
fn c4_an_identity_that_is_no_text_stands_in_no_topic() {
    let mut world = world(1, &[], user_names);
    let mut device = Device::new("ep", 5001);
    device.peer.listener = SECURE;
    device.peer.session = 1;
    let credential = Credential {
        identity: (*b"\xff\xfe").into(),
        ..credential("x", &[])
    };
    let presented = credential.identity.clone();
    let session = lwm2m_gateway::engine::SecureSession::new(&presented, credential.into());
    world.engines[0].handle_session(world.now, device.peer, session);
    assert_eq!(register(&mut world, 0, &mut device), Code::BAD_REQUEST);
}

#[test]
fn c4_one_endpoint_a_mountpoint() {
    for shards in [1, 2] {
        let mut world = World::sharded(shards, user_names);
        let last = usize::from(shards) - 1;
        let mut one = Device::new("one", 5001);
        let mut two = Device::new("two", 5002);
        let same = ["imei=7"];
        assert_eq!(
            register_with(&mut world, 0, &mut one, &same).0,
            Code::CREATED
        );
        let (code, text) = register_with(&mut world, last, &mut two, &same);
        assert_eq!(code, Code::FORBIDDEN);
        assert!(text.contains("lwm2m/7/"), "{text}");
        assert_eq!(world.counter("identity_refused"), 1);
        // By its endpoint name as well.
        let mut seven = Device::new("7", 5003);
        assert_eq!(register(&mut world, last, &mut seven), Code::FORBIDDEN);
        // Its own Register and a move to another shard keep it.
        assert_eq!(
            register_with(&mut world, 0, &mut one, &same).0,
            Code::CREATED
        );
        one.peer = peer(6001);
        assert_eq!(update(&mut world, last, &mut one), Code::CHANGED);
        assert_eq!(
            register_with(&mut world, last, &mut two, &same).0,
            Code::FORBIDDEN
        );
        assert_eq!(
            register_with(&mut world, 0, &mut one, &same).0,
            Code::CREATED
        );
        // Another name gives it free, and the end of a registration does.
        assert_eq!(
            register_with(&mut world, 0, &mut one, &["imei=8"]).0,
            Code::CREATED
        );
        assert_eq!(
            register_with(&mut world, last, &mut two, &same).0,
            Code::CREATED
        );
        assert_eq!(
            register_with(&mut world, 0, &mut one, &same).0,
            Code::FORBIDDEN
        );
        assert_eq!(
            update(&mut world, 0, &mut one),
            Code::CHANGED,
            "the old one stands"
        );
        assert_eq!(deregister(&mut world, last, &mut two), Code::DELETED);
        assert_eq!(
            register_with(&mut world, 0, &mut one, &same).0,
            Code::CREATED
        );
        world.pass(std::time::Duration::from_secs(400));
        assert_eq!(
            register_with(&mut world, last, &mut two, &same).0,
            Code::CREATED
        );
        assert_eq!(deregister(&mut world, last, &mut two), Code::DELETED);
        assert!(world.directory.is_empty());
    }
}

#[test]
fn c4_placeholders_that_make_the_same_text() {
    let settings = Config {
        mountpoint: "${clientid}${endpoint_name}/".to_owned(),
        ..Config::default()
    };
    let mut world = World::sharded(2, |config| *config = settings.clone());
    let mut first = Device::new("bc", 5001);
    let mut second = Device::new("c", 5002);
    assert_eq!(
        register_with(&mut world, 0, &mut first, &["device_id=a"]).0,
        Code::CREATED
    );
    assert_eq!(
        register_with(&mut world, 1, &mut second, &["device_id=ab"]).0,
        Code::FORBIDDEN
    );
    assert_eq!(
        register_with(&mut world, 1, &mut second, &["device_id=x"]).0,
        Code::CREATED
    );
    assert_eq!(command(&mut world, &settings, "abc/dn"), [first.peer]);
    assert_eq!(command(&mut world, &settings, "xc/dn"), [second.peer]);
}

#[test]
fn c4_a_mountpoint_is_shared_only_where_that_is_said() {
    let mut settings = Config::default();
    user_names(&mut settings);
    settings.shared_mountpoint = true;
    let second = UdpListener {
        shared_mountpoint: Some(false),
        ..UdpListener::default()
    };
    settings.listeners.udp.insert("second".to_owned(), second);
    let mut world = World::sharded(2, |config| *config = settings.clone());
    let same = ["imei=7"];
    let mut devices: Vec<_> = (1..=4)
        .map(|n| Device::new(&format!("ep{n}"), 5000 + n))
        .collect();
    devices[3].peer.listener = 1;
    for (shard, device) in [0, 1, 1].into_iter().zip(&mut devices) {
        assert_eq!(
            register_with(&mut world, shard, device, &same).0,
            Code::CREATED
        );
    }
    // Who does not share stays away, and is not joined.
    assert_eq!(
        register_with(&mut world, 0, &mut devices[3], &same).0,
        Code::FORBIDDEN
    );
    assert_eq!(
        register_with(&mut world, 0, &mut devices[3], &["imei=8"]).0,
        Code::CREATED
    );
    assert_eq!(
        register_with(&mut world, 0, &mut devices[0], &["imei=8"]).0,
        Code::FORBIDDEN
    );
    let mut to = command(&mut world, &settings, "lwm2m/7/dn");
    to.sort_unstable();
    let peers: Vec<_> = devices.iter().take(3).map(|device| device.peer).collect();
    assert_eq!(to, peers);
}

#[test]
fn c4_a_mountpoint_of_another_listener() {
    for named_first in [true, false] {
        let mut world = World::sharded(2, |config| {
            let second = UdpListener {
                mountpoint: Some("lwm2m/${username}/".to_owned()),
                shared_mountpoint: Some(true),
                ..UdpListener::default()
            };
            config.listeners.udp.insert("second".to_owned(), second);
        });
        let mut named = Device::new("beta", 5001);
        let mut liar = Device::new("liar", 5002);
        liar.peer.listener = 1;
        let lie = ["imei=beta"];
        let (named_code, lie_code) = match named_first {
            true => {
                let code = register(&mut world, 0, &mut named);
                (code, register_with(&mut world, 1, &mut liar, &lie).0)
            }
            false => {
                let code = register_with(&mut world, 1, &mut liar, &lie).0;
                (register(&mut world, 0, &mut named), code)
            }
        };
        let expected = match named_first {
            true => (Code::CREATED, Code::FORBIDDEN),
            false => (Code::FORBIDDEN, Code::CREATED),
        };
        assert_eq!((named_code, lie_code), expected);
    }
}

#[test]
fn c4_a_new_configuration_gives_no_mountpoint_twice() {
    for shared in [false, true] {
        let mut world = World::new();
        for n in 1..=3 {
            let mut device = Device::new(&format!("ep{n}"), 5000 + n);
            assert_eq!(register(&mut world, 0, &mut device), Code::CREATED);
        }
        world.events.clear();
        let mut config = Config {
            mountpoint: "all/".to_owned(),
            shared_mountpoint: shared,
            ..Config::default()
        };
        world.reconfigure(0, config.clone());
        let left = world.directory.endpoints_at("all/").len();
        assert_eq!(
            (left, world.directory.len()),
            if shared { (3, 3) } else { (1, 1) }
        );
        let gone = world.events.iter().filter(|event| {
            matches!(
                event,
                DeviceEvent::Gone {
                    reason: GoneReason::Kicked,
                    ..
                }
            )
        });
        assert_eq!(gone.count(), if shared { 0 } else { 2 });
        // Back again: nothing of it is left.
        config.mountpoint = Config::default().mountpoint;
        world.reconfigure(0, config.clone());
        assert!(!world.directory.has_mounts());
        // A second listener whose mountpoint may be the first one's.
        let second = UdpListener {
            mountpoint: Some("lwm2m/${username}/".to_owned()),
            ..UdpListener::default()
        };
        config.listeners.udp.insert("second".to_owned(), second);
        world.reconfigure(0, config);
        let mut liar = Device::new("liar", 5009);
        liar.peer.listener = 1;
        let lie = ["imei=ep1"];
        assert_eq!(
            register_with(&mut world, 0, &mut liar, &lie).0,
            Code::FORBIDDEN
        );
    }
}

#[test]
fn c4_a_host_gives_no_mountpoint_twice() {
    let mut world = World::authorized();
    let try_at = |world: &mut World, endpoint: &str, port: u16, mountpoint: Option<&str>| {
        let mut device = Device::new(endpoint, port);
        register(world, 0, &mut device);
        let mountpoint = mountpoint.map(str::to_owned);
        world.decide(Decision::Allow { mountpoint });
        let answer = world.next_for(device.peer);
        answer.code()
    };
    assert_eq!(try_at(&mut world, "one", 5001, Some("t/")), Code::CREATED);
    assert_eq!(try_at(&mut world, "two", 5002, Some("t/")), Code::FORBIDDEN);
    assert_eq!(try_at(&mut world, "two", 5003, None), Code::CREATED);
    assert_eq!(
        try_at(&mut world, "three", 5004, Some("lwm2m/two/")),
        Code::FORBIDDEN
    );
    assert_eq!(
        try_at(&mut world, "three", 5005, Some("lwm2m/four/")),
        Code::CREATED
    );
    assert_eq!(try_at(&mut world, "four", 5006, None), Code::FORBIDDEN);
    world.kick("three");
    assert_eq!(try_at(&mut world, "four", 5007, None), Code::CREATED);
}

#[test]
fn a_listener_with_dtls_only_is_not_asked_about_plain_devices() {
    let settings = Settings::new(Config::default());
    let listener = settings.listener(PLAIN).unwrap();
    assert!(listener.names_endpoint && settings.listener(SECURE).is_none());
}

const NAMES: [&str; 7] = ["a", "ab", "b", "b#1", "c", "a#b", "ca"];
const LISTS: [&str; 7] = ["a*", "*b", "c", "?", "c?", "b#1", "d*"];

fn some_credentials() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    let list = prop::collection::vec(0..LISTS.len(), 0..3);
    prop::collection::vec((0..NAMES.len(), list), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// An endpoint that a credential covers is never registered by anybody else, over no listener
    /// and in no shard; and no two endpoints have one mountpoint.
    #[test]
    fn c5_c6_nobody_has_what_is_another_ones(
        listeners in prop::collection::vec((some_credentials(), any::<bool>()), 2),
        tries in prop::collection::vec((0..3_u16, 0..NAMES.len(), 0..5_usize, 0..2_usize), 1..30),
        template in 0..3_usize,
    ) {
        let mut config = Config::default();
        config.mountpoint = ["m/${endpoint_name}/", "m/${username}/", "${clientid}${endpoint_name}/"]
            [template].to_owned();
        config.hostile_endpoint = lwm2m_gateway::config::HostileEndpoint::Escape;
        for (number, (credentials, suffixes)) in listeners.iter().enumerate() {
            let psk: HashMap<_, _> = credentials
                .iter()
                .map(|(name, lists)| {
                    let lists: Vec<_> = lists.iter().map(|list| LISTS[*list]).collect();
                    (NAMES[*name], credential(NAMES[*name], &lists))
                })
                .collect();
            let listener = DtlsListener {
                psk: psk.into_values().collect(),
                identity_separator: if *suffixes { "#" } else { "" }.to_owned(),
                ..DtlsListener::default()
            };
            config.listeners.dtls.insert(format!("l{number}"), listener);
        }
        let coverage = Settings::new(config.clone()).coverage;
        let mut world = World::sharded(2, |known| *known = config.clone());
        let mut who: HashMap<String, Option<String>> = HashMap::new();
        for (number, (listener, endpoint, which, shard)) in tries.into_iter().enumerate() {
            let port = 5000 + u16::try_from(number).unwrap();
            let endpoint = NAMES[endpoint];
            let mut device = Device::new(endpoint, port);
            let mut identity = None;
            if let Some(number) = listener.checked_sub(1) {
                let dtls = &config.listeners.dtls[&format!("l{number}")];
                let Some(credential) = dtls.psk.get(which) else {
                    continue;
                };
                identity = Some(String::from_utf8(credential.identity.to_vec()).unwrap());
                device.peer.listener = listener;
                device.peer.session = u32::from(port);
                let presented = identity.clone().unwrap();
                world.session_by(shard, device.peer, &presented, credential.clone());
            }
            let extra = [format!("imei={}", NAMES[which]), format!("device_id={}", NAMES[which])];
            let extra: Vec<_> = extra.iter().map(String::as_str).collect();
            let (code, _) = register_with(&mut world, shard, &mut device, &extra);
            if code == Code::CREATED {
                who.insert(endpoint.to_owned(), identity.clone());
                let allowed = match &identity {
                    Some(identity) => {
                        coverage.owns(identity.as_bytes(), endpoint) || !coverage.covers(endpoint)
                    }
                    None => !coverage.covers(endpoint),
                };
                prop_assert!(allowed, "{identity:?} has {endpoint}");
            }
            let now = world.now;
            let infos: Vec<_> = world.engines.iter().flat_map(|it| it.device_infos(now)).collect();
            let mut mounts: Vec<_> = infos.iter().map(|info| &info.mountpoint).collect();
            mounts.sort_unstable();
            mounts.dedup();
            prop_assert_eq!(mounts.len(), infos.len());
            for info in infos {
                prop_assert_eq!(&info.identity, &who[&info.endpoint]);
            }
            world.published.clear();
            world.sent.clear();
        }
    }
}

#[test]
fn a_message_without_dtls_changes_nothing_of_a_device_with_it() {
    let mut world = world(1, &[("beta", &[])], |_| {});
    let mut beta = secured(&mut world, 0, "beta", 5001, "beta");
    assert_eq!(register(&mut world, 0, &mut beta), Code::CREATED);
    world.command(
        "beta",
        r#"{"reqID":1,"msgType":"observe","data":{"path":"/3/0/9"}}"#,
    );
    let observe = world.next_for(beta.peer);
    world.published.clear();
    // The same address and token, but not the session.
    let mut spoofed = beta.clone();
    spoofed.peer = peer(5001);
    let answer = spoofed.answer(&observe, Code::CONTENT).payload("9").build();
    world.datagram_at(0, spoofed.peer, &answer);
    let notify = spoofed
        .separate(MessageType::NonConfirmable, &observe, Code::CONTENT)
        .uint(option::OBSERVE, 7)
        .payload("9");
    world.datagram_at(0, spoofed.peer, &notify.build());
    let send = spoofed.request(Code::POST, &["dp"], &[]).payload("[]");
    world.datagram_at(0, spoofed.peer, &send.build());
    assert!(world.published.is_empty());
}
