//! What no key can be judged by alone: bounds against each other, topics, addresses.

use std::collections::BTreeMap;

use super::broker_url::BrokerUrl;
use super::certificates;
use super::choices::HostileEndpoint;
use super::error::{ConfigError, ConfigWarning};
use super::filter::{is_filter, matches_filter};
use super::listener::{DtlsListener, PlainRegisters, UdpListener};
use super::mqtt::MqttSubscribe;
use super::schema::Config;
use crate::credentials::EndpointRule;

/// Placeholders a mountpoint may hold.
const PLACEHOLDERS: [&str; 5] = [
    "${endpoint_name}",
    "${clientid}",
    "${username}",
    "${peerhost}",
    "${zone}",
];

/// Those that differ from device to device.
const OF_A_DEVICE: [&str; 3] = ["${endpoint_name}", "${clientid}", "${username}"];

pub(crate) fn check(
    config: &Config,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigWarning>,
) {
    let mut error = |key: String, message: String| errors.push(ConfigError { key, message });

    if config.lifetime_min > config.lifetime_max {
        error(
            "lifetime_min".to_owned(),
            "is longer than lifetime_max".to_owned(),
        );
    }
    if !config.blockwise.max_block_size.is_power_of_two() {
        error(
            "blockwise.max_block_size".to_owned(),
            format!(
                "expected 16, 32, 64, 128, 256, 512 or 1024, found {}",
                config.blockwise.max_block_size
            ),
        );
    }

    check_topics(config, &mut error, warnings);
    check_listeners(config, &mut error);
    check_dtls(config, warnings);
    check_plain(config, warnings);
    check_mqtt(config, &mut error);

    let level = config.log.level.as_str();
    let plain = level.chars().all(|c| c.is_ascii_alphanumeric());
    if plain && !["error", "warn", "info", "debug", "trace", "off"].contains(&level) {
        error(
            "log.level".to_owned(),
            format!("expected error, warn, info, debug, trace or off, found {level:?}"),
        );
    }

    let http = &config.http;
    if http.certfile.is_some() != http.keyfile.is_some() {
        let (given, missing) = match http.certfile {
            Some(_) => ("http.certfile", "http.keyfile"),
            None => ("http.keyfile", "http.certfile"),
        };
        error(given.to_owned(), format!("needs {missing}"));
    }

    let dtls = config.listeners.dtls.iter();
    for (name, listener) in dtls.filter(|(_, listener)| listener.common.enable) {
        certificates::check(name, listener, errors, warnings);
    }
}

fn check_topics(
    config: &Config,
    error: &mut impl FnMut(String, String),
    warnings: &mut Vec<ConfigWarning>,
) {
    let mut mountpoints = vec![("mountpoint".to_owned(), config.mountpoint.as_str())];
    let mut shared = vec![config.shared_mountpoint];
    for (key, listener) in listeners(config) {
        if let Some(mountpoint) = &listener.mountpoint {
            mountpoints.push((format!("{key}.mountpoint"), mountpoint));
            shared.push(
                listener
                    .shared_mountpoint
                    .unwrap_or(config.shared_mountpoint),
            );
        }
    }
    for ((key, mountpoint), shared) in mountpoints.iter().zip(shared) {
        if mountpoint.contains(['+', '#']) {
            error(key.clone(), "must not hold + or #".to_owned());
        }
        if !OF_A_DEVICE.iter().any(|name| mountpoint.contains(name)) {
            warnings.push(ConfigWarning {
                key: key.clone(),
                message: match shared {
                    true => "has no ${endpoint_name}: all devices share their topics".to_owned(),
                    false => "has no ${endpoint_name}: only one device can register, unless \
                              shared_mountpoint = true lets all of them share their topics"
                        .to_owned(),
                },
            });
        }
        for rest in mountpoint.split("${").skip(1) {
            let name = rest.split('}').next().unwrap_or_default();
            let placeholder = format!("${{{name}}}");
            if !PLACEHOLDERS.contains(&placeholder.as_str()) {
                warnings.push(ConfigWarning {
                    key: key.clone(),
                    message: format!(
                        "{placeholder} is not a known placeholder and is used as plain text"
                    ),
                });
            }
        }
    }

    let translators = &config.translators;
    for (name, translator) in [
        ("response", &translators.response),
        ("notify", &translators.notify),
        ("send", &translators.send),
        ("series", &translators.series.messages),
        ("state", &translators.state.messages),
        ("register", &translators.register),
        ("update", &translators.update),
        ("legacy.response", &translators.legacy.response),
    ] {
        if translator.topic.contains(['+', '#']) {
            error(
                format!("translators.{name}.topic"),
                "must not hold + or #, because the gateway publishes to it".to_owned(),
            );
        }
    }
    for (name, translator) in [
        ("command", &translators.command),
        ("legacy.command", &translators.legacy.command),
    ] {
        // The filter is made by joining both parts, so that is what has to be valid.
        let mut joined = mountpoints
            .iter()
            .filter(|(_, mountpoint)| !mountpoint.contains(['+', '#']))
            .map(|(_, mountpoint)| format!("{mountpoint}{}", translator.topic));
        if joined.any(|filter| !is_filter(&filter)) {
            error(
                format!("translators.{name}.topic"),
                "is not a valid MQTT topic filter with the mountpoint: # must be the last level, and + must stand alone in its level"
                    .to_owned(),
            );
        }
    }
    let uplinks = [
        &translators.response,
        &translators.notify,
        &translators.send,
        &translators.register,
        &translators.update,
    ];
    let (legacy, series) = (&translators.legacy, &translators.series);
    let state = &translators.state;
    for (name, command, served) in [
        ("command", &translators.command, true),
        ("legacy.command", &legacy.command, legacy.enable),
    ] {
        let own = uplinks
            .into_iter()
            .chain(legacy.enable.then_some(&legacy.response))
            .chain(series.enable.then_some(&series.messages))
            .chain(state.enable.then_some(&state.messages));
        if served
            && own
                .into_iter()
                .any(|up| matches_filter(&command.topic, &up.topic))
        {
            error(
                format!("translators.{name}.topic"),
                "matches a topic that the gateway publishes to: it would take its own messages for commands"
                    .to_owned(),
            );
        }
    }
}

