//! What the shards publish, on its way to the broker: a bounded queue between their threads and
//! one task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::host::Publish;
use crate::memory::{Kind, Memory, Tally};
use crate::mqtt::PublishKind;
use crate::runtime::monotonic;
use crate::store::Receipt;
use crate::telemetry::{Counters, limited};

/// Bytes that a waiting message needs beside its topic and payload.
const OVERHEAD: usize = 128;

/// Answers and reports that leave before the oldest value does, while there are any: an application
/// waits for an answer, and values that are late are still values.
const IN_A_ROW: u32 = 16;

/// A queue with room for so many messages keeps it. A larger one gives room back when most have left.
const SMALL: usize = 1024;

/// Bytes that a message counts with.
pub(crate) fn size(topic: usize, payload: usize) -> usize {
    topic.saturating_add(payload).saturating_add(OVERHEAD)
}

/// Bytes that a message counts with.
pub(super) fn size_of(publish: &Publish) -> usize {
    let correlation = publish.correlation.as_deref().map_or(0, <[u8]>::len);
    size(
        publish.topic.len(),
        publish.payload.len().saturating_add(correlation),
    )
}

/// How much an outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Messages.
    pub(crate) messages: usize,
    /// Bytes of topics and payloads, [`size`] each.
    pub(crate) bytes: usize,
}

/// A bounded queue of messages, with those that were taken out and are not settled yet. Answers and
/// reports leave before values (see [`IN_A_ROW`]); what is alike leaves in its order. When it is
/// full, values of QoS 0 go first, then everything else of QoS 0 (see [`Rank`]): a message takes
/// the place of the oldest ones that give way to it, and is dropped when there are none. Every drop
/// is counted, and logged once per episode.
pub(crate) struct Outbox {
    lines: Mutex<Lines>,
    filled: Notify,
    bounds: Bounds,
    counters: Arc<Counters>,
    /// Whether the loss of messages has been logged since the queue was last empty.
    overflowing: AtomicBool,
}

/// What gives way to what when there is no room: a lower rank to a higher one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// [`Publish::gives_way`].
    Value,
    /// Answers and reports of QoS 0.
    Answer,
    /// Values of QoS 1 and 2.
    KeptValue,
    /// Answers and reports of QoS 1 and 2.
    KeptAnswer,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Value, Self::Answer, Self::KeptValue, Self::KeptAnswer];

    fn of(publish: &Publish) -> Self {
        match (publish.qos, publish.is_value()) {
            (0, true) => Self::Value,
            (0, false) => Self::Answer,
            (_, true) => Self::KeptValue,
            (_, false) => Self::KeptAnswer,
        }
    }

    const fn is_value(self) -> bool {
        matches!(self, Self::Value | Self::KeptValue)
    }

    /// Whether a message gives way to one of another rank: those of QoS 1 and 2 to none.
    fn gives_way_to(self, other: Self) -> bool {
        matches!(self, Self::Value | Self::Answer) && self < other
    }
}

/// A message, and who waits until the broker has it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) publish: Publish,
    pub(crate) receipt: Option<Receipt>,
}

impl Held {
    /// It does not get to the broker: nobody needs to wait for that.
    fn give_up(self) {
        if let Some(receipt) = self.receipt {
            receipt.settle(Ok(()));
        }
    }
}

/// A queue for each rank, so that the oldest message that gives way is found at once; the sequence
/// numbers keep the common order.
#[derive(Default)]
struct Lines {
    next: u64,
    /// Answers and reports that have left since a value did.
    in_a_row: u32,
    queues: [VecDeque<(u64, Held)>; Rank::ALL.len()],
    /// Of the messages in all queues.
    waiting: Load,
    /// Of the messages that were taken and are not settled.
    taken: Load,
    account: Option<Account>,
}

/// The account of memory, and which part of its share for outboxes may be held here.
struct Account {
    tally: Tally,
    parts: usize,
}

