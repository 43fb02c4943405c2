//! `application/vnd.oma.lwm2m+tlv` (LwM2M Core 1.2 §7.4.3).

use std::borrow::Cow;

use super::error::{DecodeError, EncodeError};
use super::forms::parse_object_link;
use super::guess::{guess, signed};
use super::items::{effective_items, groups};
use super::record::{DecodeOptions, Record, Schema};
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, ResourceType, Value};

const FORMAT: &str = "tlv";

/// What a TLV stands for: bits 7 and 6 of its type byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ObjectInstance = 0b00,
    ResourceInstance = 0b01,
    MultipleResource = 0b10,
    Resource = 0b11,
}

struct Tlv<'a> {
    kind: Kind,
    id: u16,
    value: &'a [u8],
}

/// The TLVs of one level, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| malformed("a TLV is longer than the bytes that hold it"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self, width: usize) -> Result<usize, DecodeError> {
        let bytes = self.bytes(width)?;
        Ok(bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    /// `None` at the end.
    fn next(&mut self) -> Result<Option<Tlv<'a>>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let header = self.number(1)?;
        let kind = match header >> 6 {
            0b00 => Kind::ObjectInstance,
            0b01 => Kind::ResourceInstance,
            0b10 => Kind::MultipleResource,
            _ => Kind::Resource,
        };
        let id = self.number(if header & 0b10_0000 == 0 { 1 } else { 2 })?;
        let length = match header >> 3 & 0b11 {
            0 => header & 0b111,
            width => self.number(width)?,
        };
        Ok(Some(Tlv {
            kind,
            id: u16::try_from(id).unwrap_or(u16::MAX),
            value: self.bytes(length)?,
        }))
    }
}

fn malformed(reason: &str) -> DecodeError {
    DecodeError::Malformed {
        format: FORMAT,
        reason: reason.to_owned(),
    }
}

/// Appends the records of the payload; an empty payload is an instance without resources.
///
/// Paths follow the ids in the TLVs, completed from the request. A lone Resource of a request for
/// one of its instances has the path of the request, and so has a lone Object Instance of a request
/// for an instance, so that a device that counts its instances otherwise is still understood.
/// Resources of a request for an object belong to its instance 0.
///
/// # Errors
///
/// [`DecodeError::Malformed`] for TLVs that do not nest or are cut off, and for a path that occurs
/// twice; [`DecodeError::PathMismatch`] when the request is too short to complete a path;
/// [`DecodeError::BadValue`] when the only value of a request for a resource does not fit its
/// type; [`DecodeError::Limit`].
pub fn decode<'a>(
    request: &Path,
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
) -> Result<(), DecodeError> {
    if request.depth() == 0 {
        return Err(mismatch(request));
    }
    let first = out.len();
    let mut sink = Sink {
        schema,
        limit: first.saturating_add(options.max_records),
        out,
    };
    let mut reader = Reader(payload);
    let mut alone = true;
    while let Some(tlv) = reader.next()? {
        alone = alone && reader.0.is_empty();
        match tlv.kind {
            Kind::ObjectInstance => {
                let instance = if alone && request.depth() == 2 {
                    request.clone()
                } else {
                    child(&request.truncated(1), tlv.id)?
                };
                sink.instance(&instance, tlv.value)?;
            }
            Kind::MultipleResource => {
                sink.multiple(&child(&instance_of(request)?, tlv.id)?, tlv.value)?;
            }
            Kind::Resource if alone && request.ids().iter().skip(2).any(|id| *id == tlv.id) => {
                sink.only_value(request.clone(), tlv.value)?;
            }
            Kind::Resource => sink.value(child(&instance_of(request)?, tlv.id)?, tlv.value)?,
            Kind::ResourceInstance => match request.depth() {
                4 if alone => sink.only_value(request.clone(), tlv.value)?,
                3 | 4 => sink.value(child(&request.truncated(3), tlv.id)?, tlv.value)?,
                _ => return Err(mismatch(request)),
            },
        }
    }
    refuse_duplicates(out.get(first..).unwrap_or_default())
}

