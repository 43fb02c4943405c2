//! New connections of identities whose registrations are still in another shard. What such a
//! connection says waits until they are here: a notification would be reset otherwise, a Send or
//! De-register answered 4.04.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::departed::HANDOFF_TIMEOUT;
use super::handoff::{Handoff, Wanted};
use crate::config::Takeover;
use crate::engine::core::Core;
use crate::engine::effects::Output;
use crate::engine::identity::{Identity, SecureSession};
use crate::engine::info::GoneReason;
use crate::engine::peer::{Peer, ShardId};
use crate::memory::{Heap, block};
use crate::telemetry::limited;
use crate::time::{Instant, Now};

/// Messages of a connection that wait; it says no more before it has heard anything (NSTART,
/// RFC 7252 §4.7) but for repetitions and notifications.
const MAX_HELD: usize = 16;

/// Datagrams that have waited, in order, with their peer: to be handled now.
pub(in crate::engine) type Held = Vec<(Peer, Vec<u8>)>;

/// An even newer connection.
#[derive(Debug)]
struct Successor {
    identity: Arc<Identity>,
    peer: Peer,
    shard: ShardId,
}

#[derive(Debug)]
struct Arrival {
    held: Vec<Vec<u8>>,
    /// Whoever gets what arrives.
    successor: Option<Successor>,
    deadline: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::engine) struct Arrivals {
    expected: HashMap<Peer, Arrival>,
    /// The same in order of time.
    deadlines: BTreeSet<(Instant, Peer)>,
}

impl Arrivals {
    pub(in crate::engine) fn contains(&self, peer: Peer) -> bool {
        self.expected.contains_key(&peer)
    }

    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    #[cfg(feature = "internals")]
    pub(in crate::engine) fn len(&self) -> usize {
        self.expected.len()
    }

    /// What belongs to the identity of `peer` is asked for.
    fn expect(&mut self, now: Now, peer: Peer) {
        let deadline = now.mono + HANDOFF_TIMEOUT;
        let arrival = Arrival {
            held: Vec::new(),
            successor: None,
            deadline,
        };
        if let Some(old) = self.expected.insert(peer, arrival) {
            self.deadlines.remove(&(old.deadline, peer));
        }
        self.deadlines.insert((deadline, peer));
    }

    fn remove(&mut self, peer: Peer) -> Option<Arrival> {
        let arrival = self.expected.remove(&peer)?;
        self.deadlines.remove(&(arrival.deadline, peer));
        Some(arrival)
    }

    /// The connection has ended; what arrives is still for its successor. Returns the bytes that
    /// this frees.
    fn forget_messages(&mut self, peer: Peer) -> usize {
        let arrival = self.expected.get_mut(&peer);
        arrival.map_or(0, |arrival| std::mem::take(&mut arrival.held).heap())
    }

    /// Bytes of what waits, counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn recount(&self) -> usize {
        let held = self.expected.values().map(|arrival| arrival.held.heap());
        held.sum()
    }
}

impl Arrivals {
    /// Keeps a datagram of a connection whose registrations are on their way; false when none
    /// are.
    pub(in crate::engine) fn hold(&mut self, core: &mut Core, from: Peer, datagram: &[u8]) -> bool {
        let Some(arrival) = self.expected.get_mut(&from) else {
            return false;
        };
        let before = arrival.held.heap();
        let most = block(datagram.len()) + MAX_HELD * size_of::<Vec<u8>>();
        let waiting = &mut core.accounts.waiting;
        if arrival.held.len() < MAX_HELD && waiting.fits(most) {
            arrival.held.push(datagram.to_vec());
            waiting.charge(arrival.held.heap() - before);
        } else {
            core.env.counters.mailbox_overflow.inc();
        }
        true
    }

    /// A DTLS session was established: an older connection of the identity ends, its registrations
    /// come here or end (`takeover`).
    pub(in crate::engine) fn connect(
        &mut self,
        core: &mut Core,
        peer: Peer,
        session: SecureSession,
    ) -> Held {
        let identity = session.identity.clone();
        let own = core.env.shard;
        let directory = &core.env.directory;
        let connected = directory.connect(&identity, own, peer, session.came_back);
        let Ok(before) = connected else {
            // Its device has made a handshake before it was its turn.
            core.effects.push(Output::Disconnect(peer));
            return Held::new();
        };
        core.sessions.insert(peer, session);
        match before {
            Some((shard, old)) if shard == own => {
                if self.contains(old) {
                    self.expect(core.now, peer);
                }
                self.displace(core, identity, old, peer, shard)
            }
            Some((shard, old)) => {
                self.expect(core.now, peer);
                let handoff = Handoff::Displace {
                    identity,
                    old,
                    new: peer,
                    to: own,
                };
                core.effects.hand_off(shard, handoff);
                Held::new()
            }
            None => Held::new(),
        }
    }

