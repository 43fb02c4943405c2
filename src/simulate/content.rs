//! Payloads of a device: OMA-TLV, plain text and link lists, written and read apart from the
//! gateway's codecs (LwM2M 1.0 §6.4.3, RFC 6690).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::objects::{Content, Instance, Objects, Resource, Value};
use super::wire::format;
use crate::lwm2m::Path;

const OBJECT_INSTANCE: u8 = 0x00;
const RESOURCE_INSTANCE: u8 = 0x40;
const MULTIPLE: u8 = 0x80;
const RESOURCE: u8 = 0xc0;

/// What a path holds, in `accept` or the device's own choice; `Err` when it has no such form.
pub(super) fn read(
    objects: &Objects,
    path: &Path,
    accept: Option<u16>,
) -> Result<(u16, Vec<u8>), ()> {
    let single = single(objects, path);
    let choice = match (accept, single) {
        (None, Some(Value::Opaque(_))) => format::OCTETS,
        (None, Some(_)) => format::TEXT,
        (None, None) => format::TLV,
        (Some(wanted), _) => wanted,
    };
    match (choice, single) {
        (format::TEXT, Some(value)) if !matches!(value, Value::Opaque(_)) => {
            Ok((choice, plain(value)))
        }
        (format::OCTETS, Some(Value::Opaque(bytes))) => Ok((choice, bytes.clone())),
        (format::TLV | format::OLD_TLV, _) => Ok((choice, tlv(objects, path))),
        _ => Err(()),
    }
}

/// The one value of a single resource or a resource instance.
pub(super) fn single<'a>(objects: &'a Objects, path: &Path) -> Option<&'a Value> {
    match (&objects.resource(path)?.content, path.resource_instance()) {
        (Content::One(value), None) => Some(value),
        (Content::Many(values), Some(id)) => values.get(&id),
        _ => None,
    }
}

fn plain(value: &Value) -> Vec<u8> {
    match value {
        Value::Text(text) => text.clone().into_bytes(),
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Float(number) => number.to_string().into_bytes(),
        Value::Boolean(flag) => u8::from(*flag).to_string().into_bytes(),
        Value::Opaque(bytes) => bytes.clone(),
    }
}

fn tlv(objects: &Objects, path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(instances) = path.object().and_then(|id| objects.map.get(&id)) else {
        return out;
    };
    match (path.instance(), path.resource(), path.resource_instance()) {
        (None, ..) => {
            for (id, instance) in instances {
                entry(&mut out, OBJECT_INSTANCE, *id, &whole_instance(instance));
            }
        }
        (Some(id), None, _) => {
            out = instances.get(&id).map(whole_instance).unwrap_or_default();
        }
        (_, Some(id), None) => {
            if let Some(resource) = objects.resource(path) {
                whole_resource(&mut out, id, resource);
            }
        }
        (_, Some(_), Some(id)) => {
            if let Some(value) = single(objects, path) {
                entry(&mut out, RESOURCE_INSTANCE, id, &bytes(value));
            }
        }
    }
    out
}

fn whole_instance(instance: &Instance) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, resource) in instance {
        whole_resource(&mut out, *id, resource);
    }
    out
}

fn whole_resource(out: &mut Vec<u8>, id: u16, resource: &Resource) {
    match &resource.content {
        Content::One(value) => entry(out, RESOURCE, id, &bytes(value)),
        Content::Many(values) => {
            let mut inner = Vec::new();
            for (id, value) in values {
                entry(&mut inner, RESOURCE_INSTANCE, *id, &bytes(value));
            }
            entry(out, MULTIPLE, id, &inner);
        }
        Content::Action | Content::Package => {}
    }
}

fn entry(out: &mut Vec<u8>, kind: u8, id: u16, value: &[u8]) {
    let [.., b2, b1, b0] = value.len().to_be_bytes();
    let [high, low] = id.to_be_bytes();
    let wide = if high == 0 { 0 } else { 0x20 };
    let length = match (b2, b1, b0) {
        (0, 0, 0..=7) => b0,
        (0, 0, _) => 0x08,
        (0, ..) => 0x10,
        _ => 0x18,
    };
    out.push(kind | wide | length);
    if high != 0 {
        out.push(high);
    }
    out.push(low);
    match length {
        0x08 => out.push(b0),
        0x10 => out.extend([b1, b0]),
        0x18 => out.extend([b2, b1, b0]),
        _ => {}
    }
    out.extend(value);
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Text(text) => text.clone().into_bytes(),
        Value::Integer(number) => {
            if let Ok(small) = i8::try_from(*number) {
                small.to_be_bytes().to_vec()
            } else if let Ok(small) = i16::try_from(*number) {
                small.to_be_bytes().to_vec()
            } else if let Ok(small) = i32::try_from(*number) {
                small.to_be_bytes().to_vec()
            } else {
                number.to_be_bytes().to_vec()
            }
        }
        Value::Float(number) => number.to_be_bytes().to_vec(),
        Value::Boolean(flag) => vec![u8::from(*flag)],
        Value::Opaque(bytes) => bytes.clone(),
    }
}

