//! Which sessions of clients outlast their connection, and what they still have to get.
//!
//! Each message for such a session is noted before the broker gets it, with a number, and is forgotten when
//! the client has acknowledged it or the broker drops it. With a store what is still there at the next commit
//! goes to the disk (`session_file.rs`, by `session_keeper.rs`): the data path waits for a lock at most. What
//! the broker library loses when a connection breaks, or is taken over, is put in again from here.
//!
//! The number travels in `delay_interval` of the message, which the broker library uses for nothing
//! without its feature `delayed`.

mod moving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rmqtt::inflight::OutInflightMessage;
use rmqtt::session::OfflineInfo;
use rmqtt::types::{ClientId, From as Origin, Id, Publish, QoS, Reason, Subscriptions, Tx};

pub(super) use self::moving::Came;
use self::moving::{Moving, complete, resend, send};
use super::super::outbox;
use super::session_file::{Batch, Flight, Record};
use crate::runtime::monotonic;
use crate::telemetry::{Counters, limited};

/// How long a client may take from the end of its old connection to the new one.
const MOVING: Duration = Duration::from_secs(60);

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Whether they outlive the process.
    pub(super) on_disk: bool,
    pub(super) sessions: usize,
    /// Of one session.
    pub(super) messages: usize,
    /// Of all messages of all sessions.
    pub(super) bytes: usize,
}

/// See the module.
pub(super) struct Sessions {
    inner: Mutex<Inner>,
    /// How many there are, for those who ask often.
    count: AtomicUsize,
    bounds: Bounds,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Inner {
    tracked: HashMap<ClientId, Tracked>,
    last_number: u64,
    bytes: usize,
    batch: Batch,
}

/// A session that outlasts its connection.
struct Tracked {
    number: u64,
    id: Id,
    /// The disk has heard of it.
    is_written: bool,
    is_connected: bool,
    next: u64,
    /// What it still has to get.
    messages: BTreeMap<u64, Noted>,
    /// How many of them were sent.
    in_flight: usize,
    has_changed: bool,
    has_moved: bool,
    /// Not while it has a place in the broker.
    moving: Option<Moving>,
}

/// A message on its way to a client.
struct Noted {
    bytes: usize,
    /// It shares its payload with what the broker has.
    message: (Origin, Publish),
    /// It has been handed to the disk.
    is_written: bool,
    flight: Option<Flight>,
}

/// A session of which the disk does not know all.
pub(super) struct Look {
    pub(super) client: ClientId,
    pub(super) has_changed: bool,
}

impl Sessions {
    pub(super) fn new(bounds: Bounds, counters: Arc<Counters>) -> Self {
        Self {
            inner: Mutex::default(),
            count: AtomicUsize::new(0),
            bounds,
            counters,
        }
    }

    /// Whether there is no such session.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether the session of this client is one.
    pub(super) fn has(&self, client: &ClientId) -> bool {
        self.inner.lock().tracked.contains_key(client)
    }

