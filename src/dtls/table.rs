//! A table whose keys are not reused, and orders of its entries by last use.

use std::collections::HashMap;
use std::hash::Hash;

use crate::time::Instant;

/// Names an entry of a [`Table`], also after it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// Entries under [`Key`]s.
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    pub(super) fn insert(&mut self, entry: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                entry: None,
            });
            u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let Some(slot) = self.slots.get_mut(index as usize) else {
            // Not reached: the index is that of a free slot or of the one just made.
            return Key {
                index,
                generation: u32::MAX,
            };
        };
        slot.entry = Some(entry);
        Key {
            index,
            generation: slot.generation,
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.entry
            .as_ref()
            .filter(|_| slot.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        let generation = slot.generation;
        slot.entry.as_mut().filter(|_| generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }

    /// The keys of all entries now.
    pub(super) fn keys(&self) -> Vec<Key> {
        let slots = self.slots.iter().zip(0..);
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
    list: List,
}

impl Order {
    /// Puts an entry behind all others; a new one, or one that was used again.
    pub(super) fn touch(&mut self, now: Instant, key: Key) {
        self.links.touch(&mut self.list, now, key);
    }

    /// The entry that was not used for the longest time, and when it was.
    pub(super) fn first(&self) -> Option<(Key, Instant)> {
        self.links.first(&self.list)
    }

    /// When an entry that is in was used.
    pub(super) fn used(&self, key: Key) -> Option<Instant> {
        self.links.used(key)
    }

    /// Takes an entry out, if it is in.
    pub(super) fn remove(&mut self, key: Key) {
        self.links.remove(&mut self.list, key);
    }
}

/// Entries of a table in groups, each by last use. An entry is in one group at most.
pub(super) struct Groups<G> {
    links: Links,
    lists: HashMap<G, List>,
}

impl<G: Eq + Hash> Groups<G> {
    pub(super) fn new() -> Self {
        Self {
            links: Links::default(),
            lists: HashMap::new(),
        }
    }

    /// Puts an entry behind all others of its group; a new one, or one that was used again.
    pub(super) fn touch(&mut self, group: G, now: Instant, key: Key) {
        let list = self.lists.entry(group).or_default();
        self.links.touch(list, now, key);
    }

    /// The entry of a group that was not used for the longest time.
    pub(super) fn first(&self, group: &G) -> Option<Key> {
        let list = self.lists.get(group)?;
        self.links.first(list).map(|(key, _)| key)
    }

    /// Takes an entry out of its group, if it is in.
    pub(super) fn remove(&mut self, group: &G, key: Key) {
        if let Some(list) = self.lists.get_mut(group) {
            self.links.remove(list, key);
            if list.ends.is_none() {
                self.lists.remove(group);
            }
        }
    }
}

/// The links of any number of lists; an entry is in one of them at most.
#[derive(Default)]
struct Links(Vec<Link>);

/// First and last entry of a list.
#[derive(Default)]
struct List {
    ends: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Default)]
struct Link {
    before: Option<u32>,
    after: Option<u32>,
    generation: u32,
    used: Instant,
}

impl Links {
    fn touch(&mut self, list: &mut List, now: Instant, key: Key) {
        if let Some((_, last)) = list.ends
            && last == key.index
            && let Some(link) = self.0.get_mut(last as usize)
            && link.generation == key.generation
        {
            link.used = now;
            return;
        }
        self.remove(list, key);
        let index = key.index as usize;
        if self.0.len() <= index {
            self.0.resize(index.saturating_add(1), Link::default());
        }
        let before = list.ends.map(|(_, last)| last);
        if let Some(link) = self.0.get_mut(index) {
            *link = Link {
                before,
                after: None,
                generation: key.generation,
                used: now,
            };
        }
        if let Some(link) = before.and_then(|before| self.0.get_mut(before as usize)) {
            link.after = Some(key.index);
        }
        list.ends = Some((list.ends.map_or(key.index, |(first, _)| first), key.index));
    }

    fn first(&self, list: &List) -> Option<(Key, Instant)> {
        let (index, _) = list.ends?;
        let link = self.0.get(index as usize)?;
        let key = Key {
            index,
            generation: link.generation,
        };
        Some((key, link.used))
    }

    fn used(&self, key: Key) -> Option<Instant> {
        let link = self.0.get(key.index as usize)?;
        (link.generation == key.generation).then_some(link.used)
    }

    fn remove(&mut self, list: &mut List, key: Key) {
        let Some((first, last)) = list.ends else {
            return;
        };
        let Some(link) = self.0.get(key.index as usize).copied() else {
            return;
        };
        let is_in = key.index == first || link.before.is_some();
        if !is_in || link.generation != key.generation {
            return;
        }
        list.ends = match (link.before, link.after) {
            (None, None) => None,
            (Some(before), None) => Some((first, before)),
            (None, Some(after)) => Some((after, last)),
            (Some(_), Some(_)) => Some((first, last)),
        };
        if let Some(before) = link.before.and_then(|i| self.0.get_mut(i as usize)) {
            before.after = link.after;
        }
        if let Some(after) = link.after.and_then(|i| self.0.get_mut(i as usize)) {
            after.before = link.before;
        }
        if let Some(link) = self.0.get_mut(key.index as usize) {
            *link = Link::default();
        }
    }
}

#[cfg(test)]
mod tests {
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

    proptest! {
        #[test]
        fn order_is_that_of_a_list(steps: Vec<(u8, bool)>) {
            let mut order = Order::default();
            let mut model: Vec<(Key, Instant)> = Vec::new();
            for (step, (index, add)) in steps.into_iter().enumerate() {
                let now = Instant::from_micros(step as u64);
                let key = Key { index: u32::from(index % 8), generation: 1 };
                model.retain(|(other, _)| *other != key);
                if add {
                    order.touch(now, key);
                    model.push((key, now));
                } else {
                    order.remove(key);
                    order.remove(Key { generation: 0, ..key });
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
            let mut groups = Groups::new();
            let mut model: Vec<(u8, Key)> = Vec::new();
            for (step, (index, group)) in steps.into_iter().enumerate() {
                let now = Instant::from_micros(step as u64);
                let key = Key { index: u32::from(index % 8), generation: 1 };
                let old = model.iter().position(|(_, other)| *other == key);
                let old = old.map(|at| model.remove(at).0);
                let group = group % 4;
                match old {
                    Some(old) if old != group => groups.remove(&old, key),
                    _ => {
                        groups.touch(group, now, key);
                        model.push((group, key));
                    }
                }
                for group in 0..4 {
                    let first = model.iter().find(|(of, _)| *of == group).map(|(_, key)| *key);
                    prop_assert_eq!(groups.first(&group), first);
                }
            }
            prop_assert!(groups.lists.len() <= model.len());
        }
    }
}
