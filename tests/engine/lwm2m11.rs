//! What LwM2M 1.1 and 1.2 add: Send, formats, composite operations and series, in virtual time.

use std::time::Duration;

use crate::support::{Device, World, uri};
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, MessageType};
use serde_json::json;

const FETCH: Code = Code(5);
const IPATCH: Code = Code(7);

/// `[{-2: "/3/", 0: "0/3", 3: "1.0.3"}, {0: "0/9", 2: 74}]` in SenML-CBOR.
const SEED: &[u8] = b"\x82\xa3\x21\x63/3/\x00\x63\x30/3\x03\x651.0.3\xa2\x00\x63\x30/9\x02\x18\x4a";

fn modern(world: &mut World, endpoint: &str, ct: &str) -> Device {
    let mut device = Device::new(endpoint, 5001);
    let links = format!("</>;ct=\"{ct}\",</1/0>,</3/0>,</3303/0>");
    device.register(world, &["lwm2m=1.2"], &links);
    assert_eq!(world.next_published().json["msgType"], "register");
    device
}

#[test]
fn send_of_the_seed_and_its_series() {
    let mut world = World::with(|config| config.translators.series.enable = true);
    let endpoint = "urn:imei:35045779074654654";
    let mut device = modern(&mut world, endpoint, "112");
    let push = device
        .request(Code::POST, &["dp"], &[])
        .uint(option::CONTENT_FORMAT, 112);
    let push = push.payload(SEED).build();
    for _ in 0..2 {
        world.datagram(device.peer, &push);
        assert_eq!(world.next_for(device.peer).code(), Code::CHANGED);
    }
    let send = world.next_published();
    assert_eq!(send.topic, format!("lwm2m/{endpoint}/up/send"));
    assert_eq!(
        send.json,
        json!({"msgType": "send", "data": {"content": [
            {"path": "/3/0/3", "value": "1.0.3"}, {"path": "/3/0/9", "value": 74}]}})
    );
    let series = world.next_published();
    assert_eq!(series.topic, format!("lwm2m/{endpoint}/up/series"));
    assert_eq!(
        series.json,
        json!({"series": [
            {"ingestionId": "urn:imei:35045779074654654$/3/0/3", "measurements": [{"text": "1.0.3"}]},
            {"ingestionId": "urn:imei:35045779074654654$/3/0/9", "measurements": [{"number": 74}]}]})
    );
    world.assert_quiet();
}

#[test]
fn sends_that_are_refused() {
    let mut world = World::new();
    let mut device = modern(&mut world, "ep1", "112");
    for (format, payload, code) in [
        (112, &b"\x82\xa3"[..], Code::BAD_REQUEST),
        (110, b"{", Code::BAD_REQUEST),
        (11542, b"\xc1\x00\x01", Code::new(4, 15)),
        (0, b"x", Code::new(4, 15)),
    ] {
        let push = device
            .request(Code::POST, &["dp"], &[])
            .uint(option::CONTENT_FORMAT, format);
        world.datagram(device.peer, &push.payload(payload).build());
        assert_eq!(world.next_for(device.peer).code(), code, "{format}");
        world.assert_quiet();
    }
    let mut stranger = Device::new("ep2", 5002);
    let push = stranger
        .request(Code::POST, &["dp"], &[])
        .uint(option::CONTENT_FORMAT, 112);
    world.datagram(stranger.peer, &push.payload(SEED).build());
    assert_eq!(world.next_for(stranger.peer).code(), Code::NOT_FOUND);
    world.assert_quiet();
}

#[test]
fn a_send_wakes_the_queue_and_keeps_the_good_records() {
    let mut world = World::new();
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["lwm2m=1.1", "Q"], "</3/0>");
    world.next_published();
    world.pass(Duration::from_secs(30));
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#,
    );
    world.assert_quiet();
    let push = device
        .request(Code::POST, &["dp"], &[])
        .uint(option::CONTENT_FORMAT, 110);
    let pack = r#"[{"bn":"/3/0/","bt":1700000000,"n":"9","v":74},{"n":"x/y/z","v":1},{"n":"9","t":10,"v":75}]"#;
    world.datagram(device.peer, &push.payload(pack).build());
    assert_eq!(world.next_for(device.peer).code(), Code::CHANGED);
    assert_eq!(uri(&world.next_for(device.peer)), "/3/0/0");
    let data = &world.next_published().json["data"];
    assert_eq!(
        data["content"],
        json!([{"path": "/3/0/9", "value": 74, "time": 1_700_000_000},
               {"path": "/3/0/9", "value": 75, "time": 1_700_000_010}])
    );
    assert_eq!(data["errors"].as_array().unwrap().len(), 1);
}

