//! The `content` of answers and notifications.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::code;
use super::json::{put, put_float, put_integer, put_string};
use super::uplink::Answer;
use crate::config::Compat;
use crate::lwm2m::codec::{ContentFormat, DecodeError, DecodeOptions, Record, Schema, decode};
use crate::lwm2m::{Path, Value, link};

/// What the content of an answer is read with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The requested path; `None` for one that LwM2M does not know.
    pub path: Option<&'a Path>,
    /// The object definitions of the device.
    pub schema: &'a dyn Schema,
    /// Where the device keeps its objects, `/` for most. Some devices write it into the names of
    /// their values; it is not part of their paths.
    pub alternate_path: &'a str,
    /// `compat.*`
    pub compat: &'a Compat,
    /// Seconds since the Unix epoch, what relative times of the device are counted from.
    pub now: Option<f64>,
}

/// What became of a payload.
enum Body<'a> {
    Values(Vec<Record<'a>>),
    /// One text at the requested path.
    Text(&'a str),
    /// One value in base64 at the requested path, with the format when it has no codec.
    Bytes {
        foreign: bool,
    },
    Bad {
        reason: &'static str,
        detail: String,
    },
}

/// Whether the answer has content to be read. Only Content (2.05) stands for a value when the
/// payload is empty.
pub(super) fn is_present(answer: &Answer<'_>) -> bool {
    !code::is_error(answer.code) && (answer.code == code::CONTENT || !answer.payload.is_empty())
}

/// Appends `,"code":..,"codeMsg":..,"content":[..]`. A payload that cannot be read makes the
/// answer 4.00, with the bytes in `raw`.
pub(super) fn put_content(
    out: &mut Vec<u8>,
    req_path: Option<&str>,
    answer: &Answer<'_>,
    context: &Context<'_>,
) {
    let body = read(answer, context);
    if let Body::Bad { reason, detail } = &body {
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
    put(out, r#","content":["#);
    match &body {
        Body::Values(records) => put_records(out, records, req_path, answer, context),
        Body::Text(text) => {
            put_path(out, req_path, context);
            put(out, r#","value":"#);
            put_string(out, text);
            out.push(b'}');
        }
        Body::Bytes { foreign } => {
            put_path(out, req_path, context);
            put(out, r#","value":"#);
            put_base64(out, answer.payload);
            if *foreign {
                put_format(out, answer);
            }
            out.push(b'}');
        }
        Body::Bad { .. } => {}
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

fn format_of(answer: &Answer<'_>) -> ContentFormat {
    answer
        .content_format
        .map_or(ContentFormat::TEXT, ContentFormat)
}

fn is_text(format: ContentFormat) -> bool {
    matches!(format, ContentFormat::TEXT | ContentFormat::OLD_TEXT)
}

fn read<'a>(answer: &Answer<'a>, context: &Context<'_>) -> Body<'a> {
    let format = format_of(answer);
    if format == ContentFormat::OPAQUE {
        return Body::Bytes { foreign: false };
    }
    let Some(path) = context.path else {
        let readable = is_text(format) || format == ContentFormat::LINK;
        return match std::str::from_utf8(answer.payload) {
            Ok(text) if readable => Body::Text(text),
            _ => Body::Bytes { foreign: true },
        };
    };
    let options = DecodeOptions {
        text_opaque_raw: context.compat.encode_text_opaque,
        now: context.now,
        ..DecodeOptions::default()
    };
    let mut records = Vec::new();
    let schema = context.schema;
    match decode(
        Some(format),
        path,
        answer.payload,
        schema,
        &options,
        &mut records,
    ) {
        Ok(()) => {
            let root =
                Some(context.alternate_path.trim_matches('/')).filter(|root| !root.is_empty());
            for record in records
                .iter_mut()
                .filter(|it| root.is_some() && it.path.prefix() == root)
            {
                record.path = std::mem::take(&mut record.path).with_prefix(None);
            }
            let typed = is_text(format) || is_tlv(format);
            let guessed = records.iter().find(|record| record.inferred);
            match guessed.filter(|_| typed && context.compat.unknown_object_error) {
                Some(record) => Body::Bad {
                    reason: "unknown_object",
                    detail: format!("no definition of {}", record.path),
                },
                None => Body::Values(records),
            }
        }
        Err(DecodeError::Unsupported(_)) => Body::Bytes { foreign: true },
        Err(error) => Body::Bad {
            reason: "undecodable",
            detail: error.to_string(),
        },
    }
}

fn is_tlv(format: ContentFormat) -> bool {
    matches!(format, ContentFormat::TLV | ContentFormat::OLD_TLV)
}

fn put_records(
    out: &mut Vec<u8>,
    records: &[Record<'_>],
    req_path: Option<&str>,
    answer: &Answer<'_>,
    context: &Context<'_>,
) {
    let format = format_of(answer);
    let verbatim = is_text(format);
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
fn put_path(out: &mut Vec<u8>, req_path: Option<&str>, context: &Context<'_>) {
    put(out, r#"{"path":"#);
    match (req_path, context.path) {
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
fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
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
            out.push(b'"');
            put_integer(out, object);
            out.push(b':');
            put_integer(out, instance);
            out.push(b'"');
        }
    }
}

/// Appends seconds, without a fraction where there is none.
fn put_time(out: &mut Vec<u8>, seconds: f64) {
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

fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    put(out, &STANDARD.encode(bytes));
    out.push(b'"');
}

fn put_format(out: &mut Vec<u8>, answer: &Answer<'_>) {
    if let Some(format) = answer.content_format {
        put(out, r#","contentFormat":"#);
        put_integer(out, format);
    }
}

/// Appends the content as LwM2M JSON (LwM2M 1.0 §6.4.4), the `Result` of the legacy dialect.
/// False when the payload cannot be read.
pub(super) fn put_lwm2m_json(
    out: &mut Vec<u8>,
    req_path: &str,
    answer: &Answer<'_>,
    context: &Context<'_>,
) -> bool {
    let body = read(answer, context);
    let base = req_path.strip_suffix('/').unwrap_or(req_path);
    put(out, r#"{"bn":"#);
    put_string(out, base);
    put(out, r#","e":["#);
    match &body {
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
        Body::Values(records) => {
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
