//! One identity with its key and its endpoints.

use super::rules::EndpointRule;
use super::{EndpointPattern, Key};

/// Longest identity in bytes, configured or presented. RFC 4279 section 5.3 asks for 128, OpenSSL
/// takes 256.
pub(crate) const MAX_IDENTITY: usize = 256;

/// Why bytes are no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing there.
    #[error("the identity is empty")]
    Empty,
    /// More than [`MAX_IDENTITY`] bytes.
    #[error("the identity is longer than {MAX_IDENTITY} bytes")]
    Long,
    /// OpenSSL would see only what stands before it.
    #[error("the identity holds a NUL byte")]
    Nul,
}

/// Refuses what can be no identity, configured or presented.
///
/// # Errors
///
/// When it is empty, too long or holds a NUL byte.
pub fn check_identity(identity: &[u8]) -> Result<(), IdentityError> {
    match identity.len() {
        0 => Err(IdentityError::Empty),
        1..=MAX_IDENTITY if identity.contains(&0) => Err(IdentityError::Nul),
        1..=MAX_IDENTITY => Ok(()),
        _ => Err(IdentityError::Long),
    }
}

/// An identity as it is configured, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The public part.
    pub identity: Box<[u8]>,
    /// The secret part.
    pub key: Key,
    /// For `endpoint_rule = "owned"` and `"listed"`: the endpoints that are its own.
    pub endpoints: Vec<EndpointPattern>,
}

impl Credential {
    /// Whether a device that was let in with this credential under the identity `presented` may
    /// register `endpoint`.
    ///
    /// - [`EndpointRule::Any`]: every endpoint.
    /// - [`EndpointRule::Equal`]: the endpoint is the identity, either as it was presented or
    ///   without its suffix. The suffix only tells the connections of one key apart, so a device
    ///   may leave it out of its endpoint name.
    /// - [`EndpointRule::Listed`]: one of [`endpoints`](Self::endpoints) matches; an empty list
    ///   allows none.
    /// - [`EndpointRule::Owned`]: as far as this credential can tell, the endpoints of the two rules
    ///   before. What others cover, [`Coverage::permits`](super::Coverage::permits) knows.
    pub fn permits(&self, rule: EndpointRule, presented: &[u8], endpoint: &str) -> bool {
        match rule {
            EndpointRule::Any => true,
            EndpointRule::Equal => [presented, &*self.identity].contains(&endpoint.as_bytes()),
            EndpointRule::Listed => self.lists(endpoint),
            EndpointRule::Owned => {
                self.permits(EndpointRule::Equal, presented, endpoint) || self.lists(endpoint)
            }
        }
    }

    /// Whether one of [`endpoints`](Self::endpoints) matches.
    pub(super) fn lists(&self, endpoint: &str) -> bool {
        let mut patterns = self.endpoints.iter();
        patterns.any(|pattern| pattern.matches(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        assert_eq!(check_identity(b"sn1"), Ok(()));
        assert_eq!(check_identity(&[b'x'; MAX_IDENTITY]), Ok(()));
        assert_eq!(check_identity(b""), Err(IdentityError::Empty));
        assert_eq!(check_identity(b"a\0b"), Err(IdentityError::Nul));
        let long = [b'x'; MAX_IDENTITY + 1];
        assert_eq!(check_identity(&long), Err(IdentityError::Long));
    }

    #[test]
    fn rules() {
        let credential = |endpoints: &[&str]| Credential {
            identity: (*b"sn123").into(),
            key: Key::new(vec![1]),
            endpoints: endpoints
                .iter()
                .map(|text| EndpointPattern::new(text).unwrap())
                .collect(),
        };
        let plain = credential(&[]);
        let listed = credential(&["sn123", "truck-*"]);
        let presented = b"sn123#2";
        assert!(plain.permits(EndpointRule::Any, presented, "whatever"));
        for (endpoint, allowed) in [
            ("sn123", true),
            ("sn123#2", true),
            ("sn123#3", false),
            ("sn12", false),
            ("", false),
        ] {
            assert_eq!(
                plain.permits(EndpointRule::Equal, presented, endpoint),
                allowed,
                "{endpoint}"
            );
        }
        for (endpoint, allowed) in [("sn123", true), ("truck-7", true), ("sn123#2", false)] {
            assert_eq!(
                listed.permits(EndpointRule::Listed, presented, endpoint),
                allowed,
                "{endpoint}"
            );
            assert!(!plain.permits(EndpointRule::Listed, presented, endpoint));
        }
        for endpoint in ["sn123", "sn123#2", "truck-7"] {
            assert!(listed.permits(EndpointRule::Owned, presented, endpoint));
        }
    }
}
