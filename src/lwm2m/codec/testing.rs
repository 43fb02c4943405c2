//! What the tests of several codecs share.

use proptest::prelude::*;

use super::decode_partial;
use super::error::{BadRecord, DecodeError};
use super::format::ContentFormat;
use super::record::{DecodeOptions, Record, ResourceSchema, Schema};
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

/// The resource id chooses the type.
pub(super) struct Typed;

impl Schema for Typed {
    fn resource(&self, _object: u16, resource: u16) -> Option<ResourceSchema> {
        let kind = match resource {
            0 => ResourceType::String,
            1 => ResourceType::Integer,
            2 => ResourceType::Float,
            3 => ResourceType::Boolean,
            4 => ResourceType::Opaque,
            5 => ResourceType::Time,
            6 => ResourceType::ObjectLink,
            7 => ResourceType::UnsignedInteger,
            8 => ResourceType::CoreLink,
            _ => return None,
        };
        Some(ResourceSchema {
            kind: Some(kind),
            multiple: false,
        })
    }
}

/// A value, and the resource that has its type.
fn any_value() -> impl Strategy<Value = (u16, Value<'static>)> {
    prop_oneof![
        ".*".prop_map(|text| (0, Value::String(text.into()))),
        any::<i64>().prop_map(|number| (1, Value::Integer(number))),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| (2, Value::Float(number))),
        any::<bool>().prop_map(|value| (3, Value::Boolean(value))),
        any::<Vec<u8>>().prop_map(|bytes| (4, Value::Opaque(bytes.into()))),
        any::<i64>().prop_map(|seconds| (5, Value::Time(seconds))),
        any::<(u16, u16)>()
            .prop_map(|(object, instance)| (6, Value::ObjectLink { object, instance })),
        any::<u64>().prop_map(|number| (7, Value::Unsigned(number))),
        ".*".prop_map(|text| (8, Value::CoreLink(text.into()))),
    ]
}

/// A base and values at or below it, at different paths. Even resources have instances.
pub(super) fn any_write() -> impl Strategy<Value = (Path, Vec<WriteItem>)> {
    let values = prop::collection::vec((0..3_u16, any::<u16>(), any_value()), 1..8);
    (0..=4_usize, any::<bool>(), values).prop_map(|(depth, prefixed, values)| {
        let prefix = prefixed.then(|| "dev0".into());
        let mut items: Vec<WriteItem> = Vec::new();
        for (instance, resource_instance, (resource, value)) in values {
            let ids = [9, instance, resource, resource_instance];
            let depth = if resource % 2 == 0 { 4 } else { 3 };
            let path = Path::new(&ids[..depth]).unwrap();
            let path = path.with_prefix(prefix.clone());
            if !items.iter().any(|item| item.path == path) {
                items.push(WriteItem { path, value });
            }
        }
        let base = items[0].path.truncated(depth);
        items.retain(|item| base.contains(&item.path));
        (base, items)
    })
}

/// All records of a payload, the good and the bad. Now is 1,000,000,000.
pub(super) fn read<'a>(
    format: ContentFormat,
    request: &str,
    payload: &'a [u8],
) -> Result<(Vec<Record<'a>>, Vec<BadRecord>), DecodeError> {
    let options = DecodeOptions {
        now: Some(1_000_000_000.0),
        max_records: 100,
        ..DecodeOptions::default()
    };
    let (mut out, mut bad) = (Vec::new(), Vec::new());
    let request = request.parse().unwrap();
    decode_partial(
        Some(format),
        &request,
        payload,
        &Typed,
        &options,
        &mut out,
        &mut bad,
    )?;
    Ok((out, bad))
}

/// The bytes of a hexadecimal text.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
