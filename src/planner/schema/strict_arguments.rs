//! Converts the arguments of tools to schemas that strict structured output accepts.

use serde_json::{Value, json};

use crate::json_schema::resolve_reference;
use crate::model::JsonObject;

/// The maximum number of schemas that one tool's arguments may expand to: references can expand a small schema a lot.
const MAX_SCHEMA_NODES: usize = 2_000;

/// The maximum number of references that lead to each other. Strict schemas have fewer levels.
const MAX_REFERENCE_DEPTH: usize = 32;

/// The keywords that say something about the type of a value.
const KEYWORDS: [&str; 7] = ["type", "properties", "items", "enum", "const", "prefixItems", "additionalProperties"];

/// How a key without a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OptionalKeys {
    /// As null: strict structured output requires all keys.
    Null,
    /// Not at all: grammars allow that, and weak models fill in what they have to write.
    Omitted,
}

/// Returns the schema of an object with exactly these properties.
pub(super) fn closed_object(properties: JsonObject) -> Value {
    object_with_required(properties, |_| true)
}

/// Returns the schema of an object with these properties, some of them required.
pub(super) fn object_with_required(properties: JsonObject, is_required: impl Fn(&str) -> bool) -> Value {
    let required: Vec<&String> = properties.keys().filter(|name| is_required(name)).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// How arguments are written.
#[derive(Debug)]
pub(super) struct ArgumentForm {
    /// The schema of a reference to a result, which any value can be. If it is absent, only texts can be references.
    pub(super) reference: Option<Value>,
    /// How an optional argument without a value is written.
    pub(super) optional: OptionalKeys,
    /// The maximum lengths of texts and lists, if they are limited.
    pub(super) bounds: Option<ArgumentBounds>,
}

/// The maximum lengths of an argument.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArgumentBounds {
    pub(super) max_chars: usize,
    pub(super) max_items: usize,
}

/// Converts a tool's arguments to a strict object, if a strict schema can express them.
pub(super) fn strict_arguments(schema: &JsonObject, form: &ArgumentForm) -> Option<Value> {
    let (resolving, remaining) = (Vec::new(), MAX_SCHEMA_NODES);
    let mut strict = StrictSchemaBuilder { root: schema, form, resolving, remaining };
    let has_keywords = ["$ref", "anyOf", "oneOf", "allOf", "additionalProperties", "patternProperties"]
        .iter()
        .any(|keyword| schema.get(*keyword).is_some_and(|value| *value != Value::Bool(false)));
    let properties = schema.get("properties").and_then(Value::as_object);
    match properties.filter(|properties| !properties.is_empty()) {
        Some(_) => strict.strict_object(schema),
        None if has_keywords => None,
        None => Some(closed_object(JsonObject::new())),
    }
}

/// Returns a schema that also accepts null.
pub(super) fn nullable(schema: Value) -> Value {
    either(schema, json!({"type": "null"}))
}

/// Returns a schema that also accepts a reference. Plain text accepts one already.
fn referable(schema: Value, reference: &Value) -> Value {
    let is_text = |schema: &Value| {
        schema.get("type").is_some_and(|kind| kind == "string")
            && !["enum", "pattern"].iter().any(|key| schema.get(*key).is_some())
    };
    let accepts_text = is_text(&schema)
        || schema.get("anyOf").and_then(Value::as_array).is_some_and(|variants| variants.iter().any(is_text));
    if accepts_text { schema } else { either(schema, reference.clone()) }
}

/// Returns a schema that accepts what one of two schemas accepts.
fn either(schema: Value, other: Value) -> Value {
    if schema == other {
        return schema;
    }
    match schema {
        Value::Object(mut schema) if schema.contains_key("anyOf") => {
            if let Some(Value::Array(variants)) = schema.get_mut("anyOf")
                && !variants.contains(&other)
            {
                variants.push(other);
            }
            Value::Object(schema)
        }
        schema => json!({"anyOf": [schema, other]}),
    }
}

