//! What is under way to a device: exchanges, the jobs they work on, and transfers that wait for
//! their turn. A transfer belongs to a job, and a job has a number of tries and a deadline.

use super::effort::{Effort, Exhausted};
use super::format::FormatChoice;
use super::request::{Method, RequestParts};
use crate::bridge::Command;
use crate::coap::block::{BlockOption, Receiver, Sender};
use crate::coap::exchange::Transmission;
use crate::coap::{Code, Token};
use crate::config::Blockwise;
use crate::memory::block;
use crate::time::Instant;

/// A body of which the first block is here.
#[derive(Debug)]
pub(in crate::engine) enum Transfer {
    /// Of a notification; at most one an observation.
    Notification { observation: Token, body: Body },
    /// Of the answer to a request.
    Answer(Box<Job>),
}

/// A request on its way to the device.
#[derive(Debug)]
pub(in crate::engine) struct Exchange {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) mid: u16,
    /// For retransmission.
    pub(in crate::engine) datagram: Box<[u8]>,
    pub(in crate::engine) transmission: Transmission,
    /// When it was sent first.
    pub(in crate::engine) begun: Instant,
    /// It was not sent because the device has not shown itself.
    pub(in crate::engine) withheld: bool,
    pub(in crate::engine) job: Box<Job>,
}

/// What one or more exchanges work on: several when blocks are needed.
#[derive(Debug)]
pub(in crate::engine) struct Job {
    pub(in crate::engine) purpose: Purpose,
    pub(in crate::engine) request: RequestParts,
    /// The content formats of the request.
    pub(in crate::engine) choice: FormatChoice,
    /// The request's body, block by block (Block1).
    pub(in crate::engine) sender: Option<Sender>,
    /// The response's body so far (Block2).
    pub(in crate::engine) body: Option<Body>,
    /// What may still be asked.
    pub(in crate::engine) effort: Effort,
    /// Bytes of all but the bodies in blocks.
    pub(in crate::engine) fixed: usize,
}

impl Job {
    pub(in crate::engine) fn new(
        purpose: Purpose,
        request: RequestParts,
        choice: FormatChoice,
        effort: Effort,
    ) -> Self {
        Self {
            fixed: Self::fixed_bytes(&purpose, &request),
            purpose,
            request,
            choice,
            sender: None,
            body: None,
            effort,
        }
    }
}

/// Why a request is sent.
#[derive(Debug)]
pub(in crate::engine) enum Purpose {
    /// A command of an application.
    Command {
        command: Box<Command>,
        /// The token that notifications will carry, if this is an Observe.
        observation: Option<Token>,
        /// The application knows that the response comes separately.
        ack_reported: bool,
    },
    /// An observation is asked for again after the device registered anew.
    Refresh { observation: Token },
    /// The rest of a notification that came in blocks.
    Notification { observation: Token },
}

/// A response in blocks.
#[derive(Debug)]
pub(in crate::engine) struct Body {
    pub(in crate::engine) receiver: Receiver,
    pub(in crate::engine) code: Code,
    pub(in crate::engine) content_format: Option<u16>,
    pub(in crate::engine) observe: Option<u32>,
    pub(in crate::engine) etag: Option<Box<[u8]>>,
    /// The block to ask for.
    pub(in crate::engine) next: BlockOption,
    /// How often the transfer began anew because the representation changed.
    pub(in crate::engine) restarts: u8,
    /// Blocks in a row that were not asked for.
    pub(in crate::engine) strays: u8,
}

impl Body {
    /// Bytes of the heap it takes.
    pub(in crate::engine) fn bytes(&self) -> usize {
        let etag = self.etag.as_ref().map_or(0, |etag| block(etag.len()));
        self.receiver.heap() + etag
    }
}

impl Job {
    /// Another request is to be sent.
    pub(in crate::engine) fn spend(
        &mut self,
        now: Instant,
        bounds: &Blockwise,
    ) -> Result<(), Exhausted> {
        let sent = self.sender.as_ref().map_or(0, Sender::offset);
        let received = self.body.as_ref().map_or(0, |body| body.receiver.len());
        self.effort.spend(now, bounds, sent, received)
    }

    /// The observation that it is about, if any.
    pub(in crate::engine) const fn observation(&self) -> Option<Token> {
        match &self.purpose {
            Purpose::Command { observation, .. } => *observation,
            Purpose::Refresh { observation } | Purpose::Notification { observation } => {
                Some(*observation)
            }
        }
    }
}

impl Exchange {
    /// Gives it another message id, by which the device takes it for another request.
    pub(in crate::engine) fn renumber(&mut self, mid: u16) {
        self.mid = mid;
        if let Some(place) = self.datagram.get_mut(2..4) {
            place.copy_from_slice(&mid.to_be_bytes());
        }
        let repeatable = !matches!(self.job.request.method, Method::Post | Method::Delete);
        if !repeatable && !self.withheld {
            self.transmission.stop();
        }
    }

    /// Whether it fetches the rest of a notification of this observation.
    pub(in crate::engine) fn fetches(&self, of: Token) -> bool {
        matches!(self.job.purpose, Purpose::Notification { observation } if observation == of)
    }
}

impl Transfer {
    /// Whether it is the rest of a notification of this observation.
    pub(in crate::engine) fn fetches(&self, of: Token) -> bool {
        matches!(self, Self::Notification { observation, .. } if *observation == of)
    }
}
