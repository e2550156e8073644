//! The schema of a file's tables: the same description is used for checks, documentation, and reading.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{DeserializeOwned, IntoDeserializer};

use super::misnamed::{self, correct_key};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::yaml::document::{DocumentNode, Map, MapEntry, NodeValue};
use crate::model::{HumanDuration, has_leading_zero};

/// The schema of a map with known keys.
#[derive(Debug)]
pub(crate) struct TableSchema {
    /// The name of its static; in lowercase, that of its definition in the JSON Schema.
    pub(crate) name: &'static str,
    /// The readable name with its article: `a task`.
    pub(crate) title: &'static str,
    /// The purpose of the map.
    pub(crate) description: &'static str,
    /// The required keys.
    pub(crate) required: &'static [&'static KeySchema],
    /// The known keys.
    pub(crate) keys: &'static [&'static KeySchema],
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

/// A key of the table with the keys `K`.
pub(crate) struct Key<K> {
    pub(crate) schema: KeySchema,
    pub(crate) table: PhantomData<fn() -> K>,
}

impl<K> Deref for Key<K> {
    type Target = KeySchema;

    fn deref(&self) -> &KeySchema {
        &self.schema
    }
}

/// The type of a value.
#[derive(Debug)]
pub(crate) enum ValueType {
    /// Text that is not empty.
    Text,
    /// Any text.
    AnyText,
    /// The URL of a server. It may contain a password or a token.
    Url,
    /// The name of an environment variable. Secrets are often put in its place.
    VariableName,
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
    /// A list of integers in an inclusive range.
    IntegerList(u64, u64),
    /// A number in an inclusive range.
    Number(f64, f64),
    /// Any number.
    AnyNumber,
    /// A list of any values that is not empty.
    Array,
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
    /// A map from any key to lists of maps with known keys.
    TableListMap(&'static TableSchema),
    /// One of several types, with a description of what is expected.
    OneOf(&'static str, &'static [ValueType]),
    /// A key of a later version, with the alternative in this version.
    Unsupported(&'static str),
}

/// The prefix of keys of plans and tasks that kapell ignores, for what YAML anchors share and for other programs.
pub(crate) const EXTENSION_PREFIX: &str = "x-";

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
    /// Returns whether keys that start with [`EXTENSION_PREFIX`] are ignored.
    pub(crate) fn allows_extensions(&self) -> bool {
        matches!(self.name, "PLAN" | "TASK")
    }

    /// Returns the key with this name or alias.
    pub(crate) fn key(&self, name: &str) -> Option<&'static KeySchema> {
        self.keys.iter().copied().find(|key| key.names().any(|known| known == name))
    }

    /// Returns the names and aliases of all supported keys.
    pub(crate) fn known_names(&self) -> impl Iterator<Item = &'static str> {
        let known = self.keys.iter().filter(|key| !matches!(key.value_type, ValueType::Unsupported(_)));
        known.flat_map(|key| key.names())
    }
}

