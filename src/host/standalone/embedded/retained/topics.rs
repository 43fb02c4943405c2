//! Small values by topic, in the order of the topics. There may be one for each device, and most look like
//! their neighbours: with an allocation and a place in a tree for each, these would take more than what
//! is in them.
//!
//! A *leaf* has the entries of topics that follow each other, behind each other in one allocation of at
//! most [`LEAF`] bytes, or one larger entry. Its key is the topic of the first entry. Of the others, the
//! leaf has only what differs from the first. Two neighbours that are small enough become one leaf.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::{ControlFlow, Range};

/// Bytes of a leaf at most, if it has more than one entry.
const LEAF: usize = 4096;

/// Neighbours with no more bytes than this become one leaf, which has room for a few more entries.
const JOINED: usize = LEAF / 4 * 3;

/// Bytes that an entry has in common with the first at most, of the topic and of each end of the value: what
/// is in a leaf is not much more than its bytes.
const SHARED: usize = 256;

/// The allocation of a leaf is a multiple of this: it need not change with each entry, and what one leaf
/// leaves fits another.
const STEP: usize = 128;

/// Bytes of topic and value from which on an entry has [`COST_OF_LARGE`].
const LARGE: usize = LEAF / 8;

/// What an entry takes at most beside twice its topic and once its value: its part of what the leaf takes.
const COST: usize = 112;

/// With large ones there are few in a leaf, down to one.
const COST_OF_LARGE: usize = COST + 320;

/// Bytes that an entry takes at most, among others.
pub(super) fn cost(topic: usize, value: usize) -> usize {
    let is_large = topic.saturating_add(value) > LARGE;
    let cost = if is_large { COST_OF_LARGE } else { COST };
    topic
        .saturating_mul(2)
        .saturating_add(value)
        .saturating_add(cost)
}

/// See the module.
#[derive(Default)]
pub(super) struct Topics {
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    len: usize,
}

