//! What a device said of itself when it registered (LwM2M Core 1.2 §6.2.1), Updates merged in.

use std::time::Duration;

use crate::config::{Config, LifetimePolicy, Limits, UpdateCondition};
use crate::lwm2m::link::RegistrationLinks;
use crate::lwm2m::model::{DeviceSchema, ObjectModels, Version};
use crate::memory::Heap;

mod error;
mod links;
mod location;
mod query;
mod stored;
mod strings;

pub(in crate::engine) use error::{MAX_ENDPOINT, RegisterError};
pub(in crate::engine) use links::Links;
pub(crate) use location::Location;
pub(in crate::engine) use query::Query;
pub use stored::StoredRegistration;

use error::MAX_ALTERNATE_PATH;

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

/// What a device said of itself.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) struct Registration {
    pub(in crate::engine) location: Location,
    /// Milliseconds.
    lifetime: u64,
    /// Of the LwM2M enabler.
    pub(in crate::engine) version: Version,
    pub(in crate::engine) queue_mode: bool,
    pub(in crate::engine) query: Query,
    /// From the payload; `None` when there was none.
    pub(in crate::engine) links: Option<Links>,
}

fn millis(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)
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
    pub(in crate::engine) fn new(
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
            lifetime: millis(lifetime),
            version,
            queue_mode: queue_mode(&query),
            query,
            links,
        })
    }

    /// Applies an Update; true when it is to be published under `condition`.
    pub(in crate::engine) fn update(
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
            self.lifetime = millis(lifetime);
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

    /// As granted.
    pub(in crate::engine) const fn lifetime(&self) -> Duration {
        Duration::from_millis(self.lifetime)
    }

    /// Names and values of the query, in order.
    pub(in crate::engine) fn queries(&self) -> impl Iterator<Item = (String, String)> {
        self.query
            .pairs()
            .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned()))
    }

    /// Object definitions in the versions that the device announced.
    pub(in crate::engine) fn schema<'a>(&'a self, models: &'a ObjectModels) -> DeviceSchema<'a> {
        let versions = self.links.as_ref().map(Links::versions);
        let versions = versions.unwrap_or_default();
        DeviceSchema::new(models, versions, self.version)
    }

    /// Where the device keeps its objects, `/` unless it said otherwise.
    pub(in crate::engine) fn alternate_path(&self) -> &str {
        self.links
            .as_ref()
            .and_then(Links::alternate_path)
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
    fn a_parameter_counts_once() {
        let limits = Limits::default();
        let items = [&b"ep=a"[..], b"lt=60", b"ep=b"];
        let two = Query::parse(items.into_iter(), &limits);
        assert_eq!(two, Err(RegisterError::TwoEndpoints));
        let known = query(&["ep=a", "b=U", "b=UQ", "x=1", "Q", "x=2", "Q", "x"]);
        assert_eq!(
            known.items().collect::<Vec<_>>(),
            ["ep=a", "b=U", "x=1", "Q"]
        );
        let merged = known.merged(&query(&["b=SQ", "x=9", "ep=b"]), &limits);
        let merged = merged.unwrap();
        assert_eq!(
            merged.items().collect::<Vec<_>>(),
            ["ep=a", "b=SQ", "x=9", "Q"]
        );
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
    fn b5_lifetimes_are_as_asked_or_bounded() {
        let mut config = Config::default();
        assert_eq!(config.lifetime_policy, LifetimePolicy::Ignore);
        config.lifetime_policy = LifetimePolicy::Clamp;
        let lifetime = |text: &str, config: &Config| {
            register(&["ep=a", text, "lwm2m=1.1"], config).map(|r| r.lifetime().as_secs())
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
            register(&["ep=a"], &config).unwrap().lifetime().as_secs(),
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
