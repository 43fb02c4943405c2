//! What goes wrong with a store.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What goes wrong with a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "{}: in use by another process; only one gateway can use a store at a time: give each its own directory", .0.display()
    )]
    Locked(PathBuf),
    /// It was written by a newer release.
    #[error(
        "{}: written in format {found} by a newer release; this one knows format {known}. Run that release, or use another directory", path.display()
    )]
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
    /// A file stands where the directory should be.
    #[error("{}: is a file, expected a directory: use another path, or move the file", .0.display())]
    NoDirectory(PathBuf),
    /// There is nothing to look into.
    #[error("{}: holds no store; check `store.path` or `--store`", .0.display())]
    #[cfg_attr(
        not(feature = "standalone"),
        allow(dead_code, reason = "only `lwm2m-gateway store` looks")
    )]
    Nothing(PathBuf),
    /// Somebody has removed it, or put another file there, while it is in use.
    #[error("{}: removed or replaced while in use; restart the gateway to begin a new store", .0.display())]
    Removed(PathBuf),
    /// The system refuses something.
    #[error("{}: {source}{}", path.display(), advice(source))]
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

/// What to do about it.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        PermissionDenied => {
            "; make the gateway's user the owner of the directory, or use another one"
        }
        ReadOnlyFilesystem => "; use a directory on a writable file system",
        StorageFull => "; free space on that disk, or use a directory on another one",
        NotADirectory => "; a part of this path is a file: use another directory",
        _ => "",
    }
}
