//! Every relative link in every document leads somewhere, and the book contains every page.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::markdown::{Document, documents, root};

#[test]
fn relative_links_lead_to_files_and_headings() {
    let mut problems = Vec::new();
    let mut checked = 0;
    for document in documents() {
        for link in document.links().iter().filter(|link| is_relative(link)) {
            checked += 1;
            if let Some(problem) = problem_of(&document, link) {
                problems.push(format!("{}: `{link}`: {problem}", document.path.display()));
            }
        }
    }
    assert!(checked > 50, "only {checked} links were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn is_relative(link: &str) -> bool {
    !["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme))
}

fn problem_of(document: &Document, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = match path {
        "" => document.path.clone(),
        path => match normalized(&document.path.with_file_name("").join(path)) {
            Some(target) => target,
            None => return Some("it leads out of the repository".to_owned()),
        },
    };
    if !root().join(&target).exists() {
        return Some("the file does not exist".to_owned());
    }
    if document.is_in_book() && !target.starts_with("docs") {
        return Some("a page of the book can only link to other pages; write the path as code".to_owned());
    }
    let anchor = anchor?;
    let anchors = Document::read(&target).anchors();
    (!anchors.contains(anchor)).then(|| format!("there is no such heading; there are {anchors:?}"))
}

/// Returns the path without `..`, or `None` if it leaves the root.
fn normalized(path: &Path) -> Option<PathBuf> {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir if !result.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir => return None,
        }
    }
    Some(result)
}

#[test]
fn book_contains_every_page_once() {
    let summary = Document::read(Path::new("docs/SUMMARY.md"));
    let links = summary.links();
    let listed: BTreeSet<PathBuf> = links.iter().map(|link| Path::new("docs").join(link)).collect();
    assert_eq!(listed.len(), links.len(), "a page is listed twice");
    let pages = documents().into_iter().map(|document| document.path).filter(|path| path.starts_with("docs"));
    let pages: BTreeSet<PathBuf> = pages.filter(|path| *path != summary.path).collect();
    assert_eq!(listed, pages);
}

#[test]
fn readme_is_short() {
    let lines = Document::read(Path::new("README.md")).text.lines().count();
    assert!(lines <= 150, "README.md has {lines} lines; move what exceeds 150 to `docs/`");
}
