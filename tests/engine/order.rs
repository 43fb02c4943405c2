//! Commands for a device that goes from shard to shard while they are on their way: each is sent
//! once, in the order of receipt, and none is refused for a device that is registered throughout.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::time::Duration;

use proptest::prelude::*;

use crate::support::{World, peer, uri};
use lwm2m_gateway::bridge::Dialect;
use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::engine::{CommandInput, Handoff, Peer};

const SHARDS: u16 = 3;

/// More than anything takes that comes to an end.
const MAX_TURNS: usize = 100_000;

struct Restless {
    world: World,
    mid: u16,
    /// The next address; its shard is the port's remainder.
    round: u16,
    commands: usize,
    /// Commands by their number, as they were sent first.
    sent: Vec<usize>,
    /// Whether it answers while it moves.
    answers: bool,
}

fn shard_of(peer: Peer) -> usize {
    usize::from(peer.address.port() % SHARDS)
}

impl Restless {
    fn new(answers: bool) -> Self {
        let mut world = World::sharded(SHARDS, |config| {
            config.queue.max_commands = 1000;
        });
        world.hold_handoffs = true;
        let mut restless = Self {
            world,
            mid: 0,
            round: 1000,
            commands: 0,
            sent: Vec::new(),
            answers,
        };
        restless.register(0);
        restless
    }

    /// From a new address that the kernel gives to this shard.
    fn register(&mut self, shard: usize) {
        self.mid += 1;
        self.round += 1;
        let from = peer(self.round * SHARDS + shard as u16);
        let mut request = Builder::new(MessageType::Confirmable, Code::POST, self.mid, b"r")
            .option(option::URI_PATH, *b"rd");
        for query in ["ep=ep", "lt=300", "lwm2m=1.1", "b=U"] {
            request = request.option(option::URI_QUERY, query);
        }
        let request = request.payload(*b"</1/0>,</3/0>").build();
        self.world.datagram_at(shard, from, &request);
        self.collect(self.answers);
    }

    /// Leaves a command in the mailbox of the shard that has the device.
    fn command(&mut self) {
        self.commands += 1;
        let number = self.commands;
        let json = format!(
            r#"{{"reqID":{number},"msgType":"write","data":{{"path":"/3/{number}/14","type":"String","value":"x"}}}}"#
        );
        let directory = self.world.directory.clone();
        directory.route("ep", |shard, order| {
            let input = CommandInput {
                order,
                endpoint: "ep".into(),
                mount: "lwm2m/ep/".into(),
                dialect: Dialect::Current,
                payload: json.into_bytes(),
                expiry: None,
                origin: None,
                reply: None,
            };
            let mailbox = &mut self.world.held[usize::from(shard.expect("it is registered"))];
            mailbox.push_back(Handoff::Command { input, hops: 0 });
        });
    }

    fn hand_over(&mut self, shard: usize) -> bool {
        let moved = self.world.hand_over(shard);
        self.collect(self.answers);
        moved
    }

    fn hand_over_all(&mut self) {
        for _ in 0..MAX_TURNS {
            if !(0..usize::from(SHARDS)).any(|shard| self.hand_over(shard)) {
                return;
            }
        }
        panic!("handoffs go round in circles");
    }

    /// Takes what was sent to the device.
    fn collect(&mut self, answers: bool) {
        while let Some((to, datagram)) = self.world.sent.pop_front() {
            let request = Message::parse(&datagram).unwrap();
            if !request.code().is_request() {
                continue;
            }
            let path = uri(&request);
            let number = path.split('/').nth(2).unwrap().parse().unwrap();
            if !self.sent.contains(&number) {
                self.sent.push(number);
            }
            if answers {
                let kind = MessageType::Acknowledgement;
                let answer = Builder::new(kind, Code::CHANGED, request.mid(), request.token());
                self.world.datagram_at(shard_of(to), to, &answer.build());
            }
        }
    }

    /// It stays where it is, and answers.
    fn settle(&mut self) {
        self.hand_over_all();
        self.answers = true;
        for _ in 0..20 {
            self.world.pass(Duration::from_secs(1));
            self.collect(true);
            self.hand_over_all();
        }
    }

    fn check(&self) {
        let all: Vec<usize> = (1..=self.commands).collect();
        assert_eq!(self.sent, all, "in order of receipt");
        let mut answered: Vec<u64> = Vec::new();
        for published in &self.world.published {
            let json = &published.json;
            if let Some(number) = json["reqID"].as_u64()
                && json["msgType"] != "ack"
            {
                assert_eq!(json["data"]["code"], "2.04", "{json}");
                answered.push(number);
            }
        }
        answered.sort_unstable();
        let all: Vec<u64> = (1..=self.commands as u64).collect();
        assert_eq!(answered, all, "each once");
    }
}

#[test]
fn c4_a_command_follows_a_device_that_is_faster_for_long() {
    let mut device = Restless::new(true);
    device.register(1);
    device.command();
    for round in 0..60 {
        let (here, there) = (round % 2, (round + 1) % 2);
        // The device leaves, and is wanted back before the command can follow it.
        assert!(device.hand_over(here));
        device.register(here);
        assert!(device.hand_over(here), "the command");
        assert!(device.hand_over(there), "the device");
    }
    assert_eq!(device.sent, [0; 0]);
    device.settle();
    device.check();
}

#[test]
fn c4_a_command_that_came_directly_waits_for_one_that_follows() {
    let mut device = Restless::new(true);
    device.register(1);
    // Both shards have handled the move; the first command is still in the mailbox of the old one.
    assert!(device.hand_over(0));
    device.command();
    assert!(device.hand_over(1));
    device.command();
    assert!(device.hand_over(1), "the second command");
    assert_eq!(device.sent, [0; 0]);
    device.settle();
    device.check();
}

#[test]
fn c7_a_command_does_not_wait_for_ever_for_others() {
    let mut device = Restless::new(true);
    device.register(1);
    assert!(device.hand_over(0));
    assert!(device.hand_over(1));
    device.command();
    assert!(device.hand_over(1));
    // Shard 0 says nothing.
    device.world.pass(Duration::from_millis(1999));
    device.collect(true);
    assert_eq!(device.sent, [0; 0]);
    device.world.pass(Duration::from_millis(1));
    device.collect(true);
    assert_eq!(device.sent, [1]);
    device.settle();
    device.check();
}

#[test]
fn c7_a_move_without_commands_says_nothing_more() {
    let mut device = Restless::new(true);
    device.register(1);
    assert!(device.hand_over(0), "the device is asked for");
    assert!(device.hand_over(1), "and comes");
    let held: usize = device.world.held.iter().map(|it| it.len()).sum();
    assert_eq!(held, 0);
}

proptest! {
    #[test]
    fn c4_commands_keep_their_order_wherever_their_device_goes(
        answers: bool,
        steps in prop::collection::vec((0..10u8, 0..usize::from(SHARDS)), 0..200),
    ) {
        let mut device = Restless::new(answers);
        for (step, shard) in steps {
            match step {
                0..2 => device.register(shard),
                2..5 => device.command(),
                _ => {
                    device.hand_over(shard);
                }
            }
        }
        device.settle();
        device.check();
    }
}
