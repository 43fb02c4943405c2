//! The embedded broker: `rmqtt` as a library, in this process, without a socket between it and
//! the gateway. Messages of its clients are seen by a hook, ours go straight to its router.

mod access;
mod acl;
mod doorkeeper;
mod forward;
mod front;
mod gate;
mod held;
mod hook;
mod kept;
mod logins;
mod retained;
mod routing;
#[cfg(test)]
mod scratch;
mod session_file;
mod session_keeper;
mod sessions;
mod turns;
mod users;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Listener};
use rmqtt::server::MqttServer;
use rmqtt::types::{From as Origin, Id};
use tokio::runtime::Runtime;

use self::access::{Access, Doors};
#[cfg(feature = "internals")]
pub use self::access::{may_read, read_users};
use self::front::Front;
use self::gate::Gate;
use self::held::Ledger;
use self::hook::{BrokerHook, INSIDE};
use self::kept::KeptMessages;
use self::retained::{Bounds, Retained};
use self::routing::Routing;
use self::session_keeper::{Listeners, SessionKeeper};
use self::sessions::Sessions;
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

/// Number of the listener of `mqtt.bind`.
const FRONT_DOOR: u16 = 1;

/// How long the last bytes may take through TLS and WebSocket.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long the broker waits for who a connection from TLS or WebSocket is, which our own threads
/// say at once.
const TICKET_TIMEOUT: Duration = Duration::from_millis(250);

/// Which part of all memory retained messages may take.
const RETAINED_SHARE: usize = 8;

/// Levels of a filter at most.
const MAX_LEVELS: usize = 128;

