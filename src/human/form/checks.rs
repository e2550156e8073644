//! Compiles the schema of a form and of its fields, so that answers can be checked.
//! Never fetches what a schema refers to.

use serde_json::{Map, Value};

use crate::{
    json_schema::{Formats, Limits, Schema, Unchecked},
    model::JsonObject,
};

/// Compiles a schema. Formats are checked; what a schema refers to elsewhere is not fetched.
pub(super) fn compile(schema: Value) -> Result<Schema, Unchecked> {
    Schema::compile(schema, Formats::Checked, &Limits::INLINE)
}

/// Fields of a form up to which each is tried alone where they cannot be checked together.
const MAX_TRIED_FIELDS: usize = 64;

/// Compiles a schema for objects of any of the fields. A field whose own schema is invalid is not checked.
pub(super) fn parts(form: &JsonObject, properties: &JsonObject) -> Option<Schema> {
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
        Err(Unchecked::InvalidSchema(_)) if properties.len() <= MAX_TRIED_FIELDS => {
            let alone = |name: &str, schema: &Value| Map::from_iter([(name.to_owned(), schema.clone())]);
            let valid = properties.iter().filter(|(name, schema)| compile(with(alone(name, schema))).is_ok());
            compile(with(valid.map(|(name, schema)| (name.clone(), schema.clone())).collect())).ok()
        }
        Err(_) => None,
    }
}
