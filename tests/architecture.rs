//! Fails when a room names what it must not: another room, a crate that is somebody else's, a clock or a file.
//! Never looks at tests, which may name anything.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room, and the rooms that it may name. Dependencies point down only.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    // What the operating system does for the host.
    ("system", &[]),
    ("expression", &["model"]),
    // Schemas come from agents, plans and models alike, and are checked under the same limits everywhere.
    ("json_schema", &[]),
    // The rules of a synthesis are pure, and deciding whether an answer keeps to them is deciding.
    ("engine", &["model", "expression", "json_schema", "synthesizer"]),
    ("config", &["model", "expression", "json_schema", "system"]),
    ("journal", &["model", "system"]),
    // A call that waits for a resource ends when an expression about its contents holds.
    ("mcp", &["model", "expression", "json_schema", "system"]),
    ("llm", &["model"]),
    ("human", &["model", "json_schema", "system"]),
    ("synthesizer", &["model", "expression"]),
    ("planner", &["model", "config", "llm"]),
    ("report", &["model", "synthesizer"]),
    (
        "runtime",
        &[
            "model",
            "expression",
            "engine",
            "config",
            "journal",
            "mcp",
            "llm",
            "human",
            "synthesizer",
            "report",
            "demo",
            "system",
        ],
    ),
    (
        "cli",
        &[
            "model",
            "expression",
            "engine",
            "config",
            "journal",
            "mcp",
            "llm",
            "human",
            "planner",
            "synthesizer",
            "report",
            "demo",
            "runtime",
            "system",
        ],
    ),
    ("demo", &[]),
    // The binary.
    ("main", &["cli"]),
];

/// What some files may name beyond that, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // They show what is in the journal, and read it themselves.
    ("report/jsonl", "journal"),
    ("report/history", "journal"),
    // The terminal is one: questions go where the run is shown, and under the same rules about agents' text.
    ("human", "report::screen"),
    ("human", "report::text"),
];

/// Crates that only some files may name.
const OWNED_CRATES: &[(&str, &[&str])] = &[
    ("rmcp", &["mcp", "demo"]),
    ("serde_yaml", &["config/plan_file"]),
    ("saphyr_parser", &["config/plan_file"]),
    ("async_openai", &["llm"]),
    ("rusqlite", &["journal"]),
    ("jsonschema", &["json_schema"]),
];

/// The rooms that have no clock, no chance, no files, no sockets and no threads.
const PURE: &[&str] = &["model", "expression", "json_schema", "engine", "synthesizer"];

/// What makes a room impure: the beginnings of paths.
const EFFECTS: &[&str] = &[
    "tokio",
    "rmcp",
    "rusqlite",
    "reqwest",
    "rand",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::io",
];

/// The same: names, wherever in a path they stand.
const CLOCKS_AND_DICE: &[&str] =
    &["SystemTime", "Instant", "new_v1", "new_v4", "new_v6", "new_v7", "now_v1", "now_v6", "now_v7"];

#[test]
fn every_room_names_only_what_it_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<_> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(&root).expect("below `src`").with_extension("");
            let name = name.to_str().expect("UTF-8").replace('\\', "/");
            (name, fs::read_to_string(file).expect("reads"))
        })
        .collect();
    assert!(sources.len() > 20, "the sources were not found in `{}`", root.display());
    let wrong = violations(&sources);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// What is wrong with the sources, given by name (`engine/run`, `journal/mod`) and text.
fn violations(sources: &[(String, String)]) -> Vec<String> {
    let parsed: Vec<_> = sources.iter().map(|(name, text)| (name.as_str(), Source::parse(name, text))).collect();
    let of_tests: BTreeSet<_> = parsed.iter().flat_map(|(_, source)| &source.test_modules).cloned().collect();
    let is_test = |source: &Source| (1..=source.module.len()).any(|end| of_tests.contains(&source.module[..end]));
    let mut wrong = BTreeSet::new();
    for (name, source) in parsed.iter().filter(|(name, source)| *name != "lib" && !is_test(source)) {
        for path in &source.paths {
            if let Err(reason) = check(name, &source.module[0], &path.segments) {
                wrong.insert(format!("src/{name}.rs:{}: {reason}", path.line));
            }
        }
    }
    wrong.into_iter().collect()
}

