//! A client's session (MQTT 5 section 4.1): what is on its way in both directions, over any number
//! of connections. Packets go in, packets and facts come out; no sockets, no time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

use bytes::Bytes;

use super::super::outbox;
use super::inbox::{Arrival, Inbox};
use super::wire::{Delivery, Incoming, Message, Outgoing, PacketId, Welcome};
use crate::mqtt::Origin;
use crate::store::Receipt;

/// QoS 1 and 2 messages sent and not acknowledged yet; the broker may allow fewer.
pub(super) const IN_FLIGHT: u16 = 256;

/// Filters in one SUBSCRIBE packet.
pub(super) const FILTERS_AT_ONCE: usize = 64;

/// SUBSCRIBE packets without answer at most, so that packet identifiers are left for messages.
const ASKED_MAX: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Session {
    last_id: u16,
    /// QoS 1 and 2 messages that the broker has not acknowledged to the end, oldest first.
    in_flight: VecDeque<Exchange>,
    /// Messages on their way at most, as this connection has it.
    window: usize,
    /// The highest QoS of this connection.
    max_qos: u8,
    /// Messages of the broker that are not acknowledged yet.
    inbox: Inbox,
    /// Whether this connection takes messages that are to be retained.
    retains: bool,
    /// QoS 2 messages of the broker that were taken and are not released yet.
    taken: BTreeSet<PacketId>,
    /// Filters of SUBSCRIBE packets without answer.
    asked: BTreeMap<PacketId, Vec<String>>,
    /// Whether new messages of the broker are left alone, so that it keeps those of QoS 1 and 2.
    paused: bool,
}

#[derive(Debug)]
struct Exchange {
    id: PacketId,
    size: usize,
    state: State,
    /// Of whoever waits until the broker has it.
    receipt: Option<Receipt>,
}

impl Exchange {
    /// The broker has it, or does not want it.
    fn settle(&mut self) {
        if let Some(receipt) = self.receipt.take() {
            receipt.settle(Ok(()));
        }
    }
}

#[derive(Debug)]
enum State {
    /// PUBLISH was sent.
    Published(Message),
    /// PUBREL was sent: the broker has the message.
    Released,
}

/// What a packet means for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// To be sent.
    Send(Outgoing),
    /// A message from the broker. Once it is handled, [`Session::handled`] is to be called with its
    /// [`Session::number_of`].
    Command(Delivery),
    /// A message of this many bytes is done.
    Settled(usize),
    /// The broker does not take a message: its topic, as far as it is known still, and why; this many
    /// bytes are done.
    Rejected(usize, Option<Bytes>, String),
    /// The broker does not allow a filter.
    FilterRefused(String, String),
    /// Another client has come with our identifier.
    TakenOver,
    /// The connection cannot go on.
    End(String),
}

/// Bytes that a message counts with.
pub(super) fn size(message: &Message) -> usize {
    let correlation = message.correlation.as_ref().map_or(0, Bytes::len);
    outbox::size(
        message.topic.len(),
        message.payload.len().saturating_add(correlation),
    )
}

impl Session {
    /// A connection stands: what has to be sent first, and how many bytes of messages are done by
    /// it. `wanted` are all filters with their QoS.
    pub(super) fn resume(
        &mut self,
        welcome: &Welcome,
        wanted: &BTreeMap<String, u8>,
    ) -> (Vec<Outgoing>, Vec<usize>) {
        self.window = usize::from(IN_FLIGHT.min(welcome.receive_max));
        self.max_qos = welcome.max_qos;
        self.retains = welcome.retains;
        self.asked.clear();
        self.inbox.begin(welcome.session_present);
        let mut first = Vec::new();
        let mut done = Vec::new();
        if !welcome.session_present {
            self.taken.clear();
            // The broker has these messages already; with its session it lost the exchange too.
            self.in_flight.retain(|exchange| {
                let released = matches!(exchange.state, State::Released);
                if released {
                    done.push(exchange.size);
                }
                !released
            });
        }
        let filters: Vec<_> = wanted.iter().map(|(f, qos)| (f.clone(), *qos)).collect();
        for filters in filters.chunks(FILTERS_AT_ONCE) {
            first.extend(self.subscribe(filters.to_vec()));
        }
        // A window that has become smaller does not take back what is on its way.
        first.extend(self.in_flight.iter().map(|exchange| match &exchange.state {
            State::Published(message) => Outgoing::Publish {
                id: Some(exchange.id),
                again: welcome.session_present,
                message: message.clone(),
            },
            State::Released => Outgoing::Release(exchange.id),
        }));
        (first, done)
    }

