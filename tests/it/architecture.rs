//! Fails when a module names what it must not: another module, a crate of another module, a clock, or a file. Tests may
//! name anything, so code behind `#[cfg(test)]` is not checked.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemUse, Macro, Meta, Stmt, TraitItem, UseTree,
    punctuated::Punctuated,
    spanned::Spanned,
    token::Comma,
    visit::{self, Visit},
};

/// Each top-level module, and the modules that it may name. Dependencies point down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    // Wraps the operating system for the host.
    ("system", &[]),
    ("expression", &["model"]),
    // Schemas come from agents, plans and models, and are checked under the same limits everywhere.
    ("json_schema", &[]),
    ("engine", &["model", "expression", "json_schema"]),
    ("view", &["model", "expression", "engine"]),
    ("config", &["model", "expression", "json_schema", "system"]),
    ("journal", &["model", "system"]),
    // A call that waits for a resource ends when an expression about its contents holds.
    ("mcp", &["model", "expression", "json_schema", "system"]),
    ("llm", &["model", "system"]),
    ("planner", &["model", "config", "json_schema", "llm"]),
    // History and JSON lines show the contents of the journal, and read it themselves.
    ("ui", &["model", "engine", "view", "json_schema", "journal", "system"]),
    ("runtime", &["model", "expression", "engine", "view", "config", "journal", "mcp", "llm", "ui", "demo", "system"]),
    (
        "cli",
        &[
            "model",
            "expression",
            "engine",
            "view",
            "config",
            "journal",
            "mcp",
            "llm",
            "planner",
            "ui",
            "demo",
            "runtime",
            "system",
        ],
    ),
    ("demo", &[]),
    // The binary.
    ("main", &["cli"]),
];

/// Paths that some files may name in addition, each with its reason.
const ALLOWED_EXCEPTIONS: &[(&str, &str)] = &[
    // Its hashes differ between processes, but nothing depends on the order of such a map.
    ("model/ids", "foldhash::fast::RandomState"),
];

/// Crates that only some files may name.
const RESTRICTED_CRATES: &[(&str, &[&str])] = &[
    ("rmcp", &["mcp", "demo"]),
    ("serde_yaml", &["config/yaml"]),
    ("saphyr_parser", &["config/yaml"]),
    ("async_openai", &["llm"]),
    ("rusqlite", &["journal"]),
    ("jsonschema", &["json_schema"]),
];

/// The modules that have no clock, no randomness, no files, no sockets, and no threads.
const PURE_LAYERS: &[&str] = &["model", "expression", "json_schema", "engine", "view"];

/// The dependencies that a pure module may name: they read no clock, no randomness, no environment, and no file by
/// themselves. Every other dependency of `Cargo.toml` is impure.
const PURE_CRATES: &[&str] = &[
    "aho_corasick",
    "base64",
    "bytes",
    "foldhash",
    "futures",
    "indexmap",
    "jiff",
    "jsonschema",
    "minijinja",
    "petgraph",
    "pulldown_cmark",
    "serde",
    "serde_json",
    "sha2",
    "smallvec",
    "strsim",
    "thiserror",
    "url",
    "uuid",
];

/// The modules of the standard library that make a module impure.
const IMPURE_MODULES: &[&str] =
    &["std::env", "std::fs", "std::io", "std::net", "std::os", "std::process", "std::thread"];

/// Names that read a clock or randomness, wherever they occur in a path.
const IMPURE_NAMES: &[&str] = &[
    "DefaultHasher",
    "Instant",
    "RandomState",
    "SystemTime",
    "new_v1",
    "new_v4",
    "new_v6",
    "new_v7",
    "now",
    "now_v1",
    "now_v6",
    "now_v7",
];

#[test]
fn layers_use_only_allowed_dependencies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("src"));
    assert!(sources.len() > 20, "the sources were not found in `{}`", root.display());
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("reads");
    let problems = violations(&sources, &dependencies(&manifest));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Returns the sources below `root` by name (`engine/run`, `journal/mod`), in a stable order.
