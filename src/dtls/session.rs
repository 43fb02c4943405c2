//! A session: a completed handshake and its keys. Only this file knows that OpenSSL protects the
//! records.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, ShutdownState, SslRef, SslStream};

use super::identity::Identity;
use super::openssl as ext;
use super::wire::Wire;
use super::{CloseReason, SendError};
use crate::config::CipherSuite;

/// Longest payload of a record (RFC 6347 §4.1).
const MAX_PAYLOAD: usize = 16_384;

/// One of the sessions of a listener, for as long as it lives.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(sessions: &Arc<AtomicUsize>) -> Self {
        sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(sessions))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Session {
    pub peer: SocketAddr,
    pub identity: Identity,
    pub suite: CipherSuite,
    stream: SslStream<Wire>,
    _counted: Counted,
    /// Whether OpenSSL has its record buffers.
    is_warm: bool,
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
        peer: SocketAddr,
        identity: Identity,
        suite: CipherSuite,
        stream: SslStream<Wire>,
        counted: Counted,
    ) -> Self {
        Self {
            peer,
            identity,
            suite,
            stream,
            _counted: counted,
            is_warm: true,
        }
    }

    /// Random of the ClientHello, which tells a repeated hello from a new one.
    pub(super) fn is_from(&self, client_random: &[u8; 32]) -> bool {
        let mut random = [0; 32];
        self.stream.ssl().client_random(&mut random) == 32 && random == *client_random
    }

    /// Takes payload out of the datagram in `wire`.
    pub(super) fn read(&mut self, wire: &mut Wire, payload: &mut [u8]) -> Read {
        let result = with_wire(&mut self.stream, wire, |stream| stream.ssl_read(payload));
        let error = match result {
            Ok(length) => return Read::Payload(length),
            Err(error) => error,
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
        let result = with_wire(&mut self.stream, wire, |stream| stream.ssl_write(payload));
        match result {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(peer = %self.peer, identity = %self.identity, %error, "cannot send");
                Err(SendError::Failed)
            }
        }
    }

    /// Says goodbye (RFC 5246 §7.2.1), without waiting for an answer.
    pub(super) fn close(mut self, wire: &mut Wire) {
        // An error means that the session is broken already: nothing to say then.
        let _ = with_wire(&mut self.stream, wire, SslStream::shutdown);
    }

    /// Ends the session without a word; it can be resumed.
    pub(super) fn forget(mut self) {
        self.stream
            .set_shutdown(ShutdownState::SENT | ShutdownState::RECEIVED);
    }

    /// Gets record buffers. Returns whether there were none before; [`None`]: no memory.
    pub(super) fn warm(&mut self) -> Option<bool> {
        if self.is_warm {
            return Some(false);
        }
        self.is_warm = ext::alloc_buffers(&mut self.stream);
        self.is_warm.then_some(true)
    }

    /// Gives the record buffers back.
    pub(super) fn cool(&mut self) {
        if self.is_warm {
            self.is_warm = !ext::free_buffers(&mut self.stream);
        }
    }
}

/// Calls OpenSSL with `wire` in place of the session's own, and with an empty error queue: what is
/// in it would be taken for an error of this call.
pub(super) fn with_wire<R>(
    stream: &mut SslStream<Wire>,
    wire: &mut Wire,
    call: impl FnOnce(&mut SslStream<Wire>) -> R,
) -> R {
    drop(ErrorStack::get());
    std::mem::swap(stream.get_mut(), wire);
    let result = call(stream);
    std::mem::swap(stream.get_mut(), wire);
    result
}

/// Whether OpenSSL met a fatal error here. (Its error code does not tell: it also reports errors
/// that a dropped record left in the queue.)
pub(super) fn is_broken(ssl: &SslRef) -> bool {
    ssl.state_string() == "SSLERR"
}
