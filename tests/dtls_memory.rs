//! OpenSSL's memory: what a hostile peer can make it take, and what happens when there is none.
//!
//! OpenSSL gets its memory from functions of this test, which count it and can refuse it. And what a
//! session takes of the heap, whoever has it, against what the account of memory says.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, unsafe_code)]

#[path = "support/dtls.rs"]
#[allow(missing_docs)]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use lwm2m_gateway::dtls::{CloseReason, Options, Output, SendError};
use lwm2m_gateway::memory::{Kind, Memory, Shares};
use support::{
    Client, ClientOptions, KEY, OpensslClient, World, address, assert_talks, connect, exchange,
};

thread_local! {
    /// Bytes that OpenSSL has, of what it took while the server worked.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    /// Whether record buffers are refused.
    static IS_SCARCE: Cell<bool> = const { Cell::new(false) };
}

thread_local! {
    /// Bytes that Rust has.
    static HEAP: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count_heap(bytes: isize) {
    // Nothing is counted while a thread ends.
    let _ = HEAP.try_with(|heap| heap.set(heap.get() + bytes));
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_heap(layout.size().cast_signed());
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_heap(-layout.size().cast_signed());
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The least size of a record buffer.
const BUFFER: usize = 16_000;

unsafe extern "C" {
    fn CRYPTO_set_mem_functions(
        malloc: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        realloc: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

fn count(pointer: *mut c_void, sign: isize) {
    // SAFETY: of the system's allocator, or null.
    let size = unsafe { libc::malloc_usable_size(pointer) }.cast_signed();
    let _ = IS_COUNTING.try_with(|is_counting| {
        if is_counting.get() {
            let _ = LIVE.try_with(|live| live.set(live.get() + sign * size));
        }
    });
}

fn is_refused(size: usize) -> bool {
    size >= BUFFER && IS_SCARCE.try_with(Cell::get).unwrap_or(false)
}

unsafe extern "C" fn malloc(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    if size == 0 || is_refused(size) {
        return std::ptr::null_mut();
    }
    // SAFETY: any size will do.
    let pointer = unsafe { libc::malloc(size) };
    count(pointer, 1);
    pointer
}

unsafe extern "C" fn realloc(
    old: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    if size == 0 {
        // SAFETY: as our caller promises.
        unsafe { free(old, file, line) };
        return std::ptr::null_mut();
    }
    if is_refused(size) {
        return std::ptr::null_mut();
    }
    count(old, -1);
    // SAFETY: as our caller promises.
    let new = unsafe { libc::realloc(old, size) };
    count(new, 1);
    new
}

unsafe extern "C" fn free(pointer: *mut c_void, _: *const c_char, _: c_int) {
    count(pointer, -1);
    // SAFETY: as our caller promises.
    unsafe { libc::free(pointer) };
}

/// A world whose OpenSSL has our memory functions.
fn world(options: &Options) -> World {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the functions are those of the system's allocator, and nothing of OpenSSL was
        // used before.
        let result = unsafe { CRYPTO_set_mem_functions(malloc, realloc, free) };
        assert_eq!(result, 1);
    });
    World::new(options)
}

/// What only the server does.
fn counting<R>(work: impl FnOnce() -> R) -> R {
    IS_COUNTING.set(true);
    let result = work();
    IS_COUNTING.set(false);
    result
}

fn openssl() -> OpensslClient {
    OpensslClient::new(ClientOptions::default())
}

/// Timers that do not run meanwhile.
fn slow() -> Options {
    Options {
        retransmit_timeout: Duration::from_secs(5),
        handshake_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

/// With a suite whose records OpenSSL makes.
fn kept() -> OpensslClient {
    OpensslClient::new(ClientOptions {
        suites: "ECDHE-PSK-AES128-CBC-SHA256",
        ..ClientOptions::default()
    })
}

#[test]
fn nothing_breaks_when_there_are_no_record_buffers() {
    let mut world = world(&slow());
    // More than keep their buffers: those of the first are given back.
    let mut clients: Vec<_> = (0..20).map(|_| kept()).collect();
    for (n, client) in (0..).zip(&mut clients) {
        connect(&mut world, client, address(n));
    }
    let mut halfway = kept();
    exchange(&mut world, &mut halfway, address(100));
    exchange(&mut world, &mut halfway, address(100));
    assert_eq!(world.server.handshakes(), 1);
    let mut first = kept();
    exchange(&mut world, &mut first, address(101));
    world.events.clear();

    clients[1].send(b"lost");
    let lost = clients[1].take_sent();
    let flight = halfway.take_sent();
    let hello = first.take_sent();
    IS_SCARCE.set(true);
    // Each session that would need them ends without a word.
    let now = world.now();
    let sent = world.server.send(now, address(0), b"x");
    world.drain();
    assert_eq!(sent, Err(SendError::Failed));
    assert_eq!(world.closed(), Some((address(0), CloseReason::Failed)));
    for datagram in &lost {
        world.datagram(address(1), datagram);
    }
    assert_eq!(world.closed(), Some((address(1), CloseReason::Failed)));
    world.close(address(2));
    assert_eq!(world.closed(), Some((address(2), CloseReason::Failed)));
    // A handshake fails, another one does not begin.
    for datagram in flight {
        world.datagram(address(100), &datagram);
    }
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.counters.dtls_handshakes_failed.get(), 1);
    for datagram in hello {
        world.datagram(address(101), &datagram);
    }
    assert_eq!(world.server.handshakes(), 0);
    assert!(world.sent.is_empty() && world.events.is_empty());
    IS_SCARCE.set(false);

    // All others are well.
    assert_talks(&mut world, &mut clients[3], address(3));
    connect(&mut world, &mut kept(), address(102));
    world.events.clear();
    IS_SCARCE.set(true);
    let now = world.now();
    world.server.close_all(now);
    world.drain();
    IS_SCARCE.set(false);
    assert_eq!((world.server.sessions(), world.events.len()), (0, 18));
}

#[test]
fn nothing_breaks_when_a_handshake_under_way_gets_no_buffers() {
    let mut world = world(&Options {
        retransmit_timeout: Duration::from_millis(20),
        ..Options::default()
    });
    let mut client = openssl();
    exchange(&mut world, &mut client, address(1));
    exchange(&mut world, &mut client, address(1));
    world.take_sent(address(1));
    IS_SCARCE.set(true);
    // Its timer runs, and cannot repeat the flight.
    std::thread::sleep(Duration::from_millis(60));
    world.pass(Duration::from_secs(1));
    assert!(world.sent.is_empty());
    assert_eq!(world.server.handshakes(), 0);
    assert_eq!(world.counters.dtls_handshakes_failed.get(), 1);
    IS_SCARCE.set(false);
    connect(&mut world, &mut openssl(), address(1));
}

/// Encrypted records with nothing in them, of this epoch.
fn junk(epoch: u8, content_type: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut record = vec![
        content_type,
        0xfe,
        0xfd,
        0,
        epoch,
        0,
        0,
        0,
        0,
        high,
        low,
        4,
        0,
    ];
    record.extend([0x5a; 1024]);
    record
}

/// Begins `count` handshakes, with whatever may be held back or buffered for each. Bytes that
/// OpenSSL has for them.
fn half_open(world: &mut World, count: u32) -> isize {
    let before = LIVE.get();
    let at = |n: u32| -> SocketAddr { address(n) };
    for n in 0..count {
        let mut client = openssl();
        for _ in 0..2 {
            for datagram in client.take_sent() {
                counting(|| world.datagram(at(n), &datagram));
            }
            for datagram in world.take_sent(at(n)) {
                client.handle_datagram(&datagram);
            }
        }
        // The ClientKeyExchange, without what should follow, and records that are early for ever;
        // once in one datagram, once on their own.
        let flight = client.take_sent();
        let key_exchange = &flight[0];
        let length = 13 + usize::from(u16::from_be_bytes([key_exchange[11], key_exchange[12]]));
        let mut datagram = key_exchange[..length].to_vec();
        for number in 0..10 {
            datagram.extend(junk(1, 22, number));
        }
        counting(|| world.datagram(at(n), &datagram));
        for number in 0..60 {
            for (epoch, content_type) in [(1, 22), (1, 23), (1, 21), (2, 22), (2, 23), (3, 22)] {
                let record = junk(epoch, content_type, number);
                counting(|| world.datagram(at(n), &record));
            }
        }
    }
    assert_eq!(world.server.handshakes(), count as usize);
    LIVE.get() - before
}

#[test]
fn half_open_handshakes_take_no_more_than_they_need() {
    for count in [10, 20] {
        let mut world = world(&slow());
        let size = half_open(&mut world, count);
        assert!(
            world.counters.dtls_records_dropped.get() > u64::from(count) * 300,
            "counted"
        );
        counting(|| world.pass(Duration::from_secs(61)));
        assert_eq!(world.server.handshakes(), 0);
        // The extension for connection ids takes some 700 bytes of it.
        assert!(size / (count as isize) < 49_000, "{size} of {count}");
    }
}

#[test]
fn what_a_handshake_took_is_given_back() {
    let mut world = world(&slow());
    half_open(&mut world, 3);
    counting(|| world.pass(Duration::from_secs(61)));
    let before = LIVE.get();
    for _ in 0..3 {
        half_open(&mut world, 10);
        counting(|| world.pass(Duration::from_secs(61)));
        assert_eq!(world.server.handshakes(), 0);
    }
    let kept = LIVE.get() - before;
    assert!(kept.abs() < 4096, "{kept}");
}

/// Heap and charged bytes of so many sessions that have been used and are idle, each with an identity
/// and an address of its own; all handshakes are under way at once. Those with ids have moved `moves` times.
/// So many sessions can be `resumed`.
fn sessions(count: u32, ids: bool, moves: u32, resumed: usize) -> (isize, isize) {
    let memory = Arc::new(Memory::new(Shares::new(1 << 30, true)));
    let mut world = world(&Options {
        session_cache: resumed,
        max_handshakes: count as usize,
        memory: Some(memory.clone()),
        ..slow()
    });
    let identity = |n: u32| format!("urn:imei:{:015}", 123_456_789_000_000 + u64::from(n));
    world.keys = (0..count)
        .map(|n| (identity(n).into_bytes(), KEY.to_vec()))
        .collect();
    // OpenSSL has nothing of such a session. Tables of its own grow with the clients of this test.
    let before = HEAP.get();
    let mut clients: Vec<_> = (0..count)
        .map(|n| {
            OpensslClient::new(ClientOptions {
                identity: identity(n).into_bytes(),
                id: ids.then_some(&b""[..]),
                ..ClientOptions::default()
            })
        })
        .collect();
    for round in 0..3 {
        for (n, client) in (0..).zip(&mut clients) {
            exchange(&mut world, client, address(n));
        }
        let under_way = if round == 1 { count as usize } else { 0 };
        assert_eq!(world.server.handshakes(), under_way, "round {round}");
    }
    for round in 0..=moves {
        for (n, client) in (0..).zip(&mut clients) {
            assert!(client.is_connected() && client.has_ids() == ids);
            // Where there are ids it is found from anywhere.
            let at = address(n + 100_000 * round);
            world.events.clear();
            client.send(b"x");
            exchange(&mut world, client, at);
            if round > 0 {
                let moved = world.events.pop_front();
                assert!(matches!(moved, Some(Output::Moved { .. })), "{moved:?}");
            }
            assert_eq!(world.received(), Some((at, b"x".to_vec())));
        }
    }
    drop(clients);
    world.events.clear();
    world.events.shrink_to_fit();
    // Clients repeat flights when their turn comes late.
    world.sent.clear();
    world.sent.shrink_to_fit();
    let heap = HEAP.get() - before;
    assert_eq!(world.server.sessions(), count as usize);
    let charged = memory.used(Kind::Sessions).cast_signed();
    drop(world);
    assert_eq!(memory.used(Kind::Sessions), 0);
    let count = count as isize;
    (heap / count, charged / count)
}

#[test]
fn an_idle_session_is_small_and_estimated_well() {
    // What is made once for all.
    sessions(4, true, 1, 0);
    // Tables that are nearly full, and that have just grown.
    for count in [700, 1000] {
        for (ids, moves) in [(true, 0), (true, 1), (true, 8), (false, 0)] {
            let (heap, charged) = sessions(count, ids, moves, 0);
            println!("{count} sessions, ids {ids}, moves {moves}: {heap} B, charged {charged} B");
            assert!(heap < 500, "{heap} B");
            let percent = charged * 100 / heap;
            assert!((75..=125).contains(&percent), "charged {percent} %");
        }
    }
}

#[test]
fn what_resumes_a_session_is_small() {
    let count = 700;
    let (without, _) = sessions(count, false, 0, 0);
    let (with, _) = sessions(count, false, 0, count as usize);
    let each = with - without;
    println!("{each} B to resume a session");
    assert!((60..=150).contains(&each), "{each} B");
}
