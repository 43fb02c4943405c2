//! Deduplication of requests (RFC 7252 §4.5): replies are remembered for EXCHANGE_LIFETIME and
//! sent again when the same request comes again.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::time::Instant;

/// Bytes an entry costs beside its reply, roughly; part of the bound.
const ENTRY_OVERHEAD: usize = 160;

#[derive(Debug)]
struct Entry {
    /// Hash of the request's bytes: a device that reuses message ids after a reboot sends
    /// something else under them.
    fingerprint: u64,
    reply: Option<Box<[u8]>>,
    serial: u64,
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Never seen; now remembered without a reply.
    New,
    /// Seen and answered so.
    Answered(&'a [u8]),
    /// Seen; its answer is not ready yet, or there was none.
    Pending,
}

/// Remembered replies by peer and message id.
#[derive(Debug)]
pub struct Dedup<P> {
    entries: HashMap<(P, u16), Entry>,
    /// Expiry, key and serial in order of arrival. An entry that was replaced leaves a stale
    /// element behind, told apart by its serial.
    order: VecDeque<(Instant, (P, u16), u64)>,
    bytes: usize,
    limit: usize,
    serial: u64,
}

impl<P: Copy + Eq + Hash> Dedup<P> {
    /// Holds about `limit` bytes at most; the oldest entries go first.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            limit,
            serial: 0,
        }
    }

    /// Looks a request up and remembers it.
    pub fn check(
        &mut self,
        now: Instant,
        lifetime: Duration,
        peer: P,
        mid: u16,
        fingerprint: u64,
    ) -> Seen<'_> {
        self.expire(now);
        let key = (peer, mid);
        if self
            .entries
            .get(&key)
            .is_some_and(|entry| entry.fingerprint == fingerprint)
        {
            return match self
                .entries
                .get(&key)
                .and_then(|entry| entry.reply.as_deref())
            {
                Some(reply) => Seen::Answered(reply),
                None => Seen::Pending,
            };
        }
        self.remove(&key);
        self.serial += 1;
        self.entries.insert(
            key,
            Entry {
                fingerprint,
                reply: None,
                serial: self.serial,
            },
        );
        self.order.push_back((now + lifetime, key, self.serial));
        self.bytes += ENTRY_OVERHEAD;
        while self.bytes > self.limit || self.order.len() > self.entries.len() * 2 + 64 {
            let Some((_, key, serial)) = self.order.pop_front() else {
                break;
            };
            self.remove_serial(&key, serial);
        }
        Seen::New
    }

    /// The reply to a request that [`Dedup::check`] called new.
    pub fn answered(&mut self, peer: P, mid: u16, reply: &[u8]) {
        if let Some(entry) = self.entries.get_mut(&(peer, mid)) {
            self.bytes -= entry.reply.as_ref().map_or(0, |old| old.len());
            self.bytes += reply.len();
            entry.reply = Some(reply.into());
        }
    }

    /// Forgets a request, so that its repetition is processed anew.
    pub fn forget(&mut self, peer: P, mid: u16) {
        self.remove(&(peer, mid));
    }

    /// Drops what is older than its lifetime.
    pub fn expire(&mut self, now: Instant) {
        while let Some((expires, key, serial)) = self.order.front().copied() {
            if expires > now {
                break;
            }
            self.order.pop_front();
            self.remove_serial(&key, serial);
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn remove_serial(&mut self, key: &(P, u16), serial: u64) {
        if self
            .entries
            .get(key)
            .is_some_and(|entry| entry.serial == serial)
        {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &(P, u16)) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= ENTRY_OVERHEAD + entry.reply.map_or(0, |reply| reply.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(247);

    fn second(s: u64) -> Instant {
        Instant::from_micros(s * 1_000_000)
    }

    #[test]
    fn replays_until_it_expires() {
        let mut dedup = Dedup::new(1 << 20);
        assert_eq!(dedup.check(second(0), LIFETIME, 1, 7, 42), Seen::New);
        assert_eq!(dedup.check(second(1), LIFETIME, 1, 7, 42), Seen::Pending);
        dedup.answered(1, 7, b"reply");
        assert_eq!(
            dedup.check(second(246), LIFETIME, 1, 7, 42),
            Seen::Answered(b"reply")
        );
        assert_eq!(
            dedup.check(second(246), LIFETIME, 2, 7, 42),
            Seen::New,
            "another peer"
        );
        assert_eq!(dedup.check(second(247), LIFETIME, 1, 7, 42), Seen::New);
    }

    #[test]
    fn a_reused_message_id_is_a_new_request() {
        let mut dedup = Dedup::new(1 << 20);
        dedup.check(second(0), LIFETIME, 1, 7, 42);
        dedup.answered(1, 7, b"old");
        assert_eq!(dedup.check(second(100), LIFETIME, 1, 7, 43), Seen::New);
        dedup.answered(1, 7, b"new");
        assert_eq!(
            dedup.check(second(250), LIFETIME, 1, 7, 43),
            Seen::Answered(b"new"),
            "the expiry of the old entry does not take the new one along"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut dedup = Dedup::new(10 * (ENTRY_OVERHEAD + 100));
        for mid in 0..1000 {
            dedup.check(second(0), LIFETIME, 1, mid, 1);
            dedup.answered(1, mid, &[0; 100]);
        }
        assert!(dedup.len() <= 11, "{}", dedup.len());
        for round in 0..10_000u64 {
            dedup.check(second(0), LIFETIME, 1, 1, round);
        }
        assert!(dedup.order.len() < 200, "replaced entries leave no tail");
    }
}
