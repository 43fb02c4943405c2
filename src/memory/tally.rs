//! What one owner or one thing holds of a kind.

use std::sync::Arc;

use super::{Full, Kind, Memory};

/// Most bytes that a [`Tally`] reserves ahead at a time.
const CHUNK: usize = 64 << 10;

/// What one owner, a shard or an outbox, holds of a kind: exact, and without a shared atomic most
/// of the time. What it holds is given back when it is dropped.
#[derive(Debug)]
pub struct Tally {
    memory: Arc<Memory>,
    kind: Kind,
    used: usize,
    reserved: usize,
}

impl Tally {
    /// A tally of nothing.
    pub const fn new(memory: Arc<Memory>, kind: Kind) -> Self {
        Self {
            memory,
            kind,
            used: 0,
            reserved: 0,
        }
    }

    /// The account.
    pub const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Bytes held.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// The share is used up, as in [`Memory::try_reserve`].
    pub fn try_charge(&mut self, bytes: usize) -> Result<(), Full> {
        if self.fits(bytes) {
            self.used += bytes;
            return Ok(());
        }
        Err(self.memory.refuse(self.kind, bytes, false))
    }

    /// Reserves room for bytes without taking them; false, uncounted, when there is none. For an
    /// owner that can make room by dropping something older.
    #[must_use]
    pub fn fits(&mut self, bytes: usize) -> bool {
        let wanted = self.used.saturating_add(bytes);
        if wanted <= self.reserved {
            // What was reserved ahead counts no more when the limit has been lowered below it.
            return !self.memory.is_over(self.kind);
        }
        let missing = wanted - self.reserved;
        let ahead = missing.saturating_add(self.chunk());
        for amount in [ahead, missing] {
            if self.memory.take(self.kind, amount) {
                self.reserved += amount;
                return true;
            }
        }
        false
    }

    /// Takes bytes whether there is room or not: for what is there already and only moves.
    pub fn charge(&mut self, bytes: usize) {
        if !self.fits(bytes) {
            let wanted = self.used.saturating_add(bytes);
            let missing = wanted.saturating_sub(self.reserved);
            self.memory.reserve(self.kind, missing);
            self.reserved += missing;
        }
        self.used += bytes;
    }

    /// Gives bytes back.
    pub fn release(&mut self, bytes: usize) {
        debug_assert!(
            self.used >= bytes,
            "{:?}: more released than held",
            self.kind
        );
        self.used = self.used.saturating_sub(bytes);
        self.trim();
    }

    /// Gives back what is reserved far ahead.
    pub fn trim(&mut self) {
        let spare = self.reserved - self.used;
        let keep = if self.used == 0 { 0 } else { self.chunk() };
        if spare > keep.saturating_mul(2) {
            self.memory.release(self.kind, spare - keep);
            self.reserved -= spare - keep;
        }
    }

    /// Holds so many bytes from now on, whether there is room or not.
    pub fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.used) {
            Some(more) => self.charge(more),
            None => self.release(self.used - bytes),
        }
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.release(self.used);
    }

    /// Small shares are reserved in small chunks, so that many shards do not hold them by halves.
    fn chunk(&self) -> usize {
        CHUNK.min(self.memory.limit(self.kind) / 1024)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.memory.release(self.kind, self.reserved);
    }
}

/// Bytes of a kind that one thing holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: Arc<Memory>,
    kind: Kind,
    bytes: usize,
}

impl Reservation {
    /// Reserves bytes.
    ///
    /// # Errors
    /// As [`Memory::try_reserve`].
    pub(crate) fn new(memory: &Arc<Memory>, kind: Kind, bytes: usize) -> Result<Self, Full> {
        memory.try_reserve(kind, bytes)?;
        Ok(Self {
            memory: memory.clone(),
            kind,
            bytes,
        })
    }

    /// Reserves bytes whether there is room or not.
    pub(crate) fn forced(memory: &Arc<Memory>, kind: Kind, bytes: usize) -> Self {
        memory.reserve(kind, bytes);
        Self {
            memory: memory.clone(),
            kind,
            bytes,
        }
    }

    /// Holds `bytes` more, whether there is room or not.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.memory.reserve(self.kind, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Gives `bytes` of it back.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.memory.release(self.kind, bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.release(self.kind, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shares;
    use super::*;

    fn memory(ceiling: usize) -> Arc<Memory> {
        Arc::new(Memory::new(Shares::new(ceiling, true)))
    }

    #[test]
    fn a_tally_counts_exactly_and_gives_everything_back() {
        let memory = memory(100 << 20);
        let kind = Kind::Queues;
        let mut tally = Tally::new(memory.clone(), kind);
        for _ in 0..1000 {
            assert!(tally.try_charge(100).is_ok());
        }
        assert_eq!(tally.used(), 100_000);
        assert!(memory.used(kind) >= 100_000);
        assert!(memory.used(kind) <= 100_000 + CHUNK);
        tally.release(99_900);
        assert!(memory.used(kind) <= 100 + 2 * CHUNK);
        tally.release(100);
        assert_eq!(memory.used(kind), 0);
        tally.charge(memory.limit(kind) + 7);
        assert!(tally.try_charge(1).is_err());
        assert!(!tally.fits(1));
        assert_eq!(memory.refused(kind), 1);
        drop(tally);
        assert_eq!(memory.used(kind), 0);
    }

    #[test]
    fn a_tally_reaches_the_limit_to_the_byte() {
        let memory = memory(1 << 20);
        let limit = memory.limit(Kind::Blocks);
        let mut tally = Tally::new(memory, Kind::Blocks);
        for _ in 0..limit {
            assert!(tally.try_charge(1).is_ok());
        }
        assert!(tally.try_charge(1).is_err());
    }

    #[test]
    fn what_was_reserved_ahead_is_no_room_below_a_lowered_limit() {
        let memory = Arc::new(Memory::new(Shares::new(16 << 20, true)));
        let mut tally = Tally::new(memory.clone(), Kind::Queues);
        assert!(tally.try_charge(1000).is_ok());
        assert!(memory.used(Kind::Queues) > 1001);
        memory.set_shares(Shares::new(1000, true));
        assert!(tally.try_charge(1).is_err());
        tally.charge(1);
        assert_eq!(tally.used(), 1001);
        memory.set_shares(Shares::new(16 << 20, true));
        assert!(tally.try_charge(1).is_ok());
    }
}
