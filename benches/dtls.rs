//! The DTLS server beside OpenSSL as it is, in one process: handshakes with cookie exchange,
//! records, memory of idle sessions. The server's side only, in CPU time, taking turns; medians.

// A report for people; the allocators only count and pass everything on.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]
#![allow(clippy::expect_used, missing_docs, unreachable_pub, unsafe_code)]

#[path = "support/cpu_time.rs"]
#[allow(dead_code)]
mod cpu_time;
#[path = "support/raw_dtls.rs"]
mod raw_dtls;
#[path = "../tests/support/dtls.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpu_time::CpuTime;
use lwm2m_gateway::config::CipherSuite;
use lwm2m_gateway::credentials::Key;
use lwm2m_gateway::dtls::{Context, Options, Output, Server};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::Instant;
use openssl::ssl::SslContext;
use raw_dtls::{Client, KEY, RawServer};
use support::{Client as _, ClientOptions, OpensslClient};

/// Handshakes of a turn, and turns.
const BATCH: u32 = 200;
const TURNS: usize = 15;
/// Records of a turn.
const RECORDS: usize = 2000;
/// Idle sessions.
const SESSIONS: u32 = 1000;

/// Bytes that Rust and OpenSSL have from the heap.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// There is one thread only. An atomic addition would take as long as half an allocation, and each record
/// has several.
fn count_live(change: impl FnOnce(usize) -> usize) {
    LIVE.store(change(LIVE.load(Ordering::Relaxed)), Ordering::Relaxed);
}

struct Counting;

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_live(|live| live.wrapping_add(layout.size()));
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_live(|live| live.wrapping_sub(layout.size()));
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(
        malloc: extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
    fn malloc_usable_size(pointer: *mut c_void) -> usize;
}

extern "C" fn count_malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: any size; the result is null or a block.
    unsafe {
        let pointer = libc::malloc(size);
        count_live(|live| live.wrapping_add(malloc_usable_size(pointer)));
        pointer
    }
}

extern "C" fn count_realloc(
    pointer: *mut c_void,
    size: usize,
    _: *const c_char,
    _: c_int,
) -> *mut c_void {
    // SAFETY: OpenSSL gives back what it got.
    unsafe {
        count_live(|live| live.wrapping_sub(malloc_usable_size(pointer)));
        let pointer = libc::realloc(pointer, size);
        count_live(|live| live.wrapping_add(malloc_usable_size(pointer)));
        pointer
    }
}

extern "C" fn count_free(pointer: *mut c_void, _: *const c_char, _: c_int) {
    // SAFETY: OpenSSL gives back what it got.
    unsafe {
        count_live(|live| live.wrapping_sub(malloc_usable_size(pointer)));
        libc::free(pointer);
    }
}

fn address(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 40_000))
}

/// Our server with all that a shell does for it.
struct Ours {
    server: Server,
    now: Instant,
    moves: usize,
}

impl Ours {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let options = Options {
            suites: vec![CipherSuite::PskAes128Ccm8],
            ..options
        };
        let context = Arc::new(Context::new(&options).unwrap());
        Self {
            server: Server::new(context, [5; 32], Arc::new(Counters::default())),
            now: Instant::ZERO,
            moves: 0,
        }
    }

    /// Takes a datagram; returns the datagrams to send and the bytes of payload received.
    fn handle(&mut self, from: SocketAddr, datagram: &[u8], sent: &mut Vec<u8>) -> usize {
        self.server.handle_datagram(self.now, from, datagram);
        self.drain(sent)
    }

    fn drain(&mut self, sent: &mut Vec<u8>) -> usize {
        let mut received = 0;
        loop {
            match self.server.poll_output() {
                Output::Transmit { datagram, .. } => sent.extend_from_slice(&datagram),
                Output::CredentialWanted { ticket, .. } => {
                    let key = Key::new(KEY.to_vec());
                    self.server.handle_credential(self.now, ticket, Some(key));
                }
                Output::Received { payload, .. } => received += black_box(payload).len(),
                Output::Moved { .. } => self.moves += 1,
                Output::Idle(_) => return received,
                _ => (),
            }
        }
    }
}

/// The work of a server, by a name that callgrind can tell from that of the clients.
#[inline(never)]
fn at_server<R>(work: impl FnOnce() -> R) -> R {
    // Comes back here, so that the tool sees where it ends.
    black_box(work())
}

