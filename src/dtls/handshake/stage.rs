//! How far a handshake is, by its records and by what OpenSSL says.

use openssl::ssl::SslRef;

use super::super::identity::Identity;
use super::super::record::{Fragment, HANDSHAKE, Record, SERVER_HELLO};
use crate::config::CipherSuite;

/// Which part of a handshake a record is of, in the order in which OpenSSL wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dtls) enum Stage {
    /// ClientHello, or an alert.
    Opening,
    /// With a ClientKeyExchange or a part of one.
    KeyExchange,
    /// ChangeCipherSpec.
    Change,
    /// Finished, or an alert, encrypted.
    Finished,
    /// Payload that overtook the Finished.
    Payload,
}

impl Stage {
    pub(in crate::dtls) const fn is_encrypted(self) -> bool {
        matches!(self, Self::Finished | Self::Payload)
    }
}

/// What a record is.
pub(in crate::dtls) struct Part {
    pub stage: Stage,
    /// The identity, when this completes it.
    pub identity: Option<Identity>,
}

/// Whether OpenSSL has sent its flight and has not read the whole ClientKeyExchange.
pub(in crate::dtls) fn awaits_key_exchange(ssl: &SslRef) -> bool {
    ssl.state_string() == "TWSD"
}

/// Whether OpenSSL has read the client's CertificateVerify.
pub(in crate::dtls) fn has_certificate_verify(ssl: &SslRef) -> bool {
    ssl.state_string() == "TRCV"
}

/// Whether a record begins with a ServerHello that chooses a suite with certificates (RFC 5246
/// §7.4.1.3): OpenSSL tells of its choice only later.
pub(in crate::dtls) fn chooses_certificates(record: &Record<'_>) -> bool {
    if record.epoch > 0 || record.content_type != HANDSHAKE {
        return false;
    }
    let Some((message, _)) = Fragment::split(record.fragment) else {
        return false;
    };
    let suite = || {
        let (session, rest) = message.body.get(34..)?.split_first()?;
        let (suite, _) = rest
            .get(usize::from(*session)..)?
            .split_first_chunk::<2>()?;
        CipherSuite::of_certificates(u16::from_be_bytes(*suite))
    };
    message.kind == SERVER_HELLO && message.offset == 0 && suite().is_some()
}

/// Whether OpenSSL has read the client's ChangeCipherSpec and no Finished.
pub(in crate::dtls) fn awaits_finished(ssl: &SslRef) -> bool {
    ssl.state_string() == "TRCCS"
}
