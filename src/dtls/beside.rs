//! What others keep of each session.

use std::num::NonZeroU32;

use super::SessionId;
use super::table::Key;

/// Values by session, in as many bytes as they have: a list by the places of the sessions, which are counted from
/// zero on and used again. Of a session that has gone and a newer one in its place, only the newer one has a value.
#[derive(Debug)]
pub struct BySession<V> {
    /// In pieces, so that a list of a million never moves.
    pieces: Vec<Vec<Place<V>>>,
    length: usize,
}

/// A value of the session with this generation.
type Place<V> = Option<(NonZeroU32, V)>;

/// Places of a piece.
const PIECE: usize = 128;

impl<V> Default for BySession<V> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            length: 0,
        }
    }
}

impl<V> BySession<V> {
    /// The value of a session.
    pub fn get(&self, id: SessionId) -> Option<&V> {
        let (piece, at) = place(id);
        let (known, value) = self.pieces.get(piece)?.get(at)?.as_ref()?;
        (*known == id.0.generation()).then_some(value)
    }

    /// The value of a session.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut V> {
        let (piece, at) = place(id);
        let (known, value) = self.pieces.get_mut(piece)?.get_mut(at)?.as_mut()?;
        (*known == id.0.generation()).then_some(value)
    }

    /// The session at a place, and its value.
    pub fn at(&self, index: u32) -> Option<(SessionId, &V)> {
        let index = index as usize;
        let place = self.pieces.get(index / PIECE)?.get(index % PIECE)?;
        let (generation, value) = place.as_ref()?;
        let key = Key::new(u32::try_from(index).ok()?, *generation);
        Some((SessionId(key), value))
    }

    /// The place of a session.
    pub const fn index(SessionId(key): SessionId) -> u32 {
        key.index()
    }

    /// In place of what was there.
    pub fn insert(&mut self, id: SessionId, value: V) {
        let (piece, at) = place(id);
        while self.pieces.len() <= piece {
            self.pieces.push(Vec::new());
        }
        let Some(piece) = self.pieces.get_mut(piece) else {
            return;
        };
        if piece.is_empty() {
            piece.reserve_exact(PIECE);
            piece.resize_with(PIECE, || None);
        }
        if let Some(place) = piece.get_mut(at) {
            let before = place.replace((id.0.generation(), value));
            self.length = self.length.saturating_add(usize::from(before.is_none()));
        }
    }

    /// The value of a session, which has none from now on.
    pub fn remove(&mut self, id: SessionId) -> Option<V> {
        let (piece, at) = place(id);
        let place = self.pieces.get_mut(piece)?.get_mut(at)?;
        let (_, value) = place.take_if(|(known, _)| *known == id.0.generation())?;
        self.length = self.length.saturating_sub(1);
        if self.length == 0 {
            self.pieces = Vec::new();
        }
        Some(value)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SessionId, &mut V)> {
        let pieces = self.pieces.iter_mut().zip((0..).step_by(PIECE));
        let places = pieces.flat_map(|(piece, first)| piece.iter_mut().zip(first..));
        places.filter_map(|(place, index)| {
            let (generation, value) = place.as_mut()?;
            Some((SessionId(Key::new(index, *generation)), value))
        })
    }

    /// The sessions that have a value.
    pub fn keys(&self) -> impl Iterator<Item = SessionId> {
        let pieces = self.pieces.iter().zip((0..).step_by(PIECE));
        let places = pieces.flat_map(|(piece, first)| piece.iter().zip(first..));
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

fn place(SessionId(key): SessionId) -> (usize, usize) {
    let index = key.index() as usize;
    (index / PIECE, index % PIECE)
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
