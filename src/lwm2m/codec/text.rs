//! `text/plain`: one value as text (LwM2M Core 1.2 §7.4.1 and Appendix C).

use std::borrow::Cow;

use base64::Engine as _;

use super::date::parse_date;
use super::error::{DecodeError, EncodeError};
use super::forms::{parse_base64, parse_object_link};
use super::guess::Guess;
use super::items::single_value;
use super::record::{DecodeOptions, Record, Schema};
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

const FORMAT: &str = "text";

/// Appends the one value of the payload.
///
/// A number keeps the form the device gave it: `100` of a Float resource is an integer, `95.5` of
/// an Integer resource a float, which is what applications of EMQX see. Without a definition a
/// JSON number is taken as a number and everything else as text.
///
/// # Errors
///
/// [`DecodeError::PathMismatch`] when the request was not for a resource,
/// [`DecodeError::BadValue`] for text that does not fit the defined type.
pub fn decode<'a>(
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
) -> Result<(), DecodeError> {
    let (Some(object), Some(resource)) = (request.object(), request.resource()) else {
        return Err(DecodeError::PathMismatch {
            format: FORMAT,
            path: request.clone(),
        });
    };
    let kind = schema.resource(object, resource).and_then(|s| s.kind);
    let (value, inferred) = match kind {
        None => {
            let (value, shown) = infer(payload, schema.guess(object, resource));
            if let Some(shown) = shown {
                schema.guessed(object, resource, shown);
            }
            (value, true)
        }
        Some(ResourceType::Opaque) if options.text_opaque_raw => {
            (Value::Opaque(Cow::Borrowed(payload)), false)
        }
        Some(expected @ (ResourceType::String | ResourceType::CoreLink)) => {
            match std::str::from_utf8(payload) {
                Ok(text) if expected == ResourceType::String => {
                    (Value::String(Cow::Borrowed(text)), false)
                }
                Ok(text) => (Value::CoreLink(Cow::Borrowed(text)), false),
                Err(_) => (Value::Opaque(Cow::Borrowed(payload)), true),
            }
        }
        Some(expected) => {
            let value = std::str::from_utf8(payload)
                .ok()
                .and_then(|text| parse_as(expected, text))
                .ok_or_else(|| DecodeError::BadValue {
                    path: request.clone(),
                    expected,
                })?;
            (value, false)
        }
    };
    out.push(Record {
        path: request.clone(),
        value,
        time: None,
        inferred,
    });
    Ok(())
}

/// `text` as a value of type `expected`; white space around anything but text is ignored.
pub(super) fn parse_as<'a>(expected: ResourceType, text: &'a str) -> Option<Value<'a>> {
    let trimmed = text.trim();
    match expected {
        ResourceType::String => Some(Value::String(Cow::Borrowed(text))),
        ResourceType::CoreLink => Some(Value::CoreLink(Cow::Borrowed(text))),
        ResourceType::Integer => integer_or_float(trimmed),
        ResourceType::Float => match trimmed.parse() {
            Ok(number) => Some(Value::Integer(number)),
            Err(_) => trimmed.parse().ok().map(Value::Float),
        },
        ResourceType::UnsignedInteger => match trimmed.parse() {
            Ok(number) => Some(Value::Unsigned(number)),
            Err(_) => integer_or_float(trimmed),
        },
        ResourceType::Time => match trimmed.parse() {
            Ok(seconds) => Some(Value::Time(seconds)),
            Err(_) => parse_date(trimmed)
                .map(Value::Time)
                .or_else(|| finite_float(trimmed)),
        },
        ResourceType::Boolean => match trimmed {
            "1" | "true" => Some(Value::Boolean(true)),
            "0" | "false" => Some(Value::Boolean(false)),
            _ => None,
        },
        ResourceType::Opaque => {
            parse_base64(trimmed.as_bytes()).map(|bytes| Value::Opaque(Cow::Owned(bytes)))
        }
        ResourceType::ObjectLink => parse_object_link(trimmed),
    }
}

fn integer_or_float(text: &str) -> Option<Value<'static>> {
    match text.parse() {
        Ok(number) => Some(Value::Integer(number)),
        Err(_) => finite_float(text),
    }
}

fn finite_float(text: &str) -> Option<Value<'static>> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .map(Value::Float)
}

