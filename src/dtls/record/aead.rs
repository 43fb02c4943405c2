//! Authenticated encryption of single records: AES-CCM and AES-GCM (RFC 6655, RFC 5288), with and
//! without connection ids (RFC 9146 §5). The key schedule is made anew for each record: it takes less
//! time than to read one from memory, and a session needs no room for it.

use aes::Aes128Enc;
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit as _};

use super::keys::Direction;
use super::{HEADER, Record, TLS12_CID, ccm};
use crate::config::CipherSuite;

/// Only ever encrypts blocks: to make the keys that decrypt them would take as long again.
type Gcm = AesGcm<Aes128Enc, U12>;

/// Bytes of the part of a nonce that is sent.
const EXPLICIT: usize = 8;

/// Longest plaintext of a record (RFC 6347 §4.1).
pub(in crate::dtls) const MAX_PLAINTEXT: usize = 1 << 14;

/// Version as it stands in records: DTLS 1.2.
const VERSION: [u8; 2] = [0xfe, 0xfd];

/// How records are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) enum Aead {
    /// AES-128-CCM with a tag of 8 bytes.
    Ccm8,
    /// AES-128-CCM with a tag of 16 bytes.
    Ccm,
    /// AES-128-GCM.
    Gcm,
}

/// What was in an authentic record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct Plain {
    pub content_type: u8,
    /// Bytes of it at the beginning of the buffer.
    pub length: usize,
}

impl Aead {
    /// That of a suite; `None`: OpenSSL has to do it.
    pub(in crate::dtls) const fn of(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::PskAes128Ccm8 | CipherSuite::EcdheEcdsaAes128Ccm8 => Some(Self::Ccm8),
            CipherSuite::PskAes128Ccm => Some(Self::Ccm),
            CipherSuite::PskAes128GcmSha256
            | CipherSuite::EcdheEcdsaAes128GcmSha256
            | CipherSuite::EcdheRsaAes128GcmSha256 => Some(Self::Gcm),
            _ => None,
        }
    }

    const fn tag(self) -> usize {
        match self {
            Self::Ccm8 => 8,
            Self::Ccm | Self::Gcm => 16,
        }
    }

    /// A record of epoch 1. With an `id` its content type is encrypted as well, and so many zeros of
    /// `padding` (RFC 9146 §4). `number` must never be used twice with the same keys.
    pub(in crate::dtls) fn seal(
        self,
        direction: &Direction,
        number: u64,
        id: &[u8],
        content_type: u8,
        payload: &[u8],
        padding: usize,
    ) -> Option<Vec<u8>> {
        let (outer_type, more) = if id.is_empty() {
            (content_type, 0)
        } else {
            (TLS12_CID, padding.checked_add(1)?)
        };
        let inner = payload.len().checked_add(more)?;
        let fragment = inner.checked_add(EXPLICIT)?.checked_add(self.tag())?;
        let length = u16::try_from(fragment).ok()?.to_be_bytes();
        let number = epoch_and_number(1, number);
        let mut record = Vec::with_capacity(HEADER + id.len() + fragment);
        record.extend_from_slice(&[outer_type, VERSION[0], VERSION[1]]);
        record.extend_from_slice(&number);
        record.extend_from_slice(id);
        record.extend_from_slice(&length);
        record.extend_from_slice(&number);
        let begin = record.len();
        record.extend_from_slice(payload);
        if !id.is_empty() {
            record.push(content_type);
            record.resize(begin.checked_add(inner)?, 0);
        }
        let additional = Additional::new(outer_type, number, id, inner)?;
        let nonce = nonce(direction, &number);
        let text = record.get_mut(begin..)?;
        let (tag, length) = self.encrypt(direction, &nonce, additional.bytes(), text)?;
        record.extend_from_slice(tag.get(..length)?);
        Some(record)
    }

    /// Opens a record into `buffer`. `None`: it is not authentic.
    pub(in crate::dtls) fn open(
        self,
        direction: &Direction,
        record: &Record<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<Plain> {
        if record.bytes.get(1..3) != Some(&VERSION) {
            return None;
        }
        let (explicit, rest) = record.fragment.split_first_chunk::<EXPLICIT>()?;
        let inner = rest.len().checked_sub(self.tag())?;
        let (text, tag) = rest.split_at_checked(inner)?;
        let number = epoch_and_number(record.epoch, record.sequence);
        let additional = Additional::new(record.content_type, number, record.id, inner)?;
        buffer.clear();
        buffer.extend_from_slice(text);
        let nonce = nonce(direction, explicit);
        self.decrypt(direction, &nonce, additional.bytes(), buffer, tag)?;
        let (content_type, length) = if record.content_type == TLS12_CID {
            // The content type is the last byte that is not zero; what follows is padding.
            let at = buffer.iter().rposition(|byte| *byte != 0)?;
            (*buffer.get(at)?, at)
        } else {
            (record.content_type, inner)
        };
        (length <= MAX_PLAINTEXT).then_some(Plain {
            content_type,
            length,
        })
    }

    fn encrypt(
        self,
        direction: &Direction,
        nonce: &[u8; 12],
        additional: &[u8],
        text: &mut [u8],
    ) -> Option<([u8; 16], usize)> {
        let (key, length) = (&direction.key, self.tag());
        let tag = match self {
            Self::Ccm8 | Self::Ccm => ccm::seal(key, nonce, additional, text, length)?,
            Self::Gcm => Gcm::new(key.into())
                .encrypt_inout_detached(nonce.into(), additional, text.into())
                .ok()?
                .into(),
        };
        Some((tag, length))
    }

    fn decrypt(
        self,
        direction: &Direction,
        nonce: &[u8; 12],
        additional: &[u8],
        text: &mut [u8],
        tag: &[u8],
    ) -> Option<()> {
        let key = &direction.key;
        match self {
            Self::Ccm8 | Self::Ccm => ccm::open(key, nonce, additional, text, tag),
            Self::Gcm => {
                let tag: &[u8; 16] = tag.try_into().ok()?;
                let (nonce, tag) = (nonce.into(), tag.into());
                Gcm::new(key.into())
                    .decrypt_inout_detached(nonce, additional, text.into(), tag)
                    .ok()
            }
        }
    }
}

