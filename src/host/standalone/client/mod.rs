//! The connection to another broker, as an MQTT 5 client: reconnects, and loses no QoS 1 or 2
//! message while the broker is away. Commands are acknowledged once they are handled.
//!
//! `wire` reads and writes packets, `session` is what survives a connection, `connection` is one.

mod connection;
mod session;
#[cfg(test)]
mod session_tests;
mod shared;
mod wire;

use std::hash::{BuildHasher, Hasher, RandomState};
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
use self::session::Session;
use self::shared::{Change, Shared};
use super::common::{self, BrokerError, Commands};
use super::outbox::Outbox;
use super::tls;
use crate::config::Config;
use crate::config::broker_url::BrokerUrl;
use crate::host::Publish;
use crate::memory::Memory;
use crate::telemetry::Counters;

/// How long the broker is asked to keep our session, and with it commands of QoS 1 and 2, while
/// we are away, in seconds.
const SESSION_EXPIRY: u32 = 86_400;

/// Commands of QoS 1 and 2 that the broker may send before the first is acknowledged.
const RECEIVE_MAX: u16 = 1024;

/// How long the broker may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

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
    shared: Arc<Shared>,
}

/// How to get to the broker.
struct Dialer {
    broker: BrokerUrl,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    connect: wire::Connect,
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
        let dialer = Dialer {
            broker: url.clone(),
            tls,
            connect: wire::Connect {
                client_id: mqtt.client_id.clone(),
                username,
                password,
                keepalive: u16::try_from(mqtt.keepalive.as_secs()).unwrap_or(u16::MAX),
                session_expiry: SESSION_EXPIRY,
                receive_max: RECEIVE_MAX,
                max_packet: common::max_packet_size(config),
            },
        };
        Ok(Self {
            runtime: Mutex::new(Some(common::threads("mqtt-client")?)),
            dialer: Mutex::new(Some(dialer)),
            task: Mutex::default(),
            broker: url.clone(),
            shared: Arc::new(Shared {
                outbox: Outbox::new(common::bounds(mqtt), counters),
                subscriptions: Mutex::default(),
                changed: Notify::new(),
                pausing: AtomicBool::new(false),
                closing: AtomicBool::new(false),
                control: Notify::new(),
            }),
        })
    }

    pub(super) fn open(&self, commands: Arc<dyn Commands>) {
        let runtime = self.runtime.lock();
        let (Some(runtime), Some(dialer)) = (&*runtime, self.dialer.lock().take()) else {
            return;
        };
        let task = run(dialer, commands, Arc::clone(&self.shared));
        *self.task.lock() = Some(runtime.spawn(task));
    }

    pub(super) fn attach(&self, memory: &Arc<Memory>) {
        self.shared.outbox.attach(memory, 1);
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
        self.pause();
        self.shared.closing.store(true, Ordering::Release);
        self.shared.control.notify_one();
        if let Some(task) = self.task.lock().take() {
            let _ = runtime.block_on(async { tokio::time::timeout(deadline, task).await });
        }
        let lost = self.shared.outbox.unsettled();
        if lost > 0 {
            tracing::warn!(messages = lost, broker = %self.broker, "not delivered before the end");
            self.shared.outbox.count_dropped(lost as u64);
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
    let mut backoff = BACKOFF_MIN;
    let mut last_reason = String::new();
    while !shared.is_done() {
        let mut connected = false;
        let connection = dialer.serve(&mut session, &shared, &*commands, &mut connected);
        let ended = connection.await;
        let Err(reason) = ended.map_err(|reason| reason.to_string()) else {
            return;
        };
        let broker = &dialer.broker;
        if connected {
            tracing::warn!(%broker, %reason, "connection lost");
            backoff = BACKOFF_MIN;
        } else if reason != last_reason {
            tracing::warn!(%broker, %reason, "cannot connect, will keep trying");
        }
        last_reason = reason;
        let until = tokio::time::Instant::now() + jittered(backoff);
        while !shared.is_done() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = shared.control.notified() => {}
            }
        }
        backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
    }
}

impl Dialer {
    /// Connects, and serves the connection to its end.
    async fn serve(
        &self,
        session: &mut Session,
        shared: &Shared,
        commands: &dyn Commands,
        connected: &mut bool,
    ) -> Result<(), Ended> {
        let until = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        let reach = TcpStream::connect((&*self.broker.host, self.broker.port));
        let stream = in_time(until, reach).await?;
        // Messages go out in batches; waiting for more would only add up with the delayed
        // acknowledgements of the other side.
        stream.set_nodelay(true)?;
        match &self.tls {
            None => {
                let around = (session, shared, commands);
                self.talk(stream, until, around, connected).await
            }
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = in_time(until, connector.connect(name.clone(), stream)).await?;
                let around = (session, shared, commands);
                self.talk(stream, until, around, connected).await
            }
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        until: tokio::time::Instant,
        (session, shared, commands): (&mut Session, &Shared, &dyn Commands),
        connected: &mut bool,
    ) -> Result<(), Ended> {
        let max_packet = self.connect.max_packet;
        let mut connection = Connection::new(stream, max_packet, session, shared, commands);
        let welcome = in_time(until, connection.connect(self.connect.clone())).await?;
        *connected = true;
        let (broker, session) = (&self.broker, welcome.session_present);
        tracing::info!(%broker, session, "connected");
        connection.serve(welcome, self.connect.keepalive).await
    }
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

/// Between half and all of `wait`, so that gateways do not return in step.
fn jittered(wait: Duration) -> Duration {
    // Each `RandomState` has keys of its own.
    let random = RandomState::new().build_hasher().finish();
    let half = wait / 2;
    let part = u32::try_from(random % 1024).unwrap_or(0);
    half + half.saturating_mul(part) / 1024
}
