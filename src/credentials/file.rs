//! A PSK file, read again when it changes.

// Keys come from a file of the system; this is the shell around its parser.
#![allow(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use zeroize::Zeroizing;

use super::credential::Credential;
use super::index::{Table, crowded};
use super::lines::{Lines, Problem};
use super::rules::{KeyEncoding, WorldReadable};
use super::sources::CredentialSource;
use crate::system::{effective_user, open_to_everyone};

/// Largest PSK file in bytes, some four million lines.
pub(crate) const MAX_FILE: u64 = 256 << 20;

/// Why a PSK file cannot be read; what was read before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What the system says.
    #[error("psk_file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("psk_file {}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Everybody can read or change it.
    #[error(
        "psk_file {file}: {why}: run chmod 640 {file}, or set world_readable_keys = \"allow\"",
        file = path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What everybody can do.
        why: String,
    },
    /// More than [`MAX_FILE`].
    #[error("psk_file {}: larger than {MAX_FILE} bytes", .0.display())]
    Large(PathBuf),
}

/// What was found in a PSK file. Holds no keys.
#[derive(Debug)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Credentials that are in force now.
    pub loaded: usize,
    /// Lines that are skipped.
    pub bad: usize,
    /// Lines that replace earlier ones of the same identity.
    pub again: usize,
    /// The first of both.
    pub problems: Vec<Problem>,
    /// Credentials with a key of less than [`WEAK_KEY`](super::WEAK_KEY) bytes.
    pub weak: usize,
    /// Credentials that list endpoints.
    pub with_endpoints: usize,
    /// Who else than its owner can read or write the file, in words.
    pub exposed: Option<String>,
    /// Identities that were not there before.
    pub added: Vec<Box<[u8]>>,
    /// Identities with another key than before.
    pub changed: Vec<Box<[u8]>>,
    /// Identities that are there no more.
    pub removed: Vec<Box<[u8]>>,
    /// Whether a credential that was there before is gone or another one, by its key or endpoints.
    pub altered: bool,
    /// A beginning that too many patterns share to be compared one by one.
    pub crowded: Option<String>,
}

impl FileReport {
    /// One line for each thing an operator should look at.
    pub fn warnings(&self) -> Vec<String> {
        let file = format!("psk_file {}", self.path.display());
        let mut lines: Vec<String> = self
            .exposed
            .iter()
            .map(|it| format!("{file} {it}"))
            .collect();
        for problem in &self.problems {
            lines.push(format!("{file} line {}: {}", problem.line, problem.kind));
        }
        let listed = self.problems.len();
        match self.bad.saturating_add(self.again).saturating_sub(listed) {
            0 => {}
            more => lines.push(format!("{file}: {more} more such lines")),
        }
        if self.weak > 0 {
            let weak = self.weak;
            lines.push(format!(
                "{file}: keys shorter than 16 bytes, which are easy to guess: {weak}"
            ));
        }
        if let Some(beginning) = &self.crowded {
            lines.push(format!("{file}: {}", crowded(beginning)));
        }
        if self.loaded == 0 {
            lines.push(format!("{file}: holds no credentials"));
        }
        lines
    }
}

/// A PSK file and what it held when it was last read.
#[derive(Debug)]
pub(crate) struct PskFile {
    path: PathBuf,
    keys: KeyEncoding,
    world_readable: WorldReadable,
    table: RwLock<Arc<Table>>,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    /// Of the file as it was last read or tried.
    known: Option<Stamp>,
    /// Of the file at the last look, when that was another.
    seen: Option<Option<Stamp>>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also changes with owner and mode.
    changed: (i64, i64),
}

