//! A session: a completed handshake and its keys. Its records are protected by our own layer, or by
//! OpenSSL with suites that this one does not have.

use std::time::Duration;

use openssl::ssl::{ErrorCode, SslRef, SslStream};

use super::connection_id::ConnectionId;
use super::identity::Identity;
use super::openssl::{NoMemory, Stream};
use super::path::StoredPath;
use super::record::{
    ALERT, APPLICATION_DATA, Aead, CHANGE_CIPHER_SPEC, CLIENT_HELLO, FINISHED, HANDSHAKE, Layer,
    NUMBERS, Record, SavedLayer, SealError, clear,
};
use super::saved::{ASK_AT, LAG, SPAN, SavedSession};
use super::shares::Seat;
use super::shim::LastFlight;
use super::wire::Wire;
use super::{CloseReason, SendError};
use crate::config::CipherSuite;
use crate::network::NetworkPath;
use crate::time::Instant;

/// Longest payload of a record (RFC 6347 §4.1).
const MAX_PAYLOAD: usize = 16_384;

/// Alerts as they are in a record (RFC 5246 §7.2).
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const NO_RENEGOTIATION: [u8; 2] = [1, 100];
const FATAL: u8 = 2;

pub(super) struct Session {
    /// Where it was last.
    peer: StoredPath,
    pub identity: Identity,
    pub suite: CipherSuite,
    pub seat: Seat,
    /// When it was last put behind the others of its credential and source: the last bits of that.
    noted: u32,
    protection: Protection,
}

/// Who protects the records.
pub(super) enum Protection {
    /// Our own layer; OpenSSL's object is gone.
    Own(Own),
    /// OpenSSL.
    OpenSsl(Stream),
}

/// What is left of a handshake whose records are ours.
pub(super) struct Own {
    layer: Layer,
    /// Until the first payload shows that the device has it.
    last_flight: Option<Box<LastFlight>>,
    /// The end of the client's random, which nobody can choose for somebody else.
    random: [u8; 8],
    /// What is kept of it, if it is.
    kept: Option<Box<Kept>>,
}

/// What the store has of a session, or was last asked to have.
struct Kept {
    /// From which number on numbers are set aside.
    reserved: u64,
    /// The numbers below this one may be used.
    limit: u64,
    /// Of the edge the last bits: it moves by a few at a time.
    edge: u32,
    /// It has another address since then.
    has_moved: bool,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes of payload.
    Payload(usize),
    /// No payload, or no authentic one.
    Nothing,
    /// The session is over.
    Closed(CloseReason),
}

/// What came of a record of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is not authentic, or not new.
    Dropped,
    /// Authentic, and the session goes on. `payload` are so many bytes of the buffer, perhaps none.
    Read {
        payload: usize,
        /// The device is where this came from.
        is_at_home: bool,
    },
    /// Authentic, and the last one.
    Closed(CloseReason),
}

impl Protection {
    /// Of a complete handshake.
    pub(super) fn new(
        mut stream: Stream,
        layer: Option<Layer>,
        last_flight: Option<LastFlight>,
        random: &[u8; 32],
    ) -> Self {
        let Some(layer) = layer else {
            return Self::OpenSsl(stream);
        };
        // It can be resumed only if it does not end without a word.
        stream.end_silently();
        Self::Own(Own {
            layer,
            last_flight: last_flight.map(Box::new),
            random: end_of(random),
            kept: None,
        })
    }
}

impl Protection {
    /// The id that the records bear.
    pub(super) const fn id(&self) -> Option<ConnectionId> {
        match self {
            Self::Own(own) => own.layer.id(),
            Self::OpenSsl(_) => None,
        }
    }
}

impl Session {
    /// The session of a completed handshake.
    pub(super) fn new(
        peer: NetworkPath,
        identity: Identity,
        suite: CipherSuite,
        protection: Protection,
        seat: Seat,
        now: Instant,
    ) -> Self {
        Self {
            peer: StoredPath::new(peer),
            identity,
            suite,
            protection,
            seat,
            noted: end_of_time(now),
        }
    }