    /// A datagram from an address whose device came back from the store in another shard: it is asked
    /// for, and the datagram waits. False when there is no such device.
    pub(in crate::engine) fn fetch(
        &mut self,
        core: &mut Core,
        from: Peer,
        datagram: &[u8],
    ) -> bool {
        let directory = core.env.directory.clone();
        if !directory.has_restored() || core.registry.bound(from).is_some() {
            return false;
        }
        let own = core.env.shard;
        let Some(shard) = directory.take_restored(from).filter(|it| *it != own) else {
            return false;
        };
        self.expect(core.now, from);
        let handoff = Handoff::Take {
            from: own,
            wanted: Wanted::Peer(from),
            identity: None,
            peer: from,
            datagram: Vec::new(),
            body: Vec::new(),
        };
        core.effects.hand_off(shard, handoff);
        self.hold(core, from, datagram)
    }

    /// A DTLS session ended. Its registrations stay for a newer one.
    pub(in crate::engine) fn disconnect(&mut self, core: &mut Core, peer: Peer) {
        let freed = self.forget_messages(peer);
        core.accounts.waiting.release(freed);
        if let Some(session) = core.sessions.remove(peer) {
            core.env.directory.disconnect(&session.identity, peer);
        }
    }

    /// The connection `old` ends because its identity has `new` in shard `to`. What belongs to the
    /// identity goes there: at once, or as soon as it is here.
    pub(in crate::engine) fn displace(
        &mut self,
        core: &mut Core,
        identity: Arc<Identity>,
        old: Peer,
        new: Peer,
        to: ShardId,
    ) -> Held {
        if core.sessions.remove(old).is_some() {
            limited!(INFO, core.env.counters, core.now.mono, ConnectionDisplaced,
                peer = %old.address, by = %new.address, "connection displaced");
            core.env.counters.sessions_displaced.inc();
            core.effects.push(Output::Disconnect(old));
        }
        let successor = Successor {
            identity,
            peer: new,
            shard: to,
        };
        if let Some(arrival) = self.expected.get_mut(&old) {
            let held = std::mem::take(&mut arrival.held);
            core.accounts.waiting.release(held.heap());
            arrival.successor = Some(successor);
            return Held::new();
        }
        match pass_on(core, &successor) {
            Some(here) => self.arrived(core, here),
            None => Held::new(),
        }
    }

    /// Everything that belongs to the identity of `peer` is here. Returns what its connection, or
    /// that of a successor in this shard, has said meanwhile.
    pub(in crate::engine) fn arrived(&mut self, core: &mut Core, peer: Peer) -> Held {
        let mut held = Held::new();
        let mut next = Some(peer);
        while let Some(peer) = next.take() {
            let Some(arrival) = self.remove(peer) else {
                break;
            };
            core.accounts.waiting.release(arrival.held.heap());
            held.extend(arrival.held.into_iter().map(|datagram| (peer, datagram)));
            let successor = arrival.successor.as_ref();
            next = successor.and_then(|successor| pass_on(core, successor));
        }
        held
    }

    /// A connection that has waited too long: nothing waits for a shard that does not answer.
    pub(in crate::engine) fn due(&self, now: Instant) -> Option<Peer> {
        let (at, peer) = self.deadlines.first().copied()?;
        (at <= now).then_some(peer)
    }
}

/// What belongs to an identity goes to its newest connection. Returns its peer if that is in this
/// shard.
fn pass_on(core: &mut Core, to: &Successor) -> Option<Peer> {
    let here = to.shard == core.env.shard;
    for key in core.registry.of_identity(&to.identity) {
        match core.takeover(key, to.peer) {
            Takeover::End => core.remove(key, GoneReason::Displaced),
            Takeover::Move if here => core.follow(key, to.peer),
            Takeover::Move => core.send_after(key, to.peer, to.shard),
        }
    }
    if here {
        return Some(to.peer);
    }
    let handoff = Handoff::Arrived { peer: to.peer };
    core.effects.hand_off(to.shard, handoff);
    None
}
