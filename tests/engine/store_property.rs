//! Any sequence of events, and the engine that is made of its changes.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::time::Duration;

use lwm2m_gateway::coap::{Code, Message};
use serde_json::json;

use super::store::{command, serve, world};
use crate::support::{Device, World};

/// What an application and a device can tell of an engine.
fn picture(world: &mut World) -> Vec<String> {
    let mut infos = world.engines[0].device_infos(world.now);
    infos.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    let stored = world.store.as_mut().map(|store| {
        let contents = lwm2m_gateway::store::Backend::load(store).unwrap();
        let tokens = contents.devices.into_iter().map(|it| it.observations);
        tokens.collect::<Vec<_>>()
    });
    let devices = infos.into_iter().map(|mut info| {
        info.idle_ms = 0;
        // One that was sent waits again, or is sent again: queues are compared command by command.
        info.queued = 0;
        format!("{info:?}")
    });
    devices.chain([format!("{stored:?}")]).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Any sequence of events, restored from its changes, gives the same engine; and every command
    /// that has no answer yet gets one.
    #[test]
    fn a_restored_engine_is_the_same(
        steps in proptest::collection::vec((0..10u8, 0..3usize, 0..4u8), 1..40)
    ) {
        let mut world = world();
        let mut devices: Vec<_> = (0..3)
            .map(|number| Device::new(&format!("dev{number}"), 5000 + number))
            .collect();
        let (mut asked, mut answers) = (0, Answers::default());
        for (step, which, detail) in steps {
            let device = &mut devices[which];
            let there = world.directory.shard_of(&device.endpoint).is_some();
            match step {
                0 => {
                    let mut before = std::mem::take(&mut world.sent);
                    device.register(&mut world, &["b=UQ"], "</1/0>,</3/0>,</3303/0>");
                    before.append(&mut world.sent);
                    world.sent = before;
                }
                1 if there => {
                    let location = device.location.clone();
                    let lifetime = format!("lt={}", 300 + u32::from(detail));
                    let query = [lifetime.as_str()];
                    let query = if detail > 1 { &query[..] } else { &[] };
                    let request = device.request(Code::POST, &["rd", &location], query);
                    world.datagram(device.peer, &request.build());
                }
                2 if there && detail == 0 => {
                    let location = device.location.clone();
                    let request = device.request(Code::DELETE, &["rd", &location], &[]);
                    world.datagram(device.peer, &request.build());
                }
                3 | 4 if there => {
                    let kinds = ["read", "execute", "observe", "cancel-observe"];
                    let kind = kinds[usize::from(detail)];
                    asked += 1;
                    let text = command(asked, kind, json!({"path": "/3303/0/5700"}));
                    let endpoint = device.endpoint.clone();
                    answers.asked(&endpoint, asked);
                    world.command(&endpoint, &text);
                }
                5 | 6 => {
                    let at = world.sent.iter().position(|(to, datagram)| {
                        let code = Message::parse(datagram).map(|it| it.code());
                        *to == device.peer && code.is_ok_and(Code::is_request)
                    });
                    if let Some(at) = at {
                        let request = world.sent.remove(at).unwrap();
                        world.sent.push_front(request);
                        serve(&mut world, device, "20");
                    }
                }
                7 => world.pass(Duration::from_secs(u64::from(detail) * 10)),
                // Somebody changes his mind about one of the last commands, or all.
                9 if there => {
                    let which = json!({"reqID": u64::from(asked.max(1)) - u64::from(detail.min(1))});
                    let data = if detail > 1 { json!({"all": true}) } else { which };
                    let text = json!({"reqID": "cancels", "msgType": "cancel", "data": data});
                    let endpoint = device.endpoint.clone();
                    world.command(&endpoint, &text.to_string());
                }
                // Some are back when the next step comes, and some are not.
                8 if detail == 0 => {
                    answers.collect(&mut world);
                    world.crash_early(Duration::ZERO, None);
                }
                8 => {
                    world.restore_rest();
                    answers.collect(&mut world);
                    let before = picture(&mut world);
                    world.crash(Duration::ZERO, None);
                    let after = picture(&mut world);
                    proptest::prop_assert_eq!(before, after);
                    answers.collect(&mut world);
                    for device in &devices {
                        let endpoint = &*device.endpoint;
                        let queue = queue(&mut world, endpoint);
                        proptest::prop_assert_eq!(queue, answers.open(endpoint), "{}", endpoint);
                    }
                }
                _ => {}
            }
        }
        world.restore_rest();
        answers.collect(&mut world);
        let before = picture(&mut world);
        world.crash(Duration::ZERO, None);
        proptest::prop_assert_eq!(before, picture(&mut world));
        answers.collect(&mut world);
        for device in &devices {
            let endpoint = &*device.endpoint;
            let queue = queue(&mut world, endpoint);
            proptest::prop_assert_eq!(queue, answers.open(endpoint), "{}", endpoint);
        }
        // Silent devices: everything that waits is answered in the end.
        world.pass(Duration::from_secs(8000));
        answers.collect(&mut world);
        for number in 1..=asked {
            let count = answers.counts.get(&number).copied().unwrap_or_default();
            proptest::prop_assert_eq!(count, 1, "answers to {}", number);
        }
    }
}

/// What an application knows: what it has asked each device, and what was answered.
#[derive(Default)]
struct Answers {
    /// By endpoint, in the order in which they were asked.
    asked: BTreeMap<String, Vec<u32>>,
    /// Final answers that are the first as far as they say.
    counts: BTreeMap<u32, u32>,
}

impl Answers {
    fn asked(&mut self, endpoint: &str, number: u32) {
        self.asked
            .entry(endpoint.to_owned())
            .or_default()
            .push(number);
    }

    fn collect(&mut self, world: &mut World) {
        for published in world.published.drain(..) {
            let json = published.json;
            let is_final = json["msgType"] != "ack" && json["msgType"] != "notify";
            if let Some(number) = json["reqID"].as_u64().filter(|_| is_final) {
                *self.counts.entry(number as u32).or_default() += 1;
            }
        }
    }

    /// What a device has not answered yet, in order.
    fn open(&self, endpoint: &str) -> Vec<u32> {
        let asked = self.asked.get(endpoint).into_iter().flatten().copied();
        asked
            .filter(|number| !self.counts.contains_key(number))
            .collect()
    }
}

/// What an engine has for a device, in its order.
fn queue(world: &mut World, endpoint: &str) -> Vec<u32> {
    if world.directory.shard_of(endpoint).is_none() {
        return Vec::new();
    }
    let text = json!({"reqID": "list", "msgType": "list-queue"}).to_string();
    world.command(endpoint, &text);
    let list = world.published.pop_back().expect("a list").json;
    assert_eq!(list["reqID"], "list");
    let commands = list["data"]["content"].as_array().expect("commands").iter();
    let number = |it: &serde_json::Value| it["reqID"].as_u64().expect("a number") as u32;
    commands.map(number).collect()
}
