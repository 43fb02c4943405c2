//! The connection to another broker, as an MQTT 5 client: reconnects, and loses no QoS 1 or 2
//! message while the broker is away.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Subscribe;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish as MqttPublish, RetainForwardRule};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Request, StateError,
};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::{BrokerError, Commands, tls};
use crate::config::Config;
use crate::config::broker_url::BrokerUrl;
use crate::host::{Message, Publish};
use crate::telemetry::Counters;

/// How long the broker is asked to keep our session, and with it commands of QoS 1 and 2, while
/// we are away.
const SESSION_EXPIRY: u32 = 86_400;

/// QoS 1 and 2 messages sent and not acknowledged yet; the broker may allow fewer.
const IN_FLIGHT: u16 = 256;

/// Requests between the two tasks of the client. Small: what waits should wait in the outbox,
/// which has the bound and the drop policy.
const HAND_OVER: usize = 32;

/// Filters in one SUBSCRIBE packet.
const FILTERS_AT_ONCE: usize = 64;

const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A client of another broker.
pub struct Client {
    /// Taken when the client is closed.
    runtime: Mutex<Option<Runtime>>,
    options: MqttOptions,
    /// For the log: without user and password.
    broker: BrokerUrl,
    shared: Arc<Shared>,
}

struct Shared {
    outbox: Outbox,
    subscriptions: Mutex<Subscriptions>,
    /// Set off by a change of the subscriptions.
    changed: Notify,
    /// Messages given to the MQTT client.
    handed_over: AtomicU64,
    /// Messages of those that were sent with QoS 0, acknowledged, or given up.
    settled: AtomicU64,
}

#[derive(Default)]
struct Subscriptions {
    wanted: BTreeMap<String, u8>,
    /// What was asked for since the last look, in order.
    changes: VecDeque<Change>,
}

enum Change {
    Subscribe(String, u8),
    Unsubscribe(String),
}

