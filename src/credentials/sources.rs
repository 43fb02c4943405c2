//! Where credentials come from.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use super::EndpointPattern;
use super::credential::Credential;
use super::rules::{EndpointRule, KeyEncoding, WorldReadable};

/// Where credentials come from. Answers at once and from memory; what has to be asked for is not
/// behind this trait.
pub trait CredentialSource: Debug + Send + Sync {
    /// The credential with exactly this identity.
    fn find(&self, identity: &[u8]) -> Option<Arc<Credential>>;

    /// Whether some credential lists `endpoint`. Adds to `steps` the hashes and comparisons that it
    /// took.
    fn lists(&self, endpoint: &str, steps: &mut usize) -> bool;
}

/// Where the credentials of a listener come from, and what they count for.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// `psk`: credentials in the configuration itself; they win over those of the file.
    pub configured: &'a [Credential],
    /// `psk_file`
    pub file: Option<&'a Path>,
    /// `psk_file_keys`
    pub file_keys: KeyEncoding,
    /// `world_readable_keys`
    pub world_readable: WorldReadable,
    /// `identity_separator`: characters that may stand between an identity and a suffix.
    pub separators: &'a str,
    /// `endpoint_rule`
    pub rule: EndpointRule,
    /// `certificate_endpoints`: what identities of certificates list.
    pub certified: &'a BTreeMap<String, Vec<EndpointPattern>>,
}
