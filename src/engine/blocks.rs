//! Requests of devices that come in blocks (Block1, RFC 7959 §2.5) and replies of ours cut to the
//! block a device asks for (Block2).

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::Peer;
use crate::coap::block::{BlockError, BlockOption, Pace, Receiver, Taken};
use crate::coap::message::option;
use crate::coap::{Code, Message};
use crate::time::Instant;

/// What an unfinished transfer costs beside its body.
const OVERHEAD: usize = 200;

/// Identifies the request that the blocks are part of (RFC 7959 §2.2).
type Key = (Peer, u64);

#[derive(Debug)]
struct Assembly {
    receiver: Receiver,
    pace: Pace,
    deadline: Instant,
}

/// Unfinished requests of all peers, bounded in bytes and time.
#[derive(Debug)]
pub(super) struct Assemblies {
    transfers: HashMap<Key, Assembly>,
    /// Deadline by key, in order of time; stale elements are told apart by their deadline.
    order: VecDeque<(Instant, Key)>,
    bytes: usize,
    limit: usize,
}

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// 2.31, more to come.
    Continue,
    /// The whole body.
    Complete(Vec<u8>),
    /// The transfer is given up with this code.
    Refused(Code),
}

impl Assemblies {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            transfers: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Takes a block of `message`.
    pub(super) fn push(
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
        if block.number == 0 && !self.transfers.contains_key(&key) {
            let pace = Pace::new(now);
            let deadline = pace.deadline(lifetime);
            let assembly = Assembly {
                receiver: Receiver::default(),
                pace,
                deadline,
            };
            self.transfers.insert(key, assembly);
            self.order.push_back((deadline, key));
            self.bytes += OVERHEAD;
        }
        let Some(assembly) = self.transfers.get_mut(&key) else {
            return Progress::Refused(Code::REQUEST_ENTITY_INCOMPLETE);
        };
        let before = assembly.receiver.len();
        let pushed = assembly.receiver.push(block, message.payload(), max_body);
        let after = assembly.receiver.len();
        self.bytes = (self.bytes + after).saturating_sub(before);
        match pushed {
            Ok(Taken::More | Taken::Again) => {
                match block.number {
                    0 if pushed == Ok(Taken::More) => assembly.pace = Pace::new(now),
                    _ if after > before => assembly.pace.block(now),
                    _ => {}
                }
                let deadline = assembly.pace.deadline(lifetime);
                if assembly.deadline != deadline {
                    assembly.deadline = deadline;
                    self.order.push_back((deadline, key));
                }
                self.shrink();
                if self.transfers.contains_key(&key) {
                    Progress::Continue
                } else {
                    Progress::Refused(Code::SERVICE_UNAVAILABLE)
                }
            }
            Ok(Taken::Last) => match self.remove(&key) {
                Some(receiver) => Progress::Complete(receiver.into_body()),
                None => Progress::Refused(Code::REQUEST_ENTITY_INCOMPLETE),
            },
            Err(error) => {
                self.remove(&key);
                Progress::Refused(match error {
                    BlockError::OutOfOrder => Code::REQUEST_ENTITY_INCOMPLETE,
                    BlockError::TooLarge => Code::REQUEST_ENTITY_TOO_LARGE,
                    BlockError::Short => Code::BAD_REQUEST,
                })
            }
        }
    }

    /// Unfinished transfers.
    pub(super) fn len(&self) -> usize {
        self.transfers.len()
    }

    /// The earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Gives up what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| *at <= now) {
            self.pop_oldest();
        }
    }

    /// The oldest transfers make room, and stale elements do not pile up.
    fn shrink(&mut self) {
        if self.order.len() > self.transfers.len() * 2 + 64 {
            let transfers = &self.transfers;
            self.order.retain(|(at, key)| {
                let known = transfers.get(key);
                known.is_some_and(|assembly| assembly.deadline == *at)
            });
        }
        while self.bytes > self.limit && !self.order.is_empty() {
            self.pop_oldest();
        }
    }

    fn pop_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            && self
                .transfers
                .get(&key)
                .is_some_and(|assembly| assembly.deadline == at)
        {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Receiver> {
        let assembly = self.transfers.remove(key)?;
        self.bytes -= OVERHEAD + assembly.receiver.len();
        Some(assembly.receiver)
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
    use super::*;
    use crate::coap::MessageType;
    use crate::coap::message::Builder;

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

    fn push(
        assemblies: &mut Assemblies,
        at: u64,
        number: u32,
        more: bool,
        query: &str,
    ) -> Progress {
        let (message, block) = block(number, more, query);
        let peer = Peer {
            listener: 0,
            address: "127.0.0.1:1".parse().unwrap(),
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

    #[test]
    fn assembles_requests_apart() {
        let mut assemblies = Assemblies::new(1 << 20);
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
        assert_eq!(assemblies.bytes, 0);
    }

    #[test]
    fn bounded_in_size_time_and_number() {
        let mut assemblies = Assemblies::new(10 * (OVERHEAD + 16));
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
        assemblies.expire(Instant::from_micros(1) + LIFETIME);
        assert_eq!((assemblies.transfers.len(), assemblies.bytes), (0, 0));
        for at in 0..10_000 {
            push(&mut assemblies, at, 0, true, "ep=again");
        }
        assert!(assemblies.order.len() < 100, "stale elements are dropped");
    }
}
