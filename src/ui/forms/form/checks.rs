//! Compiles the schemas of a form and of its fields to validate answers.

use serde_json::{Map, Value};

use crate::json_schema::{CompiledSchema, FormatValidation, SchemaCheckError, SchemaLimits};
use crate::model::JsonObject;

/// Compiles a schema. Formats are checked, and external references are not fetched.
pub(super) fn compile(schema: Value) -> Result<CompiledSchema, SchemaCheckError> {
    CompiledSchema::compile(schema, FormatValidation::Always, &SchemaLimits::INLINE)
}

/// Limits the schemas that are compiled to find invalid fields. Each field is compiled with all definitions of the
/// form.
const MAX_TRIED_SCHEMAS: usize = 10_000;

/// Compiles a schema for objects with any of the fields. A field with an invalid schema is not checked.
pub(super) fn parts(form: &JsonObject, properties: &JsonObject) -> Option<CompiledSchema> {
    let with = |properties: JsonObject| {
        let mut schema = JsonObject::new();
        for key in ["$schema", "$id", "$defs", "definitions"] {
            schema.extend(form.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        Value::Object(schema)
    };
    match compile(with(properties.clone())) {
        Ok(schema) => Some(schema),
        Err(SchemaCheckError::InvalidSchema(_)) if can_try_each(form, properties) => {
            let alone = |name: &str, schema: &Value| Map::from_iter([(name.to_owned(), schema.clone())]);
            let valid = properties.iter().filter(|(name, schema)| compile(with(alone(name, schema))).is_ok());
            compile(with(valid.map(|(name, schema)| (name.clone(), schema.clone())).collect())).ok()
        }
        Err(_) => None,
    }
}

/// Returns whether compiling each field alone stays within [`MAX_TRIED_SCHEMAS`].
fn can_try_each(form: &JsonObject, properties: &JsonObject) -> bool {
    let (mut schemas, mut stack) = (0, Vec::new());
    stack.extend(["$defs", "definitions"].iter().filter_map(|key| form.get(*key)));
    while let Some(value) = stack.pop() {
        schemas += 1;
        match value {
            Value::Array(list) => stack.extend(list),
            Value::Object(map) => stack.extend(map.values()),
            _ => {}
        }
        if schemas > MAX_TRIED_SCHEMAS {
            return false;
        }
    }
    schemas.saturating_mul(properties.len()) <= MAX_TRIED_SCHEMAS
}
