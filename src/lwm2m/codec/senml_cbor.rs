//! `application/senml+cbor` and `application/senml-etch+cbor` (RFC 8428 §6, RFC 8790, LwM2M Core
//! 1.2 §7.4).

use ciborium_ll::Header;

use super::cbor_item::{Items, Reader, Writer};
use super::error::{BadRecord, DecodeError, EncodeError};
use super::record::{DecodeOptions, Record, Schema};
use super::senml::{Entry, Label, Pack, RawRecord, entries, requests};
use super::sink::Sink;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, Value};

const FORMAT: &str = "senml-cbor";

/// The fewest bytes of a record with a value.
const MIN_RECORD: usize = 4;

/// Appends the records of the payload to `out` and those that cannot be read to `bad`; an empty
/// payload has none.
///
/// # Errors
///
/// [`DecodeError::Malformed`] for anything but an array of maps, for bad base fields and for
/// fields that must be understood and are not; [`DecodeError::Limit`].
pub fn decode<'a>(
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
    bad: &mut Vec<BadRecord>,
) -> Result<(), DecodeError> {
    if payload.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(FORMAT, payload);
    let Header::Array(length) = reader.start()?.header else {
        return Err(reader.malformed("it is not an array"));
    };
    let possible = (reader.left() / MIN_RECORD).min(options.max_records);
    out.reserve(length.unwrap_or_default().min(possible));
    let sink = Sink::new(schema, options, out, bad);
    let mut pack = Pack::new(request, options.now, sink);
    let mut records = Items(length);
    while records.more(&mut reader) {
        let Header::Map(length) = reader.start()?.header else {
            return Err(reader.malformed("a record is not a map"));
        };
        let mut raw = RawRecord::default();
        let mut fields = Items(length);
        while fields.more(&mut reader) {
            match label(&mut reader)? {
                Label::Ignored => reader.skip()?,
                label => raw.set(FORMAT, label, reader.scalar()?)?,
            }
        }
        pack.record(raw)?;
    }
    reader.end()
}

fn label(reader: &mut Reader<'_>) -> Result<Label, DecodeError> {
    Ok(match reader.start()?.header {
        Header::Positive(number) => Label::from_number(false, number),
        Header::Negative(number) => Label::from_number(true, number),
        Header::Text(length) => Label::from_text(&reader.text(length)?),
        header => {
            reader.skip_rest(header)?;
            Label::Ignored
        }
    })
}

/// Writes the items with the base name `base`, or with full names where it is the root.
///
/// # Errors
///
/// [`EncodeError`] for items outside of `base`.
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    Ok(write(&entries(FORMAT, base, items)?))
}

/// Writes a request for the values of `paths`.
pub fn encode_paths(paths: &[Path]) -> Vec<u8> {
    write(&requests(paths))
}

fn write(entries: &[Entry<'_>]) -> Vec<u8> {
    const BASE_NAME: i64 = -2;
    const NAME: i64 = 0;
    let mut writer = Writer::default();
    writer.array(entries.len());
    for entry in entries {
        let fields = [
            entry.base_name.is_some(),
            entry.name.is_some(),
            entry.value.is_some(),
        ];
        writer.map(fields.into_iter().filter(|present| *present).count());
        if let Some(name) = &entry.base_name {
            writer.integer(BASE_NAME);
            writer.text(name);
        }
        if let Some(name) = &entry.name {
            writer.integer(NAME);
            writer.text(name);
        }
        if let Some(value) = entry.value {
            match value {
                Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) | Value::Time(_) => {
                    writer.integer(2);
                }
                Value::String(_) | Value::CoreLink(_) => writer.integer(3),
                Value::Boolean(_) => writer.integer(4),
                Value::Opaque(_) => writer.integer(8),
                Value::ObjectLink { .. } => writer.text("vlo"),
            }
            writer.value(value);
        }
    }
    writer.finish()
}
