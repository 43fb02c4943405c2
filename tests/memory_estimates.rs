//! What the account of memory says against what the allocator says.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking
#![allow(unsafe_code)] // an allocator that counts

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lwm2m_gateway::coap::Code;
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::memory::Kind;
use support::{Device, World};

/// Not a power of two, nor just below or above what fills a table.
const DEVICES: usize = 9_000;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    // Nothing is counted while a thread ends.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap bytes and charged bytes that `act` adds.
fn measure(world: &mut World, kind: Kind, act: impl FnOnce(&mut World)) -> (isize, isize) {
    let charged = |world: &World| {
        let audit = world.engines[0].audit();
        let found = audit.into_iter().find(|(known, ..)| *known == kind);
        found.unwrap().1.cast_signed()
    };
    let before = (LIVE.get(), charged(world));
    act(world);
    // What the test itself keeps.
    world.sent.shrink_to_fit();
    world.published.shrink_to_fit();
    world.events.clear();
    world.events.shrink_to_fit();
    world.subscribed = Vec::new();
    (LIVE.get() - before.0, charged(world) - before.1)
}

#[track_caller]
fn assert_close(what: &str, (heap, charged): (isize, isize)) {
    let percent = charged * 100 / heap;
    assert!((75..=125).contains(&percent), "{what}: charged {percent} %");
}

#[test]
fn c3_estimates_are_what_the_allocator_counts() {
    let mut world = World::with(|config| {
        // So that replies are a small part.
        config.limits.dedup_bytes = 64 << 10;
        config.queue.max_commands = 100;
    });
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|number| {
            let mut device = Device::new(&format!("urn:imei:{number:015}"), 1);
            device.peer.address.set_port(1024 + number as u16);
            device.location = "x".repeat(11);
            device
        })
        .collect();
    let registered = measure(&mut world, Kind::Registrations, |world| {
        for device in &mut devices {
            let links = "</1/0>,</3/0>,</4/0>,</5/0>,</3303/0>,</3303/1>,</6/0>";
            device.register(world, &["b=UQ", "et=abc", "sv=1.0.1"], links);
            world.published.clear();
            world.events.clear();
            world.subscribed.clear();
        }
    });
    assert_close("registrations", registered);

    let observed = measure(&mut world, Kind::Observations, |world| {
        for device in &devices {
            let json = r#"{"reqID":12345678,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#;
            world.command(&device.endpoint, json);
            let request = world.next_for(device.peer);
            let answer = device.answer(&request, Code::CONTENT);
            let answer = answer.uint(option::OBSERVE, 1).payload(*b"21.5").build();
            world.datagram(device.peer, &answer);
            world.published.clear();
        }
    });
    assert_close("observations", observed);

    let exchanges = measure(&mut world, Kind::Observations, |world| {
        for device in &devices {
            let json = r#"{"reqID":12345678,"msgType":"read","data":{"path":"/3303/0"}}"#;
            world.command(&device.endpoint, json);
            world.sent.clear();
        }
    });
    assert_close("exchanges", exchanges);

    // Each waits behind the exchange.
    let queued = measure(&mut world, Kind::Queues, |world| {
        for device in devices.iter().take(1000) {
            for _ in 0..20 {
                let json = r#"{"reqID":1,"msgType":"write","data":{"basePath":"/3/0","content":[
                    {"path":"14","type":"String","value":"+01:00"},
                    {"path":"15","type":"String","value":"Europe/Berlin"},
                    {"path":"13","type":"Time","value":1700000000}]}}"#;
                world.command(&device.endpoint, json);
            }
        }
        assert!(world.sent.is_empty() && world.published.is_empty());
    });
    assert_close("queues", queued);
}