/// Makes schemas strict and inlines all references. Omits constraints (formats, bounds, patterns, defaults), which the
/// validator checks later.
struct StrictSchemaBuilder<'s> {
    root: &'s JsonObject,
    form: &'s ArgumentForm,
    /// The references that are being inlined: a repeated one is recursive.
    resolving: Vec<&'s str>,
    /// The number of schemas that may still be added.
    remaining: usize,
}

impl<'s> StrictSchemaBuilder<'s> {
    /// Returns the schema of a value, or of a reference to one.
    fn value(&mut self, schema: &'s Value) -> Option<Value> {
        let schema = self.schema(schema)?;
        Some(match &self.form.reference {
            Some(reference) => referable(schema, reference),
            None => schema,
        })
    }

    fn schema(&mut self, schema: &'s Value) -> Option<Value> {
        self.keywords(schema.as_object()?)
    }

    fn keywords(&mut self, schema: &'s JsonObject) -> Option<Value> {
        self.remaining = self.remaining.checked_sub(1)?;
        if let Some(reference) = schema.get("$ref") {
            return self.reference(reference.as_str()?);
        }
        if ["allOf", "not", "if", "dependentSchemas", "patternProperties"].iter().any(|key| schema.contains_key(*key)) {
            return None;
        }
        if let Some(variants) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            let variants = variants.as_array()?.iter().map(|variant| self.schema(variant));
            return Some(json!({"anyOf": variants.collect::<Option<Vec<_>>>()?}));
        }
        if !schema.keys().any(|key| KEYWORDS.contains(&key.as_str())) {
            // A value of an unknown type is rarely an object or a list.
            return Some(json!({"anyOf": [self.text(), {"type": "number"}, {"type": "boolean"}]}));
        }
        match self.type_names(schema)?.as_slice() {
            [] => None,
            [kind] => self.typed(schema, kind),
            kinds => {
                let variants = kinds.iter().map(|kind| self.typed(schema, kind));
                Some(json!({"anyOf": variants.collect::<Option<Vec<_>>>()?}))
            }
        }
    }

    fn reference(&mut self, reference: &'s str) -> Option<Value> {
        if self.resolving.contains(&reference) || self.resolving.len() == MAX_REFERENCE_DEPTH {
            return None;
        }
        let target = resolve_reference(self.root, reference)?;
        self.resolving.push(reference);
        let strict = self.keywords(target);
        self.resolving.pop();
        strict
    }

    /// Returns the types that a schema names, or those of its enum values.
    fn type_names(&self, schema: &JsonObject) -> Option<Vec<String>> {
        let named: Vec<String> = match schema.get("type") {
            Some(Value::String(kind)) => vec![kind.clone()],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(_) => return None,
            None if schema.contains_key("properties") => vec!["object".to_owned()],
            None => {
                let mut kinds: Vec<String> =
                    enum_values(schema)?.iter().map(|value| json_type(value).to_owned()).collect();
                kinds.sort();
                kinds.dedup();
                kinds
            }
        };
        Some(named)
    }

    fn typed(&mut self, schema: &'s JsonObject, kind: &str) -> Option<Value> {
        match kind {
            "string" | "number" | "integer" | "boolean" => {
                let mut strict = if kind == "string" { self.text() } else { json!({"type": kind}) };
                if let Some(values) = enum_values(schema) {
                    let fits = |value: &&Value| json_type(value) == kind || (kind == "number" && value.is_number());
                    strict = json!({"type": kind});
                    strict["enum"] = values.into_iter().filter(fits).cloned().collect();
                }
                Some(strict)
            }
            "null" => Some(json!({"type": "null"})),
            "array" if schema.contains_key("prefixItems") => None,
            "array" => {
                let mut list = json!({"type": "array", "items": self.value(schema.get("items")?)?});
                if let Some(bounds) = self.form.bounds {
                    list["maxItems"] = bounds.max_items.into();
                }
                Some(list)
            }
            "object" => self.strict_object(schema),
            _ => None,
        }
    }

    fn strict_object(&mut self, schema: &'s JsonObject) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object).filter(|known| !known.is_empty())?;
        if schema.get("additionalProperties").is_some_and(Value::is_object) {
            return None;
        }
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let strict = properties.iter().map(|(name, schema)| {
            let strict = self.value(schema)?;
            let is_nullable = self.form.optional == OptionalKeys::Null && !required.contains(&name.as_str());
            Some((name.clone(), if is_nullable { nullable(strict) } else { strict }))
        });
        let strict: JsonObject = strict.collect::<Option<_>>()?;
        let is_required = |name: &str| self.form.optional == OptionalKeys::Null || required.contains(&name);
        Some(object_with_required(strict, is_required))
    }

    /// Returns the schema of a text.
    fn text(&self) -> Value {
        match self.form.bounds {
            Some(bounds) => json!({"type": "string", "maxLength": bounds.max_chars}),
            None => json!({"type": "string"}),
        }
    }
}

