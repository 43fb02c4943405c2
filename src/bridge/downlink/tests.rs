//! Commands that are read, refused and echoed.

use super::*;
use crate::bridge::uplink::{self, Ids};
use crate::engine::format::FormatChoice;
use crate::engine::request::{self, BuildError, Method, RequestParts};
use crate::lwm2m::codec::NoSchema;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const OPTIONS: Options = Options {
    max_size: 1 << 20,
    check_arguments: true,
};

fn read(command: &Json) -> Result<Command, CommandError> {
    parse(command.to_string().as_bytes(), Dialect::Current, &OPTIONS)
}

fn refusal(payload: &[u8]) -> (Reason, Json) {
    let error = parse(payload, Dialect::Current, &OPTIONS).unwrap_err();
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
    assert_eq!(command.target.text.one(), Some("3/0/9/"));
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
    let small = Options {
        max_size: 4,
        ..OPTIONS
    };
    let error = parse(b"{\"a\":1}", Dialect::Current, &small).unwrap_err();
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
            json!({"msgType": "execute", "data": {"path": "/3/0/4", "args": "reboot now"}}),
            Reason::BadArguments,
        ),
        (
            json!({"msgType": "execute", "data": {"path": "/3/0/4", "args": 12}}),
            Reason::BadArguments,
        ),
        (
            json!({"msgType": "read", "data": {"path": "/3", "format": "xml"}}),
            Reason::BadFormat,
        ),
        (
            json!({"msgType": "read", "data": {"path": "/3", "format": 65536}}),
            Reason::BadFormat,
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
    let command = parse(command, Dialect::Current, &OPTIONS).unwrap();
    let ack = uplink::ack(&command.echo, &Ids::default()).unwrap();
    let ack: Json = serde_json::from_slice(&ack).unwrap();
    assert_eq!(ack["id"], "\u{fffd}");
}

#[test]
fn arguments_may_pass_unchecked() {
    let command = json!({"msgType": "execute", "data": {"path": "/3/0/4", "args": "reboot now"}});
    let options = Options {
        check_arguments: false,
        ..OPTIONS
    };
    let command = parse(command.to_string().as_bytes(), Dialect::Current, &options).unwrap();
    let arguments = "reboot now".to_owned();
    assert_eq!(command.operation, Operation::Execute { arguments });
}

#[test]
fn formats_of_commands() {
    for (format, number) in [
        (json!("senml-cbor"), Some(112)),
        (json!(112), Some(112)),
        (json!("60"), Some(60)),
        (json!(65000), Some(65000)),
        (json!(null), None),
    ] {
        let data = json!({"path": "/3", "format": format});
        let command = read(&json!({"msgType": "read", "data": data})).unwrap();
        assert_eq!(command.format, number.map(ContentFormat), "{data}");
    }
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

#[test]
fn composite_commands_are_answered_with_their_paths() {
    for (data, reason, paths) in [
        (json!({}), Reason::MissingPath, json!([])),
        (json!({"paths": []}), Reason::MissingPath, json!([])),
        (json!({"paths": "/3"}), Reason::BadPath, json!([])),
        (json!({"paths": ["/3", 5]}), Reason::BadPath, json!(["/3"])),
        (
            json!({"paths": ["/3", "/1/2/3/4/5"]}),
            Reason::BadPath,
            json!(["/3", "/1/2/3/4/5"]),
        ),
        (
            json!({"paths": ["/3"], "format": []}),
            Reason::BadFormat,
            json!(["/3"]),
        ),
    ] {
        let command = json!({"id": 1, "msgType": "read-composite", "data": data});
        let (found, answer) = refusal(command.to_string().as_bytes());
        assert_eq!(found, reason, "{command}");
        assert_eq!(answer["data"]["reqPaths"], paths);
        assert_eq!(answer["data"].get("reqPath"), None);
        assert_eq!(answer["id"], 1);
    }
    for (content, reason) in [
        (json!(null), Reason::MissingContent),
        (json!([]), Reason::MissingContent),
        (json!([1]), Reason::BadContent),
        (json!([{"value": 1}]), Reason::MissingPath),
        (json!([{"path": "/3/0", "value": 1}]), Reason::BadPath),
        (json!([{"path": "/3/0/1"}]), Reason::MissingValue),
        (
            json!([{"path": "/3/0/1", "type": "Time", "value": "x"}]),
            Reason::BadValue,
        ),
    ] {
        let command = json!({"msgType": "write-composite", "data": {"content": content}});
        assert_eq!(
            refusal(command.to_string().as_bytes()).0,
            reason,
            "{command}"
        );
    }
}

#[test]
fn the_same_target_however_it_is_written() {
    let target = |name: &str, data: Json| {
        read(&json!({"msgType": name, "data": data}))
            .unwrap()
            .target
    };
    let one = |path: &str| target("observe", json!({"path": path}));
    assert!(one("3/0/9/").is_same(&one("/3/0/9")));
    assert!(!one("/3/0/9?a").is_same(&one("/3/0/9")) && !one("/3").is_same(&one("/3/0")));
    let some = |paths: Json| target("observe-composite", json!({"paths": paths}));
    assert!(some(json!(["/3/0/9", "/6"])).is_same(&some(json!(["6/", "3/0/9"]))));
    assert!(!some(json!(["/3/0/9"])).is_same(&some(json!(["/3/0/9", "/6"]))));
    assert!(!some(json!(["/3"])).is_same(&one("/3")));
}

#[test]
fn an_observation_is_asked_for_again_as_it_was() {
    for (name, data, again, rest) in [
        (
            "observe",
            json!({"path": "/3"}),
            Operation::Observe,
            Operation::Read,
        ),
        (
            "observe-composite",
            json!({"paths": ["/3"]}),
            Operation::ObserveComposite {
                paths: vec!["/3".parse().unwrap()],
            },
            Operation::ReadComposite {
                paths: vec!["/3".parse().unwrap()],
            },
        ),
    ] {
        let first = read(&json!({"msgType": name, "data": data})).unwrap();
        assert_eq!(
            Command::observe_again(&first.target, &first.echo, None),
            first
        );
        assert_eq!(first.operation, again);
        let read = Command::read_observed(&first.target, &first.echo, None);
        assert_eq!(read.operation, rest);
        assert!(read.kind.reads() && !read.kind.observes());
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
            let _ = parse(&payload, dialect, &OPTIONS);
        }
    }

    #[test]
    fn any_json_is_read_or_answered(value in any_json()) {
        for dialect in [Dialect::Current, Dialect::Legacy] {
            if let Err(error) = parse(value.to_string().as_bytes(), dialect, &OPTIONS) {
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
