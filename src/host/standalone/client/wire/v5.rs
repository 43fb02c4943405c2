//! MQTT 5 (OASIS Standard, 7 March 2019).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use rmqtt::codec::types::Publish;
use rmqtt::codec::v5;

use super::packet::{Delivery, Incoming, Outgoing, PacketId, Refusal, Welcome, qos};
use crate::mqtt::ReplyTo;

/// What a packet of the broker means.
pub(super) fn incoming(packet: v5::Packet) -> Incoming {
    match packet {
        v5::Packet::ConnectAck(answer) => {
            match objection(answer.reason_code, answer.reason_string.as_deref()) {
                Some(reason) => Incoming::Refused(Refusal {
                    reason,
                    version: answer.reason_code == v5::ConnectAckReason::UnsupportedProtocolVersion,
                    credentials: matches!(
                        answer.reason_code,
                        v5::ConnectAckReason::BadUserNameOrPassword
                            | v5::ConnectAckReason::NotAuthorized
                    ),
                }),
                None => Incoming::Welcome(Welcome {
                    session_present: answer.session_present,
                    receive_max: answer.receive_max.get(),
                    max_qos: answer.max_qos.value(),
                    max_packet: answer.max_packet_size,
                    retains: answer.retain_available,
                    keepalive: answer.server_keepalive_sec,
                }),
            }
        }
        v5::Packet::Publish(publish) => Incoming::Publish(delivery(*publish)),
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
        v5::Packet::Disconnect(end)
            if end.reason_code == v5::DisconnectReasonCode::SessionTakenOver =>
        {
            Incoming::TakenOver
        }
        v5::Packet::Disconnect(end) => {
            Incoming::Disconnect(with_text(end.reason_code, end.reason_string.as_deref()))
        }
        _ => Incoming::Unexpected,
    }
}

fn delivery(publish: Publish) -> Delivery {
    let properties = publish.properties.unwrap_or_default();
    let reply = properties.response_topic.as_deref().map(|topic| {
        let correlation = properties.correlation_data.as_deref();
        Box::new(ReplyTo::new(topic, correlation))
    });
    Delivery {
        topic: publish.topic.to_string(),
        payload: publish.payload,
        id: publish.packet_id,
        qos: publish.qos.value(),
        again: publish.dup,
        expiry: properties.message_expiry_interval.map(NonZeroU32::get),
        reply,
    }
}

/// `None` for what MQTT has no form for.
pub(super) fn outgoing(packet: Outgoing) -> Option<v5::Packet> {
    Some(match packet {
        Outgoing::Connect(connect) => v5::Packet::Connect(Box::new(v5::Connect {
            clean_start: connect.clean,
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
            retain: message.retain,
            qos: qos(message.qos),
            topic: message.topic.try_into().ok()?,
            packet_id: id,
            payload: message.payload,
            properties: Some(v5::PublishProperties {
                correlation_data: message.correlation,
                ..v5::PublishProperties::default()
            }),
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
