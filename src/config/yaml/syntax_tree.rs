//! YAML as it is written, with comments, anchors, and styles, for the formatter.

/// A document as it is written.
#[derive(Debug, Default)]
pub(crate) struct SyntaxDocument {
    /// The directives before the start marker, such as `%YAML 1.2`.
    pub(crate) directives: Vec<String>,
    /// True if the document starts with `---`.
    pub(crate) has_start_marker: bool,
    /// The root; `None` for an empty document.
    pub(crate) root: Option<SyntaxNode>,
    /// The comments and blank lines after the last value.
    pub(crate) end: Vec<TriviaLine>,
}

/// A value with its anchor and tag.
#[derive(Debug, Clone)]
pub(crate) struct SyntaxNode {
    /// The anchor and the tag, as they are written.
    pub(crate) properties: Vec<String>,
    pub(crate) kind: SyntaxKind,
}

impl SyntaxNode {
    /// Returns whether it is a list or map without brackets that has entries.
    pub(super) fn is_open_block(&self) -> bool {
        match &self.kind {
            SyntaxKind::Map { entries, is_flow } | SyntaxKind::List { entries, is_flow } => {
                !is_flow && !entries.is_empty()
            }
            SyntaxKind::Empty | SyntaxKind::Scalar(_) | SyntaxKind::Block { .. } => false,
        }
    }
}

/// The kind of a value.
#[derive(Debug, Clone)]
pub(crate) enum SyntaxKind {
    /// No text: null.
    Empty,
    /// A plain or quoted text, or an alias, in one line or more.
    Scalar(String),
    /// A block text: its header, and its lines without their indentation.
    Block { header: String, lines: Vec<String> },
    /// A map; a flow map is in braces.
    Map { entries: Vec<SyntaxEntry>, is_flow: bool },
    /// A list; a flow list is in brackets. The keys of its entries are absent.
    List { entries: Vec<SyntaxEntry>, is_flow: bool },
}

/// An entry of a map, or an element of a list.
#[derive(Debug, Clone)]
pub(crate) struct SyntaxEntry {
    /// The comments and blank lines before it.
    pub(crate) before: Vec<TriviaLine>,
    /// The comment at the end of its first line, with its column.
    pub(crate) trailing: Option<(usize, String)>,
    /// The key of a map's entry, as it is written.
    pub(crate) key: Option<String>,
    pub(crate) value: SyntaxNode,
}

/// A comment on a line of its own, or a blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TriviaLine {
    Blank,
    /// A comment, and how many columns it is indented more than what follows.
    Comment(usize, String),
}
