use bytes::Bytes;
use rmqtt::codec::types::Publish as MqttPublish;
use rmqtt::inflight::MomentStatus;
use rmqtt::types::SessionSubMap;

use super::super::session_file::tests::id;
use super::*;

const BOUNDS: Bounds = Bounds {
    on_disk: true,
    sessions: 2,
    messages: 3,
    bytes: 100_000,
};

fn sessions(bounds: Bounds) -> Sessions {
    let sessions = Sessions::new(bounds, Arc::default());
    sessions.connected(&id("a"), true, false);
    sessions.seen(&"a".into(), Some(record("a")), &[]);
    sessions
}

fn record(client: &'static str) -> Record {
    Record {
        id: id(client),
        connect: id(client).into(),
        created_at: 0,
        connected_at: 0,
        disconnected_at: None,
        lasts: 60,
        subscriptions: SessionSubMap::default(),
    }
}

fn message(payload: &[u8], qos: QoS) -> Publish {
    let publish = MqttPublish {
        dup: false,
        retain: false,
        qos,
        topic: "t".into(),
        packet_id: None,
        payload: Bytes::copy_from_slice(payload),
        properties: None,
    };
    Publish::new(Box::new(publish), None, None, None)
}

/// To a client whose inbox lets nothing through as long as its session moves.
fn came(sessions: &Sessions, payload: &[u8], qos: QoS) -> Came {
    let origin = Origin::from_system(id("gateway"));
    sessions.came(&"a".into(), origin, message(payload, qos), || None)
}

fn added(batch: &Batch) -> Vec<((u64, u64), Bytes)> {
    let added = batch.added.iter();
    let mut added: Vec<_> = added
        .map(|(key, _, it)| (*key, it.payload.clone()))
        .collect();
    added.sort();
    added
}

#[test]
fn what_is_not_acknowledged_by_the_commit_is_written() {
    let sessions = sessions(BOUNDS);
    sessions.leave(&"a".into());
    for payload in [b"1", b"2"] {
        assert!(matches!(
            came(&sessions, payload, QoS::AtLeastOnce),
            Came::Taken
        ));
    }
    let mut first = message(b"1", QoS::AtLeastOnce);
    first.delay_interval = Some(1);
    sessions.done(&"a".into(), &first);
    let batch = sessions.take();
    assert_eq!(added(&batch), [((1, 2), Bytes::from("2"))]);
    assert!(batch.removed.is_empty());
    // Later it is taken away again, once.
    first.delay_interval = Some(2);
    sessions.done(&"a".into(), &first);
    sessions.done(&"a".into(), &first);
    assert_eq!(sessions.take().removed, [(1, 2)]);
    assert!(sessions.take().is_empty());
    assert_eq!(sessions.inner.lock().bytes, 0);
}

#[test]
fn what_cannot_be_handed_over_is_not_kept() {
    let sessions = sessions(BOUNDS);
    assert!(matches!(
        came(&sessions, b"1", QoS::AtLeastOnce),
        Came::Failed(..)
    ));
    assert_eq!(added(&sessions.take()), []);
    assert_eq!(sessions.inner.lock().bytes, 0);
}

#[test]
fn messages_without_acknowledgement_are_kept_for_those_away_only() {
    let sessions = sessions(BOUNDS);
    sessions.leave(&"a".into());
    came(&sessions, b"1", QoS::AtMostOnce);
    assert_eq!(added(&sessions.take()), []);
    sessions.disconnected(&id("a"));
    came(&sessions, b"2", QoS::AtMostOnce);
    assert_eq!(added(&sessions.take()).len(), 1);
}

