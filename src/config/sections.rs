//! The tables of the configuration with their defaults, but for listeners and the broker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::choices::{BooleanSeries, EchoMode, OnRestart, OnStoreFailure, StoreSync};
use crate::lwm2m::Path;

/// Topic and QoS of one kind of message; the topic is appended to the mountpoint as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translator {
    /// Topic below the mountpoint.
    pub topic: String,
    /// MQTT QoS 0, 1 or 2.
    pub qos: u8,
}

impl Translator {
    /// A translator with QoS 0.
    pub fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            qos: 0,
        }
    }
}

/// `translators.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translators {
    /// Where commands come from. Default `dn/#`.
    pub command: Translator,
    /// Answers to commands. Default `up/resp`.
    pub response: Translator,
    /// Notifications. Default `up/notify`.
    pub notify: Translator,
    /// What devices send by themselves. Default `up/send`.
    pub send: Translator,
    /// Measurement series of answers, notifications and Sends.
    pub series: SeriesTranslator,
    /// Registration reports. Default `up/resp`.
    pub register: Translator,
    /// Update reports. Default `up/resp`.
    pub update: Translator,
    /// Whether devices can be reached, as retained messages.
    pub state: StateTranslator,
    /// The older topic pair, `command` and `response` below the mountpoint.
    pub legacy: Legacy,
}

/// `translators.legacy`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Default off.
    pub enable: bool,
    /// Default `command`.
    pub command: Translator,
    /// Default `response`.
    pub response: Translator,
}

/// `translators.state`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTranslator {
    /// Default on.
    pub enable: bool,
    /// Default `state`, with QoS 1.
    pub messages: Translator,
}

/// `translators.series`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesTranslator {
    /// Default off.
    pub enable: bool,
    /// Default `up/series`.
    pub messages: Translator,
}

/// `series.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// How booleans are written. Default `number`.
    pub boolean: BooleanSeries,
    /// Objects, instances and resources that go into series, with all below them; empty: all.
    pub paths: Vec<Path>,
    /// Ids of metrics instead of the paths of resources.
    pub mapping: BTreeMap<Path, String>,
}

/// `coap.*`: transmission parameters of RFC 7252 §4.8.
#[derive(Debug, Clone, PartialEq)]
pub struct Coap {
    /// ACK_TIMEOUT. Default 2 s.
    pub ack_timeout: Duration,
    /// ACK_RANDOM_FACTOR, 1.0 to 10.0. Default 1.5.
    pub ack_random_factor: f64,
    /// MAX_RETRANSMIT. Default 4.
    pub max_retransmit: u8,
    /// NSTART: outstanding exchanges per device. Default 1.
    pub nstart: usize,
    /// Time after an empty ACK within which the separate response must come. Default 60 s.
    pub response_timeout: Duration,
    /// How long message ids are remembered. Default EXCHANGE_LIFETIME, 247 s.
    pub exchange_lifetime: Duration,
    /// Which devices have to show that they receive at their address. Default `off`.
    pub echo: EchoMode,
}

/// `blockwise.*`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blockwise {
    /// Default true; when false a request with a Block option is answered 4.02.
    pub enable: bool,
    /// 16, 32, … 1024 bytes. Default 1024.
    pub max_block_size: usize,
    /// Largest assembled body, both ways. Default 4 MiB.
    pub max_body_size: usize,
    /// Within this time a transfer has to end, or to bring 16 more blocks. Default 247 s.
    pub exchange_lifetime: Duration,
}

/// `queue.*`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Commands waiting for one device. Default 100.
    pub max_commands: usize,
    /// Bytes of commands waiting for one device. Default 8 MiB: the largest body fits as base64.
    pub max_bytes: usize,
    /// Commands waiting for all devices together. Default 1,000,000.
    pub max_total: usize,
    /// Bytes of memory of commands waiting for all devices together; the account of memory bounds
    /// them as well. Default 1 GiB.
    pub max_total_bytes: usize,
    /// Longest wait of a command; a shorter Message-Expiry-Interval wins. Default 7,200 s.
    pub max_age: Duration,
}

/// `limits.*`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `memory`: bytes that senders can make the whole gateway hold; `None` (`auto`) for a quarter
    /// of what the machine, its cgroup and the limits of the process allow.
    pub memory: Option<usize>,
    /// Registrations in the whole gateway. Default 1,000,000.
    pub max_registrations: usize,
    /// Observations of one device. Default 256.
    pub max_observations: usize,
    /// Query items of one registration, Updates merged in. Default 64.
    pub max_query_items: usize,
    /// Bytes of the query of one registration, Updates merged in. Default 4 KiB.
    pub max_query_bytes: usize,
    /// Bytes of the object list in a Register or Update. Default 64 KiB.
    pub max_object_list: usize,
    /// Registrations of one PSK identity. Default 1,024.
    pub max_identity_registrations: usize,
    /// Bytes of a command's JSON; `None` (`auto`) for what
    /// [`Config::max_command_size`](super::Config::max_command_size) says.
    pub max_command_size: Option<usize>,
    /// Bytes of remembered replies for deduplication, of the whole gateway, at most. Default 64 MiB.
    pub dedup_bytes: usize,
    /// Bytes of unfinished block-wise transfers, of the whole gateway, at most. Default 64 MiB.
    pub blockwise_bytes: usize,
    /// Bytes of one object definition file. Default 4 MiB.
    pub max_model_file: usize,
}

