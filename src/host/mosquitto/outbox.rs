//! What the gateway's threads have for the broker, on its way to the broker's main thread:
//! messages and log lines, each within bounds.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;

use super::abi::Level;
use crate::host::Publish;
use crate::memory::{Kind, Memory, Tally};
use crate::telemetry::Counters;

/// Messages waiting for the broker's main thread, at most. It takes them every turn of its loop,
/// so this many wait only while it is stuck.
const MAX_MESSAGES: usize = 100_000;

/// Bytes of these messages, at most; the account of memory may have less for them.
const MAX_BYTES: usize = 64 << 20;

/// A part of all room that messages which give way leave to the others: beyond the bounds above,
/// and of the share in the account.
const RESERVE: usize = 8;

/// Log lines waiting, at most.
const MAX_LINES: usize = 1_000;

#[derive(Default)]
struct Inner {
    messages: Vec<Publish>,
    bytes: usize,
    tally: Option<Tally>,
    lines: Vec<(Level, String)>,
    lost_lines: usize,
    /// Whether the loss of messages has been logged since the queue was last empty.
    overflowing: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// `publish_dropped` of the host.
    pub(super) counters: Counters,
}

impl Outbox {
    /// Messages are charged to this account from now on.
    pub(super) fn attach(&self, memory: &Arc<Memory>) {
        let mut inner = self.inner.lock();
        let mut tally = Tally::new(memory.clone(), Kind::Outboxes);
        tally.charge(inner.bytes);
        inner.tally = Some(tally);
    }

    /// Takes all of `batch`, in order. What does not fit is dropped and counted: the newest, since
    /// the older ones are next. Whether the first drop of an episode should be logged.
    pub(super) fn push(&self, batch: &mut Vec<Publish>) -> bool {
        let mut dropped = 0;
        let mut inner = self.inner.lock();
        for message in batch.drain(..) {
            let size = message.bytes();
            let bytes = inner.bytes.saturating_add(size);
            let gives_way = message.gives_way();
            let bound = |bound: usize| bound + if gives_way { 0 } else { bound / RESERVE };
            let room = inner.messages.len() < bound(MAX_MESSAGES) && bytes <= bound(MAX_BYTES);
            let tally = inner.tally.as_mut().filter(|_| room);
            let charged = tally.is_none_or(|tally| {
                let share = tally.memory().limit(Kind::Outboxes);
                (!gives_way || bytes <= share - share / RESERVE) && tally.try_charge(size).is_ok()
            });
            if !room || !charged {
                dropped += 1;
                continue;
            }
            inner.bytes = bytes;
            inner.messages.push(message);
        }
        let first = dropped > 0 && !mem::replace(&mut inner.overflowing, true);
        drop(inner);
        self.counters.publish_dropped.add_shared(dropped);
        first
    }

    /// Takes a log line; a line too many is lost, and the loss is told with the next ones.
    pub(super) fn log(&self, level: Level, line: String) {
        let mut inner = self.inner.lock();
        if inner.lines.len() < MAX_LINES {
            inner.lines.push((level, line));
        } else {
            inner.lost_lines = inner.lost_lines.saturating_add(1);
            drop(inner);
            self.counters.log_lines_dropped.add_shared(1);
        }
    }

