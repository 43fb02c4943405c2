//! What others keep of each session.

use std::num::NonZeroU32;

use super::SessionId;
use super::table::Key;
use crate::tables::pieces::Pieces;

/// Values by session, in as many bytes as they have: a list by the places of the sessions, which are counted from
/// zero on and used again. Of a session that has gone and a newer one in its place, only the newer one has a value.
#[derive(Debug)]
pub struct BySession<V> {
    places: Pieces<Place<V>>,
    length: usize,
}

/// A value of the session with this generation.
type Place<V> = Option<(NonZeroU32, V)>;

impl<V> Default for BySession<V> {
    fn default() -> Self {
        Self {
            places: Pieces::default(),
            length: 0,
        }
    }
}

impl<V> BySession<V> {
    /// The value of a session.
    pub fn get(&self, SessionId(key): SessionId) -> Option<&V> {
        let (known, value) = self.places.get(key.index())?.as_ref()?;
        (*known == key.generation()).then_some(value)
    }

    /// The value of a session.
    pub fn get_mut(&mut self, SessionId(key): SessionId) -> Option<&mut V> {
        let (known, value) = self.places.get_mut(key.index())?.as_mut()?;
        (*known == key.generation()).then_some(value)
    }

    /// The session at a place, and its value.
    pub fn at(&self, index: u32) -> Option<(SessionId, &V)> {
        let (generation, value) = self.places.get(index)?.as_ref()?;
        Some((SessionId(Key::new(index, *generation)), value))
    }

    /// The place of a session.
    pub const fn index(SessionId(key): SessionId) -> u32 {
        key.index()
    }

    /// In place of what was there.
    pub fn insert(&mut self, SessionId(key): SessionId, value: V) {
        let is_new = self.at(key.index()).is_none();
        self.places
            .set(key.index(), Some((key.generation(), value)));
        self.length = self.length.saturating_add(usize::from(is_new));
    }

    /// The value of a session, which has none from now on.
    pub fn remove(&mut self, SessionId(key): SessionId) -> Option<V> {
        let place = self.places.get_mut(key.index())?;
        let (_, value) = place.take_if(|(known, _)| *known == key.generation())?;
        self.length = self.length.saturating_sub(1);
        if self.length == 0 {
            self.places = Pieces::default();
        }
        Some(value)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SessionId, &mut V)> {
        let places = self.places.iter_mut().zip(0..);
        places.filter_map(|(place, index)| {
            let (generation, value) = place.as_mut()?;
            Some((SessionId(Key::new(index, *generation)), value))
        })
    }

    /// The sessions that have a value.
    pub fn keys(&self) -> impl Iterator<Item = SessionId> {
        let places = self.places.iter().zip(0..);
        places.filter_map(|(place, index)| {
            let (generation, _) = place.as_ref()?;
            Some(SessionId(Key::new(index, *generation)))
        })
    }
}

#[cfg(test)]
impl<V> BySession<V> {
    /// Bytes of a place.
    pub(crate) const PLACE: usize = size_of::<Place<V>>();
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::table::Table;
    use super::*;

    proptest! {
        #[test]
        fn as_a_map(steps: Vec<(bool, u16)>) {
            let mut table = Table::new();
            let (mut values, mut model) = (BySession::default(), HashMap::new());
            let mut ids: Vec<SessionId> = Vec::new();
            for (is_new, number) in steps {
                if is_new || ids.is_empty() {
                    let id = SessionId(table.insert(()));
                    values.insert(id, number);
                    model.insert(id, number);
                    ids.push(id);
                } else {
                    let id = ids[usize::from(number) % ids.len()];
                    table.remove(id.0);
                    prop_assert_eq!(values.remove(id), model.remove(&id));
                }
                for id in &ids {
                    prop_assert_eq!(values.get(*id), model.get(id));
                    prop_assert_eq!(values.get_mut(*id).copied(), model.get(id).copied());
                }
                prop_assert_eq!(values.keys().count(), model.len());
                prop_assert!(values.iter_mut().all(|(id, value)| model.get(&id) == Some(value)));
            }
        }
    }
}
