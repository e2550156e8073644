//! The text of a file, and positions in it.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::model::text::{floor_char_boundary, printable};

/// A file's name and text.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
    /// The offsets of line starts, computed at the first diagnostic.
    line_starts: OnceLock<Vec<usize>>,
    /// The text for a terminal, if it differs; computed when it is first shown.
    safe_text: OnceLock<Option<String>>,
}

impl SourceFile {
    pub(crate) fn new(name: &str, text: String) -> Self {
        Self { name: name.into(), text, line_starts: OnceLock::new(), safe_text: OnceLock::new() }
    }

    /// Returns the text for a terminal. Control characters become question marks, which preserves all positions.
    fn safe_text(&self) -> &str {
        let is_control = |c: char| c.is_ascii_control() && c != '\n' && c != '\t';
        self.safe_text
            .get_or_init(|| self.text.contains(is_control).then(|| self.text.replace(is_control, "?")))
            .as_deref()
            .unwrap_or(&self.text)
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let starts = self.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(starts).collect()
        })
    }

    /// Returns a copy with the bytes of these spans replaced by asterisks, except quotes and line breaks.
    pub(crate) fn redacted(&self, spans: &[SourceSpan]) -> Self {
        let mut bytes = self.text.clone().into_bytes();
        for span in spans {
            let (start, end) = (floor_char_boundary(&self.text, span.start), floor_char_boundary(&self.text, span.end));
            let inside = bytes.get_mut(start..end).into_iter().flatten();
            inside.filter(|byte| !matches!(byte, b'"' | b'\'' | b'\n' | b'\r')).for_each(|byte| *byte = b'*');
        }
        // Whole characters were replaced, so the bytes are still UTF-8.
        Self::new(&self.name, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the line in which a span starts, from 1.
    pub(crate) fn line(&self, span: SourceSpan) -> usize {
        self.line_starts().partition_point(|&start| start <= span.start)
    }

    /// Returns the line and column of a span.
    pub(crate) fn position(&self, span: SourceSpan) -> Position {
        let offset = floor_char_boundary(&self.text, span.start);
        let end = floor_char_boundary(&self.text, span.end).max(offset);
        let line = self.line_starts().partition_point(|&start| start <= offset);
        let column = self.text[self.line_starts()[line - 1]..offset].chars().count() + 1;
        Position { offset, length: end - offset, line, column }
    }
}

impl miette::SourceCode for SourceFile {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        // miette's implementation for `str` scans from the start of the file each time; here the line starts are
        // cached.
        let at = self.position(SourceSpan { start: span.offset(), end: span.offset() + span.len() });
        let last_line = self.line_starts().partition_point(|&start| start <= at.offset + at.length);
        let first = (at.line - 1).saturating_sub(before);
        let last = (last_line + after).min(self.line_starts().len());
        let context = self.line_starts()[first]..self.line_starts().get(last).map_or(self.text.len(), |&next| next);
        // Without context lines, miette assumes that the snippet starts at the span itself.
        let (start, end, first, column) = if before == 0 {
            (at.offset, context.end, at.line - 1, at.column - 1)
        } else if context.len() > MAX_CONTEXT_BYTES {
            let start =
                floor_char_boundary(&self.text, at.offset.saturating_sub(80).max(self.line_starts()[at.line - 1]));
            (start, context.end, at.line - 1, at.column - 1 - self.text[start..at.offset].chars().count())
        } else {
            (context.start, context.end, first, 0)
        };
        let end = floor_char_boundary(&self.text, end.min(start + MAX_CONTEXT_BYTES)).max(start);
        Ok(Box::new(miette::MietteSpanContents::new_named(
            printable(&self.name).into_owned(),
            &self.safe_text().as_bytes()[start..end],
            (start, end - start).into(),
            first,
            column,
            last - first,
        )))
    }
}

/// The maximum bytes of context for a diagnostic: a file can be a single line.
const MAX_CONTEXT_BYTES: usize = 2_000;

/// A byte range in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceSpan {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A range in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The byte offset of its start.
    pub offset: usize,
    /// The length in bytes.
    pub length: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}