/// The value of a resource without a definition, and what it shows the resource to be. Only what
/// JSON takes for a number is one, so telephone numbers and serial numbers with a leading `+` or
/// `0` stay text. What is `known` to be text stays so; what is known to be a number does not become
/// text by a word in between.
fn infer(payload: &[u8], known: Option<Guess>) -> (Value<'_>, Option<Guess>) {
    let Ok(text) = std::str::from_utf8(payload) else {
        return (Value::Opaque(Cow::Borrowed(payload)), None);
    };
    let as_text = Value::String(Cow::Borrowed(text));
    match (known, number(text)) {
        (Some(Guess::Text | Guess::Opaque), _) => (as_text, None),
        (None, Some(number)) => (number, Some(Guess::Number)),
        (Some(_), Some(number)) => (number, None),
        // `nan` and the like are no words.
        (None, None) if !text.is_empty() && text.trim().parse::<f64>().is_err() => {
            (as_text, Some(Guess::Text))
        }
        (_, None) => (as_text, None),
    }
}

fn number(text: &str) -> Option<Value<'static>> {
    let numeric = text
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    if !numeric {
        return None;
    }
    let number = serde_json::from_str::<serde_json::Number>(text).ok()?;
    match number.as_i64() {
        Some(number) => Some(Value::Integer(number)),
        // More digits than an integer holds are a serial number, not a quantity.
        None if text.contains(['.', 'e', 'E']) => number.as_f64().map(Value::Float),
        None => None,
    }
}