    /// Random of the ClientHello, which tells a repeated hello from a new one.
    pub(super) fn is_from(&self, client_random: &[u8; 32]) -> bool {
        match &self.protection {
            Protection::Own(own) => own.random == end_of(client_random),
            Protection::OpenSsl(stream) => {
                let mut random = [0; 32];
                stream.ssl().client_random(&mut random) == 32 && random == *client_random
            }
        }
    }

    /// Whether its records are OpenSSL's.
    pub(super) const fn is_of_openssl(&self) -> bool {
        matches!(self.protection, Protection::OpenSsl(_))
    }

    /// Where it was last.
    pub(super) fn peer(&self) -> NetworkPath {
        self.peer.get()
    }

    /// How long ago it was put behind the others of its credential and source when it was `used`: for an hour that
    /// is so, then it begins anew.
    pub(super) const fn unnoted(&self, used: Instant) -> Duration {
        Duration::from_micros(end_of_time(used).wrapping_sub(self.noted) as u64)
    }

    /// It is put behind the others now.
    pub(super) const fn note(&mut self, used: Instant) {
        self.noted = end_of_time(used);
    }

    /// The device is somewhere else now.
    pub(super) fn move_to(&mut self, peer: NetworkPath) {
        self.peer = StoredPath::new(peer);
        if let Protection::Own(Own {
            kept: Some(kept), ..
        }) = &mut self.protection
        {
            kept.has_moved = true;
        }
    }

    /// The id that its records bear.
    pub(super) const fn id(&self) -> Option<ConnectionId> {
        self.protection.id()
    }

    /// Takes a record of ours, with its payload to the beginning of `buffer`. Answers go to `wire`.
    pub(super) fn take(
        &mut self,
        record: &Record<'_>,
        buffer: &mut Vec<u8>,
        wire: &mut Wire,
    ) -> Taken {
        let Protection::Own(own) = &mut self.protection else {
            return Taken::Dropped;
        };
        let Some(opened) = own.layer.open(record, buffer) else {
            return Taken::Dropped;
        };
        let content = buffer.get(..opened.plain.length).unwrap_or_default();
        let mut payload = 0;
        match (opened.plain.content_type, content) {
            (APPLICATION_DATA, content) => {
                own.last_flight = None;
                payload = content.len();
            }
            (ALERT, [_, 0]) => return Taken::Closed(CloseReason::Peer),
            (ALERT, [FATAL, _]) => return Taken::Closed(CloseReason::Failed),
            (HANDSHAKE, [FINISHED, ..]) => own.repeat(wire),
            (HANDSHAKE, [CLIENT_HELLO, ..]) => own.say(ALERT, &NO_RENEGOTIATION, wire),
            // Nothing that has a place here (RFC 5246 §6.2.1, §7.2.2); it harms nobody.
            _ => {}
        }
        Taken::Read {
            payload,
            is_at_home: opened.is_at_home,
        }
    }

    /// Takes payload out of the datagram in `wire`, where the records are OpenSSL's.
    pub(super) fn read(&mut self, wire: &mut Wire, payload: &mut [u8]) -> Read {
        let Protection::OpenSsl(stream) = &mut self.protection else {
            return Read::Nothing;
        };
        let error = match stream.call(wire, |stream| stream.ssl_read(payload)) {
            Ok(Ok(length)) => return Read::Payload(length),
            Ok(Err(error)) => error,
            Err(NoMemory) => return Read::Closed(CloseReason::Failed),
        };
        match error.code() {
            ErrorCode::WANT_READ => Read::Nothing,
            ErrorCode::ZERO_RETURN => Read::Closed(CloseReason::Peer),
            // A record that could not be decrypted may leave an error behind and is dropped.
            _ if !is_broken(stream.ssl()) => Read::Nothing,
            _ => Read::Closed(CloseReason::Failed),
        }
    }