impl Topics {
    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, topic: &str) -> Option<Vec<u8>> {
        let (key, leaf) = self.leaf(topic.as_bytes())?;
        let mut found = leaf
            .pieces()
            .skip_while(|piece| piece.order(key, topic.as_bytes()).is_lt());
        let piece = found.next()?;
        let is_it = piece.order(key, topic.as_bytes()).is_eq();
        is_it.then(|| {
            let mut value = Vec::new();
            piece.value(leaf.first(), &mut value);
            value
        })
    }

    /// Calls `look` with all from `start` on, in order, until it breaks.
    pub(super) fn visit(&self, start: &str, mut look: impl FnMut(&str, &[u8]) -> ControlFlow<()>) {
        let start = start.as_bytes();
        let from = self.leaf(start).map_or(start, |(key, _)| key);
        let (mut topic, mut value) = (Vec::new(), Vec::new());
        for (key, leaf) in self.leaves.range::<[u8], _>((Included(from), Unbounded)) {
            let mut pieces = leaf
                .pieces()
                .skip_while(|piece| piece.order(key, start).is_lt());
            let seen = pieces.try_for_each(|piece| {
                piece.topic(key, &mut topic);
                piece.value(leaf.first(), &mut value);
                let topic = std::str::from_utf8(&topic);
                topic.map_or(ControlFlow::Continue(()), |topic| look(topic, &value))
            });
            if seen.is_break() {
                return;
            }
        }
    }

    /// Replaces what there was.
    pub(super) fn insert(&mut self, topic: &str, value: &[u8]) {
        let topic = topic.as_bytes();
        let Some((key, leaf)) = self.leaf_mut(topic) else {
            return self.insert_leaf(topic, value);
        };
        let place = leaf.place(key, topic);
        if place.start == 0 {
            // The others are what differs from it.
            let mut entries = leaf.entries(key);
            if let Some(first) = entries.first_mut() {
                first.value = value.to_owned();
            }
            self.leaves.remove(topic);
            self.len = self.len.saturating_sub(entries.len());
            return self.write(&entries);
        }
        let mut piece = Vec::new();
        write(key, leaf.first(), topic, value, &mut piece);
        let is_last = place.end == leaf.bytes.len();
        let is_new = place.is_empty();
        let bytes = leaf.bytes.len().saturating_add(piece.len());
        if is_new && is_last && bytes > LEAF {
            // In ascending order the leaves become full.
            return self.insert_leaf(topic, value);
        }
        leaf.put(place, &piece);
        let too_large = (leaf.bytes.len() > LEAF).then(|| Box::from(key));
        self.len = self.len.saturating_add(is_new.into());
        if let Some(key) = too_large {
            self.rewrite(&[key]);
        }
    }

    /// Gives what there was.
    pub(super) fn remove(&mut self, topic: &str) -> Option<Vec<u8>> {
        let topic = topic.as_bytes();
        let (key, leaf) = self.leaf_mut(topic)?;
        let place = leaf.place(key, topic);
        let piece = Piece::read(&mut leaf.bytes.get(place.clone())?)?;
        if place.start > 0 {
            let mut value = Vec::new();
            piece.value(leaf.first(), &mut value);
            leaf.put(place, &[]);
            self.len = self.len.saturating_sub(1);
            self.join(topic);
            return Some(value);
        }
        let mut entries = leaf.entries(key);
        self.leaves.remove(topic);
        self.len = self.len.saturating_sub(entries.len());
        let removed = entries.remove(0);
        self.write(&entries);
        self.join(entries.first().map_or(topic, |first| &first.topic));
        Some(removed.value)
    }

    /// Removes all that `keeps` does not want.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&[u8], &[u8]) -> bool) {
        let leaves = std::mem::take(self).leaves;
        let (mut kept, mut bytes) = (Vec::new(), 0usize);
        for (key, leaf) in leaves {
            for entry in leaf.entries(&key) {
                if keeps(&entry.topic, &entry.value) {
                    bytes = bytes
                        .saturating_add(entry.topic.len())
                        .saturating_add(entry.value.len());
                    kept.push(entry);
                }
            }
            if bytes > LEAF {
                self.write_joined(&kept);
                kept.clear();
                bytes = 0;
            }
        }
        self.write_joined(&kept);
    }

    /// The leaf that has the topic, if any has.
    fn leaf(&self, topic: &[u8]) -> Option<(&[u8], &Leaf)> {
        let mut until = self.leaves.range::<[u8], _>((Unbounded, Included(topic)));
        until.next_back().map(|(key, leaf)| (&**key, leaf))
    }

    fn leaf_mut(&mut self, topic: &[u8]) -> Option<(&[u8], &mut Leaf)> {
        let mut until = self
            .leaves
            .range_mut::<[u8], _>((Unbounded, Included(topic)));
        until.next_back().map(|(key, leaf)| (&**key, leaf))
    }

    /// An entry that does not fit into the leaf before it.
    fn insert_leaf(&mut self, topic: &[u8], value: &[u8]) {
        let entry = Entry {
            topic: topic.to_owned(),
            value: value.to_owned(),
        };
        self.write_joined(&[entry]);
    }

    fn write_joined(&mut self, entries: &[Entry]) {
        self.write(entries);
        if let Some(first) = entries.first() {
            self.join(&first.topic);
        }
    }

    /// Makes leaves of entries that follow each other.
    fn write(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else {
            return;
        };
        let mut bytes = Vec::new();
        for entry in entries {
            let of = if bytes.is_empty() { &[] } else { &*first.value };
            write(&first.topic, of, &entry.topic, &entry.value, &mut bytes);
        }
        if bytes.len() > LEAF && entries.len() > 1 {
            let all: usize = entries.iter().map(Entry::bytes).sum();
            let mut before = 0usize;
            let until = entries.iter().take_while(|entry| {
                before = before.saturating_add(entry.bytes());
                before <= all / 2
            });
            let until = until.count().clamp(1, entries.len() - 1);
            let (left, right) = entries.split_at(until);
            self.write(left);
            self.write(right);
            return;
        }
        let mut leaf = Leaf::default();
        leaf.put(0..0, &bytes);
        self.leaves.insert(first.topic.as_slice().into(), leaf);
        self.len = self.len.saturating_add(entries.len());
    }

    /// Makes leaves anew of some that follow each other.
    fn rewrite(&mut self, keys: &[Box<[u8]>]) {
        let mut entries = Vec::new();
        for key in keys {
            if let Some(leaf) = self.leaves.remove(key) {
                entries.extend(leaf.entries(key));
            }
        }
        self.len = self.len.saturating_sub(entries.len());
        self.write(&entries);
    }

    /// Puts the leaf where `topic` belongs and one beside it together if they are small.
    fn join(&mut self, topic: &[u8]) {
        let mut until = self.leaves.range::<[u8], _>((Unbounded, Included(topic)));
        let (here, before) = (until.next_back(), until.next_back());
        let behind = self
            .leaves
            .range::<[u8], _>((Excluded(topic), Unbounded))
            .next();
        let pairs = [before.zip(here), here.zip(behind)].into_iter().flatten();
        let mut small = pairs.filter(|((_, left), (_, right))| {
            left.bytes.len().saturating_add(right.bytes.len()) <= JOINED
        });
        let keys = small
            .next()
            .map(|((left, _), (right, _))| [left.clone(), right.clone()]);
        drop(small);
        if let Some(keys) = keys {
            self.rewrite(&keys);
        }
    }

    /// What it takes, as far as one can see from here.
    #[cfg(test)]
    fn taken(&self) -> usize {
        // A node has 11 places and is half full at least.
        let node = (size_of::<Box<[u8]>>() + size_of::<Leaf>()) * 11 / 6 + 20;
        let block = |bytes: usize| crate::memory::block(bytes);
        let leaves = self.leaves.iter();
        leaves
            .map(|(key, leaf)| node + block(key.len()) + block(leaf.bytes.capacity()))
            .sum()
    }
}

