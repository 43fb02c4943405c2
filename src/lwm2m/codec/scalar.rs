//! Single values as JSON and CBOR write them, and their LwM2M types.

use std::borrow::Cow;

use super::date::parse_date;
use super::forms::{object_link, parse_base64, parse_object_link};
use super::text;
use crate::lwm2m::{ResourceType, Value};

/// A number. Whole numbers never pass through floating point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// A whole number of up to 65 bits.
    Whole(i128),
    /// Any other.
    Real(f64),
}

impl Number {
    /// The nearest float.
    pub(super) fn as_f64(self) -> f64 {
        match self {
            // The short way for nearly all: 128 bits are converted in software.
            Self::Whole(number) => {
                i64::try_from(number).map_or_else(|_| number as f64, |number| number as f64)
            }
            Self::Real(number) => number,
        }
    }

    /// The sum; whole when both are.
    pub(super) fn plus(self, other: Self) -> Self {
        if let (Self::Whole(a), Self::Whole(b)) = (self, other)
            && let Some(sum) = a.checked_add(b)
        {
            return Self::Whole(sum);
        }
        Self::Real(self.as_f64() + other.as_f64())
    }

    /// The number when it is whole, however it was written.
    fn whole(self) -> Option<i128> {
        // Up to this bound every whole float is an i128.
        const BOUND: f64 = 1e38;
        match self {
            Self::Whole(number) => Some(number),
            Self::Real(number) if number.fract() == 0.0 && number.abs() < BOUND => {
                Some(number as i128)
            }
            Self::Real(_) => None,
        }
    }

    fn as_i64(self) -> Option<i64> {
        i64::try_from(self.whole()?).ok()
    }

    fn typed(self, kind: ResourceType) -> Option<Value<'static>> {
        match kind {
            ResourceType::Integer => self.as_i64().map(Value::Integer),
            ResourceType::UnsignedInteger => u64::try_from(self.whole()?).ok().map(Value::Unsigned),
            ResourceType::Float => Some(Value::Float(self.as_f64())),
            ResourceType::Time => self.as_i64().map(Value::Time),
            ResourceType::Boolean => match self.whole()? {
                0 => Some(Value::Boolean(false)),
                1 => Some(Value::Boolean(true)),
                _ => None,
            },
            // Zephyr writes the four bytes of TLV as a number.
            ResourceType::ObjectLink => object_link(self.whole()?),
            _ => None,
        }
    }

    /// The value without a definition.
    fn plain(self) -> Value<'static> {
        let whole = match self {
            Self::Whole(number) => i64::try_from(number)
                .map(Value::Integer)
                .or_else(|_| u64::try_from(number).map(Value::Unsigned))
                .ok(),
            Self::Real(_) => None,
        };
        whole.unwrap_or_else(|| Value::Float(self.as_f64()))
    }
}

/// What a value can be in both notations.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar<'a> {
    Number(Number),
    Boolean(bool),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// Null, or something no resource has: an array, a map, a big number.
    None,
}

impl<'a> Scalar<'a> {
    /// The value with its defined type if it fits it, else as it is written and `true`. `None`
    /// when there is no value.
    pub(super) fn typed(self, kind: Option<ResourceType>) -> Option<(Value<'a>, bool)> {
        Some(match self {
            Self::Number(number) => match kind.and_then(|kind| number.typed(kind)) {
                Some(value) => (value, false),
                None => (number.plain(), true),
            },
            Self::Boolean(value) => (Value::Boolean(value), kind != Some(ResourceType::Boolean)),
            Self::Text(text) => typed_text(text, kind),
            Self::Bytes(bytes) => typed_bytes(bytes, kind),
            Self::None => return None,
        })
    }

    /// The value of a field for data, which JSON writes in base64.
    pub(super) fn typed_data(self, kind: Option<ResourceType>) -> Option<(Value<'a>, bool)> {
        match self {
            Self::Text(text) => match parse_base64(text.as_bytes()) {
                Some(bytes) => Self::Bytes(Cow::Owned(bytes)).typed(kind),
                None => None,
            },
            other => other.typed(kind),
        }
    }

