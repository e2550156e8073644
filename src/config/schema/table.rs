//! The schema of a file's tables: the same description is used for checks, documentation, and reading.

use std::fmt;

use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::yaml::document::{DocumentNode, Map, MapEntry, NodeValue};
use crate::model::{HumanDuration, has_leading_zero};

/// The schema of a map with known keys.
#[derive(Debug)]
pub(crate) struct TableSchema {
    /// The readable name with its article: `a task`.
    pub(crate) title: &'static str,
    /// The name of its definition in the JSON Schema.
    pub(crate) definition: &'static str,
    /// The purpose of the map.
    pub(crate) description: &'static str,
    /// The known keys.
    pub(crate) keys: &'static [KeySchema],
    /// The required keys.
    pub(crate) required: &'static [&'static str],
}

/// A key of a [`TableSchema`].
#[derive(Debug)]
pub(crate) struct KeySchema {
    /// The name of the key.
    pub(crate) name: &'static str,
    /// The alternative names of the key.
    pub(crate) aliases: &'static [&'static str],
    /// The meaning of the key in one or two sentences.
    pub(crate) description: &'static str,
    /// The type of its value.
    pub(crate) value_type: ValueType,
}

/// The type of a value.
#[derive(Debug)]
pub(crate) enum ValueType {
    /// Text that is not empty.
    Text,
    /// Any text.
    AnyText,
    /// A name that expressions can use.
    Name,
    /// A condition: an expression, with or without `${{ }}`, or a boolean.
    Condition,
    /// A list, or an expression that returns one.
    ItemList,
    /// `true` or `false`.
    Boolean,
    /// An integer in an inclusive range.
    Integer(u64, u64),
    /// A number in an inclusive range.
    Number(f64, f64),
    /// A duration, which may be zero.
    Duration,
    /// A duration longer than zero.
    PositiveDuration,
    /// One of a few words, each with its description.
    Choice(&'static [(&'static str, &'static str)]),
    /// A list of texts.
    TextList,
    /// A text, or a list of texts.
    TextOrList,
    /// A map from any key to texts.
    TextMap,
    /// Any map; its texts may contain `${{ }}`.
    Object,
    /// Any value.
    Any,
    /// A map with known keys.
    Table(&'static TableSchema),
    /// A list of maps with known keys.
    TableList(&'static TableSchema),
    /// A map from names to maps with known keys.
    TableMap(&'static TableSchema),
    /// One of several types, with a description of what is expected.
    OneOf(&'static str, &'static [ValueType]),
    /// A key of a later version, with the alternative in this version.
    Unsupported(&'static str),
}

/// The rule for names of tasks, agents, inputs, and bindings.
pub(crate) const NAME_RULE: &str = "letters, digits, `_` and `-`, starting with a letter or `_`, at most 256";
/// The regular expression of [`NAME_RULE`].
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]{0,255}$";

/// Returns whether `text` matches [`NAME_RULE`].
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 256
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl TableSchema {
    /// Returns the key with this name or alias.
    pub(crate) fn key(&self, name: &str) -> Option<&'static KeySchema> {
        self.keys.iter().find(|key| key.name == name || key.aliases.contains(&name))
    }

    /// Returns the names and aliases of all supported keys.
    pub(crate) fn known_names(&self) -> impl Iterator<Item = &'static str> {
        let known = self.keys.iter().filter(|key| !matches!(key.value_type, ValueType::Unsupported(_)));
        known.flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
    }
}

impl ValueType {
    /// Describes the expected value.
    fn expected(&self) -> String {
        match self {
            Self::Text | Self::AnyText => "text".to_owned(),
            Self::Name => format!("a name of {NAME_RULE}"),
            Self::Condition => "an expression".to_owned(),
            Self::ItemList => "a list, or an expression that returns one".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Integer(least, u64::MAX) => format!("an integer of at least {least}"),
            Self::Integer(least, most) => format!("an integer from {least} to {most}"),
            Self::Number(least, f64::MAX) => format!("a number of at least {least}"),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Duration | Self::PositiveDuration => format!("a duration: {}", crate::model::DURATION_FORMAT),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                words.join(", ")
            }
            Self::TextList => "a list of strings".to_owned(),
            Self::TextOrList => "a string or a list of strings".to_owned(),
            Self::TextMap => "a map of strings".to_owned(),
            Self::Object | Self::TableMap(_) => "a map".to_owned(),
            Self::Any => "anything".to_owned(),
            Self::Table(section) => format!("{}: a map", section.title),
            Self::TableList(section) => format!("a list, each element {}", section.title),
            Self::OneOf(words, _) => (*words).to_owned(),
            Self::Unsupported(_) => "nothing".to_owned(),
        }
    }

    /// Returns whether the outermost value has the right type, without checking its contents.
    fn accepts(&self, tree: &NodeValue) -> bool {
        match self {
            Self::Text | Self::AnyText | Self::Name | Self::Duration | Self::PositiveDuration | Self::Choice(_) => {
                matches!(tree, NodeValue::Text(_))
            }
            Self::Condition => matches!(tree, NodeValue::Text(_) | NodeValue::Bool(_)),
            Self::ItemList => matches!(tree, NodeValue::Text(_) | NodeValue::List(_)),
            Self::Boolean => matches!(tree, NodeValue::Bool(_)),
            Self::Integer(..) => matches!(tree, NodeValue::Number(number) if !number.is_f64()),
            Self::Number(..) => matches!(tree, NodeValue::Number(_)),
            Self::TextList | Self::TableList(_) => matches!(tree, NodeValue::List(_)),
            Self::TextOrList => matches!(tree, NodeValue::Text(_) | NodeValue::List(_)),
            Self::TextMap | Self::Object | Self::Table(_) | Self::TableMap(_) => matches!(tree, NodeValue::Map(_)),
            Self::Any | Self::Unsupported(_) => true,
            Self::OneOf(_, shapes) => shapes.iter().any(|shape| shape.accepts(tree)),
        }
    }

    /// Returns whether a missing value (`key:`) is the same as an empty map or list.
    fn allows_empty(&self) -> bool {
        matches!(
            self,
            Self::Any
                | Self::Object
                | Self::TextList
                | Self::TextOrList
                | Self::TextMap
                | Self::Table(_)
                | Self::TableList(_)
                | Self::TableMap(_)
        )
    }
}

/// Reports everything about `node` that does not match `shape`. Messages refer to it as `name`.
pub(crate) fn check_value(
    node: &DocumentNode<'_>,
    shape: &ValueType,
    name: &dyn fmt::Display,
    findings: &mut DiagnosticSink,
) {
    // A secret null is an unset variable, which the expander has reported.
    if matches!(node.value, NodeValue::Null) && (shape.allows_empty() || node.is_secret) {
        return;
    }
    if !shape.accepts(&node.value) {
        let message = format!("`{name}` must be {}, not {}", shape.expected(), node.kind());
        let found = findings.error("wrong_type", node.span, message);
        if matches!(shape, ValueType::Text | ValueType::AnyText)
            && matches!(node.value, NodeValue::Number(_) | NodeValue::Bool(_))
        {
            found.help("put it in quotes");
        } else if matches!(shape, ValueType::Integer(..) | ValueType::Number(..))
            && node.as_text().is_some_and(has_leading_zero)
        {
            found.help("a number with a leading zero is text; remove the zero");
        }
        return;
    }
    match (shape, &node.value) {
        (ValueType::Table(section), NodeValue::Map(map)) => check_table(node.span, map, section, findings),
        (ValueType::TableList(section), NodeValue::List(nodes)) => {
            for element in nodes {
                check_value(element, &ValueType::Table(section), &format_args!("an element of {name}"), findings);
            }
        }
        (ValueType::TableMap(section), NodeValue::Map(map)) => {
            for (key, entry) in map {
                check_name(key, entry.key_span, findings);
                check_value(&entry.node, &ValueType::Table(section), key, findings);
            }
        }
        // An element may be empty, such as an argument or a variable of the environment.
        (ValueType::TextList | ValueType::TextOrList, NodeValue::List(nodes)) => {
            for element in nodes {
                check_value(element, &ValueType::AnyText, &format_args!("an element of {name}"), findings);
            }
        }
        (ValueType::TextMap, NodeValue::Map(map)) => {
            map.into_iter().for_each(|(key, entry)| check_value(&entry.node, &ValueType::AnyText, key, findings));
        }
        (ValueType::OneOf(_, shapes), tree) => {
            if let Some(shape) = shapes.iter().find(|shape| shape.accepts(tree)) {
                check_value(node, shape, name, findings);
            }
        }
        _ => check_scalar(node, shape, name, findings),
    }
}

fn check_scalar(node: &DocumentNode<'_>, shape: &ValueType, name: &dyn fmt::Display, findings: &mut DiagnosticSink) {
    // Values from the environment are not repeated in messages.
    let not = |text: &str| if node.is_secret { String::new() } else { format!(", not `{text}`") };
    match (shape, &node.value) {
        (ValueType::Name, NodeValue::Text(text)) => check_name(text, node.span, findings),
        (ValueType::Text, NodeValue::Text(text)) if text.is_empty() => {
            findings.error("empty", node.span, format!("`{name}` is empty"));
        }
        (ValueType::Integer(least, most), NodeValue::Number(number))
            if !number.as_u64().is_some_and(|number| (*least..=*most).contains(&number)) =>
        {
            let message = format!("`{name}` must be {}, not {number}", shape.expected());
            findings.error("out_of_range", node.span, message);
        }
        (ValueType::Number(least, most), NodeValue::Number(number))
            if !number.as_f64().is_some_and(|number| (*least..=*most).contains(&number)) =>
        {
            let message = format!("`{name}` must be {}, not {number}", shape.expected());
            findings.error("out_of_range", node.span, message);
        }
        (ValueType::Duration | ValueType::PositiveDuration, NodeValue::Text(text)) => {
            match HumanDuration::parse(text) {
                Err(_) => {
                    let message = format!("`{name}` must be {}{}", shape.expected(), not(text));
                    findings.error("duration", node.span, message);
                }
                Ok(span) if span.0.is_zero() && matches!(shape, ValueType::PositiveDuration) => {
                    findings.error("duration", node.span, format!("`{name}` must be longer than zero"));
                }
                Ok(_) => {}
            }
        }
        (ValueType::Choice(words), NodeValue::Text(text)) if !words.iter().any(|(word, _)| word == text) => {
            let help = findings.did_you_mean(text, words.iter().map(|(word, _)| *word));
            let help = help.filter(|_| !node.is_secret);
            let message = format!("`{name}` must be one of {}{}", shape.expected(), not(text));
            findings.error("unknown_word", node.span, message).help_if_known(help);
        }
        _ => {}
    }
}

fn check_name(name: &str, at: SourceSpan, findings: &mut DiagnosticSink) {
    if !is_name(name) {
        findings.error("bad_name", at, format!("invalid name `{name}`: expected {NAME_RULE}"));
    }
}

fn check_table(at: SourceSpan, map: &Map<'_>, section: &'static TableSchema, findings: &mut DiagnosticSink) {
    for (name, entry) in map {
        let Some(key) = section.key(name) else {
            let help = findings.did_you_mean(name, section.known_names());
            let help = help.or_else(|| {
                let names: Vec<_> = section.known_names().map(|name| format!("`{name}`")).collect();
                Some(format!("{} has {}", section.title, names.join(", ")))
            });
            let message = format!("{} has no key `{name}`", section.title);
            findings.error("unknown_key", entry.key_span, message).help_if_known(help);
            continue;
        };
        if let ValueType::Unsupported(instead) = key.value_type {
            let message = format!("the key `{name}` is not supported yet");
            findings.error("not_supported", entry.key_span, message).help(instead);
            continue;
        }
        if name != key.name && map.contains_key(key.name) {
            let message = format!("`{name}` is an alias of `{}`, which is set too", key.name);
            findings.error("duplicate_key", entry.key_span, message).help("remove one of them");
        }
        check_value(&entry.node, &key.value_type, name, findings);
    }
    for required in section.required {
        let given = |name: &str| map.contains_key(name);
        if !given(required) && !section.key(required).is_some_and(|key| key.aliases.iter().any(|alias| given(alias))) {
            let first = map.first().map_or(at, |(_, entry)| entry.key_span);
            findings.error("missing_key", first, format!("{} must have `{required}`", section.title));
        }
    }
}

/// A reader of a map that was checked against a schema. Values that are absent or have the wrong type, which was
/// reported already, read as `None`.
///
/// In debug builds, reading a key that the schema does not have, or as a type that its value cannot have, panics.
#[derive(Debug, Clone)]
pub(crate) struct CheckedTable<'n> {
    schema: &'static TableSchema,
    /// The entries with known keys, each key once.
    entries: Vec<CheckedEntry<'n>>,
    /// The position of the map.
    pub(crate) span: SourceSpan,
}

