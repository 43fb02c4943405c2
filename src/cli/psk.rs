//! The command `psk`: edits a PSK file while a gateway may be reading it.

use std::fmt::Display;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::KeyEncoding;
use crate::credentials::edit::{self, EditError};
use crate::credentials::{self, EndpointPattern, Key, Lines, MAX_KEY, read_file};
use clap::{Args, Subcommand, ValueEnum};
use zeroize::Zeroizing;

use super::say;

pub(crate) const AFTER_HELP: &str = "\
A running gateway reloads the file within seconds.

Examples:
  lwm2m-gateway psk add --file /etc/lwm2m/psk sn-0001            creates a key and prints it
  lwm2m-gateway psk add --file /etc/lwm2m/psk sn-0002 --key - < key.hex
  lwm2m-gateway psk add --file /etc/lwm2m/psk fleet --endpoints 'truck-*,urn:imei:*'
  lwm2m-gateway psk list --file /etc/lwm2m/psk
  lwm2m-gateway psk remove --file /etc/lwm2m/psk sn-0001";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add an identity; without --key, generate a key of 16 random bytes and print it
    Add(Add),
    /// List identities, lengths of keys and endpoints; keys are never shown
    List(Target),
    /// Remove an identity
    Remove {
        #[command(flatten)]
        target: Target,
        /// Identity, as in the file
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
    /// The key as in the file, or text:… or base64:… for files with hexadecimal keys; - reads a line
    /// from standard input, which other users of the machine cannot see
    #[arg(long, value_name = "KEY|-")]
    key: Option<String>,
    /// Generate a random key and print it, as without --key
    #[arg(long, conflicts_with = "key")]
    generate: bool,
    /// Endpoints that the identity may register, separated by commas, with wildcards * and ?; for
    /// endpoint_rule = "owned" and "listed"
    #[arg(long, value_name = "LIST")]
    endpoints: Option<String>,
    /// Replace the key if the identity exists; its endpoints stay unless --endpoints is given
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
        say::warning("the key is shorter than 16 bytes, which is easy to guess");
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
    getrandom::fill(&mut bytes).map_err(|error| format!("cannot get random numbers: {error}"))?;
    Ok(Key::new(bytes).to_hex())
}

/// The first line of standard input.
fn from_stdin() -> Result<Zeroizing<String>, String> {
    let failed = |error: &dyn Display| format!("cannot read the key from standard input: {error}");
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

/// Changes the file; one line says why not.
fn change(
    file: &Path,
    create: bool,
    edit: impl FnOnce(&[u8]) -> Result<Zeroizing<Vec<u8>>, String>,
) -> Result<(), String> {
    credentials::change(file, create, edit).map_err(line)
}

fn line(error: impl Display) -> String {
    error.to_string()
}
