//! The registrations of one identity in a shard. Nearly all identities have one, and there may be as many
//! identities as devices: a single one takes no memory of its own.

use std::collections::BTreeSet;

use super::peer::DeviceKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) enum Identified {
    #[default]
    None,
    /// With whether it was moved, as in [`Several`].
    One(DeviceKey, bool),
    /// Two or more.
    Many(Box<Several>),
}

/// More registrations than one.
#[derive(Debug, Default)]
pub(super) struct Several {
    keys: BTreeSet<DeviceKey>,
    /// Those that were moved to the newest connection of the identity, and nobody was told of that since.
    /// Some may have spoken there meanwhile.
    unconfirmed: BTreeSet<DeviceKey>,
}

impl Identified {
    pub(super) fn insert(&mut self, key: DeviceKey) {
        match self {
            Self::None => *self = Self::One(key, false),
            Self::One(known, _) if *known == key => {}
            Self::One(known, moved) => {
                *self = Self::Many(Box::new(Several {
                    keys: [*known, key].into(),
                    unconfirmed: moved.then_some(*known).into_iter().collect(),
                }));
            }
            Self::Many(all) => {
                all.keys.insert(key);
            }
        }
    }

    pub(super) fn remove(&mut self, key: DeviceKey) {
        match self {
            Self::One(known, _) if *known == key => *self = Self::None,
            Self::None | Self::One(..) => {}
            Self::Many(all) => {
                all.keys.remove(&key);
                all.unconfirmed.remove(&key);
                if all.keys.len() > 1 {
                    return;
                }
                let moved = !all.unconfirmed.is_empty();
                let left = all.keys.pop_first();
                *self = left.map_or(Self::None, |key| Self::One(key, moved));
            }
        }
    }

    /// One that is in was moved.
    pub(super) fn set_unconfirmed(&mut self, key: DeviceKey) {
        match self {
            Self::One(known, moved) if *known == key => *moved = true,
            Self::None | Self::One(..) => {}
            Self::Many(all) => {
                if all.keys.contains(&key) {
                    all.unconfirmed.insert(key);
                }
            }
        }
    }

    /// Those that were moved, each once, in the order of their keys. Takes no longer than there are of
    /// these.
    pub(super) fn take_unconfirmed(&mut self) -> Vec<DeviceKey> {
        match self {
            Self::None => Vec::new(),
            Self::One(key, moved) => {
                let moved = std::mem::take(moved);
                moved.then_some(*key).into_iter().collect()
            }
            Self::Many(all) => std::mem::take(&mut all.unconfirmed).into_iter().collect(),
        }
    }

    /// In order.
    pub(super) fn keys(&self) -> Vec<DeviceKey> {
        match self {
            Self::None => Vec::new(),
            Self::One(key, _) => vec![*key],
            Self::Many(all) => all.keys.iter().copied().collect(),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn contains(&self, key: DeviceKey) -> bool {
        match self {
            Self::None => false,
            Self::One(known, _) => *known == key,
            Self::Many(all) => all.keys.contains(&key),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(all) => all.keys.len(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
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
