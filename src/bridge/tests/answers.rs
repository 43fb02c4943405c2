//! Answers, notifications and Sends as JSON.

use crate::bridge::command::{self, Command, Options};
use crate::bridge::content::{self, Body, Context};
use crate::bridge::uplink::{
    Answer, Ids, ack, coap_reset, coap_timeout, local_error, notify, response, send,
};
use crate::bridge::{Dialect, Echo, Kind, ReqPath, code};
use crate::config::Compat;
use crate::lwm2m::Path;
use crate::lwm2m::codec::NoSchema;
use serde_json::{Value as Json, json};

const NO_IDS: Ids<'static> = Ids {
    imei: None,
    imsi: None,
};

const OPTIONS: Options = Options {
    max_size: 4096,
    check_arguments: true,
};

fn echo(command: &str) -> Echo {
    command::parse(command.as_bytes(), Dialect::Current, &OPTIONS)
        .unwrap()
        .echo
}

fn answer(code: u8, format: u16, payload: &[u8]) -> Answer<'_> {
    Answer {
        code,
        observe: None,
        content_format: Some(format),
        payload,
    }
}

fn respond(echo: &Echo, path: &str, answer: &Answer<'_>, compat: Compat) -> Json {
    let numeric: Option<Path> = path.parse().ok();
    let context = Context {
        alternate_path: "/",
        path: numeric.as_ref(),
        schema: &NoSchema,
        compat: &compat,
        now: None,
    };
    let body = content::read(echo.kind(), answer, &context);
    let path = ReqPath::One(path.to_owned());
    let json = response(echo, &NO_IDS, Some(&path), answer, &body, &context);
    serde_json::from_slice(&json).unwrap()
}

const READ: &str = r#"{"msgType":"read","data":{"path":"/3/0/9"}}"#;

#[test]
fn members_come_back_exactly() {
    let echo = echo(
        r#"{"reqID":123456789012345678901234567890,"a":{"b": [1.50, null]},
           "seqNum":9,"msgType":"read","msgType":"observe","data":{"path": "/3/0/9"}}"#,
    );
    assert_eq!(
        String::from_utf8(ack(&echo, &NO_IDS).unwrap()).unwrap(),
        concat!(
            r#"{"reqID":123456789012345678901234567890,"a":{"b": [1.50, null]},"#,
            r#""msgType":"ack","data":{"path": "/3/0/9"}}"#
        )
    );
    for (payload, name) in [
        (coap_reset(&echo, &NO_IDS), "coap_reset"),
        (coap_timeout(&echo, &NO_IDS), "coap_timeout"),
    ] {
        let value: Json = serde_json::from_slice(&payload).unwrap();
        assert_eq!(value["msgType"], name);
        assert_eq!(value["data"], json!({"path": "/3/0/9"}));
    }
}

