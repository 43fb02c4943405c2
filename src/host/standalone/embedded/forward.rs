//! Our messages on their way into the broker's router, and the wait for its subscribers at the end.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rmqtt::codec::types::{Publish as MqttPublish, QoS};
use rmqtt::codec::v5::PublishProperties;
use rmqtt::context::ServerContext;
use rmqtt::session::{Session, SessionState};
use rmqtt::types::{From as Origin, Publish as RoutedPublish};

use super::super::outbox::{self, Held, Outbox};
use super::doorkeeper::{self, Doorkeeper};
use super::gate::Gate;
use super::held::{self, Ledger};
use super::sessions::Sessions;

/// Topic of a marker, before its number.
const MARKER: &str = "$marker/";

/// Messages moved to the router in one go.
const BATCH: usize = 256;

/// Bytes moved in one go.
const BATCH_BYTES: usize = 4 << 20;

/// Between two looks at what subscribers still have to take.
const STEP: Duration = Duration::from_millis(5);

/// Looks until a session gets another marker.
const LOOKS: u32 = 20;

/// Between two looks at what is held for subscribers.
const WATCH: Duration = Duration::from_millis(20);

/// Between two looks at the connections.
const DOOR: Duration = Duration::from_secs(1);

/// Hands our messages to the router, in order, without a task or a channel for each.
pub(super) async fn forward(
    context: ServerContext,
    origin: Origin,
    outbox: Arc<Outbox>,
    ledger: Arc<Ledger>,
    gate: Arc<Gate>,
    bound: usize,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        outbox.take(BATCH, BATCH_BYTES, &mut batch).await;
        for Held { publish, .. } in batch.drain(..) {
            let size = outbox::size_of(&publish);
            let retain = publish.is_retained();
            if !has_room(&ledger, bound, publish.gives_way()).await {
                outbox.settle(size);
                outbox.count_dropped(1);
                continue;
            }
            let qos = match gate.is_closing() {
                // Only refusals come now. A client that gets one more message to acknowledge for
                // every command that it sends would never have them all.
                true => QoS::AtMostOnce,
                false => QoS::try_from(publish.qos).unwrap_or(QoS::AtMostOnce),
            };
            let message = MqttPublish {
                dup: false,
                retain,
                qos,
                payload: ledger.count(publish.topic.len(), Bytes::from(publish.payload)),
                topic: publish.topic.into(),
                packet_id: None,
                properties: Some(PublishProperties {
                    correlation_data: publish.correlation.map(Bytes::from),
                    ..PublishProperties::default()
                }),
            };
            let message = RoutedPublish::new(Box::new(message), None, None, None);
            let routed =
                SessionState::forwards(&context, origin.clone(), message, false, None).await;
            outbox.settle(size);
            if let Err(error) = routed {
                outbox.count_dropped(1);
                tracing::debug!(%error, "cannot route a message");
            }
        }
    }
}

/// Whether subscribers hold no more than `bound` bytes. A message that gives way to others is
/// dropped otherwise. Others have an eighth more, and wait beyond that: [`watch`] disconnects
/// whoever takes nothing.
async fn has_room(ledger: &Ledger, bound: usize, gives_way: bool) -> bool {
    if gives_way {
        return ledger.bytes() <= bound;
    }
    while ledger.bytes() > bound.saturating_add(bound / 8) {
        tokio::time::sleep(STEP).await;
    }
    true
}

/// Keeps what subscribers hold below `bound`, whoever published it. What waits for absent ones
/// gives way first, then the connection to which most is unsent, then whoever has most.
pub(super) async fn watch(
    context: ServerContext,
    outbox: Arc<Outbox>,
    ledger: Arc<Ledger>,
    bound: usize,
    address: SocketAddr,
    sessions: Arc<Sessions>,
) {
    // A little further than needed, so that the next message does not look again.
    let goal = bound / 8 * 7;
    loop {
        tokio::time::sleep(WATCH).await;
        for absent_only in [true, false] {
            if ledger.bytes() <= bound {
                break;
            }
            if !absent_only && let Some(peer) = doorkeeper::close_stuck(address) {
                tracing::warn!(%peer, "disconnecting a subscriber that takes no messages");
                break;
            }
            let dropped = held::relieve(&context, &ledger, goal, absent_only, &sessions).await;
            if dropped > 0 {
                outbox.count_dropped(dropped);
            }
        }
    }
}

