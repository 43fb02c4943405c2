//! The host behind function pointers: when its callbacks are made, and by whom.

#![allow(unsafe_code)] // calls through the host's pointers

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::boundary::{Callback, Failure, InCallback, c_text};
use super::options::Options;
use super::pending::Pending;
use super::queue::{Event, LogLine, Pushed, Queue};
use super::types::{
    lwm2m_gateway_kind as Kind, lwm2m_gateway_log_level as LogLevel, lwm2m_gateway_mode as Mode,
    lwm2m_gateway_psk_request as CPskRequest, lwm2m_gateway_publication as Publication,
    lwm2m_gateway_registration as CRegistration, lwm2m_gateway_status as Status,
};
use super::wake::Wake;
use crate::host::{
    AuthorizationRequest, DeviceEvent, Host, PskRequest, Publish, PublishKind, Subscriptions,
};
use crate::memory::Memory;
use crate::store::{NotDurable, Receipt};

/// See the module.
pub(super) struct Callbacks {
    options: Options,
    queue: Mutex<Queue>,
    /// Callbacks are made at once: in threaded mode, after the start.
    direct: AtomicBool,
    /// What the host has been asked and not answered.
    pub(super) authorizations: Pending<AuthorizationRequest>,
    pub(super) psk_requests: Pending<PskRequest>,
    wake: Wake,
    /// The thread that polls.
    polling: Mutex<()>,
    /// Whether the host has freed the gateway. Held while a callback runs.
    closed: RwLock<bool>,
    /// Messages that the host refused, and those that found no room in the queue.
    publish_dropped: AtomicU64,
    /// Callbacks that found no room in the queue.
    overflow: AtomicU64,
    /// As many of them as the log knows of.
    overflow_reported: AtomicU64,
}

