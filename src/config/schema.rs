//! The whole configuration.

use std::path::PathBuf;
use std::time::Duration;

use super::choices::{
    AddressChange, AutoObserve, FormatDefault, HostileEndpoint, LifetimePolicy, ObservePolicy,
    UpdateCondition,
};
use super::http::Http;
use super::listener::{Listeners, PlainRegisters};
use super::mqtt::Mqtt;
use super::rates::Rates;
use super::sections::{Blockwise, Coap, Compat, Limits, Log, Queue, Series, Store, Translators};
use super::statistics::Statistics;
use super::window::WindowRule;
use crate::credentials::WorldReadable;

/// Defines a struct whose fields are public with the feature `internals` only: those who use the
/// library name the keys of `docs/configuration.md`, and a key more is no change for them.
macro_rules! schema {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident { $($(#[$about:meta])* pub $field:ident: $type:ty,)* }
    ) => {
        $(#[$attribute])*
        #[cfg(feature = "internals")]
        pub struct $name { $($(#[$about])* pub $field: $type,)* }

        $(#[$attribute])*
        #[cfg(not(feature = "internals"))]
        pub struct $name { $($(#[$about])* pub(crate) $field: $type,)* }
    };
}

schema! {
/// The whole configuration of a gateway, with a default for every key. Others are read from a
/// [`ConfigSource`](crate::ConfigSource).
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
    /// Whether the objects of OMA's registry are known, as the gateway has them built in. Default
    /// yes; else the objects 0 to 7 alone.
    pub oma_registry: bool,
    /// Directory of further object definitions (`*.xml`), which replace built-in ones.
    pub xml_dir: Option<PathBuf>,
    /// Shortest lifetime a registration is given. Default 15 s.
    pub lifetime_min: Duration,
    /// Longest lifetime a registration is given; also used for `lt=0`. Default 86,400 s.
    pub lifetime_max: Duration,
    /// What happens to a lifetime outside of these bounds. Default `clamp`.
    pub lifetime_policy: LifetimePolicy,
    /// How long after its last message a queue-mode device is taken to be awake. Default 22 s.
    pub qmode_time_window: Duration,
    /// The same for devices of some endpoints; the first rule that fits counts. Default none.
    pub qmode_time_windows: Vec<WindowRule>,
    /// Objects observed as soon as a device registers. Default off.
    pub auto_observe: AutoObserve,
    /// What becomes of the observations of a device that registers anew. Default `renew`.
    pub observe_policy: ObservePolicy,
    /// Which Updates are published. Default [`UpdateCondition::ObjectListChanged`].
    pub update_msg_publish_condition: UpdateCondition,
    /// Topics and QoS by kind of message.
    pub translators: Translators,
    /// What goes into measurement series.
    pub series: Series,
    /// Filters of the topics that answers may go to because a command asks for it. Default `#`.
    pub response_topics: Vec<String>,
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
    /// `received_at`: whether messages say when their reason came. Default false.
    pub received_at: bool,
    /// Behaviour of EMQX's built-in gateway where ours is better by default.
    pub compat: Compat,
    /// Whether files may hold keys or passwords that everybody on the machine can read. Default
    /// `refuse`.
    pub world_readable_keys: WorldReadable,
    /// Where registrations, observations and commands are kept for the next start.
    pub store: Store,
    /// Number of shards (threads with a socket and an engine each); 0 = half of the cores.
    pub shards: usize,
    /// Stand-alone host: the embedded broker or the broker to connect to.
    pub mqtt: Mqtt,
    /// The HTTP API.
    pub http: Http,
    /// Statistics over MQTT.
    pub statistics: Statistics,
    /// Logging of the stand-alone host.
    pub log: Log,
}
}

impl Config {
    /// How long after its last message a queue-mode device is taken to be awake.
    pub(crate) fn window_of(&self, endpoint: &str) -> Duration {
        let mut rules = self.qmode_time_windows.iter();
        let rule = rules.find(|rule| rule.fits(endpoint));
        rule.map_or(self.qmode_time_window, |rule| rule.window)
    }

    /// Bytes of a command's JSON, at most: `limits.max_command_size`, or twice the largest body,
    /// which leaves room for base64, and 1 MiB at least.
    pub fn max_command_size(&self) -> usize {
        let body = self.blockwise.max_body_size;
        let auto = body.saturating_mul(2).max(1 << 20);
        self.limits.max_command_size.unwrap_or(auto)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mountpoint: "lwm2m/${endpoint_name}/".to_owned(),
            shared_mountpoint: false,
            plain_registers: PlainRegisters::Uncovered,
            oma_registry: true,
            xml_dir: None,
            lifetime_min: Duration::from_secs(15),
            lifetime_max: Duration::from_secs(86_400),
            lifetime_policy: LifetimePolicy::Ignore,
            qmode_time_window: Duration::from_secs(22),
            qmode_time_windows: Vec::new(),
            auto_observe: AutoObserve::Off,
            observe_policy: ObservePolicy::Renew,
            update_msg_publish_condition: UpdateCondition::ObjectListChanged,
            translators: Translators::default(),
            series: Series::default(),
            response_topics: vec!["#".to_owned()],
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
            received_at: false,
            compat: Compat::default(),
            world_readable_keys: WorldReadable::Refuse,
            store: Store::default(),
            shards: 0,
            mqtt: Mqtt::default(),
            http: Http::default(),
            statistics: Statistics::default(),
            log: Log::default(),
        }
    }
}
