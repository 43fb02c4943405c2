//! MQTT 3.1.1 (OASIS Standard, 29 October 2014): without expiry, response topics and reasons.

use rmqtt::codec::types::Publish;
use rmqtt::codec::v3;

use super::packet::{Connect, Delivery, Incoming, Outgoing, Refusal, Welcome, qos};

/// What a packet of the broker means.
pub(super) fn incoming(packet: v3::Packet) -> Incoming {
    match packet {
        v3::Packet::ConnectAck(answer) => match answer.return_code {
            v3::ConnectAckReason::ConnectionAccepted => Incoming::Welcome(Welcome {
                session_present: answer.session_present,
                // This version knows none of these bounds.
                receive_max: u16::MAX,
                max_qos: 2,
                max_packet: None,
                retains: true,
                keepalive: None,
            }),
            code => Incoming::Refused(Refusal {
                reason: format!("{code:?}"),
                version: code == v3::ConnectAckReason::UnacceptableProtocolVersion,
                credentials: matches!(
                    code,
                    v3::ConnectAckReason::BadUserNameOrPassword
                        | v3::ConnectAckReason::NotAuthorized
                ),
            }),
        },
        v3::Packet::Publish(publish) => Incoming::Publish(Delivery {
            topic: publish.topic.to_string(),
            payload: publish.payload,
            id: publish.packet_id,
            qos: publish.qos.value(),
            again: publish.dup,
            expiry: None,
            reply: None,
        }),
        v3::Packet::PublishAck { packet_id } => Incoming::Acknowledged(packet_id, None),
        v3::Packet::PublishReceived { packet_id } => Incoming::Received(packet_id, None),
        v3::Packet::PublishRelease { packet_id } => Incoming::Release(packet_id),
        v3::Packet::PublishComplete { packet_id } => Incoming::Complete(packet_id),
        v3::Packet::SubscribeAck { packet_id, status } => Incoming::Subscribed(
            packet_id,
            status
                .into_iter()
                .map(|code| match code {
                    v3::SubscribeReturnCode::Success(_) => None,
                    v3::SubscribeReturnCode::Failure => Some("Failure".to_owned()),
                })
                .collect(),
        ),
        v3::Packet::UnsubscribeAck { packet_id } => Incoming::Unsubscribed(packet_id),
        v3::Packet::PingResponse => Incoming::Pong,
        _ => Incoming::Unexpected,
    }
}

/// `None` for what MQTT has no form for.
pub(super) fn outgoing(packet: Outgoing) -> Option<v3::Packet> {
    Some(match packet {
        Outgoing::Connect(connect) => v3::Packet::Connect(Box::new(hello(connect))),
        Outgoing::Publish { id, again, message } => v3::Packet::Publish(Box::new(Publish {
            dup: again,
            retain: message.retain,
            qos: qos(message.qos),
            topic: message.topic.try_into().ok()?,
            packet_id: id,
            payload: message.payload,
            properties: None,
        })),
        Outgoing::Acknowledge(packet_id) => v3::Packet::PublishAck { packet_id },
        Outgoing::Received(packet_id) => v3::Packet::PublishReceived { packet_id },
        Outgoing::Release(packet_id) => v3::Packet::PublishRelease { packet_id },
        Outgoing::Complete(packet_id) => v3::Packet::PublishComplete { packet_id },
        Outgoing::Subscribe(packet_id, filters) => v3::Packet::Subscribe {
            packet_id,
            topic_filters: filters
                .into_iter()
                .map(|(filter, level)| (filter.into(), qos(level)))
                .collect(),
        },
        Outgoing::Unsubscribe(packet_id, filters) => v3::Packet::Unsubscribe {
            packet_id,
            topic_filters: filters.into_iter().map(Into::into).collect(),
        },
        Outgoing::Ping => v3::Packet::PingRequest,
        Outgoing::Disconnect => v3::Packet::Disconnect,
    })
}

fn hello(connect: Connect) -> v3::Connect {
    v3::Connect {
        clean_session: connect.clean,
        keep_alive: connect.keepalive,
        client_id: connect.client_id.into(),
        username: connect.username.map(Into::into),
        password: connect.password.map(Into::into),
        ..v3::Connect::default()
    }
}
