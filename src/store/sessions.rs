//! DTLS sessions that outlive the process: a database of their own beside that of the registrations,
//! written by a thread of its own. Shards never wait for it.
//!
//! A change of a session replaces an older one that is not written yet, so what waits is bounded by
//! the number of sessions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use redb::{DatabaseError, ReadableTable as _, TableDefinition};
use sha2::{Digest as _, Sha256};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::directory::{is_empty, options};
use super::error::StoreError;
use crate::dtls::{Certified, SavedSession};
use crate::system::open_to_everyone;

/// The database.
const FILE: &str = "sessions.redb";

/// Pages that the database keeps in memory, in bytes: its inner nodes. The system keeps the others.
const CACHE: usize = 1 << 20;

/// Least bytes of a key.
const LEAST_KEY: usize = 16;

/// How long a database that cannot be written is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// `id-key`: what connection ids are enciphered with.
const ABOUT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
/// By name.
const SESSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sessions");

/// Forms of a record: what follows this byte is the session, or its encryption.
const PLAIN: u8 = 1;
const ENCRYPTED: u8 = 2;

/// Whom to tell that a session is written: the shard, the number of the listener, that of the session.
pub(crate) type Waiting = (u16, u16, u32);

/// Tells it, and the number from which on records are set aside.
pub(crate) type Confirm = Box<dyn Fn(Waiting, u64) + Send>;

/// A session as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct KeptSession {
    /// Listener, as in `dtls:default`.
    pub(crate) listener: Box<str>,
    /// Where it lived.
    pub(crate) shard: u16,
    /// The address of this machine that it spoke to, if that is known.
    pub(crate) local: Option<std::net::IpAddr>,
    /// Tells whether the key of its credential is still the same.
    pub(crate) credential: [u8; 8],
    /// The rest.
    pub(crate) session: SavedSession,
    /// What the device was let in by, if it was no key. In a record it stands behind the others, where
    /// earlier releases have nothing.
    #[serde(skip)]
    pub(crate) certified: Option<Certified>,
}

/// What is to be written about a session.
#[derive(Debug)]
struct Wanted {
    /// `None`: it is over.
    session: Option<Box<KeptSession>>,
    confirm: Option<Waiting>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SessionStore {
    inner: Mutex<Inner>,
    wake: Condvar,
    names: AtomicU64,
    /// What connection ids are enciphered with.
    pub(crate) id_key: [u8; 16],
}

#[derive(Debug, Default)]
struct Inner {
    wanted: HashMap<u64, Wanted>,
    closed: bool,
}

/// The thread's part.
pub(crate) struct SessionWriter {
    store: Arc<SessionStore>,
    database: redb::Database,
    seal: Option<Seal>,
    together: Duration,
    confirm: Confirm,
    is_failing: bool,
}

/// How records are encrypted.
struct Seal(Aes256Gcm);

/// A database that has been opened.
pub(crate) struct OpenedSessions {
    pub(crate) store: Arc<SessionStore>,
    database: redb::Database,
    seal: Option<Seal>,
    /// What it has, by name. Their numbers are set aside anew already.
    pub(crate) sessions: Vec<(u64, KeptSession)>,
}

impl SessionStore {
    /// Opens the database in `directory`, which is taken already, or makes it. One that cannot be used
    /// is made anew: devices then make a handshake. `key`: what the operator has for encryption.
    pub(crate) fn open(directory: &Path, key: Option<&[u8]>) -> Result<OpenedSessions, StoreError> {
        let path = directory.join(FILE);
        let seal = key.map(Seal::new);
        match Self::read(&path, seal.as_ref()) {
            Ok((database, id_key, sessions)) => {
                let most = sessions.iter().map(|(name, _)| *name).max();
                let store = Arc::new(Self {
                    inner: Mutex::default(),
                    wake: Condvar::new(),
                    names: AtomicU64::new(most.map_or(1, |name| name.saturating_add(1))),
                    id_key,
                });
                Ok(OpenedSessions {
                    store,
                    database,
                    seal,
                    sessions,
                })
            }
            Err(error) if path.exists() => {
                let aside = directory.join(format!("{FILE}.damaged"));
                error!(%error, moved = %aside.display(), "cannot use the stored DTLS sessions: devices must make new handshakes");
                std::fs::rename(&path, &aside).map_err(|source| io(&path, source))?;
                Self::open(directory, key)
            }
            Err(error) => Err(error),
        }
    }

