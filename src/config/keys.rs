//! The one table of keys: name, form, meaning, how it is read and how its default is shown. The
//! reader, the suggestions for misspelt keys and `docs/configuration.md` all come from it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;

use crate::config::broker_url::BrokerUrl;
use crate::config::value::{self, Parsed};
use crate::config::{
    AddressChange, AutoObserve, BooleanSeries, Config, EchoMode, HostileEndpoint, LifetimePolicy,
    PlainRegisters, UpdateCondition, WorldReadable,
};
use crate::lwm2m::codec::names::NAMES;
use crate::memory::LEAST_CEILING;

/// A key of `T`, the whole configuration or one listener.
pub(crate) struct Key<T: 'static> {
    /// Dotted name.
    pub(crate) name: &'static str,
    /// What a value looks like, for people.
    pub(crate) form: fn() -> String,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// Reads a value into the configuration.
    pub(crate) read: fn(&mut T, &Value) -> Parsed<()>,
    /// The value in the configuration, as one would write it.
    pub(crate) show: fn(&T) -> String,
    /// Whether the value is text, so that `--set` takes it as it stands.
    pub(crate) is_text: bool,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Ten years: nothing lives longer, and sums of durations stay far from overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
const MB: usize = 1 << 20;
const GB: usize = 1 << 30;

/// One line of the table: `key!("name", field, form(arguments), "meaning")`.
macro_rules! key {
    ($name:literal, $($field:ident).+, duration($low:expr, $high:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || format!(
                "duration, {} to {}", value::show_duration($low), value::show_duration($high)
            ),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::duration(from, $low, $high)?; Ok(()) },
            show: |of| format!("{:?}", value::show_duration(of.$($field).+)),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, size($low:expr, $high:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || format!(
                "size, {} to {}", value::show_bytes($low), value::show_bytes($high)
            ),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::bytes(from, $low, $high)?; Ok(()) },
            show: |of| format!("{:?}", value::show_bytes(of.$($field).+)),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, integer($low:expr, $high:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || format!("integer, {} to {}", $low, $high),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::integer(from, $low, $high)?; Ok(()) },
            show: |of| of.$($field).+.to_string(),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, rate, $meaning:literal) => {
        Key {
            name: $name,
            form: || "rate".to_owned(),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::rate(from)?; Ok(()) },
            show: |of| format!("{:?}", of.$($field).+.to_string()),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, flag, $meaning:literal) => {
        Key {
            name: $name,
            form: || "true or false".to_owned(),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::boolean(from)?; Ok(()) },
            show: |of| of.$($field).+.to_string(),
            is_text: false,
        }
    };
    ($name:literal, $($field:ident).+, text, $meaning:literal) => {
        Key {
            name: $name,
            form: || "string".to_owned(),
            meaning: $meaning,
            read: |into, from| { into.$($field).+ = value::filled_text(from)?; Ok(()) },
            show: |of| format!("{:?}", of.$($field).+),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, optional_text, $meaning:literal) => {
        Key {
            name: $name,
            form: || "string".to_owned(),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = Some(value::filled_text(from)?.into());
                Ok(())
            },
            show: |_| "none".to_owned(),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, address($default:expr), $meaning:literal) => {
        Key {
            name: $name,
            form: || "address".to_owned(),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = value::address(from, IpAddr::V4($default))?;
                Ok(())
            },
            show: |of| format!("{:?}", of.$($field).+.to_string()),
            is_text: true,
        }
    };
    ($name:literal, $($field:ident).+, choice($($word:literal = $chosen:expr),+), $meaning:literal)
    => {
        Key {
            name: $name,
            form: || [$(concat!("`\"", $word, "\"`")),+].join(" or "),
            meaning: $meaning,
            read: |into, from| {
                into.$($field).+ = value::choice(from, &[$(($word, $chosen)),+])?;
                Ok(())
            },
            show: |of| {
                let word = [$(($word, $chosen)),+]
                    .iter()
                    .find(|(_, chosen)| *chosen == of.$($field).+)
                    .map_or("", |(word, _)| *word);
                format!("{word:?}")
            },
            is_text: true,
        }
    };
}