#[derive(Debug, Clone)]
struct Entry {
    topic: Vec<u8>,
    value: Vec<u8>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.topic.len().saturating_add(self.value.len())
    }
}

/// See the module. What is needed of the key comes as an argument.
#[derive(Default)]
struct Leaf {
    bytes: Vec<u8>,
}

impl Leaf {
    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut bytes = self.bytes.as_slice();
        std::iter::from_fn(move || Piece::read(&mut bytes))
    }

    /// The value of the first entry.
    fn first(&self) -> &[u8] {
        self.pieces().next().map_or(&[], |piece| piece.middle)
    }

    /// Where the topic is, or where nothing is and it should be.
    fn place(&self, key: &[u8], topic: &[u8]) -> Range<usize> {
        let mut rest = self.bytes.as_slice();
        loop {
            let start = self.bytes.len().saturating_sub(rest.len());
            let order = Piece::read(&mut rest).map(|piece| piece.order(key, topic));
            return match order {
                Some(Ordering::Less) => continue,
                Some(Ordering::Equal) => start..self.bytes.len().saturating_sub(rest.len()),
                Some(Ordering::Greater) | None => start..start,
            };
        }
    }

    fn put(&mut self, place: Range<usize>, piece: &[u8]) {
        let kept = self.bytes.len().saturating_sub(place.len());
        let room = kept.saturating_add(piece.len()).next_multiple_of(STEP);
        if room > self.bytes.capacity() {
            self.bytes
                .reserve_exact(room.saturating_sub(self.bytes.len()));
        }
        self.bytes.splice(place, piece.iter().copied());
        self.bytes.shrink_to(room);
    }

    fn entries(&self, key: &[u8]) -> Vec<Entry> {
        let entries = self.pieces().map(|piece| {
            let (mut topic, mut value) = (Vec::new(), Vec::new());
            piece.topic(key, &mut topic);
            piece.value(self.first(), &mut value);
            Entry { topic, value }
        });
        entries.collect()
    }
}

/// An entry in a leaf.
struct Piece<'a> {
    /// How much of the key its topic starts with.
    shared: usize,
    rest: &'a [u8],
    /// How much of the first value its own starts and ends with; of that value itself nothing.
    head: usize,
    tail: usize,
    middle: &'a [u8],
}