/// Whether the payload is TLVs to its last byte, as an object or an instance has them.
pub(super) fn is_whole(payload: &[u8]) -> bool {
    let mut reader = Reader(payload);
    loop {
        match reader.next() {
            Ok(None) => return true,
            Ok(Some(tlv)) if tlv.kind != Kind::ResourceInstance => {}
            _ => return false,
        }
    }
}

/// Whether the payload is one TLV with the id of the resource, or instance of one, `request`.
pub(super) fn is_of(request: &Path, payload: &[u8]) -> bool {
    let mut reader = Reader(payload);
    let Ok(Some(tlv)) = reader.next() else {
        return false;
    };
    let id = match tlv.kind {
        Kind::ResourceInstance => request.resource_instance(),
        Kind::Resource | Kind::MultipleResource => request.resource(),
        Kind::ObjectInstance => None,
    };
    reader.0.is_empty() && id == Some(tlv.id)
}

fn mismatch(request: &Path) -> DecodeError {
    DecodeError::PathMismatch {
        format: FORMAT,
        path: request.clone(),
    }
}

fn child(parent: &Path, id: u16) -> Result<Path, DecodeError> {
    parent.child(id).ok_or_else(|| mismatch(parent))
}

/// The instance that resources at the top level belong to.
fn instance_of(request: &Path) -> Result<Path, DecodeError> {
    match request.depth() {
        1 => child(request, 0),
        _ => Ok(request.truncated(2)),
    }
}

fn refuse_duplicates(records: &[Record<'_>]) -> Result<(), DecodeError> {
    if records.is_sorted_by(|a, b| a.path < b.path) {
        return Ok(());
    }
    let mut paths: Vec<&Path> = records.iter().map(|record| &record.path).collect();
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(_) => Err(malformed("a path occurs twice")),
        None => Ok(()),
    }
}

struct Sink<'a, 's> {
    schema: &'s dyn Schema,
    limit: usize,
    out: &'s mut Vec<Record<'a>>,
}

impl<'a> Sink<'a, '_> {
    fn instance(&mut self, instance: &Path, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader(bytes);
        while let Some(tlv) = reader.next()? {
            let path = child(instance, tlv.id)?;
            match tlv.kind {
                Kind::Resource => self.value(path, tlv.value)?,
                Kind::MultipleResource => self.multiple(&path, tlv.value)?,
                _ => {
                    return Err(malformed(
                        "an Object Instance holds something other than Resources",
                    ));
                }
            }
        }
        Ok(())
    }

    fn multiple(&mut self, resource: &Path, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader(bytes);
        while let Some(tlv) = reader.next()? {
            if tlv.kind != Kind::ResourceInstance {
                return Err(malformed(
                    "a Multiple Resource holds something other than Resource Instances",
                ));
            }
            self.value(child(resource, tlv.id)?, tlv.value)?;
        }
        Ok(())
    }

    /// One value among others: what does not fit its type is kept as Opaque.
    fn value(&mut self, path: Path, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let kind = self.kind(&path);
        let (value, inferred) = match kind.map(|kind| value_of(kind, bytes)) {
            None => (self.guess(&path, bytes), true),
            Some(None) => (Value::Opaque(Cow::Borrowed(bytes)), true),
            Some(Some(value)) => (value, false),
        };
        self.push(path, value, inferred)
    }

    /// The only value of the payload. There is nothing beside it to save, so a number of a wrong
    /// width is an error; text that is no UTF-8 is still kept.
    fn only_value(&mut self, path: Path, bytes: &'a [u8]) -> Result<(), DecodeError> {
        match self.kind(&path) {
            Some(expected)
                if !matches!(expected, ResourceType::String | ResourceType::CoreLink)
                    && value_of(expected, bytes).is_none() =>
            {
                Err(DecodeError::BadValue { path, expected })
            }
            _ => self.value(path, bytes),
        }
    }

    fn guess(&self, path: &Path, bytes: &'a [u8]) -> Value<'a> {
        let (Some(object), Some(resource)) = (path.object(), path.resource()) else {
            return guess(bytes, None).0;
        };
        let (value, shown) = guess(bytes, self.schema.guess(object, resource));
        if let Some(shown) = shown {
            self.schema.guessed(object, resource, shown);
        }
        value
    }

    fn kind(&self, path: &Path) -> Option<ResourceType> {
        self.schema.resource(path.object()?, path.resource()?)?.kind
    }

    fn push(&mut self, path: Path, value: Value<'a>, inferred: bool) -> Result<(), DecodeError> {
        if self.out.len() >= self.limit {
            return Err(DecodeError::Limit("records"));
        }
        self.out.push(Record {
            path,
            value,
            time: None,
            inferred,
        });
        Ok(())
    }
}

