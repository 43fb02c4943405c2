//! `application/senml+json` and `application/senml-etch+json` (RFC 8428 §5, RFC 8790, LwM2M Core
//! 1.2 §7.4).

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::{BadRecord, DecodeError, EncodeError};
use super::record::{DecodeOptions, Record, Schema};
use super::scalar::{Number, Scalar};
use super::senml::{Entry, Label, Pack, RawRecord, entries, malformed, requests};
use super::sink::Sink;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, Value};

const FORMAT: &str = "senml-json";

/// Appends the records of the payload to `out` and those that cannot be read to `bad`; an empty
/// payload has none. Data is taken in any base64.
///
/// # Errors
///
/// [`DecodeError::Malformed`] for anything but an array of objects, for bad base fields and for
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
    let sink = Sink::new(schema, options, out, bad);
    let mut reader = PackReader {
        pack: Pack::new(request, options.now, sink),
        failure: None,
    };
    let mut json = serde_json::Deserializer::from_slice(payload);
    json.deserialize_seq(&mut reader)
        .and_then(|()| json.end())
        .map_err(|error| match reader.failure.take() {
            Some(failure) => failure,
            None => malformed(FORMAT, &error.to_string()),
        })
}

/// Resolves records while they are read, so that none is kept as it is written.
struct PackReader<'a, 's> {
    pack: Pack<'a, 's>,
    /// Why reading stopped, if it was not for the JSON.
    failure: Option<DecodeError>,
}

impl PackReader<'_, '_> {
    fn stop<E: de::Error>(&mut self, failure: DecodeError) -> E {
        self.failure = Some(failure);
        E::custom("")
    }
}

impl<'de> Visitor<'de> for &mut PackReader<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(RecordReader(&mut *self))?.is_some() {}
        Ok(())
    }
}

struct RecordReader<'r, 'a, 's>(&'r mut PackReader<'a, 's>);

impl<'de> DeserializeSeed<'de> for RecordReader<'_, 'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RecordReader<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut raw = RawRecord::default();
        while let Some(label) = map.next_key()? {
            if label == Label::Ignored {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let scalar = map.next_value()?;
            raw.set(FORMAT, label, scalar)
                .map_err(|failure| self.0.stop(failure))?;
        }
        let taken = self.0.pack.record(raw);
        taken.map_err(|failure| self.0.stop(failure))
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelReader;
        impl Visitor<'_> for LabelReader {
            type Value = Label;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label")
            }

            fn visit_str<E: de::Error>(self, label: &str) -> Result<Label, E> {
                Ok(Label::from_text(label))
            }
        }
        deserializer.deserialize_str(LabelReader)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarReader)
    }
}

struct ScalarReader;

impl<'de> Visitor<'de> for ScalarReader {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Boolean(value))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(Number::Whole(number.into())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(Number::Whole(number.into())))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(Number::Real(number)))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::None)
    }
}

#[derive(Serialize, Default)]
struct OutRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vs: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vb: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlo: Option<String>,
}

/// Writes the items with the base name `base`, or with full names where it is the root.
///
/// # Errors
///
/// [`EncodeError`] for items outside of `base` and for numbers JSON does not have (infinities).
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    write(&entries(FORMAT, base, items)?)
}

/// Writes a request for the values of `paths`.
///
/// # Errors
///
/// None in practice: paths are always text.
pub fn encode_paths(paths: &[Path]) -> Result<Vec<u8>, EncodeError> {
    write(&requests(paths))
}

fn write(entries: &[Entry<'_>]) -> Result<Vec<u8>, EncodeError> {
    let records = entries
        .iter()
        .map(out_record)
        .collect::<Result<Vec<_>, _>>()?;
    serde_json::to_vec(&records).map_err(|_| EncodeError::Unsuitable {
        format: FORMAT,
        reason: "a value has no JSON form",
    })
}

fn out_record<'e>(entry: &'e Entry<'_>) -> Result<OutRecord<'e>, EncodeError> {
    let mut record = OutRecord {
        bn: entry.base_name.as_deref(),
        n: entry.name.as_deref(),
        ..OutRecord::default()
    };
    match entry.value {
        None => {}
        Some(Value::String(text) | Value::CoreLink(text)) => record.vs = Some(text),
        Some(Value::Integer(number) | Value::Time(number)) => record.v = Some((*number).into()),
        Some(Value::Unsigned(number)) => record.v = Some((*number).into()),
        Some(Value::Float(number)) => {
            let number = serde_json::Number::from_f64(*number);
            record.v = Some(number.ok_or(EncodeError::Unsuitable {
                format: FORMAT,
                reason: "JSON has no infinite numbers",
            })?);
        }
        Some(Value::Boolean(value)) => record.vb = Some(*value),
        Some(Value::Opaque(bytes)) => record.vd = Some(URL_SAFE_NO_PAD.encode(bytes)),
        Some(Value::ObjectLink { object, instance }) => {
            record.vlo = Some(format!("{object}:{instance}"));
        }
    }
    Ok(record)
}
