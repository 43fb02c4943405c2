//! The registration interface (LwM2M Core 1.2 §6.2): Register, Update, De-register, lifetimes and
//! the binding of an endpoint to an address.

use std::fmt;
use std::str;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use super::query::Query;
use super::strings::Strings;
use crate::coap::Code;
use crate::config::{Compat, Config, LifetimePolicy, Limits, UpdateCondition};
use crate::lwm2m::link::{LinkError, RegistrationLinks};
use crate::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use crate::memory::{Full, Heap, block};

/// Longest endpoint name in bytes: what fits into one Uri-Query option (RFC 7252 §5.10) or topic
/// level without surprises.
pub(super) const MAX_ENDPOINT: usize = 255;

/// Longest alternate path in bytes: it stands in each request to its device.
const MAX_ALTERNATE_PATH: usize = 255;

/// Default of `lt` (LwM2M Core 1.2 §6.2.1), seconds.
const DEFAULT_LIFETIME: u64 = 86_400;

/// More than any device means; keeps times within their range.
const LONGEST_LIFETIME: Duration = Duration::from_secs(u32::MAX as u64);

/// `apn` values of devices in power saving mode that EMQX takes for queue mode.
const QUEUE_MODE_APNS: [&str; 4] = [
    "Ctnb",
    "psmA.eDRX0.ctnb",
    "psmC.eDRX0.ctnb",
    "psmF.eDRXC.ctnb",
];

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

