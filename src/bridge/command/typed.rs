//! Typed values in commands.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::value::RawValue;

use crate::bridge::json::{is_number, string};
use crate::lwm2m::{ResourceType, Value};

/// Standard base64; padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A value in a command, before its type is applied.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// JSON text of a number.
    Number(&'a str),
    Boolean(bool),
    /// Bytes of `"encoding":"hex"` that are no UTF-8.
    Bytes(Vec<u8>),
}

impl<'a> Scalar<'a> {
    /// `None` for null, objects, arrays and, with `hex`, what is no hexadecimal string.
    pub(super) fn read(raw: &'a RawValue, hex: bool) -> Option<Self> {
        if hex {
            let bytes = decode_hex(&string(raw)?)?;
            return Some(match String::from_utf8(bytes) {
                Ok(text) => Self::Text(Cow::Owned(text)),
                Err(error) => Self::Bytes(error.into_bytes()),
            });
        }
        match raw.get() {
            "true" => Some(Self::Boolean(true)),
            "false" => Some(Self::Boolean(false)),
            text if is_number(raw) => Some(Self::Number(text)),
            _ => string(raw).map(Self::Text),
        }
    }

    /// The value as `kind`; `None` when it is none.
    pub(super) fn typed(self, kind: ResourceType) -> Option<Value<'static>> {
        match (self, kind) {
            // A String may hold any bytes on the wire, and bytes are written as they are.
            (Self::Bytes(bytes), ResourceType::String) => Some(Value::Opaque(Cow::Owned(bytes))),
            (Self::Bytes(_), _) => None,
            (Self::Boolean(value), ResourceType::Boolean) => Some(Value::Boolean(value)),
            (Self::Boolean(_), _) => None,
            // The digits would be taken for base64, or for a link.
            (
                Self::Number(_),
                ResourceType::Opaque | ResourceType::ObjectLink | ResourceType::CoreLink,
            ) => None,
            (Self::Number(text), kind) => from_text(text, kind),
            (Self::Text(text), kind) => from_text(&text, kind),
        }
    }

    /// The value by what JSON says of it, for commands without a `type`.
    pub(super) fn untyped(self) -> Option<Value<'static>> {
        Some(match self {
            Self::Text(text) => Value::String(Cow::Owned(text.into_owned())),
            Self::Boolean(value) => Value::Boolean(value),
            Self::Bytes(bytes) => Value::Opaque(Cow::Owned(bytes)),
            Self::Number(text) => {
                if let Ok(number) = text.parse() {
                    Value::Integer(number)
                } else if let Ok(number) = text.parse() {
                    Value::Unsigned(number)
                } else {
                    Value::Float(float(text)?)
                }
            }
        })
    }
}

/// A value of a guessed type as the type that the object definition states; `None` when that
/// cannot be done without loss.
pub fn coerce(value: &Value<'static>, kind: ResourceType) -> Option<Value<'static>> {
    if value.resource_type() == kind {
        return Some(value.clone());
    }
    match value {
        Value::String(text) => from_text(text, kind),
        Value::Integer(number) => from_number(&number.to_string(), kind),
        Value::Unsigned(number) => from_number(&number.to_string(), kind),
        Value::Float(number) => from_number(&number.to_string(), kind),
        Value::Opaque(bytes) if kind == ResourceType::String => {
            Some(Value::Opaque(Cow::Owned(bytes.to_vec())))
        }
        _ => None,
    }
}

fn from_number(text: &str, kind: ResourceType) -> Option<Value<'static>> {
    Scalar::Number(text).typed(kind)
}

fn from_text(text: &str, kind: ResourceType) -> Option<Value<'static>> {
    Some(match kind {
        ResourceType::String => Value::String(Cow::Owned(text.to_owned())),
        ResourceType::CoreLink => Value::CoreLink(Cow::Owned(text.to_owned())),
        ResourceType::Integer => Value::Integer(integer(text)?),
        ResourceType::Time => Value::Time(integer(text)?),
        ResourceType::UnsignedInteger => match text.parse() {
            Ok(number) => Value::Unsigned(number),
            Err(_) => Value::Unsigned(u64::try_from(integer(text)?).ok()?),
        },
        ResourceType::Float => Value::Float(float(text)?),
        ResourceType::Boolean => match text {
            "true" | "1" => Value::Boolean(true),
            "false" | "0" => Value::Boolean(false),
            _ => return None,
        },
        ResourceType::Opaque => Value::Opaque(Cow::Owned(BASE64.decode(text).ok()?)),
        ResourceType::ObjectLink => {
            let (object, instance) = text.split_once(':')?;
            Value::ObjectLink {
                object: number(object)?,
                instance: number(instance)?,
            }
        }
    })
}

