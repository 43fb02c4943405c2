//! Plain UDP, where anybody can send in the name of any address: what strangers get, what they can
//! spoil, and how an address shows that somebody receives there.

#![allow(unsafe_code)] // the counting allocator

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use lwm2m_gateway::Config;
use lwm2m_gateway::admission::Limit;
use lwm2m_gateway::coap::message::{Builder, empty, option};
use lwm2m_gateway::coap::{Code, Message, MessageType};
use lwm2m_gateway::config::{AutoObserve, EchoMode};
use lwm2m_gateway::engine::Peer;
use proptest::prelude::*;
use support::{Device, World, peer, uri};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Devices that answer nothing by themselves.
fn world(change: impl FnOnce(&mut Config)) -> World {
    let mut world = World::with(change);
    world.answers_pings = false;
    world
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn stranger(number: u32) -> Peer {
    let [_, a, b, c] = number.to_be_bytes();
    Peer {
        address: SocketAddr::from(([10, a, b, c], 5683)),
        ..peer(0)
    }
}

fn bytes_for(world: &World, peer: Peer) -> usize {
    let sent = world.sent.iter().filter(|(to, _)| *to == peer);
    sent.map(|(_, datagram)| datagram.len()).sum()
}

/// A Register of `device` with `extra` behind its object list.
fn register_datagram(device: &mut Device, extra: &str) -> Vec<u8> {
    let ep = format!("ep={}", device.endpoint);
    let request = device.request(Code::POST, &["rd"], &[&ep, "lt=300", "lwm2m=1.1", "b=U"]);
    let request = request.uint(option::CONTENT_FORMAT, 40);
    request.payload(format!("</1/0>,</3/0>{extra}")).build()
}

fn send_datagram(device: &mut Device, value: u32) -> Vec<u8> {
    let senml = format!(r#"[{{"n":"/3303/0/5700","v":{value}}}]"#);
    let request = device.request(Code::POST, &["dp"], &[]);
    request
        .uint(option::CONTENT_FORMAT, 110)
        .payload(senml)
        .build()
}

/// A write that does not fit in what an address may get for a Register.
fn long_write(world: &mut World, endpoint: &str) {
    let text = "x".repeat(900);
    let command = format!(
        r#"{{"reqID":1,"msgType":"write","data":{{"path":"/3/0/14","type":"String","value":"{text}"}}}}"#
    );
    world.command(endpoint, &command);
}

const READ: &str = r#"{"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}"#;

// The duplicate cache.

#[test]
fn c16_foreign_datagrams_do_not_push_a_send_out_of_the_duplicate_cache() {
    let mut world = world(|config| config.limits.dedup_bytes = 256 << 10);
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let send = send_datagram(&mut device, 21);
    world.datagram(device.peer, &send);
    let answer = world.sent.pop_front().unwrap();
    world.next_published();
    for number in 0..20_000 {
        let request = Builder::new(MessageType::Confirmable, Code::GET, 7, &[])
            .option(option::URI_PATH, "x")
            .build();
        world.datagram(stranger(number), &request);
    }
    world.sent.clear();
    world.datagram(device.peer, &send);
    assert_eq!(world.sent.pop_front(), Some(answer), "from memory");
    world.assert_quiet();
}

#[test]
fn c16_nor_do_those_of_another_device() {
    let mut world = world(|config| config.limits.dedup_bytes = 256 << 10);
    let mut device = Device::registered(&mut world, "ep1", 5001);
    let mut other = Device::registered(&mut world, "ep2", 5002);
    let send = send_datagram(&mut device, 21);
    world.datagram(device.peer, &send);
    world.next_published();
    world.sent.clear();
    for value in 0..20_000 {
        let send = send_datagram(&mut other, value);
        world.datagram(other.peer, &send);
    }
    assert_eq!(world.published.len(), 20_000);
    world.published.clear();
    world.sent.clear();
    world.datagram(device.peer, &send);
    assert_eq!(world.next_for(device.peer).code(), Code::CHANGED);
    assert!(world.published.is_empty(), "published once");
}

#[test]
fn c16_a_repeated_register_is_answered_from_memory_whatever_came_between() {
    let mut world = world(|config| config.limits.dedup_bytes = 64 << 10);
    let mut device = Device::new("ep1", 5001);
    let register = register_datagram(&mut device, "");
    world.datagram(device.peer, &register);
    let answer = world.sent.pop_front();
    for number in 0..5000 {
        let request = Builder::new(MessageType::Confirmable, Code::GET, 7, &[]).build();
        world.datagram(stranger(number), &request);
    }
    world.sent.clear();
    world.datagram(device.peer, &register);
    assert_eq!(world.sent.pop_front(), answer);
    assert_eq!(world.counter("registered"), 1);
}

// Amplification.

#[test]
fn c17_small_requests_get_small_answers() {
    let mut world = world(|_| {});
    let from = stranger(1);
    // An unknown critical option: 30 bytes were the answer to 5.
    world.datagram(from, &[0x40, 0x01, 0, 1, 0x90]);
    let answer = world.next_for(from);
    assert_eq!(answer.code(), Code::BAD_OPTION);
    assert_eq!(answer.payload(), b"unknown cr", "15 bytes in all");
    // POST rd without anything: 31 bytes for 7.
    world.datagram(from, &[0x40, 0x02, 0, 2, 0xb2, b'r', b'd']);
    let (_, answer) = world.sent.pop_front().unwrap();
    assert!(answer.len() <= 21, "{}", answer.len());
    assert_eq!(Message::parse(&answer).unwrap().code(), Code::BAD_REQUEST);
    // A device that has shown itself gets the whole text.
    let mut device = Device::registered(&mut world, "ep1", 5001);
    device.update(&mut world, &[], "");
    world.datagram(device.peer, &[0x40, 0x01, 0, 1, 0x90]);
    let answer = world.next_for(device.peer);
    assert_eq!(answer.payload(), b"unknown critical option 9");
}

#[test]
fn c17_a_repetition_is_worth_no_more_than_itself() {
    let mut world = world(|_| {});
    let from = stranger(1);
    let request = [0x40, 0x01, 0, 1, 0x90];
    for _ in 0..50 {
        world.datagram(from, &request);
    }
    assert!(bytes_for(&world, from) <= 3 * 50 * request.len());
}

#[test]
fn c17_commands_to_an_address_that_has_not_shown_itself() {
    let mut world = world(|config| {
        config.coap.nstart = 64;
        config.auto_observe = AutoObserve::All;
    });
    let mut device = Device::new("ep1", 5001);
    let objects: String = (0..40)
        .map(|instance| format!(",</3/{instance}>"))
        .collect();
    let register = register_datagram(&mut device, &objects);
    world.datagram(device.peer, &register);
    for _ in 0..50 {
        world.command("ep1", READ);
    }
    long_write(&mut world, "ep1");
    // With all retransmissions.
    world.pass(seconds(200));
    let sent = bytes_for(&world, device.peer);
    assert!(sent <= 3 * register.len(), "{sent} for {}", register.len());
    assert!(sent > register.len(), "something was tried");
    assert!(world.counter("answers_withheld") > 0);
    let timeouts = world.published.iter().filter(|published| {
        published.json["data"]["code"]
            .as_str()
            .is_some_and(|code| code.starts_with('5'))
            || published.json["msgType"] == "coap_timeout"
    });
    assert!(timeouts.count() > 50, "{:?}", world.published);
}

#[test]
fn c17_a_long_command_waits_for_the_answer_to_a_ping() {
    let mut world = world(|_| {});
    let device = Device::registered(&mut world, "ep1", 5001);
    long_write(&mut world, "ep1");
    let ping = world.next_for(device.peer);
    assert_eq!(
        (ping.kind(), ping.code()),
        (MessageType::Confirmable, Code::EMPTY)
    );
    world.assert_quiet();
    world.datagram(device.peer, &empty(MessageType::Reset, ping.mid()));
    let request = world.next_for(device.peer);
    assert_eq!(
        (request.code(), request.payload().len() > 800),
        (Code::PUT, true)
    );
    world.assert_quiet();
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    assert_eq!(world.next_published().json["data"]["code"], "2.04");
    // Shown once is enough.
    long_write(&mut world, "ep1");
    assert_eq!(world.next_for(device.peer).code(), Code::PUT);
}

#[test]
fn c17_a_device_that_ignores_pings_is_asked_by_a_request() {
    for kind in [MessageType::Acknowledgement, MessageType::Confirmable] {
        let mut world = world(|_| {});
        let mut device = Device::registered(&mut world, "ep1", 5001);
        long_write(&mut world, "ep1");
        assert_eq!(world.next_for(device.peer).code(), Code::EMPTY);
        world.pass(seconds(4));
        let question = world.next_for(device.peer);
        assert_eq!(
            (question.code(), uri(&question)),
            (Code::GET, "/3/0/0".into())
        );
        world.assert_quiet();
        // Not with another token, nor from elsewhere.
        let forged = Builder::new(kind, Code::NOT_FOUND, question.mid(), &[1; 8]).build();
        world.datagram(device.peer, &forged);
        let answer = device.answer(&question, Code::NOT_FOUND).build();
        world.datagram(peer(5002), &answer);
        let sent = std::mem::take(&mut world.sent);
        assert!(
            sent.iter().all(|(_, datagram)| datagram.len() == 4),
            "{sent:?}"
        );
        let answer = match kind {
            MessageType::Confirmable => device.separate(kind, &question, Code::NOT_FOUND).build(),
            _ => answer,
        };
        world.datagram(device.peer, &answer);
        if kind == MessageType::Confirmable {
            assert_eq!(
                world.next_for(device.peer).kind(),
                MessageType::Acknowledgement
            );
        }
        assert_eq!(world.next_for(device.peer).code(), Code::PUT);
        world.assert_quiet();
    }
}

#[test]
fn c17_whoever_answers_a_request_has_shown_itself() {
    let mut world = world(|_| {});
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    long_write(&mut world, "ep1");
    let request = world.next_for(device.peer);
    assert_eq!(uri(&request), "/3/0/0");
    world.assert_quiet();
    let answer = device.answer(&request, Code::CONTENT).payload("x").build();
    world.datagram(device.peer, &answer);
    assert_eq!(world.next_for(device.peer).code(), Code::PUT);
}

#[test]
fn c17_who_knows_its_location_has_shown_itself_where_it_was_told() {
    let mut world = world(|_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    long_write(&mut world, "ep1");
    let request = world.next_for(device.peer);
    assert_eq!(request.code(), Code::PUT);
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    world.next_published();
    // Somebody who has registered a device of his own updates it from the address of a victim.
    device.peer = peer(6001);
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    long_write(&mut world, "ep1");
    let ping = world.next_for(device.peer);
    assert_eq!(ping.code(), Code::EMPTY);
    world.assert_quiet();
}

#[test]
fn c17_a_queue_does_not_go_to_whoever_registers_the_endpoint() {
    let mut world = world(|_| {});
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=UQ", "Q"], "</3/0>");
    world.next_published();
    world.pass(seconds(60));
    for _ in 0..20 {
        long_write(&mut world, "ep1");
    }
    world.assert_quiet();
    let victim = stranger(9);
    let mut spoofed = Device::new("ep1", 1);
    let register = register_datagram(&mut spoofed, "");
    world.datagram(victim, &register);
    world.pass(seconds(100));
    assert!(bytes_for(&world, victim) <= 3 * register.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a stranger sends, and however often.
    #[test]
    fn c17_no_stranger_gets_more_than_three_times_what_it_sent(
        datagrams in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..40),
    ) {
        let mut world = world(|config| config.auto_observe = AutoObserve::All);
        let from = stranger(1);
        let mut received = 0;
        for (choice, bytes) in datagrams {
            let datagram = match choice % 6 {
                // CoAP of any kind.
                0 => [&[0x40 | choice & 0x38, choice >> 5, 1, choice], &bytes[..]].concat(),
                1 => Builder::new(MessageType::Confirmable, Code::GET, choice.into(), &[])
                    .option(option::URI_PATH, ".well-known")
                    .option(option::URI_PATH, "core")
                    .build(),
                2 => Builder::new(MessageType::Confirmable, Code::POST, choice.into(), &[])
                    .option(option::URI_PATH, "rd")
                    .option(option::URI_QUERY, format!("ep={choice}"))
                    .payload("</3/0>,</4/0>")
                    .build(),
                3 => Builder::new(MessageType::NonConfirmable, Code::POST, choice.into(), &[1])
                    .option(option::URI_PATH, "rd")
                    .option(option::URI_QUERY, bytes)
                    .build(),
                4 => vec![0x40, 0, 0, choice],
                _ => bytes,
            };
            received += datagram.len();
            world.datagram(from, &datagram);
            prop_assert!(bytes_for(&world, from) <= 3 * received);
        }
        world.pass(seconds(100));
        prop_assert!(bytes_for(&world, from) <= 3 * received);
    }
}

// Echo (RFC 9175).

fn echo_of(answer: &Message) -> Vec<u8> {
    assert_eq!(answer.code(), Code::UNAUTHORIZED);
    answer
        .first_option(option::ECHO)
        .unwrap_or_else(|| panic!("an Echo option"))
        .to_vec()
}

fn register_with(device: &mut Device, echo: &[u8]) -> Vec<u8> {
    let ep = format!("ep={}", device.endpoint);
    let request = device.request(Code::POST, &["rd"], &[&ep, "lt=300", "lwm2m=1.1", "b=U"]);
    request.option(option::ECHO, echo).payload("</3/0>").build()
}

#[test]
fn echo_new_address() {
    let mut world = world(|config| config.coap.echo = EchoMode::NewAddress);
    let mut device = Device::new("ep1", 5001);
    let register = register_datagram(&mut device, "");
    world.datagram(device.peer, &register);
    let echo = echo_of(&world.next_for(device.peer));
    // The repetition is answered likewise, nothing is remembered.
    world.datagram(device.peer, &register);
    assert_eq!(echo_of(&world.next_for(device.peer)), echo);
    assert_eq!(world.engines[0].load().replies, 0);
    assert_eq!(world.counter("echo_challenges"), 2);
    // Not from another address, and not any value.
    world.datagram(peer(5002), &register_with(&mut device, &echo));
    echo_of(&world.next_for(peer(5002)));
    world.datagram(device.peer, &register_with(&mut device, b"123456789"));
    echo_of(&world.next_for(device.peer));
    world.assert_quiet();

    world.datagram(device.peer, &register_with(&mut device, &echo));
    let answer = world.next_for(device.peer);
    assert_eq!(answer.code(), Code::CREATED);
    let location = answer.option_values(option::LOCATION_PATH).nth(1).unwrap();
    device.location = String::from_utf8(location.to_vec()).unwrap();
    world.next_published();
    long_write(&mut world, "ep1");
    let request = world.next_for(device.peer);
    assert_eq!(request.code(), Code::PUT, "it has shown itself");
    world.datagram(device.peer, &device.answer(&request, Code::CHANGED).build());
    world.next_published();

    // From there it may do as it likes.
    assert_eq!(device.update(&mut world, &[], ""), Code::CHANGED);
    device.register(&mut world, &[], "</3/0>");
    world.next_published();
    // A new address has to show itself.
    device.peer = peer(5003);
    let location = device.location.clone();
    let update = device.request(Code::POST, &["rd", &location], &[]).build();
    world.datagram(device.peer, &update);
    let echo = echo_of(&world.next_for(device.peer));
    long_write(&mut world, "ep1");
    assert_eq!(
        world.next_for(peer(5001)).code(),
        Code::PUT,
        "it is where it was"
    );
    let update = device.request(Code::POST, &["rd", &location], &[]);
    world.datagram(device.peer, &update.option(option::ECHO, echo).build());
    let answers: Vec<_> = std::mem::take(&mut world.sent).into();
    let codes = answers.iter().map(|(to, datagram)| {
        assert_eq!(*to, device.peer);
        Message::parse(datagram).unwrap().code()
    });
    assert!(codes.into_iter().any(|code| code == Code::CHANGED));
}

#[test]
fn echo_values_age() {
    let mut world = world(|config| config.coap.echo = EchoMode::NewAddress);
    let mut device = Device::new("ep1", 5001);
    world.datagram(device.peer, &register_datagram(&mut device, ""));
    let echo = echo_of(&world.next_for(device.peer));
    world.pass(seconds(121));
    world.datagram(device.peer, &register_with(&mut device, &echo));
    echo_of(&world.next_for(device.peer));
}

#[test]
fn echo_always() {
    let mut world = world(|config| config.coap.echo = EchoMode::Always);
    let mut device = Device::new("ep1", 5001);
    world.datagram(device.peer, &register_datagram(&mut device, ""));
    let echo = echo_of(&world.next_for(device.peer));
    world.datagram(device.peer, &register_with(&mut device, &echo));
    let answer = world.next_for(device.peer);
    let location = answer.option_values(option::LOCATION_PATH).nth(1).unwrap();
    let location = String::from_utf8(location.to_vec()).unwrap();
    for code in [Code::POST, Code::DELETE] {
        let path = ["rd", location.as_str()];
        world.datagram(device.peer, &device.request(code, &path, &[]).build());
        let echo = echo_of(&world.next_for(device.peer));
        let request = device.request(code, &path, &[]).option(option::ECHO, echo);
        world.datagram(device.peer, &request.build());
        assert!(world.next_for(device.peer).code().is_success());
    }
    // What is no registration is not asked for it.
    world.datagram(
        device.peer,
        &device
            .request(Code::GET, &[".well-known", "core"], &[])
            .build(),
    );
    assert_eq!(world.next_for(device.peer).code(), Code::CONTENT);
}

#[test]
fn echo_in_blocks_and_over_dtls() {
    let mut world = world(|config| config.coap.echo = EchoMode::NewAddress);
    let mut device = Device::new("ep1", 5001);
    let mut block = |value: u32, echo: &[u8], payload: &[u8]| {
        let request = device.request(Code::POST, &["rd"], &["ep=ep1", "lt=300", "lwm2m=1.1"]);
        let request = match echo {
            [] => request,
            echo => request.option(option::ECHO, echo),
        };
        request.uint(option::BLOCK1, value).payload(payload).build()
    };
    let from = peer(5001);
    world.datagram(from, &block(0x08, &[], b"</1/0>,</3/0>,</"));
    let echo = echo_of(&world.next_for(from));
    assert_eq!(world.engines[0].load().transfers, 0);
    world.datagram(from, &block(0x08, &echo, b"</1/0>,</3/0>,</"));
    assert_eq!(world.next_for(from).code(), Code::CONTINUE);
    // A client need not repeat the option.
    world.datagram(from, &block(0x10, &[], b"4/0>"));
    assert_eq!(world.next_for(from).code(), Code::CREATED);
    world.next_published();

    let mut secure = Device::new("ep2", 5002);
    secure.peer.session = 7;
    world.session(0, secure.peer, "ep2", "ep2");
    secure.register(&mut world, &[], "</3/0>");
    world.next_published();
    long_write(&mut world, "ep2");
    assert_eq!(world.next_for(secure.peer).code(), Code::PUT);
}

// Signs of life.

#[test]
fn what_anybody_can_send_does_not_prolong_a_lifetime() {
    let mut world = world(|_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.pass(seconds(299));
    let from = device.peer;
    world.datagram(from, &empty(MessageType::Confirmable, 1));
    world.datagram(from, &empty(MessageType::Reset, 2));
    world.datagram(from, &empty(MessageType::Acknowledgement, 3));
    world.datagram(from, &device.request(Code::GET, &["x"], &[]).build());
    world.datagram(from, &[0x55, 1, 2]);
    let foreign = Builder::new(MessageType::NonConfirmable, Code::CONTENT, 4, &[1; 8]).build();
    world.datagram(from, &foreign);
    let send = send_datagram(&mut device, 1);
    world.datagram(from, &send);
    world.pass(seconds(2));
    assert_eq!(world.counter("expired"), 1);
}

#[test]
fn what_only_the_device_can_send_does() {
    let mut world = world(|_| {});
    let mut device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    let answer = device.answer(&request, Code::CONTENT).payload("x").build();
    for _ in 0..3 {
        world.pass(seconds(1));
    }
    world.datagram(device.peer, &answer);
    world.pass(seconds(299));
    world.sent.clear();
    device.update(&mut world, &[], "");
    world.pass(seconds(299));
    assert_eq!(world.counter("expired"), 0);
    world.pass(seconds(2));
    assert_eq!(world.counter("expired"), 1);
}

#[test]
fn a_ping_in_its_name_does_not_wake_a_device() {
    let mut world = world(|_| {});
    let mut device = Device::new("ep1", 5001);
    device.register(&mut world, &["b=UQ", "Q"], "</3/0>");
    world.next_published();
    world.pass(seconds(60));
    world.command("ep1", READ);
    world.assert_quiet();
    world.datagram(device.peer, &empty(MessageType::Confirmable, 1));
    assert_eq!(world.next_for(device.peer).kind(), MessageType::Reset);
    world.datagram(device.peer, &device.request(Code::GET, &["x"], &[]).build());
    world.next_for(device.peer);
    world.command("ep1", READ);
    world.assert_quiet();
    // A Send does: it is how a device of LwM2M 1.1 reports, and is awake.
    let send = send_datagram(&mut device, 1);
    world.datagram(device.peer, &send);
    let first = world.next_for(device.peer);
    let second = world.next_for(device.peer);
    let requested = [first, second].iter().any(|it| it.code() == Code::GET);
    assert!(requested, "the queue goes out");
}

// Floods of messages that name nothing but a message id.

#[test]
fn resets_and_acknowledgements_cost_nothing_but_the_datagram() {
    let mut world = world(|_| {});
    let device = Device::registered(&mut world, "ep1", 5001);
    let flood = |world: &mut World, from: Peer, count: u16| {
        let before = ALLOCATIONS.get();
        for mid in 0..count {
            for first in [0x60, 0x70, 0x50] {
                let [high, low] = mid.to_be_bytes();
                world.engines[0].handle_datagram(world.now, from, &[first, 0, high, low]);
            }
        }
        ALLOCATIONS.get() - before
    };
    for from in [device.peer, stranger(1)] {
        assert_eq!(flood(&mut world, from, 1000), 0);
        assert_eq!(flood(&mut world, from, 2000), 0);
    }
    assert_eq!(world.counter("datagrams_unexpected"), 2 * 3 * 3000);
    world.datagram(stranger(1), &[]);
    world.assert_quiet();
}

#[test]
fn a_reset_that_was_guessed_does_not_end_a_request() {
    let mut world = world(|_| {});
    let device = Device::registered(&mut world, "ep1", 5001);
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    let own = request.mid();
    // All but the right one, then the right one.
    for mid in (0..=u16::MAX).filter(|mid| *mid != own) {
        world.datagram(device.peer, &empty(MessageType::Reset, mid));
    }
    world.datagram(device.peer, &empty(MessageType::Reset, own));
    world.datagram(device.peer, &empty(MessageType::Acknowledgement, own));
    world.assert_quiet();
    assert_eq!(world.counter("resets"), 0);
    let answer = device.answer(&request, Code::CONTENT).payload("x").build();
    world.datagram(device.peer, &answer);
    assert_eq!(world.next_published().json["data"]["code"], "2.05");
    // A few strange ones do no harm: a device may be late.
    world.command("ep1", READ);
    let request = world.next_for(device.peer);
    for mid in 0..16 {
        let mid = request.mid().wrapping_add(100 + mid);
        world.datagram(device.peer, &empty(MessageType::Acknowledgement, mid));
    }
    world.datagram(device.peer, &empty(MessageType::Reset, request.mid()));
    assert_eq!(world.counter("resets"), 1);
    world.next_published();
}

// Rates.

#[test]
fn registers_beyond_the_rate_are_asked_to_wait() {
    let mut world = world(|config| {
        config.rates.registrations_per_source = "3/s".parse().unwrap();
        config.rates.registrations = "10/s".parse().unwrap();
    });
    let mut devices: Vec<_> = (0..5)
        .map(|n| Device::new(&format!("ep{n}"), 5000 + n))
        .collect();
    let mut codes = |world: &mut World| {
        let register = |device: &mut Device| {
            let datagram = register_datagram(device, "");
            world.datagram(device.peer, &datagram);
            let answer = world.next_for(device.peer);
            let max_age = answer.uint_option(option::MAX_AGE, 4);
            (answer.code(), max_age)
        };
        devices.iter_mut().map(register).collect::<Vec<_>>()
    };
    let first = codes(&mut world);
    assert!(first[..3].iter().all(|(code, _)| *code == Code::CREATED));
    for (code, max_age) in &first[3..] {
        assert_eq!(*code, Code::SERVICE_UNAVAILABLE);
        assert!(max_age.is_some_and(|seconds| (1..=70).contains(&seconds)));
    }
    assert_eq!(world.counter("registers_limited"), 2);
    // Somebody else is not concerned.
    let mut other = Device::new("other", 1);
    other.peer = stranger(1);
    other.register(&mut world, &[], "</3/0>");
    // Not remembered: later the same datagram is taken.
    world.pass(seconds(1));
    let late = Device::new("late", 5009);
    let non = Builder::new(MessageType::NonConfirmable, Code::POST, 9, &[])
        .option(option::URI_PATH, "rd")
        .option(option::URI_QUERY, "ep=late")
        .option(option::URI_QUERY, "lwm2m=1.1")
        .build();
    for device in devices.iter_mut().take(3) {
        let datagram = register_datagram(device, "");
        world.datagram(device.peer, &datagram);
        assert_eq!(world.next_for(device.peer).code(), Code::CREATED);
    }
    world.datagram(late.peer, &non);
    assert!(
        world.sent.is_empty(),
        "a Non-confirmable one is refused silently"
    );
    world.pass(seconds(1));
    world.datagram(late.peer, &non);
    assert_eq!(world.next_for(late.peer).code(), Code::CREATED);
}

#[test]
fn max_conn_rate_is_for_new_devices() {
    let mut world = world(|config| {
        let listener = config.listeners.udp.get_mut("default").unwrap();
        listener.max_conn_rate = "2/1m".parse().unwrap();
    });
    let mut device = Device::registered(&mut world, "ep1", 5001);
    Device::registered(&mut world, "ep2", 5002);
    for _ in 0..10 {
        device.register(&mut world, &[], "</3/0>");
        device.update(&mut world, &[], "");
    }
    let mut third = Device::new("ep3", 5003);
    world.datagram(third.peer, &register_datagram(&mut third, ""));
    let answer = world.next_for(third.peer);
    assert_eq!(answer.code(), Code::SERVICE_UNAVAILABLE);
    assert!(
        answer
            .uint_option(option::MAX_AGE, 4)
            .is_some_and(|seconds| seconds >= 30)
    );
    world.published.clear();
    world.pass(seconds(31));
    third.register(&mut world, &[], "</3/0>");
}

#[test]
fn a_registered_device_has_a_bucket_of_its_own() {
    let mut world = world(|_| {});
    let device = Device::registered(&mut world, "ep1", 5001);
    let limit = Limit::new("5/s".parse().unwrap());
    let mut admit = |from| world.engines[0].admit(world.now.mono, from, limit);
    assert_eq!(
        (0..20).filter(|_| admit(device.peer) == Some(true)).count(),
        5
    );
    assert_eq!(admit(device.peer), Some(false));
    assert_eq!(admit(peer(5002)), None);
}