fn format_form() -> String {
    let names: Vec<_> = NAMES
        .iter()
        .map(|(name, _)| format!("`\"{name}\"`"))
        .collect();
    format!("`\"auto\"`, {} or the number of one", names.join(", "))
}

mod emqx;
mod listener;

pub(crate) use emqx::{DTLS_IGNORED, IGNORED, LISTENER_IGNORED, RENAMED, UDP_IGNORED};
pub(crate) use listener::{DTLS_KEYS, UDP_KEYS};

/// Every key but those of a listener.
pub(crate) static KEYS: &[Key<Config>] = &[
    key!(
        "mountpoint",
        mountpoint,
        text,
        "Start of every topic of a device. Placeholders: `${endpoint_name}`, `${clientid}`, `${username}`, `${peerhost}`, `${zone}`. See [below](#mountpoints)."
    ),
    key!(
        "shared_mountpoint",
        shared_mountpoint,
        flag,
        "Whether several endpoints may have the same rendered mountpoint, so that each command there goes to all of them. Otherwise the second endpoint is answered 4.03."
    ),
    key!(
        "plain_registers",
        plain_registers,
        choice(
            "uncovered" = PlainRegisters::Uncovered,
            "any" = PlainRegisters::Any
        ),
        "Which endpoints a device without DTLS may register: those that no credential of any DTLS listener covers, by its identity or its list, or any. Another one is answered 4.03."
    ),
    key!(
        "xml_dir",
        xml_dir,
        optional_text,
        "Directory of further object definitions (`*.xml`), beside the built-in objects 0 to 7."
    ),
    key!(
        "lifetime_min",
        lifetime_min,
        duration(SECOND, LONGEST),
        "Shortest lifetime a registration is given."
    ),
    key!(
        "lifetime_max",
        lifetime_max,
        duration(SECOND, LONGEST),
        "Longest lifetime a registration is given; also used for `lt=0`."
    ),
    key!(
        "lifetime_policy",
        lifetime_policy,
        choice(
            "clamp" = LifetimePolicy::Clamp,
            "reject" = LifetimePolicy::Reject,
            "ignore" = LifetimePolicy::Ignore
        ),
        "What happens to a lifetime outside of these bounds: the nearest bound is used, the Register is answered 4.00, or the device gets what it asks for."
    ),
    key!(
        "qmode_time_window",
        qmode_time_window,
        duration(SECOND, LONGEST),
        "How long after its last message a queue-mode device is taken to be awake."
    ),
    Key {
        name: "auto_observe",
        form: || "true, false or a list of paths".to_owned(),
        meaning: "Objects observed as soon as a device registers: none, all that have a definition, or those of the listed paths that the device holds.",
        read: |into, from| {
            into.auto_observe = value::auto_observe(from)?;
            Ok(())
        },
        show: |of| match &of.auto_observe {
            AutoObserve::Off => "false".to_owned(),
            AutoObserve::All => "true".to_owned(),
            AutoObserve::Paths(paths) => {
                let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
                format!("{paths:?}")
            }
        },
        is_text: false,
    },
    key!(
        "update_msg_publish_condition",
        update_msg_publish_condition,
        choice(
            "always" = UpdateCondition::Always,
            "contains_object_list" = UpdateCondition::ContainsObjectList,
            "object_list_changed" = UpdateCondition::ObjectListChanged
        ),
        "Which Updates are published: every one, those that carry an object list, or those that change it."
    ),
    key!(
        "hostile_endpoint",
        hostile_endpoint,
        choice(
            "refuse" = HostileEndpoint::Refuse,
            "escape" = HostileEndpoint::Escape
        ),
        "What happens to an endpoint name that holds `/`, `+` or `#`: answered 4.00, or written as `%XX` in topics."
    ),
    key!(
        "address_change",
        address_change,
        choice(
            "accept" = AddressChange::Accept,
            "reject" = AddressChange::Reject
        ),
        "Whether an Update from a new address moves the registration there."
    ),
    key!(
        "publish_deregister",
        publish_deregister,
        flag,
        "Publish `deregister` and `expired` messages on the register topic."
    ),
    Key {
        name: "format",
        form: format_form,
        meaning: "Content format to ask devices for and to write in, wherever it can carry what is asked for; `auto` takes the best that the device has declared.",
        read: |into, from| {
            into.format = value::format(from)?;
            Ok(())
        },
        show: |of| format!("{:?}", value::show_format(of.format)),
        is_text: true,
    },
    key!(
        "world_readable_keys",
        world_readable_keys,
        choice(
            "refuse" = WorldReadable::Refuse,
            "allow" = WorldReadable::Allow
        ),
        "Whether a configuration with keys or passwords in it, a `psk_file` or a `mqtt.password_file` may be readable or writable for everybody on the machine; `allow` is for volumes whose modes cannot be changed."
    ),
    key!(
        "shards",
        shards,
        integer(0, 256),
        "Threads with a socket and a protocol engine each; 0 takes one per core."
    ),
    key!(
        "translators.command.topic",
        translators.command.topic,
        text,
        "Where commands come from, below the mountpoint."
    ),
    key!(
        "translators.command.qos",
        translators.command.qos,
        integer(0, 2),
        "QoS of the subscription to commands."
    ),
    key!(
        "translators.response.topic",
        translators.response.topic,
        text,
        "Where answers to commands go, below the mountpoint."
    ),
    key!(
        "translators.response.qos",
        translators.response.qos,
        integer(0, 2),
        "QoS of answers."
    ),
    key!(
        "translators.notify.topic",
        translators.notify.topic,
        text,
        "Where notifications go, below the mountpoint."
    ),
    key!(
        "translators.notify.qos",
        translators.notify.qos,
        integer(0, 2),
        "QoS of notifications."
    ),
    key!(
        "translators.send.topic",
        translators.send.topic,
        text,
        "Where the Sends of devices go, below the mountpoint."
    ),
    key!(
        "translators.send.qos",
        translators.send.qos,
        integer(0, 2),
        "QoS of Sends."
    ),
    key!(
        "translators.series.enable",
        translators.series.enable,
        flag,
        "Also publish the values of answers, notifications and Sends as measurement series."
    ),
    key!(
        "translators.series.topic",
        translators.series.messages.topic,
        text,
        "Where measurement series go, below the mountpoint."
    ),
    key!(
        "translators.series.qos",
        translators.series.messages.qos,
        integer(0, 2),
        "QoS of measurement series."
    ),
    key!(
        "translators.register.topic",
        translators.register.topic,
        text,
        "Where registration reports go, below the mountpoint."
    ),
    key!(
        "translators.register.qos",
        translators.register.qos,
        integer(0, 2),
        "QoS of registration reports."
    ),
    key!(
        "translators.update.topic",
        translators.update.topic,
        text,
        "Where update reports go, below the mountpoint."
    ),
    key!(
        "translators.update.qos",
        translators.update.qos,
        integer(0, 2),
        "QoS of update reports."
    ),
    key!(
        "translators.legacy.enable",
        translators.legacy.enable,
        flag,
        "Also serve the older topic pair."
    ),
    key!(
        "translators.legacy.command.topic",
        translators.legacy.command.topic,
        text,
        "Older topic of commands, below the mountpoint."
    ),
    key!(
        "translators.legacy.command.qos",
        translators.legacy.command.qos,
        integer(0, 2),
        "QoS of the subscription to it."
    ),
    key!(
        "translators.legacy.response.topic",
        translators.legacy.response.topic,
        text,
        "Older topic of answers, below the mountpoint."
    ),
    key!(
        "translators.legacy.response.qos",
        translators.legacy.response.qos,
        integer(0, 2),
        "QoS of answers there."
    ),
    key!(
        "series.boolean",
        series.boolean,
        choice(
            "number" = BooleanSeries::Number,
            "text" = BooleanSeries::Text
        ),
        "Booleans in measurement series: 1 and 0, or `true` and `false` as text."
    ),
    Key {
        name: "series.paths",
        form: || "list of paths".to_owned(),
        meaning: "What goes into measurement series: objects, instances or resources, with all below them; an empty list for everything.",
        read: |into, from| {
            into.series.paths = value::series_paths(from)?;
            Ok(())
        },
        show: |of| {
            let paths: Vec<_> = of.series.paths.iter().map(ToString::to_string).collect();
            format!("{paths:?}")
        },
        is_text: false,
    },
    Key {
        name: "series.mapping",
        form: || "table of paths and ids".to_owned(),
        meaning: "Ids of metrics in measurement series instead of the paths of resources: `\"/3303/0/5700\" = \"temperature\"`.",
        read: |into, from| {
            into.series.mapping = value::series_mapping(from)?;
            Ok(())
        },
        show: |_| "{}".to_owned(),
        is_text: false,
    },
    key!(
        "coap.ack_timeout",
        coap.ack_timeout,
        duration(Duration::from_millis(100), HOUR),
        "ACK_TIMEOUT of RFC 7252 section 4.8: wait before the first retransmission."
    ),
    Key {
        name: "coap.ack_random_factor",
        form: || "number, 1 to 10".to_owned(),
        meaning: "ACK_RANDOM_FACTOR of RFC 7252 section 4.8.",
        read: |into, from| {
            into.coap.ack_random_factor = value::number(from, 1.0, 10.0)?;
            Ok(())
        },
        show: |of| of.coap.ack_random_factor.to_string(),
        is_text: false,
    },
    key!(
        "coap.max_retransmit",
        coap.max_retransmit,
        integer(0, 20),
        "MAX_RETRANSMIT of RFC 7252 section 4.8."
    ),
    key!(
        "coap.nstart",
        coap.nstart,
        integer(1, 64),
        "NSTART of RFC 7252 section 4.7: exchanges with one device at a time."
    ),
    key!(
        "coap.response_timeout",
        coap.response_timeout,
        duration(SECOND, HOUR),
        "Time after an empty ACK within which the separate response must come."
    ),
    key!(
        "coap.exchange_lifetime",
        coap.exchange_lifetime,
        duration(SECOND, HOUR),
        "How long message ids are remembered for deduplication."
    ),
    key!(
        "coap.echo",
        coap.echo,
        choice(
            "off" = EchoMode::Off,
            "new-address" = EchoMode::NewAddress,
            "always" = EchoMode::Always
        ),
        "Who has to show that it receives at its address, by sending back an Echo option (RFC 9175) that it gets with a 4.01: nobody; a device that registers from an address that has not shown itself or sends an Update from another address than before; or every Register, Update and De-register. Over DTLS nobody has to. Few clients can do it, see [security](security.md#plain-udp)."
    ),
    key!(
        "blockwise.enable",
        blockwise.enable,
        flag,
        "Block-wise transfer (RFC 7959); without it a request with a Block option is answered 4.02."
    ),
    key!(
        "blockwise.max_block_size",
        blockwise.max_block_size,
        integer(16, 1024),
        "Bytes of one block: 16, 32, 64, 128, 256, 512 or 1024."
    ),
    key!(
        "blockwise.max_body_size",
        blockwise.max_body_size,
        size(1024, GB),
        "Largest assembled body, both ways."
    ),
    key!(
        "blockwise.exchange_lifetime",
        blockwise.exchange_lifetime,
        duration(SECOND, HOUR),
        "Within this time a block-wise transfer has to end, or to bring 16 more blocks. Otherwise it is given up."
    ),
    key!(
        "queue.max_commands",
        queue.max_commands,
        integer(1, 1_000_000),
        "Commands waiting for one device."
    ),
    key!(
        "queue.max_bytes",
        queue.max_bytes,
        size(1024, GB),
        "Bytes of commands waiting for one device."
    ),
    key!(
        "queue.max_age",
        queue.max_age,
        duration(SECOND, LONGEST),
        "Longest wait of a command; a shorter Message-Expiry-Interval wins."
    ),
    Key {
        name: "limits.memory",
        form: || {
            format!(
                "size, {} to {}, or `\"auto\"`",
                value::show_bytes(LEAST_CEILING),
                value::show_bytes(1024 * GB)
            )
        },
        meaning: "Bytes that senders can make the whole gateway hold, divided into shares: registrations, observations, queues, waiting requests, block transfers, remembered replies, mailboxes, messages for the broker, DTLS. `auto` takes a quarter of what the machine, its cgroup and the limits of the process allow, and never more than three quarters of that. See docs/memory.md.",
        read: |into, from| {
            into.limits.memory = match from {
                Value::String(text) if text == "auto" => None,
                _ => Some(value::bytes(from, LEAST_CEILING, 1024 * GB)?),
            };
            Ok(())
        },
        show: |of| {
            let bytes = of.limits.memory.map(value::show_bytes);
            format!("{:?}", bytes.as_deref().unwrap_or("auto"))
        },
        is_text: false,
    },
    key!(
        "limits.max_registrations",
        limits.max_registrations,
        integer(1, 100_000_000),
        "Registrations in the whole gateway."
    ),
    key!(
        "limits.max_observations",
        limits.max_observations,
        integer(1, 65_535),
        "Observations of one device."
    ),
    key!(
        "limits.max_query_items",
        limits.max_query_items,
        integer(8, 4096),
        "Query items of one registration, Updates merged in; a Register or Update beyond it is answered 4.00."
    ),
    key!(
        "limits.max_query_bytes",
        limits.max_query_bytes,
        size(512, 64 << 10),
        "Bytes of the query of one registration, Updates merged in; a Register or Update beyond it is answered 4.00."
    ),
    key!(
        "limits.max_object_list",
        limits.max_object_list,
        size(1024, 16 * MB),
        "Bytes of the object list in a Register or Update; a longer one is answered 4.13."
    ),
    key!(
        "limits.max_identity_registrations",
        limits.max_identity_registrations,
        integer(1, 1_000_000),
        "Registrations of one PSK identity; a Register beyond it is answered 5.03."
    ),
    key!(
        "limits.max_command_size",
        limits.max_command_size,
        size(64, 64 * MB),
        "Bytes of a command's JSON."
    ),
    key!(
        "limits.dedup_bytes",
        limits.dedup_bytes,
        size(64 << 10, 64 * GB),
        "Bytes of remembered replies for deduplication in the whole gateway, at most; each shard has an equal part. A smaller share of `limits.memory` wins."
    ),
    key!(
        "limits.blockwise_bytes",
        limits.blockwise_bytes,
        size(64 << 10, 64 * GB),
        "Bytes of unfinished block-wise transfers in the whole gateway, at most. A smaller share of `limits.memory` wins."
    ),
    key!(
        "limits.max_model_file",
        limits.max_model_file,
        size(1024, GB),
        "Bytes of one object definition file."
    ),
    key!(
        "rates.datagrams_per_source",
        rates.datagrams_per_source,
        rate,
        "Datagrams of one address (IPv6: one /64) that come neither from a registered device nor by a DTLS session. See [security](security.md#rates)."
    ),
    key!(
        "rates.datagrams",
        rates.datagrams,
        rate,
        "Such datagrams of all addresses together."
    ),
    key!(
        "rates.datagrams_per_device",
        rates.datagrams_per_device,
        rate,
        "Datagrams of one registered device or DTLS session."
    ),
    key!(
        "rates.registrations_per_source",
        rates.registrations_per_source,
        rate,
        "Registers from one address (IPv6: one /64); further ones are answered 5.03 with Max-Age."
    ),
    key!(
        "rates.registrations",
        rates.registrations,
        rate,
        "Registers in all."
    ),
    key!(
        "rates.handshakes_per_source",
        rates.handshakes_per_source,
        rate,
        "DTLS handshakes begun from one address (IPv6: one /64), each after its cookie exchange; the hellos of further ones are dropped."
    ),
    key!(
        "rates.handshakes",
        rates.handshakes,
        rate,
        "DTLS handshakes begun in all."
    ),
    key!(
        "compat.location",
        compat.endpoint_location,
        choice("random" = false, "endpoint" = true),
        "Registration location: `/rd/<random>`, or EMQX's `/rd/<endpoint>`."
    ),
    key!(
        "compat.bad_version",
        compat.bad_version_400,
        choice("4.12" = false, "4.00" = true),
        "Answer to an unknown `lwm2m=` version."
    ),
    key!(
        "compat.reregister",
        compat.reregister_204,
        choice("2.01" = false, "2.04" = true),
        "Answer to a Register of a registered device: 2.01 with a new location, or 2.04 from the same peer."
    ),
    key!(
        "compat.strict_register",
        compat.strict_register,
        flag,
        "A Register without `lt` or `lwm2m` is answered 4.00."
    ),
    key!(
        "compat.unknown_object",
        compat.unknown_object_error,
        choice("deliver" = false, "error" = true),
        "What has no definition is delivered by best inference, or answered 4.00."
    ),
    key!(
        "compat.multi_instance_path",
        compat.bare_multi_instance_path,
        choice("slash" = false, "bare" = true),
        "Paths of resource instances begin with a slash, or not (`6/0/0`)."
    ),
    key!(
        "compat.text_opaque",
        compat.encode_text_opaque,
        choice("decode" = false, "encode" = true),
        "An opaque value in text/plain is base64 already, or is encoded once more."
    ),
    key!(
        "compat.firmware_topic",
        compat.firmware_topic,
        flag,
        "Notifications of object 5 go to `/v1/up/dm` below the mountpoint."
    ),
    key!(
        "compat.malformed_command",
        compat.drop_malformed,
        choice("reply" = false, "drop" = true),
        "A malformed command is answered 4.00 with a reason, or dropped silently."
    ),
    key!(
        "compat.write_content",
        compat.write_content_mapping,
        flag,
        "Take a write answered 2.05 for 2.04, or for 4.05, as EMQX does."
    ),
    key!(
        "compat.execute_arguments",
        compat.pass_execute_arguments,
        choice("check" = false, "pass" = true),
        "Arguments of execute must be those of LwM2M (`2,0='text'`), or may be any text."
    ),
    key!(
        "mqtt.bind",
        mqtt.bind,
        address(Ipv4Addr::LOCALHOST),
        "Where the embedded broker listens; a port alone means 127.0.0.1."
    ),
    Key {
        name: "mqtt.broker",
        form: || "URL".to_owned(),
        meaning: "`mqtt://[user@]host[:port]` or `mqtts://…`: connect to that broker instead of running the embedded one. `user:password@` is possible, but everybody on the machine can see a command line.",
        read: |into, from| {
            let url = value::filled_text(from)?;
            url.parse::<BrokerUrl>()?;
            into.mqtt.broker = Some(url);
            Ok(())
        },
        show: |_| "none".to_owned(),
        is_text: true,
    },
    key!(
        "mqtt.username",
        mqtt.username,
        optional_text,
        "User at that broker; for the embedded broker the one user it lets in (default: everyone)."
    ),
    key!(
        "mqtt.password",
        mqtt.password,
        optional_text,
        "Password of that user; better in a file of its own, or in the environment variable `LWM2M_GATEWAY_MQTT_PASSWORD`."
    ),
    key!(
        "mqtt.password_file",
        mqtt.password_file,
        optional_text,
        "File with that password and nothing else; read at the start."
    ),
    key!(
        "mqtt.client_id",
        mqtt.client_id,
        text,
        "Client identifier at the broker."
    ),
    key!(
        "mqtt.keepalive",
        mqtt.keepalive,
        duration(SECOND, Duration::from_secs(65_535)),
        "Keep-alive of the connection to the broker."
    ),
    key!(
        "mqtt.max_queued",
        mqtt.max_queued,
        integer(1, 100_000_000),
        "Messages kept while the broker, or one subscriber of the embedded broker, is away or slow."
    ),
    key!(
        "mqtt.max_connections",
        mqtt.max_connections,
        integer(1, 1_000_000),
        "Connections to the embedded broker; of more than these, those that have not logged in are closed."
    ),
    key!(
        "mqtt.max_queued_bytes",
        mqtt.max_queued_bytes,
        size(64 << 10, 64 * GB),
        "Bytes of such messages; for the embedded broker of all its subscribers together."
    ),
    key!(
        "mqtt.cacertfile",
        mqtt.cacertfile,
        optional_text,
        "PEM file of the authorities to trust instead of the system's."
    ),
    key!(
        "mqtt.certfile",
        mqtt.certfile,
        optional_text,
        "PEM file of the client's certificate chain."
    ),
    key!(
        "mqtt.keyfile",
        mqtt.keyfile,
        optional_text,
        "PEM file of the client's private key."
    ),
    key!(
        "log.level",
        log.level,
        text,
        "`error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter such as `info,lwm2m_gateway=debug`."
    ),
    key!(
        "log.format",
        log.json,
        choice("text" = false, "json" = true),
        "Form of log lines."
    ),
    key!(
        "log.interval",
        log.interval,
        duration(Duration::ZERO, HOUR),
        "How often a line of one reason is logged that devices or clients can cause; the next one says how many were left out (`suppressed`). `0s` logs each."
    ),
];
