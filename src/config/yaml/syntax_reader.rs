//! Reads YAML as it is written. Only `config/yaml` uses YAML crates.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::syntax_tree::{SyntaxDocument, SyntaxEntry, SyntaxKind, SyntaxNode, TriviaLine};

/// The reason why a document cannot be formatted.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct UnsupportedSyntax {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// Reads a valid document.
///
/// # Errors
/// Returns the first part that the formatter does not support.
pub(crate) fn read_syntax(text: &str) -> Result<SyntaxDocument, UnsupportedSyntax> {
    let mut builder = SyntaxBuilder::new(text);
    let before_start = text.lines().take_while(|line| line.is_empty() || line.starts_with(['#', '%', ' ']));
    let directives = before_start.filter(|line| line.starts_with('%'));
    builder.document.directives = directives.map(|line| line.trim_end().to_owned()).collect();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| UnsupportedSyntax {
            line: error.marker().line(),
            reason: format!("invalid YAML: {}", error.info()),
        })?;
        builder.handle_event(&event, span.start.index(), span.end.index())?;
    }
    builder.finish()
}

/// An open list or map.
struct OpenNode {
    node: SyntaxNode,
    /// The entry whose value comes next.
    pending: Option<SyntaxEntry>,
}

struct SyntaxBuilder {
    chars: Vec<char>,
    /// The position after the last value.
    cursor: usize,
    open: Vec<OpenNode>,
    document: SyntaxDocument,
    /// The comments and blank lines since the last value.
    lines: Vec<TriviaLine>,
    /// True if a value precedes on the same line.
    is_after_value: bool,
    /// True if the last value is a block text, after which an indented comment would be a part of the text.
    is_after_block: bool,
}

impl SyntaxBuilder {
    fn new(text: &str) -> Self {
        Self {
            chars: text.chars().collect(),
            cursor: 0,
            open: Vec::new(),
            document: SyntaxDocument::default(),
            lines: Vec::new(),
            is_after_value: false,
            is_after_block: false,
        }
    }

    fn unsupported(&self, at: usize, reason: impl Into<String>) -> UnsupportedSyntax {
        let before = &self.chars[..at.min(self.chars.len())];
        UnsupportedSyntax { line: 1 + before.iter().filter(|c| **c == '\n').count(), reason: reason.into() }
    }

