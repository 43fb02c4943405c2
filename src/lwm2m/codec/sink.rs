//! Where decoders of packs put their records, good and bad, within limits.

use super::error::{BadRecord, DecodeError, RecordError};
use super::record::{DecodeOptions, Record, Schema};
use crate::lwm2m::{Path, ResourceType, Value};

/// Records of one payload that are reported as unreadable; of more, only that there are more.
const MAX_BAD_RECORDS: usize = 64;

/// Where decoders of packs put their records.
pub(super) struct Sink<'a, 's> {
    schema: &'s dyn Schema,
    /// How many records may still come.
    left: usize,
    /// How many of them may still be bad, and be listed so.
    bad_left: usize,
    out: &'s mut Vec<Record<'a>>,
    bad: &'s mut Vec<BadRecord>,
}

impl<'a, 's> Sink<'a, 's> {
    pub(super) fn new(
        schema: &'s dyn Schema,
        options: &DecodeOptions,
        out: &'s mut Vec<Record<'a>>,
        bad: &'s mut Vec<BadRecord>,
    ) -> Self {
        Self {
            schema,
            left: options.max_records,
            bad_left: MAX_BAD_RECORDS + 1,
            out,
            bad,
        }
    }

    /// Counts a record, good or bad.
    pub(super) fn count(&mut self) -> Result<(), DecodeError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or(DecodeError::Limit("records"))?;
        Ok(())
    }

    /// Adds what `typed` makes of a value and its defined type.
    pub(super) fn add(
        &mut self,
        path: Path,
        time: Option<f64>,
        typed: impl FnOnce(Option<ResourceType>) -> Option<(Value<'a>, bool)>,
    ) -> Result<(), RecordError> {
        let (Some(object), Some(resource)) = (path.object(), path.resource()) else {
            return Err(RecordError::NoResource);
        };
        let kind = self.schema.resource(object, resource).and_then(|s| s.kind);
        let (value, inferred) = typed(kind).ok_or(RecordError::NoValue)?;
        self.out.push(Record {
            path,
            value,
            time,
            inferred,
        });
        Ok(())
    }

    /// Notes a record that cannot be read. `path` is only asked for its name where that is kept.
    pub(super) fn refuse(&mut self, path: impl FnOnce() -> String, reason: RecordError) {
        let (path, reason) = match self.bad_left.checked_sub(1) {
            None => return,
            Some(0) => (String::new(), RecordError::More),
            Some(_) => (path(), reason),
        };
        self.bad_left -= 1;
        self.bad.push(BadRecord { path, reason });
    }
}
