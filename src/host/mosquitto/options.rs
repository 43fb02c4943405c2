//! `plugin_opt_*`: a configuration file, any key of a configuration, and keys of this host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::wake::Wakeup;
use crate::config::read::{ConfigError, Source};
use crate::config::{Config, Log, Mqtt, file, value};

/// How the broker writes our options.
const PREFIX: &str = "plugin_opt_";

/// Keys of this host, beside those of the configuration.
const OWN: [&str; 4] = ["config", "wakeup", "sys_interval", "message_expiry"];

/// Longest `sys_interval`.
const DAY: Duration = Duration::from_secs(86_400);

/// The options in `mosquitto.conf`. The broker tells them at its start only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    file: Option<PathBuf>,
    settings: Vec<(String, String)>,
    pub(super) wakeup: Wakeup,
    /// Zero: no counters under `$SYS`.
    pub(super) sys_interval: Duration,
    /// Whether the Message-Expiry-Interval of a command is looked for in the packet that it came in.
    pub(super) reads_packets: bool,
    /// What is wrong with the options of this host.
    errors: Vec<String>,
}

impl Options {
    /// Sorts the options; mistakes come up in [`Options::load`].
    pub(super) fn new(given: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut options = Self {
            file: None,
            settings: Vec::new(),
            wakeup: Wakeup::Auto,
            sys_interval: Duration::from_secs(10),
            reads_packets: false,
            errors: Vec::new(),
        };
        let mut seen = Vec::new();
        for (key, value) in given {
            let value = value.trim();
            if seen.contains(&key) {
                options.error(&key, "is given twice");
                continue;
            }
            // What was no UTF-8 has been replaced on its way here.
            if value.contains(char::REPLACEMENT_CHARACTER) {
                options.error(&key, "is not valid UTF-8");
                continue;
            }
            match key.as_str() {
                "config" => options.file = Some(PathBuf::from(value)),
                "wakeup" => match Wakeup::from_name(value) {
                    Some(wakeup) => options.wakeup = wakeup,
                    None => options.error(
                        &key,
                        &format!("expected auto, eventfd, signal or tick, found {value:?}"),
                    ),
                },
                "sys_interval" => match value::duration(&value.into(), Duration::ZERO, DAY) {
                    Ok(interval) => options.sys_interval = interval,
                    Err(message) => options.error(&key, &message),
                },
                "message_expiry" => match value {
                    "ignore" => options.reads_packets = false,
                    "packet" => options.reads_packets = true,
                    _ => {
                        options.error(&key, &format!("expected ignore or packet, found {value:?}"))
                    }
                },
                _ => options.settings.push((key.clone(), value.to_owned())),
            }
            seen.push(key);
        }
        options
    }

    /// Reads the file and applies the settings. With the configuration come warnings.
    ///
    /// # Errors
    /// One line for each mistake, which names the option or the file.
    pub(super) fn load(&self) -> Result<(Config, Vec<String>), Vec<String>> {
        let mut errors = self.errors.clone();
        let mut source = match self.file.as_deref().map(read) {
            None => Source::default(),
            Some(Ok(source)) => source,
            Some(Err(error)) => {
                errors.push(error);
                Source::default()
            }
        };
        for (key, value) in &self.settings {
            source.set(key, value);
        }
        match source.read() {
            Ok((config, warnings)) if errors.is_empty() => {
                let mut lines: Vec<String> = warnings
                    .iter()
                    .map(|warning| self.line(&warning.key, &warning.message))
                    .collect();
                lines.extend(without_effect(&config));
                Ok((config, lines))
            }
            Ok(_) => Err(errors),
            Err(mistakes) => {
                errors.extend(mistakes.iter().map(|mistake| self.mistake(mistake)));
                Err(errors)
            }
        }
    }

    /// `text` begins with a key; when that was set by an option, with the option.
    pub(super) fn named(&self, text: &str) -> String {
        let key = text.split([' ', ':']).next().unwrap_or_default();
        if self.settings.iter().any(|(given, _)| given == key) {
            format!("{PREFIX}{text}")
        } else {
            text.to_owned()
        }
    }

    fn error(&mut self, key: &str, message: &str) {
        self.errors.push(format!("{PREFIX}{key}: {message}"));
    }

    fn mistake(&self, mistake: &ConfigError) -> String {
        if mistake.message == "unknown key"
            && let Some(own) = OWN
                .iter()
                .find(|own| strsim::jaro_winkler(own, &mistake.key) > 0.85)
        {
            let message = format!("unknown key, did you mean {PREFIX}{own}?");
            return self.line(&mistake.key, &message);
        }
        self.line(&mistake.key, &mistake.message)
    }