fn sources(root: &Path) -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    let named = files.iter().map(|file| {
        let name = file.strip_prefix(root).expect("below `src`").with_extension("");
        (name.to_str().expect("UTF-8").to_owned(), fs::read_to_string(file).expect("reads"))
    });
    named.collect()
}

/// Returns the names of all dependencies of the product, as code spells them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let tables = platforms.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    let names = std::iter::once(&manifest).chain(tables).filter_map(|table| table.get("dependencies")?.as_table());
    names.flat_map(toml::Table::keys).map(|name| name.replace('-', "_")).collect()
}

/// Returns every violation in the sources, sorted.
fn violations(sources: &[(String, String)], dependencies: &BTreeSet<String>) -> Vec<String> {
    let parsed: Vec<_> = sources.iter().map(|(name, text)| (name.as_str(), SourceFile::parse(name, text))).collect();
    let of_tests: BTreeSet<_> = parsed.iter().flat_map(|(_, source)| &source.test_modules).cloned().collect();
    let is_test = |source: &SourceFile| (1..=source.module.len()).any(|end| of_tests.contains(&source.module[..end]));
    let mut found = BTreeSet::new();
    for (name, source) in parsed.iter().filter(|(name, source)| *name != "lib" && !is_test(source)) {
        for (path, line) in &source.paths {
            if let Err(reason) = check_path(name, &source.module[0], path, dependencies) {
                found.insert(format!("src/{name}.rs:{line}: {reason}"));
            }
        }
    }
    found.into_iter().collect()
}

/// Checks whether the file `name` in the module `room` may name `path`, which starts with `crate` or the name of a
/// crate.
fn check_path(name: &str, room: &str, path: &[String], dependencies: &BTreeSet<String>) -> Result<(), String> {
    /// Returns whether `name` starts with the whole segments of `prefix`.
    fn starts_with(name: &str, prefix: &str) -> bool {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    }
    let shown = path.join("::");
    let target = shown.strip_prefix("crate::").unwrap_or(&shown);
    let is_exception =
        ALLOWED_EXCEPTIONS.iter().any(|(files, exception)| starts_with(name, files) && starts_with(target, exception));
    let Some((_, may_name)) = LAYERS.iter().find(|(known, _)| *known == room) else {
        return Err(format!("the room `{room}` is not in the table of `tests/it/architecture.rs`"));
    };
    if let [krate, other, ..] = path
        && krate == "crate"
    {
        let known = LAYERS.iter().any(|(known, _)| known == other);
        let allowed = other == room || may_name.contains(&other.as_str()) || is_exception;
        return if known && !allowed { Err(format!("`{room}` must not name `{shown}`")) } else { Ok(()) };
    }
    if let Some((krate, owners)) = RESTRICTED_CRATES.iter().find(|(krate, _)| path[0] == *krate)
        && !owners.iter().any(|owner| starts_with(name, owner))
    {
        return Err(format!("only {} may name `{krate}`", owners.join(", ")));
    }
    if PURE_LAYERS.contains(&room) {
        let is_impure_crate = dependencies.contains(&path[0]) && !PURE_CRATES.contains(&path[0].as_str());
        let is_impure_module = IMPURE_MODULES.iter().any(|module| starts_with(&shown, module));
        let is_impure_name = path.len() > 1 && path.iter().any(|segment| IMPURE_NAMES.contains(&segment.as_str()));
        if !is_exception && (is_impure_crate || is_impure_module || is_impure_name) {
            return Err(format!("`{room}` is pure and must not name `{shown}`"));
        }
    }
    Ok(())
}

/// The paths that a file names outside of its tests.
#[derive(Default)]
struct SourceFile {
    /// Its module in the crate: `["engine", "run"]`.
    module: Vec<String>,
    /// The child modules that exist for tests only.
    test_modules: Vec<Vec<String>>,
    /// Each path from the root of the crate or from another crate, and its line.
    paths: Vec<(Vec<String>, usize)>,
}

