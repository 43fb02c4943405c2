//! No import runs back up: neither between the folders of `src/`, nor in a circle within one.
//!
//! A name counts for the file that defines it, however many re-exports lie between. Code of
//! `#[cfg(test)]` is left out. What a macro makes is not seen.

// Tests read the sources, and helpers of tests may panic.
#![allow(clippy::disallowed_methods, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[path = "support/imports.rs"]
mod graph;
#[path = "support/source.rs"]
mod source;

use graph::{Import, imports};

/// The folders and root files of `src/`, from the bottom to the top: each may import what stands
/// before it in this list, nothing behind it.
const LAYERS: &[&str] = &[
    // Leaves: time, texts, bytes, counters.
    "time",
    "system",
    "printable",
    "network",
    "mac",
    "tables",
    "memory",
    "admission",
    "telemetry",
    // The data model, and what is configured.
    "lwm2m",
    "credentials",
    "config",
    // Protocols without sockets.
    "coap",
    "dtls",
    "mqtt",
    "bridge",
    "engine",
    // Sockets and threads.
    "transport",
    "store",
    "http",
    "runtime",
    "simulate",
    // Who loads it.
    "host",
    "ffi",
    "cli",
    "lib",
    "main",
];

#[test]
fn every_folder_has_its_layer() {
    let sources = source::sources(&["src"]);
    let there: BTreeSet<_> = sources.keys().map(|file| folder(file)).collect();
    let listed: BTreeSet<_> = LAYERS.iter().copied().collect();
    assert_eq!(listed, there, "LAYERS is what is in src/");
    assert_eq!(listed.len(), LAYERS.len(), "each once");
}

#[test]
fn no_import_runs_back_up() {
    let imports = imports(&source::sources(&["src"]));
    assert!(imports.len() > 500, "{}", imports.len());
    let faults = faults(&imports, LAYERS);
    let found: Vec<_> = faults.into_values().flatten().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The compiler never sees a file that no other declares; it would rot unnoticed.
#[test]
fn every_file_is_a_module() {
    let sources = source::sources(&["src"]);
    let orphans = orphans(&sources);
    assert!(orphans.is_empty(), "\n{}", orphans.join("\n"));
}

/// Files that no `mod` names where Rust looks for it, nor a `#[path]`.
fn orphans(sources: &BTreeMap<String, String>) -> Vec<&str> {
    let declared = |file: &str| {
        let Some((folder, name)) = file.rsplit_once('/') else {
            return false;
        };
        let (folder, module) = match name {
            "lib.rs" | "main.rs" => return true,
            "mod.rs" => folder.rsplit_once('/').unwrap_or_default(),
            name => (folder, name.strip_suffix(".rs").unwrap_or(name)),
        };
        let by_name = format!("mod {module};");
        let by_path = format!("#[path = \"{name}\"]");
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| format!("{folder}/{parent}"));
        let parents = parents.into_iter().chain([format!("{folder}.rs")]);
        let mut beside = sources
            .iter()
            .filter(|(other, _)| other.starts_with(folder));
        parents
            .filter_map(|parent| sources.get(&parent))
            .any(|text| text.contains(&by_name))
            || beside.any(|(_, text)| text.contains(&by_path))
    };
    let names = sources.keys().map(String::as_str);
    names.filter(|file| !declared(file)).collect()
}

/// What is wrong with the imports, by the folder that has to change.
fn faults(imports: &[Import], layers: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut faults: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |import: &Import, fault| {
        let of = folder(&import.from).to_owned();
        faults.entry(of).or_default().push(fault);
    };
    for import in upward(imports, layers) {
        add(import, format!("runs up:\n  {import}"));
    }
    for circle in circles(imports) {
        let lines: String = circle.iter().map(|it| format!("\n  {it}")).collect();
        let first = circle.first().expect("no circle is empty");
        add(first, format!("a circle:{lines}"));
    }
    faults
}

/// The folder or root file of `src/` that a file is in: `config` for `src/config/keys.rs`.
fn folder(file: &str) -> &str {
    let below = file.strip_prefix("src/").unwrap_or(file);
    let first = below.split('/').next().unwrap_or(below);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Imports that go against the order of `layers`.
fn upward<'i>(imports: &'i [Import], layers: &[&str]) -> Vec<&'i Import> {
    let height = |file: &str| layers.iter().position(|layer| *layer == folder(file));
    imports
        .iter()
        .filter(|it| folder(&it.from) != folder(&it.to) && height(&it.from) <= height(&it.to))
        .collect()
}

/// The shortest circle through each file that is in one, once each.
fn circles(imports: &[Import]) -> Vec<Vec<&Import>> {
    let mut next: BTreeMap<&str, Vec<&Import>> = BTreeMap::new();
    for import in imports {
        if folder(&import.from) == folder(&import.to) {
            next.entry(&import.from).or_default().push(import);
        }
    }
    let mut shown = BTreeSet::new();
    let circles = next.keys().filter_map(|start| circle(start, &next));
    circles
        .filter(|it| shown.insert(it.iter().map(|it| &it.from).collect::<BTreeSet<_>>()))
        .collect()
}

/// The shortest way from a file back to itself.
fn circle<'i>(start: &str, next: &BTreeMap<&str, Vec<&'i Import>>) -> Option<Vec<&'i Import>> {
    let mut ways = VecDeque::from([(start, Vec::new())]);
    let mut seen = BTreeSet::new();
    while let Some((file, way)) = ways.pop_front() {
        for import in next.get(file).into_iter().flatten() {
            let mut way = way.clone();
            way.push(*import);
            if import.to == start {
                return Some(way);
            }
            if seen.insert(import.to.as_str()) {
                ways.push_back((&import.to, way));
            }
        }
    }
    None
}

