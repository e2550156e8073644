//! Reads the form of an elicitation from its JSON Schema, and lines of text into the values that it asks for.
//! Never asks, and never trusts a schema to be what the specification allows: what it does not know, it takes as JSON.
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
    /// Why answers are not checked, if they are not.
    pub unchecked_reason: Option<String>,
}

/// A field of a form.
#[derive(Debug)]
pub struct FormField {
    /// Its key in the answer.
    pub name: String,
    /// What a person reads instead of the key; from an agent, so data.
    pub title: Option<String>,
    /// What it is for; from an agent, so data.
    pub description: Option<String>,
    /// Whether an answer must have it.
    pub required: bool,
    /// The value where none is given.
    pub default: Option<Value>,
    /// What it takes.
    pub kind: Kind,
    /// Whether it takes null, which stands for no value.
    pub nullable: bool,
    limits: ValueLimits,
    /// Checks an object of single fields.
    validator: Option<Arc<CompiledSchema>>,
}

/// What a field takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text as typed.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// Yes or no.
    Boolean,
    /// One of these.
    Select(Vec<FieldChoice>),
    /// Any of these.
    MultiSelect(Vec<FieldChoice>),
    /// Anything else, written as JSON.
    Json,
}

/// One of the values that a field takes.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChoice {
    /// What goes into the answer.
    pub value: Value,
    /// What a person reads; from an agent, so data.
    pub title: String,
}

/// What the schema says of a value beyond its type, in the schema's own words.
#[derive(Debug, Default)]
struct ValueLimits {
    minimum: Option<Number>,
    maximum: Option<Number>,
    format: Option<String>,
    pattern: Option<String>,
}

impl FormSchema {
    /// Reads a schema. One that makes no sense gives a form that takes anything; the agent will say what it thinks.
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

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = &FormField> {
        self.fields.iter()
    }

    /// Whether nothing but yes or no is asked.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The answer: what was given, with defaults where nothing was.
    ///
    /// # Errors
    /// Says which field is unknown, missing or wrong.
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

    /// Says what is wrong with an answer: one check of all of it, then one of the field that it names.
    fn violation(&self, answer: &Value) -> Option<String> {
        let check = self.schema.as_ref().or_else(|| self.fields.first()?.validator.as_deref())?;
        // An answer that takes too much work is left to the agent.
        let violations = check.violations(answer, &json_schema::SchemaLimits::INLINE).ok()?;
        let error = violations.first()?;
        let path = error.instance_path().to_string();
        let name = path.split('/').nth(1).unwrap_or_default().replace("~1", "/").replace("~0", "~");
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

    /// Reads a line that is not empty.
    ///
    /// # Errors
    /// Says what was wrong and what is expected.
    pub fn parse(&self, line: &str) -> Result<Value, String> {
        let line = line.trim();
        if self.nullable && (line.is_empty() || line == "null") {
            return Ok(Value::Null);
        }
        // What is not JSON may still be a text that the schema takes.
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
            // An answer that takes too much work is left to the agent.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What the field takes instead of a text that does not fit, and why where that may surprise.
    fn instead_of(&self, text: &str) -> String {
        let mut expected = self.expected_input();
        if matches!(self.kind, Kind::Number | Kind::Integer) && has_leading_zero(text) {
            expected.push_str("; digits with a leading zero are text, and a number is written without it");
        }
        expected
    }

    /// What the field takes, in words.
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

    /// The choices, if the field has any, with the word or number that picks each.
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

    /// A value of this field as a person would type it.
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

/// Bytes of the description of a problem with an answer.
const MAX_PROBLEM_BYTES: usize = 1_000;

/// Text as it is, anything else as JSON.
fn simplify(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