/// Watches over the connections to `address`.
pub(super) async fn keep_door(context: ServerContext, address: SocketAddr, max: usize) {
    let mut doorkeeper = Doorkeeper::new(address, max);
    loop {
        tokio::time::sleep(DOOR).await;
        let sessions = connected(&context).await;
        let known = sessions.iter().filter_map(|it| it.id.remote_addr).collect();
        let closed = doorkeeper.look(Instant::now(), &known);
        if closed > 0 {
            tracing::debug!(
                closed,
                "closed connections: too many, or no CONNECT in time"
            );
        }
    }
}

/// Waits until every message of ours is routed.
pub(super) async fn routed(outbox: &Outbox) {
    while outbox.unsettled() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The sessions with a connection.
pub(super) async fn connected(context: &ServerContext) -> Vec<Session> {
    let sessions: Vec<_> = context
        .extends
        .shared()
        .await
        .iter()
        .filter_map(|entry| entry.session())
        .collect();
    let mut connected = Vec::new();
    for session in sessions {
        if session.connected().await.unwrap_or(false) {
            connected.push(session);
        }
    }
    connected
}

/// Puts a marker behind everything in a session's inbox, which cannot be looked into: a message
/// that has expired. When its turn has come it is not sent but reported as dropped.
pub(super) async fn mark(context: &ServerContext, session: &Session, gate: &Gate) {
    let number = gate.mark(session.id.client_id.clone());
    let message = MqttPublish {
        dup: false,
        retain: false,
        qos: QoS::AtMostOnce,
        topic: format!("{MARKER}{number}").into(),
        packet_id: None,
        payload: Default::default(),
        properties: Some(PublishProperties {
            message_expiry_interval: Some(NonZeroU32::MIN),
            ..PublishProperties::default()
        }),
    };
    let message = RoutedPublish::new(Box::new(message), None, None, Some(0));
    let origin = Origin::from_admin(session.id.clone());
    let entry = context.extends.shared().await.entry(session.id.clone());
    if entry.publish(origin, message).await.is_err() {
        // The session has ended.
        gate.marker_out(&session.id.client_id, number);
    }
}

/// Number of the marker with this topic.
pub(super) fn marker(topic: &str) -> Option<u64> {
    topic.strip_prefix(MARKER)?.parse().ok()
}

/// Waits until each of `sessions` has sent what it was given and got it acknowledged.
pub(super) async fn settle(context: &ServerContext, sessions: Vec<Session>, gate: &Gate) {
    for session in &sessions {
        mark(context, session, gate).await;
    }
    for session in sessions {
        // One that disconnects meanwhile is not waited for.
        let mut looks = 0u32;
        while session.connected().await.unwrap_or(false) && gate.is_marked(&session.id.client_id) {
            tokio::time::sleep(STEP).await;
            // The marker may be void by now.
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS) {
                mark(context, &session, gate).await;
            }
        }
        // What is on its way by now; more may come behind it.
        let under_way = session
            .out_inflight()
            .write()
            .await
            .clone_inflight_messages();
        let ids = under_way.iter().filter_map(|it| it.publish.packet_id);
        let ids: Vec<_> = ids.map(NonZeroU16::get).collect();
        while session.connected().await.unwrap_or(false) {
            let in_flight = session.out_inflight().read().await;
            if !ids.iter().any(|id| in_flight.exist(id)) {
                break;
            }
            drop(in_flight);
            tokio::time::sleep(STEP).await;
        }
    }
}
