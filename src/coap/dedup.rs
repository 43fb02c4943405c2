//! Deduplication of requests (RFC 7252 §4.5): replies are remembered for EXCHANGE_LIFETIME and
//! sent again when the same request comes again.

use std::collections::{HashMap, VecDeque, hash_map};
use std::hash::Hash;
use std::time::Duration;

use crate::memory::{Kind, Tally, block};
use crate::time::Instant;

/// Bytes an entry takes beside its reply, in a table and a queue that are two thirds full.
const ENTRY_OVERHEAD: usize = 210;

/// A part of the bound, 1 of so many, is for requests of strangers.
const STRANGERS: usize = 4;

#[derive(Debug)]
struct Entry {
    /// Hash of the request's bytes: a device that reuses message ids after a reboot sends
    /// something else under them.
    fingerprint: u64,
    reply: Option<Box<[u8]>>,
    serial: u64,
    class: Class,
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
#[derive(Debug)]
pub struct Dedup<P> {
    entries: HashMap<(P, u16), Entry>,
    known: Share<P>,
    strangers: Share<P>,
    serial: u64,
    /// Bytes of both.
    tally: Tally,
    parts: usize,
}

/// What is remembered of one class.
#[derive(Debug)]
struct Share<P> {
    /// Expiry, key and serial in order of arrival. An entry that was replaced leaves a stale
    /// element behind, told apart by its serial.
    order: VecDeque<(Instant, (P, u16), u64)>,
    entries: usize,
    bytes: usize,
}

impl<P> Share<P> {
    const fn new() -> Self {
        Self {
            order: VecDeque::new(),
            entries: 0,
            bytes: 0,
        }
    }
}

impl<P: Copy + Eq + Hash> Dedup<P> {
    /// Holds one of so many `parts` of what the account of memory has for it; the oldest entries of a
    /// class go first.
    pub fn new(tally: Tally, parts: u16) -> Self {
        Self {
            entries: HashMap::new(),
            known: Share::new(),
            strangers: Share::new(),
            serial: 0,
            tally,
            parts: usize::from(parts.max(1)),
        }
    }

    /// Looks a request up and remembers it. `class` is asked only if it is new.
    pub fn check(
        &mut self,
        now: Instant,
        lifetime: Duration,
        (peer, mid): (P, u16),
        fingerprint: u64,
        class: impl FnOnce() -> Class,
    ) -> Seen {
        self.expire(now);
        let key = (peer, mid);
        self.serial += 1;
        let serial = self.serial;
        let new = |class| Entry {
            fingerprint,
            reply: None,
            serial,
            class,
        };
        // One search of the table, whatever comes of it.
        let (class, replaced) = match self.entries.entry(key) {
            hash_map::Entry::Occupied(known) if known.get().fingerprint == fingerprint => {
                return match &known.get().reply {
                    Some(reply) => Seen::Answered(reply.to_vec()),
                    None => Seen::Pending,
                };
            }
            hash_map::Entry::Occupied(mut other) => {
                let class = class();
                (class, Some(other.insert(new(class))))
            }
            hash_map::Entry::Vacant(vacant) => {
                let class = class();
                vacant.insert(new(class));
                (class, None)
            }
        };
        self.tally.charge(ENTRY_OVERHEAD);
        if let Some(old) = replaced {
            self.removed(&old);
        }
        let share = self.share(class);
        share.entries += 1;
        share.bytes += ENTRY_OVERHEAD;
        share.order.push_back((now + lifetime, key, serial));
        self.shrink(class);
        Seen::New
    }

    /// The reply to a request that [`Dedup::check`] called new.
    pub fn answered(&mut self, peer: P, mid: u16, reply: &[u8]) {
        let Some(entry) = self.entries.get_mut(&(peer, mid)) else {
            return;
        };
        let old = entry.reply.replace(reply.into());
        let old = old.map_or(0, |old| block(old.len()));
        let class = entry.class;
        let share = self.share(class);
        share.bytes -= old;
        share.bytes += block(reply.len());
        self.tally.release(old);
        self.tally.charge(block(reply.len()));
        self.shrink(class);
    }

    /// Whoever sent this request is known by now.
    pub fn promote(&mut self, now: Instant, lifetime: Duration, peer: P, mid: u16) {
        let key = (peer, mid);
        let stranger = |entry: &&mut Entry| entry.class == Class::Stranger;
        let Some(entry) = self.entries.get_mut(&key).filter(stranger) else {
            return;
        };
        entry.class = Class::Known;
        let (cost, serial) = (cost(entry), entry.serial);
        let strangers = &mut self.strangers;
        strangers.entries -= 1;
        strangers.bytes -= cost;
        // Most are promoted at once.
        if strangers
            .order
            .back()
            .is_some_and(|(_, _, last)| *last == serial)
        {
            strangers.order.pop_back();
        }
        self.known.entries += 1;
        self.known.bytes += cost;
        self.known.order.push_back((now + lifetime, key, serial));
        self.shrink(Class::Known);
    }

    /// Forgets a request, so that its repetition is processed anew.
    pub fn forget(&mut self, peer: P, mid: u16) {
        self.remove(&(peer, mid));
    }

    /// Drops what is older than its lifetime.
    pub fn expire(&mut self, now: Instant) {
        for class in [Class::Known, Class::Stranger] {
            while let Some((expires, _, _)) = self.share(class).order.front().copied() {
                if expires > now {
                    break;
                }
                self.pop_oldest(class);
            }
        }
    }

