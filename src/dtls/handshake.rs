//! A handshake under way, from the hello with its cookie to the keys.
//!
//! OpenSSL wants the pre-shared key at once when it reads the ClientKeyExchange, but those who have
//! it may be slow. So the datagrams with the ClientKeyExchange and what follows are held back until
//! the key is there. They are held back as well when they come before the whole ClientKeyExchange:
//! OpenSSL drops a ChangeCipherSpec that is early, and some devices (tinydtls in Wakaama's client)
//! never send it again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, SslRef, SslStream};

use super::context::Context;
use super::identity::{Identity, IdentityReader};
use super::record::{
    CHANGE_CIPHER_SPEC, CLIENT_HELLO, CLIENT_KEY_EXCHANGE, DECRYPT_ERROR, HANDSHAKE, Record,
    fatal_alert, fragments, has_short_record, overhead, records,
};
use super::session::{is_broken, with_wire};
use super::wire::Wire;
use super::{openssl as ext, psk};
use crate::config::CipherSuite;
use crate::credentials::Key;
use crate::time::Instant;

/// Datagrams held back, and their bytes. A ClientKeyExchange with all that follows fits into three
/// datagrams; the rest is for small fragments and repetitions.
const MAX_HELD: usize = 16;
const MAX_HELD_BYTES: usize = 8192;

/// Datagrams given to OpenSSL for a handshake. Each flight is one to five, and may be repeated.
const MAX_DATAGRAMS: u32 = 200;

/// Encrypted records taken for a handshake: OpenSSL keeps 17 kB for each that comes early. A client
/// has one to send, and repeats it about five times before the time is up.
const MAX_ENCRYPTED: u32 = 8;

/// Least bytes of an encrypted record while the suite is not known: enough for all of them but CBC,
/// which OpenSSL checks itself. A Finished, which is what may come then, has more.
const LEAST_ENCRYPTED: usize = 24;

/// Longest handshake message of a client in bytes, and its highest number: OpenSSL keeps parts of
/// longer and later ones that it will never use.
const MAX_MESSAGE: usize = 4096;
const CLIENT_KEY_EXCHANGE_SEQUENCE: u16 = 2;

/// Finished messages that cannot be decrypted before the handshake is given up. One may be somebody
/// else's, or damaged.
const MAX_UNDECIPHERABLE: usize = 2;

/// Timeouts of ours, each with a repetition of the last flight but the last, that a device may pass
/// in silence after one Finished that cannot be decrypted.
const MAX_SILENCES: u8 = 2;

pub(super) struct Handshake {
    pub peer: SocketAddr,
    /// When it must be over.
    pub deadline: Instant,
    /// When to do something about it, as in the server's list of timers.
    pub timer: Instant,
    stream: SslStream<Wire>,
    random: [u8; 32],
    phase: Phase,
    reader: IdentityReader,
    held: Vec<(Stage, Vec<u8>)>,
    datagrams: u32,
    encrypted: u32,
    /// Record numbers of encrypted handshake messages that OpenSSL has got.
    finished: BTreeSet<u64>,
    /// Timeouts since the first of them.
    silences: u8,
    /// Whether OpenSSL has got other encrypted records: payload that overtook the Finished.
    has_data: bool,
    /// The highest record number used in the clear.
    sent: u64,
}

/// How far it is.
enum Phase {
    /// Before the ClientKeyExchange, or without one when a session is resumed.
    Hello,
    /// The key is asked for.
    Waiting(Identity),
    /// The key is there.
    Keyed(Identity),
}

/// Which part of a handshake a datagram is of, in the order in which OpenSSL wants them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// ClientHello, or an alert.
    #[default]
    Opening,
    /// With a ClientKeyExchange or a part of one.
    KeyExchange,
    /// ChangeCipherSpec.
    Change,
    /// Nothing but encrypted records.
    Encrypted,
}

/// What became of a datagram.
pub(super) enum Step {
    /// Not a part of any handshake, or too much.
    Dropped,
    /// Taken; nothing more to do.
    Pending,
    /// Who has the key of this identity?
    Ask(Identity),
    /// The handshake is complete.
    Complete,
    /// The handshake has failed.
    Failed(String),
}

/// A complete handshake.
pub(super) struct Completed {
    pub stream: SslStream<Wire>,
    pub identity: Identity,
    pub resumed: bool,
    pub suite: CipherSuite,
    /// The key that the device has; none when a session was resumed.
    pub key: Option<Key>,
    /// Whether there may be payload already.
    pub has_data: bool,
}

