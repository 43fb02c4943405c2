//! Who imports whom in a tree of Rust sources.

#![allow(unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::source::code;

/// A file uses something that another one defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: String,
    pub line: usize,
    pub to: String,
    /// As it is written there.
    pub path: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            line,
            to,
            path,
        } = self;
        write!(f, "{from}:{line} uses {to} ({path})")
    }
}

/// Name of the library in paths of the program.
const LIBRARY: &str = "lwm2m_gateway";

/// What the file with the roots `src/lib.rs` and `src/main.rs`, in texts by name, import.
pub fn imports(sources: &BTreeMap<String, String>) -> Vec<Import> {
    let mut tree = Tree::default();
    for (root, name) in [("src/lib.rs", LIBRARY), ("src/main.rs", "main")] {
        if sources.contains_key(root) {
            tree.load(sources, root, vec![name.to_owned()]);
        }
    }
    let mut imports = BTreeMap::new();
    for (at, module) in &tree.modules {
        for (path, line) in module.used() {
            let Some(to) = tree.definition(at, &path, 0) else {
                continue;
            };
            if to != module.file {
                // The first line says enough.
                imports
                    .entry((module.file.clone(), to))
                    .or_insert_with(|| (line, path.join("::")));
            }
        }
    }
    imports
        .into_iter()
        .map(|((from, to), (line, path))| Import {
            from,
            line,
            to,
            path,
        })
        .collect()
}

type Path = Vec<String>;

/// All modules, by their path; the first segment is the crate.
#[derive(Default)]
struct Tree {
    modules: BTreeMap<Path, Module>,
}

#[derive(Default)]
struct Module {
    file: String,
    /// What it defines.
    items: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths in its code, as written.
    paths: Vec<(Path, usize)>,
    /// Every word of its code outside of `use`.
    words: BTreeSet<String>,
}

/// One name that a `use` brings in.
struct Use {
    path: Path,
    /// `*` for all of them.
    name: String,
    line: usize,
    /// For others too.
    is_public: bool,
}

/// What a path leads to.
enum Target {
    Module(Path),
    /// In this file.
    Item(String),
}

impl Module {
    /// Paths that this module has a use for itself: not those that it only hands on.
    fn used(&self) -> impl Iterator<Item = (Path, usize)> {
        let uses = self
            .uses
            .iter()
            .filter(|it| !it.is_public || self.words.contains(&it.name));
        let uses = uses.map(|it| (it.path.clone(), it.line));
        uses.chain(self.paths.iter().cloned())
    }
}

impl Tree {
    fn load(&mut self, sources: &BTreeMap<String, String>, file: &str, at: Path) {
        let source = sources.get(file).expect("a module has its file");
        let mut parser = Parser {
            tokens: tokens(&code(source)),
            at: 0,
            file,
            children: Vec::new(),
            modules: &mut self.modules,
        };
        parser.module(at);
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let below = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => file.trim_end_matches(".rs").to_owned(),
        };
        for child in parser.children {
            let name = child.last().expect("a name");
            let file = [
                format!("{below}/{name}.rs"),
                format!("{below}/{name}/mod.rs"),
            ]
            .into_iter()
            .find(|file| sources.contains_key(file))
            .unwrap_or_else(|| panic!("{file}: no file for mod {name}"));
            self.load(sources, &file, child);
        }
    }

    /// The file that defines what a path in a module means; `None` for other crates and for modules.
    fn definition(&self, module: &Path, path: &[String], depth: usize) -> Option<String> {
        match self.find(module, path, depth)? {
            Target::Item(file) => Some(file),
            Target::Module(_) => None,
        }
    }

    fn find(&self, from: &Path, path: &[String], depth: usize) -> Option<Target> {
        // Imports that import each other.
        if depth > 16 {
            return None;
        }
        let mut at = from.clone();
        let mut rest = path;
        let mut is_relative = true;
        while let [first, others @ ..] = rest {
            match first.as_str() {
                "crate" => at.truncate(1),
                "self" => {}
                "super" => {
                    at.pop();
                }
                LIBRARY if !self.modules.get(&at)?.items.contains(LIBRARY) && is_relative => {
                    at = vec![LIBRARY.to_owned()];
                }
                _ => break,
            }
            is_relative = false;
            rest = others;
        }
        let Some((name, rest)) = rest.split_first() else {
            return Some(Target::Module(at));
        };
        self.walk(at, name, rest, depth)
    }

    /// What `name::rest` means in a module.
    fn walk(&self, at: Path, name: &str, rest: &[String], depth: usize) -> Option<Target> {
        let module = self.modules.get(&at)?;
        let child: Path = at.iter().cloned().chain([name.to_owned()]).collect();
        let found = if name == "*" {
            return Some(Target::Item(module.file.clone()));
        } else if self.modules.contains_key(&child) {
            Target::Module(child)
        } else if module.items.contains(name) {
            Target::Item(module.file.clone())
        } else {
            let named = module.uses.iter().filter(|it| it.name == name);
            // `use a::a` leads out of here.
            let named = named.filter(|it| {
                it.path.first().is_none_or(|first| first != name) || it.path.len() > 1
            });
            let mut found = named
                .filter_map(|it| self.find(&at, &it.path, depth + 1))
                .next();
            if found.is_none() {
                let globs = module.uses.iter().filter(|it| it.name == "*");
                found = globs
                    .filter_map(|it| {
                        let mut path = it.path.clone();
                        path.pop();
                        path.push(name.to_owned());
                        self.find(&at, &path, depth + 1)
                    })
                    .next();
            }
            found?
        };
        match (found, rest.split_first()) {
            (Target::Module(at), Some((name, rest))) => self.walk(at, name, rest, depth),
            (found, _) => Some(found),
        }
    }
}

