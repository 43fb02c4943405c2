//! The packets that a client sends and gets, as bytes. The codec is `rmqtt`'s, which the embedded
//! broker brings along; this is the one place that knows which version of MQTT is spoken.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use rmqtt::codec::error::{DecodeError, EncodeError};
use rmqtt::codec::types::{Publish, QoS};
use rmqtt::codec::v5;
use tokio_util::codec::{Decoder as _, Encoder as _};

/// A packet identifier.
pub(super) type PacketId = NonZeroU16;

/// A message on its way to the broker. Clones share topic and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Topic.
    pub(super) topic: Bytes,
    /// Payload.
    pub(super) payload: Bytes,
    /// 0, 1 or 2.
    pub(super) qos: u8,
}

/// A message from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// 0 for QoS 0, which needs no acknowledgement.
    pub(super) id: Option<PacketId>,
    /// 0, 1 or 2.
    pub(super) qos: u8,
    /// Message-Expiry-Interval in seconds.
    pub(super) expiry: Option<u32>,
}

/// The answer to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Welcome {
    /// Whether the broker knows our session.
    pub(super) session_present: bool,
    /// QoS 1 and 2 messages that the broker takes at once.
    pub(super) receive_max: u16,
    /// The highest QoS the broker takes.
    pub(super) max_qos: u8,
    /// Bytes of the largest packet the broker takes.
    pub(super) max_packet: Option<u32>,
    /// Keep-alive in seconds that the broker wants instead of ours.
    pub(super) keepalive: Option<u16>,
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    Welcome(Welcome),
    /// The broker does not let us in.
    Refused(String),
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
    /// What no broker sends to a client.
    Unexpected,
}

/// What CONNECT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// Seconds.
    pub(super) keepalive: u16,
    /// How long the broker keeps the session while we are away, in seconds.
    pub(super) session_expiry: u32,
    /// Messages that we leave without acknowledgement at most.
    pub(super) receive_max: u16,
    /// Bytes of the largest packet that we take.
    pub(super) max_packet: u32,
}

/// A packet to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outgoing {
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

/// Why a packet cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Larger than the broker takes, in bytes.
    #[error("the broker takes no packet above {0} bytes")]
    TooLarge(u32),
    /// It cannot be written at all: a topic that is no UTF-8, for example.
    #[error("it cannot be written: {0:?}")]
    Malformed(EncodeError),
}

/// Bytes that are no MQTT.
#[derive(Debug, thiserror::Error)]
#[error("what the broker sends is no MQTT: {0}")]
pub(super) struct ReadError(DecodeError);

/// Reads and writes packets of MQTT 5.
pub(super) struct Codec(v5::Codec);

impl Codec {
    /// For packets of up to `max_in` bytes from the broker.
    pub(super) fn new(max_in: u32) -> Self {
        Self(v5::Codec::new(max_in, 0))
    }

    /// Bounds what is written to what the broker takes.
    pub(super) fn set_max_out(&mut self, bytes: Option<u32>) {
        self.0.set_max_outbound_size(bytes.unwrap_or(0));
    }

    /// Takes the next whole packet out of `input`.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, ReadError> {
        let packet = self.0.decode(input).map_err(ReadError)?;
        Ok(packet.map(|(packet, _)| incoming(packet)))
    }

    /// Appends a packet to `output`; in case of an error nothing is appended.
    pub(super) fn write(
        &mut self,
        packet: Outgoing,
        output: &mut BytesMut,
    ) -> Result<(), WriteError> {
        let before = output.len();
        let packet = outgoing(packet).ok_or(WriteError::Malformed(EncodeError::MalformedPacket))?;
        self.0.encode(packet, output).map_err(|error| {
            output.truncate(before);
            match error {
                EncodeError::OverMaxPacketSize { max, .. } => WriteError::TooLarge(max),
                error => WriteError::Malformed(error),
            }
        })
    }
}

/// What a reason code has against something: nothing, or its name.
fn objection(code: impl Into<u8> + fmt::Debug + Copy, text: Option<&str>) -> Option<String> {
    (code.into() >= 0x80).then(|| with_text(code, text))
}

fn with_text(code: impl fmt::Debug, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{code:?}: {text}"),
        None => format!("{code:?}"),
    }
}

