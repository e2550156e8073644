//! The values of a YAML or TOML file with their positions.

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::map::Map;
use crate::{
    config::diagnostics::{
        sink::DiagnosticSink,
        source::{SourceFile, SourceSpan},
    },
    json_schema::pointer_tokens,
};

/// A value and its position. Texts borrow from the file unless they contain escapes or folded lines.
#[derive(Debug, Clone)]
pub(crate) struct DocumentNode<'s> {
    pub(crate) span: SourceSpan,
    pub(crate) value: NodeValue<'s>,
    /// True if the value contains an environment variable. It may be secret and is never shown.
    pub(crate) is_secret: bool,
}

/// A value without its position.
#[derive(Debug, Clone)]
pub(crate) enum NodeValue<'s> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'s, str>),
    List(Vec<DocumentNode<'s>>),
    Map(Map<'s>),
}

/// The value of a key.
#[derive(Debug, Clone)]
pub(crate) struct MapEntry<'s> {
    pub(crate) key_span: SourceSpan,
    pub(crate) node: DocumentNode<'s>,
}

impl<'s> DocumentNode<'s> {
    pub(crate) fn new(tree: NodeValue<'s>, extent: SourceSpan) -> Self {
        Self { span: extent, value: tree, is_secret: false }
    }

    /// Releases the unused capacity of a list or map.
    pub(crate) fn shrink_to_fit(&mut self) {
        match &mut self.value {
            NodeValue::List(nodes) => nodes.shrink_to_fit(),
            NodeValue::Map(map) => map.shrink_to_fit(),
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => {}
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map<'s>> {
        match &self.value {
            NodeValue::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Converts the value to JSON. The recursion is as deep as the file, whose depth the reader bounds.
    pub(crate) fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => Value::String(text.to_string()),
            NodeValue::List(nodes) => nodes.iter().map(Self::to_json).collect(),
            NodeValue::Map(map) => {
                Value::Object(map.into_iter().map(|(key, entry)| (key.to_string(), entry.node.to_json())).collect())
            }
        }
    }

    /// Returns the type of the value with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Null => "nothing",
            NodeValue::Bool(_) => "a boolean",
            NodeValue::Number(number) if number.is_f64() => "a number",
            NodeValue::Number(_) => "an integer",
            NodeValue::Text(_) => "text",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a map",
        }
    }

    /// Returns the position of the bytes `range` of this text in the file.
    ///
    /// Escapes and folded lines can make it inexact: the result is then the position of an equal text, or of the whole
    /// text.
    pub(crate) fn span_within(&self, range: std::ops::Range<usize>, source: &SourceFile) -> SourceSpan {
        let (Some(text), Some(raw)) = (self.as_text(), source.text.get(self.span.start..self.span.end)) else {
            return self.span;
        };
        let Some(part) = text.get(range.clone()) else { return self.span };
        let within = |start: usize| {
            let start = self.span.start + start;
            SourceSpan { start, end: start + part.len() }
        };
        if let Some(start) = raw.find(text) {
            return within(start + range.start);
        }
        if part.is_empty() {
            return self.span;
        }
        let before = text[..range.start].matches(part).count();
        raw.match_indices(part).nth(before).map_or(self.span, |(start, _)| within(start))
    }

    /// Returns the node at a JSON pointer below this node, or its closest existing ancestor.
    pub(crate) fn at_pointer(&self, pointer: &str) -> &Self {
        let mut node = self;
        for step in pointer_tokens(pointer) {
            let next = match &node.value {
                NodeValue::Map(map) => map.get(&step).map(|entry| &entry.node),
                NodeValue::List(nodes) => step.parse().ok().and_then(|index: usize| nodes.get(index)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }
}

/// A value or a part of its text. Its position is computed only when a diagnostic needs it.
#[derive(Debug, Clone)]
pub(crate) struct NodeLocation<'n> {
    pub(crate) node: &'n DocumentNode<'n>,
    pub(crate) range: Option<std::ops::Range<usize>>,
}

impl NodeLocation<'_> {
    pub(crate) fn span(&self, findings: &DiagnosticSink) -> SourceSpan {
        match &self.range {
            Some(range) if !findings.is_full() => self.node.span_within(range.clone(), &findings.source),
            _ => self.node.span,
        }
    }
}
