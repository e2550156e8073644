//! Makes the schemas of tools acceptable to every endpoint. Endpoints reject the whole request for one tool whose
//! schema is not an object with properties, combines schemas at its top, or has references that they cannot resolve.
//!
//! The result may accept more than the original schema. Agents and the host check the arguments of a call.

use serde_json::{Map, Value, json};

use crate::json_schema::resolve_reference;
use crate::model::JsonObject;

/// The maximum number of schemas that references may add: they can expand a small schema a lot.
const MAX_INLINED_SCHEMAS: usize = 2_000;
/// The maximum nesting of schemas. Deeper ones become schemas of any value.
const MAX_LEVELS: usize = 64;

/// Keywords that have no meaning without references, or that some endpoints reject.
const OMITTED_KEYWORDS: [&str; 10] = [
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
];
/// Keywords that combine schemas, which endpoints reject at the top of a schema.
const COMBINING_KEYWORDS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Other keywords that endpoints reject at the top of a schema.
const NESTED_ONLY_KEYWORDS: [&str; 6] = ["not", "if", "then", "else", "enum", "const"];
/// Keywords whose value is a schema, a list of schemas, or a map of schemas.
const SCHEMA_KEYWORDS: [&str; 11] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
];
const SCHEMA_LIST_KEYWORDS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const SCHEMA_MAP_KEYWORDS: [&str; 3] = ["properties", "patternProperties", "dependentSchemas"];

/// Returns the schema of a tool's arguments as an object without references, and without combined schemas at its top.
/// A schema that is acceptable is returned without change, except for `$schema`.
pub(super) fn parameters(schema: &JsonObject) -> Value {
    let mut inliner = ReferenceInliner { root: schema, resolving: Vec::new(), remaining: MAX_INLINED_SCHEMAS };
    let mut parameters = inliner.members(schema, MAX_LEVELS);
    merge_combined(&mut parameters);
    for keyword in NESTED_ONLY_KEYWORDS {
        parameters.shift_remove(keyword);
    }
    parameters.insert("type".to_owned(), json!("object"));
    if !parameters.get("properties").is_some_and(Value::is_object) {
        parameters.insert("properties".to_owned(), json!({}));
    }
    retain_known_required(&mut parameters);
    parameters.into()
}

/// Replaces the references of a schema by what they refer to. A recursive reference, and one that leads out of the
/// schema, becomes a schema of any value.
struct ReferenceInliner<'s> {
    root: &'s JsonObject,
    /// The references that are being inlined: a repeated one is recursive.
    resolving: Vec<&'s str>,
    /// The number of schemas that references may still add.
    remaining: usize,
}

impl<'s> ReferenceInliner<'s> {
    /// Returns the schema, or `None` if it accepts no value.
    fn schema(&mut self, schema: &'s Value, levels: usize) -> Option<Value> {
        match (schema, levels.checked_sub(1)) {
            (Value::Bool(false), _) => None,
            (Value::Object(schema), Some(levels)) => Some(self.members(schema, levels).into()),
            _ => Some(json!({})),
        }
    }

    fn members(&mut self, schema: &'s JsonObject, levels: usize) -> JsonObject {
        if !self.resolving.is_empty() {
            match self.remaining.checked_sub(1) {
                Some(remaining) => self.remaining = remaining,
                None => return JsonObject::new(),
            }
        }
        let mut members = match schema.get("$ref") {
            Some(reference) => self.target(reference.as_str(), levels),
            None => JsonObject::new(),
        };
        // Keywords beside a reference apply too; most are annotations, such as `description`.
        for (keyword, value) in schema {
            if let Some(value) = self.keyword(keyword, value, levels) {
                members.insert(keyword.clone(), value);
            }
        }
        retain_known_required(&mut members);
        members
    }

