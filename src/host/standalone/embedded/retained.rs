//! Retained messages (MQTT 5 §3.3.1.3), within bounds: a message too many is delivered and not
//! kept. What is kept for later subscribers is in memory; with a store it is written to the disk too
//! (`kept.rs`), and is there again after a restart.
//!
//! A subscription with wildcards gets all that match at once. So that many of them do not fill the
//! memory or take all the time, one is served after the other, each when what is held for
//! subscribers is within its bound, and not more than [`WAITING`] wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use rmqtt::retain::RetainStorage;
use rmqtt::types::{Retain, TopicFilter, TopicName};
use tokio::sync::Semaphore;

use super::super::outbox;
use super::held::Ledger;
use super::kept::{Found, KeptMessages};
use crate::config::matches_filter;
use crate::runtime::monotonic;
use crate::telemetry::{Counters, limited};

/// Subscriptions that wait for their retained messages; further ones get none.
const WAITING: usize = 1000;

/// Between two looks at what is held for subscribers.
const STEP: Duration = Duration::from_millis(10);

/// How long a subscription waits for others to take what is theirs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Bytes held for subscribers from which on a subscription waits.
    pub(super) held: usize,
}

/// See the module.
pub(super) struct Retained {
    kept: RwLock<Kept>,
    bounds: Bounds,
    ledger: Arc<Ledger>,
    counters: Arc<Counters>,
    turn: Semaphore,
    waiting: AtomicUsize,
    /// Not without a store.
    disk: Option<Arc<KeptMessages>>,
}

#[derive(Default)]
struct Kept {
    messages: BTreeMap<String, Message>,
    bytes: usize,
}

struct Message {
    /// As it is on the disk: a third of what the broker's type takes, and there may be one for each device.
    packed: Box<[u8]>,
    bytes: usize,
    ends: Option<Instant>,
}

impl Message {
    fn retain(&self) -> Option<Retain> {
        postcard::from_bytes(&self.packed).ok()
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }
}

impl Kept {
    /// Whether there was one.
    fn remove(&mut self, topic: &str) -> bool {
        let removed = self.messages.remove(topic);
        if let Some(message) = &removed {
            self.bytes = self.bytes.saturating_sub(message.bytes);
        }
        removed.is_some()
    }

    fn insert(&mut self, topic: String, message: Message) {
        self.bytes = self.bytes.saturating_add(message.bytes);
        self.messages.insert(topic, message);
    }

    /// Makes room by what has ended.
    fn expire(&mut self, now: Instant) {
        self.messages.retain(|_, message| !message.has_ended(now));
        let bytes = self.messages.values().map(|message| message.bytes);
        self.bytes = bytes.fold(0, usize::saturating_add);
    }

    fn has_room(&self, bytes: usize, bounds: &Bounds) -> bool {
        self.messages.len() < bounds.messages && self.bytes.saturating_add(bytes) <= bounds.bytes
    }

    /// Those that a filter matches.
    fn matching(&self, filter: &str, now: Instant) -> Vec<(TopicName, Retain)> {
        let lives = |message: &&Message| !message.has_ended(now);
        if !filter.contains(['+', '#']) {
            let found = self.messages.get(filter).filter(lives);
            let found = found.and_then(|message| Some((filter.into(), message.retain()?)));
            return found.into_iter().collect();
        }
        // All below the levels before the first wildcard stand together.
        let wild = filter.find(['+', '#']).unwrap_or_default();
        let start = filter.get(..wild).unwrap_or_default();
        // `a/#` matches `a` as well (MQTT 5 §4.7.1.2).
        let parent = start.strip_suffix('/').unwrap_or(start);
        let hides = filter.starts_with(['+', '#']);
        let exactly = self.messages.get_key_value(parent).into_iter();
        let below = self.messages.range(start.to_owned()..);
        let below = below.take_while(|(topic, _)| topic.starts_with(start));
        exactly
            .chain(below.filter(|(topic, _)| *topic != parent))
            .filter(|(topic, _)| !(hides && topic.starts_with('$')))
            .filter(|(topic, message)| matches_filter(filter, topic) && lives(message))
            .filter_map(|(topic, message)| Some((topic.as_str().into(), message.retain()?)))
            .collect()
    }
}

impl Retained {
    pub(super) fn new(bounds: Bounds, ledger: Arc<Ledger>, counters: Arc<Counters>) -> Self {
        Self {
            kept: RwLock::default(),
            bounds,
            ledger,
            counters,
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            disk: None,
        }
    }