/// A broker in this process.
pub struct Embedded {
    /// Taken when the broker is closed.
    runtime: Mutex<Option<Runtime>>,
    context: ServerContext,
    /// Taken when the broker opens.
    listener: Mutex<Option<Listener>>,
    /// TLS and WebSocket, and the listener behind them, which is taken when the broker opens.
    front: Option<Front>,
    inside: Mutex<Option<Listener>>,
    address: SocketAddr,
    outbox: Arc<Outbox>,
    client_id: String,
    doors: Doors,
    counters: Arc<Counters>,
    max_retained: usize,
    /// Directory of the store, where retained messages are as well.
    directory: Option<PathBuf>,
    /// Set when the broker opens, with the thread that writes.
    kept: Mutex<Option<(Arc<KeptMessages>, JoinHandle<()>)>>,
    /// Sessions that outlive the process; set when the broker opens.
    keeper: Mutex<Option<Arc<SessionKeeper>>>,
    max_queued: usize,
    /// Bytes of retained messages.
    retained_bound: AtomicUsize,
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
        let access = Access::read(config)?;
        let listener = listen(&runtime, config, mqtt.bind, false)?;
        let address = address_of(&listener)?;
        let (mut inside, mut front) = (None, None);
        if mqtt.tls.bind.is_some() || mqtt.websocket.bind.is_some() {
            let nearby = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let listener = listen(&runtime, config, nearby, true)?;
            front = Front::new(
                config,
                address_of(&listener)?,
                common::max_packet_size(config),
            )?;
            inside = Some(listener);
        }
        // The busy check would turn clients away by the load of the whole machine.
        let context = runtime.block_on(ServerContext::new().busy_check_enable(false).build());
        Ok(Self {
            runtime: Mutex::new(Some(runtime)),
            context,
            listener: Mutex::new(Some(listener)),
            front,
            inside: Mutex::new(inside),
            address,
            outbox: Arc::new(Outbox::new(common::bounds(mqtt), Arc::clone(&counters))),
            client_id: mqtt.client_id.clone(),
            doors: Doors::new(access),
            counters,
            max_retained: mqtt.max_retained,
            directory: config.store.directory().map(ToOwned::to_owned),
            kept: Mutex::default(),
            keeper: Mutex::default(),
            max_queued: mqtt.max_queued,
            retained_bound: mqtt.max_retained_bytes.into(),
            max_connections: mqtt.max_connections,
            bound: mqtt.max_queued_bytes.into(),
            ledger: Arc::default(),
            gate: Arc::default(),
            hook: Mutex::default(),
        })
    }

    /// Reads the files of users and rules again.
    pub(super) fn reload(&self, config: &Config) -> Result<(), BrokerError> {
        let access = Access::read(config)?;
        let before = self.doors.now();
        if access.has_rules() && !before.has_rules() {
            tracing::warn!("mqtt.acl_file takes effect at the next start");
        }
        self.doors.set(access);
        match &self.front {
            Some(front) => front.reload(&config.mqtt),
            None => Ok(()),
        }
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
        let share = memory.ceiling() / RETAINED_SHARE;
        self.retained_bound.fetch_min(share, Ordering::Relaxed);
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
        let (keeper, found) = self.session_keeper();
        let keeper = Arc::new(keeper);
        let hook = BrokerHook {
            commands,
            doors: self.doors.clone(),
            guests: self.front.as_ref().map(Front::guests),
            counters: Arc::clone(&self.counters),
            outbox: Arc::clone(&self.outbox),
            gate: Arc::clone(&self.gate),
            ledger: Arc::clone(&self.ledger),
            logins: Arc::default(),
            sessions: Arc::clone(&keeper.sessions),
        };
        *self.hook.lock() = Some(hook.clone());
        runtime.block_on(hook::register(&context, hook));
        let held = self.bound.load(Ordering::Relaxed);
        let messages = self.max_retained;
        let bytes = self.retained_bound.load(Ordering::Relaxed);
        let bounds = Bounds {
            messages,
            bytes,
            held,
        };
        let ledger = Arc::clone(&self.ledger);
        let retained = Retained::new(bounds, ledger, Arc::clone(&self.counters));
        let retained = self.with_those_of_before(retained);
        runtime.block_on(async {
            *context.extends.retain_mut().await = Box::new(retained);
        });
        runtime.block_on(async {
            let routing = Routing::new(context.clone(), Arc::clone(&keeper.sessions));
            *context.extends.shared_mut().await = Box::new(routing);
        });
        let inside = self.inside.lock().take();
        if let Some(found) = found {
            let listeners: Listeners = std::iter::once((FRONT_DOOR, listener.cfg.clone()))
                .chain(inside.iter().map(|inside| (INSIDE, inside.cfg.clone())))
                .collect();
            runtime.block_on(keeper.restore(&context, &self.ledger, &listeners, found));
        }
        *self.keeper.lock() = Some(Arc::clone(&keeper));
        runtime.spawn(Arc::clone(&keeper).keep(context.clone()));
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
            Arc::clone(&keeper.sessions),
        ));
        let (address, max) = (self.address, self.max_connections);
        runtime.spawn(forward::keep_door(context.clone(), address, max));
        let others = self.front.iter().flat_map(Front::addresses);
        let public = (std::iter::once(address).chain(others)).find(|it| !it.ip().is_loopback());
        if let Some(address) = public.filter(|_| self.doors.now().is_open()) {
            tracing::warn!(
                %address,
                "anyone on the network can send commands to all devices: set mqtt.users_file, or bind 127.0.0.1"
            );
        }
        let mut server = MqttServer::new(context).listener_by_id(listener, FRONT_DOOR);
        if let Some(inside) = inside {
            server = server.listener_by_id(inside, INSIDE);
        }
        let server = server.build();
        runtime.spawn(async move {
            if let Err(error) = server.run().await {
                tracing::error!(%error, "the embedded broker has ended");
            }
        });
        if let Some(Err(error)) = self.front.as_ref().map(|front| front.open(runtime)) {
            tracing::error!(%error, "cannot listen for MQTT over TLS and WebSocket");
        }
    }

    /// With a store.
    fn with_those_of_before(&self, retained: Retained) -> Retained {
        let Some(directory) = &self.directory else {
            return retained;
        };
        match KeptMessages::open(directory, self.max_retained, |it| retained.restore(it)) {
            Ok((kept, thread)) => {
                *self.kept.lock() = Some((Arc::clone(&kept), thread));
                retained.on_disk(kept)
            }
            Err(error) => {
                tracing::error!(%error, "cannot store retained messages: they will be lost when the process ends");
                retained
            }
        }
    }

    /// None yet; `on_disk`: they outlive the process.
    fn sessions(&self, on_disk: bool) -> Sessions {
        let bounds = sessions::Bounds {
            on_disk,
            sessions: self.max_connections,
            messages: self.max_queued.saturating_add(IN_FLIGHT.into()),
            bytes: self.bound.load(Ordering::Relaxed),
        };
        Sessions::new(bounds, Arc::clone(&self.counters))
    }

    /// Who watches over sessions, and with a store what was kept of them.
    fn session_keeper(&self) -> (SessionKeeper, Option<session_file::Found>) {
        let opened = self
            .directory
            .as_ref()
            .map(|directory| SessionKeeper::open(directory, self.sessions(true)));
        match opened {
            Some(Ok((keeper, found))) => return (keeper, Some(found)),
            Some(Err(error)) => {
                tracing::error!(%error, "cannot store MQTT sessions: they will be lost when the process ends");
            }
            None => {}
        }
        (SessionKeeper::without_file(self.sessions(false)), None)
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
                let finished = tokio::time::timeout(deadline, self.finish()).await;
                if self
                    .front
                    .as_ref()
                    .is_some_and(|front| front.connections() > 0)
                {
                    // What the broker has said is still on its way through TLS.
                    tokio::time::sleep(FAREWELL).await;
                }
                finished
            };
            if runtime.block_on(finished).is_err() {
                self.gate.close();
                tracing::warn!(
                    "some subscribers did not take all their messages before the broker stopped"
                );
            }
        }
        if let Some(keeper) = self.keeper.lock().take() {
            runtime.block_on(keeper.commit(&self.context));
        }
        runtime.shutdown_timeout(end.saturating_duration_since(Instant::now()));
        if let Some((kept, thread)) = self.kept.lock().take() {
            kept.close();
            // It writes what is there once; a thread that has panicked has nothing.
            let _ = thread.join();
        }
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

