//! The way to the owner: events in batches, bounded by credit.
//!
//! Nothing in `enif_send` slows a sender down, so the outbox does: it sends `credit` batches and
//! waits for an acknowledgement. Whoever has an event or credit to give sends what can be sent,
//! one at a time and without holding the lock; others leave their events to it. A thread of the
//! VM may send only with the environment of the NIF it runs, so events that come up there wait
//! for the end of the NIF.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lwm2m_gateway::memory::{Kind, Memory, Tally};
use parking_lot::Mutex;
use rustler::env::{OwnedEnv, SendError};
use rustler::thread::is_scheduler_thread;
use rustler::{Encoder, Env, LocalPid, Term};

use crate::atoms;
use crate::event::Event;

/// Events in a batch. The receiver gains nothing from more, and a scheduler that sends a batch
/// is busy with it for about a tenth of a millisecond.
const BATCH_EVENTS: usize = 128;

/// Batches that a scheduler sends in one go.
const BATCHES_AT_ONCE: usize = 2;

/// Bytes of topics and payloads in a batch of more than one event.
const BATCH_BYTES: usize = 512 << 10;

/// Bytes of topics and payloads that wait.
const MAX_BYTES: usize = 64 << 20;

/// Events other than publishes that wait: some for each of several hundred thousand devices.
const MAX_CONTROL: usize = 1 << 20;

/// Log lines that wait.
const MAX_LOG: usize = 1024;

/// Counters of an outbox.
#[derive(Debug, Default)]
struct Counters {
    publish_dropped: AtomicU64,
    log_dropped: AtomicU64,
    events_lost: AtomicU64,
    events: AtomicU64,
}

/// See the module.
pub(crate) struct Outbox {
    owner: LocalPid,
    /// What the gateway is called in the messages.
    id: u64,
    credit: u64,
    max_publishes: usize,
    state: Mutex<State>,
    counters: Counters,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Event>,
    publishes: usize,
    control: usize,
    logs: usize,
    bytes: usize,
    /// Everything that waits, in the gateway's account of memory.
    tally: Option<Tally>,
    /// Lost since the owner was last told.
    lost: u64,
    /// Number of the last batch sent, and of the last acknowledged.
    sent: u64,
    acknowledged: u64,
    /// Somebody is sending, and looks again before leaving.
    sending: bool,
    /// The owner is dead.
    closed: bool,
}

impl State {
    /// Whether the account has room for so many bytes more; the refusal is counted there.
    fn has_memory(&mut self, bytes: usize) -> bool {
        self.tally.as_mut().is_none_or(|tally| {
            let fits = tally.fits(bytes);
            if !fits {
                tally.memory().refuse(Kind::Outboxes, bytes, false);
            }
            fits
        })
    }
}

impl Outbox {
    pub(crate) fn new(owner: LocalPid, id: u64, credit: u32, max_publishes: u32) -> Self {
        Self {
            owner,
            id,
            credit: credit.into(),
            max_publishes: usize::try_from(max_publishes).unwrap_or(usize::MAX),
            state: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// What waits is charged to this account from now on.
    pub(crate) fn attach(&self, memory: &Arc<Memory>) {
        let mut state = self.state.lock();
        let mut tally = Tally::new(memory.clone(), Kind::Outboxes);
        tally.charge(state.queue.iter().map(Event::cost).sum());
        state.tally = Some(tally);
    }

    /// Takes events and sends what can be sent, unless this is a thread of the VM: then
    /// [`Outbox::flush`] must follow.
    pub(crate) fn push(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let refused: Vec<_> = (events.into_iter())
            .filter_map(|event| self.enqueue(&mut state, event).err())
            .collect();
        drop(state);
        // Questions among them answer themselves now, and that may log.
        drop(refused);
        if !is_scheduler_thread() {
            let mut env = None;
            self.send_batches(usize::MAX, |batch, events| {
                env.get_or_insert_with(OwnedEnv::new)
                    .send_and_clear(&self.owner, |env| self.message(env, batch, events))
            });
        }
    }

    /// Sends from within a NIF what can be sent, but not more than a scheduler has time for: the
    /// acknowledgement of these batches brings the next.
    pub(crate) fn flush(&self, env: Env<'_>) {
        self.send_batches(BATCHES_AT_ONCE, |batch, events| {
            env.send(&self.owner, self.message(env, batch, events))
        });
    }

    /// The owner has dealt with a batch and all before it. False when it was never sent.
    pub(crate) fn acknowledge(&self, batch: u64, env: Env<'_>) -> bool {
        let mut state = self.state.lock();
        if batch > state.sent {
            return false;
        }
        state.acknowledged = state.acknowledged.max(batch);
        drop(state);
        self.flush(env);
        true
    }

    /// The owner is dead: nothing is sent or kept any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        let rest = State {
            closed: true,
            sent: state.sent,
            acknowledged: state.acknowledged,
            sending: state.sending,
            ..State::default()
        };
        let old = mem::replace(&mut *state, rest);
        drop(state);
        // Questions in there answer themselves now.
        drop(old);
    }

