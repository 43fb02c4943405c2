//! What can be typed, as the JSON commands of the MQTT contract.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Config;
use serde_json::{Value, json};

pub(super) const HELP: &str = "\
  read /3/0/0                 read a resource, an instance or an object
  write /3/0/14 +02:00        write a resource
  execute /3/0/4              execute a resource; arguments may follow
  discover /3                 list what the device has, with attributes
  observe /3303/0/5700        get notifications of changes
  cancel /3303/0/5700         stop the notifications
  attr /3303/0/5700 pmin=2    set attributes: pmin, pmax, gt, lt, st
  quit                        end the demo";

/// The command of a typed line, as JSON text.
///
/// # Errors
///
/// What to type instead.
pub(super) fn parse<'a>(line: &'a str) -> Result<String, String> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let word = |text: &'a str| {
        let text = text.trim();
        text.split_once(char::is_whitespace).unwrap_or((text, ""))
    };
    let (verb, rest) = word(line);
    let (path, rest) = word(rest);
    let rest = rest.trim();
    let verbs = [
        "read", "write", "execute", "discover", "observe", "cancel", "attr",
    ];
    if !verbs.contains(&verb) {
        return Err(format!("unknown command {verb:?}; help lists the commands"));
    }
    if path.is_empty() {
        return Err(format!("{verb} needs a path, such as {verb} /3/0/0"));
    }
    let (kind, mut data) = match verb {
        "write" if rest.is_empty() => return Err("write needs a value: write /3/0/14 x".to_owned()),
        "write" => (
            "write",
            json!({"path": path, "type": kind_of(rest), "value": value_of(rest)}),
        ),
        "execute" => ("execute", json!({"path": path, "args": rest})),
        "cancel" => ("cancel-observe", json!({"path": path})),
        "attr" => ("write-attr", json!({"path": path})),
        other => (other, json!({"path": path})),
    };
    if verb == "attr" {
        let attributes: Vec<_> = rest
            .split_whitespace()
            .map(|attribute| attribute.split_once('='))
            .collect();
        if attributes.is_empty() || attributes.contains(&None) {
            return Err("attr needs name=value: attr /3303/0/5700 pmin=2 pmax=60".to_owned());
        }
        for (name, value) in attributes.into_iter().flatten() {
            if let Value::Object(data) = &mut data {
                data.insert(name.to_owned(), json!(value));
            }
        }
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    // By hand for the order that people expect.
    Ok(format!(
        r#"{{"reqID":{id},"msgType":"{kind}","data":{data}}}"#
    ))
}

/// The type a typed value most likely has.
fn kind_of(text: &str) -> &'static str {
    if text.parse::<i64>().is_ok() && !text.starts_with('+') {
        "Integer"
    } else if text.parse::<f64>().is_ok_and(f64::is_finite) && !text.starts_with('+') {
        "Float"
    } else if matches!(text, "true" | "false") {
        "Boolean"
    } else {
        "String"
    }
}

fn value_of(text: &str) -> Value {
    match kind_of(text) {
        "Integer" | "Float" => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        _ => json!(text),
    }
}

/// Where commands for `endpoint` are sent.
pub(super) fn topic(config: &Config, endpoint: &str) -> String {
    let mountpoint = ["${endpoint_name}", "${clientid}", "${username}"]
        .iter()
        .fold(config.mountpoint.clone(), |text, name| {
            text.replace(name, endpoint)
        });
    let mountpoint = mountpoint
        .replace("${peerhost}", "127.0.0.1")
        .replace("${zone}", "default");
    let topic = config.translators.command.topic.as_str();
    let topic = topic.strip_suffix("/#").unwrap_or(topic);
    format!("{mountpoint}{topic}")
}

/// A word of a shell's command line.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(line: &str) -> (String, Value) {
        let command: Value = serde_json::from_str(&parse(line).unwrap()).unwrap();
        let kind = command["msgType"].as_str().unwrap().to_owned();
        (kind, command["data"].clone())
    }

    #[test]
    fn typed_lines_become_commands() {
        for (line, kind, expected) in [
            ("read /3/0/0", "read", json!({"path": "/3/0/0"})),
            ("  discover   /3 ", "discover", json!({"path": "/3"})),
            ("cancel /3303", "cancel-observe", json!({"path": "/3303"})),
            (
                "execute /3/0/4",
                "execute",
                json!({"path": "/3/0/4", "args": ""}),
            ),
            (
                "execute /5/0/2 0='x y'",
                "execute",
                json!({"path": "/5/0/2", "args": "0='x y'"}),
            ),
            (
                "write /3/0/14 +02:00",
                "write",
                json!({"path": "/3/0/14", "type": "String", "value": "+02:00"}),
            ),
            (
                "write /1/0/1 -60",
                "write",
                json!({"path": "/1/0/1", "type": "Integer", "value": -60}),
            ),
            (
                "write /1/0/1 1.5",
                "write",
                json!({"path": "/1/0/1", "type": "Float", "value": 1.5}),
            ),
            (
                "write /1/0/6 true",
                "write",
                json!({"path": "/1/0/6", "type": "Boolean", "value": "true"}),
            ),
            (
                "attr /3/0/9 pmin=1 gt=5",
                "write-attr",
                json!({"path": "/3/0/9", "pmin": "1", "gt": "5"}),
            ),
        ] {
            assert_eq!(data(line), (kind.to_owned(), expected), "{line}");
        }
        for wrong in [
            "reed /3",
            "read",
            "write /3/0/14",
            "attr /3",
            "attr /3 pmin",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn d14_help_fits_a_terminal() {
        for line in HELP.lines() {
            assert!(line.len() < 80, "{line}");
        }
    }

    #[test]
    fn topic_of_a_device() {
        assert_eq!(topic(&Config::default(), "e"), "lwm2m/e/dn");
    }

    #[test]
    fn a_quote_survives_the_shell() {
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