/// Runs `BATCH` handshakes with `hello` for both hellos and `accept` for the rest, and returns the
/// clients and the server's time for each handshake.
fn handshakes(
    clients: &SslContext,
    count: u32,
    mut server: impl FnMut(u32, usize, &[u8]) -> Vec<u8>,
) -> (Vec<Client>, Duration) {
    let mut clients: Vec<_> = (0..count).map(|_| Client::new(clients)).collect();
    let mut time = Duration::ZERO;
    let mut answers = vec![Vec::new(); clients.len()];
    for flight in 0..3 {
        let datagrams: Vec<_> = clients
            .iter_mut()
            .zip(&answers)
            .map(|(client, answer)| client.handshake(answer))
            .collect();
        let start = CpuTime::now();
        for ((n, datagram), answer) in (0..).zip(&datagrams).zip(&mut answers) {
            *answer = at_server(|| server(n, flight, datagram));
        }
        time += CpuTime::now() - start;
    }
    for (client, answer) in clients.iter_mut().zip(&answers) {
        client.handshake(answer);
        assert!(client.is_connected());
    }
    (clients, time / count)
}

fn raw_handshakes(
    server: &mut RawServer,
    clients: &SslContext,
    count: u32,
) -> (Vec<Client>, Duration) {
    handshakes(clients, count, |n, flight, datagram| match flight {
        0 | 1 => server.listen(datagram),
        _ => server.accept(n as usize, datagram),
    })
}

fn our_handshakes(server: &mut Ours, clients: &SslContext, count: u32) -> (Vec<Client>, Duration) {
    handshakes(clients, count, |n, _, datagram| {
        let mut sent = Vec::new();
        server.handle(address(n), datagram, &mut sent);
        sent
    })
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64
}

/// Prints both and their ratio: how much of raw OpenSSL's rate is left.
fn report_rate(what: &str, raw: &mut [Duration], ours: &mut [Duration], goal: &str) {
    let (raw, ours) = (median(raw), median(ours));
    println!(
        "{what:<44} raw {raw:>7.0} ns {:>9.0}/s   ours {ours:>7.0} ns {:>9.0}/s   ratio {:.2} (goal {goal})",
        1e9 / raw,
        1e9 / ours,
        raw / ours
    );
}

fn bench_handshakes(clients: &SslContext) {
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    let mut raw_server = RawServer::new();
    let mut our_server = Ours::new();
    for _ in 0..TURNS {
        let (_, mut time) = raw_handshakes(&mut raw_server, clients, BATCH);
        // To free OpenSSL's object is a part of our handshakes.
        let start = CpuTime::now();
        raw_server.connections.clear();
        time += (CpuTime::now() - start) / BATCH;
        raw.push(time);
        ours.push(our_handshakes(&mut our_server, clients, BATCH).1);
        our_server.server.close_all(our_server.now);
        our_server.drain(&mut Vec::new());
    }
    report_rate(
        "full handshake, CCM8, with cookie",
        &mut raw,
        &mut ours,
        "0.95",
    );
}

/// Records of one busy session, and of as many as there are records.
fn bench_records(clients: &SslContext, length: usize) {
    let payload = vec![0x5a; length];
    let mut buffer = vec![0; 20_000];
    let mut sent = Vec::with_capacity(20_000);
    let mut raw_server = RawServer::new();
    let mut our_server = Ours::new();
    let (mut raw_clients, _) = raw_handshakes(&mut raw_server, clients, SESSIONS);
    let (mut our_clients, _) = our_handshakes(&mut our_server, clients, SESSIONS);
    for many in [false, true] {
        let index = |n: usize| if many { n % SESSIONS as usize } else { 0 };
        let mut times = [const { Vec::<Duration>::new() }; 4];
        for _ in 0..TURNS {
            let records = |clients: &mut [Client]| -> Vec<Vec<u8>> {
                (0..RECORDS)
                    .map(|n| clients[index(n)].seal(&payload))
                    .collect()
            };
            let (from_raw, from_ours) = (records(&mut raw_clients), records(&mut our_clients));
            let mut measure = |kind: usize, step: &mut dyn FnMut(usize)| {
                let start = CpuTime::now();
                (0..RECORDS).for_each(step);
                times[kind].push((CpuTime::now() - start) / RECORDS as u32);
            };
            measure(0, &mut |n| {
                let connection = &raw_server.connections[index(n)];
                if many {
                    connection.alloc_buffers();
                }
                assert_eq!(connection.open(&from_raw[n], &mut buffer), length);
                if many {
                    connection.free_buffers();
                }
            });
            measure(1, &mut |n| {
                let from = address(index(n) as u32);
                assert_eq!(our_server.handle(from, &from_ours[n], &mut sent), length);
            });
            measure(2, &mut |n| {
                let connection = &raw_server.connections[index(n)];
                if many {
                    connection.alloc_buffers();
                }
                assert!(connection.seal(&payload, &mut buffer) > length);
                if many {
                    connection.free_buffers();
                }
            });
            measure(3, &mut |n| {
                let to = address(index(n) as u32);
                our_server
                    .server
                    .send(our_server.now, to, &payload)
                    .unwrap();
                sent.clear();
                our_server.drain(&mut sent);
                assert!(sent.len() > length);
            });
        }
        let sessions = if many {
            "1000 sessions in turn"
        } else {
            "one session"
        };
        let [raw_open, our_open, raw_seal, our_seal] = &mut times;
        let both = |open: &[Duration], seal: &[Duration]| -> Vec<Duration> {
            open.iter()
                .zip(seal)
                .map(|(open, seal)| *open + *seal)
                .collect()
        };
        report_rate(
            &format!("open and seal {length} B, {sessions}"),
            &mut both(raw_open, raw_seal),
            &mut both(our_open, our_seal),
            if length == 64 { "600 to 1200 ns" } else { "-" },
        );
        report_rate(
            &format!("open {length} B, {sessions}"),
            raw_open,
            our_open,
            "-",
        );
        report_rate(
            &format!("seal {length} B, {sessions}"),
            raw_seal,
            our_seal,
            "-",
        );
    }
}