/// What the listeners of both kinds have in common, by key.
fn listeners(config: &Config) -> impl Iterator<Item = (String, &UdpListener)> {
    let udp = config.listeners.udp.iter();
    let udp = udp.map(|(name, listener)| (format!("listeners.udp.{name}"), listener));
    let dtls = config.listeners.dtls.iter();
    udp.chain(dtls.map(|(name, listener)| (format!("listeners.dtls.{name}"), &listener.common)))
}

fn check_listeners(config: &Config, error: &mut impl FnMut(String, String)) {
    let mut bound = BTreeMap::new();
    for (key, listener) in listeners(config) {
        let name = key.splitn(3, '.').last().unwrap_or_default();
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
            error(
                key.clone(),
                "the name of a listener must have 1 to 64 letters, digits, _ or -".to_owned(),
            );
        }
        if !listener.enable || listener.bind.port() == 0 {
            continue;
        }
        if let Some(other) = bound.insert(listener.bind, key.clone()) {
            error(
                format!("{key}.bind"),
                format!("{other} has the same address, {}", listener.bind),
            );
        }
    }
    if !listeners(config).any(|(_, listener)| listener.enable) {
        error(
            "listeners.udp".to_owned(),
            "no listener is enabled".to_owned(),
        );
    }
}

/// What a record adds to its content in the worst of the suites (CBC with HMAC-SHA256: header 13,
/// IV 16, MAC 32, padding 16), and a CoAP message to its block (header, token, options).
const AROUND_A_BLOCK: usize = 77 + 128;

fn check_dtls(config: &Config, warnings: &mut Vec<ConfigWarning>) {
    for (name, listener) in &config.listeners.dtls {
        if !listener.common.enable {
            continue;
        }
        let mut warn = |key: &str, message: String| {
            warnings.push(ConfigWarning {
                key: format!("listeners.dtls.{name}{key}"),
                message,
            });
        };
        let DtlsListener {
            psk,
            psk_file,
            endpoint_rule,
            options,
            certificates,
            ..
        } = listener;
        if psk.is_empty() && psk_file.is_none() && !certificates.is_on() {
            warn(
                "",
                "has no psk_file, psk or certificates: devices can connect only if the host knows their keys"
                    .to_owned(),
            );
        }
        let named = |identity: &[u8]| String::from_utf8_lossy(identity).into_owned();
        if let Some(weak) = psk.iter().find(|credential| credential.key.is_weak()) {
            warn(
                ".psk",
                format!(
                    "the key of {:?} is shorter than 16 bytes, which is easy to guess",
                    named(&weak.identity)
                ),
            );
        }
        let odd = |lists: bool| psk.iter().find(|it| it.endpoints.is_empty() != lists);
        let odd = match endpoint_rule {
            EndpointRule::Owned => None,
            EndpointRule::Listed => odd(false).map(|it| {
                let identity = named(&it.identity);
                format!("{identity:?} lists no endpoints, so it may not register any")
            }),
            EndpointRule::Any | EndpointRule::Equal => odd(true).map(|it| {
                let identity = named(&it.identity);
                format!(
                    "the endpoints of {identity:?} are used only with endpoint_rule = \"owned\" or \"listed\""
                )
            }),
        };
        if let Some(message) = odd {
            warn(".psk", message);
        }
        let separators = &listener.identity_separator;
        if *endpoint_rule == EndpointRule::Equal
            && config.hostile_endpoint == HostileEndpoint::Refuse
            && !separators.is_empty()
            && separators.chars().all(|it| matches!(it, '#' | '+' | '/'))
        {
            warn(
                ".identity_separator",
                format!(
                    "an endpoint name with {separators:?} is refused (hostile_endpoint), so with \
                     endpoint_rule = \"equal\" only one of the devices that share a key can \
                     register: take a separator such as \"@\", or endpoint_rule = \"owned\""
                ),
            );
        }
        if config.blockwise.max_block_size + AROUND_A_BLOCK > options.mtu {
            warn(
                ".dtls_options.mtu",
                format!(
                    "blocks of {} bytes do not fit: lower blockwise.max_block_size",
                    config.blockwise.max_block_size
                ),
            );
        }
    }
}

