//! Requests of devices that come in blocks (Block1, RFC 7959 §2.5) and replies of ours cut to the
//! block a device asks for (Block2).

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use crate::coap::block::{BlockError, BlockOption, Pace, Receiver, Taken};
use crate::coap::message::option;
use crate::coap::{Code, Message};
use crate::engine::peer::Peer;
use crate::memory::{Kind, Tally, source};
use crate::time::Instant;

/// Bytes that an unfinished transfer takes beside its body, in all tables.
const OVERHEAD: usize = 450;

/// Identifies the request that the blocks are part of (RFC 7959 §2.2).
type Key = (Peer, u64);

#[derive(Debug)]
struct Assembly {
    receiver: Receiver,
    pace: Pace,
    deadline: Instant,
}

impl Assembly {
    fn bytes(&self) -> usize {
        OVERHEAD + self.receiver.heap()
    }
}

/// Unfinished requests of all peers, bounded in time and by the account of memory. When there is no
/// room, the source that has most gives up its oldest.
#[derive(Debug)]
pub(in crate::engine) struct Assemblies {
    transfers: HashMap<Key, Assembly>,
    deadlines: BTreeSet<(Instant, Key)>,
    sources: HashMap<IpAddr, Source>,
    /// Sources by their bytes.
    ranks: BTreeSet<(usize, IpAddr)>,
    tally: Tally,
}

/// What one source has.
#[derive(Debug, Default)]
struct Source {
    bytes: usize,
    deadlines: BTreeSet<(Instant, Key)>,
}

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum Progress {
    /// 2.31, more to come.
    Continue,
    /// The whole body.
    Complete(Vec<u8>),
    /// The transfer is given up with this code.
    Refused(Code),
}

impl Assemblies {
    pub(in crate::engine) fn new(tally: Tally) -> Self {
        Self {
            transfers: HashMap::new(),
            deadlines: BTreeSet::new(),
            sources: HashMap::new(),
            ranks: BTreeSet::new(),
            tally,
        }
    }

    /// Takes a block of `message`.
    pub(in crate::engine) fn push(
        &mut self,
        now: Instant,
        peer: Peer,
        message: &Message,
        block: BlockOption,
        max_body: usize,
        lifetime: Duration,
    ) -> Progress {
        self.expire(now);
        let key = (peer, request_key(message));
        if block.number == 0 && !block.more {
            self.remove(&key);
            return Progress::Complete(message.payload().to_vec());
        }
        let known = self.remove(&key);
        if known.is_none() && block.number != 0 {
            return Progress::Refused(Code::REQUEST_ENTITY_INCOMPLETE);
        }
        let mut assembly = known.unwrap_or_else(|| Assembly {
            receiver: Receiver::default(),
            pace: Pace::new(now),
            deadline: now,
        });
        let growth = assembly.receiver.growth(message.payload().len());
        if !self.make_room(peer, assembly.bytes(), growth) {
            return Progress::Refused(Code::SERVICE_UNAVAILABLE);
        }
        let before = assembly.receiver.len();
        let pushed = assembly.receiver.push(block, message.payload(), max_body);
        let after = assembly.receiver.len();
        let progress = match pushed {
            Ok(Taken::More | Taken::Again) => {
                match block.number {
                    0 if pushed == Ok(Taken::More) => assembly.pace = Pace::new(now),
                    _ if after > before => assembly.pace.block(now),
                    _ => {}
                }
                assembly.deadline = assembly.pace.deadline(lifetime);
                self.insert(key, assembly);
                Progress::Continue
            }
            Ok(Taken::Last) => Progress::Complete(assembly.receiver.into_body()),
            Err(error) => Progress::Refused(match error {
                BlockError::OutOfOrder => Code::REQUEST_ENTITY_INCOMPLETE,
                BlockError::TooLarge => Code::REQUEST_ENTITY_TOO_LARGE,
                BlockError::Short => Code::BAD_REQUEST,
            }),
        };
        self.tally.trim();
        progress
    }

