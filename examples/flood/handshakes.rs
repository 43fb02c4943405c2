//! Handshakes of DTLS 1.2 with a pre-shared key that are never completed, made by hand: no flood
//! knows a key, and none needs arithmetic.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::datagrams::socket;
use crate::{Options, Run};

/// Handshakes at a time.
const THREADS: usize = 16;
/// How long the gateway's flight is awaited.
const PATIENCE: Duration = Duration::from_millis(200);

/// So many of them, and the gateway does not hope any more for one that its key can read.
const FINISHED: u8 = 3;

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const CLIENT_KEY_EXCHANGE: u8 = 16;
/// Where a HelloVerifyRequest has the length of its cookie, after the headers and the version.
const COOKIE_AT: usize = 13 + 12 + 2;

/// What comes after the gateway's flight.
#[derive(Clone, Copy)]
pub(crate) enum After {
    /// Silence: the handshake stays half open.
    Nothing,
    /// An identity that nobody knows.
    UnknownIdentity,
    /// A known identity and a Finished that no key makes.
    WrongKey,
}

/// Handshakes one after the other, in some threads.
pub(crate) fn run((options, pace, counts): Run<'_>, after: After) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                // Sockets of half-open handshakes stay open until the end, as theirs would.
                let mut open = Vec::new();
                while let Some((number, _)) = pace.next(1) {
                    let socket = socket(options);
                    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    if handshake(&socket, options, number, after, counts).is_none() {
                        counts.failed();
                    }
                    if matches!(after, After::Nothing) && open.len() < 1000 {
                        open.push(socket);
                    }
                }
            });
        }
    });
}

fn handshake(
    socket: &UdpSocket,
    options: &Options,
    number: u64,
    after: After,
    counts: &crate::Counts,
) -> Option<()> {
    let mut buffer = [0; 4096];
    let mut exchange = |datagram: &[u8]| {
        socket.send(datagram).ok()?;
        counts.sent(1, datagram.len());
        let length = socket.recv(&mut buffer).ok()?;
        counts.received(length);
        Some(buffer[..length].to_vec())
    };
    let request = exchange(&hello(number, 0, &[]))?;
    let length = usize::from(*request.get(COOKIE_AT)?);
    let cookie = request.get(COOKIE_AT + 1..COOKIE_AT + 1 + length)?;
    exchange(&hello(number, 1, cookie))?;
    let identity = match after {
        After::Nothing => return Some(()),
        After::UnknownIdentity => format!("{}-{number}", options.name),
        After::WrongKey => options.name.clone(),
    };
    let mut key_exchange = (identity.len() as u16).to_be_bytes().to_vec();
    key_exchange.extend(identity.as_bytes());
    let mut flight = message(CLIENT_KEY_EXCHANGE, 2, &key_exchange);
    flight.extend(record(CHANGE_CIPHER_SPEC, 0, 3, &[1]));
    // An encrypted Finished and its repetitions: explicit nonce, 24 bytes, tag of 8 bytes.
    for sequence in 0..FINISHED {
        flight.extend(record(HANDSHAKE, 1, sequence, &[number as u8; 8 + 24 + 8]));
    }
    exchange(&flight)?;
    Some(())
}

/// A first hello, without its cookie.
pub(crate) fn hello_without_cookie(_: &Options, index: u64) -> Vec<u8> {
    hello(index, 0, &[])
}

/// A ClientHello with the suite PSK-AES128-CCM8.
fn hello(number: u64, sequence: u8, cookie: &[u8]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    for _ in 0..4 {
        body.extend(number.to_be_bytes());
    }
    body.extend([0, cookie.len() as u8]);
    body.extend(cookie);
    body.extend([0, 2, 0xc0, 0xa8, 1, 0]);
    message(CLIENT_HELLO, sequence, &body)
}

/// A handshake message in a record of the same number.
fn message(kind: u8, sequence: u8, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    let mut fragment = vec![kind];
    fragment.extend(length);
    fragment.extend([0, sequence, 0, 0, 0]);
    fragment.extend(length);
    fragment.extend(body);
    record(HANDSHAKE, 0, sequence, &fragment)
}

fn record(kind: u8, epoch: u8, sequence: u8, fragment: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, sequence];
    record.extend((fragment.len() as u16).to_be_bytes());
    record.extend(fragment);
    record
}
