//! The declarations of a plan's inputs.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use super::policy::is_default;
use super::template::JsonObject;

/// The value of a secret input wherever it is stored or shown.
pub const MASKED_SECRET: &str = "***";

/// The type and default of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// The type of the value.
    pub kind: InputType,
    /// True if a run requires a value. Never true together with a default.
    pub required: bool,
    /// The default value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The purpose of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The constraints on the value, besides its type.
    #[serde(default, skip_serializing_if = "is_default")]
    pub constraints: InputConstraints,
    /// The environment variable with the value of a secret that is not given otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_env: Option<String>,
}

/// The constraints on the value of an input, besides its type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InputConstraints {
    /// The allowed values; any if absent.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// A regular expression that matches a part of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The minimum of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Number>,
    /// The maximum of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Number>,
    /// The minimum length of a text, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// The maximum length of a text, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// The minimum number of elements of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// The maximum number of elements of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
}

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum InputType {
    /// Text.
    String,
    /// An integer or a number with a fraction.
    Number,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// A map.
    Object,
    /// The text of a file.
    File,
    /// Text that is never stored.
    Secret,
}

impl InputType {
    /// Returns whether a value has this type.
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String | Self::File | Self::Secret => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

impl InputSpec {
    /// Returns the JSON Schema of a value that a person types: for a file, of its path.
    pub fn typed_schema(&self) -> JsonObject {
        let kind = match self.kind {
            InputType::String | InputType::File | InputType::Secret => "string",
            InputType::Number => "number",
            InputType::Integer => "integer",
            InputType::Boolean => "boolean",
            InputType::Array => "array",
            InputType::Object => "object",
        };
        let mut schema = JsonObject::new();
        schema.insert("type".to_owned(), kind.into());
        if self.kind == InputType::Secret {
            schema.insert("writeOnly".to_owned(), true.into());
        }
        let constraints = &self.constraints;
        let limits = [
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("default", self.default.clone()),
            ("enum", constraints.choices.as_ref().map(|choices| json!(choices))),
            ("pattern", constraints.pattern.as_ref().map(|pattern| json!(pattern))),
            ("minimum", constraints.minimum.as_ref().map(|number| json!(number))),
            ("maximum", constraints.maximum.as_ref().map(|number| json!(number))),
            ("minLength", constraints.min_length.map(Value::from)),
            ("maxLength", constraints.max_length.map(Value::from)),
            ("minItems", constraints.min_items.map(Value::from)),
            ("maxItems", constraints.max_items.map(Value::from)),
        ];
        // The constraints of a file are on its text.
        let is_shown = |name: &str| self.kind != InputType::File || matches!(name, "description" | "default");
        let limits = limits.into_iter().filter(|(name, _)| is_shown(name));
        schema.extend(limits.filter_map(|(name, value)| Some((name.to_owned(), value?))));
        schema
    }
}
