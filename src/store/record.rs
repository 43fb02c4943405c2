//! Records as bytes: a version, then postcard's form of the value. A change of a stored type is a new
//! version of it, and the old one stays readable.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clock::Clocks;
use super::older::{CommandV1, ObservationV1};
use crate::engine::{StoredCommand, StoredDevice, StoredObservation};

/// A type of records.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The version that is written.
    const VERSION: u8 = 1;

    /// What an older version says.
    fn of_older(version: u8, bytes: &[u8]) -> Option<Self> {
        let _ = (version, bytes);
        None
    }
}

impl Record for Clocks {}

impl Record for StoredDevice {}

impl Record for StoredObservation {
    const VERSION: u8 = 2;

    fn of_older(version: u8, bytes: &[u8]) -> Option<Self> {
        (version == 1)
            .then(|| postcard::from_bytes::<ObservationV1>(bytes).ok())?
            .map(Self::from)
    }
}

impl Record for StoredCommand {
    const VERSION: u8 = 2;

    fn of_older(version: u8, bytes: &[u8]) -> Option<Self> {
        (version == 1)
            .then(|| postcard::from_bytes::<CommandV1>(bytes).ok())?
            .map(Self::from)
    }
}

/// A record as bytes.
pub(super) fn encode<T: Record>(value: &T) -> Vec<u8> {
    // Nothing that is stored can fail to be written: there are no maps of unknown length.
    postcard::to_extend(value, vec![T::VERSION]).unwrap_or_default()
}

/// A record that can be read.
pub(super) fn decode<T: Record>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first()?;
    if *version == T::VERSION {
        return postcard::from_bytes(rest).ok();
    }
    T::of_older(*version, rest)
}

/// Whether a record is of the version that is written.
pub(super) fn is_current<T: Record>(bytes: &[u8]) -> bool {
    bytes.first() == Some(&T::VERSION)
}
