//! Why a Register or Update is refused, and with which response code.

use thiserror::Error;

use crate::coap::Code;
use crate::config::Compat;
use crate::lwm2m::link::LinkError;
use crate::memory::Full;

/// Longest endpoint name in bytes: what fits into one Uri-Query option (RFC 7252 §5.10) or topic
/// level without surprises.
pub(in crate::engine) const MAX_ENDPOINT: usize = 255;

/// Longest alternate path in bytes: it stands in each request to its device.
pub(in crate::engine) const MAX_ALTERNATE_PATH: usize = 255;

/// Why a Register or Update is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::engine) enum RegisterError {
    /// A query that is not UTF-8.
    #[error("query is not UTF-8")]
    NotUtf8,
    /// No `ep`.
    #[error("missing endpoint name (ep)")]
    MissingEndpoint,
    /// More than one `ep`.
    #[error("more than one endpoint name (ep)")]
    TwoEndpoints,
    /// No `lt` or `lwm2m` with `compat.strict_register`.
    #[error("missing {0}")]
    Missing(&'static str),
    /// `lt` is not a number of seconds.
    #[error("lt={0:?} is not a number of seconds")]
    BadLifetime(String),
    /// `lt` outside of the bounds with `lifetime_policy = "reject"`.
    #[error("lt={0} is outside the allowed range")]
    LifetimeOutOfRange(u64),
    /// An LwM2M version that nobody knows.
    #[error("unsupported LwM2M version {0:?}")]
    BadVersion(String),
    /// The object list cannot be read at all.
    #[error("object list: {0}")]
    BadObjectList(#[from] LinkError),
    /// More query items than `limits.max_query_items`, Updates merged in.
    #[error("more than {0} query items")]
    TooManyQueryItems(usize),
    /// A longer query than `limits.max_query_bytes`, Updates merged in.
    #[error("the query is longer than {0} bytes")]
    QueryTooLong(usize),
    /// A longer object list than `limits.max_object_list`.
    #[error("the object list is longer than {0} bytes")]
    ObjectListTooLong(usize),
    /// The endpoint name is longer than [`MAX_ENDPOINT`].
    #[error("the endpoint name is longer than {MAX_ENDPOINT} bytes")]
    EndpointTooLong,
    /// The path of the root is longer than [`MAX_ALTERNATE_PATH`].
    #[error("the alternate path is longer than {MAX_ALTERNATE_PATH} bytes")]
    AlternatePathTooLong,
    /// The endpoint name cannot stand in a topic.
    #[error("{0}")]
    BadName(#[from] crate::bridge::topic::TopicError),
    /// The identity of the connection must not register this endpoint (`endpoint_rule`).
    #[error("this identity must not register this endpoint")]
    EndpointNotPermitted,
    /// The endpoint's registration belongs to another identity.
    #[error("registered by another identity")]
    OtherIdentity,
    /// Without DTLS, but a credential covers this endpoint or another of its names
    /// (`plain_registers`).
    #[error("this endpoint has a key and must register over DTLS")]
    Covered,
    /// Its mountpoint is another endpoint's (`shared_mountpoint`).
    #[error("the mountpoint {0} belongs to another endpoint")]
    MountTaken(String),
    /// The host said no.
    #[error("{0}")]
    Denied(String),
    /// The host could not say.
    #[error("the host cannot authorize devices now")]
    Unavailable,
    /// The account of memory is used up (`limits.memory`).
    #[error(transparent)]
    NoMemory(#[from] Full),
    /// `limits.max_registrations`, the listener's `max_connections` or
    /// `limits.max_identity_registrations`.
    #[error("too many registrations")]
    Full,
}

impl RegisterError {
    /// The response code.
    pub(in crate::engine) const fn code(&self, compat: &Compat) -> Code {
        match self {
            Self::BadVersion(_) if !compat.bad_version_400 => Code::PRECONDITION_FAILED,
            Self::ObjectListTooLong(_) => Code::REQUEST_ENTITY_TOO_LARGE,
            Self::Full | Self::Unavailable | Self::NoMemory(_) => Code::SERVICE_UNAVAILABLE,
            Self::EndpointNotPermitted
            | Self::OtherIdentity
            | Self::Covered
            | Self::MountTaken(_)
            | Self::Denied(_) => Code::FORBIDDEN,
            _ => Code::BAD_REQUEST,
        }
    }

    /// Whether the device said more than a registration may hold.
    pub(in crate::engine) const fn is_size(&self) -> bool {
        matches!(
            self,
            Self::TooManyQueryItems(_)
                | Self::QueryTooLong(_)
                | Self::ObjectListTooLong(_)
                | Self::EndpointTooLong
                | Self::AlternatePathTooLong
        )
    }
}