    /// What is on the disk, and what comes is written there.
    pub(super) fn on_disk(mut self, disk: Arc<KeptMessages>, found: Vec<Found>) -> Self {
        for Found {
            topic,
            retain,
            lasts,
        } in found
        {
            self.keep(&topic, retain, lasts);
        }
        self.disk = Some(disk);
        self
    }

    fn keep(&self, topic: &str, mut retain: Retain, lasts: Option<Duration>) {
        let now = Instant::now();
        let packed = postcard::to_allocvec(&retain).ok();
        let mut kept = self.kept.write();
        let was_there = kept.remove(topic);
        if retain.publish.payload.is_empty() {
            if let Some(disk) = self.disk.as_ref().filter(|_| was_there) {
                disk.forget(topic);
            }
            return;
        }
        let bytes = outbox::size(topic.len().saturating_mul(2), retain.publish.payload.len());
        if !kept.has_room(bytes, &self.bounds) {
            kept.expire(now);
        }
        // Under the lock, so that the disk hears of changes in their order.
        if let Some(packed) = packed.filter(|_| kept.has_room(bytes, &self.bounds)) {
            if let Some(disk) = &self.disk {
                // A copy: the payload that is delivered counts as held for subscribers.
                retain.publish.payload = Bytes::copy_from_slice(&retain.publish.payload);
                disk.keep(topic, retain, lasts);
            }
            let message = Message {
                packed: packed.into(),
                bytes,
                ends: lasts.and_then(|lasts| now.checked_add(lasts)),
            };
            return kept.insert(topic.to_owned(), message);
        }
        if let Some(disk) = self.disk.as_ref().filter(|_| was_there) {
            disk.forget(topic);
        }
        drop(kept);
        self.counters.retained_refused.add_shared(1);
        limited!(
            WARN,
            self.counters,
            monotonic(),
            RetainedRefused,
            topic,
            max_retained = self.bounds.messages,
            max_retained_bytes = self.bounds.bytes,
            "retained message delivered but not kept: the limit is reached (mqtt.max_retained, \
             mqtt.max_retained_bytes)"
        );
    }

    async fn find(&self, filter: &str) -> Vec<(TopicName, Retain)> {
        let Ok(_turn) = self.turn.acquire().await else {
            return Vec::new();
        };
        let until = Instant::now() + PATIENCE;
        while self.ledger.bytes() > self.bounds.held && Instant::now() < until {
            tokio::time::sleep(STEP).await;
        }
        let mut found = self.kept.read().matching(filter, Instant::now());
        for (topic, retain) in &mut found {
            let payload = std::mem::take(&mut retain.publish.payload);
            retain.publish.payload = self.ledger.count(topic.len(), payload);
        }
        found
    }
}

#[async_trait]
impl RetainStorage for Retained {
    fn enable(&self) -> bool {
        true
    }

    async fn set(
        &self,
        topic: &TopicName,
        retain: Retain,
        expiry_interval: Option<Duration>,
    ) -> rmqtt::Result<()> {
        // Zero: it does not end.
        let lasts = expiry_interval.filter(|lasts| !lasts.is_zero());
        self.keep(topic, retain, lasts);
        Ok(())
    }