    #[allow(clippy::type_complexity)]
    fn read(
        path: &Path,
        seal: Option<&Seal>,
    ) -> Result<(redb::Database, [u8; 16], Vec<(u64, KeptSession)>), StoreError> {
        if is_empty(path) {
            return Err(failed("the file is empty"));
        }
        let file = options().open(path).map_err(|source| io(path, source))?;
        // Made by a release or a person that gave others a look at it.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(private)
            .map_err(|source| io(path, source))?;
        let open = || -> Result<redb::Database, DatabaseError> {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(CACHE);
            let backend = FileBackend::new(file)?;
            builder.create_with_backend(backend)
        };
        let database = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
            .map_err(|_| StoreError::Database("damaged".to_owned()))?
            .map_err(failed)?;
        let (mut id_key, mut sessions, mut unreadable) = (None, Vec::new(), 0u64);
        let transaction = database.begin_write().map_err(failed)?;
        {
            let mut about = transaction.open_table(ABOUT).map_err(failed)?;
            if let Some(value) = about.get("id-key").map_err(failed)? {
                id_key = value.value().try_into().ok();
            }
            let key = match id_key {
                Some(key) => key,
                None => {
                    let mut key = [0; 16];
                    getrandom::fill(&mut key).map_err(failed)?;
                    about.insert("id-key", &key[..]).map_err(failed)?;
                    key
                }
            };
            id_key = Some(key);
            let mut table = transaction.open_table(SESSIONS).map_err(failed)?;
            let mut lost = Vec::new();
            for entry in table.iter().map_err(failed)? {
                let (name, bytes) = entry.map_err(failed)?;
                match decode(name.value(), bytes.value(), seal) {
                    Some(mut kept) => {
                        // Numbers that may have been used are behind these from now on: on the disk
                        // before the first record is sent.
                        kept.session.skip();
                        sessions.push((name.value(), kept));
                    }
                    None => {
                        unreadable += 1;
                        lost.push(name.value());
                    }
                }
            }
            for name in lost {
                table.remove(name).map_err(failed)?;
            }
            for (name, kept) in &sessions {
                let bytes = encode(*name, kept, seal).map_err(failed)?;
                table.insert(*name, bytes.as_slice()).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        if unreadable > 0 {
            warn!(
                sessions = unreadable,
                "cannot read stored DTLS sessions, perhaps because store.key_file has changed: their devices must make new handshakes"
            );
        }
        Ok((database, id_key.unwrap_or_default(), sessions))
    }

    /// A name that no session has.
    pub(crate) fn name(&self) -> u64 {
        self.names.fetch_add(1, Ordering::Relaxed)
    }

    /// A session shall be kept as it is now. `confirm`: who hears when it is.
    pub(crate) fn keep(&self, name: u64, session: KeptSession, confirm: Option<Waiting>) {
        let session = Some(Box::new(session));
        let mut inner = self.inner.lock();
        // Whoever waits for the older one is told with this one.
        let before = inner.wanted.get(&name).and_then(|it| it.confirm);
        let confirm = confirm.or(before);
        inner.wanted.insert(name, Wanted { session, confirm });
        drop(inner);
        self.wake.notify_one();
    }

    /// A session is over.
    pub(crate) fn forget(&self, name: u64) {
        let wanted = Wanted {
            session: None,
            confirm: None,
        };
        self.inner.lock().wanted.insert(name, wanted);
        self.wake.notify_one();
    }

    /// Nothing more comes; the thread ends when everything is written.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.wake.notify_one();
    }
}

impl OpenedSessions {
    /// The thread that writes to it; changes within `together` are written at once.
    pub(crate) fn writer(self, together: Duration, confirm: Confirm) -> SessionWriter {
        SessionWriter {
            store: self.store,
            database: self.database,
            seal: self.seal,
            together,
            confirm,
            is_failing: false,
        }
    }
}

impl SessionWriter {
    /// Runs until the store is closed and everything is written, or cannot be.
    pub(crate) fn run(mut self) {
        loop {
            let mut inner = self.store.inner.lock();
            while inner.wanted.is_empty() && !inner.closed {
                self.store.wake.wait(&mut inner);
            }
            if !inner.closed {
                let pause = if self.is_failing {
                    RETRY
                } else {
                    self.together
                };
                self.store.wake.wait_for(&mut inner, pause);
            }
            let closed = inner.closed;
            let wanted = std::mem::take(&mut inner.wanted);
            drop(inner);
            let written = self.write(&wanted);
            if let Err(error) = &written
                && !self.is_failing
            {
                error!(%error, "cannot store DTLS sessions: after a restart their devices must make new handshakes");
            } else if written.is_ok() && self.is_failing {
                info!("DTLS sessions can be stored again");
            }
            self.is_failing = written.is_err();
            if written.is_ok() {
                for wanted in wanted.into_values() {
                    if let (Some(kept), Some(waiting)) = (wanted.session, wanted.confirm) {
                        (self.confirm)(waiting, kept.session.reserved());
                    }
                }
            } else {
                let mut inner = self.store.inner.lock();
                for (name, before) in wanted {
                    // What came meanwhile is newer.
                    inner.wanted.entry(name).or_insert(before);
                }
            }
            if closed && (self.is_failing || self.store.inner.lock().wanted.is_empty()) {
                return;
            }
        }
    }

