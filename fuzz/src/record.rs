//! Records of an established session, with and without connection ids.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lwm2m_gateway::dtls::{Context, Options, Output, SavedSession, Server};
use lwm2m_gateway::telemetry::Counters;
use lwm2m_gateway::time::Instant;

use super::engine::next_event;
use super::work::{Work, bounded};

const PEERS: u8 = 4;

/// Suites by their place, each with and without ids.
const SUITES: [&str; 3] = [
    "TLS_PSK_WITH_AES_128_CCM_8",
    "TLS_PSK_WITH_AES_128_CCM",
    "TLS_PSK_WITH_AES_128_GCM_SHA256",
];

thread_local! {
    static CONTEXT: OnceCell<Arc<Context>> = const { OnceCell::new() };
}

/// What a datagram may do, and for each byte of it.
const EVENT: (Work, Work) = (
    Work {
        allocations: 100,
        bytes: 1 << 16,
    },
    Work {
        allocations: 2,
        bytes: 64,
    },
);

/// The first byte chooses the suite and whether there are ids; the rest is a list of events, each of a
/// byte for its kind and peer, a byte for its length (two with [`LONG`](super::engine::LONG)) and the
/// rest. Events are datagrams, payloads to send and time. There is one session throughout, whose keys
/// are those of `tests/vectors/rfc9146.py`, until an authentic alert ends it.
pub fn record(data: &[u8]) {
    let Some((&kind, mut data)) = data.split_first() else {
        return;
    };
    let context = CONTEXT.with(|context| {
        Arc::clone(context.get_or_init(|| {
            Arc::new(Context::new(&Options::default()).expect("OpenSSL has the suites"))
        }))
    });
    let mut server = Server::new(context, [1; 32], Arc::new(Counters::default()));
    server.begin_keeping();
    let home = SocketAddr::from(([127, 0, 0, 1], 5000));
    let mut now = Instant::ZERO;
    let session = server
        .restore(now, home.into(), &saved(kind), None)
        .expect("a suite that is on");
    assert!(matches!(server.poll_output(), Output::Established { .. }));
    while let Some((event, length, bytes)) = next_event(&mut data) {
        let work = EVENT.0.of_bytes(EVENT.1, bytes.len());
        let peer = SocketAddr::from(([127, 0, 0, 1], 5000 + u16::from(event % PEERS)));
        bounded("an event", work, || match event / PEERS % 4 {
            0 | 1 => server.handle_datagram(now, peer, bytes),
            2 => {
                // A session that has ended, or a payload that is empty, is told.
                let _ = server.send_to(now, session, bytes);
            }
            _ => {
                now += Duration::from_millis(length as u64 * 100);
                server.handle_timeout(now);
            }
        });
        let before = server.sessions();
        loop {
            match server.poll_output() {
                Output::Transmit { datagram, .. } => assert!(datagram.len() >= 13 + 8 + 8),
                Output::Received { payload, .. } => {
                    assert!(!payload.is_empty() && payload.len() < bytes.len());
                }
                Output::Closed { .. } => assert_eq!(server.sessions(), 0),
                Output::Moved { .. } => assert!(kind & 1 == 1, "without an id nobody moves"),
                Output::Keep { session, .. } => assert!(server.save(session).is_some()),
                Output::Idle(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(before <= 1 && server.handshakes() == 0);
    }
}

/// A session as the store has it.
fn saved(kind: u8) -> SavedSession {
    let suite = SUITES[usize::from(kind / 2) % SUITES.len()];
    let key: Vec<u8> = (0..16).collect();
    let salt = vec![0xa0u8, 0xa1, 0xa2, 0xa3];
    let keys = [key.clone(), key, salt.clone(), salt].concat();
    let id: Option<[u8; 8]> =
        (kind & 1 == 1).then_some([0xc1, 0xd2, 0xe3, 0xf4, 0x05, 0x16, 0x27, 0x38]);
    let value = serde_json::json!({
        "address": "127.0.0.1:5000",
        "identity": b"device",
        "suite": suite,
        "keys": keys,
        "reserved": 0,
        "edge": 0,
        "ours": id,
        "theirs": [],
        "random": [0, 0, 0, 0, 0, 0, 0, 0],
    });
    serde_json::from_value(value).expect("the form of the store")
}
