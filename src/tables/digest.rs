//! Keys of tables with up to a million entries by their hash alone: eight bytes instead of an address,
//! or of an identity and what it is counted by.
//!
//! Two keys with the same hash would be taken for one. The hash has a secret that nobody outside knows,
//! and with a million entries the chance that this ever happens is one in thirty million. What would come
//! of it is harmless: another session gives way, or a device is not found by its address and registers
//! again. Where it would not be, whoever asks looks whether what was found is it.

use std::hash::{BuildHasher, Hash};

/// The hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// That of a key, with the secret in `state`.
    pub(crate) fn new(state: &impl BuildHasher, key: &impl Hash) -> Self {
        Self(state.hash_one(key))
    }

    /// All of it, for other tables.
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    /// Of a random number that nobody outside can choose, which is as good as a hash.
    pub(crate) const fn of_random(number: u64) -> Self {
        Self(number)
    }
}

/// Indexes into a table by digests, 12 bytes and a fifth each.
pub(crate) type DigestIndex = DigestMap<u32>;

/// Small values by digests. The table is at most four fifths full and grows by a quarter, so that a million
/// entries never stand beside as many free places; what has gone leaves nothing behind, and room for many that
/// have gone is given back.
#[derive(Debug)]
pub(crate) struct DigestMap<V> {
    places: Box<[Place<V>]>,
    length: usize,
}

/// The digest in halves, so that one with an index has twelve bytes and not sixteen. Zero: nothing is here.
#[derive(Debug, Clone, Copy)]
struct Place<V> {
    high: u32,
    low: u32,
    value: V,
}

impl<V: Copy + Default> Place<V> {
    const fn new(hash: u64, value: V) -> Self {
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        Self { high, low, value }
    }

    fn hash(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }

    fn is_free(&self) -> bool {
        self.hash() == 0
    }
}

impl<V> Default for DigestMap<V> {
    fn default() -> Self {
        Self {
            places: Box::default(),
            length: 0,
        }
    }
}

impl<V: Copy + Default> DigestMap<V> {
    /// Tables of so few places are not made smaller.
    const SMALL: usize = 64;

    pub(crate) fn get(&self, digest: Digest) -> Option<V> {
        let at = self.find(hash(digest)).ok()?;
        self.places.get(at).map(|place| place.value)
    }

    pub(crate) fn get_mut(&mut self, digest: Digest) -> Option<&mut V> {
        let at = self.find(hash(digest)).ok()?;
        self.places.get_mut(at).map(|place| &mut place.value)
    }

    /// In place of what was there.
    pub(crate) fn set(&mut self, digest: Digest, value: V) {
        let hash = hash(digest);
        let found = self.find(hash);
        let at = match found {
            Ok(at) => at,
            Err(_) if self.length.saturating_add(1) > self.places.len() / 5 * 4 => {
                let more = self.places.len() / 4;
                self.resize(self.places.len().saturating_add(more.max(15)));
                self.length = self.length.saturating_add(1);
                self.find(hash).unwrap_or_else(|free| free)
            }
            Err(free) => {
                self.length = self.length.saturating_add(1);
                free
            }
        };
        if let Some(place) = self.places.get_mut(at) {
            *place = Place::new(hash, value);
        }
    }

    pub(crate) fn remove(&mut self, digest: Digest) -> Option<V> {
        let mut gap = self.find(hash(digest)).ok()?;
        let value = self.places.get(gap)?.value;
        // What stands behind it moves up, unless it would stand before its home then.
        let mut at = self.after(gap);
        while let Some(place) = self.places.get(at).copied().filter(|it| !it.is_free()) {
            let home = self.home(place.hash());
            if self.distance(home, at) >= self.distance(gap, at) {
                if let Some(free) = self.places.get_mut(gap) {
                    *free = place;
                }
                gap = at;
            }
            at = self.after(at);
        }
        if let Some(free) = self.places.get_mut(gap) {
            *free = Place::new(0, V::default());
        }
        self.length = self.length.saturating_sub(1);
        if self.places.len() > self.length.saturating_mul(8).max(Self::SMALL) {
            self.resize(self.length.saturating_mul(2).max(Self::SMALL / 2));
        }
        Some(value)
    }

