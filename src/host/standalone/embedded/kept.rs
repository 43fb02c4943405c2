//! Retained messages that outlive the process: a database of their own in the directory of the store,
//! written by a thread of its own. The broker never waits for it.
//!
//! A newer message of a topic replaces one that is not written yet, so what waits is bounded by the
//! number of topics; beyond that, while nothing can be written, all of the database is given up.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use redb::{Database, ReadableTable as _, TableDefinition};
use rmqtt::types::Retain;
use thiserror::Error;
use tracing::{error, info, warn};

/// The database.
const FILE: &str = "retained.redb";

/// For the broker's user only.
const MODE: u32 = 0o600;

/// Pages that the database keeps in memory, in bytes: its inner nodes. The system keeps the others.
const CACHE: usize = 1 << 20;

/// How long changes are collected, and what the end of the process without a word loses at most.
const TOGETHER: Duration = Duration::from_millis(200);

/// How long a database that cannot be written is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Topics that may wait beyond the number of messages that are kept: those that have ended.
const SPARE: usize = 10_000;

/// By topic: [`FORM`], milliseconds since 1970 at which it ends or 0, the message.
const MESSAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("messages");

/// Of a record. Another one when the types of the broker library change.
const FORM: u8 = 1;

/// Why there is no database.
#[derive(Debug, Error)]
pub(super) enum KeptError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It can, but not be used.
    #[error("{0}")]
    Database(String),
}

/// A message that was kept, and how long it lasts yet.
pub(super) struct Found {
    pub(super) topic: String,
    pub(super) retain: Retain,
    pub(super) lasts: Option<Duration>,
}

/// What is to be written of a topic; `None`: there is no message any more.
type Wanted = Option<(Retain, Option<SystemTime>)>;

/// See the module.
pub(super) struct KeptMessages {
    inner: Mutex<Inner>,
    wake: Condvar,
    bound: usize,
}

/// The database, and the thread that writes.
pub(super) type Opened = (Arc<KeptMessages>, JoinHandle<()>);

#[derive(Default)]
struct Inner {
    wanted: HashMap<String, Wanted>,
    /// More waited than may: what is in the database does not count any more.
    given_up: bool,
    closed: bool,
}

impl KeptMessages {
    /// Opens the database in `directory`, or makes it; a damaged one is set aside. `messages`: how many
    /// the broker keeps. `take` gets those that are in the database, one by one; `None` says that those
    /// before do not count, since the database is damaged.
    pub(super) fn open(
        directory: &Path,
        messages: usize,
        mut take: impl FnMut(Option<Found>),
    ) -> Result<Opened, KeptError> {
        let path = directory.join(FILE);
        let database = match read(&path, &mut take) {
            Ok(read) => read,
            Err(KeptError::Database(reason)) => {
                let aside = directory.join(format!("{FILE}.damaged"));
                error!(reason, moved = %aside.display(), "cannot read the stored retained messages: starting without them");
                take(None);
                std::fs::rename(&path, aside).map_err(|source| failed_at(&path, source))?;
                read(&path, &mut take)?
            }
            Err(error) => return Err(error),
        };
        let kept = Arc::new(Self {
            inner: Mutex::default(),
            wake: Condvar::new(),
            bound: messages.saturating_add(SPARE),
        });
        let writer = Writer {
            kept: Arc::clone(&kept),
            database,
            is_failing: false,
        };
        let thread = Builder::new().name("mqtt-retained".to_owned());
        let thread = thread.spawn(move || writer.run());
        let thread = thread.map_err(|source| failed_at(&path, source))?;
        Ok((kept, thread))
    }

    /// A message is kept.
    pub(super) fn keep(&self, topic: &str, retain: Retain, lasts: Option<Duration>) {
        let ends = lasts.and_then(|lasts| SystemTime::now().checked_add(lasts));
        self.want(topic, Some((retain, ends)));
    }

    /// There is none of this topic any more.
    pub(super) fn forget(&self, topic: &str) {
        self.want(topic, None);
    }

    fn want(&self, topic: &str, wanted: Wanted) {
        let mut inner = self.inner.lock();
        if inner.wanted.len() >= self.bound {
            inner.wanted.clear();
            inner.given_up = true;
        }
        inner.wanted.insert(topic.to_owned(), wanted);
        drop(inner);
        self.wake.notify_one();
    }

    /// Nothing more comes; the thread ends when everything is written.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.wake.notify_one();
    }
}

