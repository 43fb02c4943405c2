//! Events to JSON. Everything is written straight into the payload, members of the command as
//! ready text; no JSON tree is built.

pub use super::content::Answer;
use super::content::{Body, Context};
use super::legacy;
use super::members;
pub use super::remarks::Remarks;
use super::remarks::put_remarks;
use crate::bridge::code;
use crate::bridge::dialect::Dialect;
use crate::bridge::echo::Echo;
pub use crate::bridge::ids::Ids;
use crate::bridge::json::{put, put_integer, put_string};
use crate::bridge::kind::Kind;
use crate::bridge::refusal::CommandError;
use crate::bridge::req_path::{Asked, ReqPath};
use crate::coap::Code;

/// The final answer to a command, for the response topic. `req_path` is `Target::text`, `body`
/// what [`content::read`](super::content::read) made of the answer.
#[cfg(feature = "internals")]
pub fn response(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&ReqPath>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    let remarks = Remarks::default();
    response_with(echo, ids, req_path, answer, &remarks, body, context)
}

/// The same with what the options of the answer say.
pub fn response_with(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<&ReqPath>,
    answer: &Answer<'_>,
    remarks: &Remarks,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    if echo.dialect() == Dialect::Legacy {
        return legacy::answer(echo, ids, req_path.map(Asked::from), answer, body, context);
    }
    let sequence = answer
        .observe
        .filter(|number| echo.kind().is_some_and(Kind::observes) && *number > 0);
    let mut out = open(echo, ids, echo.name(), sequence, answer.payload.len());
    put_answer(
        &mut out,
        echo.kind(),
        req_path.map(Asked::from),
        answer,
        body,
        context,
    );
    if echo.kind().is_some_and(Kind::observes) {
        put_end(&mut out, "not_observed", answer, body);
    }
    put_remarks(&mut out, answer, remarks);
    put(&mut out, "}}");
    out
}

/// A notification, for the notify topic. `sequence` becomes `seqNum`: the Observe option, which
/// an error that ends the observation does not have (RFC 7641 §4.2); such an answer carries the
/// code of the error.
pub fn notify<'a>(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<impl Into<Asked<'a>>>,
    sequence: Option<u32>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    let req_path = req_path.map(Into::into);
    if echo.dialect() == Dialect::Legacy {
        return legacy::answer(echo, ids, req_path, answer, body, context);
    }
    let mut out = open(echo, ids, r#""notify""#, sequence, answer.payload.len());
    put_answer(&mut out, echo.kind(), req_path, answer, body, context);
    put_end(&mut out, "observation_ended", answer, body);
    put_remarks(&mut out, answer, &Remarks::default());
    put(&mut out, "}}");
    out
}

/// Says that no notification follows: the device answered with a value, but without the Observe
/// option (RFC 7641 §3.2 and §4.1). An error says it by its code.
fn put_end(out: &mut Vec<u8>, reason: &str, answer: &Answer<'_>, body: &Body<'_>) {
    let is_value = Code(answer.code).is_success() && !matches!(body, Body::Bad { .. });
    if is_value && answer.observe.is_none() {
        put(out, r#","reason":"#);
        put_string(out, reason);
    }
}

/// What a device sent by itself (LwM2M Core 1.2 §6.4.6), for the send topic. `body` is what
/// [`content::read_send`](super::content::read_send) made of it.
pub fn send(ids: &Ids<'_>, body: &Body<'_>, context: &Context<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + 64 * body.records().len());
    out.push(b'{');
    ids.put(&mut out, false, false);
    put(&mut out, r#""msgType":"send","data":{"#);
    members::put_values(&mut out, None, body, context);
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
    put_req_path(&mut out, req_path.map(Asked::from));
    members::put_code(&mut out, code);
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
pub(super) fn open(
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

pub(super) fn put_req_path(out: &mut Vec<u8>, req_path: Option<Asked<'_>>) {
    match req_path {
        None => put(out, r#"{"reqPath":null"#),
        Some(Asked::One(written)) => {
            put(out, r#"{"reqPath":"#);
            written.put(out);
        }
        Some(Asked::Several(paths)) => {
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

/// Appends `data` but for its end.
fn put_answer(
    out: &mut Vec<u8>,
    kind: Option<Kind>,
    req_path: Option<Asked<'_>>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) {
    put_req_path(out, req_path);
    match kind {
        _ if !matches!(body, Body::Nothing) => {
            let path = req_path.and_then(Asked::one);
            members::put_content(out, path, answer, body, context);
        }
        Some(Kind::Discover) if answer.code == code::CONTENT => {
            members::put_discovered(out, answer);
        }
        Some(Kind::Execute) if !code::is_error(answer.code) && !answer.payload.is_empty() => {
            let path = req_path.and_then(Asked::one);
            members::put_said(out, path, answer, context);
        }
        Some(Kind::Write)
            if context.compat.write_content_mapping && answer.code == code::CONTENT =>
        {
            let code = if answer.payload.is_empty() {
                code::METHOD_NOT_ALLOWED
            } else {
                code::CHANGED
            };
            members::put_code(out, code);
        }
        _ => members::put_code(out, answer.code),
    }
}

/// The whole command with another `msgType`, its `data` as it was sent.
fn repeat(echo: &Echo, ids: &Ids<'_>, name: &str) -> Vec<u8> {
    let mut out = open(echo, ids, name, None, 0);
    put(&mut out, echo.data().unwrap_or("null"));
    out.push(b'}');
    out
}
