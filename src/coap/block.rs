//! Block-wise transfer (RFC 7959): the Block options, a body on its way out and a body on its
//! way in. Everything is bounded by sizes the caller gives.

use std::time::Duration;

use thiserror::Error;

use crate::memory::block;
use crate::time::Instant;

/// A transfer that brings this many blocks within its lifetime may go on for another one, so that
/// an image of a megabyte reaches a slow device, and nobody keeps a transfer open for ever.
const BLOCKS_PER_LIFETIME: u32 = 16;

/// Value of a Block1 or Block2 option (RFC 7959 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOption {
    /// Block number, 20 bits.
    pub number: u32,
    /// Whether more blocks follow.
    pub more: bool,
    /// Size exponent, 0 to 6: blocks of `1 << (szx + 4)` bytes.
    pub szx: u8,
}

impl BlockOption {
    /// From the option's uint; `None` for the reserved exponent 7.
    pub fn from_uint(value: u32) -> Option<Self> {
        let szx = u8::try_from(value & 7).ok().filter(|szx| *szx < 7)?;
        Some(Self {
            number: value >> 4,
            more: value & 8 != 0,
            szx,
        })
    }

    /// The option of a request for block `number`; `None` where the 20 bits of a number end.
    pub fn next(number: usize, szx: u8) -> Option<Self> {
        let number = u32::try_from(number).ok().filter(|it| *it < 1 << 20)?;
        Some(Self {
            number,
            more: false,
            szx,
        })
    }

    /// The option's uint.
    pub const fn to_uint(self) -> u32 {
        self.number << 4 | (self.more as u32) << 3 | self.szx as u32
    }

    /// Block size in bytes.
    pub const fn size(self) -> usize {
        1 << (self.szx + 4)
    }

    /// Where the block starts in the body.
    pub const fn offset(self) -> usize {
        (self.number as usize) << (self.szx + 4)
    }
}

/// The exponent of the largest block of at most `size` bytes (16 to 1024).
pub fn szx_of(size: usize) -> u8 {
    (0..=6)
        .rev()
        .find(|szx| 1usize << (szx + 4) <= size)
        .unwrap_or(0)
}

/// A body sent block by block.
#[derive(Debug, Clone)]
pub struct Sender {
    body: Box<[u8]>,
    offset: usize,
    szx: u8,
}

impl Sender {
    /// `body` in blocks of at most `block_size` bytes.
    pub fn new(body: Vec<u8>, block_size: usize) -> Self {
        Self {
            body: body.into(),
            offset: 0,
            szx: szx_of(block_size),
        }
    }

    /// The current block and its option.
    pub fn current(&self) -> (BlockOption, &[u8]) {
        let size = 1usize << (self.szx + 4);
        let end = self.offset.saturating_add(size).min(self.body.len());
        let number = u32::try_from(self.offset >> (self.szx + 4)).unwrap_or(u32::MAX);
        let option = BlockOption {
            number,
            more: end < self.body.len(),
            szx: self.szx,
        };
        (option, self.body.get(self.offset..end).unwrap_or_default())
    }

    /// Where the current block begins: how much of the body the receiver has taken.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Size of the whole body, for Size1.
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is nothing to send.
    #[cfg(feature = "internals")]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The current block was taken; the answer may ask for smaller blocks (RFC 7959 §2.3).
    /// False when there is no next block, or when its number would have more than 20 bits.
    pub fn advance(&mut self, acknowledged: Option<BlockOption>) -> bool {
        let (current, block) = self.current();
        if !current.more {
            return false;
        }
        let offset = self.offset + block.len();
        let szx = acknowledged.map_or(self.szx, |answer| self.szx.min(answer.szx));
        if BlockOption::next(offset >> (szx + 4), szx).is_none() {
            return false;
        }
        (self.offset, self.szx) = (offset, szx);
        true
    }

