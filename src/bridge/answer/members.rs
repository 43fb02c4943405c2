//! The members of answers and notifications: code, `content`, `errors`.

use super::content::{Answer, Body, Context, is_text, is_tlv};
use crate::bridge::code;
use crate::bridge::json::{put, put_base64, put_float, put_integer, put_object_link, put_string};
use crate::bridge::req_path::Written;
use crate::lwm2m::codec::{ContentFormat, Record};
use crate::lwm2m::{Path, Value, link};

/// Appends `,"code":..,"codeMsg":..,"content":[..]`. A payload that cannot be read makes the
/// answer 4.00, with the bytes in `raw`.
pub(super) fn put_content(
    out: &mut Vec<u8>,
    req_path: Option<Written<'_>>,
    answer: &Answer<'_>,
    body: &Body<'_>,
    context: &Context<'_>,
) {
    if let Body::Bad { reason, detail } = body {
        put_code(out, code::BAD_REQUEST);
        put(out, r#","reason":"#);
        put_string(out, reason);
        put(out, r#","detail":"#);
        put_string(out, detail);
        put(out, r#","raw":"#);
        put_base64(out, answer.payload);
        put_format(out, answer);
        return;
    }
    put_code(out, answer.code);
    out.push(b',');
    match body {
        Body::Nothing | Body::Bad { .. } => put(out, r#""content":[]"#),
        Body::Values { .. } => put_values(out, req_path, body, context),
        Body::Text(text) => {
            put(out, r#""content":["#);
            put_path(out, req_path, context);
            put(out, r#","value":"#);
            put_string(out, text);
            put(out, "}]");
        }
        Body::Bytes { foreign } => {
            put(out, r#""content":["#);
            put_path(out, req_path, context);
            put(out, r#","value":"#);
            put_base64(out, answer.payload);
            if *foreign {
                put_format(out, answer);
            }
            put(out, "}]");
        }
    }
}

/// Appends `"content":[..]` with the values of the body and, when some records could not be
/// read, `,"errors":[..]`.
pub(super) fn put_values(
    out: &mut Vec<u8>,
    req_path: Option<Written<'_>>,
    body: &Body<'_>,
    context: &Context<'_>,
) {
    put(out, r#""content":["#);
    let Body::Values {
        format,
        records,
        bad,
    } = body
    else {
        return out.push(b']');
    };
    put_records(out, *format, records, req_path, context);
    out.push(b']');
    if bad.is_empty() {
        return;
    }
    put(out, r#","errors":["#);
    for (index, record) in bad.iter().enumerate() {
        put(
            out,
            if index > 0 {
                r#",{"path":"#
            } else {
                r#"{"path":"#
            },
        );
        put_string(out, &record.path);
        put(out, r#","reason":"#);
        put_string(out, &record.reason.to_string());
        out.push(b'}');
    }
    out.push(b']');
}

/// Appends `,"code":"4.04","codeMsg":"not_found"`.
pub(super) fn put_code(out: &mut Vec<u8>, code: u8) {
    let (class, detail) = (code >> 5, code & 0x1f);
    put(out, r#","code":""#);
    out.extend([b'0' + class, b'.', b'0' + detail / 10, b'0' + detail % 10]);
    put(out, r#"","codeMsg":""#);
    put(out, code::name(code));
    out.push(b'"');
}

/// Appends `,"code":..,"codeMsg":..,"content":[..]` with the payload of an answer that is to hold
/// no values, such as that to an Execute: as the text that it is, else as bytes with their format.
pub(super) fn put_said(
    out: &mut Vec<u8>,
    req_path: Option<Written<'_>>,
    answer: &Answer<'_>,
    context: &Context<'_>,
) {
    put_code(out, answer.code);
    put(out, r#","content":["#);
    put_path(out, req_path, context);
    put(out, r#","value":"#);
    let format = answer.content_format.map(ContentFormat);
    match std::str::from_utf8(answer.payload) {
        Ok(text) if format.is_none_or(is_text) => put_string(out, text),
        _ => {
            put_base64(out, answer.payload);
            put(out, r#","contentFormat":"#);
            put_integer(out, format.unwrap_or(ContentFormat::OPAQUE).0);
        }
    }
    put(out, "}]");
}

/// Appends `,"code":..,"codeMsg":..,"content":[..]` with the links of a Discover.
pub(super) fn put_discovered(out: &mut Vec<u8>, answer: &Answer<'_>) {
    put_code(out, answer.code);
    put(out, r#","content":"#);
    put_links(out, answer.payload);
}

/// Appends the links of a link-format payload as an array of strings.
pub(super) fn put_links(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(b'[');
    for (index, link) in link::entries(payload).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_string(out, &link);
    }
    out.push(b']');
}

fn put_records(
    out: &mut Vec<u8>,
    format: ContentFormat,
    records: &[Record<'_>],
    req_path: Option<Written<'_>>,
    context: &Context<'_>,
) {
    let verbatim = is_text(format) || format == ContentFormat::OPAQUE;
    let bare =
        context.compat.bare_multi_instance_path && is_tlv(format) && has_several_instances(records);
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if verbatim {
            put_path(out, req_path, context);
        } else {
            put(out, r#"{"path":"#);
            put_record_path(out, &record.path, bare);
        }
        put(out, r#","value":"#);
        put_value(out, &record.value);
        if let Some(time) = record.time {
            put(out, r#","time":"#);
            put_time(out, time);
        }
        if record.inferred {
            put(out, r#","inferred":true"#);
        }
        out.push(b'}');
    }
}

fn has_several_instances(records: &[Record<'_>]) -> bool {
    let mut instances = records.iter().map(|record| record.path.instance());
    let first = instances.next();
    instances.any(|instance| Some(instance) != first)
}

/// Appends `{"path":..` with the requested path, as it was written where that is a clean path.
fn put_path(out: &mut Vec<u8>, req_path: Option<Written<'_>>, context: &Context<'_>) {
    put(out, r#"{"path":"#);
    match (req_path.map(Written::text), context.path) {
        (Some(text), _) if text.len() == 1 || !text.ends_with('/') => put_string(out, text),
        (_, Some(path)) => put_string(out, &path.to_string()),
        (Some(text), None) => put_string(out, text),
        (None, None) => put(out, "null"),
    }
}

fn put_record_path(out: &mut Vec<u8>, path: &Path, bare: bool) {
    if path.prefix().is_some() || path.depth() == 0 {
        put_string(out, &path.to_string());
        return;
    }
    out.push(b'"');
    for (index, id) in path.ids().iter().enumerate() {
        if index > 0 || !bare {
            out.push(b'/');
        }
        put_integer(out, id);
    }
    out.push(b'"');
}

/// Appends the value; one that JSON has no number for is null with its name beside it.
pub(super) fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::String(text) | Value::CoreLink(text) => put_string(out, text),
        Value::Integer(number) | Value::Time(number) => put_integer(out, number),
        Value::Unsigned(number) => put_integer(out, number),
        Value::Float(number) if number.is_finite() => put_float(out, *number),
        Value::Float(number) => {
            let name = if number.is_nan() {
                "NaN"
            } else if *number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            put(out, r#"null,"nonFinite":"#);
            put_string(out, name);
        }
        Value::Boolean(value) => put(out, if *value { "true" } else { "false" }),
        Value::Opaque(bytes) => put_base64(out, bytes),
        Value::ObjectLink { object, instance } => {
            put_object_link(out, *object, *instance);
        }
    }
}

/// Appends seconds, without a fraction where there is none.
pub(super) fn put_time(out: &mut Vec<u8>, seconds: f64) {
    /// Floats are exact up to 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if seconds.fract() == 0.0 && seconds.abs() < EXACT {
        // The range check makes the conversion exact.
        #[allow(clippy::cast_possible_truncation)]
        put_integer(out, seconds as i64);
    } else if seconds.is_finite() {
        put_float(out, seconds);
    } else {
        put(out, "null");
    }
}

fn put_format(out: &mut Vec<u8>, answer: &Answer<'_>) {
    if let Some(format) = answer.content_format {
        put(out, r#","contentFormat":"#);
        put_integer(out, format);
    }
}