#[test]
fn formats_are_chosen_and_fall_back() {
    let mut world = World::new();
    let device = modern(&mut world, "ep1", "112 11542");
    let read = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/9"}}"#;
    world.command("ep1", read);
    let request = world.next_for(device.peer);
    assert_eq!(request.uint_option(option::ACCEPT, 2), Some(112));
    world.datagram(
        device.peer,
        &device.answer(&request, Code::new(4, 6)).build(),
    );
    let again = world.next_for(device.peer);
    assert_eq!(again.uint_option(option::ACCEPT, 2), Some(11542));
    assert_ne!(again.token(), request.token());
    let answer = device
        .answer(&again, Code::CONTENT)
        .uint(option::CONTENT_FORMAT, 11542);
    world.datagram(device.peer, &answer.payload([0xc1, 9, 74]).build());
    assert_eq!(
        world.next_published().json["data"]["content"][0]["value"],
        74
    );
    // What was refused is not tried again.
    world.command("ep1", read);
    let request = world.next_for(device.peer);
    assert_eq!(request.uint_option(option::ACCEPT, 2), Some(11542));
    world.datagram(
        device.peer,
        &device.answer(&request, Code::NOT_FOUND).build(),
    );
    assert_eq!(world.next_published().json["data"]["code"], "4.04");

    world.command(
        "ep1",
        r#"{"reqID":2,"msgType":"write","data":{"path":"/3/0/14","type":"String","value":"+02:00"}}"#,
    );
    let request = world.next_for(device.peer);
    assert_eq!(request.content_format(), Some(112));
    world.datagram(
        device.peer,
        &device.answer(&request, Code::new(4, 15)).build(),
    );
    let request = world.next_for(device.peer);
    assert_eq!(request.content_format(), Some(11542));
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    assert_eq!(world.next_published().json["data"]["code"], "2.04");
    world.assert_quiet();

    // A format asked for is the one that is used.
    world.command(
        "ep1",
        r#"{"msgType":"read","data":{"path":"/3/0/9","format":"senml-json"}}"#,
    );
    let request = world.next_for(device.peer);
    assert_eq!(request.uint_option(option::ACCEPT, 2), Some(110));
    world.datagram(
        device.peer,
        &device.answer(&request, Code::new(4, 6)).build(),
    );
    assert_eq!(world.next_published().json["data"]["code"], "4.06");
    world.assert_quiet();
}

#[test]
fn composite_read_and_write() {
    let mut world = World::new();
    let device = modern(&mut world, "ep1", "112");
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read-composite","data":{"paths":["/3/0/3","/3/0/9"]}}"#,
    );
    let request = world.next_for(device.peer);
    assert_eq!((request.code(), uri(&request).as_str()), (FETCH, ""));
    assert_eq!(
        (
            request.content_format(),
            request.uint_option(option::ACCEPT, 2)
        ),
        (Some(112), Some(112))
    );
    assert!(!request.payload().is_empty());
    let answer = device
        .answer(&request, Code::CONTENT)
        .uint(option::CONTENT_FORMAT, 112);
    world.datagram(device.peer, &answer.payload(SEED).build());
    let data = &world.next_published().json["data"];
    assert_eq!(data["reqPaths"], json!(["/3/0/3", "/3/0/9"]));
    assert_eq!(data["content"][1], json!({"path": "/3/0/9", "value": 74}));

    world.command(
        "ep1",
        r#"{"reqID":2,"msgType":"write-composite","data":{"content":[
            {"path":"/3/0/14","type":"String","value":"+02:00"},
            {"path":"/1/0/1","type":"Integer","value":60}]}}"#,
    );
    let request = world.next_for(device.peer);
    assert_eq!(
        (request.code(), request.content_format()),
        (IPATCH, Some(112))
    );
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    assert_eq!(world.next_published().json["data"]["code"], "2.04");
    world.assert_quiet();
}