#[derive(Default, Clone, Copy)]
struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Lines {
    fn push(&mut self, held: Held) {
        self.waiting.add(size_of(&held.publish));
        let number = self.next;
        self.next = number.wrapping_add(1);
        if let Some(queue) = self.queues.get_mut(Rank::of(&held.publish) as usize) {
            queue.push_back((number, held));
        }
    }

    fn pop(&mut self) -> Option<Held> {
        let turn_of_values = self.in_a_row >= IN_A_ROW;
        let held = self
            .pop_oldest(turn_of_values)
            .or_else(|| self.pop_oldest(!turn_of_values))?;
        self.in_a_row = match held.publish.is_value() {
            true => 0,
            false => self.in_a_row.saturating_add(1),
        };
        self.waiting.remove(size_of(&held.publish));
        Some(held)
    }

    /// Takes the oldest of the values, or of the others.
    fn pop_oldest(&mut self, values: bool) -> Option<Held> {
        let ranked = Rank::ALL.into_iter().zip(&mut self.queues);
        let (_, oldest) = ranked
            .filter(|(rank, queue)| rank.is_value() == values && !queue.is_empty())
            .min_by_key(|(_, queue)| queue.front().map(|(number, _)| *number))?;
        let (_, held) = oldest.pop_front()?;
        if oldest.capacity() > SMALL && oldest.len() < oldest.capacity() / 8 {
            oldest.shrink_to(oldest.capacity() / 4);
        }
        Some(held)
    }

    /// Gives up the oldest message of the lowest rank that gives way to `rank`.
    fn shed(&mut self, rank: Rank) -> bool {
        let below = Rank::ALL.into_iter().zip(&mut self.queues);
        let victim = below
            .take_while(|(lower, _)| lower.gives_way_to(rank))
            .find_map(|(_, queue)| queue.pop_front());
        let Some((_, held)) = victim else {
            return false;
        };
        self.waiting.remove(size_of(&held.publish));
        held.give_up();
        true
    }

    fn fits(&self, bytes: usize, bounds: Bounds) -> bool {
        let held = self.held().saturating_add(bytes);
        let room = |account: &Account| {
            held <= account.tally.memory().limit(Kind::Outboxes) / account.parts
        };
        self.waiting.messages < bounds.messages
            && held <= bounds.bytes
            && self.account.as_ref().is_none_or(room)
    }

    fn held(&self) -> usize {
        self.waiting.bytes.saturating_add(self.taken.bytes)
    }

    /// Charges what is held by now.
    fn charge(&mut self) {
        let held = self.held();
        if let Some(account) = &mut self.account {
            account.tally.set(held);
        }
    }
}

impl Outbox {
    pub(crate) fn new(bounds: Bounds, counters: Arc<Counters>) -> Self {
        Self {
            lines: Mutex::default(),
            filled: Notify::new(),
            bounds,
            counters,
            overflowing: AtomicBool::new(false),
        }
    }

    /// What is held is charged to this account from now on, and is one of so many `parts` of its
    /// share for outboxes at most.
    pub(crate) fn attach(&self, memory: &Arc<Memory>, parts: usize) {
        let tally = Tally::new(Arc::clone(memory), Kind::Outboxes);
        let mut lines = self.lines.lock();
        lines.account = Some(Account { tally, parts });
        lines.charge();
    }

    /// Takes all of `batch`, in order. Never waits for the broker.
    pub(crate) fn push(&self, batch: &mut Vec<Publish>) {
        self.push_with(batch, None);
    }

    /// As [`Outbox::push`]; `receipt` waits until the broker has the answers among them.
    pub(crate) fn push_with(&self, batch: &mut Vec<Publish>, receipt: Option<Receipt>) {
        self.put(batch, receipt.as_ref());
        if let Some(receipt) = receipt {
            receipt.settle(Ok(()));
        }
    }

    fn put(&self, batch: &mut Vec<Publish>, receipt: Option<&Receipt>) {
        if batch.is_empty() {
            return;
        }
        let mut dropped = 0;
        let mut lines = self.lines.lock();
        for publish in batch.drain(..) {
            let bytes = size_of(&publish);
            // Each message that gives way was pushed once, so that this is linear.
            while !lines.fits(bytes, self.bounds) {
                if !lines.shed(Rank::of(&publish)) {
                    break;
                }
                dropped += 1;
            }
            if lines.fits(bytes, self.bounds) {
                let answer = publish.kind == PublishKind::Response;
                let receipt = receipt.filter(|_| answer).map(Receipt::part);
                lines.push(Held { publish, receipt });
            } else {
                dropped += 1;
            }
        }
        lines.charge();
        drop(lines);
        self.filled.notify_one();
        if dropped > 0 {
            self.count_dropped(dropped);
        }
    }

    /// Counts messages that are still here at the end.
    pub(crate) fn count_undelivered(&self, lost: u64) {
        self.counters.publish_dropped.add_shared(lost);
    }