impl Client {
    pub(super) fn new(
        config: &Config,
        url: &BrokerUrl,
        counters: Arc<Counters>,
    ) -> Result<Self, BrokerError> {
        let mqtt = &config.mqtt;
        let mut options = MqttOptions::new(&mqtt.client_id, &url.host, url.port);
        options
            .set_keep_alive(mqtt.keepalive)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(SESSION_EXPIRY))
            .set_max_packet_size(Some(super::max_packet_size(config)))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_connection_timeout(10);
        let username = url.username.as_ref().or(mqtt.username.as_ref());
        let password = url.password.as_ref().or(mqtt.password.as_ref());
        if let Some(username) = username {
            options.set_credentials(username, password.map_or("", String::as_str));
        }
        if url.tls {
            let tls = TlsConfiguration::Rustls(tls::client_config(mqtt)?);
            options.set_transport(Transport::tls_with_config(tls));
        }
        Ok(Self {
            runtime: Mutex::new(Some(super::threads("mqtt-client")?)),
            options,
            broker: url.clone(),
            shared: Arc::new(Shared {
                outbox: Outbox::new(mqtt.max_queued, counters),
                subscriptions: Mutex::default(),
                changed: Notify::new(),
                handed_over: AtomicU64::new(0),
                settled: AtomicU64::new(0),
            }),
        })
    }

    pub(super) fn open(&self, commands: Arc<dyn Commands>) {
        let runtime = self.runtime.lock();
        let Some(runtime) = &*runtime else { return };
        let (client, events) = AsyncClient::new(self.options.clone(), HAND_OVER);
        let connection = Connection {
            events,
            commands,
            shared: Arc::clone(&self.shared),
            broker: self.broker.clone(),
            last_sent: 0,
        };
        runtime.spawn(connection.run());
        runtime.spawn(hand_over(client, Arc::clone(&self.shared)));
    }

    pub(super) fn publish(&self, batch: &mut Vec<Publish>) {
        self.shared.outbox.push(batch);
    }

    pub(super) fn subscribe(&self, filter: &str, qos: u8) {
        let mut subscriptions = self.shared.subscriptions.lock();
        if subscriptions.wanted.insert(filter.to_owned(), qos) != Some(qos) {
            let change = Change::Subscribe(filter.to_owned(), qos);
            subscriptions.changes.push_back(change);
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn unsubscribe(&self, filter: &str) {
        let mut subscriptions = self.shared.subscriptions.lock();
        if subscriptions.wanted.remove(filter).is_some() {
            let change = Change::Unsubscribe(filter.to_owned());
            subscriptions.changes.push_back(change);
            self.shared.changed.notify_one();
        }
    }

    /// Waits until every message is acknowledged, then ends the client's threads. The session
    /// stays at the broker, so that commands wait there for the next start.
    pub(super) fn close(&self, deadline: Duration) {
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        let end = Instant::now() + deadline;
        let done = async {
            while self.shared.unsettled() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = runtime.block_on(async { tokio::time::timeout(deadline, done).await });
        let lost = self.shared.unsettled();
        if lost > 0 {
            tracing::warn!(messages = lost, broker = %self.broker, "not delivered before the end");
        }
        runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
    }
}

impl Shared {
    fn unsettled(&self) -> u64 {
        let settled = self.settled.load(Ordering::Acquire);
        let handed_over = self.handed_over.load(Ordering::Acquire);
        (self.outbox.len() as u64).saturating_add(handed_over.saturating_sub(settled))
    }

    fn settle(&self, messages: u64) {
        self.settled.fetch_add(messages, Ordering::Release);
    }
}

fn qos_of(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

fn filter_of(path: &str, qos: u8) -> Filter {
    Filter {
        path: path.to_owned(),
        qos: qos_of(qos),
        // Our own messages never come back, whatever the filter.
        nolocal: true,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::OnNewSubscribe,
    }
}

/// Gives waiting messages and changed subscriptions to the MQTT client; waits while that has no
/// connection.
async fn hand_over(client: AsyncClient, shared: Arc<Shared>) {
    let mut batch = Vec::with_capacity(HAND_OVER);
    loop {
        tokio::select! {
            () = shared.changed.notified() => {
                loop {
                    let Some(change) = shared.subscriptions.lock().changes.pop_front() else { break };
                    let sent = match change {
                        Change::Subscribe(filter, qos) => {
                            client.subscribe_many([filter_of(&filter, qos)]).await
                        }
                        Change::Unsubscribe(filter) => client.unsubscribe(filter).await,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            }
            more = shared.outbox.take(HAND_OVER, &mut batch) => {
                if !more {
                    return;
                }
                for publish in batch.drain(..) {
                    shared.handed_over.fetch_add(1, Ordering::Release);
                    let qos = qos_of(publish.qos);
                    let sent = client.publish(publish.topic, qos, false, publish.payload).await;
                    if let Err(error) = sent {
                        shared.settle(1);
                        shared.outbox.count_dropped(1);
                        tracing::debug!(%error, "a message could not be sent");
                    }
                }
            }
        }
    }
}

struct Connection {
    events: EventLoop,
    commands: Arc<dyn Commands>,
    shared: Arc<Shared>,
    broker: BrokerUrl,
    /// Packet identifier of the last message sent with QoS 1 or 2.
    last_sent: u16,
}

impl Connection {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        let mut connected = false;
        let mut last_reason = String::new();
        // What was on its way when the connection broke.
        let mut unfinished = VecDeque::new();
        loop {
            match self.events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                    tracing::info!(broker = %self.broker, session = answer.session_present, "connected");
                    connected = true;
                    backoff = BACKOFF_MIN;
                    last_reason.clear();
                    self.resume(answer.session_present, std::mem::take(&mut unfinished));
                }
                Ok(event) => self.handle(event),
                Err(error) => {
                    unfinished.extend(self.interrupted());
                    self.give_up_larger(&error, &mut unfinished);
                    let reason = error.to_string();
                    if connected {
                        tracing::warn!(broker = %self.broker, %reason, "connection lost");
                    } else if reason != last_reason {
                        tracing::warn!(broker = %self.broker, %reason, "cannot connect, will keep trying");
                    }
                    last_reason = reason;
                    connected = false;
                    tokio::time::sleep(jittered(backoff)).await;
                    backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Incoming(Packet::Publish(publish)) => {
                let Ok(topic) = std::str::from_utf8(&publish.topic) else {
                    return;
                };
                if self.commands.is_command(topic) {
                    self.commands.deliver(Message {
                        topic: topic.to_owned(),
                        payload: publish.payload.to_vec(),
                        expiry: publish
                            .properties
                            .as_ref()
                            .and_then(|properties| properties.message_expiry_interval),
                    });
                }
            }
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))
            | Event::Outgoing(Outgoing::Publish(0)) => self.shared.settle(1),
            Event::Outgoing(Outgoing::Publish(id)) => self.last_sent = id,
            Event::Incoming(Packet::SubAck(answer)) => {
                tracing::debug!(codes = ?answer.return_codes, "subscribed");
            }
            _ => {}
        }
    }

    /// Takes out of the MQTT client what the broken connection left unfinished, oldest first. The
    /// client itself would drop it when the broker does not know the session any more.
    fn interrupted(&mut self) -> VecDeque<Request> {
        let mut requests: Vec<_> = std::mem::take(&mut self.events.pending).into();
        // What was sent just before the break may not have been told yet.
        for event in &self.events.state.events {
            if let Event::Outgoing(Outgoing::Publish(id @ 1..)) = event {
                self.last_sent = *id;
            }
        }
        // Packet identifiers go round: those above the last one are older than those below.
        let last = self.last_sent;
        let age = |request: &Request| match request {
            Request::PubRel(_) => (0, false, 0),
            Request::Publish(publish) if publish.pkid != 0 => {
                (1, publish.pkid <= last, publish.pkid)
            }
            _ => (2, false, 0),
        };
        requests.sort_by_key(age);
        if let Some(collided) = self.events.state.collision.take() {
            // It waited for a free identifier: younger than what was sent, older than the rest.
            let at = requests.partition_point(|request| age(request).0 < 2);
            let collided = MqttPublish {
                pkid: 0,
                ..collided
            };
            requests.insert(at, Request::Publish(collided));
        }
        requests.into()
    }

    /// Puts the subscriptions and what was unfinished before everything new.
    fn resume(&mut self, session_present: bool, unfinished: VecDeque<Request>) {
        let mut pending = VecDeque::new();
        {
            let mut subscriptions = self.shared.subscriptions.lock();
            // A session that was kept has filters we may have given up since.
            subscriptions
                .changes
                .retain(|change| session_present && matches!(change, Change::Unsubscribe(_)));
            let filters: Vec<_> = subscriptions
                .wanted
                .iter()
                .map(|(path, qos)| filter_of(path, *qos))
                .collect();
            for filters in filters.chunks(FILTERS_AT_ONCE) {
                let subscribe = Subscribe::new_many(filters.to_vec(), None);
                pending.push_back(Request::Subscribe(subscribe));
            }
        }
        for request in unfinished {
            match request {
                Request::Publish(mut publish) => {
                    if session_present {
                        publish.dup = publish.pkid != 0;
                    } else {
                        publish.pkid = 0;
                    }
                    pending.push_back(Request::Publish(publish));
                }
                // The broker has the message already; with its session it lost the exchange too.
                Request::PubRel(_) if !session_present => self.shared.settle(1),
                request => pending.push_back(request),
            }
        }
        self.events.pending = pending;
    }

    /// A message larger than the broker takes would break every connection anew.
    fn give_up_larger(&self, error: &ConnectionError, unfinished: &mut VecDeque<Request>) {
        let ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { max, .. }) = error
        else {
            return;
        };
        let before = unfinished.len();
        unfinished.retain(|request| match request {
            Request::Publish(publish) => {
                let size = publish.topic.len().saturating_add(publish.payload.len());
                // Fixed header, length of the topic, packet identifier, length of properties.
                size.saturating_add(10) <= *max as usize
            }
            _ => true,
        });
        let dropped = (before.saturating_sub(unfinished.len())) as u64;
        self.shared.settle(dropped);
        self.shared.outbox.count_dropped(dropped);
        tracing::warn!(
            largest = max,
            dropped,
            "the broker takes no messages of this size"
        );
    }
}

/// Between half and all of `wait`, so that gateways do not return in step.
fn jittered(wait: Duration) -> Duration {
    // Each `RandomState` has keys of its own.
    let random = RandomState::new().build_hasher().finish();
    let half = wait / 2;
    let part = u32::try_from(random % 1024).unwrap_or(0);
    half + half.saturating_mul(part) / 1024
}
