//! What the embedded broker and the connection to another one have in common.

use std::io;
use std::net::SocketAddr;

use tokio::runtime::{Builder, Runtime};

use super::outbox::Bounds;
use crate::config::{Config, Mqtt};
use crate::engine::PortableSession;
use crate::host::Message;
use crate::mqtt::Origin;
use crate::store::{NotDurable, Receipt};

/// Where messages from the broker go. No method blocks but those that say so.
pub trait Commands: Send + Sync + 'static {
    /// Whether a message on `topic` may be a command.
    fn is_command(&self, topic: &str) -> bool;

    /// Takes a message for which [`Commands::is_command`] said yes.
    fn deliver(&self, message: Message);

    /// As [`Commands::deliver`]; `receipt` tells when the command is safe.
    fn deliver_durably(&self, message: Message, receipt: Receipt) {
        self.deliver(message);
        receipt.settle(Err(NotDurable::NoStore));
    }

    /// Messages of QoS 1 and 2 that are in the store from before the start: the broker may give them
    /// again.
    fn taken_before(&self) -> Vec<Origin> {
        Vec::new()
    }

    /// Ends a registration, for another gateway to go on with; may block.
    fn export(&self, endpoint: &str) -> Option<PortableSession> {
        let _ = endpoint;
        None
    }

    /// Goes on with what another gateway had; false when the device is not registered here.
    fn import(&self, endpoint: &str, session: PortableSession) -> bool {
        let _ = (endpoint, session);
        false
    }
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
pub(super) fn threads(name: &str) -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.clamp(1, 4))
        .thread_name(name)
        .enable_all()
        .build()
}

/// Bytes of the largest MQTT packet either way: a command may be a little too large and still be
/// answered, and a body read by blocks has to fit when it is written as base64.
pub(super) fn max_packet_size(config: &Config) -> u32 {
    /// Largest remaining length of an MQTT packet (MQTT 5 section 1.5.5).
    const LARGEST: usize = 268_435_455;
    let body = config.blockwise.max_body_size.saturating_mul(2);
    let size = config.max_command_size().max(body);
    let size = size.saturating_add(64 << 10).min(LARGEST);
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// What may wait for the broker.
pub(super) fn bounds(mqtt: &Mqtt) -> Bounds {
    Bounds {
        messages: mqtt.max_queued,
        bytes: mqtt.max_queued_bytes,
    }
}
