//! From options and file to a configuration.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::read::{ConfigWarning, Source};
use crate::config::{self, Config};
use crate::credentials::CredentialStore;
use crate::system::forbid_core_dumps;

use super::{password, say};

/// What a gateway is started with; options win over the file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GatewayOptions {
    /// Configuration file (TOML or JSON); docs/configuration.md lists every key
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address for devices: IP:PORT, :PORT or PORT [default: 0.0.0.0:5683, without DTLS]
    #[arg(long, value_name = "ADDR")]
    pub(crate) udp: Option<String>,
    /// Address for devices with DTLS [default: 0.0.0.0:5684, with --psk-file]
    #[arg(long, value_name = "ADDR")]
    pub(crate) dtls: Option<String>,
    /// File of `identity:key` lines for DTLS; see `lwm2m-gateway psk`
    #[arg(long, value_name = "FILE")]
    pub(crate) psk_file: Option<String>,
    /// Address of the embedded broker: IP:PORT, :PORT (every address) or PORT (127.0.0.1)
    /// [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR", conflicts_with = "broker")]
    pub(crate) mqtt: Option<String>,
    /// Connect to this broker instead: mqtt://[USER@]HOST[:PORT], or mqtts:// for TLS; the password
    /// comes from the environment, LWM2M_GATEWAY_MQTT_PASSWORD, or from mqtt.password_file
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Directory of further object definitions (*.xml), which replace built-in ones
    #[arg(long, value_name = "DIR")]
    pub(crate) xml_dir: Option<String>,
    /// Directory where registrations, observations and commands are kept for the next start
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<String>,
    /// Set one key of the configuration, such as coap.nstart=2; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// Let the system write core dumps of this process, and debuggers of its user attach to it: both
    /// show the keys of devices
    #[arg(long)]
    pub(crate) core_dumps: bool,
    /// error, warn, info, debug, trace, a filter such as info,lwm2m_gateway=debug, or json for
    /// JSON lines; may be repeated
    #[arg(long, value_name = "LEVEL|json")]
    pub(crate) log: Vec<String>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err("expected KEY=VALUE".to_owned()),
    }
}

impl GatewayOptions {
    /// Keeps the keys that are about to be read out of core dumps, unless those are wanted.
    pub(crate) fn protect(&self) {
        if !self.core_dumps
            && let Err(error) = forbid_core_dumps()
        {
            say::warning(format_args!("core dumps stay possible: {error}"));
        }
    }

    /// Reads the file and applies the options.
    ///
    /// # Errors
    ///
    /// One line for each mistake.
    pub(crate) fn load(&self) -> Result<(Config, Vec<ConfigWarning>), Vec<String>> {
        let mut source = match &self.config {
            Some(file) => read(file).map_err(|error| vec![error])?,
            None => Source::default(),
        };
        for (key, value) in &self.settings {
            source.set(key, value);
        }
        for (key, value) in [
            ("listeners.udp.default.bind", &self.udp),
            ("listeners.dtls.default.bind", &self.dtls),
            ("listeners.dtls.default.psk_file", &self.psk_file),
            ("mqtt.bind", &self.mqtt),
            ("mqtt.broker", &self.broker),
            ("xml_dir", &self.xml_dir),
            ("store.path", &self.store),
        ] {
            if let Some(value) = value {
                source.set(key, value);
            }
        }
        for log in &self.log {
            match log.as_str() {
                "json" | "text" => source.set("log.format", log),
                level => source.set("log.level", level),
            }
        }
        password::from_environment(&mut source).map_err(|error| vec![error])?;
        let (mut config, warnings) = source.read().map_err(lines)?;
        password::from_file(&mut config).map_err(|error| vec![error])?;
        Ok((config, warnings))
    }
}

fn read(file: &Path) -> Result<Source, String> {
    config::file::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn lines(errors: Vec<impl Display>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The command `check-config`.
pub(crate) fn check(file: &Path) -> ExitCode {
    let read = read(file).map_err(|error| vec![error]);
    let read = read.and_then(|mut source| {
        password::from_environment(&mut source).map_err(|error| vec![error])?;
        source.read().map_err(lines)
    });
    match read {
        Ok((config, warnings)) => {
            for warning in warnings {
                say::out(format_args!("warning: {warning}"));
            }
            for warning in check_keys(&config) {
                say::out(format_args!("warning: {warning}"));
            }
            say::out("ok");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            errors.iter().for_each(say::error);
            ExitCode::FAILURE
        }
    }
}

/// What there is to say about the PSK files. A missing one is no mistake of the configuration,
/// which may be meant for another machine.
fn check_keys(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let listeners = config.listeners.dtls.iter();
    for (name, listener) in listeners.filter(|(_, listener)| listener.common.enable) {
        let found = match CredentialStore::open(listener) {
            Ok((_, found)) => found,
            Err(error) => vec![error.to_string()],
        };
        let named = |warning| format!("listeners.dtls.{name}: {warning}");
        warnings.extend(found.into_iter().map(named));
    }
    warnings
}