    fn write(&self, wanted: &HashMap<u64, Wanted>) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write().map_err(failed)?;
        {
            let mut table = transaction.open_table(SESSIONS).map_err(failed)?;
            for (name, wanted) in wanted {
                match &wanted.session {
                    Some(kept) => {
                        let bytes = encode(*name, kept, self.seal.as_ref()).map_err(failed)?;
                        table.insert(*name, bytes.as_slice()).map_err(failed)?;
                    }
                    None => {
                        table.remove(*name).map_err(failed)?;
                    }
                }
            }
        }
        transaction.commit().map_err(failed)
    }
}

impl Seal {
    /// Whatever the operator has in the file counts, without the line break at its end.
    fn new(key: &[u8]) -> Self {
        let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key.trim_ascii_end())));
        Self(Aes256Gcm::new((&*digest).into()))
    }
}

fn encode(name: u64, kept: &KeptSession, seal: Option<&Seal>) -> Result<Vec<u8>, String> {
    let head = if seal.is_some() {
        Vec::new()
    } else {
        vec![PLAIN]
    };
    let mut plain = postcard::to_extend(kept, head).map_err(|error| error.to_string())?;
    if let Some(certified) = &kept.certified {
        plain = postcard::to_extend(certified, plain).map_err(|error| error.to_string())?;
    }
    let Some(Seal(cipher)) = seal else {
        return Ok(plain);
    };
    let mut text = Zeroizing::new(plain);
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
    let name = name.to_be_bytes();
    let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), &name, text.as_mut_slice().into());
    let tag = tag.map_err(|_| "too long".to_owned())?;
    Ok([&[ENCRYPTED][..], &nonce, &text, &tag].concat())
}

fn decode(name: u64, bytes: &[u8], seal: Option<&Seal>) -> Option<KeptSession> {
    match (bytes.split_first()?, seal) {
        ((&PLAIN, rest), _) => parse(rest),
        ((&ENCRYPTED, rest), Some(Seal(cipher))) => {
            let (nonce, rest) = rest.split_first_chunk::<12>()?;
            let (text, tag) = rest.split_last_chunk::<16>()?;
            let mut text = Zeroizing::new(text.to_vec());
            let name = name.to_be_bytes();
            let buffer = text.as_mut_slice().into();
            let opened =
                cipher.decrypt_inout_detached(&Nonce::from(*nonce), &name, buffer, tag.into());
            opened.ok()?;
            parse(&text)
        }
        _ => None,
    }
}

fn parse(bytes: &[u8]) -> Option<KeptSession> {
    let (mut kept, rest) = postcard::take_from_bytes::<KeptSession>(bytes).ok()?;
    if !rest.is_empty() {
        kept.certified = Some(postcard::from_bytes(rest).ok()?);
    }
    Some(kept)
}

/// What the operator has in `store.key_file`.
///
/// # Errors
///
/// When it cannot be read, everybody can, or there are less than 16 bytes in it.
pub(crate) fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let file = std::fs::File::open(path).map_err(|source| io(path, source))?;
    let about = file.metadata().map_err(|source| io(path, source))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions());
    let damaged = |reason: String| StoreError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if let Some(reason) = open_to_everyone(mode) {
        return Err(damaged(reason));
    }
    let key = Zeroizing::new(std::fs::read(path).map_err(|source| io(path, source))?);
    if key.trim_ascii_end().len() < LEAST_KEY {
        return Err(damaged("a key must have at least 16 bytes".to_owned()));
    }
    Ok(key)
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Database(error.to_string())
}

fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: PathBuf::from(path),
        source,
    }
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