fn tree(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let files = files.iter();
    files
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

/// `from:line to` of each import.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let imports = imports(&tree(files));
    let short = |it: &Import| format!("{}:{} {}", it.from, it.line, it.to);
    imports.iter().map(short).collect()
}

#[test]
fn what_counts_as_an_import() {
    let library = "pub mod a;\npub mod b;\npub use b::Deep;";
    let b =
        "mod deep;\npub mod other { pub fn inner() {} }\npub use deep::{Deep, name as renamed};";
    let deep = "pub struct Deep;\npub fn name() {}\npub fn unused() {}";
    let base = [
        ("src/lib.rs", library),
        ("src/b/mod.rs", b),
        ("src/b/deep.rs", deep),
    ];
    let deep_at = |line| vec![format!("src/a.rs:{line} src/b/deep.rs")];
    let b_at_1 = vec!["src/a.rs:1 src/b/mod.rs".to_owned()];
    for (a, expected) in [
        // A re-export, of a re-export, and under another name.
        ("\nuse crate::b::Deep;", deep_at(2)),
        ("use crate::Deep;", deep_at(1)),
        ("fn f() { crate::b::renamed() }", deep_at(1)),
        ("fn f() -> super::b::Deep {}", deep_at(1)),
        // A module brought in counts where something of it is used.
        ("use crate::b;", vec![]),
        (
            "use crate::{\n  b,\n};\nfn f() { b::renamed() }",
            deep_at(4),
        ),
        ("use super::b::other::inner;", b_at_1.clone()),
        ("use crate::b::*;", b_at_1),
        // Handed on only, or not.
        ("pub use crate::Deep;", vec![]),
        ("pub use crate::Deep;\nfn f() -> Deep {}", deep_at(1)),
        // Others, texts and comments, tests.
        ("use std::b::Deep;", vec![]),
        ("// use crate::b::Deep;", vec![]),
        ("const A: &str = \"crate::b::Deep\";", vec![]),
        ("#[cfg(test)]\nmod tests { use crate::b::Deep; }", vec![]),
        (
            "#[cfg(test)]\nuse crate::b::{Deep, renamed};\nfn f() {}",
            vec![],
        ),
        (
            "#[cfg(test)]\nfn t() { crate::b::renamed() }\nfn f() { crate::Deep::new() }",
            deep_at(3),
        ),
        ("#[cfg(unix)]\nuse crate::b::Deep;", deep_at(2)),
    ] {
        let files = [&base[..], &[("src/a.rs", a)]].concat();
        assert_eq!(found(&files), expected, "{a}");
    }
}

#[test]
fn the_program_uses_the_library() {
    let files = [
        ("src/lib.rs", "pub mod a;"),
        ("src/a.rs", "pub fn go() {}"),
        ("src/main.rs", "mod cli;\nfn main() { cli::main() }"),
        (
            "src/cli/mod.rs",
            "use lwm2m_gateway::a;\npub fn main() { a::go() }",
        ),
    ];
    let expected = ["src/cli/mod.rs:2 src/a.rs", "src/main.rs:2 src/cli/mod.rs"];
    assert_eq!(found(&files), expected);
}

#[test]
fn faults_are_found() {
    let of = |root, x, y| {
        let files = [
            ("src/lib.rs", "mod low;\nmod high;"),
            ("src/low.rs", ""),
            ("src/high/mod.rs", root),
            ("src/high/x.rs", x),
            ("src/high/y.rs", y),
        ];
        faults(&imports(&tree(&files)), &["low", "high"])
    };
    let declares = "mod x;\nmod y;\npub use x::X;\npub use y::Y;";
    let uses_x = "use super::X;\npub struct Y(X);";
    assert_eq!(of(declares, "pub struct X;", uses_x), BTreeMap::new());
    let circle = of(declares, "pub struct X(super::Y);", uses_x);
    assert_eq!(
        circle["high"],
        [
            "a circle:\n  src/high/x.rs:1 uses src/high/y.rs (super::Y)\n  \
          src/high/y.rs:1 uses src/high/x.rs (super::X)"
        ]
    );
    // What `mod.rs` defines cannot be below what it uses.
    let mixed = of(
        "mod x;\nmod y;\npub struct Y;\nfn f() { x::go() }",
        "use super::Y;\npub fn go() -> Y {}",
        "",
    );
    assert_eq!(mixed["high"].len(), 1, "{mixed:?}");

    let files = [
        ("src/lib.rs", "mod low;\nmod high;"),
        ("src/low.rs", "\nuse crate::high::H;"),
        ("src/high.rs", "pub struct H;"),
    ];
    let up = faults(&imports(&tree(&files)), &["low", "high"]);
    assert_eq!(
        up["low"],
        ["runs up:\n  src/low.rs:2 uses src/high.rs (crate::high::H)"]
    );
}

#[test]
fn a_file_that_nobody_declares_is_found() {
    let tree = tree(&[
        ("src/lib.rs", "mod a;\nmod b;"),
        (
            "src/a.rs",
            "mod c;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;",
        ),
        ("src/a/c.rs", ""),
        ("src/a_tests.rs", ""),
        ("src/b/mod.rs", ""),
        ("src/b/left.rs", ""),
        ("src/gone.rs", "mod b;"),
    ]);
    assert_eq!(orphans(&tree), ["src/b/left.rs", "src/gone.rs"]);
}