    /// Unfinished transfers.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn len(&self) -> usize {
        self.transfers.len()
    }

    /// The earliest deadline.
    pub(in crate::engine) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Gives up what is too old.
    pub(in crate::engine) fn expire(&mut self, now: Instant) {
        while let Some((at, key)) = self.deadlines.first().copied()
            && at <= now
        {
            self.remove(&key);
        }
    }

    /// Bytes held, and the same counted anew.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn audit(&self) -> (usize, usize) {
        let counted = self.transfers.values().map(Assembly::bytes).sum();
        (self.tally.used(), counted)
    }

    /// Room for a transfer of `peer` that takes `bytes` and grows by `growth`. Whoever has more than
    /// its source gives up the oldest transfers; of one source the first come are served, so that
    /// they come to an end.
    fn make_room(&mut self, peer: Peer, bytes: usize, growth: usize) -> bool {
        let wanted = bytes.saturating_add(growth);
        while !self.tally.fits(wanted) {
            self.tally.memory().refuse(Kind::Blocks, wanted, false);
            let own = self.sources.get(&source(peer.address.ip()));
            let own = own.map_or(0, |own| own.bytes).saturating_add(wanted);
            let victim = self.ranks.last().filter(|(most, _)| *most > own);
            let victim = victim.and_then(|(_, of)| self.sources.get(of)?.deadlines.first());
            let Some((_, key)) = victim.copied() else {
                return false;
            };
            self.remove(&key);
        }
        true
    }

    fn insert(&mut self, key: Key, assembly: Assembly) {
        let bytes = assembly.bytes();
        self.tally.charge(bytes);
        self.deadlines.insert((assembly.deadline, key));
        self.change(key, |source| {
            source.bytes += bytes;
            source.deadlines.insert((assembly.deadline, key));
        });
        self.transfers.insert(key, assembly);
    }

    fn remove(&mut self, key: &Key) -> Option<Assembly> {
        let assembly = self.transfers.remove(key)?;
        let bytes = assembly.bytes();
        self.tally.release(bytes);
        self.deadlines.remove(&(assembly.deadline, *key));
        self.change(*key, |source| {
            source.bytes -= bytes;
            source.deadlines.remove(&(assembly.deadline, *key));
        });
        Some(assembly)
    }

    fn change(&mut self, (peer, _): Key, change: impl FnOnce(&mut Source)) {
        let address = source(peer.address.ip());
        let source = self.sources.entry(address).or_default();
        self.ranks.remove(&(source.bytes, address));
        change(source);
        if source.deadlines.is_empty() {
            self.sources.remove(&address);
        } else {
            self.ranks.insert((source.bytes, address));
        }
    }
}