impl SourceFile {
    fn parse(name: &str, text: &str) -> Self {
        let mut module: Vec<_> = name.split('/').map(str::to_owned).collect();
        if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("src/{name}.rs: {error}"));
        let mut source = Self { module, ..Self::default() };
        source.visit_file(&file);
        source
    }

    /// Records a path, resolved from the root of the crate if it starts with `crate`, `self`, `super`, or `kapell`.
    fn record(&mut self, path: &[String], span: Span) {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let (base, rest) = match path[0].as_str() {
            "crate" | "kapell" => (&[][..], &path[1..]),
            "self" => (&self.module[..], &path[1..]),
            "super" => (&self.module[..self.module.len().saturating_sub(ups)], &path[ups..]),
            _ => return self.paths.push((path.to_vec(), span.start().line)),
        };
        self.paths.push(([&["crate".to_owned()], base, rest].concat(), span.start().line));
    }

    /// Records each path of a `use` tree.
    fn record_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let join = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.record_tree(&join(&path.ident), &path.tree),
            // In a group, `self` is the path of the group.
            UseTree::Name(name) if name.ident == "self" && !prefix.is_empty() => {
                self.record(prefix, name.ident.span());
            }
            UseTree::Name(name) => self.record(&join(&name.ident), name.ident.span()),
            UseTree::Rename(rename) if rename.ident == "self" => self.record(prefix, rename.ident.span()),
            UseTree::Rename(rename) => self.record(&join(&rename.ident), rename.ident.span()),
            UseTree::Glob(glob) if !prefix.is_empty() => self.record(prefix, glob.span()),
            UseTree::Glob(_) => {}
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.record_tree(prefix, tree)),
        }
    }

    /// Records the paths in the tokens of a macro call, which have no syntax tree.
    fn record_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut span, mut colons) = (Vec::new(), Span::call_site(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.record_path(&mut path, span);
                        span = name.span();
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.record_path(&mut path, span);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.record_tokens(group.stream());
                    }
                }
            }
        }
        self.record_path(&mut path, span);
    }

    fn record_path(&mut self, path: &mut Vec<String>, span: Span) {
        if !path.is_empty() {
            self.record(path, span);
            path.clear();
        }
    }
}

impl<'ast> Visit<'ast> for SourceFile {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes_of_item(item)) {
            visit::visit_item(self, item);
        } else if let Item::Mod(module) = item
            && module.content.is_none()
        {
            self.test_modules.push([self.module.as_slice(), &[module.ident.to_string()]].concat());
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_test(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Local(local) => &local.attrs[..],
            Stmt::Macro(call) => &call.attrs,
            Stmt::Item(_) | Stmt::Expr(..) => &[],
        };
        if !is_test(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.record_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.record(&segments, path.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.record_tokens(call.tokens.clone());
    }
}

fn attributes_of_item(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Returns whether one of the attributes removes what it belongs to from the product.
fn is_test(attributes: &[Attribute]) -> bool {
    fn requires_test(predicate: &Meta) -> bool {
        let nested = |list: &syn::MetaList| {
            list.parse_args_with(Punctuated::<Meta, Comma>::parse_terminated).unwrap_or_default().into_iter()
        };
        match predicate {
            Meta::Path(path) => path.is_ident("test"),
            Meta::List(list) if list.path.is_ident("all") => nested(list).any(|meta| requires_test(&meta)),
            Meta::List(list) if list.path.is_ident("any") => nested(list).all(|meta| requires_test(&meta)),
            Meta::List(_) | Meta::NameValue(_) => false,
        }
    }
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(|meta: Meta| requires_test(&meta))
    })
}