fn incoming(packet: v5::Packet) -> Incoming {
    match packet {
        v5::Packet::ConnectAck(answer) => {
            match objection(answer.reason_code, answer.reason_string.as_deref()) {
                Some(reason) => Incoming::Refused(reason),
                None => Incoming::Welcome(Welcome {
                    session_present: answer.session_present,
                    receive_max: answer.receive_max.get(),
                    max_qos: answer.max_qos.value(),
                    max_packet: answer.max_packet_size,
                    keepalive: answer.server_keepalive_sec,
                }),
            }
        }
        v5::Packet::Publish(publish) => Incoming::Publish(Delivery {
            topic: publish.topic.to_string(),
            payload: publish.payload,
            id: publish.packet_id,
            qos: publish.qos.value(),
            expiry: publish
                .properties
                .and_then(|properties| properties.message_expiry_interval)
                .map(NonZeroU32::get),
        }),
        v5::Packet::PublishAck(ack) => Incoming::Acknowledged(
            ack.packet_id,
            objection(ack.reason_code, ack.reason_string.as_deref()),
        ),
        v5::Packet::PublishReceived(ack) => Incoming::Received(
            ack.packet_id,
            objection(ack.reason_code, ack.reason_string.as_deref()),
        ),
        v5::Packet::PublishRelease(ack) => Incoming::Release(ack.packet_id),
        v5::Packet::PublishComplete(ack) => Incoming::Complete(ack.packet_id),
        v5::Packet::SubscribeAck(ack) => Incoming::Subscribed(
            ack.packet_id,
            ack.status
                .iter()
                .map(|code| objection(*code, ack.reason_string.as_deref()))
                .collect(),
        ),
        v5::Packet::UnsubscribeAck(ack) => Incoming::Unsubscribed(ack.packet_id),
        v5::Packet::PingResponse => Incoming::Pong,
        v5::Packet::Disconnect(end) => {
            Incoming::Disconnect(with_text(end.reason_code, end.reason_string.as_deref()))
        }
        _ => Incoming::Unexpected,
    }
}

/// `None` for what MQTT has no form for.
fn outgoing(packet: Outgoing) -> Option<v5::Packet> {
    Some(match packet {
        Outgoing::Connect(connect) => v5::Packet::Connect(Box::new(v5::Connect {
            // The session goes on where it was.
            clean_start: false,
            keep_alive: connect.keepalive,
            session_expiry_interval_secs: connect.session_expiry,
            auth_method: None,
            auth_data: None,
            request_problem_info: true,
            request_response_info: false,
            receive_max: NonZeroU16::new(connect.receive_max),
            topic_alias_max: 0,
            user_properties: Vec::new(),
            max_packet_size: NonZeroU32::new(connect.max_packet),
            last_will: None,
            client_id: connect.client_id.into(),
            username: connect.username.map(Into::into),
            password: connect.password.map(Into::into),
            cert: None,
        })),
        Outgoing::Publish { id, again, message } => v5::Packet::Publish(Box::new(Publish {
            dup: again,
            retain: false,
            qos: qos(message.qos),
            topic: message.topic.try_into().ok()?,
            packet_id: id,
            payload: message.payload,
            properties: Some(v5::PublishProperties::default()),
        })),
        Outgoing::Acknowledge(id) => v5::Packet::PublishAck(acknowledgement(id)),
        Outgoing::Received(id) => v5::Packet::PublishReceived(acknowledgement(id)),
        Outgoing::Release(id) => v5::Packet::PublishRelease(release(id)),
        Outgoing::Complete(id) => v5::Packet::PublishComplete(release(id)),
        Outgoing::Subscribe(packet_id, filters) => v5::Packet::Subscribe(v5::Subscribe {
            packet_id,
            id: None,
            user_properties: Vec::new(),
            topic_filters: filters
                .into_iter()
                .map(|(path, level)| (path.into(), subscription(level)))
                .collect(),
        }),
        Outgoing::Unsubscribe(packet_id, filters) => v5::Packet::Unsubscribe(v5::Unsubscribe {
            packet_id,
            user_properties: Vec::new(),
            topic_filters: filters.into_iter().map(Into::into).collect(),
        }),
        Outgoing::Ping => v5::Packet::PingRequest,
        Outgoing::Disconnect => v5::Packet::Disconnect(v5::Disconnect::default()),
    })
}

fn subscription(level: u8) -> v5::SubscriptionOptions {
    v5::SubscriptionOptions {
        qos: qos(level),
        // Our own messages never come back, whatever the filter.
        no_local: true,
        retain_as_published: false,
        retain_handling: v5::RetainHandling::AtSubscribeNew,
    }
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn acknowledgement(packet_id: PacketId) -> v5::PublishAck {
    v5::PublishAck {
        packet_id,
        reason_code: v5::PublishAckReason::Success,
        properties: Vec::new(),
        reason_string: None,
    }
}

fn release(packet_id: PacketId) -> v5::PublishAck2 {
    v5::PublishAck2 {
        packet_id,
        reason_code: v5::PublishAck2Reason::Success,
        properties: Vec::new(),
        reason_string: None,
    }
}
