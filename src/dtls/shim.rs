//! Between OpenSSL's handshake and the wire: records with connection ids, which OpenSSL does not know,
//! and what our own record layer has to know of the handshake.

use openssl::ssl::SslRef;

use super::extension;
use super::record::{
    ALERT, Aead, CHANGE_CIPHER_SPEC, HANDSHAKE, Keys, Layer, Record, TLS12_CID, records,
};
use super::wire::Wire;
use crate::config::CipherSuite;

/// See the module.
#[derive(Default)]
pub(super) struct Shim {
    keys: Option<(Aead, Keys)>,
    /// Our Finished, in the clear.
    finished: Vec<u8>,
    /// Above all numbers of encrypted records that were sent.
    next: u64,
    /// Number of the encrypted handshake record that OpenSSL got last.
    last: Option<u64>,
    /// For what was decrypted.
    buffer: Vec<u8>,
}

/// A record with an id, as OpenSSL shall see it.
pub(super) enum Inward {
    /// Without the id.
    Record(Vec<u8>),
    /// Not at all: it is payload.
    Payload,
    /// Not at all.
    Nothing,
}

/// What a device gets again that has not got it the first time: our ChangeCipherSpec and Finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastFlight {
    /// Number of the next record in the clear.
    pub number: u64,
    /// In the clear.
    pub finished: Vec<u8>,
}

impl Shim {
    /// Translates a record that bears our id. One that is not authentic becomes one that OpenSSL finds so
    /// as well, and is counted with these.
    pub(super) fn inward(&mut self, ssl: &SslRef, record: &Record<'_>) -> Inward {
        let Some((aead, keys)) = self.keys(ssl) else {
            return Inward::Nothing;
        };
        let number = record.sequence;
        let seal = |content_type, payload: &[u8]| {
            let sealed = aead.seal(&keys.client, number, &[], content_type, payload, 0);
            sealed.map_or(Inward::Nothing, Inward::Record)
        };
        let Some(plain) = aead.open(&keys.client, record, &mut self.buffer) else {
            return match seal(HANDSHAKE, &[]) {
                Inward::Record(mut bytes) => {
                    if let Some(last) = bytes.last_mut() {
                        *last ^= 1;
                    }
                    Inward::Record(bytes)
                }
                other => other,
            };
        };
        match plain.content_type {
            HANDSHAKE | ALERT => seal(
                plain.content_type,
                self.buffer.get(..plain.length).unwrap_or_default(),
            ),
            CHANGE_CIPHER_SPEC => Inward::Nothing,
            _ => Inward::Payload,
        }
    }

    /// A record goes to OpenSSL.
    pub(super) const fn note_received(&mut self, record: &Record<'_>) {
        if record.epoch > 0 && record.content_type == HANDSHAKE {
            self.last = Some(record.sequence);
        }
    }

    /// Gives encrypted records that OpenSSL has written the id that the client wants to see. A number is
    /// used once on the wire: OpenSSL's own record never gets there.
    pub(super) fn outward(&mut self, ssl: &SslRef, wire: &mut Wire) {
        let is_encrypted = |datagram: &[u8]| {
            records(datagram).any(|record| record.epoch > 0 && record.content_type != TLS12_CID)
        };
        if !wire.written().any(is_encrypted) {
            return;
        }
        let Some((aead, keys)) = self.keys(ssl) else {
            return;
        };
        let theirs = extension::agreed(ssl).map_or(&[][..], |(_, theirs)| theirs);
        wire.rewrite(|datagram| {
            let mut other = Vec::with_capacity(datagram.len());
            for record in records(datagram) {
                if record.epoch == 0 || record.content_type == TLS12_CID {
                    other.extend_from_slice(record.bytes);
                    continue;
                }
                self.next = self.next.max(record.sequence.saturating_add(1));
                let plain = aead.open(&keys.server, &record, &mut self.buffer)?;
                let payload = self.buffer.get(..plain.length)?;
                if plain.content_type == HANDSHAKE {
                    self.finished = payload.to_vec();
                }
                if theirs.is_empty() {
                    other.extend_from_slice(record.bytes);
                } else {
                    let content_type = plain.content_type;
                    let number = record.sequence;
                    let sealed =
                        aead.seal(&keys.server, number, theirs, content_type, payload, 0)?;
                    other.extend(sealed);
                }
            }
            Some(other)
        });
    }

    /// The record layer of a handshake that is complete; `None`: it stays OpenSSL's.
    pub(super) fn layer(&mut self, ssl: &SslRef) -> Option<Layer> {
        let (aead, keys) = self.keys(ssl)?;
        let ids = extension::agreed(ssl);
        let ids = ids.map_or_else(Default::default, |(ours, theirs)| {
            (Some(ours), theirs.into())
        });
        Some(Layer::new(aead, keys, self.next, self.last, ids))
    }

    /// What the device may not have got yet, of a handshake whose highest record in the clear had the
    /// number `sent`. When a session was resumed, it had the last word.
    pub(super) fn last_flight(&mut self, resumed: bool, sent: u64) -> Option<LastFlight> {
        let finished = std::mem::take(&mut self.finished);
        (!resumed && !finished.is_empty()).then_some(LastFlight {
            number: sent.saturating_add(1),
            finished,
        })
    }

    fn keys(&mut self, ssl: &SslRef) -> Option<(Aead, Keys)> {
        if self.keys.is_none() {
            let suite = CipherSuite::from_name(ssl.current_cipher()?.name())?;
            self.keys = Some((Aead::of(suite)?, Keys::export(ssl)?));
        }
        self.keys.clone()
    }
}
