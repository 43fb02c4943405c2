//! How long a queue-mode device is taken to be awake.

use std::time::Duration;

use serde_json::Value;

use super::value::{self, Parsed, filled_text, shown};

/// MAX_TRANSMIT_WAIT of CoAP (RFC 7252 §4.8.2), which LwM2M 1.1 recommends (§6.5).
pub(crate) const LWM2M: Duration = Duration::from_secs(93);

const LEAST: Duration = Duration::from_secs(1);

/// Rules at most.
const MOST_RULES: usize = 256;

/// How long devices are awake whose endpoint has this form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRule {
    /// `*` stands for any characters.
    pub pattern: String,
    /// After the last message.
    pub window: Duration,
}

impl WindowRule {
    /// Whether the rule is for this endpoint.
    pub fn fits(&self, endpoint: &str) -> bool {
        fits(&self.pattern, endpoint)
    }
}

/// Glob with `*` alone. Takes a time that grows with the product of the lengths at most.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        // No star.
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part).and_then(|at| rest.get(at + part.len()..)) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// `"lwm2m"` or a duration.
pub(crate) fn window(value: &Value, most: Duration) -> Parsed<Duration> {
    match value {
        Value::String(text) if text == "lwm2m" => Ok(LWM2M),
        _ => value::duration(value, LEAST, most),
    }
}

/// A list of `PATTERN=WINDOW`.
pub(crate) fn rules(value: &Value, most: Duration) -> Parsed<Vec<WindowRule>> {
    let Value::Array(list) = value else {
        return Err(format!(
            "expected rules such as [\"meter-*=lwm2m\"], found {}",
            shown(value)
        ));
    };
    if list.len() > MOST_RULES {
        return Err(format!("holds more than {MOST_RULES} rules"));
    }
    let rule = |entry: &Value| {
        let text = filled_text(entry)?;
        let Some((pattern, time)) = text.rsplit_once('=') else {
            return Err(format!("{text:?} is not a rule such as \"meter-*=lwm2m\""));
        };
        Ok(WindowRule {
            pattern: pattern.trim().to_owned(),
            window: window(&Value::String(time.trim().to_owned()), most)?,
        })
    };
    list.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("ab*b", "ab", false),
            ("*a*a*", "a", false),
            ("€*", "€5", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn read_from_text() {
        let most = Duration::from_secs(1000);
        let value = serde_json::json!(["meter-*=lwm2m", "a=b=5s"]);
        let expected = [("meter-*", 93), ("a=b", 5)].map(|(pattern, seconds)| WindowRule {
            pattern: pattern.to_owned(),
            window: Duration::from_secs(seconds),
        });
        assert_eq!(rules(&value, most), Ok(expected.to_vec()));
        for wrong in [
            serde_json::json!("a=5s"),
            serde_json::json!(["a"]),
            serde_json::json!(["a=soon"]),
            serde_json::json!(["a=1h"]),
        ] {
            assert!(rules(&wrong, most).is_err(), "{wrong}");
        }
    }
}
