//! The part of a handshake that looks through records before OpenSSL may see them.

use super::super::certificate::MAX_CHAIN;
use super::super::extension;
use super::super::record::{
    ALERT, CERTIFICATE, CERTIFICATE_VERIFY, CHANGE_CIPHER_SPEC, CLIENT_HELLO, CLIENT_KEY_EXCHANGE,
    Fragment, HANDSHAKE, Record, TLS12_CID, overhead,
};
use super::stage::{Part, Stage, awaits_finished, awaits_key_exchange, has_certificate_verify};
use super::{Handshake, Phase};
use crate::config::CipherSuite;

/// Fragments of handshake messages in one record. Clients send one or a few: this is about work.
const MAX_FRAGMENTS: usize = 16;

/// Least bytes of an encrypted record while the suite is not known: enough for all of them but CBC,
/// which OpenSSL checks itself. A Finished, which is what may come then, has more.
const LEAST_ENCRYPTED: usize = 24;

/// Longest handshake message of a client in bytes, and its highest number: OpenSSL keeps parts of
/// longer and later ones that it will never use.
const MAX_MESSAGE: usize = 4096;
const CLIENT_KEY_EXCHANGE_SEQUENCE: u16 = 2;

/// The same with certificates, where a Certificate comes before and a CertificateVerify behind it.
const CERTIFICATE_SEQUENCE: u16 = 2;
const CERTIFIED_KEY_EXCHANGE_SEQUENCE: u16 = 3;
const CERTIFICATE_VERIFY_SEQUENCE: u16 = 4;

impl Handshake {
    /// Looks through a record before OpenSSL may see it. `None`: it has no place in a handshake with
    /// PSK.
    pub(super) fn inspect(&mut self, record: &Record<'_>) -> Option<Part> {
        let part = |stage| {
            Some(Part {
                stage,
                identity: None,
            })
        };
        if record.epoch > 0 {
            let cipher = self.stream.ssl().current_cipher();
            let suite = cipher.and_then(|cipher| CipherSuite::from_name(cipher.name()));
            let least = suite.map_or(LEAST_ENCRYPTED, overhead);
            // There is no second change of keys. OpenSSL takes a record that is too short for an
            // error of its own.
            if record.epoch > 1 || record.fragment.len() < least {
                return None;
            }
            return match record.content_type {
                // What it is shows when it is opened; most of them are a Finished.
                TLS12_CID => {
                    let ids = extension::agreed(self.stream.ssl());
                    let is_ours = ids.is_some_and(|(ours, _)| record.id == ours.as_bytes());
                    is_ours.then_some(Part {
                        stage: Stage::Finished,
                        identity: None,
                    })
                }
                HANDSHAKE | ALERT => part(Stage::Finished),
                CHANGE_CIPHER_SPEC => None,
                _ => part(Stage::Payload),
            };
        }
        match record.content_type {
            ALERT => part(Stage::Opening),
            CHANGE_CIPHER_SPEC if record.fragment == [1] => part(Stage::Change),
            HANDSHAKE => self.inspect_messages(record.fragment),
            _ => None,
        }
    }

    fn inspect_messages(&mut self, mut rest: &[u8]) -> Option<Part> {
        let mut part = Part {
            stage: Stage::Opening,
            identity: None,
        };
        for _ in 0..MAX_FRAGMENTS {
            let (message, after) = Fragment::split(rest)?;
            let is_expected = self.is_expected(&message);
            if !is_expected {
                return None;
            }
            if message.kind == CLIENT_KEY_EXCHANGE
                && message.sequence == CLIENT_KEY_EXCHANGE_SEQUENCE
                && !self.is_certified()
            {
                part.stage = Stage::KeyExchange;
                if part.identity.is_none() && matches!(self.phase, Phase::Hello) {
                    part.identity = self.reader.add(&message);
                }
            }
            rest = after;
            if rest.is_empty() {
                return Some(part);
            }
        }
        None
    }

    /// Whether a message of a client may come here at all.
    const fn is_expected(&self, message: &Fragment<'_>) -> bool {
        let (kind, sequence) = (message.kind, message.sequence);
        if !self.is_certified() {
            return matches!(kind, CLIENT_HELLO | CLIENT_KEY_EXCHANGE)
                && message.length <= MAX_MESSAGE
                && sequence <= CLIENT_KEY_EXCHANGE_SEQUENCE;
        }
        match kind {
            CLIENT_HELLO => message.length <= MAX_MESSAGE && sequence < CERTIFICATE_SEQUENCE,
            CERTIFICATE => message.length <= MAX_CHAIN && sequence == CERTIFICATE_SEQUENCE,
            CLIENT_KEY_EXCHANGE => {
                message.length <= MAX_MESSAGE && sequence == CERTIFIED_KEY_EXCHANGE_SEQUENCE
            }
            CERTIFICATE_VERIFY => {
                message.length <= MAX_MESSAGE && sequence == CERTIFICATE_VERIFY_SEQUENCE
            }
            _ => false,
        }
    }

    /// Whether a record of this stage has to wait.
    pub(super) fn is_early(&self, stage: Stage) -> bool {
        let ssl = self.stream.ssl();
        match stage {
            Stage::Opening => false,
            Stage::KeyExchange => !matches!(self.phase, Phase::Keyed(_)),
            Stage::Change => match self.phase {
                // Without a ClientKeyExchange to wait for when a session is resumed.
                Phase::Hello => !ssl.session_reused(),
                Phase::Waiting(_) => true,
                Phase::Keyed(_) => awaits_key_exchange(ssl),
                Phase::Certified => !ssl.session_reused() && !has_certificate_verify(ssl),
            },
            Stage::Finished => !awaits_finished(ssl),
            Stage::Payload => true,
        }
    }
}
