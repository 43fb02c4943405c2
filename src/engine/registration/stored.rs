//! A registration as it is stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::location::Location;
use super::query::Query;
use super::strings::Strings;
use super::{Links, Registration, queue_mode};
use crate::lwm2m::model::Version;
use crate::memory::Heap;

/// What a device said of itself, as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRegistration {
    /// A random location, which is a secret of its device; `None` for its name.
    location: Option<u64>,
    /// Milliseconds.
    lifetime: u64,
    version: (u8, u8),
    query: Vec<Box<str>>,
    links: Option<StoredLinks>,
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredLinks {
    alternate_path: Option<Box<str>>,
    objects: Vec<Box<str>>,
    /// Object, major, minor.
    versions: Vec<(u16, u8, u8)>,
    content_formats: Vec<u16>,
}

impl Heap for StoredRegistration {
    fn heap(&self) -> usize {
        let texts = |texts: &[Box<str>]| -> usize {
            let each = texts.iter().map(|text| size_of_val(text) + text.heap());
            each.sum()
        };
        let links = self.links.as_ref();
        texts(&self.query) + links.map_or(0, |links| texts(&links.objects))
    }
}

impl StoredRegistration {
    /// Lifetime as granted.
    pub const fn lifetime(&self) -> Duration {
        Duration::from_millis(self.lifetime)
    }

    /// Names and values of the query, for people.
    pub fn query(&self) -> impl Iterator<Item = &str> {
        self.query.iter().map(|item| &**item)
    }

    /// The object list, for people.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let links = self.links.iter();
        links.flat_map(|links| links.objects.iter().map(|object| &**object))
    }
}

impl Registration {
    /// For the store.
    pub(in crate::engine) fn to_stored(&self) -> StoredRegistration {
        let version = |version: Version| (version.major, version.minor);
        StoredRegistration {
            location: match self.location {
                Location::Random(number) => Some(number),
                Location::Endpoint(_) => None,
            },
            lifetime: u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX),
            version: version(self.version),
            query: self.query.items().map(Box::from).collect(),
            links: self.links.as_ref().map(|links| StoredLinks {
                alternate_path: links.alternate_path.clone(),
                objects: links.objects.iter().map(Box::from).collect(),
                versions: (links.versions.iter())
                    .map(|(object, version)| (*object, version.major, version.minor))
                    .collect(),
                content_formats: links.content_formats.to_vec(),
            }),
        }
    }

    /// From the store.
    pub(in crate::engine) fn of_stored(
        endpoint: &std::sync::Arc<str>,
        stored: &StoredRegistration,
    ) -> Self {
        let (major, minor) = stored.version;
        let query = Query::of_items(stored.query());
        let links = stored.links.as_ref().map(|links| Links {
            alternate_path: links.alternate_path.clone(),
            objects: (links.objects.iter())
                .map(|object| &**object)
                .collect::<Strings>(),
            versions: (links.versions.iter())
                .map(|(object, major, minor)| {
                    let (major, minor) = (*major, *minor);
                    (*object, Version { major, minor })
                })
                .collect(),
            content_formats: links.content_formats.as_slice().into(),
        });
        Self {
            location: match stored.location {
                Some(number) => Location::Random(number),
                None => Location::Endpoint(endpoint.clone()),
            },
            lifetime: stored.lifetime(),
            version: Version { major, minor },
            queue_mode: queue_mode(&query),
            query,
            links,
        }
    }
}