/// What a tag covers beside the text.
struct Additional {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl Additional {
    const MOST: usize = 23 + 255;

    /// As RFC 5246 §6.2.3.3 has it, or with a connection id as in RFC 9146 §5.3.
    fn new(content_type: u8, number: [u8; 8], id: &[u8], length: usize) -> Option<Self> {
        let length = u16::try_from(length).ok()?.to_be_bytes();
        let mut bytes = [0; Self::MOST];
        if content_type != TLS12_CID {
            let (head, _) = bytes.split_first_chunk_mut::<13>()?;
            head[..8].copy_from_slice(&number);
            head[8] = content_type;
            head[9..11].copy_from_slice(&VERSION);
            head[11..].copy_from_slice(&length);
            let length = head.len();
            return Some(Self { bytes, length });
        }
        let (head, rest) = bytes.split_first_chunk_mut::<21>()?;
        head[..8].fill(0xff);
        head[8..11].copy_from_slice(&[TLS12_CID, u8::try_from(id.len()).ok()?, TLS12_CID]);
        head[11..13].copy_from_slice(&VERSION);
        head[13..].copy_from_slice(&number);
        let (place, rest) = rest.split_at_mut_checked(id.len())?;
        place.copy_from_slice(id);
        rest.get_mut(..2)?.copy_from_slice(&length);
        let length = id.len().saturating_add(23);
        Some(Self { bytes, length })
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Epoch and number as a record has them; we send them as the nonce's explicit part, too.
fn epoch_and_number(epoch: u16, number: u64) -> [u8; 8] {
    (u64::from(epoch) << 48 | number & 0xffff_ffff_ffff).to_be_bytes()
}

fn nonce(direction: &Direction, explicit: &[u8; EXPLICIT]) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (salt, rest) = nonce.split_at_mut(direction.salt.len());
    salt.copy_from_slice(&direction.salt);
    rest.copy_from_slice(explicit);
    nonce
}