    /// Starts again with smaller blocks, after 4.13 with a Block1 option (RFC 7959 §2.9.3).
    /// False when that would change nothing.
    pub fn restart_smaller(&mut self, szx: u8) -> bool {
        let smaller = szx < self.szx;
        if smaller {
            self.szx = szx;
            self.offset = 0;
        }
        smaller
    }
}

/// Why a block cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BlockError {
    /// Not the block that comes next (4.08, RFC 7959 §2.9.2).
    #[error("block out of order")]
    OutOfOrder,
    /// The body exceeds the limit (4.13, RFC 7959 §2.9.3).
    #[error("body too large")]
    TooLarge,
    /// A block with more to come must be full (RFC 7959 §2.2).
    #[error("short block")]
    Short,
}

/// The deadline of a transfer: it has to end within a lifetime, or to bring 16 blocks, which earn
/// it another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    since: Instant,
    blocks: u32,
}

impl Pace {
    /// A transfer that begins at `now`.
    pub const fn new(now: Instant) -> Self {
        Self {
            since: now,
            blocks: 0,
        }
    }

    /// When the transfer is too late.
    pub fn deadline(&self, lifetime: Duration) -> Instant {
        self.since + lifetime
    }

    /// A block has got across that had not before.
    pub fn block(&mut self, now: Instant) {
        self.blocks += 1;
        if self.blocks >= BLOCKS_PER_LIFETIME {
            *self = Self::new(now);
        }
    }
}

/// A body received block by block.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    body: Vec<u8>,
    /// Behind the block that came last, which may be a repeated one.
    cursor: usize,
}

/// What a block was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// New, with more to come.
    More,
    /// One that is here already: its sender has missed the answer.
    Again,
    /// The last one.
    Last,
}

impl Receiver {
    /// Takes one block. Those that are here already may come again, with the same content; block 0,
    /// or what follows a repetition, with other content starts the body anew from there.
    ///
    /// # Errors
    /// The block does not fit; the transfer is to be given up.
    pub fn push(
        &mut self,
        block: BlockOption,
        payload: &[u8],
        limit: usize,
    ) -> Result<Taken, BlockError> {
        let offset = block.offset();
        let end = offset.saturating_add(payload.len());
        if block.more && payload.len() != block.size() {
            return Err(BlockError::Short);
        }
        if block.more && self.body.get(offset..end) == Some(payload) {
            self.cursor = end;
            return Ok(Taken::Again);
        }
        let follows = offset == 0 || offset == self.cursor || offset == self.body.len();
        if !follows || offset > self.body.len() {
            return Err(BlockError::OutOfOrder);
        }
        if payload.len() > block.size() || end > limit {
            return Err(BlockError::TooLarge);
        }
        self.body.truncate(offset);
        self.body.extend_from_slice(payload);
        self.cursor = end;
        Ok(if block.more { Taken::More } else { Taken::Last })
    }

    /// Bytes received so far.
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Bytes by which it grows at most for a payload of `length`.
    pub fn growth(&self, length: usize) -> usize {
        let capacity = self.body.capacity();
        match self.body.len().saturating_add(length) {
            wanted if wanted <= capacity => 0,
            wanted => block(wanted.max(capacity.saturating_mul(2))) - block(capacity),
        }
    }

    /// Bytes of the heap it takes.
    pub const fn heap(&self) -> usize {
        block(self.body.capacity())
    }

    /// Whether nothing was received yet.
    #[cfg(feature = "internals")]
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The body.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn option_value() {
        let block = BlockOption::from_uint(0x1e).unwrap();
        assert_eq!(
            block,
            BlockOption {
                number: 1,
                more: true,
                szx: 6
            }
        );
        assert_eq!(
            (block.size(), block.offset(), block.to_uint()),
            (1024, 1024, 0x1e)
        );
        assert_eq!(BlockOption::from_uint(7), None);
        assert_eq!(
            (szx_of(1024), szx_of(1000), szx_of(16), szx_of(1)),
            (6, 5, 0, 0)
        );
    }

