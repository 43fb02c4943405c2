//! `application/vnd.oma.lwm2m+json` of LwM2M 1.0 (Core 1.0.2 §6.4.4).

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use super::error::{DecodeError, EncodeError};
use super::forms::{FIRST_ABSOLUTE_TIME, MAX_NAME, object_link, parse_base64, parse_object_link};
use super::items::effective_items;
use super::record::{DecodeOptions, MAX_RECORDS, Record, Schema};
use super::text;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

const FORMAT: &str = "json";

#[derive(Deserialize)]
struct Pack<'a> {
    #[serde(borrow)]
    bn: Option<Text<'a>>,
    bt: Option<f64>,
    #[serde(borrow)]
    e: Elements<'a>,
}

/// A string that borrows when it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow)]
    n: Option<Text<'a>>,
    t: Option<f64>,
    v: Option<Number>,
    bv: Option<bool>,
    #[serde(borrow)]
    ov: Option<Text<'a>>,
    #[serde(borrow)]
    sv: Option<Text<'a>>,
}

/// An array of elements that stops reading at [`MAX_RECORDS`], so that a small payload cannot
/// take much memory.
struct Elements<'a> {
    read: Vec<Element<'a>>,
    complete: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut read = Vec::new();
                while read.len() < MAX_RECORDS {
                    match seq.next_element()? {
                        Some(element) => read.push(element),
                        None => {
                            return Ok(Elements {
                                read,
                                complete: true,
                            });
                        }
                    }
                }
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Elements {
                    read,
                    complete: false,
                })
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// Appends the records of the payload.
///
/// A path is the base name and the name put together, with one slash between them unless the base
/// ends within an id; without a base
/// name it is the name, below the request unless it starts with a slash. The element's time `t`
/// counts from the base time `bt`. A number keeps the form the device gave it, as in
/// [`text::decode`]. A value that does not fit its definition is kept as it is written.
///
/// # Errors
///
/// [`DecodeError::Malformed`] for anything but such a JSON object, an element without a value and
/// a name that is no path; [`DecodeError::PathMismatch`] for a value of anything but a resource;
/// [`DecodeError::Limit`].
pub fn decode<'a>(
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
) -> Result<(), DecodeError> {
    let pack: Pack<'a> =
        serde_json::from_slice(payload).map_err(|error| malformed(error.to_string()))?;
    if !pack.e.complete || pack.e.read.len() > options.max_records {
        return Err(DecodeError::Limit("records"));
    }
    out.reserve(pack.e.read.len());
    let base = pack.bn.as_ref().map(|bn| &*bn.0);
    let mut full_name = String::new();
    for element in pack.e.read {
        let name = element.n.as_ref().map_or("", |n| &*n.0);
        let path = path_of(request, base, name, &mut full_name)?;
        let (Some(object), Some(resource)) = (path.object(), path.resource()) else {
            return Err(DecodeError::PathMismatch {
                format: FORMAT,
                path,
            });
        };
        let time = element
            .t
            .or(pack.bt)
            .and_then(|_| time_of(pack.bt, element.t, options.now));
        let kind = schema.resource(object, resource).and_then(|s| s.kind);
        let (value, inferred) =
            value_of(kind, element).ok_or_else(|| malformed(format!("no value at {path}")))?;
        out.push(Record {
            path,
            value,
            time,
            inferred,
        });
    }
    Ok(())
}

fn malformed(reason: String) -> DecodeError {
    DecodeError::Malformed {
        format: FORMAT,
        reason,
    }
}

fn path_of(
    request: &Path,
    base: Option<&str>,
    name: &str,
    full_name: &mut String,
) -> Result<Path, DecodeError> {
    full_name.clear();
    if let Some(base) = base
        && let Some(path) = as_text(request, base, name, full_name)
    {
        return Ok(path);
    }
    full_name.clear();
    match base {
        Some(base) => full_name.push_str(base.strip_suffix('/').unwrap_or(base)),
        None if name.starts_with('/') => {}
        None => {
            let _ = write!(full_name, "{request}");
            if full_name == "/" {
                full_name.clear();
            }
        }
    }
    if !name.is_empty() {
        full_name.push('/');
        full_name.push_str(name.strip_prefix('/').unwrap_or(name));
    }
    if full_name.len() > MAX_NAME {
        return Err(malformed("a name is too long".to_owned()));
    }
    full_name
        .parse()
        .map_err(|error| malformed(format!("{error}")))
}

/// The base name and the name put together as text, where the base ends within an id: `3/0/1` and
/// `1/0`. `None` where a slash was left out between them, which makes no path below the request.
fn as_text(request: &Path, base: &str, name: &str, full_name: &mut String) -> Option<Path> {
    let joint = base.ends_with('/') || name.starts_with('/') || base.is_empty() || name.is_empty();
    if joint || base.len() + name.len() > MAX_NAME {
        return None;
    }
    // A base that leads to what was asked for ends with an id.
    let leads = |path: Path| request.ids().starts_with(path.ids());
    if base.parse().is_ok_and(leads) {
        return None;
    }
    full_name.push_str(base);
    full_name.push_str(name);
    let path: Path = full_name.parse().ok()?;
    path.ids().starts_with(request.ids()).then_some(path)
}