/// The thread's part.
struct Writer {
    kept: Arc<KeptMessages>,
    database: Database,
    is_failing: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let mut inner = self.kept.inner.lock();
            while inner.wanted.is_empty() && !inner.closed {
                self.kept.wake.wait(&mut inner);
            }
            if !inner.closed {
                let pause = if self.is_failing { RETRY } else { TOGETHER };
                drop(inner);
                std::thread::sleep(pause);
                inner = self.kept.inner.lock();
            }
            let (closed, anew) = (inner.closed, std::mem::take(&mut inner.given_up));
            let wanted = std::mem::take(&mut inner.wanted);
            drop(inner);
            let written = write(&self.database, &wanted, anew);
            match &written {
                Err(error) if !self.is_failing => {
                    error!(%error, "cannot write retained messages: they will be lost when the process ends");
                }
                Ok(()) if self.is_failing => info!("retained messages can be written again"),
                _ => {}
            }
            self.is_failing = written.is_err();
            if self.is_failing {
                let mut inner = self.kept.inner.lock();
                if !inner.given_up {
                    inner.given_up = anew;
                    for (topic, before) in wanted {
                        // What came meanwhile is newer.
                        inner.wanted.entry(topic).or_insert(before);
                    }
                }
            }
            if closed && (self.is_failing || self.kept.inner.lock().wanted.is_empty()) {
                return;
            }
        }
    }
}

fn write(
    database: &Database,
    wanted: &HashMap<String, Wanted>,
    anew: bool,
) -> Result<(), KeptError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write().map_err(failed)?;
    if anew {
        transaction.delete_table(MESSAGES).map_err(failed)?;
    }
    {
        let mut table = transaction.open_table(MESSAGES).map_err(failed)?;
        for (topic, wanted) in wanted {
            match wanted {
                Some((retain, ends)) => {
                    let record = encode(retain, *ends)?;
                    table
                        .insert(topic.as_str(), record.as_slice())
                        .map_err(failed)?;
                }
                None => {
                    table.remove(topic.as_str()).map_err(failed)?;
                }
            }
        }
    }
    transaction.commit().map_err(failed)
}

/// Opens the database at `path`, for the broker's user only, or makes it. One that is not a database
/// is an error of its own.
pub(super) fn open_database(path: &Path) -> Result<Database, KeptError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).mode(MODE);
    let file = options
        .open(path)
        .map_err(|source| failed_at(path, source))?;
    // Made by a person that gave others a look at it.
    let private = std::fs::Permissions::from_mode(MODE);
    file.set_permissions(private)
        .map_err(|source| failed_at(path, source))?;
    let open = || {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(CACHE);
        let backend = FileBackend::new(file)?;
        builder.create_with_backend(backend)
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
        .map_err(|_| KeptError::Database("damaged".to_owned()))?
        .map_err(failed)
}

fn read(path: &Path, take: &mut impl FnMut(Option<Found>)) -> Result<Database, KeptError> {
    let database = open_database(path)?;
    let (mut lost, mut unreadable) = (Vec::new(), 0usize);
    let now = SystemTime::now();
    let transaction = database.begin_write().map_err(failed)?;
    {
        let mut table = transaction.open_table(MESSAGES).map_err(failed)?;
        for entry in table.iter().map_err(failed)? {
            let (topic, record) = entry.map_err(failed)?;
            let topic = topic.value();
            let Some((retain, ends)) = decode(record.value()) else {
                unreadable += 1;
                lost.push(topic.to_owned());
                continue;
            };
            let lasts = ends.map(|ends| ends.duration_since(now).unwrap_or_default());
            if lasts.is_some_and(|lasts| lasts.is_zero()) {
                lost.push(topic.to_owned());
                continue;
            }
            let topic = topic.to_owned();
            take(Some(Found {
                topic,
                retain,
                lasts,
            }));
        }
        for topic in lost {
            table.remove(topic.as_str()).map_err(failed)?;
        }
    }
    transaction.commit().map_err(failed)?;
    if unreadable > 0 {
        warn!(
            messages = unreadable,
            "cannot read retained messages stored by another release"
        );
    }
    Ok(database)
}

fn encode(retain: &Retain, ends: Option<SystemTime>) -> Result<Vec<u8>, KeptError> {
    let ends = ends.and_then(|ends| ends.duration_since(SystemTime::UNIX_EPOCH).ok());
    let ends = ends.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1)
    });
    let mut head = vec![FORM];
    head.extend(ends.to_be_bytes());
    postcard::to_extend(retain, head).map_err(failed)
}

fn decode(record: &[u8]) -> Option<(Retain, Option<SystemTime>)> {
    let (&FORM, rest) = record.split_first()? else {
        return None;
    };
    let (ends, rest) = rest.split_first_chunk::<8>()?;
    let retain = postcard::from_bytes(rest).ok()?;
    let ends = Some(u64::from_be_bytes(*ends)).filter(|ends| *ends > 0);
    let ends =
        ends.and_then(|ends| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ends)));
    Some((retain, ends))
}

pub(super) fn failed(error: impl std::fmt::Display) -> KeptError {
    KeptError::Database(error.to_string())
}

pub(super) fn failed_at(path: &Path, source: io::Error) -> KeptError {
    KeptError::Io {
        path: path.to_owned(),
        source,
    }
}
