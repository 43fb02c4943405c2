//! One loaded plugin: its callbacks, all on the broker's main thread.

#![allow(unsafe_code)] // C ABI

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io::Write as _;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::dispatcher::{Dispatch, with_default};
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};

use super::abi::{Broker, Level, MessageEvent, OnThread, Outgoing, event, status};
use super::boundary::{caught, list};
use super::log::BrokerLog;
use super::options::{self, Options};
use super::packet::{Lost, Packets, Shown};
use super::properties::Properties;
use super::shared::Shared;
use super::sys::SysTree;
use super::wake::{Bell, Tuner};

use crate::config::Config;
use crate::host::{Message, Publish, ReplyTo};
use crate::runtime::{Gateway, block_signals};
use crate::telemetry::EventLog;

/// Time for the gateway to answer what waits when the broker ends.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// The first tick comes within a turn of the broker's loop.
const FIRST_TICK: Duration = Duration::from_secs(2);

const NO_TICK: &str = "lwm2m: this broker has sent no tick event yet, so the plugin cannot publish messages of devices: set per_listener_settings to false, or use Mosquitto 2.0.15 or newer";

/// The broker does other things between the start of its plugins and its first turn, such as
/// looking up the addresses of its bridges.
const LATE_TICK: &str =
    "lwm2m: the first tick event of the broker has arrived late; the plugin can publish now";

const EVENTS: [(c_int, super::abi::Callback); 3] = [
    (event::TICK, on_tick),
    (event::MESSAGE, on_message),
    (event::RELOAD, on_reload),
];

/// See the module.
pub(super) struct Plugin {
    broker: Arc<OnThread<Broker>>,
    identifier: *mut c_void,
    options: Options,
    shared: Arc<Shared>,
    dispatch: Dispatch,
    gateway: Gateway,
    main: RefCell<Main>,
    /// Where it is asked for.
    packets: Option<Packets>,
    properties: Option<Properties>,
    ticks: Arc<Ticks>,
}

/// What only the callbacks touch.
struct Main {
    tuner: Tuner,
    sys: SysTree,
    messages: Vec<Publish>,
    lines: Vec<(Level, String)>,
    watch: Option<thread::JoinHandle<()>>,
}

/// Whether the broker sends ticks; watched by a thread of its own.
#[derive(Default)]
struct Ticks {
    seen: AtomicBool,
    /// None came in time.
    missed: AtomicBool,
    /// The broker's log says so.
    told: AtomicBool,
    ended: AtomicBool,
}

impl Plugin {
    /// Reads the configuration and starts the gateway. What is wrong stands in the broker's log.
    pub(super) fn start(identifier: *mut c_void, options: Options) -> Result<Box<Self>, c_int> {
        let broker = Broker::resolve().map_err(|error| {
            // Without its functions there is no log of the broker.
            let _ = writeln!(std::io::stderr(), "lwm2m: {error}");
            status::UNKNOWN
        })?;
        broker.introduce(identifier);
        let refuse = |line: &str| broker.log(Level::Error, &format!("lwm2m: {line}"));
        let (config, warnings) = options.load().map_err(|mistakes| {
            mistakes.iter().for_each(|mistake| refuse(mistake));
            refuse(&format!(
                "the gateway cannot start: {} in its configuration",
                count(mistakes.len(), "mistake")
            ));
            status::INVAL
        })?;
        for warning in warnings {
            broker.log(Level::Warning, &format!("lwm2m: {warning}"));
        }
        let bell = Bell::new().map(Arc::new).map_err(|error| {
            refuse(&format!("the gateway cannot start: eventfd: {error}"));
            status::UNKNOWN
        })?;
        let shared = Arc::new(Shared {
            outbox: Default::default(),
            bell: Arc::clone(&bell),
        });
        let level = options::level(&config.log.level).unwrap_or(LevelFilter::INFO);
        let broker = Arc::new(OnThread::new(broker));
        let dispatch = Dispatch::new(EventLog(BrokerLog {
            broker: Arc::clone(&broker),
            shared: Arc::clone(&shared),
            level,
        }));
        let gateway = with_default(&dispatch, || start_gateway(config, &options, &shared))?;
        let ticks = Arc::new(Ticks::default());
        let main = RefCell::new(Main {
            tuner: Tuner::new(options.wakeup, bell),
            sys: SysTree::new(options.sys_interval),
            messages: Vec::new(),
            lines: Vec::new(),
            watch: watch(&ticks, &shared.bell, options.sys_interval),
        });
        let packets = options.reads_packets.then(Packets::new);
        Ok(Box::new(Self {
            broker,
            identifier,
            options,
            shared,
            dispatch,
            gateway,
            main,
            packets,
            properties: Properties::resolve(),
            ticks,
        }))
    }

