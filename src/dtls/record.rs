//! Records as they are on the wire (RFC 6347 §4.1), read without keys.

mod aead;
mod ccm;
mod keys;
mod layer;
mod window;

pub(super) use aead::Aead;
pub(super) use keys::Keys;
pub(super) use layer::{Layer, NUMBERS, SavedLayer, SealError};

use super::connection_id::LENGTH;
use crate::config::CipherSuite;

/// Bytes of a record header.
pub(super) const HEADER: usize = 13;
/// Bytes of a handshake message header (RFC 6347 §4.2.2).
pub(super) const HANDSHAKE_HEADER: usize = 12;

/// Content type of alerts.
pub(super) const ALERT: u8 = 21;
/// Content type of handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// Content type of application data.
pub(super) const APPLICATION_DATA: u8 = 23;
/// Content type of a ChangeCipherSpec.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;

/// Content type of records with a connection id (RFC 9146 §4).
pub(super) const TLS12_CID: u8 = 25;

/// Least bytes of an encrypted record, with an empty payload.
pub(super) const fn overhead(suite: CipherSuite) -> usize {
    match suite {
        // Explicit nonce and tag (RFC 6655 §3).
        CipherSuite::PskAes128Ccm8 | CipherSuite::EcdheEcdsaAes128Ccm8 => 8 + 8,
        CipherSuite::PskAes128Ccm
        | CipherSuite::PskAes128GcmSha256
        | CipherSuite::EcdheEcdsaAes128GcmSha256
        | CipherSuite::EcdheRsaAes128GcmSha256 => 8 + 16,
        // Tag (RFC 7905 §2).
        CipherSuite::EcdhePskChacha20Poly1305 => 16,
        // Initialization vector, and a MAC with its padding (RFC 5246 §6.2.3.2).
        CipherSuite::EcdhePskAes128CbcSha256 | CipherSuite::PskAes128CbcSha256 => 16 + 48,
    }
}

/// A record; the fragment may be encrypted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub content_type: u8,
    pub epoch: u16,
    /// 48 bits.
    pub sequence: u64,
    /// The connection id; empty: none.
    pub id: &'a [u8],
    /// What follows the header.
    pub fragment: &'a [u8],
    /// Header and fragment.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `bytes` and what follows it. `None`: no DTLS 1.0 or 1.2, or cut off.
    pub(super) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let [
            content_type,
            major,
            _minor,
            e0,
            e1,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            l0,
            l1,
        ] = *header;
        if major != 0xfe || !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(&content_type) {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let fragment = rest.get(..length)?;
        let (bytes, rest) = bytes.split_at_checked(HEADER.saturating_add(length))?;
        let record = Self {
            content_type,
            epoch: u16::from_be_bytes([e0, e1]),
            sequence: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
            id: &[],
            fragment,
            bytes,
        };
        Some((record, rest))
    }

    /// As [`Record::split`], but a record may have a connection id of ours.
    pub(super) fn split_any(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if bytes.first() != Some(&TLS12_CID) {
            return Self::split(bytes);
        }
        let (head, rest) = bytes.split_first_chunk::<11>()?;
        let [_, major, _minor, e0, e1, s0, s1, s2, s3, s4, s5] = *head;
        let (id, rest) = rest.split_first_chunk::<LENGTH>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (fragment, rest) = rest.split_at_checked(length)?;
        let bytes = bytes.get(..bytes.len().checked_sub(rest.len())?)?;
        let record = Self {
            content_type: TLS12_CID,
            epoch: u16::from_be_bytes([e0, e1]),
            sequence: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
            id,
            fragment,
            bytes,
        };
        (major == 0xfe).then_some((record, rest))
    }

    /// Whether this is the beginning of a ClientHello in the clear.
    pub(super) fn begins_client_hello(&self) -> bool {
        self.content_type == HANDSHAKE
            && self.epoch == 0
            && Fragment::split(self.fragment)
                .is_some_and(|(message, _)| message.kind == CLIENT_HELLO && message.offset == 0)
    }
}

/// The records of a datagram, up to the first that is none; some may have a connection id of ours.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (record, after) = Record::split_any(rest)?;
        rest = after;
        Some(record)
    })
}

