//! What a value of a file may look like: one description that is checked, documented and read by.
//! Never knows what the values are for.

use std::fmt;

use serde::de::{DeserializeOwned, IntoDeserializer};

use super::{
    findings::Findings,
    map::Map,
    source::Extent,
    tree::{Entry, Node, Tree},
};
use crate::model::{Span, has_leading_zero};

/// A map with known keys.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is, with its article: `a task`.
    pub(super) title: &'static str,
    /// The name under which the JSON Schema defines it.
    pub(super) definition: &'static str,
    /// What it is for.
    pub(super) about: &'static str,
    /// Its keys.
    pub(super) keys: &'static [Key],
    /// The keys that must be there.
    pub(super) required: &'static [&'static str],
}

/// A key of a [`Section`].
#[derive(Debug)]
pub(super) struct Key {
    /// How it is spelled.
    pub(super) name: &'static str,
    /// How it may be spelled too.
    pub(super) aliases: &'static [&'static str],
    /// What it means; one or two sentences.
    pub(super) about: &'static str,
    /// What may stand there.
    pub(super) shape: Shape,
}

/// What may stand somewhere.
#[derive(Debug)]
pub(super) enum Shape {
    /// Text that is not empty.
    Text,
    /// Text.
    AnyText,
    /// A name that expressions can use.
    Name,
    /// A condition: an expression, with or without `${{ }}`, or a boolean.
    Condition,
    /// A list, or an expression that gives one.
    Items,
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// A duration; zero is one.
    Duration,
    /// A duration longer than zero.
    PositiveDuration,
    /// One of a few words, each with its meaning.
    Choice(&'static [(&'static str, &'static str)]),
    /// A list of texts.
    Texts,
    /// A text, or a list of them.
    TextOrTexts,
    /// A map from any key to texts.
    TextMap,
    /// Any map; its texts may hold `${{ }}`.
    Object,
    /// Anything.
    Any,
    /// A map with known keys.
    Section(&'static Section),
    /// A list of them.
    Sections(&'static Section),
    /// A map from names to them.
    SectionMap(&'static Section),
    /// One of several shapes; what it must be, in words.
    Either(&'static str, &'static [Shape]),
    /// A key that later versions will know; what to do instead.
    NotYet(&'static str),
}

/// What names of tasks, agents, inputs and bindings look like.
pub(super) const NAME_FORM: &str = "letters, digits, `_` and `-`, starting with a letter or `_`, at most 256";
/// [`NAME_FORM`] as a regular expression.
pub(super) const NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]{0,255}$";

/// Whether `text` is of [`NAME_FORM`].
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl Section {
    /// The key that is spelled `name`, aliases included.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name || key.aliases.contains(&name))
    }

    /// Every key that means something, without those of later versions.
    pub(super) fn known_names(&self) -> impl Iterator<Item = &'static str> {
        let known = self.keys.iter().filter(|key| !matches!(key.shape, Shape::NotYet(_)));
        known.flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
    }
}

impl Shape {
    /// What must stand there, in words.
    fn expected(&self) -> String {
        match self {
            Self::Text | Self::AnyText => "text".to_owned(),
            Self::Name => format!("a name of {NAME_FORM}"),
            Self::Condition => "an expression".to_owned(),
            Self::Items => "a list, or an expression that gives one".to_owned(),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Whole(least, u64::MAX) => format!("a whole number of at least {least}"),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Number(least, f64::MAX) => format!("a number of at least {least}"),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Duration | Self::PositiveDuration => format!("a duration: {}", crate::model::SPAN_FORM),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                words.join(", ")
            }
            Self::Texts => "a list of texts".to_owned(),
            Self::TextOrTexts => "a text or a list of texts".to_owned(),
            Self::TextMap => "a map of texts".to_owned(),
            Self::Object | Self::SectionMap(_) => "a map".to_owned(),
            Self::Any => "anything".to_owned(),
            Self::Section(section) => format!("{}: a map", section.title),
            Self::Sections(section) => format!("a list, each element {}", section.title),
            Self::Either(words, _) => (*words).to_owned(),
            Self::NotYet(_) => "nothing".to_owned(),
        }
    }

    /// Whether the outermost value is of the right type; what is inside is not looked at.
    fn fits(&self, tree: &Tree) -> bool {
        match self {
            Self::Text | Self::AnyText | Self::Name | Self::Duration | Self::PositiveDuration | Self::Choice(_) => {
                matches!(tree, Tree::Text(_))
            }
            Self::Condition => matches!(tree, Tree::Text(_) | Tree::Bool(_)),
            Self::Items => matches!(tree, Tree::Text(_) | Tree::List(_)),
            Self::Flag => matches!(tree, Tree::Bool(_)),
            Self::Whole(..) => matches!(tree, Tree::Number(number) if !number.is_f64()),
            Self::Number(..) => matches!(tree, Tree::Number(_)),
            Self::Texts | Self::Sections(_) => matches!(tree, Tree::List(_)),
            Self::TextOrTexts => matches!(tree, Tree::Text(_) | Tree::List(_)),
            Self::TextMap | Self::Object | Self::Section(_) | Self::SectionMap(_) => matches!(tree, Tree::Map(_)),
            Self::Any | Self::NotYet(_) => true,
            Self::Either(_, shapes) => shapes.iter().any(|shape| shape.fits(tree)),
        }
    }

    /// Whether nothing at all (`key:`) is the same as an empty map or list.
    fn may_be_empty(&self) -> bool {
        matches!(
            self,
            Self::Any
                | Self::Object
                | Self::Texts
                | Self::TextOrTexts
                | Self::TextMap
                | Self::Section(_)
                | Self::Sections(_)
                | Self::SectionMap(_)
        )
    }
}

/// Finds everything about `node` that is not of `shape`. `name` is what a person calls it.
pub(super) fn check(node: &Node<'_>, shape: &Shape, name: &dyn fmt::Display, findings: &mut Findings) {
    // A hidden nothing is a variable that is not set, which was reported where it was looked up.
    if matches!(node.tree, Tree::Null) && (shape.may_be_empty() || node.hidden) {
        return;
    }
    if !shape.fits(&node.tree) {
        let message = format!("`{name}` must be {}, not {}", shape.expected(), node.kind());
        let found = findings.error("wrong_type", node.extent, message);
        if matches!(shape, Shape::Text | Shape::AnyText) && matches!(node.tree, Tree::Number(_) | Tree::Bool(_)) {
            found.help("put it in quotes");
        } else if matches!(shape, Shape::Whole(..) | Shape::Number(..)) && node.as_text().is_some_and(has_leading_zero)
        {
            found.help("digits with a leading zero are text; a number is written without it");
        }
        return;
    }
    match (shape, &node.tree) {
        (Shape::Section(section), Tree::Map(map)) => check_section(node.extent, map, section, findings),
        (Shape::Sections(section), Tree::List(nodes)) => {
            for element in nodes {
                check(element, &Shape::Section(section), &format_args!("an element of {name}"), findings);
            }
        }
        (Shape::SectionMap(section), Tree::Map(map)) => {
            for (key, entry) in map {
                check_name(key, entry.key, findings);
                check(&entry.node, &Shape::Section(section), key, findings);
            }
        }
        // An element, unlike a value of its own, may well be empty: an argument, a variable of the environment.
        (Shape::Texts | Shape::TextOrTexts, Tree::List(nodes)) => {
            for element in nodes {
                check(element, &Shape::AnyText, &format_args!("an element of {name}"), findings);
            }
        }
        (Shape::TextMap, Tree::Map(map)) => {
            map.into_iter().for_each(|(key, entry)| check(&entry.node, &Shape::AnyText, key, findings));
        }
        (Shape::Either(_, shapes), tree) => {
            if let Some(shape) = shapes.iter().find(|shape| shape.fits(tree)) {
                check(node, shape, name, findings);
            }
        }
        _ => check_scalar(node, shape, name, findings),
    }
}

fn check_scalar(node: &Node<'_>, shape: &Shape, name: &dyn fmt::Display, findings: &mut Findings) {
    // What the environment gave is not repeated.
    let not = |text: &str| if node.hidden { String::new() } else { format!(", not `{text}`") };
    match (shape, &node.tree) {
        (Shape::Name, Tree::Text(text)) => check_name(text, node.extent, findings),
        (Shape::Text, Tree::Text(text)) if text.is_empty() => {
            findings.error("empty", node.extent, format!("`{name}` is empty"));
        }
        (Shape::Whole(least, most), Tree::Number(number))
            if !number.as_u64().is_some_and(|number| (*least..=*most).contains(&number)) =>
        {
            let message = format!("`{name}` must be {}, not {number}", shape.expected());
            findings.error("out_of_range", node.extent, message);
        }
        (Shape::Number(least, most), Tree::Number(number))
            if !number.as_f64().is_some_and(|number| (*least..=*most).contains(&number)) =>
        {
            let message = format!("`{name}` must be {}, not {number}", shape.expected());
            findings.error("out_of_range", node.extent, message);
        }
        (Shape::Duration | Shape::PositiveDuration, Tree::Text(text)) => match Span::parse(text) {
            Err(_) => {
                let message = format!("`{name}` must be {}{}", shape.expected(), not(text));
                findings.error("duration", node.extent, message);
            }
            Ok(span) if span.0.is_zero() && matches!(shape, Shape::PositiveDuration) => {
                findings.error("duration", node.extent, format!("`{name}` must be longer than zero"));
            }
            Ok(_) => {}
        },
        (Shape::Choice(words), Tree::Text(text)) if !words.iter().any(|(word, _)| word == text) => {
            let help = findings.did_you_mean(text, words.iter().map(|(word, _)| *word));
            let help = help.filter(|_| !node.hidden);
            let message = format!("`{name}` must be one of {}{}", shape.expected(), not(text));
            findings.error("unknown_word", node.extent, message).maybe_help(help);
        }
        _ => {}
    }
}

fn check_name(name: &str, at: Extent, findings: &mut Findings) {
    if !is_name(name) {
        findings.error("bad_name", at, format!("`{name}` is no name: a name is {NAME_FORM}"));
    }
}

fn check_section(at: Extent, map: &Map<'_>, section: &'static Section, findings: &mut Findings) {
    for (name, entry) in map {
        let Some(key) = section.key(name) else {
            let help = findings.did_you_mean(name, section.known_names());
            let help = help.or_else(|| {
                let names: Vec<_> = section.known_names().map(|name| format!("`{name}`")).collect();
                Some(format!("{} has {}", section.title, names.join(", ")))
            });
            let message = format!("{} has no key `{name}`", section.title);
            findings.error("unknown_key", entry.key, message).maybe_help(help);
            continue;
        };
        if let Shape::NotYet(instead) = key.shape {
            let message = format!("the key `{name}` is not supported yet");
            findings.error("not_supported", entry.key, message).help(instead);
            continue;
        }
        if name != key.name && map.contains_key(key.name) {
            let message = format!("`{name}` is another spelling of `{}`, which is given too", key.name);
            findings.error("duplicate_key", entry.key, message).help("leave one of them out");
        }
        check(&entry.node, &key.shape, name, findings);
    }
    for required in section.required {
        let given = |name: &str| map.contains_key(name);
        if !given(required) && !section.key(required).is_some_and(|key| key.aliases.iter().any(|alias| given(alias))) {
            let first = map.first().map_or(at, |(_, entry)| entry.key);
            findings.error("missing_key", first, format!("{} must have `{required}`", section.title));
        }
    }
}

/// Reads a map that was checked against a section. What is absent, and what is of the wrong shape and so was
/// reported already, is nothing.
#[derive(Debug, Clone)]
pub(super) struct Fields<'n> {
    /// What is there, each key once.
    given: Vec<Field<'n>>,
    /// Where it stands.
    pub(super) extent: Extent,
}

