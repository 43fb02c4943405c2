//! The configuration as the engine uses it: templates compiled, listeners by index.

use crate::bridge::topic::TopicTemplate;
use crate::config::{Config, EndpointRule, FormatDefault, Takeover, UdpListener};

/// What one listener adds to the configuration.
#[derive(Debug)]
pub struct ListenerSettings {
    /// `udp:NAME` or `dtls:NAME`
    pub name: String,
    /// Its own mountpoint or the gateway's.
    pub mountpoint: TopicTemplate,
    /// Content format of its devices where neither command nor device decide.
    pub format: FormatDefault,
    /// Most registrations by this listener.
    pub max_connections: usize,
    /// Which identity may register which endpoint; `None` without DTLS.
    pub endpoint_rule: Option<EndpointRule>,
    /// What becomes of the registrations of a displaced connection.
    pub takeover: Takeover,
}

impl ListenerSettings {
    fn new(name: String, listener: &UdpListener, config: &Config) -> Self {
        Self {
            name,
            mountpoint: TopicTemplate::parse(
                listener.mountpoint.as_deref().unwrap_or(&config.mountpoint),
            ),
            format: listener.format.unwrap_or(config.format),
            max_connections: listener.max_connections,
            endpoint_rule: None,
            takeover: Takeover::Move,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Settings {
    /// All fields by name.
    pub config: Config,
    /// By [`Peer::listener`](super::Peer::listener).
    pub listeners: Vec<ListenerSettings>,
}

impl Settings {
    /// Compiles `config`. Listeners get their index in order of their kind and name.
    pub fn new(config: Config) -> Self {
        let enabled = |listener: &UdpListener| listener.enable;
        let udp = config
            .listeners
            .udp
            .iter()
            .filter(|(_, listener)| enabled(listener))
            .map(|(name, listener)| {
                ListenerSettings::new(format!("udp:{name}"), listener, &config)
            });
        let dtls = config
            .listeners
            .dtls
            .iter()
            .filter(|(_, listener)| enabled(&listener.common))
            .map(|(name, listener)| ListenerSettings {
                endpoint_rule: Some(listener.endpoint_rule),
                takeover: listener.takeover,
                ..ListenerSettings::new(format!("dtls:{name}"), &listener.common, &config)
            });
        let listeners = udp.chain(dtls).collect();
        Self { config, listeners }
    }

    /// A listener by its index.
    pub fn listener(&self, index: u16) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(index))
    }
}
