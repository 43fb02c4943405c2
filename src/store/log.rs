//! Changes as bytes, one behind the other, as they go from a shard to the thread of the store. What one
//! thread allocates and another frees costs both; a log is used again when it is written.

use super::record::{append, number_of};
use crate::engine::Change;

/// Memory at most that an empty log keeps, in bytes.
const SPARE_MAX: usize = 2 << 20;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    Seen,
    Note,
    Gone,
    Observed,
    Unobserved,
    Queued,
    Sent,
    /// Sent, and a shard waits to hear that it is written.
    Awaited,
    Refused,
    Answered,
}

impl Kind {
    /// Whether it makes the store smaller.
    pub(super) const fn frees(self) -> bool {
        matches!(self, Self::Gone | Self::Unobserved | Self::Answered)
    }
}

/// A change as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) endpoint: &'a str,
    /// A token, the number of a command, or a time; 0 for others.
    pub(super) number: u64,
    /// A record, a note, or the number of a refusal; empty for others.
    pub(super) record: &'a [u8],
}

/// Where a change stands: its endpoint name, and its record behind it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: Kind,
    number: u64,
    start: usize,
    middle: usize,
    end: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Log {
    /// Changes in it.
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a change.
    pub(crate) fn push(&mut self, change: &Change) {
        let bytes = &mut self.bytes;
        let start = bytes.len();
        bytes.extend_from_slice(change.endpoint().as_bytes());
        let middle = bytes.len();
        let (kind, number) = match change {
            Change::Device(device) => {
                append(&**device, bytes);
                (Kind::Device, 0)
            }
            Change::Seen { at, .. } => (Kind::Seen, at.as_micros()),
            Change::Note { note, .. } => {
                bytes.extend_from_slice(note);
                (Kind::Note, 0)
            }
            Change::Gone(_) => (Kind::Gone, 0),
            Change::Observed { observation, .. } => {
                append(&**observation, bytes);
                (Kind::Observed, observation.token)
            }
            Change::Unobserved { token, .. } => (Kind::Unobserved, *token),
            Change::Queued { command, .. } => {
                append(&**command, bytes);
                (Kind::Queued, command.number)
            }
            Change::Sent {
                number, confirm, ..
            } => match confirm {
                true => (Kind::Awaited, *number),
                false => (Kind::Sent, *number),
            },
            Change::Refused { number, with, .. } => {
                bytes.push(number_of(*with));
                (Kind::Refused, *number)
            }
            Change::Answered { number, .. } => (Kind::Answered, *number),
        };
        let end = bytes.len();
        self.entries.push(Entry {
            kind,
            number,
            start,
            middle,
            end,
        });
    }

    /// Bytes that a change takes here.
    pub(super) fn bytes(&self, at: usize) -> usize {
        let entry = self.entries.get(at);
        entry.map_or(0, |it| size_of::<Entry>() + (it.end - it.start))
    }

    /// The name that a change is about, as bytes.
    pub(super) fn name(&self, at: usize) -> &[u8] {
        let name = self.entries.get(at).map(|it| it.start..it.middle);
        name.and_then(|name| self.bytes.get(name))
            .unwrap_or_default()
    }

    /// A change; `None` where there is none.
    pub(super) fn line(&self, at: usize) -> Option<Line<'_>> {
        let entry = self.entries.get(at)?;
        Some(Line {
            kind: entry.kind,
            endpoint: str::from_utf8(self.bytes.get(entry.start..entry.middle)?).ok()?,
            number: entry.number,
            record: self.bytes.get(entry.middle..entry.end)?,
        })
    }

    /// Appends one of another log.
    pub(super) fn copy(&mut self, from: &Self, at: usize) {
        let Some(entry) = from.entries.get(at) else {
            return;
        };
        let Some(bytes) = from.bytes.get(entry.start..entry.end) else {
            return;
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.entries.push(Entry {
            start,
            middle: start + (entry.middle - entry.start),
            end: self.bytes.len(),
            ..*entry
        });
    }

    /// Appends all of another log.
    pub(super) fn extend(&mut self, from: &Self) {
        (0..from.len()).for_each(|at| self.copy(from, at));
    }

    /// Nothing is in it any more. The memory that it took stays, to be used again, unless that is much.
    pub(crate) fn clear(&mut self) {
        let entries = self.entries.capacity() * size_of::<Entry>();
        if self.bytes.capacity() + entries > SPARE_MAX {
            *self = Self::default();
        }
        self.entries.clear();
        self.bytes.clear();
    }
}

impl FromIterator<Change> for Log {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut log = Self::default();
        changes.into_iter().for_each(|change| log.push(&change));
        log
    }
}

#[cfg(feature = "internals")]
impl Line<'_> {
    /// What it was made of.
    pub(super) fn change(&self) -> Option<Change> {
        use super::record::{decode, refusal_of};
        use crate::time::Instant;

        let (endpoint, number) = (self.endpoint.into(), self.number);
        Some(match self.kind {
            Kind::Device => Change::Device(Box::new(decode(self.record)?)),
            Kind::Seen => Change::Seen {
                endpoint,
                at: Instant::from_micros(number),
            },
            Kind::Note => Change::Note {
                endpoint,
                note: self.record.into(),
            },
            Kind::Gone => Change::Gone(endpoint),
            Kind::Observed => Change::Observed {
                endpoint,
                observation: Box::new(decode(self.record)?),
            },
            Kind::Unobserved => Change::Unobserved {
                endpoint,
                token: number,
            },
            Kind::Queued => Change::Queued {
                endpoint,
                command: Box::new(decode(self.record)?),
            },
            Kind::Sent | Kind::Awaited => Change::Sent {
                endpoint,
                number,
                confirm: self.kind == Kind::Awaited,
            },
            Kind::Refused => Change::Refused {
                endpoint,
                number,
                with: refusal_of(*self.record.first()?),
            },
            Kind::Answered => Change::Answered { endpoint, number },
        })
    }
}
