//! Callbacks that wait for the host to poll: bounded, in order, announced once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::host::{AuthorizationRequest, PskRequest, Publish};
use crate::memory::{Kind, Memory, Tally};

use super::types::{lwm2m_gateway_log_level as LogLevel, lwm2m_gateway_status as Status};

/// One callback to be made.
#[derive(Debug)]
pub(super) enum Event {
    Publish(Publish),
    Subscribe {
        filter: String,
        qos: u8,
    },
    Unsubscribe {
        filter: String,
    },
    Log(LogLine),
    Authorize(AuthorizationRequest),
    PskLookup(PskRequest),
    /// As JSON.
    Device(String),
    /// What became of a message.
    Durable {
        number: u64,
        status: Status,
    },
}

/// A line of the log.
#[derive(Debug)]
pub(super) struct LogLine {
    pub(super) level: LogLevel,
    pub(super) target: &'static str,
    pub(super) text: String,
}

impl Event {
    /// What it takes of the limit in bytes.
    fn cost(&self) -> usize {
        let content = match self {
            Self::Publish(publish) => {
                let correlation = publish.correlation.as_deref().map_or(0, <[u8]>::len);
                let content = publish.topic.len().saturating_add(publish.payload.len());
                content.saturating_add(correlation)
            }
            Self::Subscribe { filter, .. } | Self::Unsubscribe { filter } => filter.len(),
            Self::Log(line) => line.text.len(),
            Self::Authorize(request) => query_length(&request.registration.query),
            Self::PskLookup(request) => request.identity.len(),
            Self::Device(json) => json.len(),
            Self::Durable { .. } => 0,
        };
        content.saturating_add(size_of::<Self>())
    }
}

fn query_length(query: &[(String, String)]) -> usize {
    let lengths = query
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()));
    lengths.fold(0, usize::saturating_add)
}

/// What [`Queue::push`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, as others do that have been announced.
    Waits,
    /// It waits and is to be announced.
    First,
    /// There was no room.
    Dropped,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    /// In order of arrival.
    events: BTreeMap<u64, Event>,
    /// Changes of subscriptions among the events, by filter: one at most for each. What the host
    /// would have to undo at once is taken out, so there are no more than devices.
    changes: HashMap<String, u64>,
    /// Filters that the host has been told to subscribe to.
    held: HashSet<String>,
    next: u64,
    bytes: usize,
    tally: Option<Tally>,
    max_events: usize,
    max_bytes: usize,
    announced: bool,
}