/// Writes one value as text.
///
/// # Errors
///
/// [`EncodeError`] when there is not exactly one value at `base`.
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    Ok(match single_value(FORMAT, base, items)? {
        Value::String(text) | Value::CoreLink(text) => text.clone().into_owned(),
        Value::Integer(number) | Value::Time(number) => number.to_string(),
        Value::Unsigned(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(value) => u8::from(*value).to_string(),
        Value::Opaque(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
        Value::ObjectLink { object, instance } => format!("{object}:{instance}"),
    }
    .into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ResourceSchema;
    use super::*;

    struct Typed(Option<ResourceType>);

    impl Schema for Typed {
        fn resource(&self, _object: u16, _resource: u16) -> Option<ResourceSchema> {
            self.0.map(|kind| ResourceSchema {
                kind: Some(kind),
                multiple: false,
            })
        }
    }

    fn read(kind: Option<ResourceType>, text: &[u8]) -> Option<(Value<'_>, bool)> {
        let path = "/1/0/2".parse().unwrap();
        let mut out = Vec::new();
        decode(
            &path,
            text,
            &Typed(kind),
            &DecodeOptions::default(),
            &mut out,
        )
        .ok()?;
        let record = out.pop()?;
        assert_eq!(record.path, path);
        Some((record.value, record.inferred))
    }

    #[test]
    fn values_by_definition() {
        use ResourceType as T;
        let opaque = |bytes: &'static [u8]| Value::Opaque(Cow::Borrowed(bytes));
        for (kind, text, expected) in [
            (T::String, "1", Some(Value::String("1".into()))),
            (T::Integer, "-5", Some(Value::Integer(-5))),
            (T::Integer, "95.5", Some(Value::Float(95.5))),
            (T::Integer, "inf", None),
            (T::Integer, "x", None),
            (T::Integer, "", None),
            (T::Float, "1e3", Some(Value::Float(1000.0))),
            (T::Float, "100", Some(Value::Integer(100))),
            (
                T::UnsignedInteger,
                "18446744073709551615",
                Some(Value::Unsigned(u64::MAX)),
            ),
            (T::Boolean, "1", Some(Value::Boolean(true))),
            (T::Boolean, "false", Some(Value::Boolean(false))),
            (T::Boolean, "2", None),
            (T::Time, "1367491215\n", Some(Value::Time(1_367_491_215))),
            (
                T::ObjectLink,
                "66:0",
                Some(Value::ObjectLink {
                    object: 66,
                    instance: 0,
                }),
            ),
            (T::ObjectLink, "66:65536", None),
            (T::Opaque, "AP8=", Some(opaque(b"\x00\xff"))),
            (T::Opaque, "AP8", Some(opaque(b"\x00\xff"))),
            (T::Opaque, "-_-_", Some(opaque(b"\xfb\xff\xbf"))),
            (T::Opaque, "!", None),
            (T::CoreLink, "</3>", Some(Value::CoreLink("</3>".into()))),
        ] {
            let seen = read(Some(kind), text.as_bytes());
            assert_eq!(
                seen,
                expected.map(|value| (value, false)),
                "{kind} {text:?}"
            );
        }
        assert_eq!(
            read(Some(T::String), b"\xff"),
            Some((opaque(b"\xff"), true))
        );
    }

    #[test]
    fn guesses_without_a_definition() {
        for (text, expected) in [
            ("-300", Value::Integer(-300)),
            ("-2.5", Value::Float(-2.5)),
            ("+48123456789", Value::String("+48123456789".into())),
            ("007", Value::String("007".into())),
            ("1.2.3", Value::String("1.2.3".into())),
            (
                "89480000000000000000",
                Value::String("89480000000000000000".into()),
            ),
            ("true", Value::String("true".into())),
            ("", Value::String("".into())),
        ] {
            assert_eq!(
                read(None, text.as_bytes()),
                Some((expected, true)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn b9_the_type_of_a_resource_does_not_flip() {
        let series = |texts: &[&'static str]| {
            let mut known = None;
            let values = texts.iter().map(|text| {
                let (value, shown) = infer(text.as_bytes(), known);
                known = shown.or(known);
                value
            });
            values.collect::<Vec<_>>()
        };
        let texts = series(&["v1", "10", "-2.5"]);
        assert!(texts.iter().all(|value| matches!(value, Value::String(_))));
        let numbers = series(&["nan", "", "21.5", "off", "22"]);
        assert_eq!(numbers[2], Value::Float(21.5));
        assert_eq!(numbers[4], Value::Integer(22));
    }

    #[test]
    fn a8_dates() {
        assert_eq!(
            read(Some(ResourceType::Time), b"2023-11-14T22:13:20Z"),
            Some((Value::Time(1_700_000_000), false))
        );
        assert_eq!(read(Some(ResourceType::Time), b"yesterday"), None);
    }

    #[test]
    fn opaque_as_emqx_has_it() {
        let options = DecodeOptions {
            text_opaque_raw: true,
            ..DecodeOptions::default()
        };
        let mut out = Vec::new();
        let schema = Typed(Some(ResourceType::Opaque));
        decode(
            &"/5/0/0".parse().unwrap(),
            b"AQID",
            &schema,
            &options,
            &mut out,
        )
        .unwrap();
        assert_eq!(out[0].value, Value::Opaque(Cow::Borrowed(b"AQID")));
    }

    #[test]
    fn only_resources_have_a_text() {
        let mut out = Vec::new();
        let result = decode(
            &"/3/0".parse().unwrap(),
            b"x",
            &Typed(None),
            &DecodeOptions::default(),
            &mut out,
        );
        assert!(matches!(result, Err(DecodeError::PathMismatch { .. })));
    }

    fn any_value() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![
            ".*".prop_map(|text| Value::String(text.into())),
            any::<i64>().prop_map(Value::Integer),
            any::<i64>().prop_map(Value::Time),
            any::<u64>().prop_map(Value::Unsigned),
            // Whole numbers come back as integers.
            (-1e9..1e9).prop_filter_map("whole", |number: f64| {
                (number.fract() != 0.0).then_some(Value::Float(number))
            }),
            any::<bool>().prop_map(Value::Boolean),
            any::<Vec<u8>>().prop_map(|bytes| Value::Opaque(bytes.into())),
            any::<(u16, u16)>()
                .prop_map(|(object, instance)| Value::ObjectLink { object, instance }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(value in any_value()) {
            let path: Path = "/1/0/2".parse().unwrap();
            let kind = value.resource_type();
            let items = [WriteItem { path: path.clone(), value }];
            let bytes = encode(&path, &items).unwrap();
            prop_assert_eq!(read(Some(kind), &bytes), Some((items[0].value.clone(), false)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(kind in 0..10_usize, payload: Vec<u8>) {
            use ResourceType as T;
            let kinds = [
                T::String, T::Integer, T::UnsignedInteger, T::Float, T::Boolean, T::Opaque,
                T::Time, T::ObjectLink, T::CoreLink,
            ];
            let _ = read(kinds.get(kind).copied(), &payload);
        }
    }
}