/// A plain listener beside DTLS that may take the place of devices with a key.
fn check_plain(config: &Config, warnings: &mut Vec<ConfigWarning>) {
    if !config.listeners.dtls.values().any(|it| it.common.enable) {
        return;
    }
    for (name, listener) in &config.listeners.udp {
        let registers = listener.plain_registers.unwrap_or(config.plain_registers);
        if listener.enable && registers == PlainRegisters::Any {
            warnings.push(ConfigWarning {
                key: format!("listeners.udp.{name}"),
                message: "plain_registers = \"any\": anyone who can send datagrams here can register the endpoint of a device that has a key, and receive its commands"
                    .to_owned(),
            });
        }
    }
}

fn check_mqtt(config: &Config, error: &mut impl FnMut(String, String)) {
    let mqtt = &config.mqtt;
    let url = mqtt
        .broker
        .as_deref()
        .and_then(|url| url.parse::<BrokerUrl>().ok());
    let has_user =
        mqtt.username.is_some() || url.as_ref().is_some_and(|url| url.username.is_some());
    for (key, is_given) in [
        ("mqtt.password", mqtt.password.is_some()),
        ("mqtt.password_file", mqtt.password_file.is_some()),
    ] {
        if is_given && !has_user {
            error(key.to_owned(), "needs mqtt.username".to_owned());
        }
    }
    if mqtt.password_file.is_some() && mqtt.password.is_some() {
        let message = "mqtt.password is set too; set only one of them";
        error("mqtt.password_file".to_owned(), message.to_owned());
    }
    let has_password = mqtt.password.is_some() || mqtt.password_file.is_some();
    if mqtt.username.is_some() && !has_password && mqtt.broker.is_none() {
        let reason =
            "needs mqtt.password or mqtt.password_file: nobody can log in without a password";
        error("mqtt.username".to_owned(), reason.to_owned());
    }
    let (tls, websocket) = (&mqtt.tls, &mqtt.websocket);
    let speaks_tls = tls.bind.is_some() || (websocket.bind.is_some() && websocket.tls);
    for (key, file) in [
        ("mqtt.tls.certfile", &tls.certfile),
        ("mqtt.tls.keyfile", &tls.keyfile),
    ] {
        if speaks_tls && file.is_none() {
            let reason = "is needed for mqtt.tls.bind and mqtt.websocket.tls";
            error(key.to_owned(), reason.to_owned());
        }
    }
    if tls.identity_as_username && tls.cacertfile.is_none() {
        let reason = "needs mqtt.tls.cacertfile: otherwise anyone could use a certificate of their own making";
        error(
            "mqtt.tls.identity_as_username".to_owned(),
            reason.to_owned(),
        );
    }
    for (key, is_given) in [
        ("mqtt.users_file", mqtt.users_file.is_some()),
        ("mqtt.acl_file", mqtt.acl_file.is_some()),
        ("mqtt.tls.bind", tls.bind.is_some()),
        ("mqtt.websocket.bind", websocket.bind.is_some()),
    ] {
        if is_given && mqtt.broker.is_some() {
            let reason = "applies only to the embedded broker, but mqtt.broker names another one";
            error(key.to_owned(), reason.to_owned());
        }
    }
    if let Some(topic) = &mqtt.ownership_topic {
        let mut refuse = |reason: &str| error("mqtt.ownership_topic".to_owned(), reason.to_owned());
        let is_bad = topic.is_empty()
            || topic.len() > 255
            || topic.starts_with('$')
            || topic.ends_with('/')
            || topic.contains(['+', '#'])
            || topic.chars().any(char::is_control);
        if is_bad {
            refuse("must be 1 to 255 bytes without + and #, not start with $ and not end with /");
        }
        if mqtt.broker.is_none() {
            refuse("needs mqtt.broker, because it is for several gateways on one broker");
        } else if mqtt.subscribe != MqttSubscribe::PerDevice {
            refuse(
                "needs mqtt.subscribe = \"per-device\": a gateway must not answer for devices of the other gateways",
            );
        }
    }
    if mqtt.certfile.is_some() != mqtt.keyfile.is_some() {
        let (given, missing) = match mqtt.certfile {
            Some(_) => ("mqtt.certfile", "mqtt.keyfile"),
            None => ("mqtt.keyfile", "mqtt.certfile"),
        };
        error(given.to_owned(), format!("needs {missing}"));
    }
    for (key, file) in [
        ("mqtt.cacertfile", &mqtt.cacertfile),
        ("mqtt.certfile", &mqtt.certfile),
    ] {
        if file.is_some() && !url.as_ref().is_some_and(|url| url.tls) {
            error(
                key.to_owned(),
                "applies only to mqtt.broker = \"mqtts://…\"".to_owned(),
            );
        }
    }
}
