//! Start, deliver, reload, stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as SystemInstant};

use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tracing::{info, warn};

use super::mailbox::{Mail, Mailbox};
use super::shard::Shard;
use super::{Clock, models, signals};
use crate::bridge::topic::TopicError;
use crate::bridge::{CommandRouter, Dialect, RouteKey};
use crate::config::{Config, UdpListener};
use crate::engine::{
    self, CommandInput, DeviceInfo, Directory, Engine, EngineOptions, Settings, ShardId,
};
use crate::host::{Host, Message, Subscriptions};
use crate::telemetry::Counters;
use crate::transport::udp::UdpSocket;

/// How long [`Gateway::devices`] waits.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("listeners.udp.{name}.bind {bind}: {source}")]
    Bind {
        /// Name of the listener.
        name: String,
        /// Its address.
        bind: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// `xml_dir` cannot be read.
    #[error("xml_dir {}: {source}", dir.display())]
    Models {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Mountpoint and command topic make no filter.
    #[error("mountpoint: {0}")]
    Topic(#[from] TopicError),
    /// The system refuses a descriptor, thread or random numbers.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a new configuration is not taken; the old one stays.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// As at the start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The gateway has been stopped.
    #[error("the gateway is stopped")]
    Stopped,
}

/// Counters of all shards, summed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Statistics(pub BTreeMap<&'static str, u64>);

/// A running gateway. Clones are handles to the same one.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    host: Arc<dyn Host>,
    routes: RwLock<Routes>,
    directory: Arc<Directory>,
    mailboxes: Vec<Arc<Mailbox>>,
    counters: Vec<Arc<Counters>>,
    /// Of what happens outside of the shards.
    own_counters: Counters,
    listeners: Vec<(String, SocketAddr)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopped: AtomicBool,
}

struct Routes {
    router: CommandRouter,
    settings: Arc<Settings>,
}

impl Inner {
    /// Of the shard that has the endpoint; of any when none has.
    fn mailbox_of(&self, endpoint: &str) -> Option<&Arc<Mailbox>> {
        let shard = self.directory.shard_of(endpoint).unwrap_or(0);
        self.mailboxes.get(usize::from(shard))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("listeners", &self.inner.listeners)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds the listeners, loads the object definitions and starts the shards.
    ///
    /// # Errors
    /// Whatever keeps the gateway from running; nothing is left behind then.
    pub fn start(config: Config, host: Arc<dyn Host>) -> Result<Self, StartError> {
        let router = CommandRouter::new(&config)?;
        let models = Arc::new(load_models(&config)?);
        let shards = match config.shards {
            0 => thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let mut sockets: Vec<Vec<UdpSocket>> = Vec::new();
        sockets.resize_with(shards, Vec::new);
        let mut listeners = Vec::new();
        for (name, listener) in config.listeners.udp.iter().filter(|(_, it)| it.enable) {
            let (address, bound) = bind(listener, shards).map_err(|source| StartError::Bind {
                name: name.clone(),
                bind: listener.bind,
                source,
            })?;
            listeners.push((format!("udp:{name}"), address));
            sockets
                .iter_mut()
                .zip(bound)
                .for_each(|(sockets, socket)| sockets.push(socket));
        }
        // What the shards log goes where the caller's log goes.
        let log = tracing::dispatcher::get_default(Clone::clone);
        let directory = Arc::new(Directory::default());
        let settings = Arc::new(Settings::new(config));
        let clock = Clock::new();
        let mailboxes = (0..shards)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|source| StartError::System {
                what: "eventfd",
                source,
            })?;
        let counters: Vec<_> = (0..shards).map(|_| Arc::new(Counters::default())).collect();
        let gateway = Self {
            inner: Arc::new(Inner {
                host: host.clone(),
                routes: RwLock::new(Routes {
                    router,
                    settings: settings.clone(),
                }),
                directory: directory.clone(),
                mailboxes: mailboxes.clone(),
                counters: counters.clone(),
                own_counters: Counters::default(),
                listeners,
                threads: Mutex::new(Vec::new()),
                stopped: AtomicBool::new(false),
            }),
        };
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (Some(mailbox), Some(counters)) = (mailboxes.get(index), counters.get(index))
            else {
                break;
            };
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| StartError::System {
                what: "random numbers",
                source: io::Error::other(error.to_string()),
            })?;
            let engine = Engine::new(EngineOptions {
                settings: settings.clone(),
                models: models.clone(),
                counters: counters.clone(),
                directory: directory.clone(),
                shard: ShardId::try_from(index).unwrap_or(ShardId::MAX),
                seed,
                per_device_subscriptions: host.subscriptions() == Subscriptions::PerDevice,
                authorize: host.authorizes(),
                device_events: host.watches_devices(),
            });
            let shard = Shard {
                engine,
                sockets,
                mailbox: mailbox.clone(),
                mailboxes: mailboxes.clone(),
                host: host.clone(),
                counters: counters.clone(),
                clock,
            };
            let thread = thread::Builder::new()
                .name(format!("lwm2m-{index}"))
                .spawn({
                    let log = log.clone();
                    move || {
                        // Signals are the host's business.
                        signals::block_all();
                        tracing::dispatcher::with_default(&log, || shard.run());
                    }
                })
                .map_err(|source| {
                    gateway.stop(Duration::from_secs(1));
                    StartError::System {
                        what: "thread",
                        source,
                    }
                })?;
            gateway.inner.threads.lock().push(thread);
        }
        gateway.subscribe(&[]);
        Ok(gateway)
    }

    /// Takes a message from the broker that may be a command. Never blocks; what is no command is
    /// ignored, what cannot be taken is answered.
    pub fn deliver(&self, message: Message) {
        let inner = &self.inner;
        let routes = inner.routes.read();
        for route in routes.router.routes(&message.topic) {
            let endpoints = match route.key {
                RouteKey::Endpoint(name) => vec![Arc::from(&*name)],
                RouteKey::Mountpoint(mount) => inner.directory.endpoints_at(mount),
            };
            for endpoint in endpoints {
                self.command(
                    &routes.settings,
                    CommandInput {
                        endpoint,
                        mount: route.mount.into(),
                        dialect: route.dialect,
                        payload: message.payload.clone(),
                        expiry: message.expiry,
                    },
                );
            }
        }
    }

    /// Takes a command for one endpoint from a host that knows whose it is, because it subscribed
    /// for each device ([`Subscriptions::PerDevice`]). Answers to an endpoint that is gone by now
    /// are published below `mountpoint`.
    pub fn deliver_to(&self, endpoint: &str, mountpoint: &str, message: Message) {
        let routes = self.inner.routes.read();
        let dialect = routes
            .router
            .route(&message.topic)
            .map_or(Dialect::Current, |route| route.dialect);
        let input = CommandInput {
            endpoint: endpoint.into(),
            mount: mountpoint.into(),
            dialect,
            payload: message.payload,
            expiry: message.expiry,
        };
        self.command(&routes.settings, input);
    }

    fn command(&self, settings: &Settings, input: CommandInput) {
        let inner = &self.inner;
        let Some(mailbox) = inner.mailbox_of(&input.endpoint) else {
            return;
        };
        if let Err(input) = mailbox.push(Mail::Command(input)) {
            inner.own_counters.mailbox_overflow.add_shared(1);
            let answer = engine::overflow_answer(settings, &input);
            inner.host.publish(&mut vec![answer]);
        }
    }

    /// Whether a topic is one that commands come by.
    pub fn is_command(&self, topic: &str) -> bool {
        self.inner.routes.read().router.route(topic).is_some()
    }

    /// Takes a new configuration and reads the object definitions again. Listeners and the number
    /// of shards stay as they were at the start.
    ///
    /// # Errors
    /// The old configuration stays in force.
    pub fn reload(&self, mut config: Config) -> Result<(), ReloadError> {
        let inner = &self.inner;
        if inner.stopped.load(Ordering::Acquire) {
            return Err(ReloadError::Stopped);
        }
        let models = Arc::new(load_models(&config)?);
        let old = inner.routes.read().settings.clone();
        if config.listeners != old.config.listeners || config.shards != old.config.shards {
            warn!("changes of listeners and shards take effect at the next start");
            config.listeners = old.config.listeners.clone();
            config.shards = old.config.shards;
        }
        let router = CommandRouter::new(&config).map_err(StartError::from)?;
        let settings = Arc::new(Settings::new(config));
        for mailbox in &inner.mailboxes {
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Reconfigure(settings.clone(), models.clone()));
        }
        let old_filters = {
            let mut routes = inner.routes.write();
            let filters = routes.router.filters();
            *routes = Routes { router, settings };
            filters
        };
        self.subscribe(&old_filters);
        info!("configuration reloaded");
        Ok(())
    }

    /// All registered devices, in no order. Waits for every shard, [`QUERY_TIMEOUT`] at most;
    /// devices of a shard that does not answer are missing. Must not be called from a method of
    /// [`Host`].
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.ask(None, &self.inner.mailboxes)
    }

    /// One registered device; as [`Gateway::devices`].
    pub fn device(&self, endpoint: &str) -> Option<DeviceInfo> {
        let shard = self.inner.directory.shard_of(endpoint)?;
        let mailbox = self.inner.mailboxes.get(usize::from(shard))?;
        self.ask(Some(endpoint.into()), std::slice::from_ref(mailbox))
            .pop()
    }

    fn ask(&self, which: Option<Arc<str>>, mailboxes: &[Arc<Mailbox>]) -> Vec<DeviceInfo> {
        if self.inner.stopped.load(Ordering::Acquire) {
            return Vec::new();
        }
        let (to, answers) = mpsc::channel();
        for mailbox in mailboxes {
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Devices(which.clone(), to.clone()));
        }
        drop(to);
        let until = SystemInstant::now() + QUERY_TIMEOUT;
        let mut devices = Vec::new();
        while let Ok(mut some) =
            answers.recv_timeout(until.saturating_duration_since(SystemInstant::now()))
        {
            devices.append(&mut some);
        }
        devices
    }

    /// Ends a registration; false when there is none.
    pub fn kick(&self, endpoint: &str) -> bool {
        let inner = &self.inner;
        if inner.directory.shard_of(endpoint).is_none() {
            return false;
        }
        if let Some(mailbox) = inner.mailbox_of(endpoint) {
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Kick(endpoint.into()));
        }
        true
    }

    /// Counters of all shards.
    pub fn statistics(&self) -> Statistics {
        let mut sums = BTreeMap::new();
        let own = std::iter::once(&self.inner.own_counters);
        for counters in self.inner.counters.iter().map(|it| &**it).chain(own) {
            for (name, value) in counters.snapshot() {
                *sums.entry(name).or_default() += value;
            }
        }
        Statistics(sums)
    }

    /// Name and bound address of each listener, in order of configuration.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.inner.listeners.clone()
    }

    /// Registered devices.
    pub fn registrations(&self) -> usize {
        self.inner.directory.len()
    }

    /// Answers what is still waiting, closes the sockets and joins the threads. Returns after
    /// `deadline` at the latest.
    pub fn stop(&self, deadline: Duration) {
        if self.inner.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        for mailbox in &self.inner.mailboxes {
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Stop);
        }
        let until = SystemInstant::now() + deadline;
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        while threads.iter().any(|thread| !thread.is_finished()) && SystemInstant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        for thread in threads.into_iter().filter(JoinHandle::is_finished) {
            if thread.join().is_err() {
                warn!("a shard had panicked");
            }
        }
    }

    /// Subscribes to what the router needs and leaves what it needs no more.
    fn subscribe(&self, old: &[(String, u8)]) {
        let host = &self.inner.host;
        if host.subscriptions() == Subscriptions::PerDevice {
            return;
        }
        let filters = self.inner.routes.read().router.filters();
        for (filter, _) in old.iter().filter(|known| !filters.contains(known)) {
            host.unsubscribe(filter);
        }
        for (filter, qos) in filters.iter().filter(|known| !old.contains(known)) {
            host.subscribe(filter, *qos);
        }
    }
}

fn load_models(config: &Config) -> Result<crate::lwm2m::model::ObjectModels, StartError> {
    models::load(config.xml_dir.as_deref(), config.limits.max_model_file).map_err(|source| {
        StartError::Models {
            dir: config.xml_dir.clone().unwrap_or_default(),
            source,
        }
    })
}

/// One socket a shard. The first binds alone, so that an address somebody else uses is noticed:
/// with `SO_REUSEPORT` on both sides the kernel would share it silently.
fn bind(listener: &UdpListener, shards: usize) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    let open = |address, share| UdpSocket::bind(address, share, listener.recbuf, listener.sndbuf);
    let probe = open(listener.bind, false)?;
    let address = probe.local_addr()?;
    if shards == 1 {
        return Ok((address, vec![probe]));
    }
    drop(probe);
    let sockets = (0..shards)
        .map(|_| open(address, true))
        .collect::<io::Result<_>>()?;
    Ok((address, sockets))
}
