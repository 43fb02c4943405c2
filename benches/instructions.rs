//! One kind of event, as often as asked, for a tool that counts instructions: see
//! `benches/instructions.sh`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs
)]

mod support;

use std::time::Duration;

use lwm2m_gateway::coap::message::{Builder, option};
use lwm2m_gateway::coap::{Code, MessageType};
use lwm2m_gateway::engine::Keeping;
use support::Fleet;

/// Devices that are there before the events.
const DEVICES: usize = 100;

/// Time between two events.
const STEP: Duration = Duration::from_millis(1);

/// A Send of one value in SenML-CBOR: `[{0: "/3/0/9", 2: 100}]`.
const SEND: &[u8] = b"\x81\xa2\x00\x66/3/0/9\x02\x18\x64";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo bench` without further arguments says how it is used.
    let [_, event, count, rest @ ..] = arguments.as_slice() else {
        println!("instructions notification|registration|update|read|send COUNT [stored]");
        return;
    };
    let Ok(count) = count.parse::<usize>() else {
        return;
    };
    let mut fleet = match event.as_str() {
        "notification" => Fleet::observed(DEVICES, "/3/0/9", &[0xc1, 0x09, 0x64]),
        _ => Fleet::registered(DEVICES),
    };
    if rest.first().is_some_and(|it| it == "stored") {
        // What the engine does for a store, without the store.
        fleet.engine.keep(Keeping {
            deadline_interval: Duration::from_secs(60),
            confirms: true,
        });
    }
    for index in 0..count {
        fleet.now = fleet.now.after(STEP);
        let device = index % DEVICES;
        match event.as_str() {
            "notification" => assert_eq!(fleet.notify(), 1),
            "registration" => {
                fleet.add(DEVICES + index);
                fleet.register(DEVICES + index);
            }
            "update" => {
                let datagram = fleet.location_datagram(device, Code::POST);
                fleet.exchange(device, &datagram);
            }
            "read" => assert_eq!(fleet.read(device), 1),
            "send" => {
                let known = &mut fleet.devices[device];
                known.mid = known.mid.wrapping_add(1);
                let peer = known.peer;
                let datagram =
                    Builder::new(MessageType::NonConfirmable, Code::POST, known.mid, &[1, 2])
                        .option(option::URI_PATH, *b"dp")
                        .uint(option::CONTENT_FORMAT, 112)
                        .payload(SEND)
                        .build();
                fleet.engine.handle_datagram(fleet.now, peer, &datagram);
                assert_eq!(fleet.drain(), 1);
            }
            other => panic!("no event {other:?}"),
        }
    }
}