    /// How many messages may be sent now.
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.in_flight.len())
    }

    /// Whether everything that was sent or taken is acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.inbox.is_idle()
    }

    /// Messages that a process before has taken.
    pub(super) fn remember(&mut self, origins: &[Origin]) {
        self.inbox.remember(origins);
    }

    /// From now on messages of QoS 1 and 2 are neither taken nor acknowledged: the broker keeps
    /// them for the next connection.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// Sends a message; `None` when no packet identifier is free, which [`Session::room`]
    /// excludes.
    pub(super) fn publish(&mut self, mut message: Message) -> Option<Outgoing> {
        message.qos = message.qos.min(self.max_qos);
        message.retain &= self.retains;
        let id = match message.qos {
            0 => None,
            _ => Some(self.next_id()?),
        };
        if let Some(id) = id {
            self.in_flight.push_back(Exchange {
                id,
                size: size(&message),
                state: State::Published(message.clone()),
                receipt: None,
            });
        }
        Some(Outgoing::Publish {
            id,
            again: false,
            message,
        })
    }

    /// Somebody waits until the broker has the message of this identifier, which was published last.
    pub(super) fn attach(&mut self, id: PacketId, receipt: Receipt) {
        let mut newest = self.in_flight.iter_mut().rev();
        if let Some(exchange) = newest.find(|exchange| exchange.id == id) {
            exchange.receipt = Some(receipt);
        }
    }

    /// Takes back a message that could not be written; its bytes.
    pub(super) fn take_back(&mut self, id: PacketId) -> Option<usize> {
        self.end(id).map(|exchange| exchange.size)
    }

    /// Whether there is room for another SUBSCRIBE.
    pub(super) fn may_ask(&self) -> bool {
        self.asked.len() < ASKED_MAX
    }

    /// Asks for filters.
    pub(super) fn subscribe(&mut self, filters: Vec<(String, u8)>) -> Option<Outgoing> {
        let id = self.next_id()?;
        let names = filters.iter().map(|(filter, _)| filter.clone()).collect();
        self.asked.insert(id, names);
        Some(Outgoing::Subscribe(id, filters))
    }

    /// Takes filters back.
    pub(super) fn unsubscribe(&mut self, filters: Vec<String>) -> Option<Outgoing> {
        let id = self.next_id()?;
        self.asked.insert(id, Vec::new());
        Some(Outgoing::Unsubscribe(id, filters))
    }

    /// A packet has come.
    pub(super) fn handle(&mut self, packet: Incoming) -> Vec<Fact> {
        match packet {
            Incoming::Publish(delivery) => self.delivery(delivery),
            Incoming::Acknowledged(id, objection) | Incoming::Received(id, objection @ Some(_)) => {
                let ended = self.end(id);
                ended
                    .map(|exchange| match objection {
                        Some(reason) => {
                            let topic = match exchange.state {
                                State::Published(message) => Some(message.topic),
                                State::Released => None,
                            };
                            Fact::Rejected(exchange.size, topic, reason)
                        }
                        None => Fact::Settled(exchange.size),
                    })
                    .into_iter()
                    .collect()
            }
            Incoming::Received(id, None) => {
                if let Some(exchange) = self.in_flight.iter_mut().find(|it| it.id == id) {
                    exchange.state = State::Released;
                    exchange.settle();
                }
                // Also for one that we do not know: the broker waits for it (section 4.3.3).
                vec![Fact::Send(Outgoing::Release(id))]
            }
            Incoming::Release(id) => {
                self.taken.remove(&id);
                vec![Fact::Send(Outgoing::Complete(id))]
            }
            Incoming::Complete(id) => {
                let ended = self.end(id).map(|exchange| Fact::Settled(exchange.size));
                ended.into_iter().collect()
            }
            Incoming::Subscribed(id, objections) => {
                let filters = self.asked.remove(&id).unwrap_or_default();
                filters
                    .into_iter()
                    .zip(objections)
                    .filter_map(|(filter, objection)| Some(Fact::FilterRefused(filter, objection?)))
                    .collect()
            }
            Incoming::Unsubscribed(id) => {
                self.asked.remove(&id);
                Vec::new()
            }
            Incoming::Pong => Vec::new(),
            Incoming::Disconnect(reason) => {
                vec![Fact::End(format!("the broker disconnected: {reason}"))]
            }
            Incoming::TakenOver => vec![Fact::TakenOver],
            Incoming::Refused(_) | Incoming::Welcome(_) | Incoming::Unexpected => {
                let reason = "the broker sent an unexpected packet";
                vec![Fact::End(reason.to_owned())]
            }
        }
    }

    fn delivery(&mut self, delivery: Delivery) -> Vec<Fact> {
        match delivery.id {
            Some(id) if self.taken.contains(&id) => vec![Fact::Send(Outgoing::Received(id))],
            Some(_) if self.paused => Vec::new(),
            Some(id) => match self.inbox.arrive(id, &delivery) {
                Arrival::New => vec![Fact::Command(delivery)],
                Arrival::Known => Vec::new(),
                Arrival::TooMany => {
                    let reason =
                        "the broker sends more messages than it may before they are acknowledged";
                    vec![Fact::End(reason.to_owned())]
                }
            },
            None => vec![Fact::Command(delivery)],
        }
    }

    /// Names a message of QoS 1 or 2 that has just come.
    pub(super) fn number_of(&self, delivery: &Delivery) -> Option<u64> {
        self.inbox.number(delivery.id?)
    }

    /// A message of the broker is handled.
    pub(super) fn handled(&mut self, number: u64) {
        self.inbox.handled(number);
    }

    /// The next acknowledgement to be sent. They go out in the order in which messages came.
    pub(super) fn acknowledge(&mut self) -> Option<Outgoing> {
        let (id, qos) = self.inbox.next()?;
        if qos < 2 {
            return Some(Outgoing::Acknowledge(id));
        }
        self.taken.insert(id);
        Some(Outgoing::Received(id))
    }

    /// Ends an exchange. Acknowledgements come in the order of the messages, so that it is found at
    /// once.
    fn end(&mut self, id: PacketId) -> Option<Exchange> {
        let at = self.in_flight.iter().position(|it| it.id == id)?;
        let mut exchange = self.in_flight.remove(at)?;
        exchange.settle();
        Some(exchange)
    }

    /// The next identifier that is not in use.
    fn next_id(&mut self) -> Option<PacketId> {
        // Each identifier in use costs one step at most.
        let in_use = self.in_flight.len().saturating_add(self.asked.len());
        for _ in 0..=in_use.saturating_add(1) {
            self.last_id = self.last_id.wrapping_add(1);
            let Some(id) = NonZeroU16::new(self.last_id) else {
                continue;
            };
            let used = self.asked.contains_key(&id) || self.in_flight.iter().any(|it| it.id == id);
            if !used {
                return Some(id);
            }
        }
        None
    }
}
