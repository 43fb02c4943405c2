//! A session against a model of a broker, over connections that break at any moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::session::{Fact, IN_FLIGHT, Session};
use super::wire::{Codec, Delivery, Incoming, Message, Outgoing, PacketId, Version, Welcome};

fn message(number: usize, qos: u8) -> Message {
    Message {
        topic: Bytes::from_static(b"t"),
        payload: Bytes::from(number.to_string()),
        qos,
        retain: false,
        correlation: None,
    }
}

fn welcome(session_present: bool) -> Welcome {
    Welcome {
        session_present,
        receive_max: u16::MAX,
        max_qos: 2,
        max_packet: None,
        retains: true,
        keepalive: None,
    }
}

fn number(message: &Message) -> usize {
    std::str::from_utf8(&message.payload)
        .unwrap()
        .parse()
        .unwrap()
}

/// A broker's side of the session (MQTT 5 section 4.3).
#[derive(Default)]
struct Broker {
    /// New messages in the order in which they came.
    got: Vec<usize>,
    /// Packet identifiers of QoS 2 messages that are not released.
    received: BTreeSet<PacketId>,
    /// Answers on their way.
    answers: VecDeque<Incoming>,
    /// Packets in a row that were no packet of a client.
    repeated: usize,
}

impl Broker {
    fn take(&mut self, packet: Outgoing) {
        match packet {
            Outgoing::Publish { id, message, again } => {
                let number = number(&message);
                let new = match (message.qos, id) {
                    (0, None) => true,
                    (1, Some(id)) => {
                        self.answers.push_back(Incoming::Acknowledged(id, None));
                        true
                    }
                    (2, Some(id)) => {
                        self.answers.push_back(Incoming::Received(id, None));
                        self.received.insert(id)
                    }
                    other => panic!("{other:?}"),
                };
                if new && self.got.contains(&number) {
                    assert!(again || message.qos > 0);
                    self.repeated += 1;
                } else if new {
                    self.got.push(number);
                }
            }
            Outgoing::Release(id) => {
                self.received.remove(&id);
                self.answers.push_back(Incoming::Complete(id));
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    /// Nothing is lost, the order of first arrivals is kept, QoS 2 comes once while the broker
    /// keeps the session, and each message is settled once.
    #[test]
    fn every_message_arrives(
        qos in proptest::collection::vec(1u8..=2, 1..400),
        // Packets until the next break, how many of those on their way arrive, session kept.
        breaks in proptest::collection::vec((0usize..300, 0usize..40, any::<bool>()), 0..6),
        window in 1u16..20,
    ) {
        let mut session = Session::default();
        let mut broker = Broker::default();
        let mut settled = 0;
        let mut lost_a_session = false;
        let mut next = 0;
        let mut line = VecDeque::new();
        let mut breaks = breaks.into_iter();
        let mut until_break = breaks.next();
        let mut wanted = BTreeMap::new();
        wanted.insert("f".to_owned(), 1);
        let begin = Welcome { receive_max: window, ..welcome(false) };
        let (first, _) = session.resume(&begin, &BTreeMap::new());
        prop_assert!(first.is_empty());
        let mut steps = 0;
        while settled < qos.len() {
            steps += 1;
            prop_assert!(steps < 20_000, "no end");
            while next < qos.len() && session.room() > 0 {
                line.push_back(session.publish(message(next, qos[next])).unwrap());
                next += 1;
            }
            if let Some((left, arrive, kept)) = &mut until_break {
                if *left == 0 {
                    for packet in line.drain(..).take(*arrive) {
                        broker.take(packet);
                    }
                    line.clear();
                    broker.answers.clear();
                    if !*kept {
                        broker.received.clear();
                        lost_a_session = true;
                    }
                    let again = Welcome { receive_max: window, ..welcome(*kept) };
                    let (first, done) = session.resume(&again, &wanted);
                    settled += done.len();
                    prop_assert!(matches!(first[0], Outgoing::Subscribe(..)));
                    line.extend(first.into_iter().skip(1));
                    until_break = breaks.next();
                    continue;
                }
                *left -= 1;
            }
            if let Some(packet) = line.pop_front() {
                broker.take(packet);
            } else if let Some(answer) = broker.answers.pop_front() {
                for fact in session.handle(answer) {
                    match fact {
                        Fact::Send(packet) => line.push_back(packet),
                        Fact::Settled(_) => settled += 1,
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            } else {
                prop_assert!(false, "{settled} settled of {next}, and nothing on its way");
            }
        }
        prop_assert_eq!(settled, qos.len());
        prop_assert!(session.is_idle());
        let all: Vec<_> = (0..qos.len()).collect();
        prop_assert_eq!(&broker.got, &all);
        if !lost_a_session && qos.iter().all(|qos| *qos == 2) {
            prop_assert_eq!(broker.repeated, 0);
        }
    }

    /// Whatever the broker sends, the session neither panics nor grows beyond its window.
    #[test]
    fn any_packets(packets in proptest::collection::vec(any_incoming(), 0..200)) {
        let mut session = Session::default();
        session.resume(&welcome(true), &BTreeMap::new());
        for (n, packet) in packets.into_iter().enumerate() {
            if session.room() > 0 {
                session.publish(message(n, 2));
            }
            for fact in session.handle(packet) {
                if let Fact::Command(delivery) = fact {
                    handled(&mut session, &delivery);
                }
            }
            prop_assert!(session.room() <= usize::from(IN_FLIGHT));
        }
    }

    /// Any bytes: an error, or packets; never a panic.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut codec = Codec::new(Version::V5, 10_000);
        let mut input = BytesMut::from(&bytes[..]);
        for _ in 0..=bytes.len() {
            match codec.read(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        prop_assert!(false, "more packets than bytes");
    }

    /// Bytes that look like packets of a broker.
    #[test]
    fn any_body(kind in 0u8..16, flags in 0u8..16, body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut input = BytesMut::from(&[kind << 4 | flags, u8::try_from(body.len()).unwrap()][..]);
        input.extend_from_slice(&body);
        let _ = Codec::new(Version::V5, 10_000).read(&mut input);
    }
}

fn any_incoming() -> impl Strategy<Value = Incoming> {
    let id = || (1u16..40).prop_map(|id| NonZeroU16::new(id).unwrap());
    let objection = || proptest::option::weighted(0.2, Just("no".to_owned()));
    prop_oneof![
        (id(), objection()).prop_map(|(id, no)| Incoming::Acknowledged(id, no)),
        (id(), objection()).prop_map(|(id, no)| Incoming::Received(id, no)),
        id().prop_map(Incoming::Release),
        id().prop_map(Incoming::Complete),
        id().prop_map(|id| Incoming::Subscribed(id, vec![None; 3])),
        id().prop_map(Incoming::Unsubscribed),
        (id(), 1u8..=2).prop_map(|(id, qos)| Incoming::Publish(delivery(Some(id), qos))),
        Just(Incoming::Publish(delivery(None, 0))),
        Just(Incoming::Pong),
    ]
}

fn handled(session: &mut Session, delivery: &Delivery) -> Option<Outgoing> {
    if let Some(number) = session.number_of(delivery) {
        session.handled(number);
    }
    session.acknowledge()
}

fn delivery(id: Option<PacketId>, qos: u8) -> Delivery {
    Delivery {
        topic: "d".to_owned(),
        payload: Bytes::new(),
        id,
        qos,
        again: false,
        expiry: None,
        reply: None,
    }
}

#[test]
fn c8_a_command_is_acknowledged_only_when_it_is_handled() {
    let mut session = Session::default();
    session.resume(&welcome(false), &BTreeMap::new());
    for (id, qos) in [(7, 1), (8, 2)] {
        let command = delivery(NonZeroU16::new(id), qos);
        let facts = session.handle(Incoming::Publish(command.clone()));
        assert_eq!(facts, [Fact::Command(command.clone())]);
        assert_eq!(session.acknowledge(), None);
        let acknowledgement = handled(&mut session, &command).unwrap();
        match qos {
            1 => assert_eq!(acknowledgement, Outgoing::Acknowledge(command.id.unwrap())),
            _ => assert_eq!(acknowledgement, Outgoing::Received(command.id.unwrap())),
        }
    }
    // QoS 2 comes once, however often it is sent.
    let again = delivery(NonZeroU16::new(8), 2);
    let id = again.id.unwrap();
    let facts = session.handle(Incoming::Publish(again.clone()));
    assert_eq!(facts, [Fact::Send(Outgoing::Received(id))]);
    session.resume(&welcome(true), &BTreeMap::new());
    let facts = session.handle(Incoming::Publish(again.clone()));
    assert_eq!(facts, [Fact::Send(Outgoing::Received(id))]);
    let facts = session.handle(Incoming::Release(id));
    assert_eq!(facts, [Fact::Send(Outgoing::Complete(id))]);
    let facts = session.handle(Incoming::Publish(again.clone()));
    assert_eq!(facts, [Fact::Command(again)]);
}

#[test]
fn c8_a_paused_session_leaves_commands_with_the_broker() {
    let mut session = Session::default();
    session.resume(&welcome(false), &BTreeMap::new());
    let taken = delivery(NonZeroU16::new(2), 2);
    session.handle(Incoming::Publish(taken.clone()));
    handled(&mut session, &taken);
    session.pause();
    for qos in [1, 2] {
        let command = delivery(NonZeroU16::new(9), qos);
        assert_eq!(session.handle(Incoming::Publish(command)), []);
    }
    // What began before comes to its end, and what the broker would not keep is still taken.
    let id = taken.id.unwrap();
    let facts = session.handle(Incoming::Release(id));
    assert_eq!(facts, [Fact::Send(Outgoing::Complete(id))]);
    let facts = session.handle(Incoming::Publish(delivery(None, 0)));
    assert_eq!(facts, [Fact::Command(delivery(None, 0))]);
}

#[test]
fn what_the_broker_does_not_take_is_told() {
    let mut session = Session::default();
    session.resume(&welcome(false), &BTreeMap::new());
    let Some(Outgoing::Publish { id: Some(one), .. }) = session.publish(message(1, 1)) else {
        panic!("no packet");
    };
    let Some(Outgoing::Publish { id: Some(two), .. }) = session.publish(message(2, 2)) else {
        panic!("no packet");
    };
    for packet in [
        Incoming::Acknowledged(one, Some("NotAuthorized".to_owned())),
        Incoming::Received(two, Some("QuotaExceeded".to_owned())),
    ] {
        let facts = session.handle(packet.clone());
        assert!(
            matches!(&facts[..], [Fact::Rejected(_, Some(topic), _)] if !topic.is_empty()),
            "{packet:?}"
        );
        assert_eq!(session.handle(packet), [], "only once");
    }
    assert!(session.is_idle());
    let filters = vec![("a".to_owned(), 1), ("b".to_owned(), 1)];
    let Some(Outgoing::Subscribe(id, _)) = session.subscribe(filters) else {
        panic!("no packet");
    };
    let codes = vec![None, Some("NotAuthorized".to_owned())];
    let refused = Fact::FilterRefused("b".to_owned(), "NotAuthorized".to_owned());
    assert_eq!(session.handle(Incoming::Subscribed(id, codes)), [refused]);
}

#[test]
fn the_broker_may_allow_less() {
    let mut session = Session::default();
    let small = Welcome {
        receive_max: 3,
        max_qos: 1,
        ..welcome(false)
    };
    session.resume(&small, &BTreeMap::new());
    for left in [2, 1, 0] {
        let packet = session.publish(message(left, 2)).unwrap();
        assert!(matches!(packet, Outgoing::Publish { message, .. } if message.qos == 1));
        assert_eq!(session.room(), left);
    }
    let none = Welcome {
        max_qos: 0,
        ..welcome(true)
    };
    session.resume(&none, &BTreeMap::new());
    let packet = session.publish(message(4, 1)).unwrap();
    assert!(matches!(packet, Outgoing::Publish { id: None, .. }));
    let forgetful = Welcome {
        retains: false,
        ..welcome(true)
    };
    session.resume(&forgetful, &BTreeMap::new());
    let retained = Message {
        retain: true,
        ..message(5, 1)
    };
    let packet = session.publish(retained).unwrap();
    assert!(matches!(packet, Outgoing::Publish { message, .. } if !message.retain));
}