/// Whether a datagram has nothing that cannot be of a session: an encrypted record that is shorter than
/// `overhead`, which OpenSSL 3.0 takes for an error of its own and ends the session, or one of
/// another epoch than the only one there is, which it would drop after much copying.
pub(super) fn is_possible(datagram: &[u8], overhead: usize) -> bool {
    records(datagram)
        .all(|record| record.epoch == 0 || record.epoch == 1 && record.fragment.len() >= overhead)
}

/// Handshake message type of a ClientHello.
pub(super) const CLIENT_HELLO: u8 = 1;
/// Handshake message type of a HelloVerifyRequest.
pub(super) const HELLO_VERIFY_REQUEST: u8 = 3;
/// Handshake message type of a ServerHello.
pub(super) const SERVER_HELLO: u8 = 2;
/// Handshake message type of a Certificate.
pub(super) const CERTIFICATE: u8 = 11;
/// Handshake message type of a CertificateVerify.
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
/// Handshake message type of a ClientKeyExchange.
pub(super) const CLIENT_KEY_EXCHANGE: u8 = 16;

/// Handshake message type of a Finished.
pub(super) const FINISHED: u8 = 20;

/// A handshake message in the clear, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub kind: u8,
    /// Length of the whole message.
    pub length: usize,
    pub sequence: u16,
    /// Where `body` belongs in the message.
    pub offset: usize,
    pub body: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The first fragment of `bytes` and what follows it. `None`: cut off, or beyond its message.
    pub(super) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HANDSHAKE_HEADER>()?;
        let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
        let length = uint24(l0, l1, l2);
        let offset = uint24(o0, o1, o2);
        let (body, rest) = rest.split_at_checked(uint24(f0, f1, f2))?;
        if offset.checked_add(body.len())? > length {
            return None;
        }
        let fragment = Self {
            kind,
            length,
            sequence: u16::from_be_bytes([s0, s1]),
            offset,
            body,
        };
        Some((fragment, rest))
    }

    /// Whether the message is here as a whole.
    pub(super) fn is_whole(&self) -> bool {
        self.body.len() == self.length
    }
}

fn uint24(a: u8, b: u8, c: u8) -> usize {
    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
}

/// Alert description: the handshake failed for a reason that has no other number.
pub(super) const HANDSHAKE_FAILURE: u8 = 40;
/// Alert description: a Finished that does not fit the keys (RFC 4279 §2 for a wrong key).
pub(super) const DECRYPT_ERROR: u8 = 51;

/// A record with a fatal alert, in the clear.
pub(super) fn fatal_alert(sequence: u64, description: u8) -> Vec<u8> {
    clear(ALERT, sequence, &[2, description])
}

/// A record in the clear, of few bytes.
pub(super) fn clear(content_type: u8, sequence: u64, content: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER.saturating_add(content.len()));
    record.extend([content_type, 0xfe, 0xfd, 0, 0]);
    record.extend(sequence.to_be_bytes().iter().skip(2));
    record.extend([0, u8::try_from(content.len()).unwrap_or(0)]);
    record.extend(content);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_where_the_datagram_does() {
        let mut datagram = fatal_alert(7, DECRYPT_ERROR);
        datagram.extend(fatal_alert(0x0102_0304_0506, HANDSHAKE_FAILURE));
        let found: Vec<_> = records(&datagram).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].epoch, found[0].sequence), (0, 7));
        assert_eq!(found[1].sequence, 0x0102_0304_0506);
        assert_eq!(found[1].fragment, [2, 40]);
        assert_eq!(found[1].bytes.len(), 15);
        assert_eq!(records(&datagram[..29]).count(), 1);
        assert!(Record::split(&[0x16; 40]).is_none());
    }

    #[test]
    fn fragments_stay_within_their_message() {
        let header = |length: u8, offset: u8, here: u8| {
            let mut bytes = vec![16, 0, 0, length, 0, 2, 0, 0, offset, 0, 0, here];
            bytes.extend(vec![9; usize::from(here)]);
            bytes
        };
        let bytes = [header(10, 0, 4), header(10, 4, 6)].concat();
        let (first, rest) = Fragment::split(&bytes).unwrap();
        let (second, rest) = Fragment::split(rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!((second.offset, second.body.len()), (4, 6));
        assert!(!first.is_whole());
        assert!(Fragment::split(&header(10, 5, 6)).is_none());
        assert!(Fragment::split(&header(10, 0, 4)[..15]).is_none());
    }
}
