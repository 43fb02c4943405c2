//! Registers that wait for the host's word.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::info::{Decision, RegistrationRequest};
use super::registration::RegisterError;
use super::requests::{Request, Stage};
use super::waiting::waiting_bytes;
use super::{Engine, Output, Peer, TIMEOUTS_PER_CALL};
use crate::coap::Message;
use crate::memory::source;
use crate::telemetry::limited;
use crate::time::{Instant, Now};

/// How long the host may think. Longer than a client waits with the default transmission
/// parameters of RFC 7252 §4.8 before its second repetition, shorter than before its last.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Registers that wait in a shard at most; more are answered 5.03. The account of memory bounds
/// them in bytes, for all shards.
const MAX_WAITING: usize = 65_536;

/// Names a waiting Register within its shard.
pub type AuthorizationId = u64;

#[derive(Debug)]
struct Waiting {
    peer: Peer,
    datagram: Vec<u8>,
    body: Vec<u8>,
    deadline: Instant,
    /// Charged for it.
    bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Authorizations {
    next: AuthorizationId,
    /// Ids are given in order of time and all wait equally long, so this is the order of their
    /// deadlines as well.
    waiting: BTreeMap<AuthorizationId, Waiting>,
    /// How many of them are whose.
    by_source: HashMap<IpAddr, usize>,
}

impl Authorizations {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, first) = self.waiting.first_key_value()?;
        Some(first.deadline)
    }

    /// Bytes of what waits, counted anew.
    pub(super) fn recount(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.bytes).sum()
    }

    /// Registers that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether one more Register of `peer` may wait. A source holds at most as many places as are
    /// free: half of all when it is alone, and never the last ones, which are for others.
    fn has_room(&self, peer: Peer) -> bool {
        let free = MAX_WAITING.saturating_sub(self.waiting.len());
        let own = self.by_source.get(&source(peer.address.ip())).copied();
        free > own.unwrap_or_default()
    }

    fn insert(&mut self, waiting: Waiting) -> AuthorizationId {
        let id = self.next;
        self.next += 1;
        *self
            .by_source
            .entry(source(waiting.peer.address.ip()))
            .or_default() += 1;
        self.waiting.insert(id, waiting);
        id
    }

    fn remove(&mut self, id: AuthorizationId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        let source = source(waiting.peer.address.ip());
        if let Some(own) = self.by_source.get_mut(&source) {
            *own -= 1;
            if *own == 0 {
                self.by_source.remove(&source);
            }
        }
        Some(waiting)
    }

    fn due(&self, now: Instant) -> Option<AuthorizationId> {
        let (id, first) = self.waiting.first_key_value()?;
        (first.deadline <= now).then_some(*id)
    }
}

impl Engine {
    /// Keeps a Register until the host has spoken.
    pub(super) fn ask_host(
        &mut self,
        now: Now,
        from: Peer,
        request: &Request<'_>,
        body: &[u8],
        register: RegistrationRequest,
    ) -> Result<(), RegisterError> {
        if !self.authorizations.has_room(from) {
            limited!(WARN, self.counters, now.mono, HostSilent,
                peer = %from.address, waiting = self.authorizations.len(),
                "registration refused: too many wait for the host's word");
            return Err(RegisterError::Unavailable);
        }
        // Here and at the host.
        let bytes = waiting_bytes(request.datagram, body) + register.bytes();
        self.check_waiting(from, bytes)?;
        self.charge_waiting(from, bytes);
        let deadline = now.mono + TIMEOUT;
        let id = self.authorizations.insert(Waiting {
            peer: from,
            datagram: request.datagram.to_vec(),
            body: body.to_vec(),
            deadline,
            bytes,
        });
        self.pending.insert(from, request.message.mid(), deadline);
        self.outputs.push_back(Output::Authorize {
            id,
            request: register,
        });
        Ok(())
    }