    /// Moves everything to the two lists, which must be empty; their room is used again. Answers and
    /// reports come before values, what is alike in its order.
    pub(super) fn take(&self, messages: &mut Vec<Publish>, lines: &mut Vec<(Level, String)>) {
        let mut inner = self.inner.lock();
        mem::swap(&mut inner.messages, messages);
        mem::swap(&mut inner.lines, lines);
        inner.bytes = 0;
        if let Some(tally) = &mut inner.tally {
            tally.clear();
        }
        inner.overflowing = false;
        let lost = mem::take(&mut inner.lost_lines);
        drop(inner);
        // Stable, and nothing to do where they are sorted already.
        messages.sort_by_key(Publish::is_value);
        if lost > 0 {
            lines.push((Level::Warning, format!("lwm2m: {lost} log lines were lost")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PublishKind;
    use crate::memory::Shares;

    fn message(payload: usize) -> Publish {
        Publish {
            kind: PublishKind::Notify,
            endpoint: "ep".into(),
            topic: "lwm2m/ep/up/resp".to_owned(),
            payload: vec![b'x'; payload],
            qos: 0,
            correlation: None,
        }
    }

    #[test]
    fn values_leave_room_for_answers() {
        let outbox = Outbox::default();
        outbox.push(&mut vec![message(1); MAX_MESSAGES + 1]);
        let answer = Publish {
            kind: PublishKind::Response,
            ..message(1)
        };
        let reserve = MAX_MESSAGES / RESERVE;
        outbox.push(&mut vec![answer; reserve + 1]);
        assert_eq!(outbox.counters.publish_dropped.get(), 2);
        assert_eq!(taken(&outbox), (MAX_MESSAGES + reserve, 0));
    }

    fn taken(outbox: &Outbox) -> (usize, usize) {
        let (mut messages, mut lines) = (Vec::new(), Vec::new());
        outbox.take(&mut messages, &mut lines);
        (messages.len(), lines.len())
    }

    #[test]
    fn messages_are_bounded_in_number() {
        let outbox = Outbox::default();
        let mut batch = vec![message(1); MAX_MESSAGES];
        assert!(!outbox.push(&mut batch));
        assert!(outbox.push(&mut vec![message(1); 3]));
        assert!(!outbox.push(&mut vec![message(1)]), "logged once");
        assert_eq!(outbox.counters.publish_dropped.get(), 4);
        assert_eq!(taken(&outbox), (MAX_MESSAGES, 0));
        assert!(!outbox.push(&mut vec![message(1)]));
        assert_eq!(taken(&outbox), (1, 0));
    }

    #[test]
    fn messages_are_bounded_in_bytes() {
        let outbox = Outbox::default();
        outbox.push(&mut vec![
            message(MAX_BYTES / 2),
            message(MAX_BYTES / 2),
            message(9),
        ]);
        assert_eq!(outbox.counters.publish_dropped.get(), 1);
        assert_eq!(taken(&outbox), (2, 0));
        outbox.push(&mut vec![message(MAX_BYTES / 2)]);
        assert_eq!(taken(&outbox), (1, 0), "the room is free again");
    }

    #[test]
    fn c9_messages_are_bounded_by_the_account() {
        let memory = Arc::new(Memory::new(Shares::new(1 << 20, true)));
        let limit = memory.limit(Kind::Outboxes);
        let outbox = Outbox::default();
        outbox.push(&mut vec![message(1000)]);
        outbox.attach(&memory);
        outbox.push(&mut vec![message(1000); 100]);
        let dropped = outbox.counters.publish_dropped.get() as usize;
        assert!(dropped > 0 && memory.used(Kind::Outboxes) <= limit);
        assert!(101 - dropped > limit / 1500);
        let answer = Publish {
            kind: PublishKind::Response,
            ..message(1000)
        };
        outbox.push(&mut vec![answer; 2]);
        assert_eq!(
            taken(&outbox),
            (103 - dropped, 0),
            "room is left for answers"
        );
        assert_eq!(memory.used(Kind::Outboxes), 0);
        outbox.push(&mut vec![message(1000)]);
        assert_eq!(taken(&outbox), (1, 0), "there is room again");
    }

    #[test]
    fn lines_are_bounded_and_their_loss_is_told() {
        let outbox = Outbox::default();
        for _ in 0..MAX_LINES + 2 {
            outbox.log(Level::Info, "line".to_owned());
        }
        assert_eq!(taken(&outbox), (0, MAX_LINES + 1));
        assert_eq!(taken(&outbox), (0, 0));
    }
}
