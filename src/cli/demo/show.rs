//! A message of the gateway as lines for people.

use crate::host::Publish;
use crate::printable::Printable;
use serde_json::Value;

/// Topic and payload as they are, and below what they say; what would act on the terminal is
/// escaped. With `color` the former are dim, and an answer is green or red.
pub(super) fn message(publish: &Publish, color: bool) -> String {
    let payload = String::from_utf8_lossy(&publish.payload);
    let raw = format!("{}  {}", Printable(&publish.topic), Printable(&payload));
    let mut out = paint(&raw, DIM, color);
    let json: Option<Value> = serde_json::from_slice(&publish.payload).ok();
    if let Some(json) = json
        && let Some(meaning) = meaning(&json)
    {
        let code = json.pointer("/data/code").and_then(Value::as_str);
        let code = match code {
            Some(code) if code.starts_with('2') => GREEN,
            Some(_) => RED,
            None => PLAIN,
        };
        for (number, line) in meaning.into_iter().enumerate() {
            out.push_str("\n    ");
            let code = if number == 0 { code } else { PLAIN };
            out.push_str(&paint(&Printable(&line).to_string(), code, color));
        }
    }
    out
}

/// Codes of ECMA-48 §8.3.117.
const PLAIN: &str = "";
const DIM: &str = "\u{1b}[2m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";

fn paint(text: &str, code: &str, color: bool) -> String {
    match color && !code.is_empty() {
        true => format!("{code}{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

fn meaning(json: &Value) -> Option<Vec<String>> {
    let kind = json.get("msgType")?.as_str()?;
    let data = json.get("data")?;
    if matches!(kind, "register" | "update") {
        let objects: Vec<_> = data
            .get("objectList")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        return Some(vec![format!(
            "{kind}: LwM2M {}, lifetime {} s, {}",
            plain(data.get("lwm2m")),
            plain(data.get("lt")),
            objects.join(" ")
        )]);
    }
    if let Some(code) = data.get("code") {
        let mut lines = vec![format!(
            "{kind}: {} {}",
            plain(Some(code)),
            plain(data.get("codeMsg"))
        )];
        for name in ["reason", "detail", "diagnostic"] {
            if let Some(text) = data.get(name) {
                lines.push(format!("{name}: {}", plain(Some(text))));
            }
        }
        for entry in data
            .get("content")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            match (entry.get("path"), entry.get("value")) {
                (Some(path), Some(value)) => {
                    lines.push(format!("{} = {}", plain(Some(path)), plain(Some(value))));
                }
                _ => lines.push(plain(Some(entry))),
            }
        }
        return Some(lines);
    }
    None
}

/// A value without the quotes of JSON.
fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PublishKind;

    fn shown(payload: &str) -> String {
        message(
            &Publish {
                kind: PublishKind::Response,
                endpoint: "e".into(),
                topic: "t".to_owned(),
                payload: payload.as_bytes().to_vec(),
                qos: 0,
                correlation: None,
            },
            false,
        )
    }

    #[test]
    fn registrations_and_values_are_explained() {
        let register = r#"{"msgType":"register","data":{"lt":60,"lwm2m":"1.1","ep":"e","objectList":["/1/0","/3/0"]}}"#;
        assert_eq!(
            shown(register),
            format!("t  {register}\n    register: LwM2M 1.1, lifetime 60 s, /1/0 /3/0")
        );
        let read = r#"{"reqID":1,"msgType":"read","data":{"reqPath":"/3/0/0","code":"2.05","codeMsg":"content","content":[{"path":"/3/0/0","value":"Acme"},{"path":"/3/0/9","value":5}]}}"#;
        assert_eq!(
            shown(read),
            format!("t  {read}\n    read: 2.05 content\n    /3/0/0 = Acme\n    /3/0/9 = 5")
        );
    }

    #[test]
    fn c15_nothing_of_a_device_acts_on_the_terminal() {
        let read = r#"{"msgType":"read","data":{"code":"2.05","content":[{"path":"/3/0/0","value":"a\n\u001b[31m\u202e"}]}}"#;
        let shown = shown(read);
        assert_eq!(
            shown.lines().last(),
            Some(r"    /3/0/0 = a\n\u{1b}[31m\u{202e}")
        );
        assert_eq!(
            message(
                &Publish {
                    kind: PublishKind::Response,
                    endpoint: "e".into(),
                    topic: "t\n\u{1b}".to_owned(),
                    payload: b"\x07\xff".to_vec(),
                    qos: 0,
                    correlation: None,
                },
                false
            ),
            "t\\n\\u{1b}  \\u{7}\u{fffd}"
        );
    }

    #[test]
    fn d14_why_a_command_is_refused() {
        let refused = r#"{"msgType":"read","data":{"code":"4.00","codeMsg":"bad_request","reason":"bad_path","detail":"no path"}}"#;
        assert_eq!(
            shown(refused),
            format!(
                "t  {refused}\n    read: 4.00 bad_request\n    reason: bad_path\n    detail: no path"
            )
        );
    }

    #[test]
    fn d14_colours_are_ours_alone() {
        let publish = Publish {
            kind: PublishKind::Response,
            endpoint: "e".into(),
            topic: "t".to_owned(),
            payload: br#"{"msgType":"read","data":{"code":"4.04","detail":"\u001b[5m"}}"#.to_vec(),
            qos: 0,
            correlation: None,
        };
        let shown = message(&publish, true);
        assert!(shown.contains("\u{1b}[31mread: 4.04"), "{shown:?}");
        assert!(shown.contains(r"detail: \u{1b}[5m"), "{shown:?}");
        assert_eq!(shown.matches('\u{1b}').count(), 4, "{shown:?}");
    }

    #[test]
    fn anything_else_is_shown_as_it_is() {
        for payload in ["not json", "[]", "{}", r#"{"msgType":"ack","data":{}}"#] {
            assert_eq!(shown(payload), format!("t  {payload}"));
        }
    }
}
