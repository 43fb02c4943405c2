//! Messages of the broker of QoS 1 and 2, from their arrival to their acknowledgement. That may take
//! a while, and a connection may break meanwhile: the broker gives the message again then, which is
//! not to be handled twice (MQTT 5 section 4.4).

use std::collections::{BTreeMap, VecDeque};

use super::wire::{Delivery, PacketId};
use crate::mqtt::Origin;

/// Messages without acknowledgement at most: each has a packet identifier of its own.
const OPEN_MAX: usize = 65_535;

/// Acknowledgements that are remembered, since the broker may not have got them.
const ACKNOWLEDGED_MAX: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    last: u64,
    /// Of this connection, oldest first: they are acknowledged in this order (MQTT 5 section 4.6).
    open: VecDeque<Open>,
    /// Acknowledged on this connection.
    acknowledged: VecDeque<(PacketId, Before)>,
    /// What the broker may give again, from connections before.
    before: BTreeMap<PacketId, Before>,
}

/// A message that has no acknowledgement yet.
#[derive(Debug)]
struct Open {
    id: PacketId,
    qos: u8,
    message: Before,
}

/// What is known of a message.
#[derive(Debug, Clone, Copy)]
struct Before {
    /// Names it as long as the process lives.
    number: u64,
    digest: u64,
    handled: bool,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is to be handled.
    New,
    /// It was, or is on the way.
    Known,
    /// The broker sends more than it may.
    TooMany,
}

impl Inbox {
    /// Messages that a process before has taken.
    pub(super) fn remember(&mut self, origins: &[Origin]) {
        for origin in origins {
            if let Some(id) = PacketId::new(origin.id) {
                let message = Before {
                    number: 0,
                    digest: origin.digest,
                    handled: true,
                };
                self.before.insert(id, message);
            }
        }
    }

    /// A connection stands; `present`: the broker has our session.
    pub(super) fn begin(&mut self, present: bool) {
        let acknowledged = self.acknowledged.drain(..);
        let open = self.open.drain(..).map(|open| (open.id, open.message));
        if present {
            self.before.extend(acknowledged.chain(open));
        } else {
            acknowledged.chain(open).for_each(drop);
            self.before.clear();
        }
    }

    /// A message of QoS 1 or 2 has come.
    pub(super) fn arrive(&mut self, id: PacketId, delivery: &Delivery) -> Arrival {
        if self.open.len() >= OPEN_MAX {
            return Arrival::TooMany;
        }
        let digest = digest(delivery);
        // A new message may have the identifier of an old one.
        let before = self.before.remove(&id);
        let known = before.filter(|it| delivery.again && it.digest == digest);
        let message = known.unwrap_or_else(|| {
            self.last += 1;
            Before {
                number: self.last,
                digest,
                handled: false,
            }
        });
        let qos = delivery.qos;
        self.open.push_back(Open { id, qos, message });
        match known {
            Some(_) => Arrival::Known,
            None => Arrival::New,
        }
    }

    /// The number of the message with this identifier that came last.
    pub(super) fn number(&self, id: PacketId) -> Option<u64> {
        let mut open = self.open.iter().rev();
        open.find(|open| open.id == id)
            .map(|open| open.message.number)
    }

    /// A message is handled.
    pub(super) fn handled(&mut self, number: u64) {
        let open = self.open.iter_mut().map(|open| &mut open.message);
        let mut all = open.chain(self.before.values_mut());
        if let Some(message) = all.find(|message| message.number == number) {
            message.handled = true;
        }
    }