/// Content-Format is left out: Wakaama has it in some blocks of an Update and not in others.
fn request_key(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.code().0.hash(&mut hasher);
    message
        .cache_key_options()
        .filter(|(number, _)| *number != option::CONTENT_FORMAT)
        .for_each(|option| option.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coap::MessageType;
    use crate::coap::message::Builder;
    use crate::memory::{Memory, Shares};
    use crate::network::LocalAddress;

    const LIFETIME: Duration = Duration::from_secs(247);

    fn block(number: u32, more: bool, query: &str) -> (Message, BlockOption) {
        let block = BlockOption {
            number,
            more,
            szx: 0,
        };
        let datagram = Builder::new(MessageType::Confirmable, Code::POST, 1, &[])
            .option(option::URI_PATH, *b"rd")
            .option(option::URI_QUERY, query)
            .uint(option::BLOCK1, block.to_uint())
            .payload([7; 16])
            .build();
        (Message::parse(&datagram).unwrap(), block)
    }

    fn assemblies(bytes: usize) -> Assemblies {
        let shares = Shares::new(1 << 30, true).at_most(Kind::Blocks, bytes);
        Assemblies::new(Tally::new(Arc::new(Memory::new(shares)), Kind::Blocks))
    }

    fn push_from(
        assemblies: &mut Assemblies,
        from: &str,
        at: u64,
        (number, more): (u32, bool),
        query: &str,
    ) -> Progress {
        let (message, block) = block(number, more, query);
        let peer = Peer {
            listener: 0,
            local: LocalAddress::default(),
            address: from.parse().unwrap(),
            session: 0,
        };
        assemblies.push(
            Instant::from_micros(at),
            peer,
            &message,
            block,
            100,
            LIFETIME,
        )
    }

    fn push(
        assemblies: &mut Assemblies,
        at: u64,
        number: u32,
        more: bool,
        query: &str,
    ) -> Progress {
        push_from(assemblies, "127.0.0.1:1", at, (number, more), query)
    }

    /// Nothing is left in any table.
    fn assert_empty(assemblies: &Assemblies) {
        assert_eq!(assemblies.audit(), (0, 0));
        assert!(assemblies.transfers.is_empty() && assemblies.deadlines.is_empty());
        assert!(assemblies.sources.is_empty() && assemblies.ranks.is_empty());
    }

    #[test]
    fn assembles_requests_apart() {
        let mut assemblies = assemblies(1 << 20);
        assert_eq!(
            push(&mut assemblies, 0, 0, true, "ep=a"),
            Progress::Continue
        );
        assert_eq!(
            push(&mut assemblies, 0, 0, true, "ep=b"),
            Progress::Continue
        );
        assert_eq!(
            push(&mut assemblies, 0, 1, false, "ep=a"),
            Progress::Complete(vec![7; 32])
        );
        assert_eq!(
            push(&mut assemblies, 0, 2, false, "ep=b"),
            Progress::Refused(Code::REQUEST_ENTITY_INCOMPLETE)
        );
        assert_empty(&assemblies);
    }

    #[test]
    fn bounded_in_size_time_and_number() {
        let mut assemblies = assemblies(10 * (OVERHEAD + 32));
        for number in 0..6 {
            assert_eq!(
                push(&mut assemblies, 0, number, true, "ep=a"),
                Progress::Continue
            );
        }
        assert_eq!(
            push(&mut assemblies, 0, 6, true, "ep=a"),
            Progress::Refused(Code::REQUEST_ENTITY_TOO_LARGE)
        );
        for device in 0..50 {
            push(&mut assemblies, 1, 0, true, &format!("ep={device}"));
        }
        assert!(assemblies.transfers.len() <= 10);
        let (charged, counted) = assemblies.audit();
        assert_eq!(charged, counted);
        assemblies.expire(Instant::from_micros(1) + LIFETIME);
        assert_empty(&assemblies);
        for at in 0..10_000 {
            push(&mut assemblies, at, 0, true, "ep=again");
        }
        assert_eq!(assemblies.deadlines.len(), 1, "nothing is left behind");
    }

    #[test]
    fn c3_the_source_that_has_most_gives_way() {
        let mut assemblies = assemblies(10 * (OVERHEAD + 32));
        let flood = |assemblies: &mut Assemblies, device: u64| {
            let from = format!("192.0.2.1:{}", 1000 + device);
            push_from(assemblies, &from, device, (0, true), "ep=flood")
        };
        for device in 0..10 {
            assert_eq!(flood(&mut assemblies, device), Progress::Continue);
        }
        let refused = Progress::Refused(Code::SERVICE_UNAVAILABLE);
        assert_eq!(flood(&mut assemblies, 10), refused, "it pushes nobody out");
        let mut honest = |at, number, more| {
            let from = "192.0.2.2:5683";
            push_from(&mut assemblies, from, at, (number, more), "ep=honest")
        };
        assert_eq!(honest(20, 0, true), Progress::Continue);
        assert_eq!(honest(20, 1, true), Progress::Continue);
        assert_eq!(flood(&mut assemblies, 0), refused, "the oldest is gone");
        let mut honest = |at, number, more| {
            let from = "192.0.2.2:5683";
            push_from(&mut assemblies, from, at, (number, more), "ep=honest")
        };
        assert_eq!(honest(21, 2, false), Progress::Complete(vec![7; 48]));
        assemblies.expire(Instant::from_micros(30) + LIFETIME);
        assert_empty(&assemblies);
    }
}
