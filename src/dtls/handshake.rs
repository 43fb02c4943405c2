//! A handshake under way, from the hello with its cookie to the keys.
//!
//! OpenSSL wants the pre-shared key at once when it reads the ClientKeyExchange, but those who have
//! it may be slow. So the records with the ClientKeyExchange and what follows are held back until
//! the key is there. They are held back as well when they come before their turn: OpenSSL drops a
//! ChangeCipherSpec that is early, and some devices (tinydtls in Wakaama's client) never send it
//! again; and it keeps 17 kB for each encrypted record that comes before the ChangeCipherSpec, or as
//! payload before the Finished.
//!
//! With certificates there is no key to wait for: OpenSSL gets all messages up to the CertificateVerify
//! as they come, in whatever order and fragments, and puts them together within the bounds below.

mod inspect;
mod stage;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{self, ErrorCode, SslStream};

use super::certified::Certified;
use super::connection_id::ConnectionId;
use super::context::Context;
use super::identity::{Identity, IdentityReader};
use super::openssl::{self as ext, NoMemory, Stream};
use super::psk::{self, Judgement};
use super::record::{DECRYPT_ERROR, HANDSHAKE, Record, TLS12_CID, fatal_alert, records};
use super::session::{Protection, is_broken};
use super::shim::{Inward, Shim};
use super::verifier::Verifier;
use super::wire::Wire;
use crate::config::CipherSuite;
use crate::credentials::Key;
use crate::memory::Reservation;
use crate::network::NetworkPath;
use crate::time::Instant;
use stage::{Part, Stage, awaits_finished, chooses_certificates};

/// Records held back, and their bytes. A ClientKeyExchange with all that follows is three records;
/// the rest is for small fragments and repetitions.
const MAX_HELD: usize = 16;
const MAX_HELD_BYTES: usize = 8192;

/// Encrypted ones among them: a client has one to send, and perhaps payload, and repeats it about five
/// times before the time is up. Anybody can make some up, which shall not take the place of the others.
const MAX_HELD_ENCRYPTED: usize = 8;

/// Records given to OpenSSL for a handshake. Each flight is one to five, and may be repeated.
const MAX_RECORDS: u32 = 200;

/// Finished messages that cannot be decrypted before the handshake is given up. One may be somebody
/// else's, or damaged.
const MAX_UNDECIPHERABLE: usize = 2;

/// Timeouts of ours, each with a repetition of the last flight but the last, that a device may pass
/// in silence after one Finished that cannot be decrypted.
const MAX_SILENCES: u8 = 2;

pub(super) struct Handshake {
    pub peer: NetworkPath,
    /// When it must be over.
    pub deadline: Instant,
    /// When to do something about it, as in the server's list of timers.
    pub timer: Instant,
    /// Its bytes in the account of memory.
    pub reserved: Option<Reservation>,
    stream: Stream,
    random: [u8; 32],
    phase: Phase,
    reader: IdentityReader,
    held: Vec<(Stage, Vec<u8>)>,
    records: u32,
    /// Records that were not taken and not yet told of.
    dropped: u64,
    /// Record numbers of encrypted handshake messages that OpenSSL has got.
    finished: BTreeSet<u64>,
    /// Timeouts since the first of them.
    silences: u8,
    /// Whether nobody knows the identity.
    is_unknown: bool,
    /// The highest record number used in the clear.
    sent: u64,
    /// Who is let in by a certificate.
    verifier: Option<Arc<Verifier>>,
    /// Whether the device failed to show a certificate that is taken, and its key.
    is_rejected: bool,
    /// Records as OpenSSL does not know them.
    shim: Shim,
}

/// How far it is.
enum Phase {
    /// Before the ClientKeyExchange, or without one when a session is resumed.
    Hello,
    /// The key is asked for.
    Waiting(Identity),
    /// The key is there.
    Keyed(Identity),
    /// Both sides show certificates: no key is asked for.
    Certified,
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
    /// The handshake has failed: the device has another key, or nobody knows its identity.
    Refused,
    /// The handshake has failed: the device has no certificate that is taken. Why, and whose.
    Rejected(String),
    /// The handshake has failed for another reason.
    Failed(String),
}

