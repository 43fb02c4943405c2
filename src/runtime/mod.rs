//! The threads around the engine: each shard owns a socket for every listener, an engine and a
//! mailbox, and shares nothing with the others but the directory.

#![allow(clippy::disallowed_methods)] // a shell: clocks, threads and files live here

mod awaited;
mod certificates;
mod clock;
mod drain;
mod durable;
mod error;
mod gateway;
mod host;
#[cfg(feature = "http")]
mod http;
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
mod statistics;
mod stop;
mod threads;
mod trimming;

#[cfg(any(feature = "internals", feature = "standalone"))]
pub use certificates::check as check_certificates;
pub(crate) use clock::monotonic;
pub use durable::MAX_NOTE;
pub use error::{ReloadError, StartError};
pub use gateway::{Gateway, Statistics};
pub use host::{AuthorizationRequest, Host, PskRequest, Subscriptions};
#[cfg(any(feature = "internals", feature = "standalone"))]
#[cfg(feature = "standalone")]
pub(crate) use models::load_counted as load_models_counted;
pub(crate) use signals::block_signals;
