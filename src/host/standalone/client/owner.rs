//! The thread that says which devices are this gateway's own, and gives and takes those that go from
//! one gateway to another. [`Ownership`] decides; here are its queue, its clock and its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::common::{self, Commands};
use crate::config::Config;
use crate::host::ownership::{Action, Ownership};
use crate::host::{DeviceEvent, Publish, PublishKind};
use crate::runtime::{block_signals, monotonic};
use crate::telemetry::{Counters, limited};

/// Events that wait at most.
const MAX_WAITING: usize = 1 << 18;

/// Bytes of messages among them.
const MAX_BYTES: usize = 64 << 20;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(500);

/// The way to the thread.
pub(super) struct Owner {
    prefix: String,
    retained: String,
    filters: [String; 2],
    queue: SyncSender<Event>,
    /// Bytes of messages that wait.
    waiting: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    /// Taken when the thread starts.
    work: Mutex<Option<(Ownership, Receiver<Event>)>>,
}

enum Event {
    Registered {
        endpoint: Box<str>,
        /// Milliseconds since 1970.
        at: u64,
        lifetime: u64,
    },
    Gone {
        endpoint: Box<str>,
    },
    Heard {
        topic: Box<str>,
        payload: Box<[u8]>,
    },
    Connected {
        kept: bool,
    },
    Stop,
}

impl Owner {
    /// `None` unless `mqtt.ownership_topic` asks for it.
    pub(super) fn new(config: &Config, own: &str, counters: &Arc<Counters>) -> Option<Self> {
        let topic = config.mqtt.ownership_topic.as_ref()?;
        let max_packet = usize::try_from(common::max_packet_size(config)).unwrap_or(usize::MAX);
        let ownership = Ownership::new(own, topic, max_packet);
        let (queue, events) = sync_channel(MAX_WAITING);
        Some(Self {
            prefix: format!("{topic}/"),
            retained: ownership.retained().to_owned(),
            filters: ownership.filters(),
            queue,
            waiting: Arc::default(),
            counters: Arc::clone(counters),
            work: Mutex::new(Some((ownership, events))),
        })
    }

    /// Filters of the messages for [`Owner::heard`].
    pub(super) fn filters(&self) -> [String; 2] {
        self.filters.clone()
    }

    /// Whether a message is for [`Owner::heard`], and not a command.
    pub(super) fn concerns(&self, topic: &str) -> bool {
        topic.starts_with(&self.prefix)
    }

    /// Whether the broker is to keep a message of ours.
    pub(super) fn retains(&self, topic: &str) -> bool {
        topic.starts_with(&self.retained)
    }

    /// A message came.
    pub(super) fn heard(&self, topic: &str, payload: &[u8]) {
        let size = topic.len().saturating_add(payload.len());
        if self.waiting.fetch_add(size, Ordering::AcqRel) > MAX_BYTES {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            return self.dropped();
        }
        self.put(Event::Heard {
            topic: topic.into(),
            payload: payload.into(),
        });
    }

    /// Devices came and went.
    pub(super) fn devices(&self, batch: &mut Vec<DeviceEvent>) {
        for event in batch.drain(..) {
            match event {
                DeviceEvent::Registered(info) => self.put(Event::Registered {
                    endpoint: info.endpoint.into(),
                    at: info.registered_at,
                    lifetime: info.lifetime,
                }),
                DeviceEvent::Gone { endpoint, .. } => self.put(Event::Gone {
                    endpoint: endpoint.into(),
                }),
                DeviceEvent::Updated(_) => {}
            }
        }
    }

    /// A connection stands, with the session of before or without.
    pub(super) fn connected(&self, kept: bool) {
        self.put(Event::Connected { kept });
    }

    /// Starts the thread, once. What is to be published goes to `out`.
    pub(super) fn start(&self, commands: Arc<dyn Commands>, out: Box<dyn Fn(Publish) + Send>) {
        let Some((ownership, events)) = self.work.lock().take() else {
            return;
        };
        let worker = Worker {
            ownership,
            commands,
            out,
            waiting: Arc::clone(&self.waiting),
            counters: Arc::clone(&self.counters),
        };
        let thread = thread::Builder::new().name("lwm2m-owner".to_owned());
        if let Err(error) = thread.spawn(move || worker.run(&events)) {
            tracing::error!(%error, "cannot start the thread for mqtt.ownership_topic");
        }
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.put(Event::Stop);
    }

    /// Never waits.
    fn put(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.dropped();
        }
    }

    fn dropped(&self) {
        self.counters.ownership_dropped.add_shared(1);
    }
}

struct Worker {
    ownership: Ownership,
    commands: Arc<dyn Commands>,
    /// Takes what is to be published.
    out: Box<dyn Fn(Publish) + Send>,
    waiting: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

impl Worker {
    fn run(mut self, events: &Receiver<Event>) {
        block_signals();
        let mut last = monotonic();
        loop {
            let event = match events.recv_timeout(TICK) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
            };
            if let Some(event) = event {
                let actions = self.event(event);
                self.act(actions);
            }
            let now = monotonic();
            if now - last >= TICK {
                last = now;
                let actions = self.ownership.tick(now);
                self.act(actions);
            }
        }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Registered {
                endpoint,
                at,
                lifetime,
            } => {
                self.counters.ownership_claimed.add_shared(1);
                self.ownership
                    .registered(monotonic(), &endpoint, at, lifetime)
            }
            Event::Gone { endpoint } => self.ownership.gone(&endpoint),
            Event::Heard { topic, payload } => {
                let size = topic.len().saturating_add(payload.len());
                self.waiting.fetch_sub(size, Ordering::AcqRel);
                self.ownership.heard(monotonic(), &topic, &payload)
            }
            Event::Connected { kept } => self.ownership.connected(kept),
            Event::Stop => Vec::new(),
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        let counters = Arc::clone(&self.counters);
        for action in actions {
            match action {
                Action::Publish {
                    endpoint,
                    topic,
                    payload,
                } => self.publish(endpoint, topic, payload),
                Action::Export {
                    endpoint,
                    to,
                    epoch,
                } => {
                    let session = self.commands.export(&endpoint);
                    if session.is_some() {
                        counters.ownership_given.add_shared(1);
                        tracing::info!(%endpoint, %to, "the device has moved to another gateway");
                    }
                    let session = session.unwrap_or_default();
                    let parts = self.ownership.exported(&endpoint, &to, epoch, session);
                    self.act(parts);
                }
                Action::Import { endpoint, session } => {
                    if self.commands.import(&endpoint, session) {
                        counters.ownership_taken.add_shared(1);
                    }
                }
                Action::GoOnWithout { endpoint } => {
                    counters.ownership_without.add_shared(1);
                    limited!(
                        WARN,
                        counters,
                        monotonic(),
                        OwnershipWithout,
                        %endpoint,
                        "the previous gateway of this device has not handed it over: its observations and waiting commands are missing"
                    );
                }
                Action::Refuse { topic, reason } => {
                    counters.ownership_refused.add_shared(1);
                    limited!(
                        WARN,
                        counters,
                        monotonic(),
                        OwnershipRefused,
                        %topic,
                        reason,
                        "message below mqtt.ownership_topic refused"
                    );
                }
            }
        }
    }

    fn publish(&self, endpoint: Arc<str>, topic: String, payload: Vec<u8>) {
        (self.out)(Publish {
            kind: PublishKind::Register,
            endpoint,
            topic,
            payload,
            qos: 1,
            correlation: None,
        });
    }
}
