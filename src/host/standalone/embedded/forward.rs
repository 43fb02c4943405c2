//! Our messages on their way into the broker's router, and the wait for its subscribers at the end.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rmqtt::codec::types::{Publish as MqttPublish, QoS};
use rmqtt::codec::v5::PublishProperties;
use rmqtt::context::ServerContext;
use rmqtt::session::SessionState;
use rmqtt::types::{From as Origin, Id, Publish as RoutedPublish};

use super::super::outbox::{self, Outbox};
use super::Markers;
use super::held::{self, Ledger};

/// Messages moved to the router in one go.
const BATCH: usize = 256;

/// Bytes moved in one go.
const BATCH_BYTES: usize = 4 << 20;

/// Between two looks at what subscribers still have to take.
const STEP: Duration = Duration::from_millis(5);

/// Between two looks at what is held for subscribers.
const WATCH: Duration = Duration::from_millis(100);

/// Hands our messages to the router, in order, without a task or a channel for each.
pub(super) async fn forward(
    context: ServerContext,
    origin: Origin,
    outbox: Arc<Outbox>,
    ledger: Arc<Ledger>,
    bound: usize,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        outbox.take(BATCH, BATCH_BYTES, &mut batch).await;
        for publish in batch.drain(..) {
            let size = outbox::size(publish.topic.len(), publish.payload.len());
            if !has_room(&context, &outbox, &ledger, bound, publish.qos).await {
                outbox.settle(size);
                outbox.count_dropped(1);
                continue;
            }
            let qos = QoS::try_from(publish.qos).unwrap_or(QoS::AtMostOnce);
            let message = MqttPublish {
                dup: false,
                retain: false,
                qos,
                payload: ledger.count(publish.topic.len(), Bytes::from(publish.payload)),
                topic: publish.topic.into(),
                packet_id: None,
                properties: Some(PublishProperties::default()),
            };
            let message = RoutedPublish::new(Box::new(message), None, None, None);
            let routed =
                SessionState::forwards(&context, origin.clone(), message, false, None).await;
            outbox.settle(size);
            if let Err(error) = routed {
                outbox.count_dropped(1);
                tracing::debug!(%error, "a message could not be routed");
            }
        }
    }
}

/// Whether subscribers hold no more than `bound` bytes. Waits for that with a message of QoS 1 or
/// 2: a subscriber that does not take anything is closed after a while.
async fn has_room(
    context: &ServerContext,
    outbox: &Outbox,
    ledger: &Ledger,
    bound: usize,
    qos: u8,
) -> bool {
    while ledger.bytes() > bound {
        relieve(context, outbox, ledger, bound).await;
        if ledger.bytes() > bound {
            if qos == 0 {
                return false;
            }
            tokio::time::sleep(STEP).await;
        }
    }
    true
}

/// Keeps what subscribers hold below `bound`, whoever published it.
pub(super) async fn watch(
    context: ServerContext,
    outbox: Arc<Outbox>,
    ledger: Arc<Ledger>,
    bound: usize,
) {
    loop {
        tokio::time::sleep(WATCH).await;
        if ledger.bytes() > bound {
            relieve(&context, &outbox, &ledger, bound).await;
        }
    }
}

async fn relieve(context: &ServerContext, outbox: &Outbox, ledger: &Ledger, bound: usize) {
    // A little further than needed, so that the next message does not look again.
    let goal = bound / 8 * 7;
    let dropped = held::relieve(context, ledger, goal).await;
    if dropped > 0 {
        outbox.count_dropped(dropped);
    }
}

/// Waits until every message is routed, and every connected session has sent what it was given and
/// got it acknowledged.
///
/// A session's inbox cannot be looked into, so each gets a marker behind everything else: a
/// message that has expired. When its turn has come it is not sent but reported as dropped.
pub(super) async fn settle(context: &ServerContext, id: Id, outbox: &Outbox, markers: &Markers) {
    while outbox.unsettled() > 0 {
        tokio::time::sleep(STEP).await;
    }
    markers.lock().clear();
    let mut sessions = Vec::new();
    for entry in context.extends.shared().await.iter() {
        let Some(session) = entry.session() else {
            continue;
        };
        if !session.connected().await.unwrap_or(false) {
            continue;
        }
        let message = MqttPublish {
            dup: false,
            retain: false,
            qos: QoS::AtMostOnce,
            topic: "$marker".into(),
            packet_id: None,
            payload: Default::default(),
            properties: Some(PublishProperties {
                message_expiry_interval: Some(NonZeroU32::MIN),
                ..PublishProperties::default()
            }),
        };
        let message = RoutedPublish::new(Box::new(message), None, None, Some(0));
        let marker = Origin::from_admin(id.clone());
        if entry.publish(marker, message).await.is_ok() {
            sessions.push(session);
        }
    }
    for session in sessions {
        // One that disconnects meanwhile is not waited for.
        while session.connected().await.unwrap_or(false)
            && (!markers.lock().contains(&session.id.client_id)
                || !session.out_inflight().read().await.is_empty())
        {
            tokio::time::sleep(STEP).await;
        }
    }
}
