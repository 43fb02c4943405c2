//! The newest connection of each DTLS identity that is connected or has registrations, by what it
//! presented.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::engine::peer::{Peer, ShardId};
use crate::tables::numbers::Numbers;
use crate::tables::pieces::Slab;

/// The newest connection of an identity.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shard: ShardId,
    pub(super) peer: Peer,
    pub(super) live: bool,
    /// The store brought it back.
    pub(super) came_back: bool,
    pub(super) registrations: u32,
}

/// See the module. There may be a million: a table of a standard map would be half empty, and an entry is
/// large.
#[derive(Debug, Default)]
pub(super) struct Connections {
    state: RandomState,
    entries: Slab<Entry>,
    /// Numbers of the entries.
    index: Numbers,
}

#[derive(Debug)]
struct Entry {
    presented: Arc<[u8]>,
    connection: Connection,
}

impl Connections {
    pub(super) fn get(&self, presented: &[u8]) -> Option<&Connection> {
        let entry = self.entries.get(self.find(presented)?)?;
        Some(&entry.connection)
    }

    pub(super) fn get_mut(&mut self, presented: &[u8]) -> Option<&mut Connection> {
        let number = self.find(presented)?;
        let entry = self.entries.get_mut(number)?;
        Some(&mut entry.connection)
    }

    /// That of an identity, or `new`.
    pub(super) fn get_or_insert(
        &mut self,
        presented: &Arc<[u8]>,
        new: Connection,
    ) -> Option<&mut Connection> {
        let number = match self.find(presented) {
            Some(number) => number,
            None => self.insert(presented, new),
        };
        let entry = self.entries.get_mut(number)?;
        Some(&mut entry.connection)
    }

    /// Of an identity that has none.
    fn insert(&mut self, presented: &Arc<[u8]>, connection: Connection) -> u32 {
        let hash = self.state.hash_one(&**presented);
        let number = self.entries.insert(Entry {
            presented: presented.clone(),
            connection,
        });
        let (state, entries) = (&self.state, &self.entries);
        self.index
            .insert(hash, number, |number| hash_of(state, entries, number));
        number
    }

    pub(super) fn remove(&mut self, presented: &[u8]) {
        if let Some(number) = self.find(presented) {
            let hash = self.state.hash_one(presented);
            let (state, entries) = (&self.state, &self.entries);
            self.index
                .remove(hash, number, |number| hash_of(state, entries, number));
            self.entries.remove(number);
        }
    }

    #[cfg(feature = "internals")]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    fn find(&self, presented: &[u8]) -> Option<u32> {
        let hash = self.state.hash_one(presented);
        self.index.find(hash, |number| {
            let entry = self.entries.get(number);
            entry.is_some_and(|entry| *entry.presented == *presented)
        })
    }
}

fn hash_of(state: &RandomState, entries: &Slab<Entry>, number: u32) -> u64 {
    let entry = entries.get(number);
    entry.map_or(0, |entry| state.hash_one(&*entry.presented))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn connection(registrations: u32) -> Connection {
        Connection {
            shard: 0,
            peer: Peer {
                listener: 0,
                local: crate::network::LocalAddress::default(),
                address: ([127, 0, 0, 1], 1).into(),
                session: 1,
            },
            live: true,
            came_back: false,
            registrations,
        }
    }

    proptest! {
        #[test]
        fn as_a_map(steps: Vec<(bool, u8, u32)>) {
            let mut connections = Connections::default();
            let mut model = HashMap::new();
            for (is_new, name, value) in steps {
                let name: Arc<[u8]> = [name % 32].into();
                if is_new {
                    let known = connections.get_or_insert(&name, connection(value)).unwrap();
                    prop_assert_eq!(known.registrations, *model.entry(name).or_insert(value));
                } else {
                    connections.remove(&name);
                    model.remove(&name);
                }
                for name in 0..32 {
                    let known = connections.get(&[name]).map(|it| it.registrations);
                    prop_assert_eq!(known, model.get(&[name][..]).copied());
                    let known = connections.get_mut(&[name]).map(|it| it.registrations);
                    prop_assert_eq!(known, model.get(&[name][..]).copied());
                }
                prop_assert_eq!(connections.entries.len(), model.len());
            }
        }
    }
}