    /// Entries held.
    #[cfg(feature = "internals")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes held, and the same counted anew.
    #[cfg(feature = "internals")]
    pub fn audit(&self) -> (usize, usize) {
        let counted = self.entries.values().map(cost).sum();
        (self.tally.used(), counted)
    }

    const fn share(&mut self, class: Class) -> &mut Share<P> {
        match class {
            Class::Known => &mut self.known,
            Class::Stranger => &mut self.strangers,
        }
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

    fn pop_oldest(&mut self, class: Class) -> bool {
        let Some((_, key, serial)) = self.share(class).order.pop_front() else {
            return false;
        };
        if self
            .entries
            .get(&key)
            .is_some_and(|entry| entry.serial == serial && entry.class == class)
        {
            self.remove(&key);
        }
        true
    }

    fn remove(&mut self, key: &(P, u16)) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.removed(&entry);
        Some(entry)
    }

    fn removed(&mut self, entry: &Entry) {
        let share = self.share(entry.class);
        share.entries -= 1;
        share.bytes -= cost(entry);
        self.tally.release(cost(entry));
    }
}

fn cost(entry: &Entry) -> usize {
    ENTRY_OVERHEAD + entry.reply.as_ref().map_or(0, |reply| block(reply.len()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{Memory, Shares};

    fn dedup(bytes: usize) -> Dedup<u8> {
        let shares = Shares::new(1 << 30, true).at_most(Kind::Duplicates, bytes);
        let memory = Arc::new(Memory::new(shares));
        Dedup::new(Tally::new(memory, Kind::Duplicates), 1)
    }

    const LIFETIME: Duration = Duration::from_secs(247);

    fn second(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    fn check(dedup: &mut Dedup<u8>, now: Instant, peer: u8, mid: u16, print: u64) -> Seen {
        dedup.check(now, LIFETIME, (peer, mid), print, || Class::Known)
    }

    #[test]
    fn replays_until_it_expires() {
        let mut dedup = dedup(1 << 20);
        assert_eq!(check(&mut dedup, second(0), 1, 7, 42), Seen::New);
        assert_eq!(check(&mut dedup, second(1), 1, 7, 42), Seen::Pending);
        dedup.answered(1, 7, b"reply");
        assert_eq!(
            check(&mut dedup, second(246), 1, 7, 42),
            Seen::Answered(b"reply".to_vec())
        );
        assert_eq!(
            check(&mut dedup, second(246), 2, 7, 42),
            Seen::New,
            "another peer"
        );
        assert_eq!(check(&mut dedup, second(247), 1, 7, 42), Seen::New);
    }

    #[test]
    fn a_reused_message_id_is_a_new_request() {
        let mut dedup = dedup(1 << 20);
        check(&mut dedup, second(0), 1, 7, 42);
        dedup.answered(1, 7, b"old");
        assert_eq!(check(&mut dedup, second(100), 1, 7, 43), Seen::New);
        dedup.answered(1, 7, b"new");
        assert_eq!(
            check(&mut dedup, second(250), 1, 7, 43),
            Seen::Answered(b"new".to_vec()),
            "the expiry of the old entry does not take the new one along"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut dedup = dedup(10 * (ENTRY_OVERHEAD + 100));
        for mid in 0..1000 {
            check(&mut dedup, second(0), 1, mid, 1);
            dedup.answered(1, mid, &[0; 100]);
        }
        assert!(dedup.len() <= 11, "{}", dedup.len());
        for round in 0..10_000u64 {
            check(&mut dedup, second(0), 1, 1, round);
        }
        assert!(
            dedup.known.order.len() < 200,
            "replaced entries leave no tail"
        );
    }

    #[test]
    fn c16_strangers_have_a_share_of_their_own() {
        let mut dedup = dedup(40 * (ENTRY_OVERHEAD + 10));
        let known = |dedup: &mut Dedup<u8>| dedup.known.entries;
        for mid in 0..10 {
            check(&mut dedup, second(0), 1, mid, 1);
            dedup.answered(1, mid, b"0123456789");
        }
        for mid in 0..u16::MAX {
            let seen = dedup.check(second(1), LIFETIME, (2, mid), 1, || Class::Stranger);
            assert_eq!(seen, Seen::New);
            dedup.answered(2, mid, b"0123456789");
        }
        assert!(dedup.strangers.entries <= 10);
        assert_eq!(known(&mut dedup), 10);
        assert_eq!(
            check(&mut dedup, second(2), 1, 0, 1),
            Seen::Answered(b"0123456789".to_vec())
        );
        // Whoever becomes known takes along what is remembered of him.
        dedup.promote(second(3), LIFETIME, 2, u16::MAX - 1);
        assert_eq!(known(&mut dedup), 11);
        for mid in 0..1000 {
            dedup.check(second(3), LIFETIME, (3, mid), 1, || Class::Stranger);
        }
        assert_eq!(
            check(&mut dedup, second(4), 2, u16::MAX - 1, 1),
            Seen::Answered(b"0123456789".to_vec())
        );
        dedup.expire(second(3) + LIFETIME);
        assert_eq!((dedup.len(), dedup.audit()), (0, (0, 0)));
    }
}
