//! What packets say, in any version of MQTT.

use std::fmt;
use std::num::NonZeroU16;

use bytes::Bytes;
use rmqtt::codec::types::QoS;

use crate::mqtt::ReplyTo;

/// The version of MQTT that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::host::standalone::client) enum Version {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        })
    }
}

/// A packet identifier.
pub(in crate::host::standalone::client) type PacketId = NonZeroU16;

/// A message on its way to the broker. Clones share topic and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) struct Message {
    /// Topic.
    pub(in crate::host::standalone::client) topic: Bytes,
    /// Payload.
    pub(in crate::host::standalone::client) payload: Bytes,
    /// 0, 1 or 2.
    pub(in crate::host::standalone::client) qos: u8,
    /// Whether the broker keeps it for later subscribers.
    pub(in crate::host::standalone::client) retain: bool,
    /// Correlation Data (MQTT 5).
    pub(in crate::host::standalone::client) correlation: Option<Bytes>,
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) struct Delivery {
    pub(in crate::host::standalone::client) topic: String,
    pub(in crate::host::standalone::client) payload: Bytes,
    /// 0 for QoS 0, which needs no acknowledgement.
    pub(in crate::host::standalone::client) id: Option<PacketId>,
    /// 0, 1 or 2.
    pub(in crate::host::standalone::client) qos: u8,
    /// Whether the broker may have sent it before.
    pub(in crate::host::standalone::client) again: bool,
    /// Message-Expiry-Interval in seconds.
    pub(in crate::host::standalone::client) expiry: Option<u32>,
    /// Response Topic and Correlation Data (MQTT 5).
    pub(in crate::host::standalone::client) reply: Option<Box<ReplyTo>>,
}

/// The answer to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) struct Welcome {
    /// Whether the broker knows our session.
    pub(in crate::host::standalone::client) session_present: bool,
    /// QoS 1 and 2 messages that the broker takes at once.
    pub(in crate::host::standalone::client) receive_max: u16,
    /// The highest QoS the broker takes.
    pub(in crate::host::standalone::client) max_qos: u8,
    /// Bytes of the largest packet the broker takes.
    pub(in crate::host::standalone::client) max_packet: Option<u32>,
    /// Whether the broker takes messages that are to be retained; it ends the connection otherwise
    /// (MQTT 5 section 3.2.2.3.5).
    pub(in crate::host::standalone::client) retains: bool,
    /// Keep-alive in seconds that the broker wants instead of ours.
    pub(in crate::host::standalone::client) keepalive: Option<u16>,
}

/// Why the broker does not let us in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) struct Refusal {
    /// What the broker says.
    pub(in crate::host::standalone::client) reason: String,
    /// Whether it does not speak this version of MQTT.
    pub(in crate::host::standalone::client) version: bool,
    /// Whether it is about the user and the password.
    pub(in crate::host::standalone::client) credentials: bool,
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) enum Incoming {
    Welcome(Welcome),
    /// The broker does not let us in.
    Refused(Refusal),
    Publish(Delivery),
    /// PUBACK; what the broker has against the message.
    Acknowledged(PacketId, Option<String>),
    /// PUBREC; what the broker has against the message.
    Received(PacketId, Option<String>),
    /// PUBREL.
    Release(PacketId),
    /// PUBCOMP.
    Complete(PacketId),
    /// SUBACK; for each filter what the broker has against it.
    Subscribed(PacketId, Vec<Option<String>>),
    /// UNSUBACK.
    Unsubscribed(PacketId),
    Pong,
    /// The broker ends the connection.
    Disconnect(String),
    /// The broker ends the connection: another client has come with our identifier.
    TakenOver,
    /// What no broker sends to a client.
    Unexpected,
}

/// What CONNECT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) struct Connect {
    pub(in crate::host::standalone::client) client_id: String,
    /// Whether the broker is to forget the session that it has.
    pub(in crate::host::standalone::client) clean: bool,
    pub(in crate::host::standalone::client) username: Option<String>,
    pub(in crate::host::standalone::client) password: Option<String>,
    /// Seconds.
    pub(in crate::host::standalone::client) keepalive: u16,
    /// How long the broker keeps the session while we are away, in seconds (MQTT 5).
    pub(in crate::host::standalone::client) session_expiry: u32,
    /// Messages that we leave without acknowledgement at most (MQTT 5).
    pub(in crate::host::standalone::client) receive_max: u16,
    /// Bytes of the largest packet that we take (MQTT 5).
    pub(in crate::host::standalone::client) max_packet: u32,
}

/// A packet to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::standalone::client) enum Outgoing {
    Connect(Connect),
    Publish {
        /// For QoS 1 and 2.
        id: Option<PacketId>,
        /// Whether it may have been sent before.
        again: bool,
        message: Message,
    },
    /// PUBACK.
    Acknowledge(PacketId),
    /// PUBREC.
    Received(PacketId),
    /// PUBREL.
    Release(PacketId),
    /// PUBCOMP.
    Complete(PacketId),
    Subscribe(PacketId, Vec<(String, u8)>),
    Unsubscribe(PacketId, Vec<String>),
    Ping,
    Disconnect,
}

/// A QoS by its number.
pub(super) fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}
