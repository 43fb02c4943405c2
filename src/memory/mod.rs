//! One account of the bytes that senders can make the gateway hold.
//!
//! The ceiling (`limits.memory`) is divided into fixed shares, one for each [`Kind`], so that a
//! flood of one kind leaves the others what is theirs. One eighth belongs to nobody: tables double
//! when they grow, and the allocator rounds up. Within a kind, a single source address or
//! credential may hold half of the share once the kind is more than half full; until then whoever
//! comes first may have what is free.
//!
//! Everything here is lock-free. What happens often goes through a [`Tally`], which reserves in
//! chunks and counts by itself.

mod heap;
mod kind;
mod sketch;
mod tally;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use thiserror::Error;
use tracing::warn;

pub(crate) use heap::{Heap, block};
pub use kind::Kind;
pub(crate) use sketch::{Holder, source};
pub(crate) use tally::Reservation;
pub use tally::Tally;

use kind::{KINDS, PARTS};
use sketch::{Sketches, source_bits};

/// The lowest ceiling, in bytes.
pub(crate) const LEAST_CEILING: usize = 16 << 20;

/// The default ceiling, in bytes.
pub(crate) const DEFAULT_CEILING: usize = 256 << 20;

/// How the ceiling is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    ceiling: usize,
    limits: [usize; KINDS],
}

impl Shares {
    /// The shares of a ceiling, in bytes; without DTLS, its share is given to the others.
    pub fn new(ceiling: usize, dtls: bool) -> Self {
        Self {
            ceiling,
            limits: Kind::ALL.map(|kind| ceiling / PARTS * kind.parts(dtls)),
        }
    }

    /// The same with a limit of `bytes` for one kind, if its share is larger.
    #[must_use]
    pub fn at_most(mut self, kind: Kind, bytes: usize) -> Self {
        if let Some(known) = self.limits.get_mut(kind as usize) {
            *known = bytes.min(*known);
        }
        self
    }
}

/// A share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no memory left for {}{} (limits.memory)", kind.name(), if *of_holder { " of this source" } else { "" })]
pub struct Full {
    /// The kind of data.
    pub kind: Kind,
    /// Only the part that one source or credential may use is full.
    pub of_holder: bool,
}

#[derive(Debug, Default)]
struct Account {
    used: AtomicUsize,
    limit: AtomicUsize,
    refused: AtomicU64,
    /// Whether a refusal has been logged since [`Memory::rearm`].
    logged: AtomicBool,
}

/// The account of one gateway, shared by its shards and its host.
#[derive(Debug)]
pub struct Memory {
    ceiling: AtomicUsize,
    accounts: [Account; KINDS],
    held: Sketches,
}

impl Memory {
    /// An empty account.
    pub fn new(shares: Shares) -> Self {
        let memory = Self {
            ceiling: AtomicUsize::new(0),
            accounts: Default::default(),
            held: Sketches::default(),
        };
        memory.set_shares(shares);
        memory
    }

