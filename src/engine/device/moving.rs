//! A device goes to another shard, and commands that were on their way to the old one follow it.
//! Commands that are received later go to the new one at once, and must not be sent before those.
//!
//! So they wait until a word (`Handoff::Flush`) has been at the shards that the device was in: it
//! comes back behind whatever was in their mailboxes. Nothing is said while no command waits.

use std::time::Duration;

use crate::engine::peer::ShardId;
use crate::time::Instant;

/// How long commands wait for others that may follow the device, from its first move on. A shard
/// takes what is in its mailbox far sooner.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Moving {
    /// The shards it was in, each once.
    pub(super) shards: Vec<ShardId>,
    /// Commands up to this one, in order of receipt, are here.
    pub(super) complete: u64,
    /// The word that is under way; zero: none.
    pub(super) word: u64,
    /// Nothing waits longer.
    pub(super) until: Instant,
}

impl Moving {
    /// When it is over.
    pub(in crate::engine) const fn deadline(&self) -> Instant {
        self.until
    }

    /// The way of a word. What a shard sent after the device before it knew where that is may be in
    /// the mailbox of another of them: with several it goes round twice. In reverse order.
    pub(super) fn way(&self, own: ShardId) -> Vec<ShardId> {
        let others = self.shards.iter().rev().filter(|shard| **shard != own);
        let mut way: Vec<ShardId> = others.copied().collect();
        if way.len() > 1 {
            way.extend_from_within(..);
        }
        way
    }
}
