//! Reads texts: those of one line, quoted or not, and literal ones.
//! Never reads one that goes on in a further line, but for literal ones.

use std::borrow::Cow;

use super::{Around, Reader};
use crate::config::{
    plan_file::plain,
    source::Extent,
    tree::{Node, Tree},
};

/// A text of one line.
pub(super) struct Scalar<'s> {
    pub(super) text: Cow<'s, str>,
    pub(super) extent: Extent,
    pub(super) is_plain: bool,
}

/// Where a text of one line stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Within {
    Block,
    Flow,
}

impl<'s> Reader<'s> {
    /// A text of one line.
    pub(super) fn scalar(&mut self, within: Within) -> Option<Scalar<'s>> {
        let start = self.at;
        let (text, is_plain) = match self.peek()? {
            b'"' => (self.double_quoted()?, false),
            b'\'' => (self.single_quoted()?, false),
            _ => (Cow::Borrowed(self.plain(within)?), true),
        };
        if !is_plain {
            self.trail()?;
        }
        Some(Scalar { text, extent: Extent { start, end: self.at }, is_plain })
    }

    fn plain(&mut self, within: Within) -> Option<&'s str> {
        let start = self.at;
        let is_flow =
            |byte: Option<u8>| within == Within::Flow && matches!(byte, Some(b',' | b'[' | b']' | b'{' | b'}'));
        match self.peek()? {
            b'-' if !self.ends_at(start + 1) && !is_flow(self.byte(start + 1)) => {}
            b'-' | b'?' | b':' | b',' | b'[' | b']' | b'{' | b'}' | b'#' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\''
            | b'"' | b'%' | b'@' | b'`' => return None,
            _ => {}
        }
        let (mut at, mut end) = (start, start);
        while let Some(byte) = self.byte(at) {
            match byte {
                b' ' => {
                    at += 1;
                    continue;
                }
                b'\n' => break,
                b'#' if end < at => break,
                b':' if self.ends_at(at + 1) || is_flow(self.byte(at + 1)) => break,
                _ if is_flow(Some(byte)) => break,
                _ => {}
            }
            at += 1;
            end = at;
        }
        self.at = end;
        Some(&self.text[start..end])
    }

    fn single_quoted(&mut self) -> Option<Cow<'s, str>> {
        let start = self.at + 1;
        let mut doubled = false;
        loop {
            self.at += 1;
            match self.peek()? {
                b'\n' => return None,
                b'\'' if self.byte(self.at + 1) == Some(b'\'') => {
                    doubled = true;
                    self.at += 1;
                }
                b'\'' => break,
                _ => {}
            }
        }
        let inside = &self.text[start..self.at];
        self.at += 1;
        Some(if doubled { inside.replace("''", "'").into() } else { inside.into() })
    }

    fn double_quoted(&mut self) -> Option<Cow<'s, str>> {
        let start = self.at + 1;
        let mut text = Cow::Borrowed("");
        let mut done = start;
        loop {
            self.at += 1;
            match self.peek()? {
                b'\n' => return None,
                b'\\' => {
                    let meant = match self.byte(self.at + 1)? {
                        b'n' => '\n',
                        b't' => '\t',
                        b'r' => '\r',
                        plain @ (b'"' | b'\\' | b'/') => char::from(plain),
                        _ => return None,
                    };
                    let text = text.to_mut();
                    text.push_str(&self.text[done..self.at]);
                    text.push(meant);
                    self.at += 1;
                    done = self.at + 1;
                }
                b'"' => break,
                _ => {}
            }
        }
        let rest = &self.text[done..self.at];
        self.at += 1;
        if done == start {
            return Some(Cow::Borrowed(rest));
        }
        text.to_mut().push_str(rest);
        Some(text)
    }

    /// A literal text: its lines without their indentation, which is more than that of what is around.
    pub(super) fn literal(&mut self, around: Around) -> Option<Node<'s>> {
        self.at += 1;
        let chomp = self.peek().filter(|sign| matches!(sign, b'-' | b'+'));
        self.at += usize::from(chomp.is_some());
        let mut breaks = 0;
        let mut begun: Option<(usize, usize)> = None;
        let mut text = String::new();
        loop {
            // Each line starts here, and the one before it ended here.
            if self.peek().is_some() {
                if self.peek() != Some(b'\n') {
                    return None;
                }
                self.at += 1;
                self.line = self.at;
            }
            let start = self.at;
            self.skip_spaces();
            let column = self.column();
            match (self.peek(), begun) {
                (None, _) if self.at > start => return None,
                (None, _) => break,
                // Spaces alone are text where they go beyond the indentation.
                (Some(b'\n'), Some((_, indent))) if column > indent => return None,
                (Some(b'\n'), None) if column > 0 => return None,
                (Some(b'\n'), _) => breaks += 1,
                (Some(_), Some((_, indent))) if column < indent => break,
                (Some(_), None) if column <= around.unwrap_or(0) => return None,
                (Some(_), _) => {
                    let (_, indent) = *begun.get_or_insert((self.at, column));
                    let end = self.text[self.at..].find('\n').map_or(self.text.len(), |length| self.at + length);
                    text.extend(std::iter::repeat_n('\n', breaks));
                    text.push_str(&self.text[self.line + indent..end]);
                    text.push('\n');
                    breaks = 0;
                    self.at = end;
                }
            }
        }
        let (start, _) = begun?;
        let extent = Extent { start, end: self.at };
        match chomp {
            Some(b'-') => drop(text.pop()),
            Some(_) => text.extend(std::iter::repeat_n('\n', breaks)),
            None => {}
        }
        self.skip_to_content()?;
        Some(Node::new(Tree::Text(text.into()), extent))
    }
}

impl<'s> Scalar<'s> {
    pub(super) fn into_node(self) -> Option<Node<'s>> {
        let tree = if self.is_plain { plain(self.text).ok()? } else { Tree::Text(self.text) };
        Some(Node::new(tree, self.extent))
    }
}
