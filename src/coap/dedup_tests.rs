use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

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
    dedup.check(now, LIFETIME, (peer, mid), &print, || Class::Known)
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
    let mut dedup = dedup(40 * ENTRY_OVERHEAD);
    let known = |dedup: &mut Dedup<u8>| dedup.known.entries;
    for mid in 0..10 {
        check(&mut dedup, second(0), 1, mid, 1);
        dedup.answered(1, mid, b"0123456789");
    }
    for mid in 0..u16::MAX {
        let seen = dedup.check(second(1), LIFETIME, (2, mid), &1u64, || Class::Stranger);
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
        dedup.check(second(3), LIFETIME, (3, mid), &1u64, || Class::Stranger);
    }
    assert_eq!(
        check(&mut dedup, second(4), 2, u16::MAX - 1, 1),
        Seen::Answered(b"0123456789".to_vec())
    );
    dedup.expire(second(3) + LIFETIME);
    assert_eq!((dedup.len(), dedup.audit()), (0, (0, 0)));
}

#[test]
fn an_entry_is_small() {
    assert_eq!(size_of::<Entry>(), 56);
    for length in [0, 1, SHORT, SHORT + 1, 1000] {
        let reply = vec![7; length];
        assert_eq!(Reply::new(&reply).get(), Some(reply.as_slice()));
    }
    assert!(matches!(Reply::new(&[0; SHORT]), Reply::Short(..)));
}

#[test]
fn what_was_forgotten_at_once_takes_no_room() {
    let mut dedup = dedup(1 << 20);
    check(&mut dedup, second(0), 1, 0, 1);
    for mid in 1..1000 {
        dedup.check(second(0), LIFETIME, (2, mid), &1, || Class::Stranger);
        dedup.forget(2, mid);
        check(&mut dedup, second(0), 3, 7, u64::from(mid));
    }
    assert_eq!(
        (dedup.strangers.order.len(), dedup.known.order.len()),
        (0, 2)
    );
}

/// What is remembered, as simply as can be: the entries of each class, the oldest first.
#[derive(Default)]
struct Model {
    shares: [Vec<Remembered>; 2],
    limit: usize,
}

#[derive(Clone)]
struct Remembered {
    key: (u8, u16),
    content: u64,
    expires: Instant,
    reply: Option<Vec<u8>>,
}

impl Remembered {
    fn cost(&self) -> usize {
        let long = self.reply.as_ref().filter(|reply| reply.len() > SHORT);
        ENTRY_OVERHEAD + long.map_or(0, |reply| block(reply.len()))
    }
}

impl Model {
    fn find(&self, key: (u8, u16)) -> Option<(usize, usize)> {
        let at = |share: usize| self.shares[share].iter().position(|it| it.key == key);
        (0..2).find_map(|share| Some((share, at(share)?)))
    }

    fn bytes(&self, share: usize) -> usize {
        self.shares[share].iter().map(Remembered::cost).sum()
    }

    fn shrink(&mut self, share: usize) {
        let limit = [self.limit - self.limit / STRANGERS, self.limit / STRANGERS][share];
        while self.bytes(share) > limit {
            self.shares[share].remove(0);
        }
    }

    fn check(&mut self, key: (u8, u16), content: u64, now: Instant, class: Class) -> Seen {
        for share in &mut self.shares {
            share.retain(|it| it.expires > now);
        }
        if let Some((share, at)) = self.find(key) {
            let known = &self.shares[share][at];
            if known.content == content {
                return known.reply.clone().map_or(Seen::Pending, Seen::Answered);
            }
            self.shares[share].remove(at);
        }
        self.shares[class as usize].push(Remembered {
            key,
            content,
            expires: now + LIFETIME,
            reply: None,
        });
        self.shrink(class as usize);
        Seen::New
    }

    fn answered(&mut self, key: (u8, u16), reply: &[u8]) {
        if let Some((share, at)) = self.find(key) {
            self.shares[share][at].reply = Some(reply.to_vec());
            self.shrink(share);
        }
    }

    fn promote(&mut self, key: (u8, u16), now: Instant) {
        if let Some((1, at)) = self.find(key) {
            let mut entry = self.shares[1].remove(at);
            entry.expires = now + LIFETIME;
            self.shares[0].push(entry);
            self.shrink(0);
        }
    }

    fn forget(&mut self, key: (u8, u16)) {
        if let Some((share, at)) = self.find(key) {
            self.shares[share].remove(at);
        }
    }
}

proptest! {
    /// In room for all and for few.
    #[test]
    fn as_a_simple_model(
        entries in prop_oneof![Just(1000), 4..40usize],
        steps in vec((0..8u8, 0..3u8, 0..6u16, 0..3u64, 0..60u64), 0..150),
    ) {
        let mut dedup = dedup(entries * ENTRY_OVERHEAD);
        let mut model = Model { limit: entries * ENTRY_OVERHEAD, ..Model::default() };
        let mut now = second(1);
        for (step, peer, mid, content, more) in steps {
            let key = (peer, mid);
            match step {
                0..=3 => {
                    now += Duration::from_secs(more);
                    let class = if step < 2 { Class::Known } else { Class::Stranger };
                    let expected = model.check(key, content, now, class);
                    prop_assert_eq!(dedup.check(now, LIFETIME, key, &content, || class), expected);
                }
                4 | 5 => {
                    let reply = vec![mid as u8; more as usize];
                    dedup.answered(peer, mid, &reply);
                    model.answered(key, &reply);
                }
                6 => {
                    dedup.promote(now, LIFETIME, peer, mid);
                    model.promote(key, now);
                }
                _ => {
                    dedup.forget(peer, mid);
                    model.forget(key);
                }
            }
            let bytes = model.bytes(0) + model.bytes(1);
            prop_assert_eq!(dedup.audit(), (bytes, bytes));
            prop_assert_eq!(dedup.known.entries, model.shares[0].len());
            prop_assert_eq!(dedup.strangers.entries, model.shares[1].len());
            prop_assert_eq!(dedup.index.len(), dedup.len());
        }
        dedup.expire(now + LIFETIME);
        prop_assert_eq!((dedup.len(), dedup.audit()), (0, (0, 0)));
        prop_assert_eq!(dedup.known.order.len() + dedup.strangers.order.len(), 0);
    }
}