impl PskFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or everybody can read it and that is not allowed; bad lines are no
    /// error.
    pub(crate) fn open(
        path: &Path,
        keys: KeyEncoding,
        world_readable: WorldReadable,
    ) -> Result<(Self, FileReport), FileError> {
        let file = Self {
            path: path.to_owned(),
            keys,
            world_readable,
            table: RwLock::default(),
            watch: Mutex::new(Watch {
                known: None,
                seen: None,
            }),
        };
        let report = file.reload()?;
        Ok((file, report))
    }

    /// Reads the file again, changed or not.
    ///
    /// # Errors
    ///
    /// When it cannot be read; what was read before stays in force.
    pub(crate) fn reload(&self) -> Result<FileReport, FileError> {
        self.read(&mut self.watch.lock())
    }

    /// Reads the file again if it has changed; to be called every second or so. A change is taken
    /// up when the file looks the same at two calls: a file that is written in place is empty for
    /// a moment, and the devices it names would lose their sessions.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload), once for each change.
    pub(crate) fn poll(&self) -> Result<Option<FileReport>, FileError> {
        let mut watch = self.watch.lock();
        let now = fs::metadata(&self.path).ok().map(|it| Stamp::of(&it));
        if now == watch.known {
            watch.seen = None;
            return Ok(None);
        }
        if watch.seen.replace(now) != Some(now) {
            return Ok(None);
        }
        self.read(&mut watch).map(Some)
    }

    fn read(&self, watch: &mut Watch) -> Result<FileReport, FileError> {
        watch.seen = None;
        watch.known = fs::metadata(&self.path).ok().map(|it| Stamp::of(&it));
        let (text, metadata) = read_file(&self.path)?;
        watch.known = Some(Stamp::of(&metadata));
        if let Some(why) = open_to_everyone(metadata.mode())
            && self.world_readable == WorldReadable::Refuse
        {
            let path = self.path.clone();
            return Err(FileError::Open { path, why });
        }

        let lines = Lines::read(&text, self.keys);
        drop(text);
        let mut report = FileReport {
            path: self.path.clone(),
            loaded: lines.credentials.len(),
            bad: lines.bad,
            again: lines.again,
            problems: lines.problems,
            weak: 0,
            with_endpoints: 0,
            exposed: exposed(&metadata),
            added: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
            altered: false,
            crowded: None,
        };
        let old = Arc::clone(&self.table.read());
        let old = old.by_identity();
        let mut table = HashMap::with_capacity(lines.credentials.len());
        for (_, credential) in lines.credentials {
            report.weak = report.weak.saturating_add(credential.key.is_weak().into());
            let lists = !credential.endpoints.is_empty();
            report.with_endpoints = report.with_endpoints.saturating_add(lists.into());
            let identity = credential.identity.clone();
            match old.get(&identity) {
                None => report.added.push(identity.clone()),
                Some(before) if before.key != credential.key => {
                    report.changed.push(identity.clone());
                    report.altered = true;
                }
                Some(before) => report.altered |= **before != credential,
            }
            table.insert(identity, Arc::new(credential));
        }
        let gone = old.keys().filter(|identity| !table.contains_key(*identity));
        report.removed = gone.cloned().collect();
        report.altered |= !report.removed.is_empty();
        let table = Table::new(table);
        report.crowded = table.listed().crowded().map(str::to_owned);
        *self.table.write() = Arc::new(table);
        Ok(report)
    }
}

impl CredentialSource for PskFile {
    fn find(&self, identity: &[u8]) -> Option<Arc<Credential>> {
        self.table.read().by_identity().get(identity).cloned()
    }

    fn lists(&self, endpoint: &str, steps: &mut usize) -> bool {
        // A copy of the pointer: the search must not keep a new file waiting.
        let table = Arc::clone(&self.table.read());
        table.lists(endpoint, steps)
    }
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The text of a PSK file, zeroed when dropped.
///
/// # Errors
///
/// When the system refuses, or the file is none or too large.
pub fn read_file(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), FileError> {
    let failed = |source| FileError::Io {
        path: path.to_owned(),
        source,
    };
    // To open a pipe would wait for its writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let large = || FileError::Large(path.to_owned());
    if metadata.len() > MAX_FILE {
        return Err(large());
    }
    let size = usize::try_from(metadata.len()).map_err(|_| large())?;
    // A vector that grows leaves copies behind. What is appended meanwhile changes the stamp.
    let mut text = Zeroizing::new(vec![0; size]);
    let mut length = 0;
    while let Some(room) = text.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(more) => length = length.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    text.truncate(length);
    Ok((text, metadata))
}

/// Who should not be able to read or write a file of keys, but is.
fn exposed(metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode();
    let shown = mode & 0o7777;
    if let Some(why) = open_to_everyone(mode) {
        return Some(format!(
            "is a file that {why}: run chmod 600, or chmod 640 to let a group read it"
        ));
    }
    if mode & 0o020 != 0 {
        return Some(format!(
            "can be written by its group (mode {shown:04o}): run chmod 640"
        ));
    }
    let user = effective_user();
    let owner = metadata.uid();
    (owner != 0 && owner != user).then(|| {
        format!("belongs to user {owner}, who is neither root nor the user of the gateway ({user})")
    })
}

#[cfg(test)]
mod tests;
