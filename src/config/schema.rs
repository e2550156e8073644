//! The JSON Schemas of both files, for editors; made from the same tables that the files are read by.
//! Never holds a key of its own.

use serde_json::{Map, Value, json};

use super::{
    keys::{AGENTS_FILE, PLAN},
    shape::{Key, NAME_PATTERN, Section, Shape},
};
use crate::model::SPAN_FORM;

const DURATION_PATTERN: &str = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$";

/// The JSON Schema of a plan file.
pub fn plan_schema() -> Value {
    file(&PLAN, "plan.schema.json")
}

/// The JSON Schema of an agents file.
pub fn agents_schema() -> Value {
    file(&AGENTS_FILE, "agents.schema.json")
}

fn file(root: &'static Section, id: &str) -> Value {
    let mut definitions = Map::new();
    let mut schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": id });
    if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), section(root, &mut definitions)) {
        schema.extend(root);
        definitions.sort_keys();
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

fn section(section: &'static Section, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        if matches!(key.shape, Shape::NotYet(_)) {
            continue;
        }
        properties.insert(key.name.to_owned(), property(key, key.about.to_owned(), definitions));
        for alias in key.aliases {
            let about = format!("Another spelling of `{}`. {}", key.name, key.about);
            properties.insert((*alias).to_owned(), property(key, about, definitions));
        }
    }
    let mut schema = json!({
        "type": "object",
        "description": section.about,
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

fn property(key: &Key, about: String, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = shape(&key.shape, definitions);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), about.into());
    }
    schema
}

fn shape(shape_: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape_ {
        Shape::Text => json!({"type": "string", "minLength": 1}),
        Shape::AnyText => json!({"type": "string"}),
        Shape::Name => json!({"type": "string", "pattern": NAME_PATTERN}),
        Shape::Condition => json!({"type": ["string", "boolean"]}),
        Shape::Items => json!({"type": ["string", "array"]}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
        Shape::Duration | Shape::PositiveDuration => {
            json!({"type": "string", "pattern": DURATION_PATTERN, "examples": [SPAN_FORM]})
        }
        Shape::Choice(words) => {
            let words = words.iter().map(|(word, about)| json!({"const": word, "description": about}));
            json!({"type": "string", "oneOf": words.collect::<Vec<_>>()})
        }
        Shape::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Shape::TextOrTexts => json!({"anyOf": [shape(&Shape::Text, definitions), shape(&Shape::Texts, definitions)]}),
        Shape::TextMap => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Shape::Object => json!({"type": "object"}),
        Shape::Any | Shape::NotYet(_) => json!({}),
        Shape::Section(section) => reference(section, definitions),
        Shape::Sections(section) => json!({"type": "array", "items": reference(section, definitions)}),
        Shape::SectionMap(section) => json!({
            "type": "object",
            "propertyNames": {"pattern": NAME_PATTERN},
            "additionalProperties": reference(section, definitions),
        }),
        Shape::Either(_, shapes) => {
            let shapes: Vec<_> = shapes.iter().map(|one| shape(one, definitions)).collect();
            json!({"anyOf": shapes})
        }
    }
}

fn reference(inner: &'static Section, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(inner.definition) {
        let schema = section(inner, definitions);
        definitions.insert(inner.definition.to_owned(), schema);
    }
    json!({"$ref": format!("#/$defs/{}", inner.definition)})
}
