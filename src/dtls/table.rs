//! A table whose keys are not reused, and orders of its entries by last use.

use std::num::NonZeroU32;

use crate::tables::digest::{Digest, DigestIndex};
use crate::time::Instant;

/// Names an entry of a [`Table`], also after it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    index: u32,
    generation: NonZeroU32,
}

impl Key {
    /// The key of an entry that was inserted with it.
    pub(super) const fn new(index: u32, generation: NonZeroU32) -> Self {
        Self { index, generation }
    }

    /// Tells the entries apart that were in one place.
    pub(super) const fn generation(self) -> NonZeroU32 {
        self.generation
    }

    /// Its place in the table.
    pub(super) const fn index(self) -> u32 {
        self.index
    }
}

/// Entries under [`Key`]s. An empty table gives its room back.
pub(super) struct Table<T> {
    /// In pieces, so that a table of a million never moves, and none but the last one has room that is not used.
    pieces: Vec<Vec<Slot<T>>>,
    /// How many places there are.
    places: usize,
    free: Vec<u32>,
    /// Of the next entry.
    generation: NonZeroU32,
}

/// Places of a piece.
const PIECE: usize = 32;

struct Slot<T> {
    generation: NonZeroU32,
    entry: Option<T>,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self {
            pieces: Vec::new(),
            places: 0,
            free: Vec::new(),
            generation: NonZeroU32::MIN,
        }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.places.saturating_sub(self.free.len())
    }

    pub(super) fn insert(&mut self, entry: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| self.add_place());
        let generation = self.generation;
        self.generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let Some(slot) = self.slot_mut(index) else {
            // Not reached: the index is that of a free slot or of the one just made.
            return Key {
                index,
                generation: NonZeroU32::MAX,
            };
        };
        *slot = Slot {
            generation,
            entry: Some(entry),
        };
        Key { index, generation }
    }

    fn add_place(&mut self) -> u32 {
        if self.pieces.last().is_none_or(|it| it.len() >= PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.push(Slot {
                generation: NonZeroU32::MIN,
                entry: None,
            });
        }
        let index = u32::try_from(self.places).unwrap_or(u32::MAX);
        self.places = self.places.saturating_add(1);
        index
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let index = index as usize;
        self.pieces.get(index / PIECE)?.get(index % PIECE)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        self.pieces.get_mut(index / PIECE)?.get_mut(index % PIECE)
    }

    /// The key of the entry at a place.
    pub(super) fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slot(index)?;
        slot.entry.as_ref().map(|_| Key {
            index,
            generation: slot.generation,
        })
    }

    /// The entry at a place.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        self.slot(index)?.entry.as_ref()
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slot(key.index)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slot_mut(key.index)?;
        let generation = slot.generation;
        slot.entry.as_mut().filter(|_| generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation != key.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        self.free.push(key.index);
        if self.len() == 0 {
            (self.pieces, self.places, self.free) = (Vec::new(), 0, Vec::new());
        }
        Some(entry)
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let slots = self.pieces.iter().flatten();
        slots.filter_map(|slot| slot.entry.as_ref())
    }

    /// The keys of all entries now.
    pub(super) fn keys(&self) -> Vec<Key> {
        let slots = self.pieces.iter().flatten().zip(0..);
        slots
            .filter(|(slot, _)| slot.entry.is_some())
            .map(|(slot, index)| Key {
                index,
                generation: slot.generation,
            })
            .collect()
    }
}

/// Entries of a table by last use, the longest unused first: a doubly linked list.
#[derive(Default)]
pub(super) struct Order {
    links: Links,
    first: Option<u32>,
    used: Vec<Instant>,
}

impl Order {
    /// Puts an entry behind all others; a new one, or one that was used again.
    pub(super) fn touch(&mut self, now: Instant, key: Key) {
        self.links.touch(&mut self.first, key);
        let index = key.index as usize;
        fill(&mut self.used, index);
        if let Some(used) = self.used.get_mut(index) {
            *used = now;
        }
    }

    /// The entry that was not used for the longest time, and when it was.
    pub(super) fn first(&self) -> Option<(Key, Instant)> {
        let key = self.links.key(self.first?)?;
        Some((key, self.used(key)?))
    }

