//! The engine alone: datagrams and commands in, effects out; no sockets, no broker.

#![allow(missing_docs)] // the macros of criterion

#[path = "support/cpu_time.rs"]
mod cpu_time;
mod support;

use std::time::Duration;

use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lwm2m_gateway::coap::Code;
use support::{DEVICE_TLV, Fleet};

const SIZES: [usize; 2] = [1, 10_000];

/// Devices are visited in an order that defeats the cache.
const STRIDE: usize = 7919;

/// Time that passes between two events.
const STEP: Duration = Duration::from_micros(1);

/// One event of some device after the other.
fn each(
    c: &mut Criterion<CpuTime>,
    name: &str,
    fleet: impl Fn(usize) -> Fleet,
    mut event: impl FnMut(&mut Fleet, usize),
) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let mut fleet = fleet(size);
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                next = (next + STRIDE) % size;
                fleet.now = fleet.now.after(STEP);
                event(&mut fleet, next);
            });
        });
    }
    group.finish();
}

fn notify(c: &mut Criterion<CpuTime>) {
    let resource = |size| Fleet::observed(size, "/3/0/9", &[0xc1, 0x09, 0x64]);
    each(c, "notify/resource", resource, |fleet, _| {
        assert_eq!(fleet.notify(), 1);
    });
    let instance = |size| Fleet::observed(size, "/3/0", DEVICE_TLV);
    each(c, "notify/instance", instance, |fleet, _| {
        assert_eq!(fleet.notify(), 1);
    });
}

fn requests(c: &mut Criterion<CpuTime>) {
    each(c, "update", Fleet::registered, |fleet, index| {
        let datagram = fleet.location_datagram(index, Code::POST);
        fleet.exchange(index, &datagram);
    });
    each(c, "read", Fleet::registered, |fleet, index| {
        assert_eq!(fleet.read(index), 1);
    });
}

/// New registrations; the devices leave again outside of the measured time.
fn register(c: &mut Criterion<CpuTime>) {
    const BATCH: usize = 1000;
    let mut group = c.benchmark_group("register");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        let mut fleet = Fleet::registered(size);
        (size..size + BATCH).for_each(|index| fleet.add(index));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_custom(|iterations| {
                let mut measured = Duration::ZERO;
                let mut left = usize::try_from(iterations).unwrap_or(usize::MAX);
                while left > 0 {
                    let batch = size..size + left.min(BATCH);
                    left -= batch.len();
                    let datagrams: Vec<_> = batch
                        .clone()
                        .map(|index| fleet.register_datagram(index))
                        .collect();
                    let peers: Vec<_> = batch
                        .clone()
                        .map(|index| fleet.devices[index].peer)
                        .collect();
                    let mut answers = Vec::with_capacity(batch.len());
                    let start = CpuTime::now();
                    for (peer, datagram) in peers.iter().zip(&datagrams) {
                        fleet.now = fleet.now.after(STEP);
                        fleet.engine.handle_datagram(fleet.now, *peer, datagram);
                        answers.push(fleet.transmitted());
                    }
                    measured += CpuTime::now() - start;
                    for (index, answer) in batch.zip(&answers) {
                        fleet.take_location(index, answer);
                        let datagram = fleet.location_datagram(index, Code::DELETE);
                        fleet.exchange(index, &datagram);
                    }
                }
                measured
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = notify, requests, register
}
criterion_main!(benches);