fn time_of(base: Option<f64>, offset: Option<f64>, now: Option<f64>) -> Option<f64> {
    let time = base.unwrap_or(0.0) + offset.unwrap_or(0.0);
    if time >= FIRST_ABSOLUTE_TIME {
        Some(time)
    } else {
        now.map(|now| now + time)
    }
}

/// The value with its defined type if it fits it, else as it is written and `true`. `None` when
/// the element has no value.
fn value_of(kind: Option<ResourceType>, element: Element<'_>) -> Option<(Value<'_>, bool)> {
    if let Some(number) = element.v {
        let typed = kind.and_then(|kind| typed_number(kind, &number));
        let plain = || {
            number
                .as_i64()
                .map(Value::Integer)
                .or_else(|| number.as_u64().map(Value::Unsigned))
                .or_else(|| number.as_f64().map(Value::Float))
        };
        return match typed {
            Some(value) => Some((value, false)),
            None => plain().map(|value| (value, true)),
        };
    }
    if let Some(value) = element.bv {
        return Some((Value::Boolean(value), kind != Some(ResourceType::Boolean)));
    }
    if let Some(link) = element.ov {
        return Some(match parse_object_link(&link.0) {
            Some(value) => (value, kind != Some(ResourceType::ObjectLink)),
            None => (Value::String(link.0), true),
        });
    }
    let text = element.sv?.0;
    Some(match kind {
        Some(ResourceType::String) => (Value::String(text), false),
        Some(ResourceType::CoreLink) => (Value::CoreLink(text), false),
        Some(ResourceType::Opaque) => match parse_base64(text.as_bytes()) {
            Some(bytes) => (Value::Opaque(Cow::Owned(bytes)), false),
            None => (Value::String(text), true),
        },
        Some(kind) => match text::parse_as(kind, &text).map(Value::into_owned) {
            Some(value) => (value, false),
            None => (Value::String(text), true),
        },
        None => (Value::String(text), true),
    })
}

fn typed_number(kind: ResourceType, number: &Number) -> Option<Value<'static>> {
    match kind {
        ResourceType::Integer | ResourceType::Float => number
            .as_i64()
            .map(Value::Integer)
            .or_else(|| number.as_f64().map(Value::Float)),
        ResourceType::UnsignedInteger => number.as_u64().map(Value::Unsigned),
        ResourceType::Time => number.as_i64().map(Value::Time),
        ResourceType::Boolean => match number.as_u64()? {
            0 => Some(Value::Boolean(false)),
            1 => Some(Value::Boolean(true)),
            _ => None,
        },
        ResourceType::ObjectLink => object_link(number.as_i64()?.into()),
        _ => None,
    }
}

#[derive(Serialize)]
struct OutPack<'a> {
    bn: String,
    e: Vec<OutElement<'a>>,
}

#[derive(Serialize, Default)]
struct OutElement<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bv: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ov: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sv: Option<Cow<'a, str>>,
}

/// Writes the items below the base name `base`.
///
/// # Errors
///
/// [`EncodeError`] for items outside of `base` and for numbers JSON does not have (infinities).
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    let items = effective_items(FORMAT, base, items)?;
    // The value of the base itself stands below its parent: Wakaama wants a base that ends in a
    // slash, and a name.
    let at_base = items.iter().any(|item| item.path == *base);
    let depth = base.depth().saturating_sub(usize::from(at_base));
    let mut bn = base.truncated(depth).to_string();
    if !bn.ends_with('/') {
        bn.push('/');
    }
    let e = items
        .iter()
        .map(|item| {
            let below = item.path.ids().get(depth..).unwrap_or_default();
            let names: Vec<String> = below.iter().map(u16::to_string).collect();
            let mut element = element_of(&item.value)?;
            element.n = (!names.is_empty()).then(|| names.join("/"));
            Ok(element)
        })
        .collect::<Result<_, EncodeError>>()?;
    serde_json::to_vec(&OutPack { bn, e }).map_err(|_| EncodeError::Unsuitable {
        format: FORMAT,
        reason: "a value has no JSON form",
    })
}

fn element_of<'v>(value: &'v Value<'static>) -> Result<OutElement<'v>, EncodeError> {
    let mut element = OutElement::default();
    match value {
        Value::String(text) | Value::CoreLink(text) => element.sv = Some(Cow::Borrowed(text)),
        Value::Integer(number) | Value::Time(number) => element.v = Some((*number).into()),
        Value::Unsigned(number) => element.v = Some((*number).into()),
        Value::Float(number) => {
            let number = Number::from_f64(*number).ok_or(EncodeError::Unsuitable {
                format: FORMAT,
                reason: "JSON has no infinite numbers",
            })?;
            element.v = Some(number);
        }
        Value::Boolean(value) => element.bv = Some(*value),
        Value::Opaque(bytes) => {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            element.sv = Some(Cow::Owned(text));
        }
        Value::ObjectLink { object, instance } => element.ov = Some(format!("{object}:{instance}")),
    }
    Ok(element)
}

#[cfg(test)]
mod tests;
