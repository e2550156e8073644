//! Parses the form of an elicitation from its JSON Schema, and lines of text into the values of its fields.
//!
//! A schema may differ from what the specification allows: a field of an unknown kind is entered as JSON.
//!
//! Follows `requestedSchema` of MCP's `elicitation/create` in 2025-11-25 and 2026-07-28, and the `enumNames` of
//! 2025-06-18.

mod checks;
mod schema;
#[cfg(test)]
mod tests;
mod typed;

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::{
    json_schema::{self, CompiledSchema},
    model::{JsonObject, has_leading_zero},
};
use checks::{compile, parts};
use schema::{PlainSchema, SchemaReader};
use typed::are_numbered;

/// A form: fields in the order of the schema.
#[derive(Debug)]
pub struct FormSchema {
    fields: Vec<FormField>,
    schema: Option<CompiledSchema>,
    /// The reason that answers are not checked, if any.
    pub unchecked_reason: Option<String>,
}

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
    limits: ValueLimits,
    /// Validates an object with any subset of the fields.
    validator: Option<Arc<CompiledSchema>>,
}

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

/// The constraints of the schema on a value, besides its type.
#[derive(Debug, Default)]
struct ValueLimits {
    minimum: Option<Number>,
    maximum: Option<Number>,
    format: Option<String>,
    pattern: Option<String>,
}

impl FormSchema {
    /// Parses a schema. An invalid schema gives a form that accepts anything, and the agent validates the answer.
    pub fn parse_schema(schema: &JsonObject) -> Self {
        let document = Value::Object(schema.clone());
        let mut reader = SchemaReader::new(&document);
        let form = reader.plain(&document);
        let required: Vec<&str> =
            form.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = form.get("properties").and_then(Value::as_object);
        let check = properties.and_then(|properties| parts(schema, properties)).map(Arc::new);
        let fields = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| {
                let read = reader.plain(property);
                FormField::parse_schema(name, &read, required.contains(&name.as_str()), &mut reader, check.clone())
            })
            .collect();
        let (whole, unchecked) = match compile(document.clone()) {
            Ok(whole) => (Some(whole), None),
            Err(unchecked) => (None, Some(unchecked.to_string())),
        };
        Self { fields, schema: whole, unchecked_reason: unchecked }
    }

    /// Returns the fields.
    pub fn iter(&self) -> impl Iterator<Item = &FormField> {
        self.fields.iter()
    }

    /// Returns whether the form has no fields, so that only a yes or no is requested.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Completes an answer with the defaults of the fields and validates it.
    ///
    /// # Errors
    /// Describes the field that is unknown, missing, or invalid.
    pub fn complete_answer(&self, mut given: JsonObject) -> Result<Value, String> {
        if let Some(name) = given.keys().find(|name| self.fields.iter().all(|field| field.name != **name)) {
            let known: Vec<_> = self.fields.iter().map(|field| format!("`{}`", field.name)).collect();
            return Err(format!("`{name}` is no field of the form; it has {}", known.join(", ")));
        }
        for field in &self.fields {
            match (given.get(&field.name), &field.default) {
                (Some(_), _) => {}
                (None, Some(default)) => {
                    given.insert(field.name.clone(), default.clone());
                }
                (None, None) if field.required && field.nullable => {
                    given.insert(field.name.clone(), Value::Null);
                }
                (None, None) if field.required => return Err(format!("`{}` is required", field.name)),
                (None, None) => {}
            }
        }
        let answer = Value::Object(given);
        match self.violation(&answer) {
            Some(problem) => Err(problem),
            None => Ok(answer),
        }
    }

    /// Describes the problem of an answer, if any. Validates the whole answer, then the field that the violation names.
    fn violation(&self, answer: &Value) -> Option<String> {
        let check = self.schema.as_ref().or_else(|| self.fields.first()?.validator.as_deref())?;
        // An answer that takes too much work to validate is left to the agent.
        let violations = check.violations(answer, &json_schema::SchemaLimits::INLINE).ok()?;
        let error = violations.first()?;
        let path = error.instance_path().to_string();
        let name = json_schema::pointer_tokens(&path).next().unwrap_or_default();
        let field = self.fields.iter().find(|field| field.name == name && !path.is_empty());
        let problem = field.and_then(|field| field.validate(answer.get(&field.name)?).err());
        Some(match problem {
            Some(problem) => format!("`{name}`: {problem}"),
            None => format!("at `{path}`: {}", json_schema::bounded_message(error, MAX_PROBLEM_BYTES)),
        })
    }
}

impl FormField {
    fn parse_schema(
        name: &str,
        schema: &PlainSchema,
        required: bool,
        reader: &mut SchemaReader<'_>,
        check: Option<Arc<CompiledSchema>>,
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
            limits: ValueLimits {
                minimum: number(["minimum", "minLength", "minItems"]),
                maximum: number(["maximum", "maxLength", "maxItems"]),
                format: text("format"),
                pattern: text("pattern"),
            },
            validator: check,
        }
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
        let misfit = || format!("`{line}` does not fit: expected {}", self.instead_of(line));
        let value = self.kind.parse(line).ok_or_else(misfit)?;
        self.validate(&value)?;
        Ok(value)
    }

    fn validate(&self, value: &Value) -> Result<(), String> {
        let Some(check) = &self.validator else { return Ok(()) };
        let alone = Value::Object(Map::from_iter([(self.name.clone(), value.clone())]));
        match check.violations(&alone, &json_schema::SchemaLimits::INLINE) {
            Ok(violations) if !violations.is_empty() => {
                Err(format!("{value} does not fit: expected {}", self.instead_of(value.as_str().unwrap_or_default())))
            }
            // A value that takes too much work to validate is left to the agent.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Describes the expected value for a text that does not fit, with the reason if it may surprise.
    fn instead_of(&self, text: &str) -> String {
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
            (Some(least), Some(most)) => format!("{what}, {least} to {most}{unit}"),
            (Some(least), None) => format!("{what}, at least {least}{unit}"),
            (None, Some(most)) => format!("{what}, at most {most}{unit}"),
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
            choices
                .iter()
                .find(|choice| choice.value == *value)
                .map_or_else(|| simplify(value), |choice| choice.title.clone())
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

/// The maximum length of the description of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 1_000;

/// Returns a string unquoted, and any other value as JSON.
fn simplify(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