    /// When an entry that is in was used.
    pub(super) fn used(&self, key: Key) -> Option<Instant> {
        let used = self.used.get(key.index as usize).copied();
        used.filter(|_| self.links.has(self.first, key))
    }

    /// Takes an entry out, if it is in.
    pub(super) fn remove(&mut self, key: Key) {
        self.links.remove(&mut self.first, key);
    }
}

/// Entries of a table in groups, each by last use. An entry is in one group at most.
#[derive(Default)]
pub(super) struct Groups {
    links: Links,
    firsts: DigestIndex,
}

impl Groups {
    /// Puts an entry behind all others of its group; a new one, or one that was used again.
    pub(super) fn touch(&mut self, group: Digest, key: Key) {
        let old = self.firsts.get(group);
        let mut first = old;
        self.links.touch(&mut first, key);
        self.note(group, old, first);
    }

    /// The entry of a group that was not used for the longest time.
    pub(super) fn first(&self, group: Digest) -> Option<Key> {
        self.links.key(self.firsts.get(group)?)
    }

    /// Whether an entry is in this group.
    pub(super) fn has(&self, group: Digest, key: Key) -> bool {
        self.links.has(self.firsts.get(group), key)
    }

    /// Takes an entry out of its group, if it is in.
    pub(super) fn remove(&mut self, group: Digest, key: Key) {
        let old = self.firsts.get(group);
        let mut first = old;
        self.links.remove(&mut first, key);
        self.note(group, old, first);
    }

    fn note(&mut self, group: Digest, old: Option<u32>, first: Option<u32>) {
        match first {
            _ if first == old => {}
            Some(first) => self.firsts.set(group, first),
            None => {
                self.firsts.remove(group);
            }
        }
    }
}

/// The links of any number of lists; an entry is in one of them at most. A list is known by its first
/// entry, before which stands its last one.
#[derive(Default)]
struct Links(Vec<Link>);

/// There may be a million, in several lists each.
#[derive(Clone, Copy, Default)]
struct Link {
    before: Place,
    after: Place,
    /// 0: it is in no list.
    generation: u32,
}

/// An index, or none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place(Option<NonZeroU32>);

impl Place {
    const fn new(index: u32) -> Self {
        Self(NonZeroU32::new(index.saturating_add(1)))
    }

    fn index(self) -> Option<u32> {
        Some(self.0?.get().saturating_sub(1))
    }
}

impl Links {
    fn touch(&mut self, first: &mut Option<u32>, key: Key) {
        let last = first.and_then(|first| self.before(first));
        if self.has(*first, key) && last == Some(key.index) {
            return;
        }
        self.remove(first, key);
        let index = key.index as usize;
        fill(&mut self.0, index);
        let last = first.and_then(|first| self.before(first));
        if let Some(link) = self.0.get_mut(index) {
            *link = Link {
                before: Place::new(last.unwrap_or(key.index)),
                after: Place::default(),
                generation: key.generation.get(),
            };
        }
        if let Some(link) = last.and_then(|last| self.0.get_mut(last as usize)) {
            link.after = Place::new(key.index);
        }
        let first = *first.get_or_insert(key.index);
        if let Some(link) = self.0.get_mut(first as usize) {
            link.before = Place::new(key.index);
        }
    }

    fn before(&self, index: u32) -> Option<u32> {
        self.0.get(index as usize)?.before.index()
    }

    fn key(&self, index: u32) -> Option<Key> {
        let generation = NonZeroU32::new(self.0.get(index as usize)?.generation)?;
        Some(Key { index, generation })
    }

    /// Whether an entry is in the list with this first one.
    fn has(&self, first: Option<u32>, key: Key) -> bool {
        first.is_some() && self.key(key.index) == Some(key)
    }

    fn remove(&mut self, first: &mut Option<u32>, key: Key) {
        let Some(old) = *first else {
            return;
        };
        if self.key(key.index) != Some(key) {
            return;
        }
        let Some(link) = self.0.get_mut(key.index as usize).map(std::mem::take) else {
            return;
        };
        let after = link.after.index();
        if old == key.index {
            *first = after;
        } else if let Some(before) = link.before.index().and_then(|i| self.0.get_mut(i as usize)) {
            before.after = link.after;
        }
        // Behind the last one comes the first one, which knows the last one.
        if let Some(next) = after.or(*first).and_then(|i| self.0.get_mut(i as usize)) {
            next.before = link.before;
        }
    }
}