/// A complete handshake.
pub(super) struct Completed {
    pub protection: Protection,
    pub identity: Identity,
    pub resumed: bool,
    pub suite: CipherSuite,
    /// The key that the device has; none when a session was resumed, or with a certificate.
    pub key: Option<Key>,
    /// The certificate that the device has.
    pub certified: Option<Arc<Certified>>,
    /// Records with payload, or what looks so, that came before.
    pub early: Vec<Vec<u8>>,
}

impl Handshake {
    /// Begins with a verified hello. The records of the client shall bear `id`. `None`: OpenSSL did not
    /// take the hello.
    pub(super) fn new(
        context: &Context,
        now: Instant,
        peer: NetworkPath,
        random: [u8; 32],
        hello: &Record<'_>,
        id: Option<ConnectionId>,
        wire: &mut Wire,
    ) -> Result<Option<Self>, ErrorStack> {
        let mut stream = context.stream(id)?;
        wire.put(hello.bytes);
        if stream.call(wire, ext::listen) != Ok(true) {
            return Ok(None);
        }
        let deadline = now + context.options.handshake_timeout;
        Ok(Some(Self {
            peer,
            deadline,
            timer: deadline,
            reserved: None,
            stream,
            random,
            phase: Phase::Hello,
            reader: IdentityReader::default(),
            held: Vec::new(),
            records: 0,
            dropped: 0,
            finished: BTreeSet::new(),
            silences: 0,
            is_unknown: false,
            sent: hello.sequence,
            verifier: context.verifier(),
            is_rejected: false,
            shim: Shim::default(),
        }))
    }

    /// Whether it was begun by this hello.
    pub(super) fn is_from(&self, client_random: &[u8; 32]) -> bool {
        self.random == *client_random
    }

    /// Goes on with what OpenSSL has already: the hello.
    pub(super) fn start(&mut self, wire: &mut Wire) -> Step {
        let step = self.drive(wire);
        self.rest(&step);
        step
    }

    /// Takes a datagram.
    pub(super) fn handle(&mut self, datagram: &[u8], wire: &mut Wire) -> Step {
        let mut outcome = Step::Dropped;
        let mut rest = datagram;
        while let Some((record, after)) = Record::split_any(rest) {
            rest = after;
            match self.take(&record, wire) {
                Step::Dropped => self.dropped = self.dropped.saturating_add(1),
                Step::Pending if matches!(outcome, Step::Ask(_)) => {}
                Step::Complete => {
                    outcome = Step::Complete;
                    self.keep_payload(rest);
                    break;
                }
                step @ (Step::Refused | Step::Rejected(_) | Step::Failed(_)) => {
                    outcome = step;
                    break;
                }
                step => outcome = step,
            }
        }
        self.rest(&outcome);
        outcome
    }

    fn take(&mut self, record: &Record<'_>, wire: &mut Wire) -> Step {
        let Some(Part { stage, identity }) = self.inspect(record) else {
            return Step::Dropped;
        };
        if !self.is_early(stage) {
            let step = self.feed(record, wire);
            return self.catch_up(step, wire);
        }
        if !self.hold(stage, record) {
            return Step::Dropped;
        }
        match (identity, &self.phase) {
            (Some(identity), Phase::Hello) => {
                self.phase = Phase::Waiting(identity.clone());
                Step::Ask(identity)
            }
            _ => Step::Pending,
        }
    }

    fn hold(&mut self, stage: Stage, record: &Record<'_>) -> bool {
        let bytes: usize = self.held.iter().map(|(_, held)| held.len()).sum();
        let encrypted = self.held.iter().filter(|(stage, _)| stage.is_encrypted());
        let has_room = self.held.len() < MAX_HELD
            && bytes.saturating_add(record.bytes.len()) <= MAX_HELD_BYTES
            && (!stage.is_encrypted() || encrypted.count() < MAX_HELD_ENCRYPTED);
        if has_room {
            self.held.push((stage, record.bytes.to_vec()));
        }
        has_room
    }

