//! The record layer of a session after its handshake: keys, numbers, and which records came before.

use super::aead::{Aead, MAX_PLAINTEXT, Plain};
use super::keys::Keys;
use super::window::Window;
use super::{ALERT, HANDSHAKE, Record, TLS12_CID};
use crate::dtls::connection_id::ConnectionId;

/// No record has this number or a higher one: they have 48 bits.
pub(in crate::dtls) const NUMBERS: u64 = 1 << 48;

/// What protects the records of a session in both directions. All of them are of epoch 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct Layer {
    aead: Aead,
    keys: Keys,
    /// Number of the next record that is sent.
    next: u64,
    window: Window,
    /// What records for us bear; `None`: they are without ids.
    ours: Option<ConnectionId>,
    /// What records for the device bear; empty: they are without ids.
    theirs: Theirs,
}

/// An id of the device. Few devices want one, so it takes a word where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Theirs(Option<Box<Box<[u8]>>>);

impl Theirs {
    fn new(id: Box<[u8]>) -> Self {
        Self((!id.is_empty()).then(|| Box::new(id)))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |id| id)
    }
}

/// What of a layer outlives the process.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::dtls) struct SavedLayer {
    /// As in the key block.
    pub keys: [u8; 40],
    pub reserved: u64,
    pub edge: u64,
    pub ours: Option<[u8; 8]>,
    pub theirs: Box<[u8]>,
}

/// Why a record was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::dtls) enum SealError {
    /// It would be longer than a record can be.
    #[error("too long")]
    Length,
    /// There are no numbers left: the session has to end (RFC 6347 §4.1).
    #[error("no record numbers left")]
    Exhausted,
    /// The numbers that are set aside are used up; there may be more later.
    #[error("record numbers not set aside yet")]
    Reserved,
}

/// What was in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dtls) struct Opened {
    pub plain: Plain,
    /// Whether it is newer than all before, and bears our id: the device is where it came from
    /// (RFC 9146 §6).
    pub is_at_home: bool,
}

impl Layer {
    /// For a handshake that is complete. `next` is above all numbers of records that OpenSSL has sent
    /// in this epoch; `finished` is the number of the client's Finished, if that is known.
    pub(in crate::dtls) fn new(
        aead: Aead,
        keys: Keys,
        next: u64,
        finished: Option<u64>,
        (ours, theirs): (Option<ConnectionId>, Box<[u8]>),
    ) -> Self {
        let mut window = Window::default();
        if let Some(number) = finished {
            window.note(number);
        }
        Self {
            aead,
            keys,
            next,
            window,
            ours,
            theirs: Theirs::new(theirs),
        }
    }

    /// As it outlives the process, `reserved` being the number from which on numbers are set aside.
    pub(in crate::dtls) fn save(&self, reserved: u64) -> SavedLayer {
        SavedLayer {
            keys: self.keys.to_bytes(),
            reserved,
            edge: self.window.edge(),
            ours: self.ours.map(ConnectionId::into_bytes),
            theirs: self.theirs.bytes().into(),
        }
    }

    /// What [`Layer::save`] gave; its first number is the one that is `SPAN` behind the reserved one.
    pub(in crate::dtls) fn restore(aead: Aead, saved: &SavedLayer, next: u64) -> Option<Self> {
        Some(Self {
            aead,
            keys: Keys::from_bytes(&saved.keys)?,
            next,
            window: Window::beginning_at(saved.edge),
            ours: saved.ours.map(ConnectionId::from_bytes),
            theirs: Theirs::new(saved.theirs.clone()),
        })
    }

    /// Number of the next record.
    pub(in crate::dtls) const fn next(&self) -> u64 {
        self.next
    }

    /// One more than the highest number that came.
    pub(in crate::dtls) const fn edge(&self) -> u64 {
        self.window.edge()
    }

    /// The id that records for us bear.
    pub(in crate::dtls) const fn id(&self) -> Option<ConnectionId> {
        self.ours
    }

    /// Opens a record into `buffer`. `None`: it is not for this session, came before or is too old, or
    /// is not authentic.
    pub(in crate::dtls) fn open(
        &mut self,
        record: &Record<'_>,
        buffer: &mut Vec<u8>,
    ) -> Option<Opened> {
        let bears_id = record.content_type == TLS12_CID;
        let is_ours = match &self.ours {
            Some(ours) => bears_id && record.id == ours.as_bytes(),
            None => !bears_id,
        };
        if !is_ours || record.epoch != 1 || !self.window.admits(record.sequence) {
            return None;
        }
        let plain = self.aead.open(&self.keys.client, record, buffer)?;
        let is_newest = self.window.note(record.sequence);
        Some(Opened {
            plain,
            is_at_home: is_newest && bears_id && !matches!(plain.content_type, HANDSHAKE | ALERT),
        })
    }

    /// Makes a record. With an id what is encrypted has a multiple of `block` bytes, unless that is 0 or
    /// would be longer than a record can be. Its number is used up whatever becomes of it.
    pub(in crate::dtls) fn seal(
        &mut self,
        content_type: u8,
        payload: &[u8],
        block: usize,
    ) -> Result<Vec<u8>, SealError> {
        let number = self.next;
        if number >= NUMBERS {
            return Err(SealError::Exhausted);
        }
        self.next = number.saturating_add(1);
        let (direction, id) = (&self.keys.server, self.theirs.bytes());
        let padding = padding(payload.len().saturating_add(1), block);
        let record = self
            .aead
            .seal(direction, number, id, content_type, payload, padding);
        record.ok_or(SealError::Length)
    }
}

/// Zeros behind `length` bytes.
fn padding(length: usize, block: usize) -> usize {
    let padded = length.checked_next_multiple_of(block);
    let padded = padded.filter(|padded| *padded <= MAX_PLAINTEXT);
    padded.map_or(0, |padded| padded.saturating_sub(length))
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
