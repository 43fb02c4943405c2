//! The published package holds what a build needs, and nothing else.

// Tests run programs and read files, and helpers of tests may panic.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "support/source.rs"]
#[allow(dead_code)] // these tests want the files, not the code in them
mod source;

/// crates.io takes more than twice as much.
const MOST_BYTES: u64 = 4_500_000;

/// Cargo's own, which are made when the package is.
const MADE: [&str; 3] = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml.orig"];

fn listed() -> BTreeSet<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline", "--quiet"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "{errors}");
    let list = String::from_utf8(cargo.stdout).expect("UTF-8");
    list.lines().map(str::to_owned).collect()
}

#[test]
fn the_package_holds_what_a_build_needs() {
    let listed = listed();
    let mut needed: BTreeSet<_> = source::sources(&["src"]).into_keys().collect();
    for file in [
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "build.rs",
        "docs/configuration.md",
        "docs/mqtt.md",
        "examples/embed.rs",
        "include/lwm2m_gateway.h",
        "src/config/psk.md",
    ] {
        needed.insert(file.to_owned());
    }
    for folder in ["priv/lwm2m_xml", "priv/oma"] {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in fs::read_dir(files).expect(folder) {
            let name = file.expect("a file").file_name();
            needed.insert(format!("{folder}/{}", name.to_string_lossy()));
        }
    }
    let missing: Vec<_> = needed.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the package: {missing:?}");
}

#[test]
fn the_package_holds_nothing_else() {
    let mut bytes = 0;
    for name in listed() {
        let top = name.split('/').next().unwrap_or(&name);
        let known = match top {
            "docs" | "include" | "priv" | "src" => true,
            "Cargo.toml" | "build.rs" | "LICENSE-APACHE" | "LICENSE-MIT" => true,
            "examples" => name == "examples/embed.rs",
            _ => !name.contains('/') && (name.ends_with(".md") || MADE.contains(&&*name)),
        };
        assert!(known, "{name}: `include` in Cargo.toml lets it in");
        if MADE.contains(&&*name) {
            continue;
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        bytes += fs::metadata(&file).expect("a file of the package").len();
    }
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}
