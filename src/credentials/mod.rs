//! Pre-shared keys.

mod key;

pub use key::Key;
