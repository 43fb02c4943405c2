//! The configuration as the engine uses it: templates compiled, listeners by number.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admission::{AccessRules, Door, Newcomers};
use crate::bridge::NamedMountpoint;
use crate::bridge::topic::TopicTemplate;
use crate::config::{Config, EndpointRule, FormatDefault, PlainRegisters, Takeover, UdpListener};
use crate::credentials::Coverage;

/// What one listener adds to the configuration.
#[derive(Debug)]
pub struct ListenerSettings {
    /// `udp:NAME` or `dtls:NAME`
    pub name: Arc<str>,
    /// Where it listens.
    pub bind: SocketAddr,
    /// Its own mountpoint or the gateway's.
    pub mountpoint: TopicTemplate,
    /// Whether that mountpoint names the endpoint, so that no two devices here can have the same.
    pub names_endpoint: bool,
    /// Mountpoints of other listeners that name the endpoint.
    pub(super) others: Vec<NamedMountpoint>,
    /// Whether several endpoints may have the same rendered mountpoint.
    pub shared_mountpoint: bool,
    /// Which endpoints may be registered without DTLS; of no meaning with it.
    pub plain_registers: PlainRegisters,
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
        let mountpoint = listener.mountpoint.as_deref().unwrap_or(&config.mountpoint);
        let mountpoint = TopicTemplate::parse(mountpoint);
        Self {
            name: name.into(),
            bind: listener.bind,
            names_endpoint: NamedMountpoint::new(&mountpoint).is_some(),
            mountpoint,
            others: Vec::new(),
            shared_mountpoint: listener
                .shared_mountpoint
                .unwrap_or(config.shared_mountpoint),
            plain_registers: listener.plain_registers.unwrap_or(config.plain_registers),
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
    /// Whose endpoints are.
    pub coverage: Arc<Coverage>,
    /// Whether there are DTLS listeners.
    pub(super) has_dtls: bool,
    /// Mountpoints of all listeners that name the endpoint, each once.
    pub(super) named: Vec<NamedMountpoint>,
    /// By [`Peer::listener`](super::Peer::listener); `None` where a listener has been closed.
    listeners: Vec<Option<ListenerSettings>>,
}

impl Settings {
    /// Compiles `config`, without the PSK files that it names. Listeners get their numbers in order
    /// of their kind and name.
    #[cfg(feature = "internals")]
    pub fn new(config: Config) -> Self {
        let dtls = config.listeners.dtls.values();
        let dtls = dtls.filter(|listener| listener.common.enable);
        let stores = dtls
            .map(|listener| Arc::new(crate::credentials::CredentialStore::configured(listener)));
        let coverage = Arc::new(Coverage::new(stores));
        Self::with_ids(config, coverage, &mut ListenerIds::default())
    }

    /// Compiles `config` with credentials and numbers that were given before.
    pub fn with_ids(config: Config, coverage: Arc<Coverage>, ids: &mut ListenerIds) -> Self {
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
        let mut named: Vec<NamedMountpoint> = Vec::new();
        for listener in listeners.iter().flatten() {
            let own = NamedMountpoint::new(&listener.mountpoint);
            named.extend(own.filter(|own| !named.contains(own)));
        }
        for listener in listeners.iter_mut().flatten() {
            let own = NamedMountpoint::new(&listener.mountpoint);
            let others = named.iter().filter(|it| Some(*it) != own.as_ref());
            listener.others = others.cloned().collect();
        }
        Self {
            has_dtls: listeners
                .iter()
                .flatten()
                .any(|listener| listener.endpoint_rule.is_some()),
            coverage,
            named,
            config,
            registrations,
            listeners,
        }
    }

    /// The number of a listener that is open, as in `udp:default`.
    pub(super) fn number_of(&self, name: &str) -> Option<u16> {
        let mut listeners = self.listeners.iter();
        let at = listeners.position(|it| it.as_ref().is_some_and(|it| *it.name == *name))?;
        u16::try_from(at).ok()
    }

    /// A listener by its number.
    pub fn listener(&self, number: u16) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(number))?.as_ref()
    }
}
