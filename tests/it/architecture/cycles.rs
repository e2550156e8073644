//! Fails when files or subfolders of one folder import each other in a cycle.
//!
//! The nodes of a folder are its files and subfolders; `mod.rs` is one only for what it defines itself, so a name that it
//! re-exports counts for the file that defines it. Method calls are not imports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use petgraph::algo::{greedy_feedback_arc_set, is_cyclic_directed, tarjan_scc};
use petgraph::graphmap::DiGraphMap;
use petgraph::stable_graph::StableDiGraph;
use petgraph::visit::EdgeRef as _;

use super::source::{NamedPath, PathKind, SourceFile, Sources};

/// The number of places that are listed for an import.
const MAX_PLACES: usize = 4;

/// The longest chain of re-exports that is followed.
const MAX_REEXPORTS: usize = 16;

/// The imports between two children of a folder: each place, with what it names.
type Places = BTreeSet<(String, usize, String)>;

/// The imports between the children of a folder, by the importing and the imported child.
type FolderImports = BTreeMap<(String, String), Places>;

#[test]
fn imports_have_no_cycles() {
    let problems = cycles(&imports(Sources::of_product()));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Returns the imports of each folder.
fn imports(sources: &Sources) -> BTreeMap<String, FolderImports> {
    let modules: BTreeMap<&[String], &SourceFile> =
        sources.files.values().map(|source| (module_of(source), source)).collect();
    let mut folders: BTreeMap<String, FolderImports> = BTreeMap::new();
    for (file, source) in &sources.files {
        let from = module_of(source);
        let is_folder = modules.keys().any(|other| other.len() > from.len() && other.starts_with(from));
        for path in source.paths.iter().filter(|path| !(is_folder && path.kind == PathKind::Reexport)) {
            let Some(to) = target(&modules, from, path) else { continue };
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            let child = |module: &[String]| module.get(shared).map_or("mod", String::as_str).to_owned();
            if from != to {
                let place = (format!("src/{file}.rs"), path.line, path.segments.join("::"));
                let folder = folders.entry(from[..shared].join("/")).or_default();
                folder.entry((child(from), child(&to))).or_default().insert(place);
            }
        }
    }
    folders
}

/// Returns the module of a file; that of `lib.rs` is the root.
fn module_of(source: &SourceFile) -> &[String] {
    if source.module == ["lib"] { &[] } else { &source.module }
}

/// Returns the module whose file defines what `path` names, if it is part of this crate.
fn target(modules: &BTreeMap<&[String], &SourceFile>, from: &[String], path: &NamedPath) -> Option<Vec<String>> {
    let target = resolve(modules, from, &path.segments, 0)?;
    if path.kind != PathKind::Code {
        return Some(target);
    }
    // A single name is a local one or imported, and other paths in code mostly repeat what an import says.
    let is_imported = modules[from].imports.contains_key(&path.segments[0]);
    let repeats = is_imported && resolve(modules, from, &path.segments[..1], 0).as_ref() == Some(&target);
    (path.segments.len() > 1 && !repeats).then_some(target)
}

/// Returns the module whose file defines what `path` names in the module `from`.
fn resolve(
    modules: &BTreeMap<&[String], &SourceFile>,
    from: &[String],
    path: &[String],
    depth: usize,
) -> Option<Vec<String>> {
    if depth > MAX_REEXPORTS {
        return None;
    }
    let (mut module, mut rest) = match path.split_first()? {
        (first, rest) if first == "crate" => (Vec::new(), rest),
        _ => (from.to_vec(), path),
    };
    let is_relative = rest.len() == path.len();
    while let Some((name, after)) = rest.split_first() {
        let child = [module.as_slice(), std::slice::from_ref(name)].concat();
        let source = modules.get(module.as_slice())?;
        if modules.contains_key(child.as_slice()) {
            (module, rest) = (child, after);
        } else if let Some(import) = source.imports.get(name).filter(|import| *import != path) {
            return resolve(modules, &module, &[import, after].concat(), depth + 1);
        } else {
            let globs = source.globs.iter().filter(|_| !is_relative || module != from);
            let mut found = globs.filter_map(|glob| {
                let origin = resolve(modules, &module, glob, depth + 1)?;
                let defines = modules.get(origin.as_slice())?;
                let named = [&["crate".to_owned()], origin.as_slice(), rest].concat();
                let is_there =
                    defines.imports.contains_key(name) || defines.types.iter().any(|(known, _)| known == name);
                if is_there { resolve(modules, &origin, &named, depth + 1) } else { None }
            });
            return found.next().or((!is_relative || module != from).then_some(module.clone()));
        }
    }
    Some(module)
}

/// Returns a description of each set of children that import each other.
fn cycles(folders: &BTreeMap<String, FolderImports>) -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, imports) in folders {
        let graph = DiGraphMap::from_edges(imports.keys().map(|(from, to)| (from.as_str(), to.as_str())));
        for component in tarjan_scc(&graph).into_iter().filter(|component| component.len() > 1) {
            problems.push(describe_component(folders, folder, (&graph, component)));
        }
    }
    problems
}

/// Describes a set of children that import each other: a shortest cycle, and imports whose removal breaks all cycles.
fn describe_component(
    folders: &BTreeMap<String, FolderImports>,
    folder: &str,
    (graph, mut component): (&DiGraphMap<&str, ()>, Vec<&str>),
) -> String {
    component.sort_unstable();
    let mut text = format!("src/{folder}: {} children import each other: {}", component.len(), component.join(", "));
    text += "\n  a shortest cycle:";
    for pair in minimal_cycle(graph, &component).windows(2) {
        let _ = write!(text, "\n    {}", describe_import(folders, folder, (pair[0], pair[1])));
    }
    text += "\n  all cycles of these children are broken without:";
    for pair in breaking_imports(&folders[folder], &component) {
        let _ = write!(text, "\n    {}", describe_import(folders, folder, pair));
    }
    text
}

