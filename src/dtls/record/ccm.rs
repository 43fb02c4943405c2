//! AES-128-CCM with nonces of twelve bytes (RFC 3610, RFC 6655), of which records are many and short.
//!
//! A record is one call of the block cipher's backend: blocks of the key stream do not wait for each
//! other, nor for the chain of the tag, and a processor with instructions for AES does them beside it.

use aes::cipher::array::typenum::Unsigned as _;
use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt as _, BlockSizeUser,
    KeyInit as _, ParBlocks,
};
use aes::{Aes128Enc, Block};
use subtle::ConstantTimeEq as _;

/// Bytes of a block, and of the longest tag.
const BLOCK: usize = 16;

/// Blocks of the key stream that are made together.
const GROUP: usize = 4;

/// Bytes of text are counted in three bytes (L is 3).
const MOST: usize = (1 << 24) - 1;

/// Encrypts `text` in place. Returns the tag, of which `tag` bytes are to be used: 8 or 16. `None`: more
/// text or additional data than there can be.
pub(super) fn seal(
    key: &[u8; 16],
    nonce: &[u8; 12],
    additional: &[u8],
    text: &mut [u8],
    tag: usize,
) -> Option<[u8; BLOCK]> {
    pass(key, nonce, additional, text, tag, true)
}

/// Decrypts `text` in place. `None`: the tag, of 8 or 16 bytes, is not that of this text.
pub(super) fn open(
    key: &[u8; 16],
    nonce: &[u8; 12],
    additional: &[u8],
    text: &mut [u8],
    tag: &[u8],
) -> Option<()> {
    let expected = pass(key, nonce, additional, text, tag.len(), false)?;
    if expected.get(..tag.len())?.ct_eq(tag).into() {
        return Some(());
    }
    text.fill(0);
    None
}

fn pass(
    key: &[u8; 16],
    nonce: &[u8; 12],
    additional: &[u8],
    text: &mut [u8],
    tag: usize,
    is_sealing: bool,
) -> Option<[u8; BLOCK]> {
    // Longer additional data would have another encoding of its length.
    if text.len() > MOST || additional.len() >= 0xff00 || !matches!(tag, 8 | 16) {
        return None;
    }
    let mut sum = Block::default();
    Aes128Enc::new(key.into()).encrypt_with_backend(Pass {
        nonce,
        additional,
        text,
        tag,
        is_sealing,
        sum: &mut sum,
    });
    Some(sum.into())
}

/// The work of one record, to be done inside the cipher's backend.
struct Pass<'a> {
    nonce: &'a [u8; 12],
    additional: &'a [u8],
    text: &'a mut [u8],
    tag: usize,
    is_sealing: bool,
    /// The tag.
    sum: &'a mut Block,
}

impl BlockSizeUser for Pass<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Pass<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        // B_0: the length of the tag and whether there are additional data, then L.
        let flags =
            u8::from(!self.additional.is_empty()) << 6 | ((self.tag as u8 - 2) / 2) << 3 | 2;
        let mut sum = block(flags, self.nonce, self.text.len() as u32);
        let mut mask = block(2, self.nonce, 0);
        backend.encrypt_block_inplace(&mut sum);
        backend.encrypt_block_inplace(&mut mask);
        if !self.additional.is_empty() {
            let length = (self.additional.len() as u16).to_be_bytes();
            let (first, rest) = self
                .additional
                .split_at(self.additional.len().min(BLOCK - length.len()));
            let mut padded = Block::default();
            padded[..2].copy_from_slice(&length);
            padded[2..][..first.len()].copy_from_slice(first);
            chain(backend, &mut sum, &padded);
            for part in rest.chunks(BLOCK) {
                let mut padded = Block::default();
                padded[..part.len()].copy_from_slice(part);
                chain(backend, &mut sum, &padded);
            }
        }
        let mut counter = 1;
        for group in self.text.chunks_mut(GROUP * BLOCK) {
            let mut stream: [Block; GROUP] =
                std::array::from_fn(|n| block(2, self.nonce, counter + n as u32));
            counter += GROUP as u32;
            let needed = group.len().div_ceil(BLOCK);
            encrypt(backend, &mut stream, needed);
            let (whole, rest) = group.as_chunks_mut::<BLOCK>();
            let mut stream = stream.iter();
            for (part, stream) in whole.iter_mut().zip(&mut stream) {
                let mut plain = Block::from(*part);
                if self.is_sealing {
                    chain(backend, &mut sum, &plain);
                }
                add(&mut plain, stream);
                if !self.is_sealing {
                    chain(backend, &mut sum, &plain);
                }
                *part = plain.into();
            }
            if let Some(stream) = stream.next()
                && !rest.is_empty()
            {
                let mut padded = Block::default();
                padded[..rest.len()].copy_from_slice(rest);
                if self.is_sealing {
                    chain(backend, &mut sum, &padded);
                }
                add(&mut padded, stream);
                rest.copy_from_slice(&padded[..rest.len()]);
                if !self.is_sealing {
                    padded[rest.len()..].fill(0);
                    chain(backend, &mut sum, &padded);
                }
            }
        }
        add(&mut sum, &mask);
        *self.sum = sum;
    }
}

