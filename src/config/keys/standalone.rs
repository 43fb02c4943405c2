//! The broker and the log of the stand-alone host.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::key::{GB, HOUR, Key, SECOND, key};
use crate::config::broker_url::BrokerUrl;
use crate::config::mqtt::{MqttSubscribe, MqttVersion};
use crate::config::schema::Config;
use crate::config::value;

pub(super) static KEYS: &[Key<Config>] = &[
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
        "Client identifier at the broker. `auto` is `lwm2m-gateway-` and eight digits made of the machine's name and the addresses of the listeners: the same after a restart, another one for each gateway. Give one where the name of the machine changes from start to start, as that of a container does: commands of QoS 1 and 2 wait for an identifier."
    ),
    key!(
        "mqtt.version",
        mqtt.version,
        choice(
            "auto" = MqttVersion::Auto,
            "5" = MqttVersion::V5,
            "3.1.1" = MqttVersion::V311
        ),
        "Which MQTT to speak with the broker of `mqtt.broker`: 5, or 3.1.1, which lacks message expiry, response topics and reasons. `auto` tries 5 first, then 3.1.1; what the broker has taken once stays until the end."
    ),
    key!(
        "mqtt.subscribe",
        mqtt.subscribe,
        choice(
            "shared" = MqttSubscribe::Shared,
            "per-device" = MqttSubscribe::PerDevice
        ),
        "How commands are asked for at that broker: by one filter for all devices, or by one for each device, from its registration to its end. For several gateways on one broker: with `per-device` a gateway answers nothing for devices of others, and a command that comes before its device has registered is answered by nobody. Read at the start."
    ),
    key!(
        "mqtt.ownership_topic",
        mqtt.ownership_topic,
        optional_text,
        "For several gateways on one broker, or on brokers that are bridged: below this topic each says which devices are its own, by retained messages, so that a device that registers at another one leaves the first and its observations and waiting commands go along. The same for all of them; `mqtt.subscribe` has to be `per-device`. Whoever may publish there can take devices away and have commands carried out: protect it at the broker. None, the default, turns it off. Read at the start."
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
