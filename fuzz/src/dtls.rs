//! The DTLS server up to the point where keys are needed.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::credentials::Key;
use lwm2m_gateway::dtls::{Context, CredentialTicket, Options, Output, Server};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::Instant;

use super::engine::next_event;
use super::work::{Work, bounded};

const PEERS: u8 = 4;
const MAX_HANDSHAKES: usize = 3;
/// Bytes of a HelloVerifyRequest before its cookie, and of the cookie.
const BEFORE_COOKIE: usize = 28;
const COOKIE: usize = 17;

thread_local! {
    static CONTEXT: OnceCell<Arc<Context>> = const { OnceCell::new() };
}

/// What an event may do on our side of OpenSSL, and for each byte of it.
const EVENT: (Work, Work) = (
    Work {
        allocations: 2000,
        bytes: 1 << 20,
    },
    Work {
        allocations: 8,
        bytes: 256,
    },
);

/// An input is a list of events, each of a byte for its kind and peer, a byte for its length (two
/// with [`LONG`](super::engine::LONG)) and the rest. Events are datagrams, whole cookie exchanges, keys and time. Whatever happens, nobody
/// without a key gets a session, and all handshakes end.
pub fn dtls(mut data: &[u8]) {
    let context = CONTEXT.with(|context| {
        Arc::clone(context.get_or_init(|| {
            Arc::new(
                Context::new(&Options {
                    max_handshakes: MAX_HANDSHAKES,
                    ..Options::default()
                })
                .expect("OpenSSL has the suites"),
            )
        }))
    });
    let mut server = Server::new(context, [1; 32], Arc::new(Counters::default()));
    let mut now = Instant::ZERO;
    let mut tickets = Vec::new();
    while let Some((event, length, bytes)) = next_event(&mut data) {
        let work = EVENT.0.of_bytes(EVENT.1, bytes.len());
        let peer = SocketAddr::from(([127, 0, 0, 1], 5000 + u16::from(event % PEERS)));
        bounded("an event", work, || match event / PEERS % 8 {
            0..4 => server.handle_datagram(now, peer, bytes),
            4 | 5 => cookie_exchange(&mut server, now, peer, &HELLO, bytes),
            6 => {
                if let Some(ticket) = tickets.pop() {
                    let key = (!bytes.is_empty()).then(|| Key::new(bytes.to_vec()));
                    server.handle_credential(now, ticket, key);
                }
            }
            _ => {
                now += Duration::from_millis(length as u64 * 100);
                server.handle_timeout(now);
            }
        });
        drain(&mut server, &mut tickets);
        assert!(server.handshakes() <= MAX_HANDSHAKES && server.sessions() == 0);
    }
    server.handle_timeout(now + Duration::from_secs(60));
    assert_eq!(drain(&mut server, &mut tickets), None);
    assert_eq!(server.handshakes(), 0);
}

/// What a hello has behind its cookie: the suites PSK-AES128-CCM8 and ECDHE-PSK-CHACHA20-POLY1305.
const HELLO: [u8; 8] = [0, 4, 0xc0, 0xa8, 0xcc, 0xac, 1, 0];

/// Both hellos of a client, the second one followed by `rest` in its datagram.
pub(super) fn cookie_exchange(
    server: &mut Server,
    now: Instant,
    peer: SocketAddr,
    offer: &[u8],
    rest: &[u8],
) {
    let random = rest.first().copied().unwrap_or_default();
    server.handle_datagram(now, peer, &hello(random, 0, &[], offer));
    let Output::Transmit { datagram, .. } = server.poll_output() else {
        panic!("no HelloVerifyRequest");
    };
    let cookie = &datagram[BEFORE_COOKIE..BEFORE_COOKIE + COOKIE];
    let mut second = hello(random, 1, cookie, offer);
    second.extend_from_slice(rest);
    server.handle_datagram(now, peer, &second);
}

/// Takes everything that comes out; returns what is planned next.
pub(super) fn drain(server: &mut Server, tickets: &mut Vec<CredentialTicket>) -> Option<Instant> {
    loop {
        match server.poll_output() {
            Output::Transmit { datagram, .. } => assert!(datagram.len() >= 13),
            Output::CredentialWanted { ticket, .. } => tickets.push(ticket),
            Output::Idle(deadline) => return deadline,
            other => panic!("{other:?}"),
        }
    }
}

fn hello(random: u8, sequence: u8, cookie: &[u8], offer: &[u8]) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([random; 32]);
    body.extend([0, cookie.len() as u8]);
    body.extend(cookie);
    body.extend(offer);
    let length = body.len() as u8;
    let mut datagram = vec![
        22,
        0xfe,
        0xff,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        sequence,
        0,
        length + 12,
    ];
    datagram.extend([1, 0, 0, length, 0, sequence, 0, 0, 0, 0, 0, length]);
    datagram.extend(body);
    datagram
}
