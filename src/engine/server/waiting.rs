//! Requests that wait for a device of another shard, and what they take of the account of memory.

use super::pending::PendingRequest;
use super::request::{Request, Server};
use crate::engine::peer::{Peer, ShardId};
use crate::engine::sharding::{HANDOFF_TIMEOUT, Handoff, Wanted};
use crate::memory::block;
use crate::time::Instant;

/// What a request that waits takes in the tables, in bytes.
const TABLES: usize = 300;

/// What a request takes that waits.
pub(super) fn waiting_bytes(datagram: &[u8], body: &[u8]) -> usize {
    TABLES + block(datagram.len()) + block(body.len())
}

impl Server<'_> {
    /// Asks another shard for a device; the request waits until it is here.
    pub(super) fn ask_shard(
        &mut self,
        shard: ShardId,
        wanted: Wanted,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
    ) {
        let message = request.message;
        if let Err(full) = self
            .core
            .accounts
            .check_waiting(from, waiting_bytes(request.datagram, body))
        {
            return self.refuse_register(from, message, &full.into());
        }
        let deadline = self.core.now.mono + HANDOFF_TIMEOUT;
        self.wait(from, request, body, deadline);
        let handoff = Handoff::Take {
            from: self.core.env.shard,
            wanted,
            identity: self.core.identity_of(from),
            peer: from,
            datagram: request.datagram.to_vec(),
            body: body.to_vec(),
        };
        self.core.effects.hand_off(shard, handoff);
    }

    /// A request waits for its device to come from another shard.
    fn wait(&mut self, from: Peer, request: &Request<'_>, body: &[u8], deadline: Instant) {
        let bytes = waiting_bytes(request.datagram, body);
        let mid = request.message.mid();
        let freed = self.requests.pending.prolong(from, mid, deadline, bytes);
        self.core.accounts.release_waiting(from, freed);
        self.core.accounts.charge_waiting(from, bytes);
    }

    /// A request is answered.
    pub(in crate::engine) fn take_pending(
        &mut self,
        peer: Peer,
        mid: u16,
    ) -> Option<PendingRequest> {
        let pending = self.requests.pending.remove(peer, mid)?;
        self.core.accounts.release_waiting(peer, pending.bytes);
        Some(pending)
    }

    /// Nobody waits any more for what is too old.
    pub(in crate::engine) fn expire_pending(&mut self) {
        for (peer, bytes) in self.requests.pending.expire(self.core.now.mono) {
            self.core.accounts.release_waiting(peer, bytes);
        }
    }
}