/// Whether the file `name` of `room` may name the path: `crate` stands before rooms, other crates for themselves.
fn check(name: &str, room: &str, path: &[String]) -> Result<(), String> {
    /// Whether `name` begins with `prefix` and goes on, if it does, with a part of its own.
    fn begins(name: &str, prefix: &str) -> bool {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    }
    let within = |prefix: &str| begins(name, prefix);
    let shown = path.join("::");
    let Some((_, may_name)) = ROOMS.iter().find(|(known, _)| *known == room) else {
        return Err(format!("the room `{room}` is not in the table of `tests/architecture.rs`"));
    };
    if let [krate, other, ..] = path
        && krate == "crate"
    {
        let known = ROOMS.iter().any(|(known, _)| known == other);
        let wanted = path[1..].join("::");
        let excepted = EXCEPTIONS.iter().any(|(files, exception)| within(files) && begins(&wanted, exception));
        let allowed = other == room || may_name.contains(&other.as_str()) || excepted;
        return if known && !allowed { Err(format!("`{room}` must not name `{shown}`")) } else { Ok(()) };
    }
    if let Some((krate, owners)) = OWNED_CRATES.iter().find(|(krate, _)| path[0] == *krate)
        && !owners.iter().any(|owner| within(owner))
    {
        return Err(format!("only {} may name `{krate}`", owners.join(", ")));
    }
    if PURE.contains(&room) {
        let effect = EFFECTS.iter().any(|effect| begins(&shown, effect));
        let clock = path.iter().any(|segment| CLOCKS_AND_DICE.contains(&segment.as_str()));
        if effect || clock {
            return Err(format!("`{room}` is pure and must not name `{shown}`"));
        }
    }
    Ok(())
}

/// What a file names, its tests left out.
struct Source {
    /// Its place in the crate: `["engine", "run"]`.
    module: Vec<String>,
    /// The modules below it that are there for tests alone.
    test_modules: Vec<Vec<String>>,
    paths: Vec<NamedPath>,
}

struct NamedPath {
    segments: Vec<String>,
    line: usize,
}

impl Source {
    fn parse(name: &str, text: &str) -> Self {
        let mut module: Vec<_> = name.split('/').map(str::to_owned).collect();
        if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let (tokens, tests) = without_tests(tokens(text));
        let test_modules = tests.into_iter().map(|test| [module.as_slice(), &[test]].concat()).collect();
        let mut paths = named_paths(&tokens);
        for path in &mut paths {
            path.segments = resolve(&path.segments, &module);
        }
        Self { module, test_modules, paths }
    }
}

/// The path from the root of the crate, where it begins with `crate`, `self`, `super` or the crate's own name.
fn resolve(path: &[String], module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|segment| *segment == "super").count();
    let (base, rest) = match path[0].as_str() {
        "crate" | "kapell" => (&[][..], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => (&module[..module.len().saturating_sub(ups)], &path[ups..]),
        _ => return path.to_vec(),
    };
    [&["crate".to_owned()], base, rest].concat()
}

/// An identifier or a piece of punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a Rust source, without comments, texts, characters, lifetimes and numbers.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut index, mut line) = (Vec::new(), 0, 1);
    while index < chars.len() {
        let start = index;
        match at(index) {
            '/' if at(index + 1) == '/' => index = end_of(&chars, index, |rest| rest[0] == '\n'),
            '/' if at(index + 1) == '*' => index = end_of_block_comment(&chars, index),
            '"' => index = end_of_text(&chars, index),
            // A lifetime has no quote after its one letter; a character has.
            '\'' if at(index + 1) != '\\' && at(index + 2) != '\'' => index += 1 + usize::from(word(at(index + 1))),
            '\'' => {
                index = end_of(&chars, index + if at(index + 1) == '\\' { 3 } else { 2 }, |rest| rest[0] == '\'') + 1
            }
            c if word(c) => {
                while word(at(index)) {
                    index += 1;
                }
                let name: String = chars[start..index].iter().collect();
                let hashes = chars[index..].iter().take_while(|c| **c == '#').count();
                if matches!(name.as_str(), "r" | "br" | "cr") && at(index + hashes) == '"' {
                    let close = |rest: &[char]| {
                        rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#')
                    };
                    index = end_of(&chars, index + hashes + 1, close) + 1 + hashes;
                } else if name == "r" && hashes == 1 {
                    index += 1;
                } else if !(name.starts_with(|c: char| c.is_ascii_digit())
                    || matches!(name.as_str(), "b" | "c") && matches!(at(index), '"' | '\''))
                {
                    found.push(Token { text: name, line });
                }
            }
            ':' if at(index + 1) == ':' => {
                found.push(Token { text: "::".to_owned(), line });
                index += 2;
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.to_string(), line });
                }
                index += 1;
            }
        }
        line += chars[start..index.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn end_of(chars: &[char], from: usize, is_end: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|index| is_end(&chars[*index..])).unwrap_or(chars.len())
}