#[test]
fn identities_of_the_registration_stand_in_where_the_command_has_none() {
    let ids = Ids {
        imei: Some("86"),
        imsi: Some("26"),
    };
    let echo = echo(r#"{"imsi":"own","msgType":"read","data":{"path":"/3"}}"#);
    let value: Json = serde_json::from_slice(&coap_timeout(&echo, &ids)).unwrap();
    assert_eq!(
        (&value["imei"], &value["imsi"]),
        (&json!("86"), &json!("own"))
    );
}

#[test]
fn notifications() {
    let echo = echo(r#"{"reqID":1,"msgType":"observe","data":{"path":"/3/0/9"}}"#);
    let path: Path = "/3/0/9".parse().unwrap();
    let compat = Compat::default();
    let context = Context {
        alternate_path: "/",
        path: Some(&path),
        schema: &NoSchema,
        compat: &compat,
        now: None,
    };
    let text = |sequence, answer: &Answer<'_>| {
        let body = content::read(echo.kind(), answer, &context);
        let path = ReqPath::One("/3/0/9".to_owned());
        let payload = notify(
            &echo,
            &NO_IDS,
            Some(&path),
            sequence,
            answer,
            &body,
            &context,
        );
        String::from_utf8(payload).unwrap()
    };
    let mut value = answer(0x45, 42, b"\x01\x02\x03");
    // Without Observe it is the last.
    assert!(text(Some(3), &value).ends_with(r#"}],"reason":"observation_ended"}}"#));
    value.observe = Some(3);
    assert_eq!(
        text(Some(3), &value),
        concat!(
            r#"{"reqID":1,"msgType":"notify","seqNum":3,"data":{"reqPath":"/3/0/9","#,
            r#""code":"2.05","codeMsg":"content","content":[{"path":"/3/0/9","value":"AQID"}]}}"#
        )
    );
    assert_eq!(
        text(None, &answer(0x84, 0, b"gone")),
        concat!(
            r#"{"reqID":1,"msgType":"notify","data":{"reqPath":"/3/0/9","#,
            r#""code":"4.04","codeMsg":"not_found","diagnostic":"gone"}}"#
        )
    );
    let first = |observe| {
        let answer = Answer {
            observe,
            ..answer(0x45, 42, b"")
        };
        respond(&echo, "/3/0/9", &answer, compat)["seqNum"].clone()
    };
    assert_eq!(first(Some(7)), 7);
    assert_eq!(first(Some(0)), Json::Null);
    assert_eq!(first(None), Json::Null);
}

#[test]
fn composite_answers_and_notifications() {
    let compat = Compat::default();
    let root = Path::ROOT;
    let context = Context {
        alternate_path: "/lwm2m",
        path: Some(&root),
        schema: &NoSchema,
        compat: &compat,
        now: Some(1_700_000_000.0),
    };
    let command = command::parse(
        br#"{"id":1,"msgType":"observe-composite","data":{"paths":["3/0/9","/6"]}}"#,
        Dialect::Current,
        &OPTIONS,
    )
    .unwrap();
    let pack = br#"[{"bn":"/lwm2m/3/0/","n":"9","v":74,"t":-2.5},{"bn":"","n":"/6/0/0","v":5},{"n":"x/y","v":1}]"#;
    let answer = Answer {
        observe: Some(4),
        ..answer(0x45, 110, pack)
    };
    let (echo, text) = (&command.echo, Some(&command.target.text));
    let body = content::read(echo.kind(), &answer, &context);
    assert_eq!(body.records().len(), 2);
    let first = response(echo, &NO_IDS, text, &answer, &body, &context);
    let first: Json = serde_json::from_slice(&first).unwrap();
    assert_eq!(first["msgType"], "observe-composite");
    assert_eq!(first["seqNum"], 4);
    let data = &first["data"];
    assert_eq!(data["reqPaths"], json!(["3/0/9", "/6"]));
    assert_eq!(data.get("reqPath"), None);
    assert_eq!(
        data["content"],
        json!([
            {"path": "/3/0/9", "value": 74, "time": 1_699_999_997.5, "inferred": true},
            {"path": "/6/0/0", "value": 5, "inferred": true},
        ])
    );
    assert_eq!(data["errors"].as_array().unwrap().len(), 1);
    assert!(data["errors"][0]["path"].as_str().unwrap().contains("x/y"));
    assert!(data["errors"][0]["reason"].is_string());
    let later = notify(echo, &NO_IDS, text, Some(5), &answer, &body, &context);
    let later: Json = serde_json::from_slice(&later).unwrap();
    assert_eq!(
        (&later["msgType"], &later["id"]),
        (&json!("notify"), &json!(1))
    );
    assert_eq!(later["data"], *data);
}

#[test]
fn sends() {
    let compat = Compat::default();
    let context = Context {
        alternate_path: "/",
        path: None,
        schema: &NoSchema,
        compat: &compat,
        now: None,
    };
    let ids = Ids {
        imei: Some("86"),
        imsi: None,
    };
    let sent = |payload: &[u8]| {
        let body = content::read_send(Some(110), payload, &context).unwrap();
        String::from_utf8(send(&ids, &body, &context)).unwrap()
    };
    assert_eq!(
        sent(br#"[{"bn":"/9000/0/","n":"1","vs":"a","t":1500000000},{"n":"1","vs":"b","t":1500000000.5}]"#),
        concat!(
            r#"{"imei":"86","msgType":"send","data":{"content":["#,
            r#"{"path":"/9000/0/1","value":"a","time":1500000000,"inferred":true},"#,
            r#"{"path":"/9000/0/1","value":"b","time":1500000000.5,"inferred":true}]}}"#
        )
    );
    assert_eq!(
        sent(b"[]"),
        r#"{"imei":"86","msgType":"send","data":{"content":[]}}"#
    );
    for (format, payload, code) in [
        (Some(110), &b"[{"[..], code::BAD_REQUEST),
        (Some(112), b"\xff", code::BAD_REQUEST),
        (Some(11544), b"\xa1", code::BAD_REQUEST),
        (Some(110), br#"[{"n":"/3/0/9"}]"#, code::BAD_REQUEST),
        (Some(11542), b"", code::UNSUPPORTED_CONTENT_FORMAT),
        (Some(65000), b"", code::UNSUPPORTED_CONTENT_FORMAT),
        (None, b"74", code::UNSUPPORTED_CONTENT_FORMAT),
    ] {
        let error = content::read_send(format, payload, &context).unwrap_err();
        assert_eq!(error.code(), code, "{format:?}: {error}");
    }
}

#[test]
fn only_what_was_asked_for_is_content() {
    let compat = Compat::default();
    let path: Path = "/3/0/9".parse().unwrap();
    let context = Context {
        alternate_path: "/",
        path: Some(&path),
        schema: &NoSchema,
        compat: &compat,
        now: None,
    };
    let full = answer(0x45, 0, b"5");
    for kind in Kind::ALL {
        let body = content::read(Some(kind), &full, &context);
        assert_eq!(body != Body::Nothing, kind.reads(), "{kind:?}");
    }
    assert_eq!(content::read(None, &full, &context), Body::Nothing);
    let error = answer(0x84, 0, b"gone");
    assert_eq!(
        content::read(Some(Kind::Read), &error, &context),
        Body::Nothing
    );
    let bytes = content::read(Some(Kind::Read), &answer(0x45, 42, b"\x01"), &context);
    assert_eq!(bytes.records().len(), 1);
}

#[test]
fn auto_observe() {
    let command = Command::auto_observe(&"/3/0".parse().unwrap());
    let value: Json = serde_json::from_slice(&coap_reset(&command.echo, &NO_IDS)).unwrap();
    assert_eq!(
        value,
        json!({"is_auto_observe": true, "msgType": "coap_reset", "data": {"path": "/3/0"}})
    );
    assert!(command.target.segments().eq(["3", "0"]));
}

#[test]
fn nothing_of_a_payload_is_lost() {
    let echo = echo(READ);
    let data = |path: &str, answer: &Answer<'_>| {
        respond(&echo, path, answer, Compat::default())["data"].take()
    };
    assert_eq!(
        data("/3/0/9", &answer(0x45, 65000, b"\xff"))["content"],
        json!([{"path": "/3/0/9", "value": "/w==", "contentFormat": 65000}])
    );
    let broken = data("/3/0/9", &answer(0x45, 11542, b"\xc8\xff"));
    assert_eq!(broken["code"], "4.00");
    assert_eq!(broken["reason"], "undecodable");
    assert_eq!(broken["raw"], "yP8=");
    assert_eq!(broken["contentFormat"], 11542);
    assert_eq!(
        data("/.well-known/core", &answer(0x45, 40, b"</3>"))["content"],
        json!([{"path": "/.well-known/core", "value": "</3>"}])
    );
    assert_eq!(
        data("/x", &answer(0x45, 50, b"\x01"))["content"],
        json!([{"path": "/x", "value": "AQ==", "contentFormat": 50}])
    );
}

#[test]
fn times_of_the_device() {
    let echo = echo(READ);
    let json = br#"{"bn":"/9000/0/","e":[{"n":"1","v":1e3,"t":1500000000},{"n":"2","v":2.5,"t":1500000000.5}]}"#;
    let content = respond(
        &echo,
        "/9000/0",
        &answer(0x45, 11543, json),
        Compat::default(),
    );
    let content = &content["data"]["content"];
    assert_eq!(content[0]["time"], json!(1_500_000_000));
    assert_eq!(content[1]["time"], json!(1_500_000_000.5));
    assert_eq!(content[1]["inferred"], true);
}

#[test]
fn paths_of_single_values() {
    let echo = echo(READ);
    for (path, shown) in [
        ("3/0/9", "3/0/9"),
        ("/3/0/9", "/3/0/9"),
        ("3/0/9/", "/3/0/9"),
    ] {
        let value = respond(&echo, path, &answer(0x45, 0, b"5"), Compat::default());
        assert_eq!(value["data"]["reqPath"], path);
        assert_eq!(value["data"]["content"][0]["path"], shown);
    }
}

#[test]
fn write_answered_with_content() {
    let echo = echo(r#"{"msgType":"write","data":{"path":"/3/0/14","value":"x"}}"#);
    let mapping = Compat {
        write_content_mapping: true,
        ..Compat::default()
    };
    for (compat, payload, code) in [
        (Compat::default(), &b""[..], "2.05"),
        (mapping, b"", "4.05"),
        (mapping, b"OK", "2.04"),
    ] {
        let value = respond(&echo, "/3/0/14", &answer(0x45, 0, payload), compat);
        assert_eq!(value["data"]["code"], code);
        assert_eq!(value["data"].get("content"), None);
    }
}

#[test]
fn errors_of_the_gateway() {
    let echo = echo(READ);
    let path = ReqPath::One("/3/0/9".to_owned());
    let payload = local_error(&echo, &NO_IDS, Some(&path), 0xa3, "queue_full", None);
    assert_eq!(
        String::from_utf8(payload).unwrap(),
        concat!(
            r#"{"msgType":"read","data":{"reqPath":"/3/0/9","code":"5.03","#,
            r#""codeMsg":"service_unavailable","reason":"queue_full"}}"#
        )
    );
}

/// A read of `path`, answered by a payload without or with a Content-Format.
fn read_of(path: &str, content_format: Option<u16>, payload: &[u8]) -> Json {
    let models = crate::lwm2m::model::ObjectModels::builtin();
    let versions = [];
    let schema = crate::lwm2m::model::DeviceSchema::new(
        &models,
        &versions,
        crate::lwm2m::model::Version::V1_0,
    );
    let compat = Compat::default();
    let numeric: Option<Path> = path.parse().ok();
    let context = Context {
        alternate_path: "/",
        path: numeric.as_ref(),
        schema: &schema,
        compat: &compat,
        now: None,
    };
    let answer = Answer {
        content_format,
        ..answer(0x45, 0, payload)
    };
    let echo = echo(READ);
    let body = content::read(echo.kind(), &answer, &context);
    let path = ReqPath::One(path.to_owned());
    let json = response(&echo, &NO_IDS, Some(&path), &answer, &body, &context);
    serde_json::from_slice::<Json>(&json).unwrap()["data"].take()
}

#[test]
fn a4_an_empty_answer_for_an_object_is_no_error() {
    for format in [None, Some(0), Some(42), Some(110), Some(11542), Some(11543)] {
        for path in ["/3303", "/3303/0"] {
            let data = read_of(path, format, b"");
            assert_eq!(data["code"], "2.05", "{format:?} {path}");
            assert_eq!(data["content"], json!([]), "{format:?} {path}");
        }
    }
    assert_eq!(read_of("/3/0/11", None, b"")["content"], json!([]));
    assert_eq!(read_of("/3/0/9", None, b"")["code"], "4.00");
}

#[test]
fn a5_an_instance_without_a_content_format() {
    let data = read_of("/3/0", None, b"\xc1\x00\x58\xc1\x09\x5f");
    let expected = json!([{"path": "/3/0/0", "value": "X"}, {"path": "/3/0/9", "value": 95}]);
    assert_eq!(data["content"], expected);
    assert_eq!(read_of("/3/0/9", None, b"95")["content"][0]["value"], 95);
}

#[test]
fn a7_what_was_not_asked_for_is_no_value() {
    let senml = br#"[{"n":"/3/0/0","vs":"Acme"}]"#;
    for (format, payload) in [(11542, &b"\xc4\x00\x41\x63\x6d\x65"[..]), (110, senml)] {
        let data = read_of("/3/0/9", Some(format), payload);
        assert_eq!(data["code"], "4.00", "{format}");
        assert_eq!(data["reason"], "undecodable");
        let detail = data["detail"].as_str().unwrap();
        assert!(detail.contains("/3/0/0") && detail.contains("not what was asked for"));
        assert_eq!(data.get("content"), None);
    }
    // Beside what was asked for, it stands at its own path.
    let both = br#"[{"n":"/3/0/0","vs":"Acme"},{"n":"/3/0/9","v":95}]"#;
    let data = read_of("/3/0/9", Some(110), both);
    let expected = json!([{"path": "/3/0/0", "value": "Acme"}, {"path": "/3/0/9", "value": 95}]);
    assert_eq!(data["content"], expected);
}

#[test]
fn a11_a_discover_without_links() {
    let echo = echo(r#"{"msgType":"discover","data":{"path":"/3/0"}}"#);
    for (payload, links) in [
        (&b""[..], json!([])),
        (b"</3/0>,", json!(["</3/0>"])),
        (b"</3>, </3/0>", json!(["</3>", "</3/0>"])),
    ] {
        let data = respond(&echo, "/3/0", &answer(0x45, 40, payload), Compat::default());
        assert_eq!(data["data"]["content"], links);
    }
}