    /// Name and value of each counter and gauge.
    pub(crate) fn statistics(&self) -> [(&'static str, u64); 8] {
        let state = self.state.lock();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("owner_batches", state.sent),
            ("owner_events", count(&self.counters.events)),
            ("owner_unacknowledged", state.sent - state.acknowledged),
            ("owner_queue", state.queue.len() as u64),
            ("owner_queue_bytes", state.bytes as u64),
            ("publish_dropped", count(&self.counters.publish_dropped)),
            ("log_dropped", count(&self.counters.log_dropped)),
            ("events_lost", count(&self.counters.events_lost)),
        ]
    }

    /// Gives an event back, counted, when there is no room for it.
    fn enqueue(&self, state: &mut State, event: Event) -> Result<(), Event> {
        let size = event.size();
        let room = match &event {
            Event::Publish(_) => {
                let room = state.publishes < self.max_publishes
                    && state.bytes < MAX_BYTES
                    && state.has_memory(event.cost());
                state.publishes += usize::from(room);
                room.then_some(()).ok_or(&self.counters.publish_dropped)
            }
            Event::Log { .. } => {
                let room = state.logs < MAX_LOG && state.has_memory(event.cost());
                state.logs += usize::from(room);
                room.then_some(()).ok_or(&self.counters.log_dropped)
            }
            // One of each at most.
            Event::Lost(_) | Event::Stopped => Ok(()),
            _ => {
                let room = state.control < MAX_CONTROL && state.has_memory(event.cost());
                state.control += usize::from(room);
                state.lost += u64::from(!room);
                room.then_some(()).ok_or(&self.counters.events_lost)
            }
        };
        match room {
            Ok(()) => {
                state.bytes += size;
                if let Some(tally) = &mut state.tally {
                    tally.charge(event.cost());
                }
                state.queue.push_back(event);
                Ok(())
            }
            Err(counter) => {
                counter.fetch_add(1, Ordering::Relaxed);
                Err(event)
            }
        }
    }

    /// Sends batches, up to `limit`, while there is credit.
    fn send_batches(
        &self,
        limit: usize,
        mut send: impl FnMut(u64, Vec<Event>) -> Result<(), SendError>,
    ) {
        let mut state = self.state.lock();
        if state.sending {
            return;
        }
        for _ in 0..limit {
            let Some((batch, events)) = self.next_batch(&mut state) else {
                return;
            };
            state.sending = true;
            let count = events.len() as u64;
            drop(state);
            // Before, so that whoever gets them finds them counted.
            self.counters.events.fetch_add(count, Ordering::Relaxed);
            let sent = send(batch, events);
            if sent.is_err() {
                self.close();
            }
            state = self.state.lock();
            state.sending = false;
        }
    }

    fn next_batch(&self, state: &mut State) -> Option<(u64, Vec<Event>)> {
        if state.queue.is_empty() || state.sent - state.acknowledged >= self.credit {
            return None;
        }
        let mut events = Vec::with_capacity(state.queue.len().min(BATCH_EVENTS));
        if state.lost > 0 {
            // They were lost after what waits now, so what the owner asks after this event is
            // at least as new.
            let lost = Event::Lost(state.lost);
            if let Some(tally) = &mut state.tally {
                tally.charge(lost.cost());
            }
            state.queue.push_back(lost);
            state.lost = 0;
        }
        let mut bytes = 0;
        while events.len() < BATCH_EVENTS && bytes < BATCH_BYTES {
            let Some(event) = state.queue.pop_front() else {
                break;
            };
            let size = event.size();
            bytes += size;
            state.bytes -= size;
            if let Some(tally) = &mut state.tally {
                tally.release(event.cost());
            }
            match event {
                Event::Publish(_) => state.publishes -= 1,
                Event::Log { .. } => state.logs -= 1,
                Event::Lost(_) | Event::Stopped => {}
                _ => state.control -= 1,
            }
            events.push(event);
        }
        state.sent += 1;
        Some((state.sent, events))
    }

    fn message<'a>(&self, env: Env<'a>, batch: u64, events: Vec<Event>) -> Term<'a> {
        let nil = Term::list_new_empty(env);
        let events = (events.into_iter().rev())
            .fold(nil, |list, event| list.list_prepend(event.into_term(env)));
        (atoms::lwm2m_gateway(), self.id, batch, events).encode(env)
    }
}