    #[test]
    fn smaller_blocks_on_request() {
        let mut sender = Sender::new(vec![7; 1500], 1024);
        assert_eq!(
            sender.current().0,
            BlockOption {
                number: 0,
                more: true,
                szx: 6
            }
        );
        assert!(sender.advance(Some(BlockOption {
            number: 0,
            more: true,
            szx: 4
        })));
        let (block, payload) = sender.current();
        assert_eq!(
            (block, payload.len()),
            (
                BlockOption {
                    number: 4,
                    more: true,
                    szx: 4
                },
                256
            )
        );
        assert!(sender.restart_smaller(2));
        assert_eq!(sender.current().0.number, 0);
        assert!(!sender.restart_smaller(2));
    }

    #[test]
    fn refuses_what_breaks_a_body() {
        let block = |number, more| BlockOption {
            number,
            more,
            szx: 0,
        };
        let mut receiver = Receiver::default();
        assert_eq!(
            receiver.push(block(1, true), &[0; 16], 100),
            Err(BlockError::OutOfOrder)
        );
        assert_eq!(
            receiver.push(block(0, true), &[0; 15], 100),
            Err(BlockError::Short)
        );
        assert_eq!(
            receiver.push(block(0, true), &[0; 16], 100),
            Ok(Taken::More)
        );
        assert_eq!(
            receiver.push(block(0, true), &[1; 16], 100),
            Ok(Taken::More),
            "starts anew"
        );
        assert_eq!(
            receiver.push(block(1, true), &[0; 16], 20),
            Err(BlockError::TooLarge)
        );
    }

    #[test]
    fn a16_blocks_come_again() {
        let block = |number, more| BlockOption {
            number,
            more,
            szx: 0,
        };
        let mut receiver = Receiver::default();
        for number in 0..3u8 {
            let pushed = receiver.push(block(number.into(), true), &[number; 16], 100);
            assert_eq!(pushed, Ok(Taken::More));
        }
        for number in [2, 1, 0, 2u8] {
            let pushed = receiver.push(block(number.into(), true), &[number; 16], 100);
            assert_eq!(pushed, Ok(Taken::Again));
        }
        assert_eq!(receiver.len(), 48);
        assert_eq!(
            receiver.push(block(1, true), &[9; 16], 100),
            Err(BlockError::OutOfOrder),
            "other content in the middle"
        );
        // A sender that begins anew with a body that differs from its second block on.
        assert_eq!(
            receiver.push(block(0, true), &[0; 16], 100),
            Ok(Taken::Again)
        );
        assert_eq!(
            receiver.push(block(1, false), &[9; 5], 100),
            Ok(Taken::Last)
        );
        let body = [&[0; 16][..], &[9; 5]].concat();
        assert_eq!(receiver.into_body(), body);
    }

    #[test]
    fn a_transfer_has_to_get_on() {
        let second = |s: u64| Instant::from_micros(s * 1_000_000);
        let lifetime = Duration::from_secs(247);
        let mut pace = Pace::new(second(0));
        for s in 1..16 {
            pace.block(second(s));
            assert_eq!(pace.deadline(lifetime), second(247));
        }
        pace.block(second(16));
        assert_eq!(pace.deadline(lifetime), second(263));
    }

    proptest! {
        #[test]
        fn bodies_round_trip(body in proptest::collection::vec(any::<u8>(), 1..5000), size in 16usize..2000, shrink in 0u8..7) {
            let mut sender = Sender::new(body.clone(), size);
            let mut receiver = Receiver::default();
            loop {
                let (block, payload) = sender.current();
                let block = BlockOption::from_uint(block.to_uint()).unwrap();
                let last = receiver.push(block, payload, 5000).unwrap();
                let last = last == Taken::Last;
                prop_assert_eq!(last, !sender.advance(Some(BlockOption { szx: shrink, ..block })));
                if last { break; }
            }
            prop_assert_eq!(receiver.into_body(), body);
        }
    }
}
