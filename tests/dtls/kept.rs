//! DTLS sessions that outlive the process: whenever it is killed, no number of a record is used twice,
//! and what a device sends afterwards is understood.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;

use crate::support::{Client, ClientOptions, OpensslClient, World, address, connect, options};
use lwm2m_gateway::dtls::{
    CloseReason, Context, Options, Output, SavedSession, SendError, SessionId,
};
use proptest::prelude::*;

/// Numbers that are set aside at once, and how far the saved edge may be behind.
const SPAN: u64 = 1 << 16;
const LAG: usize = 32;

/// A server with a disk: what was asked to be kept, and what is on it.
struct Machine {
    context: Arc<Context>,
    world: World,
    session: SessionId,
    wanted: Option<(SavedSession, bool)>,
    disk: Option<SavedSession>,
    at: u32,
    client: OpensslClient,
    /// Numbers of all records that the server has ever sent.
    used: HashSet<u64>,
    /// All records of the client, and how many there were when what is wanted, or on the disk, was saved.
    records: Vec<Vec<u8>>,
    before_wanted: usize,
    on_disk: usize,
}

impl Machine {
    fn new(id: Option<&'static [u8]>) -> Self {
        let context = Arc::new(Context::new(&options()).unwrap());
        let mut world = World::with_context(context.clone());
        world.server.begin_keeping();
        let mut client = OpensslClient::new(ClientOptions {
            id,
            ..ClientOptions::default()
        });
        connect(&mut world, &mut client, address(1));
        let session = world.server.session_at(address(1)).unwrap();
        let mut machine = Self {
            context,
            world,
            session,
            wanted: None,
            disk: None,
            at: 1,
            client,
            used: HashSet::from([0]),
            records: Vec::new(),
            before_wanted: 0,
            on_disk: 0,
        };
        machine.look();
        assert!(machine.wanted.is_some(), "kept from its beginning");
        machine
    }

    /// What came out of the server: payloads.
    fn look(&mut self) -> Vec<Vec<u8>> {
        for (_, datagram) in self.world.sent.drain(..) {
            let number: [u8; 8] = datagram[3..11].try_into().unwrap();
            let number = u64::from_be_bytes(number);
            assert!(self.used.insert(number), "{number:x} was used twice");
            self.client.handle_datagram(&datagram);
        }
        let mut payloads = Vec::new();
        let events: Vec<_> = self.world.events.drain(..).collect();
        for event in events {
            match event {
                Output::Received { payload, .. } => payloads.push(payload),
                Output::Keep { is_awaited, .. } => {
                    let awaited = self.wanted.take().is_some_and(|(_, awaited)| awaited);
                    let saved = self.world.server.save(self.session).unwrap();
                    self.wanted = Some((saved, is_awaited || awaited));
                    self.before_wanted = self.records.len();
                }
                Output::Closed { .. } => panic!("closed"),
                _ => {}
            }
        }
        payloads
    }

    fn up(&mut self) {
        self.client.send(b"up");
        let record = self.client.take_sent().remove(0);
        self.world.datagram(address(self.at), &record);
        self.records.push(record);
        assert_eq!(self.look(), [b"up"]);
    }

    fn down(&mut self) -> Result<(), SendError> {
        let now = self.world.now();
        let sent = self.world.server.send_to(now, self.session, b"down");
        self.world.drain();
        self.look();
        sent
    }

    /// As many records as come quickly, of which the device gets none.
    fn rush(&mut self, count: u32) {
        let now = self.world.now();
        for _ in 0..count {
            // Without numbers that are set aside on the disk there is none.
            if self
                .world
                .server
                .send_to(now, self.session, b"down")
                .is_err()
            {
                break;
            }
        }
        self.world.drain();
        let sent: Vec<_> = self.world.sent.drain(..).collect();
        for (_, datagram) in sent {
            let number: [u8; 8] = datagram[3..11].try_into().unwrap();
            let number = u64::from_be_bytes(number);
            assert!(self.used.insert(number), "{number:x} was used twice");
        }
        self.look();
    }

    fn commit(&mut self) {
        if let Some((saved, is_awaited)) = self.wanted.take() {
            if is_awaited {
                self.world.server.note_kept(self.session, saved.reserved());
            }
            self.disk = Some(saved);
            self.on_disk = self.before_wanted;
        }
    }

