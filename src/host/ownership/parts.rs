//! A session on its way from one gateway to another: observations and commands, in as many messages
//! as it takes. Each can be taken in by itself, in order.

use serde::{Deserialize, Serialize};

use crate::engine::PortableSession;

/// Bytes of a session that go into one message, unless a single command is larger.
pub(super) const PART_BYTES: usize = 128 << 10;

/// One message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    /// The gateway that had the device.
    from: String,
    /// The claim that this answers.
    pub(super) epoch: u64,
    /// From 0.
    pub(super) part: u32,
    pub(super) last: bool,
    pub(super) session: PortableSession,
}

impl Part {
    /// `None` for what is no part of a session.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// The messages of a session; one at least, which says that there is no more.
pub(super) fn parts(
    from: &str,
    epoch: u64,
    session: PortableSession,
    bytes: usize,
) -> Vec<Vec<u8>> {
    let sessions = session.split(bytes);
    let last = sessions.len().saturating_sub(1);
    let part = |(index, session)| Part {
        from: from.to_owned(),
        epoch,
        part: u32::try_from(index).unwrap_or(u32::MAX),
        last: index == last,
        session,
    };
    let parts = sessions.into_iter().enumerate().map(part);
    // Plain data always becomes JSON.
    parts
        .map(|it| serde_json::to_vec(&it).unwrap_or_default())
        .collect()
}