    #[cfg(any(test, debug_assertions, feature = "internals"))]
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where an entry is, or the free place where it would be. There always is one: the table is never full,
    /// unless it has no places at all.
    fn find(&self, hash: u64) -> Result<usize, usize> {
        let mut at = self.home(hash);
        while let Some(place) = self.places.get(at).filter(|it| !it.is_free()) {
            if place.hash() == hash {
                return Ok(at);
            }
            at = self.after(at);
        }
        Err(at)
    }

    /// Where an entry would like to be.
    fn home(&self, hash: u64) -> usize {
        let places = self.places.len() as u64;
        ((hash >> 32).wrapping_mul(places) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        let next = at.saturating_add(1);
        if next < self.places.len() { next } else { 0 }
    }

    /// Steps from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        match to.checked_sub(from) {
            Some(distance) => distance,
            None => to.saturating_add(self.places.len()).saturating_sub(from),
        }
    }

    fn resize(&mut self, places: usize) {
        let free = Place::new(0, V::default());
        let old = std::mem::replace(&mut self.places, vec![free; places].into());
        for place in old.iter().filter(|place| !place.is_free()) {
            let at = self.find(place.hash()).unwrap_or_else(|free| free);
            if let Some(to) = self.places.get_mut(at) {
                *to = *place;
            }
        }
    }
}

/// Zero stands for a free place.
const fn hash(Digest(hash): Digest) -> u64 {
    if hash == 0 { 1 } else { hash }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few digests, many of which want the same place.
        #[test]
        fn as_a_map(steps: Vec<(bool, u8, u32)>) {
            let mut map = DigestIndex::default();
            let mut model = HashMap::new();
            let digest = |n: u8| Digest(u64::from(n % 8) << 61 | u64::from(n));
            for (is_new, n, value) in steps {
                if is_new {
                    map.set(digest(n), value);
                    model.insert(n, value);
                } else {
                    prop_assert_eq!(map.remove(digest(n)), model.remove(&n));
                }
                prop_assert_eq!(map.len(), model.len());
                for n in 0..=u8::MAX {
                    prop_assert_eq!(map.get(digest(n)), model.get(&n).copied());
                }
            }
        }
    }

    #[test]
    fn an_index_is_a_map_and_gives_its_room_back() {
        let mut index = DigestIndex::default();
        let digest = |n: u64| Digest(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for n in 0..10_000u32 {
            index.set(digest(n.into()), n);
            index.set(digest(n.into()), n + 1);
        }
        assert_eq!(index.len(), 10_000);
        assert!((0..10_000u32).all(|n| index.get(digest(n.into())) == Some(n + 1)));
        let most = index.places.len();
        assert!((12_500..16_000).contains(&most), "{most}");
        for n in 0..9_990u32 {
            assert_eq!(index.remove(digest(n.into())), Some(n + 1));
            assert_eq!(index.remove(digest(n.into())), None);
            assert_eq!(index.get(digest(n.into())), None);
        }
        assert!((9_990..10_000u32).all(|n| index.get(digest(n.into())) == Some(n + 1)));
        assert!(index.places.len() <= 256);
        assert_eq!(size_of::<Place<u32>>(), 12);
    }

    #[test]
    fn what_has_gone_leaves_nothing_behind() {
        let mut index = DigestIndex::default();
        let digest = |n: u64| Digest((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..1000u32).for_each(|n| index.set(digest(n.into()), n));
        let before = index.places.len();
        // A thousand sessions that move twenty times each.
        for n in 0..20_000u32 {
            index.remove(digest(n.into()));
            index.set(digest(u64::from(n) + 1000), n);
        }
        assert_eq!((index.places.len(), index.len()), (before, 1000));
    }
}
