//! Simplifies the JSON Schema of a field, which libraries write in many ways.

use serde_json::Value;

use super::kind::{FieldChoice, Kind, simplify};
use crate::json_schema::resolve_reference;
use crate::model::JsonObject;

/// Limits the schemas of one form that are visited, including references.
const MAX_VISITED: usize = 10_000;
/// Limits the length of a chain of references and variants.
const MAX_HOPS: usize = 16;

/// A schema with its references, null variants, and single-element lists resolved as far as possible.
#[derive(Debug, Default)]
pub(super) struct PlainSchema {
    keywords: JsonObject,
    pub(super) nullable: bool,
}

impl PlainSchema {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.keywords.get(key)
    }

    /// Adds the keywords of another schema for the same value. Existing keywords take precedence, since they are closer
    /// to the field.
    fn add(&mut self, other: &JsonObject) {
        for (key, value) in other {
            self.keywords.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}

/// Reads the schemas of one form.
pub(super) struct SchemaReader<'s> {
    root: &'s Value,
    /// The number of schemas that may still be visited.
    remaining: usize,
}

impl<'s> SchemaReader<'s> {
    /// Creates a reader for the form with the schema `root`.
    pub(super) fn new(root: &'s Value) -> Self {
        Self { root, remaining: MAX_VISITED }
    }

    /// Resolves the schemas that libraries such as pydantic and zod write around a plain field: a reference, an `allOf`
    /// of one schema, and a null variant or type for an optional field.
    pub(super) fn plain(&mut self, schema: &Value) -> PlainSchema {
        let mut plain = PlainSchema::default();
        let mut next = schema.as_object().cloned();
        for _ in 0..MAX_HOPS {
            let Some(keywords) = next.take() else { break };
            if self.remaining == 0 {
                break;
            }
            self.remaining -= 1;
            plain.add(&keywords);
            if let Some(Value::String(reference)) = plain.keywords.shift_remove("$ref") {
                next = self.root.as_object().and_then(|root| resolve_reference(root, &reference)).cloned();
                continue;
            }
            if let Some(Value::Array(all)) = plain.get("allOf")
                && let [Value::Object(only)] = all.as_slice()
            {
                next = Some(only.clone());
                plain.keywords.shift_remove("allOf");
                continue;
            }
            for key in ["anyOf", "oneOf"] {
                let Some(Value::Array(variants)) = plain.keywords.get_mut(key) else { continue };
                let before = variants.len();
                variants.retain(|variant| !is_null(variant));
                plain.nullable |= variants.len() < before;
                if let [Value::Object(only)] = variants.as_slice()
                    && only.get("const").is_none()
                {
                    next = Some(only.clone());
                    plain.keywords.shift_remove(key);
                    break;
                }
            }
        }
        if let Some(Value::Array(types)) = plain.keywords.get_mut("type") {
            let before = types.len();
            types.retain(|name| name != "null");
            plain.nullable |= types.len() < before;
            if let [only] = types.as_slice() {
                let only = only.clone();
                plain.keywords.insert("type".to_owned(), only);
            }
        }
        // `enumNames` refer to the positions in `enum`.
        if plain.get("enumNames").is_none()
            && let Some(Value::Array(values)) = plain.keywords.get_mut("enum")
        {
            let before = values.len();
            values.retain(|value| !value.is_null());
            plain.nullable |= values.len() < before;
        }
        plain
    }

    /// Returns the choices of `enum` (with `enumNames`), of `const`, or of `oneOf` or `anyOf` if all variants have
    /// choices. Follows at most `hops` variants of variants.
    fn choices(&mut self, schema: &PlainSchema, hops: usize) -> Option<Vec<FieldChoice>> {
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let names = schema.get("enumNames").and_then(Value::as_array);
            let title = |index: usize| names.and_then(|names| names.get(index)?.as_str());
            let choice = |(index, value): (usize, &Value)| FieldChoice {
                title: title(index).map_or_else(|| simplify(value), str::to_owned),
                value: value.clone(),
            };
            return Some(values.iter().enumerate().map(choice).collect());
        }
        if let Some(value) = schema.get("const") {
            let title = schema.get("title").and_then(Value::as_str).map_or_else(|| simplify(value), str::to_owned);
            return Some(vec![FieldChoice { value: value.clone(), title }]);
        }
        let variants = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        let mut choices = Vec::new();
        for variant in variants {
            let variant = self.plain(variant);
            for choice in self.choices(&variant, hops.checked_sub(1)?)? {
                if !choices.contains(&choice) {
                    choices.push(choice);
                }
            }
        }
        (!choices.is_empty()).then_some(choices)
    }
}

/// Returns whether a schema accepts only null.
fn is_null(schema: &Value) -> bool {
    let constant = schema.get("const").is_some_and(Value::is_null);
    let only = schema.get("enum").and_then(Value::as_array).is_some_and(|values| values.iter().all(Value::is_null));
    constant || only || schema.get("type").is_some_and(|name| name == "null")
}

impl Kind {
    pub(super) fn read(schema: &PlainSchema, reader: &mut SchemaReader<'_>) -> Self {
        if let Some(choices) = reader.choices(schema, MAX_HOPS) {
            return Self::Select(choices);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Self::Text,
            Some("number") => Self::Number,
            Some("integer") => Self::Integer,
            Some("boolean") => Self::Boolean,
            Some("array") => {
                let items = schema.get("items").map(|items| reader.plain(items));
                items.and_then(|items| reader.choices(&items, MAX_HOPS)).map_or(Self::Json, Self::MultiSelect)
            }
            _ => Self::Json,
        }
    }
}
