//! Builds the JSON Schemas of the files of kapell for editors, from the same tables that the readers use.

use serde_json::{Map, Value, json};

use super::keys::{AGENTS_FILE, ANSWERS, PLAN};
use super::table::{EXTENSION_PREFIX, KeySchema, NAME_PATTERN, TableSchema, ValueType};
use crate::model::{DURATION_FORMAT, DURATION_PATTERN};

/// Returns the JSON Schema of a plan file.
pub fn plan_schema() -> Value {
    file_schema(&PLAN.table, "plan.schema.json")
}

/// Returns the JSON Schema of an agents file.
pub fn agents_schema() -> Value {
    file_schema(&AGENTS_FILE.table, "agents.schema.json")
}

/// Returns the JSON Schema of an answers file.
pub fn answers_schema() -> Value {
    file_schema(&ANSWERS.table, "answers.schema.json")
}

fn file_schema(root: &'static TableSchema, id: &str) -> Value {
    let mut definitions = Map::new();
    let mut schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": id });
    if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), table_schema(root, &mut definitions)) {
        schema.extend(root);
        definitions.sort_keys();
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

fn table_schema(table: &'static TableSchema, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        if matches!(key.value_type, ValueType::Unsupported(_)) {
            continue;
        }
        properties.insert(key.name.to_owned(), property_schema(key, key.description.to_owned(), definitions));
        for alias in key.aliases {
            let about = format!("Alias of `{}`. {}", key.name, key.description);
            properties.insert((*alias).to_owned(), property_schema(key, about, definitions));
        }
    }
    let mut schema = json!({
        "type": "object",
        "description": table.description,
        "properties": properties,
        "additionalProperties": false,
    });
    if table.allows_extensions() {
        schema["patternProperties"] = json!({ format!("^{EXTENSION_PREFIX}"): {} });
    }
    let (aliased, required): (Vec<&KeySchema>, Vec<_>) = table.required.iter().partition(|key| !key.aliases.is_empty());
    if !required.is_empty() {
        schema["required"] = required.iter().map(|key| key.name).collect();
    }
    if let Some(key) = aliased.first() {
        schema["oneOf"] = key.names().map(|name| json!({"required": [name]})).collect();
    }
    schema
}

fn property_schema(key: &KeySchema, about: String, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = value_schema(&key.value_type, definitions);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), about.into());
    }
    schema
}

fn value_schema(value_type: &ValueType, definitions: &mut Map<String, Value>) -> Value {
    match value_type {
        ValueType::Text | ValueType::Url | ValueType::VariableName => json!({"type": "string", "minLength": 1}),
        ValueType::AnyText => json!({"type": "string"}),
        ValueType::Name => json!({"type": "string", "pattern": NAME_PATTERN}),
        ValueType::Condition => json!({"type": ["string", "boolean"]}),
        ValueType::ItemList => json!({"type": ["string", "array"]}),
        ValueType::Boolean => json!({"type": "boolean"}),
        ValueType::Integer(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        ValueType::IntegerList(min, max) => {
            json!({"type": "array", "items": {"type": "integer", "minimum": min, "maximum": max}})
        }
        ValueType::Number(min, max) => json!({"type": "number", "minimum": min, "maximum": max}),
        ValueType::AnyNumber => json!({"type": "number"}),
        ValueType::Array => json!({"type": "array", "minItems": 1}),
        ValueType::Duration | ValueType::PositiveDuration => {
            json!({"type": "string", "pattern": DURATION_PATTERN, "examples": [DURATION_FORMAT]})
        }
        ValueType::Choice(words) => {
            let words = words.iter().map(|(word, about)| json!({"const": word, "description": about}));
            json!({"type": "string", "oneOf": words.collect::<Vec<_>>()})
        }
        ValueType::TextList => json!({"type": "array", "items": {"type": "string"}}),
        ValueType::TextOrList => {
            json!({"anyOf": [value_schema(&ValueType::Text, definitions), value_schema(&ValueType::TextList, definitions)]})
        }
        ValueType::TextMap => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        ValueType::Object => json!({"type": "object"}),
        ValueType::Any | ValueType::Unsupported(_) => json!({}),
        ValueType::Table(table) => definition_reference(table, definitions),
        ValueType::TableList(table) => json!({"type": "array", "items": definition_reference(table, definitions)}),
        ValueType::TableListMap(table) => json!({
            "type": "object",
            "additionalProperties": {"type": "array", "items": definition_reference(table, definitions)},
        }),
        ValueType::TableMap(table) => json!({
            "type": "object",
            "propertyNames": {"pattern": NAME_PATTERN},
            "additionalProperties": definition_reference(table, definitions),
        }),
        ValueType::OneOf(_, variants) => {
            let variants: Vec<_> = variants.iter().map(|variant| value_schema(variant, definitions)).collect();
            json!({"anyOf": variants})
        }
    }
}

fn definition_reference(table: &'static TableSchema, definitions: &mut Map<String, Value>) -> Value {
    let name = table.name.to_ascii_lowercase();
    if !definitions.contains_key(&name) {
        // A table can contain itself.
        definitions.insert(name.clone(), Value::Null);
        let schema = table_schema(table, definitions);
        definitions.insert(name.clone(), schema);
    }
    json!({"$ref": format!("#/$defs/{name}")})
}