#[derive(Debug, Clone, Copy)]
struct CheckedEntry<'n> {
    key: &'static KeySchema,
    entry: &'n MapEntry<'n>,
}

impl<'n> CheckedTable<'n> {
    /// Collects the known keys of `node`.
    pub(crate) fn new(node: &'n DocumentNode<'n>, section: &'static TableSchema) -> Self {
        let most = node.as_map().map_or(0, Map::len).min(section.keys.len());
        let mut given: Vec<CheckedEntry<'n>> = Vec::with_capacity(most);
        for (spelling, entry) in node.as_map().into_iter().flatten() {
            let Some(key) = section.key(spelling) else { continue };
            match given.iter_mut().find(|field| std::ptr::eq(field.key, key)) {
                None => given.push(CheckedEntry { key, entry }),
                // A key and its alias together are an error that was reported already.
                Some(field) if spelling == key.name => field.entry = entry,
                Some(_) => {}
            }
        }
        Self { schema: section, entries: given, span: node.span }
    }

    fn field(&self, name: &str) -> Option<&CheckedEntry<'n>> {
        debug_assert!(self.schema.keys.iter().any(|key| key.name == name), "{} has no key `{name}`", self.schema.title);
        self.entries.iter().find(|field| field.key.name == name)
    }

    /// Returns the value of a key whose type allows values like `example`.
    fn typed(&self, name: &str, example: NodeValue<'_>) -> Option<&'n NodeValue<'n>> {
        let is_possible = |key: &KeySchema| key.value_type.accepts(&example);
        debug_assert!(
            self.schema.key(name).is_none_or(is_possible),
            "`{name}` of {} never holds {example:?}",
            self.schema.title
        );
        Some(&self.node(name)?.value)
    }

    /// Returns the value of a key or one of its aliases.
    pub(crate) fn node(&self, name: &str) -> Option<&'n DocumentNode<'n>> {
        let CheckedEntry { key, entry } = self.field(name)?;
        Some(&entry.node).filter(|node| !matches!(node.value, NodeValue::Null) && key.value_type.accepts(&node.value))
    }

    /// Returns the position of the key itself.
    pub(crate) fn key_span(&self, name: &str) -> Option<SourceSpan> {
        Some(self.field(name)?.entry.key_span)
    }

    /// Returns whether the key exists, regardless of its value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.key_span(name).is_some()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'n str> {
        match self.typed(name, NodeValue::Text("".into()))? {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.typed(name, NodeValue::Bool(true))? {
            NodeValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn integer<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        match self.typed(name, NodeValue::Number(0.into()))? {
            NodeValue::Number(number) => T::try_from(number.as_u64()?).ok(),
            _ => None,
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        match self.typed(name, NodeValue::Number(0.into()))? {
            NodeValue::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, name: &str) -> Option<HumanDuration> {
        HumanDuration::parse(self.text(name)?).ok()
    }

    /// Returns the word of a choice, deserialized into its type.
    pub(crate) fn choice<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let word = self.text(name)?;
        T::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(word)).ok()
    }

    /// Returns a text, or the texts of a list, each with its node.
    pub(crate) fn text_list(&self, name: &str) -> Vec<(&'n str, &'n DocumentNode<'n>)> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let nodes = match &node.value {
            NodeValue::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes.iter().filter_map(|node| Some((node.as_text()?, node))).collect()
    }

    /// Returns the key, node, and text of each entry of a map.
    pub(crate) fn text_map(
        &self,
        name: &str,
    ) -> impl Iterator<Item = (&'n str, &'n DocumentNode<'n>, &'n str)> + use<'n> {
        let map = self.node(name).and_then(DocumentNode::as_map);
        map.into_iter().flatten().filter_map(|(key, entry)| Some((&**key, &entry.node, entry.node.as_text()?)))
    }

    /// Returns the elements of a list of maps.
    pub(crate) fn tables(&self, name: &str, section: &'static TableSchema) -> Vec<CheckedTable<'n>> {
        match self.typed(name, NodeValue::List(Vec::new())) {
            Some(NodeValue::List(nodes)) => nodes.iter().map(|node| CheckedTable::new(node, section)).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::keys::TASK;

    fn empty_task(read: impl FnOnce(&CheckedTable<'_>)) {
        let node = DocumentNode::new(NodeValue::Map(Map::default()), SourceSpan::default());
        read(&CheckedTable::new(&node, &TASK));
    }

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "only debug builds check the keys")]
    #[should_panic = "a task has no key `agnet`"]
    fn misspelt_keys_panic() {
        empty_task(|task| assert!(task.text("agnet").is_none()));
    }

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "only debug builds check the keys")]
    #[should_panic = "`timeout` of a task never holds Number"]
    fn impossible_types_panic() {
        empty_task(|task| assert!(task.integer::<u32>("timeout").is_none()));
    }
}
