//! Series: the shape of the messages, their order and their bounds.

use std::collections::BTreeMap;

use super::*;
use crate::bridge::answer::content::{self, Context};
use crate::config::Compat;
use crate::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const ENDPOINT: &str = "urn:imei:35045779074654654";

fn record(path: &str, value: Value<'static>, time: Option<f64>) -> Record<'static> {
    Record {
        path: path.parse().unwrap(),
        value,
        time,
        inferred: false,
    }
}

fn one(records: &[Record<'_>], config: &Series) -> Json {
    let messages = series("ep", records, config);
    assert_eq!(messages.len(), 1);
    serde_json::from_slice(&messages[0]).unwrap()
}

#[test]
fn a_send_of_firmware_version_and_battery_level() {
    // [{-2: "/3/", 0: "0/3", 3: "1.0.3"}, {0: "0/9", 2: 74}]
    let payload = b"\x82\xa3\x21\x63/3/\x00\x630/3\x03\x651.0.3\xa2\x00\x630/9\x02\x18\x4a";
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_2);
    let compat = Compat::default();
    let context = Context {
        path: None,
        schema: &schema,
        alternate_path: "/",
        compat: &compat,
        now: Some(1_700_000_000.0),
    };
    let body = content::read_send(Some(112), payload, &context).unwrap();
    let messages = series(ENDPOINT, body.records(), &Series::default());
    let expected = concat!(
        r#"{"series":[{"ingestionId":"urn:imei:35045779074654654$/3/0/3","#,
        r#""measurements":[{"text":"1.0.3"}]},"#,
        r#"{"ingestionId":"urn:imei:35045779074654654$/3/0/9","#,
        r#""measurements":[{"number":74}]}]}"#
    );
    assert_eq!(messages, [expected.as_bytes()]);
}

#[test]
fn values_of_every_type() {
    let link = Value::ObjectLink {
        object: 3,
        instance: 0,
    };
    let bytes = Value::Opaque(Cow::Borrowed(&[1, 2, 255]));
    let text = Series {
        boolean: BooleanSeries::Text,
        ..Series::default()
    };
    for (value, config, shown) in [
        (Value::Integer(-5), Series::default(), json!({"number": -5})),
        (
            Value::Unsigned(u64::MAX),
            Series::default(),
            json!({"number": u64::MAX}),
        ),
        (
            Value::Float(21.5),
            Series::default(),
            json!({"number": 21.5}),
        ),
        (Value::Time(7), Series::default(), json!({"number": 7})),
        (
            Value::Boolean(true),
            Series::default(),
            json!({"number": 1}),
        ),
        (
            Value::Boolean(false),
            Series::default(),
            json!({"number": 0}),
        ),
        (Value::Boolean(true), text.clone(), json!({"text": "true"})),
        (Value::Boolean(false), text, json!({"text": "false"})),
        (
            Value::String("a\"\n".into()),
            Series::default(),
            json!({"text": "a\"\n"}),
        ),
        (
            Value::CoreLink("</3>".into()),
            Series::default(),
            json!({"text": "</3>"}),
        ),
        (bytes, Series::default(), json!({"text": "AQL/"})),
        (link, Series::default(), json!({"text": "3:0"})),
    ] {
        let message = one(&[record("/3/0/1", value, None)], &config);
        assert_eq!(
            message,
            json!({"series": [{"ingestionId": "ep$/3/0/1", "measurements": [shown]}]})
        );
    }
}

#[test]
fn a_history_stands_in_order_of_time_with_the_untimed_value_last() {
    let value = |number, time| record("/3303/0/5700", Value::Integer(number), time);
    let records = [
        value(3, None),
        value(2, Some(1_700_000_001.5)),
        record("/3/0/9", Value::Integer(9), Some(-0.001)),
        value(1, Some(1_700_000_000.0)),
        value(4, None),
    ];
    assert_eq!(
        one(&records, &Series::default()),
        json!({"series": [
            {"ingestionId": "ep$/3303/0/5700", "measurements": [
                {"number": 1, "date": 1_700_000_000_000_i64},
                {"number": 2, "date": 1_700_000_001_500_i64},
                {"number": 3}, {"number": 4}]},
            {"ingestionId": "ep$/3/0/9", "measurements": [{"number": 9, "date": -1}]},
        ]})
    );
}

#[test]
fn numbers_and_times_that_json_cannot_carry_are_left_out() {
    let records = [
        record("/3303/0/5700", Value::Float(f64::NAN), None),
        record("/3303/0/5601", Value::Float(f64::INFINITY), None),
        record("/3303/0/5602", Value::Float(1.0), Some(1e300)),
    ];
    assert_eq!(
        one(&records, &Series::default()),
        json!({"series": [{"ingestionId": "ep$/3303/0/5602", "measurements": [{"number": 1.0}]}]})
    );
    assert!(series("ep", &records[..2], &Series::default()).is_empty());
    assert!(series("ep", &[], &Series::default()).is_empty());
}

#[test]
fn paths_are_chosen_and_renamed() {
    let config = Series {
        paths: vec!["/3303".parse().unwrap(), "/3/0/9".parse().unwrap()],
        mapping: BTreeMap::from([
            ("/3303/0/5700".parse().unwrap(), "temperature".to_owned()),
            ("/3303/1/5700".parse().unwrap(), "temperature".to_owned()),
            ("/6/0/0".parse().unwrap(), "latitude".to_owned()),
        ]),
        ..Series::default()
    };
    let value = |path, number| record(path, Value::Integer(number), None);
    let records = [
        value("/3303/0/5700", 1),
        value("/3/0/9", 2),
        value("/3/0/13", 3),
        value("/3303/1/5700", 4),
        value("/6/0/0", 5),
        value("/33030/0/5700", 6),
        value("/dev0/3303/0/5700", 7),
    ];
    assert_eq!(
        one(&records, &config),
        json!({"series": [
            {"ingestionId": "ep$temperature", "measurements": [{"number": 1}, {"number": 4}]},
            {"ingestionId": "ep$/3/0/9", "measurements": [{"number": 2}]},
        ]})
    );
}

#[test]
fn a_value_too_large_for_any_message_is_left_out() {
    let text = |length| Value::String("x".repeat(length).into());
    let overhead = series("ep", &[record("/3/0/1", text(0), None)], &Series::default())[0].len();
    let fits = [record("/3/0/1", text(MAX_MESSAGE - overhead), None)];
    assert_eq!(
        series("ep", &fits, &Series::default())[0].len(),
        MAX_MESSAGE
    );
    let larger = [
        record("/3/0/0", Value::Integer(1), None),
        record("/3/0/1", text(MAX_MESSAGE - overhead + 1), None),
        record("/3/0/2", Value::Integer(2), None),
    ];
    let message = one(&larger, &Series::default());
    assert_eq!(message["series"].as_array().unwrap().len(), 2);
}

fn any_value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Float),
        any::<bool>().prop_map(Value::Boolean),
        "\\PC{0,12}".prop_map(|text| Value::String(text.into())),
        (0_usize..90_000).prop_map(|length| Value::String("\u{1}".repeat(length).into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn messages_are_bounded_and_lose_nothing(
        records in proptest::collection::vec(
            (0_u16..4, any_value(), proptest::option::of(0.0..2e9)), 0..40
        ),
        times in 1_usize..60,
    ) {
        let records: Vec<_> = records
            .iter()
            .cycle()
            .take(records.len() * times)
            .map(|(id, value, time)| record(&format!("/3/0/{id}"), value.clone(), *time))
            // Long texts only once, or the test is slow.
            .enumerate()
            .filter(|(index, record)| *index < 40 || !matches!(record.value, Value::String(_)))
            .map(|(_, record)| record)
            .collect();
        let large = |record: &&Record<'_>| match &record.value {
            Value::Float(number) => number.is_finite(),
            // Six bytes for each control character.
            Value::String(text) => serde_json::to_string(text).unwrap().len() < MAX_MESSAGE - 200,
            _ => true,
        };
        let expected = records.iter().filter(large).count();
        let border = records.iter().filter(|record| match &record.value {
            Value::String(text) => serde_json::to_string(text).unwrap().len().abs_diff(MAX_MESSAGE) < 200,
            _ => false,
        }).count();
        let mut found = 0;
        let mut last: BTreeMap<String, f64> = BTreeMap::new();
        for message in series("e$p\"", &records, &Series::default()) {
            prop_assert!(message.len() <= MAX_MESSAGE);
            let json: Json = serde_json::from_slice(&message).unwrap();
            let mut count = 0;
            for series in json["series"].as_array().unwrap() {
                let id = series["ingestionId"].as_str().unwrap().to_owned();
                let measurements = series["measurements"].as_array().unwrap();
                prop_assert!(!measurements.is_empty());
                count += measurements.len();
                for measurement in measurements {
                    let date = measurement["date"].as_f64().unwrap_or(f64::MAX);
                    let before = last.insert(id.clone(), date);
                    prop_assert!(before.is_none_or(|before| before <= date));
                }
            }
            prop_assert!(count > 0 && count <= MAX_MEASUREMENTS);
            found += count;
        }
        prop_assert!(found.abs_diff(expected) <= border);
    }
}
