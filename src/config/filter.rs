//! Topic filters of MQTT.

use serde_json::Value;

use super::value::{Parsed, filled_text, shown};

/// A list of topic filters.
pub(crate) fn topic_filters(value: &Value) -> Parsed<Vec<String>> {
    let Value::Array(list) = value else {
        return Err(format!(
            "expected topic filters such as [\"answers/#\"], found {}",
            shown(value)
        ));
    };
    if list.len() > 256 {
        return Err("holds more than 256 filters".to_owned());
    }
    let filter = |entry: &Value| {
        let filter = filled_text(entry)?;
        match is_filter(&filter) {
            true => Ok(filter),
            false => Err(format!("{filter:?} is not a topic filter")),
        }
    };
    list.iter().map(filter).collect()
}

/// Whether a text is a topic filter (MQTT 5 section 4.7.1).
pub(crate) fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let fine = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            _ => !level.contains(['+', '#']),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// Whether a topic, or what is below a mountpoint of it, matches a filter.
pub(crate) fn matches_filter(filter: &str, topic: &str) -> bool {
    // `None` behind the last level.
    let mut rest = Some(topic);
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        let Some(topic) = rest else {
            return false;
        };
        // A literal level is compared where it stands, without a search for the end of a long one.
        let behind = match level {
            "+" => topic.find('/').and_then(|end| topic.get(end..)),
            level => match topic.strip_prefix(level) {
                Some(behind) if behind.is_empty() || behind.starts_with('/') => Some(behind),
                _ => return false,
            },
        };
        rest = behind.and_then(|behind| behind.strip_prefix('/'));
    }
    rest.is_none()
}
