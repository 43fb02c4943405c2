//! Reading a configuration: TOML, JSON and dotted settings become one tree, the tree becomes a
//! [`Config`]. Every mistake is found in one go and named by its key path. No file is read here.

use std::fmt;

use serde_json::{Map, Value};

use super::broker_url::BrokerUrl;
pub use super::error::{ConfigError, ConfigWarning};
use super::keys::{DTLS_KEYS, IGNORED, KEYS, Keys, RENAMED, UDP_KEYS};
use super::places::{EMQX_PREFIX, Places};
use super::reader::Reader;
use super::schema::Config;
use super::{check, hocon, psk};
use crate::credentials::WorldReadable;
use crate::system::open_to_everyone;

/// A configuration whose values have not been checked yet.
#[derive(Clone, Default)]
pub struct Source {
    root: Map<String, Value>,
    errors: Vec<ConfigError>,
    exposed: Option<Exposed>,
    /// Where it comes from, and itself.
    password: Option<(&'static str, String)>,
    places: Places,
}

/// A file that everybody can read, with secrets in it.
#[derive(Clone)]
struct Exposed {
    /// Keys of the secrets.
    keys: Vec<String>,
    /// What is wrong, and what to do.
    message: String,
}

/// The values may be secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("keys", &self.root.keys())
            .field("errors", &self.errors)
            .finish()
    }
}

/// Deepest nesting of tables that is looked at; the schema needs five.
const MAX_DEPTH: usize = 16;

impl Source {
    /// Reads TOML.
    pub fn from_toml(text: &str) -> Self {
        match text.parse::<toml::Table>() {
            Ok(table) => {
                let mut errors = Vec::new();
                let root = table
                    .into_iter()
                    .map(|(name, value)| {
                        let value = json_of(value, &name, 1, &mut errors);
                        (name, value)
                    })
                    .collect();
                Self::from_tree(root, errors).at(Places::of_toml(text))
            }
            Err(error) => {
                let place = error.span().map(|span| place_of(text, span.start));
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                Self::unreadable(match place {
                    Some((line, column)) => format!("line {line}, column {column}: {message}"),
                    None => message,
                })
            }
        }
    }

