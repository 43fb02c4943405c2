//! What a library shows, read from its sources.

#![allow(unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Fields, ImplItem, Item, ItemImpl, ItemStruct, Meta, Signature, Token, TraitItem,
    Type, UseTree, Visibility,
};

/// Where something is: the names of the modules above it.
type Place = Vec<String>;

/// The modules of a library, without what is not compiled in by default.
pub struct Library {
    modules: BTreeMap<Place, Vec<Item>>,
}

impl Library {
    /// From the texts of the files below `src/`, by name.
    pub fn read(sources: &BTreeMap<String, String>) -> Self {
        let mut library = Self {
            modules: BTreeMap::new(),
        };
        library.load(sources, "src/lib.rs", "src", Vec::new());
        library
    }

    /// Everything that is public, by its path.
    pub fn items(&self) -> BTreeMap<String, String> {
        let mut items = BTreeMap::new();
        self.list(&Vec::new(), "", &mut items);
        items
    }

    fn load(&mut self, sources: &BTreeMap<String, String>, file: &str, folder: &str, at: Place) {
        let text = sources.get(file).expect(file);
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.add(sources, parsed.items, folder, at);
    }

    fn add(
        &mut self,
        sources: &BTreeMap<String, String>,
        items: Vec<Item>,
        folder: &str,
        at: Place,
    ) {
        let mut kept = Vec::new();
        for mut item in items {
            if !is_active(attributes(&item)) {
                continue;
            }
            if let Item::Mod(module) = &mut item {
                let name = module.ident.to_string();
                let mut below = at.clone();
                below.push(name.clone());
                let folder = format!("{folder}/{name}");
                match module.content.take() {
                    Some((_, items)) => self.add(sources, items, &folder, below),
                    None => {
                        let (own, root) = (format!("{folder}.rs"), format!("{folder}/mod.rs"));
                        let file = if sources.contains_key(&own) {
                            own
                        } else {
                            root
                        };
                        self.load(sources, &file, &folder, below);
                    }
                }
            }
            kept.push(opened(item));
        }
        self.modules.insert(at, kept);
    }

    fn within(&self, at: &Place) -> &[Item] {
        self.modules.get(at).map_or(&[], Vec::as_slice)
    }

    /// Lists what is public in a module, whose public path is `prefix`.
    fn list(&self, at: &Place, prefix: &str, items: &mut BTreeMap<String, String>) {
        for item in self.within(at) {
            match item {
                Item::Mod(module) if is_public(&module.vis) => {
                    let mut below = at.clone();
                    below.push(module.ident.to_string());
                    let prefix = format!("{prefix}{}::", module.ident);
                    self.list(&below, &prefix, items);
                }
                Item::Use(import) if is_public(&import.vis) => {
                    for (path, name) in leaves(&import.tree) {
                        let defined = self.resolve(at, &path, 0);
                        let (place, item) =
                            defined.unwrap_or_else(|| panic!("{path:?} is nowhere"));
                        let name = format!("{prefix}{name}");
                        items.insert(name.clone(), self.describe(&place, item, &name));
                    }
                }
                _ => {
                    if let Some((name, vis)) = named(item)
                        && is_public(vis)
                    {
                        let name = format!("{prefix}{name}");
                        items.insert(name.clone(), self.describe(at, item, &name));
                    }
                }
            }
        }
    }