    /// Asks for the broker's events.
    ///
    /// # Safety
    /// `this` is what [`Plugin::start`] made, and lives until [`Plugin::stop`].
    pub(super) unsafe fn register(this: *mut Self) -> Result<(), c_int> {
        // SAFETY: the caller's promise.
        let plugin = unsafe { &*this };
        let Some(broker) = plugin.broker.get() else {
            return Err(status::UNKNOWN);
        };
        for (event, callback) in EVENTS {
            // SAFETY: the callbacks expect a plugin that lives, as the caller promises.
            let result =
                unsafe { broker.register(plugin.identifier, event, callback, this.cast()) };
            if result != status::SUCCESS {
                let why = match result {
                    status::ALREADY_EXISTS => ": the plugin is already loaded",
                    _ => "",
                };
                let line =
                    format!("lwm2m: the broker refuses to register event {event} ({result}){why}");
                broker.log(Level::Error, &line);
                return Err(result);
            }
        }
        Ok(())
    }

    /// Stops the gateway and gives everything back.
    pub(super) fn stop(self: Box<Self>) {
        if let Some(broker) = self.broker.get() {
            for (event, callback) in EVENTS {
                broker.unregister(self.identifier, event, callback);
            }
        }
        with_default(&self.dispatch, || {
            self.gateway.stop(STOP_DEADLINE);
            info!("stopped");
        });
        let mut main = self.main.borrow_mut();
        main.tuner.end();
        self.ticks.ended.store(true, Ordering::Release);
        if let Some(watch) = main.watch.take() {
            watch.thread().unpark();
            // It does nothing that could panic.
            let _ = watch.join();
        }
        // The broker has left its loop: it delivers nothing any more, but it logs.
        let Main {
            messages, lines, ..
        } = &mut *main;
        self.shared.outbox.take(messages, lines);
        if let Some(broker) = self.broker.get() {
            lines
                .drain(..)
                .for_each(|(level, line)| broker.log(level, &line));
            if !messages.is_empty() {
                let lost = count(messages.len(), "message");
                let why = "the broker is shutting down";
                broker.log(
                    Level::Warning,
                    &format!("lwm2m: {lost} not delivered: {why}"),
                );
            }
        }
    }

    fn tick(&self) {
        let (Some(broker), Ok(mut main)) = (self.broker.get(), self.main.try_borrow_mut()) else {
            return;
        };
        if !self.ticks.seen.swap(true, Ordering::AcqRel)
            && self.ticks.missed.swap(false, Ordering::AcqRel)
        {
            broker.log(Level::Info, LATE_TICK);
        }
        let Main {
            tuner,
            sys,
            messages,
            lines,
            ..
        } = &mut *main;
        let now = Instant::now();
        self.shared.bell.answer();
        self.shared.outbox.take(messages, lines);
        for (level, line) in lines.drain(..) {
            broker.log(level, &line);
        }
        let mut published = !messages.is_empty();
        for message in messages.drain(..) {
            let functions = self.properties.as_ref();
            let correlation = message.correlation.as_deref();
            let outgoing = Outgoing {
                payload: &message.payload,
                qos: message.qos,
                retain: message.is_retained(),
                properties: match (functions, correlation) {
                    (Some(functions), Some(data)) => functions.list(data),
                    _ => ptr::null_mut(),
                },
            };
            self.publish(broker, message.topic, &outgoing);
        }
        if sys.is_due(now) {
            for (topic, value) in sys.changed(&self.statistics()) {
                published = true;
                let outgoing = Outgoing {
                    payload: value.as_bytes(),
                    qos: 0,
                    retain: true,
                    properties: ptr::null_mut(),
                };
                self.publish(broker, topic, &outgoing);
            }
        }
        if published && broker.publishes_late() {
            self.shared.bell.ring();
        }
        with_default(&self.dispatch, || tuner.tick(now));
    }

    fn publish(&self, broker: &Broker, topic: String, message: &Outgoing<'_>) {
        // SAFETY: what properties there are were made by the broker just now.
        let taken =
            CString::new(topic).is_ok_and(|topic| unsafe { broker.publish(&topic, message) });
        if !taken {
            if let Some(functions) = &self.properties {
                functions.free(message.properties);
            }
            self.shared.outbox.counters.publish_dropped.add_shared(1);
        }
    }

