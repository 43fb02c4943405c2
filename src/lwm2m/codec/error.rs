//! Why a payload cannot be read or written.

use thiserror::Error;

use crate::lwm2m::{Path, PathError, ResourceType};

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The payload breaks the rules of its format.
    #[error("malformed {format}: {reason}")]
    Malformed {
        /// Short name of the format, as in `tlv`.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The format cannot carry values of that path (a text for a whole object).
    #[error("{format} cannot carry a value of {path}")]
    PathMismatch {
        /// Short name of the format.
        format: &'static str,
        /// The requested path.
        path: Path,
    },
    /// A value does not fit the type of its resource.
    #[error("{path}: not a valid {expected}")]
    BadValue {
        /// Where.
        path: Path,
        /// The type by the object definition.
        expected: ResourceType,
    },
    /// No codec for this number.
    #[error("unsupported content format {0}")]
    Unsupported(u16),
    /// More records, or deeper nesting, than the limits allow.
    #[error("payload exceeds the limit of {0}")]
    Limit(&'static str),
    /// One of the records cannot be read.
    #[error("{0}")]
    Record(#[from] BadRecord),
}

/// A record that cannot be read, of a payload that otherwise can.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {path:?}: {reason}")]
pub struct BadRecord {
    /// Its path, as far as it can be told, in the notation of the payload.
    pub path: String,
    /// What is wrong with it.
    pub reason: RecordError,
}

/// What is wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The name is not a path.
    #[error(transparent)]
    NotAPath(#[from] PathError),
    /// The name is longer than any path.
    #[error("the name is too long")]
    LongName,
    /// The name is a number, say.
    #[error("the name is not a string")]
    Name,
    /// A key is neither an id nor an array of ids.
    #[error("a key is not a path")]
    Key,
    /// A value at an object or an object instance.
    #[error("a value needs the path of a resource")]
    NoResource,
    /// No value, null, or something no resource can have.
    #[error("no value")]
    NoValue,
    /// The time is not a finite number.
    #[error("the time is not a finite number")]
    Time,
    /// One field several times, or several values.
    #[error("a field occurs twice")]
    Repeated,
    /// The value of something else than what was asked for.
    #[error("not what was asked for")]
    NotAsked,
    /// In place of the record: so many are listed already.
    #[error("further records cannot be read")]
    More,
}

/// Why values could not be written in a format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The format cannot carry these values (several values as text, say).
    #[error("{format} cannot carry this write: {reason}")]
    Unsuitable {
        /// Short name of the format.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A path outside of the base path.
    #[error("{path} is not below {base}")]
    OutsideBase {
        /// The record's path.
        path: Path,
        /// The request's path.
        base: Path,
    },
    /// No codec for this number.
    #[error("unsupported content format {0}")]
    Unsupported(u16),
}
