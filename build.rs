//! Gives the shared library its soname, so that hosts link against the ABI version and not
//! against a file name, and lists the files of the console for the library to embed. Writes
//! nothing into the tree.

#![allow(clippy::disallowed_methods)] // it reads the tree

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,liblwm2m_gateway.so.{major}");
    if env::var_os("CARGO_FEATURE_HTTP").is_some() {
        list_console()?;
    }
    Ok(())
}

/// A table of name and bytes for every file of `src/http/console`, as `console.rs`.
fn list_console() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let folder = Path::new(&root).join("src/http/console");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    let mut table = "&[\n".to_owned();
    for name in names {
        let file = folder.join(&name);
        let _ = writeln!(
            table,
            "    ({name:?}, include_bytes!({:?})),",
            file.display().to_string()
        );
    }
    table.push(']');
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("console.rs"), table)
}