/// A block with a nonce and a number of three bytes.
#[inline(always)]
fn block(flags: u8, nonce: &[u8; 12], number: u32) -> Block {
    let mut block = Block::default();
    block[0] = flags;
    block[1..13].copy_from_slice(nonce);
    block[13..].copy_from_slice(&number.to_be_bytes()[1..]);
    block
}

#[inline(always)]
fn add(to: &mut Block, other: &Block) {
    for (to, other) in to.iter_mut().zip(other) {
        *to ^= *other;
    }
}

#[inline(always)]
fn chain<B: BlockCipherEncBackend<BlockSize = U16>>(backend: &B, sum: &mut Block, next: &Block) {
    add(sum, next);
    backend.encrypt_block_inplace(sum);
}

/// Encrypts the first `needed` blocks at least.
#[inline(always)]
fn encrypt<B: BlockCipherEncBackend<BlockSize = U16>>(
    backend: &B,
    blocks: &mut [Block; GROUP],
    needed: usize,
) {
    let together = B::ParBlocksSize::USIZE;
    // Without instructions for AES a few blocks take as long as one. With them blocks overlap anyway.
    if together > GROUP {
        for block in blocks.iter_mut().take(needed) {
            backend.encrypt_block_inplace(block);
        }
        return;
    }
    for some in blocks.chunks_mut(together).take(needed.div_ceil(together)) {
        match <&mut ParBlocks<B>>::try_from(&mut *some) {
            Ok(some) => backend.encrypt_par_blocks_inplace(some),
            Err(_) => some
                .iter_mut()
                .for_each(|block| backend.encrypt_block_inplace(block)),
        }
    }
}

#[cfg(test)]
mod tests {
    use ccm::aead::AeadInOut as _;
    use ccm::consts::{U8, U12, U16};
    use proptest::prelude::*;

    use super::*;

    /// Example 3 of NIST SP 800-38C.
    #[test]
    fn known_answer() {
        let key: [u8; 16] = std::array::from_fn(|n| 0x40 + n as u8);
        let nonce: [u8; 12] = std::array::from_fn(|n| 0x10 + n as u8);
        let additional: Vec<u8> = (0..20).collect();
        let mut text: Vec<u8> = (0x20..0x38).collect();
        let tag = seal(&key, &nonce, &additional, &mut text, 8).unwrap();
        assert_eq!(
            text,
            [
                0xe3, 0xb2, 0x01, 0xa9, 0xf5, 0xb7, 0x1a, 0x7a, 0x9b, 0x1c, 0xea, 0xec, 0xcd, 0x97,
                0xe7, 0x0b, 0x61, 0x76, 0xaa, 0xd9, 0xa4, 0x42, 0x8a, 0xa5
            ]
        );
        assert_eq!(tag[..8], [0x48, 0x43, 0x92, 0xfb, 0xc1, 0xb0, 0x99, 0x51]);
    }

    type Theirs<M> = ccm::Ccm<aes::Aes128, M, U12>;

    proptest! {
        /// Another implementation says the same, and nothing else is opened.
        #[test]
        fn as_others_do(
            key: [u8; 16],
            nonce: [u8; 12],
            additional in proptest::collection::vec(any::<u8>(), 0..60),
            text in proptest::collection::vec(any::<u8>(), 0..200),
            is_short: bool,
            flip: usize,
        ) {
            let (mut ours, mut theirs) = (text.clone(), text.clone());
            let length = if is_short { 8 } else { 16 };
            let tag = seal(&key, &nonce, &additional, &mut ours, length).unwrap();
            let buffer = theirs.as_mut_slice().into();
            let (key_of, nonce_of) = ((&key).into(), (&nonce).into());
            let expected = if is_short {
                let cipher = Theirs::<U8>::new(key_of);
                cipher.encrypt_inout_detached(nonce_of, &additional, buffer).unwrap().to_vec()
            } else {
                let cipher = Theirs::<U16>::new(key_of);
                cipher.encrypt_inout_detached(nonce_of, &additional, buffer).unwrap().to_vec()
            };
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(&tag[..length], &expected);
            let mut opened = ours.clone();
            prop_assert!(open(&key, &nonce, &additional, &mut opened, &expected).is_some());
            prop_assert_eq!(&opened, &text);
            // One bit of the text, the tag or the additional data.
            let (mut tag, mut additional) = (expected, additional);
            let mut bits: Vec<&mut u8> =
                ours.iter_mut().chain(&mut tag).chain(&mut additional).collect();
            let at = flip % (8 * bits.len());
            *bits[at / 8] ^= 1 << (at % 8);
            prop_assert!(open(&key, &nonce, &additional, &mut ours, &tag).is_none());
            prop_assert!(ours.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_cannot_be_counted_is_not_sealed() {
        let mut long = vec![0; MOST + 1];
        assert!(seal(&[1; 16], &[2; 12], b"", &mut long, 8).is_none());
        assert!(seal(&[1; 16], &[2; 12], &long[..0xff00], &mut [0], 8).is_none());
        assert!(seal(&[1; 16], &[2; 12], b"", &mut [0], 4).is_none());
        assert!(open(&[1; 16], &[2; 12], b"", &mut [0], &[]).is_none());
    }
}
