//! Content formats (LwM2M Core 1.2 §7.4): bytes to and from [`Record`]s, one format a file.

use std::borrow::Cow;
use std::collections::HashMap;

use thiserror::Error;

use super::operation::WriteItem;
use super::{Path, PathError, ResourceType, Value};

pub mod cbor;
pub mod json;
pub mod lwm2m_cbor;
pub mod names;
pub mod opaque;
pub mod senml_cbor;
pub mod senml_json;
pub mod text;
pub mod tlv;

mod cbor_item;
mod scalar;
mod senml;
#[cfg(test)]
mod testing;

/// A CoAP Content-Format number (RFC 7252 §12.3 registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentFormat(pub u16);

impl ContentFormat {
    /// `text/plain; charset=utf-8`
    pub const TEXT: Self = Self(0);
    /// `application/link-format`
    pub const LINK: Self = Self(40);
    /// `application/octet-stream`
    pub const OPAQUE: Self = Self(42);
    /// `application/cbor`
    pub const CBOR: Self = Self(60);
    /// `application/senml+json`
    pub const SENML_JSON: Self = Self(110);
    /// `application/senml+cbor`
    pub const SENML_CBOR: Self = Self(112);
    /// `application/senml-etch+json`
    pub const SENML_ETCH_JSON: Self = Self(320);
    /// `application/senml-etch+cbor`
    pub const SENML_ETCH_CBOR: Self = Self(322);
    /// `application/vnd.oma.lwm2m+tlv`
    pub const TLV: Self = Self(11542);
    /// `application/vnd.oma.lwm2m+json`
    pub const JSON: Self = Self(11543);
    /// `application/vnd.oma.lwm2m+cbor`
    pub const LWM2M_CBOR: Self = Self(11544);
    /// Text as numbered before the registration of the OMA formats.
    pub const OLD_TEXT: Self = Self(1541);
    /// TLV, old number.
    pub const OLD_TLV: Self = Self(1542);
    /// JSON, old number.
    pub const OLD_JSON: Self = Self(1543);
}

/// One value at one path, as a device sent it or is to be sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// Full path.
    pub path: Path,
    /// The value.
    pub value: Value<'a>,
    /// Seconds since the Unix epoch when the value was taken, if the format carried it.
    pub time: Option<f64>,
    /// The type was guessed, because no object definition has this resource.
    pub inferred: bool,
}

/// What an object definition says of a resource, as far as codecs need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceSchema {
    /// Data type; `None` for an executable resource, which has no value.
    pub kind: Option<ResourceType>,
    /// Whether it may have several instances.
    pub multiple: bool,
}

/// Where codecs ask for types: the object definitions in the versions the device announced.
pub trait Schema {
    /// The definition of `resource` of `object`, if known.
    fn resource(&self, object: u16, resource: u16) -> Option<ResourceSchema>;
}

/// A schema that knows nothing: every type is inferred.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSchema;

