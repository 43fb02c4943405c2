//! A tree of values becomes a [`Config`](super::Config), table by table.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::broker_url::BrokerUrl;
use super::error::{ConfigError, ConfigWarning};
use super::keys::{DTLS_IGNORED, DTLS_KEYS, Keys, LISTENER_IGNORED, UDP_IGNORED, UDP_KEYS};
use super::listener::{Listeners, UdpListener};
use super::mqtt::Mqtt;
use super::psk;

/// Collects what is wrong on the way.
pub(super) struct Reader {
    pub(super) errors: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigWarning>,
}

impl Reader {
    pub(super) fn error(&mut self, key: &str, message: impl Into<String>) {
        self.errors.push(ConfigError {
            key: key.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn warn(&mut self, key: &str, message: &str) {
        self.warnings.push(ConfigWarning {
            key: key.to_owned(),
            message: message.to_owned(),
        });
    }

    /// Takes a password from outside, if there is none.
    pub(super) fn offered(&mut self, mqtt: &mut Mqtt, origin: &str, password: String) {
        let url = mqtt.broker.as_deref().map(str::parse::<BrokerUrl>);
        let url = url.and_then(Result::ok);
        let in_url = url.as_ref().is_some_and(|url| url.password.is_some());
        if in_url || mqtt.password.is_some() || mqtt.password_file.is_some() {
            return;
        }
        if mqtt.username.is_none() && url.is_none_or(|url| url.username.is_none()) {
            return self.error(origin, "needs mqtt.username");
        }
        mqtt.password = Some(password);
    }

    /// Reads `value` as the key `name`; `shown` is what the user called it.
    pub(super) fn leaf<T>(
        &mut self,
        keys: &Keys<T>,
        into: &mut T,
        name: &str,
        shown: &str,
        value: &Value,
    ) -> bool {
        let Some(key) = keys.find(name) else {
            return false;
        };
        if let Err(message) = (key.read)(into, value) {
            self.error(shown, message);
        }
        true
    }

    /// Reads a table: `prefix` leads from the keys of `T` to it, `above` from the top to `T`.
    pub(super) fn table<T>(
        &mut self,
        keys: &Keys<T>,
        ignored: &[(&str, &str)],
        into: &mut T,
        table: &Map<String, Value>,
        prefix: &str,
        above: &str,
    ) {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            let shown = format!("{above}{name}");
            if self.leaf(keys, into, &name, &shown, value) {
                continue;
            }
            if let Some((_, why)) = ignored.iter().find(|(ignored, _)| *ignored == name) {
                self.warn(&shown, why);
                continue;
            }
            let inner = format!("{name}.");
            let is_table = keys.iter().map(|key| key.name);
            let is_table = is_table
                .chain(ignored.iter().map(|(ignored, _)| *ignored))
                .any(|key| key.starts_with(&inner));
            match value {
                // The table of keys is finite, so the depth is bounded by it.
                Value::Object(table) if is_table => {
                    self.table(keys, ignored, into, table, &inner, above);
                }
                _ if is_table => self.error(&shown, "expected a table"),
                _ => {
                    let known = keys.iter().map(|key| format!("{above}{}", key.name));
                    let message = unknown(&shown, known);
                    self.error(&shown, message);
                }
            }
        }
    }

    pub(super) fn listeners(&mut self, into: &mut Listeners, value: &Value) {
        let Value::Object(kinds) = value else {
            return self.error("listeners", "expected a table");
        };
        for (kind, value) in kinds {
            let shown = format!("listeners.{kind}");
            match kind.as_str() {
                "udp" => {
                    let ignored = [LISTENER_IGNORED, UDP_IGNORED].concat();
                    let udp: BTreeMap<_, UdpListener> =
                        self.named(&UDP_KEYS, &ignored, &shown, value);
                    if !udp.is_empty() {
                        into.udp = udp;
                    }
                }
                "dtls" => {
                    let ignored = [LISTENER_IGNORED, DTLS_IGNORED].concat();
                    into.dtls = self.named(&DTLS_KEYS, &ignored, &shown, value);
                    self.old_versions(value);
                }
                _ => {
                    let known = ["listeners.udp".to_owned(), "listeners.dtls".to_owned()];
                    let message = unknown(&shown, known.into_iter());
                    self.error(&shown, message);
                }
            }
        }
        let has_udp = kinds
            .get("udp")
            .and_then(Value::as_object)
            .is_some_and(|named| !named.is_empty());
        if !has_udp && into.dtls.values().any(|listener| listener.common.enable) {
            into.udp = BTreeMap::new();
        }
    }

    /// The listeners of one kind by name.
    fn named<T: Default>(
        &mut self,
        keys: &Keys<T>,
        ignored: &[(&str, &str)],
        shown: &str,
        value: &Value,
    ) -> BTreeMap<String, T> {
        let mut listeners = BTreeMap::new();
        let Value::Object(named) = value else {
            self.error(shown, "expected a table of named listeners");
            return listeners;
        };
        for (name, value) in named {
            let shown = format!("{shown}.{name}");
            let mut listener = T::default();
            if let Value::Object(table) = value {
                let above = format!("{shown}.");
                self.table(keys, ignored, &mut listener, table, "", &above);
            } else {
                self.error(&shown, "expected a table with bind = \"ip:port\"");
            }
            listeners.insert(name.clone(), listener);
        }
        listeners
    }

    /// A section of EMQX may ask for DTLS 1.0 as well, which is no mistake but has no effect.
    fn old_versions(&mut self, named: &Value) {
        for (name, listener) in named.as_object().into_iter().flatten() {
            if listener
                .pointer("/dtls_options/versions")
                .is_some_and(psk::asks_for_dtls1)
            {
                self.warn(
                    &format!("listeners.dtls.{name}.dtls_options.versions"),
                    "dtlsv1 is not supported, only dtlsv1.2",
                );
            }
        }
    }
}

/// What people look for that has another name here.
const HINTS: &[(&str, &str)] = &[
    (
        "listeners.tcp",
        "only udp and dtls are listeners, for devices; use mqtt.bind for MQTT clients",
    ),
    (
        "mqtt.port",
        "the port is part of mqtt.bind (\"127.0.0.1:1883\") or of mqtt.broker",
    ),
    (
        "mqtt.host",
        "the address is part of mqtt.bind (\"127.0.0.1:1883\") or of mqtt.broker",
    ),
    ("mqtt.url", "use mqtt.broker to name another broker"),
    ("mqtt.user", "use mqtt.username"),
];

/// The message for an unknown key, with the nearest known one.
fn unknown(key: &str, known: impl Iterator<Item = String>) -> String {
    if let Some((_, hint)) = HINTS.iter().find(|(hinted, _)| *hinted == key) {
        return format!("unknown key: {hint}");
    }
    let (table, name) = split(key);
    let nearest = known
        .map(|known| {
            let likeness = match split(&known) {
                // The right name in the wrong table.
                (_, other) if other == name => 0.99,
                // What the names have in common with their table says nothing.
                // Two letters in the wrong order, one too many or one that is missing.
                (of, other) if of == table && strsim::osa_distance(other, name) == 1 => 0.95,
                (of, other) if of == table => strsim::jaro_winkler(other, name),
                _ => strsim::jaro_winkler(&known, key),
            };
            (likeness, known)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, known)) if likeness > 0.85 => {
            format!("unknown key, did you mean {known}?")
        }
        _ => "unknown key".to_owned(),
    }
}

/// The table of a key, and its name there.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}