/// A raw value that came in: one, or several by resource instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    One(Vec<u8>),
    Many(BTreeMap<u16, Vec<u8>>),
}

/// What a TLV payload holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Resources outside of any object instance.
    pub(super) resources: BTreeMap<u16, Raw>,
    /// Resources by object instance.
    pub(super) instances: BTreeMap<u16, BTreeMap<u16, Raw>>,
    /// Resource instances without their resource.
    pub(super) loose: BTreeMap<u16, Vec<u8>>,
}

/// `None` when the payload is not well-formed.
pub(super) fn parse_tlv(mut rest: &[u8]) -> Option<Parsed> {
    let mut parsed = Parsed::default();
    while !rest.is_empty() {
        let (kind, id, value) = take(&mut rest)?;
        match kind {
            OBJECT_INSTANCE => {
                let inner = resources(value)?;
                parsed.instances.insert(id, inner);
            }
            RESOURCE_INSTANCE => {
                parsed.loose.insert(id, value.to_vec());
            }
            _ => {
                parsed.resources.insert(id, raw(kind, value)?);
            }
        }
    }
    Some(parsed)
}

fn resources(mut rest: &[u8]) -> Option<BTreeMap<u16, Raw>> {
    let mut out = BTreeMap::new();
    while !rest.is_empty() {
        let (kind, id, value) = take(&mut rest)?;
        out.insert(id, raw(kind, value)?);
    }
    Some(out)
}

