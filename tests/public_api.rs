//! What the library shows without the feature `internals` is what `tests/public_api.txt` lists.
//!
//! The sources are read as a compiler would without that feature: re-exports are followed to the
//! definition, and its public fields, variants, methods and traits are written down. What a macro
//! makes is not seen, but for `schema!` of the configuration.

// Tests read the sources, and helpers of tests may panic.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used
)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;

#[path = "support/public.rs"]
mod public;
#[path = "support/source.rs"]
#[allow(dead_code)] // these tests want the files, not the code in them
mod source;

use public::Library;

const LISTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/public_api.txt");

#[test]
fn what_is_public_is_what_is_listed() {
    let found = listing(&source::sources(&["src"]));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(LISTED, &found).expect("tests/public_api.txt can be written");
    }
    let listed = fs::read_to_string(LISTED).expect("tests/public_api.txt is there");
    let of = |one: &str, sign: char, other: &str| {
        let there: BTreeSet<_> = other.lines().collect();
        let only = one.lines().filter(|line| !there.contains(line));
        only.map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    let changes = of(&found, '+', &listed) + &of(&listed, '-', &found);
    assert!(
        found == listed,
        "the public interface is another one:\n{changes}\
Is it meant? Then: UPDATE_DOCS=1 cargo test --test public_api, and a line in CHANGELOG.md"
    );
}

#[test]
fn a_change_of_the_interface_is_seen() {
    let mut sources = source::sources(&["src"]);
    let before = listing(&sources);
    let mut change = |file: &str, from: &str, to: &str| {
        let text = sources.get_mut(file).expect(file);
        assert!(text.contains(from), "{file}: {from}");
        *text = text.replacen(from, to, 1);
    };
    let lib = "src/lib.rs";
    change(lib, ", line_of};", ", line_of as log_line};");
    let gateway = "src/runtime/gateway.rs";
    change(
        gateway,
        "pub fn kick(&self, ",
        "pub fn kick(&self, at: u8, ",
    );
    change(gateway, "    pub(super) fn command(", "    pub fn command(");
    change(gateway, "    fn subscribe(", "    pub(crate) fn subscribe(");
    let mqtt = "src/mqtt.rs";
    change(
        mqtt,
        "pub qos: u8,",
        "pub qos: u8, pub retain: bool, pub(crate) more: bool,",
    );
    change(
        mqtt,
        "    State,\n}",
        "    State,\n    #[doc(alias = \"x\")]\n    Death,\n}",
    );
    change(mqtt, "pub fn bytes", "#[cfg(test)]\n    pub fn bytes");
    // Keys are no interface of the library.
    let key = "pub shards: usize,";
    change(
        "src/config/schema.rs",
        key,
        "pub shards: usize, pub more: u8,",
    );

    let after = listing(&sources);
    let of = |one: &str, other: &str| {
        let there: BTreeSet<_> = other.lines().collect();
        let only = one.lines().filter(|line| !there.contains(line));
        only.map(|line| line.trim().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let new = [
        "field Publish.retain: bool",
        "fn Gateway::command(&self, settings: &Settings, input: CommandInput, receipt: Option<Receipt>) -> Result<(), Option<Publish>>",
        "fn Gateway::kick(&self, at: u8, endpoint: &str) -> bool",
        "fn log_line(event: &tracing::Event<'_>) -> String",
        "variant PublishKind::Death",
    ];
    assert_eq!(of(&after, &before), new.map(str::to_owned).into());
    let gone = [
        "fn Gateway::kick(&self, endpoint: &str) -> bool",
        "fn Publish::bytes(&self) -> usize",
        "fn line_of(event: &tracing::Event<'_>) -> String",
    ];
    assert_eq!(of(&before, &after), gone.map(str::to_owned).into());
}

/// The examples and tests of this package are built with `internals`, which hides what they need.
#[test]
fn hosts_outside_do_with_what_is_public() {
    let public = Library::read(&source::sources(&["src"])).items();
    let mut hosts = source_of("erlang_nif/native/src");
    let embed = "examples/embed.rs";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(embed));
    hosts.insert(embed.to_owned(), text.expect("the example"));
    let mut seen = 0;
    for (file, text) in hosts {
        for name in public::used(&text, "lwm2m_gateway") {
            assert!(
                public.contains_key(&name),
                "{file} uses {name}, which is not public"
            );
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// One block for each public item.
fn listing(sources: &BTreeMap<String, String>) -> String {
    Library::read(sources).items().into_values().collect()
}

fn source_of(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).expect("the sources of the NIF");
    let files = files.map(|file| file.expect("a file").path());
    let files = files.filter(|file| file.extension().is_some_and(|ext| ext == "rs"));
    files
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a source");
            (file.display().to_string(), text)
        })
        .collect()
}
