//! The configuration as the engine uses it: templates compiled, listeners by number.

use std::sync::Arc;

use crate::admission::{AccessRules, Door, Newcomers};
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
    /// Which addresses may send.
    pub access: Arc<AccessRules>,
    /// How many devices are let in: with UDP their Registers, with DTLS their handshakes.
    pub door: Arc<Door>,
}

impl ListenerSettings {
    fn new(
        name: String,
        listener: &UdpListener,
        config: &Config,
        newcomers: &Arc<Newcomers>,
    ) -> Self {
        Self {
            name,
            mountpoint: TopicTemplate::parse(
                listener.mountpoint.as_deref().unwrap_or(&config.mountpoint),
            ),
            format: listener.format.unwrap_or(config.format),
            max_connections: listener.max_connections,
            endpoint_rule: None,
            takeover: Takeover::Move,
            access: Arc::new(listener.access_rules.clone()),
            door: Arc::new(Door::new(newcomers.clone(), listener.max_conn_rate)),
        }
    }
}

/// Numbers for listeners, which stay the same as long as the gateway runs.
#[derive(Debug, Clone, Default)]
pub struct ListenerIds(Vec<String>);

impl ListenerIds {
    /// The number of a listener, as in `udp:default`.
    pub fn id(&mut self, name: &str) -> u16 {
        let known = self.0.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Settings {
    /// All fields by name.
    pub config: Config,
    /// Registers of all listeners.
    pub registrations: Arc<Newcomers>,
    /// By [`Peer::listener`](super::Peer::listener); `None` where a listener has been closed.
    listeners: Vec<Option<ListenerSettings>>,
}

impl Settings {
    /// Compiles `config`. Listeners get their numbers in order of their kind and name.
    pub fn new(config: Config) -> Self {
        Self::with_ids(config, &mut ListenerIds::default())
    }

    /// Compiles `config` with numbers that were given before.
    pub fn with_ids(config: Config, ids: &mut ListenerIds) -> Self {
        let rates = &config.rates;
        let registrations = Newcomers::new(rates.registrations_per_source, rates.registrations);
        let registrations = Arc::new(registrations);
        let handshakes = Newcomers::new(rates.handshakes_per_source, rates.handshakes);
        let handshakes = Arc::new(handshakes);
        let udp = config.listeners.udp.iter();
        let udp = udp
            .filter(|(_, listener)| listener.enable)
            .map(|(name, listener)| {
                ListenerSettings::new(format!("udp:{name}"), listener, &config, &registrations)
            });
        let dtls = config.listeners.dtls.iter();
        let dtls = dtls
            .filter(|(_, listener)| listener.common.enable)
            .map(|(name, listener)| ListenerSettings {
                endpoint_rule: Some(listener.endpoint_rule),
                takeover: listener.takeover,
                ..ListenerSettings::new(
                    format!("dtls:{name}"),
                    &listener.common,
                    &config,
                    &handshakes,
                )
            });
        let mut listeners = Vec::new();
        for listener in udp.chain(dtls) {
            let index = usize::from(ids.id(&listener.name));
            if listeners.len() <= index {
                listeners.resize_with(index + 1, || None);
            }
            if let Some(slot) = listeners.get_mut(index) {
                *slot = Some(listener);
            }
        }
        Self {
            config,
            registrations,
            listeners,
        }
    }

    /// A listener by its number.
    pub fn listener(&self, number: u16) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(number))?.as_ref()
    }
}
