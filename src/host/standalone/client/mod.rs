//! The connection to another broker, as a client of MQTT 5 or 3.1.1: reconnects, and loses no QoS 1
//! or 2 message while the broker is away. Commands are acknowledged once they are handled.
//!
//! `wire` reads and writes packets, `session` is what survives a connection, `connection` is one,
//! `patience` says how long to wait for the next, `spoken` in which version to speak, `identifier`
//! under which name; `subscriptions` is what the broker is asked for.

mod connection;
mod identifier;
mod inbox;
mod owner;
mod patience;
mod session;
#[cfg(test)]
mod session_tests;
mod shared;
mod spoken;
mod subscriptions;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use self::connection::{Connection, Ended};
use self::owner::Owner;
use self::patience::Patience;
use self::session::Session;
use self::shared::Shared;
use self::spoken::Spoken;
use self::wire::Version;
use super::common::{self, BrokerError, Commands};
use super::outbox::Outbox;
use super::tls;
use crate::config::broker_url::BrokerUrl;
use crate::config::{Config, MqttSubscribe, MqttVersion};
use crate::host::{DeviceEvent, Publish};
use crate::memory::Memory;
use crate::store::Receipt;
use crate::telemetry::Counters;

/// Commands of QoS 1 and 2 that the broker may send before the first is acknowledged.
const RECEIVE_MAX: u16 = 1024;

/// How long the broker may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of another broker.
pub struct Client {
    /// Taken when the client is closed.
    runtime: Mutex<Option<Runtime>>,
    /// Taken when the client opens.
    dialer: Mutex<Option<Dialer>>,
    /// The task that keeps the connection.
    task: Mutex<Option<JoinHandle<()>>>,
    /// For the log: without user and password.
    broker: BrokerUrl,
    per_device: bool,
    shared: Arc<Shared>,
}

/// How to get to the broker.
struct Dialer {
    broker: BrokerUrl,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    connect: wire::Connect,
    version: MqttVersion,
    /// Whether the session that the broker has is of no use: it has the filters of devices that are
    /// not registered yet, or by now at another gateway.
    clean: AtomicBool,
}

impl Client {
    pub(super) fn new(
        config: &Config,
        url: &BrokerUrl,
        counters: Arc<Counters>,
    ) -> Result<Self, BrokerError> {
        let mqtt = &config.mqtt;
        let username = url.username.clone().or_else(|| mqtt.username.clone());
        let password = url.password.clone().or_else(|| mqtt.password.clone());
        let tls = match url.tls {
            true => {
                let name = ServerName::try_from(url.host.clone()).map_err(|reason| {
                    BrokerError::Setting {
                        key: "mqtt.broker",
                        reason: format!("{}: {reason}", url.host),
                    }
                })?;
                Some((tls::client_config(mqtt)?, name))
            }
            false => None,
        };
        let client_id = identifier::identifier(config);
        let per_device = mqtt.subscribe == MqttSubscribe::PerDevice;
        let dialer = Dialer {
            broker: url.clone(),
            tls,
            connect: wire::Connect {
                client_id: client_id.clone(),
                clean: false,
                username,
                password,
                keepalive: u16::try_from(mqtt.keepalive.as_secs()).unwrap_or(u16::MAX),
                session_expiry: expiry(mqtt.session_expiry),
                receive_max: RECEIVE_MAX,
                max_packet: common::max_packet_size(config),
            },
            version: mqtt.version,
            clean: AtomicBool::new(per_device),
        };
        Ok(Self {
            runtime: Mutex::new(Some(common::threads("mqtt-client")?)),
            dialer: Mutex::new(Some(dialer)),
            task: Mutex::default(),
            broker: url.clone(),
            per_device,
            shared: Arc::new(Shared {
                owner: Owner::new(config, &client_id, &counters),
                outbox: Outbox::new(common::bounds(mqtt), counters),
                subscriptions: Mutex::default(),
                changed: Notify::new(),
                pausing: AtomicBool::new(false),
                closing: AtomicBool::new(false),
                handled: Mutex::default(),
                control: Notify::new(),
            }),
        })
    }