    /// The host's word on [`Output::Authorize`]. One that comes too late changes nothing.
    pub fn handle_authorization(&mut self, now: Now, id: AuthorizationId, decision: Decision) {
        let Some(waiting) = self.authorizations.remove(id) else {
            return;
        };
        self.release_waiting(waiting.peer, waiting.bytes);
        let Ok(message) = Message::parse(&waiting.datagram) else {
            return;
        };
        let from = waiting.peer;
        self.begin_answering(from, waiting.datagram.len());
        let result = match decision {
            Decision::Allow { mountpoint } => {
                if let Some(pending) = self.pending.get_mut(from, message.mid()) {
                    pending.mountpoint = mountpoint;
                }
                let request = Request {
                    message: &message,
                    datagram: &waiting.datagram,
                    stage: Stage::Authorized,
                };
                self.register(now, from, &request, &waiting.body)
            }
            Decision::Deny { reason } => Err(RegisterError::Denied(reason)),
            Decision::Unavailable => Err(RegisterError::Unavailable),
        };
        if let Err(error) = result {
            self.refuse_register(now, from, &message, &error);
        }
        self.allowance = None;
    }

    /// Answers Registers that have waited too long, [`TIMEOUTS_PER_CALL`] at most; the rest is due
    /// at once again. Whether none is left.
    pub(super) fn expire_authorizations(&mut self, now: Now) -> bool {
        for _ in 0..TIMEOUTS_PER_CALL {
            let Some(id) = self.authorizations.due(now.mono) else {
                return true;
            };
            limited!(
                WARN,
                self.counters,
                now.mono,
                HostSilent,
                "the host has not said whether a device may register"
            );
            self.handle_authorization(now, id, Decision::Unavailable);
        }
        self.authorizations.due(now.mono).is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;

    fn waiting(address: impl Into<SocketAddr>) -> Waiting {
        Waiting {
            peer: Peer {
                listener: 0,
                address: address.into(),
                session: 0,
            },
            datagram: Vec::new(),
            body: Vec::new(),
            deadline: Instant::ZERO,
            bytes: 0,
        }
    }

    #[test]
    fn c7_addresses_of_a_64_are_one_source() {
        let device = |network: u128, host: u128| {
            let address = (0x2001_0db8_u128 << 96) | (network << 64) | host;
            waiting((Ipv6Addr::from_bits(address), 5683))
        };
        let mut all = Authorizations::default();
        for host in 0..MAX_WAITING as u128 / 2 {
            assert!(all.has_room(device(0, host).peer));
            all.insert(device(0, host));
        }
        assert_eq!(all.by_source.len(), 1);
        assert!(!all.has_room(device(0, u128::from(u64::MAX)).peer));

        // A second source gets half of what is left, and so on: there is always a place.
        for network in 1..6 {
            let mut host = 0;
            while all.has_room(device(network, host).peer) {
                all.insert(device(network, host));
                host += 1;
            }
            assert_eq!(host, MAX_WAITING as u128 >> (network + 1));
        }
        assert!(all.has_room(device(6, 0).peer));

        // An IPv4 address in IPv6 clothes is that IPv4 address.
        let dressed: SocketAddr = "[::ffff:192.0.2.1]:5683".parse().unwrap();
        assert_eq!(
            source(waiting(dressed).peer.address.ip()),
            source(waiting(([192, 0, 2, 1], 1)).peer.address.ip())
        );
    }

    #[test]
    fn c7_answered_ones_leave_nothing_behind() {
        let mut all = Authorizations::default();
        let ids: Vec<_> = (0..1000)
            .map(|number: u32| all.insert(waiting((number.to_be_bytes(), 5683))))
            .collect();
        for id in ids {
            assert!(all.remove(id).is_some() && all.remove(id).is_none());
        }
        assert_eq!(
            (all.len(), all.by_source.len(), all.deadline()),
            (0, 0, None)
        );
    }
}
