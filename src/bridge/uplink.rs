//! Events to JSON. Everything is written straight into the payload, members of the command as
//! ready text; no JSON tree is built.

use super::code;
use super::content::{self, Context};
use super::downlink::{CommandError, Kind};
use super::echo::Echo;
use super::json::{put, put_plain, put_string};
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
        put_plain(&mut out, sequence);
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
