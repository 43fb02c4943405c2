//! A registration as it is stored.

#[cfg(any(feature = "internals", feature = "standalone"))]
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::links::Links;
use super::location::Location;
use super::query::Query;
use super::{Registration, queue_mode};
use crate::lwm2m::model::Version;

/// What a device said of itself, as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRegistration {
    /// A random location, which is a secret of its device; `None` for its name.
    location: Option<u64>,
    /// Milliseconds.
    lifetime: u64,
    version: Version,
    query: Query,
    links: Option<Links>,
}

/// Without the location.
impl std::fmt::Debug for StoredRegistration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredRegistration")
            .field("lifetime", &self.lifetime)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl StoredRegistration {
    /// Lifetime as granted.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_millis(self.lifetime)
    }

    /// A location that nobody can guess; `None` where it is the endpoint name.
    pub(in crate::engine) const fn random_location(&self) -> Option<u64> {
        self.location
    }

    /// Where it lives.
    pub(in crate::engine) fn location(&self, endpoint: &std::sync::Arc<str>) -> Location {
        match self.location {
            Some(number) => Location::Random(number),
            None => Location::Endpoint(endpoint.clone()),
        }
    }

    /// What it registered with.
    pub(in crate::engine) const fn items(&self) -> &Query {
        &self.query
    }

    /// Names and values of the query, for people.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.query.items()
    }

    /// The object list, for people.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let links = self.links.iter();
        links.flat_map(|links| links.objects.iter())
    }
}

impl Registration {
    /// For the store.
    pub(in crate::engine) fn to_stored(&self) -> StoredRegistration {
        StoredRegistration {
            location: match self.location {
                Location::Random(number) => Some(number),
                Location::Endpoint(_) => None,
            },
            lifetime: self.lifetime,
            version: self.version,
            query: self.query.clone(),
            links: self.links.clone(),
        }
    }

    /// From the store.
    pub(in crate::engine) fn of_stored(
        endpoint: &std::sync::Arc<str>,
        stored: StoredRegistration,
    ) -> Self {
        Self {
            location: stored.location(endpoint),
            lifetime: stored.lifetime,
            version: stored.version,
            queue_mode: queue_mode(&stored.query),
            query: stored.query,
            links: stored.links,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Limits};

    /// Records of any release that wrote them are read: the order and the kind of each field.
    #[test]
    fn the_form_of_a_record_stays() {
        type Links<'a> = (Option<&'a str>, Vec<&'a str>, Vec<(u16, u8, u8)>, Vec<u16>);
        let items = ["ep=dev", "lt=60", "lwm2m=1.1"];
        let query = Query::parse(items.iter().map(|it| it.as_bytes()), &Limits::default());
        let payload = b"</x>;rt=\"oma.lwm2m\";ct=11543,</x/1/0>,</x/3>;ver=1.2,</x/3/0>";
        let config = Config::default();
        let location = Location::Random(300);
        let registration = Registration::new(query.unwrap(), payload, location, &config).unwrap();
        let stored = registration.to_stored();
        let links = registration.links.as_ref().unwrap();
        let objects: Vec<_> = links.objects.iter().collect();
        assert_eq!(links.versions().len(), 1);
        let links: Links<'_> = (Some("/x"), objects, vec![(3, 1, 2)], vec![11543]);
        let as_written = (
            Some(300u64),
            60_000u64,
            (1u8, 1u8),
            items.to_vec(),
            Some(links),
        );
        let bytes = postcard::to_allocvec(&stored).unwrap();
        assert_eq!(bytes, postcard::to_allocvec(&as_written).unwrap());
        let read: StoredRegistration = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read, stored);
        assert_eq!(Registration::of_stored(&"dev".into(), read), registration);
    }
}