impl Handshake {
    /// Begins with a verified hello, at the beginning of `datagram`. `None`: OpenSSL did not take
    /// it.
    pub(super) fn new(
        context: &Context,
        now: Instant,
        peer: SocketAddr,
        random: [u8; 32],
        hello: &Record<'_>,
        wire: &mut Wire,
    ) -> Result<Option<Self>, ErrorStack> {
        let mut stream = context.stream()?;
        wire.put(hello.bytes);
        if !with_wire(&mut stream, wire, ext::listen) {
            return Ok(None);
        }
        let deadline = now + context.options.handshake_timeout;
        Ok(Some(Self {
            peer,
            deadline,
            timer: deadline,
            stream,
            random,
            phase: Phase::Hello,
            reader: IdentityReader::default(),
            held: Vec::new(),
            datagrams: 0,
            encrypted: 0,
            finished: BTreeSet::new(),
            silences: 0,
            has_data: false,
            sent: hello.sequence,
        }))
    }

    /// Whether it was begun by this hello.
    pub(super) fn is_from(&self, client_random: &[u8; 32]) -> bool {
        self.random == *client_random
    }

    /// Goes on with what OpenSSL has already: the hello.
    pub(super) fn start(&mut self, wire: &mut Wire) -> Step {
        self.drive(wire)
    }

    /// Takes a datagram.
    pub(super) fn handle(&mut self, datagram: &[u8], wire: &mut Wire) -> Step {
        if self.datagrams >= MAX_DATAGRAMS {
            return Step::Dropped;
        }
        let Some(contents) = self.inspect(datagram) else {
            return Step::Dropped;
        };
        if !self.is_early(contents.stage) {
            let step = self.feed(datagram, wire);
            return self.catch_up(step, wire);
        }
        let bytes: usize = self.held.iter().map(|(_, held)| held.len()).sum();
        if self.held.len() >= MAX_HELD || bytes.saturating_add(datagram.len()) > MAX_HELD_BYTES {
            return Step::Dropped;
        }
        self.held.push((contents.stage, datagram.to_vec()));
        match (contents.identity, &self.phase) {
            (Some(identity), Phase::Hello) => {
                self.phase = Phase::Waiting(identity.clone());
                Step::Ask(identity)
            }
            _ => Step::Pending,
        }
    }

    /// The key that was asked for; a made-up one where there is none, so that both look the same
    /// from outside (RFC 4279 §2).
    pub(super) fn set_key(&mut self, key: Key, wire: &mut Wire) -> Step {
        let Phase::Waiting(identity) = std::mem::replace(&mut self.phase, Phase::Hello) else {
            return Step::Pending;
        };
        psk::set_key(self.stream.ssl(), identity.clone(), key);
        self.phase = Phase::Keyed(identity);
        self.catch_up(Step::Pending, wire)
    }

    /// The identity whose key is awaited.
    pub(super) fn awaits_key_of(&self) -> Option<&Identity> {
        match &self.phase {
            Phase::Waiting(identity) => Some(identity),
            _ => None,
        }
    }

    /// Who this is to be, once it has said so.
    pub(super) const fn identity(&self) -> Option<&Identity> {
        match &self.phase {
            Phase::Keyed(identity) => Some(identity),
            _ => None,
        }
    }

    /// Sends the last flight again if it is time for it. False: it was too often.
    pub(super) fn retransmit(&mut self, wire: &mut Wire) -> bool {
        let is_well = ext::alloc_buffers(&mut self.stream)
            && with_wire(&mut self.stream, wire, ext::handle_timeout);
        self.note_sent(wire);
        self.rest();
        is_well
    }

