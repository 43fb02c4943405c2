//! Versions of objects and of the LwM2M enabler.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of an object or of the LwM2M enabler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Incompatible changes.
    pub major: u8,
    /// Compatible changes.
    pub minor: u8,
}

impl Version {
    /// The version of an object, other than those of the enabler, that states none
    /// (LwM2M Core 1.2 §7.2.2).
    pub const V1_0: Self = Self { major: 1, minor: 0 };
    /// Version 1.1.
    pub const V1_1: Self = Self { major: 1, minor: 1 };
    /// Version 1.2.
    pub const V1_2: Self = Self { major: 1, minor: 2 };
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a version such as 1.0")]
pub struct BadVersion(pub String);

impl FromStr for Version {
    type Err = BadVersion;

    /// Reads `1`, `1.1`, `"1.1"` in quotes and, ignoring the last number, `1.0.0`.
    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let parts = || {
            let mut parts = text.trim().trim_matches('"').splitn(4, '.').map(|part| {
                let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
                part.parse::<u8>().ok().filter(|_| digits)
            });
            let major = parts.next()??;
            let minor = parts.next().unwrap_or(Some(0))?;
            let _patch = parts.next().unwrap_or(Some(0))?;
            parts.next().is_none().then_some(Self { major, minor })
        };
        parts().ok_or_else(|| BadVersion(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version an object has when the device states none: that of the enabler's version for its
/// own objects (LwM2M Core 1.0.2, 1.1.1 and 1.2 Appendix E), else 1.0.
pub fn default_version(object: u16, enabler: Version) -> Version {
    let v1_3 = Version { major: 1, minor: 3 };
    if enabler >= Version::V1_2 {
        match object {
            0 | 1 | 3 => Version::V1_2,
            2 | 5 => Version::V1_1,
            4 => v1_3,
            _ => Version::V1_0,
        }
    } else if enabler >= Version::V1_1 {
        match object {
            0 | 1 | 3 => Version::V1_1,
            4 => Version::V1_2,
            _ => Version::V1_0,
        }
    } else {
        Version::V1_0
    }
}
