//! What becomes of a command, whatever it holds: a request to a device, or an answer.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use lwm2m_gateway::bridge::command::{self, Options};
use lwm2m_gateway::bridge::uplink::{self, Ids};
use lwm2m_gateway::bridge::{Command, CommandError, Dialect, Kind, Reason};
use lwm2m_gateway::engine::format::FormatChoice;
use lwm2m_gateway::engine::request::{self, BuildError, Method, RequestParts};
use lwm2m_gateway::lwm2m::codec::{ContentFormat, NoSchema};
use lwm2m_gateway::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const OPTIONS: Options = Options {
    max_size: 1 << 20,
    check_arguments: true,
};

fn read(command: &Json) -> Result<Command, CommandError> {
    command::parse(command.to_string().as_bytes(), Dialect::Current, &OPTIONS)
}

fn built(command: &Json, format: u16) -> Result<RequestParts, BuildError> {
    let choice = FormatChoice {
        accept: Some(ContentFormat(format)),
        write: ContentFormat(format),
    };
    request::build(&read(command).unwrap(), "/lwm2m", &NoSchema, &choice)
}

#[test]
fn composite_requests() {
    for (name, observe) in [
        ("read-composite", None),
        ("observe-composite", Some(0)),
        ("cancel-observe-composite", Some(1)),
    ] {
        let command = json!({"msgType": name, "data": {"paths": ["3/0/9", "/3303/", "/dev0/6/0"]}});
        let request = built(&command, 110).unwrap();
        assert_eq!((request.method, request.method.code()), (Method::Fetch, 5));
        assert_eq!(request.path, ["lwm2m"]);
        assert_eq!(request.observe, observe);
        assert_eq!(request.accept, Some(ContentFormat(110)));
        assert_eq!(request.content_format, Some(ContentFormat(110)));
        let payload: Json = serde_json::from_slice(&request.payload).unwrap();
        assert_eq!(
            payload,
            json!([{"n": "/3/0/9"}, {"n": "/3303"}, {"n": "/dev0/6/0"}])
        );
        assert_eq!(built(&command, 0).unwrap_err().reason, Reason::BadFormat);
    }

    let command = json!({"msgType": "write-composite", "data": {"content": [
        {"path": "3/0/14", "type": "String", "value": "+1"},
        {"path": "/1/0/1", "value": 60},
    ]}});
    let request = built(&command, 110).unwrap();
    assert_eq!((request.method, request.method.code()), (Method::Ipatch, 7));
    assert_eq!(request.path, ["lwm2m"]);
    assert_eq!((request.accept, request.observe), (None, None));
    let payload: Json = serde_json::from_slice(&request.payload).unwrap();
    assert_eq!(
        payload,
        json!([{"n": "/3/0/14", "vs": "+1"}, {"n": "/1/0/1", "v": 60}])
    );

    let behind = |second: &str| {
        json!({"msgType": "write-composite", "data": {"content": [
            {"path": "/dev0/3/0/14", "value": "a"}, {"path": second, "value": "b"},
        ]}})
    };
    let request = built(&behind("/dev0/3/0/15"), 110).unwrap();
    let payload: Json = serde_json::from_slice(&request.payload).unwrap();
    assert_eq!(
        payload,
        json!([{"n": "/dev0/3/0/14", "vs": "a"}, {"n": "/dev0/3/0/15", "vs": "b"}])
    );
    let error = built(&behind("/dev1/3/0/15"), 110).unwrap_err();
    assert_eq!(error.reason, Reason::BadContent);
}

#[test]
fn requests_in_the_chosen_format() {
    let command = json!({"msgType": "read", "data": {"path": "/3"}});
    let request = built(&command, 112).unwrap();
    assert_eq!(
        (request.accept, request.content_format),
        (Some(ContentFormat(112)), None)
    );
    let command = json!({"msgType": "discover", "data": {"path": "/3"}});
    assert_eq!(
        built(&command, 112).unwrap().accept,
        Some(ContentFormat::LINK)
    );
    let command = json!({"msgType": "write", "data": {"path": "/3/0/13", "value": 5}});
    let request = built(&command, 60).unwrap();
    assert_eq!(
        (request.accept, request.content_format),
        (None, Some(ContentFormat(60)))
    );
    assert_eq!(request.payload, [5]);
    assert_eq!(
        built(&command, 65000).unwrap_err().reason,
        Reason::BadFormat
    );
    let command = json!({"msgType": "create", "data": {"basePath": "/5"}});
    assert_eq!(built(&command, 11542).unwrap().payload, b"");
    assert_eq!(built(&command, 110).unwrap().payload, b"[]");
}

fn built_legacy(command: &Json) -> (Method, String, Vec<u8>) {
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_0);
    let command = command.to_string();
    let parsed = command::parse(command.as_bytes(), Dialect::Legacy, &OPTIONS);
    let request = request::build(&parsed.unwrap(), "/", &schema, &FormatChoice::default());
    let request = request.unwrap();
    let queries = request.queries.join("&");
    (
        request.method,
        format!("{}?{queries}", request.path.join("/")),
        request.payload,
    )
}

