//! SenML packs of a device, in JSON and CBOR (RFC 8428; LwM2M Core 1.1 §7.4.4 and §7.4.5), written
//! and read apart from the gateway's codecs.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value as Json};

use super::cbor::{self, Item};
use super::objects::{Content, Objects, Value};
use super::wire::format;
use crate::lwm2m::Path;

/// Most records that are read.
const MAX_RECORDS: usize = 1000;

/// Labels in CBOR (RFC 8428 §6).
mod label {
    pub(super) const BASE_NAME: i64 = -2;
    pub(super) const NAME: i64 = 0;
    pub(super) const NUMBER: i64 = 2;
    pub(super) const TEXT: i64 = 3;
    pub(super) const BOOLEAN: i64 = 4;
    pub(super) const BYTES: i64 = 8;
}

/// What came for a path; a request to read has no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) path: Path,
    pub(super) value: Option<Value>,
}

/// Everything that can be read at a path and below it.
pub(super) fn values<'a>(objects: &'a Objects, path: &Path) -> Vec<(Path, &'a Value)> {
    let mut found = Vec::new();
    let Some(object) = path.object() else {
        return found;
    };
    if let Some(instances) = objects.map.get(&object) {
        for (instance, resources) in instances {
            for (resource, held) in resources {
                let Some(here) = Path::new(&[object, *instance, *resource]) else {
                    continue;
                };
                match &held.content {
                    Content::One(value) if path.contains(&here) => found.push((here, value)),
                    Content::Many(values) => {
                        let each = values.iter();
                        let each = each.filter_map(|(id, value)| Some((here.child(*id)?, value)));
                        found.extend(each.filter(|(here, _)| path.contains(here)));
                    }
                    _ => {}
                }
            }
        }
    }
    found
}

/// A pack of these values; `None` when `form` is none of SenML's.
pub(super) fn write(form: u16, values: &[(Path, &Value)]) -> Option<Vec<u8>> {
    match form {
        format::SENML_JSON => Some(
            Json::Array(values.iter().map(json).collect())
                .to_string()
                .into(),
        ),
        format::SENML_CBOR => {
            let mut out = Vec::new();
            cbor::head(&mut out, 4, values.len() as u64);
            for (path, value) in values {
                cbor::head(&mut out, 5, 2);
                cbor::value(&mut out, &Value::Integer(label::NAME));
                cbor::value(&mut out, &Value::Text(path.to_string()));
                let kind = match value {
                    Value::Text(_) => label::TEXT,
                    Value::Integer(_) | Value::Float(_) => label::NUMBER,
                    Value::Boolean(_) => label::BOOLEAN,
                    Value::Opaque(_) => label::BYTES,
                };
                cbor::value(&mut out, &Value::Integer(kind));
                cbor::value(&mut out, value);
            }
            Some(out)
        }
        _ => None,
    }
}

fn json((path, value): &(Path, &Value)) -> Json {
    let (key, value) = match value {
        Value::Text(text) => ("vs", text.clone().into()),
        Value::Integer(number) => ("v", (*number).into()),
        Value::Float(number) => ("v", (*number).into()),
        Value::Boolean(flag) => ("vb", (*flag).into()),
        Value::Opaque(bytes) => ("vd", URL_SAFE_NO_PAD.encode(bytes).into()),
    };
    let mut record = Map::new();
    record.insert("n".to_owned(), path.to_string().into());
    record.insert(key.to_owned(), value);
    Json::Object(record)
}

/// The records of a pack; `None` when it cannot be read, or `form` is none of SenML's.
pub(super) fn read(form: u16, payload: &[u8]) -> Option<Vec<Record>> {
    match form {
        format::SENML_JSON => {
            let pack: Vec<Map<String, Json>> = serde_json::from_slice(payload).ok()?;
            resolved(pack.iter().map(fields_of_json))
        }
        format::SENML_CBOR => match cbor::read(payload)? {
            Item::Array(pack) => resolved(pack.iter().map(fields_of_cbor)),
            _ => None,
        },
        _ => None,
    }
}

#[derive(Default)]
struct Fields {
    base: Option<String>,
    name: String,
    value: Option<Value>,
}

/// Puts names together: the base name stays until there is another one (RFC 8428 §4.6).
fn resolved(pack: impl Iterator<Item = Option<Fields>>) -> Option<Vec<Record>> {
    let mut base = String::new();
    let mut records = Vec::new();
    for fields in pack {
        let fields = fields?;
        base = fields.base.unwrap_or(base);
        let path = format!("{base}{}", fields.name);
        let path: Path = path.trim_end_matches('/').parse().ok()?;
        // Nothing stands in front of a device's ids.
        if path.prefix().is_some() {
            return None;
        }
        records.push(Record {
            path,
            value: fields.value,
        });
        if records.len() > MAX_RECORDS {
            return None;
        }
    }
    Some(records)
}

