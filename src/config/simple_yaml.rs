//! Reads the YAML that plans are mostly written in, in one pass and without a copy of any text.
//! Never guesses: what takes more than a look to be sure of, mistakes included, it leaves to `plan_file`.
//!
//! That is blocks, flows, texts of one line, literal texts (`|`) and comments, without tabs. What it gives is exactly
//! what `plan_file` makes of the same file, places included; tests hold the two against each other.

mod flow;
mod text;

use indexmap::map;

use self::text::{Scalar, Within};
use super::{
    plan_file::MAX_DEPTH,
    source::Extent,
    tree::{Entry, Map, Node, Tree},
};

/// Longest key, in bytes. YAML itself ends keys at 1024 characters.
const MAX_KEY: usize = 1_000;

/// The value of a file, if it is as simple as that and has no mistake.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    let is_odd = |byte: u8| byte < b' ' && byte != b'\n';
    if text.bytes().fold(false, |odd, byte| odd | is_odd(byte)) || text.contains('\u{feff}') {
        return None;
    }
    let mut reader = Reader { text, at: 0, line: 0, depth: 0 };
    reader.skip_to_content()?;
    let root = reader.block(None)?;
    reader.peek().is_none().then_some(root)
}

/// Reads on from a place in the text. Each method that gives nothing has come upon what is not simple.
struct Reader<'s> {
    text: &'s str,
    at: usize,
    /// Where the current line starts.
    line: usize,
    /// How many lists and maps are open.
    depth: usize,
}

/// The column of the list or map around a value; none around the file's own.
type Around = Option<usize>;

impl<'s> Reader<'s> {
    fn peek(&self) -> Option<u8> {
        self.byte(self.at)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn column(&self) -> usize {
        self.at - self.line
    }

    /// Whether a sign at `at` stands apart from what follows.
    fn ends_at(&self, at: usize) -> bool {
        matches!(self.byte(at), None | Some(b' ' | b'\n'))
    }

    fn is_dash(&self) -> bool {
        self.peek() == Some(b'-') && self.ends_at(self.at + 1)
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// Passes spaces and a comment. By the other reader, they are a part of what is quoted or in brackets before them.
    fn trail(&mut self) -> Option<()> {
        let start = self.at;
        self.skip_spaces();
        if self.peek() == Some(b'#') {
            if self.at == start {
                return None;
            }
            self.skip_comment();
        }
        Some(())
    }

    fn skip_comment(&mut self) {
        self.at += self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at);
    }

    fn line_ends(&self) -> bool {
        matches!(self.peek(), None | Some(b'\n'))
    }

    /// Passes the rest of a line that holds nothing more, and further such lines.
    fn end_line(&mut self) -> Option<()> {
        self.trail()?;
        if self.line_ends() { self.skip_to_content() } else { None }
    }

    /// Passes lines until one holds something, and goes to where that starts; to the end where none does.
    fn skip_to_content(&mut self) -> Option<()> {
        loop {
            self.skip_spaces();
            if self.peek() == Some(b'#') {
                self.skip_comment();
            }
            match self.peek() {
                Some(b'\n') => {
                    self.at += 1;
                    self.line = self.at;
                }
                // Marks of documents stand at the start of a line.
                Some(b'-' | b'.') if self.column() == 0 && !self.is_dash() => return None,
                _ => return Some(()),
            }
        }
    }

    /// Opens a list or map.
    fn open(&mut self) -> Option<()> {
        self.depth += 1;
        (self.depth <= MAX_DEPTH).then_some(())
    }

    /// A value that may take up lines of its own, with the rest of its last line.
    fn block(&mut self, around: Around) -> Option<Node<'s>> {
        if self.is_dash() {
            return self.block_list(around);
        }
        match self.peek()? {
            b'[' | b'{' | b'|' => self.value(around),
            _ => {
                let column = self.column();
                let first = self.scalar(Within::Block)?;
                if self.key_ends(&first) {
                    return self.block_map(column, first);
                }
                self.end_line()?;
                first.into_node()
            }
        }
    }

    /// A value that starts in the line of its key, with the rest of its last line.
    fn value(&mut self, around: Around) -> Option<Node<'s>> {
        let node = match self.peek()? {
            b'|' => return self.literal(around),
            b'[' | b'{' => self.flow(around)?,
            _ => self.scalar(Within::Block)?.into_node()?,
        };
        self.end_line()?;
        Some(node)
    }

    fn block_list(&mut self, around: Around) -> Option<Node<'s>> {
        self.open()?;
        let column = self.column();
        // A list that is not indented starts with its first value.
        let mut start = Some(self.at).filter(|_| around != Some(column));
        let mut nodes = Vec::new();
        loop {
            self.at += 1;
            self.trail()?;
            let at = self.at;
            start.get_or_insert(at);
            let node = if !self.line_ends() {
                self.block(Some(column))?
            } else {
                self.skip_to_content()?;
                match self.peek() {
                    Some(_) if self.column() > column => self.block(Some(column))?,
                    _ => Node::new(Tree::Null, Extent { start: at, end: at }),
                }
            };
            nodes.push(node);
            if self.peek().is_none() || self.column() < column || !self.is_dash() {
                break;
            }
            if self.column() > column {
                return None;
            }
        }
        self.depth -= 1;
        let end = nodes.last()?.extent.end;
        Some(Node::new(Tree::List(nodes), Extent { start: start?, end }))
    }

    /// A map of which the first key was read.
    fn block_map(&mut self, column: usize, first: Scalar<'s>) -> Option<Node<'s>> {
        self.open()?;
        let start = first.extent.start;
        let mut end = start;
        let mut map = Map::default();
        let mut key = first;
        loop {
            let colon = self.at;
            self.at += 1;
            self.trail()?;
            let node = if !self.line_ends() {
                self.value(Some(column))?
            } else {
                self.skip_to_content()?;
                match self.peek() {
                    Some(_) if self.column() > column || self.column() == column && self.is_dash() => {
                        self.block(Some(column))?
                    }
                    _ => Node::new(Tree::Null, Extent { start: colon, end: colon }),
                }
            };
            end = end.max(node.extent.end);
            insert(&mut map, key, node)?;
            if self.peek().is_none() || self.column() < column {
                break;
            }
            if self.column() > column {
                return None;
            }
            key = self.scalar(Within::Block)?;
            if !self.key_ends(&key) {
                return None;
            }
        }
        self.depth -= 1;
        Some(Node::new(Tree::Map(Box::new(map)), Extent { start, end }))
    }

    /// Goes to the colon after a key.
    fn key_ends(&mut self, key: &Scalar<'_>) -> bool {
        self.skip_spaces();
        let is_usual = key.extent.end - key.extent.start <= MAX_KEY && !(key.is_plain && key.text == "<<");
        self.peek() == Some(b':') && self.ends_at(self.at + 1) && is_usual
    }
}

/// Adds an entry; gives nothing where the key is there already.
fn insert<'s>(map: &mut Map<'s>, key: Scalar<'s>, node: Node<'s>) -> Option<()> {
    let map::Entry::Vacant(free) = map.entry(key.text) else { return None };
    free.insert(Entry { key: key.extent, node });
    Some(())
}