impl<'a> Piece<'a> {
    fn read(from: &mut &'a [u8]) -> Option<Self> {
        let mut numbers = [0; 5];
        match from.split_first_chunk::<5>() {
            // Almost always: each is a single byte.
            Some((bytes, rest)) if bytes.iter().all(|byte| *byte < 0x80) => {
                numbers = bytes.map(usize::from);
                *from = rest;
            }
            _ => {
                for number in &mut numbers {
                    *number = read_number(from)?;
                }
            }
        }
        let [shared, rest, head, tail, middle] = numbers;
        Some(Self {
            shared,
            rest: from.split_off(..rest)?,
            head,
            tail,
            middle: from.split_off(..middle)?,
        })
    }

    /// How its topic compares to another one.
    fn order(&self, key: &[u8], topic: &[u8]) -> Ordering {
        let shared = key.get(..self.shared).unwrap_or_default();
        let (start, rest) = topic.split_at(self.shared.min(topic.len()));
        shared.cmp(start).then_with(|| self.rest.cmp(rest))
    }

    fn topic(&self, key: &[u8], to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(key.get(..self.shared).unwrap_or_default());
        to.extend_from_slice(self.rest);
    }

    fn value(&self, first: &[u8], to: &mut Vec<u8>) {
        let tail = first.len().saturating_sub(self.tail);
        to.clear();
        to.extend_from_slice(first.get(..self.head).unwrap_or_default());
        to.extend_from_slice(self.middle);
        to.extend_from_slice(first.get(tail..).unwrap_or_default());
    }
}

/// An entry of a leaf with this key and first value.
fn write(key: &[u8], first: &[u8], topic: &[u8], value: &[u8], to: &mut Vec<u8>) {
    let shared = alike(key.iter(), topic.iter());
    let head = alike(first.iter(), value.iter());
    let (other, own) = (first.split_at(head).1, value.split_at(head).1);
    let tail = alike(other.iter().rev(), own.iter().rev());
    let rest = topic.split_at(shared).1;
    let middle = own.split_at(own.len().saturating_sub(tail)).0;
    for number in [shared, rest.len(), head, tail, middle.len()] {
        write_number(number, to);
    }
    to.extend_from_slice(rest);
    to.extend_from_slice(middle);
}

/// How many are the same from the start, up to [`SHARED`].
fn alike<'a>(one: impl Iterator<Item = &'a u8>, other: impl Iterator<Item = &'a u8>) -> usize {
    let pairs = one.zip(other).take(SHARED);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Seven bits in a byte, the lowest first; the eighth says that more follow.