    /// The definition behind a path as it is written in a module.
    fn resolve(&self, at: &Place, path: &[String], depth: usize) -> Option<(Place, &Item)> {
        assert!(depth < 16, "{path:?} goes round");
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => return self.resolve(&Vec::new(), rest, depth + 1),
            "self" => return self.resolve(at, rest, depth + 1),
            "super" => {
                let (_, above) = at.split_last()?;
                return self.resolve(&above.to_vec(), rest, depth + 1);
            }
            _ => {}
        }
        let mut below = at.clone();
        below.push(first.clone());
        if !rest.is_empty() && self.modules.contains_key(&below) {
            return self.resolve(&below, rest, depth + 1);
        }
        let items = self.within(at);
        if rest.is_empty()
            && let Some(item) = items
                .iter()
                .find(|it| named(it).is_some_and(|(name, _)| name == *first))
        {
            return Some((at.clone(), item));
        }
        items.iter().find_map(|item| {
            let Item::Use(import) = item else { return None };
            let leaf = leaves(&import.tree)
                .into_iter()
                .find(|(_, name)| name == first)?;
            let mut path = leaf.0;
            path.extend_from_slice(rest);
            self.resolve(at, &path, depth + 1)
        })
    }

    /// An item and what is public of it, under the name that others use.
    fn describe(&self, at: &Place, item: &Item, name: &str) -> String {
        let mut lines = Vec::new();
        let short = name.rsplit("::").next().unwrap_or(name);
        let title = match item {
            Item::Struct(it) => {
                lines.extend(fields(&it.fields, short));
                format!("struct {name}{}", tidy(&it.generics))
            }
            Item::Enum(it) => {
                for variant in &it.variants {
                    let within = tidy(&variant.fields);
                    lines.push(format!("variant {short}::{}{within}", variant.ident));
                }
                format!("enum {name}{}", tidy(&it.generics))
            }
            Item::Trait(it) => {
                for item in &it.items {
                    if let TraitItem::Fn(method) = item {
                        let provided = method.default.as_ref().map_or("", |_| " { .. }");
                        lines.push(format!(
                            "{}{provided}",
                            function(&method.sig, &format!("{short}::{}", method.sig.ident))
                        ));
                    }
                }
                format!("trait {name}: {}", tidy(&it.supertraits))
            }
            Item::Fn(it) => function(&it.sig, name),
            Item::Const(it) => format!("const {name}: {}", tidy(&it.ty)),
            Item::Type(it) => format!("type {name} = {}", tidy(&it.ty)),
            _ => format!("item {name}"),
        };
        if let Some((own, _)) = named(item) {
            lines.extend(derived(attributes(item)).map(|it| format!("impl {it}")));
            for block in self.blocks(at, &own) {
                match &block.trait_ {
                    Some((_, path, _)) => lines.push(format!("impl {}", tidy(path))),
                    None => lines.extend(methods(block, short)),
                }
            }
        }
        lines.sort();
        lines.dedup();
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        format!("{title}\n{lines}")
    }

    /// The `impl` blocks of a type that is defined in `at`.
    fn blocks(&self, at: &Place, name: &str) -> Vec<&ItemImpl> {
        let mut blocks = Vec::new();
        for (place, items) in &self.modules {
            for item in items {
                if let Item::Impl(block) = item
                    && let Type::Path(of) = &*block.self_ty
                {
                    let path: Vec<_> = of
                        .path
                        .segments
                        .iter()
                        .map(|it| it.ident.to_string())
                        .collect();
                    if path.last().is_some_and(|last| last == name)
                        && self
                            .resolve(place, &path, 0)
                            .is_some_and(|(there, _)| there == *at)
                    {
                        blocks.push(block);
                    }
                }
            }
        }
        blocks
    }
}

/// Paths below `library` that a source imports or names.
pub fn used(source: &str, library: &str) -> BTreeSet<String> {
    let parsed = syn::parse_file(source).expect("Rust");
    let mut used = BTreeSet::new();
    for item in &parsed.items {
        if let Item::Use(import) = item {
            for (path, _) in leaves(&import.tree) {
                if let Some((first, rest)) = path.split_first()
                    && first == library
                {
                    used.insert(rest.join("::"));
                }
            }
        }
    }
    used
}

/// `schema!` makes a struct whose fields are the crate's own without `internals`.
fn opened(item: Item) -> Item {
    let Item::Macro(call) = &item else {
        return item;
    };
    if !call.mac.path.is_ident("schema") {
        return item;
    }
    let mut made: ItemStruct = call.mac.parse_body().expect("a struct in schema!");
    for field in &mut made.fields {
        field.vis = Visibility::Inherited;
    }
    Item::Struct(made)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn named(item: &Item) -> Option<(String, &Visibility)> {
    let (name, vis) = match item {
        Item::Const(it) => (&it.ident, &it.vis),
        Item::Enum(it) => (&it.ident, &it.vis),
        Item::Fn(it) => (&it.sig.ident, &it.vis),
        Item::Static(it) => (&it.ident, &it.vis),
        Item::Struct(it) => (&it.ident, &it.vis),
        Item::Trait(it) => (&it.ident, &it.vis),
        Item::Type(it) => (&it.ident, &it.vis),
        _ => return None,
    };
    Some((name.to_string(), vis))
}

const fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Whether something is compiled in with the default features, outside of tests.
fn is_active(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|it| it.path().is_ident("cfg"))
        .all(|it| holds(&it.parse_args().expect("a condition")))
}

