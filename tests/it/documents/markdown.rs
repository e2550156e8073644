//! Markdown files: their code blocks, their links, and the anchors of their headings.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Folders whose documents belong to others.
const SKIPPED: [&str; 5] = ["target", "node_modules", ".git", ".interop", "corpus"];

/// A Markdown file of the repository.
pub(super) struct Document {
    /// The path below the root of the repository.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A fenced code block.
#[derive(Debug, Clone)]
pub(super) struct CodeBlock {
    /// The first line of its contents, from 1.
    pub(super) line: usize,
    /// The language after the fence.
    pub(super) language: String,
    /// The comment before the block, such as `file: plan.yaml`.
    pub(super) comment: Option<String>,
    pub(super) text: String,
}

/// Returns the root of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all documents of the repository, by path.
pub(super) fn documents() -> Vec<Document> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    assert!(paths.len() > 15, "the documents were not found in `{}`", root().display());
    paths.into_iter().map(|path| Document::read(&path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED.contains(&name) {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path.strip_prefix(root()).expect("below the root").to_owned());
        }
    }
}

impl Document {
    /// Reads a document by its path below the root.
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path)).expect("a document");
        Self { path: path.to_owned(), text }
    }

    /// Returns whether the document is a page of the book.
    pub(super) fn is_in_book(&self) -> bool {
        self.path.starts_with("docs")
    }

    /// Returns the fenced code blocks, in order.
    pub(super) fn code_blocks(&self) -> Vec<CodeBlock> {
        let mut blocks: Vec<CodeBlock> = Vec::new();
        let (mut open, mut comment) = (false, None);
        for (index, line) in self.text.lines().enumerate() {
            let trimmed = line.trim_start();
            if let Some(language) = trimmed.strip_prefix("```") {
                open = !open;
                if open {
                    let language = language.trim().to_owned();
                    let (line, text) = (index + 2, String::new());
                    blocks.push(CodeBlock { line, language, comment: comment.take(), text });
                }
            } else if open {
                let block = blocks.last_mut().expect("an open block");
                block.text += line;
                block.text += "\n";
            } else if let Some(text) = trimmed.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
                comment = Some(text.to_owned());
            } else if !trimmed.is_empty() {
                comment = None;
            }
        }
        assert!(!open, "`{}` has a code block without an end", self.path.display());
        blocks
    }

    /// Returns the targets of the links and images.
    pub(super) fn links(&self) -> Vec<String> {
        let events = Parser::new_ext(&self.text, Options::ENABLE_TABLES);
        let target = |event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
            _ => None,
        };
        events.filter_map(target).collect()
    }

    /// Returns the anchors of the headings, as GitHub and mdBook derive them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let (mut anchors, mut counts) = (BTreeSet::new(), HashMap::<String, usize>::new());
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(&self.text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor_of(&heading.take().unwrap_or_default());
                    let count = counts.entry(anchor.clone()).or_default();
                    anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
                    *count += 1;
                }
                _ => {}
            }
        }
        anchors
    }
}

fn anchor_of(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ if c.is_alphanumeric() => Some(c),
        _ => None,
    };
    heading.to_lowercase().chars().filter_map(kept).collect()
}