    fn statistics(&self) -> std::collections::BTreeMap<&'static str, u64> {
        let mut statistics = self.gateway.statistics().0;
        for (name, count) in self.shared.outbox.counters.snapshot() {
            *statistics.entry(name).or_default() += count;
        }
        statistics
    }

    fn message(&self, event: &MessageEvent) {
        if self.ticks.missed.load(Ordering::Acquire)
            && !self.ticks.seen.load(Ordering::Acquire)
            && !self.ticks.told.swap(true, Ordering::AcqRel)
            && let Some(broker) = self.broker.get()
        {
            broker.log(Level::Error, NO_TICK);
        }
        if event.topic.is_null() {
            return;
        }
        // SAFETY: the broker's topic is a string that lives through the event.
        let Ok(topic) = unsafe { CStr::from_ptr(event.topic) }.to_str() else {
            return;
        };
        if !self.gateway.is_command(topic) {
            return;
        }
        let len = c_int::try_from(event.payload_len).unwrap_or(0);
        // SAFETY: so many bytes of payload live through the event; NULL when there are none.
        let payload = unsafe { list(event.payload, len) };
        with_default(&self.dispatch, || {
            self.gateway.deliver(Message {
                topic: topic.to_owned(),
                payload: payload.to_vec(),
                expiry: self.expiry(event, topic, payload),
                reply: self.reply_to(event),
            });
        });
    }

    fn reply_to(&self, event: &MessageEvent) -> Option<Box<ReplyTo>> {
        let functions = self.properties.as_ref()?;
        if event.properties.is_null() {
            return None;
        }
        // SAFETY: of the event that is being handled.
        let reply = unsafe { functions.reply_to(event.properties) };
        reply.map(Box::new)
    }

    /// The Message-Expiry-Interval, where it is asked for and the broker lets it be found.
    fn expiry(&self, event: &MessageEvent, topic: &str, payload: &[u8]) -> Option<u32> {
        let packets = self.packets.as_ref()?;
        let broker = self.broker.get()?;
        // SAFETY: the client of the event that is being handled.
        if !unsafe { broker.speaks_mqtt5(event.client) } {
            return None;
        }
        let message = Shown {
            topic: topic.as_bytes(),
            payload,
            qos: event.qos,
        };
        packets
            .expiry(event.client as u64, message)
            .unwrap_or_else(|lost| {
                if lost == Lost::Forever {
                    warn!(
                        "this broker hides the Message-Expiry-Interval of commands: \
                         only the ttl in a command is used"
                    );
                }
                None
            })
    }

    fn reload(&self) {
        with_default(&self.dispatch, || {
            let (config, warnings) = match self.options.load() {
                Ok(loaded) => loaded,
                Err(mistakes) => {
                    for mistake in mistakes {
                        error!("configuration not reloaded: {mistake}");
                    }
                    return;
                }
            };
            for warning in warnings {
                warn!("{warning}");
            }
            if let Err(error) = self.gateway.reload(config) {
                let error = self.options.named(&error.to_string());
                error!("configuration not reloaded: {error}");
            }
        });
    }
}

fn start_gateway(
    config: Config,
    options: &Options,
    shared: &Arc<Shared>,
) -> Result<Gateway, c_int> {
    let host: Arc<Shared> = Arc::clone(shared);
    let gateway = Gateway::start(config, host).map_err(|error| {
        error!("{}", options.named(&error.to_string()));
        error!("the gateway cannot start");
        status::UNKNOWN
    })?;
    for (name, address) in gateway.listeners() {
        let (kind, name) = name.split_once(':').unwrap_or(("udp", &name));
        info!("listening {kind}={address} name={name}");
    }
    Ok(gateway)
}

/// Notices when no tick comes in time. The log may be written on the broker's thread only, which
/// then calls us for messages at most; so the line goes to standard error too. Afterwards it asks
/// for a tick each `interval`, since an idle broker need not tick for long; zero: never.
fn watch(
    ticks: &Arc<Ticks>,
    bell: &Arc<Bell>,
    interval: Duration,
) -> Option<thread::JoinHandle<()>> {
    let (ticks, bell) = (Arc::clone(ticks), Arc::clone(bell));
    let watch = move || {
        block_signals();
        if !ticks.wait(FIRST_TICK) {
            return;
        }
        if !ticks.seen.load(Ordering::Acquire) {
            ticks.missed.store(true, Ordering::Release);
            let _ = writeln!(std::io::stderr(), "{NO_TICK}");
        }
        while !interval.is_zero() && ticks.wait(interval) {
            bell.ring();
        }
    };
    let thread = thread::Builder::new().name("lwm2m-watch".to_owned());
    thread.spawn(watch).ok()
}

impl Ticks {
    /// Waits for `time`; false when the end came before.
    fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.ended.load(Ordering::Acquire) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::park_timeout(left);
        }
        false
    }
}

fn count(number: usize, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    }
}

/// # Safety
/// To be called by Mosquitto with a plugin that lives.
unsafe extern "C" fn on_tick(_: c_int, _: *mut c_void, plugin: *mut c_void) -> c_int {
    caught("tick", || {
        // SAFETY: the broker's promise.
        unsafe { &*plugin.cast::<Plugin>() }.tick();
        status::SUCCESS
    });
    status::SUCCESS
}

/// # Safety
/// As [`on_tick`], with a `mosquitto_evt_message`.
unsafe extern "C" fn on_message(_: c_int, event: *mut c_void, plugin: *mut c_void) -> c_int {
    caught("message", || {
        // SAFETY: the broker's promise.
        let (plugin, event) = unsafe { (&*plugin.cast::<Plugin>(), &*event.cast()) };
        plugin.message(event);
        status::SUCCESS
    });
    // Subscribers get the message as well.
    status::SUCCESS
}

/// # Safety
/// As [`on_tick`].
unsafe extern "C" fn on_reload(_: c_int, _: *mut c_void, plugin: *mut c_void) -> c_int {
    caught("reload", || {
        // SAFETY: the broker's promise.
        unsafe { &*plugin.cast::<Plugin>() }.reload();
        status::SUCCESS
    });
    // Anything else would end Mosquitto 2.1, and keep other plugins of 2.0 from being told.
    status::SUCCESS
}