    pub(super) fn open(&self, commands: Arc<dyn Commands>) {
        let runtime = self.runtime.lock();
        let (Some(runtime), Some(dialer)) = (&*runtime, self.dialer.lock().take()) else {
            return;
        };
        if let Some(owner) = &self.shared.owner {
            for filter in owner.filters() {
                self.subscribe(&filter, 1, "");
            }
            let shared = Arc::clone(&self.shared);
            let out = move |publish| shared.outbox.push(&mut vec![publish]);
            owner.start(Arc::clone(&commands), Box::new(out));
        }
        let task = run(dialer, commands, Arc::clone(&self.shared));
        *self.task.lock() = Some(runtime.spawn(task));
    }

    pub(super) fn attach(&self, memory: &Arc<Memory>) {
        self.shared.outbox.attach(memory, 1);
    }

    pub(super) fn publish(&self, batch: &mut Vec<Publish>) {
        self.shared.outbox.push(batch);
    }

    /// As [`Client::publish`]; `receipt` waits until the broker has the answers of it.
    pub(super) fn publish_answers(&self, batch: &mut Vec<Publish>, receipt: Receipt) {
        self.shared.outbox.push_with(batch, Some(receipt));
    }

    /// Whether it wants to know of devices.
    pub(super) fn watches_devices(&self) -> bool {
        self.shared.owner.is_some()
    }

    /// Devices came and went.
    pub(super) fn device_events(&self, batch: &mut Vec<DeviceEvent>) {
        if let Some(owner) = &self.shared.owner {
            owner.devices(batch);
        }
        batch.clear();
    }

    /// Whether commands are asked for device by device (`mqtt.subscribe`).
    pub(super) fn is_per_device(&self) -> bool {
        self.per_device
    }

    /// Asks for a filter, for all devices or for the endpoint `by`.
    pub(super) fn subscribe(&self, filter: &str, qos: u8, by: &str) {
        if self.shared.subscriptions.lock().add(filter, qos, by) {
            self.shared.changed.notify_one();
        }
    }

    /// Takes a filter back.
    pub(super) fn unsubscribe(&self, filter: &str, by: &str) {
        self.shared.subscriptions.lock().remove(filter, by);
    }

    /// Takes no more commands of QoS 1 and 2: the broker keeps them, unacknowledged, for the next
    /// start. Those of QoS 0, which it would not keep, are still delivered.
    pub(super) fn pause(&self) {
        self.shared.pausing.store(true, Ordering::Release);
        self.shared.control.notify_one();
    }

    /// Waits until every message is acknowledged, then ends the client's threads. The session
    /// stays at the broker, so that commands wait there for the next start.
    pub(super) fn close(&self, deadline: Duration) {
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        let end = Instant::now() + deadline;
        if let Some(owner) = &self.shared.owner {
            owner.stop();
        }
        self.pause();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.control.notify_one();
        if let Some(task) = self.task.lock().take() {
            let _ = runtime.block_on(async { tokio::time::timeout(deadline, task).await });
        }
        let lost = self.shared.outbox.unsettled();
        if lost > 0 {
            tracing::warn!(messages = lost, broker = %self.broker, "messages not delivered before the gateway stopped");
            self.shared.outbox.count_undelivered(lost as u64);
        }
        runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
    }
}

impl Shared {
    fn is_done(&self) -> bool {
        self.closing.load(Ordering::Acquire) && self.outbox.unsettled() == 0
    }
}

/// Keeps a connection until the client is closed and everything is acknowledged.
async fn run(dialer: Dialer, commands: Arc<dyn Commands>, shared: Arc<Shared>) {
    let mut session = Session::default();
    session.remember(&commands.taken_before());
    let mut spoken = Spoken::new(dialer.version);
    let mut patience = Patience::default();
    let mut last_reason = String::new();
    while !shared.is_done() {
        let mut connected = None;
        let around = (&mut session, &shared, &*commands);
        let ended = dialer.serve(around, &mut spoken, &mut connected).await;
        let Err(ended) = ended else {
            return;
        };
        if matches!(ended, Ended::Cleared) {
            continue;
        }
        if spoken.failed(&ended) {
            tracing::info!(broker = %dialer.broker, reason = %ended, "trying MQTT 3.1.1");
            continue;
        }
        let stood = connected.map(|since: Instant| since.elapsed());
        let taken_over = matches!(ended, Ended::TakenOver);
        let wait = patience.next(stood, taken_over);
        let reason = ended.to_string();
        let news = stood.is_some() || reason != last_reason;
        if news {
            dialer.complain(&ended, stood.is_some(), wait, &patience);
        }
        last_reason = reason;
        let until = tokio::time::Instant::now() + wait;
        while !shared.is_done() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = shared.control.notified() => {}
            }
        }
    }
}

