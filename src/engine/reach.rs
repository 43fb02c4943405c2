//! Plain UDP: nobody has shown that the address a datagram bears is his. Until it has been shown,
//! an address gets at most three times what came from it, so that the gateway is of no use to
//! whoever sends in the name of others (RFC 7252 §11.3, RFC 9175 §2.4 item 3, the factor of
//! RFC 9000 §8).

use super::peer::Peer;
use crate::coap::echo::Challenges;

/// An address that has not shown itself gets so many times what came from it.
const FACTOR: usize = 3;

/// What is known of the address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It has sent something that only whoever receives there can know, or uses DTLS.
    Proven,
    /// It has not.
    Unproven {
        /// Bytes that may be sent there.
        credit: u32,
        /// Message id of the ping that asks it to show itself.
        probe: Option<u16>,
        /// The device got its location at another address, so to know it proves nothing here.
        moved: bool,
    },
}

impl Trust {
    /// Of an address from which a device has registered or, with `moved`, updated.
    pub(super) const fn of(peer: Peer, moved: bool) -> Self {
        if peer.session != 0 {
            return Self::Proven;
        }
        Self::Unproven {
            credit: 0,
            probe: None,
            moved,
        }
    }

    pub(super) const fn is_proven(self) -> bool {
        matches!(self, Self::Proven)
    }

    /// Message id of the ping under way.
    pub(super) const fn probe(self) -> Option<u16> {
        match self {
            Self::Proven => None,
            Self::Unproven { probe, .. } => probe,
        }
    }

    /// Bytes that may be sent.
    pub(super) const fn room(self) -> usize {
        match self {
            Self::Proven => usize::MAX,
            Self::Unproven { credit, .. } => credit as usize,
        }
    }

    /// Takes `bytes` out, or nothing: false when there are not that many.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        match self {
            Self::Proven => true,
            Self::Unproven { credit, .. } => match u32::try_from(bytes)
                .ok()
                .and_then(|bytes| credit.checked_sub(bytes))
            {
                Some(rest) => {
                    *credit = rest;
                    true
                }
                None => false,
            },
        }
    }

    /// So many bytes more may be sent.
    pub(super) fn add(&mut self, bytes: usize) {
        if let Self::Unproven { credit, .. } = self {
            *credit = credit.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }
}

/// What whoever is being answered may get for the datagram he sent.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    peer: Peer,
    bytes: usize,
}

/// What addresses may be sent that are no devices', or not yet, and what they have to show.
#[derive(Debug)]
pub(super) struct Reach {
    /// For whoever sent the datagram that is being handled.
    allowance: Option<Allowance>,
    pub(super) challenges: Challenges,
}

impl Reach {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self {
            allowance: None,
            challenges: Challenges::new(seed),
        }
    }

    /// `datagram` bytes of `from` are being handled.
    pub(super) fn begin(&mut self, from: Peer, datagram: usize) {
        self.allowance = (from.session == 0).then(|| Allowance {
            peer: from,
            bytes: datagram.saturating_mul(FACTOR),
        });
    }

    /// The datagram has been handled.
    pub(super) fn end(&mut self) {
        self.allowance = None;
    }

    /// Bytes that `to` may be sent for its datagram.
    pub(super) fn room(&self, to: Peer) -> Option<usize> {
        let allowance = self.allowance.filter(|allowance| allowance.peer == to);
        allowance.map(|allowance| allowance.bytes)
    }

    /// Takes `bytes` out of what `to` may be sent for its datagram, or nothing.
    pub(super) fn spend(&mut self, to: Peer, bytes: usize) -> bool {
        let allowance = self.allowance.as_mut().filter(|it| it.peer == to);
        let Some(allowance) = allowance else {
            return false;
        };
        let Some(rest) = allowance.bytes.checked_sub(bytes) else {
            return false;
        };
        allowance.bytes = rest;
        true
    }

    /// What is left for whoever sent the datagram being handled, if that is `of`; he gets it no
    /// longer by this way.
    pub(super) fn take(&mut self, of: Peer) -> usize {
        let left = self.allowance.take();
        left.filter(|left| left.peer == of)
            .map_or(0, |left| left.bytes)
    }
}
