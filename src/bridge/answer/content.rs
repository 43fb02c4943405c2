//! What devices answer, and what became of its payload.

use thiserror::Error;

use crate::bridge::code;
use crate::bridge::kind::Kind;
use crate::config::Compat;
use crate::lwm2m::Path;
use crate::lwm2m::codec::{
    BadRecord, ContentFormat, DecodeError, DecodeOptions, Record, RecordError, Schema,
    decode_partial, missing_format,
};

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
    #[error("{}", no_format(*.0))]
    Format(Option<u16>),
    /// A payload that breaks its format.
    #[error("{0}")]
    Malformed(String),
}

/// The device reads this.
fn no_format(format: Option<u16>) -> String {
    let wanted = "a Send must be SenML JSON (110), SenML CBOR (112) or LwM2M CBOR (11544)";
    match format {
        Some(number) => format!("{wanted}, not content format {number}"),
        None => format!("{wanted}; this one has no content format"),
    }
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

pub(super) fn is_text(format: ContentFormat) -> bool {
    matches!(format, ContentFormat::TEXT | ContentFormat::OLD_TEXT)
}

fn read_payload<'a>(
    content_format: Option<u16>,
    payload: &'a [u8],
    context: &Context<'_>,
) -> Body<'a> {
    let Some(path) = context.path else {
        let format = content_format.map_or(ContentFormat::TEXT, ContentFormat);
        let readable = is_text(format) || format == ContentFormat::LINK;
        return match std::str::from_utf8(payload) {
            Ok(text) if readable => Body::Text(text),
            _ => Body::Bytes {
                foreign: format != ContentFormat::OPAQUE,
            },
        };
    };
    let format = match content_format {
        Some(format) => ContentFormat(format),
        None => missing_format(path, payload, context.schema),
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
            if let Some(error) = not_asked(path, &records) {
                return Body::Bad {
                    reason: "undecodable",
                    detail: error.to_string(),
                };
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

/// The first of the values when none of them is of `path` or below it. Beside what was asked for a
/// device may say more.
fn not_asked(path: &Path, records: &[Record<'_>]) -> Option<BadRecord> {
    // What a gateway puts in front of its devices' paths is its own affair.
    let asked = |record: &Record<'_>| record.path.ids().starts_with(path.ids());
    let first = records.first().filter(|_| !records.iter().any(asked))?;
    Some(BadRecord {
        path: first.path.to_string(),
        reason: RecordError::NotAsked,
    })
}

pub(super) fn is_tlv(format: ContentFormat) -> bool {
    matches!(format, ContentFormat::TLV | ContentFormat::OLD_TLV)
}
