//! A store in one file: redb, an embedded database whose commits are whole or not there.

use std::os::unix::fs::MetadataExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
#[cfg(any(feature = "internals", feature = "standalone"))]
use std::path::PathBuf;

use redb::backends::FileBackend;
use redb::{DatabaseError, ReadableDatabase as _, StorageError, TableError, WriteTransaction};
use tracing::error;

use super::backend::{Backend, Contents};
use super::batch::Batch;
use super::clock::Clocks;
use super::directory::{Directory, is_empty, options};
use super::error::StoreError;
use super::migrate::migrate;
use super::record::{decode, encode};
use super::synced::Unsynced;
use super::tables::{ABOUT, FORMAT, Tables, collect};

/// Pages that the database keeps in memory, in bytes: its inner nodes. The system keeps the others.
const CACHE: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Database {
    directory: Directory,
    syncs: bool,
    /// `None` after an error, until it is opened again.
    open: Option<redb::Database>,
    /// Which file that is, once it is open.
    file: Option<FileId>,
}

/// Device and inode of a file.
type FileId = (u64, u64);

impl Database {
    /// Takes the directory and opens the database in it; one that is damaged or none is moved aside.
    /// `syncs`: a commit ends when it is on the disk.
    ///
    /// # Errors
    ///
    /// When somebody else has it, when it is of a newer release, and when the system refuses.
    pub fn open(path: &Path, syncs: bool, unix_ms: u64) -> Result<(Self, Contents), StoreError> {
        let directory = Directory::take(path)?;
        let mut database = Self {
            directory,
            syncs,
            open: None,
            file: None,
        };
        match database.load() {
            Ok(contents) => Ok((database, contents)),
            Err(damaged @ StoreError::Damaged { .. }) => {
                (database.open, database.file) = (None, None);
                let moved = database.directory.set_aside(unix_ms);
                let moved = moved.map_err(|source| StoreError::Io {
                    path: database.directory.database(),
                    source,
                })?;
                error!(%damaged, moved = %moved.display(), "the store is damaged: it has been moved aside, and a new one is started");
                let contents = database.load()?;
                Ok((database, contents))
            }
            Err(other) => Err(other),
        }
    }

    /// As [`Database::open`], with pages on whatever `backend` makes of the file; for tests.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    #[cfg(feature = "internals")]
    pub fn open_on(
        path: &Path,
        backend: impl redb::StorageBackend,
    ) -> Result<(Self, Contents), StoreError> {
        let directory = Directory::take(path)?;
        let open = builder().create_with_backend(backend);
        let mut database = Self {
            directory,
            syncs: true,
            open: Some(open.map_err(|error| StoreError::Database(error.to_string()))?),
            file: None,
        };
        let contents = database.load()?;
        Ok((database, contents))
    }

