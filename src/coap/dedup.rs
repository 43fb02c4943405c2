//! Deduplication of requests (RFC 7252 §4.5): replies are remembered for EXCHANGE_LIFETIME and
//! sent again when the same request comes again.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::marker::PhantomData;
use std::time::Duration;

use crate::memory::{Kind, Tally, block};
use crate::tables::digest::{Digest, DigestIndex};
use crate::tables::queue::Queue;
use crate::time::Instant;

/// Bytes an entry takes beside a long reply: itself and its place in the index, which has a fifth to a half
/// more places than entries.
const ENTRY_OVERHEAD: usize = size_of::<Entry>() + 12 * 3 / 2;

/// A part of the bound, 1 of so many, is for requests of strangers.
const STRANGERS: usize = 4;

/// Longest reply that needs no memory of its own. That to a Register has some 30 bytes, most others 12.
const SHORT: usize = 30;

/// A request. Neither its sender nor its content is kept, but hashes of both with secrets that nobody outside
/// knows; see [`Dedup`].
#[derive(Debug)]
struct Entry {
    /// Of sender and message id.
    key: Digest,
    /// Of the same and the request's bytes: a device that reuses message ids after a reboot sends something
    /// else under them.
    content: u64,
    expires: Instant,
    reply: Reply,
}

#[derive(Debug)]
enum Reply {
    /// The entry has been replaced, moved or forgotten.
    Stale,
    None,
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// A stale one, which has expired.
impl Default for Entry {
    fn default() -> Self {
        Self {
            key: Digest::of_random(0),
            content: 0,
            expires: Instant::ZERO,
            reply: Reply::Stale,
        }
    }
}

impl Entry {
    const fn is_stale(&self) -> bool {
        matches!(self.reply, Reply::Stale)
    }

    fn cost(&self) -> usize {
        match &self.reply {
            Reply::Stale => 0,
            Reply::None | Reply::Short(..) => ENTRY_OVERHEAD,
            Reply::Long(reply) => ENTRY_OVERHEAD + block(reply.len()),
        }
    }
}

impl Reply {
    fn new(reply: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..reply.len()), u8::try_from(reply.len())) {
            (Some(short), Ok(length)) => {
                short.copy_from_slice(reply);
                Self::Short(length, bytes)
            }
            _ => Self::Long(reply.into()),
        }
    }

    fn get(&self) -> Option<&[u8]> {
        match self {
            Self::Stale | Self::None => None,
            Self::Short(length, bytes) => bytes.get(..usize::from(*length)),
            Self::Long(reply) => Some(reply),
        }
    }
}

/// Whose request it is. Those of one class are never forgotten for those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Of somebody who is known.
    Known,
    /// Of anybody else.
    Stranger,
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never seen; now remembered without a reply.
    New,
    /// Seen and answered so.
    Answered(Vec<u8>),
    /// Seen; its answer is not ready yet, or there was none.
    Pending,
}

/// Remembered replies by peer and message id.
///
/// Two requests are taken for the same if two hashes agree, 128 bits with secrets: that never happens. If
/// only those of peer and message id agree, 64 bits, the newer request takes the place of the older one, which
/// is carried out again if it is repeated; with a million entries, the chance that this ever happens in
/// a year of 10,000 requests a second is one in 60.
pub struct Dedup<P> {
    index: DigestIndex,
    known: Share,
    strangers: Share,
    /// The secret of peer and message id.
    keys: RandomState,
    /// That of the content.
    contents: RandomState,
    /// Bytes of both classes.
    tally: Tally,
    parts: usize,
    peer: PhantomData<fn(P)>,
}

/// What is remembered of one class.
struct Share {
    /// In order of arrival, and stale ones between.
    order: Queue<Entry>,
    entries: usize,
    bytes: usize,
}

impl Share {
    const fn new() -> Self {
        Self {
            order: Queue::new(),
            entries: 0,
            bytes: 0,
        }
    }
}

/// Where an entry is: its number in the queue of its class, and the class.
#[derive(Clone, Copy)]
struct Place(u32);

impl Place {
    const fn new(class: Class, number: u32) -> Self {
        Self(number << 1 | class as u32)
    }

    const fn class(self) -> Class {
        if self.0 & 1 == Class::Known as u32 {
            Class::Known
        } else {
            Class::Stranger
        }
    }

    const fn number(self) -> u32 {
        self.0 >> 1
    }
}

impl<P> fmt::Debug for Dedup<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedup")
            .field("known", &self.known.entries)
            .field("strangers", &self.strangers.entries)
            .finish_non_exhaustive()
    }
}

impl<P: Hash> Dedup<P> {
    /// Holds one of so many `parts` of what the account of memory has for it; the oldest entries of a
    /// class go first. Peers are told apart by what they hash.
    pub fn new(tally: Tally, parts: u16) -> Self {
        Self {
            index: DigestIndex::default(),
            known: Share::new(),
            strangers: Share::new(),
            keys: RandomState::new(),
            contents: RandomState::new(),
            tally,
            parts: usize::from(parts.max(1)),
            peer: PhantomData,
        }
    }

