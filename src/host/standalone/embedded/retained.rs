//! Retained messages (MQTT 5 §3.3.1.3), within bounds: a message too many is delivered and not
//! kept. What is kept for later subscribers is in memory; with a store it is written to the disk too
//! (`kept.rs`), and is there again after a restart.
//!
//! A subscription with wildcards gets all that match at once. So that many of them do not fill the
//! memory or take all the time, one is served after the other, each when what is held for
//! subscribers is within its bound, and not more than [`WAITING`] wait.

mod record;
mod topics;

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use rmqtt::retain::RetainStorage;
use rmqtt::types::{Retain, TopicFilter, TopicName};
use tokio::sync::Semaphore;

use self::record::{Origins, Record};
use self::topics::Topics;
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

struct Kept {
    /// [`Record`]s.
    messages: Topics,
    origins: Origins,
    bytes: usize,
    /// The times in the records count from here, in nanoseconds.
    start: Instant,
    /// No message ends before this time.
    first_end: u64,
}

impl Kept {
    fn new() -> Self {
        Self {
            messages: Topics::default(),
            origins: Origins::default(),
            bytes: 0,
            start: Instant::now(),
            first_end: u64::MAX,
        }
    }

    fn at(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether there was one.
    fn remove(&mut self, topic: &str) -> bool {
        let Some(message) = self.messages.remove(topic) else {
            return false;
        };
        self.origins.release(&message);
        let bytes = Record::read(&message).map_or(0, |record| record.bytes(topic.len()));
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }

    /// There is none of this topic. Whether there is room.
    fn insert(&mut self, topic: &str, message: &[u8], bounds: &Bounds, now: Instant) -> bool {
        let Some(record) = Record::read(message) else {
            return false;
        };
        let bytes = record.bytes(topic.len());
        if !self.has_room(bytes, bounds) {
            self.expire(now);
        }
        if !self.has_room(bytes, bounds) {
            self.origins.release(message);
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.first_end = record
            .ends
            .map_or(self.first_end, |end| end.min(self.first_end));
        self.messages.insert(topic, message);
        true
    }

    /// Makes room by what has ended.
    fn expire(&mut self, now: Instant) {
        let now = self.at(now);
        if self.first_end > now {
            return;
        }
        let (origins, bytes, first_end) = (&mut self.origins, &mut self.bytes, &mut self.first_end);
        (*bytes, *first_end) = (0, u64::MAX);
        self.messages.retain(|topic, message| {
            let record = Record::read(message).filter(|record| !record.has_ended(now));
            let Some(record) = record else {
                origins.release(message);
                return false;
            };
            *bytes = bytes.saturating_add(record.bytes(topic.len()));
            *first_end = record.ends.map_or(*first_end, |end| end.min(*first_end));
            true
        });
    }

    fn has_room(&self, bytes: usize, bounds: &Bounds) -> bool {
        self.messages.len() < bounds.messages && self.bytes.saturating_add(bytes) <= bounds.bytes
    }

    /// Those that a filter matches.
    fn matching(&self, filter: &str, now: Instant) -> Vec<(TopicName, Retain)> {
        let now = self.at(now);
        let mut found = Vec::new();
        let mut take = |topic: &str, message: &[u8]| {
            let record = Record::read(message).filter(|record| !record.has_ended(now));
            let ends = record.as_ref().and_then(|record| record.ends);
            let Some(mut retain) = record.and_then(|it| it.retain(topic, &self.origins)) else {
                return;
            };
            if let Some(ends) = ends {
                set_rest(&mut retain, Duration::from_nanos(ends.saturating_sub(now)));
            }
            found.push((topic.into(), retain));
        };
        // All below the levels before the first wildcard stand together.
        let Some(wild) = filter.find(['+', '#']) else {
            if let Some(message) = self.messages.get(filter) {
                take(filter, &message);
            }
            return found;
        };
        let start = filter.get(..wild).unwrap_or_default();
        // `a/#` matches `a` as well (MQTT 5 §4.7.1.2).
        let parent = start.strip_suffix('/').unwrap_or(start);
        let hides = filter.starts_with(['+', '#']);
        let matches =
            |topic: &str| !(hides && topic.starts_with('$')) && matches_filter(filter, topic);
        if let Some(message) = self.messages.get(parent).filter(|_| matches(parent)) {
            take(parent, &message);
        }
        self.messages.visit(start, |topic, message| {
            if !topic.starts_with(start) {
                return ControlFlow::Break(());
            }
            if topic != parent && matches(topic) {
                take(topic, message);
            }
            ControlFlow::Continue(())
        });
        found
    }
}

/// The expiry interval that a subscriber gets is what is left of it (MQTT 5 §3.3.2.3.3).
fn set_rest(retain: &mut Retain, rest: Duration) {
    let properties = retain.publish.properties.as_mut();
    if let Some(interval) = properties.and_then(|it| it.message_expiry_interval.as_mut()) {
        let seconds = u32::try_from(rest.as_nanos().div_ceil(1_000_000_000)).ok();
        *interval = seconds.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    }
}

impl Retained {
    pub(super) fn new(bounds: Bounds, ledger: Arc<Ledger>, counters: Arc<Counters>) -> Self {
        Self {
            kept: RwLock::new(Kept::new()),
            bounds,
            ledger,
            counters,
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            disk: None,
        }
    }

    /// One that is on the disk; `None`: those before do not count.
    pub(super) fn restore(&self, found: Option<Found>) {
        match found {
            Some(found) => self.keep(&found.topic, found.retain, found.lasts),
            None => *self.kept.write() = Kept::new(),
        }
    }

    /// What comes from now on is written there.
    pub(super) fn on_disk(mut self, disk: Arc<KeptMessages>) -> Self {
        self.disk = Some(disk);
        self
    }

    fn keep(&self, topic: &str, mut retain: Retain, lasts: Option<Duration>) {
        let now = Instant::now();
        let mut kept = self.kept.write();
        let was_there = kept.remove(topic);
        if retain.publish.payload.is_empty() {
            if let Some(disk) = self.disk.as_ref().filter(|_| was_there) {
                disk.forget(topic);
            }
            return;
        }
        let ends = lasts.and_then(|lasts| now.checked_add(lasts));
        let ends = ends.map(|ends| kept.at(ends));
        let message = Record::write(topic, &mut retain, ends, &mut kept.origins);
        // Under the lock, so that the disk hears of changes in their order.
        if message.is_some_and(|message| kept.insert(topic, &message, &self.bounds, now)) {
            if let Some(disk) = &self.disk {
                // A copy: the payload that is delivered counts as held for subscribers.
                retain.publish.payload = Bytes::copy_from_slice(&retain.publish.payload);
                disk.keep(topic, retain, lasts);
            }
            return;
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
    use rmqtt::codec::v5::PublishProperties;
    use rmqtt::types::{From as Origin, Id, Publish as RoutedPublish};

    use super::super::super::outbox;
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
        let interval = lasts.and_then(|lasts| NonZeroU32::new(lasts.as_secs() as u32));
        let publish = Publish {
            dup: false,
            retain: true,
            qos: rmqtt::types::QoS::AtMostOnce,
            topic: topic.into(),
            packet_id: None,
            payload: Bytes::copy_from_slice(payload),
            properties: lasts.map(|_| PublishProperties {
                message_expiry_interval: interval,
                ..PublishProperties::default()
            }),
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
    fn a_subscriber_gets_what_is_left_of_the_interval() {
        let store = retained(10, 1 << 20);
        put(&store, "a", b"1", Some(Duration::from_secs(30)));
        put(&store, "b", b"1", None);
        let after = |seconds: f64| {
            let later = Instant::now() + Duration::from_secs_f64(seconds);
            let found = store.kept.read().matching("+", later);
            let interval = |(_, retain): &(TopicName, Retain)| {
                let properties = retain.publish.properties.as_ref();
                properties.and_then(|it| Some(it.message_expiry_interval?.get()))
            };
            found.iter().map(interval).collect::<Vec<_>>()
        };
        assert_eq!(after(0.0), [Some(30), None]);
        assert_eq!(after(9.5), [Some(21), None]);
        assert_eq!(after(29.5), [Some(1), None]);
        assert_eq!(after(30.5), [None]);
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
        let store = retained(100, 1 << 20);
        let opened = KeptMessages::open(directory, 100, |it| store.restore(it));
        let (disk, thread) = opened.unwrap();
        let store = store.on_disk(Arc::clone(&disk));
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
        let kept = store.kept.read();
        let (message, now) = (kept.messages.get("a").unwrap(), kept.at(Instant::now()));
        let lasts = Record::read(&message).unwrap().ends.unwrap() - now;
        assert!(lasts > 0 && lasts <= 600_000_000_000);
        drop(kept);
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

    #[test]
    fn those_of_a_damaged_file_do_not_count() {
        let store = retained(100, 1 << 20);
        put(&store, "a", b"1", None);
        store.restore(None);
        assert_eq!(topics(&store, "#"), [""; 0]);
        assert_eq!(store.kept.read().bytes, 0);
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
