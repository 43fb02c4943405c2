//! The stand-alone host: an MQTT broker in the same process, or a connection to another one.

// This is a shell: it owns sockets, files and threads.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod client;
mod common;
mod embedded;
mod outbox;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::config::broker_url::BrokerUrl;
use crate::host::{DeviceEvent, Host, Publish, Subscriptions};
use crate::memory::Memory;
use crate::store::Receipt;
use crate::telemetry::Counters;

pub use client::Client;
pub use common::{BrokerError, Commands};
pub use embedded::Embedded;
#[cfg(feature = "internals")]
pub use embedded::{may_read, read_users};

/// The broker side of the stand-alone host.
pub enum Broker {
    /// A broker in this process.
    Embedded(Box<Embedded>),
    /// A client of another broker.
    Remote(Box<Client>),
}

impl Broker {
    /// Makes the broker side that `config` asks for: its socket is bound, but nothing is accepted
    /// and nobody connected to before [`Broker::open`].
    ///
    /// `counters` counts messages that the broker did not take.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, or files and values of the connection that do not fit.
    pub fn new(config: &Config, counters: Arc<Counters>) -> Result<Self, BrokerError> {
        match &config.mqtt.broker {
            None => Embedded::new(config, counters).map(|broker| Self::Embedded(Box::new(broker))),
            Some(url) => {
                let url: BrokerUrl = url.parse().map_err(|reason| BrokerError::Setting {
                    key: "mqtt.broker",
                    reason,
                })?;
                Client::new(config, &url, counters).map(|client| Self::Remote(Box::new(client)))
            }
        }
    }

    /// Begins to exchange messages; what arrives goes to `commands`. To be called once.
    pub fn open(&self, commands: Arc<dyn Commands>) {
        match self {
            Self::Embedded(broker) => broker.open(commands),
            Self::Remote(client) => client.open(commands),
        }
    }

    /// Takes up what has changed of the files that the configuration names: users and rules of the
    /// embedded broker.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a mistake in it; what was read before stays.
    pub fn reload(&self, config: &Config) -> Result<(), BrokerError> {
        match self {
            Self::Embedded(broker) => broker.reload(config),
            Self::Remote(_) => Ok(()),
        }
    }

    /// Where the embedded broker listens.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded(broker) => Some(broker.address()),
            Self::Remote(_) => None,
        }
    }

    /// The gateway is about to stop: no command is taken from here on that would not be answered.
    /// A broker elsewhere keeps those of QoS 1 and 2 for the next start; the embedded broker goes
    /// on to hand over commands, which the gateway answers.
    pub fn pause(&self) {
        match self {
            Self::Embedded(_) => {} // The gateway answers at once.
            Self::Remote(client) => client.pause(),
        }
    }

    /// Hands over what is still waiting, for `deadline` at most, and ends the broker side.
    pub fn close(&self, deadline: Duration) {
        match self {
            Self::Embedded(broker) => broker.close(deadline),
            Self::Remote(client) => client.close(deadline),
        }
    }
}

impl Host for Broker {
    fn name(&self) -> &'static str {
        "standalone"
    }

    fn attach(&self, memory: &Arc<Memory>) {
        let bytes = memory.ceiling();
        tracing::info!(bytes, "memory ceiling (limits.memory)");
        match self {
            Self::Embedded(broker) => broker.attach(memory),
            Self::Remote(client) => client.attach(memory),
        }
    }

    fn publish(&self, batch: &mut Vec<Publish>) {
        match self {
            Self::Embedded(broker) => broker.publish(batch),
            Self::Remote(client) => client.publish(batch),
        }
    }

    fn publish_answers(&self, batch: &mut Vec<Publish>, receipt: Receipt) {
        match self {
            Self::Embedded(broker) => {
                broker.publish(batch);
                receipt.settle(Ok(()));
            }
            Self::Remote(client) => client.publish_answers(batch, receipt),
        }
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        self.subscribe_device("", "", filter, qos);
    }

    fn unsubscribe(&self, filter: &str) {
        self.unsubscribe_device("", filter);
    }

    fn subscribe_device(&self, endpoint: &str, _mountpoint: &str, filter: &str, qos: u8) {
        match self {
            Self::Embedded(_) => {} // It shows every message to its hook.
            Self::Remote(client) => client.subscribe(filter, qos, endpoint),
        }
    }

    fn unsubscribe_device(&self, endpoint: &str, filter: &str) {
        match self {
            Self::Embedded(_) => {}
            Self::Remote(client) => client.unsubscribe(filter, endpoint),
        }
    }

    fn subscriptions(&self) -> Subscriptions {
        match self {
            Self::Remote(client) if client.is_per_device() => Subscriptions::PerDevice,
            _ => Subscriptions::Shared,
        }
    }

    fn watches_devices(&self) -> bool {
        match self {
            Self::Remote(client) => client.watches_devices(),
            Self::Embedded(_) => false,
        }
    }

    fn takes_states(&self) -> bool {
        true
    }

    fn device_events(&self, batch: &mut Vec<DeviceEvent>) {
        match self {
            Self::Remote(client) => client.device_events(batch),
            Self::Embedded(_) => batch.clear(),
        }
    }

    fn answers_for_absent(&self) -> bool {
        // Another gateway may have the device.
        self.subscriptions() == Subscriptions::Shared
    }
}