/// A listener of the broker; `inside` is behind TLS and WebSocket.
fn listen(
    runtime: &Runtime,
    config: &Config,
    address: SocketAddr,
    inside: bool,
) -> Result<Listener, BrokerError> {
    // The socket registers with the reactor of the runtime.
    let _guard = runtime.enter();
    Builder::new()
        .name("mqtt")
        .laddr(address)
        .reuseaddr(Some(true))
        .nodelay(true)
        .allow_anonymous(false)
        .max_topic_levels(MAX_LEVELS)
        .proxy_protocol(inside)
        .proxy_protocol_timeout(TICKET_TIMEOUT)
        .max_packet_size(common::max_packet_size(config))
        .max_inflight(NonZeroU16::new(IN_FLIGHT).unwrap_or(NonZeroU16::MIN))
        .max_mqueue_len(config.mqtt.max_queued)
        .send_timeout(SEND_TIMEOUT)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        // Zero: messages for an absent subscriber do not expire before its session, and delivered
        // ones carry no expiry that nobody asked for.
        .message_expiry_interval(Duration::ZERO)
        .bind()
        .and_then(Listener::tcp)
        .map_err(|error| match error.downcast::<io::Error>() {
            Ok(source) => BrokerError::Bind { address, source },
            Err(error) => BrokerError::Broker(error.to_string()),
        })
}

fn address_of(listener: &Listener) -> Result<SocketAddr, BrokerError> {
    let address = listener.local_addr();
    address.map_err(|error| BrokerError::Broker(error.to_string()))
}
