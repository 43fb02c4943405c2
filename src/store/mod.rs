//! What outlives the process: registrations, observations and commands without an answer, in an
//! embedded database, written in batches by a thread of its own.
//!
//! Shards leave their [`Change`]s here and never wait for the disk. What a batch holds is written
//! with one fsync. A command that is queued and answered before its batch is written never reaches
//! the disk.

#![allow(clippy::disallowed_methods)] // a shell: files and a thread live here

mod backend;
mod batch;
mod clock;
mod database;
mod directory;
mod error;
mod feed;
mod log;
#[cfg(feature = "internals")]
mod memory;
mod migrate;
mod older;
mod receipt;
mod record;
mod sessions;
mod synced;
mod tables;
mod writer;

#[cfg(feature = "internals")]
pub use backend::Backend;
#[cfg(any(feature = "internals", feature = "standalone"))]
pub use backend::Contents;
#[cfg(feature = "internals")]
pub use batch::Batch;
pub use clock::Clocks;
#[cfg(any(feature = "internals", feature = "standalone"))]
pub use database::Database;
#[cfg(any(feature = "internals", feature = "standalone"))]
pub use error::StoreError;
pub(crate) use log::Log;
#[cfg(feature = "internals")]
pub use memory::MemoryBackend;
pub use receipt::{NotDurable, Receipt};
pub(crate) use sessions::{KeptSession, OpenedSessions, SessionStore, read_key};
pub(crate) use writer::{Opened, Store, StoreOptions, Word};