pub(super) fn write_number(mut number: usize, to: &mut Vec<u8>) {
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

pub(super) fn read_number(from: &mut &[u8]) -> Option<usize> {
    let mut number = 0usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *from.split_off_first()?;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entries(topics: &Topics, start: &str) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        topics.visit(start, |topic, value| {
            found.push((topic.to_owned(), value.to_owned()));
            ControlFlow::Continue(())
        });
        found
    }

    fn check(topics: &Topics) {
        for (key, leaf) in &topics.leaves {
            let entries = leaf.entries(key);
            assert_eq!(entries[0].topic, **key);
            assert!(entries.len() == 1 || leaf.bytes.len() <= LEAF);
            assert!(leaf.bytes.capacity() < leaf.bytes.len() + STEP);
        }
    }

    /// What an owner of these counts.
    fn counted(model: &BTreeMap<String, Vec<u8>>) -> usize {
        model
            .iter()
            .map(|(topic, value)| cost(topic.len(), value.len()))
            .sum()
    }

    fn topic() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "[a-cö]{0,3}(/[a-cü]{0,3}){0,3}",
            4 => (0..300u32).prop_map(|n| format!("lwm2m/{n:05}/state")),
            2 => (0..5usize, "[a-c]{1,3}").prop_map(|(n, end)| "long/".repeat(n * 50) + &end),
            1 => (0..2usize, "[a-c]{1,3}").prop_map(|(n, end)| "x".repeat(n * 5000) + &end),
        ]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => (0..3u8, 0..40u8).prop_map(|(n, end)| format!("the same {n} for all {end}").into()),
            4 => prop::collection::vec(any::<u8>(), 0..200),
            1 => (0..6usize, any::<u8>()).prop_map(|(n, byte)| vec![byte; n * 700]),
        ]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(String, Vec<u8>),
        Remove(String),
        /// From the first to the last, each so many.
        RemoveSome(usize),
        Retain(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            40 => (topic(), value()).prop_map(|(topic, value)| Step::Insert(topic, value)),
            10 => topic().prop_map(Step::Remove),
            1 => (2..30usize).prop_map(Step::RemoveSome),
            1 => (0..8u8).prop_map(Step::Retain),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn as_a_map(steps in prop::collection::vec(step(), 0..600), start in topic()) {
            let mut topics = Topics::default();
            let mut model = BTreeMap::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(topic, value) => {
                        topics.insert(&topic, &value);
                        model.insert(topic, value);
                    }
                    Step::Remove(topic) => {
                        prop_assert_eq!(topics.remove(&topic), model.remove(&topic));
                        prop_assert_eq!(topics.get(&topic), None);
                    }
                    Step::RemoveSome(each) => {
                        let some: Vec<_> = model.keys().step_by(each).cloned().collect();
                        for topic in some {
                            prop_assert_eq!(topics.remove(&topic), model.remove(&topic));
                        }
                    }
                    Step::Retain(odd) => {
                        let keeps = |value: &[u8]| value.len() as u8 % 8 != odd;
                        topics.retain(|_, value| keeps(value));
                        model.retain(|_, value| keeps(value));
                    }
                }
                prop_assert_eq!(topics.len(), model.len());
                if n % 16 == 0 {
                    let (taken, counted) = (topics.taken(), counted(&model));
                    prop_assert!(taken <= counted + 300, "{} of {}", taken, counted);
                }
            }
            check(&topics);
            let all: Vec<_> = model.clone().into_iter().collect();
            prop_assert_eq!(entries(&topics, ""), all);
            let some: Vec<_> = model.range(start.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect();
            prop_assert_eq!(entries(&topics, &start), some);
            for (topic, value) in model {
                prop_assert_eq!(topics.get(&topic), Some(value));
            }
        }
    }

    #[test]
    fn a_large_one_between_small_ones() {
        let mut topics = Topics::default();
        let mut model = BTreeMap::new();
        for n in 0..2000u32 {
            let topic = format!("a/{:04}", n.wrapping_mul(7919) % 2000);
            let size = if n % 2 == 0 { 5000 } else { 1 };
            topics.insert(&topic, &vec![0; size]);
            model.insert(topic, vec![0; size]);
        }
        check(&topics);
        assert!(topics.taken() < counted(&model));
    }

    #[test]
    fn the_state_of_a_device_takes_little() {
        let one = |n: u32| {
            let value = format!(
                r#"{{"msgType":"state","data":{{"ep":"dev-{n:06}","state":"online","since":{},"lt":300}}}}"#,
                1_764_000_000_000 + u64::from(n.wrapping_mul(7919) % 1000) * 1777
            );
            (format!("lwm2m/dev-{n:06}/state"), value)
        };
        for (name, factor) in [("ascending", 1), ("mixed", 7919), ("descending", 19_999)] {
            let mut topics = Topics::default();
            for n in 0..20_000u32 {
                let (topic, value) = one(n.wrapping_mul(factor) % 20_000);
                topics.insert(&topic, value.as_bytes());
            }
            check(&topics);
            let each = topics.taken() / 20_000;
            println!("{name}: {each}");
            assert!(each < 80, "{name}: {each}");
            for n in 0..20_000u32 {
                let (topic, value) = one(n.wrapping_mul(factor) % 20_000);
                assert_eq!(topics.remove(&topic), Some(value.into_bytes()));
            }
            assert_eq!(topics.taken(), 0);
        }
    }
}
