//! Events to JSON. Everything is written straight into the payload, members of the command as
//! ready text; no JSON tree is built.

use super::code;
use super::command::{CommandError, Kind, ReqPath};
use super::content::{self, Body, Context};
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

impl Ids<'_> {
    /// Appends those that stand nowhere else yet, each followed by a comma.
    pub(super) fn put(&self, out: &mut Vec<u8>, has_imei: bool, has_imsi: bool) {
        for (name, value, present) in [("imei", self.imei, has_imei), ("imsi", self.imsi, has_imsi)]
        {
            if let (Some(value), false) = (value, present) {
                put_string(out, name);
                out.push(b':');
                put_string(out, value);
                out.push(b',');
            }
        }
    }
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

/// The final answer to a command, for the response topic. `req_path` is `Target::text`, `body`
/// what [`content::read`] made of the answer.
pub fn response(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&ReqPath>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    if echo.dialect() == Dialect::Legacy {
        return legacy::answer(echo, ids, req_path, answer, body, context);
    }
    let sequence = answer
        .observe
        .filter(|number| echo.kind().is_some_and(Kind::observes) && *number > 0);
    let mut out = open(echo, ids, echo.name(), sequence, answer.payload.len());
    put_answer(&mut out, echo.kind(), req_path, answer, body, context);
    out
}

/// A notification, for the notify topic. `sequence` becomes `seqNum`: the Observe option, which
/// an error that ends the observation does not have (RFC 7641 §4.2); such an answer carries the
/// code of the error.
pub fn notify(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&ReqPath>,
    sequence: Option<u32>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    if echo.dialect() == Dialect::Legacy {
        return legacy::answer(echo, ids, req_path, answer, body, context);
    }
    let mut out = open(echo, ids, r#""notify""#, sequence, answer.payload.len());
    put_answer(&mut out, echo.kind(), req_path, answer, body, context);
    out
}

/// What a device sent by itself (LwM2M Core 1.2 §6.4.6), for the send topic. `body` is what
/// [`content::read_send`] made of it.
pub fn send(ids: &Ids<'_>, body: &Body<'_>, context: &Context<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + 64 * body.records().len());
    out.push(b'{');
    ids.put(&mut out, false, false);
    put(&mut out, r#""msgType":"send","data":{"#);
    content::put_values(&mut out, None, body, context);
    put(&mut out, "}}");
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
    req_path: Option<&ReqPath>,
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
        error.req_path.as_ref(),
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

fn put_req_path(out: &mut Vec<u8>, req_path: Option<&ReqPath>) {
    match req_path {
        None => put(out, r#"{"reqPath":null"#),
        Some(ReqPath::One(text)) => {
            put(out, r#"{"reqPath":"#);
            put_string(out, text);
        }
        Some(ReqPath::Several(paths)) => {
            put(out, r#"{"reqPaths":["#);
            for (index, path) in paths.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_string(out, path);
            }
            out.push(b']');
        }
    }
}

fn put_answer(
    out: &mut Vec<u8>,
    kind: Option<Kind>,
    req_path: Option<&ReqPath>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) {
    put_req_path(out, req_path);
    match kind {
        _ if !matches!(body, Body::Nothing) => {
            let path = req_path.and_then(ReqPath::one);
            content::put_content(out, path, answer, body, context);
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

    const OPTIONS: downlink::Options = downlink::Options {
        max_size: 4096,
        check_arguments: true,
    };

    fn echo(command: &str) -> Echo {
        downlink::parse(command.as_bytes(), Dialect::Current, &OPTIONS)
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
        let command = downlink::parse(
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
}