fn describe_import(folders: &BTreeMap<String, FolderImports>, folder: &str, (from, to): (&str, &str)) -> String {
    let places = folders.get(folder).and_then(|imports| imports.get(&(from.to_owned(), to.to_owned())));
    let lines = places.into_iter().flatten().map(|(file, line, path)| format!("{file}:{line} `{path}`"));
    let shown: Vec<_> = lines.take(MAX_PLACES).collect();
    let hidden = places.map_or(0, Places::len) - shown.len();
    let more = if hidden > 0 { format!(", and {hidden} more") } else { String::new() };
    format!("src/{folder}: `{from}` imports `{to}`: {}{more}", shown.join(", "))
}

/// Returns the children of a shortest cycle; the first one is also the last.
fn minimal_cycle<'a>(graph: &DiGraphMap<&'a str, ()>, component: &[&'a str]) -> Vec<&'a str> {
    let cycle_from = |start: &'a str| {
        let mut previous: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in graph.neighbors(node) {
                if next == start {
                    let mut cycle = vec![start, node];
                    while cycle[cycle.len() - 1] != start {
                        cycle.push(previous[cycle[cycle.len() - 1]]);
                    }
                    cycle.reverse();
                    return cycle;
                }
                if !previous.contains_key(next) {
                    previous.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        unreachable!("each child of a component is part of a cycle")
    };
    component.iter().map(|start| cycle_from(start)).min_by_key(Vec::len).expect("a component has children")
}

/// Returns a small set of imports without which the children have no cycle.
fn breaking_imports<'a>(imports: &'a FolderImports, component: &[&str]) -> Vec<(&'a str, &'a str)> {
    let inner = imports.keys().filter(|(from, to)| [from, to].iter().all(|name| component.contains(&name.as_str())));
    let edges: Vec<(&str, &str)> = inner.map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let mut indexed: StableDiGraph<&str, ()> = StableDiGraph::new();
    let nodes: BTreeMap<&str, _> = component.iter().map(|name| (*name, indexed.add_node(name))).collect();
    for (from, to) in &edges {
        indexed.add_edge(nodes[from], nodes[to], ());
    }
    let name =
        |index| edges.iter().flat_map(|(from, to)| [*from, *to]).find(|name| nodes[name] == index).expect("known");
    let mut removed: Vec<_> =
        greedy_feedback_arc_set(&indexed).map(|edge| (name(edge.source()), name(edge.target()))).collect();
    // Keeps what need not be removed, beginning with the imports of most places.
    let count = |pair: &(&str, &str)| imports[&(pair.0.to_owned(), pair.1.to_owned())].len();
    removed.sort_by_key(|pair| std::cmp::Reverse(count(pair)));
    for pair in removed.clone() {
        let others: Vec<_> = removed.iter().copied().filter(|other| *other != pair).collect();
        let remaining = edges.iter().copied().filter(|edge| !others.contains(edge));
        if !is_cyclic_directed(&DiGraphMap::<&str, ()>::from_edges(remaining)) {
            removed = others;
        }
    }
    removed
}

#[test]
fn cycles_are_found_through_reexports() {
    let sources = Sources::parse([
        ("lib", "pub mod engine; pub mod model;"),
        ("model/mod", "mod ids; pub use ids::Id;"),
        ("model/ids", "pub struct Id;"),
        (
            "engine/mod",
            "mod run; mod decide; mod routes; mod shared; #[cfg(test)] mod tests;\n\
             pub use decide::{Step, decide}; use run::*; pub fn helper() {}",
        ),
        ("engine/run", "use crate::model::Id;\nuse super::{Step as Next, helper};\npub struct Run;"),
        ("engine/decide", "use super::routes;\nfn a(x: routes::Route) {}\npub struct Step; pub fn decide() {}"),
        ("engine/routes/mod", "mod table; pub use table::Route;"),
        ("engine/routes/table", "use crate::engine::shared::S;\nfn b() { vec![super::super::run::Run] }"),
        ("engine/shared", "#[cfg(test)] use super::run::Run;\n#[serde(with = \"super::shared::x\")] pub struct S;"),
        ("engine/tests", "use super::run::Run;"),
    ]);
    let folders = imports(&sources);
    let pairs =
        |folder: &str| -> Vec<String> { folders[folder].keys().map(|(from, to)| format!("{from} -> {to}")).collect() };
    assert_eq!(pairs(""), ["engine -> model"]);
    let expected =
        ["decide -> routes", "mod -> run", "routes -> run", "routes -> shared", "run -> decide", "run -> mod"];
    assert_eq!(pairs("engine"), expected);
    assert!(!folders.contains_key("engine/routes"));
    let found = cycles(&folders);
    insta::assert_snapshot!(found.join("\n"), @r#"
    src/engine: 4 children import each other: decide, mod, routes, run
      a shortest cycle:
        src/engine: `mod` imports `run`: src/engine/mod.rs:2 `run`
        src/engine: `run` imports `mod`: src/engine/run.rs:2 `crate::engine::helper`
      all cycles of these children are broken without:
        src/engine: `mod` imports `run`: src/engine/mod.rs:2 `run`
        src/engine: `routes` imports `run`: src/engine/routes/table.rs:2 `crate::engine::run::Run`
    "#);
}
