//! What goes wrong with a store.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What goes wrong with a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{}: in use by another process", .0.display())]
    Locked(PathBuf),
    /// It was written by a newer release.
    #[error("{}: written in format {found} by a newer release; this one knows format {known}", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It is no store, or not a whole one.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// For people.
        reason: String,
    },
    /// The system refuses something.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The database refuses something.
    #[error("{0}")]
    Database(String),
}
