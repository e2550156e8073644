//! Types in the sources, with their doc comments: what the pages about events, exit codes, and failures are made of.

use std::fs;
use std::path::Path;

use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

use crate::documents::markdown::root;

/// Returns the items of a source file.
pub(super) fn items_of(path: &str) -> Vec<Item> {
    let text = fs::read_to_string(root().join(path)).expect("a source file");
    syn::parse_file(&text).expect("Rust").items
}

/// Returns the enum with this name.
pub(super) fn enum_of(path: &str, name: &str) -> syn::ItemEnum {
    let found = items_of(path).into_iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == name => Some(item),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("`{path}` has no enum `{name}`"))
}

/// Returns the doc comment as one line, with names of items as plain code.
pub(super) fn doc_of(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ").replace("[`", "`").replace("`]", "`")
}

/// Returns the name in snake case, as serde writes variants.
pub(super) fn snake_case(name: &str) -> String {
    let mut result = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !result.is_empty() {
            result.push('_');
        }
        result.extend(c.to_lowercase());
    }
    result
}

/// Returns the paths of all source files below a folder, without those of tests.
pub(super) fn sources_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "tests" {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path.strip_prefix(root()).expect("below the root").display().to_string());
        }
    }
}
