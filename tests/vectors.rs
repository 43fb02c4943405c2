//! Known answers, from the standards and from captures of real devices (`vectors/protocol.json`).

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use lwm2m_gateway::lwm2m::codec::{
    self, ContentFormat, DecodeOptions, Record, ResourceSchema, Schema,
};
use lwm2m_gateway::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use lwm2m_gateway::lwm2m::operation::WriteItem;
use lwm2m_gateway::lwm2m::{Path, ResourceType, Value, link};
use serde::Deserialize;
use serde_json::{Value as Json, json};

#[derive(Deserialize)]
struct Vector {
    name: String,
    format: String,
    content_format: Option<u16>,
    hex: Option<String>,
    text: Option<String>,
    base_path: Option<String>,
    expected: Vec<Expected>,
    #[serde(default)]
    expect_error: bool,
    lenient: Option<Vec<Expected>>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
struct Expected {
    path: String,
    value: Json,
    #[serde(rename = "type")]
    kind: String,
    time: Option<f64>,
}

/// CoAP messages have their own tests.
const ELSEWHERE: [&str; 1] = ["coap"];

/// A request, not an answer: compared with what is written for its paths.
const REQUESTS: [&str; 1] = ["senml-json-read-composite-request"];

/// Payloads that must be written to the byte as they are.
const WRITTEN: [&str; 14] = [
    "senml-json-device",
    "senml-json-single-resource",
    "senml-json-read-composite-response",
    "senml-cbor-device",
    "senml-cbor-single-resource",
    "senml-cbor-read-composite-response",
    "senml-cbor-write-composite",
    "senml-json-empty-array",
    "lwm2m-cbor-nested-definite",
    "lwm2m-cbor-four-level-key",
    "cbor-int-zero",
    "cbor-float32",
    "cbor-float64",
    "cbor-objlnk",
];

/// SenML whose names are no LwM2M paths: refused, with the name in the reason.
const FOREIGN_NAMES: [&str; 2] = ["rfc8428-multiple-1", "rfc8428-multiple-1-cbor"];

/// The vectors that are not met to the letter, and why.
const DEVIATIONS: [(&str, &str); 3] = [
    (
        "link-duplicate-ct",
        "read leniently: users of such devices want them accepted",
    ),
    (
        "link-bootstrap-discover-1.0",
        "read leniently: LwM2M 1.0 itself writes it so",
    ),
    (
        "tlv-wakaama-device-64bit-time",
        "compared without order: the answer lists resource 16 before 13, the bytes have it last",
    ),
];

fn deviates(vector: &Vector) -> bool {
    DEVIATIONS.iter().any(|(name, _)| *name == vector.name)
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors/protocol.json")).unwrap()
}

impl Vector {
    fn payload(&self) -> Vec<u8> {
        match (&self.hex, &self.text) {
            (Some(hex), _) => (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
            (None, Some(text)) => text.clone().into_bytes(),
            (None, None) => panic!("{} has no payload", self.name),
        }
    }
}

/// The built-in objects and the resources of others that the vectors use.
struct Objects(ObjectModels);

impl Schema for Objects {
    fn resource(&self, object: u16, resource: u16) -> Option<ResourceSchema> {
        let kind = match (object, resource) {
            (65, 0) | (33605, 16) => ResourceType::ObjectLink,
            (65, 1) => ResourceType::String,
            (65, 2) | (33605, 3 | 12) => ResourceType::Integer,
            (33605, 10) => ResourceType::Opaque,
            (33605, 14) => ResourceType::Float,
            (3442, 180) => ResourceType::CoreLink,
            _ => return DeviceSchema::new(&self.0, &[], Version::V1_1).resource(object, resource),
        };
        Some(ResourceSchema {
            kind: Some(kind),
            multiple: false,
        })
    }
}

/// Formats with records of several paths are compared without the kind of number.
fn has_plain_numbers(format: &str) -> bool {
    matches!(
        format,
        "lwm2m-json" | "senml-json" | "senml-cbor" | "lwm2m-cbor"
    )
}

/// The same number has one form: whole where floats hold whole numbers exactly, and no more digits
/// of a time than floats have.
fn normal(mut value: Expected) -> Expected {
    if let Some(number) = value.value.as_f64()
        && number.fract() == 0.0
        && number.abs() < 2f64.powi(53)
    {
        value.value = json!(number as i64);
    }
    value.time = value.time.map(|time| (time * 1e5).round() / 1e5);
    value
}

/// A record in the notation of the vectors.
fn shown(record: &Record<'_>, json_types: bool) -> Expected {
    let (value, kind) = match &record.value {
        Value::String(text) => (json!(text), "string"),
        Value::Integer(number) => (json!(number), "integer"),
        Value::Unsigned(number) => (json!(number), "unsigned"),
        Value::Float(number) => (json!(number), "float"),
        Value::Boolean(value) => (json!(value), "boolean"),
        Value::Opaque(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (json!(hex), "opaque")
        }
        Value::Time(seconds) => (json!(seconds), "time"),
        Value::ObjectLink { object, instance } => (json!(format!("{object}:{instance}")), "objlnk"),
        Value::CoreLink(text) => (json!(text), "corelnk"),
    };
    let number = json_types && matches!(kind, "integer" | "unsigned" | "float" | "time");
    Expected {
        path: record.path.to_string(),
        value,
        kind: if number { "number" } else { kind }.to_owned(),
        time: record.time,
    }
}

fn check_content(vector: &Vector, objects: &Objects) {
    let payload = vector.payload();
    let base: Path = vector.base_path.as_deref().unwrap().parse().unwrap();
    let format = vector.content_format.map(ContentFormat);
    // The vectors have the plain sums of times, which makes now the start of all times.
    let options = DecodeOptions {
        now: Some(0.0),
        ..DecodeOptions::default()
    };
    let mut records = Vec::new();
    let result = codec::decode(format, &base, &payload, objects, &options, &mut records);
    let name = &vector.name;
    if FOREIGN_NAMES.contains(&name.as_str()) {
        let reason = result.unwrap_err().to_string();
        assert!(
            reason.contains(&vector.expected[0].path),
            "{name}: {reason}"
        );
        return;
    }
    let plain_numbers = has_plain_numbers(&vector.format);
    let mut seen: Vec<Expected> = records
        .iter()
        .map(|record| shown(record, plain_numbers))
        .collect();
    let mut expected = vector.expected.clone();
    if plain_numbers {
        seen = seen.into_iter().map(normal).collect();
        expected = expected.into_iter().map(normal).collect();
    }
    if deviates(vector) {
        seen.sort_by(|a, b| a.path.cmp(&b.path));
        expected.sort_by(|a, b| a.path.cmp(&b.path));
    }
    assert_eq!(result.is_err(), vector.expect_error, "{name}: {result:?}");
    assert_eq!(seen, expected, "{name}");
    for record in &records {
        let path = &record.path;
        let known = objects.resource(path.object().unwrap(), path.resource().unwrap());
        assert_eq!(record.inferred, known.is_none(), "{name}: {path}");
    }
    if WRITTEN.contains(&name.as_str()) {
        check_written(vector, &base, &records);
    }
}

fn check_written(vector: &Vector, base: &Path, records: &[Record<'_>]) {
    let items: Vec<WriteItem> = records
        .iter()
        .map(|record| WriteItem {
            path: record.path.clone(),
            value: record.value.clone().into_owned(),
        })
        .collect();
    let format = ContentFormat(vector.content_format.unwrap());
    let bytes = codec::encode(format, base, &items).unwrap();
    assert_eq!(bytes, vector.payload(), "{}: {bytes:02x?}", vector.name);
}

fn check_request(vector: &Vector) {
    let paths: Vec<Path> = vector
        .expected
        .iter()
        .map(|expected| expected.path.parse().unwrap())
        .collect();
    let format = ContentFormat(vector.content_format.unwrap());
    let bytes = codec::encode_paths(format, &paths).unwrap();
    assert_eq!(bytes, vector.payload(), "{}", vector.name);
}

fn check_links(vector: &Vector) {
    let payload = vector.payload();
    let seen: Vec<Expected> = link::parse(&payload)
        .unwrap()
        .iter()
        .map(|link| {
            let attributes: BTreeMap<_, _> = link
                .attributes
                .iter()
                .map(|a| (a.name, a.value.as_ref().map_or(json!(true), |v| json!(v))))
                .collect();
            Expected {
                path: link.target.to_owned(),
                value: json!(attributes),
                kind: "link".to_owned(),
                time: None,
            }
        })
        .collect();
    let expected = match &vector.lenient {
        Some(lenient) => {
            assert!(deviates(vector), "{}", vector.name);
            lenient
        }
        None => &vector.expected,
    };
    assert_eq!(&seen, expected, "{}", vector.name);
}

#[test]
fn known_answers() {
    let objects = Objects(ObjectModels::builtin());
    let mut checked = 0;
    for vector in vectors() {
        match vector.format.as_str() {
            _ if REQUESTS.contains(&vector.name.as_str()) => check_request(&vector),
            "text" | "tlv" | "opaque" | "lwm2m-json" | "senml-json" | "senml-cbor"
            | "lwm2m-cbor" | "cbor" => check_content(&vector, &objects),
            "link" => check_links(&vector),
            format if ELSEWHERE.contains(&format) => continue,
            format => panic!("{}: unexpected format {format}", vector.name),
        }
        checked += 1;
    }
    assert_eq!(checked, 99);
}

#[test]
fn every_name_of_a_list_has_a_vector() {
    let names: Vec<String> = vectors().into_iter().map(|vector| vector.name).collect();
    let listed = REQUESTS.iter().chain(&WRITTEN).chain(&FOREIGN_NAMES);
    for name in listed.chain(DEVIATIONS.map(|(name, _)| name).iter()) {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