    /// Writes a record with `payload` to `wire`, padded to a multiple of `block` bytes where it bears an id.
    pub(super) fn write(
        &mut self,
        wire: &mut Wire,
        payload: &[u8],
        block: usize,
    ) -> Result<(), SendError> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Err(SendError::Length);
        }
        let (peer, identity) = (&self.peer, &self.identity);
        match &mut self.protection {
            Protection::Own(own) => match own.seal(APPLICATION_DATA, payload, block) {
                Ok(record) => {
                    wire.send(record);
                    Ok(())
                }
                Err(SealError::Length) => Err(SendError::Length),
                Err(SealError::Reserved) => Err(SendError::NoSession),
                Err(error @ SealError::Exhausted) => {
                    tracing::debug!(peer = %peer.get(), %identity, %error, "cannot send");
                    Err(SendError::Failed)
                }
            },
            Protection::OpenSsl(stream) => {
                match stream.call(wire, |stream| stream.ssl_write(payload)) {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => {
                        tracing::debug!(peer = %peer.get(), %identity, %error, "cannot send");
                        Err(SendError::Failed)
                    }
                    Err(NoMemory) => Err(SendError::Failed),
                }
            }
        }
    }

    /// As it outlives the process; `None`: it does not.
    pub(super) fn save(&self) -> Option<SavedSession> {
        let Protection::Own(own) = &self.protection else {
            return None;
        };
        let reserved = own.kept.as_ref().map_or(0, |kept| kept.reserved);
        let SavedLayer {
            keys,
            reserved,
            edge,
            ours,
            theirs,
        } = own.layer.save(reserved);
        Some(SavedSession {
            address: self.peer().remote,
            identity: self.identity.as_bytes().into(),
            suite: self.suite.iana_name().into(),
            keys: keys.into(),
            reserved,
            edge,
            ours,
            theirs,
            random: own.random,
        })
    }

    /// Whether it is time to keep it anew, and whether its numbers have to wait for that.
    pub(super) fn take_due(&mut self) -> Option<bool> {
        let Protection::Own(own) = &mut self.protection else {
            return None;
        };
        let (next, edge) = (own.layer.next(), own.layer.edge());
        let Some(kept) = &mut own.kept else {
            own.kept = Some(Box::new(Kept {
                reserved: 0,
                limit: SPAN,
                edge: edge as u32,
                has_moved: false,
            }));
            return Some(false);
        };
        let wants_numbers = next >= kept.reserved.saturating_add(ASK_AT);
        if wants_numbers {
            kept.reserved = next;
        }
        let moved = (edge as u32).wrapping_sub(kept.edge);
        if wants_numbers || u64::from(moved) >= LAG || kept.has_moved {
            (kept.edge, kept.has_moved) = (edge as u32, false);
            return Some(wants_numbers);
        }
        None
    }

    /// It is on the disk that numbers are set aside from `reserved` on.
    pub(super) fn note_kept(&mut self, reserved: u64) {
        if let Protection::Own(Own {
            kept: Some(kept), ..
        }) = &mut self.protection
        {
            kept.limit = reserved.saturating_add(SPAN);
        }
    }

    /// Says goodbye (RFC 5246 §7.2.1), without waiting for an answer.
    pub(super) fn close(self, wire: &mut Wire) {
        match self.protection {
            Protection::Own(mut own) => own.say(ALERT, &CLOSE_NOTIFY, wire),
            // An error means that the session is broken already, or that there is no memory: nothing
            // is said then.
            Protection::OpenSsl(mut stream) => {
                let _ = stream.call(wire, SslStream::shutdown);
            }
        }
    }

    /// Ends the session without a word; it can be resumed.
    pub(super) fn forget(self) {
        if let Protection::OpenSsl(mut stream) = self.protection {
            stream.end_silently();
        }
    }

    /// Gets record buffers, if it needs any. Returns whether there were none before.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(super) fn warm(&mut self) -> Result<bool, NoMemory> {
        match &mut self.protection {
            Protection::Own(_) => Ok(false),
            Protection::OpenSsl(stream) => stream.warm(),
        }
    }

    /// Gives the record buffers back. Returns false when they have to stay.
    pub(super) fn cool(&mut self) -> bool {
        match &mut self.protection {
            Protection::Own(_) => true,
            Protection::OpenSsl(stream) => stream.cool(),
        }
    }
}

