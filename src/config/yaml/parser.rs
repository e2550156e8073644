//! Reads YAML: plans with the position of every value, and plain data without. Only this module uses YAML crates.
//!
//! Supports YAML 1.2 with the core schema, one document, and no merge keys. A number with a leading zero, such as
//! `007`, is text, because postal codes and account numbers would lose the zero. The depth and the growth by aliases
//! are bounded, and the reader is not recursive, so that no file can crash the process.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde::de::IgnoredAny;
use serde_json::Number;

use super::document::{DocumentNode, Map, MapEntry, NodeValue};
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::{SourceFile, SourceSpan};
use crate::model::has_leading_zero;

/// The maximum depth of lists and maps.
const MAX_DEPTH: usize = 64;
/// The maximum growth by aliases and anchors, counted in values and bytes of text.
const MAX_ALIAS_GROWTH: usize = 1_000_000;

/// Reads a YAML or JSON file of plain data, such as a file of parameters. An empty file is null.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn read_data(name: &str, text: &str) -> Result<serde_json::Value, Diagnostics> {
    let source = Arc::new(SourceFile::new(name, normalize(text).into_owned()));
    let mut sink = DiagnosticSink::new("yaml", Arc::clone(&source));
    let root = read_tree(&source.text, &mut sink);
    if sink.has_errors() {
        return Err(sink.finish());
    }
    Ok(root.map_or(serde_json::Value::Null, |root| root.to_json()))
}

/// Returns the text without a byte order mark, and with JSON's surrogate pairs as YAML escapes.
pub(crate) fn normalize(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // YAML does not have surrogate pairs, but many programs escape emoji in JSON that way.
    let may_hold_pairs = text.contains("\\ud") || text.contains("\\uD");
    if !may_hold_pairs || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        escaped.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match surrogate_pair(rest) {
            Some(pair) => {
                escaped.push_str(&format!("\\U{:08X}", u32::from(pair)));
                12
            }
            None => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                escaped.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    escaped.push_str(rest);
    Cow::Owned(escaped)
}

/// Decodes the character at the start of `text`, if it is a pair of escaped UTF-16 surrogates.
fn surrogate_pair(text: &str) -> Option<char> {
    let unit = |start: usize| {
        let digits = text.get(start..start + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0).filter(|unit| (0xD800..0xDC00).contains(unit))?;
    char::decode_utf16([first, unit(6)?]).next()?.ok()
}

/// Writes data as YAML.
///
/// # Errors
/// Returns an error if YAML cannot represent the data.
pub fn write_data(data: &impl serde::Serialize) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(data)
}

/// Reads a file that [`normalize`] prepared. Stops at the first syntax error; other errors, such as duplicate keys, are
/// all reported.
pub(crate) fn read_tree<'s>(text: &'s str, sink: &mut DiagnosticSink) -> Option<DocumentNode<'s>> {
    let offsets = CharOffsets::new(text);
    let mut builder = Builder { sink, open: Vec::new(), anchors: HashMap::new(), alias_growth: 0, root: None, offsets };
    for event in Parser::new_from_str(text) {
        let next = match event {
            Ok((event, span)) => {
                let span = builder.offsets.span(span.start.index(), span.end.index());
                builder.handle_event(event, span)
            }
            Err(error) => Err(builder.syntax_error(&error)),
        };
        if next.is_err() {
            return None;
        }
    }
    builder.root
}

/// A marker that the file cannot be read further. The reason was reported as a diagnostic.
struct ParseAborted;

/// A converter of the parser's character offsets to byte offsets.
struct CharOffsets<'s> {
    text: &'s str,
    /// The byte offset of every [`OFFSET_STRIDE`]th character; empty for ASCII files.
    byte_offsets: Vec<usize>,
}

const OFFSET_STRIDE: usize = 64;

impl<'s> CharOffsets<'s> {
    fn new(text: &'s str) -> Self {
        let offsets = text.char_indices().step_by(OFFSET_STRIDE).map(|(at, _)| at);
        Self { text, byte_offsets: if text.is_ascii() { Vec::new() } else { offsets.collect() } }
    }