fn holds(condition: &Meta) -> bool {
    let parts = |list: &syn::MetaList| {
        let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        parts.expect("conditions")
    };
    match condition {
        Meta::Path(path) => !path.is_ident("test"),
        Meta::NameValue(pair) => tidy(&pair.value) != "\"internals\"",
        Meta::List(list) if list.path.is_ident("not") => !parts(list).iter().all(holds),
        Meta::List(list) if list.path.is_ident("any") => parts(list).iter().any(holds),
        Meta::List(list) => parts(list).iter().all(holds),
    }
}

/// Names of what is derived.
fn derived(attributes: &[Attribute]) -> impl Iterator<Item = String> {
    let derives = attributes.iter().filter(|it| it.path().is_ident("derive"));
    derives.flat_map(|it| {
        let names = it.parse_args_with(Punctuated::<syn::Path, Token![,]>::parse_terminated);
        let names = names.expect("names of traits");
        names.iter().map(tidy).collect::<Vec<_>>()
    })
}

/// Public fields.
fn fields(fields: &Fields, of: &str) -> Vec<String> {
    let fields = fields.iter().enumerate();
    let fields = fields.filter(|(_, it)| is_public(&it.vis) && is_active(&it.attrs));
    fields
        .map(|(index, it)| {
            let name = it
                .ident
                .as_ref()
                .map_or_else(|| index.to_string(), ToString::to_string);
            format!("field {of}.{name}: {}", tidy(&it.ty))
        })
        .collect()
}

/// Public methods and constants of an `impl` block.
fn methods(block: &ItemImpl, of: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for item in &block.items {
        match item {
            ImplItem::Fn(it) if is_public(&it.vis) && is_active(&it.attrs) => {
                lines.push(function(&it.sig, &format!("{of}::{}", it.sig.ident)));
            }
            ImplItem::Const(it) if is_public(&it.vis) && is_active(&it.attrs) => {
                lines.push(format!("const {of}::{}: {}", it.ident, tidy(&it.ty)));
            }
            _ => {}
        }
    }
    lines
}

/// A signature under a path.
fn function(signature: &Signature, path: &str) -> String {
    let name = format!("fn {}", signature.ident);
    tidy(signature).replacen(&name, &format!("fn {path}"), 1)
}

/// All paths that an import names, with the name that each gets.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(it) => {
            let below = leaves(&it.tree).into_iter();
            let below = below.map(|(mut path, name)| {
                path.insert(0, it.ident.to_string());
                (path, name)
            });
            below.collect()
        }
        UseTree::Name(it) => vec![(vec![it.ident.to_string()], it.ident.to_string())],
        UseTree::Rename(it) => vec![(vec![it.ident.to_string()], it.rename.to_string())],
        UseTree::Group(it) => it.items.iter().flat_map(leaves).collect(),
        UseTree::Glob(_) => Vec::new(),
    }
}

/// Code on one line, spaced as people write it; without documentation.
fn tidy(code: &impl ToTokens) -> String {
    let mut tokens = code.to_token_stream().to_string();
    while let Some(start) = tokens.find("# [") {
        let end = tokens[start..]
            .find(']')
            .map_or(tokens.len(), |end| start + end + 1);
        tokens.replace_range(start..end, "");
    }
    let mut text = tokens.split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in [
        (" :: ", "::"),
        (" ::", "::"),
        (":: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" :", ":"),
        (" ;", ";"),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
        (" (", "("),
        ("& ", "&"),
        ("{ ", " { "),
        (", )", ")"),
        (",)", ")"),
        (", }", " }"),
    ] {
        text = text.replace(from, to);
    }
    text
}