impl Queue {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            events: BTreeMap::new(),
            changes: HashMap::new(),
            held: HashSet::new(),
            next: 0,
            bytes: 0,
            tally: None,
            max_events,
            max_bytes,
            announced: false,
        }
    }

    /// What waits is charged to this account from now on.
    pub(super) fn attach(&mut self, memory: &Arc<Memory>) {
        self.tally = Some(Tally::new(memory.clone(), Kind::Outboxes));
        self.settle_bytes();
    }

    fn settle_bytes(&mut self) {
        if let Some(tally) = &mut self.tally {
            tally.set(self.bytes);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Adds at the end.
    pub(super) fn push(&mut self, event: Event) -> Pushed {
        let cost = event.cost();
        let bytes = self.bytes.saturating_add(cost);
        let event = match event {
            Event::Subscribe { .. } | Event::Unsubscribe { .. } => match self.change(event) {
                Some(event) => event,
                None => {
                    self.settle_bytes();
                    return Pushed::Waits;
                }
            },
            // The host waits for it; there are no more of them than messages that it gave.
            Event::Durable { .. } => event,
            _ if self.events.len() >= self.max_events || bytes > self.max_bytes => {
                return Pushed::Dropped;
            }
            event => {
                let tally = self.tally.as_mut();
                if tally.is_some_and(|tally| tally.try_charge(cost).is_err()) {
                    return Pushed::Dropped;
                }
                event
            }
        };
        self.bytes = bytes;
        self.settle_bytes();
        self.events.insert(self.next, event);
        self.next = self.next.wrapping_add(1);
        if self.announced {
            return Pushed::Waits;
        }
        self.announced = true;
        Pushed::First
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let (_, event) = self.events.pop_first()?;
        self.bytes = self.bytes.saturating_sub(event.cost());
        self.settle_bytes();
        match &event {
            Event::Subscribe { filter, .. } => {
                self.changes.remove(filter);
                self.held.insert(filter.clone());
            }
            Event::Unsubscribe { filter } => {
                self.changes.remove(filter);
                self.held.remove(filter);
            }
            _ => {}
        }
        Some(event)
    }

    /// The host has polled. Returns whether what still waits is to be announced again.
    pub(super) fn settle(&mut self) -> bool {
        self.announced = !self.events.is_empty();
        self.announced
    }

    /// Notes a change of a subscription. Gives it back when it is to be added at the end.
    fn change(&mut self, event: Event) -> Option<Event> {
        let (Event::Subscribe { filter, .. } | Event::Unsubscribe { filter }) = &event else {
            return Some(event);
        };
        let filter = filter.clone();
        let at = self.changes.get(&filter).copied();
        let Some((at, waiting)) = at.and_then(|at| Some((at, self.events.get_mut(&at)?))) else {
            self.changes.insert(filter, self.next);
            return Some(event);
        };
        if matches!(event, Event::Subscribe { .. }) || self.held.contains(&filter) {
            *waiting = event;
            return None;
        }
        self.bytes = self.bytes.saturating_sub(waiting.cost());
        self.events.remove(&at);
        self.changes.remove(&filter);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Shares;

    fn line(text: &str) -> Event {
        Event::Log(LogLine {
            level: LogLevel::Info,
            target: "test",
            text: text.to_owned(),
        })
    }

    fn subscribe(filter: &str, qos: u8) -> Event {
        let filter = filter.to_owned();
        Event::Subscribe { filter, qos }
    }

    fn unsubscribe(filter: &str) -> Event {
        let filter = filter.to_owned();
        Event::Unsubscribe { filter }
    }

    fn drain(queue: &mut Queue) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = queue.pop() {
            all.push(match event {
                Event::Subscribe { filter, qos } => format!("+{filter}:{qos}"),
                Event::Unsubscribe { filter } => format!("-{filter}"),
                Event::Log(line) => line.text,
                other => format!("{other:?}"),
            });
        }
        assert_eq!(queue.bytes, 0);
        assert!(queue.changes.is_empty());
        all
    }

    #[test]
    fn in_order_and_announced_once() {
        let mut queue = Queue::new(10, 1 << 20);
        assert_eq!(queue.push(line("a")), Pushed::First);
        assert_eq!(queue.push(line("b")), Pushed::Waits);
        assert!(queue.pop().is_some());
        assert!(queue.settle());
        assert_eq!(queue.push(line("c")), Pushed::Waits);
        assert_eq!(drain(&mut queue), ["b", "c"]);
        assert!(!queue.settle());
        assert_eq!(queue.push(line("d")), Pushed::First);
    }

    #[test]
    fn bounded_in_number_and_bytes() {
        let mut queue = Queue::new(2, 1 << 20);
        assert_ne!(queue.push(line("a")), Pushed::Dropped);
        assert_ne!(queue.push(line("b")), Pushed::Dropped);
        assert_eq!(queue.push(line("c")), Pushed::Dropped);
        assert_eq!(queue.push(subscribe("t", 0)), Pushed::Waits);
        assert_eq!(queue.len(), 3);
        assert_eq!(drain(&mut queue), ["a", "b", "+t:0"]);

        let mut queue = Queue::new(100, 1000);
        assert_eq!(queue.push(line(&"x".repeat(1001))), Pushed::Dropped);
        assert_eq!(queue.push(line(&"x".repeat(700))), Pushed::First);
        assert_eq!(queue.push(line(&"x".repeat(700))), Pushed::Dropped);
        drain(&mut queue);
        assert_eq!(queue.push(line(&"x".repeat(700))), Pushed::Waits);
    }

    #[test]
    fn c9_bounded_by_the_account() {
        let memory = Arc::new(Memory::new(Shares::new(1 << 20, true)));
        let mut queue = Queue::new(1000, 1 << 30);
        queue.push(line(&"x".repeat(1000)));
        queue.attach(&memory);
        let mut waiting = 1;
        while queue.push(line(&"x".repeat(1000))) != Pushed::Dropped {
            waiting += 1;
        }
        let limit = memory.limit(Kind::Outboxes);
        assert!((limit / 2000..limit / 1000).contains(&waiting), "{waiting}");
        assert_eq!(drain(&mut queue).len(), waiting);
        assert_eq!(memory.used(Kind::Outboxes), 0);
    }

    #[test]
    fn changes_of_subscriptions_do_not_pile_up() {
        let mut queue = Queue::new(1, 1 << 20);
        for device in 0..1000 {
            queue.push(subscribe(&format!("d/{device}"), 0));
            queue.push(unsubscribe(&format!("d/{device}")));
        }
        assert_eq!(queue.len(), 0);

        queue.push(subscribe("t", 0));
        assert_eq!(drain(&mut queue), ["+t:0"]);
        // Another QoS: taken back and asked for anew.
        queue.push(unsubscribe("t"));
        queue.push(subscribe("t", 1));
        assert_eq!(drain(&mut queue), ["+t:1"]);
        queue.push(unsubscribe("t"));
        queue.push(subscribe("t", 1));
        queue.push(unsubscribe("t"));
        assert_eq!(drain(&mut queue), ["-t"]);
        queue.push(subscribe("t", 0));
        queue.push(unsubscribe("t"));
        queue.push(subscribe("t", 2));
        assert_eq!(drain(&mut queue), ["+t:2"]);
    }
}
