//! Requests of devices that wait, for the host or for another shard, and what they take of the
//! account of memory.

use super::account::Accounts;
use super::device::Device;
use super::pending::PendingRequest;
use super::requests::Request;
use super::{Engine, HANDOFF_TIMEOUT, Peer, ShardId};
use crate::memory::{Full, Kind, block};
use crate::time::{Instant, Now};

/// What a request that waits takes in the tables, in bytes.
const TABLES: usize = 300;

/// What a request takes that waits.
pub(super) fn waiting_bytes(datagram: &[u8], body: &[u8]) -> usize {
    TABLES + block(datagram.len()) + block(body.len())
}

impl Engine {
    /// Whether a request of `peer` may wait.
    pub(super) fn check_waiting(&mut self, peer: Peer, bytes: usize) -> Result<(), Full> {
        let Accounts {
            memory, waiting, ..
        } = &mut self.accounts;
        if !waiting.fits(bytes) {
            return Err(memory.refuse(Kind::Waiting, bytes, false));
        }
        if memory.is_crowded(Kind::Waiting) {
            let source = memory.source(peer.address.ip());
            let checked = memory.check_holder(Kind::Waiting, source, bytes);
            checked.inspect_err(|_| waiting.trim())?;
        }
        Ok(())
    }

    pub(super) fn charge_waiting(&mut self, peer: Peer, bytes: usize) {
        self.accounts.waiting.charge(bytes);
        let memory = &self.accounts.memory;
        memory.hold(Kind::Waiting, memory.source(peer.address.ip()), bytes);
    }

    pub(super) fn release_waiting(&mut self, peer: Peer, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.accounts.waiting.release(bytes);
        let memory = &self.accounts.memory;
        memory.let_go(Kind::Waiting, memory.source(peer.address.ip()), bytes);
    }

    /// A request waits for its device to come from another shard.
    pub(super) fn wait(
        &mut self,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
        deadline: Instant,
    ) {
        let bytes = waiting_bytes(request.datagram, body);
        let mid = request.message.mid();
        let freed = self.pending.prolong(from, mid, deadline, bytes);
        self.release_waiting(from, freed);
        self.charge_waiting(from, bytes);
    }

    /// A request is answered.
    pub(super) fn take_pending(&mut self, peer: Peer, mid: u16) -> Option<PendingRequest> {
        let pending = self.pending.remove(peer, mid)?;
        self.release_waiting(peer, pending.bytes);
        Some(pending)
    }

    /// Nobody waits any more for what is too old.
    pub(super) fn expire_pending(&mut self, now: Now) {
        for (peer, bytes) in self.pending.expire(now.mono) {
            self.release_waiting(peer, bytes);
        }
    }

    /// A device goes to another shard; commands that still come follow it.
    pub(super) fn depart(&mut self, now: Now, device: &Device, to: ShardId) {
        let until = now.mono + HANDOFF_TIMEOUT;
        let (bytes, freed) = self.departed.insert(device.endpoint.clone(), to, until);
        self.accounts.waiting.charge(bytes);
        self.accounts.waiting.release(freed);
    }

    /// Bytes of everything that waits, counted anew.
    pub(super) fn recount_waiting(&self) -> usize {
        let pending = self.pending.recount();
        pending + self.authorizations.recount() + self.arrivals.recount() + self.departed.recount()
    }
}
