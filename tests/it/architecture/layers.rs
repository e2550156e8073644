//! Fails when a module names what it must not: another module, a crate of another module, a clock, or a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::source::{NamedPath, PathKind, Sources};

/// Each top-level module, and the modules that it may name. Dependencies point down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    // Wraps the operating system for the host.
    ("system", &[]),
    ("expression", &["model"]),
    // Schemas come from agents, plans and models, and are checked under the same limits everywhere.
    ("json_schema", &["model"]),
    ("engine", &["model", "expression", "json_schema"]),
    ("view", &["model", "expression", "engine"]),
    ("config", &["model", "expression", "json_schema", "system"]),
    ("journal", &["model", "system"]),
    // A call that waits for a resource ends when an expression about its contents holds.
    ("mcp", &["model", "expression", "json_schema", "system"]),
    // References within the schemas of tools are resolved, because not every endpoint does it.
    ("llm", &["model", "json_schema", "system"]),
    ("planner", &["model", "config", "json_schema", "llm"]),
    // History and JSON lines show the contents of the journal, and read it themselves.
    ("ui", &["model", "engine", "view", "json_schema", "journal", "system"]),
    ("runtime", BELOW_CLI),
    // The pages show what the commands show, and cancel runs that no process drives.
    ("serve", BELOW_CLI),
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
            "serve",
            "system",
        ],
    ),
    ("demo", &[]),
    // The binary.
    ("main", &["cli"]),
];

/// The rooms that `runtime` and `serve` may name.
const BELOW_CLI: &[&str] = &[
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
];

/// Paths that some files may name in addition, each with its reason.
const ALLOWED_EXCEPTIONS: &[(&str, &str)] = &[
    // Its hashes differ between processes, but nothing depends on the order of such a map.
    ("model/ids", "foldhash::fast::RandomState"),
    // A deep graph needs a deep stack; nothing is shared, and the caller waits for the result.
    ("view/drawing/layout", "std::thread::scope"),
    ("view/drawing/layout", "std::thread::Builder::new"),
];

/// Crates that only some files may name.
const RESTRICTED_CRATES: &[(&str, &[&str])] = &[
    ("rmcp", &["mcp", "demo"]),
    ("serde_yaml", &["config/yaml"]),
    ("saphyr_parser", &["config/yaml"]),
    ("async_openai", &["llm"]),
    ("rusqlite", &["journal/sqlite"]),
    ("jsonschema", &["json_schema"]),
    ("rust_sugiyama", &["view/drawing/layout"]),
    ("croner", &["model/plans/schedule"]),
    ("opentelemetry", &["ui/reporters/otlp"]),
    ("opentelemetry_otlp", &["ui/reporters/otlp"]),
    ("opentelemetry_sdk", &["ui/reporters/otlp"]),
];

/// Prefixes of names that only some files may use, so that another database can stand behind the traits of the journal.
const RESTRICTED_PREFIXES: &[(&str, &[&str])] =
    &[("Sqlite", &["journal/sqlite", "journal/open"]), ("sqlite", &["journal/sqlite", "journal/open"])];

/// The modules that have no clock, no randomness, no files, no sockets, and no threads.
const PURE_LAYERS: &[&str] = &["model", "expression", "json_schema", "engine", "view"];

