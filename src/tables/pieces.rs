//! Lists in pieces: they never move, and grow by no more than a piece.

/// Entries of a piece.
const PIECE: usize = 128;

/// A list by index. What nobody has set is the default.
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    pieces: Vec<Box<[T]>>,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T: Default> Pieces<T> {
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (piece, at) = place(index);
        self.pieces.get(piece)?.get(at)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (piece, at) = place(index);
        self.pieces.get_mut(piece)?.get_mut(at)
    }

    /// Makes room up to an index, which is the next one or one that was there before.
    pub(crate) fn set(&mut self, index: u32, value: T) {
        let (piece, at) = place(index);
        while self.pieces.len() <= piece {
            let new = (0..PIECE).map(|_| T::default());
            self.pieces.push(new.collect());
        }
        if let Some(place) = self.pieces.get_mut(piece).and_then(|it| it.get_mut(at)) {
            *place = value;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten()
    }
}

const fn place(index: u32) -> (usize, usize) {
    (index as usize / PIECE, index as usize % PIECE)
}

/// Entries under numbers that are used again. Without entries it takes no room.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Pieces<Option<T>>,
    free: Vec<u32>,
    /// The first number that was never used.
    next: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            entries: Pieces::default(),
            free: Vec::new(),
            next: 0,
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        (self.next as usize).saturating_sub(self.free.len())
    }

    /// Returns its number.
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            let next = self.next;
            self.next = next.saturating_add(1);
            next
        });
        self.entries.set(number, Some(entry));
        number
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.entries.get(number)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.entries.get_mut(number)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let entry = self.entries.get_mut(number)?.take()?;
        self.free.push(number);
        if self.len() == 0 {
            *self = Self::default();
        }
        Some(entry)
    }

    /// In the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_map(steps: Vec<(bool, u16)>) {
            let mut slab = Slab::default();
            let mut model = HashMap::new();
            for (is_new, value) in steps {
                if is_new {
                    let number = slab.insert(value);
                    prop_assert_eq!(model.insert(number, value), None);
                } else {
                    let number = u32::from(value) % 16;
                    prop_assert_eq!(slab.remove(number), model.remove(&number));
                }
                prop_assert_eq!(slab.len(), model.len());
                prop_assert_eq!(slab.iter().count(), model.len());
                for number in 0..=u32::from(u8::MAX) {
                    prop_assert_eq!(slab.get(number), model.get(&number));
                    prop_assert_eq!(slab.get_mut(number).copied(), model.get(&number).copied());
                }
            }
        }
    }
}