    /// Time to the next retransmission. None while the key is awaited: the device has done its
    /// part.
    pub(super) fn retransmission(&mut self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting(_) => None,
            _ => ext::timeout(&mut self.stream),
        }
    }

    /// What it ended in. `None` when it has no identity or no suite, which does not happen.
    pub(super) fn complete(self) -> Option<Completed> {
        let ssl = self.stream.ssl();
        let key = psk::take_key(ssl);
        let resumed = ssl.session_reused();
        let identity = match self.phase {
            Phase::Keyed(identity) if !resumed => identity,
            _ => Identity::new(ssl.psk_identity()?),
        };
        let suite = CipherSuite::from_name(ssl.current_cipher()?.name())?;
        Some(Completed {
            identity,
            resumed,
            suite,
            key: key.filter(|_| !resumed),
            has_data: self.has_data,
            stream: self.stream,
        })
    }

    /// Whether a datagram of this stage has to wait.
    fn is_early(&self, stage: Stage) -> bool {
        let ssl = self.stream.ssl();
        match self.phase {
            // Without a ClientKeyExchange to wait for when a session is resumed.
            Phase::Hello => stage != Stage::Opening && !ssl.session_reused(),
            Phase::Waiting(_) => stage != Stage::Opening,
            Phase::Keyed(_) => stage > Stage::KeyExchange && awaits_key_exchange(ssl),
        }
    }

    /// Gives OpenSSL the datagrams held back that it can use now, after one that ended in `step`.
    fn catch_up(&mut self, mut step: Step, wire: &mut Wire) -> Step {
        while matches!(step, Step::Pending | Step::Dropped) {
            let places = self.held.iter().enumerate();
            let ready = places.filter(|(_, (stage, _))| !self.is_early(*stage));
            let first = ready.min_by_key(|(_, (stage, _))| *stage);
            let Some((at, _)) = first else {
                break;
            };
            let (_, datagram) = self.held.remove(at);
            step = self.feed(&datagram, wire);
        }
        step
    }

    /// Looks through the records of a datagram before OpenSSL may see them. `None`: there is
    /// something in it that has no place in a handshake with PSK.
    fn inspect(&mut self, datagram: &[u8]) -> Option<Contents> {
        let cipher = self.stream.ssl().current_cipher();
        let suite = cipher.and_then(|cipher| CipherSuite::from_name(cipher.name()));
        if has_short_record(datagram, suite.map_or(LEAST_ENCRYPTED, overhead)) {
            return None;
        }
        let mut contents = Contents::default();
        let mut is_encrypted = true;
        for record in records(datagram) {
            if record.epoch > 0 {
                self.encrypted = self.encrypted.saturating_add(1);
                if self.encrypted > MAX_ENCRYPTED {
                    return None;
                }
                continue;
            }
            is_encrypted = false;
            if record.content_type == CHANGE_CIPHER_SPEC && contents.stage == Stage::Opening {
                contents.stage = Stage::Change;
            }
            if record.content_type != HANDSHAKE {
                continue;
            }
            for message in fragments(record.fragment) {
                let is_expected = matches!(message.kind, CLIENT_HELLO | CLIENT_KEY_EXCHANGE)
                    && message.length <= MAX_MESSAGE
                    && message.sequence <= CLIENT_KEY_EXCHANGE_SEQUENCE;
                if !is_expected {
                    return None;
                }
                if message.kind == CLIENT_KEY_EXCHANGE
                    && message.sequence == CLIENT_KEY_EXCHANGE_SEQUENCE
                {
                    contents.stage = Stage::KeyExchange;
                    contents.identity = contents.identity.or_else(|| self.reader.add(&message));
                }
            }
        }
        if is_encrypted {
            contents.stage = Stage::Encrypted;
        }
        Some(contents)
    }

    /// Gives a datagram to OpenSSL.
    fn feed(&mut self, datagram: &[u8], wire: &mut Wire) -> Step {
        self.datagrams = self.datagrams.saturating_add(1);
        for record in records(datagram) {
            if record.epoch == 0 {
                continue;
            }
            if record.content_type == HANDSHAKE {
                self.finished.insert(record.sequence);
            } else {
                self.has_data = true;
            }
        }
        wire.put(datagram);
        self.drive(wire)
    }

    fn drive(&mut self, wire: &mut Wire) -> Step {
        if !ext::alloc_buffers(&mut self.stream) {
            return Step::Failed("no memory".to_owned());
        }
        let result = with_wire(&mut self.stream, wire, SslStream::do_handshake);
        self.note_sent(wire);
        let error = match result {
            Ok(()) => return Step::Complete,
            Err(error) => error,
        };
        if error.code() != ErrorCode::WANT_READ && is_broken(self.stream.ssl()) {
            return Step::Failed(error.to_string());
        }
        if self.finished.len() >= MAX_UNDECIPHERABLE && awaits_finished(self.stream.ssl()) {
            return self.refuse(wire);
        }
        self.rest();
        Step::Pending
    }

    /// Gives the record buffers back until there is something to do, two thirds of what a handshake
    /// takes: whoever begins many and leaves them shall not have that much.
    fn rest(&mut self) {
        // While there is something in them they stay.
        let _ = ext::free_buffers(&mut self.stream);
    }

    fn refuse(&self, wire: &mut Wire) -> Step {
        wire.send(fatal_alert(self.sent.saturating_add(1), DECRYPT_ERROR));
        Step::Failed("the key is wrong, or nobody knows the identity".to_owned())
    }

    /// At a timeout: gives up on a device that sent one undecipherable Finished and never repeats
    /// it, as tinydtls does. None: there is still hope.
    pub(super) fn refuse_silent(&mut self, wire: &mut Wire) -> Option<Step> {
        if self.finished.is_empty() || !awaits_finished(self.stream.ssl()) {
            return None;
        }
        self.silences = self.silences.saturating_add(1);
        (self.silences >= MAX_SILENCES).then(|| self.refuse(wire))
    }

    /// Looks at what OpenSSL has written, for the number of a record of our own.
    fn note_sent(&mut self, wire: &Wire) {
        let records = wire.written().flat_map(records);
        let in_the_clear = records.filter(|record| record.epoch == 0);
        self.sent = in_the_clear.fold(self.sent, |sent, record| sent.max(record.sequence));
    }
}

#[derive(Default)]
struct Contents {
    stage: Stage,
    identity: Option<Identity>,
}

/// Whether OpenSSL has sent its flight and has not read the whole ClientKeyExchange.
fn awaits_key_exchange(ssl: &SslRef) -> bool {
    ssl.state_string() == "TWSD"
}

/// Whether OpenSSL has read the client's ChangeCipherSpec and no Finished.
fn awaits_finished(ssl: &SslRef) -> bool {
    ssl.state_string() == "TRCCS"
}