/// The dependencies that a pure module may name: they read no clock, no randomness, no environment, and no file by
/// themselves. Every other dependency of `Cargo.toml` is impure.
const PURE_CRATES: &[&str] = &[
    "aho_corasick",
    "base64",
    "bytes",
    "croner",
    "foldhash",
    "futures",
    "indexmap",
    "jiff",
    "jsonschema",
    "minijinja",
    "parking_lot",
    "percent_encoding",
    "petgraph",
    "pulldown_cmark",
    "rust_sugiyama",
    "serde",
    "serde_json",
    "sha2",
    "smallvec",
    "strsim",
    "strum",
    "thiserror",
    "unicode_width",
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
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("reads");
    let problems = violations(Sources::of_product(), &dependencies(&manifest));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
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
fn violations(sources: &Sources, dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (name, source) in sources.files.iter().filter(|(name, _)| *name != "lib") {
        for path in &source.paths {
            if let Err(reason) = check_path(name, &source.module[0], path, dependencies) {
                found.insert(format!("src/{name}.rs:{}: {reason}", path.line));
            }
        }
    }
    found.into_iter().collect()
}

/// Checks whether the file `name` in the module `room` may name `path`, which starts with `crate` or the name of a
/// crate.
fn check_path(name: &str, room: &str, path: &NamedPath, dependencies: &BTreeSet<String>) -> Result<(), String> {
    /// Returns whether `name` starts with the whole segments of `prefix`.
    fn starts_with(name: &str, prefix: &str) -> bool {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    }
    let (kind, path) = (path.kind, &path.segments[..]);
    let shown = path.join("::");
    let target = shown.strip_prefix("crate::").unwrap_or(&shown);
    let is_exception =
        ALLOWED_EXCEPTIONS.iter().any(|(files, exception)| starts_with(name, files) && starts_with(target, exception));
    if let Some((prefix, owners)) =
        RESTRICTED_PREFIXES.iter().find(|(prefix, _)| path.iter().any(|segment| segment.starts_with(prefix)))
        && !owners.iter().any(|owner| starts_with(name, owner))
    {
        return Err(format!("only {} may name `{prefix}…`, as `{shown}` does", owners.join(", ")));
    }
    let Some((_, may_name)) = LAYERS.iter().find(|(known, _)| *known == room) else {
        return Err(format!("the room `{room}` is not in the table of `tests/it/architecture/layers.rs`"));
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
        // A single name in code is a local one, or its import is checked.
        let is_local = kind == PathKind::Code && path.len() == 1;
        let is_impure_crate = !is_local && dependencies.contains(&path[0]) && !PURE_CRATES.contains(&path[0].as_str());
        let is_impure_module = IMPURE_MODULES.iter().any(|module| starts_with(&shown, module));
        let is_impure_name = path.len() > 1 && path.iter().any(|segment| IMPURE_NAMES.contains(&segment.as_str()));
        if !is_exception && (is_impure_crate || is_impure_module || is_impure_name) {
            return Err(format!("`{room}` is pure and must not name `{shown}`"));
        }
    }
    Ok(())
}

#[test]
fn violations_are_found_and_tests_are_not_checked() {
    let dependencies = ["rand", "rusqlite", "serde_yaml", "tokio", "uuid"].map(str::to_owned).into();
    let found = violations(
        &Sources::parse([
            ("lib", "pub mod engine; #[cfg(any(test, fuzzing))] pub mod fuzzing; pub use crate::runtime::run;"),
            ("fuzzing", "use std::fs;"),
            (
                "engine/mod",
                "mod run;\n#[cfg(test)]\nmod tests;\n#[cfg(test)] use tokio::{time, sync};\n#[cfg(not(test))] use tokio::net;",
            ),
            ("engine/tests", "use crate::runtime::run; use std::time::Instant;"),
            ("engine/tests/more", "use tokio::time::sleep;"),
            (
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
            ("config/validate", "use serde_yaml::Value;"),
            ("config/yaml", "use serde_yaml::Value; use saphyr_parser::Parser;"),
            ("config/yaml/marks", "use saphyr_parser::Parser;"),
            ("config/yamls", "use saphyr_parser::Parser;"),
            ("view/terminal", "use crate::{journal::Reader, model::Event};"),
            ("ui/reporters/json_lines", "use crate::journal::Reader;"),
            ("ui/human/mod", "fn a() { rusqlite::Connection::open(path) }"),
            ("journal/open", "mod sqlite; pub fn store() { sqlite::SqliteStore::new() }"),
            ("journal/memory", "use super::sqlite::schema;\nuse rusqlite::Connection;"),
            ("journal/sqlite/reader", "use rusqlite::Connection; use super::SqliteStore;"),
            ("cli/run", "fn a() { open::<SqliteStore>(path) }"),
            ("ui/human/policy", "use crate::{ui::terminal::*, mcp::Pool, };"),
            ("cellar/mod", "use std::fs;"),
            ("main", "fn main() { kapell::cli::main(); kapell::runtime::run() }"),
        ]),
        &dependencies,
    );
    let expected = [
        "src/cellar/mod.rs:1: the room `cellar` is not in the table of `tests/it/architecture/layers.rs`",
        "src/cli/run.rs:1: only journal/sqlite, journal/open may name `Sqlite…`, as `SqliteStore` does",
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
        "src/journal/memory.rs:1: only journal/sqlite, journal/open may name `sqlite…`, as `crate::journal::sqlite::schema` does",
        "src/journal/memory.rs:2: only journal/sqlite may name `rusqlite`",
        "src/main.rs:1: `main` must not name `crate::runtime::run`",
        "src/ui/human/mod.rs:1: only journal/sqlite may name `rusqlite`",
        "src/ui/human/policy.rs:1: `ui` must not name `crate::mcp::Pool`",
        "src/view/terminal.rs:1: `view` must not name `crate::journal::Reader`",
    ];
    assert_eq!(found, expected);
}
