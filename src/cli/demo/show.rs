//! A message of the gateway as lines for people.

use crate::host::Publish;
use crate::printable::Printable;
use serde_json::Value;

/// Topic and payload as they are, and below what they say; what would act on the terminal is
/// escaped.
pub(super) fn message(publish: &Publish) -> String {
    let payload = String::from_utf8_lossy(&publish.payload);
    let mut out = format!("{}  {}", Printable(&publish.topic), Printable(&payload));
    if let Ok(json) = serde_json::from_slice(&publish.payload)
        && let Some(meaning) = meaning(&json)
    {
        for line in meaning {
            out.push_str("\n    ");
            out.push_str(&Printable(&line).to_string());
        }
    }
    out
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
        message(&Publish {
            kind: PublishKind::Response,
            endpoint: "e".into(),
            topic: "t".to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos: 0,
            correlation: None,
        })
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
            message(&Publish {
                kind: PublishKind::Response,
                endpoint: "e".into(),
                topic: "t\n\u{1b}".to_owned(),
                payload: b"\x07\xff".to_vec(),
                qos: 0,
                correlation: None,
            }),
            "t\\n\\u{1b}  \\u{7}\u{fffd}"
        );
    }

    #[test]
    fn anything_else_is_shown_as_it_is() {
        for payload in ["not json", "[]", "{}", r#"{"msgType":"ack","data":{}}"#] {
            assert_eq!(shown(payload), format!("t  {payload}"));
        }
    }
}
