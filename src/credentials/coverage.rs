//! Whose an endpoint name is. What a credential covers, by its identity, its list or a pattern of
//! its list, is its own (`endpoint_rule = "owned"`), whichever DTLS listener it belongs to; a plain
//! listener leaves it alone (`plain_registers`).
//!
//! The question is asked for each Register, so its cost must not depend on the number of
//! credentials: see [`EndpointIndex`](super::index::EndpointIndex).

use std::sync::Arc;

use super::credential::Credential;
use super::rules::EndpointRule;
use super::store::CredentialStore;

/// Longest endpoint name that is looked up, in bytes. A longer one counts as covered, if anything
/// is; it could stand in no topic either.
const MAX_ENDPOINT: usize = 255;

/// The credentials of all DTLS listeners of a gateway, as far as they are known: not those that a
/// host gives one by one when it is asked.
#[derive(Debug, Default)]
pub struct Coverage {
    stores: Vec<Arc<CredentialStore>>,
}

impl Coverage {
    /// Of these stores. They may change afterwards, as files do; answers follow.
    pub fn new(stores: impl IntoIterator<Item = Arc<CredentialStore>>) -> Self {
        Self {
            stores: stores.into_iter().collect(),
        }
    }

    /// Whether some credential covers `endpoint`.
    pub fn covers(&self, endpoint: &str) -> bool {
        self.covers_in(endpoint, &mut 0)
    }

    /// The same; adds to `steps` the hashes and comparisons it took.
    fn covers_in(&self, endpoint: &str, steps: &mut usize) -> bool {
        if endpoint.len() > MAX_ENDPOINT {
            return !self.stores.is_empty();
        }
        self.named_in(endpoint, steps).is_some()
            || self.stores.iter().any(|store| store.lists(endpoint, steps))
    }

