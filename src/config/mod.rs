//! One configuration for every host. Field names and value forms are EMQX's where EMQX has the
//! field (`gateway.lwm2m`); the rest follows the same style.
//!
//! This file is the schema and its defaults; [`read`] turns TOML, JSON and dotted settings into
//! it, with every mistake named by its key path.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use self::broker_url::BrokerUrl;
use crate::lwm2m::Path;
use crate::lwm2m::codec::ContentFormat;

pub mod broker_url;
mod check;
mod cipher;
pub mod file;
mod keys;
mod listener;
mod psk;
mod rates;
pub mod read;
pub mod reference;
pub(crate) mod value;

pub(crate) use check::matches_filter;
pub use cipher::{CipherSuite, Group};
pub use listener::{
    DtlsListener, DtlsOptions, EndpointRule, KeyEncoding, Listeners, PlainRegisters, Takeover,
    UdpListener,
};
pub use rates::Rates;

/// The whole configuration of a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Start of every topic of a device; placeholders `${endpoint_name}`, `${clientid}`,
    /// `${username}`, `${peerhost}`, `${zone}`. Default `lwm2m/${endpoint_name}/`.
    pub mountpoint: String,
    /// Whether several endpoints may have the same rendered mountpoint. Default no: the second one
    /// is refused.
    pub shared_mountpoint: bool,
    /// Which endpoints a device without DTLS may register. Default `uncovered`.
    pub plain_registers: PlainRegisters,
    /// Directory of further object definitions (`*.xml`), beside the built-in objects 0 to 7.
    pub xml_dir: Option<PathBuf>,
    /// Shortest lifetime a registration is given. Default 15 s.
    pub lifetime_min: Duration,
    /// Longest lifetime a registration is given; also used for `lt=0`. Default 86,400 s.
    pub lifetime_max: Duration,
    /// What happens to a lifetime outside of these bounds. Default `clamp`.
    pub lifetime_policy: LifetimePolicy,
    /// How long after its last message a queue-mode device is taken to be awake. Default 22 s.
    pub qmode_time_window: Duration,
    /// Objects observed as soon as a device registers. Default off.
    pub auto_observe: AutoObserve,
    /// Which Updates are published. Default [`UpdateCondition::ObjectListChanged`].
    pub update_msg_publish_condition: UpdateCondition,
    /// Topics and QoS by kind of message.
    pub translators: Translators,
    /// What goes into measurement series.
    pub series: Series,
    /// Content format to ask devices for and to write in. Default `auto`.
    pub format: FormatDefault,
    /// What happens to an endpoint name that holds `/`, `+` or `#`. Default `refuse`.
    pub hostile_endpoint: HostileEndpoint,
    /// Whether an Update from a new address moves the registration there. Default `accept`.
    pub address_change: AddressChange,
    /// UDP and DTLS sockets by name.
    pub listeners: Listeners,
    /// CoAP transmission parameters (RFC 7252 §4.8).
    pub coap: Coap,
    /// Block-wise transfer (RFC 7959).
    pub blockwise: Blockwise,
    /// Commands waiting for a device.
    pub queue: Queue,
    /// Bounds of what a gateway holds.
    pub limits: Limits,
    /// Bounds of what a gateway takes a second.
    pub rates: Rates,
    /// Publish `deregister` and `expired` messages on the register topic. Default off.
    pub publish_deregister: bool,
    /// Behaviour of EMQX's built-in gateway where ours is better by default.
    pub compat: Compat,
    /// Whether files may hold keys or passwords that everybody on the machine can read. Default
    /// `refuse`.
    pub world_readable_keys: WorldReadable,
    /// Number of shards (threads with a socket and an engine each); 0 = number of cores.
    pub shards: usize,
    /// Stand-alone host: the embedded broker or the broker to connect to.
    pub mqtt: Mqtt,
    /// Logging of the stand-alone host.
    pub log: Log,
}

/// See [`Config::world_readable_keys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldReadable {
    /// `refuse`: the gateway does not start with such a file.
    Refuse,
    /// `allow`: where modes cannot be changed, as in a mounted volume.
    Allow,
}

/// See [`Config::format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatDefault {
    /// `auto`: the best that the device has declared.
    Auto,
    /// This one, wherever it can carry what is asked for.
    Fixed(ContentFormat),
}

/// See [`Config::lifetime_policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifetimePolicy {
    /// `clamp`: use the nearest allowed lifetime.
    Clamp,
    /// `reject`: answer 4.00.
    Reject,
    /// `ignore`: grant what is asked for, as EMQX's own gateway does.
    Ignore,
}

/// See [`Config::auto_observe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoObserve {
    /// `false` or `"off"`.
    Off,
    /// `true` or `"on"`: every entry of the object list, except objects 0, 1, 2, 4, 5, 6, 7, 9
    /// and 15 and objects without a definition.
    All,
    /// A list or comma-separated string: those of these paths that the object list holds.
    Paths(Vec<Path>),
}

/// See [`Config::update_msg_publish_condition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateCondition {
    /// `always`
    Always,
    /// `contains_object_list`: the Update carries an object list, changed or not.
    ContainsObjectList,
    /// `object_list_changed`: the object list is another than before.
    ObjectListChanged,
}

