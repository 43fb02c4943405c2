//! Who may come in, with which pre-shared key or certificate, under which endpoint names.
//!
//! A [`CredentialStore`] answers for one listener. It asks its sources in order, the configuration
//! itself and a [`PskFile`]; a host that knows further keys is asked by whoever runs the
//! handshake, when the store has no answer. Keys are zeroed when they are dropped, compared in
//! constant time and never shown.

mod certificates;
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
mod change;
mod coverage;
mod credential;
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub mod edit;
mod file;
mod index;
mod key;
mod lines;
mod pattern;
mod rules;
mod sources;
mod store;

pub use certificates::{
    CertificateFileError, CertificateFiles, CertificateIdentity, CertificateOptions,
    CertificateTexts, Fingerprint, Verify,
};
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub use change::{ChangeError, change};
pub use coverage::Coverage;
pub use credential::{Credential, IdentityError, check_identity};
pub use file::FileError;
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub use file::read_file;
pub use key::{Key, KeyError, MAX_KEY};
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub use lines::Lines;
pub use pattern::{EndpointPattern, PatternError};
pub use rules::{EndpointRule, KeyEncoding, WorldReadable};
pub use sources::Sources;
pub use store::CredentialStore;