#[derive(Debug, Clone, Copy)]
struct Field<'n> {
    key: &'static Key,
    entry: &'n Entry<'n>,
}

impl<'n> Fields<'n> {
    /// The fields of `node`.
    pub(super) fn of(node: &'n Node<'n>, section: &'static Section) -> Self {
        let most = node.as_map().map_or(0, Map::len).min(section.keys.len());
        let mut given: Vec<Field<'n>> = Vec::with_capacity(most);
        for (spelling, entry) in node.as_map().into_iter().flatten() {
            let Some(key) = section.key(spelling) else { continue };
            match given.iter_mut().find(|field| std::ptr::eq(field.key, key)) {
                None => given.push(Field { key, entry }),
                // Two spellings of one key are a mistake that was reported.
                Some(field) if spelling == key.name => field.entry = entry,
                Some(_) => {}
            }
        }
        Self { given, extent: node.extent }
    }

    fn field(&self, name: &str) -> Option<&Field<'n>> {
        self.given.iter().find(|field| field.key.name == name)
    }

    /// The value under a key or one of its aliases.
    pub(super) fn node(&self, name: &str) -> Option<&'n Node<'n>> {
        let Field { key, entry } = self.field(name)?;
        Some(&entry.node).filter(|node| !matches!(node.tree, Tree::Null) && key.shape.fits(&node.tree))
    }

    /// Where the key itself stands.
    pub(super) fn key_extent(&self, name: &str) -> Option<Extent> {
        Some(self.field(name)?.entry.key)
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.key_extent(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Option<&'n str> {
        self.node(name)?.as_text()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.node(name)?.tree {
            Tree::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn whole<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        match &self.node(name)?.tree {
            Tree::Number(number) => T::try_from(number.as_u64()?).ok(),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match &self.node(name)?.tree {
            Tree::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<Span> {
        Span::parse(self.text(name)?).ok()
    }

    /// One of a choice's words, as the type whose spelling it is.
    pub(super) fn choice<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let word = self.text(name)?;
        T::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(word)).ok()
    }

    /// A text, or the texts of a list, each with its node.
    pub(super) fn texts(&self, name: &str) -> Vec<(&'n str, &'n Node<'n>)> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let nodes = match &node.tree {
            Tree::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes.iter().filter_map(|node| Some((node.as_text()?, node))).collect()
    }

    /// The texts of a map, with their keys.
    pub(super) fn text_map(&self, name: &str) -> impl Iterator<Item = (&'n str, &'n Node<'n>, &'n str)> + use<'n> {
        let map = self.node(name).and_then(Node::as_map);
        map.into_iter().flatten().filter_map(|(key, entry)| Some((&**key, &entry.node, entry.node.as_text()?)))
    }

    /// The elements of a list of sections.
    pub(super) fn sections(&self, name: &str, section: &'static Section) -> Vec<Fields<'n>> {
        match self.node(name).map(|node| &node.tree) {
            Some(Tree::List(nodes)) => nodes.iter().map(|node| Fields::of(node, section)).collect(),
            _ => Vec::new(),
        }
    }
}