impl Own {
    /// Of a session of before a restart.
    pub(super) fn restore(saved: &SavedSession) -> Option<(Protection, CipherSuite)> {
        let suite = CipherSuite::from_name(&saved.suite)?;
        let layer = SavedLayer {
            keys: (&*saved.keys).try_into().ok()?,
            reserved: saved.reserved,
            edge: saved.edge,
            ours: saved.ours,
            theirs: saved.theirs.clone(),
        };
        // What may have been used was below this when it was kept last, and `skip` has moved it.
        let layer = Layer::restore(Aead::of(suite)?, &layer, saved.reserved)?;
        let own = Self {
            layer,
            last_flight: None,
            random: saved.random,
            kept: Some(Box::new(Kept {
                reserved: saved.reserved,
                limit: saved.reserved.saturating_add(SPAN),
                edge: saved.edge as u32,
                has_moved: false,
            })),
        };
        Some((Protection::Own(own), suite))
    }

    /// The device has not got our last flight: it repeats its own.
    fn repeat(&mut self, wire: &mut Wire) {
        let Some(flight) = &mut self.last_flight else {
            return;
        };
        let Ok(finished) = seal(
            &mut self.layer,
            self.kept.as_deref(),
            HANDSHAKE,
            &flight.finished,
            0,
        ) else {
            return;
        };
        let mut datagram = clear(CHANGE_CIPHER_SPEC, flight.number, &[1]);
        flight.number = flight.number.saturating_add(1);
        datagram.extend(finished);
        wire.send(datagram);
    }

    /// Makes a record, if there is a number for it.
    fn seal(
        &mut self,
        content_type: u8,
        payload: &[u8],
        block: usize,
    ) -> Result<Vec<u8>, SealError> {
        seal(
            &mut self.layer,
            self.kept.as_deref(),
            content_type,
            payload,
            block,
        )
    }

    fn say(&mut self, content_type: u8, content: &[u8], wire: &mut Wire) {
        // Without a number for it nothing is said.
        if let Ok(record) = self.seal(content_type, content, 0) {
            wire.send(record);
        }
    }
}

/// Makes a record of a session that is kept or not.
fn seal(
    layer: &mut Layer,
    kept: Option<&Kept>,
    content_type: u8,
    payload: &[u8],
    block: usize,
) -> Result<Vec<u8>, SealError> {
    let next = layer.next();
    if next < NUMBERS && kept.is_some_and(|kept| next >= kept.limit) {
        return Err(SealError::Reserved);
    }
    layer.seal(content_type, payload, block)
}

const fn end_of_time(now: Instant) -> u32 {
    now.as_micros() as u32
}

fn end_of(random: &[u8; 32]) -> [u8; 8] {
    random.last_chunk().copied().unwrap_or_default()
}

/// Whether OpenSSL met a fatal error here. (Its error code does not tell: it also reports errors
/// that a dropped record left in the queue.)
pub(super) fn is_broken(ssl: &SslRef) -> bool {
    ssl.state_string() == "SSLERR"
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;

    /// There may be a million.
    #[test]
    fn a_session_takes_few_bytes() {
        assert_eq!(Table::<Session>::SLOT, 200);
        assert_eq!(size_of::<Kept>(), 24);
    }
}
