//! `application/vnd.oma.lwm2m+cbor`: values in maps keyed by the ids of their paths (LwM2M Core
//! 1.2 §7.4).

use ciborium_ll::Header;

use super::cbor_item::{Items, Reader, Writer};
use super::error::{BadRecord, DecodeError, EncodeError, RecordError};
use super::items::{effective_items, groups};
use super::record::{DecodeOptions, Record, Schema};
use super::sink::Sink;
use crate::lwm2m::operation::WriteItem;
use crate::lwm2m::{Path, PathError};

const FORMAT: &str = "lwm2m-cbor";

/// Appends the records of the payload to `out` and those that cannot be read to `bad`; an empty
/// payload has none.
///
/// A key is an id, several ids in an array, or, in first place, the prefix of a device behind a
/// gateway as text. A path that occurs several times is a history: all its values are kept.
///
/// # Errors
///
/// [`DecodeError::Malformed`] for anything but a map; [`DecodeError::Limit`].
pub fn decode<'a>(
    payload: &'a [u8],
    schema: &dyn Schema,
    options: &DecodeOptions,
    out: &mut Vec<Record<'a>>,
    bad: &mut Vec<BadRecord>,
) -> Result<(), DecodeError> {
    if payload.is_empty() {
        return Ok(());
    }
    let mut walk = Walk {
        reader: Reader::new(FORMAT, payload),
        sink: Sink::new(schema, options, out, bad),
    };
    let Header::Map(length) = walk.reader.start()?.header else {
        return Err(walk.reader.malformed("it is not a map"));
    };
    walk.map(length, &Path::ROOT)?;
    walk.reader.end()
}

struct Walk<'a, 's> {
    reader: Reader<'a>,
    sink: Sink<'a, 's>,
}

impl Walk<'_, '_> {
    /// The pairs of a map below `parent`. Every key makes the path longer, which bounds the
    /// recursion.
    fn map(&mut self, length: Option<usize>, parent: &Path) -> Result<(), DecodeError> {
        let mut pairs = Items(length);
        while pairs.more(&mut self.reader) {
            let path = match self.key(parent)? {
                Ok(path) => path,
                Err(error) => {
                    self.sink.count()?;
                    self.sink.refuse(|| parent.to_string(), error);
                    self.reader.skip()?;
                    continue;
                }
            };
            let start = self.reader.start()?;
            if let Header::Map(length) = start.header {
                self.map(length, &path)?;
                continue;
            }
            self.sink.count()?;
            let scalar = self.reader.scalar_from(start)?;
            let name = path.clone();
            if let Err(error) = self.sink.add(path, None, |kind| scalar.typed(kind)) {
                self.sink.refuse(|| name.to_string(), error);
            }
        }
        Ok(())
    }

    /// The path of a key below `parent`.
    fn key(&mut self, parent: &Path) -> Result<Result<Path, RecordError>, DecodeError> {
        let header = self.reader.start()?.header;
        let Header::Array(length) = header else {
            return self.step(parent, header);
        };
        let mut path = Err(RecordError::Key);
        let mut ids = Items(length);
        let mut first = true;
        while ids.more(&mut self.reader) {
            let header = self.reader.start()?.header;
            let below = match &path {
                Ok(path) => path,
                Err(_) if first => parent,
                Err(_) => {
                    self.reader.skip_rest(header)?;
                    continue;
                }
            };
            path = self.step(&below.clone(), header)?;
            first = false;
        }
        Ok(path)
    }

    /// The path one id, or the prefix, below `parent`.
    fn step(
        &mut self,
        parent: &Path,
        header: Header,
    ) -> Result<Result<Path, RecordError>, DecodeError> {
        Ok(match header {
            Header::Positive(id) => u16::try_from(id)
                .map_err(|_| RecordError::Key)
                .and_then(|id| Ok(parent.child(id).ok_or(PathError::TooDeep)?)),
            Header::Text(length) => {
                let text = self.reader.text(length)?;
                match text.parse::<Path>() {
                    Ok(path) if *parent == Path::ROOT && path.depth() == 0 && path != *parent => {
                        Ok(path)
                    }
                    _ => Err(RecordError::Key),
                }
            }
            header => {
                self.reader.skip_rest(header)?;
                Err(RecordError::Key)
            }
        })
    }
}

