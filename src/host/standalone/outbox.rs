//! What the shards publish, on its way to the broker: a bounded queue between their threads and
//! one task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::host::Publish;
use crate::telemetry::Counters;

/// A bounded queue of messages. When it is full, QoS 0 messages go first: a new one is dropped,
/// and a QoS 1 or 2 message takes the place of the oldest waiting QoS 0 message. Every drop is
/// counted, and logged once per episode.
pub(crate) struct Outbox {
    lines: Mutex<Lines>,
    filled: Notify,
    capacity: usize,
    counters: Arc<Counters>,
    /// Whether the loss of messages has been logged since the queue was last empty.
    overflowing: AtomicBool,
    ending: AtomicBool,
}

/// Two queues, so that the oldest QoS 0 message is found at once; the sequence numbers keep the
/// common order.
#[derive(Default)]
struct Lines {
    next: u64,
    at_most_once: VecDeque<(u64, Publish)>,
    acknowledged: VecDeque<(u64, Publish)>,
}

impl Lines {
    fn len(&self) -> usize {
        self.at_most_once
            .len()
            .saturating_add(self.acknowledged.len())
    }

    fn pop(&mut self) -> Option<Publish> {
        let line = match (self.at_most_once.front(), self.acknowledged.front()) {
            (Some((a, _)), Some((b, _))) if a < b => &mut self.at_most_once,
            (Some(_), None) => &mut self.at_most_once,
            _ => &mut self.acknowledged,
        };
        line.pop_front().map(|(_, publish)| publish)
    }
}

impl Outbox {
    pub(crate) fn new(capacity: usize, counters: Arc<Counters>) -> Self {
        Self {
            lines: Mutex::default(),
            filled: Notify::new(),
            capacity,
            counters,
            overflowing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        }
    }

    /// Nothing more will come: [`Outbox::take`] says so once the queue is empty.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.filled.notify_one();
    }

    /// Takes all of `batch`, in order. Never waits for the broker.
    pub(crate) fn push(&self, batch: &mut Vec<Publish>) {
        if batch.is_empty() {
            return;
        }
        let mut dropped = 0;
        let mut lines = self.lines.lock();
        for publish in batch.drain(..) {
            if lines.len() >= self.capacity {
                dropped += 1;
                if publish.qos == 0 || lines.at_most_once.pop_front().is_none() {
                    continue;
                }
            }
            let number = lines.next;
            lines.next = number.wrapping_add(1);
            if publish.qos == 0 {
                lines.at_most_once.push_back((number, publish));
            } else {
                lines.acknowledged.push_back((number, publish));
            }
        }
        drop(lines);
        self.filled.notify_one();
        if dropped > 0 {
            self.count_dropped(dropped);
        }
    }

    /// Counts messages that did not reach the broker.
    pub(crate) fn count_dropped(&self, dropped: u64) {
        self.counters.publish_dropped.add_shared(dropped);
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                capacity = self.capacity,
                "messages are being dropped: the broker does not take them fast enough"
            );
        }
    }

    /// Moves up to `most` waiting messages to the end of `into`, and waits until there is at
    /// least one; false when there will be none any more. Cancelling the wait loses nothing.
    pub(crate) async fn take(&self, most: usize, into: &mut Vec<Publish>) -> bool {
        loop {
            {
                let mut lines = self.lines.lock();
                for _ in 0..most {
                    let Some(publish) = lines.pop() else { break };
                    into.push(publish);
                }
                if lines.len() == 0 {
                    self.overflowing.store(false, Ordering::Relaxed);
                } else {
                    // More is left: the next call must not wait.
                    self.filled.notify_one();
                }
            }
            if !into.is_empty() {
                return true;
            }
            if self.ending.load(Ordering::Acquire) {
                return false;
            }
            self.filled.notified().await;
        }
    }

    /// Messages waiting.
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PublishKind;

    fn message(number: usize, qos: u8) -> Publish {
        Publish {
            kind: PublishKind::Notify,
            endpoint: "e".into(),
            topic: number.to_string(),
            payload: Vec::new(),
            qos,
        }
    }

    fn outbox(capacity: usize) -> (Outbox, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        (Outbox::new(capacity, Arc::clone(&counters)), counters)
    }

    fn topics(outbox: &Outbox) -> Vec<String> {
        let mut lines = outbox.lines.lock();
        std::iter::from_fn(|| lines.pop())
            .map(|publish| publish.topic)
            .collect()
    }

    #[test]
    fn order_is_kept_across_qos() {
        let (outbox, counters) = outbox(10);
        let mut batch: Vec<_> = (0..6).map(|n| message(n, u8::from(n % 3 == 0))).collect();
        outbox.push(&mut batch);
        assert!(batch.is_empty());
        assert_eq!(topics(&outbox), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(counters.publish_dropped.get(), 0);
    }

    #[test]
    fn when_full_qos_0_goes_first() {
        let (outbox, counters) = outbox(3);
        outbox.push(&mut vec![message(0, 0), message(1, 1), message(2, 0)]);
        outbox.push(&mut vec![message(3, 0), message(4, 1)]);
        assert_eq!(counters.publish_dropped.get(), 2);
        outbox.push(&mut vec![message(5, 2)]);
        outbox.push(&mut vec![message(6, 1)]);
        assert_eq!(topics(&outbox), ["1", "4", "5"]);
        assert_eq!(counters.publish_dropped.get(), 4);
    }

    #[tokio::test]
    async fn take_hands_over_in_batches() {
        let (outbox, _) = outbox(10);
        outbox.push(&mut (0..5).map(|n| message(n, 0)).collect());
        let mut got = Vec::new();
        assert!(outbox.take(2, &mut got).await);
        assert_eq!((got.len(), outbox.len()), (2, 3));
        got.clear();
        outbox.end();
        assert!(outbox.take(100, &mut got).await);
        assert_eq!(got.first().map(|publish| publish.topic.as_str()), Some("2"));
        assert_eq!(got.len(), 3);
        assert!(!outbox.take(100, &mut Vec::new()).await);
    }
}
