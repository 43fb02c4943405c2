//! What outlives the process.

use std::time::Duration;

use serde_json::Value;

use super::key::{HOUR, Key, SECOND, key};
use crate::config::choices::{OnStoreFailure, StoreSync};
use crate::config::schema::Config;
use crate::config::value;

/// Longest time that changes wait to be written.
const MOST: Duration = Duration::from_secs(10);
const LEAST: Duration = Duration::from_millis(1);

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "store.path",
        store.path,
        optional_text,
        "Directory of the store, where registrations, observations and commands are kept for the next start, made with mode 0700 if it is not there; none without it. For one process at a time. See docs/store.md. A change takes effect at the next start."
    ),
    key!(
        "store.sync",
        store.sync,
        text_by(
            || format!(
                "`\"always\"`, `\"off\"` or a duration, {} to {}",
                value::show_duration(LEAST),
                value::show_duration(MOST)
            ),
            |from| match from {
                Value::String(text) if text == "always" => Ok(StoreSync::Always),
                Value::String(text) if text == "off" => Ok(StoreSync::Off),
                _ => value::duration(from, LEAST, MOST).map(StoreSync::Every),
            },
            |it| value::quoted(&match it {
                StoreSync::Always => "always".to_owned(),
                StoreSync::Every(time) => value::show_duration(*time),
                StoreSync::Off => "off".to_owned(),
            })
        ),
        "When a change is on the disk: at once, within that time, together with others, or when the system finds the time. A change takes effect at the next start."
    ),
    key!(
        "store.on_failure",
        store.on_failure,
        choice(
            "continue" = OnStoreFailure::Continue,
            "refuse" = OnStoreFailure::Refuse
        ),
        "What becomes of commands while the store cannot be written, because the disk is full for instance: they are taken, and their answers carry `\"durable\": false`, or they are answered 5.03 `not_durable`."
    ),
    key!(
        "store.deadline_interval",
        store.deadline_interval,
        duration(SECOND, HOUR),
        "How late the time of a device's last message may be written. After a restart its lifetime ends that much later. A change takes effect at the next start."
    ),
];