    fn byte_offset(&self, character: usize) -> usize {
        if self.byte_offsets.is_empty() {
            return character.min(self.text.len());
        }
        let mark = self.byte_offsets.get(character / OFFSET_STRIDE).copied().unwrap_or(self.text.len());
        let rest = &self.text[mark..];
        mark + rest.char_indices().nth(character % OFFSET_STRIDE).map_or(rest.len(), |(at, _)| at)
    }

    /// Borrows `text` from the file, if the file contains it unchanged at this position, with or without quotes.
    fn borrow_from_source(&self, text: Cow<'s, str>, span: SourceSpan) -> Cow<'s, str> {
        let at = |start: usize| self.text.get(start..start + text.len()).filter(|part| *part == text);
        match at(span.start).or_else(|| at(span.start + 1)) {
            Some(part) => Cow::Borrowed(part),
            None => text,
        }
    }

    fn span(&self, start: usize, end: usize) -> SourceSpan {
        SourceSpan { start: self.byte_offset(start), end: self.byte_offset(end) }
    }
}

/// A value with the size and the depth of its contents, for the limits of aliases.
#[derive(Clone)]
struct SizedNode<'s> {
    node: DocumentNode<'s>,
    total_size: usize,
    max_depth: usize,
}

/// A list or map that is not closed yet.
struct OpenCollection<'s> {
    value: SizedNode<'s>,
    anchor: usize,
    /// The key of the next value.
    key: Option<(Cow<'s, str>, SourceSpan)>,
}

struct Builder<'f, 's> {
    sink: &'f mut DiagnosticSink,
    open: Vec<OpenCollection<'s>>,
    /// The values that aliases can repeat.
    anchors: HashMap<usize, SizedNode<'s>>,
    alias_growth: usize,
    root: Option<DocumentNode<'s>>,
    offsets: CharOffsets<'s>,
}

