//! Builds the JSON Schemas of the plan and agents files for editors, from the same tables that the readers use.

use serde_json::{Map, Value, json};

use super::keys::{AGENTS_FILE, PLAN};
use super::table::{KeySchema, NAME_PATTERN, TableSchema, ValueType};
use crate::model::{DURATION_FORMAT, DURATION_PATTERN};

/// Returns the JSON Schema of a plan file.
pub fn plan_schema() -> Value {
    file_schema(&PLAN, "plan.schema.json")
}

/// Returns the JSON Schema of an agents file.
pub fn agents_schema() -> Value {
    file_schema(&AGENTS_FILE, "agents.schema.json")
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

fn table_schema(section: &'static TableSchema, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
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
        "description": section.description,
        "properties": properties,
        "additionalProperties": false,
    });
    let (mut required, mut either) = (Vec::new(), Vec::new());
    for name in section.required {
        let aliases = section.key(name).map_or(&[][..], |key| key.aliases);
        match aliases {
            [] => required.push(*name),
            _ => either = std::iter::once(name).chain(aliases).map(|name| json!({"required": [name]})).collect(),
        }
    }
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !either.is_empty() {
        schema["oneOf"] = json!(either);
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

fn value_schema(shape_: &ValueType, definitions: &mut Map<String, Value>) -> Value {
    match shape_ {
        ValueType::Text => json!({"type": "string", "minLength": 1}),
        ValueType::AnyText => json!({"type": "string"}),
        ValueType::Name => json!({"type": "string", "pattern": NAME_PATTERN}),
        ValueType::Condition => json!({"type": ["string", "boolean"]}),
        ValueType::ItemList => json!({"type": ["string", "array"]}),
        ValueType::Boolean => json!({"type": "boolean"}),
        ValueType::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        ValueType::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
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
        ValueType::Table(section) => definition_reference(section, definitions),
        ValueType::TableList(section) => json!({"type": "array", "items": definition_reference(section, definitions)}),
        ValueType::TableMap(section) => json!({
            "type": "object",
            "propertyNames": {"pattern": NAME_PATTERN},
            "additionalProperties": definition_reference(section, definitions),
        }),
        ValueType::OneOf(_, shapes) => {
            let shapes: Vec<_> = shapes.iter().map(|one| value_schema(one, definitions)).collect();
            json!({"anyOf": shapes})
        }
    }
}

fn definition_reference(inner: &'static TableSchema, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(inner.definition) {
        let schema = table_schema(inner, definitions);
        definitions.insert(inner.definition.to_owned(), schema);
    }
    json!({"$ref": format!("#/$defs/{}", inner.definition)})
}
