//! Statistics over MQTT.

use std::time::Duration;

use serde_json::Value;

use super::key::{HOUR, Key, key};
use crate::config::schema::Config;
use crate::config::value::{self, Parsed};

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "statistics.interval",
        statistics.interval,
        duration(Duration::ZERO, HOUR),
        "How often the stand-alone program and Mosquitto publish the numbers of `/metrics` as retained messages; `0s` turns this off. Turning it on or off takes effect at the next start."
    ),
    key!(
        "statistics.topic",
        statistics.topic,
        text_by(|| "topic".to_owned(), topic, value::quoted),
        "Prefix of the topics of statistics; the name of each number follows it."
    ),
];

fn topic(from: &Value) -> Parsed<String> {
    let topic = value::filled_text(from)?;
    if topic.contains(['+', '#', '\0']) || topic.starts_with('$') || topic.len() > 256 {
        return Err(
            "expected a topic of 256 bytes at most, without `+` and `#`, and none below `$`"
                .to_owned(),
        );
    }
    Ok(topic.trim_end_matches('/').to_owned())
}
