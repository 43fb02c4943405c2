//! What outlives the process, as values: changes come out of an engine, and what has been made of
//! them goes in again at the next start. Times are those of the gateway's monotonic clock, which
//! goes on from one start to the next when there is a store.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::peer::ShardId;
use super::registration::StoredRegistration;
use crate::bridge::{StoredEcho, StoredReply, StoredTarget};
use crate::mqtt::Origin;
use crate::time::Instant;

/// How an engine keeps what has to outlive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How late the time of a device's last message may be written.
    pub deadline_interval: std::time::Duration,
    /// Whether [`Change::Sent`] of what must not be sent twice is waited for.
    pub confirms: bool,
}

/// A change of what has to outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device registered, or its registration is another one now.
    Device(Box<StoredDevice>),
    /// A device was heard of; written now and then.
    Seen {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// When.
        at: Instant,
    },
    /// What the host wants to have with a device that comes back.
    Note {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// The host's.
        note: Box<[u8]>,
    },
    /// A registration ended, and everything that belonged to it but [`Change::Refused`] commands.
    Gone(Arc<str>),
    /// An observation stands.
    Observed {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// What is observed.
        observation: Box<StoredObservation>,
    },
    /// And no more.
    Unobserved {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// Its token.
        token: u64,
    },
    /// A command was accepted.
    Queued {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// The command.
        command: Box<StoredCommand>,
    },
    /// A command is sent to its device.
    Sent {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// Of the command.
        number: u64,
        /// The engine waits until this is written
        /// ([`Engine::handle_stored`](super::Engine::handle_stored)).
        confirm: bool,
    },
    /// A command is not done any more: the gateway has answered it, and the broker may not have that
    /// answer yet.
    Refused {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// Of the command.
        number: u64,
        /// With which answer.
        with: StoredRefusal,
    },
    /// A command has its final answer.
    Answered {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// Of the command.
        number: u64,
    },
}

/// An answer that the gateway gives in place of a device, and gives again after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredRefusal {
    /// Its device is not registered any more.
    NotRegistered,
    /// It was too late.
    Expired,
    /// Somebody has cancelled it.
    Cancelled,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandStage {
    /// It waits.
    Waiting,
    /// It was sent.
    Sent,
    /// It was answered so.
    Refused(StoredRefusal),
}

impl Change {
    /// Which device it is about.
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Device(device) => &device.endpoint,
            Self::Gone(endpoint)
            | Self::Seen { endpoint, .. }
            | Self::Note { endpoint, .. }
            | Self::Observed { endpoint, .. }
            | Self::Unobserved { endpoint, .. }
            | Self::Queued { endpoint, .. }
            | Self::Sent { endpoint, .. }
            | Self::Refused { endpoint, .. }
            | Self::Answered { endpoint, .. } => endpoint,
        }
    }
}

/// A registered device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDevice {
    /// Endpoint name.
    #[serde(with = "shared")]
    pub endpoint: Arc<str>,
    /// Listener, as in `udp:default`.
    #[serde(with = "shared")]
    pub listener: Arc<str>,
    /// Address it was last heard of from.
    pub address: SocketAddr,
    /// The address of this machine that it spoke to, if that is known.
    pub local: Option<IpAddr>,
    /// Number of its DTLS session, which is gone by now; 0 without DTLS.
    pub session: u32,
    /// Who registered it, over DTLS.
    pub identity: Option<StoredIdentity>,
    /// It has shown that it receives at its address.
    pub proven: bool,
    /// Milliseconds since 1970.
    pub registered_at: u64,
    /// Rendered mountpoint.
    pub mount: Box<str>,
    /// It is the host's, not the configuration's.
    pub fixed_mount: bool,
    /// What it said of itself.
    pub registration: StoredRegistration,
    /// Microseconds of the clock that goes on.
    pub last_seen: u64,
    /// Where it lived.
    pub shard: ShardId,
}

/// Texts that are shared, stored as any other.
mod shared {
    use std::fmt;
    use std::sync::Arc;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        from.deserialize_str(Text)
    }

    struct Text;

    impl Visitor<'_> for Text {
        type Value = Arc<str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Arc<str>, E> {
            Ok(text.into())
        }
    }
}

/// A PSK identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIdentity {
    /// As sent in the handshake.
    pub presented: Box<[u8]>,
    /// As configured.
    pub public: Box<[u8]>,
}

/// An observation that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObservation {
    /// Its token.
    pub token: u64,
    /// What is observed.
    pub target: StoredTarget,
    /// What its notifications repeat.
    pub echo: StoredEcho,
    /// Accept of its request.
    pub accept: Option<u16>,
    /// Content-Format of its request.
    pub write: u16,
    /// Observe option of a value that was published.
    pub sequence: u32,
    /// Longest period between notifications that was set through us, in seconds; zero for none.
    pub pmax: u32,
}

/// A command that was accepted and has no final answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCommand {
    /// In order of receipt; none is used twice.
    pub number: u64,
    /// JSON, as it came.
    pub payload: Box<[u8]>,
    /// It came by the older topic pair.
    pub legacy: bool,
    /// When, in milliseconds since 1970.
    pub received: u64,
    /// When it is too late, in microseconds of the clock that goes on.
    pub expires: u64,
    /// It is sent whether the device is taken to be awake or not.
    pub immediate: bool,
    /// Where its answers go as well.
    pub reply: Option<StoredReply>,
    /// Which message of a broker it came with.
    pub origin: Option<Origin>,
}

/// A device as it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its registration, with the newest [`Change::Seen`].
    pub device: StoredDevice,
    /// What the host has noted about it.
    pub note: Option<Box<[u8]>>,
    /// What is observed.
    pub observations: Vec<StoredObservation>,
    /// In order of their numbers.
    pub commands: Vec<(StoredCommand, CommandStage)>,
    /// The registration has ended, and the answers to its commands may not have reached the broker.
    pub ended: bool,
}