/// A word or a sign, with its line.
type Token = (String, usize);

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((rest[..length].to_owned(), index + 1));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

struct Parser<'p> {
    tokens: Vec<Token>,
    at: usize,
    file: &'p str,
    /// Modules with a file of their own.
    children: Vec<Path>,
    modules: &'p mut BTreeMap<Path, Module>,
}

impl Parser<'_> {
    fn peek(&self, ahead: usize) -> &str {
        let token = self.tokens.get(self.at + ahead);
        token.map_or("", |(text, _)| text)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(_, line)| *line)
    }

    fn is_word(text: &str) -> bool {
        text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    /// Reads a module up to its end, or to that of the file.
    fn module(&mut self, path: Path) {
        let mut module = Module {
            file: self.file.to_owned(),
            ..Module::default()
        };
        let mut depth = 0;
        let mut is_public = false;
        while !self.peek(0).is_empty() {
            match (self.peek(0), self.peek(1)) {
                ("#", "[") if self.is_test() => {
                    self.skip_item();
                    continue;
                }
                ("{", _) => depth += 1,
                ("}", _) if depth == 0 => break,
                ("}", _) => depth -= 1,
                ("pub", _) => {
                    is_public = true;
                    self.at += 1;
                    if self.peek(0) == "("
                        && matches!(self.peek(1), "crate" | "super" | "in" | "self")
                    {
                        while self.peek(0) != ")" {
                            self.at += 1;
                        }
                        self.at += 1;
                    }
                    continue;
                }
                ("use", next) if next != "<" => {
                    let line = self.line();
                    self.at += 1;
                    let mut found = Vec::new();
                    self.use_tree(Vec::new(), &mut found);
                    module
                        .uses
                        .extend(found.into_iter().map(|(path, name)| Use {
                            path,
                            name,
                            line,
                            is_public,
                        }));
                }
                ("mod", name) if depth == 0 && Self::is_word(name) => {
                    let child: Path = path.iter().cloned().chain([name.to_owned()]).collect();
                    self.at += 2;
                    if self.peek(0) == "{" {
                        self.at += 1;
                        self.module(child);
                    } else {
                        self.children.push(child);
                    }
                }
                ("macro_rules", _) if depth == 0 => {
                    module.items.insert(self.peek(2).to_owned());
                    self.at += 2;
                }
                (
                    "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union",
                    name,
                ) if depth == 0 && Self::is_word(name) => {
                    module.items.insert(name.to_owned());
                }
                (word, _) if Self::is_word(word) => {
                    self.path(&mut module);
                    is_public = false;
                    continue;
                }
                _ => {}
            }
            is_public = false;
            self.at += 1;
        }
        self.modules.insert(path, module);
    }

    /// A path in the code, or a word.
    fn path(&mut self, module: &mut Module) {
        let is_first = self.at == 0 || self.tokens[self.at - 1].0 != "::";
        let line = self.line();
        let mut path = vec![self.peek(0).to_owned()];
        self.at += 1;
        while self.peek(0) == "::" && Self::is_word(self.peek(1)) {
            path.push(self.peek(1).to_owned());
            self.at += 2;
        }
        module.words.extend(path.iter().cloned());
        if is_first && path.len() > 1 {
            module.paths.push((path, line));
        }
    }

    /// One branch of what `use` brings in, up to the sign after it.
    fn use_tree(&mut self, mut path: Path, found: &mut Vec<(Path, String)>) {
        loop {
            match self.peek(0).to_owned().as_str() {
                "{" => {
                    self.at += 1;
                    while self.peek(0) != "}" {
                        self.use_tree(path.clone(), found);
                        if self.peek(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "::" => self.at += 1,
                "as" => {
                    found.push((path, self.peek(1).to_owned()));
                    self.at += 2;
                    return;
                }
                word if word == "*" || Self::is_word(word) => {
                    // `{self, ..}` is the module before it.
                    if word != "self" || path.is_empty() {
                        path.push(word.to_owned());
                    }
                    self.at += 1;
                }
                _ => {
                    let name = path.last().cloned().unwrap_or_default();
                    found.push((path, name));
                    return;
                }
            }
        }
    }

    /// Whether `#[cfg(test)]` stands here.
    fn is_test(&self) -> bool {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        (0..)
            .zip(attribute)
            .all(|(ahead, sign)| self.peek(ahead) == sign)
    }

    /// Skips attributes and the item, statement, field or arm after them.
    fn skip_item(&mut self) {
        while self.peek(0) == "#" {
            self.skip_group();
        }
        let mut is_use = false;
        loop {
            match self.peek(0) {
                "" | "}" => return,
                ";" | "," => {
                    self.at += 1;
                    return;
                }
                "use" => is_use = true,
                "{" | "(" | "[" => {
                    let is_block = self.peek(0) == "{" && !is_use;
                    self.skip_group();
                    if is_block {
                        return;
                    }
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Skips what stands in brackets, from before them.
    fn skip_group(&mut self) {
        let mut depth = 0;
        loop {
            match self.peek(0) {
                "" => return,
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            let is_end = depth == 0 && matches!(self.peek(0), "}" | ")" | "]");
            self.at += 1;
            if is_end {
                return;
            }
        }
    }
}