impl KeySchema {
    /// Returns the name and the aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

impl ValueType {
    /// Describes the expected value.
    fn expected(&self) -> String {
        match self {
            Self::Text | Self::AnyText | Self::Url | Self::VariableName => "text".to_owned(),
            Self::Name => format!("a name of {NAME_RULE}"),
            Self::Condition => "an expression".to_owned(),
            Self::ItemList => "a list, or an expression that returns one".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Integer(min, u64::MAX) => format!("an integer of at least {min}"),
            Self::Integer(min, max) => format!("an integer from {min} to {max}"),
            Self::IntegerList(min, max) => format!("a list of integers from {min} to {max}"),
            Self::Number(min, f64::MAX) => format!("a number of at least {min}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::AnyNumber => "a number".to_owned(),
            Self::Array => "a list".to_owned(),
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
            Self::Table(table) => format!("{}: a map", table.title),
            Self::TableList(table) => format!("a list, each element {}", table.title),
            Self::TableListMap(table) => format!("a map of lists, each element {}", table.title),
            Self::OneOf(words, _) => (*words).to_owned(),
            Self::Unsupported(_) => "nothing".to_owned(),
        }
    }

    /// Returns whether the outermost value has the right type, without checking its contents.
    fn accepts(&self, value: &NodeValue) -> bool {
        match self {
            Self::Text
            | Self::AnyText
            | Self::Url
            | Self::VariableName
            | Self::Name
            | Self::Choice(_)
            | Self::Duration
            | Self::PositiveDuration => matches!(value, NodeValue::Text(_)),
            Self::Condition => matches!(value, NodeValue::Text(_) | NodeValue::Bool(_)),
            Self::ItemList | Self::TextOrList => matches!(value, NodeValue::Text(_) | NodeValue::List(_)),
            Self::Boolean => matches!(value, NodeValue::Bool(_)),
            Self::Integer(..) => matches!(value, NodeValue::Number(number) if !number.is_f64()),
            Self::Number(..) | Self::AnyNumber => matches!(value, NodeValue::Number(_)),
            Self::TextList | Self::Array | Self::IntegerList(..) | Self::TableList(_) => {
                matches!(value, NodeValue::List(_))
            }
            Self::TextMap | Self::Object | Self::Table(_) | Self::TableMap(_) | Self::TableListMap(_) => {
                matches!(value, NodeValue::Map(_))
            }
            Self::Any | Self::Unsupported(_) => true,
            Self::OneOf(_, variants) => variants.iter().any(|variant| variant.accepts(value)),
        }
    }

    /// Returns whether a missing value (`key:`) is the same as an empty map or list.
    fn allows_empty(&self) -> bool {
        matches!(
            self,
            Self::Any
                | Self::Object
                | Self::TextList
                | Self::IntegerList(..)
                | Self::TextOrList
                | Self::TextMap
                | Self::Table(_)
                | Self::TableList(_)
                | Self::TableMap(_)
                | Self::TableListMap(_)
        )
    }
}

/// Reports everything about `node` that does not match `expected`. Messages refer to it as `name`.
pub(crate) fn check_value(
    node: &DocumentNode<'_>,
    expected: &ValueType,
    name: &dyn fmt::Display,
    sink: &mut DiagnosticSink,
) {
    // A secret null is an unset variable, which the expander has reported.
    if matches!(node.value, NodeValue::Null) && (expected.allows_empty() || node.is_secret) {
        return;
    }
    if !expected.accepts(&node.value) {
        let name = name.to_string();
        // A description of the whole file is not a name.
        let shown = if name.starts_with("the ") { name.clone() } else { format!("`{name}`") };
        let message = format!("{shown} must be {}, not {}", expected.expected(), node.kind());
        let help =
            misnamed::correct_value(&name, node.kind()).map(str::to_owned).or_else(|| match (expected, &node.value) {
                (
                    ValueType::Text | ValueType::AnyText | ValueType::Url | ValueType::VariableName,
                    NodeValue::Number(_) | NodeValue::Bool(_),
                ) => Some("put it in quotes".to_owned()),
                (ValueType::Integer(..) | ValueType::Number(..) | ValueType::AnyNumber, NodeValue::Text(text))
                    if has_leading_zero(text) =>
                {
                    Some("a number with a leading zero is text; remove the zero".to_owned())
                }
                _ => None,
            });
        sink.error("wrong_type", node.span, message).help_if_known(help);
        return;
    }
    match (expected, &node.value) {
        (ValueType::Table(table), NodeValue::Map(map)) => check_table(node.span, map, table, sink),
        (ValueType::TableList(table), NodeValue::List(nodes)) => {
            for element in nodes {
                check_value(element, &ValueType::Table(table), &format_args!("an element of {name}"), sink);
            }
        }
        (ValueType::IntegerList(min, max), NodeValue::List(nodes)) => {
            let expected = ValueType::Integer(*min, *max);
            for element in nodes {
                check_value(element, &expected, &format_args!("an element of {name}"), sink);
            }
        }
        (ValueType::TableMap(table), NodeValue::Map(map)) => {
            for (key, entry) in map {
                check_name(key, entry.key_span, sink);
                check_value(&entry.node, &ValueType::Table(table), key, sink);
            }
        }
        (ValueType::TableListMap(table), NodeValue::Map(map)) => {
            for (key, entry) in map {
                check_value(&entry.node, &ValueType::TableList(table), key, sink);
            }
        }
        // An element may be empty, such as an argument or a variable of the environment.
        (ValueType::TextList | ValueType::TextOrList, NodeValue::List(nodes)) => {
            for element in nodes {
                check_value(element, &ValueType::AnyText, &format_args!("an element of {name}"), sink);
            }
        }
        (ValueType::TextMap, NodeValue::Map(map)) => {
            map.into_iter().for_each(|(key, entry)| check_value(&entry.node, &ValueType::AnyText, key, sink));
        }
        (ValueType::OneOf(_, variants), value) => {
            if let Some(variant) = variants.iter().find(|variant| variant.accepts(value)) {
                check_value(node, variant, name, sink);
            }
        }
        _ => check_scalar(node, expected, name, sink),
    }
}

fn check_scalar(node: &DocumentNode<'_>, expected: &ValueType, name: &dyn fmt::Display, sink: &mut DiagnosticSink) {
    // Values from the environment are not repeated in messages.
    let not = |text: &str| if node.is_secret { String::new() } else { format!(", not `{text}`") };
    let mut help = None;
    let (code, problem) = match (expected, &node.value) {
        (ValueType::Name, NodeValue::Text(text)) => return check_name(text, node.span, sink),
        (ValueType::Text | ValueType::Url | ValueType::VariableName, NodeValue::Text(text)) if text.is_empty() => {
            ("empty", "is empty".to_owned())
        }
        (ValueType::Array, NodeValue::List(nodes)) if nodes.is_empty() => ("empty", "is empty".to_owned()),
        (ValueType::Integer(min, max), NodeValue::Number(number))
            if !number.as_u64().is_some_and(|number| (*min..=*max).contains(&number)) =>
        {
            ("out_of_range", format!("must be {}, not {number}", expected.expected()))
        }
        (ValueType::Number(min, max), NodeValue::Number(number))
            if !number.as_f64().is_some_and(|number| (*min..=*max).contains(&number)) =>
        {
            ("out_of_range", format!("must be {}, not {number}", expected.expected()))
        }
        (ValueType::Duration | ValueType::PositiveDuration, NodeValue::Text(text)) => {
            match HumanDuration::parse(text) {
                Err(_) => ("duration", format!("must be {}{}", expected.expected(), not(text))),
                Ok(duration) if duration.0.is_zero() && matches!(expected, ValueType::PositiveDuration) => {
                    ("duration", "must be longer than zero".to_owned())
                }
                Ok(_) => return,
            }
        }
        (ValueType::Choice(words), NodeValue::Text(text)) if !words.iter().any(|(word, _)| word == text) => {
            let known = || words.iter().map(|(word, _)| *word);
            let alias = || misnamed::correct_word(text).filter(|right| known().any(|word| word == *right));
            let alias = || alias().map(|right| format!("did you mean `{right}`?"));
            help = sink.did_you_mean(text, known()).or_else(alias).filter(|_| !node.is_secret);
            ("unknown_word", format!("must be one of {}{}", expected.expected(), not(text)))
        }
        _ => return,
    };
    sink.error(code, node.span, format!("`{name}` {problem}")).help_if_known(help);
}

fn check_name(name: &str, at: SourceSpan, sink: &mut DiagnosticSink) {
    if !is_name(name) {
        sink.error("bad_name", at, format!("invalid name `{name}`: expected {NAME_RULE}"));
    }
}

fn check_table(at: SourceSpan, map: &Map<'_>, table: &'static TableSchema, sink: &mut DiagnosticSink) {
    for (name, entry) in map {
        let Some(key) = table.key(name) else {
            if table.allows_extensions() && name.starts_with(EXTENSION_PREFIX) {
                continue;
            }
            let correct = correct_key(table.name, name).map(str::to_owned);
            let help = correct.or_else(|| sink.did_you_mean(name, table.known_names())).unwrap_or_else(|| {
                let names: Vec<_> = table.known_names().map(|name| format!("`{name}`")).collect();
                format!("{} has {}", table.title, names.join(", "))
            });
            sink.error("unknown_key", entry.key_span, format!("{} has no key `{name}`", table.title)).help(help);
            continue;
        };
        if let ValueType::Unsupported(instead) = key.value_type {
            let message = format!("the key `{name}` is not supported yet");
            sink.error("not_supported", entry.key_span, message).help(instead);
            continue;
        }
        if name != key.name && map.contains_key(key.name) {
            let message = format!("`{name}` is an alias of `{}`, which is set too", key.name);
            sink.error("duplicate_key", entry.key_span, message).help("remove one of them");
        }
        check_value(&entry.node, &key.value_type, name, sink);
    }
    for required in table.required {
        if !required.names().any(|name| map.contains_key(name)) {
            let first = map.first().map_or(at, |(_, entry)| entry.key_span);
            sink.error("missing_key", first, format!("{} must have `{}`", table.title, required.name));
        }
    }
}

/// A reader of a map that was checked against a schema. Values that are absent or have the wrong type, which was
/// reported already, read as `None`.
///
/// `K` is the type of the table's keys, so reading a key of another table does not compile. In debug builds, reading a
/// key as a type that its value cannot have panics.
pub(crate) struct CheckedTable<'n, K> {
    node: &'n DocumentNode<'n>,
    keys: PhantomData<fn() -> K>,
}

impl<K> Clone for CheckedTable<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for CheckedTable<'_, K> {}

impl<'n, K> CheckedTable<'n, K> {
    pub(crate) fn new(node: &'n DocumentNode<'n>) -> Self {
        Self { node, keys: PhantomData }
    }