/// Digits only: `parse` alone would take `+1`.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// An integer, or a float without a fraction that is exact as an integer (`1e3`, `5.0`).
fn integer(text: &str) -> Option<i64> {
    /// Floats are exact up to 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number = float(text)?;
    // The range check makes the conversion exact.
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// A finite decimal number; `parse` alone would take `inf` and `nan`.
fn float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ResourceType as T;

    fn typed(json: &'static str, kind: T) -> Option<Value<'static>> {
        Scalar::read(serde_json::from_str(json).unwrap(), false)?.typed(kind)
    }

    fn text(text: &str) -> Value<'static> {
        Value::String(Cow::Owned(text.to_owned()))
    }

    fn bytes(bytes: &[u8]) -> Value<'static> {
        Value::Opaque(Cow::Owned(bytes.to_vec()))
    }

    #[test]
    fn values_by_type() {
        let link = Value::ObjectLink {
            object: 3,
            instance: 0,
        };
        for (json, kind, value) in [
            ("12345", T::Integer, Value::Integer(12345)),
            ("\"12345\"", T::Integer, Value::Integer(12345)),
            ("-9223372036854775808", T::Integer, Value::Integer(i64::MIN)),
            ("1e3", T::Integer, Value::Integer(1000)),
            ("5.0", T::Time, Value::Time(5)),
            (
                "18446744073709551615",
                T::UnsignedInteger,
                Value::Unsigned(u64::MAX),
            ),
            ("12345", T::Float, Value::Float(12345.0)),
            ("\"1e3\"", T::Float, Value::Float(1000.0)),
            ("0.1", T::Float, Value::Float(0.1)),
            ("true", T::Boolean, Value::Boolean(true)),
            ("\"false\"", T::Boolean, Value::Boolean(false)),
            ("1", T::Boolean, Value::Boolean(true)),
            ("\"0\"", T::Boolean, Value::Boolean(false)),
            ("\"a\\nb\"", T::String, text("a\nb")),
            ("12", T::String, text("12")),
            ("\"AQI=\"", T::Opaque, bytes(&[1, 2])),
            ("\"AQI\"", T::Opaque, bytes(&[1, 2])),
            ("\"3:0\"", T::ObjectLink, link),
            ("\"</3>\"", T::CoreLink, Value::CoreLink("</3>".into())),
        ] {
            assert_eq!(typed(json, kind), Some(value), "{json} as {kind}");
        }
        for (json, kind) in [
            ("1.5", T::Integer),
            ("9223372036854775808", T::Integer),
            ("1e300", T::Integer),
            ("\"x\"", T::Integer),
            ("-1", T::UnsignedInteger),
            ("\"inf\"", T::Float),
            ("\"NaN\"", T::Float),
            ("1e999", T::Float),
            ("2", T::Boolean),
            ("\"yes\"", T::Boolean),
            ("true", T::String),
            ("true", T::Integer),
            ("5", T::Opaque),
            ("\"*\"", T::Opaque),
            ("\"3\"", T::ObjectLink),
            ("\"3:65536\"", T::ObjectLink),
            ("\"+3:0\"", T::ObjectLink),
            ("null", T::String),
            ("[1]", T::String),
            ("{}", T::String),
        ] {
            assert_eq!(typed(json, kind), None, "{json} as {kind}");
        }
    }

    #[test]
    fn hex_values() {
        let read = |json: &'static str| Scalar::read(serde_json::from_str(json).unwrap(), true);
        let hello = read("\"48656C6c6F\"").unwrap();
        assert_eq!(hello.clone().typed(T::String), Some(text("Hello")));
        let twelve = read("\"3132\"").unwrap();
        assert_eq!(twelve.typed(T::Integer), Some(Value::Integer(12)));
        let raw = read("\"00ff41\"").unwrap();
        assert_eq!(raw.typed(T::String), Some(bytes(&[0, 0xff, 0x41])));
        for bad in ["\"ZZ\"", "\"123\"", "12", "true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn guessed_types_yield_to_the_definition() {
        assert_eq!(
            coerce(&Value::Integer(5), T::Float),
            Some(Value::Float(5.0))
        );
        assert_eq!(coerce(&Value::Integer(5), T::Time), Some(Value::Time(5)));
        assert_eq!(coerce(&Value::Integer(-5), T::UnsignedInteger), None);
        assert_eq!(coerce(&Value::Float(1.5), T::Integer), None);
        assert_eq!(coerce(&text("AQI="), T::Opaque), Some(bytes(&[1, 2])));
        assert_eq!(coerce(&text("EMQ"), T::Integer), None);
        assert_eq!(coerce(&Value::Boolean(true), T::String), None);
    }
}
