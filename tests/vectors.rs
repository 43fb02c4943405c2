//! Known answers, from the standards and from captures of real devices (`vectors/protocol.json`).

// A test prints what it leaves out and fails by panicking.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;

use lwm2m_gateway::lwm2m::codec::{
    self, ContentFormat, DecodeOptions, Record, ResourceSchema, Schema,
};
use lwm2m_gateway::lwm2m::model::{DeviceSchema, ObjectModels, Version};
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
}

/// Formats that have no codec here; CoAP messages have their own tests.
const NOT_YET_DECODED: [&str; 4] = ["cbor", "lwm2m-cbor", "senml-cbor", "senml-json"];
const ELSEWHERE: [&str; 1] = ["coap"];

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

/// A record in the notation of the vectors. JSON does not tell numbers and times apart.
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
    }
}

fn check_content(vector: &Vector, objects: &Objects) {
    let payload = vector.payload();
    let base: Path = vector.base_path.as_deref().unwrap().parse().unwrap();
    let mut records = Vec::new();
    let result = codec::decode(
        vector.content_format.map(ContentFormat),
        &base,
        &payload,
        objects,
        &DecodeOptions::default(),
        &mut records,
    );
    let mut expected = vector.expected.clone();
    let mut seen: Vec<Expected> = records
        .iter()
        .map(|record| shown(record, vector.format == "lwm2m-json"))
        .collect();
    if deviates(vector) {
        seen.sort_by(|a, b| a.path.cmp(&b.path));
        expected.sort_by(|a, b| a.path.cmp(&b.path));
    }
    let name = &vector.name;
    assert_eq!(result.is_err(), vector.expect_error, "{name}: {result:?}");
    assert_eq!(seen, expected, "{name}");
    assert!(records.iter().all(|record| !record.inferred), "{name}");
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
            "text" | "tlv" | "opaque" | "lwm2m-json" => check_content(&vector, &objects),
            "link" => check_links(&vector),
            format if NOT_YET_DECODED.contains(&format) || ELSEWHERE.contains(&format) => continue,
            format => panic!("{}: unexpected format {format}", vector.name),
        }
        checked += 1;
    }
    assert_eq!(checked, 49);
}

#[test]
fn formats_without_a_codec_say_so() {
    let mut names: Vec<String> = Vec::new();
    for vector in vectors() {
        if NOT_YET_DECODED.contains(&vector.format.as_str()) {
            let number = vector.content_format.unwrap();
            let payload = vector.payload();
            let result = codec::decode(
                Some(ContentFormat(number)),
                &Path::ROOT,
                &payload,
                &codec::NoSchema,
                &DecodeOptions::default(),
                &mut Vec::new(),
            );
            assert_eq!(
                result,
                Err(codec::DecodeError::Unsupported(number)),
                "{}",
                vector.name
            );
            names.push(format!("{} ({})", vector.name, vector.format));
        }
    }
    println!(
        "not yet decoded formats: {} vectors\n{}",
        names.len(),
        names.join("\n")
    );
    assert_eq!(names.len(), 50);
}
