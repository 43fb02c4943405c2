use proptest::prelude::*;

use super::super::{NoSchema, ResourceSchema};
use super::*;

/// Object 3: resource ids and types as in the Device object; 100.. one of each other type.
struct Device;

impl Schema for Device {
    fn resource(&self, object: u16, resource: u16) -> Option<ResourceSchema> {
        let kind = match resource {
            0 => ResourceType::String,
            9 | 6 | 7 => ResourceType::Integer,
            13 => ResourceType::Time,
            100 => ResourceType::Float,
            101 => ResourceType::UnsignedInteger,
            102 => ResourceType::Boolean,
            103 => ResourceType::ObjectLink,
            104 => ResourceType::Opaque,
            105 => ResourceType::CoreLink,
            _ => return None,
        };
        (object == 3).then_some(ResourceSchema {
            kind: Some(kind),
            multiple: resource == 6,
        })
    }
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn read<'a>(request: &str, payload: &'a [u8]) -> Result<Vec<Record<'a>>, DecodeError> {
    let mut out = Vec::new();
    decode(
        &path(request),
        payload,
        &Device,
        &DecodeOptions::default(),
        &mut out,
    )?;
    Ok(out)
}

fn paths(request: &str, payload: &[u8]) -> Vec<String> {
    read(request, payload)
        .unwrap()
        .iter()
        .map(|r| r.path.to_string())
        .collect()
}

#[test]
fn paths_of_every_shape() {
    let resource = b"\xc1\x09\x05";
    let instance = b"\x03\x02\xc1\x09\x05";
    let two_instances = b"\x03\x00\xc1\x09\x05\x03\x01\xc1\x09\x06";
    let multiple = b"\x83\x06\x41\x00\x01";
    let bare = b"\x41\x00\x01\x41\x07\x05";
    for (request, payload, expected) in [
        ("/3/0/9", &resource[..], &["/3/0/9"][..]),
        ("/3/0/10", resource, &["/3/0/9"]),
        ("/3/0/6/4", resource, &["/3/0/9"]),
        ("/3/0/6/4", b"\xc1\x06\x05", &["/3/0/6/4"]),
        ("/3/0/6/4", b"\xc1\x04\x05", &["/3/0/6/4"]),
        ("/3/4", resource, &["/3/4/9"]),
        ("/3", resource, &["/3/0/9"]),
        ("/dev0/3/4", resource, &["/dev0/3/4/9"]),
        ("/3", instance, &["/3/2/9"]),
        ("/3/0", instance, &["/3/0/9"]),
        ("/3/0/9", instance, &["/3/2/9"]),
        ("/3", two_instances, &["/3/0/9", "/3/1/9"]),
        ("/3/0", two_instances, &["/3/0/9", "/3/1/9"]),
        ("/3/0/6", multiple, &["/3/0/6/0"]),
        ("/3/0/6/0", multiple, &["/3/0/6/0"]),
        ("/3/0", multiple, &["/3/0/6/0"]),
        ("/3/0/6", bare, &["/3/0/6/0", "/3/0/6/7"]),
        ("/3/0/6/7", &bare[..3], &["/3/0/6/7"]),
        ("/3/0", b"", &[]),
        ("/3/0/6", b"\x80\x06", &[]),
    ] {
        assert_eq!(
            paths(request, payload),
            expected,
            "{request} {payload:02x?}"
        );
    }
    for request in ["/", "/3", "/3/0"] {
        assert!(
            matches!(read(request, bare), Err(DecodeError::PathMismatch { .. })),
            "{request}"
        );
    }
}

#[test]
fn one_bad_value_or_unknown_resource_leaves_the_rest() {
    // 9 of three bytes, 13 of one byte, 200 unknown text, 201 unknown number, 202 unknown bytes.
    let payload =
        b"\xc3\x09\x01\x02\x03\xc1\x0d\xff\xc3\xc8ok!\xc2\xc9\x01\x02\xc3\xca\x00\x01\x02";
    let records = read("/3/0", payload).unwrap();
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r.value.clone(), r.inferred))
        .collect();
    assert_eq!(
        seen,
        [
            (Value::Opaque(Cow::Borrowed(b"\x01\x02\x03")), true),
            (Value::Time(255), false),
            (Value::String("ok!".into()), true),
            (Value::Integer(258), true),
            (Value::Opaque(Cow::Borrowed(b"\x00\x01\x02")), true),
        ]
    );
    let text = read("/3/0/0", b"\xc1\x00\xff").unwrap();
    assert_eq!(text[0].value, Value::Opaque(Cow::Borrowed(b"\xff")));
    assert!(text[0].inferred);
    assert_eq!(
        read("/3/0/9", b"\xc3\x09\x01\x02\x03"),
        Err(DecodeError::BadValue {
            path: path("/3/0/9"),
            expected: ResourceType::Integer
        })
    );
}

