//! `application/cbor`: one value (LwM2M Core 1.2 §7.4 and Appendix C).

use super::cbor_item::{Reader, Writer};
use super::error::{DecodeError, EncodeError};
use super::items::single_value;
use super::record::{Record, Schema};
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, Value};

const FORMAT: &str = "cbor";

/// Appends the one value of the payload. CBOR tells types apart, so a value that does not fit its
/// definition is kept as it is written.
///
/// # Errors
///
/// [`DecodeError::PathMismatch`] when the request was not for a resource,
/// [`DecodeError::Malformed`] for anything but one number, boolean, text or byte string,
/// [`DecodeError::Limit`].
pub fn decode<'a>(
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    out: &mut Vec<Record<'a>>,
) -> Result<(), DecodeError> {
    let (Some(object), Some(resource)) = (request.object(), request.resource()) else {
        return Err(DecodeError::PathMismatch {
            format: FORMAT,
            path: request.clone(),
        });
    };
    let mut reader = Reader::new(FORMAT, payload);
    let scalar = reader.scalar()?;
    reader.end()?;
    let kind = schema.resource(object, resource).and_then(|s| s.kind);
    let (value, inferred) = scalar
        .typed(kind)
        .ok_or_else(|| reader.malformed("it is not the value of a resource"))?;
    out.push(Record {
        path: request.clone(),
        value,
        time: None,
        inferred,
    });
    Ok(())
}

/// Writes one value.
///
/// # Errors
///
/// [`EncodeError`] when there is not exactly one value at `base`.
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::default();
    let value = single_value(FORMAT, base, items)?;
    if matches!(value, Value::Time(_)) {
        writer.epoch();
    }
    writer.value(value);
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::super::testing::{Typed, any_write, hex};
    use super::*;
    use crate::lwm2m::Value;

    fn read<'a>(path: &str, payload: &'a [u8]) -> Result<(Value<'a>, bool), DecodeError> {
        let mut out = Vec::new();
        decode(&path.parse().unwrap(), payload, &Typed, &mut out)?;
        assert_eq!(out.len(), 1);
        let record = out.remove(0);
        assert_eq!(record.path.to_string(), path);
        Ok((record.value, record.inferred))
    }

    #[test]
    fn one_value() {
        for (path, payload, value, inferred) in [
            ("/9/0/1", "00", Value::Integer(0), false),
            ("/9/0/1/0", "20", Value::Integer(-1), false),
            ("/9/0/5", "c1 1a59682f00", Value::Time(1_500_000_000), false),
            (
                "/9/0/4",
                "41 ff",
                Value::Opaque(Cow::Borrowed(b"\xff")),
                false,
            ),
            (
                "/9/0/5",
                "c0 7819323032332d31312d31345432323a31333a32302b30303a3030",
                Value::Time(1_700_000_000),
                false,
            ),
            ("/9/0/1", "61 78", Value::String("x".into()), true),
            ("/9/0/20", "f5", Value::Boolean(true), true),
        ] {
            assert_eq!(
                read(path, &hex(payload)),
                Ok((value, inferred)),
                "{payload}"
            );
        }
    }

    #[test]
    fn a8_a_date_as_text() {
        let payload = hex("c07819323032332d31312d31345432323a31333a32302d30303a3030");
        let value = read("/9/0/5", &payload);
        assert_eq!(value, Ok((Value::Time(1_700_000_000), false)));
    }

    #[test]
    fn a9_a_time_is_tagged() {
        let item = |value| WriteItem {
            path: "/9/0/5".parse().unwrap(),
            value,
        };
        let path = "/9/0/5".parse().unwrap();
        let time = encode(&path, &[item(Value::Time(1_700_000_000))]).unwrap();
        assert_eq!(time, hex("c11a6553f100"));
        let number = encode(&path, &[item(Value::Integer(1_700_000_000))]).unwrap();
        assert_eq!(number, hex("1a6553f100"));
    }

    #[test]
    fn a10_object_links() {
        let link = |object, instance| Value::ObjectLink { object, instance };
        for (payload, value) in [
            ("64333a3000", link(3, 0)),
            ("3a7cb9ffff", link(33_606, 0)),
            ("1a83460000", link(33_606, 0)),
            ("4400030001", link(3, 1)),
        ] {
            assert_eq!(
                read("/9/0/6", &hex(payload)),
                Ok((value, false)),
                "{payload}"
            );
        }
    }

    #[test]
    fn nothing_but_one_value() {
        for payload in ["", "80", "a0", "f6", "0000", "18", "ff", "62 61"] {
            let result = read("/9/0/1", &hex(payload)).map(|(value, _)| value.into_owned());
            assert!(
                matches!(result, Err(DecodeError::Malformed { .. })),
                "{payload}"
            );
        }
        assert!(matches!(
            read("/9/0", b"\x00"),
            Err(DecodeError::PathMismatch { .. })
        ));
    }

    proptest! {
        #[test]
        fn round_trip((_, items) in any_write()) {
            for item in items {
                let bytes = encode(&item.path, std::slice::from_ref(&item)).unwrap();
                let path = item.path.to_string();
                prop_assert_eq!(read(&path, &bytes), Ok((item.value, false)));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(resource in 0..10_u16, bytes: Vec<u8>) {
            let _ = read(&format!("/9/0/{resource}"), &bytes);
        }
    }
}
