//! Where a registration lives.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where a registration lives: `/rd/<location>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// Eight random bytes, which nobody can guess.
    Random(u64),
    /// The endpoint name (`compat.location = "endpoint"`).
    Endpoint(Arc<str>),
}

impl Location {
    /// From the path segment that the device sent.
    pub fn from_random_segment(segment: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(segment).ok()?;
        Some(Self::Random(u64::from_be_bytes(bytes.try_into().ok()?)))
    }

    /// The path segment.
    pub fn segment(&self) -> String {
        match self {
            Self::Random(number) => URL_SAFE_NO_PAD.encode(number.to_be_bytes()),
            Self::Endpoint(name) => name.to_string(),
        }
    }
}

impl fmt::Debug for Location {
    /// A random location is a secret of its device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(_) => f.write_str("Random(..)"),
            Self::Endpoint(name) => f.debug_tuple("Endpoint").field(name).finish(),
        }
    }
}