#[test]
fn composite_observation() {
    let mut world = World::new();
    let mut device = modern(&mut world, "ep1", "112");
    let paths = r#"{"paths":["/3/0/3","/3/0/9"]}"#;
    world.command(
        "ep1",
        &format!(r#"{{"reqID":1,"msgType":"observe-composite","data":{paths}}}"#),
    );
    let request = world.next_for(device.peer);
    assert_eq!((request.code(), request.observe()), (FETCH, Some(0)));
    let answer = device
        .answer(&request, Code::CONTENT)
        .uint(option::OBSERVE, 1)
        .uint(option::CONTENT_FORMAT, 112);
    world.datagram(device.peer, &answer.payload(SEED).build());
    assert_eq!(world.next_published().json["msgType"], "observe-composite");
    let notification = device
        .separate(MessageType::Confirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 2)
        .uint(option::CONTENT_FORMAT, 112)
        .payload(SEED);
    world.datagram(device.peer, &notification.build());
    assert_eq!(
        world.next_for(device.peer).kind(),
        MessageType::Acknowledgement
    );
    let notify = world.next_published();
    assert_eq!(notify.topic, "lwm2m/ep1/up/notify");
    assert_eq!(
        (&notify.json["msgType"], &notify.json["seqNum"]),
        (&json!("notify"), &json!(2))
    );
    assert_eq!(notify.json["data"]["reqPaths"], json!(["/3/0/3", "/3/0/9"]));
    // In blocks: the rest is fetched with the same paths.
    let first = device
        .separate(MessageType::NonConfirmable, &request, Code::CONTENT)
        .uint(option::OBSERVE, 3)
        .uint(option::CONTENT_FORMAT, 112)
        .uint(option::BLOCK2, 8)
        .payload(&SEED[..16]);
    world.datagram(device.peer, &first.build());
    let rest = world.next_for(device.peer);
    assert_eq!(
        (rest.code(), rest.observe(), rest.payload()),
        (FETCH, None, request.payload())
    );
    let answer = device
        .answer(&rest, Code::CONTENT)
        .uint(option::CONTENT_FORMAT, 112)
        .uint(option::BLOCK2, 1 << 4)
        .payload(&SEED[16..]);
    world.datagram(device.peer, &answer.build());
    assert_eq!(world.next_published().json["seqNum"], 3);

    world.command(
        "ep1",
        &format!(r#"{{"reqID":2,"msgType":"cancel-observe-composite","data":{paths}}}"#),
    );
    let cancel = world.next_for(device.peer);
    assert_eq!(
        (cancel.code(), cancel.observe(), cancel.token()),
        (FETCH, Some(1), request.token())
    );
    assert_eq!(cancel.payload(), request.payload());
    world.datagram(
        device.peer,
        &device
            .answer(&cancel, Code::CONTENT)
            .uint(option::CONTENT_FORMAT, 112)
            .payload(SEED)
            .build(),
    );
    assert_eq!(
        world.next_published().json["msgType"],
        "cancel-observe-composite"
    );
    assert_eq!(world.counter("observations"), 0);
    world.assert_quiet();
}

#[test]
fn an_empty_ack_to_a_composite_read_has_a_deadline() {
    // Wakaama answers FETCH with an Empty ACK and never again.
    let mut world = World::new();
    let device = modern(&mut world, "ep1", "112");
    world.command(
        "ep1",
        r#"{"reqID":1,"msgType":"read-composite","data":{"paths":["/3/0/3"]}}"#,
    );
    let request = world.next_for(device.peer);
    let ack = lwm2m_gateway::coap::message::empty(MessageType::Acknowledgement, request.mid());
    world.datagram(device.peer, &ack);
    assert_eq!(world.next_published().json["msgType"], "ack");
    world.pass(Duration::from_secs(61));
    assert_eq!(world.next_published().json["msgType"], "coap_timeout");
    world.pass(Duration::from_secs(100));
    world.assert_quiet();
}
