//! The `content` of answers and notifications.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use thiserror::Error;

use super::code;
use super::command::Kind;
use super::json::{put, put_float, put_integer, put_object_link, put_string};
use super::uplink::Answer;
use crate::config::Compat;
use crate::lwm2m::codec::{
    BadRecord, ContentFormat, DecodeError, DecodeOptions, Record, Schema, decode_partial,
};
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

/// What became of a payload. It is read once and serves every message that is made of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// The answer has no content to be read.
    Nothing,
    /// Values at paths.
    Values {
        /// What they were written in.
        format: ContentFormat,
        /// The values in the order of the payload.
        records: Vec<Record<'a>>,
        /// Records that could not be read.
        bad: Vec<BadRecord>,
    },
    /// One text at a requested path that LwM2M does not know.
    Text(&'a str),
    /// Bytes at the requested path, with the format when it has no codec.
    Bytes {
        /// Whether it has none.
        foreign: bool,
    },
    /// The payload breaks its format.
    Bad {
        /// Stable code.
        reason: &'static str,
        /// For people.
        detail: String,
    },
}

impl<'a> Body<'a> {
    /// The values, none when there are none at paths of LwM2M.
    pub fn records(&self) -> &[Record<'a>] {
        match self {
            Self::Values { records, .. } => records,
            _ => &[],
        }
    }
}

/// Why a Send is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// A format that is none of Send (LwM2M Core 1.2 §6.4.6).
    #[error("a Send has no content format {0:?}")]
    Format(Option<u16>),
    /// A payload that breaks its format.
    #[error("{0}")]
    Malformed(String),
}

impl SendError {
    /// The CoAP code byte of the answer.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Format(_) => code::UNSUPPORTED_CONTENT_FORMAT,
            Self::Malformed(_) => code::BAD_REQUEST,
        }
    }
}

/// Reads the content of an answer to an operation of `kind`, or of a notification. Only Content
/// (2.05) stands for a value when the payload is empty.
pub fn read<'a>(kind: Option<Kind>, answer: &Answer<'a>, context: &Context<'_>) -> Body<'a> {
    let present = !code::is_error(answer.code)
        && (answer.code == code::CONTENT || !answer.payload.is_empty());
    if present && kind.is_some_and(Kind::reads) {
        read_payload(answer.content_format, answer.payload, context)
    } else {
        Body::Nothing
    }
}

/// Reads what a device sends by itself. The path of `context` does not matter: all names in a
/// Send are full paths.
///
/// # Errors
///
/// [`SendError`], by which the device is answered. One record among others that cannot be read is
/// no error.
pub fn read_send<'a>(
    content_format: Option<u16>,
    payload: &'a [u8],
    context: &Context<'_>,
) -> Result<Body<'a>, SendError> {
    if !matches!(
        content_format.map(ContentFormat),
        Some(ContentFormat::SENML_JSON | ContentFormat::SENML_CBOR | ContentFormat::LWM2M_CBOR)
    ) {
        return Err(SendError::Format(content_format));
    }
    if payload.is_empty() {
        return Err(SendError::Malformed("no payload".to_owned()));
    }
    let root = Path::ROOT;
    let context = Context {
        path: Some(&root),
        ..*context
    };
    match read_payload(content_format, payload, &context) {
        Body::Bad { detail, .. } => Err(SendError::Malformed(detail)),
        body => Ok(body),
    }
}

/// Appends `,"code":..,"codeMsg":..,"content":[..]`. A payload that cannot be read makes the
/// answer 4.00, with the bytes in `raw`.
pub(super) fn put_content(
    out: &mut Vec<u8>,
    req_path: Option<&str>,
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
    req_path: Option<&str>,
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

fn is_text(format: ContentFormat) -> bool {
    matches!(format, ContentFormat::TEXT | ContentFormat::OLD_TEXT)
}

fn read_payload<'a>(
    content_format: Option<u16>,
    payload: &'a [u8],
    context: &Context<'_>,
) -> Body<'a> {
    let format = content_format.map_or(ContentFormat::TEXT, ContentFormat);
    let Some(path) = context.path else {
        let readable = is_text(format) || format == ContentFormat::LINK;
        return match std::str::from_utf8(payload) {
            Ok(text) if readable => Body::Text(text),
            _ => Body::Bytes {
                foreign: format != ContentFormat::OPAQUE,
            },
        };
    };
    let options = DecodeOptions {
        text_opaque_raw: context.compat.encode_text_opaque,
        now: context.now,
        ..DecodeOptions::default()
    };
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    let (schema, out) = (context.schema, &mut records);
    match decode_partial(Some(format), path, payload, schema, &options, out, &mut bad) {
        Ok(()) => {
            let root =
                Some(context.alternate_path.trim_matches('/')).filter(|root| !root.is_empty());
            for record in &mut records {
                if root.is_some() && record.path.prefix() == root {
                    record.path = std::mem::take(&mut record.path).with_prefix(None);
                }
                // Bytes that the device calls bytes are no guess.
                record.inferred &= format != ContentFormat::OPAQUE;
            }
            let typed = is_text(format) || is_tlv(format);
            let guessed = records.iter().find(|record| record.inferred);
            match guessed.filter(|_| typed && context.compat.unknown_object_error) {
                Some(record) => Body::Bad {
                    reason: "unknown_object",
                    detail: format!("no definition of {}", record.path),
                },
                None => Body::Values {
                    format,
                    records,
                    bad,
                },
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
    format: ContentFormat,
    records: &[Record<'_>],
    req_path: Option<&str>,
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
            put_object_link(out, *object, *instance);
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

pub(super) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
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