/// Why a Register or Update is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum RegisterError {
    /// A query that is not UTF-8.
    #[error("query is not UTF-8")]
    NotUtf8,
    /// No `ep`.
    #[error("missing endpoint name (ep)")]
    MissingEndpoint,
    /// No `lt` or `lwm2m` with `compat.strict_register`.
    #[error("missing {0}")]
    Missing(&'static str),
    /// `lt` is not a number of seconds.
    #[error("lt={0:?} is not a number of seconds")]
    BadLifetime(String),
    /// `lt` outside of the bounds with `lifetime_policy = "reject"`.
    #[error("lt={0} is outside of the allowed range")]
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
    #[error("this endpoint has a key and has to register over DTLS")]
    Covered,
    /// Its mountpoint is another endpoint's (`shared_mountpoint`).
    #[error("another endpoint has the mountpoint {0}")]
    MountTaken(String),
    /// The host said no.
    #[error("{0}")]
    Denied(String),
    /// The host could not say.
    #[error("authorization is not available")]
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
    pub(super) const fn code(&self, compat: &Compat) -> Code {
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
    pub(super) const fn is_size(&self) -> bool {
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

/// What a device said of its objects, as far as it is needed later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Links {
    /// `None` for `/`, which most devices have.
    alternate_path: Option<Box<str>>,
    /// In the order of the device.
    pub(super) objects: Strings,
    versions: Box<[(u16, Version)]>,
    /// Of the root link.
    pub(super) content_formats: Box<[u16]>,
}

impl From<RegistrationLinks> for Links {
    fn from(links: RegistrationLinks) -> Self {
        let path = links.alternate_path;
        Self {
            alternate_path: (path != "/").then(|| path.into()),
            objects: links.objects.iter().map(String::as_str).collect(),
            versions: links.versions.into(),
            content_formats: links.content_formats.into(),
        }
    }
}

impl Heap for Links {
    fn heap(&self) -> usize {
        let versions = block(size_of_val(&*self.versions));
        let formats = block(size_of_val(&*self.content_formats));
        self.alternate_path.heap() + self.objects.heap() + versions + formats
    }
}

/// What a device said of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Registration {
    pub(super) location: Location,
    pub(super) lifetime: Duration,
    /// Of the LwM2M enabler.
    pub(super) version: Version,
    pub(super) queue_mode: bool,
    pub(super) query: Query,
    /// From the payload; `None` when there was none.
    pub(super) links: Option<Links>,
}

/// Versions a server has to take (LwM2M Core 1.2 §6.2.1): 1.0, 1.1 and 1.2, also as `1` and with
/// a patch level (`1.0.0`).
fn parse_version(text: &str) -> Option<Version> {
    text.parse()
        .ok()
        .filter(|version: &Version| version.major == 1 && version.minor <= 2)
}

fn lifetime(query: &Query, config: &Config) -> Result<Option<Duration>, RegisterError> {
    let Some(text) = query.get("lt") else {
        return Ok(None);
    };
    let seconds: u64 = text
        .parse()
        .map_err(|_| RegisterError::BadLifetime(text.chars().take(40).collect()))?;
    bounded_lifetime(seconds, config).map(Some)
}

fn bounded_lifetime(seconds: u64, config: &Config) -> Result<Duration, RegisterError> {
    // Zero asks for the longest there is, as in EMQX.
    if seconds == 0 {
        return Ok(config.lifetime_max);
    }
    let asked = Duration::from_secs(seconds);
    let allowed = asked.clamp(
        config.lifetime_min,
        config.lifetime_max.max(config.lifetime_min),
    );
    match config.lifetime_policy {
        LifetimePolicy::Reject if allowed != asked => {
            Err(RegisterError::LifetimeOutOfRange(seconds))
        }
        LifetimePolicy::Reject | LifetimePolicy::Clamp => Ok(allowed),
        LifetimePolicy::Ignore => Ok(asked.min(LONGEST_LIFETIME)),
    }
}

fn object_list(payload: &[u8], limits: &Limits) -> Result<Option<Links>, RegisterError> {
    if payload.is_empty() {
        return Ok(None);
    }
    if payload.len() > limits.max_object_list {
        return Err(RegisterError::ObjectListTooLong(limits.max_object_list));
    }
    let links = RegistrationLinks::parse(payload)?;
    if links.alternate_path.len() > MAX_ALTERNATE_PATH {
        return Err(RegisterError::AlternatePathTooLong);
    }
    Ok(Some(links.into()))
}

/// Queue mode is `Q` in the binding of 1.0, a query of its own since 1.1.
fn queue_mode(query: &Query) -> bool {
    query.has_flag("Q")
        || query
            .get("Q")
            .is_some_and(|value| value.is_empty() || value == "true" || value == "1")
        || query.get("b").is_some_and(|binding| binding.contains('Q'))
        || query
            .get("apn")
            .is_some_and(|apn| QUEUE_MODE_APNS.contains(&apn))
}

impl Heap for Registration {
    fn heap(&self) -> usize {
        // A location shares the endpoint's text.
        self.query.heap() + self.links.heap()
    }
}

impl Registration {
    /// Reads a Register.
    pub(super) fn new(
        query: Query,
        payload: &[u8],
        location: Location,
        config: &Config,
    ) -> Result<Self, RegisterError> {
        if config.compat.strict_register {
            for key in ["lt", "lwm2m"] {
                query.get(key).ok_or(RegisterError::Missing(key))?;
            }
        }
        // LwM2M 1.0 §5.3.1: the version may be left out, it is 1.0 then.
        let text = query.get("lwm2m").unwrap_or("1.0");
        let version = parse_version(text)
            .ok_or_else(|| RegisterError::BadVersion(text.chars().take(40).collect()))?;
        let lifetime = match lifetime(&query, config)? {
            Some(lifetime) => lifetime,
            None => bounded_lifetime(DEFAULT_LIFETIME, config).unwrap_or(config.lifetime_max),
        };
        let links = object_list(payload, &config.limits)?;
        Ok(Self {
            location,
            lifetime,
            version,
            queue_mode: queue_mode(&query),
            query,
            links,
        })
    }

    /// Applies an Update; true when it is to be published under `condition`.
    pub(super) fn update(
        &mut self,
        query: Query,
        payload: &[u8],
        config: &Config,
    ) -> Result<bool, RegisterError> {
        // Either all of an Update applies or nothing.
        let lifetime = lifetime(&query, config)?;
        let links = object_list(payload, &config.limits)?;
        if !query.is_empty() {
            self.query = self.query.merged(&query, &config.limits)?;
        }
        if let Some(lifetime) = lifetime {
            self.lifetime = lifetime;
        }
        self.queue_mode = queue_mode(&self.query);
        let carried = links.is_some();
        let mut changed = false;
        if let Some(links) = links {
            changed = self
                .links
                .as_ref()
                .is_none_or(|old| old.objects != links.objects);
            self.links = Some(links);
        }
        Ok(match config.update_msg_publish_condition {
            UpdateCondition::Always => true,
            UpdateCondition::ContainsObjectList => carried,
            UpdateCondition::ObjectListChanged => changed,
        })
    }

    /// Object definitions in the versions that the device announced.
    pub(super) fn schema<'a>(&'a self, models: &'a ObjectModels) -> DeviceSchema<'a> {
        let versions = self
            .links
            .as_ref()
            .map(|links| &*links.versions)
            .unwrap_or_default();
        DeviceSchema::new(models, versions, self.version)
    }

    /// Where the device keeps its objects, `/` unless it said otherwise.
    pub(super) fn alternate_path(&self) -> &str {
        self.links
            .as_ref()
            .and_then(|links| links.alternate_path.as_deref())
            .unwrap_or("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(items: &[&str]) -> Query {
        let items = items.iter().map(|item| item.as_bytes());
        Query::parse(items, &Limits::default()).unwrap()
    }

    fn register(items: &[&str], config: &Config) -> Result<Registration, RegisterError> {
        Registration::new(query(items), b"</1/0>,</3/0>", Location::Random(7), config)
    }

    #[test]
    fn versions_of_the_field() {
        for (text, known) in [
            ("1", true),
            ("1.0", true),
            ("1.0.0", true),
            ("1.1", true),
            ("1.2", true),
            ("1.2.1", true),
            ("1.3", false),
            ("8.3", false),
            ("", false),
            ("1.x", false),
            ("1.0.0.0", false),
        ] {
            assert_eq!(parse_version(text).is_some(), known, "{text}");
        }
    }

    #[test]
    fn lifetimes_are_bounded() {
        let mut config = Config::default();
        let lifetime = |text: &str, config: &Config| {
            register(&["ep=a", text, "lwm2m=1.1"], config).map(|r| r.lifetime.as_secs())
        };
        assert_eq!(lifetime("lt=300", &config), Ok(300));
        assert_eq!(lifetime("lt=1", &config), Ok(15));
        assert_eq!(lifetime("lt=0", &config), Ok(86_400));
        assert_eq!(lifetime("lt=18446744073709551615", &config), Ok(86_400));
        assert_eq!(
            lifetime("lt=abc", &config),
            Err(RegisterError::BadLifetime("abc".into()))
        );
        assert_eq!(
            lifetime("lt=-5", &config),
            Err(RegisterError::BadLifetime("-5".into()))
        );
        config.lifetime_policy = LifetimePolicy::Ignore;
        assert_eq!(lifetime("lt=1", &config), Ok(1));
        assert_eq!(lifetime("lt=864000", &config), Ok(864_000));
        assert_eq!(
            lifetime("lt=18446744073709551615", &config),
            Ok(LONGEST_LIFETIME.as_secs())
        );
        config.lifetime_policy = LifetimePolicy::Reject;
        assert_eq!(
            lifetime("lt=1", &config),
            Err(RegisterError::LifetimeOutOfRange(1))
        );
    }

    #[test]
    fn queue_mode_of_all_versions() {
        let config = Config::default();
        for (items, expected) in [
            (&["ep=a", "b=UQ"][..], true),
            (&["ep=a", "b=UQS"], true),
            (&["ep=a", "b=U", "Q"], true),
            (&["ep=a", "Q"], true),
            (&["ep=a", "apn=psmA.eDRX0.ctnb"], true),
            (&["ep=a", "b=U"], false),
            (&["ep=a"], false),
        ] {
            assert_eq!(
                register(items, &config).unwrap().queue_mode,
                expected,
                "{items:?}"
            );
        }
    }

    #[test]
    fn an_update_merges_and_keeps_the_endpoint() {
        let config = Config::default();
        let mut registration = register(&["ep=a", "lt=300", "x=1"], &config).unwrap();
        let publish = registration
            .update(query(&["ep=b", "lt=60", "y=2"]), b"", &config)
            .unwrap();
        assert!(!publish);
        let pairs: Vec<_> = registration.query.pairs().collect();
        assert_eq!(
            pairs,
            [
                ("ep", Some("a")),
                ("lt", Some("60")),
                ("x", Some("1")),
                ("y", Some("2"))
            ]
        );
        assert!(
            !registration
                .update(query(&[]), b"</1/0>,</3/0>", &config)
                .unwrap()
        );
        assert!(
            registration
                .update(query(&[]), b"</1/0>,</5/0>", &config)
                .unwrap()
        );
    }

    #[test]
    fn c1_bounds_hold_after_an_update_as_well() {
        let config = Config::default();
        let limits = &config.limits;
        let items: Vec<String> = (0..64).map(|n| format!("k{n}={n}")).collect();
        let parse =
            |items: &[String]| Query::parse(items.iter().map(String::as_bytes), limits).map(|_| ());
        assert_eq!(parse(&items), Ok(()));
        let many = [&items[..], &["x".to_owned()]].concat();
        assert_eq!(parse(&many), Err(RegisterError::TooManyQueryItems(64)));
        assert_eq!(parse(&["x".repeat(4096)]), Ok(()));
        let long = [String::new(), "x".repeat(4097)];
        assert_eq!(parse(&long), Err(RegisterError::QueryTooLong(4096)));

        let mut registration = register(&["ep=a", "lt=300"], &config).unwrap();
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        registration
            .update(query(&items[..62]), b"", &config)
            .unwrap();
        let before = registration.clone();
        for (update, error) in [
            (
                query(&["lt=60", "one=more"]),
                RegisterError::TooManyQueryItems(64),
            ),
            (
                query(&["k1=", &format!("k2={}", "x".repeat(4000))]),
                RegisterError::QueryTooLong(4096),
            ),
        ] {
            let refused = registration.update(update, b"</9/9>", &config);
            assert_eq!(refused, Err(error));
            assert_eq!(registration, before, "nothing of it applies");
        }
        let list = format!("</1>;a=\"{}\"", "x".repeat(64 << 10));
        let refused = registration.update(query(&["lt=60"]), list.as_bytes(), &config);
        assert_eq!(refused, Err(RegisterError::ObjectListTooLong(64 << 10)));
        let root = format!("</{}>;rt=oma.lwm2m", "x".repeat(255));
        let refused = registration.update(query(&["lt=60"]), root.as_bytes(), &config);
        assert_eq!(refused, Err(RegisterError::AlternatePathTooLong));
        assert_eq!(registration, before);
        // What replaces something takes no more room.
        let replaced: Vec<String> = (0..62).map(|n| format!("k{n}=new")).collect();
        let replaced: Vec<&str> = replaced.iter().map(String::as_str).collect();
        registration.update(query(&replaced), b"", &config).unwrap();
        assert_eq!(registration.query.get("k61"), Some("new"));
        assert_eq!(registration.query.pairs().count(), 64);
    }

    #[test]
    fn strictness_is_a_switch() {
        let mut config = Config::default();
        assert_eq!(
            register(&["ep=a"], &config).unwrap().lifetime.as_secs(),
            86_400
        );
        config.compat.strict_register = true;
        assert_eq!(
            register(&["ep=a"], &config),
            Err(RegisterError::Missing("lt"))
        );
        assert_eq!(
            register(&["ep=a", "lt=60"], &config),
            Err(RegisterError::Missing("lwm2m"))
        );
    }

    #[test]
    fn locations_round_trip() {
        let location = Location::Random(0x0123_4567_89ab_cdef);
        assert_eq!(location.segment().len(), 11);
        assert_eq!(
            Location::from_random_segment(&location.segment()),
            Some(location.clone())
        );
        assert_eq!(Location::from_random_segment("ep1"), None);
        assert!(!format!("{location:?}").contains("81985529216486895"));
    }
}
