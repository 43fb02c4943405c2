//! Content formats (LwM2M Core 1.2 §7.4): bytes to and from [`Record`]s, one format a file.

use thiserror::Error;

use super::{Path, ResourceType, Value};

pub mod json;
pub mod opaque;
pub mod text;
pub mod tlv;

/// A CoAP Content-Format number (RFC 7252 §12.3 registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentFormat(pub u16);

impl ContentFormat {
    /// `text/plain; charset=utf-8`
    pub const TEXT: Self = Self(0);
    /// `application/link-format`
    pub const LINK: Self = Self(40);
    /// `application/octet-stream`
    pub const OPAQUE: Self = Self(42);
    /// `application/vnd.oma.lwm2m+tlv`
    pub const TLV: Self = Self(11542);
    /// `application/vnd.oma.lwm2m+json`
    pub const JSON: Self = Self(11543);
    /// Text as numbered before the registration of the OMA formats.
    pub const OLD_TEXT: Self = Self(1541);
    /// TLV, old number.
    pub const OLD_TLV: Self = Self(1542);
    /// JSON, old number.
    pub const OLD_JSON: Self = Self(1543);
}

/// One value at one path, as a device sent it or is to be sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// Full path.
    pub path: Path,
    /// The value.
    pub value: Value<'a>,
    /// Seconds since the Unix epoch when the value was taken, if the format carried it.
    pub time: Option<f64>,
    /// The type was guessed, because no object definition has this resource.
    pub inferred: bool,
}

/// What an object definition says of a resource, as far as codecs need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceSchema {
    /// Data type; `None` for an executable resource, which has no value.
    pub kind: Option<ResourceType>,
    /// Whether it may have several instances.
    pub multiple: bool,
}

/// Where codecs ask for types: the object definitions in the versions the device announced.
pub trait Schema {
    /// The definition of `resource` of `object`, if known.
    fn resource(&self, object: u16, resource: u16) -> Option<ResourceSchema>;
}

/// A schema that knows nothing: every type is inferred.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSchema;

impl Schema for NoSchema {
    fn resource(&self, _object: u16, _resource: u16) -> Option<ResourceSchema> {
        None
    }
}

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