impl<'s> Builder<'_, 's> {
    fn syntax_error(&mut self, error: &ScanError) -> ParseAborted {
        let at = self.offsets.byte_offset(error.marker().index());
        let info = error.info();
        let line_start = self.offsets.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.offsets.text[line_start..].lines().next().unwrap_or_default();
        let unquoted = info.contains("flow") && line.contains("${{");
        let error = self.sink.error("syntax", SourceSpan { start: at, end: at }, format!("invalid YAML: {info}"));
        if unquoted {
            error.help("inside `{ }` and `[ ]`, a string with `${{ }}` must be in quotes");
        } else if info.contains("mapping values are not allowed") {
            error.help("a string that contains `: ` must be in quotes");
        } else if info.contains("did not find expected") {
            error
                .help("check the indentation: the elements of a list, and the keys of a map, start in the same column");
        } else if info.contains("tab") {
            error.help("indent with spaces");
        } else if info.contains("recursion limit") {
            error.help(format!("at most {MAX_DEPTH} levels of lists and maps are supported"));
        }
        ParseAborted
    }

    fn fail(&mut self, code: &str, at: SourceSpan, message: &str) -> ParseAborted {
        self.sink.error(code, at, message);
        ParseAborted
    }

    fn handle_event(&mut self, event: Event<'s>, span: SourceSpan) -> Result<(), ParseAborted> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(self.fail("syntax", span, "a second document starts here, but a file can contain only one"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.add_scalar(self.offsets.borrow_from_source(text, span), (style, tag.as_deref()), anchor, span)
            }
            Event::SequenceStart(anchor, tag) => {
                let node = DocumentNode::new(NodeValue::List(Vec::new()), span);
                self.open_collection(node, anchor, tag.as_deref())
            }
            Event::MappingStart(anchor, tag) => {
                let node = DocumentNode::new(NodeValue::Map(Map::default()), span);
                self.open_collection(node, anchor, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close_collection(span),
            Event::Alias(id) => self.add_alias(id, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn open_collection(
        &mut self,
        node: DocumentNode<'s>,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), ParseAborted> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && matches!(&*tag.suffix, "seq" | "map"))) {
            self.sink.error("tag", node.span, format!("unknown tag `{tag}`")).help("remove it");
        }
        if self.open.len() == MAX_DEPTH {
            let message = format!("lists and maps are nested more than {MAX_DEPTH} levels deep");
            return Err(self.fail("too_deep", node.span, &message));
        }
        if self.expects_key() {
            return Err(self.key_is_not_text(node.span));
        }
        let value = SizedNode { node, total_size: 1, max_depth: 1 };
        self.open.push(OpenCollection { value, anchor, key: None });
        Ok(())
    }

    /// Returns whether the next value is a key.
    fn expects_key(&self) -> bool {
        let is_map = |open: &OpenCollection<'_>| matches!(open.value.node.value, NodeValue::Map(_));
        self.open.last().is_some_and(|open| is_map(open) && open.key.is_none())
    }

    fn key_is_not_text(&mut self, span: SourceSpan) -> ParseAborted {
        let error = self.sink.error("key", span, "a key must be a string, not a list or a map");
        error.help("a string that starts with `{` or `[` must be in quotes");
        ParseAborted
    }

    fn close_collection(&mut self, span: SourceSpan) -> Result<(), ParseAborted> {
        let Some(OpenCollection { mut value, anchor, .. }) = self.open.pop() else { return Ok(()) };
        value.node.shrink_to_fit();
        let bracket_end = match self.offsets.text.as_bytes().get(span.start) {
            Some(b']' | b'}') => span.end,
            _ => 0,
        };
        value.node.span.end = value.node.span.end.max(end_of_content(&value.node)).max(bracket_end);
        self.add_value(value, anchor)
    }

    fn add_alias(&mut self, id: usize, span: SourceSpan) -> Result<(), ParseAborted> {
        let Some(value) = self.anchors.get(&id) else {
            return Err(self.fail("alias", span, "this alias is inside the node that it repeats"));
        };
        self.alias_growth += value.total_size;
        if self.alias_growth > MAX_ALIAS_GROWTH || self.open.len() + value.max_depth > MAX_DEPTH {
            return Err(self.fail("alias", span, "the aliases of this file expand to too many nodes"));
        }
        let value = value.clone();
        if !self.expects_key() {
            return self.add_value(value, 0);
        }
        match value.node.value {
            NodeValue::Text(text) => {
                self.add_key(text, span);
                Ok(())
            }
            _ => Err(self.key_is_not_text(span)),
        }
    }

    fn add_scalar(
        &mut self,
        text: Cow<'s, str>,
        (style, tag): (ScalarStyle, Option<&Tag>),
        anchor: usize,
        span: SourceSpan,
    ) -> Result<(), ParseAborted> {
        let total_size = 1 + text.len();
        if self.expects_key() {
            if style == ScalarStyle::Plain && text == "<<" {
                self.sink.error("key", span, "merge keys (`<<`) are not supported").help("copy the keys instead");
            } else if style == ScalarStyle::Plain && text.is_empty() {
                self.sink.error("key", span, "a key is missing");
            }
            if anchor != 0 {
                let node = DocumentNode::new(NodeValue::Text(text.clone()), span);
                self.anchors.insert(anchor, SizedNode { node, total_size, max_depth: 0 });
            }
            self.add_key(text, span);
            return Ok(());
        }
        let value = match (tag, style) {
            (None, ScalarStyle::Plain) => plain_scalar(text),
            (None, _) => Ok(NodeValue::Text(text)),
            (Some(tag), _) if tag.is_yaml_core_schema() => tagged_scalar(text, &tag.suffix),
            (Some(tag), _) if tag.handle.is_empty() && tag.suffix == "!" => Ok(NodeValue::Text(text)),
            (Some(tag), _) => Err(format!("unknown tag `{tag}`")),
        };
        let value = value.unwrap_or_else(|message| {
            self.sink.error("scalar", span, message);
            NodeValue::Null
        });
        self.add_value(SizedNode { node: DocumentNode::new(value, span), total_size, max_depth: 0 }, anchor)
    }

    fn add_key(&mut self, text: Cow<'s, str>, span: SourceSpan) {
        let Some(open) = self.open.last_mut() else { return };
        if let Some(first) = open.value.node.as_map().and_then(|map| map.get(&text)) {
            let line = self.sink.source.line(first.key_span);
            let error = self.sink.error("duplicate_key", span, format!("duplicate key `{text}`"));
            error.help(format!("it is first set in line {line}"));
        }
        open.key = Some((text, span));
    }

    /// Adds a finished value to the innermost open list or map.
    fn add_value(&mut self, value: SizedNode<'s>, anchor: usize) -> Result<(), ParseAborted> {
        if anchor != 0 {
            // An anchor keeps a copy, so it counts like an alias.
            self.alias_growth += value.total_size;
            if self.alias_growth > MAX_ALIAS_GROWTH {
                return Err(self.fail("alias", value.node.span, "the anchors of this file have too many nodes"));
            }
            self.anchors.insert(anchor, value.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value.node);
            return Ok(());
        };
        open.value.total_size += value.total_size;
        open.value.max_depth = open.value.max_depth.max(value.max_depth + 1);
        match &mut open.value.node.value {
            NodeValue::List(nodes) => nodes.push(value.node),
            NodeValue::Map(map) => {
                if let Some((text, key_span)) = open.key.take() {
                    map.insert(text, MapEntry { key_span, node: value.node });
                }
            }
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => {}
        }
        Ok(())
    }
}

/// Returns the end of the last element of a list or map.
fn end_of_content(node: &DocumentNode<'_>) -> usize {
    match &node.value {
        NodeValue::List(nodes) => nodes.last().map_or(0, |node| node.span.end),
        NodeValue::Map(map) => map.last().map_or(0, |(_, entry)| entry.node.span.end.max(entry.key_span.end)),
        _ => 0,
    }
}

/// Parses a plain scalar by the core schema of YAML 1.2 (chapter 10.3.2), except that numbers with a leading zero are
/// text.
fn plain_scalar(text: Cow<'_, str>) -> Result<NodeValue<'_>, String> {
    Ok(match &*text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        _ if has_leading_zero(&text) => NodeValue::Text(text),
        _ => match parse_number(&text) {
            Some(number) => NodeValue::Number(number?),
            None => NodeValue::Text(text),
        },
    })
}

/// Parses a scalar with one of YAML's own tags.
fn tagged_scalar<'s>(text: Cow<'s, str>, kind: &str) -> Result<NodeValue<'s>, String> {
    let value = match parse_number(&text) {
        _ if kind == "str" => NodeValue::Text(text.clone()),
        // With a numeric tag, a leading zero has no meaning.
        Some(number) => NodeValue::Number(number?),
        None => plain_scalar(text.clone())?,
    };
    let fits = match (&value, kind) {
        (NodeValue::Text(_), "str") | (NodeValue::Null, "null") | (NodeValue::Bool(_), "bool") => true,
        (NodeValue::Number(number), "int") => !number.is_f64(),
        (NodeValue::Number(_), "float") => true,
        _ => false,
    };
    if fits { Ok(value) } else { Err(format!("`{text}` is not a valid `!!{kind}`")) }
}

/// Parses the number of a plain scalar, if it is one.
fn parse_number(text: &str) -> Option<Result<Number, String>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let too_large = || format!("`{text}` does not fit in 64 bits");
    if let Some((digits, radix)) =
        text.strip_prefix("0x").map(|digits| (digits, 16)).or_else(|| Some((text.strip_prefix("0o")?, 8)))
    {
        let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        return is_number.then(|| u64::from_str_radix(digits, radix).map(Number::from).map_err(|_| too_large()));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err(format!("`{text}` is not a valid JSON number")));
    }
    if unsigned.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let integer = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
        return Some(integer.map_err(|_| too_large()));
    }
    // Of texts with these characters, Rust accepts the same as YAML.
    let float = text.parse::<f64>().ok()?;
    Some(Number::from_f64(float).ok_or_else(|| format!("`{text}` is too large for a number")))
}
