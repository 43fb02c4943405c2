//! Answers to commands of EMQ 2: `Result` or `Error`.

use super::content::{Answer, Body, Context};
use super::members::{put_links, put_time, put_value};
use super::remarks::diagnostic;
use crate::bridge::code;
use crate::bridge::echo::Echo;
use crate::bridge::ids::Ids;
use crate::bridge::json::{put, put_base64, put_integer, put_string};
use crate::bridge::kind::Kind;
use crate::bridge::req_path::{Asked, Written};
use crate::lwm2m::{Path, Value};

/// The answer of a device, also a notification: the command's id and name with `Result` or
/// `Error`.
pub(super) fn answer(
    echo: &Echo,
    ids: &Ids<'_>,
    req_path: Option<Asked<'_>>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> Vec<u8> {
    let mut out = head(echo, ids);
    if code::is_error(answer.code) {
        if let Some(text) = diagnostic(answer) {
            put(&mut out, r#","Diagnostic":"#);
            put_string(&mut out, &text);
        }
        return error(out, &error_text(answer.code));
    }
    let start = out.len();
    put(&mut out, r#","Result":"#);
    let written = match echo.kind() {
        Some(Kind::Discover) if answer.code == code::CONTENT => {
            put_links(&mut out, answer.payload);
            true
        }
        _ if !matches!(body, Body::Nothing) => {
            let base = req_path.and_then(Asked::one).map_or("/", Written::text);
            put_lwm2m_json(&mut out, base, answer, body, context)
        }
        _ => {
            put_string(&mut out, &title(code::name(answer.code)));
            true
        }
    };
    if !written {
        out.truncate(start);
        return error(out, "Bad Request");
    }
    out.push(b'}');
    out
}

/// An error of ours.
pub(super) fn local_error(echo: &Echo, ids: &Ids<'_>, code: u8, reason: &str) -> Vec<u8> {
    let mut out = head(echo, ids);
    put(&mut out, r#","Reason":"#);
    put_string(&mut out, reason);
    error(out, &error_text(code))
}

/// Reset and timeout, for which EMQ 2 had no word.
pub(super) fn failure(echo: &Echo, ids: &Ids<'_>, text: &str) -> Vec<u8> {
    error(head(echo, ids), text)
}

fn head(echo: &Echo, ids: &Ids<'_>) -> Vec<u8> {
    let mut out = b"{".to_vec();
    echo.put_members(&mut out, ids);
    put(&mut out, r#""Command":"#);
    put(&mut out, echo.name());
    out
}

fn error(mut out: Vec<u8>, text: &str) -> Vec<u8> {
    put(&mut out, r#","Error":"#);
    put_string(&mut out, text);
    out.push(b'}');
    out
}

fn error_text(code: u8) -> String {
    title(code::name(code))
}

/// `not_found` as `Not Found`.
fn title(name: &str) -> String {
    let mut title = String::with_capacity(name.len());
    for word in name.split('_') {
        if !title.is_empty() {
            title.push(' ');
        }
        let (first, rest) = word.split_at_checked(1).unwrap_or(("", word));
        title.push_str(&first.to_ascii_uppercase());
        title.push_str(rest);
    }
    title
}

/// Appends the content as LwM2M JSON (LwM2M 1.0 §6.4.4), the `Result` of the legacy dialect.
/// False when the payload cannot be read.
fn put_lwm2m_json(
    out: &mut Vec<u8>,
    req_path: &str,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) -> bool {
    let base = req_path.strip_suffix('/').unwrap_or(req_path);
    put(out, r#"{"bn":"#);
    put_string(out, base);
    put(out, r#","e":["#);
    match body {
        Body::Nothing => {}
        Body::Bad { .. } => return false,
        Body::Text(text) => {
            put(out, r#"{"sv":"#);
            put_string(out, text);
            out.push(b'}');
        }
        Body::Bytes { .. } => {
            put(out, r#"{"sv":"#);
            put_base64(out, answer.payload);
            out.push(b'}');
        }
        Body::Values { records, .. } => {
            let depth = context.path.map_or(0, Path::depth);
            for (index, record) in records.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.push(b'{');
                let below = record.path.ids().get(depth..).unwrap_or_default();
                if !below.is_empty() {
                    put(out, r#""n":""#);
                    for id in below {
                        out.push(b'/');
                        put_integer(out, id);
                    }
                    put(out, r#"","#);
                }
                put_string(out, member_of(&record.value));
                out.push(b':');
                put_value(out, &record.value);
                if let Some(time) = record.time {
                    put(out, r#","t":"#);
                    put_time(out, time);
                }
                out.push(b'}');
            }
        }
    }
    put(out, "]}");
    true
}

fn member_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Boolean(_) => "bv",
        Value::ObjectLink { .. } => "ov",
        Value::String(_) | Value::CoreLink(_) | Value::Opaque(_) => "sv",
        Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) | Value::Time(_) => "v",
    }
}