#[test]
fn a7_a_resource_that_was_not_asked_for_keeps_its_own_path() {
    let records = read("/3/0/9", b"\xc4\x00\x41\x63\x6d\x65").unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].path, path("/3/0/0"));
    assert_eq!(records[0].value, Value::String("Acme".into()));
}

#[test]
fn a10_object_links_as_text() {
    let link = |object, instance| Value::ObjectLink { object, instance };
    for (payload, value) in [
        (&b"\xc4\x67\x00\x03\x00\x00"[..], link(3, 0)),
        (b"\xc3\x673:0", link(3, 0)),
        (b"\xc4\x6766:0", link(66, 0)),
        (b"\xc4\x673:0\0", link(3, 0)),
    ] {
        assert_eq!(read("/3/0/103", payload).unwrap()[0].value, value);
    }
}

#[test]
fn widths() {
    let value = |payload| read("/3/0", payload).unwrap().remove(0).value;
    assert_eq!(value(b"\xc0\x09"), Value::Integer(0));
    assert_eq!(value(b"\xc1\x09\xff"), Value::Integer(-1));
    assert_eq!(value(b"\xc2\x09\xff\x7f"), Value::Integer(-129));
    assert_eq!(value(b"\xc1\x65\xff"), Value::Unsigned(255));
    assert_eq!(
        value(b"\xc8\x65\x08\xff\xff\xff\xff\xff\xff\xff\xff"),
        Value::Unsigned(u64::MAX)
    );
    assert_eq!(
        value(b"\xc4\x64\x3d\xcc\xcc\xcd"),
        Value::Float(f64::from(0.1_f32))
    );
    assert!(matches!(value(b"\xc4\x64\x7f\xc0\x00\x00"), Value::Float(n) if n.is_nan()));
    assert_eq!(
        value(b"\xc4\x0d\xbc\x84\x4e\x7c"),
        Value::Time(3_162_787_452)
    );
}

#[test]
fn broken_nesting_is_malformed() {
    for payload in [
        &b"\xc8\x00\x14a"[..],
        b"\xc8",
        b"\xf0\x00",
        b"\x02\x00\x40\x00",
        b"\x82\x06\xc0\x00",
        b"\xc1\x09\x01\xc1\x09\x02",
        b"\x03\x00\xc1\x09\x05\x03\x00\xc1\x09\x05",
    ] {
        assert!(
            matches!(read("/3", payload), Err(DecodeError::Malformed { .. })),
            "{payload:02x?}"
        );
    }
}

#[test]
fn records_are_limited() {
    let options = DecodeOptions {
        max_records: 1,
        ..DecodeOptions::default()
    };
    let mut out = Vec::new();
    assert_eq!(
        decode(
            &path("/3/0"),
            b"\xc0\x00\xc0\x01",
            &NoSchema,
            &options,
            &mut out
        ),
        Err(DecodeError::Limit("records"))
    );
    out.clear();
    assert_eq!(
        decode(&path("/3/0"), b"\xc0\x00", &NoSchema, &options, &mut out),
        Ok(())
    );
}

fn item(at: &str, value: Value<'static>) -> WriteItem {
    WriteItem {
        path: path(at),
        value,
    }
}

#[test]
fn writes_as_emqx_does() {
    let integer = |at, number| item(at, Value::Integer(number));
    for (base, items, expected) in [
        ("/3/0/13", vec![integer("/3/0/13", 128)], "c20d0080"),
        ("/3/0/13", vec![integer("/3/0/13", -129)], "c20dff7f"),
        ("/3/0/13", vec![integer("/3/0/13", 12345)], "c20d3039"),
        ("/3/0/13", vec![integer("/3/0/13", 70000)], "c40d00011170"),
        (
            "/3/0/13",
            vec![item("/3/0/13", Value::Float(1.5))],
            "c80d083ff8000000000000",
        ),
        (
            "/3/0/13",
            vec![item("/3/0/13", Value::Opaque(vec![1, 2, 3].into()))],
            "c30d010203",
        ),
        (
            "/3/0/13",
            vec![item("/3/0/13", Value::String("".into()))],
            "c00d",
        ),
        (
            "/3/0/13",
            vec![item(
                "/3/0/13",
                Value::ObjectLink {
                    object: 3,
                    instance: 0,
                },
            )],
            "c40d00030000",
        ),
        (
            "/3/0",
            vec![
                integer("/3/0/13", 12345),
                item("/3/0/14", Value::String("87x".into())),
            ],
            "c20d3039c30e383778",
        ),
        (
            "/3/0",
            vec![integer("/3/0/11/0", 1), integer("/3/0/11/1", 2)],
            "860b410001410102",
        ),
        (
            "/3/0/13",
            vec![integer("/3/0/13/0", 1), integer("/3/0/13/1", 2)],
            "860d410001410102",
        ),
        (
            "/3/0/13",
            vec![
                integer("/3/0/13/0", 1),
                integer("/3/0/13/1", 2),
                integer("/3/0/13/0", 3),
            ],
            "860d410102410003",
        ),
        ("/3/0/13/300", vec![integer("/3/0/13/300", 1)], "61012c01"),
        ("/5", vec![], ""),
        (
            "/3",
            vec![
                item("/3/0/0", Value::String("x".into())),
                integer("/3/0/11/1", 5),
            ],
            "080008c10078830b410105",
        ),
        (
            "/3",
            vec![
                integer("/3/1/9", 1),
                integer("/3/0/9", 2),
                integer("/3/1/10", 3),
            ],
            "0601c10901c10a030300c10902",
        ),
    ] {
        let bytes = encode(&path(base), &items).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "{base} {items:?}");
    }
}