    /// Sets new limits. Data above them stays; nothing is added until there is room.
    pub fn set_shares(&self, shares: Shares) {
        self.ceiling.store(shares.ceiling, Ordering::Relaxed);
        for (account, limit) in self.accounts.iter().zip(shares.limits) {
            account.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// The ceiling in bytes.
    pub fn ceiling(&self) -> usize {
        self.ceiling.load(Ordering::Relaxed)
    }

    /// Bytes reserved for a kind. Each [`Tally`] may have reserved a chunk or two more than it
    /// counts.
    pub fn used(&self, kind: Kind) -> usize {
        self.account(kind).used.load(Ordering::Relaxed)
    }

    /// The share of a kind, in bytes.
    pub fn limit(&self, kind: Kind) -> usize {
        self.account(kind).limit.load(Ordering::Relaxed)
    }

    /// Refusals of a kind so far.
    pub fn refused(&self, kind: Kind) -> u64 {
        self.account(kind).refused.load(Ordering::Relaxed)
    }

    /// Reserves bytes.
    ///
    /// # Errors
    /// The share is used up; counted, and logged once until [`Memory::rearm`].
    pub(crate) fn try_reserve(&self, kind: Kind, bytes: usize) -> Result<(), Full> {
        if self.take(kind, bytes) {
            return Ok(());
        }
        Err(self.refuse(kind, bytes, false))
    }

    /// Reserves bytes even if there is no room: for data that exists already and only moves.
    pub(crate) fn reserve(&self, kind: Kind, bytes: usize) {
        self.account(kind).used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Releases bytes.
    pub(crate) fn release(&self, kind: Kind, bytes: usize) {
        let account = self.account(kind);
        let before = account.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{kind:?}: more released than reserved");
    }

    /// Lets the next refusal of each kind be logged again. Call it once per log interval, so that a
    /// peer at its limit cannot flood the log.
    pub(crate) fn rearm(&self) {
        for kind in Kind::ALL {
            self.account(kind).logged.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a kind is more than half full, so that no single holder may have more than half of
    /// it.
    pub(crate) fn is_crowded(&self, kind: Kind) -> bool {
        self.used(kind) > self.limit(kind) / 2
    }

    /// Checks whether a holder with `own` bytes of a kind may have `bytes` more. A holder is one
    /// device, source or credential.
    ///
    /// # Errors
    /// The kind is more than half full, and this would be more than half of it.
    pub(crate) fn check_share(&self, kind: Kind, own: usize, bytes: usize) -> Result<(), Full> {
        let half = self.limit(kind) / 2;
        if self.is_crowded(kind) && own.saturating_add(bytes) > half {
            return Err(self.refuse(kind, bytes, true));
        }
        Ok(())
    }

    /// The same for a holder whose bytes are recorded by [`Memory::hold`].
    ///
    /// # Errors
    /// As [`Memory::check_share`].
    pub(crate) fn check_holder(
        &self,
        kind: Kind,
        holder: Holder,
        bytes: usize,
    ) -> Result<(), Full> {
        self.check_share(kind, self.held.get(kind, holder), bytes)
    }

    /// Bytes of a kind that a holder has, rounded up.
    #[cfg(test)]
    pub(crate) fn held(&self, kind: Kind, holder: Holder) -> usize {
        self.held.get(kind, holder)
    }

    /// Records that a holder has `bytes` more of a kind. This is in addition to the reservation.
    pub(crate) fn hold(&self, kind: Kind, holder: Holder, bytes: usize) {
        self.held.add(kind, holder, bytes);
    }

    /// Reverts [`Memory::hold`].
    pub(crate) fn let_go(&self, kind: Kind, holder: Holder, bytes: usize) {
        self.held.sub(kind, holder, bytes);
    }

    /// The holder behind an address: an IPv4 address, or a /64 of IPv6.
    pub(crate) fn source(&self, address: IpAddr) -> Holder {
        self.held.holder(source_bits(address))
    }

    /// The holder of a credential.
    pub(crate) fn credential(&self, public: &[u8]) -> Holder {
        self.held.holder((1u8, public))
    }

    /// Counts and logs a refusal of `bytes`.
    pub fn refuse(&self, kind: Kind, bytes: usize, of_holder: bool) -> Full {
        let account = self.account(kind);
        let before = account.refused.fetch_add(1, Ordering::Relaxed);
        if !account.logged.swap(true, Ordering::Relaxed) {
            warn!(
                kind = kind.name(),
                used = self.used(kind),
                share = self.limit(kind),
                wanted = bytes,
                refused_before = before,
                of_one_source = of_holder,
                key = "limits.memory",
                "a share of limits.memory is used up: new entries are refused, or replace the oldest"
            );
        }
        Full { kind, of_holder }
    }

    /// Name and value of each gauge and counter.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let value = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut all = vec![("memory_ceiling", value(self.ceiling()))];
        for kind in Kind::ALL {
            let (used, refused) = kind.statistics();
            all.push((used, value(self.used(kind))));
            all.push((refused, self.refused(kind)));
        }
        all
    }

    /// Whether more is reserved than may be, as after the limit was lowered.
    fn is_over(&self, kind: Kind) -> bool {
        self.used(kind) > self.limit(kind)
    }

    fn take(&self, kind: Kind, bytes: usize) -> bool {
        let account = self.account(kind);
        let limit = account.limit.load(Ordering::Relaxed);
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        account
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    fn account(&self, kind: Kind) -> &Account {
        let [first, ..] = &self.accounts;
        self.accounts.get(kind as usize).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn memory(ceiling: usize) -> Arc<Memory> {
        Arc::new(Memory::new(Shares::new(ceiling, true)))
    }

    #[test]
    fn shares_leave_room_for_growth() {
        for dtls in [true, false] {
            let shares = Shares::new(1000 << 20, dtls);
            let sum: usize = shares.limits.iter().sum();
            assert_eq!(sum, (1000 << 20) / 100 * 88, "{dtls}");
        }
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| *kind as usize).collect();
        assert_eq!(kinds, (0..KINDS).collect::<Vec<_>>());
    }

    #[test]
    fn one_kind_cannot_starve_another() {
        let memory = memory(1 << 20);
        let limit = memory.limit(Kind::Registrations);
        assert!(memory.try_reserve(Kind::Registrations, limit).is_ok());
        let full = memory.try_reserve(Kind::Registrations, 1).unwrap_err();
        assert_eq!(
            full.to_string(),
            "no memory left for registrations (limits.memory)"
        );
        assert!(memory.try_reserve(Kind::Queues, 1000).is_ok());
        memory.release(Kind::Registrations, 1);
        assert!(memory.try_reserve(Kind::Registrations, 1).is_ok());
        assert_eq!(memory.refused(Kind::Registrations), 1);
        memory.reserve(Kind::Registrations, 5);
        assert_eq!(memory.used(Kind::Registrations), limit + 5);
    }

    #[test]
    fn a_lowered_limit_drops_nothing() {
        let memory = memory(1 << 20);
        assert!(memory.try_reserve(Kind::Queues, 30_000).is_ok());
        memory.set_shares(Shares::new(1 << 18, true));
        assert_eq!(memory.used(Kind::Queues), 30_000);
        assert!(memory.try_reserve(Kind::Queues, 1).is_err());
        memory.release(Kind::Queues, 25_000);
        assert!(memory.try_reserve(Kind::Queues, 1).is_ok());
    }

    #[test]
    fn one_holder_has_half_at_most_once_it_is_crowded() {
        let memory = memory(1 << 20);
        let kind = Kind::Registrations;
        let half = memory.limit(kind) / 2;
        let [flood, honest] =
            ["192.0.2.1", "192.0.2.2"].map(|it| memory.source(it.parse().unwrap()));
        let mut taken = 0;
        while memory.check_holder(kind, flood, 1000).is_ok() {
            memory.try_reserve(kind, 1000).unwrap();
            memory.hold(kind, flood, 1000);
            taken += 1000;
        }
        assert!((half..half + 2000).contains(&taken), "{taken}");
        assert!(memory.check_holder(kind, honest, 1000).is_ok());
        memory.let_go(kind, flood, taken);
        assert_eq!(memory.held(kind, flood), 0);
        assert!(memory.check_holder(kind, flood, 1000).is_ok());
    }
}
