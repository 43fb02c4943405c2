//! Floods for the tests of `tests/hostile`: senders that mean harm, one kind at a time.
//!
//! ```sh
//! cargo run --release --example flood -- ping --to 127.0.0.1:5683 --count 100000
//! ```
//!
//! It sends to loopback addresses only, and each run is bounded in number and time. What was sent
//! and what came back is told in one line of JSON at the end.

// A program of its own on sockets, clocks and threads; a failure ends it with a message.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod blocks;
mod datagrams;
mod handshakes;
mod mqtt;
mod notifications;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
flood KIND --to 127.0.0.1:PORT [--from 127.0.0.1] [--count 100000] [--seconds 10]
     [--rate PER_SECOND, 0 for as many as possible] [--size BYTES] [--sockets 16]
     [--name TEXT]

over UDP    junk ping reset register register-blocks update send large
over DTLS   hello half-open unknown-identity wrong-key (--name: identity)
a device    notifications answers-without-end bodies-without-end (--name: endpoint)
over MQTT   commands (--name: endpoint) connects half-open-connections slow-readers";

/// Most messages of a run.
const MAX_COUNT: u64 = 10_000_000;
/// Most seconds of a run.
const MAX_SECONDS: u64 = 600;

pub(crate) struct Options {
    to: SocketAddr,
    from: Ipv4Addr,
    count: u64,
    time: Duration,
    rate: u64,
    /// Bytes of a message, as near as its kind comes.
    size: usize,
    sockets: usize,
    /// Of the device or identity, or what new ones begin with.
    name: String,
}

/// What a run has done.
#[derive(Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    /// What the gateway sent back.
    received: AtomicU64,
    received_bytes: AtomicU64,
    /// What the kernel or the gateway did not take.
    failed: AtomicU64,
}

impl Counts {
    pub(crate) fn sent(&self, number: u64, bytes: usize) {
        self.sent.fetch_add(number, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says when to go on and when to stop; shared by the threads of a run.
pub(crate) struct Pace {
    start: Instant,
    begun: AtomicU64,
    count: u64,
    time: Duration,
    rate: u64,
}

impl Pace {
    fn new(options: &Options) -> Self {
        Self {
            start: Instant::now(),
            begun: AtomicU64::new(0),
            count: options.count,
            time: options.time,
            rate: options.rate,
        }
    }

    /// Waits for the turn of up to `wanted` messages; the number of the first one and how many may
    /// go, or `None` when the run is over.
    pub(crate) fn next(&self, wanted: u64) -> Option<(u64, u64)> {
        let first = self.begun.fetch_add(wanted, Ordering::Relaxed);
        let number = wanted.min(self.count.saturating_sub(first));
        if number == 0 || self.is_over() {
            return None;
        }
        if self.rate > 0 {
            let due = Duration::from_secs_f64(first as f64 / self.rate as f64);
            std::thread::sleep(due.saturating_sub(self.start.elapsed()).min(self.left()));
        }
        Some((first, number))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.start.elapsed() >= self.time
    }

    pub(crate) fn left(&self) -> Duration {
        self.time.saturating_sub(self.start.elapsed())
    }
}

fn main() {
    let (kind, options) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            println!("{error}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let (pace, counts) = (Pace::new(&options), Counts::default());
    let run = (&options, &pace, &counts);
    match kind.as_str() {
        "hello" => datagrams::run(run, handshakes::hello_without_cookie),
        "half-open" => handshakes::run(run, handshakes::After::Nothing),
        "unknown-identity" => handshakes::run(run, handshakes::After::UnknownIdentity),
        "wrong-key" => handshakes::run(run, handshakes::After::WrongKey),
        "notifications" => notifications::run(run),
        "answers-without-end" => blocks::answers(run),
        "bodies-without-end" => blocks::bodies(run),
        "commands" => mqtt::commands(run),
        "connects" => mqtt::connects(run),
        "half-open-connections" => mqtt::half_open(run),
        "slow-readers" => mqtt::slow_readers(run),
        other => match datagrams::kind(other) {
            Some(make) => datagrams::run(run, make),
            None => {
                println!("unknown kind {other}\n{USAGE}");
                std::process::exit(2);
            }
        },
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{{\"sent\":{},\"sent_bytes\":{},\"received\":{},\"received_bytes\":{},\"failed\":{},\
         \"seconds\":{:.2}}}",
        get(&counts.sent),
        get(&counts.sent_bytes),
        get(&counts.received),
        get(&counts.received_bytes),
        get(&counts.failed),
        pace.start.elapsed().as_secs_f64(),
    );
}

fn parse() -> Result<(String, Options), String> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().ok_or("a kind is missing")?;
    let mut values = HashMap::new();
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        values.insert(name, value);
    }
    let mut take =
        |name: &str, default: &str| values.remove(name).unwrap_or_else(|| default.to_owned());
    let options = Options {
        to: number(&take("--to", ""))?,
        from: number(&take("--from", "127.0.0.1"))?,
        count: number::<u64>(&take("--count", "100000"))?.min(MAX_COUNT),
        time: Duration::from_secs(number::<u64>(&take("--seconds", "10"))?.min(MAX_SECONDS)),
        rate: number(&take("--rate", "0"))?,
        size: number(&take("--size", "0"))?,
        sockets: number(&take("--sockets", "16"))?,
        name: take("--name", "flood"),
    };
    if let Some(name) = values.keys().next() {
        return Err(format!("unknown option {name}"));
    }
    if ![options.to.ip(), IpAddr::V4(options.from)]
        .iter()
        .all(IpAddr::is_loopback)
    {
        return Err("only loopback addresses may be flooded".to_owned());
    }
    Ok((kind, options))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no valid value"))
}

/// What each kind of flood gets.
pub(crate) type Run<'a> = (&'a Options, &'a Pace, &'a Counts);
