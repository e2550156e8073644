//! A whole form: its fields, and the check of a whole answer.

use std::sync::Arc;

use serde_json::Value;

use super::checks::{compile, parts};
use super::field::FormField;
use super::schema::SchemaReader;
use crate::json_schema::{self, CompiledSchema};
use crate::model::JsonObject;

/// The maximum length of the description of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 1_000;

/// A form: fields in the order of the schema.
#[derive(Debug)]
pub struct FormSchema {
    /// The fields. Without any, only a yes or no is requested.
    pub fields: Vec<FormField>,
    schema: Option<CompiledSchema>,
    /// The reason that answers are not checked, if any.
    pub unchecked_reason: Option<String>,
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
        let validator = properties.and_then(|properties| parts(schema, properties)).map(Arc::new);
        let fields = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| {
                let plain = reader.plain(property);
                let required = required.contains(&name.as_str());
                FormField::parse_schema(name, &plain, required, &mut reader, validator.clone())
            })
            .collect();
        let (schema, unchecked_reason) = match compile(document.clone()) {
            Ok(schema) => (Some(schema), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { fields, schema, unchecked_reason }
    }

    /// Completes an answer with the defaults of the fields and validates it.
    ///
    /// # Errors
    /// Describes the field that is unknown, missing, or invalid.
    pub fn complete_answer(&self, mut given: JsonObject) -> Result<Value, String> {
        if let Some(name) = given.keys().find(|name| self.fields.iter().all(|field| field.name != **name)) {
            let known: Vec<_> = self.fields.iter().map(|field| format!("`{}`", field.name)).collect();
            return Err(format!("`{name}` is not a field of the form; it has {}", known.join(", ")));
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
        let schema = self.schema.as_ref().or_else(|| self.fields.first()?.validator.as_deref())?;
        // An answer that takes too much work to validate is left to the agent.
        let violations = schema.violations(answer, &json_schema::SchemaLimits::INLINE).ok()?;
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