#[test]
fn requests_of_the_dialect_of_emq_2() {
    let command = |name: &str, base: &str| json!({"CmdID": 1, "Command": name, "BaseName": base});
    let with = |mut command: Json, key: &str, value: Json| {
        command[key] = value;
        command
    };
    let read = command("Read", "/3/0");
    assert_eq!(
        built_legacy(&read),
        (Method::Get, "3/0?".to_owned(), vec![])
    );
    let execute = with(command("Execute", "/3/0/4"), "Arguments", json!("2,7"));
    assert_eq!(
        built_legacy(&execute),
        (Method::Post, "3/0/4?".to_owned(), b"2,7".to_vec())
    );
    let attributes = with(
        command("Write-Attributes", "/3/0/9"),
        "Value",
        json!("pmin=1&pmax=5&gt=3"),
    );
    assert_eq!(
        built_legacy(&attributes),
        (Method::Put, "3/0/9?gt=3&pmax=5&pmin=1".to_owned(), vec![])
    );
    for (base, value, method, payload) in [
        (
            "/3/0",
            json!({"e": [{"n": "13", "v": 5}, {"n": "/14", "sv": "+1"}]}),
            Method::Post,
            &b"\xc1\x0d\x05\xc2\x0e+1"[..],
        ),
        (
            "/3/0/14",
            json!({"bn": "/3/0/14", "e": [{"sv": "5"}]}),
            Method::Put,
            b"\xc1\x0e5",
        ),
        (
            "/1/0/6",
            json!([{"bv": true}]),
            Method::Put,
            b"\xc1\x06\x01",
        ),
        ("/3/0/14", json!("x"), Method::Put, b"\xc1\x0ex"),
        (
            "/5/0/0",
            json!({"e": [{"sv": "AQI="}]}),
            Method::Put,
            b"\xc2\x00\x01\x02",
        ),
    ] {
        let write = with(command("Write", base), "Value", value);
        let expected = (method, format!("{}?", &base[1..]), payload.to_vec());
        assert_eq!(built_legacy(&write), expected, "{write}");
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f32>().prop_map(Json::from),
        "[/?&=.a-z0-9:é\"\\\\]{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names =
            "[a-z]{1,3}|msgType|data|path|paths|format|basePath|content|type|value|args|mode|pmin";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(names, inner, 0..5)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn any_command() -> impl Strategy<Value = Json> {
    let names = Kind::ALL.map(Kind::name).to_vec();
    let path = "(/?[0-9]{1,5}){0,5}/?";
    let kind = prop_oneof![
        Just("Integer"),
        Just("String"),
        Just("Opaque"),
        Just("float")
    ];
    let data = (path, "[0-9]{1,2}(/[0-9])?", kind, any_json(), any_json());
    let extra = proptest::collection::btree_map("[a-zA-Z\"é]{1,4}", any_json(), 0..4);
    (proptest::sample::select(names), data, extra, 0..5).prop_map(
        |(name, (path, below, kind, value, other), extra, shape)| {
            let data = match shape {
                0 => json!({"path": path, "type": kind, "value": value}),
                1 => json!({"basePath": path, "content": [
                    {"path": below, "type": kind, "value": value}, {"path": below, "value": 1}
                ]}),
                2 => json!({"path": path, "args": value, "pmin": value, "st": 1}),
                3 => json!({"paths": [path, below], "format": below, "content": [
                    {"path": path, "type": kind, "value": value}
                ]}),
                _ => other,
            };
            let mut command = json!({"msgType": name, "data": data});
            for (name, value) in extra {
                command[name] = value;
            }
            command
        },
    )
}

proptest! {
    #[test]
    fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        for dialect in [Dialect::Current, Dialect::Legacy] {
            let _ = command::parse(&payload, dialect, &OPTIONS);
        }
    }

    #[test]
    fn any_json_is_read_or_answered(value in any_json()) {
        for dialect in [Dialect::Current, Dialect::Legacy] {
            if let Err(error) = command::parse(value.to_string().as_bytes(), dialect, &OPTIONS) {
                let answer = uplink::refused(&error, &Ids::default());
                prop_assert!(serde_json::from_slice::<Json>(&answer).is_ok());
            }
        }
    }

    #[test]
    fn every_member_comes_back(command in any_command()) {
        let echo = match read(&command) {
            Ok(command) => {
                let _ = request::build(&command, "/a/b", &NoSchema, &FormatChoice::default());
                command.echo
            }
            Err(error) => *error.echo,
        };
        let ack = uplink::ack(&echo, &Ids::default()).unwrap();
        let mut ack: Json = serde_json::from_slice(&ack).unwrap();
        prop_assert_eq!(&ack["msgType"], "ack");
        ack["msgType"] = command["msgType"].clone();
        prop_assert_eq!(ack, command);
    }
}
