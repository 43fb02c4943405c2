//! What the HTTP API gets from the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::error::StartError;
use super::gateway::{Gateway, HTTP_THREAD, Inner};
use super::mail::{Mail, Question, Sessions};
use super::shard::Shard;
use serde_json::{Map, Value};
use tracing::warn;

use crate::bridge::Dialect;
use crate::config::{Config, effective};
use crate::engine::{CommandInput, DeviceEvent, Engine, Page, PageRequest, Peer};
use crate::http::{
    Backend, Change, Found, KeyFile, Reply, Running, Server, SessionDetail, Taken, Trace,
};
use crate::lwm2m::model::ObjectModels;
use crate::mqtt::{Publish, ReplyTo};
use crate::telemetry::ListenerTimes;
use crate::time::Now;

/// What another configuration changes.
pub(super) enum HttpPlan {
    Nothing,
    Start(Server, Running),
    Stop,
    Change(Change),
}

impl Gateway {
    /// Starts the HTTP API, if the configuration wants one.
    pub(super) fn start_http(&self) -> Result<(), StartError> {
        let settings = self.inner.routes.read().settings.clone();
        match self.bind_http(&settings.config)? {
            Some((server, running)) => self.run_http(server, running),
            None => Ok(()),
        }
    }

    fn bind_http(&self, config: &Config) -> Result<Option<(Server, Running)>, StartError> {
        let backend = Arc::new(Questions(Arc::downgrade(&self.inner)));
        let bound = Server::bind(config, backend, self.inner.hub.clone());
        bound.map_err(|error| StartError::Http(error.to_string()))
    }

    fn run_http(&self, server: Server, running: Running) -> Result<(), StartError> {
        *self.inner.http.lock() = Some(running);
        self.start_thread(HTTP_THREAD.to_owned(), move || server.run())
    }

    /// What a configuration changes. Nothing is in force before [`Self::commit_http`].
    pub(super) fn plan_http(&self, config: &Config) -> Result<HttpPlan, StartError> {
        let running = self.inner.http.lock();
        match (&*running, config.http.bind) {
            (None, None) => Ok(HttpPlan::Nothing),
            (Some(_), None) => Ok(HttpPlan::Stop),
            (Some(running), Some(bind)) => {
                let change = running.plan(config, bind).map(HttpPlan::Change);
                change.map_err(|error| StartError::Http(error.to_string()))
            }
            (None, Some(_)) => {
                drop(running);
                let bound = self.bind_http(config)?;
                Ok(bound.map_or(HttpPlan::Nothing, |(server, running)| {
                    HttpPlan::Start(server, running)
                }))
            }
        }
    }

    /// Puts that in force.
    pub(super) fn commit_http(&self, plan: HttpPlan) {
        match plan {
            HttpPlan::Nothing => {}
            HttpPlan::Stop => {
                if let Some(running) = self.inner.http.lock().take() {
                    running.stop();
                }
            }
            HttpPlan::Change(change) => {
                if let Some(running) = &*self.inner.http.lock() {
                    running.commit(change);
                }
            }
            HttpPlan::Start(server, running) => {
                if let Err(error) = self.run_http(server, running) {
                    warn!(%error, "cannot serve the HTTP API");
                }
            }
        }
    }

    /// Where the HTTP API is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        let http = self.inner.http.lock();
        http.as_ref().map(Running::address)
    }
}

/// Asks the shards, by their mailboxes.
struct Questions(Weak<Inner>);

impl Questions {
    fn ask(
        &self,
        shard: usize,
        question: impl FnOnce(&Engine, Now, &dyn Sessions) + Send + 'static,
    ) {
        let Some(inner) = self.0.upgrade() else {
            return;
        };
        if let Some(mailbox) = inner.mailboxes.get(shard) {
            // Only commands are ever refused.
            let _ = mailbox.push(Mail::Ask(Question(Box::new(question))));
        }
    }

    fn shard_of(&self, endpoint: &str) -> Option<usize> {
        let inner = self.0.upgrade()?;
        inner.directory.shard_of(endpoint).map(usize::from)
    }
}

impl Backend for Questions {
    fn shards(&self) -> usize {
        let inner = self.0.upgrade();
        inner.map_or(0, |inner| inner.mailboxes.len())
    }

    fn page(&self, shard: usize, request: PageRequest, to: Reply<Page>) {
        self.ask(shard, move |engine, now, _| to(engine.page(now, &request)));
    }

    fn detail(&self, endpoint: &str, to: Reply<Option<Found>>) {
        let Some(shard) = self.shard_of(endpoint) else {
            return to(None);
        };
        let endpoint: Arc<str> = endpoint.into();
        self.ask(shard, move |engine, now, sessions| {
            let detail = engine.detail(now, &endpoint);
            to(detail.map(|detail| {
                let session = sessions.session_detail(now, detail.peer);
                Found { detail, session }
            }));
        });
    }

    fn command(&self, endpoint: &str, payload: Vec<u8>, number: u64) -> Taken {
        let Some(inner) = self.0.upgrade() else {
            return Taken::Answered(None);
        };
        if inner.directory.shard_of(endpoint).is_none() {
            return Taken::Unknown;
        }
        let input = CommandInput {
            order: 0,
            endpoint: endpoint.into(),
            mount: Box::default(),
            dialect: Dialect::Current,
            payload,
            expiry: None,
            origin: None,
            reply: Some(Box::new(ReplyTo::caught(number))),
        };
        let settings = inner.routes.read().settings.clone();
        match (Gateway { inner }).command(&settings, input, None) {
            Ok(()) => Taken::Yes,
            Err(answer) => Taken::Answered(answer),
        }
    }

