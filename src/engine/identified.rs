//! The registrations of one identity in a shard. Nearly all identities have one, and there may be as many
//! identities as devices: a single one takes no memory of its own.

use std::collections::BTreeMap;

use super::peer::DeviceKey;

/// See the module. Each with whether it was moved to the newest connection of the identity and nobody was told
/// of that since; it may have spoken there meanwhile.
#[derive(Debug, Default)]
pub(super) enum Identified {
    #[default]
    None,
    One(DeviceKey, bool),
    /// Two or more.
    #[allow(clippy::box_collection)] // a pointer, so that one is small
    Many(Box<BTreeMap<DeviceKey, bool>>),
}

impl Identified {
    pub(super) fn insert(&mut self, key: DeviceKey) {
        match self {
            Self::None => *self = Self::One(key, false),
            Self::One(known, _) if *known == key => {}
            Self::One(known, moved) => {
                let both = [(*known, *moved), (key, false)];
                *self = Self::Many(Box::new(both.into()));
            }
            Self::Many(all) => {
                all.entry(key).or_default();
            }
        }
    }

    pub(super) fn remove(&mut self, key: DeviceKey) {
        match self {
            Self::One(known, _) if *known == key => *self = Self::None,
            Self::None | Self::One(..) => {}
            Self::Many(all) => {
                all.remove(&key);
                if all.len() > 1 {
                    return;
                }
                let left = all.pop_first();
                *self = left.map_or(Self::None, |(key, moved)| Self::One(key, moved));
            }
        }
    }

    /// One that is in was moved.
    pub(super) fn set_unconfirmed(&mut self, key: DeviceKey) {
        match self {
            Self::One(known, moved) if *known == key => *moved = true,
            Self::None | Self::One(..) => {}
            Self::Many(all) => {
                if let Some(moved) = all.get_mut(&key) {
                    *moved = true;
                }
            }
        }
    }

    /// Those that were moved, each once, in the order of their keys.
    pub(super) fn take_unconfirmed(&mut self) -> Vec<DeviceKey> {
        match self {
            Self::None => Vec::new(),
            Self::One(key, moved) => {
                let moved = std::mem::take(moved);
                moved.then_some(*key).into_iter().collect()
            }
            Self::Many(all) => {
                let moved = all.iter_mut().filter(|(_, moved)| **moved);
                moved
                    .map(|(key, moved)| {
                        *moved = false;
                        *key
                    })
                    .collect()
            }
        }
    }

    /// In order.
    pub(super) fn keys(&self) -> Vec<DeviceKey> {
        match self {
            Self::None => Vec::new(),
            Self::One(key, _) => vec![*key],
            Self::Many(all) => all.keys().copied().collect(),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn contains(&self, key: DeviceKey) -> bool {
        self.keys().contains(&key)
    }

    #[cfg(debug_assertions)]
    pub(super) fn len(&self) -> usize {
        self.keys().len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_two_sets(steps: Vec<(u8, u8)>) {
            let mut identified = Identified::default();
            let (mut keys, mut moved) = (BTreeSet::new(), BTreeSet::new());
            for (what, key) in steps {
                let key = DeviceKey::from(key % 4);
                match what % 4 {
                    0 | 1 => {
                        identified.insert(key);
                        keys.insert(key);
                    }
                    2 => {
                        identified.remove(key);
                        keys.remove(&key);
                        moved.remove(&key);
                    }
                    _ if what % 8 == 3 => {
                        let expected: Vec<_> = std::mem::take(&mut moved).into_iter().collect();
                        prop_assert_eq!(identified.take_unconfirmed(), expected);
                    }
                    _ => {
                        identified.set_unconfirmed(key);
                        if keys.contains(&key) {
                            moved.insert(key);
                        }
                    }
                }
                prop_assert_eq!(identified.keys(), keys.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(identified.is_empty(), keys.is_empty());
            }
        }
    }

    #[test]
    fn one_is_small() {
        assert!(size_of::<Identified>() <= 16);
    }
}