    /// Returns the position of the map.
    pub(crate) fn span(self) -> SourceSpan {
        self.node.span
    }

    fn entry(self, key: &Key<K>) -> Option<&'n MapEntry<'n>> {
        let map = self.node.as_map()?;
        key.names().find_map(|name| map.get(name))
    }

    /// Returns the value of a key whose type allows values like `example`.
    fn typed(self, key: &Key<K>, example: NodeValue<'_>) -> Option<&'n NodeValue<'n>> {
        debug_assert!(key.value_type.accepts(&example), "`{}` never holds {example:?}", key.name);
        Some(&self.node(key)?.value)
    }

    /// Returns the value of a key or one of its aliases.
    pub(crate) fn node(self, key: &Key<K>) -> Option<&'n DocumentNode<'n>> {
        let node = &self.entry(key)?.node;
        Some(node).filter(|node| !matches!(node.value, NodeValue::Null) && key.value_type.accepts(&node.value))
    }

    /// Returns the position of the key itself.
    pub(crate) fn key_span(self, key: &Key<K>) -> Option<SourceSpan> {
        Some(self.entry(key)?.key_span)
    }

    /// Reports those of `keys` that are set, for a `reason` such as "without `url`".
    pub(crate) fn report_useless(self, keys: &[&Key<K>], reason: &str, sink: &mut DiagnosticSink) {
        for (key, at) in keys.iter().filter_map(|key| Some((key.name, self.key_span(key)?))) {
            sink.error("useless_key", at, format!("`{key}` has no effect {reason}"));
        }
    }

