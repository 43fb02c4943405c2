//! Start, deliver, reload, stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as SystemInstant};

use parking_lot::{Mutex, RwLock};
use tracing::{info, warn};

use super::error::{ReloadError, StartError};
use super::host::{Host, Subscriptions};
use super::listeners::Listeners;
use super::mail::Mail;
use super::mailbox::Mailbox;
use super::models;
use super::stop::Stop;
use crate::bridge::{CommandRouter, Dialect, Route, RouteKey};
use crate::config::Config;
use crate::engine::{self, CommandInput, DeviceInfo, Directory, PortableSession, Settings};
use crate::lwm2m::model::ObjectModels;
use crate::memory::Memory;
use crate::mqtt::{Message, Origin, Publish};
use crate::store::{
    NotDurable, Opened, OpenedSessions, Receipt, SessionStore, Store, StoreOptions,
};
use crate::telemetry::{Counters, LogLimiter};

/// Name of the thread that writes to the store.
pub(super) const STORE_THREAD: &str = "lwm2m-store";

/// Name of the thread of the HTTP API.
pub(super) const HTTP_THREAD: &str = "lwm2m-http";

/// How long [`Gateway::devices`] waits.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Counters of all shards, summed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Statistics(pub BTreeMap<&'static str, u64>);

/// A running gateway. Clones are handles to the same gateway.
#[derive(Clone)]
pub struct Gateway {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) host: Arc<dyn Host>,
    pub(super) routes: RwLock<Routes>,
    pub(super) directory: Arc<Directory>,
    pub(super) memory: Arc<Memory>,
    pub(super) store: Option<Arc<Store>>,
    /// Where DTLS sessions are kept, if they are.
    pub(super) sessions: Option<Arc<SessionStore>>,
    /// Of commands that the store had at the start.
    #[cfg_attr(
        not(feature = "standalone"),
        allow(dead_code, reason = "only the client of another broker asks")
    )]
    origins: Mutex<Vec<Origin>>,
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) counters: Vec<Arc<Counters>>,
    /// Of the store.
    store_counters: Arc<Counters>,
    /// Of what happens outside of the shards.
    pub(super) own_counters: Counters,
    pub(super) listeners: Mutex<Listeners>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) stop: Stop,
    /// Where shards leave what the HTTP API waits for.
    #[cfg(feature = "http")]
    pub(super) hub: Arc<crate::http::Hub>,
    /// Ends the HTTP API.
    #[cfg(feature = "http")]
    pub(super) http: Mutex<Option<crate::http::Running>>,
}

pub(super) struct Routes {
    pub(super) router: CommandRouter,
    pub(super) settings: Arc<Settings>,
    #[cfg(feature = "http")]
    pub(super) models: Arc<ObjectModels>,
}

impl Inner {
    /// Of the shard that has the endpoint; of any when none has.
    fn mailbox_of(&self, endpoint: &str) -> Option<&Arc<Mailbox>> {
        let shard = self.directory.shard_of(endpoint).unwrap_or(0);
        self.mailboxes.get(usize::from(shard))
    }

    /// Leaves a command in that mailbox, which is returned. The command comes back if there is no
    /// room.
    fn push_command(&self, mut input: CommandInput) -> Option<Result<&Mailbox, CommandInput>> {
        let endpoint = input.endpoint.clone();
        self.directory.route(&endpoint, |shard, order| {
            input.order = order;
            let mailbox = self.mailboxes.get(usize::from(shard.unwrap_or(0)))?;
            Some(mailbox.push(Mail::Command(input)).map(|()| &**mailbox))
        })
    }