fn end_of_block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut index) = (0, from);
    while index < chars.len() {
        match chars[index..] {
            ['/', '*', ..] => (depth, index) = (depth + 1, index + 2),
            ['*', '/', ..] => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn end_of_text(chars: &[char], from: usize) -> usize {
    let mut index = from + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// The tokens that are not behind `#[cfg(test)]`, and the modules that are and have a file of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules, mut index) = (Vec::new(), Vec::new(), 0);
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    while index < tokens.len() {
        let end = end_of_attribute(&tokens, index);
        let within: Vec<_> = (index..end).map(text).collect();
        if within.starts_with(&["#", "[", "cfg"]) && within.contains(&"test") && !within.contains(&"not") {
            let mut item = end;
            while end_of_attribute(&tokens, item) > item {
                item = end_of_attribute(&tokens, item);
            }
            index = end_of_item(&tokens, item);
            if let Some(module) = (item..index).find(|place| text(*place) == "mod")
                && text(module + 2) == ";"
            {
                modules.push(text(module + 1).to_owned());
            }
        } else {
            let end = end.max(index + 1);
            kept.extend_from_slice(&tokens[index..end]);
            index = end;
        }
    }
    (kept, modules)
}

/// Where the attribute that begins at `from` ends; `from` when none does.
fn end_of_attribute(tokens: &[Token], from: usize) -> usize {
    if tokens.get(from).is_none_or(|token| token.text != "#")
        || tokens.get(from + 1).is_none_or(|token| token.text != "[")
    {
        return from;
    }
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        match token.text.as_str() {
            "[" => depth += 1,
            "]" if depth == 1 => return index + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Where the item that begins at `from` ends: after its block, or after its semicolon.
fn end_of_item(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        let group = tokens.get(index + 1).is_some_and(|next| next.text == ";");
        if depth == 0 && (token.text == ";" || token.text == "}" && !group) {
            return index + 1;
        }
    }
    tokens.len()
}

/// Every path that is named, the groups of `use` spelled out.
fn named_paths(tokens: &[Token]) -> Vec<NamedPath> {
    let (mut paths, mut index) = (Vec::new(), 0);
    while index < tokens.len() {
        index = match tokens[index].is_name() {
            true => spell_out(tokens, index, &[], &mut paths),
            false => index + 1,
        };
    }
    paths
}

/// Adds the paths that begin at `from`, and says where they end.
fn spell_out(tokens: &[Token], from: usize, prefix: &[String], paths: &mut Vec<NamedPath>) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let (mut segments, mut index) = (prefix.to_vec(), from);
    loop {
        if text(index) == "{" && !segments.is_empty() {
            while !matches!(text(index), "}" | "") {
                // Past the brace or the comma before it, and afterwards past `as name`.
                index = spell_out(tokens, index + 1, &segments, paths);
                while !matches!(text(index), "," | "}" | "") {
                    index += 1;
                }
            }
            return index + 1;
        }
        if tokens.get(index).is_some_and(Token::is_name) {
            // In a group, `self` is the group's own path.
            if text(index) != "self" || segments.is_empty() {
                segments.push(text(index).to_owned());
            }
            index += 1;
        } else {
            // A star names what is before it; the end of a group, after its last comma, names nothing.
            match text(index) {
                "*" => index += 1,
                _ => return index,
            }
        }
        if text(index) != "::" || tokens.get(index + 1).is_none_or(|next| !next.is_name() && next.text != "{") {
            if !segments.is_empty() {
                paths.push(NamedPath { segments, line: tokens[from].line });
            }
            return index;
        }
        index += 1;
    }
}

#[test]
fn a_house_in_disorder_is_found_out() {
    let source = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let found = violations(&[
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
        source("config/lower", "use serde_yaml::Value;"),
        source("config/plan_file", "use serde_yaml::Value; use saphyr_parser::Parser;"),
        source("config/plan_file/marks", "use saphyr_parser::Parser;"),
        source("config/plan_filed", "use saphyr_parser::Parser;"),
        source("report/terminal", "use crate::{journal::Reader, model::Event};"),
        source("report/jsonl", "use crate::journal::Reader;"),
        source("human/mod", "fn a() { rusqlite::Connection::open(path) }"),
        source("human/policy", "use crate::report::{screen::*, plain::Plain, };"),
        source("cellar/mod", "use std::fs;"),
        source("main", "fn main() { kapell::cli::main(); kapell::runtime::run() }"),
    ]);
    let expected = [
        "src/cellar/mod.rs:1: the room `cellar` is not in the table of `tests/architecture.rs`",
        "src/config/lower.rs:1: only config/plan_file may name `serde_yaml`",
        "src/config/plan_filed.rs:1: only config/plan_file may name `saphyr_parser`",
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
        "src/human/mod.rs:1: only journal may name `rusqlite`",
        "src/human/policy.rs:1: `human` must not name `crate::report::plain::Plain`",
        "src/main.rs:1: `main` must not name `crate::runtime::run`",
        "src/report/terminal.rs:1: `report` must not name `crate::journal::Reader`",
    ];
    assert_eq!(found, expected);
}
