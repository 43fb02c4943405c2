//! Pre-shared keys: who may come in, with which key, under which endpoint names.
//!
//! A [`CredentialStore`] answers for one listener. It asks its sources in order, the configuration
//! itself and a [`PskFile`]; a host that knows further keys is asked by whoever runs the
//! handshake, when the store has no answer. Keys are zeroed when they are dropped, compared in
//! constant time and never shown.

mod coverage;
mod credential;
pub mod edit;
mod file;
mod index;
mod key;
mod lines;
mod pattern;
mod rules;
mod sources;
mod store;

pub use coverage::Coverage;
pub use credential::{Credential, IdentityError, MAX_IDENTITY, check_identity};
pub use file::{FileError, FileReport, MAX_FILE, PskFile, read_file};
pub use index::MAX_TRIED;
pub use key::{Key, KeyError, MAX_KEY, WEAK_KEY};
pub use lines::{LineError, Lines, MAX_PROBLEMS, Problem, ProblemKind};
pub use pattern::{EndpointPattern, MAX_PATTERN, MAX_PATTERNS, PatternError};
pub use rules::{EndpointRule, KeyEncoding, WorldReadable};
pub use sources::{CredentialSource, Sources};
pub use store::{CredentialStore, MAX_CUTS, candidates};
