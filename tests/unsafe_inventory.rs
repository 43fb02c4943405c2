//! `SECURITY.md` lists every file with `unsafe` code, how much there is of it and why. This test
//! counts, and checks that each place says why it is sound.
//!
//! `UPDATE_DOCS=1 cargo test --test unsafe_inventory` writes the numbers anew; a new file needs a
//! reason, written by hand.

// Tests read the sources, and helpers of tests may panic.
#![allow(clippy::disallowed_methods, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[path = "support/source.rs"]
mod source;

use source::{code, sources};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FOLDERS: [&str; 2] = ["src", "erlang_nif/native/src"];
const BEGIN: &str = "<!-- unsafe: begin -->\n";
const END: &str = "<!-- unsafe: end -->";

/// What there is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// `unsafe { … }`
    blocks: usize,
    /// `unsafe fn`, `unsafe impl` and `unsafe trait`
    items: usize,
    /// `unsafe extern { … }`: functions of C that are declared.
    foreign: usize,
}

/// One `unsafe` with what it begins.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Block,
    Item,
    Foreign,
    /// A type of a function, or an attribute.
    Neither,
}

/// Where in the code each `unsafe` is, and what it begins.
fn places(code: &str) -> Vec<(usize, Kind)> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let found = code.match_indices("unsafe").filter(|(at, word)| {
        let before = at.checked_sub(1).map(|at| code.as_bytes()[at]);
        let after = code.as_bytes().get(at + word.len()).copied();
        ![before, after].into_iter().flatten().any(is_word)
    });
    found
        .map(|(at, word)| (at, kind(&code[at + word.len()..])))
        .collect()
}

fn kind(rest: &str) -> Kind {
    // The name of an ABI is blanked out.
    let rest = rest.trim_start();
    let (is_extern, rest) = match rest.strip_prefix("extern") {
        Some(rest) => (true, rest.trim_start()),
        None => (false, rest),
    };
    if rest.starts_with('{') {
        return if is_extern {
            Kind::Foreign
        } else {
            Kind::Block
        };
    }
    if let Some(rest) = rest.strip_prefix("fn") {
        let is_type = rest.trim_start().starts_with('(');
        return if is_type { Kind::Neither } else { Kind::Item };
    }
    if rest.starts_with("impl") || rest.starts_with("trait") {
        return Kind::Item;
    }
    Kind::Neither
}

/// Whether the comments right above say why this is sound (`SAFETY:`), or for items what must hold:
/// the documentation of functions for C says that in prose.
fn has_reason(source: &str, at: usize, kind: &Kind) -> bool {
    let before: Vec<_> = source[..at].lines().collect();
    let own = source[..at].ends_with('\n').then_some(0);
    let above = before.iter().rev().skip(own.unwrap_or(1));
    // A statement may begin a few lines above its block.
    let mut code_lines = 0;
    for line in above {
        let line = line.trim();
        let is_comment = line.starts_with("//");
        if line.contains("SAFETY:") || *kind == Kind::Item && line.starts_with("///") {
            return true;
        }
        let is_attribute = line.starts_with("#[");
        if !is_comment && !is_attribute {
            code_lines += 1;
        }
        if code_lines > 4 || line.is_empty() {
            return false;
        }
    }
    false
}

fn inventory() -> BTreeMap<String, Count> {
    let mut inventory = BTreeMap::new();
    for (name, source) in sources(&FOLDERS) {
        let mut count = Count::default();
        for (_, kind) in places(&code(&source)) {
            match kind {
                Kind::Block => count.blocks += 1,
                Kind::Item => count.items += 1,
                Kind::Foreign => count.foreign += 1,
                Kind::Neither => {}
            }
        }
        if count != Count::default() {
            inventory.insert(name, count);
        }
    }
    inventory
}

/// Reasons by file, as the table has them.
fn reasons(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), cells.next_back()?.to_owned()))
    });
    rows.collect()
}

fn table(inventory: &BTreeMap<String, Count>, reasons: &BTreeMap<String, String>) -> String {
    let mut table =
        "| File | Blocks | Functions, impls | Foreign | Why |\n|---|---|---|---|---|\n".to_owned();
    for (name, count) in inventory {
        let Count {
            blocks,
            items,
            foreign,
        } = count;
        let reason = reasons.get(name).map_or("", String::as_str);
        writeln!(
            table,
            "| `{name}` | {blocks} | {items} | {foreign} | {reason} |"
        )
        .expect("a string takes it");
    }
    table
}

#[test]
fn the_inventory_in_security_md_is_current() {
    let path = Path::new(ROOT).join("SECURITY.md");
    let document = fs::read_to_string(&path).expect("SECURITY.md");
    let (before, rest) = document.split_once(BEGIN).expect("where the table begins");
    let (old, after) = rest.split_once(END).expect("where the table ends");
    let reasons = reasons(old);
    let inventory = inventory();
    let new = table(&inventory, &reasons);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let document = [before, BEGIN, &new, END, after].concat();
        fs::write(&path, document).expect("SECURITY.md");
    } else {
        assert_eq!(
            old, new,
            "SECURITY.md is not what the code says: UPDATE_DOCS=1 cargo test --test unsafe_inventory"
        );
    }
    let without_reason = |name: &&String| reasons.get(*name).is_none_or(String::is_empty);
    let unlisted: Vec<_> = inventory.keys().filter(without_reason).collect();
    assert!(unlisted.is_empty(), "without a reason: {unlisted:?}");
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    let mut silent = Vec::new();
    for (name, source) in sources(&FOLDERS) {
        for (at, kind) in places(&code(&source)) {
            let is_judged = match kind {
                Kind::Block => true,
                // Not functions for tests.
                Kind::Item => source.find("mod tests {").is_none_or(|tests| at < tests),
                Kind::Foreign | Kind::Neither => false,
            };
            if is_judged && !has_reason(&source, at, &kind) {
                let line = source[..at].lines().count();
                silent.push(format!("{name}:{line}"));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn what_counts() {
    let source = r##"
        // unsafe { } in a comment
        type Callback = unsafe extern "C" fn(c_int) -> c_int;
        #[unsafe(no_mangle)]
        /// # Safety
        pub unsafe extern "C" fn exported() { let c = '"'; unsafe { go("unsafe {") } }
        unsafe extern "C" { fn imported(); }
        unsafe impl<'a> Send for It<'a> {}
        unsafe trait Plain {}
        fn unsafe_name() { r#"unsafe { "}"#; }
        #![allow(unsafe_code)]
    "##;
    let kinds: Vec<_> = places(&code(source))
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(
        kinds,
        [
            Kind::Neither,
            Kind::Neither,
            Kind::Item,
            Kind::Block,
            Kind::Foreign,
            Kind::Item,
            Kind::Item,
        ]
    );
    let with = "    // SAFETY: it lives.\n    let x =\n        unsafe { y };";
    let without = "    // It lives.\n    let x = unsafe { y };";
    for (source, says) in [(with, true), (without, false)] {
        let at = source.find("unsafe").expect("there");
        assert_eq!(has_reason(source, at, &Kind::Block), says);
    }
}
