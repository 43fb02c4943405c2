//! The command `psk`: edits a PSK file while a gateway may be reading it.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::KeyEncoding;
use crate::credentials::edit::{self, EditError};
use crate::credentials::{EndpointPattern, Key, Lines, MAX_KEY, read_file};
use clap::{Args, Subcommand, ValueEnum};
use zeroize::Zeroizing;

use super::say;

pub(crate) const AFTER_HELP: &str = "\
A running gateway takes up a change within seconds.

Examples:
  lwm2m-gateway psk add --file /etc/lwm2m/psk sn-0001            prints the key it makes
  lwm2m-gateway psk add --file /etc/lwm2m/psk sn-0002 --key - < key.hex
  lwm2m-gateway psk add --file /etc/lwm2m/psk fleet --endpoints 'truck-*,urn:imei:*'
  lwm2m-gateway psk list --file /etc/lwm2m/psk
  lwm2m-gateway psk remove --file /etc/lwm2m/psk sn-0001";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add an identity; without --key a key of 16 random bytes is made and printed
    Add(Add),
    /// List identities, lengths of keys and endpoints; keys are never shown
    List(Target),
    /// Remove an identity
    Remove {
        #[command(flatten)]
        target: Target,
        /// Identity as it is in the file
        identity: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// PSK file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How keys are written in the file, as psk_file_keys in the configuration
    #[arg(long, value_name = "FORM", default_value = "hex")]
    keys: Keys,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Keys {
    /// Hexadecimal digits
    Hex,
    /// The text itself is the key
    Text,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    target: Target,
    /// Identity that the device presents, without suffix
    identity: String,
    /// The key as it is to stand in the file, also base64:… for hexadecimal files; - reads a line
    /// from standard input, which other users of the machine cannot see
    #[arg(long, value_name = "KEY|-")]
    key: Option<String>,
    /// Make a random key and print it, which is what happens without --key
    #[arg(long, conflicts_with = "key")]
    generate: bool,
    /// Endpoints that the identity may register, with commas, * and ?; for endpoint_rule = "owned" and "listed"
    #[arg(long, value_name = "LIST")]
    endpoints: Option<String>,
    /// Replace the key if the identity is there; its endpoints stay unless --endpoints is given
    #[arg(long)]
    replace: bool,
}

impl From<Keys> for KeyEncoding {
    fn from(keys: Keys) -> Self {
        match keys {
            Keys::Hex => Self::Hex,
            Keys::Text => Self::Text,
        }
    }
}

pub(crate) fn psk(command: Command) -> ExitCode {
    let done = match command {
        Command::Add(add) => self::add(add),
        Command::List(target) => list(&target),
        Command::Remove { target, identity } => change(&target.file, false, |text| {
            edit::remove(text, target.keys.into(), identity.as_bytes())
                .map_err(|error| format!("{identity:?}: {error}"))
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(error);
            ExitCode::FAILURE
        }
    }
}

fn add(add: Add) -> Result<(), String> {
    let keys = add.target.keys.into();
    let endpoints = match add.endpoints.as_deref() {
        None => None,
        Some("") => Some(Vec::new()),
        Some(list) => Some(EndpointPattern::list(list).map_err(line)?),
    };
    let made = add.key.is_none().then(make).transpose()?;
    let given = match add.key.map(Zeroizing::new) {
        Some(key) if *key == "-" => Some(from_stdin()?),
        other => other,
    };
    let text = made.as_ref().or(given.as_ref());
    let text = text.map(|text| text.as_str()).unwrap_or_default();
    let key = match keys {
        KeyEncoding::Hex => Key::parse(text),
        KeyEncoding::Text => Key::from_text(text.as_bytes()),
    };
    let key = key.map_err(line)?;
    if key.is_weak() {
        say::warning("the key is shorter than 16 bytes and can be guessed");
    }
    change(&add.target.file, true, |text| {
        let identity = add.identity.as_bytes();
        edit::set(text, keys, identity, &key, endpoints, add.replace).map_err(|error| {
            let hint = match error {
                EditError::Exists(_) => "; --replace replaces its key",
                _ => "",
            };
            format!("{:?}: {error}{hint}", add.identity)
        })
    })?;
    if let Some(made) = made {
        say::out(made.as_str());
    }
    Ok(())
}

/// Sixteen random bytes in hexadecimal digits.
fn make() -> Result<Zeroizing<String>, String> {
    let mut bytes = vec![0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("random numbers: {error}"))?;
    Ok(Key::new(bytes).to_hex())
}

/// The first line of standard input.
fn from_stdin() -> Result<Zeroizing<String>, String> {
    let failed = |error: &dyn Display| format!("key from standard input: {error}");
    // Room for the longest key in hexadecimal or base64 with its prefix, and no growing.
    let mut text = Zeroizing::new(vec![0; MAX_KEY * 2 + 16]);
    let mut length = 0;
    let mut stdin = io::stdin().lock();
    while let Some(room) = text.get_mut(length..).filter(|room| !room.is_empty()) {
        match stdin.read(room).map_err(|error| failed(&error))? {
            0 => break,
            more => length += more,
        }
    }
    text.truncate(length);
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    let first = str::from_utf8(first).map_err(|error| failed(&error))?;
    Ok(Zeroizing::new(first.to_owned()))
}

fn list(target: &Target) -> Result<(), String> {
    let (text, _) = read_file(&target.file).map_err(line)?;
    let lines = Lines::read(&text, target.keys.into());
    for (_, credential) in &lines.credentials {
        let identity = String::from_utf8_lossy(&credential.identity);
        let identity = identity.escape_debug();
        let length = credential.key.as_bytes().len();
        let endpoints = &credential.endpoints;
        let endpoints: Vec<_> = endpoints.iter().map(EndpointPattern::as_str).collect();
        say::out(format_args!(
            "{identity}\t{length} bytes\t{}",
            endpoints.join(",")
        ));
    }
    for problem in &lines.problems {
        say::warning(format_args!("line {}: {}", problem.line, problem.kind));
    }
    Ok(())
}

/// Replaces the file by an edited one in one step; whoever reads it sees the old one or the new
/// one. Mode and owner stay.
fn change(
    file: &Path,
    create: bool,
    edit: impl FnOnce(&[u8]) -> Result<Zeroizing<Vec<u8>>, String>,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    let (_lock, path) = lock(file, create).map_err(failed)?;
    let (text, metadata) = read_file(&path).map_err(line)?;
    let text = edit(&text)?;
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

fn line(error: impl Display) -> String {
    error.to_string()
}
