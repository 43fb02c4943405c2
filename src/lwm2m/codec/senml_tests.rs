use proptest::prelude::*;

use super::super::testing::{any_write, hex, read};
use super::super::{BadRecord, ContentFormat, Record, encode, encode_paths};
use super::*;
use crate::lwm2m::PathError;

fn json(payload: &str) -> Result<(Vec<Record<'_>>, Vec<BadRecord>), DecodeError> {
    read(ContentFormat::SENML_JSON, "/9/0", payload.as_bytes())
}

fn cbor(payload: &[u8]) -> Result<(Vec<Record<'_>>, Vec<BadRecord>), DecodeError> {
    read(ContentFormat::SENML_CBOR, "/9/0", payload)
}

fn values(records: Vec<Record<'_>>) -> Vec<Value<'_>> {
    records.into_iter().map(|record| record.value).collect()
}

#[test]
fn names_are_put_together_and_nothing_else() {
    for (payload, expected) in [
        (r#"[{"bn":"/3/0/","n":"9","v":1}]"#, "/3/0/9"),
        (r#"[{"bn":"/3/0","n":"/9","v":1}]"#, "/3/0/9"),
        (r#"[{"bn":"/3/0/1","n":"2","v":1}]"#, "/3/0/12"),
        (r#"[{"bn":"/3/0/9","v":1}]"#, "/3/0/9"),
        (r#"[{"n":"3/0/9","v":1}]"#, "/3/0/9"),
        (r#"[{"bn":"/","n":"3/0/9/1","v":1}]"#, "/3/0/9/1"),
        (
            r#"[{"bn":"/dev0/3303","n":"/0/5700","v":1}]"#,
            "/dev0/3303/0/5700",
        ),
        (r#"[{"bn":"\u002f3/0/","n":"\u0039","v":1}]"#, "/3/0/9"),
    ] {
        let (records, bad) = json(payload).unwrap();
        assert_eq!(records[0].path.to_string(), expected, "{payload}");
        assert!(bad.is_empty());
    }
    let (records, _) = read(ContentFormat::SENML_JSON, "/3/0/9", br#"[{"v":1}]"#).unwrap();
    assert_eq!(records[0].path.to_string(), "/3/0/9");
}

#[test]
fn base_fields_stay_in_force() {
    let (records, bad) = json(
        r#"[{"bn":"/9/0/","bt":1500000000,"bv":10,"n":"1","v":1},{"bn":"/9/1/"},
            {"n":"1","v":-2,"t":5.5},{"bt":1600000000,"n":"2","v":0.5},{"n":"0","vs":"x"},
            {"n":"1"},{"bv":0,"n":"1","v":3}]"#,
    )
    .unwrap();
    assert!(bad.is_empty());
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r.path.to_string(), r.value.clone(), r.time.unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ("/9/0/1".to_owned(), Value::Integer(11), 1_500_000_000.0),
            ("/9/1/1".to_owned(), Value::Integer(8), 1_500_000_005.5),
            ("/9/1/2".to_owned(), Value::Float(10.5), 1_600_000_000.0),
            (
                "/9/1/0".to_owned(),
                Value::String("x".into()),
                1_600_000_000.0
            ),
            ("/9/1/1".to_owned(), Value::Integer(10), 1_600_000_000.0),
            ("/9/1/1".to_owned(), Value::Integer(3), 1_600_000_000.0),
        ]
    );
}

#[test]
fn times() {
    let now = Some(1e9);
    for (base, time, now, expected) in [
        (None, None, now, Ok(None)),
        (None, Some(-5.0), now, Ok(Some(1e9 - 5.0))),
        (Some(0.0), None, now, Ok(Some(1e9))),
        (Some(-10.0), Some(3.0), now, Ok(Some(1e9 - 7.0))),
        (None, Some(-5.0), None, Ok(None)),
        (None, Some(268_435_455.0), now, Ok(Some(1_268_435_455.0))),
        (None, Some(268_435_456.0), now, Ok(Some(268_435_456.0))),
        (Some(1.5e9), Some(0.25), None, Ok(Some(1_500_000_000.25))),
        (Some(1e308), Some(1e308), now, Err(RecordError::Time)),
        (None, Some(f64::NAN), now, Err(RecordError::Time)),
    ] {
        assert_eq!(time_of(base, time, now), expected, "{base:?} {time:?}");
    }
}

#[test]
fn a_history_keeps_its_order() {
    let payload = r#"[{"bn":"/9/0/1","bt":1500000000,"v":3,"t":2},{"v":1,"t":0},{"v":2,"t":2}]"#;
    let (records, _) = json(payload).unwrap();
    let seen: Vec<_> = records.iter().map(|r| r.time.unwrap() - 1.5e9).collect();
    assert_eq!(seen, [2.0, 0.0, 2.0]);
    assert_eq!(
        values(records),
        [Value::Integer(3), Value::Integer(1), Value::Integer(2)]
    );
}

#[test]
fn bad_records_do_not_spoil_the_others() {
    let payload = r#"[{"bn":"/9/0/","n":"1","v":1},{"n":"x","v":2},{"n":"1"},{"n":"1","v":null},
        {"n":5,"v":1},{"n":"1","v":1,"vs":"a"},{"n":"1","v":1,"v":2},{"n":"1","t":"now","v":1},
        {"bn":"/9","n":"","v":1},{"n":"/0/1/0/0","v":1},{"n":"/0/1","v":[{"a":[1]}]},
        {"n":"/0/1","v":7,"u":"s","x":{"y":[1]}}]"#;
    let (records, bad) = json(payload).unwrap();
    assert_eq!(values(records), [Value::Integer(1), Value::Integer(7)]);
    let bad: Vec<_> = bad.into_iter().map(|b| (b.path, b.reason)).collect();
    let expected = [
        ("/9/0/x", PathError::BadSegment("x".into()).into()),
        ("/9/0/1", RecordError::NoValue),
        ("/9/0/1", RecordError::NoValue),
        ("/9/0/", RecordError::Name),
        ("/9/0/1", RecordError::Repeated),
        ("/9/0/1", RecordError::Repeated),
        ("/9/0/1", RecordError::Time),
        ("/9", RecordError::NoResource),
        ("/9/0/1/0/0", PathError::TooDeep.into()),
        ("/9/0/1", RecordError::NoValue),
    ];
    assert_eq!(
        bad,
        expected.map(|(path, reason)| (path.to_owned(), reason))
    );
}

#[test]
fn a_pack_of_bad_records_is_an_error() {
    assert_eq!(
        json(r#"[{"n":"/9/0","v":1},{"n":"x"}]"#),
        Err(DecodeError::Record(BadRecord {
            path: "/9/0".into(),
            reason: RecordError::NoResource
        }))
    );
}

#[test]
fn refuses_what_is_no_pack() {
    for payload in [
        "{}",
        "[1]",
        "[[]]",
        "[{}",
        "[] x",
        r#"[{"n":"/9/0/1","v":1}]]"#,
        r#"[{"bn":5,"n":"/9/0/1","v":1}]"#,
        r#"[{"bn":"/9/0/","bn":"/9/1/","n":"1","v":1}]"#,
        r#"[{"bt":"x","n":"/9/0/1","v":1}]"#,
        r#"[{"bv":true,"n":"/9/0/1","v":1}]"#,
        r#"[{"bver":11,"n":"/9/0/1","v":1}]"#,
        r#"[{"n":"/9/0/1","v":1,"new_":1}]"#,
        r#"[{"n":"/9/0/1","v":1e999}]"#,
    ] {
        let result = json(payload);
        assert!(
            matches!(result, Err(DecodeError::Malformed { .. })),
            "{payload} {result:?}"
        );
    }
    for payload in [
        "a0",                         // a map
        "8101",                       // a record that is no map
        "81a20065392f302f3102",       // cut off
        "9bffffffffffffffff",         // a length that lies
        "81bbffffffffffffffff0066",   // a map that lies
        "81a1007b7fffffffffffffff",   // a text that lies
        "81a200662f392f302f31020300", // bytes follow
        "81a20063ffffff0201",         // no UTF-8
        "81a2007f4161ff0201",         // a byte chunk in a text
        "81a2007f7f6161ffff0201",     // nested chunks
        "81a21a0000000066",           // cut off after a label
        "81bf0065392f302f3102ff",     // a break for a value
        "81a20065392f302f31021c",     // a reserved length
        "81a321662f392f302f31 0201 657465737 45f01",
    ] {
        let result = cbor(&hex(payload)).map(|(records, _)| values(records).len());
        assert!(
            matches!(result, Err(DecodeError::Malformed { .. })),
            "{payload} {result:?}"
        );
    }
}

#[test]
fn notations_of_cbor() {
    let one = |payload: &str| {
        let payload = hex(payload);
        let (mut records, bad) = cbor(&payload).unwrap();
        assert_eq!((records.len(), bad.len()), (1, 0), "{payload:02x?}");
        assert_eq!(records[0].path.to_string(), "/9/0/10");
        records.remove(0).value.into_owned()
    };
    let name = "00 67 2f392f302f3130";
    for (value, expected) in [
        ("02 1800", Value::Integer(0)), // longer than needed
        ("02 1b0000000000000005", Value::Integer(5)),
        ("02 20", Value::Integer(-1)),
        ("02 1bffffffffffffffff", Value::Unsigned(u64::MAX)),
        ("02 3b7fffffffffffffff", Value::Integer(i64::MIN)),
        ("02 3bffffffffffffffff", Value::Float(-(2f64.powi(64)))),
        ("02 f93c00", Value::Float(1.0)),
        ("02 fa3fc00000", Value::Float(1.5)),
        ("02 fb3ff199999999999a", Value::Float(1.1)),
        ("02 c4 82 21 196ab3", Value::Float(273.15)),
        ("02 c4 9f 02 20 ff", Value::Float(-100.0)),
        ("02 c4 82 1bffffffffffffffff 00", Value::Float(0.0)),
        ("02 c1 1a59682f00", Value::Integer(1_500_000_000)),
        ("02 d9d9f7 c1 01", Value::Integer(1)),
        ("04 f5", Value::Boolean(true)),
        ("04 f4", Value::Boolean(false)),
        ("03 7f 61 61 60 61 62 ff", Value::String("ab".into())),
        (
            "08 5f 41 ff 41 00 ff",
            Value::Opaque(b"\xff\x00"[..].into()),
        ),
        ("08 40", Value::Opaque(b""[..].into())),
        (
            "63 766c6f 64 36363a30",
            Value::ObjectLink {
                object: 66,
                instance: 0,
            },
        ),
        ("61 76 05", Value::Integer(5)), // "v"
    ] {
        assert_eq!(one(&format!("81 a2 {name} {value}")), expected, "{value}");
        assert_eq!(
            one(&format!("9f bf {value} {name} ff ff")),
            expected,
            "{value}"
        );
        // With a unit, an unknown label and a label that is an array.
        let more = "01 61 56 18 64 a1 82 01 02 9f 5f 41 00 ff ff 82 01 02 f7";
        assert_eq!(
            one(&format!("d9d9f7 81 a5 {name} {more} {value}")),
            expected,
            "{value}"
        );
    }
}

#[test]
fn values_that_no_resource_has() {
    for value in ["f6", "f7", "80", "a0", "c2 41 01", "c5 82 01 02", "e0"] {
        let payload = hex(&format!(
            "82 a2 00 66 2f392f302f31 02 {value} a2 00 66 2f392f302f31 02 01"
        ));
        let (records, bad) = cbor(&payload).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(bad[0].reason, RecordError::NoValue, "{value}");
    }
}

#[test]
fn limits() {
    let pack = |count: usize, record: &str| format!("[{}]", vec![record; count].join(","));
    let record = r#"{"n":"/9/0/1","v":1}"#;
    assert_eq!(json(&pack(100, record)).unwrap().0.len(), 100);
    for record in [record, r#"{"n":"x"}"#, r#"{"bn":"x"}"#] {
        assert_eq!(json(&pack(101, record)), Err(DecodeError::Limit("records")));
    }
    let nested = |depth: usize| {
        let value = [vec![0x81; depth], vec![0]].concat();
        [hex("81 a3 00 66 2f392f302f31 02 01 05"), value].concat()
    };
    assert!(cbor(&nested(16)).is_ok());
    assert_eq!(cbor(&nested(17)), Err(DecodeError::Limit("nesting")));
    assert_eq!(cbor(&nested(100_000)), Err(DecodeError::Limit("nesting")));
    let long = "ä".repeat(MAX_NAME);
    let payload = format!(r#"[{{"n":"/9/0/1","v":1}},{{"bn":"{long}","n":"{long}","v":1}}]"#);
    let (_, bad) = json(&payload).unwrap();
    assert_eq!(bad[0].reason, RecordError::LongName);
    assert_eq!(bad[0].path.len(), MAX_NAME);
}

#[test]
fn writes_names_below_the_base() {
    let item = |path: &str, value| WriteItem {
        path: path.parse().unwrap(),
        value,
    };
    let items = [
        item("/3/0/1", Value::String("a\"b".into())),
        item("/3/0/6/0", Value::Integer(-1)),
        item("/3/0/7", Value::Opaque(b"\xfb\xff"[..].into())),
    ];
    let write = |base: &str, items: &[WriteItem]| {
        let json = encode(ContentFormat::SENML_JSON, &base.parse().unwrap(), items);
        json.map(|json| String::from_utf8(json).unwrap())
    };
    assert_eq!(
        write("/3/0", &items).unwrap(),
        r#"[{"bn":"/3/0/","n":"1","vs":"a\"b"},{"n":"6/0","v":-1},{"n":"7","vd":"-_8"}]"#
    );
    assert_eq!(
        write("/3/0/1", &items[..1]).unwrap(),
        r#"[{"bn":"/3/0/1","vs":"a\"b"}]"#
    );
    assert_eq!(
        write("/", &items[1..2]).unwrap(),
        r#"[{"n":"/3/0/6/0","v":-1}]"#
    );
    assert!(write("/3/1", &items).is_err());
    assert!(write("/3/0", &[item("/3/0/1", Value::Float(f64::NAN))]).is_err());
}

#[test]
fn requests_list_their_paths() {
    let paths: Vec<Path> = ["/3/0/9", "/dev0/3303"]
        .iter()
        .map(|path| path.parse().unwrap())
        .collect();
    for format in [ContentFormat::SENML_JSON, ContentFormat::SENML_ETCH_JSON] {
        assert_eq!(
            encode_paths(format, &paths).unwrap(),
            br#"[{"n":"/3/0/9"},{"n":"/dev0/3303"}]"#
        );
    }
    assert_eq!(
        encode_paths(ContentFormat::SENML_CBOR, &paths[..1]).unwrap(),
        hex("81 a1 00 66 2f332f302f39")
    );
    assert!(encode_paths(ContentFormat::TLV, &paths).is_err());
}

proptest! {
    #[test]
    fn round_trip((base, items) in any_write()) {
        for format in [
            ContentFormat::SENML_JSON,
            ContentFormat::SENML_CBOR,
            ContentFormat::SENML_ETCH_JSON,
            ContentFormat::SENML_ETCH_CBOR,
        ] {
            let bytes = encode(format, &base, &items).unwrap();
            let (records, bad) = read(format, &base.to_string(), &bytes).unwrap();
            prop_assert!(bad.is_empty());
            prop_assert!(records.iter().all(|record| !record.inferred));
            let read: Vec<_> = records.into_iter().map(|r| (r.path, r.value)).collect();
            let written: Vec<_> = items.iter().map(|i| (i.path.clone(), i.value.clone())).collect();
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn damaged_packs_never_panic((base, items) in any_write(), at: prop::sample::Index, byte: u8) {
        for format in [ContentFormat::SENML_JSON, ContentFormat::SENML_CBOR] {
            let mut bytes = encode(format, &base, &items).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(format, "/9/0", &bytes);
            let _ = read(format, "/9/0", &bytes[..at]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, base in ".{0,8}", name in ".{0,8}") {
        let _ = cbor(&bytes);
        let _ = read(ContentFormat::SENML_JSON, "/", &bytes);
        let _ = json(&serde_json::json!([{"bn": base, "n": name, "vd": name}]).to_string());
    }
}
