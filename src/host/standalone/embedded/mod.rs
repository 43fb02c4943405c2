//! The embedded broker: `rmqtt` as a library, in this process, without a socket between it and
//! the gateway. Messages of its clients are seen by a hook, ours go straight to its router.

mod doorkeeper;
mod forward;
mod gate;
mod held;
mod hook;
mod logins;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rmqtt::types::{From as Origin, Id};
use tokio::runtime::Runtime;

use self::gate::Gate;
use self::held::Ledger;
use self::hook::{BrokerHook, User};
use super::common::{self, BrokerError, Commands};
use super::outbox::Outbox;
use crate::config::Config;
use crate::host::Publish;
use crate::memory::{Kind, Memory};
use crate::telemetry::Counters;

/// QoS 1 and 2 messages on their way to one subscriber; a client of MQTT 5 may ask for fewer.
const IN_FLIGHT: u16 = 256;

/// How long a subscriber may leave the connection blocked before it is closed.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take from CONNECT to the answer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker in this process.
pub struct Embedded {
    /// Taken when the broker is closed.
    runtime: Mutex<Option<Runtime>>,
    context: ServerContext,
    /// Taken when the broker opens.
    listener: Mutex<Option<Listener>>,
    address: SocketAddr,
    outbox: Arc<Outbox>,
    client_id: String,
    user: Option<User>,
    max_connections: usize,
    /// Bytes that subscribers may hold.
    bound: AtomicUsize,
    ledger: Arc<Ledger>,
    gate: Arc<Gate>,
    /// Set when the broker opens.
    hook: Mutex<Option<BrokerHook>>,
}

impl Embedded {
    pub(super) fn new(config: &Config, counters: Arc<Counters>) -> Result<Self, BrokerError> {
        let mqtt = &config.mqtt;
        let runtime = common::threads("mqtt-broker")?;
        let user = mqtt.username.as_ref().map(|name| User {
            name: name.clone(),
            password: mqtt.password.clone().unwrap_or_default().into_bytes(),
        });
        let listener = {
            // The socket registers with the reactor of the runtime.
            let _guard = runtime.enter();
            Builder::new()
                .name("mqtt")
                .laddr(mqtt.bind)
                .reuseaddr(Some(true))
                .nodelay(true)
                .allow_anonymous(user.is_none())
                .max_packet_size(common::max_packet_size(config))
                .max_inflight(NonZeroU16::new(IN_FLIGHT).unwrap_or(NonZeroU16::MIN))
                .max_mqueue_len(mqtt.max_queued)
                .send_timeout(SEND_TIMEOUT)
                .handshake_timeout(HANDSHAKE_TIMEOUT)
                // Zero: messages for an absent subscriber do not expire before its session, and
                // delivered ones carry no expiry that nobody asked for.
                .message_expiry_interval(Duration::ZERO)
                .bind()
                .and_then(Listener::tcp)
                .map_err(|error| match error.downcast::<io::Error>() {
                    Ok(source) => BrokerError::Bind {
                        address: mqtt.bind,
                        source,
                    },
                    Err(error) => BrokerError::Broker(error.to_string()),
                })?
        };
        let address = listener
            .local_addr()
            .map_err(|error| BrokerError::Broker(error.to_string()))?;
        // The busy check would turn clients away by the load of the whole machine.
        let context = runtime.block_on(ServerContext::new().busy_check_enable(false).build());
        Ok(Self {
            runtime: Mutex::new(Some(runtime)),
            context,
            listener: Mutex::new(Some(listener)),
            address,
            outbox: Arc::new(Outbox::new(common::bounds(mqtt), counters)),
            client_id: mqtt.client_id.clone(),
            user,
            max_connections: mqtt.max_connections,
            bound: mqtt.max_queued_bytes.into(),
            ledger: Arc::default(),
            gate: Arc::default(),
            hook: Mutex::default(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Half of the share for outboxes is for what waits for the broker, half for what it holds for
    /// subscribers.
    pub(super) fn attach(&self, memory: &Arc<Memory>) {
        self.outbox.attach(memory, 2);
        self.ledger.attach(memory);
        let share = memory.limit(Kind::Outboxes) / 2;
        self.bound.fetch_min(share, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, batch: &mut Vec<Publish>) {
        self.outbox.push(batch);
    }

    pub(super) fn open(&self, commands: Arc<dyn Commands>) {
        let runtime = self.runtime.lock();
        let (Some(runtime), Some(listener)) = (&*runtime, self.listener.lock().take()) else {
            return;
        };
        let context = self.context.clone();
        let hook = BrokerHook {
            commands,
            user: self.user.clone(),
            outbox: Arc::clone(&self.outbox),
            gate: Arc::clone(&self.gate),
            ledger: Arc::clone(&self.ledger),
            logins: Arc::default(),
        };
        *self.hook.lock() = Some(hook.clone());
        runtime.block_on(hook::register(&context, hook));
        let (outbox, ledger) = (Arc::clone(&self.outbox), Arc::clone(&self.ledger));
        let origin = Origin::from_system(self.id());
        runtime.spawn(forward::forward(
            context.clone(),
            origin,
            outbox.clone(),
            ledger.clone(),
            Arc::clone(&self.gate),
            self.bound.load(Ordering::Relaxed),
        ));
        runtime.spawn(forward::watch(
            context.clone(),
            outbox,
            ledger,
            self.bound.load(Ordering::Relaxed),
            self.address,
        ));
        let (address, max) = (self.address, self.max_connections);
        runtime.spawn(forward::keep_door(context.clone(), address, max));
        if self.user.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "anybody on the network can command all devices: set mqtt.username and a password, \
                 or bind 127.0.0.1"
            );
        }
        let server = MqttServer::new(context).listener_by_id(listener, 1).build();
        runtime.spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!(%error, "the embedded broker has ended");
            }
        });
    }

    fn id(&self) -> Id {
        Id::from(self.context.node.id(), self.client_id.as_str().into())
    }

    /// Waits until connected subscribers have what is theirs, then ends the broker's threads. A
    /// command that is not answered any more is not acknowledged either.
    pub(super) fn close(&self, deadline: Duration) {
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        let end = Instant::now() + deadline;
        if let Some(hook) = self.hook.lock().take() {
            let finished = async {
                hook::guard(&self.context, hook).await;
                tokio::time::timeout(deadline, self.finish()).await
            };
            if runtime.block_on(finished).is_err() {
                self.gate.close();
                tracing::warn!("subscribers have not taken every message before the end");
            }
        }
        runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
    }

    /// Closes the gate at a moment at which every command that came through it is answered, and
    /// the subscribers have the answer.
    async fn finish(&self) {
        let mut closing = false;
        loop {
            let passed = self.gate.passed();
            forward::routed(&self.outbox).await;
            let sessions = forward::connected(&self.context).await;
            if !std::mem::replace(&mut closing, true) {
                let owed = sessions.iter().map(|it| it.id.client_id.clone());
                self.gate.begin_to_close(owed.collect());
            }
            forward::settle(&self.context, sessions, &self.gate).await;
            if self.outbox.unsettled() == 0 && self.gate.close_after(passed) {
                return;
            }
        }
    }
}
