//! Commands that are read, refused and echoed.

use super::*;
use crate::bridge::uplink::{self, Ids};
use crate::engine::request;
use crate::lwm2m::codec::NoSchema;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const MAX_SIZE: usize = 1 << 20;

fn read(command: &Json) -> Result<Command, CommandError> {
    parse(command.to_string().as_bytes(), Dialect::Current, MAX_SIZE)
}

fn refusal(payload: &[u8]) -> (Reason, Json) {
    let error = parse(payload, Dialect::Current, MAX_SIZE).unwrap_err();
    let answer = uplink::refused(&error, &Ids::default());
    (error.reason, serde_json::from_slice(&answer).unwrap())
}

#[test]
fn a_command() {
    let command = read(&json!({
        "reqID": 7, "msgType": "read", "mheaders": {"ttl": 0}, "data": {"path": "3/0/9/?a&b=1"}
    }))
    .unwrap();
    assert_eq!(command.kind, Kind::Read);
    assert_eq!(command.target.text, "3/0/9/");
    assert!(command.target.segments().eq(["3", "0", "9"]));
    assert_eq!(command.target.queries, ["a", "b=1"]);
    assert_eq!(command.target.path, "/3/0/9".parse().ok());
    assert_eq!(command.ttl, Some(Duration::ZERO));
    assert_eq!(command.operation, Operation::Read);
}

#[test]
fn headers_that_are_none_are_ignored() {
    for headers in [
        json!("x"),
        json!({"ttl": "y"}),
        json!({"ttl": -1}),
        json!(null),
    ] {
        let command = read(&json!({
            "msgType": "read", "mheaders": headers, "data": {"path": "/3"}
        }));
        assert_eq!(command.unwrap().ttl, None);
    }
}

#[test]
fn unreadable_commands_are_answered() {
    let deep = format!("{{\"a\":{}", "[".repeat(40));
    for (payload, reason) in [
        (&b"{bad json"[..], Reason::MalformedJson),
        (b"", Reason::MalformedJson),
        (b"[1]", Reason::NotAnObject),
        (b"null", Reason::NotAnObject),
        (deep.as_bytes(), Reason::TooDeep),
    ] {
        let (found, answer) = refusal(payload);
        assert_eq!(found, reason);
        assert_eq!(answer["msgType"], "error");
        assert_eq!(answer["data"]["reqPath"], Json::Null);
        assert_eq!(answer["data"]["code"], "4.00");
        assert_eq!(answer["data"]["codeMsg"], "bad_request");
        assert_eq!(answer["data"]["reason"], reason.as_str());
    }
    let error = parse(b"{\"a\":1}", Dialect::Current, 4).unwrap_err();
    assert_eq!(error.reason, Reason::TooLarge);
}

