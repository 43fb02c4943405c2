//! What hosts get to know of devices, and what they are asked.

use std::net::SocketAddr;

use serde::Serialize;

use crate::bridge::topic::{LiteralError, MAX_MOUNTPOINT, check_literal};
use crate::memory::{Heap, block};

/// Names a waiting Register within its shard.
pub type AuthorizationId = u64;

/// A registered device, for lists and dashboards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Endpoint name.
    pub endpoint: String,
    /// Address and port it was last heard of from.
    pub peer: SocketAddr,
    /// Listener, as in `udp:default`.
    pub listener: String,
    /// PSK identity of its connection, bytes that are no UTF-8 replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Rendered mountpoint.
    pub mountpoint: String,
    /// Lifetime in seconds, as granted.
    pub lifetime: u64,
    /// Version of the LwM2M enabler, as in `1.1`.
    pub version: String,
    /// Whether it sleeps between its messages.
    pub queue_mode: bool,
    /// When it registered, milliseconds since 1970.
    pub registered_at: u64,
    /// Milliseconds since its last message.
    pub idle_ms: u64,
    /// Path of the root.
    pub alternate_path: String,
    /// Objects and instances in the order of the device.
    pub objects: Vec<String>,
    /// Queries of Register and Updates in order, without secrets.
    pub query: Vec<(String, String)>,
    /// Observations that stand.
    pub observations: usize,
    /// Commands that wait for the device.
    pub queued: usize,
    /// It came back from the store just now; in events only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// What the host had noted about a device that came back (`Gateway::note`).
    #[serde(skip)]
    pub note: Option<Box<[u8]>>,
}

impl DeviceInfo {
    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.endpoint,
            &self.listener,
            &self.mountpoint,
            &self.version,
            &self.alternate_path,
        ];
        let texts: usize = texts.iter().map(|text| text.heap()).sum();
        let lists = self.objects.heap() + self.query.heap();
        let note = self.note.as_ref().map_or(0, |note| block(note.len()));
        size_of::<Self>() + texts + self.identity.heap() + lists + note
    }
}

/// Why a registration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    /// The device said so.
    Deregistered,
    /// Its lifetime ran out.
    Expired,
    /// The host or an operator removed it.
    Kicked,
    /// A newer connection of its identity took over (`takeover = "end"`).
    Displaced,
    /// Its listener was closed.
    ListenerClosed,
    /// Another gateway goes on with it.
    Exported,
    /// A defect of the gateway lost it.
    Lost,
}

/// What happened to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum DeviceEvent {
    /// It registered, perhaps again.
    Registered(DeviceInfo),
    /// It updated its registration or came from a new address.
    Updated(DeviceInfo),
    /// Its registration ended.
    Gone {
        /// Endpoint name.
        endpoint: String,
        /// Why.
        reason: GoneReason,
    },
}

impl DeviceEvent {
    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Registered(info) | Self::Updated(info) => info.bytes(),
            Self::Gone { endpoint, .. } => size_of::<Self>() + endpoint.heap(),
        }
    }
}

/// A device that wants to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistrationRequest {
    /// Endpoint name.
    pub endpoint: String,
    /// Where it speaks from.
    pub peer: SocketAddr,
    /// Listener, as in `udp:default`.
    pub listener: String,
    /// PSK identity of its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Rendered mountpoint.
    pub mountpoint: String,
    /// Lifetime in seconds, as it would be granted.
    pub lifetime: u64,
    /// Version of the LwM2M enabler.
    pub version: String,
    /// Queries as sent, passwords included.
    pub query: Vec<(String, String)>,
}

impl RegistrationRequest {
    /// Bytes it takes while the host thinks.
    pub fn bytes(&self) -> usize {
        let texts = [
            &self.endpoint,
            &self.listener,
            &self.mountpoint,
            &self.version,
        ];
        let texts: usize = texts.iter().map(|text| text.heap()).sum();
        size_of::<Self>() + texts + self.identity.heap() + self.query.heap()
    }
}

/// The host's word on a [`RegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The device may register.
    Allow {
        /// Instead of the configured one, rendered.
        mountpoint: Option<String>,
    },
    /// It may not: it is answered 4.03 with this text.
    Deny {
        /// For people.
        reason: String,
    },
    /// Nobody can tell: it is answered 5.03.
    Unavailable,
}

impl Decision {
    /// The device may register, below a mountpoint of its own.
    ///
    /// # Errors
    ///
    /// When no topic can begin like that.
    pub fn allow_below(mountpoint: &str) -> Result<Self, LiteralError> {
        check_literal(mountpoint, MAX_MOUNTPOINT)?;
        Ok(Self::Allow {
            mountpoint: Some(mountpoint.to_owned()),
        })
    }
}
