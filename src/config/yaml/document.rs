//! The values of a YAML or TOML file with their positions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::slice;

use serde_json::{Number, Value};

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::{SourceFile, SourceSpan};
use crate::json_schema::pointer_tokens;

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
    pub(crate) fn new(value: NodeValue<'s>, span: SourceSpan) -> Self {
        Self { span, value, is_secret: false }
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

/// The maximum number of keys for linear search, which is faster and smaller than hashing for few keys.
const MAX_LINEAR_KEYS: usize = 16;

/// The hasher of names, which are usually short.
pub(crate) type NameHasher = foldhash::fast::RandomState;

/// A map of unique keys in the order of the file. Small maps are compact, because a plan has a map or two for each
/// task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map<'s> {
    entries: Vec<(Cow<'s, str>, MapEntry<'s>)>,
    /// The index of each key, if there are more than [`MAX_LINEAR_KEYS`].
    #[expect(clippy::box_collection, reason = "few maps have it, and all of them have room for it")]
    indices: Option<Box<HashMap<Cow<'s, str>, usize, NameHasher>>>,
}

impl<'s> Map<'s> {
    fn index_of(&self, key: &str) -> Option<usize> {
        match &self.indices {
            Some(indices) => indices.get(key).copied(),
            None => self.entries.iter().position(|(known, _)| known == key),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&MapEntry<'s>> {
        self.index_of(key).map(|index| &self.entries[index].1)
    }

    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.index_of(key).is_some()
    }

    /// Adds an entry and returns true, or returns false and changes nothing if the key exists.
    pub(crate) fn insert(&mut self, key: Cow<'s, str>, entry: MapEntry<'s>) -> bool {
        if self.contains_key(&key) {
            return false;
        }
        if let Some(indices) = &mut self.indices {
            indices.insert(key.clone(), self.entries.len());
        }
        self.entries.push((key, entry));
        if self.indices.is_none() && self.entries.len() > MAX_LINEAR_KEYS {
            let indices = self.entries.iter().enumerate().map(|(index, (key, _))| (key.clone(), index));
            self.indices = Some(Box::new(indices.collect()));
        }
        true
    }

    /// Releases the unused capacity.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.entries.shrink_to_fit();
    }

    pub(crate) fn first(&self) -> Option<&(Cow<'s, str>, MapEntry<'s>)> {
        self.entries.first()
    }

    pub(crate) fn last(&self) -> Option<&(Cow<'s, str>, MapEntry<'s>)> {
        self.entries.last()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &MapEntry<'s>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut MapEntry<'s>)> {
        self.entries.iter_mut().map(|(key, entry)| (&**key, entry))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut MapEntry<'s>> {
        self.iter_mut().map(|(_, entry)| entry)
    }
}

impl<'m, 's> IntoIterator for &'m Map<'s> {
    type Item = &'m (Cow<'s, str>, MapEntry<'s>);
    type IntoIter = slice::Iter<'m, (Cow<'s, str>, MapEntry<'s>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

/// Keeps the first of several entries with the same key.
impl<'s> FromIterator<(Cow<'s, str>, MapEntry<'s>)> for Map<'s> {
    fn from_iter<I: IntoIterator<Item = (Cow<'s, str>, MapEntry<'s>)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, entry) in entries {
            map.insert(key, entry);
        }
        map.shrink_to_fit();
        map
    }
}

/// A value or a part of its text. Its position is computed only when a diagnostic needs it.
#[derive(Debug, Clone)]
pub(crate) struct NodeLocation<'n> {
    pub(crate) node: &'n DocumentNode<'n>,
    pub(crate) range: Option<std::ops::Range<usize>>,
}

impl NodeLocation<'_> {
    pub(crate) fn span(&self, sink: &DiagnosticSink) -> SourceSpan {
        match &self.range {
            Some(range) if !sink.is_full() => self.node.span_within(range.clone(), &sink.source),
            _ => self.node.span,
        }
    }
}