    /// The value of a field for object links.
    pub(super) fn typed_link(self, kind: Option<ResourceType>) -> Option<(Value<'a>, bool)> {
        if let Self::Text(text) = &self
            && let Some(link) = parse_object_link(text)
        {
            return Some((link, kind != Some(ResourceType::ObjectLink)));
        }
        self.typed(kind)
    }
}

fn typed_text(text: Cow<'_, str>, kind: Option<ResourceType>) -> (Value<'_>, bool) {
    match kind {
        Some(ResourceType::String) => (Value::String(text), false),
        Some(ResourceType::CoreLink) => (Value::CoreLink(text), false),
        None | Some(ResourceType::Opaque) => (Value::String(text), true),
        Some(kind) => match parsed(&text, kind) {
            Some(value) => (value, false),
            None => (Value::String(text), true),
        },
    }
}

/// Anything but text, written as text.
fn parsed(text: &str, kind: ResourceType) -> Option<Value<'static>> {
    if matches!(kind, ResourceType::Boolean | ResourceType::ObjectLink) {
        return text::parse_as(kind, text).map(Value::into_owned);
    }
    if kind == ResourceType::Time
        && let Some(seconds) = parse_date(text)
    {
        return Some(Value::Time(seconds));
    }
    let text = text.trim();
    let number = match text.parse() {
        Ok(number) => Number::Whole(number),
        Err(_) => Number::Real(
            text.parse()
                .ok()
                .filter(|number: &f64| number.is_finite())?,
        ),
    };
    number.typed(kind)
}

fn typed_bytes(bytes: Cow<'_, [u8]>, kind: Option<ResourceType>) -> (Value<'_>, bool) {
    match kind {
        Some(ResourceType::String | ResourceType::CoreLink) => match utf8(bytes) {
            Ok(text) => typed_text(text, kind),
            Err(bytes) => (Value::Opaque(bytes), true),
        },
        Some(ResourceType::ObjectLink) if bytes.len() == 4 => {
            let number = bytes.iter().fold(0, |n, byte| n << 8 | i128::from(*byte));
            match object_link(number) {
                Some(link) => (link, false),
                None => (Value::Opaque(bytes), true),
            }
        }
        kind => (Value::Opaque(bytes), kind != Some(ResourceType::Opaque)),
    }
}