    /// Reads JSON.
    pub fn from_json(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(Value::Object(root)) => {
                // What is JSON is HOCON, and its reader knows lines.
                let lines = hocon::parse(text).map(|(_, lines)| lines);
                Self::from_object(root).at(Places::of_lines(lines.unwrap_or_default()))
            }
            Ok(_) => Self::unreadable("not a JSON object".to_owned()),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let message = error.to_string();
                let place = format!(" at line {line} column {column}");
                let message = message.strip_suffix(&place).unwrap_or(&message);
                Self::unreadable(format!("line {line}, column {column}: {message}"))
            }
        }
    }

    /// Reads HOCON, the format of EMQX's configuration files; `docs/configuration.md` says which of
    /// its features are supported.
    pub fn from_hocon(text: &str) -> Self {
        match hocon::parse(text) {
            Ok((root, lines)) => Self::from_object(root).at(Places::of_lines(lines)),
            Err((line, message)) => Self::unreadable(format!("line {line}: {message}")),
        }
    }

    fn at(mut self, places: Places) -> Self {
        self.places = places;
        self
    }

    /// Where the keys stand, to be shown beside the mistakes of [`Source::read`].
    #[cfg(feature = "standalone")]
    pub(crate) fn places(&self) -> Places {
        self.places.clone()
    }

    /// Uses a parsed JSON object.
    pub fn from_object(root: Map<String, Value>) -> Self {
        Self::from_tree(root, Vec::new())
    }

    /// Reads JSON or TOML: JSON if the first character is `{`, with which no TOML text begins.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with('{') {
            Self::from_json(text)
        } else {
            Self::from_toml(text)
        }
    }

    fn unreadable(message: String) -> Self {
        Self {
            errors: vec![ConfigError {
                key: String::new(),
                message,
            }],
            ..Self::default()
        }
    }

    /// Offers a password for the broker from `origin`, such as an environment variable. It is used
    /// if the configuration has none.
    pub fn offer_password(&mut self, origin: &'static str, password: String) {
        self.password = Some((origin, password));
    }

    /// Says that the configuration came from a file with these permission bits. If every user can
    /// read or change the file, it must not contain secrets unless `world_readable_keys` is
    /// `allow`.
    #[must_use]
    pub fn of_file(mut self, file: &str, mode: u32) -> Self {
        self.places.set_file(file);
        let keys = secrets(&self.root);
        self.exposed = open_to_everyone(mode)
            .filter(|_| !keys.is_empty())
            .map(|why| Exposed {
                keys,
                message: format!(
                    "is a secret in {file}, which {why}: run chmod 640 {file}, or set world_readable_keys = \"allow\""
                ),
            });
        self
    }

    /// Lifts what stands under `gateway.lwm2m` to the top.
    fn from_tree(mut root: Map<String, Value>, mut errors: Vec<ConfigError>) -> Self {
        if let Some(Value::Object(mut gateways)) = root.remove("gateway") {
            match gateways.remove("lwm2m") {
                Some(Value::Object(section)) => {
                    for (name, value) in section {
                        if root.contains_key(&name) {
                            errors.push(ConfigError {
                                key: format!("{EMQX_PREFIX}{name}"),
                                message: format!("is also given as {name}"),
                            });
                        } else {
                            root.insert(name, value);
                        }
                    }
                }
                Some(_) => errors.push(ConfigError {
                    key: "gateway.lwm2m".to_owned(),
                    message: "expected a table".to_owned(),
                }),
                None => {}
            }
            for name in gateways.keys() {
                errors.push(ConfigError {
                    key: format!("gateway.{name}"),
                    message: "unknown gateway: only gateway.lwm2m is supported".to_owned(),
                });
            }
        }
        Self {
            root,
            errors,
            exposed: None,
            password: None,
            places: Places::default(),
        }
    }

    /// Sets one key, overriding the file. The text is read as a TOML value, or used as it is if it
    /// is not one or if the key holds text.
    pub fn set(&mut self, key: &str, text: &str) {
        let key = key.strip_prefix(EMQX_PREFIX).unwrap_or(key);
        self.places.set_elsewhere(key);
        let quoted = text.starts_with(['"', '\'']);
        let value = if holds_text(key) && !quoted {
            Value::String(text.to_owned())
        } else {
            format!("x = {text}")
                .parse::<toml::Table>()
                .ok()
                .filter(|table| table.len() == 1)
                .and_then(|mut table| table.remove("x"))
                .map_or_else(
                    || Value::String(text.to_owned()),
                    |value| json_of(value, key, 1, &mut self.errors),
                )
        };
        let names: Vec<&str> = key.split('.').collect();
        if names.iter().any(|name| name.is_empty()) || names.len() > MAX_DEPTH {
            self.errors.push(ConfigError {
                key: key.to_owned(),
                message: "is not a key path such as coap.nstart".to_owned(),
            });
            return;
        }
        let mut table = &mut self.root;
        let Some((last, parents)) = names.split_last() else {
            return;
        };
        for name in parents {
            let entry = table
                .entry((*name).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            // A value where a table belongs is replaced: the command line wins over the file.
            if !entry.is_object() {
                *entry = Value::Object(Map::new());
            }
            let Value::Object(next) = entry else { return };
            table = next;
        }
        table.insert((*last).to_owned(), value);
    }

    /// Returns the configuration, and warnings about settings that are accepted but probably not
    /// intended.
    ///
    /// # Errors
    ///
    /// Every mistake, in order of key path.
    pub fn read(self) -> Result<(Config, Vec<ConfigWarning>), Vec<ConfigError>> {
        let mut reader = Reader {
            errors: self.errors,
            warnings: Vec::new(),
        };
        let mut config = Config::default();
        let mut root = self.root;
        let mut listeners = root.remove("listeners");
        for (old, new) in RENAMED {
            if let Some(value) = root.remove(*old) {
                reader.warn(old, &format!("is now {new}"));
                reader.leaf(&KEYS, &mut config, new, old, &value);
            }
        }
        reader.table(&KEYS, IGNORED, &mut config, &root, "", "");
        if let Some(listeners) = &mut listeners {
            reader.listeners(&mut config.listeners, listeners);
            // The keys of devices are in there.
            psk::wipe(listeners);
        }
        for listener in config.listeners.dtls.values_mut() {
            listener.world_readable = config.world_readable_keys;
        }
        if let Some(exposed) = self.exposed
            && config.world_readable_keys == WorldReadable::Refuse
        {
            for key in exposed.keys {
                reader.error(&key, exposed.message.as_str());
            }
        }
        if let Some((origin, password)) = self.password {
            reader.offered(&mut config.mqtt, origin, password);
        }
        check::check(&config, &mut reader.errors, &mut reader.warnings);
        if reader.errors.is_empty() {
            return Ok((config, reader.warnings));
        }
        reader.errors.sort_by(|a, b| a.key.cmp(&b.key));
        reader.errors.dedup();
        Err(reader.errors)
    }
}

