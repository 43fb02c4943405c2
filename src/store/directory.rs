//! The directory of a store: for one process at a time, and for nobody else to read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// Of the directory: locations and commands in it are secrets.
const MODE: u32 = 0o700;

/// The database in it.
const DATABASE: &str = "store.redb";

/// Held for as long as the process uses the directory.
const LOCK: &str = "lock";

/// A directory that is ours while this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if it is not there, and takes it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let io_error = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_dir() {
            return Err(StoreError::NoDirectory(path.to_owned()));
        }
        let made = DirBuilder::new().recursive(true).mode(MODE).create(path);
        made.map_err(io_error)?;
        let mode = fs::metadata(path).map_err(io_error)?.permissions().mode();
        if mode & 0o077 != 0 {
            let private = fs::Permissions::from_mode(MODE);
            fs::set_permissions(path, private).map_err(io_error)?;
        }
        let options = options();
        let lock = options.open(path.join(LOCK)).map_err(io_error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(io_error(error)),
        }
    }

    /// Whether there is a database in a directory.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub(super) fn has_store(path: &Path) -> bool {
        path.join(DATABASE).is_file()
    }

    /// The file of the database.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Moves a database that cannot be used out of the way. Returns where to.
    pub(super) fn set_aside(&self, unix_ms: u64) -> io::Result<PathBuf> {
        let from = self.database();
        let free = (0..).map(|try_| {
            let name = match try_ {
                0 => format!("{DATABASE}.damaged-{unix_ms}"),
                more => format!("{DATABASE}.damaged-{unix_ms}-{more}"),
            };
            self.path.join(name)
        });
        let to = free.into_iter().find(|to: &PathBuf| !to.exists());
        let to = to.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
        fs::rename(from, &to)?;
        Ok(to)
    }
}

/// Whether there is a file without a byte: a file system may leave one of a database after a power
/// cut, and a database that is new is not there at all.
pub(super) fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0)
}

/// A file of ours, made if it is not there.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options
}
