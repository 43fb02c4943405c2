//! The dialect of EMQ 2, there and back.

use crate::bridge::command::{self, Command, Options};
use crate::bridge::content::{self, Context};
use crate::bridge::uplink::{self, Answer, Ids};
use crate::bridge::{CommandError, Dialect, Reason};
use crate::config::Compat;
use crate::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use serde_json::{Value as Json, json};

const IDS: Ids<'static> = Ids {
    imei: None,
    imsi: None,
};

const OPTIONS: Options = Options {
    max_size: 4096,
    check_arguments: true,
};

fn parse(command: &Json) -> Result<Command, CommandError> {
    command::parse(command.to_string().as_bytes(), Dialect::Legacy, &OPTIONS)
}

fn answered(command: &Json, code: u8, format: u16, payload: &[u8]) -> Json {
    let command = parse(command).unwrap();
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_0);
    let context = Context {
        alternate_path: "/",
        path: command.target.path.as_ref(),
        schema: &schema,
        compat: &Compat::default(),
        now: None,
    };
    let answer = Answer {
        code,
        observe: None,
        content_format: Some(format),
        payload,
    };
    let body = content::read(Some(command.kind), &answer, &context);
    let text = Some(&command.target.text);
    let json = uplink::response(&command.echo, &IDS, text, &answer, &body, &context);
    serde_json::from_slice(&json).unwrap()
}

#[test]
fn answers() {
    let command = |name: &str, base: &str| json!({"CmdID": 1, "Command": name, "BaseName": base});
    let read = command("Read", "/3/0");
    assert_eq!(
        answered(
            &read,
            0x45,
            11542,
            b"\xc3\x00EMQ\xc1\x09\x5f\x86\x0b\x41\x00\x05\x41\x01\x06"
        ),
        json!({"CmdID": 1, "Command": "Read", "Result": {"bn": "/3/0", "e": [
            {"n": "/0", "sv": "EMQ"}, {"n": "/9", "v": 95},
            {"n": "/11/0", "v": 5}, {"n": "/11/1", "v": 6},
        ]}})
    );
    assert_eq!(
        answered(&command("Observe", "/3/0/9"), 0x45, 0, b"95"),
        json!({"CmdID": 1, "Command": "Observe",
            "Result": {"bn": "/3/0/9", "e": [{"v": 95}]}})
    );
    assert_eq!(
        answered(&command("Execute", "/3/0/4"), 0x44, 0, b""),
        json!({"CmdID": 1, "Command": "Execute", "Result": "Changed"})
    );
    assert_eq!(
        answered(
            &command("Discover", "/3/0"),
            0x45,
            40,
            b"</3/0>;dim=8,</3/0/1>"
        ),
        json!({"CmdID": 1, "Command": "Discover", "Result": ["</3/0>;dim=8", "</3/0/1>"]})
    );
    assert_eq!(
        answered(&read, 0x85, 0, b""),
        json!({"CmdID": 1, "Command": "Read", "Error": "Method Not Allowed"})
    );
    assert_eq!(
        answered(&read, 0x45, 11542, b"\xc8"),
        json!({"CmdID": 1, "Command": "Read", "Error": "Bad Request"})
    );
}

#[test]
fn refusals() {
    for (command, reason) in [
        (json!({"CmdID": 1}), Reason::UnknownMsgType),
        (
            json!({"CmdID": 1, "Command": "Fly", "BaseName": "/3"}),
            Reason::UnknownMsgType,
        ),
        (json!({"CmdID": 1, "Command": "Read"}), Reason::MissingPath),
        (
            json!({"CmdID": 1, "Command": "Write", "BaseName": "/3/0"}),
            Reason::MissingValue,
        ),
        (
            json!({"CmdID": 1, "Command": "Write", "BaseName": "/3/0", "Value": {"e": [{}]}}),
            Reason::MissingValue,
        ),
        (
            json!({"CmdID": 1, "Command": "Write", "BaseName": "/3/0", "Value": "x"}),
            Reason::BadValue,
        ),
    ] {
        let error = parse(&command).unwrap_err();
        assert_eq!(error.reason, reason, "{command}");
        let answer: Json = serde_json::from_slice(&uplink::refused(&error, &IDS)).unwrap();
        assert_eq!(answer["Error"], "Bad Request");
        assert_eq!(answer["Reason"], reason.as_str());
        assert_eq!(answer["CmdID"], 1);
    }
}

#[test]
fn both_dialects_on_one_topic() {
    let today = json!({"msgType": "read", "CmdID": 5, "data": {"path": "/3"}});
    assert_eq!(parse(&today).unwrap().echo.dialect(), Dialect::Current);
    let old = json!({"CmdID": 5, "Command": "read", "BaseName": "/3"});
    let echo = parse(&old).unwrap().echo;
    assert_eq!(uplink::ack(&echo, &IDS), None);
    let timeout = uplink::coap_timeout(&echo, &IDS);
    assert_eq!(
        String::from_utf8(timeout).unwrap(),
        r#"{"CmdID":5,"Command":"read","Error":"Timeout"}"#
    );
}