/// A configuration from TOML text alone.
///
/// # Errors
///
/// Every mistake in it.
#[cfg(feature = "internals")]
pub fn from_toml(text: &str) -> Result<(Config, Vec<ConfigWarning>), Vec<ConfigError>> {
    Source::from_toml(text).read()
}

/// Whether the value of `key` is text, so that `--set` does not read it as TOML.
fn holds_text(key: &str) -> bool {
    fn is_text<T>(keys: &Keys<T>, name: &str) -> bool {
        keys.find(name).is_some_and(|key| key.is_text)
    }
    let mut names = key.splitn(4, '.');
    match (names.next(), names.next(), names.next(), names.next()) {
        (Some("listeners"), Some("udp"), _, Some(name)) => is_text(&UDP_KEYS, name),
        (Some("listeners"), Some("dtls"), _, Some(name)) => {
            // A key of digits only is no number.
            is_text(&DTLS_KEYS, name) || name.starts_with("psk.")
        }
        _ => is_text(&KEYS, key),
    }
}

/// The keys of secrets in a tree.
fn secrets(root: &Map<String, Value>) -> Vec<String> {
    let is_given = |value: &Value| match value {
        Value::Null => false,
        Value::Object(table) => !table.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    let mqtt = root.get("mqtt");
    let has_password = |url: &Value| {
        let url = url.as_str().unwrap_or_default().parse::<BrokerUrl>();
        url.is_ok_and(|url| url.password.is_some())
    };
    let mut keys = Vec::new();
    if mqtt
        .and_then(|mqtt| mqtt.get("password"))
        .is_some_and(is_given)
    {
        keys.push("mqtt.password".to_owned());
    }
    if mqtt
        .and_then(|mqtt| mqtt.get("broker"))
        .is_some_and(has_password)
    {
        keys.push("mqtt.broker".to_owned());
    }
    let dtls = root.get("listeners").and_then(|kinds| kinds.get("dtls"));
    for (name, listener) in dtls.and_then(Value::as_object).into_iter().flatten() {
        if listener.get("psk").is_some_and(is_given) {
            keys.push(format!("listeners.dtls.{name}.psk"));
        }
        let password = listener.pointer("/dtls_options/password");
        if password.is_some_and(is_given) {
            keys.push(format!("listeners.dtls.{name}.dtls_options.password"));
        }
    }
    keys
}

/// Line and column, from 1, of a byte offset.
fn place_of(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let column = before.get(start..).map_or(0, |rest| rest.chars().count());
    (line, column.saturating_add(1))
}

/// A TOML value as JSON, which has no dates and no infinities.
fn json_of(value: toml::Value, key: &str, depth: usize, errors: &mut Vec<ConfigError>) -> Value {
    let mut wrong = |message: &str| {
        errors.push(ConfigError {
            key: key.to_owned(),
            message: message.to_owned(),
        });
        Value::Null
    };
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => match serde_json::Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None => Value::String(number.to_string()),
        },
        toml::Value::Boolean(on) => Value::Bool(on),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        _ if depth >= MAX_DEPTH => wrong("is nested too deeply"),
        toml::Value::Array(list) => list
            .into_iter()
            .map(|entry| json_of(entry, key, depth.saturating_add(1), errors))
            .collect(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(name, entry)| {
                let inner = format!("{key}.{name}");
                let value = json_of(entry, &inner, depth.saturating_add(1), errors);
                (name, value)
            })
            .collect(),
    }
}