/// Returns the values of `enum` or `const`, if the schema has one of them.
fn enum_values(schema: &JsonObject) -> Option<Vec<&Value>> {
    match (schema.get("enum"), schema.get("const")) {
        (Some(values), _) => Some(values.as_array()?.iter().collect()),
        (None, Some(value)) => Some(vec![value]),
        (None, None) => None,
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::object;
    use super::*;

    fn build_strict(schema: Value) -> Option<Value> {
        strict_arguments(&object(schema), &form(OptionalKeys::Null))
    }

    /// Returns the strict schema of one argument.
    fn argument(schema: Value) -> Option<Value> {
        let root = json!({"properties": {"a": schema}, "$defs": {
            "word": {"type": "string", "enum": ["x"]},
            "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}},
            "twice": {"type": "object", "properties": {"a": {"$ref": "#/$defs/word"}, "b": {"$ref": "#/$defs/word"}}},
        }});
        build_strict(root).map(|schema| schema["properties"]["a"].clone())
    }

    fn reference() -> Value {
        json!({"type": "string", "pattern": "^\\$"})
    }

    fn form(optional: OptionalKeys) -> ArgumentForm {
        ArgumentForm { reference: Some(reference()), optional, bounds: None }
    }

    #[test]
    fn arguments_can_be_references_and_optional_ones_null() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Arguments", "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 1, "description": "Where to"},
                "nights": {"type": "integer", "default": 3, "minimum": 1, "maximum": 30, "format": "uint32"},
                "budget": {"type": ["number", "null"]},
                "any": {"description": "Anything"},
            },
            "required": ["city", "any"], "additionalProperties": false,
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "nights": {"anyOf": [{"type": "integer"}, reference(), {"type": "null"}]},
                "budget": {"anyOf": [{"type": "number"}, {"type": "null"}, reference()]},
                "any": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]},
            },
            "required": ["city", "nights", "budget", "any"], "additionalProperties": false,
        });
        assert_eq!(build_strict(schema), Some(expected));
    }

    #[test]
    fn optional_arguments_can_be_omitted_where_all_need_not_be_written() {
        let schema = json!({
            "properties": {"city": {"type": "string"}, "stay": {"properties": {"nights": {"type": "integer"}}}},
            "required": ["city"],
        });
        let built = strict_arguments(&object(schema), &form(OptionalKeys::Omitted)).expect("a schema");
        assert_eq!(built["required"], json!(["city"]));
        assert_eq!(built["properties"]["stay"]["anyOf"][0]["required"], json!([]));
    }

    #[test]
    fn bounded_arguments_are_short_and_refer_only_in_texts() {
        let schema = json!({
            "properties": {
                "city": {"type": "string"}, "nights": {"type": "integer"}, "any": {}, "kind": {"enum": ["a"]},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
        });
        let bounds = Some(ArgumentBounds { max_chars: 20, max_items: 2 });
        let form = ArgumentForm { reference: None, optional: OptionalKeys::Omitted, bounds };
        let built = strict_arguments(&object(schema), &form).expect("a schema");
        let text = json!({"type": "string", "maxLength": 20});
        let expected = json!({
            "city": text, "nights": {"type": "integer"},
            "any": {"anyOf": [text, {"type": "number"}, {"type": "boolean"}]},
            "kind": {"type": "string", "enum": ["a"]}, "tags": {"type": "array", "items": text, "maxItems": 2},
        });
        assert_eq!(built["properties"], expected);
    }

    #[test]
    fn tool_without_arguments_has_an_empty_object() {
        let none = closed_object(JsonObject::new());
        assert_eq!(build_strict(json!({"type": "object"})), Some(none.clone()));
        assert_eq!(
            build_strict(json!({"type": "object", "properties": {}, "additionalProperties": false})),
            Some(none)
        );
    }

    #[test]
    fn keeps_enums_references_lists_and_variants() {
        let word = json!({"type": "string", "enum": ["x"]});
        let text_or_reference = |schema: Value| json!({"anyOf": [schema, reference()]});
        for (schema, expected) in [
            (json!({"enum": ["a", "b"]}), text_or_reference(json!({"type": "string", "enum": ["a", "b"]}))),
            (json!({"const": 5}), text_or_reference(json!({"type": "integer", "enum": [5]}))),
            (json!({"$ref": "#/$defs/word", "description": "d"}), text_or_reference(word.clone())),
            (
                json!({"type": "array", "items": {"$ref": "#/$defs/word"}}),
                text_or_reference(json!({"type": "array", "items": text_or_reference(word)})),
            ),
            (
                json!({"properties": {"x": {"type": "boolean"}, "y": {"type": "string"}}, "required": ["x"]}),
                text_or_reference(json!({
                    "type": "object",
                    "properties": {
                        "x": text_or_reference(json!({"type": "boolean"})),
                        "y": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    },
                    "required": ["x", "y"], "additionalProperties": false,
                })),
            ),
        ] {
            assert_eq!(argument(schema.clone()), Some(nullable(expected)), "{schema}");
        }
        let variants = json!({"oneOf": [{"type": "string"}, {"type": "integer"}]});
        let expected = json!({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]});
        assert_eq!(argument(variants), Some(expected.clone()));
        assert_eq!(argument(json!({"type": ["string", "integer"]})), Some(expected));
        assert!(argument(json!({"$ref": "#/$defs/twice"})).is_some());
    }

    #[test]
    fn unsupported_schemas_become_json_text() {
        for schema in [
            json!(true),
            json!({"type": "object"}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            json!({"type": "array"}),
            json!({"type": "array", "prefixItems": [{"type": "string"}]}),
            json!({"allOf": [{"type": "string"}]}),
            json!({"type": "string", "not": {"const": "x"}}),
            json!({"$ref": "#/$defs/tree"}),
            json!({"$ref": "#/$defs/nowhere"}),
            json!({"$ref": "https://example.com/schema"}),
            json!({"type": "file"}),
        ] {
            assert_eq!(argument(schema.clone()), None, "{schema}");
        }
        assert_eq!(build_strict(json!({"type": "object", "additionalProperties": true})), None);
        assert_eq!(build_strict(json!({"anyOf": [{"properties": {}}]})), None);
    }

    #[test]
    fn recursive_references_are_rejected() {
        let mut definitions = JsonObject::new();
        for level in 0..30 {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            definitions.insert(level.to_string(), json!({"type": "object", "properties": {"a": next, "b": next}}));
        }
        definitions.insert("30".to_owned(), json!({"type": "string"}));
        assert_eq!(build_strict(json!({"properties": {"a": {"$ref": "#/$defs/0"}}, "$defs": definitions})), None);
        let next = |level: usize| json!({"properties": {"a": {"$ref": format!("#/$defs/{}", level + 1)}}});
        let chain: JsonObject = (0..MAX_SCHEMA_NODES).map(|level| (level.to_string(), next(level))).collect();
        assert_eq!(build_strict(json!({"properties": {"a": {"$ref": "#/$defs/0"}}, "$defs": chain})), None);
    }
}
