//! Where shards leave what the API is to know. Nothing here waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::answers::Outcome;
use super::events::{self, Events, Kind};
use super::trace::{self, Trace};
use super::views::Device;
use crate::engine::DeviceEvent;
use crate::mqtt::{Publish, PublishKind};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// Who waits for the answer to which command. As many as there are connections at most.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
    /// There is an API.
    serving: AtomicBool,
    pub(super) events: Arc<Events>,
    /// Connections closed for want of room.
    pub(super) closed: AtomicU64,
}

/// Somebody who waits for an answer; until it is dropped.
pub(super) struct Waiter {
    hub: Arc<Hub>,
    pub(super) number: u64,
    pub(super) outcome: oneshot::Receiver<Outcome>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.hub.waiting.lock().remove(&self.number);
    }
}

/// What tells a final answer from the news that it will come separately.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "msgType", borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

impl Hub {
    /// There is an API from now on.
    pub(super) fn begin(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    /// Whether anybody could ask anything.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Begins to wait for the answer to a command. The number is a random one: a command of an
    /// earlier start may still be on its way.
    pub(super) fn wait(self: &Arc<Self>) -> Option<Waiter> {
        let mut number = [0; 8];
        getrandom::fill(&mut number).ok()?;
        let number = u64::from_le_bytes(number);
        let (to, outcome) = oneshot::channel();
        self.waiting.lock().insert(number, to);
        Some(Waiter {
            hub: self.clone(),
            number,
            outcome,
        })
    }

    /// Whether anybody listens to anything.
    pub(crate) fn listens(&self) -> bool {
        self.events.wants(u16::MAX)
    }

    /// Whether anybody wants to know of CoAP messages.
    pub(crate) fn traces(&self) -> bool {
        self.events.wants(Kind::Coap.bit())
    }

    /// Events that nobody took in time.
    pub(crate) fn lost_events(&self) -> u64 {
        self.events.lost.load(Ordering::Relaxed)
    }

    /// Connections closed for want of room.
    pub(crate) fn connections_closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// A message for the broker.
    pub(crate) fn published(&self, at: u64, publish: &Publish) {
        let kind = match publish.kind {
            PublishKind::Notify => Kind::Notify,
            PublishKind::Send => Kind::Send,
            PublishKind::Response => Kind::Answer,
            PublishKind::Register
            | PublishKind::Update
            | PublishKind::Series
            | PublishKind::State => return,
        };
        self.events.tell(kind, &publish.endpoint, || {
            let data = events::open(at, &publish.endpoint);
            with(data, "message", &publish.payload)
        });
    }

    /// A device came, changed or went.
    pub(crate) fn device_event(&self, at: u64, event: &DeviceEvent) {
        let (kind, info) = match event {
            DeviceEvent::Registered(info) => (Kind::Registered, info),
            DeviceEvent::Updated(info) => (Kind::Updated, info),
            DeviceEvent::Gone { endpoint, reason } => {
                self.events.forget(endpoint);
                return self.events.tell(Kind::Gone, endpoint, || {
                    let reason = serde_json::to_string(reason).unwrap_or_default();
                    with(events::open(at, endpoint), "reason", reason.as_bytes())
                });
            }
        };
        self.events.tell(kind, &info.endpoint, || {
            let device = serde_json::to_vec(&Device::awake(at, info.clone()));
            let device = device.unwrap_or_default();
            with(events::open(at, &info.endpoint), "device", &device)
        });
    }

    /// A device in queue mode has said something and is awake for so long.
    pub(crate) fn woke(&self, at: u64, endpoint: &Arc<str>, until: u64) {
        if self.events.wants(Kind::Awake.bit() | Kind::Asleep.bit()) {
            self.events.woke(at, endpoint, until);
        }
    }

    /// A CoAP message of a device.
    pub(crate) fn traced(&self, at: u64, endpoint: &str, trace: Trace<'_>) {
        self.events.tell(Kind::Coap, endpoint, || {
            trace::describe(at, endpoint, trace)
        });
    }

    /// An answer to a command of the API.
    pub(crate) fn answer(&self, at: u64, number: u64, publish: Publish) {
        self.published(at, &publish);
        let head = serde_json::from_slice::<Head<'_>>(&publish.payload);
        let is_ack = head.is_ok_and(|head| head.kind.as_deref() == Some("ack"));
        if is_ack {
            return;
        }
        self.tell(number, Outcome::Answer(publish.payload));
    }

    /// A command of the API waits for a device that sleeps.
    pub(crate) fn queued(&self, number: u64) {
        self.tell(number, Outcome::Queued);
    }

    fn tell(&self, number: u64, outcome: Outcome) {
        let waiter = self.waiting.lock().remove(&number);
        if let Some(waiter) = waiter {
            // Whoever waited may have given up.
            let _ = waiter.send(outcome);
        }
    }
}

/// An event with one member more, and its end.
fn with(mut data: Vec<u8>, name: &str, value: &[u8]) -> Vec<u8> {
    data.extend_from_slice(b",\"");
    data.extend_from_slice(name.as_bytes());
    data.extend_from_slice(b"\":");
    data.extend_from_slice(value);
    data.push(b'}');
    data
}
