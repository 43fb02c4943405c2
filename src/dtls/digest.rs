//! Keys of tables with up to a million entries by their hash alone: eight bytes instead of an address,
//! or of an identity and what it is counted by.
//!
//! Two keys with the same hash would be taken for one. The hash has a secret that nobody outside knows,
//! and with a million entries the chance that this ever happens is one in thirty million. What would come
//! of it is harmless: a record that does not open, or another session that gives way.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use hashbrown::HashTable;

/// The hash of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    /// That of a key, with the secret in `state`.
    pub(super) fn new(state: &impl BuildHasher, key: &impl Hash) -> Self {
        Self(state.hash_one(key))
    }

    /// Of what is as good as a hash: nobody outside can choose it.
    pub(super) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A table by digests.
pub(super) type DigestMap<V> = HashMap<Digest, V, BuildHasherDefault<AsItIs>>;

/// Indexes into a table by digests, 13 bytes each. Room for many that have gone is given back.
#[derive(Default)]
pub(super) struct DigestIndex(HashTable<Entry>);

/// In halves, so that it has twelve bytes and not sixteen.
#[derive(Clone, Copy)]
struct Entry {
    high: u32,
    low: u32,
    index: u32,
}

impl Entry {
    const fn new(Digest(hash): Digest, index: u32) -> Self {
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        Self { high, low, index }
    }

    fn hash(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

impl DigestIndex {
    /// Tables of so few entries are not made smaller.
    const SMALL: usize = 64;

    pub(super) fn get(&self, digest: Digest) -> Option<u32> {
        let found = self.0.find(digest.0, |entry| entry.hash() == digest.0);
        found.map(|entry| entry.index)
    }

    /// In place of what was there.
    pub(super) fn set(&mut self, digest: Digest, index: u32) {
        let found = self.0.find_mut(digest.0, |entry| entry.hash() == digest.0);
        match found {
            Some(entry) => entry.index = index,
            None => {
                let entry = Entry::new(digest, index);
                self.0.insert_unique(digest.0, entry, Entry::hash);
            }
        }
    }

    pub(super) fn remove(&mut self, digest: Digest) {
        let found = self.0.find_entry(digest.0, |it| it.hash() == digest.0);
        if let Ok(entry) = found {
            entry.remove();
        }
        let length = self.0.len();
        if self.0.capacity() > length.saturating_mul(8).max(Self::SMALL) {
            self.0.shrink_to(length.saturating_mul(2), Entry::hash);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What is a hash already is not hashed again.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let most = index.0.capacity();
        for n in 0..9_990u32 {
            index.remove(digest(n.into()));
            index.remove(digest(n.into()));
            assert_eq!(index.get(digest(n.into())), None);
        }
        assert!((9_990..10_000u32).all(|n| index.get(digest(n.into())) == Some(n + 1)));
        assert!(most >= 10_000 && index.0.capacity() <= 256);
        assert_eq!(size_of::<Entry>(), 12);
    }
}