    /// Opens a database that is there, to look at it; nothing is moved.
    ///
    /// # Errors
    ///
    /// As [`Database::open`], and when it is damaged or not there.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn inspect(path: &Path) -> Result<(Self, Contents), StoreError> {
        if !Directory::has_store(path) {
            return Err(StoreError::Nothing(path.to_owned()));
        }
        let mut database = Self {
            directory: Directory::take(path)?,
            syncs: true,
            open: None,
            file: None,
        };
        let contents = database.load()?;
        Ok((database, contents))
    }

    /// Gives back what the file does not need; whether it has become smaller.
    ///
    /// # Errors
    ///
    /// When the database refuses.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        self.database()?;
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        open.compact()
            .map_err(|error| StoreError::Database(error.to_string()))
    }

    /// The file.
    #[cfg(any(feature = "internals", feature = "standalone"))]
    pub fn file(&self) -> PathBuf {
        self.directory.database()
    }

    fn database(&mut self) -> Result<&redb::Database, StoreError> {
        // What is written to a file that has been removed is lost, and in a new one most would be missing.
        if self.file.is_some() && self.file != self.found() {
            return Err(StoreError::Removed(self.directory.database()));
        }
        if self.open.is_none() {
            self.open = Some(self.opened()?);
            self.file = self.found();
        }
        self.open
            .as_ref()
            .ok_or_else(|| StoreError::Database("not open".to_owned()))
    }

    /// The file that is at the path now.
    fn found(&self) -> Option<FileId> {
        let data = std::fs::metadata(self.directory.database()).ok()?;
        Some((data.dev(), data.ino()))
    }

    fn opened(&self) -> Result<redb::Database, StoreError> {
        let path = self.directory.database();
        let is_new = !path.exists();
        let opened = self.opened_at(&path);
        if is_new && opened.is_err() {
            // Half of a new database would be taken for a damaged one at the next start. If it cannot
            // be removed, that is what it is taken for.
            let _ = std::fs::remove_file(&path);
        }
        opened
    }

    fn opened_at(&self, path: &Path) -> Result<redb::Database, StoreError> {
        let io_error = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        if is_empty(path) {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                reason: "the file is empty".to_owned(),
            });
        }
        let file = options().open(path).map_err(io_error)?;
        let builder = builder();
        let open = || {
            if self.syncs {
                builder.create_with_backend(FileBackend::new(file)?)
            } else {
                let backend = Unsynced::new(file).map_err(StorageError::Io)?;
                builder.create_with_backend(backend)
            }
        };
        let damaged = |reason| StoreError::Damaged {
            path: path.to_owned(),
            reason,
        };
        match panic::catch_unwind(AssertUnwindSafe(open)) {
            Err(_) => Err(damaged("the database is damaged".to_owned())),
            Ok(Ok(database)) => Ok(database),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::Locked(path.to_owned())),
            Ok(Err(DatabaseError::Storage(StorageError::Io(error)))) => match error.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
                    Err(damaged(error.to_string()))
                }
                _ => Err(io_error(error)),
            },
            Ok(Err(other)) => Err(damaged(other.to_string())),
        }
    }

    /// Reads everything; `None` for a new database.
    fn read(database: &redb::Database, path: &Path) -> Result<Option<Contents>, StoreError> {
        let broken = |error: &dyn std::fmt::Display| StoreError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let transaction = database.begin_read().map_err(|error| broken(&error))?;
        let about = match transaction.open_table(ABOUT) {
            Ok(about) => about,
            Err(TableError::TableDoesNotExist(_)) => {
                let tables = transaction.list_tables().map_err(|error| broken(&error))?;
                return match tables.count() {
                    0 => Ok(None),
                    _ => Err(broken(&"another program's database")),
                };
            }
            Err(error) => return Err(broken(&error)),
        };
        let get = |key: &str| -> Result<Option<Vec<u8>>, StoreError> {
            let value = about.get(key).map_err(|error| broken(&error))?;
            Ok(value.map(|value| value.value().to_vec()))
        };
        let format = get("format")?.and_then(|bytes| bytes.try_into().ok());
        match format.map(u32::from_be_bytes) {
            Some(FORMAT) => {}
            Some(older @ 1..FORMAT) => {
                migrate(database, older)
                    .map_err(|error| StoreError::Database(error.to_string()))?;
                return Self::read(database, path);
            }
            Some(newer) if newer > FORMAT => {
                return Err(StoreError::Newer {
                    path: path.to_owned(),
                    found: newer,
                    known: FORMAT,
                });
            }
            _ => return Err(broken(&"unknown format")),
        }
        let clocks = get("clocks")?.and_then(|bytes| decode(&bytes));
        let mut contents = Contents {
            clocks,
            ..Contents::default()
        };
        collect(database, &transaction, &mut contents).map_err(|error| broken(&error))?;
        Ok(Some(contents))
    }
}

/// How databases are opened.
fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    // A file that somebody has changed would make it panic later.
    builder
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true);
    builder
}

impl Backend for Database {
    fn load(&mut self) -> Result<Contents, StoreError> {
        let path = self.directory.database();
        let database = self.database()?;
        let read = || Self::read(database, &path);
        match panic::catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(Some(contents))) => Ok(contents),
            Ok(Ok(None)) => {
                write(database, |transaction| {
                    transaction
                        .open_table(ABOUT)?
                        .insert("format", FORMAT.to_be_bytes().as_slice())?;
                    Tables::open(transaction).map(drop)
                })?;
                Ok(Contents::default())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Damaged {
                path,
                reason: "the database is damaged".to_owned(),
            }),
        }
    }

    fn commit(&mut self, batch: &Batch, clocks: &Clocks) -> Result<(), StoreError> {
        let database = self.database()?;
        let apply = |transaction: &WriteTransaction| {
            transaction
                .open_table(ABOUT)?
                .insert("clocks", encode(clocks).as_slice())?;
            let mut tables = Tables::open(transaction)?;
            batch.iter().try_for_each(|line| tables.apply(&line))
        };
        let committed = panic::catch_unwind(AssertUnwindSafe(|| write(database, apply)));
        let committed =
            committed.unwrap_or_else(|_| Err(StoreError::Database("it panicked".to_owned())));
        if committed.is_err() {
            // After an error it takes nothing more before it is opened again.
            self.open = None;
        }
        committed
    }
}

fn write(
    database: &redb::Database,
    apply: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let write = || {
        let transaction = database.begin_write()?;
        apply(&transaction)?;
        transaction.commit()?;
        Ok(())
    };
    write().map_err(|error: redb::Error| StoreError::Database(error.to_string()))
}