fn fields_of_json(record: &Map<String, Json>) -> Option<Fields> {
    let mut fields = Fields::default();
    for (key, value) in record {
        match (key.as_str(), value) {
            ("bn", Json::String(base)) => fields.base = Some(base.clone()),
            ("n", Json::String(name)) => fields.name.clone_from(name),
            ("v", Json::Number(number)) => {
                let whole = number.as_i64().map(Value::Integer);
                fields.value = whole.or_else(|| number.as_f64().map(Value::Float));
            }
            ("vs" | "vlo", Json::String(text)) => fields.value = Some(Value::Text(text.clone())),
            ("vb", Json::Bool(flag)) => fields.value = Some(Value::Boolean(*flag)),
            ("vd", Json::String(text)) => {
                let text = text.trim_end_matches('=');
                let bytes = URL_SAFE_NO_PAD.decode(text);
                let bytes = bytes.or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
                fields.value = Some(Value::Opaque(bytes));
            }
            // Times and units of a server say nothing to a device.
            ("bt" | "t" | "u" | "bu" | "ut" | "bver", _) => {}
            _ => return None,
        }
    }
    Some(fields)
}

fn fields_of_cbor(record: &Item) -> Option<Fields> {
    let Item::Map(record) = record else {
        return None;
    };
    let mut fields = Fields::default();
    for (key, value) in record {
        let (Item::Value(key), Item::Value(value)) = (key, value) else {
            return None;
        };
        match (key, value) {
            (Value::Integer(label::BASE_NAME), Value::Text(base)) => {
                fields.base = Some(base.clone());
            }
            (Value::Integer(label::NAME), Value::Text(name)) => fields.name.clone_from(name),
            (
                Value::Integer(label::NUMBER | label::TEXT | label::BOOLEAN | label::BYTES),
                value,
            ) => fields.value = Some(value.clone()),
            // An object link has a name where other labels are numbers (LwM2M Core 1.1 §7.4.5).
            (Value::Text(name), Value::Text(_)) if name == "vlo" => {
                fields.value = Some(value.clone());
            }
            (Value::Integer(_), _) => {}
            _ => return None,
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    #[test]
    fn packs_of_what_can_be_read() {
        let objects = Objects::new(&[3, 5, 6], 0, 60, "U");
        let found = values(&objects, &path("/3/0/7"));
        let paths: Vec<_> = found.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(paths, ["/3/0/7/0", "/3/0/7/1"]);
        assert_eq!(values(&objects, &path("/3/0/7/1")).len(), 1);
        assert_eq!(values(&objects, &path("/3/0/4")), [], "an action");
        assert_eq!(values(&objects, &path("/5/0/0")), [], "to be written only");
        assert_eq!(
            write(format::SENML_JSON, &values(&objects, &path("/3/0/16"))).unwrap(),
            br#"[{"n":"/3/0/16","vs":"U"}]"#
        );
        assert_eq!(
            write(format::SENML_CBOR, &values(&objects, &path("/3/0/9"))).unwrap(),
            b"\x81\xa2\x00\x66/3/0/9\x02\x18\x4b"
        );
        assert_eq!(write(format::TLV, &[]), None);
        for form in [format::SENML_JSON, format::SENML_CBOR] {
            let found = values(&objects, &path("/6"));
            let pack = write(form, &found).unwrap();
            let read = read(form, &pack).unwrap();
            let expected = found.into_iter().map(|(path, value)| Record {
                path,
                value: Some(value.clone()),
            });
            assert_eq!(read.len(), 7);
            for (read, expected) in read.iter().zip(expected) {
                assert_eq!(read.path, expected.path);
                // A whole number is the same in JSON, float or not.
                match (&read.value, &expected.value) {
                    (Some(Value::Float(a)), Some(Value::Float(b))) => assert_eq!(a, b),
                    (a, b) => assert_eq!(a, b),
                }
            }
        }
    }

    #[test]
    fn names_are_put_together() {
        let pack = br#"[{"bn":"/3/0/","n":"14","vs":"x"},{"n":"6/1","v":2.5},{"bn":"/1/0/7"}]"#;
        let records = read(format::SENML_JSON, pack).unwrap();
        let seen: Vec<_> = records.iter().map(|it| it.path.to_string()).collect();
        assert_eq!(seen, ["/3/0/14", "/3/0/6/1", "/1/0/7"]);
        assert_eq!(records[1].value, Some(Value::Float(2.5)));
        assert_eq!(records[2].value, None);
        let pack = b"\x82\xa2\x21\x65/3/0/\x00\x6214\xa2\x00\x6215\x08\x41\xff";
        let records = read(format::SENML_CBOR, pack).unwrap();
        assert_eq!(records[0].path, path("/3/0/14"));
        assert_eq!(records[1].value, Some(Value::Opaque(vec![0xff])));
        for broken in [
            "{}",
            "[1]",
            r#"[{"n":"x"}]"#,
            r#"[{"v":"1"}]"#,
            r#"[{"vd":"?"}]"#,
        ] {
            assert_eq!(
                read(format::SENML_JSON, broken.as_bytes()),
                None,
                "{broken}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(format::SENML_CBOR, &bytes);
            let _ = read(format::SENML_JSON, &bytes);
        }
    }
}
