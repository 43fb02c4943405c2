//! A session: a completed handshake and its keys. Only this file knows that OpenSSL protects the
//! records.

use crate::network::NetworkPath;
use openssl::ssl::{ErrorCode, SslRef, SslStream};

use super::identity::Identity;
use super::openssl::{NoMemory, Stream};
use super::shares::Seat;
use super::wire::Wire;
use super::{CloseReason, SendError};
use crate::config::CipherSuite;
use crate::memory::Reservation;
use crate::time::Instant;

/// Longest payload of a record (RFC 6347 §4.1).
const MAX_PAYLOAD: usize = 16_384;

pub(super) struct Session {
    pub peer: NetworkPath,
    pub identity: Identity,
    pub suite: CipherSuite,
    pub seat: Seat,
    /// When it was last put behind the others of its credential and source.
    pub noted: Instant,
    stream: Stream,
    _reserved: Option<Reservation>,
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

impl Session {
    /// The session of a completed handshake.
    pub(super) fn new(
        peer: NetworkPath,
        identity: Identity,
        suite: CipherSuite,
        stream: Stream,
        seat: Seat,
        now: Instant,
        reserved: Option<Reservation>,
    ) -> Self {
        Self {
            peer,
            identity,
            suite,
            stream,
            seat,
            noted: now,
            _reserved: reserved,
        }
    }

    /// Random of the ClientHello, which tells a repeated hello from a new one.
    pub(super) fn is_from(&self, client_random: &[u8; 32]) -> bool {
        let mut random = [0; 32];
        self.stream.ssl().client_random(&mut random) == 32 && random == *client_random
    }

    /// Takes payload out of the datagram in `wire`.
    pub(super) fn read(&mut self, wire: &mut Wire, payload: &mut [u8]) -> Read {
        let error = match self.stream.call(wire, |stream| stream.ssl_read(payload)) {
            Ok(Ok(length)) => return Read::Payload(length),
            Ok(Err(error)) => error,
            Err(NoMemory) => return Read::Closed(CloseReason::Failed),
        };
        match error.code() {
            ErrorCode::WANT_READ => Read::Nothing,
            ErrorCode::ZERO_RETURN => Read::Closed(CloseReason::Peer),
            // A record that could not be decrypted may leave an error behind and is dropped.
            _ if !is_broken(self.stream.ssl()) => Read::Nothing,
            _ => Read::Closed(CloseReason::Failed),
        }
    }

    /// Writes a record with `payload` to `wire`.
    pub(super) fn write(&mut self, wire: &mut Wire, payload: &[u8]) -> Result<(), SendError> {
        if payload.is_empty() || payload.len() > MAX_PAYLOAD {
            return Err(SendError::Length);
        }
        match self.stream.call(wire, |stream| stream.ssl_write(payload)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, identity = %self.identity, %error, "cannot send");
                Err(SendError::Failed)
            }
            Err(NoMemory) => Err(SendError::Failed),
        }
    }

    /// Says goodbye (RFC 5246 §7.2.1), without waiting for an answer.
    pub(super) fn close(mut self, wire: &mut Wire) {
        // An error means that the session is broken already, or that there is no memory: nothing is
        // said then.
        let _ = self.stream.call(wire, SslStream::shutdown);
    }

    /// Ends the session without a word; it can be resumed.
    pub(super) fn forget(mut self) {
        self.stream.end_silently();
    }

    /// Gets record buffers. Returns whether there were none before.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(super) fn warm(&mut self) -> Result<bool, NoMemory> {
        self.stream.warm()
    }

    /// Gives the record buffers back. Returns false when they have to stay.
    pub(super) fn cool(&mut self) -> bool {
        self.stream.cool()
    }
}

/// Whether OpenSSL met a fatal error here. (Its error code does not tell: it also reports errors
/// that a dropped record left in the queue.)
pub(super) fn is_broken(ssl: &SslRef) -> bool {
    ssl.state_string() == "SSLERR"
}