impl Callbacks {
    pub(super) fn new(options: Options) -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Queue::new(options.queue_limit, options.queue_bytes)),
            options,
            direct: AtomicBool::new(false),
            authorizations: Pending::default(),
            psk_requests: Pending::default(),
            wake: Wake::new()?,
            polling: Mutex::new(()),
            closed: RwLock::new(false),
            publish_dropped: AtomicU64::new(0),
            overflow: AtomicU64::new(0),
            overflow_reported: AtomicU64::new(0),
        })
    }

    /// A number that names this gateway for as long as it lives.
    pub(super) fn id(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// The descriptor to wait for, in polled mode.
    pub(super) fn fd(&self) -> Option<RawFd> {
        (self.options.mode == Mode::Polled).then(|| self.wake.fd())
    }

    /// Tells the host what becomes of the message with this number.
    pub(super) fn receipt(self: &Arc<Self>, number: u64) -> Receipt {
        let host = Arc::downgrade(self);
        Receipt::new(move |outcome| {
            if let Some(host) = host.upgrade() {
                let status = match outcome {
                    Ok(()) => Status::Ok,
                    Err(NotDurable::NoStore) => Status::State,
                    Err(NotDurable::Failed) => Status::System,
                    Err(NotDurable::Refused) => Status::NotFound,
                };
                host.emit(Event::Durable { number, status });
            }
        })
    }

    /// Counters of the host's side.
    pub(super) fn counters(&self) -> [(&'static str, u64); 3] {
        let waiting = u64::try_from(self.queue.lock().len()).unwrap_or(u64::MAX);
        [
            (
                "publish_dropped",
                self.publish_dropped.load(Ordering::Relaxed),
            ),
            ("host_queue", waiting),
            ("host_queue_overflow", self.overflow.load(Ordering::Relaxed)),
        ]
    }

    /// Makes a callback, now or when the host polls.
    pub(super) fn emit(&self, event: Event) {
        let at_once = self.options.mode == Mode::Threaded && matches!(event, Event::Log(_));
        if at_once || self.direct.load(Ordering::Acquire) {
            return self.call(event);
        }
        let mut queue = self.queue.lock();
        if self.direct.load(Ordering::Acquire) {
            drop(queue);
            return self.call(event);
        }
        let is_publish = matches!(event, Event::Publish(_));
        let pushed = queue.push(event);
        drop(queue);
        match pushed {
            Pushed::Waits => {}
            Pushed::First => self.announce(),
            Pushed::Dropped => {
                self.overflow.fetch_add(1, Ordering::Relaxed);
                if is_publish {
                    self.publish_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The gateway has started and its functions may be called from callbacks. In threaded mode
    /// makes the callbacks that came up meanwhile, the later ones are made at once.
    pub(super) fn open(&self) {
        if self.options.mode == Mode::Polled {
            return;
        }
        loop {
            let mut queue = self.queue.lock();
            let Some(event) = queue.pop() else {
                // Under the lock, so that nobody overtakes what waits.
                self.direct.store(true, Ordering::Release);
                return;
            };
            drop(queue);
            self.call(event);
        }
    }

    /// Makes waiting callbacks, `max` at most; 0: those that wait now. Returns how many still
    /// wait.
    pub(super) fn poll(&self, max: usize) -> Result<usize, Failure> {
        if self.options.mode != Mode::Polled {
            return Err(Failure::state("the gateway is not in polled mode"));
        }
        let Some(_polling) = self.polling.try_lock() else {
            let text = "another thread is in lwm2m_gateway_poll()";
            return Err(Failure::new(Status::Busy, text));
        };
        self.wake.clear();
        self.report_overflow();
        let max = match max {
            0 => self.queue.lock().len(),
            max => max,
        };
        for _ in 0..max {
            let Some(event) = self.queue.lock().pop() else {
                break;
            };
            self.call(event);
        }
        let mut queue = self.queue.lock();
        let waiting = queue.len();
        let again = queue.settle();
        drop(queue);
        if again {
            self.announce();
        }
        Ok(waiting)
    }

    /// Waits for the callbacks that are running; none is made after this.
    pub(super) fn close(&self) {
        *self.closed.write() = true;
    }

    fn report_overflow(&self) {
        let overflow = self.overflow.load(Ordering::Relaxed);
        let reported = self.overflow_reported.swap(overflow, Ordering::Relaxed);
        if overflow == reported {
            return;
        }
        let dropped = overflow.saturating_sub(reported);
        self.call(Event::Log(LogLine {
            level: LogLevel::Warn,
            target: module_path!(),
            text: format!("the queue was full; {dropped} callbacks were dropped"),
        }));
    }

    fn announce(&self) {
        if self.options.mode != Mode::Polled {
            return;
        }
        self.wake.set();
        if let Some(wakeup) = self.options.wakeup {
            self.guarded(Callback::Bare, || {
                // SAFETY: the host's function, with the argument that it asked for.
                unsafe { wakeup(self.options.user_data) }
            });
        }
    }

    /// Calls the host, unless it has freed the gateway.
    fn guarded(&self, callback: Callback, call: impl FnOnce()) {
        // Recursive: a callback may call functions that call back.
        let closed = self.closed.read_recursive();
        if *closed {
            return;
        }
        let _inside = InCallback::enter(self.id(), callback);
        call();
    }

    fn call(&self, event: Event) {
        let callback = match event {
            Event::Log(_) => Callback::Bare,
            _ => Callback::Other,
        };
        self.guarded(callback, || match event {
            Event::Publish(publish) => self.call_publish(publish),
            Event::Subscribe { filter, qos } => {
                if let Some(subscribe) = self.options.subscribe {
                    let filter = c_text(filter);
                    // SAFETY: the host's function; the text outlives the call.
                    unsafe { subscribe(self.options.user_data, filter.as_ptr(), qos.into()) };
                }
            }
            Event::Unsubscribe { filter } => {
                if let Some(unsubscribe) = self.options.unsubscribe {
                    let filter = c_text(filter);
                    // SAFETY: the host's function; the text outlives the call.
                    unsafe { unsubscribe(self.options.user_data, filter.as_ptr()) };
                }
            }
            Event::Log(line) => {
                if let Some(log) = self.options.log {
                    let (target, text) = (c_text(line.target), c_text(line.text));
                    let user_data = self.options.user_data;
                    // SAFETY: the host's function; the texts outlive the call.
                    unsafe { log(user_data, line.level, target.as_ptr(), text.as_ptr()) };
                }
            }
            Event::Authorize(request) => self.call_authorize(request),
            Event::PskLookup(request) => self.call_psk_lookup(request),
            Event::Durable { number, status } => {
                if let Some(durable) = self.options.durable {
                    // SAFETY: the host's function, with numbers.
                    unsafe { durable(self.options.user_data, number, status) };
                }
            }
            Event::Device(json) => {
                if let Some(device_event) = self.options.device_event {
                    let json = c_text(json);
                    // SAFETY: the host's function; the text outlives the call.
                    unsafe { device_event(self.options.user_data, json.as_ptr()) };
                }
            }
        });
    }

    fn call_authorize(&self, request: AuthorizationRequest) {
        let Some(authorize) = self.options.authorize else {
            return;
        };
        let known = &request.registration;
        let endpoint = c_text(&*known.endpoint);
        let peer = c_text(known.peer.to_string());
        let identity = known.identity.as_deref().map(c_text);
        let json = c_text(serde_json::to_string(known).unwrap_or_default());
        let registration = CRegistration {
            size: size_of::<CRegistration>(),
            id: self.authorizations.add(request),
            endpoint: endpoint.as_ptr(),
            peer: peer.as_ptr(),
            identity: identity.as_ref().map_or(ptr::null(), |it| it.as_ptr()),
            json: json.as_ptr(),
        };
        // SAFETY: the host's function; the struct and what it points to outlive the call.
        unsafe { authorize(self.options.user_data, &raw const registration) };
    }

    fn call_psk_lookup(&self, request: PskRequest) {
        let Some(psk_lookup) = self.options.psk_lookup else {
            return;
        };
        let identity = request.identity.clone();
        let peer = c_text(request.peer.to_string());
        let listener = c_text(&*request.listener);
        let request = CPskRequest {
            size: size_of::<CPskRequest>(),
            id: self.psk_requests.add(request),
            identity: identity.as_ptr(),
            identity_length: identity.len(),
            peer: peer.as_ptr(),
            listener: listener.as_ptr(),
        };
        // SAFETY: the host's function; the struct and what it points to outlive the call.
        unsafe { psk_lookup(self.options.user_data, &raw const request) };
    }

    fn call_publish(&self, publish: Publish) {
        let Some(callback) = self.options.publish else {
            return;
        };
        let endpoint = c_text(&*publish.endpoint);
        let topic = c_text(publish.topic);
        let correlation = publish.correlation.as_deref();
        let publication = Publication {
            size: size_of::<Publication>(),
            kind: kind_of(publish.kind),
            qos: publish.qos.into(),
            endpoint: endpoint.as_ptr(),
            topic: topic.as_ptr(),
            topic_length: topic.as_bytes().len(),
            payload: publish.payload.as_ptr(),
            payload_length: publish.payload.len(),
            correlation_data: correlation.map_or(ptr::null(), <[u8]>::as_ptr),
            correlation_data_length: correlation.map_or(0, <[u8]>::len),
        };
        // SAFETY: the host's function; the struct and what it points to outlive the call.
        let refused = unsafe { callback(self.options.user_data, &raw const publication) };
        if refused != 0 {
            self.publish_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Host for Callbacks {
    fn name(&self) -> &'static str {
        "c"
    }

    fn attach(&self, memory: &Arc<Memory>) {
        self.queue.lock().attach(memory);
    }

    fn publish(&self, batch: &mut Vec<Publish>) {
        for publish in batch.drain(..) {
            self.emit(Event::Publish(publish));
        }
    }

    fn subscribe(&self, filter: &str, qos: u8) {
        let filter = filter.to_owned();
        self.emit(Event::Subscribe { filter, qos });
    }

    fn unsubscribe(&self, filter: &str) {
        let filter = filter.to_owned();
        self.emit(Event::Unsubscribe { filter });
    }

    fn subscriptions(&self) -> Subscriptions {
        self.options.subscriptions
    }

    fn authorizes(&self) -> bool {
        self.options.authorize.is_some()
    }

    fn authorize(&self, request: AuthorizationRequest) {
        self.emit(Event::Authorize(request));
    }

    fn provides_psk(&self) -> bool {
        self.options.psk_lookup.is_some()
    }

    fn psk_lookup(&self, request: PskRequest) {
        self.emit(Event::PskLookup(request));
    }

    fn watches_devices(&self) -> bool {
        self.options.device_event.is_some()
    }

    fn device_events(&self, batch: &mut Vec<DeviceEvent>) {
        for event in batch.drain(..) {
            // Strings and numbers always become JSON.
            let json = serde_json::to_string(&event).unwrap_or_default();
            self.emit(Event::Device(json));
        }
    }
}

fn kind_of(kind: PublishKind) -> Kind {
    match kind {
        PublishKind::Register => Kind::Register,
        PublishKind::Update => Kind::Update,
        PublishKind::Response => Kind::Response,
        PublishKind::Notify => Kind::Notify,
        PublishKind::Send => Kind::Send,
        PublishKind::Series => Kind::Series,
        // Not asked for, see `Host::takes_states`.
        PublishKind::State => Kind::Register,
    }
}
