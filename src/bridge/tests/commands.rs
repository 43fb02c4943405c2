//! Commands that are read, refused and echoed.

use std::time::Duration;

use crate::bridge::command::{Command, Options, parse};
use crate::bridge::uplink::{self, Ids};
use crate::bridge::{CommandError, Dialect, Kind, Reason};
use crate::lwm2m::Operation;
use crate::lwm2m::codec::ContentFormat;
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