/// `bytes` as a value of type `kind` (LwM2M Core 1.2 Appendix C); `None` when their number or
/// content does not allow it. A number of no bytes is 0. A Time of less than 8 bytes is read as
/// unsigned: clocks before 1970 do not occur, four-byte clocks after 2038 do.
fn value_of(kind: ResourceType, bytes: &[u8]) -> Option<Value<'_>> {
    Some(match kind {
        ResourceType::String => Value::String(Cow::Borrowed(std::str::from_utf8(bytes).ok()?)),
        ResourceType::CoreLink => Value::CoreLink(Cow::Borrowed(std::str::from_utf8(bytes).ok()?)),
        ResourceType::Opaque => Value::Opaque(Cow::Borrowed(bytes)),
        ResourceType::Integer if bytes.is_empty() => Value::Integer(0),
        ResourceType::Integer => Value::Integer(signed(bytes)?),
        ResourceType::UnsignedInteger => Value::Unsigned(unsigned(bytes)?),
        ResourceType::Time if bytes.len() == 8 => Value::Time(signed(bytes)?),
        ResourceType::Time => Value::Time(i64::try_from(unsigned(bytes)?).ok()?),
        ResourceType::Float => Value::Float(match *bytes {
            [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => return None,
        }),
        ResourceType::Boolean => match bytes {
            [0] => Value::Boolean(false),
            [1] => Value::Boolean(true),
            _ => return None,
        },
        ResourceType::ObjectLink => match (link_text(bytes), bytes) {
            (Some(link), _) => link,
            (None, [a, b, c, d]) => Value::ObjectLink {
                object: u16::from_be_bytes([*a, *b]),
                instance: u16::from_be_bytes([*c, *d]),
            },
            _ => return None,
        },
    })
}

/// An object link as some devices write it in TLV as well. No object has the number that such a
/// text would be.
fn link_text(bytes: &[u8]) -> Option<Value<'static>> {
    parse_object_link(std::str::from_utf8(bytes).ok()?)
}

