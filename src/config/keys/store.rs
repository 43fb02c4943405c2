//! What outlives the process.

use std::time::Duration;

use serde_json::Value;

use super::key::{HOUR, Key, SECOND, key};
use crate::config::choices::{OnRestart, OnStoreFailure, StoreSync};
use crate::config::schema::Config;
use crate::config::value;

/// Longest time that changes wait to be written.
const MOST: Duration = Duration::from_secs(10);
const LEAST: Duration = Duration::from_millis(1);

pub(super) static KEYS: &[Key<Config>] = &[
    key!(
        "store.enable",
        store.enable,
        flag,
        "Whether to use the store, if its directory is known. A change takes effect at the next start."
    ),
    key!(
        "store.path",
        store.path,
        optional_text,
        "Directory of the store, which keeps registrations, observations and commands across restarts; created with mode 0700 if missing. Without it nothing is kept, except that `lwm2m-gateway run --config` has a default: `$STATE_DIRECTORY`, which systemd sets; otherwise `$XDG_STATE_HOME/lwm2m-gateway`; otherwise `/var/lib/lwm2m-gateway` for root and `~/.local/state/lwm2m-gateway` for others. Only one process can use it at a time. See [store](store.md). A change takes effect at the next start."
    ),
    key!(
        "store.key_file",
        store.key_file,
        optional_text,
        "File with a key (any 16 bytes or more) that encrypts the keys of DTLS sessions in the store; only its owner may be able to read it. Without it only file modes protect them. If the key has changed, stored sessions are lost and devices make new handshakes. A change takes effect at the next start."
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
        "How soon changes are written to disk. `always`: at once. A duration: within that time, several changes together. `off`: when the operating system decides. A change of this key takes effect at the next start."
    ),
    key!(
        "store.on_failure",
        store.on_failure,
        choice(
            "continue" = OnStoreFailure::Continue,
            "refuse" = OnStoreFailure::Refuse
        ),
        "What happens to commands while the store cannot be written, for instance because the disk is full. `continue`: they are accepted, and their answers carry `\"durable\": false`. `refuse`: they are answered 5.03 `not_durable`."
    ),
    key!(
        "store.on_restart",
        store.on_restart,
        choice("repeat" = OnRestart::Repeat, "answer" = OnRestart::Answer),
        "What happens to a command that had been sent but not answered when the process ended. `repeat`: it is sent again if carrying it out twice does no harm; otherwise (Execute, Create, Write with `mode` `update`) it is answered 5.04 `restarted`. `answer`: it is always answered 5.04 `restarted`. The answer always carries `\"repeated\": true`."
    ),
    key!(
        "store.deadline_interval",
        store.deadline_interval,
        duration(SECOND, HOUR),
        "Shortest interval between two writes of the time of a device's last message. After a restart, its lifetime may end later by this much. A change takes effect at the next start."
    ),
];
