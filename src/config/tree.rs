//! A file's values with the places where they stand: what YAML and TOML have in common.
//! Never knows what the values mean.

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::{
    findings::Findings,
    map::Map,
    source::{Extent, Source},
};

/// A value and its place. Its texts are parts of the file wherever they are written as they are meant.
#[derive(Debug, Clone)]
pub(super) struct Node<'s> {
    pub(super) extent: Extent,
    pub(super) tree: Tree<'s>,
    /// Whether it holds something from the environment, which may be secret and is never shown.
    pub(super) hidden: bool,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Tree<'s> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'s, str>),
    List(Vec<Node<'s>>),
    Map(Map<'s>),
}

/// What stands under a key.
#[derive(Debug, Clone)]
pub(super) struct Entry<'s> {
    pub(super) key: Extent,
    pub(super) node: Node<'s>,
}

impl<'s> Node<'s> {
    pub(super) fn new(tree: Tree<'s>, extent: Extent) -> Self {
        Self { extent, tree, hidden: false }
    }

    /// Gives back the room that a list or map took to grow.
    pub(super) fn shrink(&mut self) {
        match &mut self.tree {
            Tree::List(nodes) => nodes.shrink_to_fit(),
            Tree::Map(map) => map.shrink(),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => {}
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.tree {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&Map<'s>> {
        match &self.tree {
            Tree::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value without its places. As deep as the file, which is bounded where it is read.
    pub(super) fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.to_string()),
            Tree::List(nodes) => nodes.iter().map(Self::to_json).collect(),
            Tree::Map(map) => {
                Value::Object(map.into_iter().map(|(key, entry)| (key.to_string(), entry.node.to_json())).collect())
            }
        }
    }

    /// The JSON type of the value, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match &self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "a boolean",
            Tree::Number(number) if number.is_f64() => "a number",
            Tree::Number(_) => "an integer",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        }
    }

    /// Where the bytes `range` of this text stand in the file. Escapes and folded lines are in the way of an
    /// exact answer; then it is the place of the same words, or else of the whole text.
    pub(super) fn extent_within(&self, range: std::ops::Range<usize>, source: &Source) -> Extent {
        let (Some(text), Some(raw)) = (self.as_text(), source.text.get(self.extent.start..self.extent.end)) else {
            return self.extent;
        };
        let Some(part) = text.get(range.clone()) else { return self.extent };
        let within = |start: usize| {
            let start = self.extent.start + start;
            Extent { start, end: start + part.len() }
        };
        if let Some(start) = raw.find(text) {
            return within(start + range.start);
        }
        if part.is_empty() {
            return self.extent;
        }
        let before = text[..range.start].matches(part).count();
        raw.match_indices(part).nth(before).map_or(self.extent, |(start, _)| within(start))
    }

    /// What stands at a JSON pointer below this node; the closest there is.
    pub(super) fn at(&self, pointer: &str) -> &Self {
        let mut node = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &node.tree {
                Tree::Map(map) => map.get(&step).map(|entry| &entry.node),
                Tree::List(nodes) => step.parse().ok().and_then(|index: usize| nodes.get(index)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }
}

/// A value or a part of its text. Where exactly that is, is found out only when it must be told.
#[derive(Debug, Clone)]
pub(super) struct Spot<'n> {
    pub(super) node: &'n Node<'n>,
    pub(super) range: Option<std::ops::Range<usize>>,
}

impl Spot<'_> {
    pub(super) fn extent(&self, findings: &Findings) -> Extent {
        match &self.range {
            Some(range) => findings.locate(self.node, range.clone()),
            None => self.node.extent,
        }
    }
}