    async fn get(&self, topic_filter: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counters.retained_withheld.add_shared(1);
            return Ok(Vec::new());
        }
        let found = self.find(topic_filter).await;
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        Ok(found)
    }

    async fn count(&self) -> isize {
        self.kept
            .read()
            .messages
            .len()
            .try_into()
            .unwrap_or(isize::MAX)
    }

    async fn max(&self) -> isize {
        self.bounds.messages.try_into().unwrap_or(isize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use rmqtt::codec::types::Publish;
    use rmqtt::types::{From as Origin, Id, Publish as RoutedPublish};

    use super::super::scratch::Scratch;
    use super::*;

    fn retained(messages: usize, bytes: usize) -> Retained {
        let bounds = Bounds {
            messages,
            bytes,
            held: usize::MAX,
        };
        Retained::new(bounds, Arc::default(), Arc::default())
    }

    fn put(store: &Retained, topic: &str, payload: &[u8], lasts: Option<Duration>) {
        let publish = Publish {
            dup: false,
            retain: true,
            qos: rmqtt::types::QoS::AtMostOnce,
            topic: topic.into(),
            packet_id: None,
            payload: Bytes::copy_from_slice(payload),
            properties: None,
        };
        let retain = Retain {
            msg_id: None,
            from: Origin::from_system(Id::from(1, "c".into())),
            publish: RoutedPublish::new(Box::new(publish), None, None, None),
        };
        store.keep(topic, retain, lasts);
    }

    fn topics(store: &Retained, filter: &str) -> Vec<String> {
        let found = store.kept.read().matching(filter, Instant::now());
        found.iter().map(|(topic, _)| topic.to_string()).collect()
    }

    #[test]
    fn filters_find_what_they_match() {
        let store = retained(100, 1 << 20);
        for topic in ["a", "a/b", "a/b/c", "a/x/c", "ab", "$x/y", "b"] {
            put(&store, topic, b"1", None);
        }
        for (filter, expected) in [
            ("a", vec!["a"]),
            ("a/#", vec!["a", "a/b", "a/b/c", "a/x/c"]),
            ("a/+", vec!["a/b"]),
            ("a/+/c", vec!["a/b/c", "a/x/c"]),
            ("+", vec!["a", "ab", "b"]),
            ("#", vec!["a", "a/b", "a/b/c", "a/x/c", "ab", "b"]),
            ("$x/#", vec!["$x/y"]),
            ("c/#", vec![]),
        ] {
            assert_eq!(topics(&store, filter), expected, "{filter}");
        }
        put(&store, "a/b", b"", None);
        assert_eq!(topics(&store, "a/+"), [""; 0], "an empty one clears");
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let store = retained(3, 1000);
        for topic in ["a", "b", "c", "d"] {
            put(&store, topic, b"1", None);
        }
        assert_eq!(topics(&store, "+"), ["a", "b", "c"]);
        put(&store, "a", &[0; 2000], None);
        assert_eq!(
            topics(&store, "+"),
            ["b", "c"],
            "an old value is worse than none"
        );
        assert_eq!(store.counters.retained_refused.get(), 2);
        for n in 0..100 {
            put(&store, "b", &[n], None);
        }
        let kept = store.kept.read();
        assert_eq!(
            (kept.messages.len(), kept.bytes),
            (2, 2 * outbox::size(2, 1))
        );
    }

    #[test]
    fn what_has_ended_makes_room() {
        let store = retained(1, 1000);
        put(&store, "a", b"1", Some(Duration::from_nanos(1)));
        put(&store, "b", b"1", None);
        assert_eq!(topics(&store, "+"), ["b"]);
    }

    fn on_disk(directory: &std::path::Path) -> (Retained, impl FnOnce()) {
        let (disk, found, thread) = KeptMessages::open(directory, 100).unwrap();
        let store = retained(100, 1 << 20).on_disk(Arc::clone(&disk), found);
        let end = move || {
            disk.close();
            thread.join().unwrap();
        };
        (store, end)
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let scratch = Scratch::new("retained-restart");
        let (store, end) = on_disk(&scratch.0);
        for topic in ["a", "b", "c", "d"] {
            put(&store, topic, topic.as_bytes(), None);
        }
        put(&store, "a", b"newer", Some(Duration::from_secs(600)));
        put(&store, "b", b"", None);
        put(&store, "c", b"1", Some(Duration::from_nanos(1)));
        put(&store, "d", &[0; 2 << 20], None);
        end();
        let (store, end) = on_disk(&scratch.0);
        assert_eq!(topics(&store, "#"), ["a"]);
        let found = store.kept.read().matching("a", Instant::now());
        let (_, retain) = &found[0];
        assert_eq!(
            (&retain.publish.payload[..], retain.publish.retain),
            (&b"newer"[..], true)
        );
        let ends = store.kept.read().messages["a"].ends;
        let lasts = ends.map(|ends| ends.saturating_duration_since(Instant::now()));
        assert!(lasts > Some(Duration::ZERO) && lasts <= Some(Duration::from_secs(600)));
        put(&store, "a", b"", None);
        end();
        let (store, end) = on_disk(&scratch.0);
        assert_eq!(topics(&store, "#"), [""; 0]);
        end();
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let scratch = Scratch::new("retained-damaged");
        std::fs::write(scratch.0.join("retained.redb"), [7; 10_000]).unwrap();
        let (store, end) = on_disk(&scratch.0);
        put(&store, "a", b"1", None);
        end();
        assert!(scratch.0.join("retained.redb.damaged").exists());
        let (store, end) = on_disk(&scratch.0);
        assert_eq!(topics(&store, "#"), ["a"]);
        end();
    }

    #[tokio::test]
    async fn what_is_on_its_way_counts_as_held() {
        let store = retained(10, 1000);
        put(&store, "a", b"123", None);
        assert_eq!(store.ledger.bytes(), 0);
        let found = store.find("#").await;
        assert_eq!(store.ledger.bytes(), outbox::size(1, 3));
        drop(found);
        assert_eq!(store.ledger.bytes(), 0);
    }
}
