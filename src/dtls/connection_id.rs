//! Connection ids (RFC 9146): what the ids of this gateway are made of.
//!
//! An id says which shard has the session, and which node of a cluster once there is one, so that a
//! record finds its session wherever it comes from. It is enciphered as QUIC-LB does it for short ids
//! (draft-ietf-quic-load-balancers §5.4.2): nobody without the key learns these, nor whether two ids are
//! of one device.

use std::fmt;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

/// Bytes of our ids.
pub(super) const LENGTH: usize = 8;

/// Bits of what is in an id: node, shard, number.
const SHARD_BITS: u32 = 12;
const NUMBER_BITS: u32 = 40;

/// An id of ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId([u8; LENGTH]);

impl ConnectionId {
    /// Of a record; `None`: it has another length than ours.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    pub(super) const fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    pub(super) const fn into_bytes(self) -> [u8; LENGTH] {
        self.0
    }

    /// For tables: an id of ours is enciphered, and nobody else makes one that has a session.
    pub(super) const fn hash(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({:016x})", u64::from_be_bytes(self.0))
    }
}

/// Makes ids and reads them.
pub(super) struct Ids(Aes128);

impl Ids {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Self(Aes128::new(key.into()))
    }

    /// The id with this number in this shard; each has one of its own.
    pub(super) fn make(&self, shard: u16, number: u64) -> ConnectionId {
        let shard = u64::from(shard) & mask(SHARD_BITS);
        let plain = shard << NUMBER_BITS | number & mask(NUMBER_BITS);
        let (mut left, mut right) = halves(plain);
        for round in 0..4 {
            left ^= self.round(round, right);
            (left, right) = (right, left);
        }
        ConnectionId(whole(left, right).to_be_bytes())
    }

    /// The shard in an id; of one that somebody made up, any number.
    pub(super) fn shard(&self, id: ConnectionId) -> u16 {
        let (mut left, mut right) = halves(u64::from_be_bytes(id.0));
        for round in (0..4).rev() {
            (left, right) = (right, left);
            left ^= self.round(round, right);
        }
        // A node that is not this one is nobody here.
        let shard = whole(left, right) >> NUMBER_BITS;
        u16::try_from(shard).unwrap_or(u16::MAX)
    }

    fn round(&self, round: u8, half: u32) -> u32 {
        let mut block = [0; 16];
        let [a, b, c, d] = half.to_be_bytes();
        block[..5].copy_from_slice(&[round, a, b, c, d]);
        let mut block = block.into();
        self.0.encrypt_block(&mut block);
        u32::from_be_bytes([block[0], block[1], block[2], block[3]])
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

const fn halves(whole: u64) -> (u32, u32) {
    ((whole >> 32) as u32, whole as u32)
}

fn whole(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_says_its_shard(key: [u8; 16], shard in 0u16..4096, number in 0u64..1 << 40) {
            let ids = Ids::new(&key);
            let id = ids.make(shard, number);
            prop_assert_eq!(ids.shard(id), shard);
            prop_assert_ne!(ids.make(shard, number ^ 1), id);
        }
    }

    #[test]
    fn ids_of_one_shard_have_nothing_in_common() {
        let ids = Ids::new(&[3; 16]);
        let made: Vec<_> = (0..1000).map(|number| ids.make(1, number)).collect();
        let distinct: BTreeSet<_> = made.iter().collect();
        assert_eq!(distinct.len(), made.len());
        // Each bit is set in about half of them, and neighbours differ in about half of their bits.
        for bit in 0..64 {
            let set = |id: &&ConnectionId| u64::from_be_bytes(id.0) >> bit & 1 == 1;
            let count = made.iter().filter(set).count();
            assert!((400..600).contains(&count), "bit {bit}: {count}");
        }
        let distance = |pair: &[ConnectionId]| {
            let [a, b] = [pair[0], pair[1]].map(|id| u64::from_be_bytes(id.0));
            (a ^ b).count_ones()
        };
        let sum: u32 = made.windows(2).map(distance).sum();
        assert!((31_000..33_000).contains(&sum), "{sum}");
        // One that was made up is of any shard, seldom of one that there is.
        let guessed = (0..1000u64).map(|n| ConnectionId(n.wrapping_mul(0x9e37_79b9).to_be_bytes()));
        let hits = guessed.filter(|id| ids.shard(*id) < 4).count();
        assert!(hits < 10, "{hits}");
    }
}
