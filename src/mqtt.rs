//! Messages to the broker and from it, whoever carries them.

use std::sync::Arc;

use serde::Serialize;

use crate::memory::block;

/// A message for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// What the message is.
    pub kind: PublishKind,
    /// Endpoint name of the device the message is about.
    pub endpoint: Arc<str>,
    /// Full topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
}

impl Publish {
    /// Whether the message gives way to others where there is no room for all: a notification, Send
    /// or series of QoS 0. One device can send as many of them as it likes, which must not cost
    /// another one its answers.
    pub(crate) const fn gives_way(&self) -> bool {
        use PublishKind::{Notify, Send, Series};
        self.qos == 0 && matches!(self.kind, Notify | Send | Series)
    }

    /// Bytes that the message takes where it waits.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(block(self.topic.capacity()))
            .saturating_add(block(self.payload.capacity()))
    }
}

/// See [`Publish::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishKind {
    /// A report of a registration, its end included.
    Register,
    /// A report of an Update.
    Update,
    /// An answer to a command, from the device or from the gateway.
    Response,
    /// A notification of an observation.
    Notify,
    /// What a device sent by itself (LwM2M Core 1.2 §6.4.6).
    Send,
    /// A measurement series made from one of the others.
    Series,
}

/// A message from the broker that may be a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Full topic.
    pub topic: String,
    /// JSON.
    pub payload: Vec<u8>,
    /// Message-Expiry-Interval of MQTT 5 in seconds, what was left of it on arrival here.
    pub expiry: Option<u32>,
}