    /// The next one to be acknowledged, and its QoS.
    pub(super) fn next(&mut self) -> Option<(PacketId, u8)> {
        if !self.open.front()?.message.handled {
            return None;
        }
        let Open { id, qos, message } = self.open.pop_front()?;
        if self.acknowledged.len() >= ACKNOWLEDGED_MAX {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back((id, message));
        Some((id, qos))
    }

    /// Whether everything that came is acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

/// Tells messages apart (FNV-1a, which is the same in each release: it is stored).
fn digest(delivery: &Delivery) -> u64 {
    let topic = delivery.topic.as_bytes().iter();
    let bytes = topic.chain(&[0]).chain(&delivery.payload);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What tells a message from others, over connections and starts.
pub(super) fn origin(delivery: &Delivery) -> Option<Origin> {
    let id = delivery.id?;
    Some(Origin {
        id: id.get(),
        digest: digest(delivery),
        again: delivery.again,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    fn delivery(number: u16, payload: &'static str, again: bool) -> Delivery {
        Delivery {
            topic: "t".to_owned(),
            payload: Bytes::from(payload),
            id: Some(id(number)),
            qos: 1,
            again,
            expiry: None,
            reply: None,
        }
    }

    fn arrive(inbox: &mut Inbox, number: u16, payload: &'static str, again: bool) -> Arrival {
        inbox.arrive(id(number), &delivery(number, payload, again))
    }

    #[test]
    fn acknowledged_in_the_order_of_arrival() {
        let mut inbox = Inbox::default();
        for number in 1..=3 {
            assert_eq!(arrive(&mut inbox, number, "x", false), Arrival::New);
        }
        let numbers: Vec<u64> = (1..=3).filter_map(|it| inbox.number(id(it))).collect();
        inbox.handled(numbers[2]);
        inbox.handled(numbers[1]);
        assert_eq!(inbox.next(), None);
        inbox.handled(numbers[0]);
        let order: Vec<_> = std::iter::from_fn(|| inbox.next()).collect();
        assert_eq!(order, [(id(1), 1), (id(2), 1), (id(3), 1)]);
        assert!(inbox.is_idle());
    }

    #[test]
    fn what_is_given_again_is_handled_once() {
        let mut inbox = Inbox::default();
        arrive(&mut inbox, 1, "under way", false);
        arrive(&mut inbox, 2, "handled while away", false);
        let numbers = [inbox.number(id(1)).unwrap(), inbox.number(id(2)).unwrap()];
        inbox.begin(true);
        inbox.handled(numbers[1]);
        assert_eq!(
            arrive(&mut inbox, 2, "handled while away", true),
            Arrival::Known
        );
        assert_eq!(arrive(&mut inbox, 1, "under way", true), Arrival::Known);
        assert_eq!(inbox.next(), Some((id(2), 1)));
        assert_eq!(inbox.next(), None);
        inbox.handled(numbers[0]);
        assert_eq!(inbox.next(), Some((id(1), 1)));
        // The acknowledgement may have been lost with the connection.
        inbox.begin(true);
        assert_eq!(arrive(&mut inbox, 1, "under way", true), Arrival::Known);
        assert_eq!(inbox.next(), Some((id(1), 1)));
    }

    #[test]
    fn what_is_new_is_no_old_one() {
        let mut inbox = Inbox::default();
        arrive(&mut inbox, 1, "x", false);
        inbox.begin(true);
        assert_eq!(arrive(&mut inbox, 1, "x", false), Arrival::New, "not again");
        inbox.begin(true);
        assert_eq!(arrive(&mut inbox, 1, "y", true), Arrival::New, "another");
        inbox.begin(false);
        assert_eq!(arrive(&mut inbox, 1, "y", true), Arrival::New, "forgotten");
    }

    #[test]
    fn what_a_process_before_has_taken_is_known() {
        let taken = origin(&delivery(5, "x", false)).unwrap();
        let mut inbox = Inbox::default();
        inbox.remember(&[taken]);
        inbox.begin(true);
        assert_eq!(arrive(&mut inbox, 5, "x", true), Arrival::Known);
        assert_eq!(inbox.next(), Some((id(5), 1)));
        assert_eq!(arrive(&mut inbox, 6, "x", true), Arrival::New);
    }
}
