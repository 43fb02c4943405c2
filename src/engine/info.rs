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
    /// Address and port of its last message.
    pub peer: SocketAddr,
    /// Listener, such as `udp:default`.
    pub listener: String,
    /// PSK identity of its connection, with invalid UTF-8 replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Mountpoint, with its placeholders filled in.
    pub mountpoint: String,
    /// Lifetime in seconds, as granted.
    pub lifetime: u64,
    /// LwM2M version, such as `1.1`.
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
    /// Number of observations.
    pub observations: usize,
    /// Number of commands that wait for the device.
    pub queued: usize,
    /// It has just been restored from the store; only in events.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// The host's note about a restored device (`Gateway::note`).
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
    /// The device de-registered.
    Deregistered,
    /// Its lifetime ran out.
    Expired,
    /// The host or an operator removed it.
    Kicked,
    /// A newer connection of its identity took over (`takeover = "end"`).
    Displaced,
    /// Its listener was closed.
    ListenerClosed,
    /// Another gateway continues with it.
    Exported,
    /// It was lost because of a bug in the gateway.
    Lost,
}

/// What happened to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum DeviceEvent {
    /// It registered, for the first time or again.
    Registered(DeviceInfo),
    /// It updated its registration or changed its address.
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
    /// Address and port of the device.
    pub peer: SocketAddr,
    /// Listener, such as `udp:default`.
    pub listener: String,
    /// PSK identity of its connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Mountpoint, with its placeholders filled in.
    pub mountpoint: String,
    /// Lifetime in seconds that it would get.
    pub lifetime: u64,
    /// LwM2M version.
    pub version: String,
    /// Queries as sent, including passwords.
    pub query: Vec<(String, String)>,
}

impl RegistrationRequest {
    /// Bytes it occupies while it waits for the host.
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

/// The host's decision about a [`RegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The device may register.
    Allow {
        /// Mountpoint to use instead of the configured one, without placeholders.
        mountpoint: Option<String>,
    },
    /// The device may not register: it is answered 4.03 with this text.
    Deny {
        /// For people.
        reason: String,
    },
    /// The decision is not possible now: the device is answered 5.03.
    Unavailable,
}

impl Decision {
    /// The device may register, with its own mountpoint.
    ///
    /// # Errors
    ///
    /// If a topic cannot begin with it.
    pub fn allow_below(mountpoint: &str) -> Result<Self, LiteralError> {
        check_literal(mountpoint, MAX_MOUNTPOINT)?;
        Ok(Self::Allow {
            mountpoint: Some(mountpoint.to_owned()),
        })
    }
}
