//! The configuration as the engine uses it: templates compiled, listeners by index.

use crate::bridge::topic::TopicTemplate;
use crate::config::{Config, EndpointRule, FormatDefault, Takeover};

/// What one listener adds to the configuration.
#[derive(Debug)]
pub struct ListenerSettings {
    /// `udp:NAME`
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

/// See the module.
#[derive(Debug)]
pub struct Settings {
    /// All fields by name.
    pub config: Config,
    /// By [`Peer::listener`](super::Peer::listener).
    pub listeners: Vec<ListenerSettings>,
}

impl Settings {
    /// Compiles `config`. Listeners get their index in order of their names.
    pub fn new(config: Config) -> Self {
        let listeners = config
            .listeners
            .udp
            .iter()
            .filter(|(_, listener)| listener.enable)
            .map(|(name, listener)| ListenerSettings {
                name: format!("udp:{name}"),
                mountpoint: TopicTemplate::parse(
                    listener.mountpoint.as_deref().unwrap_or(&config.mountpoint),
                ),
                format: listener.format.unwrap_or(config.format),
                max_connections: listener.max_connections,
                endpoint_rule: None,
                takeover: Takeover::default(),
            })
            .collect();
        Self { config, listeners }
    }

    /// A listener by its index.
    pub fn listener(&self, index: u16) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(index))
    }
}
