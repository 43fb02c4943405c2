//! Events on their way to those who listen. What a listener does not take in time is dropped and
//! counted; nobody waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use axum::body::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::engine::matches_glob;

/// Events that wait for one listener, and their bytes.
const MOST_WAITING: usize = 2048;
const MOST_BYTES: usize = 4 << 20;

/// Those who listen at a time.
pub(super) const MOST_LISTENERS: usize = 64;

/// Devices of which it is remembered that they are awake, while somebody wants to know.
const MOST_AWAKE: usize = 100_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Registered,
    Updated,
    Gone,
    Awake,
    Asleep,
    Notify,
    Send,
    Answer,
    Coap,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Registered,
        Self::Updated,
        Self::Gone,
        Self::Awake,
        Self::Asleep,
        Self::Notify,
        Self::Send,
        Self::Answer,
        Self::Coap,
    ];

    /// As in `kinds=` and `event:`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Gone => "gone",
            Self::Awake => "awake",
            Self::Asleep => "asleep",
            Self::Notify => "notify",
            Self::Send => "send",
            Self::Answer => "answer",
            Self::Coap => "coap",
        }
    }

    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// One event for one listener.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: u64,
    pub(super) kind: Kind,
    /// JSON in one line.
    pub(super) data: Bytes,
}

/// What a listener wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Endpoint names with `*` and `?`.
    pub(super) endpoint: Option<String>,
    /// Bits of [`Kind`].
    pub(super) kinds: u16,
}

impl Wanted {
    fn takes(&self, kind: Kind, endpoint: &str) -> bool {
        let pattern = self.endpoint.as_deref();
        self.kinds & kind.bit() != 0 && pattern.is_none_or(|it| matches_glob(it, endpoint))
    }
}

struct Listener {
    number: u64,
    wanted: Wanted,
    to: mpsc::Sender<Event>,
    state: Arc<State>,
}

/// What waits for a listener, and what was dropped.
#[derive(Debug, Default)]
struct State {
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Who listens.
#[derive(Default)]
pub(super) struct Events {
    /// Bits of what anybody wants: the one look where nobody listens.
    wanted: AtomicU16,
    listeners: RwLock<Vec<Listener>>,
    next: AtomicU64,
    /// Events that found no room, of all listeners.
    pub(super) lost: AtomicU64,
    /// Devices that sleep by and by, and until when they are awake, milliseconds since 1970.
    awake: Mutex<HashMap<Arc<str>, u64>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The receiving end; it stops listening when it is dropped.
pub(super) struct Subscription {
    events: Arc<Events>,
    number: u64,
    from: mpsc::Receiver<Event>,
    state: Arc<State>,
}

impl Subscription {
    /// The next event; never `None` as long as it listens.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let event = self.from.recv().await?;
        Some(self.taken(event))
    }

    /// The next event, if there is one by now.
    pub(super) fn ready(&mut self) -> Option<Event> {
        let event = self.from.try_recv().ok()?;
        Some(self.taken(event))
    }

    fn taken(&self, event: Event) -> Event {
        let bytes = &self.state.bytes;
        bytes.fetch_sub(event.data.len(), Ordering::Relaxed);
        event
    }

    /// How many were dropped since the last time.
    pub(super) fn lost(&self) -> u64 {
        self.state.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.events.listeners.write();
        listeners.retain(|it| it.number != self.number);
        self.events.note(&listeners);
    }
}

impl Events {
    /// Begins to listen; `None` when too many do.
    pub(super) fn listen(self: &Arc<Self>, wanted: Wanted) -> Option<Subscription> {
        let (to, from) = mpsc::channel(MOST_WAITING);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State::default());
        let mut listeners = self.listeners.write();
        if listeners.len() >= MOST_LISTENERS {
            return None;
        }
        listeners.push(Listener {
            number,
            wanted,
            to,
            state: state.clone(),
        });
        self.note(&listeners);
        Some(Subscription {
            events: self.clone(),
            number,
            from,
            state,
        })
    }

    fn note(&self, listeners: &[Listener]) {
        let bits = listeners.iter().fold(0, |bits, it| bits | it.wanted.kinds);
        self.wanted.store(bits, Ordering::Relaxed);
        if bits & (Kind::Awake.bit() | Kind::Asleep.bit()) == 0 {
            self.awake.lock().clear();
        }
    }

    /// Whether anybody wants one of these kinds.
    pub(super) fn wants(&self, kinds: u16) -> bool {
        self.wanted.load(Ordering::Relaxed) & kinds != 0
    }

