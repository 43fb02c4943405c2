//! Heap and resident memory of registered and observed devices, counted by the allocator.

// A report for people; the allocator only counts and passes everything on.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]
#![allow(missing_docs, unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::Fleet;

const DEVICES: usize = 50_000;

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap and resident bytes now.
fn measure() -> (usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (LIVE.load(Ordering::Relaxed), pages * 4096)
}

fn main() {
    let mut fleet = Fleet::new();
    (0..DEVICES).for_each(|index| fleet.add(index));
    // Room for what the devices of this program remember, so that only the engine grows.
    let datagrams: Vec<_> = (0..DEVICES)
        .map(|index| fleet.register_datagram(index))
        .collect();
    fleet.devices.iter_mut().for_each(|device| {
        device.location = "x".repeat(11);
    });
    println!("Device: {} B", size_of::<lwm2m_gateway::engine::Device>());
    let empty = measure();
    let report = |what: &str| {
        let now = measure();
        let per_device = |now: usize, empty: usize| now.saturating_sub(empty) / DEVICES;
        println!(
            "{what:<38} heap {:>5} B, resident {:>5} B a device",
            per_device(now.0, empty.0),
            per_device(now.1, empty.1)
        );
    };
    for (index, datagram) in datagrams.iter().enumerate() {
        let answer = fleet.exchange(index, datagram);
        fleet.take_location(index, &answer);
    }
    report("registered");
    fleet.pass(Duration::from_secs(300));
    report("registered, replies forgotten");
    for index in 0..DEVICES {
        fleet.observe(index, "/3/0/9", &[0xc1, 0x09, 0x64]);
    }
    report("with one observation");
}
