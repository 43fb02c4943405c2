//! Numbers of entries that stand elsewhere, found by what these entries are: five bytes each and the free places.

use hashbrown::HashTable;

/// See the module. Entries do not change what they are found by, nor go, before their numbers have gone.
#[derive(Debug, Default)]
pub(crate) struct Numbers(HashTable<u32>);

impl Numbers {
    /// Tables with room for so many are not made smaller.
    const SMALL: usize = 64;

    /// The number with this hash whose entry `is_it`.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.0.find(hash, |number| is_it(*number)).copied()
    }

    /// One that is not there yet. `hash_of` says the hashes of others.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        self.0
            .insert_unique(hash, number, |number| hash_of(*number));
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let Ok(found) = self.0.find_entry(hash, |it| *it == number) else {
            return false;
        };
        found.remove();
        let few = self.0.len().saturating_mul(2);
        if self.0.capacity() > few.saturating_mul(4).max(Self::SMALL) {
            self.0.shrink_to(few, |number| hash_of(*number));
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes.
    const fn hash(number: u32) -> u64 {
        (number as u64 % 16).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    proptest! {
        #[test]
        fn as_a_set(steps: Vec<(bool, u8)>) {
            let mut numbers = Numbers::default();
            let mut model = BTreeSet::new();
            for (is_new, number) in steps {
                let number = u32::from(number);
                if !is_new {
                    prop_assert_eq!(numbers.remove(hash(number), number, hash), model.remove(&number));
                } else if model.insert(number) {
                    numbers.insert(hash(number), number, hash);
                }
                prop_assert_eq!(numbers.len(), model.len());
                for number in 0..=u8::MAX.into() {
                    let found = numbers.find(hash(number), |it| it == number);
                    prop_assert_eq!(found.is_some(), model.contains(&number));
                }
            }
        }
    }

    #[test]
    fn room_is_given_back() {
        let mut numbers = Numbers::default();
        (0..10_000).for_each(|number| {
            numbers.insert(u64::from(number) << 7, number, |it| u64::from(it) << 7)
        });
        for number in 0..9_990 {
            assert!(numbers.remove(u64::from(number) << 7, number, |it| u64::from(it) << 7));
        }
        assert!(numbers.len() == 10 && numbers.0.capacity() <= 128);
        for number in 9_990..10_000 {
            assert_eq!(
                numbers.find(u64::from(number) << 7, |it| it == number),
                Some(number)
            );
        }
    }
}
