//! The format of a payload that does not say its own: RFC 7252 §5.5.1 leaves the guess to who
//! reads it, and what was asked for says what it can be.

use super::format::ContentFormat;
use super::forms::parse_base64;
use super::record::Schema;
use super::tlv;
use crate::lwm2m::{Path, ResourceType};

/// The first bytes of an array and of a map in CBOR (RFC 8949 §3.1).
const CBOR_ARRAY: std::ops::RangeInclusive<u8> = 0x80..=0x9f;
const CBOR_MAP: std::ops::RangeInclusive<u8> = 0xa0..=0xbf;

/// What a payload without a Content-Format is in, as an answer to a request for `request`. A
/// single resource is text unless it cannot be, whatever is above it never is.
pub fn missing_format(request: &Path, payload: &[u8], schema: &dyn Schema) -> ContentFormat {
    match (request.object(), request.resource()) {
        (Some(object), Some(resource)) => {
            let schema = schema.resource(object, resource);
            if payload.is_empty() && schema.is_some_and(|schema| schema.multiple) {
                return ContentFormat::TLV;
            }
            of_resource(request, payload, schema.and_then(|schema| schema.kind))
        }
        _ => of_several(request, payload),
    }
}

fn of_resource(request: &Path, payload: &[u8], kind: Option<ResourceType>) -> ContentFormat {
    let opaque = kind == Some(ResourceType::Opaque);
    if std::str::from_utf8(payload).is_ok() {
        return match payload {
            _ if opaque && parse_base64(payload).is_none() => ContentFormat::OPAQUE,
            // No number, boolean, time or link begins like this.
            [b'[', b'{', ..] if is_no_text(kind) => ContentFormat::SENML_JSON,
            [b'{', ..] if is_no_text(kind) => ContentFormat::JSON,
            _ => ContentFormat::TEXT,
        };
    }
    if tlv::is_of(request, payload) {
        return ContentFormat::TLV;
    }
    match payload.first() {
        _ if opaque => ContentFormat::OPAQUE,
        Some(first) if CBOR_ARRAY.contains(first) && is_no_text(kind) => ContentFormat::SENML_CBOR,
        Some(first) if CBOR_MAP.contains(first) && is_no_text(kind) => ContentFormat::LWM2M_CBOR,
        _ => ContentFormat::TEXT,
    }
}

fn is_no_text(kind: Option<ResourceType>) -> bool {
    use ResourceType as T;
    !matches!(kind, None | Some(T::String | T::CoreLink | T::Opaque))
}

fn of_several(request: &Path, payload: &[u8]) -> ContentFormat {
    match payload.trim_ascii_start().first() {
        Some(b'{') => return ContentFormat::JSON,
        Some(b'[') => return ContentFormat::SENML_JSON,
        _ => {}
    }
    match payload.first() {
        None => ContentFormat::TLV,
        // An array may be a multiple resource in TLV as well, which then fits to its last byte.
        _ if request.depth() > 0 && tlv::is_whole(payload) => ContentFormat::TLV,
        Some(first) if CBOR_ARRAY.contains(first) => ContentFormat::SENML_CBOR,
        Some(first) if CBOR_MAP.contains(first) => ContentFormat::LWM2M_CBOR,
        Some(_) => ContentFormat::TEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Typed, hex};
    use super::*;

    fn guess(path: &str, payload: &[u8]) -> ContentFormat {
        missing_format(&path.parse().unwrap(), payload, &Typed)
    }

    #[test]
    fn a5_what_is_no_resource_is_no_text() {
        for (path, payload, format) in [
            ("/3/0", hex("c10058c1095f"), ContentFormat::TLV),
            ("/3", hex("080003c10903"), ContentFormat::TLV),
            ("/3/0", hex("830b410001"), ContentFormat::TLV),
            (
                "/3/0",
                hex("81a2006339303001 01"),
                ContentFormat::SENML_CBOR,
            ),
            (
                "/3/0",
                hex("a10 9a1 00 a1 01 05"),
                ContentFormat::LWM2M_CBOR,
            ),
            ("/", hex("81a0"), ContentFormat::SENML_CBOR),
            (
                "/3/0",
                b" [{\"n\":\"1\",\"v\":1}]".to_vec(),
                ContentFormat::SENML_JSON,
            ),
            ("/3/0", b"{\"e\":[]}".to_vec(), ContentFormat::JSON),
            ("/3/0", b"hello".to_vec(), ContentFormat::TEXT),
            ("/3303", vec![], ContentFormat::TLV),
        ] {
            assert_eq!(guess(path, &payload), format, "{path} {payload:02x?}");
        }
    }

    #[test]
    fn a5_a_resource_is_text_where_it_can_be() {
        for (path, payload, format) in [
            ("/9/0/1", &b"95"[..], ContentFormat::TEXT),
            ("/9/0/0", b"[{", ContentFormat::TEXT),
            ("/9/0/1", b"[{\"v\":5}]", ContentFormat::SENML_JSON),
            ("/9/0/1", b"{\"e\":[{\"v\":5}]}", ContentFormat::JSON),
            ("/9/0/1", b"\xc1\x01\x5f", ContentFormat::TLV),
            ("/9/0/1", b"\xc1\x02\x5f", ContentFormat::TEXT),
            ("/9/0/1/5", b"\x41\x05\x80", ContentFormat::TLV),
            ("/9/0/4", b"AP8=", ContentFormat::TEXT),
            ("/9/0/4", b"!", ContentFormat::OPAQUE),
            ("/9/0/4", b"\x00\xff", ContentFormat::OPAQUE),
            ("/9/0/20", b"\x81\xff", ContentFormat::TEXT),
        ] {
            assert_eq!(guess(path, payload), format, "{path} {payload:02x?}");
        }
    }
}
