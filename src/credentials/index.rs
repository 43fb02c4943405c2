//! Credentials by identity, and the endpoints that they list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::credential::Credential;
use super::pattern::EndpointPattern;
use super::sources::CredentialSource;

/// Patterns that are compared with one endpoint name at most. When more of them begin like it, it
/// counts as covered: to refuse is safe, to search on is not.
pub(crate) const MAX_TRIED: usize = 1024;

/// Which endpoints a set of credentials lists, whoever lists them.
///
/// Names without wildcards are found by hash. Patterns are grouped by what stands before their
/// first wildcard, so that one look-up takes a hash for each length of such a beginning that occurs
/// (257 at most, in practice a few), and [`MAX_TRIED`] comparisons at most.
#[derive(Debug, Default)]
pub(super) struct EndpointIndex {
    names: HashSet<Box<str>>,
    patterns: HashMap<Box<[u8]>, Group>,
    /// Lengths of the keys of `patterns`, ascending.
    lengths: Vec<usize>,
    /// A beginning that more than [`MAX_TRIED`] patterns share.
    crowded: Option<Box<str>>,
}

/// Patterns with the same beginning.
#[derive(Debug)]
enum Group {
    /// One of them takes whatever follows, or there are too many.
    All,
    Some(Vec<EndpointPattern>),
}

impl EndpointIndex {
    pub(super) fn new<'a>(credentials: impl Iterator<Item = &'a Credential>) -> Self {
        let mut index = Self::default();
        for pattern in credentials.flat_map(|credential| &credential.endpoints) {
            index.insert(pattern);
        }
        index.finish();
        index
    }

    fn insert(&mut self, pattern: &EndpointPattern) {
        let text = pattern.as_str();
        let beginning = pattern.literal_beginning();
        if beginning.len() == text.len() {
            self.names.insert(text.into());
            return;
        }
        let group = self
            .patterns
            .entry(beginning.as_bytes().into())
            .or_insert_with(|| Group::Some(Vec::new()));
        if text.len() == beginning.len().saturating_add(1) && text.ends_with('*') {
            *group = Group::All;
        } else if let Group::Some(patterns) = group {
            patterns.push(pattern.clone());
        }
    }

    fn finish(&mut self) {
        for (beginning, group) in &mut self.patterns {
            let Group::Some(patterns) = group else {
                continue;
            };
            patterns.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            patterns.dedup();
            if patterns.len() > MAX_TRIED {
                self.crowded = Some(String::from_utf8_lossy(beginning).into());
                *group = Group::All;
            }
        }
        self.lengths = self.patterns.keys().map(|key| key.len()).collect();
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }

    /// Whether somebody lists `endpoint`. Adds to `steps` the hashes and comparisons it took.
    pub(super) fn lists(&self, endpoint: &str, steps: &mut usize) -> bool {
        *steps = steps.saturating_add(1);
        if self.names.contains(endpoint) {
            return true;
        }
        let mut tried = 0_usize;
        for length in &self.lengths {
            let Some(beginning) = endpoint.as_bytes().get(..*length) else {
                return false;
            };
            *steps = steps.saturating_add(1);
            match self.patterns.get(beginning) {
                None => {}
                Some(Group::All) => return true,
                Some(Group::Some(patterns)) => {
                    for pattern in patterns {
                        if tried == MAX_TRIED {
                            return true;
                        }
                        tried = tried.saturating_add(1);
                        *steps = steps.saturating_add(1);
                        if pattern.matches(endpoint) {
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// A beginning that so many patterns share that every endpoint with it counts as covered.
    pub(super) fn crowded(&self) -> Option<&str> {
        self.crowded.as_deref()
    }
}

/// Credentials by identity, with what they list.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_identity: HashMap<Box<[u8]>, Arc<Credential>>,
    listed: EndpointIndex,
}

impl Table {
    pub(super) fn new(by_identity: HashMap<Box<[u8]>, Arc<Credential>>) -> Self {
        let credentials = by_identity.values().map(|credential| &**credential);
        let listed = EndpointIndex::new(credentials);
        Self {
            by_identity,
            listed,
        }
    }

    pub(super) const fn by_identity(&self) -> &HashMap<Box<[u8]>, Arc<Credential>> {
        &self.by_identity
    }

    pub(super) fn lists(&self, endpoint: &str, steps: &mut usize) -> bool {
        self.listed.lists(endpoint, steps)
    }

    pub(super) const fn listed(&self) -> &EndpointIndex {
        &self.listed
    }
}

impl CredentialSource for Table {
    fn find(&self, identity: &[u8]) -> Option<Arc<Credential>> {
        self.by_identity().get(identity).cloned()
    }

    fn lists(&self, endpoint: &str, steps: &mut usize) -> bool {
        Self::lists(self, endpoint, steps)
    }
}

/// So many patterns begin alike that they are not compared one by one.
pub(super) fn crowded(beginning: &str) -> String {
    format!(
        "more than {MAX_TRIED} endpoints with wildcards begin with {beginning:?}: a device can register an endpoint that begins like this only if its credential lists it"
    )
}
