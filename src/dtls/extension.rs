//! The extension by which both sides agree on connection ids (RFC 9146 §3).

use std::sync::{Arc, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{ExtensionContext, Ssl, SslAlert, SslContextBuilder, SslRef};

use super::connection_id::{ConnectionId, LENGTH};
use super::openssl::pending_suite;
use super::record::Aead;

/// Its number.
const EXTENSION: u16 = 54;

/// The ids of one handshake, at its OpenSSL object.
struct Slot {
    ours: ConnectionId,
    /// Set when the client offers it, and the suite is one whose records we make.
    theirs: OnceLock<Box<[u8]>>,
    answered: OnceLock<()>,
}

/// The place of the [`Slot`] in each OpenSSL object; one for the process, as OpenSSL never takes such
/// places back.
fn index() -> Result<Index<Ssl, Arc<Slot>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<Slot>>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// Lets handshakes agree on connection ids, if they were given one ([`offer`]).
pub(super) fn enable(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    index()?;
    builder.add_custom_ext(
        EXTENSION,
        ExtensionContext::DTLS_ONLY
            | ExtensionContext::CLIENT_HELLO
            | ExtensionContext::TLS1_2_SERVER_HELLO,
        |ssl, _, _| Ok(answer(ssl)),
        |ssl, _, bytes, _| read(ssl, bytes),
    )
}

/// Gives a new handshake the id that its records shall bear.
pub(super) fn offer(ssl: &mut SslRef, ours: ConnectionId) -> Result<(), ErrorStack> {
    let slot = Slot {
        ours,
        theirs: OnceLock::new(),
        answered: OnceLock::new(),
    };
    ssl.set_ex_data(index()?, Arc::new(slot));
    Ok(())
}

/// Our id and the client's, once the ServerHello has said so.
pub(super) fn agreed(ssl: &SslRef) -> Option<(ConnectionId, &[u8])> {
    let slot = slot(ssl)?;
    slot.answered.get()?;
    Some((slot.ours, slot.theirs.get()?))
}

fn slot(ssl: &SslRef) -> Option<&Slot> {
    Some(ssl.ex_data(index().ok()?)?)
}

/// What the ServerHello says. Without a suite of ours records are OpenSSL's, which knows no ids.
fn answer(ssl: &SslRef) -> Option<Vec<u8>> {
    let slot = slot(ssl)?;
    slot.theirs.get()?;
    pending_suite(ssl).and_then(Aead::of)?;
    // A client that speaks of a resumed session gets new ids, too.
    slot.answered.get_or_init(|| ());
    let mut bytes = vec![LENGTH as u8];
    bytes.extend(slot.ours.as_bytes());
    Some(bytes)
}

fn read(ssl: &SslRef, bytes: &[u8]) -> Result<(), SslAlert> {
    let Some((length, id)) = bytes.split_first() else {
        return Err(SslAlert::DECODE_ERROR);
    };
    if usize::from(*length) != id.len() {
        return Err(SslAlert::DECODE_ERROR);
    }
    if let Some(slot) = slot(ssl) {
        slot.theirs.get_or_init(|| id.into());
    }
    Ok(())
}