    /// Keeps what follows the Finished in its datagram.
    fn keep_payload(&mut self, rest: &[u8]) {
        for record in records(rest) {
            if record.epoch == 0 || !self.hold(Stage::Payload, &record) {
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }

    /// Number of records dropped since this was asked last.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The key that was asked for; a made-up one where nobody knows the identity, so that both look
    /// the same from outside (RFC 4279 §2).
    pub(super) fn set_key(&mut self, key: Key, is_unknown: bool, wire: &mut Wire) -> Step {
        let Phase::Waiting(identity) = std::mem::replace(&mut self.phase, Phase::Hello) else {
            return Step::Pending;
        };
        psk::set_key(self.stream.ssl(), identity.clone(), key);
        self.phase = Phase::Keyed(identity);
        self.is_unknown = is_unknown;
        let step = self.catch_up(Step::Pending, wire);
        self.rest(&step);
        step
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

    /// Whether it shows, when it ends incomplete, that the device has no key of ours: nobody knows
    /// its identity, or it sent a Finished and that did not complete it.
    pub(super) fn lacks_key(&self) -> bool {
        let has_wrong_key = !self.finished.is_empty() && !self.is_certified();
        self.is_unknown || has_wrong_key || self.is_rejected
    }

    /// Sends the last flight again if it is time for it. False: it was too often.
    pub(super) fn retransmit(&mut self, wire: &mut Wire) -> bool {
        let is_well = self.stream.call(wire, ext::handle_timeout).unwrap_or(false);
        self.note_sent(wire);
        self.rest(&Step::Pending);
        is_well
    }

    /// Time to the next retransmission. None while the key is awaited: the device has done its
    /// part.
    pub(super) fn retransmission(&mut self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting(_) => None,
            _ => self.stream.timeout(),
        }
    }

    /// What it ended in. `None` when it has no identity or no suite, which does not happen.
    pub(super) fn complete(mut self) -> Option<Completed> {
        let layer = self.shim.layer(self.stream.ssl());
        let ssl = self.stream.ssl();
        let key = psk::take_key(ssl);
        let resumed = ssl.session_reused();
        let suite = CipherSuite::from_name(ssl.current_cipher()?.name())?;
        let mut certified = None;
        let identity = match self.phase {
            Phase::Keyed(identity) if !resumed => identity,
            _ if suite.has_certificates() => {
                let (identity, facts) = match psk::take_judgement(ssl) {
                    Judgement::Certified(identity, facts) if !resumed => (identity, facts),
                    _ if resumed => self.verifier.as_ref()?.resumed(ssl)?,
                    _ => return None,
                };
                certified = Some(Arc::new(facts));
                identity
            }
            _ => psk::resumed(ssl)?,
        };
        let last_flight = self.shim.last_flight(resumed, self.sent);
        let early = self.held.into_iter();
        let early = early.filter_map(|(stage, record)| stage.is_encrypted().then_some(record));
        Some(Completed {
            identity,
            resumed,
            suite,
            key: key.filter(|_| !resumed),
            certified,
            early: early.collect(),
            protection: Protection::new(self.stream, layer, last_flight, &self.random),
        })
    }

    /// Gives OpenSSL the records held back that it can use now, after one that ended in `step`.
    fn catch_up(&mut self, mut step: Step, wire: &mut Wire) -> Step {
        while matches!(step, Step::Pending) {
            let places = self.held.iter().enumerate();
            let ready = places.filter(|(_, (stage, _))| !self.is_early(*stage));
            let first = ready.min_by_key(|(_, (stage, _))| *stage);
            let Some((at, _)) = first else {
                break;
            };
            let (_, bytes) = self.held.remove(at);
            if let Some((record, _)) = Record::split_any(&bytes) {
                step = self.feed(&record, wire);
            }
        }
        step
    }

    const fn is_certified(&self) -> bool {
        matches!(self.phase, Phase::Certified)
    }

    /// Gives a record to OpenSSL.
    fn feed(&mut self, record: &Record<'_>, wire: &mut Wire) -> Step {
        if self.records >= MAX_RECORDS {
            return Step::Dropped;
        }
        self.records = self.records.saturating_add(1);
        let translated = match record.content_type {
            TLS12_CID => self.shim.inward(self.stream.ssl(), record),
            _ => Inward::Record(Vec::new()),
        };
        let record = match &translated {
            Inward::Record(bytes) => &Record::split(bytes).map_or(*record, |(it, _)| it),
            Inward::Payload if self.hold(Stage::Payload, record) => return Step::Pending,
            Inward::Payload | Inward::Nothing => return Step::Dropped,
        };
        self.shim.note_received(record);
        if record.epoch > 0 && record.content_type == HANDSHAKE {
            self.finished.insert(record.sequence);
        }
        wire.put(record.bytes);
        self.drive(wire)
    }

    fn drive(&mut self, wire: &mut Wire) -> Step {
        let result = match self.stream.call(wire, SslStream::do_handshake) {
            Ok(result) => result,
            Err(error @ NoMemory) => return Step::Failed(error.to_string()),
        };
        self.note_sent(wire);
        let error = match result {
            Ok(()) => return Step::Complete,
            Err(error) => error,
        };
        if error.code() != ErrorCode::WANT_READ && is_broken(self.stream.ssl()) {
            return self.failed(&error);
        }
        // With certificates both have the same keys for sure: such a message is somebody else's.
        if self.finished.len() >= MAX_UNDECIPHERABLE
            && awaits_finished(self.stream.ssl())
            && !self.is_certified()
        {
            return self.refuse(wire);
        }
        Step::Pending
    }

    /// OpenSSL has given up.
    fn failed(&mut self, error: &ssl::Error) -> Step {
        let reason = error
            .ssl_error()
            .and_then(|stack| stack.errors().first()?.reason());
        let reason = || reason.map_or_else(|| error.to_string(), str::to_owned);
        if !self.is_certified() {
            return Step::Failed(error.to_string());
        }
        self.is_rejected = true;
        Step::Rejected(match psk::take_judgement(self.stream.ssl()) {
            Judgement::Refused(reason) => reason,
            Judgement::Open => reason(),
            Judgement::Certified(identity, _) => format!("{}: {identity}", reason()),
        })
    }

    /// Gives the record buffers back until there is something to do, two thirds of what a handshake
    /// takes: whoever begins many and leaves them shall not have that much. A complete one goes on
    /// as a session.
    fn rest(&mut self, step: &Step) {
        if !matches!(step, Step::Complete) {
            // While there is something in them they stay.
            let _ = self.stream.cool();
        }
    }

    fn refuse(&self, wire: &mut Wire) -> Step {
        wire.send(fatal_alert(self.sent.saturating_add(1), DECRYPT_ERROR));
        Step::Refused
    }

    /// At a timeout: gives up on a device that sent one undecipherable Finished and never repeats
    /// it, as tinydtls does. None: there is still hope.
    pub(super) fn refuse_silent(&mut self, wire: &mut Wire) -> Option<Step> {
        if self.finished.is_empty() || self.is_certified() || !awaits_finished(self.stream.ssl()) {
            return None;
        }
        self.silences = self.silences.saturating_add(1);
        (self.silences >= MAX_SILENCES).then(|| self.refuse(wire))
    }

    /// Looks at what OpenSSL has written, for the number of a record of our own, and gives it the ids
    /// that the client wants to see.
    fn note_sent(&mut self, wire: &mut Wire) {
        self.shim.outward(self.stream.ssl(), wire);
        let records = wire.written().flat_map(records);
        let in_the_clear = records.filter(|record| record.epoch == 0);
        self.sent = in_the_clear.fold(self.sent, |sent, record| sent.max(record.sequence));
        if matches!(self.phase, Phase::Hello) && self.verifier.is_some() {
            let mut written = wire.written().flat_map(self::records);
            if written.any(|record| chooses_certificates(&record)) {
                self.phase = Phase::Certified;
            }
        }
    }
}