    /// Tells those who want it; `data` is JSON, made if there are any.
    pub(super) fn tell(&self, kind: Kind, endpoint: &str, data: impl FnOnce() -> Vec<u8>) {
        if !self.wants(kind.bit()) {
            return;
        }
        let listeners = self.listeners.read();
        let wanting = listeners
            .iter()
            .filter(|it| it.wanted.takes(kind, endpoint));
        let mut wanting = wanting.peekable();
        if wanting.peek().is_none() {
            return;
        }
        let mut data = data();
        // Between the members of a JSON text a line break is a blank like any other.
        for byte in &mut data {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        let data = Bytes::from(data);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        for listener in wanting {
            let (state, bytes) = (&listener.state, data.len());
            let room = state.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= MOST_BYTES;
            let event = Event {
                id,
                kind,
                data: data.clone(),
            };
            state.bytes.fetch_add(bytes, Ordering::Relaxed);
            if !room || listener.to.try_send(event).is_err() {
                state.bytes.fetch_sub(bytes, Ordering::Relaxed);
                state.lost.fetch_add(1, Ordering::Relaxed);
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A device in queue mode has said something: it is awake until then.
    pub(super) fn woke(&self, at: u64, endpoint: &Arc<str>, until: u64) {
        let mut awake = self.awake.lock();
        let known = awake.len() < MOST_AWAKE || awake.contains_key(endpoint);
        let before = known.then(|| awake.insert(endpoint.clone(), until));
        drop(awake);
        if before == Some(None) {
            self.tell(Kind::Awake, endpoint, || plain(at, endpoint));
        }
    }

    /// Devices that have said nothing for long enough are asleep.
    pub(super) fn expire(&self, at: u64) {
        if !self.wants(Kind::Awake.bit() | Kind::Asleep.bit()) {
            return;
        }
        let mut asleep = Vec::new();
        self.awake.lock().retain(|endpoint, until| {
            let still = *until > at;
            if !still {
                asleep.push(endpoint.clone());
            }
            still
        });
        for endpoint in asleep {
            self.tell(Kind::Asleep, &endpoint, || plain(at, &endpoint));
        }
    }

    /// It is gone, awake or not.
    pub(super) fn forget(&self, endpoint: &str) {
        self.awake.lock().remove(endpoint);
    }
}

/// The members that every event has.
fn plain(at: u64, endpoint: &str) -> Vec<u8> {
    let mut data = open(at, endpoint);
    data.push(b'}');
    data
}

/// The same, without the end.
pub(super) fn open(at: u64, endpoint: &str) -> Vec<u8> {
    let name = serde_json::to_string(endpoint).unwrap_or_default();
    format!("{{\"at\":{at},\"endpoint\":{name}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(events: &Arc<Events>, endpoint: Option<&str>, kinds: u16) -> Subscription {
        let endpoint = endpoint.map(str::to_owned);
        events.listen(Wanted { endpoint, kinds }).unwrap()
    }

    #[test]
    fn nobody_is_told_what_nobody_wants() {
        let events = Arc::new(Events::default());
        events.tell(Kind::Notify, "a", || panic!("made for nobody"));
        let subscription = listen(&events, Some("b*"), Kind::Notify.bit());
        events.tell(Kind::Send, "b", || panic!("made for nobody"));
        events.tell(Kind::Notify, "a", || panic!("made for nobody"));
        drop(subscription);
        events.tell(Kind::Notify, "b", || panic!("made for nobody"));
    }

    #[tokio::test]
    async fn what_is_not_taken_is_dropped_and_counted() {
        let events = Arc::new(Events::default());
        let mut slow = listen(&events, None, Kind::Notify.bit());
        let tell = |size: usize| events.tell(Kind::Notify, "a", || vec![b'1'; size]);
        for _ in 0..MOST_WAITING + 7 {
            tell(1);
        }
        assert_eq!(slow.lost(), 7);
        assert_eq!(slow.lost(), 0);
        for _ in 0..MOST_WAITING {
            assert!(slow.next().await.is_some());
        }
        // By bytes as well, and what was taken makes room.
        for _ in 0..3 {
            tell(MOST_BYTES / 2);
        }
        assert_eq!(slow.lost(), 1);
        assert!(slow.next().await.is_some());
        tell(MOST_BYTES / 2);
        assert_eq!(slow.lost(), 0);
        assert_eq!(events.lost.load(Ordering::Relaxed), 8);
    }

    #[tokio::test]
    async fn an_event_is_one_line() {
        let events = Arc::new(Events::default());
        let mut all = listen(&events, Some("a"), u16::MAX);
        events.tell(Kind::Answer, "a", || b"{\n\r\n}".to_vec());
        assert_eq!(all.next().await.unwrap().data, "{   }");
    }

    #[tokio::test]
    async fn devices_fall_asleep() {
        let events = Arc::new(Events::default());
        let mut all = listen(&events, None, Kind::Awake.bit() | Kind::Asleep.bit());
        let name: Arc<str> = "a".into();
        events.woke(10, &name, 20);
        events.woke(15, &name, 25);
        events.expire(24);
        events.expire(25);
        events.woke(30, &name, 40);
        events.forget("a");
        events.expire(50);
        let mut seen = Vec::new();
        while let Ok(event) = all.from.try_recv() {
            seen.push(String::from_utf8(event.data.to_vec()).unwrap());
        }
        assert_eq!(
            seen,
            [10, 25, 30].map(|at| format!("{{\"at\":{at},\"endpoint\":\"a\"}}"))
        );
    }

    #[test]
    fn listeners_are_bounded() {
        let events = Arc::new(Events::default());
        let mut all: Vec<_> = (0..MOST_LISTENERS)
            .map(|_| listen(&events, None, 1))
            .collect();
        assert!(events.listen(Wanted::default()).is_none());
        all.pop();
        assert!(events.listen(Wanted::default()).is_some());
    }
}
