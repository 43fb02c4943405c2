//! SenML records, whatever they are written in (RFC 8428, with the fields of LwM2M Core 1.2
//! §7.4).

use std::borrow::Cow;

use super::error::{DecodeError, EncodeError, RecordError};
use super::forms::{FIRST_ABSOLUTE_TIME, MAX_NAME};
use super::items::effective_items;
use super::scalar::{Number, Scalar};
use super::sink::Sink;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

/// The highest version of SenML there is (RFC 8428 §4.4).
const MAX_VERSION: f64 = 10.0;

/// A field of a record (RFC 8428 §4.1 to §4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    BaseName,
    BaseTime,
    BaseValue,
    BaseVersion,
    Name,
    Time,
    /// A number, a text or a boolean: their notation tells them apart.
    Value,
    DataValue,
    /// LwM2M Core 1.2 §7.4
    ObjectLink,
    /// Units, sums, update times, and whatever is not known.
    Ignored,
    /// Not known, but who does not know it must not go on.
    MustUnderstand,
}

impl Label {
    /// Labels as text.
    pub(super) fn from_text(label: &str) -> Self {
        match label {
            "bn" => Self::BaseName,
            "bt" => Self::BaseTime,
            "bv" => Self::BaseValue,
            "bver" => Self::BaseVersion,
            "n" => Self::Name,
            "t" => Self::Time,
            "v" | "vs" | "vb" => Self::Value,
            "vd" => Self::DataValue,
            "vlo" => Self::ObjectLink,
            label if label.ends_with('_') => Self::MustUnderstand,
            _ => Self::Ignored,
        }
    }

    /// Labels as CBOR has them (RFC 8428 §6): `number` is the argument of a positive, or of a
    /// negative, integer.
    pub(super) fn from_number(negative: bool, number: u64) -> Self {
        match (negative, number) {
            (true, 0) => Self::BaseVersion,
            (true, 1) => Self::BaseName,
            (true, 2) => Self::BaseTime,
            (true, 4) => Self::BaseValue,
            (false, 0) => Self::Name,
            (false, 2..=4) => Self::Value,
            (false, 6) => Self::Time,
            (false, 8) => Self::DataValue,
            _ => Self::Ignored,
        }
    }
}

/// A record as it is written.
#[derive(Default)]
pub(super) struct RawRecord<'a> {
    base_name: Option<Cow<'a, str>>,
    base_time: Option<f64>,
    base_value: Option<Number>,
    name: Option<Cow<'a, str>>,
    time: Option<f64>,
    value: Option<(Label, Scalar<'a>)>,
    fault: Option<RecordError>,
}

impl<'a> RawRecord<'a> {
    /// Takes a field. What is wrong with the record alone is kept for later, what is wrong with
    /// base fields, which later records depend on, is an error.
    pub(super) fn set(
        &mut self,
        format: &'static str,
        label: Label,
        scalar: Scalar<'a>,
    ) -> Result<(), DecodeError> {
        let twice = match label {
            Label::BaseName => match scalar {
                Scalar::Text(text) => self.base_name.replace(text).is_some(),
                _ => return Err(malformed(format, "a base name is not a string")),
            },
            Label::BaseTime => match scalar {
                Scalar::Number(time) if time.as_f64().is_finite() => {
                    self.base_time.replace(time.as_f64()).is_some()
                }
                _ => return Err(malformed(format, "a base time is not a finite number")),
            },
            Label::BaseValue => match scalar {
                Scalar::Number(number) => self.base_value.replace(number).is_some(),
                _ => return Err(malformed(format, "a base value is not a number")),
            },
            Label::BaseVersion => match scalar {
                Scalar::Number(version) if version.as_f64() <= MAX_VERSION => false,
                _ => return Err(malformed(format, "an unknown version of SenML")),
            },
            Label::MustUnderstand => {
                return Err(malformed(
                    format,
                    "an unknown field that must be understood",
                ));
            }
            Label::Ignored => false,
            Label::Name => {
                match scalar {
                    Scalar::Text(text) if self.name.is_none() => self.name = Some(text),
                    Scalar::Text(_) => self.fault = Some(RecordError::Repeated),
                    _ => self.fault = Some(RecordError::Name),
                }
                return Ok(());
            }
            Label::Time => {
                match scalar {
                    Scalar::Number(time) if self.time.is_none() => self.time = Some(time.as_f64()),
                    Scalar::Number(_) => self.fault = Some(RecordError::Repeated),
                    _ => self.fault = Some(RecordError::Time),
                }
                return Ok(());
            }
            Label::Value | Label::DataValue | Label::ObjectLink => {
                if self.value.replace((label, scalar)).is_some() {
                    self.fault = Some(RecordError::Repeated);
                }
                return Ok(());
            }
        };
        if twice {
            return Err(malformed(format, "a base field occurs twice in a record"));
        }
        Ok(())
    }

    /// Whether it only sets what later records start from.
    fn is_base(&self) -> bool {
        self.name.is_none()
            && self.time.is_none()
            && self.value.is_none()
            && self.fault.is_none()
            && (self.base_name.is_some() || self.base_time.is_some() || self.base_value.is_some())
    }
}

pub(super) fn malformed(format: &'static str, reason: &str) -> DecodeError {
    DecodeError::Malformed {
        format,
        reason: reason.to_owned(),
    }
}

/// The records of a pack, resolved one after the other (RFC 8428 §4.6).
pub(super) struct Pack<'a, 's> {
    sink: Sink<'a, 's>,
    request: &'s Path,
    now: Option<f64>,
    base_name: Cow<'a, str>,
    base_time: Option<f64>,
    base_value: Option<Number>,
    joined: String,
}

