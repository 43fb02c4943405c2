//! What codecs read: values at paths, with the types of an object definition.

use super::guess::Guess;
use crate::lwm2m::{Path, ResourceType, Value};

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

    /// What a resource without a definition has been before, if that is remembered.
    fn guess(&self, _object: u16, _resource: u16) -> Option<Guess> {
        None
    }

    /// Remembers what a resource without a definition has shown itself to be.
    fn guessed(&self, _object: u16, _resource: u16, _guess: Guess) {}
}

/// A schema that knows nothing: every type is inferred.
#[derive(Debug, Clone, Copy, Default)]
#[cfg(feature = "internals")]
pub struct NoSchema;

#[cfg(feature = "internals")]
impl Schema for NoSchema {
    fn resource(&self, _object: u16, _resource: u16) -> Option<ResourceSchema> {
        None
    }
}

/// Limits and switches of [`decode`](super::decode).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeOptions {
    /// In text/plain the bytes of an Opaque resource are its value, as EMQX has it, instead of
    /// its base64 (LwM2M Core 1.2 Appendix C).
    pub text_opaque_raw: bool,
    /// How many records one payload may hold.
    pub max_records: usize,
    /// Seconds since the Unix epoch, what relative times are counted from (RFC 8428 §4.5.3).
    /// `None` drops relative times.
    pub now: Option<f64>,
}

/// [`DecodeOptions::max_records`] by default.
pub(crate) const MAX_RECORDS: usize = 16_384;

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            text_opaque_raw: false,
            max_records: MAX_RECORDS,
            now: None,
        }
    }
}
