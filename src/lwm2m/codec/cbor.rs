//! `application/cbor`: one value (LwM2M Core 1.2 §7.4 and Appendix C).

use super::cbor_item::{Reader, Writer};
use super::error::{DecodeError, EncodeError};
use super::items::single_value;
use super::record::{Record, Schema};
use crate::lwm2m::Path;
use crate::lwm2m::operation::WriteItem;

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
        .ok_or_else(|| reader.malformed("it is not a value of a resource"))?;
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
    writer.value(single_value(FORMAT, base, items)?);
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
