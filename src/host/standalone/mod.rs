//! The stand-alone host: an MQTT broker in the same process, or a connection to another one.

// This is a shell: it owns sockets, files and threads.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod client;
mod embedded;
mod outbox;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use self::outbox::Bounds;
use crate::config::broker_url::BrokerUrl;
use crate::config::{Config, Mqtt};
use crate::host::{Host, Message, Publish};
use crate::memory::Memory;
use crate::telemetry::Counters;

pub use client::Client;
pub use embedded::Embedded;

/// Where messages from the broker go. Neither method may block.
pub trait Commands: Send + Sync + 'static {
    /// Whether a message on `topic` may be a command.
    fn is_command(&self, topic: &str) -> bool;

    /// Takes a message for which [`Commands::is_command`] said yes.
    fn deliver(&self, message: Message);
}

/// Why the broker side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The embedded broker's address is taken or not of this machine.
    #[error("mqtt.bind: cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The embedded broker did not start.
    #[error("mqtt.bind: the broker cannot start: {0}")]
    Broker(String),
    /// The configuration of the connection is not usable.
    #[error("{key}: {reason}")]
    Setting {
        /// Key path.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// No threads for the broker side.
    #[error("cannot start threads: {0}")]
    Threads(#[from] io::Error),
}

/// Threads of the broker side; the shards have their own.
fn threads(name: &str) -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, 4))
        .thread_name(name)
        .enable_all()
        .build()
}

/// Bytes of the largest MQTT packet either way: a command may be a little too large and still be
/// answered, and a body read by blocks has to fit when it is written as base64.
fn max_packet_size(config: &Config) -> u32 {
    /// Largest remaining length of an MQTT packet (MQTT 5 section 1.5.5).
    const LARGEST: usize = 268_435_455;
    let body = config.blockwise.max_body_size.saturating_mul(2);
    let size = config.limits.max_command_size.max(body);
    let size = size.saturating_add(64 << 10).min(LARGEST);
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// What may wait for the broker.
fn bounds(mqtt: &Mqtt) -> Bounds {
    Bounds {
        messages: mqtt.max_queued,
        bytes: mqtt.max_queued_bytes,
    }
}

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

    fn subscribe(&self, filter: &str, qos: u8) {
        match self {
            Self::Embedded(_) => {} // It shows every message to its hook.
            Self::Remote(client) => client.subscribe(filter, qos),
        }
    }

    fn unsubscribe(&self, filter: &str) {
        match self {
            Self::Embedded(_) => {}
            Self::Remote(client) => client.unsubscribe(filter),
        }
    }
}
