//! Events to JSON. Everything is written straight into the payload, members of the command as
//! ready text; no JSON tree is built.

use super::code;
use super::command::{CommandError, Kind};
use super::content::{self, Context};
use super::echo::Echo;
use super::json::{put, put_integer, put_string};
use super::{Dialect, legacy};

/// Identities that stand at the top of answers when the command did not carry them: query
/// parameters of the registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids<'a> {
    /// Query `imei`.
    pub imei: Option<&'a str>,
    /// Query `imsi`.
    pub imsi: Option<&'a str>,
}

/// A response or notification of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The CoAP code byte, 0x45 for 2.05.
    pub code: u8,
    /// Value of the Observe option.
    pub observe: Option<u32>,
    /// Value of the Content-Format option.
    pub content_format: Option<u16>,
    /// The assembled payload.
    pub payload: &'a [u8],
}

/// The final answer to a command, for the response topic. `req_path` is `Target::text`.
pub fn response(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&str>,
    answer: &Answer<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    if echo.dialect() == Dialect::Legacy {
        return legacy::answer(echo, ids, req_path, answer, context);
    }
    let sequence = answer
        .observe
        .filter(|number| echo.kind() == Some(Kind::Observe) && *number > 0);
    let mut out = open(echo, ids, echo.name(), sequence, answer.payload.len());
    put_answer(&mut out, echo.kind(), req_path, answer, context);
    out
}