/// A big-endian unsigned integer of 0, 1, 2, 4 or 8 bytes.
fn unsigned(bytes: &[u8]) -> Option<u64> {
    matches!(bytes.len(), 0 | 1 | 2 | 4 | 8)
        .then(|| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// Writes the items in the shape the depth of `base` asks for: Object Instances for an object
/// (Create), Resources for an object instance, a Resource or Multiple Resource for a resource, a
/// Resource Instance for itself. What belongs together is put together where its first part
/// stands.
///
/// # Errors
///
/// [`EncodeError`] for items outside of `base`, a root `base` and values above 16 MiB.
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    let items = effective_items(FORMAT, base, items)?;
    let mut out = Vec::new();
    match base.depth() {
        0 => {
            return Err(EncodeError::Unsuitable {
                format: FORMAT,
                reason: "it cannot be written to the root",
            });
        }
        1 => {
            for (id, items) in groups(&items, 1) {
                let mut resources = Vec::new();
                write_resources(&items, &mut resources)?;
                write_tlv(Kind::ObjectInstance, id, &resources, &mut out)?;
            }
        }
        2 | 3 => write_resources(&items, &mut out)?,
        _ => write_resource_instances(&items, &mut out)?,
    }
    Ok(out)
}

fn write_resources(items: &[&WriteItem], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    for (id, items) in groups(items, 2) {
        match items.as_slice() {
            [item] if item.path.depth() == 3 => {
                write_tlv(Kind::Resource, id, &value_bytes(&item.value), out)?;
            }
            several if several.iter().all(|item| item.path.depth() == 4) => {
                let mut instances = Vec::new();
                write_resource_instances(several, &mut instances)?;
                write_tlv(Kind::MultipleResource, id, &instances, out)?;
            }
            _ => {
                return Err(EncodeError::Unsuitable {
                    format: FORMAT,
                    reason: "a resource is written both as a whole and instance by instance",
                });
            }
        }
    }
    Ok(())
}

fn write_resource_instances(items: &[&WriteItem], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    for item in items {
        let id = item.path.resource_instance().unwrap_or_default();
        write_tlv(Kind::ResourceInstance, id, &value_bytes(&item.value), out)?;
    }
    Ok(())
}

fn write_tlv(kind: Kind, id: u16, value: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let kind = (kind as u8) << 6 | if id > 0xff { 0b10_0000 } else { 0 };
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let [top, length @ ..] = length.to_be_bytes();
    if top != 0 {
        return Err(EncodeError::Unsuitable {
            format: FORMAT,
            reason: "a value is longer than 16 MiB",
        });
    }
    let (header, length): (u8, &[u8]) = match &length {
        [0, 0, short @ 0..=7] => (kind | short, &[]),
        [0, 0, one] => (kind | 1 << 3, std::slice::from_ref(one)),
        [0, two @ ..] => (kind | 2 << 3, two),
        three => (kind | 3 << 3, three),
    };
    out.push(header);
    match id.to_be_bytes() {
        [0, id] => out.push(id),
        id => out.extend_from_slice(&id),
    }
    out.extend_from_slice(length);
    out.extend_from_slice(value);
    Ok(())
}

fn value_bytes<'v>(value: &'v Value<'_>) -> Cow<'v, [u8]> {
    match value {
        Value::String(text) | Value::CoreLink(text) => Cow::Borrowed(text.as_bytes()),
        Value::Opaque(bytes) => Cow::Borrowed(bytes),
        Value::Integer(number) => Cow::Owned(signed_bytes(*number)),
        // All eight bytes, because short times are read as unsigned by some.
        Value::Time(seconds) if *seconds < 0 => Cow::Owned(seconds.to_be_bytes().to_vec()),
        Value::Time(seconds) => Cow::Owned(signed_bytes(*seconds)),
        Value::Unsigned(number) => Cow::Owned(unsigned_bytes(*number)),
        Value::Float(number) => Cow::Owned(number.to_be_bytes().to_vec()),
        Value::Boolean(value) => Cow::Owned(vec![u8::from(*value)]),
        Value::ObjectLink { object, instance } => {
            Cow::Owned([object.to_be_bytes(), instance.to_be_bytes()].concat())
        }
    }
}

/// The fewest of 1, 2, 4 or 8 bytes that hold the number with its sign.
fn signed_bytes(number: i64) -> Vec<u8> {
    if let Ok(number) = i8::try_from(number) {
        number.to_be_bytes().to_vec()
    } else if let Ok(number) = i16::try_from(number) {
        number.to_be_bytes().to_vec()
    } else if let Ok(number) = i32::try_from(number) {
        number.to_be_bytes().to_vec()
    } else {
        number.to_be_bytes().to_vec()
    }
}

fn unsigned_bytes(number: u64) -> Vec<u8> {
    if let Ok(number) = u8::try_from(number) {
        vec![number]
    } else if let Ok(number) = u16::try_from(number) {
        number.to_be_bytes().to_vec()
    } else if let Ok(number) = u32::try_from(number) {
        number.to_be_bytes().to_vec()
    } else {
        number.to_be_bytes().to_vec()
    }
}

#[cfg(test)]
#[path = "tlv_tests.rs"]
mod tests;