impl Schema for NoSchema {
    fn resource(&self, _object: u16, _resource: u16) -> Option<ResourceSchema> {
        None
    }
}

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The payload breaks the rules of its format.
    #[error("malformed {format}: {reason}")]
    Malformed {
        /// Short name of the format, as in `tlv`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The format cannot carry values of that path (a text for a whole object).
    #[error("{format} cannot carry a value of {path}")]
    PathMismatch {
        /// Short name of the format.
        format: &'static str,
        /// The requested path.
        path: Path,
    },
    /// A value does not fit the type of its resource.
    #[error("{path}: not a valid {expected}")]
    BadValue {
        /// Where.
        path: Path,
        /// The type by the object definition.
        expected: ResourceType,
    },
    /// No codec for this number.
    #[error("unsupported content format {0}")]
    Unsupported(u16),
    /// More records, or deeper nesting, than the limits allow.
    #[error("payload exceeds the limit of {0}")]
    Limit(&'static str),
    /// One of the records cannot be read.
    #[error("{0}")]
    Record(#[from] BadRecord),
}

/// A record that cannot be read, of a payload that otherwise can.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {path:?}: {reason}")]
pub struct BadRecord {
    /// Its path, as far as it can be told, in the notation of the payload.
    pub path: String,
    /// What is wrong with it.
    pub reason: RecordError,
}

/// What is wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The name is not a path.
    #[error(transparent)]
    NotAPath(#[from] PathError),
    /// The name is longer than any path.
    #[error("the name is too long")]
    LongName,
    /// The name is a number, say.
    #[error("the name is no text")]
    Name,
    /// A key is neither an id nor an array of ids.
    #[error("a key is no path")]
    Key,
    /// A value at an object or an object instance.
    #[error("a value needs the path of a resource")]
    NoResource,
    /// No value, null, or something no resource can have.
    #[error("no value")]
    NoValue,
    /// The time is not a finite number.
    #[error("the time is no finite number")]
    Time,
    /// One field several times, or several values.
    #[error("a field occurs twice")]
    Repeated,
    /// In place of the record: so many are listed already.
    #[error("more records cannot be read")]
    More,
}

/// Why values could not be written in a format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The format cannot carry these values (several values as text, say).
    #[error("{format} cannot carry this write: {reason}")]
    Unsuitable {
        /// Short name of the format.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A path outside of the base path.
    #[error("{path} is not below {base}")]
    OutsideBase {
        /// The record's path.
        path: Path,
        /// The request's path.
        base: Path,
    },
    /// No codec for this number.
    #[error("unsupported content format {0}")]
    Unsupported(u16),
}

/// Limits and switches of [`decode`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeOptions {
    /// In text/plain the bytes of an Opaque resource are its value, as EMQX has it, instead of
    /// its base64 (LwM2M Core 1.2 Appendix C).
    pub text_opaque_raw: bool,
    /// How many records one payload may hold.
    pub max_records: usize,
    /// Seconds since the Unix epoch, what relative times are counted from (RFC 8428 §4.5.3).
    /// `None` drops relative times.
    pub now: Option<f64>,
}

/// [`DecodeOptions::max_records`] by default.
pub const MAX_RECORDS: usize = 16_384;

/// Records of one payload that are reported as unreadable; of more, only that there are more.
const MAX_BAD_RECORDS: usize = 64;

/// No path needs a name this long (bytes). It bounds what base names repeated in many records
/// cost.
const MAX_NAME: usize = 256;

/// Times below 2^28 seconds are relative to now (RFC 8428 §4.5.3).
const FIRST_ABSOLUTE_TIME: f64 = 268_435_456.0;

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            text_opaque_raw: false,
            max_records: MAX_RECORDS,
            now: None,
        }
    }
}

/// Reads the payload of an answer to, or a notification of, `request` and appends its records to
/// `out`. No `format` means text/plain. After an error `out` is as it was before.
///
/// A resource without a definition, or a value that does not fit its definition beside others
/// that do, gets the type its form suggests and is marked [`Record::inferred`]. Formats that tell
/// types apart (SenML, CBOR) keep a single value that does not fit in the same way. Several
/// records of one path are kept in their order.
///
/// # Errors
///
/// [`DecodeError::Unsupported`] for a format without a codec; the other variants for a payload
/// that breaks its format, exceeds the limits or, being a single value, does not fit its type.
pub fn decode<'a>(
    format: Option<ContentFormat>,
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
) -> Result<(), DecodeError> {
    let before = out.len();
    let mut bad = Vec::new();
    decode_partial(format, request, payload, schema, options, out, &mut bad)?;
    match bad.into_iter().next() {
        None => Ok(()),
        Some(record) => {
            out.truncate(before);
            Err(record.into())
        }
    }
}

/// Like [`decode`], but a record that cannot be read does not spoil the others: it is appended to
/// `bad`, up to 64 of them and one that stands for the rest. Only SenML and LwM2M-CBOR have such
/// records. When no record at all can be read, that is
/// an error, and `bad` like `out` is as it was before.
///
/// # Errors
///
/// As [`decode`]; [`DecodeError::Record`] with the first of the records when none can be read.
pub fn decode_partial<'a>(
    format: Option<ContentFormat>,
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
    bad: &mut Vec<BadRecord>,
) -> Result<(), DecodeError> {
    let (records, refused) = (out.len(), bad.len());
    let mut result = match format.unwrap_or(ContentFormat::TEXT) {
        ContentFormat::TEXT | ContentFormat::OLD_TEXT => {
            text::decode(request, payload, schema, options, out)
        }
        ContentFormat::OPAQUE => {
            opaque::decode(request, payload, schema, out);
            Ok(())
        }
        ContentFormat::CBOR => cbor::decode(request, payload, schema, out),
        ContentFormat::SENML_JSON | ContentFormat::SENML_ETCH_JSON => {
            senml_json::decode(request, payload, schema, options, out, bad)
        }
        ContentFormat::SENML_CBOR | ContentFormat::SENML_ETCH_CBOR => {
            senml_cbor::decode(request, payload, schema, options, out, bad)
        }
        ContentFormat::TLV | ContentFormat::OLD_TLV => {
            tlv::decode(request, payload, schema, options, out)
        }
        ContentFormat::JSON | ContentFormat::OLD_JSON => {
            json::decode(request, payload, schema, options, out)
        }
        ContentFormat::LWM2M_CBOR => lwm2m_cbor::decode(payload, schema, options, out, bad),
        ContentFormat(number) => Err(DecodeError::Unsupported(number)),
    };
    if result.is_ok()
        && out.len() == records
        && let Some(record) = bad.get(refused)
    {
        result = Err(record.clone().into());
    }
    if result.is_err() {
        out.truncate(records);
        bad.truncate(refused);
    }
    result
}