#[test]
fn messages_bytes_and_sessions_are_bounded() {
    let sessions = sessions(BOUNDS);
    sessions.leave(&"a".into());
    for number in 0..5u8 {
        came(&sessions, &[number], QoS::ExactlyOnce);
    }
    // The oldest that wait give way, and what found no room on the disk is counted.
    assert_eq!(sessions.counters.sessions_refused.get(), 1);
    let kept = [(3, 2), (4, 4)].map(|(number, it)| ((1, number), Bytes::from(vec![it])));
    assert_eq!(added(&sessions.take()), kept);
    let narrow = Bounds {
        bytes: 1000,
        ..BOUNDS
    };
    let sessions = tests::sessions(narrow);
    sessions.leave(&"a".into());
    came(&sessions, &[0; 2000], QoS::ExactlyOnce);
    assert_eq!(added(&sessions.take()), []);
    sessions.connected(&id("b"), true, false);
    sessions.connected(&id("c"), true, false);
    assert_eq!(sessions.inner.lock().tracked.len(), 2);
    assert_eq!(sessions.counters.sessions_refused.get(), 2);
}

#[test]
fn what_ends_leaves_nothing() {
    let sessions = sessions(BOUNDS);
    sessions.leave(&"a".into());
    came(&sessions, b"1", QoS::AtLeastOnce);
    sessions.take();
    sessions.ended(&id("a"));
    assert!(sessions.is_empty());
    let batch = sessions.take();
    assert!(matches!(batch.sessions.get(&1), Some(None)));
    assert_eq!(sessions.inner.lock().bytes, 0);
    // One that comes anew has another number, and one of which nothing was written leaves none.
    sessions.connected(&id("a"), true, false);
    sessions.connected(&id("a"), false, false);
    assert!(sessions.take().is_empty());
}

#[test]
fn marks_find_their_number_after_four_billion_messages() {
    let mut tracked = Tracked::new(1, &id("a"));
    for next in [2, u64::from(u32::MAX) - 1, u64::from(u32::MAX) + 5, 1 << 40] {
        tracked.next = next;
        for number in next.saturating_sub(10).max(1)..next {
            assert_eq!(tracked.number_of(Some(mark(number))), Some(number));
        }
    }
    assert_eq!(tracked.number_of(None), None);
}

#[test]
fn what_the_library_loses_is_put_in_again() {
    let mut tracked = Tracked::new(1, &id("a"));
    let origin = Origin::from_system(id("gateway"));
    let marked = |number: u64| {
        let mut publish = message(&[number as u8], QoS::ExactlyOnce);
        publish.delay_interval = Some(mark(number));
        publish
    };
    tracked.next = 9;
    for number in 1..9 {
        let flight = |packet_id, received| {
            Some(Flight {
                packet_id,
                received,
            })
        };
        let noted = Noted {
            bytes: 1,
            message: (origin.clone(), marked(number)),
            is_written: true,
            flight: match number {
                1 => flight(11, true),
                2 => flight(12, false),
                3 => flight(13, false),
                _ => None,
            },
        };
        tracked.messages.insert(number, noted);
    }
    let mut in_flight = marked(3);
    in_flight.packet_id = NonZeroU16::new(13);
    let queued = [marked(5), message(b"unnoted", QoS::AtMostOnce), marked(7)];
    let mut state = OfflineInfo {
        id: id("a"),
        subscriptions: Subscriptions::new(),
        offline_messages: queued.map(|it| (origin.clone(), it)).into(),
        inflight_messages: vec![OutInflightMessage::new(
            MomentStatus::UnReceived,
            origin.clone(),
            in_flight,
        )],
        created_at: 0,
    };
    let waiting = VecDeque::from([(origin, marked(8))]);
    tracked.complete(&mut state, &waiting);
    let in_flight: BTreeMap<_, _> = state
        .inflight_messages
        .iter()
        .map(|it| (it.publish.packet_id.map(NonZeroU16::get), it.status))
        .collect();
    let expected = [
        (Some(11), MomentStatus::UnComplete),
        (Some(12), MomentStatus::UnReceived),
        (Some(13), MomentStatus::UnReceived),
    ];
    assert_eq!(in_flight, BTreeMap::from(expected));
    let payloads: Vec<_> = state
        .offline_messages
        .iter()
        .map(|(_, it)| it.payload.clone())
        .collect();
    let expected: [&[u8]; 5] = [&[4], &[5], b"unnoted", &[6], &[7]];
    assert_eq!(payloads, expected);
}
