//! Pre-shared keys: who may come in, with which key, under which endpoint names.

mod credential;
mod key;
mod pattern;

pub use credential::{Credential, IdentityError, MAX_IDENTITY, check_identity};
pub use key::{Key, KeyError, MAX_KEY, WEAK_KEY};
pub use pattern::{EndpointPattern, MAX_PATTERN, MAX_PATTERNS, PatternError};