/// Writes the items in maps below the key of `base`.
///
/// # Errors
///
/// [`EncodeError`] for items outside of `base` and for a resource written both as a whole and by
/// its instances.
pub fn encode(base: &Path, items: &[WriteItem]) -> Result<Vec<u8>, EncodeError> {
    let items = effective_items(FORMAT, base, items)?;
    let mut writer = Writer::default();
    if *base == Path::ROOT || items.is_empty() {
        write_level(&items, 0, &mut writer)?;
        return Ok(writer.finish());
    }
    writer.map(1);
    write_key(base, &mut writer);
    match items.as_slice() {
        [item] if item.path == *base => writer.value(&item.value),
        items => write_level(items, base.depth(), &mut writer)?,
    }
    Ok(writer.finish())
}

/// Writes a request for the values of `paths`, with nulls in their place.
///
/// # Errors
///
/// [`EncodeError::Unsuitable`] for the root, which has no key.
pub fn encode_paths(paths: &[Path]) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::default();
    writer.map(paths.len());
    for path in paths {
        if *path == Path::ROOT {
            return Err(EncodeError::Unsuitable {
                format: FORMAT,
                reason: "it has no key for the root",
            });
        }
        write_key(path, &mut writer);
        writer.null();
    }
    Ok(writer.finish())
}

fn write_key(path: &Path, writer: &mut Writer) {
    let length = path.depth() + usize::from(path.prefix().is_some());
    if length > 1 {
        writer.array(length);
    }
    if let Some(prefix) = path.prefix() {
        writer.text(prefix);
    }
    for id in path.ids() {
        writer.integer(i64::from(*id));
    }
}

