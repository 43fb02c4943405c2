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

use super::coverage::Table;
use super::lines::Problem;
use super::store::crowded;
use super::{Credential, CredentialSource, Lines};
use crate::config::file::open_to_everyone;
use crate::config::{KeyEncoding, WorldReadable};
use crate::system::effective_user;

/// Largest PSK file in bytes, some four million lines.
pub const MAX_FILE: u64 = 256 << 20;

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
        "psk_file {file}: {why}: chmod 640 {file}, or set world_readable_keys = \"allow\"",
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
                "{file}: keys shorter than 16 bytes, which can be guessed: {weak}"
            ));
        }
        if let Some(beginning) = &self.crowded {
            lines.push(format!("{file}: {}", crowded(beginning)));
        }
        if self.loaded == 0 {
            lines.push(format!("{file}: there is no credential in it"));
        }
        lines
    }
}

/// A PSK file and what it held when it was last read.
#[derive(Debug)]
pub struct PskFile {
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
struct Stamp {
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
    pub fn open(
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
    pub fn reload(&self) -> Result<FileReport, FileError> {
        self.read(&mut self.watch.lock())
    }

    /// Reads the file again if it has changed; to be called every second or so. A change is taken
    /// up when the file looks the same at two calls: a file that is written in place is empty for
    /// a moment, and the devices it names would lose their sessions.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload), once for each change.
    pub fn poll(&self) -> Result<Option<FileReport>, FileError> {
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
    fn of(metadata: &Metadata) -> Self {
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
            "is a file that {why}: chmod 600, or 640 for a group"
        ));
    }
    if mode & 0o020 != 0 {
        return Some(format!(
            "can be written by its group (mode {shown:04o}): chmod 640"
        ));
    }
    let user = effective_user();
    let owner = metadata.uid();
    (owner != 0 && owner != user)
        .then(|| format!("belongs to user {owner}, neither root nor the gateway's user {user}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    /// A directory of its own for each test, removed at its end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("lwm2m-psk-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, text: &str) -> PathBuf {
            let path = self.0.join("psk");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn names(identities: &[Box<[u8]>]) -> String {
        let mut names: Vec<_> = identities
            .iter()
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect();
        names.sort_unstable();
        names.join(" ")
    }

    #[test]
    fn what_is_added_concerns_nobody_else() {
        let place = Place::new("altered");
        let path = place.write(&format!("a:{KEY}\nb:{KEY}:x\n"));
        let (file, _) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
        for (text, altered) in [
            (format!("c:{KEY}\n# moved\nb:{KEY}:x\na:{KEY}\n"), false),
            (format!("c:{KEY}\nb:{KEY}:y\na:{KEY}\n"), true),
            (format!("c:{KEY}\nb:{KEY}:y\na:{KEY}00\n"), true),
            (format!("b:{KEY}:y\na:{KEY}00\n"), true),
            (format!("b:{KEY}:y\na:{KEY}00\nbad"), false),
        ] {
            place.write(&text);
            assert_eq!(file.reload().unwrap().altered, altered, "{text}");
        }
    }

    #[test]
    fn a_reload_says_what_is_different() {
        let place = Place::new("reload");
        let path = place.write(&format!("a:{KEY}\nb:{KEY}\nc:0011:x\nbad\n"));
        let (file, report) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
        assert_eq!((report.loaded, report.bad), (3, 1));
        assert_eq!((report.weak, report.with_endpoints), (1, 1));
        assert_eq!(report.exposed, None);
        assert_eq!(names(&report.added), "a b c");
        let warnings = report.warnings().join("\n");
        assert!(warnings.contains("line 4: there is no :"), "{warnings}");
        assert!(warnings.contains("can be guessed: 1"), "{warnings}");
        assert!(file.find(b"a").is_some() && file.find(b"bad").is_none());

        let held = file.find(b"a").unwrap();
        place.write(&format!("b:{KEY}:ep\nc:0012\nd:{KEY}\n"));
        let report = file.reload().unwrap();
        assert_eq!(names(&report.added), "d");
        assert_eq!(names(&report.changed), "c");
        assert_eq!(names(&report.removed), "a");
        assert!(file.find(b"a").is_none());
        assert_eq!(file.find(b"b").unwrap().endpoints.len(), 1);
        assert_eq!(held.key.to_hex().as_str(), KEY);
    }

    #[test]
    fn a_change_is_taken_up_when_it_holds_still() {
        let place = Place::new("poll");
        let path = place.write(&format!("a:{KEY}\n"));
        let (file, _) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
        assert!(file.poll().unwrap().is_none());

        place.write("");
        assert!(file.poll().unwrap().is_none());
        place.write(&format!("a:{KEY}\nb:{KEY}\n"));
        assert!(file.poll().unwrap().is_none());
        assert!(file.find(b"b").is_none());
        assert_eq!(names(&file.poll().unwrap().unwrap().added), "b");
        assert!(file.find(b"b").is_some());
        assert!(file.poll().unwrap().is_none());

        // A new file in its place, of the same size.
        let other = place.0.join("new");
        fs::write(&other, format!("a:{KEY}\nc:{KEY}\n")).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(file.poll().unwrap().is_none());
        assert_eq!(names(&file.poll().unwrap().unwrap().added), "c");

        // Gone: said once, and the old keys stay.
        fs::remove_file(&path).unwrap();
        assert!(file.poll().unwrap().is_none());
        assert!(matches!(file.poll(), Err(FileError::Io { .. })));
        assert!(file.poll().unwrap().is_none());
        assert!(file.reload().is_err());
        assert!(file.find(b"c").is_some());
        place.write(&format!("d:{KEY}\n"));
        assert!(file.poll().unwrap().is_none());
        assert_eq!(names(&file.poll().unwrap().unwrap().removed), "a c");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let place = Place::new("refused");
        let open =
            |path: &Path| PskFile::open(path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap_err();
        assert!(matches!(open(&place.0), FileError::NotAFile(_)));
        let missing = open(&place.0.join("missing")).to_string();
        assert!(
            missing.contains("missing") && missing.contains("No such"),
            "{missing}"
        );
        let large = place.0.join("large");
        File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(open(&large), FileError::Large(_)));
    }

    #[test]
    fn open_permissions_are_warned_about() {
        let place = Place::new("permissions");
        let path = place.write(&format!("a:{KEY}\n"));
        for (mode, warned) in [
            (0o600, ""),
            (0o400, ""),
            (0o640, ""),
            (0o644, "everybody on this machine can read (mode 0644)"),
            (0o602, "everybody on this machine can write"),
            (0o660, "written by its group (mode 0660)"),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let (_, report) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Allow).unwrap();
            let warnings = report.warnings().join("\n");
            let refused = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).err();
            let is_open = mode & 0o006 != 0;
            assert_eq!(refused.is_some(), is_open, "{mode:o}");
            if let Some(error) = refused.map(|error| error.to_string()) {
                let shown = path.display();
                assert!(error.contains(warned), "{error}");
                assert!(
                    error.contains(&format!("chmod 640 {shown}, or set")),
                    "{error}"
                );
            }
            assert_eq!(
                warnings.is_empty(),
                warned.is_empty(),
                "{mode:o} {warnings}"
            );
            assert!(warnings.contains(warned), "{mode:o} {warnings}");
        }
    }

    #[test]
    fn reports_are_bounded_and_hold_no_keys() {
        let place = Place::new("bounded");
        let bad = "c0ffee:c0ffeez\n".repeat(500);
        let path = place.write(&format!("{bad}a:{KEY}\n"));
        let (file, report) = PskFile::open(&path, KeyEncoding::Hex, WorldReadable::Refuse).unwrap();
        assert_eq!(report.bad, 500);
        let warnings = report.warnings();
        assert_eq!(warnings.len(), 101);
        assert!(warnings[100].ends_with("400 more such lines"));
        let shown = format!("{report:?} {warnings:?} {file:?}");
        assert!(!shown.contains("c0ffee") && !shown.contains(KEY), "{shown}");
    }
}