/// A notification, for the notify topic. `sequence` becomes `seqNum`: the Observe option, which
/// an error that ends the observation does not have (RFC 7641 §4.2); such an answer carries the
/// code of the error.
pub fn notify(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&str>,
    sequence: Option<u32>,
    answer: &Answer<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    if echo.dialect() == Dialect::Legacy {
        return legacy::answer(echo, ids, req_path, answer, context);
    }
    let mut out = open(echo, ids, r#""notify""#, sequence, answer.payload.len());
    put_answer(&mut out, Some(Kind::Observe), req_path, answer, context);
    out
}

/// The device has the command and will answer later. The legacy dialect has no such message.
pub fn ack(echo: &Echo, ids: &Ids<'_>) -> Option<Vec<u8>> {
    (echo.dialect() == Dialect::Current).then(|| repeat(echo, ids, r#""ack""#))
}

/// The device refused the command, or a notification's observation, with a Reset.
pub fn coap_reset(echo: &Echo, ids: &Ids<'_>) -> Vec<u8> {
    match echo.dialect() {
        Dialect::Current => repeat(echo, ids, r#""coap_reset""#),
        Dialect::Legacy => legacy::failure(echo, ids, "Reset"),
    }
}

/// The device did not answer within the deadline of the exchange.
pub fn coap_timeout(echo: &Echo, ids: &Ids<'_>) -> Vec<u8> {
    match echo.dialect() {
        Dialect::Current => repeat(echo, ids, r#""coap_timeout""#),
        Dialect::Legacy => legacy::failure(echo, ids, "Timeout"),
    }
}

/// An answer of the gateway itself: `reason` is a stable code (`not_registered`, `queue_full`,
/// `expired`, ..), `detail` a text for people.
pub fn local_error(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&str>,
    code: u8,
    reason: &str,
    detail: Option<&str>,
) -> Vec<u8> {
    if echo.dialect() == Dialect::Legacy {
        return legacy::local_error(echo, ids, code, reason);
    }
    let mut out = open(echo, ids, echo.name(), None, 0);
    put_req_path(&mut out, req_path);
    content::put_code(&mut out, code);
    put(&mut out, r#","reason":"#);
    put_string(&mut out, reason);
    if let Some(detail) = detail {
        put(&mut out, r#","detail":"#);
        put_string(&mut out, detail);
    }
    put(&mut out, "}}");
    out
}

/// The answer to a malformed command.
pub fn refused(error: &CommandError, ids: &Ids<'_>) -> Vec<u8> {
    local_error(
        &error.echo,
        ids,
        error.req_path.as_deref(),
        code::BAD_REQUEST,
        error.reason.as_str(),
        Some(&error.detail),
    )
}

/// Opens the message up to and including `"data":`. `name` is JSON text.
fn open(
    echo: &Echo,
    ids: &Ids<'_>,
    name: &str,
    sequence: Option<u32>,
    payload_len: usize,
) -> Vec<u8> {
    // Room for the usual answer: a payload in text is not much longer in JSON.
    let mut out = Vec::with_capacity(256 + payload_len);
    out.push(b'{');
    echo.put_members(&mut out, ids);
    put(&mut out, r#""msgType":"#);
    put(&mut out, name);
    if let Some(sequence) = sequence {
        put(&mut out, r#","seqNum":"#);
        put_integer(&mut out, sequence);
    }
    put(&mut out, r#","data":"#);
    out
}

fn put_req_path(out: &mut Vec<u8>, req_path: Option<&str>) {
    put(out, r#"{"reqPath":"#);
    match req_path {
        Some(text) => put_string(out, text),
        None => put(out, "null"),
    }
}

fn put_answer(
    out: &mut Vec<u8>,
    kind: Option<Kind>,
    req_path: Option<&str>,
    answer: &Answer<'_>,
    context: &Context<'_>,
) {
    put_req_path(out, req_path);
    match kind {
        Some(Kind::Read | Kind::Observe | Kind::CancelObserve) if content::is_present(answer) => {
            content::put_content(out, req_path, answer, context);
        }
        Some(Kind::Discover) if answer.code == code::CONTENT => {
            content::put_discovered(out, answer);
        }
        Some(Kind::Write)
            if context.compat.write_content_mapping && answer.code == code::CONTENT =>
        {
            let code = if answer.payload.is_empty() {
                code::METHOD_NOT_ALLOWED
            } else {
                code::CHANGED
            };
            content::put_code(out, code);
        }
        _ => content::put_code(out, answer.code),
    }
    put(out, "}}");
}

/// The whole command with another `msgType`, its `data` as it was sent.
fn repeat(echo: &Echo, ids: &Ids<'_>, name: &str) -> Vec<u8> {
    let mut out = open(echo, ids, name, None, 0);
    put(&mut out, echo.data().unwrap_or("null"));
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::super::downlink;
    use super::*;
    use crate::config::Compat;
    use crate::lwm2m::Path;
    use crate::lwm2m::codec::NoSchema;
    use serde_json::{Value as Json, json};

    const NO_IDS: Ids<'static> = Ids {
        imei: None,
        imsi: None,
    };

    fn echo(command: &str) -> Echo {
        downlink::parse(command.as_bytes(), Dialect::Current, 4096)
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
        let json = response(echo, &NO_IDS, Some(path), answer, &context);
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
            let payload = notify(&echo, &NO_IDS, Some("/3/0/9"), sequence, answer, &context);
            String::from_utf8(payload).unwrap()
        };
        assert_eq!(
            text(Some(3), &answer(0x45, 42, b"\x01\x02\x03")),
            concat!(
                r#"{"reqID":1,"msgType":"notify","seqNum":3,"data":{"reqPath":"/3/0/9","#,
                r#""code":"2.05","codeMsg":"content","content":[{"path":"/3/0/9","value":"AQID"}]}}"#
            )
        );
        assert_eq!(
            text(None, &answer(0x84, 0, b"gone")),
            concat!(
                r#"{"reqID":1,"msgType":"notify","data":{"reqPath":"/3/0/9","#,
                r#""code":"4.04","codeMsg":"not_found"}}"#
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
    fn auto_observe() {
        let command = super::super::Command::auto_observe(&"/3/0".parse().unwrap());
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
            data("/x", &answer(0x45, 60, b"\x01"))["content"],
            json!([{"path": "/x", "value": "AQ==", "contentFormat": 60}])
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
        let payload = local_error(&echo, &NO_IDS, Some("/3/0/9"), 0xa3, "queue_full", None);
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            concat!(
                r#"{"msgType":"read","data":{"reqPath":"/3/0/9","code":"5.03","#,
                r#""codeMsg":"service_unavailable","reason":"queue_full"}}"#
            )
        );
    }
}
