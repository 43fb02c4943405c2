//! Content formats (LwM2M Core 1.2 §7.4): bytes to and from [`Record`]s, one format a file.

use super::Path;
use super::operation::WriteItem;

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
mod date;
mod error;
mod format;
mod forms;
mod guess;
mod items;
mod missing;
mod record;
mod remembering;
mod scalar;
mod senml;
mod sink;
#[cfg(test)]
mod testing;

pub use error::{BadRecord, DecodeError, EncodeError, RecordError};
pub use format::ContentFormat;
pub use missing::missing_format;
#[cfg(feature = "internals")]
pub use record::NoSchema;
pub use record::{DecodeOptions, Record, ResourceSchema, Schema};
pub use remembering::{Guesses, Remembering};

/// Reads the payload of an answer to, or a notification of, `request` and appends its records to
/// `out`. Without a `format` it is that of [`missing_format`]. After an error `out` is as it was before.
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
#[cfg(feature = "internals")]
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
    let format = format.unwrap_or_else(|| missing_format(request, payload, schema));
    // An object or an instance of which there is nothing, whatever it is called.
    if payload.is_empty() && request.depth() < 3 && format.has_codec() {
        return Ok(());
    }
    let mut result = match format {
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