#[test]
fn malformed_commands_are_answered() {
    let write = |data: Json| json!({"id": 1, "msgType": "write", "data": data});
    for (command, reason) in [
        (json!({"data": {"path": "/3"}}), Reason::MissingMsgType),
        (
            json!({"msgType": 1, "data": {"path": "/3"}}),
            Reason::MissingMsgType,
        ),
        (
            json!({"msgType": "READ", "data": {"path": "/3"}}),
            Reason::UnknownMsgType,
        ),
        (json!({"msgType": "read"}), Reason::MissingData),
        (json!({"msgType": "read", "data": "x"}), Reason::MissingData),
        (json!({"msgType": "read", "data": {}}), Reason::MissingPath),
        (
            json!({"msgType": "read", "data": {"path": null}}),
            Reason::MissingPath,
        ),
        (
            json!({"msgType": "read", "data": {"path": 3}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "read", "data": {"path": "/3//0"}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "read", "data": {"path": "/a/../b"}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "read", "data": {"path": "/1/2/3/4/5"}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "read", "data": {"path": "/3/b/c/d/e"}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "read", "data": {"path": "x".repeat(256)}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "execute", "data": {"path": "/3/0"}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "execute", "data": {"path": "/3/0/4", "args": [1]}}),
            Reason::BadArguments,
        ),
        (
            json!({"msgType": "write-attr", "data": {"path": "/3"}}),
            Reason::BadAttribute,
        ),
        (
            json!({"msgType": "write-attr", "data": {"path": "/3", "pmin": {}}}),
            Reason::BadAttribute,
        ),
        (
            json!({"msgType": "create", "data": {"basePath": "/"}}),
            Reason::BadPath,
        ),
        (
            json!({"msgType": "create", "data": {"basePath": "/5", "content": 1}}),
            Reason::BadContent,
        ),
        (
            write(json!({"path": "/3/0", "type": "Integer", "value": 1})),
            Reason::BadPath,
        ),
        (
            write(json!({"path": "/3/x/1", "type": "Integer", "value": 1})),
            Reason::BadPath,
        ),
        (
            write(json!({"path": "/3/0/1", "type": "Integer"})),
            Reason::MissingValue,
        ),
        (
            write(json!({"path": "/3/0/1", "type": "Integer", "value": "x"})),
            Reason::BadValue,
        ),
        (
            write(json!({"path": "/3/0/1", "type": "Number", "value": 1})),
            Reason::BadType,
        ),
        (
            write(json!({"path": "/3/0/1", "value": 1, "mode": "x"})),
            Reason::BadMode,
        ),
        (write(json!({"basePath": "/3/0"})), Reason::MissingContent),
        (
            write(json!({"basePath": "/3", "content": []})),
            Reason::BadPath,
        ),
        (
            write(json!({"basePath": "/3/0", "content": [{"value": 1}]})),
            Reason::BadPath,
        ),
        (
            write(json!({"basePath": "/3/0", "content": [{"path": "1/2/3", "value": 1}]})),
            Reason::BadPath,
        ),
        (
            write(json!({"basePath": "/3/0", "content": [1]})),
            Reason::BadContent,
        ),
        (
            json!({"msgType": "write", "encoding": "hex",
                "data": {"path": "/3/0/14", "type": "String", "value": "ZZ"}}),
            Reason::BadValue,
        ),
        (
            json!({"msgType": "write", "encoding": "utf7",
                "data": {"path": "/3/0/14", "type": "String", "value": "Z"}}),
            Reason::BadEncoding,
        ),
    ] {
        let (found, answer) = refusal(command.to_string().as_bytes());
        assert_eq!(found, reason, "{command}");
        assert_eq!(answer["data"]["code"], "4.00");
        if command["msgType"].is_string() {
            assert_eq!(answer["msgType"], command["msgType"]);
        } else {
            assert_eq!(answer["msgType"], "error");
        }
        assert_eq!(answer["id"], command["id"]);
    }
}

#[test]
fn the_path_of_a_refused_command_comes_back() {
    for (data, path) in [
        (json!({"path": "/3?x"}), json!("/3")),
        (json!({"basePath": "/3/"}), json!("/3/")),
        (json!({"reqPath": "/5"}), json!("/5")),
        (json!({"path": 5}), Json::Null),
        (json!({}), Json::Null),
    ] {
        let (_, answer) = refusal(json!({"msgType": "x", "data": data}).to_string().as_bytes());
        assert_eq!(answer["data"]["reqPath"], path);
    }
}

#[test]
fn invalid_utf8_is_replaced() {
    let command = b"{\"id\":\"\xff\",\"msgType\":\"read\",\"data\":{\"path\":\"/3\"}}";
    let command = parse(command, Dialect::Current, MAX_SIZE).unwrap();
    let ack = uplink::ack(&command.echo, &Ids::default()).unwrap();
    let ack: Json = serde_json::from_slice(&ack).unwrap();
    assert_eq!(ack["id"], "\u{fffd}");
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
        let names = "[a-z]{1,3}|msgType|data|path|basePath|content|type|value|args|mode|pmin";
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
    (proptest::sample::select(names), data, extra, 0..4).prop_map(
        |(name, (path, below, kind, value, other), extra, shape)| {
            let data = match shape {
                0 => json!({"path": path, "type": kind, "value": value}),
                1 => json!({"basePath": path, "content": [
                    {"path": below, "type": kind, "value": value}, {"path": below, "value": 1}
                ]}),
                2 => json!({"path": path, "args": value, "pmin": value, "st": 1}),
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
            let _ = parse(&payload, dialect, MAX_SIZE);
        }
    }

    #[test]
    fn any_json_is_read_or_answered(value in any_json()) {
        for dialect in [Dialect::Current, Dialect::Legacy] {
            if let Err(error) = parse(value.to_string().as_bytes(), dialect, MAX_SIZE) {
                let answer = uplink::refused(&error, &Ids::default());
                prop_assert!(serde_json::from_slice::<Json>(&answer).is_ok());
            }
        }
    }

    #[test]
    fn every_member_comes_back(command in any_command()) {
        let echo = match read(&command) {
            Ok(command) => {
                let _ = request::build(&command, "/a/b", &NoSchema);
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