    /// Counts messages that did not reach the broker.
    pub(crate) fn count_dropped(&self, dropped: u64) {
        self.counters.publish_dropped.add_shared(dropped);
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            limited!(
                WARN,
                self.counters,
                monotonic(),
                PublishDropped,
                max_queued = self.bounds.messages,
                max_queued_bytes = self.bounds.bytes,
                "messages dropped: the broker does not take them fast enough \
                 (mqtt.max_queued, mqtt.max_queued_bytes, limits.memory)"
            );
        }
    }

    /// Counts a message that the broker did not want.
    pub(crate) fn refused(&self) {
        self.counters.publish_refused.add_shared(1);
        self.counters.publish_dropped.add_shared(1);
    }

    /// Where things are counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Moves waiting messages to the end of `into`, up to `most` and until they have `bytes`, and
    /// waits until there is at least one. They count as held until [`Outbox::settle`]. Cancelling
    /// the wait loses nothing.
    pub(crate) async fn take(&self, most: usize, bytes: usize, into: &mut Vec<Held>) {
        loop {
            {
                let mut lines = self.lines.lock();
                let mut taken = 0usize;
                for _ in 0..most {
                    if taken >= bytes {
                        break;
                    }
                    let Some(held) = lines.pop() else { break };
                    let size = size_of(&held.publish);
                    lines.taken.add(size);
                    taken = taken.saturating_add(size);
                    into.push(held);
                }
                if lines.waiting.messages == 0 {
                    self.overflowing.store(false, Ordering::Relaxed);
                } else {
                    // More is left: the next call must not wait.
                    self.filled.notify_one();
                }
            }
            if !into.is_empty() {
                return;
            }
            self.filled.notified().await;
        }
    }

    /// A taken message of `bytes`, which is its [`size`], is held no longer.
    pub(crate) fn settle(&self, bytes: usize) {
        let mut lines = self.lines.lock();
        lines.taken.remove(bytes);
        lines.charge();
    }

    /// Messages that wait or are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        let lines = self.lines.lock();
        lines.waiting.messages.saturating_add(lines.taken.messages)
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.lock().waiting.messages == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PublishKind;
    use crate::memory::Shares;

    fn message(number: usize, qos: u8) -> Publish {
        Publish {
            kind: PublishKind::Notify,
            endpoint: "e".into(),
            topic: number.to_string(),
            payload: Vec::new(),
            qos,
            correlation: None,
        }
    }

    fn large(number: usize, qos: u8, payload: usize) -> Publish {
        Publish {
            payload: vec![0; payload],
            ..message(number, qos)
        }
    }

    fn bounded(messages: usize, bytes: usize) -> (Outbox, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let outbox = Outbox::new(Bounds { messages, bytes }, Arc::clone(&counters));
        (outbox, counters)
    }

    fn outbox(capacity: usize) -> (Outbox, Arc<Counters>) {
        bounded(capacity, usize::MAX)
    }

    fn topics(outbox: &Outbox) -> Vec<String> {
        let mut lines = outbox.lines.lock();
        std::iter::from_fn(|| lines.pop())
            .map(|held| held.publish.topic)
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
    fn answers_and_reports_leave_before_values() {
        let other = |number, qos, kind| Publish {
            kind,
            ..message(number, qos)
        };
        let (outbox, _) = outbox(1000);
        outbox.push(&mut vec![message(0, 0), message(1, 1), message(2, 0)]);
        outbox.push(&mut vec![
            other(3, 0, PublishKind::Response),
            other(4, 1, PublishKind::Register),
            message(5, 0),
            other(6, 0, PublishKind::Response),
        ]);
        assert_eq!(topics(&outbox), ["3", "4", "6", "0", "1", "2", "5"]);
        // Values are not kept waiting for ever.
        outbox.push(&mut vec![message(1000, 0), message(1001, 0)]);
        outbox.push(
            &mut (0..40)
                .map(|n| other(n, 0, PublishKind::Response))
                .collect(),
        );
        let order = topics(&outbox);
        let place = |topic: &str| order.iter().position(|it| it == topic).unwrap();
        let in_a_row = usize::try_from(IN_A_ROW).unwrap();
        assert_eq!((place("1000"), place("1001")), (in_a_row, 2 * in_a_row + 1));
    }

    #[test]
    fn room_of_a_burst_is_given_back() {
        let (outbox, _) = outbox(100_000);
        let room = || {
            let lines = outbox.lines.lock();
            lines.queues.iter().map(VecDeque::capacity).sum::<usize>()
        };
        for _ in 0..2 {
            outbox.push(&mut (0..50_000).map(|n| message(n, 0)).collect());
            assert!(room() >= 50_000);
            assert!(
                topics(&outbox)
                    .into_iter()
                    .eq((0..50_000).map(|n: usize| n.to_string()))
            );
            assert!(room() <= 2 * SMALL, "{}", room());
        }
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

    #[test]
    fn values_give_way_to_answers() {
        let answer = |number| Publish {
            kind: PublishKind::Response,
            ..message(number, 0)
        };
        let (outbox, counters) = outbox(3);
        outbox.push(&mut vec![message(0, 0), answer(1), message(2, 0)]);
        outbox.push(&mut vec![answer(3), message(4, 0)]);
        assert_eq!(counters.publish_dropped.get(), 2);
        outbox.push(&mut vec![answer(5), answer(6)]);
        assert_eq!(counters.publish_dropped.get(), 4);
        // A QoS 1 message takes the place of an answer when no value is left.
        outbox.push(&mut vec![message(7, 1)]);
        assert_eq!(topics(&outbox), ["3", "5", "7"]);
    }

    #[test]
    fn c9_bytes_are_bounded_as_messages_are() {
        let (outbox, counters) = bounded(1000, 10 * size(1, 1000));
        outbox.push(&mut (0..10).map(|n| large(n, 0, 1000)).collect());
        assert_eq!(counters.publish_dropped.get(), 0);
        // Three of QoS 0 make room for one of three times their size, and no more go.
        outbox.push(&mut vec![large(10, 1, 3000)]);
        assert_eq!(counters.publish_dropped.get(), 3);
        outbox.push(&mut vec![large(11, 0, 1000), large(12, 2, 1_000_000)]);
        assert_eq!(topics(&outbox), ["10"]);
        assert_eq!(counters.publish_dropped.get(), 3 + 1 + 7 + 1);
        assert_eq!(outbox.unsettled(), 0);
    }

    #[tokio::test]
    async fn c9_what_is_on_its_way_counts_until_it_is_settled() {
        let (outbox, counters) = bounded(1000, 4 * size(1, 1000));
        outbox.push(&mut (0..4).map(|n| large(n, 1, 1000)).collect());
        let mut got = Vec::new();
        outbox.take(3, usize::MAX, &mut got).await;
        outbox.push(&mut vec![large(4, 1, 1000)]);
        assert_eq!((counters.publish_dropped.get(), outbox.unsettled()), (1, 4));
        outbox.settle(size(1, 1000));
        outbox.push(&mut vec![large(5, 1, 1000)]);
        assert_eq!((counters.publish_dropped.get(), outbox.unsettled()), (1, 4));
    }

    #[tokio::test]
    async fn take_hands_over_in_batches() {
        let (outbox, _) = outbox(10);
        outbox.push(&mut (0..5).map(|n| message(n, 0)).collect());
        let mut got = Vec::new();
        outbox.take(2, usize::MAX, &mut got).await;
        assert_eq!((got.len(), outbox.is_empty()), (2, false));
        got.clear();
        outbox.take(100, 1, &mut got).await;
        assert_eq!(got.len(), 1, "one goes whatever its size");
        got.clear();
        outbox.take(100, usize::MAX, &mut got).await;
        assert_eq!(
            got.first().map(|held| held.publish.topic.as_str()),
            Some("3")
        );
        assert_eq!((got.len(), outbox.is_empty()), (2, true));
        assert_eq!(outbox.unsettled(), 5);
    }

    #[tokio::test]
    async fn c9_what_is_held_is_charged_to_the_account() {
        let memory = Arc::new(Memory::new(Shares::new(1 << 20, true)));
        let share = memory.limit(Kind::Outboxes) / 2;
        let bounds = Bounds {
            messages: 1000,
            bytes: 1 << 30,
        };
        let counters = Arc::new(Counters::default());
        let outbox = Outbox::new(bounds, Arc::clone(&counters));
        outbox.attach(&memory, 2);
        outbox.push(&mut (0..100).map(|n| large(n, 1, 1000)).collect());
        let dropped = usize::try_from(counters.publish_dropped.get()).unwrap();
        let kept = outbox.unsettled();
        assert_eq!(dropped + kept, 100);
        assert!((share / 1300..=share / 1100).contains(&kept), "{kept}");
        let mut taken = Vec::new();
        outbox.take(1000, 1 << 30, &mut taken).await;
        assert!(
            memory.used(Kind::Outboxes) >= kept * 1000,
            "not settled yet"
        );
        for held in &taken {
            outbox.settle(size_of(&held.publish));
        }
        assert_eq!(memory.used(Kind::Outboxes), 0);
    }
}