#[test]
fn violations_are_found_and_tests_are_not_checked() {
    let source = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let dependencies = ["rand", "rusqlite", "serde_yaml", "tokio", "uuid"].map(str::to_owned).into();
    let found = violations(
        &[
            source("lib", "pub mod engine; pub use crate::runtime::run;"),
            source(
                "engine/mod",
                "mod run;\n#[cfg(test)]\nmod tests;\n#[cfg(test)] use tokio::{time, sync};\n#[cfg(not(test))] use tokio::net;",
            ),
            source("engine/tests", "use crate::runtime::run; use std::time::Instant;"),
            source("engine/tests/more", "use tokio::time::sleep;"),
            source(
                "engine/run",
                r##"
            //! Comments may say tokio::spawn, crate::mcp and "std::fs".
            /* So may /* these */ std::fs::read */
            use crate::{model::{Event, Record}, journal::{self, Reader as R}, expression};
            use std::{fs as files, collections::HashMap, time::{Duration, Instant}};
            const A: &str = "tokio::spawn \" crate::mcp"; const B: &str = r#"rand::random "# ;
            const C: char = '"'; const D: u8 = b'\''; fn e<'a>(f: &'a str) -> &'a str { f }
            fn g() -> u64 { super::super::runtime::clock() + self::h() + ::std::env::args().len() }
            fn i() { tokio::spawn(async {}); let r#type = uuid::Uuid::now_v7(); items.iter().collect::<Vec<_>>(); }
            #[cfg(test)]
            mod tests { use tokio::time; fn t() { if true { crate::cli::main(); } } }
            fn j() { std::process::exit(1) }
            "##,
            ),
            source("config/validate", "use serde_yaml::Value;"),
            source("config/yaml", "use serde_yaml::Value; use saphyr_parser::Parser;"),
            source("config/yaml/marks", "use saphyr_parser::Parser;"),
            source("config/yamls", "use saphyr_parser::Parser;"),
            source("view/terminal", "use crate::{journal::Reader, model::Event};"),
            source("ui/reporters/json_lines", "use crate::journal::Reader;"),
            source("ui/human/mod", "fn a() { rusqlite::Connection::open(path) }"),
            source("ui/human/policy", "use crate::{ui::terminal::*, mcp::Pool, };"),
            source("cellar/mod", "use std::fs;"),
            source("main", "fn main() { kapell::cli::main(); kapell::runtime::run() }"),
        ],
        &dependencies,
    );
    let expected = [
        "src/cellar/mod.rs:1: the room `cellar` is not in the table of `tests/it/architecture.rs`",
        "src/config/validate.rs:1: only config/yaml may name `serde_yaml`",
        "src/config/yamls.rs:1: only config/yaml may name `saphyr_parser`",
        "src/engine/mod.rs:5: `engine` is pure and must not name `tokio::net`",
        "src/engine/run.rs:12: `engine` is pure and must not name `std::process::exit`",
        "src/engine/run.rs:4: `engine` must not name `crate::journal::Reader`",
        "src/engine/run.rs:4: `engine` must not name `crate::journal`",
        "src/engine/run.rs:5: `engine` is pure and must not name `std::fs`",
        "src/engine/run.rs:5: `engine` is pure and must not name `std::time::Instant`",
        "src/engine/run.rs:8: `engine` is pure and must not name `std::env::args`",
        "src/engine/run.rs:8: `engine` must not name `crate::runtime::clock`",
        "src/engine/run.rs:9: `engine` is pure and must not name `tokio::spawn`",
        "src/engine/run.rs:9: `engine` is pure and must not name `uuid::Uuid::now_v7`",
        "src/main.rs:1: `main` must not name `crate::runtime::run`",
        "src/ui/human/mod.rs:1: only journal may name `rusqlite`",
        "src/ui/human/policy.rs:1: `ui` must not name `crate::mcp::Pool`",
        "src/view/terminal.rs:1: `view` must not name `crate::journal::Reader`",
    ];
    assert_eq!(found, expected);
}
