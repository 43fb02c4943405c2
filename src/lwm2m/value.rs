//! Resource values, one type for all content formats (LwM2M Core 1.2 Appendix C).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::memory::Heap;

/// The data type of a resource as its object definition states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// UTF-8 text.
    String,
    /// Signed integer of 8, 16, 32 or 64 bits.
    Integer,
    /// Unsigned integer of 8, 16, 32 or 64 bits (since 1.1).
    UnsignedInteger,
    /// IEEE 754 number of 32 or 64 bits.
    Float,
    /// True or false.
    Boolean,
    /// A sequence of bytes.
    Opaque,
    /// Seconds since 1970-01-01T00:00:00Z.
    Time,
    /// Object id and object instance id.
    ObjectLink,
    /// CoRE links (RFC 6690) as text (since 1.1).
    CoreLink,
}

impl ResourceType {
    /// The name in object definitions and in MQTT commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::Integer => "Integer",
            Self::UnsignedInteger => "Unsigned Integer",
            Self::Float => "Float",
            Self::Boolean => "Boolean",
            Self::Opaque => "Opaque",
            Self::Time => "Time",
            Self::ObjectLink => "Objlnk",
            Self::CoreLink => "Corelnk",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no data type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown data type {0:?}")]
pub struct UnknownType(pub String);

impl FromStr for ResourceType {
    type Err = UnknownType;

    /// Upper and lower case, spaces, `-` and `_` do not matter.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let folded: String = text
            .chars()
            .filter(|c| !matches!(c, ' ' | '-' | '_'))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        Ok(match folded.as_str() {
            "string" => Self::String,
            "integer" => Self::Integer,
            "unsignedinteger" => Self::UnsignedInteger,
            "float" => Self::Float,
            "boolean" => Self::Boolean,
            "opaque" => Self::Opaque,
            "time" => Self::Time,
            "objlnk" | "objectlink" => Self::ObjectLink,
            "corelnk" | "corelink" => Self::CoreLink,
            _ => return Err(UnknownType(text.to_owned())),
        })
    }
}

/// One value of one resource or resource instance. Borrows from the payload where it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Text.
    String(Cow<'a, str>),
    /// Signed integer.
    Integer(i64),
    /// Unsigned integer.
    Unsigned(u64),
    /// Floating-point number; float32 is widened.
    Float(f64),
    /// Boolean.
    Boolean(bool),
    /// Bytes.
    Opaque(Cow<'a, [u8]>),
    /// Seconds since the Unix epoch; negative before it.
    Time(i64),
    /// Object link.
    ObjectLink {
        /// Object id; 65535 with instance 65535 is the null link.
        object: u16,
        /// Object instance id.
        instance: u16,
    },
    /// CoRE link text.
    CoreLink(Cow<'a, str>),
}

impl Heap for Value<'_> {
    fn heap(&self) -> usize {
        match self {
            Self::String(text) | Self::CoreLink(text) => text.heap(),
            Self::Opaque(bytes) => bytes.heap(),
            _ => 0,
        }
    }
}

impl Value<'_> {
    /// The type this value has.
    pub const fn resource_type(&self) -> ResourceType {
        match self {
            Self::String(_) => ResourceType::String,
            Self::Integer(_) => ResourceType::Integer,
            Self::Unsigned(_) => ResourceType::UnsignedInteger,
            Self::Float(_) => ResourceType::Float,
            Self::Boolean(_) => ResourceType::Boolean,
            Self::Opaque(_) => ResourceType::Opaque,
            Self::Time(_) => ResourceType::Time,
            Self::ObjectLink { .. } => ResourceType::ObjectLink,
            Self::CoreLink(_) => ResourceType::CoreLink,
        }
    }

    /// The same value without a borrow.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::String(text) => Value::String(Cow::Owned(text.into_owned())),
            Self::Integer(number) => Value::Integer(number),
            Self::Unsigned(number) => Value::Unsigned(number),
            Self::Float(number) => Value::Float(number),
            Self::Boolean(value) => Value::Boolean(value),
            Self::Opaque(bytes) => Value::Opaque(Cow::Owned(bytes.into_owned())),
            Self::Time(seconds) => Value::Time(seconds),
            Self::ObjectLink { object, instance } => Value::ObjectLink { object, instance },
            Self::CoreLink(text) => Value::CoreLink(Cow::Owned(text.into_owned())),
        }
    }
}