    /// Returns whether the key exists, regardless of its value.
    pub(crate) fn has(self, key: &Key<K>) -> bool {
        self.entry(key).is_some()
    }

    pub(crate) fn text(self, key: &Key<K>) -> Option<&'n str> {
        match self.typed(key, NodeValue::Text("".into()))? {
            NodeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn boolean(self, key: &Key<K>) -> Option<bool> {
        match self.typed(key, NodeValue::Bool(true))? {
            NodeValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn integer<T: TryFrom<u64>>(self, key: &Key<K>) -> Option<T> {
        match self.typed(key, NodeValue::Number(0.into()))? {
            NodeValue::Number(number) => T::try_from(number.as_u64()?).ok(),
            _ => None,
        }
    }

    /// Returns an integer, or the integers of a list.
    pub(crate) fn integer_list<T: TryFrom<u64>>(self, key: &Key<K>) -> Vec<T> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let nodes = match &node.value {
            NodeValue::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let integer = |node: &DocumentNode<'_>| match &node.value {
            NodeValue::Number(number) => T::try_from(number.as_u64()?).ok(),
            _ => None,
        };
        nodes.iter().filter_map(integer).collect()
    }

    pub(crate) fn number(self, key: &Key<K>) -> Option<f64> {
        match self.typed(key, NodeValue::Number(0.into()))? {
            NodeValue::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    pub(crate) fn duration(self, key: &Key<K>) -> Option<HumanDuration> {
        HumanDuration::parse(self.text(key)?).ok()
    }

    /// Returns the word of a choice, deserialized into its type.
    pub(crate) fn choice<T: DeserializeOwned>(self, key: &Key<K>) -> Option<T> {
        T::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(self.text(key)?)).ok()
    }

    /// Returns a text, or the texts of a list, each with its node.
    pub(crate) fn text_list(self, key: &Key<K>) -> Vec<(&'n str, &'n DocumentNode<'n>)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let nodes = match &node.value {
            NodeValue::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes.iter().filter_map(|node| Some((node.as_text()?, node))).collect()
    }

    /// Returns the entries of a map.
    pub(crate) fn entries(
        self,
        key: &Key<K>,
    ) -> impl Iterator<Item = (&'n str, &'n MapEntry<'n>)> + Clone + use<'n, K> {
        let map = self.node(key).and_then(DocumentNode::as_map);
        map.into_iter().flatten().map(|(name, entry)| (&**name, entry))
    }

    /// Returns the key, node, and text of each entry of a map.
    pub(crate) fn text_map(
        self,
        key: &Key<K>,
    ) -> impl Iterator<Item = (&'n str, &'n DocumentNode<'n>, &'n str)> + use<'n, K> {
        self.entries(key).filter_map(|(name, entry)| Some((name, &entry.node, entry.node.as_text()?)))
    }

    /// Returns the elements of each list of maps in a map, with its key.
    pub(crate) fn table_lists<T>(self, key: &Key<K>) -> Vec<(&'n str, Vec<CheckedTable<'n, T>>)> {
        let lists = self.entries(key).filter_map(|(name, entry)| match &entry.node.value {
            NodeValue::List(nodes) => Some((name, nodes.iter().map(CheckedTable::new).collect())),
            _ => None,
        });
        lists.collect()
    }

    /// Returns the elements of a list of maps.
    pub(crate) fn tables<T>(self, key: &Key<K>) -> Vec<CheckedTable<'n, T>> {
        match self.typed(key, NodeValue::List(Vec::new())) {
            Some(NodeValue::List(nodes)) => nodes.iter().map(CheckedTable::new).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::keys::TASK;

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "only debug builds check the types")]
    #[should_panic = "`timeout` never holds Number"]
    fn impossible_types_panic() {
        let node = DocumentNode::new(NodeValue::Map(Map::default()), SourceSpan::default());
        assert!(CheckedTable::new(&node).integer::<u32>(&TASK.timeout).is_none());
    }
}
