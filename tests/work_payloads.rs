//! Reading payloads of devices and commands of applications is linear in their length, and what
//! comes out of them is bounded by it: allocations, their bytes and the output are counted.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "support/counting.rs"]
mod counting;

use counting::{Counting, Work, assert_linear, count};
use lwm2m_gateway::Config;
use lwm2m_gateway::bridge::{Dialect, command, content, series, uplink};
use lwm2m_gateway::config::Series;
use lwm2m_gateway::engine::format::FormatChoice;
use lwm2m_gateway::engine::request;
use lwm2m_gateway::lwm2m::codec::ContentFormat;
use lwm2m_gateway::lwm2m::model::{DeviceSchema, ObjectModels, Version};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything that becomes of the payload of a Send: records, JSON and series.
fn sent(format: ContentFormat, payload: &[u8]) -> Work {
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_1);
    let config = Config::default();
    let context = content::Context {
        path: None,
        schema: &schema,
        alternate_path: "/",
        compat: &config.compat,
        now: Some(1.7e9),
    };
    count(|| {
        let Ok(body) = content::read_send(Some(format.0), payload, &context) else {
            return 0;
        };
        let json = uplink::send(&uplink::Ids::default(), &body, &context);
        let records = body.records();
        let series = series::series("ep1", records, &Series::default());
        let series: usize = series.iter().map(Vec::len).sum();
        (json.len() + series) as u64
    })
}

/// What comes out of a payload: six bytes at most for one (an escaped control character), and 512
/// for each record in both messages.
#[track_caller]
fn assert_bounded(what: &str, payload: usize, records: usize, work: Work) {
    let bound = 12 * payload + 512 * records.min(16_384) + 100_000;
    assert!(
        work.out <= bound as u64,
        "{what}: {} of {payload} bytes, {records} records",
        work.out
    );
    // Memory as well: a record is some hundred bytes, in a vector that doubles.
    let bound = 60 * payload + 2500 * records.min(16_384) + 1_000_000;
    assert!(
        work.bytes <= bound as u64,
        "{what}: {} of {payload} bytes, {records} records",
        work.bytes
    );
}