    /// Where the commands of a topic go: to mountpoints of the configuration, and when there is
    /// no device behind them, to those that the host has given to devices.
    pub(super) fn routes_of<'t>(&self, router: &CommandRouter, topic: &'t str) -> Vec<Route<'t>> {
        let configured: Vec<_> = router.routes(topic).collect();
        let is_known = |route: &Route<'_>| match &route.key {
            RouteKey::Endpoint(name) => self.directory.shard_of(name).is_some(),
            RouteKey::Mountpoint(_) => true,
        };
        if !self.directory.has_mounts() || configured.iter().any(is_known) {
            return configured;
        }
        let given: Vec<_> = router
            .below_any_mountpoint(topic)
            .filter(|route| !self.directory.endpoints_at(route.mount).is_empty())
            .collect();
        if given.is_empty() { configured } else { given }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("listeners", &self.listeners())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds the listeners, loads the object definitions and starts the shards.
    ///
    /// # Errors
    /// The reason why the gateway cannot run. Nothing is left behind.
    pub fn start(config: Config, host: Arc<dyn Host>) -> Result<Self, StartError> {
        let router = CommandRouter::new(&config)?;
        let models = Arc::new(load_models(&config)?);
        let shards = match config.shards {
            // The broker beside it needs the other half.
            0 => thread::available_parallelism().map_or(1, |cores| usize::from(cores).div_ceil(2)),
            shards => shards,
        };
        let memory = Arc::new(super::memory::account(&config));
        host.attach(&memory);
        let store = config.store.directory().map(|path| StoreOptions {
            path: path.clone(),
            sync: config.store.sync,
        });
        let now = super::clock::Clock::new().now();
        let opened = store.map(|options| Store::open(&options, now)).transpose();
        let opened = opened.map_err(|error| StartError::Store(error.to_string()))?;
        let sessions = open_sessions(&config, opened.is_some())?;
        let id_key = sessions.as_ref().map(|opened| opened.store.id_key);
        let origins = opened.as_ref().map(Opened::origins).unwrap_or_default();
        let directory = Arc::new(Directory::default());
        let locals = directory.locals().clone();
        let mut listeners = Listeners::new(shards, memory.clone(), locals, id_key);
        let plan = listeners.plan(&config)?;
        let settings = Arc::new(Settings::with_ids(
            config,
            plan.coverage(),
            &mut listeners.ids,
        ));
        let changes = listeners.commit(plan);
        let mailboxes = (0..shards)
            .map(|_| Mailbox::new(memory.clone()).map(Arc::new))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|source| StartError::System {
                what: "eventfd",
                source,
            })?;
        let lines = Arc::new(LogLimiter::new(settings.config.log.interval));
        let counters: Vec<_> = (0..shards)
            .map(|_| Arc::new(Counters::new(lines.clone())))
            .collect();
        let store_counters = Arc::new(Counters::new(lines.clone()));
        let store = (opened.is_some())
            .then(|| Arc::new(Store::new(memory.clone(), store_counters.clone())));
        let gateway = Self {
            inner: Arc::new(Inner {
                store,
                sessions: sessions.as_ref().map(|opened| opened.store.clone()),
                origins: Mutex::new(origins),
                store_counters,
                host,
                routes: RwLock::new(Routes {
                    router,
                    settings: settings.clone(),
                    #[cfg(feature = "http")]
                    models: models.clone(),
                }),
                directory,
                memory,
                mailboxes,
                counters,
                own_counters: Counters::new(lines),
                listeners: Mutex::new(listeners),
                threads: Mutex::new(Vec::new()),
                stop: Stop::default(),
                #[cfg(feature = "http")]
                hub: Arc::default(),
                #[cfg(feature = "http")]
                http: Mutex::default(),
            }),
        };
        gateway
            .start_threads(&settings, &models, changes, opened, sessions)
            .inspect_err(|_| {
                gateway.stop(Duration::from_secs(1));
            })?;
        gateway.start_http().inspect_err(|_| {
            gateway.stop(Duration::from_secs(1));
        })?;
        gateway.start_statistics().inspect_err(|_| {
            gateway.stop(Duration::from_secs(1));
        })?;
        gateway.subscribe(&[]);
        Ok(gateway)
    }

    /// There is no HTTP API to start.
    #[cfg(not(feature = "http"))]
    fn start_http(&self) -> Result<(), StartError> {
        match self.inner.routes.read().settings.config.http.bind {
            Some(_) => {
                let reason = "http.bind: this build has no HTTP API (feature `http`)";
                Err(StartError::Http(reason.to_owned()))
            }
            None => Ok(()),
        }
    }

    /// Delivers a message from the broker that may be a command. Never blocks. Messages that are
    /// not commands are ignored; a command that cannot be accepted is answered.
    pub fn deliver(&self, message: Message) {
        self.deliver_all(message, None);
    }

    pub(super) fn deliver_all(&self, message: Message, receipt: Option<Receipt>) {
        let inner = &self.inner;
        let mut refused = Vec::new();
        let mut taken = false;
        let routes = inner.routes.read();
        let reply = inner.reply_of(&routes, message.reply);
        for route in inner.routes_of(&routes.router, &message.topic) {
            let endpoints = match route.key {
                RouteKey::Endpoint(name) => vec![Arc::from(&*name)],
                RouteKey::Mountpoint(mount) => inner.directory.endpoints_at(mount),
            };
            for endpoint in endpoints {
                if !inner.host.answers_for_absent() && inner.directory.shard_of(&endpoint).is_none()
                {
                    inner.own_counters.commands_not_ours.add_shared(1);
                    continue;
                }
                let input = CommandInput {
                    order: 0,
                    origin: receipt.as_ref().and_then(Receipt::origin),
                    endpoint,
                    mount: route.mount.into(),
                    dialect: route.dialect,
                    payload: message.payload.clone(),
                    expiry: message.expiry,
                    reply: reply.clone(),
                };
                let part = receipt.as_ref().map(Receipt::part);
                taken = true;
                refused.extend(self.take(&routes.settings, input, part));
            }
        }
        // Not under the lock: the host may deliver the next message from within.
        drop(routes);
        if let Some(receipt) = receipt {
            // The parts have the last word.
            receipt.settle(taken.then_some(()).ok_or(NotDurable::Refused));
        }
        if !refused.is_empty() {
            inner.host.publish(&mut refused);
        }
    }

    /// Delivers a command for one endpoint, from a host that subscribes for each device
    /// ([`Subscriptions::PerDevice`]). If the endpoint is gone, the answer is published below
    /// `mountpoint`.
    pub fn deliver_to(&self, endpoint: &str, mountpoint: &str, message: Message) {
        self.deliver_to_one(endpoint, mountpoint, message, None);
    }

    pub(super) fn deliver_to_one(
        &self,
        endpoint: &str,
        mountpoint: &str,
        message: Message,
        receipt: Option<Receipt>,
    ) {
        let routes = self.inner.routes.read();
        let dialect = routes
            .router
            .route(&message.topic)
            .map_or(Dialect::Current, |route| route.dialect);
        let input = CommandInput {
            order: 0,
            origin: receipt.as_ref().and_then(Receipt::origin),
            endpoint: endpoint.into(),
            mount: mountpoint.into(),
            dialect,
            payload: message.payload,
            expiry: message.expiry,
            reply: self.inner.reply_of(&routes, message.reply),
        };
        let mut refused = self.take(&routes.settings, input, receipt);
        drop(routes);
        if !refused.is_empty() {
            self.inner.host.publish(&mut refused);
        }
    }

    /// Gives a command to its shard. Returns the answers when there is no room, or when the gateway
    /// stops: the second is for where the command asked for it.
    fn take(
        &self,
        settings: &Settings,
        input: CommandInput,
        receipt: Option<Receipt>,
    ) -> Vec<Publish> {
        let reply = input.reply.clone();
        let Err(Some(answer)) = self.command(settings, input, receipt) else {
            return Vec::new();
        };
        let copy = reply.map(|reply| reply.copy_of(&answer));
        std::iter::once(answer).chain(copy).collect()
    }

    /// The same for one that wants its answer itself: an error is the answer, if there is one.
    pub(super) fn command(
        &self,
        settings: &Settings,
        input: CommandInput,
        receipt: Option<Receipt>,
    ) -> Result<(), Option<Publish>> {
        let inner = &self.inner;
        let refused = if inner.stop.is_asked() {
            input
        } else {
            let endpoint = input.endpoint.clone();
            match inner.push_command(input).ok_or(None)? {
                Ok(mailbox) => {
                    if let Some(receipt) = receipt {
                        // Only commands are ever refused.
                        let _ = mailbox.push(Mail::Receipt(endpoint, receipt));
                    }
                    return Ok(());
                }
                Err(input) => input,
            }
        };
        if inner.stop.is_asked() {
            inner.own_counters.commands_refused.add_shared(1);
            return Err(engine::stopping_answer(settings, &refused));
        }
        inner.own_counters.mailbox_overflow.add_shared(1);
        Err(engine::overflow_answer(settings, &refused))
    }

    /// Messages of a broker that were in the store at the start: it may give them again. Asked for
    /// once.
    #[cfg(feature = "standalone")]
    pub(crate) fn stored_origins(&self) -> Vec<Origin> {
        std::mem::take(&mut self.inner.origins.lock())
    }

    /// Whether a topic is a command topic.
    pub fn is_command(&self, topic: &str) -> bool {
        let inner = &self.inner;
        !inner
            .routes_of(&inner.routes.read().router, topic)
            .is_empty()
    }

    /// Applies a new configuration and reads object definitions and PSK files again. Listeners are
    /// opened, moved and closed as configured; the registrations of a closed one end. The number of
    /// shards does not change.
    ///
    /// # Errors
    /// The old configuration stays in effect.
    pub fn reload(&self, mut config: Config) -> Result<(), ReloadError> {
        let inner = &self.inner;
        if inner.stop.is_asked() {
            return Err(ReloadError::Stopped);
        }
        let models = Arc::new(load_models(&config)?);
        let router = CommandRouter::new(&config).map_err(StartError::from)?;
        let mut listeners = inner.listeners.lock();
        let shards = inner.routes.read().settings.config.shards;
        if config.shards != shards {
            warn!("a change of shards takes effect at the next start");
            config.shards = shards;
        }
        let plan = listeners.plan(&config)?;
        #[cfg(feature = "http")]
        let http = self.plan_http(&config)?;
        inner.memory.set_shares(super::memory::shares(&config));
        inner.own_counters.lines.set_interval(config.log.interval);
        let settings = Arc::new(Settings::with_ids(
            config,
            plan.coverage(),
            &mut listeners.ids,
        ));
        for (mailbox, changes) in inner.mailboxes.iter().zip(listeners.commit(plan)) {
            // Only commands are ever refused.
            let mail = Mail::Reconfigure(settings.clone(), models.clone(), changes);
            let _ = mailbox.push(mail);
        }
        drop(listeners);
        let old_filters = {
            let mut routes = inner.routes.write();
            let filters = routes.router.filters();
            *routes = Routes {
                router,
                settings,
                #[cfg(feature = "http")]
                models,
            };
            filters
        };
        #[cfg(feature = "http")]
        self.commit_http(http);
        self.subscribe(&old_filters);
        info!("configuration reloaded");
        Ok(())
    }

    /// All registered devices, in no particular order. Waits for every shard, at most
    /// [`QUERY_TIMEOUT`]; the devices of a shard that does not answer are missing. Must not be
    /// called from a method of [`Host`].
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.ask(None, &self.inner.mailboxes)
    }

    /// One registered device; the same limits as for [`Gateway::devices`] apply.
    pub fn device(&self, endpoint: &str) -> Option<DeviceInfo> {
        let shard = self.inner.directory.shard_of(endpoint)?;
        let mailbox = self.inner.mailboxes.get(usize::from(shard))?;
        self.ask(Some(endpoint.into()), std::slice::from_ref(mailbox))
            .pop()
    }

    fn ask(&self, which: Option<Arc<str>>, mailboxes: &[Arc<Mailbox>]) -> Vec<DeviceInfo> {
        if self.inner.stop.is_asked() {
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

    /// Ends a registration and returns what another gateway needs to continue with the device.
    /// Waits like [`Gateway::device`].
    pub fn export(&self, endpoint: &str) -> Option<PortableSession> {
        let inner = &self.inner;
        if inner.stop.is_asked() {
            return None;
        }
        inner.directory.shard_of(endpoint)?;
        let (to, answer) = mpsc::channel();
        // Only commands are ever refused.
        let mail = Mail::Export(endpoint.into(), to);
        let _ = inner.mailbox_of(endpoint)?.push(mail);
        answer.recv_timeout(QUERY_TIMEOUT).ok()
    }

    /// Continues with a device that was exported by another gateway and has registered here.
    /// Returns false if it has not.
    pub fn import(&self, endpoint: &str, session: PortableSession) -> bool {
        let inner = &self.inner;
        if inner.directory.shard_of(endpoint).is_none() {
            return false;
        }
        // What another gateway lets pass need not pass here.
        let routes = inner.routes.read();
        let session = session.with_replies(|reply| inner.may_reply(&routes, reply));
        drop(routes);
        if let Some(mailbox) = inner.mailbox_of(endpoint) {
            // Only commands are ever refused.
            let mail = Mail::Import(endpoint.into(), Box::new(session));
            let _ = mailbox.push(mail);
        }
        true
    }

    /// Ends a registration. Returns false if there is none.
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

    /// The account of the memory that the gateway uses for senders.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.inner.memory
    }

    /// Counters of all shards, and the memory account.
    pub fn statistics(&self) -> Statistics {
        let mut sums = BTreeMap::new();
        let own = [&self.inner.own_counters, &*self.inner.store_counters];
        for counters in self.inner.counters.iter().map(|it| &**it).chain(own) {
            for (name, value) in counters.snapshot() {
                *sums.entry(name).or_default() += value;
            }
        }
        if let Some(store) = &self.inner.store {
            sums.insert("store_failing", u64::from(!store.is_durable()));
        }
        sums.extend(self.inner.memory.snapshot());
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let directory = &self.inner.directory;
        sums.insert("queued_commands", number(directory.queued()));
        sums.insert("queued_bytes", number(directory.queued_bytes()));
        #[cfg(feature = "http")]
        {
            let hub = &self.inner.hub;
            sums.insert("http_events_dropped", hub.lost_events());
            sums.insert("http_connections_closed", hub.connections_closed());
        }
        Statistics(sums)
    }

    /// Name, such as `udp:default`, and bound address of each listener, UDP before DTLS.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        self.inner.listeners.lock().addresses()
    }

    /// Number of registered devices.
    pub fn registrations(&self) -> usize {
        self.inner.directory.len()
    }

    /// Answers waiting commands, closes the sockets and joins the threads. Commands that arrive
    /// from now on, or after the end, are answered at once. Returns after `deadline` at the latest,
    /// and says whether all threads have ended; call it again to wait for the others.
    pub fn stop(&self, deadline: Duration) -> bool {
        if !self.inner.stop.ask() {
            for mailbox in &self.inner.mailboxes {
                // Only commands are ever refused.
                let _ = mailbox.push(Mail::Stop);
            }
        }
        let until = SystemInstant::now() + deadline;
        #[cfg(feature = "http")]
        if let Some(http) = &*self.inner.http.lock() {
            http.stop();
        }
        self.close_store(until);
        let mut threads = self.inner.threads.lock();
        while threads.iter().any(|thread| !thread.is_finished()) && SystemInstant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        let (ended, busy): (Vec<_>, _) = std::mem::take(&mut *threads)
            .into_iter()
            .partition(JoinHandle::is_finished);
        *threads = busy;
        for thread in ended {
            if thread.join().is_err() {
                warn!("a shard had panicked");
            }
        }
        threads.is_empty()
    }

    /// Has the store write what the shards leave, once they have come to their end.
    fn close_store(&self, until: SystemInstant) {
        let inner = &self.inner;
        let Some(store) = &inner.store else {
            return;
        };
        let shards = |thread: &&JoinHandle<()>| {
            let name = thread.thread().name();
            name != Some(STORE_THREAD) && name != Some(HTTP_THREAD)
        };
        let running = || {
            let threads = inner.threads.lock();
            let mut shards = threads.iter().filter(shards);
            shards.any(|thread| !thread.is_finished())
        };
        while running() && SystemInstant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        // What a broker has confirmed by then is not answered again after the next start.
        let left = until.saturating_duration_since(SystemInstant::now());
        let patience = SystemInstant::now() + left / 2;
        while store.awaits_broker() && SystemInstant::now() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        store.close();
        if let Some(sessions) = &inner.sessions {
            sessions.close();
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

/// Opens the place of DTLS sessions beside the store, if there is one.
fn open_sessions(config: &Config, has_store: bool) -> Result<Option<OpenedSessions>, StartError> {
    let Some(path) = config.store.path.as_ref().filter(|_| has_store) else {
        return Ok(None);
    };
    let broken = |error: &dyn std::fmt::Display| StartError::Store(error.to_string());
    let key = match &config.store.key_file {
        Some(file) => Some(crate::store::read_key(file).map_err(|error| broken(&error))?),
        None => None,
    };
    let key = key.as_ref().map(|key| key.as_slice());
    let opened = SessionStore::open(path, key).map_err(|error| broken(&error))?;
    Ok(Some(opened))
}

fn load_models(config: &Config) -> Result<ObjectModels, StartError> {
    models::load(config).map_err(|source| StartError::Models {
        dir: config.xml_dir.clone().unwrap_or_default(),
        source,
    })
}
