//! Configuration files: the one part of `config/` that reads any.

#![allow(clippy::disallowed_methods)] // files

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::read::Source;

/// Largest configuration file in bytes: room for a hundred thousand keys.
const MAX_FILE: u64 = 64 << 20;

/// Reads a file of TOML or JSON, or of HOCON when its name ends in `.hocon` or `.conf`. One that holds keys and that everybody on the machine can read
/// is refused by [`Source::read`].
///
/// # Errors
/// What the system says, or that the file is too large or no UTF-8. Mistakes in the text come up in
/// [`Source::read`].
pub fn read(path: &Path) -> io::Result<Source> {
    let (text, mode) = read_text(path, MAX_FILE)?;
    let source = match path.extension() {
        Some(kind) if kind == "json" => Source::from_json(&text),
        Some(kind) if kind == "hocon" || kind == "conf" => Source::from_hocon(&text),
        _ => Source::parse(&text),
    };
    Ok(source.of_file(&path.display().to_string(), mode))
}

/// A secret in a file of its own, without the end of its line, and the mode of the file.
///
/// # Errors
/// As [`read`]; also when the file is empty or has several lines.
#[cfg(any(feature = "http", feature = "internals", feature = "standalone"))]
pub fn read_secret(path: &Path) -> io::Result<(Zeroizing<String>, u32)> {
    let wrong = |reason| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    let (text, mode) = read_text(path, 64 << 10)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line {
        "" => wrong("is empty"),
        line if line.contains(['\n', '\0']) => wrong("has more than one line"),
        line => Ok((Zeroizing::new(line.to_owned()), mode)),
    }
}

/// Text of a file for several readers, and its mode.
///
/// # Errors
/// As [`read`].
#[cfg(any(feature = "http", feature = "standalone"))]
pub(crate) fn read_shared(path: &Path) -> io::Result<(String, u32)> {
    let (text, mode) = read_text(path, MAX_FILE)?;
    Ok((text.as_str().to_owned(), mode))
}

fn read_text(path: &Path, largest: u64) -> io::Result<(Zeroizing<String>, u32)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // A string that grows leaves copies of keys behind.
    let size = usize::try_from(metadata.len().min(largest)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(size.saturating_add(1)));
    file.take(largest.saturating_add(1))
        .read_to_string(&mut text)?;
    if text.len() as u64 > largest {
        let reason = format!("is larger than {largest} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok((text, metadata.mode()))
}