    fn target(&mut self, reference: Option<&'s str>, levels: usize) -> JsonObject {
        let Some((reference, levels)) = reference.zip(levels.checked_sub(1)) else { return JsonObject::new() };
        let Some(target) = resolve_reference(self.root, reference) else { return JsonObject::new() };
        if self.resolving.contains(&reference) {
            // The type is the part of a recursive schema that needs no further schema.
            let kind = target.get("type").map(|kind| ("type".to_owned(), kind.clone()));
            return kind.into_iter().collect();
        }
        self.resolving.push(reference);
        let members = self.members(target, levels);
        self.resolving.pop();
        members
    }

    /// Returns the value of a keyword, or `None` if the keyword is omitted.
    fn keyword(&mut self, keyword: &str, value: &'s Value, levels: usize) -> Option<Value> {
        let is_one_of = |keywords: &[&str]| keywords.contains(&keyword);
        match value {
            _ if keyword == "$ref" || is_one_of(&OMITTED_KEYWORDS) => None,
            Value::Array(values) if keyword == "enum" && values.is_empty() => None,
            Value::Object(schemas) if is_one_of(&SCHEMA_MAP_KEYWORDS) => {
                let schemas =
                    schemas.iter().filter_map(|(name, schema)| Some((name.clone(), self.schema(schema, levels)?)));
                Some(Value::Object(schemas.collect()))
            }
            Value::Array(schemas) if is_one_of(&SCHEMA_LIST_KEYWORDS) || keyword == "items" => {
                let schemas: Vec<Value> = schemas.iter().filter_map(|schema| self.schema(schema, levels)).collect();
                (!schemas.is_empty()).then(|| schemas.into())
            }
            // `false` closes objects and lists, which endpoints accept.
            Value::Object(_) if is_one_of(&SCHEMA_KEYWORDS) => self.schema(value, levels),
            _ => Some(value.clone()),
        }
    }
}

/// Merges the combined schemas of an object into its own properties. Of alternatives, only what all of them require
/// stays required.
fn merge_combined(schema: &mut JsonObject) {
    for keyword in COMBINING_KEYWORDS {
        let Some(Value::Array(parts)) = schema.shift_remove(keyword) else { continue };
        let mut parts: Vec<JsonObject> = parts.into_iter().filter_map(|part| part.as_object().cloned()).collect();
        parts.iter_mut().for_each(merge_combined);
        let required = parts.iter().map(required_names).reduce(|common, names| match keyword {
            "allOf" => common.into_iter().chain(names).collect(),
            _ => common.into_iter().filter(|name| names.contains(name)).collect(),
        });
        for part in parts {
            if let Some(Value::Object(properties)) = part.get("properties") {
                properties.iter().for_each(|(name, property)| add_property(schema, name, property));
            }
        }
        let mut all = required_names(schema);
        all.extend(required.into_iter().flatten());
        all.sort();
        all.dedup();
        if !all.is_empty() {
            schema.insert("required".to_owned(), all.into());
        }
    }
}

/// Adds a property to the object. Different schemas of the same property become alternatives.
fn add_property(schema: &mut JsonObject, name: &str, property: &Value) {
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    let Value::Object(properties) = properties else { return };
    match properties.get_mut(name) {
        None => {
            properties.insert(name.to_owned(), property.clone());
        }
        Some(known) if known == property => {}
        Some(Value::Object(known)) if is_union(known) => {
            if let Some(Value::Array(variants)) = known.get_mut("anyOf")
                && !variants.contains(property)
            {
                variants.push(property.clone());
            }
        }
        Some(known) => *known = json!({"anyOf": [known.take(), property]}),
    }
}

/// Returns whether a schema only lists alternatives.
fn is_union(schema: &Map<String, Value>) -> bool {
    schema.len() == 1 && schema.contains_key("anyOf")
}