    /// A client has connected; `lasts`: its session outlasts the connection.
    pub(super) fn connected(&self, id: &Id, lasts: bool, is_resumed: bool) {
        let mut inner = self.inner.lock();
        let keep = lasts && is_resumed && inner.tracked.contains_key(&id.client_id);
        if !keep {
            inner.forget(&id.client_id);
        }
        if lasts && !keep {
            let count = inner.tracked.len();
            if count >= self.bounds.sessions {
                drop(inner);
                return self.refuse(&id.client_id);
            }
            let number = inner.last_number.saturating_add(1);
            inner.last_number = number;
            let client = id.client_id.clone();
            inner.tracked.insert(client, Tracked::new(number, id));
        }
        if let Some(tracked) = inner.tracked.get_mut(&id.client_id) {
            tracked.id = id.clone();
            tracked.is_connected = true;
            tracked.has_changed = true;
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
    }

    /// A session of before is there again, without a connection.
    pub(super) fn restored(&self, number: u64, id: &Id, next: u64) {
        let mut inner = self.inner.lock();
        inner.last_number = inner.last_number.max(number);
        let mut tracked = Tracked::new(number, id);
        (tracked.is_written, tracked.next) = (true, next);
        inner.tracked.insert(id.client_id.clone(), tracked);
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
    }

    /// A message of a session that is there again; how it is marked from now on. `None`: no room.
    pub(super) fn restored_message(
        &self,
        client: &ClientId,
        number: u64,
        (origin, publish): (&Origin, &Publish),
        flight: Option<Flight>,
    ) -> Option<u32> {
        let mut inner = self.inner.lock();
        let bytes = size(publish);
        let tracked = inner.tracked.get(client)?;
        let session = tracked.number;
        if inner.bytes.saturating_add(bytes) > self.bounds.bytes
            || tracked.messages.len() >= self.bounds.messages
        {
            inner.batch.removed.push((session, number));
            return None;
        }
        inner.bytes = inner.bytes.saturating_add(bytes);
        let mut publish = publish.clone();
        publish.delay_interval = Some(mark(number));
        let noted = Noted {
            bytes,
            message: (origin.clone(), publish),
            is_written: true,
            flight,
        };
        let tracked = inner.tracked.get_mut(client)?;
        tracked.in_flight = tracked.in_flight.saturating_add(flight.is_some().into());
        tracked.messages.insert(number, noted);
        Some(mark(number))
    }

    /// A session of before that has ended meanwhile.
    pub(super) fn gone(&self, number: u64) {
        let mut inner = self.inner.lock();
        inner.last_number = inner.last_number.max(number);
        inner.batch.sessions.insert(number, None);
    }

    /// Something of a session has changed that is not a message.
    pub(super) fn changed(&self, id: &Id) {
        if let Some(tracked) = self.inner.lock().tracked.get_mut(&id.client_id) {
            tracked.has_changed = true;
        }
    }

    /// A connection has ended.
    pub(super) fn disconnected(&self, id: &Id) {
        let mut inner = self.inner.lock();
        let tracked = inner.tracked.get_mut(&id.client_id);
        if let Some(tracked) = tracked.filter(|tracked| tracked.id == *id) {
            tracked.is_connected = false;
            tracked.has_changed = true;
        }
    }

    /// A session has ended.
    pub(super) fn ended(&self, id: &Id) {
        let mut inner = self.inner.lock();
        if inner
            .tracked
            .get(&id.client_id)
            .is_some_and(|it| it.id == *id)
        {
            inner.forget(&id.client_id);
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
    }

    /// A message for a client: notes it and hands it to `inbox`.
    pub(super) fn came(
        &self,
        client: &ClientId,
        origin: Origin,
        mut publish: Publish,
        inbox: impl FnOnce() -> Option<Tx>,
    ) -> Came {
        let mut inner = self.inner.lock();
        let room = self.bounds.bytes.saturating_sub(inner.bytes);
        let Some(tracked) = inner.tracked.get_mut(client) else {
            return Came::Untracked(origin, publish);
        };
        // Without acknowledgement nobody would know when it has arrived.
        let counts = publish.qos != QoS::AtMostOnce || !tracked.is_connected;
        let bytes = size(&publish);
        let has_room = bytes <= room && tracked.messages.len() < self.bounds.messages;
        if counts && has_room {
            let number = tracked.next;
            tracked.next = number.saturating_add(1);
            publish.delay_interval = Some(mark(number));
            let noted = Noted {
                bytes,
                message: (origin.clone(), publish.clone()),
                is_written: false,
                flight: None,
            };
            tracked.messages.insert(number, noted);
            tracked.has_moved = true;
        }
        let came = match &mut tracked.moving {
            Some(moving) => {
                moving.waiting.push_back((origin, publish));
                let is_full = moving.waiting.len() > self.bounds.messages;
                match moving.waiting.pop_front_if(|_| is_full) {
                    Some((origin, publish)) => {
                        Came::Failed(origin, publish, Reason::MessageQueueFull)
                    }
                    None => Came::Taken,
                }
            }
            None => match inbox() {
                None => Came::Failed(origin, publish, Reason::from_static("no connection")),
                Some(inbox) => send(&inbox, origin, publish),
            },
        };
        if counts && has_room {
            inner.bytes = inner.bytes.saturating_add(bytes);
        }
        if let Came::Failed(_, publish, _) = &came {
            inner.done(client, publish.delay_interval);
        }
        drop(inner);
        if counts && !has_room {
            self.refuse(client);
        }
        came
    }

    /// A client has a message, or will not get it.
    pub(super) fn done(&self, client: &ClientId, publish: &Publish) {
        if publish.delay_interval.is_some() {
            self.inner.lock().done(client, publish.delay_interval);
        }
    }

    /// The broker is about to take a session from its old connection, for a new one.
    pub(super) fn leave(&self, client: &ClientId) {
        let mut inner = self.inner.lock();
        if let Some(tracked) = inner.tracked.get_mut(client) {
            tracked.moving.get_or_insert_with(|| Moving {
                since: Instant::now(),
                waiting: VecDeque::new(),
                state: None,
            });
        }
    }

    /// It has: takes what the session had, and returns what the broker may know of it. A session whose
    /// last move came to nothing is still here.
    pub(super) fn left(
        &self,
        client: &ClientId,
        state: Option<OfflineInfo>,
    ) -> Option<OfflineInfo> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(tracked) = inner.tracked.get_mut(client) else {
            return state;
        };
        let Some(mut moving) = tracked.moving.take() else {
            return state;
        };
        if let Some(mut state) = state {
            tracked.note_flights(&state.inflight_messages, &mut inner.batch);
            tracked.complete(&mut state, &moving.waiting);
            moving.state = Some(state);
        }
        let Some(state) = &moving.state else {
            // The broker does not know the session any more.
            inner.forget(client);
            self.count.store(inner.tracked.len(), Ordering::Relaxed);
            return None;
        };
        let known = OfflineInfo {
            id: state.id.clone(),
            subscriptions: Subscriptions::new(),
            offline_messages: VecDeque::new(),
            inflight_messages: Vec::new(),
            created_at: state.created_at,
        };
        tracked.moving = Some(moving);
        Some(known)
    }

    /// The broker could not take it.
    pub(super) fn stayed(&self, client: &ClientId, inbox: Option<&Tx>) {
        let mut inner = self.inner.lock();
        let Some(tracked) = inner.tracked.get_mut(client) else {
            return;
        };
        if tracked.moving.as_ref().is_some_and(|it| it.state.is_some()) {
            return;
        }
        let moving = tracked.moving.take();
        for (origin, publish) in moving.into_iter().flat_map(|it| it.waiting) {
            let mark = publish.delay_interval;
            let sent = inbox.map(|inbox| send(inbox, origin, publish));
            if !matches!(sent, Some(Came::Taken)) {
                inner.done(client, mark);
            }
        }
    }

    /// What moves with a session that is about to get its new connection.
    pub(super) fn moving_subscriptions(&self, client: &ClientId) -> Option<(Subscriptions, u16)> {
        let mut inner = self.inner.lock();
        let state = inner.moving(client)?.state.as_mut()?;
        let ids = state.inflight_messages.iter();
        let ids = ids.filter_map(|it| it.publish.packet_id);
        let highest = ids.map(NonZeroU16::get).max();
        Some((state.subscriptions.clone(), highest.unwrap_or_default()))
    }

    /// The session has its new connection: what it has to get goes to `inbox`, in order. Returns what
    /// does not come through.
    pub(super) fn arrived(&self, id: &Id, inbox: &Tx) -> Vec<(Origin, Publish, Reason)> {
        let client = &id.client_id;
        let mut inner = self.inner.lock();
        let mut failed = Vec::new();
        let Some(tracked) = inner.tracked.get_mut(client) else {
            return failed;
        };
        let Some(Moving { waiting, state, .. }) = tracked.moving.take() else {
            return failed;
        };
        (tracked.id, tracked.is_connected) = (id.clone(), true);
        let (mut in_flight, waited) = state.map_or_else(Default::default, |state| {
            (state.inflight_messages, state.offline_messages)
        });
        in_flight.sort_by_key(|it| tracked.number_of(it.publish.delay_interval));
        for message in in_flight {
            match resend(inbox, message) {
                Came::Failed(origin, publish, reason) => failed.push((origin, publish, reason)),
                Came::Untracked(..) | Came::Taken => {}
            }
        }
        let mut forgotten = Vec::new();
        for (origin, publish) in waited.into_iter().chain(waiting) {
            if publish.qos == QoS::AtMostOnce {
                // From here on nobody says whether it has arrived.
                forgotten.push(publish.delay_interval);
            }
            if let Came::Failed(origin, publish, reason) = send(inbox, origin, publish) {
                failed.push((origin, publish, reason));
            }
        }
        for mark in forgotten {
            inner.done(client, mark);
        }
        failed
    }

    /// Sessions of which the disk does not know all, each once.
    pub(super) fn looks(&self) -> Vec<Look> {
        let mut inner = self.inner.lock();
        let mut looks = Vec::new();
        for (client, tracked) in &mut inner.tracked {
            let has_changed = std::mem::take(&mut tracked.has_changed);
            let has_moved = std::mem::take(&mut tracked.has_moved);
            if has_changed || has_moved || (tracked.in_flight > 0 && tracked.is_connected) {
                looks.push(Look {
                    client: client.clone(),
                    has_changed,
                });
            }
        }
        looks
    }

    /// What a look at a session has shown.
    pub(super) fn seen(
        &self,
        client: &ClientId,
        record: Option<Record>,
        in_flight: &[OutInflightMessage],
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(tracked) = inner.tracked.get_mut(client) else {
            return;
        };
        if let Some(record) = record {
            if record.id != tracked.id {
                // The next connection is there; it is looked at in the next round.
                tracked.has_changed = true;
                return;
            }
            tracked.is_written = true;
            inner.batch.sessions.insert(tracked.number, Some(record));
        }
        tracked.note_flights(in_flight, &mut inner.batch);
    }

    /// What is to be written by now.
    pub(super) fn take(&self) -> Batch {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let abandoned: Vec<_> = inner
            .tracked
            .iter()
            .filter(|(_, it)| {
                it.moving
                    .as_ref()
                    .is_some_and(|it| it.since.elapsed() > MOVING)
            })
            .map(|(client, _)| client.clone())
            .collect();
        for client in abandoned {
            inner.forget(&client);
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        let mut batch = std::mem::take(&mut inner.batch);
        for tracked in inner.tracked.values_mut().filter(|it| it.is_written) {
            // Those not handed over are the newest.
            let new = tracked.messages.iter_mut().rev();
            for (number, noted) in new.take_while(|(_, noted)| !noted.is_written) {
                noted.is_written = true;
                let (origin, publish) = noted.message.clone();
                let key = (tracked.number, *number);
                batch.added.push((key, origin, publish));
            }
        }
        batch
    }

    fn refuse(&self, client: &ClientId) {
        if !self.bounds.on_disk {
            return;
        }
        self.counters.sessions_refused.add_shared(1);
        limited!(
            WARN,
            self.counters,
            monotonic(),
            SessionsRefused,
            %client,
            max_connections = self.bounds.sessions,
            max_queued_bytes = self.bounds.bytes,
            "an MQTT session or one of its messages will not survive a restart: a limit is reached (mqtt.max_connections, \
             mqtt.max_queued, mqtt.max_queued_bytes)"
        );
    }
}

impl Inner {
    fn moving(&mut self, client: &ClientId) -> Option<&mut Moving> {
        self.tracked.get_mut(client)?.moving.as_mut()
    }

    fn done(&mut self, client: &ClientId, mark: Option<u32>) {
        let Some(tracked) = self.tracked.get_mut(client) else {
            return;
        };
        let number = tracked.number_of(mark);
        let Some((number, noted)) = number.and_then(|it| tracked.messages.remove_entry(&it)) else {
            return;
        };
        if noted.flight.is_some() {
            tracked.in_flight = tracked.in_flight.saturating_sub(1);
        }
        self.bytes = self.bytes.saturating_sub(noted.bytes);
        let key = (tracked.number, number);
        self.batch.flights.remove(&key);
        if noted.is_written {
            self.batch.removed.push(key);
        }
    }

    fn forget(&mut self, client: &ClientId) {
        let Some(tracked) = self.tracked.remove(client) else {
            return;
        };
        let bytes = tracked.messages.values().map(|noted| noted.bytes);
        self.bytes = self.bytes.saturating_sub(bytes.sum());
        // Only what it has itself is looked at. Messages to be removed may stay: they are gone then.
        for number in tracked.messages.keys() {
            self.batch.flights.remove(&(tracked.number, *number));
        }
        self.batch.sessions.remove(&tracked.number);
        if tracked.is_written {
            self.batch.sessions.insert(tracked.number, None);
        }
    }
}

impl Tracked {
    fn new(number: u64, id: &Id) -> Self {
        Self {
            number,
            id: id.clone(),
            is_written: false,
            is_connected: false,
            next: 1,
            messages: BTreeMap::new(),
            in_flight: 0,
            has_changed: false,
            has_moved: false,
            moving: None,
        }
    }

    /// See [`complete`].
    fn complete(&self, state: &mut OfflineInfo, waiting: &VecDeque<(Origin, Publish)>) {
        let owed = self.messages.iter();
        let owed = owed.map(|(number, noted)| (*number, &noted.message, noted.flight));
        complete(state, waiting, owed, |mark| self.number_of(mark));
    }

    /// How far messages are that were sent.
    fn note_flights(&mut self, in_flight: &[OutInflightMessage], batch: &mut Batch) {
        for message in in_flight {
            let packet_id = message.publish.packet_id.map(NonZeroU16::get);
            let number = self.number_of(message.publish.delay_interval);
            let (Some(packet_id), Some(number)) = (packet_id, number) else {
                continue;
            };
            let flight = Flight::new(packet_id, message.status);
            let Some(noted) = self.messages.get_mut(&number) else {
                continue;
            };
            let before = noted.flight.replace(flight);
            if before.is_none() {
                self.in_flight = self.in_flight.saturating_add(1);
            }
            if before != Some(flight) {
                batch.flights.insert((self.number, number), flight);
            }
        }
    }

    /// The number of a message with this mark: the newest one, of which a session never has as many.
    fn number_of(&self, mark: Option<u32>) -> Option<u64> {
        let back = self::mark(self.next).wrapping_sub(mark?);
        self.next.checked_sub(back.into())
    }
}

/// What a message carries of its number.
fn mark(number: u64) -> u32 {
    let [.., a, b, c, d] = number.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn size(publish: &Publish) -> usize {
    outbox::size(publish.topic.len(), publish.payload.len())
}
