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
    let mut findings = DiagnosticSink::new("yaml", Arc::clone(&source));
    let root = read_tree(&source.text, &mut findings);
    if findings.has_errors() {
        return Err(findings.finish());
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
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        written.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match surrogate_pair(rest) {
            Some(pair) => {
                written.push_str(&format!("\\U{:08X}", u32::from(pair)));
                12
            }
            None => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                written.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    written.push_str(rest);
    Cow::Owned(written)
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
pub(crate) fn read_tree<'s>(text: &'s str, findings: &mut DiagnosticSink) -> Option<DocumentNode<'s>> {
    let places = CharOffsets::new(text);
    let mut builder =
        Builder { findings, open: Vec::new(), anchors: HashMap::new(), alias_growth: 0, root: None, offsets: places };
    for event in Parser::new_from_str(text) {
        let next = match event {
            Ok((event, span)) => {
                let extent = builder.offsets.span(span.start.index(), span.end.index());
                builder.handle_event(event, extent)
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
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(OFFSET_STRIDE).map(|(at, _)| at).collect()
        };
        Self { text, byte_offsets: marks }
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
    fn borrow_from_source(&self, text: Cow<'s, str>, extent: SourceSpan) -> Cow<'s, str> {
        let at = |start: usize| self.text.get(start..start + text.len()).filter(|part| *part == text);
        match at(extent.start).or_else(|| at(extent.start + 1)) {
            Some(part) => Cow::Borrowed(part),
            None => text,
        }
    }

    fn span(&self, start: usize, end: usize) -> SourceSpan {
        SourceSpan { start: self.byte_offset(start), end: self.byte_offset(end) }
    }
}

/// A list or map that is not closed yet.
struct OpenCollection<'s> {
    node: DocumentNode<'s>,
    anchor: usize,
    /// The key of the next value.
    key: Option<(Cow<'s, str>, SourceSpan)>,
    /// The size of its contents, for the limit of aliases.
    total_size: usize,
    /// The depth of its contents.
    max_depth: usize,
}

/// A value that aliases can repeat.
struct Anchor<'s> {
    node: DocumentNode<'s>,
    total_size: usize,
    max_depth: usize,
}

struct Builder<'f, 's> {
    findings: &'f mut DiagnosticSink,
    open: Vec<OpenCollection<'s>>,
    anchors: HashMap<usize, Anchor<'s>>,
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
        let found = self.findings.error("syntax", SourceSpan { start: at, end: at }, format!("invalid YAML: {info}"));
        if unquoted {
            found.help("inside `{ }` and `[ ]`, a string with `${{ }}` must be in quotes");
        } else if info.contains("mapping values are not allowed") {
            found.help("a string that contains `: ` must be in quotes");
        } else if info.contains("tab") {
            found.help("indent with spaces");
        } else if info.contains("recursion limit") {
            found.help(format!("at most {MAX_DEPTH} levels of lists and maps are supported"));
        }
        ParseAborted
    }

    fn fail(&mut self, code: &str, at: SourceSpan, message: String) -> ParseAborted {
        self.findings.error(code, at, message);
        ParseAborted
    }

    fn handle_event(&mut self, event: Event<'s>, extent: SourceSpan) -> Result<(), ParseAborted> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(self.fail(
                "syntax",
                extent,
                "a second document starts here, but a file can contain only one".to_owned(),
            )),
            Event::Scalar(text, style, anchor, tag) => {
                self.add_scalar(self.offsets.borrow_from_source(text, extent), (style, tag.as_deref()), anchor, extent)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open_collection(NodeValue::List(Vec::new()), anchor, (extent, tag.as_deref()))
            }
            Event::MappingStart(anchor, tag) => {
                self.open_collection(NodeValue::Map(Map::default()), anchor, (extent, tag.as_deref()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close_collection(extent),
            Event::Alias(id) => self.add_alias(id, extent),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn open_collection(
        &mut self,
        tree: NodeValue<'s>,
        anchor: usize,
        (extent, tag): (SourceSpan, Option<&Tag>),
    ) -> Result<(), ParseAborted> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && matches!(&*tag.suffix, "seq" | "map"))) {
            self.findings.error("tag", extent, format!("unknown tag `{tag}`")).help("remove it");
        }
        if self.open.len() == MAX_DEPTH {
            let message = format!("lists and maps are nested more than {MAX_DEPTH} levels deep");
            return Err(self.fail("too_deep", extent, message));
        }
        self.key_must_be_text(extent)?;
        self.open.push(OpenCollection {
            node: DocumentNode::new(tree, extent),
            anchor,
            key: None,
            total_size: 1,
            max_depth: 1,
        });
        Ok(())
    }

    /// Reports a list or map in the position of a key.
    fn key_must_be_text(&mut self, extent: SourceSpan) -> Result<(), ParseAborted> {
        match self.open.last() {
            Some(OpenCollection { node: DocumentNode { value: NodeValue::Map(_), .. }, key: None, .. }) => {
                let error = self.findings.error("key", extent, "a key must be a string, not a list or a map");
                error.help("a string that starts with `{` or `[` must be in quotes");
                Err(ParseAborted)
            }
            _ => Ok(()),
        }
    }

    fn close_collection(&mut self, extent: SourceSpan) -> Result<(), ParseAborted> {
        let Some(mut done) = self.open.pop() else { return Ok(()) };
        done.node.shrink_to_fit();
        done.node.span.end = done.node.span.end.max(end_of_content(&done.node)).max(
            match self.offsets.text.as_bytes().get(extent.start) {
                Some(b']' | b'}') => extent.end,
                _ => 0,
            },
        );
        self.add_value(done.node, done.anchor, (done.total_size, done.max_depth))
    }

    fn add_alias(&mut self, id: usize, extent: SourceSpan) -> Result<(), ParseAborted> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(self.fail("alias", extent, "this alias is inside the node that it repeats".to_owned()));
        };
        let (weight, height) = (anchor.total_size, anchor.max_depth);
        self.alias_growth += weight;
        if self.alias_growth > MAX_ALIAS_GROWTH || self.open.len() + height > MAX_DEPTH {
            return Err(self.fail("alias", extent, "the aliases of this file expand to too many nodes".to_owned()));
        }
        let node = anchor.node.clone();
        if let Some(OpenCollection { node: DocumentNode { value: NodeValue::Map(_), .. }, key: None, .. }) =
            self.open.last()
        {
            let NodeValue::Text(text) = node.value else { return self.key_must_be_text(extent) };
            return self.add_key(text, extent);
        }
        self.add_value(node, 0, (weight, height))
    }

    fn add_scalar(
        &mut self,
        text: Cow<'s, str>,
        (style, tag): (ScalarStyle, Option<&Tag>),
        anchor: usize,
        extent: SourceSpan,
    ) -> Result<(), ParseAborted> {
        if let Some(OpenCollection { node: DocumentNode { value: NodeValue::Map(_), .. }, key: None, .. }) =
            self.open.last()
        {
            if style == ScalarStyle::Plain && text == "<<" {
                self.findings.error("key", extent, "merge keys (`<<`) are not supported").help("copy the keys instead");
            } else if style == ScalarStyle::Plain && text.is_empty() {
                self.findings.error("key", extent, "a key is missing");
            }
            if anchor != 0 {
                let node = DocumentNode::new(NodeValue::Text(text.clone()), extent);
                self.anchors.insert(anchor, Anchor { node, total_size: 1 + text.len(), max_depth: 0 });
            }
            return self.add_key(text, extent);
        }
        let weight = 1 + text.len();
        let tree = match (tag, style) {
            (None, ScalarStyle::Plain) => plain_scalar(text),
            (None, _) => Ok(NodeValue::Text(text)),
            (Some(tag), _) if tag.is_yaml_core_schema() => tagged_scalar(text, &tag.suffix),
            (Some(tag), _) if tag.handle.is_empty() && tag.suffix == "!" => Ok(NodeValue::Text(text)),
            (Some(tag), _) => Err(format!("unknown tag `{tag}`")),
        };
        let tree = tree.unwrap_or_else(|message| {
            self.findings.error("scalar", extent, message);
            NodeValue::Null
        });
        self.add_value(DocumentNode::new(tree, extent), anchor, (weight, 0))
    }

    fn add_key(&mut self, text: Cow<'s, str>, extent: SourceSpan) -> Result<(), ParseAborted> {
        let first = self.open.last().and_then(|open| Some(open.node.as_map()?.get(&text)?.key_span));
        if let Some(first) = first {
            let line = self.findings.source.line(first);
            let found = self.findings.error("duplicate_key", extent, format!("duplicate key `{text}`"));
            found.help(format!("it is first set in line {line}"));
        }
        if let Some(open) = self.open.last_mut() {
            open.key = Some((text, extent));
        }
        Ok(())
    }

    /// Adds a finished value to the innermost open list or map.
    fn add_value(
        &mut self,
        node: DocumentNode<'s>,
        anchor: usize,
        (weight, height): (usize, usize),
    ) -> Result<(), ParseAborted> {
        if anchor != 0 {
            // An anchor keeps a copy, so it counts like an alias.
            self.alias_growth += weight;
            if self.alias_growth > MAX_ALIAS_GROWTH {
                return Err(self.fail("alias", node.span, "the anchors of this file have too many nodes".to_owned()));
            }
            self.anchors.insert(anchor, Anchor { node: node.clone(), total_size: weight, max_depth: height });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.total_size += weight;
        open.max_depth = open.max_depth.max(height + 1);
        match &mut open.node.value {
            NodeValue::List(nodes) => nodes.push(node),
            NodeValue::Map(map) => {
                if let Some((text, key)) = open.key.take() {
                    map.insert(text, MapEntry { key_span: key, node });
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
    let tree = match parse_number(&text) {
        _ if kind == "str" => NodeValue::Text(text.clone()),
        // With a numeric tag, a leading zero has no meaning.
        Some(number) => NodeValue::Number(number?),
        None => plain_scalar(text.clone())?,
    };
    let fits = match (&tree, kind) {
        (NodeValue::Text(_), "str") | (NodeValue::Null, "null") | (NodeValue::Bool(_), "bool") => true,
        (NodeValue::Number(number), "int") => !number.is_f64(),
        (NodeValue::Number(_), "float") => true,
        _ => false,
    };
    if fits { Ok(tree) } else { Err(format!("`{text}` is not a valid `!!{kind}`")) }
}

/// Parses the number of a plain scalar, if it is one.
fn parse_number(text: &str) -> Option<Result<Number, String>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let too_large = || format!("`{text}` does not fit in 64 bits");
    if let Some((digits, radix)) =
        text.strip_prefix("0x").map(|digits| (digits, 16)).or_else(|| Some((text.strip_prefix("0o")?, 8)))
    {
        let spelled = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        return spelled.then(|| u64::from_str_radix(digits, radix).map(Number::from).map_err(|_| too_large()));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err(format!("`{text}` is not a valid JSON number")));
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        || !unsigned.contains(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let positive = text.strip_prefix('+').unwrap_or(text);
        let whole = positive.parse::<u64>().map(Number::from).or_else(|_| positive.parse::<i64>().map(Number::from));
        return Some(whole.map_err(|_| too_large()));
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let mantissa_fits = (before.is_empty() || digits(before)) && (after.is_empty() || digits(after)) && mantissa != ".";
    if !mantissa_fits || !digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)) {
        return None;
    }
    let float = text.parse::<f64>().ok()?;
    Some(Number::from_f64(float).ok_or_else(|| format!("`{text}` is too large for a number")))
}