fn required_names(schema: &JsonObject) -> Vec<String> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Removes the required properties that an object with properties does not have, since some endpoints reject them.
fn retain_known_required(schema: &mut JsonObject) {
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    let required = required_names(schema);
    let known: Vec<String> = required.iter().filter(|name| properties.contains_key(*name)).cloned().collect();
    if known.len() < required.len() {
        schema.insert("required".to_owned(), known.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(schema: Value) -> Value {
        parameters(schema.as_object().expect("an object"))
    }

    #[test]
    fn acceptable_schemas_are_unchanged() {
        let schema = json!({
            "type": "object",
            "properties": {
                "q": {"type": "string", "description": "what to find"},
                "mode": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}], "default": null},
                "items": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
            },
            "required": ["q"],
            "additionalProperties": false,
        });
        let mut with_dialect = schema.clone();
        with_dialect["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        assert_eq!(written(schema.clone()), schema);
        assert_eq!(written(with_dialect), schema);
    }

    #[test]
    fn anything_becomes_an_object_with_properties() {
        let empty = json!({"type": "object", "properties": {}});
        for schema in [
            json!({}),
            json!({"type": "object"}),
            json!({"type": "string", "enum": ["a"]}),
            json!({"type": ["object", "null"], "properties": null}),
            json!({"not": {"required": ["a"]}, "const": {}}),
            json!({"$ref": "https://example.org/schema.json"}),
            json!({"$ref": "#"}),
        ] {
            assert_eq!(written(schema.clone()), empty, "{schema}");
        }
        let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert_eq!(written(json!({"type": "object", "additionalProperties": false})), closed);
    }

    #[test]
    fn references_are_inlined() {
        let schema = json!({
            "type": "object",
            "properties": {
                "start": {"$ref": "#/$defs/point", "description": "where to start"},
                "remote": {"$ref": "https://example.org/a.json", "description": "anything"},
                "missing": {"$ref": "#/$defs/nowhere"},
                "tree": {"$ref": "#/$defs/node"},
                "never": false,
                "any": true,
                "odd": {"$id": "x", "enum": [], "required": ["a", "b"], "properties": {"a": {}}},
            },
            "required": ["start", "never"],
            "$defs": {
                "point": {"type": "object", "properties": {"x": {"$ref": "#/$defs/number"}}, "required": ["x"]},
                "number": {"type": "number"},
                "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}},
            },
        });
        let node = |next: Value| json!({"type": "object", "properties": {"next": next}});
        let expected = json!({
            "type": "object",
            "properties": {
                "start": {
                    "type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"],
                    "description": "where to start",
                },
                "remote": {"description": "anything"},
                "missing": {},
                "tree": node(json!({"type": "object"})),
                "any": {},
                "odd": {"required": ["a"], "properties": {"a": {}}},
            },
            "required": ["start"],
        });
        assert_eq!(written(schema), expected);
    }

    #[test]
    fn combined_schemas_at_the_top_are_merged() {
        let by = |name: &str, kind: &str| json!({"type": "object", "properties": {"by": {"const": name}, name: {"type": kind}}, "required": ["by", name]});
        let schema = json!({
            "oneOf": [by("id", "integer"), {"$ref": "#/$defs/name"}, {"anyOf": [by("tag", "string")]}],
            "allOf": [{"properties": {"limit": {"type": "integer"}}, "required": ["limit"]}],
            "$defs": {"name": by("name", "string")},
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "limit": {"type": "integer"},
                "by": {"anyOf": [{"const": "id"}, {"const": "name"}, {"const": "tag"}]},
                "id": {"type": "integer"}, "name": {"type": "string"}, "tag": {"type": "string"},
            },
            "required": ["by", "limit"],
        });
        assert_eq!(written(schema), expected);
    }

    #[test]
    fn expansion_is_bounded() {
        let next = |level: usize| {
            json!({"properties": {
                "a": {"$ref": format!("#/$defs/{}", level + 1)}, "b": {"$ref": format!("#/$defs/{}", level + 1)},
            }})
        };
        let definitions: JsonObject = (0..40).map(|level| (level.to_string(), next(level))).collect();
        let written = written(json!({"$ref": "#/$defs/0", "$defs": definitions}));
        assert!(written.to_string().len() < 200 * MAX_INLINED_SCHEMAS);
        let deep = (0..500).fold(json!({"type": "string"}), |inner, _| json!({"items": inner}));
        assert!(parameters(json!({"properties": {"a": deep}}).as_object().expect("an object")).is_object());
    }
}