/// Where decoders of packs put their records.
struct Sink<'a, 's> {
    schema: &'s dyn Schema,
    /// How many records may still come.
    left: usize,
    /// How many of them may still be bad, and be listed so.
    bad_left: usize,
    out: &'s mut Vec<Record<'a>>,
    bad: &'s mut Vec<BadRecord>,
}

impl<'a, 's> Sink<'a, 's> {
    fn new(
        schema: &'s dyn Schema,
        options: &DecodeOptions,
        out: &'s mut Vec<Record<'a>>,
        bad: &'s mut Vec<BadRecord>,
    ) -> Self {
        Self {
            schema,
            left: options.max_records,
            bad_left: MAX_BAD_RECORDS + 1,
            out,
            bad,
        }
    }

    /// Counts a record, good or bad.
    fn count(&mut self) -> Result<(), DecodeError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or(DecodeError::Limit("records"))?;
        Ok(())
    }

    /// Adds what `typed` makes of a value and its defined type.
    fn add(
        &mut self,
        path: Path,
        time: Option<f64>,
        typed: impl FnOnce(Option<ResourceType>) -> Option<(Value<'a>, bool)>,
    ) -> Result<(), RecordError> {
        let (Some(object), Some(resource)) = (path.object(), path.resource()) else {
            return Err(RecordError::NoResource);
        };
        let kind = self.schema.resource(object, resource).and_then(|s| s.kind);
        let (value, inferred) = typed(kind).ok_or(RecordError::NoValue)?;
        self.out.push(Record {
            path,
            value,
            time,
            inferred,
        });
        Ok(())
    }

    /// Notes a record that cannot be read. `path` is only asked for its name where that is kept.
    fn refuse(&mut self, path: impl FnOnce() -> String, reason: RecordError) {
        let (path, reason) = match self.bad_left.checked_sub(1) {
            None => return,
            Some(0) => (String::new(), RecordError::More),
            Some(_) => (path(), reason),
        };
        self.bad_left -= 1;
        self.bad.push(BadRecord { path, reason });
    }
}

/// Writes `items` as the payload of a Write or Create to `base`, or of a Write-Composite, which has
/// the root as its base. Of several items with the same path the last one counts, at its own
/// place.
///
/// # Errors
///
/// [`EncodeError::OutsideBase`] for an item that is not at or below `base`,
/// [`EncodeError::Unsuitable`] for what the format cannot carry and
/// [`EncodeError::Unsupported`] for a format without a codec.
pub fn encode(
    format: ContentFormat,
    base: &Path,
    items: &[WriteItem],
) -> Result<Vec<u8>, EncodeError> {
    match format {
        ContentFormat::TEXT | ContentFormat::OLD_TEXT => text::encode(base, items),
        ContentFormat::OPAQUE => opaque::encode(base, items),
        ContentFormat::CBOR => cbor::encode(base, items),
        ContentFormat::SENML_JSON | ContentFormat::SENML_ETCH_JSON => {
            senml_json::encode(base, items)
        }
        ContentFormat::SENML_CBOR | ContentFormat::SENML_ETCH_CBOR => {
            senml_cbor::encode(base, items)
        }
        ContentFormat::TLV | ContentFormat::OLD_TLV => tlv::encode(base, items),
        ContentFormat::JSON | ContentFormat::OLD_JSON => json::encode(base, items),
        ContentFormat::LWM2M_CBOR => lwm2m_cbor::encode(base, items),
        ContentFormat(number) => Err(EncodeError::Unsupported(number)),
    }
}

