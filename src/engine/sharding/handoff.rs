//! What shards say to each other.

use std::sync::Arc;

use crate::coap::Token;
use crate::engine::device::Device;
use crate::engine::identity::Identity;
use crate::engine::input::CommandInput;
use crate::engine::peer::{Peer, ShardId};
use crate::engine::registration::Location;
use crate::memory::{Heap, block};

/// What shards say to each other.
#[derive(Debug)]
pub enum Handoff {
    /// `from` wants a device, because `datagram` of `peer` arrived there.
    Take {
        /// Who asks.
        from: ShardId,
        /// Which device.
        wanted: Wanted,
        /// Who speaks there, with DTLS.
        identity: Option<Arc<Identity>>,
        /// Where the datagram came from.
        peer: Peer,
        /// The request to be processed once the device is there.
        datagram: Vec<u8>,
        /// Its payload, which may have come in blocks.
        body: Vec<u8>,
    },
    /// The answer.
    Give {
        /// The device with all its state, or why it does not come.
        device: Result<Box<Device>, Withheld>,
        /// As in the question.
        peer: Peer,
        /// As in the question.
        datagram: Vec<u8>,
        /// As in the question.
        body: Vec<u8>,
    },
    /// A notification of a device of the receiving shard, from an address that is not its own so
    /// far. It has been acknowledged.
    Notification {
        /// As received.
        datagram: Vec<u8>,
    },
    /// A command for a device that has moved.
    Command {
        /// The command.
        input: CommandInput,
        /// How many shards it has come by.
        hops: u8,
    },
    /// Goes to the shards that a device was in, and back to it: behind all commands that follow it.
    Flush {
        /// Which device.
        endpoint: Arc<str>,
        /// Where it is, or was when it asked for this.
        home: ShardId,
        /// Which of these it is; never zero.
        word: u64,
        /// The shards to be visited next, in reverse order.
        way: Vec<ShardId>,
    },
    /// The identity of `old` has a newer connection, `new`, in shard `to`.
    Displace {
        /// Whose connections they are.
        identity: Arc<Identity>,
        /// The connection that ends.
        old: Peer,
        /// The connection that stays.
        new: Peer,
        /// Shard of the new one.
        to: ShardId,
    },
    /// A device whose identity connected to the receiving shard; it is at its new peer already.
    Adopt(Box<Device>),
    /// The answer to [`Handoff::Displace`], behind the devices there were.
    Arrived {
        /// The newer connection.
        peer: Peer,
    },
}

impl Handoff {
    /// Bytes that it takes where it waits.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Take { datagram, body, .. } => datagram.heap() + body.heap(),
            Self::Give {
                device,
                datagram,
                body,
                ..
            } => {
                let device = device.as_ref().map_or(0, |device| device.bytes());
                device + datagram.heap() + body.heap()
            }
            Self::Notification { datagram } => datagram.heap(),
            Self::Command { input, .. } => input.bytes(),
            Self::Flush { way, .. } => block(size_of_val(way.as_slice())),
            Self::Adopt(device) => device.bytes(),
            Self::Displace { .. } | Self::Arrived { .. } => 0,
        }
    }
}

/// Why a device is not given to another shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// It is not there, or must not move.
    Absent,
    /// It was registered by another identity.
    OtherIdentity,
}

/// How a device is named between shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It registers here.
    Endpoint(Arc<str>),
    /// It updates here (an address change).
    Location(Location),
    /// It has shown that it is here now: the token of an observation came from the peer of
    /// [`Handoff::Take`], and an answer to a question of ours. There is no request to be processed.
    Token(Token),
    /// It came back from the store, and its messages arrive here: the kernel shares them out in
    /// another way when there is another number of shards.
    Peer(Peer),
}
