//! Commands and answers from the field: what failed there, with the id of each case.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::bridge::command::{Command, Options, parse};
use crate::bridge::content::{self, Context};
use crate::bridge::uplink::{self, Answer, Ids, Remarks};
use crate::bridge::{CommandError, Dialect, Reason};
use crate::config::{Compat, Config};
use crate::lwm2m::codec::NoSchema;
use crate::lwm2m::{Operation, Path};

fn options() -> Options {
    Options::new(&Config::default())
}

fn read(command: &Json) -> Result<Command, CommandError> {
    let text = command.to_string();
    parse(text.as_bytes(), Dialect::Current, &options())
}

fn refused(error: &CommandError) -> Json {
    serde_json::from_slice(&uplink::refused(error, &Ids::default())).unwrap()
}

fn attributes(command: &Json) -> Vec<(String, Option<String>)> {
    match read(command).unwrap().operation {
        Operation::WriteAttributes { attributes } => attributes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn b2_an_attribute_without_a_value_is_unset() {
    for (data, expected) in [
        (
            json!({"pmin": "", "pmax": 60, "gt": null}),
            &[("gt", None), ("pmax", Some("60")), ("pmin", None)][..],
        ),
        (json!({"gt": null}), &[("gt", None)]),
        (json!({"st": ""}), &[("st", None)]),
        (json!({"pmin": 0}), &[("pmin", Some("0"))]),
    ] {
        let mut data = data;
        data["path"] = json!("/3/0/9");
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect();
        let command = json!({"msgType": "write-attr", "data": data});
        assert_eq!(attributes(&command), expected, "{command}");
    }
    let legacy = json!({"CmdID": 1, "Command": "Write-Attributes", "BaseName": "/3/0/9",
        "Value": "pmin=&pmax=60&gt"});
    let parsed = parse(legacy.to_string().as_bytes(), Dialect::Legacy, &options());
    let Operation::WriteAttributes { attributes } = parsed.unwrap().operation else {
        panic!("{legacy}");
    };
    let gone = |name: &str| (name.to_owned(), None);
    let pmax = ("pmax".to_owned(), Some("60".to_owned()));
    assert_eq!(attributes, [gone("gt"), pmax, gone("pmin")]);
}

#[test]
fn b3_any_text_is_an_argument_unless_it_is_checked() {
    for (args, sent) in [
        (json!("2-3"), "2-3"),
        (json!("reboot now"), "reboot now"),
        (json!("{\"a\":1}"), "{\"a\":1}"),
        (json!("é\n"), "é\n"),
        (json!(12), "12"),
        (json!("undefined"), ""),
        (json!(null), ""),
    ] {
        let command = json!({"msgType": "execute", "data": {"path": "/3/0/4", "args": args}});
        let arguments = sent.to_owned();
        let operation = read(&command).unwrap().operation;
        assert_eq!(operation, Operation::Execute { arguments });
        let mut config = Config::default();
        config.compat.pass_execute_arguments = false;
        let text = command.to_string();
        let checked = parse(text.as_bytes(), Dialect::Current, &Options::new(&config));
        let reason = checked.map_err(|error| error.reason).err();
        assert_eq!(reason, (!sent.is_empty()).then_some(Reason::BadArguments));
    }
}

/// The reason and the answer to a command that may have 200 bytes.
fn refused_in_200_bytes(text: &[u8], dialect: Dialect) -> (Reason, Json) {
    let options = Options {
        max_size: 200,
        ..options()
    };
    let error = parse(text, dialect, &options).unwrap_err();
    (error.reason, refused(&error))
}

#[test]
fn b4_a_command_that_is_too_large_is_answered_with_its_members() {
    let image = "A".repeat(100_000);
    let data = json!({"path": "/5/0/0", "type": "Opaque", "value": image}).to_string();
    for text in [
        format!(r#"{{"reqID":1,"extra":{{"a":[1.50]}},"msgType":"write","data":{data}}}"#),
        format!(r#"{{"data":{data},"msgType":"write","extra":{{"a":[1.50]}},"reqID":1}}"#),
    ] {
        let (reason, answer) = refused_in_200_bytes(text.as_bytes(), Dialect::Current);
        assert_eq!(reason, Reason::TooLarge);
        let detail = answer["data"]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("at most 200 (limits.max_command_size)"));
        let data = json!({"reqPath": "/5/0/0", "code": "4.00", "codeMsg": "bad_request",
            "reason": "too_large", "detail": detail});
        assert_eq!(
            answer,
            json!({"reqID": 1, "extra": {"a": [1.50]}, "msgType": "write", "data": data})
        );
    }
    // What cannot be read to its end still says whose it is.
    for text in [
        format!(r#"{{"reqID":1,"msgType":"write","data":{{"value":"{image}"#),
        format!("{{\"reqID\":1,\"msgType\":\"write\",\"data\":\"\u{fffd}{image}"),
    ] {
        let (_, answer) = refused_in_200_bytes(text.as_bytes(), Dialect::Current);
        assert_eq!(
            (&answer["reqID"], &answer["msgType"]),
            (&json!(1), &json!("write"))
        );
    }
    let mut broken = format!(r#"{{"reqID":1,"msgType":"write","data":"{image}"#).into_bytes();
    broken.push(0xff);
    let (_, answer) = refused_in_200_bytes(&broken, Dialect::Current);
    assert_eq!(
        (&answer["reqID"], &answer["msgType"]),
        (&json!(1), &json!("write"))
    );

    let composite = json!({"reqID": 1, "msgType": "read-composite", "data":
        {"paths": ["/3/0/9", "/3303"], "pad": image}});
    let (_, answer) = refused_in_200_bytes(composite.to_string().as_bytes(), Dialect::Current);
    assert_eq!(answer["data"]["reqPaths"], json!(["/3/0/9", "/3303"]));

    let legacy = json!({"CmdID": 7, "Command": "Write", "BaseName": "/5/0/0", "Value": image});
    let (_, answer) = refused_in_200_bytes(legacy.to_string().as_bytes(), Dialect::Legacy);
    assert_eq!(
        answer,
        json!({"CmdID": 7, "Command": "Write", "Reason": "too_large",
        "Error": "Bad Request"})
    );
}

#[test]
fn b4_what_is_repeated_of_a_command_that_is_not_read_is_bounded() {
    let large = "x".repeat(60_000);
    let text = format!(
        r#"{{"first":"{large}","reqID":1,"second":"{large}","deep":{}1{},"msgType":"read","data":{{"path":"{large}{large}"}}}}"#,
        "[".repeat(40),
        "]".repeat(40),
    );
    let (_, answer) = refused_in_200_bytes(text.as_bytes(), Dialect::Current);
    let names: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["data", "first", "msgType", "reqID"]);
    assert_eq!(answer["data"]["reqPath"], Json::Null);
}

#[test]
fn b4_the_default_of_a_commands_size_follows_that_of_a_body() {
    let mut config = Config::default();
    let base64 = |bytes: usize| bytes.div_ceil(3) * 4;
    assert!(config.max_command_size() >= base64(config.blockwise.max_body_size) + 1024);
    assert!(config.queue.max_bytes >= base64(config.blockwise.max_body_size) + 1024);
    config.blockwise.max_body_size = 64 << 20;
    assert!(config.max_command_size() >= base64(64 << 20) + 1024);
    config.limits.max_command_size = Some(2048);
    assert_eq!(config.max_command_size(), 2048);
    config.blockwise.max_body_size = 1024;
    config.limits.max_command_size = None;
    assert_eq!(config.max_command_size(), 1 << 20);
}

#[test]
fn broken_commands_are_answered_with_what_can_be_read_of_them() {
    for (text, reason, path) in [
        (
            r#"{"reqID":1,"msgType":"read","data":{"path":"/3"}"#,
            "malformed_json",
            json!("/3"),
        ),
        (
            r#"{"reqID":1,"msgType":"read","data":{"path":"/3"},}"#,
            "malformed_json",
            json!("/3"),
        ),
        (
            r#"{"reqID":1,"msgType":"read","data":{"path":/3}}"#,
            "malformed_json",
            Json::Null,
        ),
        (
            r#"{"reqID":1,"msgType":"read","data":{"path":"/3","content":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}}"#,
            "too_deep",
            json!("/3"),
        ),
    ] {
        let error = parse(text.as_bytes(), Dialect::Current, &options()).unwrap_err();
        let answer = refused(&error);
        assert_eq!(answer["reqID"], 1, "{text}");
        assert_eq!(answer["msgType"], "read", "{text}");
        assert_eq!(answer["data"]["reason"], reason, "{text}");
        assert_eq!(answer["data"]["reqPath"], path, "{text}");
    }
}

#[test]
fn b8_own_messages_are_no_commands() {
    let answer = |data: Json| json!({"reqID": 1, "msgType": "read", "data": data});
    let own = [
        answer(json!({"reqPath": "/3", "code": "2.05", "codeMsg": "content", "content": []})),
        answer(json!({"reqPath": null, "code": "4.00", "codeMsg": "bad_request"})),
        json!({"msgType": "write-composite", "data": {"reqPaths": ["/3/0/1"], "code": "2.04",
            "codeMsg": "changed"}}),
        json!({"msgType": "ack", "data": {"path": "/3"}}),
        json!({"msgType": "coap_reset", "data": {"path": "/3"}}),
        json!({"msgType": "coap_timeout", "data": {"path": "/3"}}),
        json!({"msgType": "notify", "seqNum": 1, "data": {"reqPath": "/3", "code": "2.05",
            "codeMsg": "content", "content": []}}),
        json!({"msgType": "register", "data": {"ep": "a", "lt": 300}}),
        json!({"msgType": "update", "data": {"ep": "a", "lt": 300}}),
        json!({"msgType": "deregister", "data": {"ep": "a", "lt": 300}}),
        json!({"msgType": "expired", "data": {"ep": "a", "lt": 300}}),
        json!({"msgType": "send", "data": {"content": []}}),
        json!({"msgType": "error", "data": {"reqPath": null, "code": "4.00",
            "codeMsg": "bad_request", "reason": "not_an_object"}}),
        json!({"series": [{"ingestionId": "a$/3/0/3", "measurements": []}]}),
        json!({"CmdID": 1, "Command": "Read", "Result": "Changed"}),
        json!({"CmdID": 1, "Command": "Read", "Reason": "expired", "Error": "Gateway Timeout"}),
    ];
    let small = Options {
        max_size: 4,
        ..options()
    };
    for message in own {
        let text = message.to_string();
        let whole = format!("{text} ");
        for dialect in [Dialect::Current, Dialect::Legacy] {
            for options in [&options(), &small] {
                let error = parse(whole.as_bytes(), dialect, options).unwrap_err();
                assert_eq!(error.reason, Reason::OwnMessage, "{text}");
            }
        }
    }
    // Members of these names do no harm.
    for command in [
        json!({"msgType": "read", "data": {"path": "/3", "code": "2.05", "codeMsg": "content",
            "reqPath": "/4"}}),
        json!({"msgType": "read", "code": "2.05", "codeMsg": "content", "data": {"path": "/3"}}),
        json!({"msgType": "write", "data": {"basePath": "/3/0", "code": "1", "codeMsg": "x",
            "reqPath": "/3", "content": [{"path": "1", "value": 1}]}}),
        json!({"msgType": "read", "series": 1, "Result": 1, "Command": 1, "data": {"path": "/3"}}),
    ] {
        assert!(read(&command).is_ok(), "{command}");
    }
}

/// Every refusal of ours is recognised, so that no two of them keep each other going.
#[test]
fn b8_answers_to_what_is_no_command_end_there() {
    for text in [
        "",
        "[1]",
        "{bad",
        "{}",
        r#"{"msgType":1}"#,
        r#"{"msgType":"dance"}"#,
        r#"{"msgType":"read","data":{}}"#,
        r#"{"msgType":"read-composite","data":{"paths":[]}}"#,
        r#"{"msgType":"write-composite"}"#,
        r#"{"CmdID":1}"#,
    ] {
        for dialect in [Dialect::Current, Dialect::Legacy] {
            let error = parse(text.as_bytes(), dialect, &options()).unwrap_err();
            assert_ne!(error.reason, Reason::OwnMessage, "{text}");
            let answer = uplink::refused(&error, &Ids::default());
            for back in [Dialect::Current, Dialect::Legacy] {
                let error = parse(&answer, back, &options()).unwrap_err();
                assert_eq!(error.reason, Reason::OwnMessage, "{text}");
            }
        }
    }
}

fn written(base: &str, path: &str) -> Option<String> {
    let kind = if base.matches('/').count() == 1 {
        "create"
    } else {
        "write"
    };
    let command = json!({"msgType": kind, "data":
        {"basePath": base, "content": [{"path": path, "value": 1}]}});
    match read(&command).ok()?.operation {
        Operation::Write { items, .. } | Operation::Create { items } => {
            Some(items[0].path.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn b12_an_absolute_path_below_the_base_path() {
    for (base, path, full) in [
        ("/1/0", "/1/0/2", Some("/1/0/2")),
        ("1/0/", "/1/0/2/", Some("/1/0/2")),
        ("/3/0", "/3/0/11/1", Some("/3/0/11/1")),
        ("/3/0/11", "/3/0/11/1", Some("/3/0/11/1")),
        ("/3/0/11", "/3/0/11", Some("/3/0/11")),
        ("/3", "/3/0/14", Some("/3/0/14")),
        // As in EMQX, a slash alone makes no path absolute.
        ("/1/0", "/2", Some("/1/0/2")),
        ("/1/0", "/1/0", Some("/1/0/1/0")),
        ("/3", "/0/14", Some("/3/0/14")),
        ("/3", "3/0/14", Some("/3/3/0/14")),
        ("/1/0", "/1/1/2", None),
        ("/1/0", "1/0/2", None),
        ("/1/0", "/1/0/2/3/4", None),
    ] {
        assert_eq!(written(base, path).as_deref(), full, "{path} below {base}");
    }
}

fn answered(
    command: &str,
    code: u8,
    format: Option<u16>,
    payload: &[u8],
    remarks: &Remarks,
) -> Json {
    let command = parse(command.as_bytes(), Dialect::Current, &options()).unwrap();
    let path: Option<Path> = command.target.path.clone();
    let compat = Compat::default();
    let context = Context {
        alternate_path: "/",
        path: path.as_ref(),
        schema: &NoSchema,
        compat: &compat,
        now: None,
    };
    let answer = Answer {
        code,
        observe: None,
        content_format: format,
        payload,
    };
    let body = content::read(Some(command.kind), &answer, &context);
    let text = &command.target.text;
    let ids = Ids::default();
    let json = uplink::response_with(
        &command.echo,
        &ids,
        Some(text),
        &answer,
        remarks,
        &body,
        &context,
    );
    let mut json: Json = serde_json::from_slice(&json).unwrap();
    json["data"].take()
}

const EXECUTE: &str = r#"{"msgType":"execute","data":{"path":"/3/0/4"}}"#;

#[test]
fn what_a_device_says_of_an_error_is_passed_on() {
    let none = Remarks::default();
    for (format, payload, said) in [
        (None, &b"no such resource"[..], Some("no such resource")),
        (Some(0), "größer".as_bytes(), Some("größer")),
        (None, b"a\xff\0\"b", Some("a\u{fffd}\0\"b")),
        (Some(60), b"\x01", None),
        (None, b"", None),
    ] {
        let data = answered(EXECUTE, 0x84, format, payload, &none);
        let mut expected = json!({"reqPath": "/3/0/4", "code": "4.04", "codeMsg": "not_found"});
        if let Some(said) = said {
            expected["diagnostic"] = json!(said);
        }
        assert_eq!(data, expected);
    }
    for character in ["x", "é", "€", "😀"] {
        for offset in 0..4 {
            let text = format!("{}{}", "-".repeat(offset), character.repeat(5000));
            let data = answered(EXECUTE, 0xa0, None, text.as_bytes(), &none);
            let said = data["diagnostic"].as_str().unwrap();
            assert!(said.len() <= 1024 && said.len() > 1020, "{}", said.len());
            assert!(text.starts_with(said));
        }
    }
    let legacy = r#"{"CmdID":1,"Command":"Execute","BaseName":"/3/0/4"}"#;
    let command = parse(legacy.as_bytes(), Dialect::Legacy, &options()).unwrap();
    let compat = Compat::default();
    let context = Context {
        alternate_path: "/",
        path: None,
        schema: &NoSchema,
        compat: &compat,
        now: None,
    };
    let answer = Answer {
        code: 0x85,
        observe: None,
        content_format: None,
        payload: b"not now",
    };
    let body = content::Body::Nothing;
    let json = uplink::response(
        &command.echo,
        &Ids::default(),
        None,
        &answer,
        &body,
        &context,
    );
    assert_eq!(
        serde_json::from_slice::<Json>(&json).unwrap(),
        json!({"CmdID": 1, "Command": "Execute", "Diagnostic": "not now",
            "Error": "Method Not Allowed"})
    );
}

#[test]
fn the_payload_of_an_executes_answer_is_content() {
    let none = Remarks::default();
    let changed = |content: Json| {
        let mut data = json!({"reqPath": "/3/0/4", "code": "2.04", "codeMsg": "changed"});
        if !content.is_null() {
            data["content"] = json!([content]);
        }
        data
    };
    for (format, payload, content) in [
        (
            None,
            &b"7 done"[..],
            json!({"path": "/3/0/4", "value": "7 done"}),
        ),
        (Some(0), b"7", json!({"path": "/3/0/4", "value": "7"})),
        (
            None,
            b"\xff",
            json!({"path": "/3/0/4", "value": "/w==", "contentFormat": 42}),
        ),
        (
            Some(60),
            b"\x01",
            json!({"path": "/3/0/4", "value": "AQ==", "contentFormat": 60}),
        ),
        (None, b"", Json::Null),
    ] {
        let data = answered(EXECUTE, 0x44, format, payload, &none);
        assert_eq!(data, changed(content));
    }
}

#[test]
fn locations_and_sizes_of_an_answer() {
    let create = r#"{"msgType":"create","data":{"basePath":"/3303"}}"#;
    let remarks = Remarks {
        location: Some("/3303/1".to_owned()),
        ..Remarks::default()
    };
    assert_eq!(
        answered(create, 0x41, None, b"", &remarks),
        json!({"reqPath": "/3303", "code": "2.01", "codeMsg": "created", "location": "/3303/1"})
    );
    let remarks = Remarks {
        size1: Some(8192),
        size2: Some(0),
        ..Remarks::default()
    };
    assert_eq!(
        answered(create, 0x8d, None, b"too much", &remarks),
        json!({"reqPath": "/3303", "code": "4.13", "codeMsg": "request_entity_too_large",
            "diagnostic": "too much", "size1": 8192, "size2": 0})
    );
    let remarks = Remarks {
        location: Some("/é".repeat(2000)),
        ..Remarks::default()
    };
    let data = answered(create, 0x41, None, b"", &remarks);
    assert!(data["location"].as_str().unwrap().len() <= 1024);
}

proptest! {
    /// Whatever is cut off a command, or put in its place: the answer is JSON with members of the
    /// command and no others.
    #[test]
    fn any_part_of_a_command_is_answered_with_members_of_its_own(
        at in 0..150_usize,
        with in "[\\[\\]{}\",:a0 ]{0,3}",
        large in any::<bool>(),
    ) {
        let command = json!({"reqID": 12_345, "extra": {"a": [1, "x"]}, "flag": true,
            "msgType": "read", "data": {"path": "/3/0/9", "format": "tlv"}});
        let text = command.to_string();
        let at = at.min(text.len());
        let broken = format!("{}{with}", &text[..at]);
        let options = Options { max_size: if large { 0 } else { 1 << 20 }, ..options() };
        let Err(error) = parse(broken.as_bytes(), Dialect::Current, &options) else {
            return Ok(());
        };
        let answer = refused(&error);
        if with.is_empty() && at < text.len() {
            for (name, value) in answer.as_object().unwrap() {
                match name.as_str() {
                    "data" => {}
                    "msgType" => prop_assert!(*value == "error" || *value == command["msgType"]),
                    name => prop_assert_eq!(value, &command[name]),
                }
            }
        }
    }
}
