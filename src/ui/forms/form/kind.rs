//! The kinds of values that a form asks for.

use serde_json::Value;

/// The kind of value that a field accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text as typed.
    Text,
    /// A number.
    Number,
    /// An integer.
    Integer,
    /// Yes or no.
    Boolean,
    /// One of these choices.
    Select(Vec<FieldChoice>),
    /// Any subset of these choices.
    MultiSelect(Vec<FieldChoice>),
    /// Any other value, entered as JSON.
    Json,
}

/// A value that a field accepts.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChoice {
    /// The value in the answer.
    pub value: Value,
    /// The label that is shown; untrusted data from an agent.
    pub title: String,
}

/// Returns a string unquoted, and any other value as JSON.
pub(super) fn simplify(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