impl<'a, 's> Pack<'a, 's> {
    pub(super) fn new(request: &'s Path, now: Option<f64>, sink: Sink<'a, 's>) -> Self {
        Self {
            sink,
            request,
            now,
            base_name: Cow::Borrowed(""),
            base_time: None,
            base_value: None,
            joined: String::new(),
        }
    }

    /// Resolves a record and takes it, or notes why it cannot be taken.
    pub(super) fn record(&mut self, raw: RawRecord<'a>) -> Result<(), DecodeError> {
        self.sink.count()?;
        let is_base = raw.is_base();
        if let Some(name) = raw.base_name {
            self.base_name = name;
        }
        self.base_time = raw.base_time.or(self.base_time);
        self.base_value = raw.base_value.or(self.base_value);
        if is_base {
            return Ok(());
        }
        let name = raw.name.as_deref().unwrap_or_default();
        let full_name = join(&self.base_name, name, &mut self.joined);
        let result = match raw.fault {
            Some(fault) => Err(fault),
            None => path_of(full_name, self.request).and_then(|path| {
                let time = time_of(self.base_time, raw.time, self.now)?;
                let value = value_of(raw.value, self.base_value)?;
                Ok((path, time, value))
            }),
        };
        let result = result.and_then(|(path, time, (label, scalar))| {
            self.sink.add(path, time, |kind| typed(label, scalar, kind))
        });
        if let Err(error) = result {
            self.sink.refuse(|| shown(full_name), error);
        }
        Ok(())
    }
}

/// The base name and the name put together, as much as a path can have of it.
fn join<'n>(base: &'n str, name: &'n str, joined: &'n mut String) -> &'n str {
    if base.is_empty() {
        return name;
    }
    if name.is_empty() {
        return base;
    }
    joined.clear();
    // One byte more than a name may have says that it is too long.
    joined.push_str(start(base, MAX_NAME + 4));
    joined.push_str(name);
    joined
}

/// Neither a base name nor a name says what was asked for.
fn path_of(full_name: &str, request: &Path) -> Result<Path, RecordError> {
    if full_name.is_empty() {
        return Ok(request.clone());
    }
    if full_name.len() > MAX_NAME {
        return Err(RecordError::LongName);
    }
    Ok(full_name.parse()?)
}

/// As much of a name as is worth reporting.
fn shown(name: &str) -> String {
    start(name, MAX_NAME).to_owned()
}

/// At most the first `length` bytes, whole characters.
fn start(text: &str, length: usize) -> &str {
    text.get(..text.floor_char_boundary(length))
        .unwrap_or_default()
}

/// RFC 8428 §4.5.3. A record without any time has none, though strictly it is of now.
fn time_of(
    base: Option<f64>,
    time: Option<f64>,
    now: Option<f64>,
) -> Result<Option<f64>, RecordError> {
    if base.is_none() && time.is_none() {
        return Ok(None);
    }
    let sum = base.unwrap_or_default() + time.unwrap_or_default();
    if !sum.is_finite() {
        return Err(RecordError::Time);
    }
    Ok(if sum >= FIRST_ABSOLUTE_TIME {
        Some(sum)
    } else {
        now.map(|now| now + sum)
    })
}

/// The base value counts for numbers, and alone where there is no value (RFC 8428 §4.5.4).
fn value_of<'a>(
    value: Option<(Label, Scalar<'a>)>,
    base: Option<Number>,
) -> Result<(Label, Scalar<'a>), RecordError> {
    match (value, base) {
        (Some((label, Scalar::Number(number))), Some(base)) => {
            Ok((label, Scalar::Number(number.plus(base))))
        }
        (Some(value), _) => Ok(value),
        (None, Some(base)) => Ok((Label::Value, Scalar::Number(base))),
        (None, None) => Err(RecordError::NoValue),
    }
}

fn typed<'a>(
    label: Label,
    scalar: Scalar<'a>,
    kind: Option<ResourceType>,
) -> Option<(Value<'a>, bool)> {
    match label {
        Label::DataValue => scalar.typed_data(kind),
        Label::ObjectLink => scalar.typed_link(kind),
        _ => scalar.typed(kind),
    }
}

/// A record to be written.
pub(super) struct Entry<'i> {
    pub(super) base_name: Option<String>,
    pub(super) name: Option<String>,
    /// `None` in a request for values.
    pub(super) value: Option<&'i Value<'static>>,
}

/// The records of a write to `base`: its path as the base name of the first, the rest of the paths
/// as names. Records of a composite write have full names.
pub(super) fn entries<'i>(
    format: &'static str,
    base: &Path,
    items: &'i [WriteItem],
) -> Result<Vec<Entry<'i>>, EncodeError> {
    let items = effective_items(format, base, items)?;
    let composite = base.depth() == 0;
    let entries = items.into_iter().enumerate().map(|(index, item)| {
        let at_base = item.path == *base;
        let base_name = (index == 0 && !composite).then(|| match at_base {
            true => base.to_string(),
            false => format!("{base}/"),
        });
        let name = if composite {
            Some(item.path.to_string())
        } else if at_base {
            None
        } else {
            let below = item.path.ids().get(base.depth()..).unwrap_or_default();
            let ids: Vec<String> = below.iter().map(u16::to_string).collect();
            Some(ids.join("/"))
        };
        Entry {
            base_name,
            name,
            value: Some(&item.value),
        }
    });
    Ok(entries.collect())
}

/// The records of a request for the values of `paths`.
pub(super) fn requests(paths: &[Path]) -> Vec<Entry<'static>> {
    let request = |path: &Path| Entry {
        base_name: None,
        name: Some(path.to_string()),
        value: None,
    };
    paths.iter().map(request).collect()
}

#[cfg(test)]
#[path = "senml_tests.rs"]
mod tests;
