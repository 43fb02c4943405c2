//! What the fuzz targets do with an input, one function a target. `tests/fuzz_replay.rs` of the
//! main package includes this file and runs the committed corpora through the same functions.
//!
//! Inputs are what comes from the network or from configuration. A target must not panic, and
//! must keep what it asserts.

mod certificate;
mod dtls;
mod engine;
mod record;
mod sequence;
mod work;

use std::sync::Arc;

use lwm2m_gateway::bridge::uplink::{self, Ids};
use lwm2m_gateway::bridge::{Dialect, command};
use lwm2m_gateway::coap::Message;
use lwm2m_gateway::coap::message::Builder;
use lwm2m_gateway::config::read::Source;
use lwm2m_gateway::config::{FormatDefault, KeyEncoding};
use lwm2m_gateway::credentials::Lines;
use lwm2m_gateway::credentials::edit::{self, EditError};
use lwm2m_gateway::engine::format::{self, DeviceFormats};
use lwm2m_gateway::engine::request;
use lwm2m_gateway::host::standalone;
use lwm2m_gateway::http;
use lwm2m_gateway::lwm2m::Path;
use lwm2m_gateway::lwm2m::codec::{self, ContentFormat, DecodeOptions, Record};
use lwm2m_gateway::lwm2m::link::{self, RegistrationLinks};
use lwm2m_gateway::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use lwm2m_gateway::lwm2m::operation::WriteItem;
use serde_json::value::RawValue;

pub use certificate::certificate;
pub use dtls::dtls;
pub use engine::engine;
pub use record::record;
pub use sequence::sequence;

use work::{PARSER, bounded};

/// One fuzz target.
pub type Target = fn(&[u8]);

/// All targets by the name of their corpus.
pub const TARGETS: [(&str, Target); 20] = [
    ("tlv", tlv),
    ("text", text),
    ("json", json),
    ("senml_json", senml_json),
    ("senml_cbor", senml_cbor),
    ("lwm2m_cbor", lwm2m_cbor),
    ("cbor", cbor),
    ("link", link),
    ("model", model),
    ("command", command),
    ("coap", coap),
    ("config", configuration),
    ("psk_file", psk_file),
    ("users", users),
    ("acl", acl),
    ("engine", engine),
    ("sequence", sequence),
    ("dtls", dtls),
    ("record", record),
    ("certificate", certificate),
];

const REQUESTS: [&[u16]; 6] = [&[], &[3], &[3, 0], &[3, 0, 9], &[3, 0, 11, 0], &[5, 0, 0]];

/// Decodes TLV for requests of every depth and writes what was read again.
pub fn tlv(data: &[u8]) {
    for_each_request(ContentFormat::TLV, data, |request, records| {
        write_again(ContentFormat::TLV, request, records);
    });
}

/// Decodes text for requests of every depth.
pub fn text(data: &[u8]) {
    for_each_request(ContentFormat::TEXT, data, |_, records| {
        assert_eq!(records.len(), 1);
    });
}

/// Decodes OMA JSON for requests of every depth.
pub fn json(data: &[u8]) {
    for_each_request(ContentFormat::JSON, data, |_, _| {});
}

/// Decodes SenML-JSON for requests of every depth and writes what was read again.
pub fn senml_json(data: &[u8]) {
    for_each_request(ContentFormat::SENML_JSON, data, |request, records| {
        write_again(ContentFormat::SENML_JSON, request, records);
    });
}

/// Decodes SenML-CBOR for requests of every depth and writes what was read again.
pub fn senml_cbor(data: &[u8]) {
    for_each_request(ContentFormat::SENML_CBOR, data, |request, records| {
        write_again(ContentFormat::SENML_CBOR, request, records);
    });
}

/// Decodes LwM2M-CBOR for requests of every depth and writes what was read again.
pub fn lwm2m_cbor(data: &[u8]) {
    for_each_request(ContentFormat::LWM2M_CBOR, data, |request, records| {
        write_again(ContentFormat::LWM2M_CBOR, request, records);
    });
}

/// Decodes one CBOR value for requests of every depth and writes what was read again.
pub fn cbor(data: &[u8]) {
    for_each_request(ContentFormat::CBOR, data, |request, records| {
        assert_eq!(records.len(), 1);
        write_again(ContentFormat::CBOR, request, records);
    });
}

/// Reads links, and what a registration says with them.
pub fn link(data: &[u8]) {
    parser(data, || link_within(data));
}

fn link_within(data: &[u8]) {
    let _ = link::parse(data);
    if let Ok(links) = RegistrationLinks::parse(data) {
        assert!(links.versions.is_sorted_by(|a, b| a.0 < b.0));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let entries: Vec<_> = link::entries(data).collect();
        assert_eq!(entries.join(","), text);
    }
}