#[test]
fn base_names_that_are_repeated() {
    let long = "x".repeat(50_000);
    let umlauts = format!("a{}", "ä".repeat(30_000));
    let prefix = format!("/{}/3303/0/5700", "p".repeat(60));
    let control = format!("/{}/3303/0/5700", "\\u0001".repeat(60));
    let names = [
        ("a path", "/3303/0/5700"),
        ("a prefix", &prefix),
        ("a prefix of control characters", &control),
        ("a long one", &long),
        ("a long one of umlauts", &umlauts),
        ("none", ""),
    ];
    for (what, name) in names {
        let pack = |n: usize| {
            let records = vec![r#"{"v":1}"#; n].join(",");
            format!(r#"[{{"bn":"{name}"}},{records}]"#)
        };
        let work = |n: usize| sent(ContentFormat::SENML_JSON, pack(n).as_bytes());
        assert_linear(what, 4000, work);
        for n in [8000, 16_000, 100_000] {
            assert_bounded(what, pack(n).len(), n, work(n));
        }
    }
    // The same in CBOR, where a record is three bytes, and in the oldest format.
    for (what, name) in names {
        let name = name.replace("\\u0001", "\u{1}");
        let pack = |n: usize| {
            let mut pack = vec![0x9f, 0xa1, 0x21, 0x7a];
            pack.extend((name.len() as u32).to_be_bytes());
            pack.extend(name.as_bytes());
            for _ in 0..n {
                pack.extend([0xa1, 0x02, 0x01]);
            }
            pack.push(0xff);
            pack
        };
        let work = |n: usize| sent(ContentFormat::SENML_CBOR, &pack(n));
        assert_linear(what, 4000, work);
        for n in [8000, 16_000] {
            assert_bounded(what, pack(n).len(), n, work(n));
        }
    }
}

#[test]
fn keys_of_lwm2m_cbor() {
    for prefix in ["p".repeat(60), "p".repeat(60_000), "\u{1}".repeat(60)] {
        let pack = |n: usize| {
            let mut pack = vec![0xbf, 0x7a];
            pack.extend((prefix.len() as u32).to_be_bytes());
            pack.extend(prefix.as_bytes());
            pack.extend([0xbf, 0x03, 0xbf, 0x00, 0xbf]);
            for _ in 0..n {
                pack.extend([0x09, 0x01]);
            }
            pack.extend([0xff; 4]);
            pack
        };
        let work = |n: usize| sent(ContentFormat::LWM2M_CBOR, &pack(n));
        assert_linear("values", 4000, work);
        assert_bounded("values", pack(16_000).len(), 16_000, work(16_000));
    }
    for (what, item) in [
        ("arrays", &[0x81, 0x81, 0x81, 0x81, 0x03, 0x01][..]),
        ("unreadable", &[0xf6, 0x01]),
        ("tags", &[0xc1, 0xc1, 0xc1, 0x09, 0x01]),
        ("chunks", &[0x7f, 0x60, 0x61, b'a', 0xff, 0x01]),
        ("empty maps", &[0x03, 0xa0]),
    ] {
        assert_linear(what, 4000, |n| {
            let mut pack = vec![0xbf];
            (0..n).for_each(|_| pack.extend(item));
            pack.push(0xff);
            sent(ContentFormat::LWM2M_CBOR, &pack)
        });
    }
    for nesting in [0x81, 0xa1, 0xc1, 0x9f, 0xbf, 0x7f] {
        for format in [ContentFormat::LWM2M_CBOR, ContentFormat::SENML_CBOR] {
            assert_linear("nesting", 20_000, |n| sent(format, &vec![nesting; n]));
        }
    }
}

/// Everything that becomes of an answer to a Read of `path`.
fn answered(path: &str, format: u16, payload: &[u8]) -> Work {
    let command = format!(r#"{{"msgType":"read","data":{{"path":"{path}"}}}}"#);
    let config = Config::default();
    let options = command::Options::new(&config);
    let command = command::parse(command.as_bytes(), Dialect::Current, &options).unwrap();
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_1);
    let context = content::Context {
        path: command.target.path.as_ref(),
        schema: &schema,
        alternate_path: "/",
        compat: &config.compat,
        now: Some(1.7e9),
    };
    let answer = uplink::Answer {
        code: 0x45,
        observe: None,
        content_format: Some(format),
        payload,
    };
    count(|| {
        let body = content::read(Some(command.kind), &answer, &context);
        let text = Some(&command.target.text);
        let ids = uplink::Ids::default();
        uplink::response(&command.echo, &ids, text, &answer, &body, &context).len() as u64
    })
}

#[test]
fn values_in_tlv_and_json() {
    for (what, item) in [
        ("resources", &[0xc1, 9, 1][..]),
        ("resources of several ids", &[0xe1, 0, 0, 1]),
        ("instances", &[0x03, 0, 0xc1, 9, 1]),
        ("empty instances", &[0x00, 0]),
        ("multiple resources", &[0x83, 6, 0x41, 0, 1]),
        ("empty multiple resources", &[0x80, 6]),
        ("long lengths", &[0xd8, 9, 0, 0, 0]),
    ] {
        for path in ["/3", "/3/0", "/3/0/6"] {
            let payload = |n: usize| -> Vec<u8> {
                let numbered = |index: usize| {
                    let mut item = item.to_vec();
                    if item[0] == 0xe1 {
                        item[1..3].copy_from_slice(&(index as u16).to_be_bytes());
                    }
                    item
                };
                (0..n).flat_map(numbered).collect()
            };
            assert_linear(what, 4000, |n| answered(path, 11542, &payload(n)));
        }
    }
    let name = "/3303/0/".repeat(2000);
    for (bn, n) in [("/3303/0/", "5700"), (&name, "5700"), ("/3303/0/", &name)] {
        let payload = |count: usize| {
            let elements = vec![format!(r#"{{"n":"{n}","v":1}}"#); count].join(",");
            format!(r#"{{"bn":"{bn}","e":[{elements}]}}"#)
        };
        let count = 1000;
        assert_linear("json", count, |n| {
            answered("/3303/0", 11543, payload(n).as_bytes())
        });
        let work = answered("/3303/0", 11543, payload(2000).as_bytes());
        assert_bounded("json", payload(2000).len(), 2000, work);
    }
    for payload in [
        "[",
        "{\"e\":",
        "{\"bn\":\"\\u0001",
        "{\"x\":[[",
        "[{\"v\":1},",
    ] {
        for format in [110, 11543] {
            assert_linear(payload, 20_000, |n| {
                answered(
                    "/3303/0",
                    format,
                    payload.repeat(n / payload.len()).as_bytes(),
                )
            });
        }
    }
}

#[test]
fn links_of_a_discover() {
    for pattern in ["</1/0>,", "\"", ",", "<", "\\\"", "\u{ff}"] {
        assert_linear(pattern, 20_000, |n| {
            let command = r#"{"msgType":"discover","data":{"path":"/3"}}"#;
            let config = Config::default();
            let options = command::Options::new(&config);
            let command = command::parse(command.as_bytes(), Dialect::Current, &options).unwrap();
            let models = ObjectModels::builtin();
            let schema = DeviceSchema::new(&models, &[], Version::V1_1);
            let context = content::Context {
                path: command.target.path.as_ref(),
                schema: &schema,
                alternate_path: "/",
                compat: &config.compat,
                now: None,
            };
            let payload = pattern.repeat(n / pattern.len());
            let answer = uplink::Answer {
                code: 0x45,
                observe: None,
                content_format: Some(40),
                payload: payload.as_bytes(),
            };
            count(|| {
                let body = content::read(Some(command.kind), &answer, &context);
                let text = Some(&command.target.text);
                let ids = uplink::Ids::default();
                uplink::response(&command.echo, &ids, text, &answer, &body, &context).len() as u64
            })
        });
    }
}

/// Everything that becomes of a command: the request in one or two formats, or the refusal.
fn commanded(json: &str, dialect: Dialect) -> Work {
    let mut config = Config::default();
    config.limits.max_command_size = Some(16 << 20);
    let options = command::Options::new(&config);
    let models = ObjectModels::builtin();
    let schema = DeviceSchema::new(&models, &[], Version::V1_1);
    count(
        || match command::parse(json.as_bytes(), dialect, &options) {
            Ok(command) => {
                let mut out = 0;
                for write in [
                    ContentFormat::SENML_CBOR,
                    ContentFormat::SENML_JSON,
                    ContentFormat::TLV,
                    ContentFormat::LWM2M_CBOR,
                    ContentFormat::JSON,
                ] {
                    let choice = FormatChoice {
                        accept: None,
                        write,
                    };
                    let built = request::build(&command, "/", &schema, &choice);
                    out += built.map_or(0, |request| {
                        let queries: usize = request.queries.iter().map(String::len).sum();
                        request.payload.len() + queries
                    });
                }
                assert!(command.target.is_same(&command.target));
                out as u64
            }
            Err(error) => uplink::refused(&error, &uplink::Ids::default()).len() as u64,
        },
    )
}

#[test]
fn commands_of_many_parts() {
    let list = |n: usize, item: &dyn Fn(usize) -> String| {
        let items: Vec<String> = (0..n).map(item).collect();
        items.join(",")
    };
    type Text<'t> = (&'t str, Box<dyn Fn(usize) -> String + 't>);
    let commands: Vec<Text<'_>> = vec![
        (
            "members",
            Box::new(|n| {
                let key = "k".repeat(n / 8);
                let members = list(250, &|i| format!(r#""{key}{i}":{i}"#));
                format!(r#"{{"msgType":"read","data":{{"path":"/3"}},{members}}}"#)
            }),
        ),
        (
            "too many members",
            Box::new(|n| format!("{{{}}}", list(n, &|i| format!(r#""k{i}":0"#)))),
        ),
        (
            "content",
            Box::new(|n| {
                let content = list(n, &|i| format!(r#"{{"path":"6/{i}","value":{i}}}"#));
                format!(
                    r#"{{"msgType":"write","data":{{"basePath":"/3/0","content":[{content}]}}}}"#
                )
            }),
        ),
        (
            "content of one path",
            Box::new(|n| {
                let content = list(n, &|i| format!(r#"{{"path":"13","value":{i}}}"#));
                format!(
                    r#"{{"msgType":"write","data":{{"basePath":"/3/0","content":[{content}]}}}}"#
                )
            }),
        ),
        (
            "paths",
            Box::new(|n| {
                let paths = list(n, &|i| format!(r#""/3303/{i}""#));
                format!(r#"{{"msgType":"observe-composite","data":{{"paths":[{paths}]}}}}"#)
            }),
        ),
        (
            "composite write",
            Box::new(|n| {
                let content = list(n, &|i| {
                    format!(r#"{{"path":"/3303/{i}/5700","value":1.5}}"#)
                });
                format!(r#"{{"msgType":"write-composite","data":{{"content":[{content}]}}}}"#)
            }),
        ),
        (
            "a long value",
            Box::new(|n| {
                let value = "\\u0001".repeat(n);
                format!(r#"{{"msgType":"write","data":{{"path":"/3/0/14","value":"{value}"}}}}"#)
            }),
        ),
        (
            "a long number",
            Box::new(|n| {
                let value = "9".repeat(n);
                format!(r#"{{"msgType":"write","data":{{"path":"/3/0/13","value":{value}}}}}"#)
            }),
        ),
        (
            "hexadecimal",
            Box::new(|n| {
                let value = "ff".repeat(n);
                format!(
                    r#"{{"msgType":"write","encoding":"hex","data":{{"path":"/5/0/0","type":"Opaque","value":"{value}"}}}}"#
                )
            }),
        ),
        (
            "arguments",
            Box::new(|n| {
                let arguments = list(n, &|_| "1='a'".to_owned());
                format!(
                    r#"{{"msgType":"execute","data":{{"path":"/3/0/4","args":"{arguments}"}}}}"#
                )
            }),
        ),
        (
            "queries",
            Box::new(|n| {
                let queries = "a&".repeat(n);
                format!(r#"{{"msgType":"read","data":{{"path":"/3/0?{queries}"}}}}"#)
            }),
        ),
        (
            "segments",
            Box::new(|n| {
                let path = "/a".repeat(n);
                format!(r#"{{"msgType":"read","data":{{"path":"{path}"}}}}"#)
            }),
        ),
        (
            "duplicates",
            Box::new(|n| {
                let members = list(n.min(250), &|_| {
                    format!(r#""data":{{"path":"/{}"}}"#, "3".repeat(n / 250))
                });
                format!(r#"{{"msgType":"read",{members}}}"#)
            }),
        ),
        ("nesting", Box::new(|n| "[".repeat(n))),
        ("open strings", Box::new(|n| "{\"a\":\"\\\"".repeat(n))),
        ("not UTF-8", Box::new(|n| "\u{ff}".repeat(n))),
    ];
    for (what, text) in &commands {
        for dialect in [Dialect::Current, Dialect::Legacy] {
            assert_linear(what, 4000, |n| commanded(&text(n), dialect));
        }
    }
    let legacy: Vec<Text<'_>> = vec![
        (
            "attributes",
            Box::new(|n| {
                let value = "pmin=1&".repeat(n);
                format!(
                    r#"{{"CmdID":1,"Command":"Write-Attributes","BaseName":"/3/0/9","Value":"{value}"}}"#
                )
            }),
        ),
        (
            "elements",
            Box::new(|n| {
                let elements = list(n, &|i| format!(r#"{{"n":"6/{i}","v":{i}}}"#));
                format!(
                    r#"{{"CmdID":1,"Command":"Write","BaseName":"/3/0","Value":{{"e":[{elements}]}}}}"#
                )
            }),
        ),
    ];
    for (what, text) in &legacy {
        assert_linear(what, 4000, |n| commanded(&text(n), Dialect::Legacy));
    }
}

/// Knowing the registry costs an index at start; an object of it is read when it is asked for.
#[test]
fn the_registry_is_not_read_at_start() {
    let builtin = ObjectModels::builtin();
    let mut models = ObjectModels::default();
    let start = count(|| {
        models = builtin.with_registry();
        0
    });
    assert!(start.allocations <= 10, "{start:?}");
    assert!(start.bytes <= 200_000, "{start:?}");
    let first = count(|| models.lookup(3303, None).map_or(0, |it| it.id.into()));
    assert_eq!(first.out, 3303);
    assert!(first.allocations > 10, "{first:?}");
    let again = count(|| models.lookup(3303, None).map_or(0, |it| it.id.into()));
    assert_eq!(again.allocations, 0);
}
