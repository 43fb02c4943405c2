//! From options and file to a configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::places::Places;
use crate::config::read::{ConfigError, ConfigWarning, Source};
use crate::config::{self, Config};
use crate::credentials::CredentialStore;
use crate::runtime;
use crate::system::forbid_core_dumps;

use super::{password, say, state};

/// What a gateway is started with; options win over the file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GatewayOptions {
    /// Configuration file (TOML, JSON, or HOCON as *.hocon); docs/configuration.md lists every key
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
    /// is in the environment variable LWM2M_GATEWAY_MQTT_PASSWORD or in mqtt.password_file
    #[arg(long, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Address of the HTTP API and its console: IP:PORT, :PORT (every address, which needs a token)
    /// or PORT (127.0.0.1); the token is in the environment variable LWM2M_GATEWAY_HTTP_TOKEN or in
    /// http.token_file, users are in http.users_file
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<String>,
    /// Directory of additional object definitions (*.xml), which replace built-in ones
    #[arg(long, value_name = "DIR")]
    pub(crate) xml_dir: Option<String>,
    /// Directory of the store, which keeps registrations, observations and commands across restarts
    /// [default with --config: $STATE_DIRECTORY, $XDG_STATE_HOME/lwm2m-gateway,
    /// /var/lib/lwm2m-gateway for root or ~/.local/state/lwm2m-gateway; --set store.enable=false for none]
    #[arg(long, value_name = "DIR")]
    pub(crate) store: Option<String>,
    /// Set one configuration key, such as coap.nstart=2; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// Allow core dumps of this process, and debuggers to attach to it; both reveal the keys of
    /// devices
    #[arg(long)]
    pub(crate) core_dumps: bool,
    /// Log level (error, warn, info, debug, trace), a filter such as info,lwm2m_gateway=debug, or json
    /// for JSON lines; may be repeated
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
            say::warning(format_args!("cannot turn off core dumps: {error}"));
        }
    }

    /// As [`GatewayOptions::load`], for a service: what has a configuration file keeps what it knows.
    ///
    /// # Errors
    ///
    /// One line for each mistake.
    pub(crate) fn load_service(&self) -> Result<(Config, Vec<ConfigWarning>), Vec<String>> {
        let (mut config, warnings) = self.load()?;
        if self.config.is_some() && config.store.enable && config.store.path.is_none() {
            config.store.path = state::directory();
        }
        Ok((config, warnings))
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
            ("http.bind", &self.http),
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
        let places = source.places();
        let (mut config, warnings) = source.read().map_err(|errors| lines(&places, errors))?;
        password::from_file(&mut config).map_err(|error| vec![error])?;
        Ok((config, warnings))
    }
}

fn read(file: &Path) -> Result<Source, String> {
    config::file::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Each mistake with its place.
fn lines(places: &Places, errors: Vec<ConfigError>) -> Vec<String> {
    let line = |error: &ConfigError| places.show(&error.key, error);
    errors.iter().map(line).collect()
}

/// The configuration of a file, or the default one, without the password for the broker.
pub(crate) fn config_of(file: Option<&Path>) -> Result<Config, Vec<String>> {
    let source = match file {
        Some(file) => read(file).map_err(|error| vec![error])?,
        None => Source::default(),
    };
    let places = source.places();
    let read = source.read().map_err(|errors| lines(&places, errors));
    let (config, _) = read?;
    Ok(config)
}

/// The command `check-config`.
pub(crate) fn check(file: &Path) -> ExitCode {
    let read = read(file).map_err(|error| vec![error]);
    let read = read.and_then(|mut source| {
        password::from_environment(&mut source).map_err(|error| vec![error])?;
        let places = source.places();
        match source.read() {
            Ok((config, warnings)) => Ok((config, warnings, places)),
            Err(errors) => Err(lines(&places, errors)),
        }
    });
    match read {
        Ok((config, warnings, places)) => {
            for warning in warnings {
                let warning = places.show(&warning.key, &warning);
                say::out(format_args!("warning: {warning}"));
            }
            for warning in check_keys(&config) {
                say::out(format_args!("warning: {warning}"));
            }
            if let Some(warning) = check_definitions(&config) {
                let warning = places.show("xml_dir", warning);
                say::out(format_args!("warning: {warning}"));
            }
            let errors = check_certificates(&config);
            if errors.is_empty() {
                say::out("ok");
                return ExitCode::SUCCESS;
            }
            errors.iter().for_each(say::error);
            ExitCode::FAILURE
        }
        Err(errors) => {
            errors.iter().for_each(say::error);
            ExitCode::FAILURE
        }
    }
}

/// What there is to say about the directory of object definitions. A missing one keeps the gateway
/// from starting, but may be there on another machine.
fn check_definitions(config: &Config) -> Option<String> {
    let dir = config.xml_dir.as_ref()?;
    let error = std::fs::read_dir(dir).err()?;
    Some(format!("xml_dir: {}: {error}", dir.display()))
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

/// What is wrong with the certificates, whose files have to be there: whether key, certificate and
/// their dates fit is what one wants to know before the gateway is started with them.
fn check_certificates(config: &Config) -> Vec<String> {
    let listeners = config.listeners.dtls.iter();
    let mut errors = Vec::new();
    for (name, listener) in listeners.filter(|(_, listener)| listener.common.enable) {
        match runtime::check_certificates(name, listener) {
            Ok(warnings) => {
                for warning in warnings {
                    say::out(format_args!("warning: listeners.dtls.{name}.{warning}"));
                }
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}