/// Reads an object definition file.
pub fn model(data: &[u8]) {
    parser(data, || model_within(data));
}

fn model_within(data: &[u8]) {
    let file = ("fuzz.xml".to_owned(), data.to_vec());
    let (models, errors) = ObjectModels::default().load([file], 1 << 20);
    assert!(models.objects().len() == 0 || errors.is_empty());
    for object in models.objects() {
        assert_eq!(models.lookup(object.id, Some(object.version)), Some(object));
        for resource in object.resources() {
            assert_eq!(object.resource(resource.id), Some(resource));
        }
    }
}

/// Reads a command in both dialects, and makes its request or its refusal.
pub fn command(data: &[u8]) {
    parser(data, || command_within(data));
}

fn command_within(data: &[u8]) {
    // Echoed values stay as they were written, which may be a number or a lone surrogate that
    // only the grammar allows.
    let is_json = |payload: &[u8]| serde_json::from_slice::<&RawValue>(payload).is_ok();
    let options = command::Options {
        max_size: 1 << 16,
        check_arguments: true,
    };
    for dialect in [Dialect::Current, Dialect::Legacy] {
        match command::parse(data, dialect, &options) {
            Ok(command) => MODELS.with(|models| {
                let schema = DeviceSchema::new(models, &[], Version::V1_1);
                let choice =
                    format::choose(&command, FormatDefault::Auto, &DeviceFormats::default());
                if let Ok(parts) = request::build(&command, "/lwm2m", &schema, &choice) {
                    let mut options = parts.path.iter().chain(&parts.queries);
                    assert!(options.all(|option| option.len() <= 255));
                }
                assert!(is_json(&uplink::coap_timeout(
                    &command.echo,
                    &Ids::default()
                )));
            }),
            Err(error) => assert!(is_json(&uplink::refused(&error, &Ids::default()))),
        }
    }
}

/// Parses a message and, where it can be built again, compares what comes back.
pub fn coap(data: &[u8]) {
    parser(data, || coap_within(data));
}

fn coap_within(data: &[u8]) {
    let Ok(message) = Message::parse(data) else {
        return;
    };
    let mut builder = Builder::new(
        message.kind(),
        message.code(),
        message.mid(),
        message.token(),
    );
    for (number, value) in message.cache_key_options() {
        builder = builder.option(number, value);
    }
    let bytes = builder.payload(message.payload()).build();
    let again = Message::parse(&bytes).expect("own bytes");
    let head = |it: &Message| (it.kind(), it.code(), it.mid(), it.token().to_vec());
    assert_eq!(head(&again), head(&message));
    assert_eq!(again.payload(), message.payload());
    assert!(again.cache_key_options().eq(message.cache_key_options()));
}

/// Reads a configuration as TOML, as JSON and as HOCON; an answer is a configuration or mistakes.
pub fn configuration(data: &[u8]) {
    parser(data, || configuration_within(data));
}

fn configuration_within(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for source in [
        Source::parse(text),
        Source::from_toml(text),
        Source::from_json(text),
        Source::from_hocon(text),
    ] {
        if let Err(errors) = source.read() {
            assert!(!errors.is_empty());
        }
    }
}

/// Reads a PSK file; what was read is written, read again and removed.
pub fn psk_file(data: &[u8]) {
    parser(data, || psk_file_within(data));
}

fn psk_file_within(data: &[u8]) {
    for keys in [KeyEncoding::Hex, KeyEncoding::Text] {
        let lines = Lines::read(data, keys);
        for (_, credential) in lines.credentials.iter().take(8) {
            let endpoints = Some(credential.endpoints.clone());
            let (identity, key) = (&credential.identity, &credential.key);
            match edit::set(b"# c\nx", keys, identity, key, endpoints, false) {
                Ok(text) => {
                    let again = Lines::read(&text, keys).credentials;
                    assert_eq!(again, [(3, credential.clone())]);
                }
                // A key as text may end in a carriage return, which a line cannot.
                Err(EditError::Unwritable) if keys == KeyEncoding::Text => {}
                Err(error) => panic!("{error}"),
            }
            let text = edit::remove(data, keys, identity).expect("it is there");
            let others = Lines::read(&text, keys);
            assert_eq!(others.credentials.len() + 1, lines.credentials.len());
            assert_eq!(others.bad, lines.bad);
        }
    }
}