    /// The identity that an endpoint name is, or that is followed by a separator of its listener in
    /// it; the longest of all listeners.
    fn named_in<'e>(&self, endpoint: &'e str, steps: &mut usize) -> Option<&'e [u8]> {
        let found = self
            .stores
            .iter()
            .filter_map(|store| store.find_in(endpoint.as_bytes(), steps));
        let longest = found.map(|credential| credential.identity.len()).max()?;
        endpoint.as_bytes().get(..longest)
    }

    /// Whether the credential of `identity`, as it is configured, covers `endpoint`. An identity is
    /// one name for all listeners. One that is not configured, because a host knows its key, covers
    /// its own name if nobody else does.
    pub fn owns(&self, identity: &[u8], endpoint: &str) -> bool {
        if endpoint.len() > MAX_ENDPOINT {
            return false;
        }
        match self.named_in(endpoint, &mut 0) {
            Some(named) if named == identity => return true,
            None if endpoint.as_bytes() == identity => return true,
            _ => {}
        }
        self.stores.iter().any(|store| {
            let credential = store.counted_list(identity);
            credential.is_some_and(|it| it.lists(endpoint))
        })
    }

    /// Whether a device that was let in by `credential` as `presented` may register `endpoint`.
    ///
    /// - [`EndpointRule::Owned`]: what its credential covers, and what nobody's covers.
    /// - Others: see [`Credential::permits`].
    pub fn permits(
        &self,
        rule: EndpointRule,
        credential: &Credential,
        presented: &[u8],
        endpoint: &str,
    ) -> bool {
        match rule {
            EndpointRule::Owned => {
                self.owns(&credential.identity, endpoint) || !self.covers(endpoint)
            }
            EndpointRule::Any | EndpointRule::Equal | EndpointRule::Listed => {
                credential.permits(rule, presented, endpoint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::index::EndpointIndex;
    use super::*;
    use crate::config::DtlsListener;
    use crate::credentials::index::MAX_TRIED;
    use crate::credentials::{EndpointPattern, Key};

    fn credential(identity: &str, endpoints: &[&str]) -> Credential {
        Credential {
            identity: identity.as_bytes().into(),
            key: Key::new(vec![1; 16]),
            endpoints: endpoints
                .iter()
                .map(|text| EndpointPattern::new(text).unwrap())
                .collect(),
        }
    }

    fn store(rule: EndpointRule, separators: &str, psk: Vec<Credential>) -> Arc<CredentialStore> {
        Arc::new(CredentialStore::configured(&DtlsListener {
            psk,
            identity_separator: separators.to_owned(),
            endpoint_rule: rule,
            ..DtlsListener::default()
        }))
    }

    fn owned(separators: &str, psk: &[(&str, &[&str])]) -> Arc<CredentialStore> {
        let psk = psk
            .iter()
            .map(|(identity, list)| credential(identity, list));
        store(EndpointRule::Owned, separators, psk.collect())
    }

    #[test]
    fn c6_what_a_credential_covers_is_its_own() {
        let coverage = Coverage::new([
            owned(
                "#",
                &[("alpha", &["truck-*", "x"]), ("beta", &[]), ("beta#9", &[])],
            ),
            owned("", &[("gamma", &["urn:*:5"]), ("alpha#1", &[])]),
        ]);
        for (endpoint, owners) in [
            ("alpha", vec!["alpha"]),
            ("alpha#2", vec!["alpha"]),
            // Configured as it is at the other listener.
            ("alpha#1", vec!["alpha#1"]),
            ("beta", vec!["beta"]),
            ("beta#9", vec!["beta#9"]),
            ("beta#9#1", vec!["beta#9"]),
            ("gamma", vec!["gamma"]),
            ("truck-", vec!["alpha"]),
            ("truck-7", vec!["alpha"]),
            ("x", vec!["alpha"]),
            ("urn:dev:5", vec!["gamma"]),
            // The other listener has no separators.
            ("gamma#1", vec![]),
            ("truck", vec![]),
            ("urn:imei:1", vec![]),
            ("Beta", vec![]),
        ] {
            assert_eq!(coverage.covers(endpoint), !owners.is_empty(), "{endpoint}");
            for identity in ["alpha", "beta", "beta#9", "gamma", "alpha#1"] {
                let owns = owners.contains(&identity);
                assert_eq!(
                    coverage.owns(identity.as_bytes(), endpoint),
                    owns,
                    "{endpoint}"
                );
                let permitted = coverage.permits(
                    EndpointRule::Owned,
                    &credential(identity, &[]),
                    identity.as_bytes(),
                    endpoint,
                );
                assert_eq!(
                    permitted,
                    owns || owners.is_empty(),
                    "{identity} {endpoint}"
                );
            }
        }
        // A host's identity: its name is its own, but not one that is configured.
        assert!(coverage.owns(b"host", "host") && !coverage.owns(b"host", "beta"));
        let long = "x".repeat(MAX_ENDPOINT + 1);
        assert!(coverage.covers(&long) && !coverage.owns(long.as_bytes(), &long));
        assert!(!Coverage::default().covers(&long));
    }

    #[test]
    fn lists_count_where_the_rule_looks_at_them() {
        for (rule, counts) in [
            (EndpointRule::Owned, true),
            (EndpointRule::Listed, true),
            (EndpointRule::Equal, false),
            (EndpointRule::Any, false),
        ] {
            let coverage = Coverage::new([store(rule, "", vec![credential("a", &["x*", "y"])])]);
            for endpoint in ["x1", "y"] {
                assert_eq!(coverage.covers(endpoint), counts);
                assert_eq!(coverage.owns(b"a", endpoint), counts);
            }
            assert!(coverage.covers("a") && coverage.owns(b"a", "a"));
        }
    }

    fn steps(coverage: &Coverage, endpoint: &str) -> usize {
        let mut steps = 0;
        coverage.covers_in(endpoint, &mut steps);
        steps
    }

    #[test]
    fn a_look_up_costs_the_same_whatever_the_number_of_credentials() {
        let fleet = |number: usize| {
            let psk = (0..number).map(|n| {
                let list = [format!("name-{n}"), format!("truck-{n:06}*")];
                let list: Vec<_> = list.iter().map(String::as_str).collect();
                credential(&format!("sn-{n}"), &list)
            });
            Coverage::new([store(EndpointRule::Owned, "#", psk.collect())])
        };
        let (some, twice) = (fleet(2000), fleet(4000));
        for endpoint in [
            "nobody",
            "truck-9",
            "truck-000500-1",
            "name-77",
            "sn-5",
            "sn-5#a#b",
        ] {
            assert_eq!(
                steps(&some, endpoint),
                steps(&twice, endpoint),
                "{endpoint}"
            );
            assert!(steps(&some, endpoint) < 8, "{endpoint}");
        }
    }

    #[test]
    fn patterns_that_begin_alike_are_bounded() {
        let crowd = |number: usize, form: fn(usize) -> String| {
            let lists = (0..number).map(form);
            let psk = lists.map(|pattern| credential(&pattern.clone(), &[&pattern]));
            store(EndpointRule::Owned, "", psk.collect())
        };
        // Within the bound each is tried, no more than once.
        let coverage = Coverage::new([crowd(MAX_TRIED, |n| format!("*-{n}"))]);
        assert!(!coverage.covers("a-x") && coverage.covers("a-7"));
        assert!(steps(&coverage, "a-x") <= MAX_TRIED + 4);
        // Beyond it nothing is open, and its owner still comes in.
        let coverage = Coverage::new([crowd(MAX_TRIED + 1, |n| format!("*-{n}"))]);
        assert!(coverage.covers("a-x") && steps(&coverage, "a-x") < 8);
        assert!(coverage.owns(b"*-7", "a-7") && !coverage.owns(b"*-7", "a-8"));
        // Beginnings within beginnings add up.
        let nested = |n: usize| format!("{}?{n}", "a".repeat(n % 200));
        let coverage = Coverage::new([crowd(20 * MAX_TRIED, nested)]);
        assert!(coverage.covers(&"a".repeat(250)));
        assert!(steps(&coverage, &"a".repeat(250)) <= MAX_TRIED + 260);
    }

    proptest! {
        /// The index says what a search through everything says.
        #[test]
        fn the_index_agrees_with_a_search(
            lists in prop::collection::vec(prop::collection::vec("[ab*?é]{1,5}", 0..4), 0..8),
            endpoint in "[abé]{0,6}",
        ) {
            let credentials: Vec<_> = lists
                .iter()
                .enumerate()
                .map(|(n, list)| {
                    let list: Vec<_> = list.iter().map(String::as_str).collect();
                    credential(&format!("id{n}"), &list)
                })
                .collect();
            let searched = credentials.iter().any(|it| it.lists(&endpoint));
            let index = EndpointIndex::new(credentials.iter());
            prop_assert_eq!(index.lists(&endpoint, &mut 0), searched);
        }
    }
}