    fn kick(&self, endpoint: &str) -> bool {
        let inner = self.0.upgrade();
        inner.is_some_and(|inner| Gateway { inner }.kick(endpoint))
    }

    fn registrations(&self) -> usize {
        let inner = self.0.upgrade();
        inner.map_or(0, |inner| inner.directory.len())
    }

    fn statistics(&self) -> BTreeMap<&'static str, u64> {
        let inner = self.0.upgrade();
        inner.map_or_else(BTreeMap::new, |inner| Gateway { inner }.statistics().0)
    }

    fn registrations_by_listener(&self) -> Vec<(String, usize)> {
        let inner = self.0.upgrade();
        inner.map_or_else(Vec::new, |inner| {
            Gateway { inner }.registrations_by_listener()
        })
    }

    fn times(&self) -> Vec<ListenerTimes> {
        let inner = self.0.upgrade();
        inner.map_or_else(Vec::new, |inner| Gateway { inner }.times())
    }

    fn config(&self) -> Option<Map<String, Value>> {
        let settings = self.0.upgrade()?.routes.read().settings.clone();
        Some(effective(&settings.config))
    }

    fn key_files(&self) -> Vec<KeyFile> {
        let Some(inner) = self.0.upgrade() else {
            return Vec::new();
        };
        let settings = inner.routes.read().settings.clone();
        let listeners = settings.config.listeners.dtls.iter();
        let listeners = listeners.filter(|(_, listener)| listener.common.enable);
        listeners
            .map(|(name, listener)| KeyFile {
                listener: format!("dtls:{name}"),
                path: listener.psk_file.clone(),
                encoding: listener.psk_file_keys,
                configured: (listener.psk.iter())
                    .map(|it| {
                        let endpoints = it.endpoints.iter();
                        let endpoints = endpoints.map(|it| it.as_str().to_owned());
                        (it.identity.clone(), endpoints.collect())
                    })
                    .collect(),
            })
            .collect()
    }

    fn read_key_files(&self) {
        if let Some(inner) = self.0.upgrade() {
            // A file counts when it is the same twice: whoever writes it may not be through. This one
            // was put there whole, and who asks wants it in force when he is answered.
            inner.read_files();
            inner.read_files();
        }
    }

    fn models(&self) -> Option<Arc<ObjectModels>> {
        let inner = self.0.upgrade()?;
        let models = inner.routes.read().models.clone();
        Some(models)
    }

    fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let inner = self.0.upgrade();
        inner.map_or_else(Vec::new, |inner| inner.listeners.lock().addresses())
    }

    fn host(&self) -> &'static str {
        let inner = self.0.upgrade();
        inner.map_or("", |inner| inner.host.name())
    }
}

impl Sessions for Shard {
    fn session_detail(&self, now: Now, peer: Peer) -> Option<SessionDetail> {
        let mut listeners = self.listeners.iter();
        let listener = listeners.find(|it| it.number == peer.listener)?;
        listener.secure.as_ref()?.detail(now.mono, peer)
    }
}

impl Shard {
    /// Whether anybody listens; devices are only talked about when somebody does.
    pub(super) fn look_for_listeners(&mut self) {
        let listens = self.hub.listens();
        if listens != self.tapped {
            self.tapped = listens;
            let wanted = listens || self.host.watches_devices();
            self.engine.set_device_events(wanted);
        }
    }

    /// Tells those who listen of a message for the broker.
    pub(super) fn tap(&self, now: Now, publish: &Publish) {
        self.hub.published(now.unix_ms, publish);
        self.note_awake(now, &publish.endpoint);
    }

    /// The same for what became of a device; whether the host wants to know as well.
    pub(super) fn tap_device(&self, now: Now, event: &DeviceEvent) -> bool {
        self.hub.device_event(now.unix_ms, event);
        if let DeviceEvent::Registered(info) | DeviceEvent::Updated(info) = event {
            self.note_awake(now, &info.endpoint.as_str().into());
        }
        self.host.watches_devices()
    }

    fn note_awake(&self, now: Now, endpoint: &Arc<str>) {
        if let Some(time) = self.engine.awake_for(now.mono, endpoint)
            && !time.is_zero()
        {
            let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let until = now.unix_ms.saturating_add(time);
            self.hub.woke(now.unix_ms, endpoint, until);
        }
    }

    /// Handles a datagram, and shows it to those who follow its device. A Register is its device's
    /// only when it has been handled.
    pub(super) fn trace_datagram(&mut self, now: Now, peer: Peer, datagram: &[u8]) {
        let before = self.engine.endpoint_at(peer).cloned();
        self.engine.handle_datagram(now, peer, datagram);
        let endpoint = before.as_ref().or_else(|| self.engine.endpoint_at(peer));
        if let Some(endpoint) = endpoint {
            self.show(now, endpoint, peer, datagram, true);
        }
    }

    /// Shows a datagram on its way out.
    pub(super) fn trace_transmit(&self, now: Now, to: Peer, datagram: &[u8]) {
        if self.hub.traces()
            && let Some(endpoint) = self.engine.endpoint_at(to)
        {
            self.show(now, endpoint, to, datagram, false);
        }
    }

    fn show(&self, now: Now, endpoint: &str, peer: Peer, datagram: &[u8], incoming: bool) {
        let trace = Trace {
            incoming,
            peer: peer.address,
            datagram,
        };
        self.hub.traced(now.unix_ms, endpoint, trace);
    }

    /// Says whether a command of the API waits for its device.
    pub(super) fn tell_queued(&self, now: Now, endpoint: &str, number: u64) {
        if self.engine.sleeps(now.mono, endpoint) {
            self.hub.queued(number);
        }
    }
}