    fn handle_event(&mut self, event: &Event<'_>, start: usize, end: usize) -> Result<(), UnsupportedSyntax> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(is_explicit) => {
                if *is_explicit {
                    // The event begins at the first directive, if there is one.
                    let marker = (start..self.chars.len()).find(|at| self.is_line_start(*at, "---"));
                    self.read_gap(marker.unwrap_or(start))?;
                    self.document.has_start_marker = true;
                    self.cursor = end.max(marker.map_or(0, |at| at + 3));
                }
                Ok(())
            }
            Event::Alias(_) => {
                self.begin_value(start)?;
                self.add_scalar(Vec::new(), start, end)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let count = usize::from(*anchor != 0) + usize::from(tag.is_some());
                if text.is_empty() && *style == ScalarStyle::Plain {
                    if count > 0 {
                        return Err(self.unsupported(start, "an anchor or a tag without a value is not supported"));
                    }
                    return self.add_value(SyntaxNode { properties: Vec::new(), kind: SyntaxKind::Empty });
                }
                match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => self.add_block(count, (start, end), text),
                    _ => {
                        self.begin_value(start)?;
                        let properties = self.read_properties(count)?;
                        let start = self.cursor;
                        self.add_scalar(properties, start, end)
                    }
                }
            }
            Event::SequenceStart(anchor, tag) => {
                let count = usize::from(*anchor != 0) + usize::from(tag.is_some());
                self.open_node(start, count, |is_flow| SyntaxKind::List { entries: Vec::new(), is_flow })
            }
            Event::MappingStart(anchor, tag) => {
                let count = usize::from(*anchor != 0) + usize::from(tag.is_some());
                self.open_node(start, count, |is_flow| SyntaxKind::Map { entries: Vec::new(), is_flow })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close_node(start),
        }
    }

    /// Reads what precedes a value, and begins an entry for it if it is a key or an element.
    fn begin_value(&mut self, start: usize) -> Result<(), UnsupportedSyntax> {
        self.read_gap(start)?;
        self.begin_entry();
        Ok(())
    }

    /// Begins an element of a list. Moves the comments to the outermost entry that begins in this line.
    fn begin_entry(&mut self) {
        if self.needs_entry() {
            let entry = SyntaxEntry {
                before: std::mem::take(&mut self.lines),
                trailing: None,
                key: None,
                value: SyntaxNode { properties: Vec::new(), kind: SyntaxKind::Empty },
            };
            if let Some(open) = self.open.last_mut() {
                open.pending = Some(entry);
            }
        } else if let Some(entry) = self.open.last_mut().and_then(|open| open.pending.as_mut()) {
            entry.before.append(&mut self.lines);
        }
    }

    fn needs_entry(&self) -> bool {
        self.open.last().is_some_and(|open| open.pending.is_none())
    }

    /// Returns whether the next scalar is a key.
    fn expects_key(&self) -> bool {
        self.open.last().is_some_and(|open| {
            let is_map = matches!(open.node.kind, SyntaxKind::Map { .. });
            is_map && open.pending.as_ref().is_none_or(|entry| entry.key.is_none())
        })
    }

    /// Reads the whitespace, indicators, and comments up to `end`.
    fn read_gap(&mut self, end: usize) -> Result<(), UnsupportedSyntax> {
        let mut at = self.cursor;
        let mut line_breaks = usize::from(at == 0);
        // Comments whose indentation is relative to what follows them.
        let mut relative = Vec::new();
        // What is between a hyphen and its value moves before the hyphen.
        let mut is_after_hyphen = false;
        while at < end {
            let c = self.chars[at];
            match c {
                '\n' => {
                    line_breaks += 1;
                    let is_blank = line_breaks == 2 && at > 0 && !is_after_hyphen;
                    if is_blank && self.lines.last() != Some(&TriviaLine::Blank) {
                        self.lines.push(TriviaLine::Blank);
                    }
                    self.is_after_value = false;
                }
                '#' => {
                    let length = self.chars[at..].iter().take_while(|c| **c != '\n').count();
                    let text: String = self.chars[at..at + length].iter().collect();
                    let text = text.trim_end().to_owned();
                    let column = self.column(at);
                    if self.is_after_value {
                        self.add_trailing((column, text));
                    } else {
                        if !is_after_hyphen {
                            relative.push((self.lines.len(), column));
                        }
                        self.lines.push(TriviaLine::Comment(0, text));
                    }
                    at += length;
                    line_breaks = 0;
                    continue;
                }
                ' ' | '\t' | '\r' => {}
                ':' | ',' | '-' | '{' | '}' | '[' | ']' => {
                    if c == '-' {
                        self.indent_comments(&mut relative, at);
                        is_after_hyphen = true;
                    }
                    line_breaks = 0;
                }
                // The key follows, and is written without the indicator.
                '?' => line_breaks = 0,
                '%' if self.column(at) == 0 => {
                    at += self.chars[at..].iter().take_while(|c| **c != '\n').count();
                    line_breaks = 0;
                    continue;
                }
                // Only one document can be read, so its end needs no marker.
                '.' if self.is_line_start(at, "...") => {
                    at += 3;
                    line_breaks = 0;
                    continue;
                }
                _ => return Err(self.unsupported(at, format!("unexpected `{c}`"))),
            }
            at += 1;
        }
        self.indent_comments(&mut relative, end);
        self.is_after_block = false;
        self.cursor = self.cursor.max(end);
        Ok(())
    }

    /// Sets the indentation of comments relative to what follows them at `at`.
    fn indent_comments(&mut self, relative: &mut Vec<(usize, usize)>, at: usize) {
        let column = if at < self.chars.len() { self.column(at) } else { 0 };
        for (index, comment_column) in relative.drain(..) {
            if let Some(TriviaLine::Comment(extra, _)) = self.lines.get_mut(index) {
                *extra = if self.is_after_block { 0 } else { comment_column.saturating_sub(column) };
            }
        }
    }

    /// Returns whether a line begins with `text` at `at`.
    fn is_line_start(&self, at: usize, text: &str) -> bool {
        let is_there = text.chars().zip(self.chars.get(at..).unwrap_or_default()).filter(|(a, b)| a == *b).count();
        is_there == text.len() && (at == 0 || self.chars[at - 1] == '\n')
    }

    fn column(&self, at: usize) -> usize {
        self.chars[..at].iter().rev().take_while(|c| **c != '\n').count()
    }

    /// Attaches a comment to the entry of the last value. A further comment gets its own line.
    fn add_trailing(&mut self, comment: (usize, String)) {
        /// Returns the entry that ends with the last value of a list or map.
        fn last_entry(node: &mut SyntaxNode) -> Option<&mut SyntaxEntry> {
            let last = match &mut node.kind {
                SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => entries.last_mut()?,
                _ => return None,
            };
            match last.value.is_open_block() {
                true => last_entry(&mut last.value),
                false => Some(last),
            }
        }
        let open = self.open.iter_mut().rev().find_map(|open| match open.pending.as_mut() {
            Some(entry) => Some(entry),
            None => last_entry(&mut open.node),
        });
        match open {
            Some(entry) if entry.trailing.is_none() => entry.trailing = Some(comment),
            _ => self.lines.push(TriviaLine::Comment(0, comment.1)),
        }
    }

    /// Reads `count` anchors and tags at the cursor.
    fn read_properties(&mut self, count: usize) -> Result<Vec<String>, UnsupportedSyntax> {
        let mut properties = Vec::new();
        for _ in 0..count {
            while self.chars.get(self.cursor).is_some_and(|c| matches!(c, ' ' | '\t')) {
                self.cursor += 1;
            }
            if !self.chars.get(self.cursor).is_some_and(|c| matches!(c, '&' | '!')) {
                return Err(self.unsupported(self.cursor, "an anchor or a tag is not next to its value"));
            }
            let is_part = |c: &&char| !c.is_whitespace() && !matches!(**c, ',' | '[' | ']' | '{' | '}');
            let property: String = self.chars[self.cursor..].iter().take_while(is_part).collect();
            self.cursor += property.chars().count();
            properties.push(property);
        }
        while count > 0 && self.chars.get(self.cursor).is_some_and(|c| matches!(c, ' ' | '\t')) {
            self.cursor += 1;
        }
        Ok(properties)
    }

    fn add_scalar(&mut self, properties: Vec<String>, start: usize, end: usize) -> Result<(), UnsupportedSyntax> {
        // The parser's span of a quoted text can include the comment after it.
        let end = self.end_of_quotes(start).unwrap_or(end);
        let text: String = self.chars[start.min(end)..end].iter().collect();
        let text = text.trim().to_owned();
        self.cursor = end;
        self.is_after_value = true;
        if self.expects_key() {
            if text.contains('\n') {
                return Err(self.unsupported(start, "a key with several lines is not supported"));
            }
            let text = properties.into_iter().chain([text]).collect::<Vec<_>>().join(" ");
            if let Some(entry) = self.open.last_mut().and_then(|open| open.pending.as_mut()) {
                entry.key = Some(text);
            }
            return Ok(());
        }
        self.add_value(SyntaxNode { properties, kind: SyntaxKind::Scalar(text) })
    }

    /// Returns the position after the quoted text at `start`. Returns `None` if the text there is not quoted.
    fn end_of_quotes(&self, start: usize) -> Option<usize> {
        let quote = *self.chars.get(start).filter(|c| matches!(c, '\'' | '"'))?;
        let mut at = start + 1;
        while let Some(&c) = self.chars.get(at) {
            let is_escape = match quote {
                '\'' => c == quote && self.chars.get(at + 1) == Some(&quote),
                _ => c == '\\',
            };
            if !is_escape && c == quote {
                return Some(at + 1);
            }
            at += if is_escape { 2 } else { 1 };
        }
        None
    }

    /// Adds a block text. Its event starts at its properties or after its header.
    fn add_block(&mut self, count: usize, (start, end): (usize, usize), text: &str) -> Result<(), UnsupportedSyntax> {
        let is_blank = text.trim().is_empty();
        let header_at = |from: usize| (from..self.chars.len()).find(|at| matches!(self.chars[*at], '|' | '>'));
        let first = if count > 0 { start } else { header_at(self.cursor).unwrap_or(start) };
        self.begin_value(first)?;
        let properties = self.read_properties(count)?;
        let mut at = self.cursor;
        if !self.chars.get(at).is_some_and(|c| matches!(c, '|' | '>')) {
            return Err(self.unsupported(at, "the header of a block text is not next to its key"));
        }
        let mut next_line = || {
            let line: String = self.chars[at.min(self.chars.len())..].iter().take_while(|c| **c != '\n').collect();
            at += line.chars().count() + 1;
            (line.trim_end_matches('\r').to_owned(), at)
        };
        let (header, mut line_start) = next_line();
        let (indicators, comment) = header.split_at(header.find('#').unwrap_or(header.len()));
        let has_indentation = indicators.contains(|c: char| c.is_ascii_digit());
        // The number of columns is that of the standard style.
        let indicators: String = indicators.chars().map(|c| if c.is_ascii_digit() { '2' } else { c }).collect();
        let header = format!("{indicators}{comment}").trim_end().to_owned();
        let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
        // With an indicator, the first line can have spaces of its own.
        let own = text.lines().find(|line| !line.trim().is_empty()).filter(|_| has_indentation).map_or(0, indentation);
        let mut lines: Vec<String> = Vec::new();
        let mut common = None;
        // The event may end at the next token. A line that is indented less is not a part of the text.
        while line_start < end {
            let (line, next) = next_line();
            if !line.trim().is_empty() {
                if is_blank || common.is_some_and(|common| indentation(&line) < common) {
                    break;
                }
                common.get_or_insert(indentation(&line).saturating_sub(own));
            }
            lines.push(line);
            line_start = next;
        }
        let keeps_end = header.split('#').next().is_some_and(|header| header.contains('+'));
        if !keeps_end {
            let before = lines.len();
            while lines.last().is_some_and(|line| line.trim().is_empty()) {
                lines.pop();
            }
            if lines.len() < before {
                self.lines.push(TriviaLine::Blank);
            }
        }
        let common = common.unwrap_or(0);
        for line in &mut lines {
            *line = line.get(common.min(indentation(line))..).unwrap_or_default().to_owned();
        }
        self.cursor = line_start.min(self.chars.len());
        self.is_after_value = false;
        self.is_after_block = true;
        let blank = std::mem::take(&mut self.lines);
        self.add_value(SyntaxNode { properties, kind: SyntaxKind::Block { header, lines } })?;
        self.lines = blank;
        Ok(())
    }

    fn open_node(
        &mut self,
        start: usize,
        count: usize,
        kind: impl Fn(bool) -> SyntaxKind,
    ) -> Result<(), UnsupportedSyntax> {
        if self.expects_key() {
            return Err(self.unsupported(start, "a list or map as a key is not supported"));
        }
        self.read_gap(start)?;
        let lines = std::mem::take(&mut self.lines);
        let properties = self.read_properties(count)?;
        let is_flow = self.chars.get(self.cursor).is_some_and(|c| matches!(c, '{' | '['));
        let is_in_flow = self.open.last().is_some_and(|open| {
            matches!(open.node.kind, SyntaxKind::Map { is_flow: true, .. } | SyntaxKind::List { is_flow: true, .. })
        });
        if is_in_flow && !is_flow {
            return Err(self.unsupported(start, "a pair without braces in a list is not supported"));
        }
        self.lines = lines;
        // The comments before a value without brackets belong to its first entry.
        if is_flow || self.needs_entry() {
            self.begin_entry();
        }
        if is_flow {
            self.cursor += 1;
        }
        if is_flow || count > 0 {
            self.is_after_value = true;
        }
        self.open.push(OpenNode { node: SyntaxNode { properties, kind: kind(is_flow) }, pending: None });
        Ok(())
    }

    fn close_node(&mut self, start: usize) -> Result<(), UnsupportedSyntax> {
        let is_flow = self.open.last().is_some_and(|open| {
            matches!(open.node.kind, SyntaxKind::Map { is_flow: true, .. } | SyntaxKind::List { is_flow: true, .. })
        });
        if is_flow {
            self.read_gap(start)?;
            self.cursor = start + 1;
            self.is_after_value = true;
        }
        let Some(OpenNode { node, .. }) = self.open.pop() else { return Ok(()) };
        // Comments before the bracket follow the whole value.
        self.add_value(node)
    }

    fn add_value(&mut self, value: SyntaxNode) -> Result<(), UnsupportedSyntax> {
        if self.expects_key() {
            if self.needs_entry() {
                self.begin_entry();
            }
            // An empty key.
            return Err(self.unsupported(self.cursor, "a missing key is not supported"));
        }
        if self.needs_entry() {
            self.begin_entry();
        }
        let Some(open) = self.open.last_mut() else {
            self.document.root = Some(value);
            return Ok(());
        };
        if let Some(entry) = open.pending.take() {
            let entry = SyntaxEntry { value, ..entry };
            match &mut open.node.kind {
                SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => entries.push(entry),
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<SyntaxDocument, UnsupportedSyntax> {
        self.read_gap(self.chars.len())?;
        self.document.end = self.lines;
        Ok(self.document)
    }
}
