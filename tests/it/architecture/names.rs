//! Fails when two types have one name, when a folder contains too many files to be read at a glance, or when a `mod.rs`
//! defines something.

use std::collections::BTreeMap;

use super::source::Sources;

/// Type names that may repeat, because their module is part of the name.
const COMMON_NAMES: &[&str] = &["Args", "Error", "Kind", "Options", "State"];

/// The largest number of source files in a folder.
const MAX_FILES: usize = 15;

#[test]
fn type_names_are_unique() {
    let duplicates = duplicate_types(Sources::of_product());
    assert!(duplicates.is_empty(), "\n{}", duplicates.join("\n"));
}

#[test]
fn folders_are_small() {
    let problems = large_folders(Sources::of_product());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn module_files_define_nothing() {
    let problems = module_definitions(Sources::of_product());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Returns a line for each `mod.rs` that defines an item.
fn module_definitions(sources: &Sources) -> Vec<String> {
    let modules = sources.files.iter().filter(|(file, _)| file.ends_with("/mod"));
    let first = modules.filter_map(|(file, source)| Some((file, source.first_definition?)));
    first.map(|(file, line)| format!("src/{file}.rs:{line}: move the definition to a file of its own")).collect()
}

/// Returns a line for each type name that is defined more than once.
fn duplicate_types(sources: &Sources) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (file, source) in &sources.files {
        for (name, line) in source.types.iter().filter(|(name, _)| !COMMON_NAMES.contains(&name.as_str())) {
            places.entry(name).or_default().push(format!("src/{file}.rs:{line}"));
        }
    }
    places.retain(|_, places| places.len() > 1);
    places.iter().map(|(name, places)| format!("`{name}` is defined more than once: {}", places.join(", "))).collect()
}

/// Returns a line for each folder that has too many files.
fn large_folders(sources: &Sources) -> Vec<String> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for file in sources.files.keys() {
        *sizes.entry(file.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    sizes.retain(|_, size| *size > MAX_FILES);
    let problem = |(folder, size)| format!("`src/{folder}` has {size} files: move some of them to subfolders");
    sizes.into_iter().map(problem).collect()
}

#[test]
fn duplicates_are_found_in_the_product_only() {
    let sources = Sources::parse([
        ("engine/mod", "#[cfg(test)] mod tests; pub struct Run; enum Error {} fn a() { struct Local; }"),
        ("engine/retry", "trait Run {}\nenum Error {}\n#[cfg(test)] mod samples { struct Local; }"),
        ("engine/tests", "struct Run;"),
        ("model/run", "// struct Run;\nenum Runs {} struct Local;"),
    ]);
    let expected = [
        "`Local` is defined more than once: src/engine/mod.rs:1, src/model/run.rs:2",
        "`Run` is defined more than once: src/engine/mod.rs:1, src/engine/retry.rs:1",
    ];
    assert_eq!(duplicate_types(&sources), expected);
}

#[test]
fn large_folders_are_found() {
    let files = |folder: &'static str, count: usize| (0..count).map(move |index| (format!("{folder}/f{index}"), ""));
    let sources = Sources::parse(files("a", 15).chain(files("b", 16)).chain(files("b/d", 17)));
    let expected = [
        "`src/b` has 16 files: move some of them to subfolders",
        "`src/b/d` has 17 files: move some of them to subfolders",
    ];
    assert_eq!(large_folders(&sources), expected);
}

#[test]
fn definitions_in_module_files_are_found() {
    let sources = Sources::parse([
        ("a/mod", "mod b;\npub use b::B;\nmacro_rules! m { () => {} }\n#[cfg(test)] fn test() {}"),
        ("a/b", "pub struct B;"),
        ("c/mod", "mod d;\n\n/// Is documented.\nfn c() {}"),
        ("e/f/mod", "const F: u8 = 0;"),
    ]);
    let expected = [
        "src/c/mod.rs:3: move the definition to a file of its own",
        "src/e/f/mod.rs:1: move the definition to a file of its own",
    ];
    assert_eq!(module_definitions(&sources), expected);
}