/// The bytes as text, or as they are.
pub(super) fn utf8(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Cow<'_, [u8]>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| Cow::Borrowed(bytes)),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|error| Cow::Owned(error.into_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: Number, kind: ResourceType) -> (Value<'static>, bool) {
        Scalar::Number(number).typed(Some(kind)).unwrap()
    }

    #[test]
    fn numbers_by_definition() {
        use Number::{Real, Whole};
        use ResourceType as T;
        for (written, kind, value, inferred) in [
            (Whole(5), T::Integer, Value::Integer(5), false),
            (Real(5.0), T::Integer, Value::Integer(5), false),
            (Real(5.5), T::Integer, Value::Float(5.5), true),
            (
                Whole(i128::from(u64::MAX)),
                T::Integer,
                Value::Unsigned(u64::MAX),
                true,
            ),
            (
                Whole(1 << 64),
                T::Integer,
                Value::Float(2f64.powi(64)),
                true,
            ),
            (
                Whole(i128::from(u64::MAX)),
                T::UnsignedInteger,
                Value::Unsigned(u64::MAX),
                false,
            ),
            (Whole(-1), T::UnsignedInteger, Value::Integer(-1), true),
            (Whole(100), T::Float, Value::Float(100.0), false),
            (
                Real(f64::INFINITY),
                T::Integer,
                Value::Float(f64::INFINITY),
                true,
            ),
            (Real(1e9), T::Time, Value::Time(1_000_000_000), false),
            (Whole(1), T::Boolean, Value::Boolean(true), false),
            (Whole(2), T::Boolean, Value::Integer(2), true),
            (Whole(2), T::String, Value::Integer(2), true),
        ] {
            assert_eq!(
                number(written, kind),
                (value, inferred),
                "{written:?} {kind}"
            );
        }
    }

    #[test]
    fn texts_and_bytes_by_definition() {
        use ResourceType as T;
        let link = Value::ObjectLink {
            object: 66,
            instance: 0,
        };
        let text = |text: &'static str| Scalar::Text(text.into());
        let bytes = |bytes: &'static [u8]| Scalar::Bytes(bytes.into());
        for (written, kind, value, inferred) in [
            (text("66:0"), Some(T::ObjectLink), link.clone(), false),
            (text("66:0"), None, Value::String("66:0".into()), true),
            (text("5"), Some(T::Integer), Value::Integer(5), false),
            (text("5"), Some(T::Float), Value::Float(5.0), false),
            (text("1"), Some(T::Boolean), Value::Boolean(true), false),
            (text("x"), Some(T::Integer), Value::String("x".into()), true),
            (
                text("AQ"),
                Some(T::Opaque),
                Value::String("AQ".into()),
                true,
            ),
            (
                bytes(b"a"),
                Some(T::String),
                Value::String("a".into()),
                false,
            ),
            (
                bytes(b"\xff"),
                Some(T::String),
                Value::Opaque(b"\xff".into()),
                true,
            ),
            (bytes(b"\xff"), None, Value::Opaque(b"\xff".into()), true),
        ] {
            let shown = format!("{written:?} {kind:?}");
            assert_eq!(written.typed(kind), Some((value, inferred)), "{shown}");
        }
        assert_eq!(text("66:0").typed_link(None), Some((link, true)));
        assert_eq!(
            text("66:x").typed_link(Some(T::ObjectLink)),
            Some((Value::String("66:x".into()), true))
        );
        assert_eq!(
            text("-_8").typed_data(Some(T::Opaque)),
            Some((Value::Opaque(b"\xfb\xff".into()), false))
        );
        assert_eq!(Scalar::None.typed(Some(T::Integer)), None);
    }

    #[test]
    fn a8_a10_times_and_links_in_every_form() {
        use ResourceType as T;
        let link = |object, instance| Value::ObjectLink { object, instance };
        let whole = |number| Scalar::Number(Number::Whole(number));
        let text = |text: &'static str| Scalar::Text(text.into());
        for (written, kind, value) in [
            (whole(-2_092_564_480), T::ObjectLink, link(33_606, 0)),
            (whole(2_202_402_816), T::ObjectLink, link(33_606, 0)),
            (whole(3 << 16), T::ObjectLink, link(3, 0)),
            (whole(-1), T::ObjectLink, link(65_535, 65_535)),
            (text("3:0\0"), T::ObjectLink, link(3, 0)),
            (
                Scalar::Bytes(b"\x00\x03\x00\x01"[..].into()),
                T::ObjectLink,
                link(3, 1),
            ),
            (
                text("2023-11-14T22:13:20+00:00"),
                T::Time,
                Value::Time(1_700_000_000),
            ),
            (text("1700000000"), T::Time, Value::Time(1_700_000_000)),
        ] {
            let shown = format!("{written:?} {kind:?}");
            assert_eq!(written.typed(Some(kind)), Some((value, false)), "{shown}");
        }
        let no_link = whole(1 << 32).typed(Some(T::ObjectLink));
        assert_eq!(no_link, Some((Value::Integer(1 << 32), true)));
    }

    #[test]
    fn sums_stay_whole() {
        let max = Number::Whole(i128::from(u64::MAX));
        assert_eq!(
            max.plus(Number::Whole(-1)),
            Number::Whole(i128::from(u64::MAX - 1))
        );
        assert_eq!(Number::Whole(1).plus(Number::Real(0.5)), Number::Real(1.5));
    }
}