fn bench_memory(clients: &SslContext) {
    let live = || LIVE.load(Ordering::Relaxed);
    let mut raw_server = RawServer::new();
    let before = live();
    let (raw_clients, _) = raw_handshakes(&mut raw_server, clients, SESSIONS);
    raw_server
        .connections
        .iter()
        .for_each(|connection| connection.free_buffers());
    drop(raw_clients);
    let raw = (live() - before) / SESSIONS as usize;
    // The sessions that can be resumed are counted apart: they are bounded, and OpenSSL's.
    for (cache, what) in [
        (0, "heap of an idle session"),
        (10_000, "the same, and what resumes it"),
    ] {
        let mut our_server = Ours::with(Options {
            session_cache: cache,
            ..Options::default()
        });
        let before = live();
        let (mut our_clients, _) = our_handshakes(&mut our_server, clients, SESSIONS);
        for (n, client) in (0..).zip(&mut our_clients) {
            our_server.handle(address(n), &client.seal(b"hello"), &mut Vec::new());
        }
        drop(our_clients);
        let ours = (live() - before) / SESSIONS as usize;
        println!(
            "{what:<44} raw {raw:>7} B               ours {ours:>7} B               (goal 600)",
        );
    }
}

/// Devices with connection ids, each record from another address; and their memory.
fn bench_rebinds() {
    let live = || LIVE.load(Ordering::Relaxed);
    // What clients make once for all.
    drop(OpensslClient::new(ClientOptions::default()));
    let mut server = Ours::with(Options {
        session_cache: 0,
        ..Options::default()
    });
    let before = live();
    let mut sent = Vec::new();
    let mut clients: Vec<_> = (0..SESSIONS)
        .map(|n| {
            let mut client = OpensslClient::new(ClientOptions {
                identity: format!("urn:imei:{}", 123_456_789_000_000 + u64::from(n)).into_bytes(),
                id: Some(b""),
                ..ClientOptions::default()
            });
            while !client.is_connected() {
                for datagram in client.take_sent() {
                    server.handle(address(n), &datagram, &mut sent);
                }
                client.handle_datagram(&std::mem::take(&mut sent));
            }
            assert!(client.has_ids());
            // On a busy machine it may have repeated its last flight meanwhile.
            client.take_sent();
            client
        })
        .collect();
    let mut times = [const { Vec::<Duration>::new() }; 2];
    let mut next = SESSIONS;
    for turn in 0..2 * TURNS {
        let datagrams: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                client.send(&[0x5a; 64]);
                client.take_sent().remove(0)
            })
            .collect();
        let is_moving = turn % 2 == 1;
        if is_moving {
            next += SESSIONS;
        }
        let moved = server.moves;
        let start = CpuTime::now();
        for (n, datagram) in (next..).zip(&datagrams) {
            assert_eq!(server.handle(address(n), datagram, &mut sent), 64);
        }
        times[usize::from(is_moving)].push((CpuTime::now() - start) / SESSIONS);
        let expected = if is_moving || turn == 0 {
            SESSIONS as usize
        } else {
            0
        };
        assert_eq!(server.moves - moved, expected);
    }
    let [mut stays, mut moves] = times;
    let (stays, moves) = (median(&mut stays), median(&mut moves));
    println!(
        "{:<44} at home {stays:>7.0} ns, elsewhere {moves:>7.0} ns {:>9.0}/s (goal 1000/s)",
        "open 64 B with an id, 1000 sessions in turn",
        1e9 / moves
    );
    drop(clients);
    println!(
        "{:<44} {:>29} ours {:>7} B               (goal 600)",
        "heap of an idle session with an id",
        "",
        (live() - before) / SESSIONS as usize
    );
}

