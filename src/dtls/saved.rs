//! Sessions as they outlive the process.
//!
//! No number of a record may be used twice with one key, also when the process was killed and what it
//! used last was never written. So numbers are set aside: those below `reserved + SPAN` may be used
//! once `reserved` is on the disk, and after a restart the first number is `reserved + SPAN`. What the
//! device sends is taken from the saved edge on: what is older is refused.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::record::NUMBERS;

/// Numbers that are set aside at once: one write of so many records.
pub(super) const SPAN: u64 = 1 << 16;

/// How many of them are used when the next ones are asked for.
pub(super) const ASK_AT: u64 = SPAN / 4;

/// How far the edge of a session may be ahead of what was saved: after a kill so many records of the
/// device could be replayed once.
pub(super) const LAG: u64 = 32;

/// A session of our own record layer, with its keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSession {
    /// Where the device was last.
    pub address: SocketAddr,
    /// The identity that it presented.
    pub identity: Box<[u8]>,
    /// IANA's name of the suite.
    pub(super) suite: Box<str>,
    /// As in the key block.
    pub(super) keys: Box<[u8]>,
    pub(super) reserved: u64,
    pub(super) edge: u64,
    pub(super) ours: Option<[u8; 8]>,
    pub(super) theirs: Box<[u8]>,
    pub(super) random: [u8; 8],
}

impl Drop for SavedSession {
    fn drop(&mut self) {
        self.keys.zeroize();
    }
}

impl fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedSession")
            .field("address", &self.address)
            .field("suite", &self.suite)
            .field("reserved", &self.reserved)
            .field("edge", &self.edge)
            .finish_non_exhaustive()
    }
}

impl SavedSession {
    /// To be called when it was read after a start, and to be on the disk again before the session is
    /// used: what the former process may have used is behind it then.
    pub fn skip(&mut self) {
        self.reserved = self.reserved.saturating_add(SPAN).min(NUMBERS);
    }

    /// The connection id that its records come with.
    pub(crate) const fn connection_id(&self) -> Option<[u8; 8]> {
        self.ours
    }

    /// From which number on records are set aside.
    pub const fn reserved(&self) -> u64 {
        self.reserved
    }
}

#[cfg(test)]
impl SavedSession {
    pub(crate) fn for_tests(reserved: u64) -> Self {
        Self {
            address: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            identity: b"device".as_slice().into(),
            suite: "TLS_PSK_WITH_AES_128_CCM_8".into(),
            keys: vec![0x5a; 40].into(),
            reserved,
            edge: 0,
            ours: None,
            theirs: Box::default(),
            random: [0; 8],
        }
    }
}