#[test]
fn refuses_what_has_no_shape() {
    let value = || Value::Integer(1);
    assert!(matches!(
        encode(&path("/3/0"), &[item("/3/1/0", value())]),
        Err(EncodeError::OutsideBase { .. })
    ));
    assert!(encode(&Path::ROOT, &[item("/3/1/0", value())]).is_err());
    assert!(encode(&path("/3/0"), &[item("/3/0", value())]).is_err());
    let both = [item("/3/0/6", value()), item("/3/0/6/0", value())];
    assert!(encode(&path("/3/0"), &both).is_err());
    let huge = item("/3/0/0", Value::Opaque(vec![0; 1 << 24].into()));
    assert!(encode(&path("/3/0/0"), &[huge]).is_err());
}

#[test]
fn lengths_of_every_class() {
    for length in [0, 7, 8, 255, 256, 65_535, 65_536] {
        let bytes = vec![0x55; length];
        let written = encode(
            &path("/3/0/104"),
            &[item("/3/0/104", Value::Opaque(bytes.clone().into()))],
        )
        .unwrap();
        let records = read("/3/0/104", &written).unwrap();
        assert_eq!(records[0].value, Value::Opaque(Cow::Owned(bytes)));
    }
}

fn any_value() -> impl Strategy<Value = (u16, Value<'static>)> {
    prop_oneof![
        ".*".prop_map(|text| (0, Value::String(text.into()))),
        any::<i64>().prop_map(|number| (9, Value::Integer(number))),
        any::<i16>().prop_map(|number| (9, Value::Integer(number.into()))),
        any::<i64>().prop_map(|seconds| (13, Value::Time(seconds))),
        any::<i32>().prop_map(|seconds| (13, Value::Time(seconds.into()))),
        any::<i8>().prop_map(|seconds| (13, Value::Time(seconds.into()))),
        (-1e300..1e300).prop_map(|number| (100, Value::Float(number))),
        any::<u64>().prop_map(|number| (101, Value::Unsigned(number))),
        any::<bool>().prop_map(|value| (102, Value::Boolean(value))),
        any::<(u16, u16)>()
            .prop_map(|(object, instance)| (103, Value::ObjectLink { object, instance })),
        any::<Vec<u8>>().prop_map(|bytes| (104, Value::Opaque(bytes.into()))),
        ".*".prop_map(|text| (105, Value::CoreLink(text.into()))),
    ]
}

proptest! {
    #[test]
    fn round_trip(
        base_depth in 1..4_usize,
        values in prop::collection::vec((any::<u16>(), any::<u16>(), any_value()), 1..8),
    ) {
        let mut items: Vec<WriteItem> = Vec::new();
        for (instance, resource_instance, (resource, value)) in values {
            let instance = if base_depth == 1 { instance } else { 2 };
            let path = Path::new(&[3, instance, resource, resource_instance]).unwrap();
            if !items.iter().any(|item| item.path == path) {
                items.push(WriteItem { path, value });
            }
        }
        if base_depth == 3 {
            let first = items[0].path.truncated(3);
            items.retain(|item| first.contains(&item.path));
        }
        let base = items[0].path.truncated(base_depth);
        let bytes = encode(&base, &items).unwrap();
        let mut records = Vec::new();
        decode(&base, &bytes, &Device, &DecodeOptions::default(), &mut records).unwrap();
        prop_assert!(records.iter().all(|record| !record.inferred));
        let mut read: Vec<_> = records.into_iter().map(|r| (r.path, r.value)).collect();
        let mut written: Vec<_> = items.into_iter().map(|i| (i.path, i.value)).collect();
        read.sort_by(|a, b| a.0.cmp(&b.0));
        written.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(read, written);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        ids in prop::collection::vec(any::<u16>(), 0..=4),
        payload: Vec<u8>,
    ) {
        let mut out = Vec::new();
        let request = Path::new(&ids).unwrap();
        let _ = decode(&request, &payload, &Device, &DecodeOptions::default(), &mut out);
    }
}
