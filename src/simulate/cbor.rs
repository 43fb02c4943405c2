//! CBOR as a device writes and reads it (RFC 8949), apart from the gateway's own.

use super::objects::Value;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 8;

/// One item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Value(Value),
    Array(Vec<Self>),
    /// Keys and values, in their order.
    Map(Vec<(Self, Self)>),
    Null,
}

/// Starts an item of a major type with its number: a value, a length or a count.
pub(super) fn head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    let bytes = number.to_be_bytes();
    let (more, length) = match number {
        0..=23 => {
            out.push(major | bytes[7]);
            return;
        }
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major | more);
    out.extend(bytes.iter().skip(8 - length));
}

/// Writes one value.
pub(super) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Integer(number) if *number < 0 => head(out, 1, !number.cast_unsigned()),
        Value::Integer(number) => head(out, 0, number.cast_unsigned()),
        Value::Float(number) => {
            out.push(0xfb);
            out.extend(number.to_be_bytes());
        }
        Value::Boolean(flag) => out.push(0xf4 | u8::from(*flag)),
        Value::Text(text) => {
            head(out, 3, text.len() as u64);
            out.extend(text.as_bytes());
        }
        Value::Opaque(bytes) => {
            head(out, 2, bytes.len() as u64);
            out.extend(bytes);
        }
    }
}

/// The one item that the bytes are; `None` when they are not well-formed or of a form that devices
/// have no use for (lengths that are not told in advance).
pub(super) fn read(mut bytes: &[u8]) -> Option<Item> {
    let item = item(&mut bytes, 0)?;
    bytes.is_empty().then_some(item)
}

fn item(rest: &mut &[u8], depth: usize) -> Option<Item> {
    if depth > MAX_DEPTH {
        return None;
    }
    let first = *take(rest, 1)?.first()?;
    let (major, low) = (first >> 5, first & 0x1f);
    let width = match low {
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        28.. => return None,
        _ => 0,
    };
    let bytes = take(rest, width)?;
    let number = match width {
        0 => u64::from(low),
        _ => bytes.iter().fold(0, |sum, b| (sum << 8) | u64::from(*b)),
    };
    Some(match major {
        0 => Item::Value(Value::Integer(number.try_into().ok()?)),
        1 => Item::Value(Value::Integer(!i64::try_from(number).ok()?)),
        2 => Item::Value(Value::Opaque(take(rest, number.try_into().ok()?)?.to_vec())),
        3 => {
            let text = take(rest, number.try_into().ok()?)?;
            Item::Value(Value::Text(String::from_utf8(text.to_vec()).ok()?))
        }
        4 => Item::Array(
            (0..number)
                .map(|_| item(rest, depth + 1))
                .collect::<Option<_>>()?,
        ),
        5 => Item::Map(
            (0..number)
                .map(|_| Some((item(rest, depth + 1)?, item(rest, depth + 1)?)))
                .collect::<Option<_>>()?,
        ),
        // A tag says what a number is; a device knows that.
        6 => item(rest, depth + 1)?,
        _ => match low {
            20 => Item::Value(Value::Boolean(false)),
            21 => Item::Value(Value::Boolean(true)),
            22 | 23 => Item::Null,
            25 => Item::Value(Value::Float(half(u16::try_from(number).ok()?))),
            26 => Item::Value(Value::Float(f64::from(f32::from_bits(
                u32::try_from(number).ok()?,
            )))),
            27 => Item::Value(Value::Float(f64::from_bits(number))),
            _ => return None,
        },
    })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

/// A float of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let exponent = i32::from((bits >> 10) & 0x1f);
    let mantissa = f64::from(bits & 0x3ff);
    let size = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8949, appendix A.
    #[test]
    fn as_in_the_rfc() {
        for (bytes, expected) in [
            (&b"\x18\x64"[..], Value::Integer(100)),
            (b"\x1a\x00\x0f\x42\x40", Value::Integer(1_000_000)),
            (b"\x39\x03\xe7", Value::Integer(-1000)),
            (b"\xf9\x3e\x00", Value::Float(1.5)),
            (b"\xf9\xc4\x00", Value::Float(-4.0)),
            (b"\xfa\x47\xc3\x50\x00", Value::Float(100_000.0)),
            (b"\xc1\x1a\x51\x4b\x67\xb0", Value::Integer(1_363_896_240)),
            (b"\x64IETF", Value::Text("IETF".to_owned())),
            (b"\x44\x01\x02\x03\x04", Value::Opaque(vec![1, 2, 3, 4])),
            (b"\xf5", Value::Boolean(true)),
        ] {
            assert_eq!(read(bytes), Some(Item::Value(expected)), "{bytes:02x?}");
        }
        let map = read(b"\xa1\x61a\x82\x01\xf6").unwrap();
        let key = Item::Value(Value::Text("a".to_owned()));
        let one = Item::Value(Value::Integer(1));
        assert_eq!(
            map,
            Item::Map(vec![(key, Item::Array(vec![one, Item::Null]))])
        );
        for broken in [
            &b""[..],
            b"\x18",
            b"\x01\x01",
            b"\x9f\xff",
            b"\x61\xff",
            b"\x82\x01",
        ] {
            assert_eq!(read(broken), None, "{broken:02x?}");
        }
        assert_eq!(read(&[0x81; 100]), None, "too deep");
        assert_eq!(read(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }

    proptest! {
        #[test]
        fn integers_round_trip(number: i64) {
            let mut out = Vec::new();
            value(&mut out, &Value::Integer(number));
            prop_assert_eq!(read(&out), Some(Item::Value(Value::Integer(number))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
