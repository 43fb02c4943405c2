//! Changing a PSK file: in one step, and by one editor at a time.

#![allow(clippy::disallowed_methods)] // files

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::{FileError, read_file};

/// Why a file is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// It cannot be locked, or the new one cannot be written.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// The edit was refused.
    #[error("{0}")]
    Edit(E),
}

/// Replaces the file by an edited one in one step; whoever reads it sees the old one or the new
/// one. Mode and owner stay.
///
/// # Errors
/// The file stays as it was.
pub fn change<E>(
    file: &Path,
    create: bool,
    edit: impl FnOnce(&[u8]) -> Result<Zeroizing<Vec<u8>>, E>,
) -> Result<(), ChangeError<E>> {
    let failed = |source| ChangeError::System {
        path: file.to_owned(),
        source,
    };
    let (_lock, path) = lock(file, create).map_err(failed)?;
    let (text, metadata) = read_file(&path)?;
    let text = edit(&text).map_err(ChangeError::Edit)?;
    replace(&path, &text, &metadata).map_err(failed)
}

/// Locks the file against other editors, and follows links to it. A new file is made for its
/// owner only.
fn lock(file: &Path, create: bool) -> io::Result<(File, PathBuf)> {
    loop {
        let locked = OpenOptions::new()
            .read(true)
            .write(create)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK)
            .open(file)?;
        locked.lock()?;
        let path = fs::canonicalize(file)?;
        let (held, there) = (locked.metadata()?, fs::metadata(&path)?);
        // Another editor may have put a new file there before the lock was free.
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok((locked, path));
        }
    }
}

fn replace(path: &Path, text: &[u8], old: &fs::Metadata) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = directory.join(format!(".{name}.{}.new", std::process::id()));
    let written = write(&new, text, old).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write(path: &Path, text: &[u8], old: &fs::Metadata) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    file.write_all(text)?;
    file.sync_all()
}
