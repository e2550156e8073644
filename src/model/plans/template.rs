//! Templates and expressions, as they are written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A JSON object with keys in their original order.
pub type JsonObject = serde_json::Map<String, Value>;

/// A JSON value whose strings may contain `${{ expression }}`, stored as written. A string that consists of one
/// expression evaluates to the JSON type of that expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Value);

impl Template {
    /// Returns the template as it is written.
    pub fn text(&self) -> String {
        value_as_text(&self.0)
    }
}

/// Returns a string unchanged, and any other value as JSON.
pub fn value_as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An expression without its `${{ }}`, stored as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);
