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
        meaning: "`mqtt://[user@]host[:port]` or `mqtts://…`: connect to that broker instead of running the embedded one. `user:password@` works, but every user of the machine can see a command line.",
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
        "User name at that broker. For the embedded broker: a user that may log in, in addition to those of `mqtt.users_file`. Without any users, anyone may connect."
    ),
    key!(
        "mqtt.password",
        mqtt.password,
        optional_text,
        "Password of that user. It is safer to use `mqtt.password_file` or the environment variable `LWM2M_GATEWAY_MQTT_PASSWORD`."
    ),
    key!(
        "mqtt.password_file",
        mqtt.password_file,
        optional_text,
        "File with that password and nothing else; read at the start."
    ),
    key!(
        "mqtt.users_file",
        mqtt.users_file,
        optional_text,
        "Users of the embedded broker: a file made by `mosquitto_passwd` (hashes `$6$` and `$7$`). Then only these users, and `mqtt.username` if it is set, may log in. Reloaded on SIGHUP."
    ),
    key!(
        "mqtt.acl_file",
        mqtt.acl_file,
        optional_text,
        "What clients of the embedded broker may read and write: a file in the format of Mosquitto's `acl_file`, with `user`, `topic` and `pattern` lines. What it does not allow is denied. Reloaded on SIGHUP."
    ),
    key!(
        "mqtt.tls.bind",
        mqtt.tls.bind,
        optional_address,
        "Where the embedded broker listens for MQTT over TLS (1.2 and 1.3), such as `\":8883\"`; a port alone means 127.0.0.1."
    ),
    key!(
        "mqtt.tls.certfile",
        mqtt.tls.certfile,
        optional_text,
        "PEM file of its certificate chain. Reloaded on SIGHUP, like the two files below."
    ),
    key!(
        "mqtt.tls.keyfile",
        mqtt.tls.keyfile,
        optional_text,
        "PEM file of its private key."
    ),
    key!(
        "mqtt.tls.cacertfile",
        mqtt.tls.cacertfile,
        optional_text,
        "PEM file of CAs. If set, clients need a certificate issued by one of them."
    ),
    key!(
        "mqtt.tls.identity_as_username",
        mqtt.tls.identity_as_username,
        flag,
        "Whether the common name of a client's certificate is its user name; no password is needed then."
    ),
    key!(
        "mqtt.websocket.bind",
        mqtt.websocket.bind,
        optional_address,
        "Where the embedded broker listens for MQTT over WebSocket, for browsers; a port alone means 127.0.0.1."
    ),
    key!(
        "mqtt.websocket.tls",
        mqtt.websocket.tls,
        flag,
        "Whether to serve `wss://`, with the certificate of `mqtt.tls`."
    ),
    key!(
        "mqtt.websocket.origins",
        mqtt.websocket.origins,
        by(
            || "list of origins".to_owned(),
            value::origins,
            |it| format!("{it:?}")
        ),
        "Origins of web pages that may connect, such as `\"https://console.example\"`, in addition to those of the same host and port. Clients that are not browsers send no origin and may always connect."
    ),
    key!(
        "mqtt.max_retained",
        mqtt.max_retained,
        integer(0, 100_000_000),
        "Most retained messages that the embedded broker keeps; further ones are delivered but not kept. With a store (`store.path`) they survive a restart."
    ),
    key!(
        "mqtt.max_retained_bytes",
        mqtt.max_retained_bytes,
        size(0, 64 * GB),
        "Most bytes of retained messages; at most an eighth of `limits.memory`."
    ),
    key!(
        "mqtt.client_id",
        mqtt.client_id,
        text,
        "Client identifier at the broker. `auto` is `lwm2m-gateway-` and eight digits derived from the host name and the addresses of the listeners: it stays the same after a restart, and differs between gateways. Set one if the host name changes with each start, as in a container: the broker keeps commands of QoS 1 and 2 for an identifier."
    ),
    key!(
        "mqtt.version",
        mqtt.version,
        choice(
            "auto" = MqttVersion::Auto,
            "5" = MqttVersion::V5,
            "3.1.1" = MqttVersion::V311
        ),
        "MQTT version for the broker of `mqtt.broker`: 5, or 3.1.1, which lacks message expiry, response topics and reasons. `auto` tries 5 first, then 3.1.1, and stays with the first one that the broker accepts."
    ),
    key!(
        "mqtt.subscribe",
        mqtt.subscribe,
        choice(
            "shared" = MqttSubscribe::Shared,
            "per-device" = MqttSubscribe::PerDevice
        ),
        "How the gateway subscribes to commands at that broker: with one filter for all devices, or with one for each registered device. Use `per-device` for several gateways on one broker: a gateway then does not answer for devices of others. A command that is published before its device has registered gets no answer. Read at the start."
    ),
    key!(
        "mqtt.ownership_topic",
        mqtt.ownership_topic,
        optional_text,
        "For several gateways on one broker or on bridged brokers. Below this topic the gateways publish which devices they have, as retained messages. When a device registers at another gateway, it leaves the first one, and its observations and waiting commands move with it. Set the same topic on all gateways, and `mqtt.subscribe = \"per-device\"`. Anyone who may publish below this topic can take over devices and send them commands: protect it at the broker. Off by default. Read at the start."
    ),
    key!(
        "mqtt.keepalive",
        mqtt.keepalive,
        duration(SECOND, Duration::from_secs(65_535)),
        "Keep-alive of the connection to the broker."
    ),
    key!(
        "mqtt.session_expiry",
        mqtt.session_expiry,
        duration(SECOND, Duration::from_secs(u32::MAX as u64)),
        "How long the broker keeps the session of the gateway, with its commands of QoS 1 and 2, while the gateway is disconnected. Only with MQTT 5; with 3.1.1 the broker decides."
    ),
    key!(
        "mqtt.max_queued",
        mqtt.max_queued,
        integer(1, 100_000_000),
        "Most messages kept while the broker, or one subscriber of the embedded broker, is disconnected or slow."
    ),
    key!(
        "mqtt.max_connections",
        mqtt.max_connections,
        integer(1, 1_000_000),
        "Most connections to the embedded broker. When there are more, those that have not logged in are closed."
    ),
    key!(
        "mqtt.max_queued_bytes",
        mqtt.max_queued_bytes,
        size(64 << 10, 64 * GB),
        "Most bytes of such messages; for the embedded broker, those of all its subscribers together."
    ),
    key!(
        "mqtt.cacertfile",
        mqtt.cacertfile,
        optional_text,
        "PEM file of the CAs to trust for `mqtts://`, instead of the system's."
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
        "Format of log lines."
    ),
    key!(
        "log.interval",
        log.interval,
        duration(Duration::ZERO, HOUR),
        "Lines that devices or clients can cause are logged at most once per reason and interval; the next one says how many were left out (`suppressed`). `0s` logs every line."
    ),
];