fn raw(kind: u8, mut value: &[u8]) -> Option<Raw> {
    match kind {
        RESOURCE => Some(Raw::One(value.to_vec())),
        MULTIPLE => {
            let mut values = BTreeMap::new();
            while !value.is_empty() {
                let (kind, id, inner) = take(&mut value)?;
                if kind != RESOURCE_INSTANCE {
                    return None;
                }
                values.insert(id, inner.to_vec());
            }
            Some(Raw::Many(values))
        }
        _ => None,
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<(u8, u16, &'a [u8])> {
    let mut number = |count: usize| {
        let (head, tail) = rest.split_at_checked(count)?;
        *rest = tail;
        Some(
            head.iter()
                .fold(0_usize, |sum, b| (sum << 8) | usize::from(*b)),
        )
    };
    let first = u8::try_from(number(1)?).ok()?;
    let id = number(if first & 0x20 == 0 { 1 } else { 2 })?;
    let length = match (first >> 3) & 3 {
        0 => usize::from(first & 7),
        more => number(usize::from(more))?,
    };
    let (value, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some((first & 0xc0, u16::try_from(id).ok()?, value))
}

/// A written value in the type of the value it replaces; `None` when the bytes do not fit it.
pub(super) fn typed(old: &Value, bytes: &[u8], text: bool) -> Option<Value> {
    let as_text = || std::str::from_utf8(bytes).ok();
    Some(match old {
        Value::Text(_) => Value::Text(as_text()?.to_owned()),
        Value::Opaque(_) => Value::Opaque(bytes.to_vec()),
        Value::Integer(_) if text => Value::Integer(as_text()?.parse().ok()?),
        Value::Integer(_) => Value::Integer(signed(bytes)?),
        Value::Float(_) if text => Value::Float(as_text()?.parse().ok()?),
        Value::Float(_) => Value::Float(match bytes.len() {
            4 => f64::from(f32::from_be_bytes(bytes.try_into().ok()?)),
            _ => f64::from_be_bytes(bytes.try_into().ok()?),
        }),
        Value::Boolean(_) => Value::Boolean(match bytes {
            [0] => false,
            [1] => true,
            b"0" if text => false,
            b"1" if text => true,
            _ => return None,
        }),
    })
}

fn signed(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        1 => Some(i64::from(i8::from_be_bytes(bytes.try_into().ok()?))),
        2 => Some(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
        4 => Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        8 => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// The object list of a Register. Since 1.1 the root link names the format that it likes best (LwM2M
/// Core 1.1 §6.2.1). One only: Wakaama's server refuses a list of several, and a number that it does
/// not expect there.
pub(super) fn object_list(objects: &Objects, version: &str) -> String {
    let format = if version == "1.0" { "" } else { ";ct=112" };
    let mut list = format!("</>;rt=\"oma.lwm2m\"{format}");
    for (object, instances) in &objects.map {
        if instances.is_empty() {
            let _ = write!(list, ",</{object}>");
        }
        for instance in instances.keys() {
            let _ = write!(list, ",</{object}/{instance}>");
        }
    }
    list
}

/// The links of a Discover: `path` itself and what is below it, with the attributes written to
/// each (LwM2M 1.0 §5.4.2).
pub(super) fn links(
    objects: &Objects,
    path: &Path,
    attributes: &BTreeMap<Path, BTreeMap<String, String>>,
) -> String {
    let mut list = String::new();
    let mut link = |path: &Path, extra: &str| {
        let comma = if list.is_empty() { "" } else { "," };
        let _ = write!(list, "{comma}<{path}>{extra}");
        for (key, value) in attributes.get(path).into_iter().flatten() {
            let _ = write!(list, ";{key}={value}");
        }
    };
    let object = path.object().unwrap_or_default();
    if path.depth() == 1 {
        link(path, "");
    }
    for (id, instance) in objects.map.get(&object).into_iter().flatten() {
        let Some(here) = path.truncated(1).child(*id) else {
            continue;
        };
        if path.instance().is_some_and(|wanted| wanted != *id) {
            continue;
        }
        if path.depth() < 3 {
            link(&here, "");
        }
        for (id, resource) in instance {
            let Some(here) = here.child(*id) else {
                continue;
            };
            if path.resource().is_none_or(|wanted| wanted == *id) {
                match &resource.content {
                    Content::Many(values) => link(&here, &format!(";dim={}", values.len())),
                    _ => link(&here, ""),
                }
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    /// The examples of LwM2M 1.0 §6.4.3.
    #[test]
    fn tlv_as_in_the_specification() {
        let objects = Objects::new(&[3], 0, 60, "U");
        assert_eq!(
            tlv(&objects, &path("/3/0/6")),
            [0x86, 6, 0x41, 0, 1, 0x41, 1, 5]
        );
        assert_eq!(
            tlv(&objects, &path("/3/0/7")),
            [0x88, 7, 8, 0x42, 0, 0x0e, 0xd8, 0x42, 1, 0x13, 0x88]
        );
        assert_eq!(tlv(&objects, &path("/3/0/16")), [0xc1, 16, b'U']);
        assert_eq!(
            tlv(&objects, &path("/3/0/0")),
            [&[0xc8, 0, 15][..], b"Example Devices"].concat()
        );
    }

    #[test]
    fn forms_of_a_single_value() {
        let objects = Objects::new(&[3, 6], 0, 60, "U");
        let form = |text: &str, accept| read(&objects, &path(text), accept);
        assert_eq!(form("/3/0/9", None), Ok((format::TEXT, b"75".to_vec())));
        assert_eq!(
            form("/3/0/9", Some(format::TLV)),
            Ok((format::TLV, vec![0xc1, 9, 75]))
        );
        assert_eq!(form("/3/0/9", Some(112)), Err(()));
        assert_eq!(form("/3/0", Some(format::TEXT)), Err(()));
        assert_eq!(
            form("/6/0/4", None),
            Ok((format::OCTETS, vec![0, 0x10, 0xfe, 0xff]))
        );
        assert_eq!(form("/3/0/6/1", None), Ok((format::TEXT, b"5".to_vec())));
    }

    #[test]
    fn lists() {
        let mut objects = Objects::new(&[3, 3303], 0, 60, "U");
        objects.create(3303, Some(300));
        assert_eq!(
            object_list(&objects, "1.0"),
            "</>;rt=\"oma.lwm2m\",</3/0>,</3303/0>,</3303/300>"
        );
        let newer = object_list(&objects, "1.1");
        assert!(newer.starts_with("</>;rt=\"oma.lwm2m\";ct=112,</3/0>"));
        let attributes = BTreeMap::from([(
            path("/3/0/7"),
            BTreeMap::from([("pmin".to_owned(), "5".to_owned())]),
        )]);
        assert_eq!(
            links(&objects, &path("/3/0/7"), &attributes),
            "</3/0/7>;dim=2;pmin=5"
        );
        let all = links(&objects, &path("/3303"), &attributes);
        assert!(all.starts_with("</3303>,</3303/0>,</3303/0/5601>"));
        assert!(all.contains(",</3303/300>,"));
    }

    proptest! {
        #[test]
        fn integers_round_trip(number: i64) {
            let coded = bytes(&Value::Integer(number));
            prop_assert_eq!(typed(&Value::Integer(0), &coded, false), Some(Value::Integer(number)));
        }

        #[test]
        fn entries_round_trip(id: u16, length in 0_usize..70_000) {
            let value = vec![0x5a; length];
            let mut out = Vec::new();
            entry(&mut out, RESOURCE, id, &value);
            let parsed = parse_tlv(&out).unwrap();
            prop_assert_eq!(parsed.resources, BTreeMap::from([(id, Raw::One(value))]));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = parse_tlv(&bytes);
        }
    }
}
