//! Records as bytes: a version, then postcard's form of the value. A change of a stored type is a new
//! version here, and the old one stays readable.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is written.
const VERSION: u8 = 1;

/// A record as bytes.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Nothing that is stored can fail to be written: there are no maps of unknown length.
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

/// A record that can be read.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first()? {
        (&VERSION, rest) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}