    /// Looks a request up by sender and message id, and remembers it. `class` is asked only if it is new.
    pub fn check(
        &mut self,
        now: Instant,
        lifetime: Duration,
        key: (P, u16),
        content: &(impl Hash + ?Sized),
        class: impl FnOnce() -> Class,
    ) -> Seen {
        self.expire(now);
        let mut hasher = self.contents.build_hasher();
        key.hash(&mut hasher);
        content.hash(&mut hasher);
        let content = hasher.finish();
        let key = Digest::new(&self.keys, &key);
        let place = self.index.get(key).map(Place);
        if let Some(place) = place {
            let known = self.entry(place).filter(|it| it.content == content);
            if let Some(known) = known {
                let reply = known.reply.get().map(<[u8]>::to_vec);
                return reply.map_or(Seen::Pending, Seen::Answered);
            }
            self.take(place);
        }
        let class = class();
        let entry = Entry {
            key,
            content,
            expires: now + lifetime,
            reply: Reply::None,
        };
        self.tally.charge(ENTRY_OVERHEAD);
        self.push(class, entry);
        self.shrink(class);
        Seen::New
    }

    /// The reply to a request that [`Dedup::check`] called new.
    pub fn answered(&mut self, peer: P, mid: u16, reply: &[u8]) {
        let Some(place) = self.find(peer, mid) else {
            return;
        };
        let share = share(&mut self.known, &mut self.strangers, place.class());
        let Some(entry) = share.order.get_mut(place.number()) else {
            return;
        };
        let old = entry.cost();
        entry.reply = Reply::new(reply);
        let new = entry.cost();
        share.bytes = share.bytes + new - old;
        self.tally.release(old);
        self.tally.charge(new);
        self.shrink(place.class());
    }

    /// Whoever sent this request is known by now.
    pub fn promote(&mut self, now: Instant, lifetime: Duration, peer: P, mid: u16) {
        let place = self.find(peer, mid);
        let Some(place) = place.filter(|place| place.class() == Class::Stranger) else {
            return;
        };
        let Some(entry) = self.take(place) else {
            return;
        };
        self.tally.charge(entry.cost());
        let expires = now + lifetime;
        self.push(Class::Known, Entry { expires, ..entry });
        self.shrink(Class::Known);
    }

    /// Forgets a request, so that its repetition is processed anew.
    pub fn forget(&mut self, peer: P, mid: u16) {
        let key = Digest::new(&self.keys, &(peer, mid));
        if let Some(place) = self.index.remove(key) {
            self.take(Place(place));
        }
    }

    /// Drops what is older than its lifetime.
    pub fn expire(&mut self, now: Instant) {
        for class in [Class::Known, Class::Stranger] {
            while self
                .share(class)
                .order
                .front()
                .is_some_and(|it| it.expires <= now)
            {
                self.pop_oldest(class);
            }
        }
    }

    /// Entries held.
    #[cfg(feature = "internals")]
    pub fn len(&self) -> usize {
        self.known.entries + self.strangers.entries
    }

    /// Whether nothing is held.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, and the same counted anew.
    #[cfg(feature = "internals")]
    pub fn audit(&self) -> (usize, usize) {
        let all = self.known.order.iter().chain(self.strangers.order.iter());
        (self.tally.used(), all.map(Entry::cost).sum())
    }

    const fn share(&mut self, class: Class) -> &mut Share {
        share(&mut self.known, &mut self.strangers, class)
    }

    fn find(&self, peer: P, mid: u16) -> Option<Place> {
        let key = Digest::new(&self.keys, &(peer, mid));
        self.index.get(key).map(Place)
    }

    fn entry(&mut self, place: Place) -> Option<&Entry> {
        self.share(place.class()).order.get(place.number())
    }

    fn shrink(&mut self, class: Class) {
        loop {
            let over = self.share(class).bytes > self.limit(class);
            let share = self.share(class);
            if !over && share.order.len() <= share.entries * 2 + 64 {
                return;
            }
            if over {
                let memory = self.tally.memory();
                memory.refuse(Kind::Duplicates, ENTRY_OVERHEAD, false);
            }
            if !self.pop_oldest(class) {
                return;
            }
        }
    }

    /// Bytes that a class may have.
    fn limit(&self, class: Class) -> usize {
        let all = self.tally.memory().limit(Kind::Duplicates) / self.parts;
        match class {
            Class::Known => all - all / STRANGERS,
            Class::Stranger => all / STRANGERS,
        }
    }

    /// Appends an entry that has been charged.
    fn push(&mut self, class: Class, entry: Entry) {
        let (key, cost) = (entry.key, entry.cost());
        let share = self.share(class);
        share.entries += 1;
        share.bytes += cost;
        let number = share.order.push(entry);
        self.index.set(key, Place::new(class, number).0);
    }

    fn pop_oldest(&mut self, class: Class) -> bool {
        let Some(entry) = self.share(class).order.pop_front() else {
            return false;
        };
        if !entry.is_stale() {
            self.index.remove(entry.key);
            self.released(class, &entry);
        }
        true
    }

    /// Takes an entry out of its queue. The index still has it.
    fn take(&mut self, place: Place) -> Option<Entry> {
        let order = &mut self.share(place.class()).order;
        let entry = std::mem::take(order.get_mut(place.number())?);
        // Most are the newest.
        while order.back().is_some_and(Entry::is_stale) {
            order.pop_back();
        }
        self.released(place.class(), &entry);
        Some(entry)
    }

    fn released(&mut self, class: Class, entry: &Entry) {
        let share = self.share(class);
        share.entries -= 1;
        share.bytes -= entry.cost();
        self.tally.release(entry.cost());
    }
}

const fn share<'a>(known: &'a mut Share, strangers: &'a mut Share, class: Class) -> &'a mut Share {
    match class {
        Class::Known => known,
        Class::Stranger => strangers,
    }
}

#[cfg(test)]
#[path = "dedup_tests.rs"]
mod tests;
