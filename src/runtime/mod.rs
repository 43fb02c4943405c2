//! The threads around the engine: each shard owns a socket for every listener, an engine and a
//! mailbox, and shares nothing with the others but the directory.

#![allow(clippy::disallowed_methods)] // a shell: clocks, threads and files live here

mod clock;
mod drain;
mod error;
mod gateway;
mod host;
mod intake;
mod listeners;
mod mail;
mod mailbox;
mod memory;
mod models;
mod reply;
mod secure;
mod shard;
mod signals;
mod stop;
mod threads;

pub(crate) use clock::monotonic;
pub use error::{ReloadError, StartError};
pub use gateway::{Gateway, Statistics};
pub use host::{AuthorizationRequest, Host, PskRequest, Subscriptions};
#[cfg(any(feature = "internals", feature = "standalone"))]
pub use models::load as load_models;
pub(crate) use signals::block_signals;
