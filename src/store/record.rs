//! Records as bytes: a version, then postcard's form of the value. A change of a stored type is a new
//! version of it, and the old one stays readable.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clock::Clocks;
use super::older::{CommandV1, ObservationV1};
use crate::engine::{StoredCommand, StoredDevice, StoredObservation, StoredRefusal};

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
    let mut bytes = Vec::new();
    append(value, &mut bytes);
    bytes
}

/// Appends a record as bytes.
pub(super) fn append<T: Record>(value: &T, bytes: &mut Vec<u8>) {
    bytes.push(T::VERSION);
    // Nothing that is stored can fail to be written: there are no maps of unknown length.
    let _ = postcard::serialize_with_flavor(value, Appended(bytes));
}

/// Where records are appended.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
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

/// A refusal as a number.
pub(super) const fn number_of(refusal: StoredRefusal) -> u8 {
    match refusal {
        StoredRefusal::NotRegistered => 1,
        StoredRefusal::Expired => 2,
        StoredRefusal::Cancelled => 3,
    }
}

/// And back.
pub(super) fn refusal_of(number: u8) -> StoredRefusal {
    let known = [StoredRefusal::Expired, StoredRefusal::Cancelled];
    let found = known.into_iter().find(|it| number_of(*it) == number);
    found.unwrap_or(StoredRefusal::NotRegistered)
}
