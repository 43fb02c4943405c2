//! The old JSON format, as devices write it.

use proptest::prelude::*;

use super::super::{NoSchema, ResourceSchema};
use super::*;

/// The resource id chooses the type.
struct Typed;

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
            _ => return None,
        };
        Some(ResourceSchema {
            kind: Some(kind),
            multiple: false,
        })
    }
}

fn read<'a>(request: &str, payload: &'a str) -> Result<Vec<Record<'a>>, DecodeError> {
    let options = DecodeOptions {
        now: Some(1_000_000_000.0),
        ..DecodeOptions::default()
    };
    let mut out = Vec::new();
    let request = request.parse().unwrap();
    decode(&request, payload.as_bytes(), &Typed, &options, &mut out)?;
    Ok(out)
}

#[test]
fn names() {
    for (request, payload, expected) in [
        ("/3/0", r#"{"bn":"/3/0/","e":[{"n":"0","v":1}]}"#, "/3/0/0"),
        ("/3/0", r#"{"bn":"/3/0","e":[{"n":"/0","v":1}]}"#, "/3/0/0"),
        (
            "/3/0",
            r#"{"bn":"/3/0","e":[{"n":"0/1","v":1}]}"#,
            "/3/0/0/1",
        ),
        ("/3/0/0", r#"{"bn":"/3/0/0","e":[{"v":1}]}"#, "/3/0/0"),
        (
            "/3/0/0",
            r#"{"bn":"/3/0/0/","e":[{"n":"","v":1}]}"#,
            "/3/0/0",
        ),
        ("/3/0", r#"{"bn":"","e":[{"n":"3/0/0","v":1}]}"#, "/3/0/0"),
        ("/3/0", r#"{"e":[{"n":"0","v":1}]}"#, "/3/0/0"),
        ("/3/0/0", r#"{"e":[{"v":1}]}"#, "/3/0/0"),
        ("/3/0", r#"{"e":[{"n":"/4/1/2","v":1}]}"#, "/4/1/2"),
        (
            "/d/3/0",
            r#"{"bn":"/d/3/0/","e":[{"n":"0","v":1}]}"#,
            "/d/3/0/0",
        ),
    ] {
        let records = read(request, payload).unwrap();
        assert_eq!(records[0].path.to_string(), expected, "{payload}");
    }
}

#[test]
fn b6_a_base_may_end_within_an_id() {
    for (request, base, name, expected) in [
        ("/3/0/11", "3/0/1", "1/0", "/3/0/11/0"),
        ("/3/0/11", "3/0/1", "1/1", "/3/0/11/1"),
        ("/3/0/11", "/3/0/1", "1", "/3/0/11"),
        ("/3303", "/33", "03/0/5700", "/3303/0/5700"),
        // A slash that was left out.
        ("/3/0", "/3/0", "1/1", "/3/0/1/1"),
        ("/3/0/11", "/3/0", "11", "/3/0/11"),
        ("/3/0/11", "/3/0/11", "0", "/3/0/11/0"),
        ("/3", "/3/0", "/9", "/3/0/9"),
    ] {
        let payload = format!(r#"{{"bn":"{base}","e":[{{"n":"{name}","v":1}}]}}"#);
        let records = read(request, &payload).unwrap();
        assert_eq!(records[0].path.to_string(), expected, "{base} {name}");
    }
}

#[test]
fn values_and_guesses() {
    let payload = r#"{"bn":"/9/0/","e":[{"n":"0","sv":"a\u00e9"},{"n":"1","v":5},
        {"n":"1/1","v":5.5},{"n":"2","v":2},{"n":"3","bv":true},{"n":"3/1","v":0},
        {"n":"4","sv":"AP8="},{"n":"4/1","sv":"!"},{"n":"5","v":7},{"n":"6","ov":"3:0"},
        {"n":"7","v":18446744073709551615},{"n":"9","v":1},{"n":"0/1","v":1}]}"#;
    let records = read("/9/0", payload).unwrap();
    let seen: Vec<_> = records.into_iter().map(|r| (r.value, r.inferred)).collect();
    assert_eq!(
        seen,
        [
            (Value::String("a\u{e9}".into()), false),
            (Value::Integer(5), false),
            (Value::Float(5.5), false),
            (Value::Integer(2), false),
            (Value::Boolean(true), false),
            (Value::Boolean(false), false),
            (Value::Opaque(Cow::Borrowed(b"\x00\xff")), false),
            (Value::String("!".into()), true),
            (Value::Time(7), false),
            (
                Value::ObjectLink {
                    object: 3,
                    instance: 0
                },
                false
            ),
            (Value::Unsigned(u64::MAX), false),
            (Value::Integer(1), true),
            (Value::Integer(1), true),
        ]
    );
}

#[test]
fn times_are_times() {
    let payload = r#"{"bn":"/9/0/1","bt":1500000000,"e":[{"v":1},{"t":-5,"v":2}]}"#;
    let records = read("/9/0/1", payload).unwrap();
    assert_eq!(records[0].time, Some(1_500_000_000.0));
    assert_eq!(records[1].time, Some(1_499_999_995.0));
    assert_eq!(records[1].value, Value::Integer(2));
    let relative = read("/9/0/1", r#"{"bn":"/9/0/1","e":[{"t":-5,"v":2},{"v":3}]}"#).unwrap();
    assert_eq!(relative[0].time, Some(999_999_995.0));
    assert_eq!(relative[1].time, None);
}

#[test]
fn refuses_what_is_no_pack() {
    for payload in [
        "",
        "[]",
        "{}",
        r#"{"bn":"/2/0/","e":[{"n":"0"}]}"#,
        r#"{"bn":"/2/0/","e":[{"n":"0","t":5}]}"#,
        r#"{"bn":"/2/0/","e":[{"n":"x","v":1}]}"#,
        r#"{"bn":"/2/0","e":[{"v":1}]}"#,
        r#"{"bn":"/2/0/1/1/1","e":[{"v":1}]}"#,
    ] {
        assert!(read("/2/0", payload).is_err(), "{payload}");
    }
}

#[test]
fn elements_are_limited() {
    let mut payload = String::from(r#"{"bn":"/9/0/1","e":["#);
    for _ in 0..=MAX_RECORDS {
        payload.push_str(r#"{"v":1},"#);
    }
    payload.push_str(r#"{"v":1}]}"#);
    assert_eq!(read("/9/0/1", &payload), Err(DecodeError::Limit("records")));
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
    ];
    let text = encode(&"/3/0".parse().unwrap(), &items).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        r#"{"bn":"/3/0/","e":[{"n":"1","sv":"a\"b"},{"n":"6/0","v":-1}]}"#
    );
    let text = encode(&"/3/0/1".parse().unwrap(), &items[..1]).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        r#"{"bn":"/3/0/","e":[{"n":"1","sv":"a\"b"}]}"#
    );
    let nan = [item("/3/0/1", Value::Float(f64::NAN))];
    assert!(encode(&"/3/0/1".parse().unwrap(), &nan).is_err());
}

fn any_value() -> impl Strategy<Value = (u16, Value<'static>)> {
    prop_oneof![
        ".*".prop_map(|text| (0, Value::String(text.into()))),
        any::<i64>().prop_map(|number| (1, Value::Integer(number))),
        (-1e9..1e9).prop_map(|number| (2, Value::Float(number))),
        any::<bool>().prop_map(|value| (3, Value::Boolean(value))),
        any::<Vec<u8>>().prop_map(|bytes| (4, Value::Opaque(bytes.into()))),
        any::<i64>().prop_map(|seconds| (5, Value::Time(seconds))),
        any::<(u16, u16)>()
            .prop_map(|(object, instance)| (6, Value::ObjectLink { object, instance })),
        any::<u64>().prop_map(|number| (7, Value::Unsigned(number))),
    ]
}

proptest! {
    #[test]
    fn round_trip(
        depth in 0..=4_usize,
        values in prop::collection::vec((any::<u16>(), any_value()), 1..8),
    ) {
        let mut items: Vec<WriteItem> = Vec::new();
        for (resource_instance, (resource, value)) in values {
            let path = Path::new(&[9, 0, resource, resource_instance]).unwrap();
            if !items.iter().any(|item| item.path == path) {
                items.push(WriteItem { path, value });
            }
        }
        let base = items[0].path.truncated(depth);
        items.retain(|item| base.contains(&item.path));
        let bytes = encode(&base, &items).unwrap();
        let mut records = Vec::new();
        decode(&base, &bytes, &Typed, &DecodeOptions::default(), &mut records).unwrap();
        let read: Vec<_> = records.into_iter().map(|r| (r.path, r.value)).collect();
        let written: Vec<_> = items.into_iter().map(|i| (i.path, i.value)).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn arbitrary_text_never_panics(bytes: Vec<u8>, name in ".{0,8}", text in ".{0,16}") {
        let options = DecodeOptions::default();
        let root = Path::ROOT;
        let _ = decode(&root, &bytes, &NoSchema, &options, &mut Vec::new());
        let pack = serde_json::json!({"bn": name, "e": [{"n": text, "sv": text, "t": 1e308}]});
        let pack = pack.to_string();
        let _ = decode(&root, pack.as_bytes(), &Typed, &options, &mut Vec::new());
    }
}