    /// A line about a key, with the place that it was set in.
    fn line(&self, key: &str, message: &str) -> String {
        let as_option = self.settings.iter().map(|(given, _)| given).find(|given| {
            let given = given.strip_prefix("gateway.lwm2m.").unwrap_or(given);
            given == key || given.starts_with(&format!("{key}."))
        });
        match (as_option, &self.file) {
            (Some(given), _) => format!("{PREFIX}{given}: {message}"),
            (None, Some(file)) if key.is_empty() => format!("{}: {message}", file.display()),
            (None, Some(file)) => format!("{}: {key}: {message}", file.display()),
            (None, None) => format!("{PREFIX}{key}: {message}"),
        }
    }
}

/// Settings of the stand-alone program that a file may hold all the same.
fn without_effect(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if config.mqtt != Mqtt::default() {
        lines.push(
            "mqtt.* has no effect in the plugin: the gateway uses the broker that it runs in"
                .to_owned(),
        );
    }
    if config.log.json != Log::default().json {
        lines.push("log.format has no effect in the plugin: the broker formats its log".to_owned());
    }
    if level(&config.log.level).is_none() {
        lines.push(
            "log.level: the plugin accepts only a level, not a filter; using info".to_owned(),
        );
    }
    lines
}

/// The level of `log.level`. A filter by parts of the program is for the stand-alone program.
pub(super) fn level(text: &str) -> Option<LevelFilter> {
    text.parse().ok()
}

fn read(path: &Path) -> Result<Source, String> {
    file::read(path).map_err(|error| format!("{PREFIX}config: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Options {
        Options::new(
            given
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        )
    }

    fn errors(given: &[(&str, &str)]) -> Vec<String> {
        options(given).load().unwrap_err()
    }

    #[test]
    fn keys_of_the_configuration_and_of_the_host() {
        let options = options(&[
            ("wakeup", "signal"),
            ("sys_interval", "30s"),
            ("message_expiry", "packet"),
            ("listeners.udp.default.bind", "127.0.0.1:5693"),
            ("gateway.lwm2m.mountpoint", "devices/${endpoint_name}/"),
            ("auto_observe", "[\"/3/0\"]"),
        ]);
        assert_eq!(options.wakeup, Wakeup::Signal);
        assert_eq!(options.sys_interval, Duration::from_secs(30));
        assert!(options.reads_packets);
        let (config, warnings) = options.load().unwrap();
        assert_eq!(config.mountpoint, "devices/${endpoint_name}/");
        assert_eq!(config.listeners.udp["default"].bind.port(), 5693);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn mistakes_name_their_option() {
        for (given, expected) in [
            (vec![("coap.nstart", "many")], "plugin_opt_coap.nstart: "),
            (vec![("wakeup", "bell")], "plugin_opt_wakeup: expected auto"),
            (vec![("wakup", "auto")], "did you mean plugin_opt_wakeup?"),
            (vec![("sys_interval", "often")], "plugin_opt_sys_interval: "),
            (
                vec![("message_expiry", "yes")],
                "plugin_opt_message_expiry: expected ignore or packet",
            ),
            (
                vec![("shards", "1"), ("shards", "2")],
                "plugin_opt_shards: is given twice",
            ),
            (
                vec![("mountpoint", "\u{fffd}/")],
                "plugin_opt_mountpoint: is not valid UTF-8",
            ),
            (
                vec![("config", "/nowhere/a.toml")],
                "plugin_opt_config: /nowhere/a.toml: No such",
            ),
            (
                vec![("listeners", "5")],
                "plugin_opt_listeners: expected a table",
            ),
            (
                vec![("listeners.udp", "5")],
                "plugin_opt_listeners.udp: expected a table",
            ),
            (
                vec![("gateway.lwm2m.shards", "x")],
                "plugin_opt_gateway.lwm2m.shards: ",
            ),
        ] {
            let lines = errors(&given);
            assert!(
                lines.iter().any(|line| line.contains(expected)),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn errors_of_the_start_name_their_option() {
        let options = options(&[("xml_dir", "/nowhere")]);
        assert_eq!(
            options.named("xml_dir /nowhere: no"),
            "plugin_opt_xml_dir /nowhere: no"
        );
        assert_eq!(options.named("eventfd: no"), "eventfd: no");
    }

    #[test]
    fn every_mistake_at_once() {
        assert_eq!(
            errors(&[("wakeup", "x"), ("shards", "x"), ("xml_dirs", "y")]).len(),
            3
        );
    }

    #[test]
    fn settings_of_the_stand_alone_program_are_warned_of() {
        let (_, warnings) = options(&[
            ("mqtt.client_id", "me"),
            ("log.format", "json"),
            ("log.level", "info,lwm2m_gateway=debug"),
        ])
        .load()
        .unwrap();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }
}
