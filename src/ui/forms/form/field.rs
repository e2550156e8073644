//! One field of a form: what it accepts, and how a typed line becomes its value.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::kind::{FieldChoice, Kind, simplify};
use super::schema::{PlainSchema, SchemaReader};
use super::typed::are_numbered;
use crate::json_schema::{CompiledSchema, SchemaLimits};
use crate::model::has_leading_zero;

/// A field of a form.
#[derive(Debug)]
pub struct FormField {
    /// The key in the answer.
    pub name: String,
    /// The label that is shown instead of the key; untrusted data from an agent.
    pub title: Option<String>,
    /// The purpose of the field; untrusted data from an agent.
    pub description: Option<String>,
    /// Set if an answer must include the field.
    pub required: bool,
    /// The value that is used if none is given.
    pub default: Option<Value>,
    /// The kind of value.
    pub kind: Kind,
    /// Set if the field accepts null, which means no value.
    pub nullable: bool,
    /// Set if typed text is not shown (`writeOnly`).
    pub secret: bool,
    limits: ValueLimits,
    /// Validates an object with any subset of the fields.
    pub(super) validator: Option<Arc<CompiledSchema>>,
}

/// The constraints of the schema on a value, besides its type.
#[derive(Debug, Default)]
pub struct ValueLimits {
    /// The minimum of a number, of the characters of a text, or of the choices.
    pub minimum: Option<Number>,
    /// The maximum.
    pub maximum: Option<Number>,
    /// The format, such as `email`.
    pub format: Option<String>,
    /// A regular expression that matches a part of the text.
    pub pattern: Option<String>,
}

impl FormField {
    pub(super) fn parse_schema(
        name: &str,
        schema: &PlainSchema,
        required: bool,
        reader: &mut SchemaReader<'_>,
        validator: Option<Arc<CompiledSchema>>,
    ) -> Self {
        let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |keys: [&str; 3]| keys.iter().find_map(|key| schema.get(key)?.as_number().cloned());
        Self {
            name: name.to_owned(),
            title: text("title"),
            description: text("description"),
            required,
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            kind: Kind::read(schema, reader),
            nullable: schema.nullable,
            secret: schema.get("writeOnly") == Some(&Value::Bool(true)),
            limits: ValueLimits {
                minimum: number(["minimum", "minLength", "minItems"]),
                maximum: number(["maximum", "maxLength", "maxItems"]),
                format: text("format"),
                pattern: text("pattern"),
            },
            validator,
        }
    }

    /// Returns the constraints on a value, besides its kind.
    pub fn limits(&self) -> &ValueLimits {
        &self.limits
    }

    /// Parses a typed line.
    ///
    /// # Errors
    /// Describes the problem and the expected value.
    pub fn parse(&self, line: &str) -> Result<Value, String> {
        let line = line.trim();
        if self.nullable && (line.is_empty() || line == "null") {
            return Ok(Value::Null);
        }
        // Text that is not valid JSON may still be a string that the schema accepts.
        if self.kind == Kind::Json && self.kind.parse(line).is_none_or(|value| self.validate(&value).is_err()) {
            let text = Value::String(line.to_owned());
            if self.validator.is_some() && self.validate(&text).is_ok() {
                return Ok(text);
            }
        }
        let shown = if self.secret { "the value".to_owned() } else { format!("`{line}`") };
        let mismatch = || format!("{shown} does not fit: expected {}", self.correction(line));
        let value = self.kind.parse(line).ok_or_else(mismatch)?;
        self.validate(&value)?;
        Ok(value)
    }

    pub(super) fn validate(&self, value: &Value) -> Result<(), String> {
        let Some(validator) = &self.validator else { return Ok(()) };
        let alone = Value::Object(Map::from_iter([(self.name.clone(), value.clone())]));
        match validator.violations(&alone, &SchemaLimits::INLINE) {
            Ok(violations) if !violations.is_empty() => {
                let shown = if self.secret { "the value".to_owned() } else { value.to_string() };
                Err(format!("{shown} does not fit: expected {}", self.correction(value.as_str().unwrap_or_default())))
            }
            // A value that takes too much work to validate is left to the agent.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Describes the expected value for a text that does not fit, with the reason if it may surprise.
    fn correction(&self, text: &str) -> String {
        let mut expected = self.expected_input();
        if matches!(self.kind, Kind::Number | Kind::Integer) && has_leading_zero(text) {
            expected.push_str("; digits with a leading zero are text, and a number is written without it");
        }
        expected
    }

    /// Describes the value that the field accepts.
    pub fn expected_input(&self) -> String {
        let what = match &self.kind {
            Kind::Text => match self.limits.format.as_deref() {
                Some("email") => "an e-mail address",
                Some("uri") => "an address such as `https://example.com`",
                Some("date") => "a date such as `2026-11-30`",
                Some("date-time") => "a date and time such as `2026-11-30T18:00:00Z`",
                _ => "text",
            },
            Kind::Number => "a number",
            Kind::Integer => "a whole number",
            Kind::Boolean => "yes or no",
            Kind::Select(_) => "one of the choices",
            Kind::MultiSelect(_) => "choices with commas between",
            Kind::Json => "JSON",
        };
        let unit = match self.kind {
            Kind::Text => " characters",
            Kind::MultiSelect(_) => " choices",
            _ => "",
        };
        let mut text = match (&self.limits.minimum, &self.limits.maximum) {
            (Some(min), Some(max)) => format!("{what}, {min} to {max}{unit}"),
            (Some(min), None) => format!("{what}, at least {min}{unit}"),
            (None, Some(max)) => format!("{what}, at most {max}{unit}"),
            (None, None) => what.to_owned(),
        };
        if let Some(pattern) = &self.limits.pattern {
            text.push_str(&format!(", of the form `{pattern}`"));
        }
        text
    }

    /// Returns the choices, if the field has any, with the text or number that selects each.
    pub fn choices(&self) -> impl Iterator<Item = (String, &FieldChoice)> {
        let choices = match &self.kind {
            Kind::Select(choices) | Kind::MultiSelect(choices) => choices.as_slice(),
            _ => &[],
        };
        let numbered = are_numbered(choices);
        choices.iter().enumerate().map(move |(index, choice)| {
            (if numbered { (index + 1).to_string() } else { simplify(&choice.value) }, choice)
        })
    }

    /// Formats a value of this field as a person would type it.
    pub fn format_value(&self, value: &Value) -> String {
        let titled = |choices: &[FieldChoice], value: &Value| {
            let choice = choices.iter().find(|choice| choice.value == *value);
            choice.map_or_else(|| simplify(value), |choice| choice.title.clone())
        };
        match (&self.kind, value) {
            (Kind::Boolean, Value::Bool(true)) => "yes".to_owned(),
            (Kind::Boolean, Value::Bool(false)) => "no".to_owned(),
            (Kind::Select(choices), value) => titled(choices, value),
            (Kind::MultiSelect(choices), Value::Array(values)) => {
                values.iter().map(|value| titled(choices, value)).collect::<Vec<_>>().join(", ")
            }
            (_, value) => simplify(value),
        }
    }
}