/// `compat.*`: each default is ours, the other value is what EMQX's own gateway does. Only
/// `execute_arguments` is as in EMQX by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compat {
    /// `location`: `random` (`/rd/<random>`) or `endpoint` (`/rd/<ep>`).
    pub endpoint_location: bool,
    /// `bad_version`: `4.12` or `4.00` for an unknown `lwm2m=`.
    pub bad_version_400: bool,
    /// `reregister`: `2.01` with a new location, or `2.04` from the same peer.
    pub reregister_204: bool,
    /// `strict_register`: a Register without `lt` or `lwm2m` is answered 4.00.
    pub strict_register: bool,
    /// `unknown_object`: `deliver` what has no definition, or `error` (4.00).
    pub unknown_object_error: bool,
    /// `multi_instance_path`: with a leading `slash`, or `bare` (`6/0/0`).
    pub bare_multi_instance_path: bool,
    /// `text_opaque`: text/plain opaque is base64 already (`decode`), or is encoded once more
    /// (`encode`).
    pub encode_text_opaque: bool,
    /// `firmware_topic`: notifications of object 5 go to `<mountpoint>/v1/up/dm`.
    pub firmware_topic: bool,
    /// `malformed_command`: `reply` 4.00 with a reason, or `drop` silently.
    pub drop_malformed: bool,
    /// `write_content`: take a write answered 2.05 for 2.04 / 4.05 as EMQX does.
    pub write_content_mapping: bool,
    /// `execute_arguments`: `check` them by the rules of LwM2M, or `pass` any text.
    pub pass_execute_arguments: bool,
}

/// `store.*`: what outlives the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Whether there is one, where a directory is known. Default yes.
    pub enable: bool,
    /// Directory of the store; `None`: there is none.
    pub path: Option<PathBuf>,
    /// `store.key_file`: the keys of DTLS sessions are encrypted with what is in it.
    pub key_file: Option<PathBuf>,
    /// When what is written is on the disk. Default 50 ms.
    pub sync: StoreSync,
    /// What becomes of commands while the store cannot be written. Default `continue`.
    pub on_failure: OnStoreFailure,
    /// What becomes of commands that had been sent when the process ended. Default `repeat`.
    pub on_restart: OnRestart,
    /// How late the time of a device's last message may be written. Default 60 s.
    pub deadline_interval: Duration,
}

impl Store {
    /// The directory, if there is to be a store.
    pub(crate) fn directory(&self) -> Option<&PathBuf> {
        self.path.as_ref().filter(|_| self.enable)
    }
}

/// `log.*`, stand-alone host only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `log.level`: a level or a `tracing` filter. Default `info`.
    pub level: String,
    /// `log.format`: `text` or `json`.
    pub json: bool,
    /// `log.interval`, of every host: how often a line of one reason is logged that peers can
    /// cause; zero: each time. Default 10 s.
    pub interval: Duration,
}

impl Default for Translators {
    fn default() -> Self {
        Self {
            command: Translator::new("dn/#"),
            response: Translator::new("up/resp"),
            notify: Translator::new("up/notify"),
            send: Translator::new("up/send"),
            series: SeriesTranslator {
                enable: false,
                messages: Translator::new("up/series"),
            },
            register: Translator::new("up/resp"),
            update: Translator::new("up/resp"),
            state: StateTranslator {
                enable: true,
                messages: Translator {
                    topic: "state".to_owned(),
                    qos: 1,
                },
            },
            legacy: Legacy {
                enable: false,
                command: Translator::new("command"),
                response: Translator::new("response"),
            },
        }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            boolean: BooleanSeries::Number,
            paths: Vec::new(),
            mapping: BTreeMap::new(),
        }
    }
}

impl Default for Coap {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            ack_random_factor: 1.5,
            max_retransmit: 4,
            nstart: 1,
            response_timeout: Duration::from_secs(60),
            exchange_lifetime: Duration::from_secs(247),
            echo: EchoMode::Off,
        }
    }
}

impl Default for Blockwise {
    fn default() -> Self {
        Self {
            enable: true,
            max_block_size: 1024,
            max_body_size: 4 << 20,
            exchange_lifetime: Duration::from_secs(247),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_commands: 100,
            max_bytes: 8 << 20,
            max_total: 1_000_000,
            max_total_bytes: 1 << 30,
            max_age: Duration::from_secs(7200),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            max_registrations: 1_000_000,
            max_observations: 256,
            max_query_items: 64,
            max_query_bytes: 4 << 10,
            max_object_list: 64 << 10,
            max_identity_registrations: 1024,
            max_command_size: None,
            dedup_bytes: 64 << 20,
            blockwise_bytes: 64 << 20,
            max_model_file: 4 << 20,
        }
    }
}

#[allow(clippy::derivable_impls)] // spelled out: each line is a decision
impl Default for Compat {
    fn default() -> Self {
        Self {
            endpoint_location: false,
            bad_version_400: false,
            reregister_204: false,
            strict_register: false,
            unknown_object_error: false,
            bare_multi_instance_path: false,
            encode_text_opaque: false,
            firmware_topic: false,
            drop_malformed: false,
            write_content_mapping: false,
            pass_execute_arguments: true,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            enable: true,
            path: None,
            key_file: None,
            sync: StoreSync::Every(Duration::from_millis(50)),
            on_failure: OnStoreFailure::Continue,
            on_restart: OnRestart::Repeat,
            deadline_interval: Duration::from_secs(60),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            json: false,
            interval: crate::telemetry::INTERVAL,
        }
    }
}