/// Writes the paths of a Read-Composite or Observe-Composite (LwM2M Core 1.2 §6.3.8 and §6.4.4).
///
/// # Errors
///
/// [`EncodeError::Unsupported`] for a format that cannot list paths, [`EncodeError::Unsuitable`]
/// for the root in LwM2M-CBOR.
pub fn encode_paths(format: ContentFormat, paths: &[Path]) -> Result<Vec<u8>, EncodeError> {
    match format {
        ContentFormat::SENML_JSON | ContentFormat::SENML_ETCH_JSON => {
            senml_json::encode_paths(paths)
        }
        ContentFormat::SENML_CBOR | ContentFormat::SENML_ETCH_CBOR => {
            Ok(senml_cbor::encode_paths(paths))
        }
        ContentFormat::LWM2M_CBOR => lwm2m_cbor::encode_paths(paths),
        ContentFormat(number) => Err(EncodeError::Unsupported(number)),
    }
}

/// The items that count: of several with the same path the last one, at its own place. Each is
/// checked to be a resource or resource instance at or below `base`.
fn effective_items<'i>(
    format: &'static str,
    base: &Path,
    items: &'i [WriteItem],
) -> Result<Vec<&'i WriteItem>, EncodeError> {
    for item in items {
        if !base.contains(&item.path) {
            return Err(EncodeError::OutsideBase {
                path: item.path.clone(),
                base: base.clone(),
            });
        }
        if item.path.depth() < 3 {
            return Err(EncodeError::Unsuitable {
                format,
                reason: "a value needs the path of a resource",
            });
        }
    }
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    let mut kept: Vec<&WriteItem> = items
        .iter()
        .rev()
        .filter(|item| seen.insert(&item.path))
        .collect();
    kept.reverse();
    Ok(kept)
}

/// The items by their id at `level` of the path, in order of first appearance.
fn groups<'i>(items: &[&'i WriteItem], level: usize) -> Vec<(u16, Vec<&'i WriteItem>)> {
    let mut order: HashMap<u16, usize> = HashMap::new();
    let mut groups: Vec<(u16, Vec<&WriteItem>)> = Vec::new();
    for item in items {
        let Some(id) = item.path.ids().get(level).copied() else {
            continue;
        };
        let index = *order.entry(id).or_insert(groups.len());
        match groups.get_mut(index) {
            Some((_, members)) => members.push(item),
            None => groups.push((id, vec![item])),
        }
    }
    groups
}

/// The one value of a format that carries no paths.
fn single_value<'i>(
    format: &'static str,
    base: &Path,
    items: &'i [WriteItem],
) -> Result<&'i Value<'static>, EncodeError> {
    match effective_items(format, base, items)?.as_slice() {
        [item] if item.path == *base => Ok(&item.value),
        _ => Err(EncodeError::Unsuitable {
            format,
            reason: "it holds exactly one value, that of the path written to",
        }),
    }
}

/// The best guess at bytes without a definition: text when they are printable UTF-8, a float when
/// they make an everyday one of 64 bits, a signed
/// integer when they are as long as one, else Opaque.
fn infer_bytes(bytes: &[u8]) -> Value<'_> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
    {
        return Value::String(Cow::Borrowed(text));
    }
    match plausible_float(bytes) {
        Some(number) => Value::Float(number),
        None => signed(bytes).map_or(Value::Opaque(Cow::Borrowed(bytes)), Value::Integer),
    }
}

/// Four or eight bytes that make an everyday floating-point number and, as an integer, a huge one:
/// devices send sensor values so, and hardly ever such integers. Unix times are no such floats.
fn plausible_float(bytes: &[u8]) -> Option<f64> {
    let integer = signed(bytes)?.unsigned_abs();
    let (number, ordinary, huge) = match *bytes {
        [a, b, c, d] => (
            f64::from(f32::from_be_bytes([a, b, c, d])),
            1e-3..1e7,
            1 << 24,
        ),
        [a, b, c, d, e, f, g, h] => (
            f64::from_be_bytes([a, b, c, d, e, f, g, h]),
            1e-9..1e15,
            1 << 53,
        ),
        _ => return None,
    };
    (ordinary.contains(&number.abs()) && integer > huge).then_some(number)
}

/// A big-endian signed integer of 1, 2, 4 or 8 bytes.
fn signed(bytes: &[u8]) -> Option<i64> {
    Some(match *bytes {
        [a] => i64::from(i8::from_be_bytes([a])),
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => return None,
    })
}

/// `object:instance`, as text formats write an object link.
fn parse_object_link(text: &str) -> Option<Value<'static>> {
    let (object, instance) = text.split_once(':')?;
    Some(Value::ObjectLink {
        object: object.parse().ok()?,
        instance: instance.parse().ok()?,
    })
}

/// Base64 in the standard or the URL alphabet, padded or not.
fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}
