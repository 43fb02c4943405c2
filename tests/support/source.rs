//! The sources of the package, for tests that read them.

#![allow(unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name below the root and text of every Rust file in some folders of the package.
pub fn sources(folders: &[&str]) -> BTreeMap<String, String> {
    let mut folders: Vec<PathBuf> = folders
        .iter()
        .map(|of| Path::new(env!("CARGO_MANIFEST_DIR")).join(of))
        .collect();
    let mut sources = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("its entries").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path
                    .strip_prefix(env!("CARGO_MANIFEST_DIR"))
                    .expect("below the root");
                let source = fs::read_to_string(&path).expect("a source");
                sources.insert(name.display().to_string(), source);
            }
        }
    }
    assert!(sources.len() > 100, "{}", sources.len());
    sources
}

/// The source with comments, texts and characters blanked out, of the same length.
pub fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_text(rest) {
            length
        } else if rest.starts_with('"') {
            text(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            let c = rest.chars().next().expect("not at the end");
            code.push(if c.is_ascii() { c } else { ' ' });
            code.extend(std::iter::repeat_n(' ', c.len_utf8() - 1));
            at += c.len_utf8();
            continue;
        };
        let blanked = source[at..at + length].bytes();
        code.extend(blanked.map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        at += length;
    }
    code
}

/// Length of the text that begins here.
fn text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of the raw text that begins here, if one does.
fn raw_text(rest: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?;
    let body = hashes.trim_start_matches('#');
    let count = hashes.len() - body.len();
    let body = body.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(count));
    let length = body.find(&end)?;
    Some(1 + count + 1 + length + end.len())
}

/// Length of the character that begins here, if it is one and no lifetime.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return body[2..].find('\'').map(|end| 1 + 2 + end + 1);
    }
    body[first.len_utf8()..]
        .starts_with('\'')
        .then(|| 1 + first.len_utf8() + 1)
}
