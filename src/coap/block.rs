//! Block-wise transfer (RFC 7959): the Block options, a body on its way out and a body on its
//! way in. Everything is bounded by sizes the caller gives.

use thiserror::Error;

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

    /// Size of the whole body, for Size1.
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The current block was taken; the answer may ask for smaller blocks (RFC 7959 §2.3).
    /// False when there is no next block.
    pub fn advance(&mut self, acknowledged: Option<BlockOption>) -> bool {
        let (current, block) = self.current();
        if !current.more {
            return false;
        }
        self.offset += block.len();
        if let Some(answer) = acknowledged {
            self.szx = self.szx.min(answer.szx);
        }
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

/// A body received block by block.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    body: Vec<u8>,
}

impl Receiver {
    /// Takes one block; true when it was the last. Block 0 starts the body anew.
    ///
    /// # Errors
    /// The block does not fit; the transfer is to be given up.
    pub fn push(
        &mut self,
        block: BlockOption,
        payload: &[u8],
        limit: usize,
    ) -> Result<bool, BlockError> {
        if block.number == 0 {
            self.body.clear();
        }
        if block.offset() != self.body.len() {
            return Err(BlockError::OutOfOrder);
        }
        if block.more && payload.len() != block.size() {
            return Err(BlockError::Short);
        }
        if payload.len() > block.size() || self.body.len().saturating_add(payload.len()) > limit {
            return Err(BlockError::TooLarge);
        }
        self.body.extend_from_slice(payload);
        Ok(!block.more)
    }

    /// Bytes received so far.
    pub const fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether nothing was received yet.
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
        assert_eq!(receiver.push(block(0, true), &[0; 16], 100), Ok(false));
        assert_eq!(
            receiver.push(block(0, true), &[1; 16], 100),
            Ok(false),
            "starts anew"
        );
        assert_eq!(
            receiver.push(block(1, true), &[0; 16], 20),
            Err(BlockError::TooLarge)
        );
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
                prop_assert_eq!(last, !sender.advance(Some(BlockOption { szx: shrink, ..block })));
                if last { break; }
            }
            prop_assert_eq!(receiver.into_body(), body);
        }
    }
}
