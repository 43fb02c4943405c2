//! `application/octet-stream`: the bytes of one value (LwM2M Core 1.2 §7.4.2).

use std::borrow::Cow;

use super::error::EncodeError;
use super::items::single_value;
use super::record::{Record, Schema};
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

/// Appends the payload as one Opaque record at the requested path, whatever its depth.
pub fn decode<'a>(
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    out: &mut Vec<Record<'a>>,
) {
    let defined = match (request.object(), request.resource()) {
        (Some(object), Some(resource)) => schema.resource(object, resource).and_then(|s| s.kind),
        _ => None,
    };
    out.push(Record {
        path: request.clone(),
        value: Value::Opaque(Cow::Borrowed(payload)),
        time: None,
        inferred: defined != Some(ResourceType::Opaque),
    });
}

/// Writes one Opaque value.
///
/// # Errors
///
/// [`EncodeError`] when there is not exactly one value at `base`, or it is not Opaque.
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    match single_value("octet-stream", base, items)? {
        Value::Opaque(bytes) => Ok(bytes.to_vec()),
        _ => Err(EncodeError::Unsuitable {
            format: "octet-stream",
            reason: "it can hold only Opaque values",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoSchema;
    use super::*;

    fn opaque_item(path: &str) -> WriteItem {
        WriteItem {
            path: path.parse().unwrap(),
            value: Value::Opaque(Cow::Borrowed(b"\x00\xff")),
        }
    }

    #[test]
    fn the_payload_is_the_value() {
        let path: Path = "/5/0/0".parse().unwrap();
        let mut out = Vec::new();
        decode(&path, b"\x00\xff", &NoSchema, &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].value, opaque_item("/5/0/0").value);
        assert!(out[0].inferred);
        assert_eq!(
            encode(&path, &[opaque_item("/5/0/0")]).unwrap(),
            b"\x00\xff"
        );
    }

    #[test]
    fn only_one_opaque_value_fits() {
        let base: Path = "/5/0".parse().unwrap();
        assert!(encode(&base, &[opaque_item("/5/0/0")]).is_err());
        let number = WriteItem {
            path: "/5/0/0".parse().unwrap(),
            value: Value::Integer(1),
        };
        assert!(encode(&"/5/0/0".parse().unwrap(), &[number]).is_err());
    }
}
