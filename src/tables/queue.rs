//! A queue of many entries that neither move nor double when they become more.

use std::collections::VecDeque;

/// Entries of one piece.
const PIECE: usize = 64;

/// Numbers have so many bits, so that there is room for one more beside them.
const NUMBERS: u32 = u32::MAX >> 1;

/// Entries in the order of their arrival, in pieces of the same length. Each has a number by which it is found
/// until it is taken out at an end. There may be fewer than 2^31 at a time.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// All but the last are full.
    pieces: VecDeque<Vec<T>>,
    /// Entries of the first piece that were taken out; fewer than it has.
    taken: usize,
    /// Number of the first entry.
    first: u32,
    length: usize,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            taken: 0,
            first: 0,
            length: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Appends an entry. Returns its number, of 31 bits.
    pub(crate) fn push(&mut self, entry: T) -> u32 {
        let number = self.first.wrapping_add(self.length as u32) & NUMBERS;
        match self.pieces.back_mut().filter(|last| last.len() < PIECE) {
            Some(last) => last.push(entry),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(entry);
                self.pieces.push_back(piece);
            }
        }
        self.length = self.length.saturating_add(1);
        number
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (piece, at) = self.place(number);
        self.pieces.get(piece)?.get(at)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (piece, at) = self.place(number);
        self.pieces.get_mut(piece)?.get_mut(at)
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.pieces.front()?.get(self.taken)
    }

    pub(crate) fn back(&self) -> Option<&T> {
        // The last piece has an entry that was not taken.
        self.pieces.back()?.last()
    }

    pub(crate) fn pop_back(&mut self) -> Option<T> {
        let last = self.pieces.back_mut()?;
        let entry = last.pop();
        self.length = self.length.saturating_sub(1);
        let least = if self.pieces.len() == 1 {
            self.taken
        } else {
            0
        };
        if self.pieces.back().is_some_and(|last| last.len() <= least) {
            self.pieces.pop_back();
        }
        if self.pieces.is_empty() {
            self.taken = 0;
        }
        entry
    }

    #[cfg(feature = "internals")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten().skip(self.taken)
    }

    /// Piece, and place in it.
    fn place(&self, number: u32) -> (usize, usize) {
        let behind_first = (number.wrapping_sub(self.first) & NUMBERS) as usize;
        let at = behind_first.saturating_add(self.taken);
        (at / PIECE, at % PIECE)
    }
}

impl<T: Default> Queue<T> {
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let piece = self.pieces.front_mut()?;
        let entry = piece.get_mut(self.taken).map(std::mem::take);
        self.taken = self.taken.saturating_add(1);
        self.first = self.first.wrapping_add(1) & NUMBERS;
        self.length = self.length.saturating_sub(1);
        if self.taken >= piece.len() {
            self.pieces.pop_front();
            self.taken = 0;
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_queue(
            first in prop_oneof![Just(0), NUMBERS - 300..=NUMBERS],
            steps in vec((0..4u8, 0..150u8), 0..30),
        ) {
            let mut queue = Queue::new();
            queue.first = first;
            let mut model: VecDeque<(u32, u64)> = VecDeque::new();
            let mut value = 0;
            for (step, times) in steps {
                for _ in 0..times {
                    match step {
                        0 => {
                            let popped = model.pop_front().map(|it| it.1);
                            prop_assert_eq!(queue.pop_front(), popped);
                        }
                        1 => {
                            let popped = model.pop_back().map(|it| it.1);
                            prop_assert_eq!(queue.pop_back(), popped);
                        }
                        _ => {
                            value += 1;
                            model.push_back((queue.push(value), value));
                        }
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.front(), model.front().map(|it| &it.1));
                prop_assert_eq!(queue.back(), model.back().map(|it| &it.1));
                for (number, value) in &model {
                    prop_assert!(*number <= NUMBERS);
                    prop_assert_eq!(queue.get(*number), Some(value));
                    prop_assert_eq!(queue.get_mut(*number).copied(), Some(*value));
                }
                prop_assert!(queue.iter().eq(model.iter().map(|it| &it.1)));
                prop_assert!(queue.pieces.len() <= model.len() / PIECE + 2);
            }
        }
    }
}