    /// The process ends at once, and another one begins; false when nothing of it was on the disk.
    fn kill(&mut self) -> bool {
        self.wanted = None;
        self.world = World::with_context(self.context.clone());
        self.world.server.begin_keeping();
        let Some(saved) = &mut self.disk else {
            return false;
        };
        saved.skip();
        let now = self.world.now();
        let session = self
            .world
            .server
            .restore(now, saved.address.into(), saved, None);
        self.session = session.unwrap();
        self.world.drain();
        let event = self.world.events.pop_front();
        assert!(matches!(
            event,
            Some(Output::Established { resumed: true, .. })
        ));
        // It need not be written again before its numbers are used up.
        self.look();
        true
    }

    /// Sends again what the client has sent so far; returns how much of it was taken.
    fn replay(&mut self) -> usize {
        for record in self.records.clone() {
            self.world.datagram(address(99), &record);
        }
        self.look().len()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Up(u8),
    Down(u16),
    Rush(u32),
    Commit,
    Kill,
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..50).prop_map(Step::Up),
        4 => (1u16..300).prop_map(Step::Down),
        1 => (1u32..12_000).prop_map(Step::Rush),
        3 => Just(Step::Commit),
        2 => Just(Step::Kill),
        1 => Just(Step::Move),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn killed_between_any_two_records(steps in proptest::collection::vec(step(), 1..40)) {
        let mut machine = Machine::new(Some(b""));
        for step in steps {
            match step {
                Step::Up(count) => (0..count).for_each(|_| machine.up()),
                Step::Down(count) => {
                    for _ in 0..count {
                        // What is not set aside on the disk is not used.
                        let sent = machine.down();
                        prop_assert!(matches!(sent, Ok(()) | Err(SendError::NoSession)));
                    }
                }
                Step::Rush(count) => machine.rush(count),
                Step::Commit => machine.commit(),
                Step::Kill => {
                    if !machine.kill() {
                        return Ok(());
                    }
                    // The device speaks on, and where it is told so.
                    machine.up();
                    prop_assert_eq!(machine.down(), Ok(()));
                    let received = machine.client.take_received();
                    prop_assert_eq!(received.last().unwrap(), b"down");
                    // What came after the edge was saved last, at most, and once.
                    let later = machine.records.len() - machine.on_disk;
                    prop_assert!(machine.replay() <= later);
                    prop_assert_eq!(machine.replay(), 0);
                }
                Step::Move => machine.at += 1,
            }
        }
    }
}

#[test]
fn after_a_kill_few_records_can_be_replayed_and_none_from_before_the_saved_edge() {
    let mut machine = Machine::new(Some(b""));
    for _ in 0..200 {
        machine.up();
        machine.commit();
    }
    assert!(machine.kill());
    let taken = machine.replay();
    assert!(taken < LAG, "{taken}");
    assert_eq!(machine.replay(), 0);
    // After an orderly end none.
    machine.up();
    machine.wanted = Some((machine.world.server.save(machine.session).unwrap(), false));
    machine.commit();
    assert!(machine.kill());
    assert_eq!(machine.replay(), 0);
}

#[test]
fn numbers_that_are_not_set_aside_on_the_disk_are_not_used() {
    let mut machine = Machine::new(None);
    machine.commit();
    let mut sent = 0;
    while machine.down().is_ok() {
        sent += 1;
        machine.client.take_received();
    }
    assert_eq!(sent, SPAN - 1);
    // The session lives on; only its numbers wait for the disk.
    machine.up();
    machine.commit();
    assert_eq!(machine.down(), Ok(()));
    assert!(machine.kill());
    assert_eq!(machine.down(), Ok(()));
}

#[test]
fn an_orderly_end_says_nothing_to_devices_whose_sessions_are_kept() {
    let mut machine = Machine::new(Some(b""));
    let mut other = OpensslClient::new(ClientOptions {
        suites: "ECDHE-PSK-CHACHA20-POLY1305",
        ..ClientOptions::default()
    });
    connect(&mut machine.world, &mut other, address(5));
    machine.world.events.clear();
    let now = machine.world.now();
    machine.world.server.suspend(now);
    machine.world.drain();
    assert_eq!(
        machine.world.closed(),
        Some((address(5), CloseReason::Local))
    );
    let to: Vec<_> = machine.world.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [address(5)]);
}

#[test]
fn a_session_whose_suite_is_switched_off_does_not_come_back() {
    let mut machine = Machine::new(Some(b""));
    machine.commit();
    let suites = vec![lwm2m_gateway::config::CipherSuite::PskAes128GcmSha256];
    let mut world = World::new(&Options {
        suites,
        ..options()
    });
    let saved = machine.disk.unwrap();
    let now = world.now();
    assert_eq!(
        world
            .server
            .restore(now, saved.address.into(), &saved, None),
        None
    );
    assert_eq!(world.server.sessions(), 0);
}