/// Files of users, as the HTTP API and as the embedded broker read them.
pub fn users(data: &[u8]) {
    parser(data, || {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let lines = text.lines().count();
        if let Err((line, what)) = standalone::read_users(text) {
            assert!((1..=lines).contains(&line) && !what.is_empty());
        }
        if let Err(what) = http::read_users(text) {
            assert!(
                (1..200).contains(&what.len()),
                "nothing of the file: {what}"
            );
        }
    });
}

/// The rules of the embedded broker, behind three lines: user, client identifier and topic.
pub fn acl(data: &[u8]) {
    parser(data, || {
        let Ok(text) = std::str::from_utf8(data) else {
            return;
        };
        let mut parts = text.splitn(4, '\n');
        let mut next = || parts.next().unwrap_or_default();
        let (user, client, topic, rules) = (next(), next(), next(), next());
        let user = Some(user).filter(|user| !user.is_empty());
        match standalone::may_read(rules, user, client, topic) {
            Err((line, what)) => {
                assert!((1..=rules.lines().count()).contains(&line) && !what.is_empty());
            }
            Ok((reads, subscribes)) => {
                // Whoever may read a topic may subscribe to it.
                let is_topic = !topic.contains(['+', '#']) && !topic.starts_with("$share/");
                assert!(!reads || subscribes || !is_topic);
            }
        }
    });
}

fn assert_json(payload: &[u8]) {
    let read: Result<&RawValue, _> = serde_json::from_slice(payload);
    assert!(read.is_ok(), "{}", String::from_utf8_lossy(payload));
}

thread_local! {
    static MODELS: Arc<ObjectModels> = Arc::new(ObjectModels::builtin());
}

fn for_each_request(format: ContentFormat, data: &[u8], check: impl Fn(&Path, &[Record<'_>])) {
    parser(data, || decode_for_each_request(format, data, check));
}

/// Does what a parser does with an input, within what a parser may do.
fn parser(data: &[u8], action: impl FnOnce()) {
    let allowed = PARSER.0.of_bytes(PARSER.1, data.len());
    bounded("an input", allowed, action);
}

fn decode_for_each_request(
    format: ContentFormat,
    data: &[u8],
    check: impl Fn(&Path, &[Record<'_>]),
) {
    MODELS.with(|models| {
        let schema = DeviceSchema::new(models, &[], Version::V1_1);
        let options = DecodeOptions {
            max_records: 1000,
            ..DecodeOptions::default()
        };
        for ids in REQUESTS {
            let Some(request) = Path::new(ids) else {
                continue;
            };
            let mut some = Vec::new();
            let mut bad = Vec::new();
            let partial = codec::decode_partial(
                Some(format),
                &request,
                data,
                &schema,
                &options,
                &mut some,
                &mut bad,
            );
            assert!(some.len() + bad.len() <= options.max_records);
            assert!(partial.is_ok() || some.is_empty() && bad.is_empty());
            let mut records = Vec::new();
            match codec::decode(
                Some(format),
                &request,
                data,
                &schema,
                &options,
                &mut records,
            ) {
                Ok(()) => {
                    assert_eq!(records.len(), some.len());
                    assert!(bad.is_empty());
                    check(&request, &records);
                }
                Err(_) => {
                    assert!(records.is_empty());
                    assert!(partial.is_err() || !bad.is_empty());
                }
            }
        }
    });
}

/// What has its defined type must come back as it is; of a history the last value. Values are compared as text, because NaN is
/// not equal to itself.
fn write_again(format: ContentFormat, request: &Path, records: &[Record<'_>]) {
    let typed: Vec<&Record<'_>> = records.iter().filter(|record| !record.inferred).collect();
    let items: Vec<WriteItem> = typed
        .iter()
        .enumerate()
        .filter(|(index, record)| {
            typed[index + 1..]
                .iter()
                .all(|later| later.path != record.path)
        })
        .map(|(_, record)| record)
        .map(|record| WriteItem {
            path: record.path.clone(),
            value: record.value.clone().into_owned(),
        })
        .collect();
    let Ok(bytes) = codec::encode(format, request, &items) else {
        return;
    };
    MODELS.with(|models| {
        let schema = DeviceSchema::new(models, &[], Version::V1_1);
        let mut read = Vec::new();
        let options = DecodeOptions::default();
        codec::decode(Some(format), request, &bytes, &schema, &options, &mut read)
            .unwrap_or_else(|error| panic!("own bytes {bytes:02x?}: {error}"));
        let mut read: Vec<String> = read
            .iter()
            .map(|r| format!("{} {:?}", r.path, r.value))
            .collect();
        let mut written: Vec<String> = items
            .iter()
            .map(|i| format!("{} {:?}", i.path, i.value))
            .collect();
        read.sort_unstable();
        written.sort_unstable();
        assert_eq!(read, written);
    });
}