impl Dialer {
    /// Connects, and serves the connection to its end; `connected` is when it stood.
    async fn serve(
        &self,
        around: (&mut Session, &Arc<Shared>, &dyn Commands),
        spoken: &mut Spoken,
        connected: &mut Option<Instant>,
    ) -> Result<(), Ended> {
        let until = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        let reach = TcpStream::connect((&*self.broker.host, self.broker.port));
        let stream = in_time(until, reach).await?;
        // Messages go out in batches; waiting for more would only add up with the delayed
        // acknowledgements of the other side.
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.talk(stream, until, around, spoken, connected).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = in_time(until, connector.connect(name.clone(), stream)).await?;
                self.talk(stream, until, around, spoken, connected).await
            }
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        until: tokio::time::Instant,
        (session, shared, commands): (&mut Session, &Arc<Shared>, &dyn Commands),
        spoken: &mut Spoken,
        connected: &mut Option<Instant>,
    ) -> Result<(), Ended> {
        let version = spoken.version();
        let form = (version, self.connect.max_packet);
        let mut connection = Connection::new(stream, form, session, shared, commands);
        let connect = wire::Connect {
            clean: self.clean.load(Ordering::Relaxed),
            ..self.connect.clone()
        };
        let welcome = in_time(until, connection.connect(connect)).await?;
        if self.clean.swap(false, Ordering::Relaxed) {
            // A clean session of MQTT 3.1.1 ends with its connection (section 3.1.2.4), and what is
            // on its way to us with it. Of MQTT 5, Mosquitto 2.0 does not save it to disk: whether a
            // connection asked for a clean start counts, not when the session expires. The next one
            // stays.
            connection.disconnect().await?;
            return Err(Ended::Cleared);
        }
        *connected = Some(Instant::now());
        let (broker, session) = (&self.broker, welcome.session_present);
        let client_id = &self.connect.client_id;
        tracing::info!(%broker, %version, %client_id, session, "connected");
        if spoken.settle() && version == Version::V311 {
            tracing::warn!(
                %broker,
                "connected with MQTT 3.1.1, which lacks message expiry (use `ttl` in commands), response topics, correlation data, and the reason when the broker refuses a message (mqtt.version)"
            );
        }
        connection.serve(welcome, self.connect.keepalive).await
    }

    /// Says why there is no connection.
    fn complain(&self, reason: &Ended, connected: bool, wait: Duration, patience: &Patience) {
        let broker = &self.broker;
        let client_id = &self.connect.client_id;
        if patience.is_contested() {
            tracing::error!(
                %broker,
                %reason,
                %client_id,
                ?wait,
                "the broker keeps ending the connection, perhaps because another client uses the same identifier: give each gateway its own mqtt.client_id"
            );
        } else if connected {
            tracing::warn!(%broker, %reason, "connection lost");
        } else if matches!(reason, Ended::Credentials(_)) {
            let username = self.connect.username.as_deref().unwrap_or_default();
            tracing::error!(
                %broker,
                %reason,
                username,
                "the broker refuses the user or the password (mqtt.username, mqtt.password_file); retrying"
            );
        } else {
            tracing::warn!(%broker, %reason, "cannot connect, retrying");
        }
    }
}

/// As MQTT has it: the largest number is for ever (MQTT 5 section 3.1.2.11.2).
fn expiry(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

async fn in_time<T, E: Into<Ended>>(
    until: tokio::time::Instant,
    what: impl Future<Output = Result<T, E>>,
) -> Result<T, Ended> {
    match tokio::time::timeout_at(until, what).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Ended::Silent),
    }
}