/// Clients that begin and fall silent before their last flight.
fn bench_half_open(clients: &SslContext) {
    let live = || LIVE.load(Ordering::Relaxed);
    let mut server = Ours::new();
    let mut clients: Vec<_> = (0..SESSIONS).map(|_| Client::new(clients)).collect();
    let mut answers = vec![Vec::new(); clients.len()];
    let mut at_server = 0;
    for _ in 0..2 {
        for ((n, client), answer) in (0..).zip(&mut clients).zip(&mut answers) {
            let datagram = client.handshake(answer);
            answer.clear();
            let before = live();
            server.handle(address(n), &datagram, answer);
            at_server += live() as isize - before as isize;
        }
    }
    assert_eq!(server.server.handshakes(), SESSIONS as usize);
    println!(
        "{:<44} {:>30} ours {:>7} B",
        "heap of a handshake under way",
        "",
        at_server / SESSIONS as isize
    );
}

/// Handshakes at once where instructions are counted: all has to be done before a client repeats its flight.
const FEW: u32 = 10;

/// Does the work of one kind so many times, for a tool that counts the instructions in [`at_server`]:
/// see `benches/dtls_instructions.sh`.
fn count(kind: &str, count: usize) {
    let clients = Client::context();
    let mut raw_server = RawServer::new();
    let mut our_server = Ours::new();
    let payload = [0x5a; 64];
    let mut buffer = vec![0; 20_000];
    let mut sent = Vec::with_capacity(20_000);
    let mut all = Vec::new();
    if !kind.starts_with("handshake") {
        all = match kind {
            "open-raw" | "seal-raw" => raw_handshakes(&mut raw_server, &clients, FEW).0,
            _ => our_handshakes(&mut our_server, &clients, FEW).0,
        };
    }
    let mut left = count;
    while left > 0 && kind.starts_with("handshake") {
        let batch = left.min(FEW as usize);
        left -= batch;
        if kind == "handshake-raw" {
            raw_handshakes(&mut raw_server, &clients, batch as u32);
            at_server(|| raw_server.connections.clear());
        } else {
            our_handshakes(&mut our_server, &clients, batch as u32);
            our_server.server.close_all(our_server.now);
            our_server.drain(&mut Vec::new());
        }
    }
    for n in 0..left {
        let index = n % FEW as usize;
        let at = address(index as u32);
        match kind {
            "open-raw" => {
                let record = all[index].seal(&payload);
                let connection = &raw_server.connections[index];
                at_server(|| {
                    connection.alloc_buffers();
                    assert_eq!(connection.open(&record, &mut buffer), payload.len());
                    connection.free_buffers();
                });
            }
            "seal-raw" => {
                let connection = &raw_server.connections[index];
                at_server(|| {
                    connection.alloc_buffers();
                    assert!(connection.seal(&payload, &mut buffer) > payload.len());
                    connection.free_buffers();
                });
            }
            "open-ours" => {
                let record = all[index].seal(&payload);
                let received = at_server(|| our_server.handle(at, &record, &mut sent));
                assert_eq!(received, payload.len());
            }
            "seal-ours" => at_server(|| {
                let now = our_server.now;
                our_server.server.send(now, at, &payload).unwrap();
                sent.clear();
                our_server.drain(&mut sent);
            }),
            other => panic!("no work {other:?}"),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, what, kind, times] = arguments.as_slice()
        && what == "count"
    {
        return count(kind, times.parse().expect("a number"));
    }
    // SAFETY: nothing of OpenSSL was called yet; the functions do what its own do.
    let counted = unsafe { CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) };
    assert_eq!(counted, 1);
    let clients = Client::context();
    println!("{}", openssl::version::version());
    bench_handshakes(&clients);
    bench_records(&clients, 64);
    bench_records(&clients, 200);
    bench_memory(&clients);
    bench_rebinds();
    bench_half_open(&clients);
}