/// A map keyed by the ids at `level` of the paths.
fn write_level(items: &[&WriteItem], level: usize, writer: &mut Writer) -> Result<(), EncodeError> {
    let groups = groups(items, level);
    writer.map(groups.len());
    let depth = level + 1;
    for (id, members) in groups {
        writer.integer(i64::from(id));
        match members.as_slice() {
            [item] if item.path.depth() == depth => writer.value(&item.value),
            several if several.iter().all(|item| item.path.depth() > depth) => {
                write_level(several, depth, writer)?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_write, hex, read};
    use super::super::{ContentFormat, encode_paths};
    use super::*;
    use crate::lwm2m::Value;

    fn cbor(payload: &[u8]) -> Result<(Vec<Record<'_>>, Vec<BadRecord>), DecodeError> {
        read(ContentFormat::LWM2M_CBOR, "/", payload)
    }

    #[test]
    fn keys() {
        for payload in [
            "a1 09 a1 00 a1 01 05",
            "bf 09 bf 00 bf 01 05 ff ff ff",
            "a1 82 09 00 a1 01 05",
            "a1 83 09 00 01 05",
            "a1 9f 09 00 01 ff 05",
            "a1 09 a1 82 00 01 05",
            "c1 a1 c1 09 a1 00 a1 01 c1 05",
            "a1 1a00000009 a1 00 a1 01 05",
        ] {
            let payload = hex(payload);
            let (records, bad) = cbor(&payload).unwrap();
            assert!(bad.is_empty());
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].path.to_string(), "/9/0/1");
            assert_eq!(records[0].value, Value::Integer(5));
        }
    }

    #[test]
    fn keys_with_a_prefix() {
        for payload in [
            "a1 64 64657630 a1 09 a1 00 a1 01 05",
            "a1 84 64 64657630 09 00 01 05",
            "a1 81 64 64657630 a1 83 09 00 01 05",
        ] {
            let payload = hex(payload);
            let (records, _) = cbor(&payload).unwrap();
            assert_eq!(records[0].path.to_string(), "/dev0/9/0/1", "{payload:02x?}");
        }
    }

    #[test]
    fn a_path_may_occur_several_times() {
        let payload = hex("a1 83 09 00 01 05");
        let twice = [hex("a2 83 09 00 01 07"), payload[1..].to_vec()].concat();
        let (records, _) = cbor(&twice).unwrap();
        let seen: Vec<_> = records.into_iter().map(|record| record.value).collect();
        assert_eq!(seen, [Value::Integer(7), Value::Integer(5)]);
    }

    #[test]
    fn bad_records_do_not_spoil_the_others() {
        let payload = hex(
            "ab 82 09 00 a3 01 05 20 a1 00 01 01 f6  09 06  1a00010000 00  80 00  82 09 20 00
             82 61 64 61 65 00  a0 00  81 82 01 02 00  85 01 02 03 04 05 06  82 09 61 64 00
             83 09 00 01 07",
        );
        let (records, bad) = cbor(&payload).unwrap();
        let seen: Vec<_> = records.into_iter().map(|record| record.value).collect();
        assert_eq!(seen, [Value::Integer(5), Value::Integer(7)]);
        let bad: Vec<_> = bad.into_iter().map(|b| (b.path, b.reason)).collect();
        let expected = [
            ("/9/0", RecordError::Key),
            ("/9/0/1", RecordError::NoValue),
            ("/9", RecordError::NoResource),
            ("/", RecordError::Key),
            ("/", RecordError::Key),
            ("/", RecordError::Key),
            ("/", RecordError::Key),
            ("/", RecordError::Key),
            ("/", RecordError::Key),
            ("/", PathError::TooDeep.into()),
            ("/", RecordError::Key),
        ];
        assert_eq!(
            bad,
            expected.map(|(path, reason)| (path.to_owned(), reason))
        );
    }

    #[test]
    fn refuses_what_is_no_map() {
        for payload in [
            "80",
            "05",
            "a1",
            "a1 09",
            "a0 00",
            "bf 09 ff",
            "bbffffffffffffffff",
        ] {
            let result = cbor(&hex(payload)).map(|(records, _)| records.len());
            assert!(
                matches!(result, Err(DecodeError::Malformed { .. })),
                "{payload}"
            );
        }
        let nested = [[0xa1, 0x09].repeat(100_000), vec![0]].concat();
        assert_eq!(cbor(&nested), Err(DecodeError::Limit("nesting")));
    }

    #[test]
    fn writes() {
        let item = |path: &str, value| WriteItem {
            path: path.parse().unwrap(),
            value,
        };
        let items = [
            item("/9/0/1", Value::Integer(5)),
            item("/9/0/6/1", Value::Integer(6)),
            item("/9/0/6/2", Value::Integer(7)),
        ];
        for (base, items, bytes) in [
            ("/", &items[..], "a1 09 a1 00 a2 01 05 06 a2 01 06 02 07"),
            ("/9", &items, "a1 09 a1 00 a2 01 05 06 a2 01 06 02 07"),
            ("/9/0", &items, "a1 82 09 00 a2 01 05 06 a2 01 06 02 07"),
            ("/9/0/1", &items[..1], "a1 83 09 00 01 05"),
            ("/9/0/6", &items[1..], "a1 83 09 00 06 a2 01 06 02 07"),
            ("/9/0/6/1", &items[1..2], "a1 84 09 00 06 01 06"),
            ("/9/0", &[], "a0"),
        ] {
            assert_eq!(
                encode(&base.parse().unwrap(), items),
                Ok(hex(bytes)),
                "{base}"
            );
        }
        let both = [items[1].clone(), item("/9/0/6", Value::Integer(1))];
        assert!(encode(&Path::ROOT, &both).is_err());
        assert!(encode(&"/9/1".parse().unwrap(), &items).is_err());
    }

    #[test]
    fn requests_list_their_paths() {
        let paths = ["/3", "/3/0/9", "/dev0/3303"].map(|path| path.parse().unwrap());
        let format = ContentFormat::LWM2M_CBOR;
        assert_eq!(
            encode_paths(format, &paths),
            Ok(hex("a3 03 f6 83 03 00 09 f6 82 64 64657630 190ce7 f6"))
        );
        assert!(encode_paths(format, &[Path::ROOT]).is_err());
    }

    proptest! {
        #[test]
        fn round_trip((base, items) in any_write()) {
            let bytes = encode(&base, &items).unwrap();
            let (records, bad) = cbor(&bytes).unwrap();
            prop_assert!(bad.is_empty());
            prop_assert!(records.iter().all(|record| !record.inferred));
            let mut read: Vec<_> = records.into_iter().map(|r| (r.path, r.value)).collect();
            let mut written: Vec<_> = items.into_iter().map(|i| (i.path, i.value)).collect();
            read.sort_by(|a, b| a.0.cmp(&b.0));
            written.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(read, written);
        }

        #[test]
        fn damaged_bytes_never_panic(
            (base, items) in any_write(),
            at: prop::sample::Index,
            byte: u8,
            other: Vec<u8>,
        ) {
            let mut bytes = encode(&base, &items).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = cbor(&bytes);
            let _ = cbor(&bytes[..at]);
            let _ = cbor(&other);
        }
    }
}