/// Gives a list a place with this index.
fn fill<T: Clone + Default>(list: &mut Vec<T>, index: usize) {
    let length = index.saturating_add(1);
    if let Some(missing) = length.checked_sub(list.len()) {
        make_room(list, missing);
        list.resize(list.len().saturating_add(missing), T::default());
    }
}

/// Lets a list grow by an eighth, not to twice what it is: there may be a million sessions.
fn make_room<T>(list: &mut Vec<T>, missing: usize) {
    if list.capacity().saturating_sub(list.len()) < missing {
        list.reserve_exact(missing.max(list.len() / 8).max(16));
    }
}

#[cfg(test)]
impl<T> Table<T> {
    /// Bytes of an entry.
    pub(super) const SLOT: usize = size_of::<Slot<T>>();
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_not_reused() {
        let mut table = Table::new();
        let a = table.insert('a');
        let b = table.insert('b');
        assert_eq!(table.remove(a), Some('a'));
        let c = table.insert('c');
        assert_eq!(table.get(a), None);
        assert_eq!(table.remove(a), None);
        assert_eq!(table.get_mut(c), Some(&mut 'c'));
        assert_eq!(table.keys(), [c, b]);
        assert_eq!(table.len(), 2);
        assert_eq!(table.iter().collect::<String>(), "cb");
    }

    #[test]
    fn pieces_are_one_table() {
        let mut table = Table::new();
        let keys: Vec<_> = (0..3 * PIECE).map(|n| table.insert(n)).collect();
        assert_eq!((table.len(), table.pieces.len()), (3 * PIECE, 3));
        assert_eq!(table.keys(), keys);
        for (n, key) in keys.iter().enumerate() {
            assert_eq!((table.get(*key), key.index() as usize), (Some(&n), n));
            assert_eq!(table.key_at(key.index()), Some(*key));
        }
        assert_eq!(table.key_at(3 * PIECE as u32), None);
        for key in keys {
            table.remove(key);
        }
        assert!(table.len() == 0 && table.pieces.is_empty() && table.free.is_empty());
        assert_eq!(table.insert(7).index(), 0);
    }

    proptest! {
        #[test]
        fn order_is_that_of_a_list(steps: Vec<(u8, bool)>) {
            let mut order = Order::default();
            let mut model: Vec<(Key, Instant)> = Vec::new();
            for (step, (index, add)) in steps.into_iter().enumerate() {
                let now = Instant::from_micros(step as u64);
                let key = Key { index: u32::from(index % 8), generation: NonZeroU32::MIN };
                model.retain(|(other, _)| *other != key);
                if add {
                    order.touch(now, key);
                    model.push((key, now));
                } else {
                    order.remove(key);
                    order.remove(Key { generation: NonZeroU32::MAX, ..key });
                }
                prop_assert_eq!(order.first(), model.first().copied());
            }
            while let Some((key, _)) = order.first() {
                prop_assert_eq!(key, model.remove(0).0);
                order.remove(key);
            }
            prop_assert!(model.is_empty());
        }

        #[test]
        fn groups_are_lists_of_their_own(steps: Vec<(u8, u8)>) {
            let mut groups = Groups::default();
            let digest = |group: u8| Digest::new(&BuildHasherDefault::<DefaultHasher>::default(), &group);
            let mut model: Vec<(u8, Key)> = Vec::new();
            for (index, group) in steps {
                let key = Key { index: u32::from(index % 8), generation: NonZeroU32::MIN };
                let old = model.iter().position(|(_, other)| *other == key);
                let old = old.map(|at| model.remove(at).0);
                let group = group % 4;
                match old {
                    Some(old) if old != group => groups.remove(digest(old), key),
                    _ => {
                        groups.touch(digest(group), key);
                        model.push((group, key));
                    }
                }
                for group in 0..4 {
                    let first = model.iter().find(|(of, _)| *of == group).map(|(_, key)| *key);
                    prop_assert_eq!(groups.first(digest(group)), first);
                }
            }
            prop_assert!(groups.firsts.len() <= model.len());
        }
    }
}