/// See [`Config::hostile_endpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostileEndpoint {
    /// `refuse`: such a Register is answered 4.00.
    Refuse,
    /// `escape`: `/`, `+`, `#`, `%` and control characters become `%XX` in topics.
    Escape,
}

/// See [`Config::address_change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressChange {
    /// `accept`: whoever knows the unguessable location may move the registration.
    Accept,
    /// `reject`: answered 4.04, the device has to register again.
    Reject,
}

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

/// See [`Series::boolean`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BooleanSeries {
    /// `number`: 1 or 0.
    Number,
    /// `text`: `true` or `false`.
    Text,
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

/// See [`Coap::echo`]: who is answered 4.01 with an Echo option (RFC 9175 §2.3) first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoMode {
    /// `off`: nobody.
    Off,
    /// `new-address`: a Register from an address that has not shown itself, and an Update from
    /// another one than the device's.
    NewAddress,
    /// `always`: every Register, Update and De-register.
    Always,
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
    /// Bytes of commands waiting for one device. Default 1 MiB.
    pub max_bytes: usize,
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
    /// Bytes of a command's JSON. Default 1 MiB.
    pub max_command_size: usize,
    /// Bytes of remembered replies for deduplication, of the whole gateway, at most. Default 64 MiB.
    pub dedup_bytes: usize,
    /// Bytes of unfinished block-wise transfers, of the whole gateway, at most. Default 64 MiB.
    pub blockwise_bytes: usize,
    /// Bytes of one object definition file. Default 4 MiB.
    pub max_model_file: usize,
}

/// `compat.*`: each default is ours, the other value is what EMQX's own gateway does.
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

/// `mqtt.*`, stand-alone host only.
#[derive(Clone, PartialEq, Eq)]
pub struct Mqtt {
    /// `mqtt.bind`: where the embedded broker listens. Default `127.0.0.1:1883`.
    pub bind: SocketAddr,
    /// `mqtt.broker`: `mqtt://host:1883` or `mqtts://host:8883`; connect there instead of
    /// running the embedded broker.
    pub broker: Option<String>,
    /// `mqtt.username`
    pub username: Option<String>,
    /// `mqtt.password`
    pub password: Option<String>,
    /// `mqtt.password_file`: file with the password.
    pub password_file: Option<PathBuf>,
    /// `mqtt.client_id`. Default `lwm2m-gateway`.
    pub client_id: String,
    /// `mqtt.keepalive`. Default 30 s.
    pub keepalive: Duration,
    /// `mqtt.max_queued`: messages kept while the broker is away. Default 100,000.
    pub max_queued: usize,
    /// `mqtt.max_connections`: clients of the embedded broker. Default 10,000.
    pub max_connections: usize,
    /// `mqtt.max_queued_bytes`: bytes of them. Default 64 MiB.
    pub max_queued_bytes: usize,
    /// `mqtt.cacertfile`: PEM file of the authorities to trust instead of the system's.
    pub cacertfile: Option<PathBuf>,
    /// `mqtt.certfile`: PEM file of the client's certificate chain.
    pub certfile: Option<PathBuf>,
    /// `mqtt.keyfile`: PEM file of the client's private key.
    pub keyfile: Option<PathBuf>,
}

/// Without passwords.
impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.broker.as_deref().map(str::parse::<BrokerUrl>);
        f.debug_struct("Mqtt")
            .field("bind", &self.bind)
            .field("broker", &broker.and_then(Result::ok))
            .field("username", &self.username)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
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

impl Default for Config {
    fn default() -> Self {
        Self {
            mountpoint: "lwm2m/${endpoint_name}/".to_owned(),
            shared_mountpoint: false,
            plain_registers: PlainRegisters::Uncovered,
            xml_dir: None,
            lifetime_min: Duration::from_secs(15),
            lifetime_max: Duration::from_secs(86_400),
            lifetime_policy: LifetimePolicy::Clamp,
            qmode_time_window: Duration::from_secs(22),
            auto_observe: AutoObserve::Off,
            update_msg_publish_condition: UpdateCondition::ObjectListChanged,
            translators: Translators::default(),
            series: Series::default(),
            format: FormatDefault::Auto,
            hostile_endpoint: HostileEndpoint::Refuse,
            address_change: AddressChange::Accept,
            listeners: Listeners::default(),
            coap: Coap::default(),
            blockwise: Blockwise::default(),
            queue: Queue::default(),
            limits: Limits::default(),
            rates: Rates::default(),
            publish_deregister: false,
            compat: Compat::default(),
            world_readable_keys: WorldReadable::Refuse,
            shards: 0,
            mqtt: Mqtt::default(),
            log: Log::default(),
        }
    }
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
            max_bytes: 1 << 20,
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
            max_command_size: 1 << 20,
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
            pass_execute_arguments: false,
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            broker: None,
            username: None,
            password: None,
            password_file: None,
            client_id: "lwm2m-gateway".to_owned(),
            keepalive: Duration::from_secs(30),
            max_queued: 100_000,
            max_connections: 10_000,
            max_queued_bytes: 64 << 20,
            cacertfile: None,
            certfile: None,
            keyfile: None,
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
