//! What an engine wants done. It decides nothing: effects are kept in their order until the run
//! loop takes them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::info::{AuthorizationId, DeviceEvent, RegistrationRequest};
use super::peer::{Peer, ShardId};
use super::sharding::Handoff;
use super::stored::Change;
use super::timer::Reason;
use super::trace;
use crate::mqtt::{Publish, ReplyTo};
use crate::telemetry::Counters;
use crate::time::Instant;

/// An effect, or the time to sleep.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// To whom.
        to: Peer,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// Publish a message.
    Publish(Publish),
    /// An answer for whoever waits for this number ([`ReplyTo::caught`]).
    Answer {
        /// Whose answer.
        number: u64,
        /// The answer, as it would be published.
        publish: Publish,
    },
    /// A device registered: for hosts that subscribe per device.
    Subscribe {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// Its rendered mountpoint.
        mountpoint: String,
        /// Topic filter of its commands.
        filter: String,
        /// QoS of the command translator.
        qos: u8,
    },
    /// The device is gone.
    Unsubscribe {
        /// Endpoint name.
        endpoint: Arc<str>,
        /// As subscribed.
        filter: String,
    },
    /// Whether a device may register; the answer goes to [`Engine::handle_authorization`](super::Engine::handle_authorization).
    Authorize {
        /// To be given back.
        id: AuthorizationId,
        /// Who wants to register.
        request: RegistrationRequest,
    },
    /// A device came, changed or went.
    DeviceEvent(DeviceEvent),
    /// A DTLS session shall end with close_notify.
    Disconnect(Peer),
    /// For the store.
    Store(Change),
    /// For another shard.
    Handoff {
        /// Which.
        shard: ShardId,
        /// What.
        handoff: Handoff,
    },
    /// Nothing more to do until the deadline, if there is one.
    Idle(Option<(Instant, Reason)>),
}

/// Effects in their order, and where to count.
#[derive(Debug)]
pub(in crate::engine) struct Effects {
    outputs: VecDeque<Output>,
    counters: Arc<Counters>,
    /// Whether anybody wants to know what has to outlive the process.
    keeping: bool,
}

impl Effects {
    pub(in crate::engine) const fn new(counters: Arc<Counters>) -> Self {
        Self {
            outputs: VecDeque::new(),
            counters,
            keeping: false,
        }
    }

    /// There is a store from now on.
    pub(in crate::engine) fn begin_keeping(&mut self) {
        self.keeping = true;
    }

    /// Whether there is a store.
    pub(in crate::engine) const fn keeps(&self) -> bool {
        self.keeping
    }

    /// Something has to outlive the process, if there is a store.
    pub(in crate::engine) fn keep(&mut self, change: impl FnOnce() -> Change) {
        if self.keeping {
            self.push(Output::Store(change()));
        }
    }

    pub(in crate::engine) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Sends a datagram; that it may be sent has been found out.
    pub(in crate::engine) fn transmit(&mut self, to: Peer, datagram: Vec<u8>) {
        trace::sent(to, &datagram);
        self.counters.datagrams_sent.inc();
        self.counters.bytes_sent.add(datagram.len() as u64);
        self.push(Output::Transmit { to, datagram });
    }

    pub(in crate::engine) fn publish(&mut self, publish: Publish) {
        trace::published(&publish);
        self.counters.published.inc();
        self.push(Output::Publish(publish));
    }

    /// An answer, and the same to where its command asked for it.
    pub(in crate::engine) fn publish_to(&mut self, answer: Publish, reply: Option<&ReplyTo>) {
        if let Some(number) = reply.and_then(ReplyTo::catcher) {
            return self.push(Output::Answer {
                number,
                publish: answer,
            });
        }
        let copy = reply.map(|reply| reply.copy_of(&answer));
        self.publish(answer);
        if let Some(copy) = copy {
            self.publish(copy);
        }
    }

    pub(in crate::engine) fn hand_off(&mut self, shard: ShardId, handoff: Handoff) {
        self.push(Output::Handoff { shard, handoff });
    }

    pub(in crate::engine) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Effects that nobody has taken yet.
    #[cfg(feature = "internals")]
    pub(in crate::engine) fn len(&self) -> usize {
        self.outputs.len()
    }
}
