//! Completes an object that violates its schema where the schema leaves no choice.

use std::cell::Cell;
use std::ptr;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::references::resolve_reference;

/// The maximum number of properties, items, and schemas that are visited. References can expand a small schema
/// a lot, and defaults can lead to each other.
const MAX_VISITS: usize = 20_000;
/// The maximum number of schemas that apply to one value.
const MAX_SCHEMAS: usize = 64;
/// The maximum nesting of values, and of schemas that apply to one value.
const MAX_LEVELS: usize = 64;

/// Adds the default of each required property that is missing, and removes each null that its property does not accept
/// unless the property is required. A required property with a default gets it instead of such a null.
///
/// Descends into properties and items, through `$ref`, `allOf`, and variants if only one of them accepts the value.
/// Generators describe what a server has after it has applied its own defaults, so they list such properties as
/// required.
pub(crate) fn apply_defaults(root: &Map<String, Value>, value: &mut Value) {
    DefaultsApplier { root, visits: Cell::new(0) }.complete(vec![root], value, MAX_LEVELS);
}

struct DefaultsApplier<'s> {
    root: &'s Map<String, Value>,
    visits: Cell<usize>,
}

/// What the schemas of an object state about one of its properties.
#[derive(Default)]
struct Property<'s> {
    schemas: Vec<&'s Map<String, Value>>,
    is_required: bool,
}

impl<'s> DefaultsApplier<'s> {
    /// Completes `value`, to which all of `schemas` apply.
    fn complete(&self, schemas: Vec<&'s Map<String, Value>>, value: &mut Value, levels: usize) {
        let (Value::Object(_) | Value::Array(_), Some(levels)) = (&*value, levels.checked_sub(1)) else { return };
        let schemas = self.applicable(schemas, Some(value));
        match value {
            Value::Object(members) => self.complete_members(&schemas, members, levels),
            Value::Array(items) => {
                let schemas: Vec<_> = schemas.iter().filter_map(|schema| schema.get("items")?.as_object()).collect();
                for item in items.iter_mut().take_while(|_| !schemas.is_empty() && self.visit()) {
                    self.complete(schemas.clone(), item, levels);
                }
            }
            _ => {}
        }
    }

    fn complete_members(&self, schemas: &[&'s Map<String, Value>], members: &mut Map<String, Value>, levels: usize) {
        for (name, property) in properties(schemas).into_iter().take_while(|_| self.visit()) {
            let accepts_null = || property.schemas.iter().all(|schema| self.accepts(schema, &Value::Null, MAX_LEVELS));
            let is_null = members.get(name).is_some_and(Value::is_null) && !accepts_null();
            let is_missing = is_null || !members.contains_key(name);
            if is_missing && property.is_required {
                let schemas = self.applicable(property.schemas.clone(), None);
                if let Some(default) = schemas.iter().find_map(|schema| schema.get("default")) {
                    members.insert(name.to_owned(), default.clone());
                }
            } else if is_null {
                members.shift_remove(name);
            }
            if let Some(member) = members.get_mut(name) {
                self.complete(property.schemas, member, levels);
            }
        }
    }

    /// Counts a visit. Returns whether the limit is not reached.
    fn visit(&self) -> bool {
        self.visits.set(self.visits.get() + 1);
        self.visits.get() <= MAX_VISITS
    }

    /// Returns `schemas` with those that their `$ref` and `allOf` lead to, and the variants that alone accept `value`,
    /// each once.
    fn applicable(&self, schemas: Vec<&'s Map<String, Value>>, value: Option<&Value>) -> Vec<&'s Map<String, Value>> {
        let mut all = schemas;
        let mut next = 0;
        while let Some(schema) = all.get(next).copied() {
            next += 1;
            let parts =
                schema.get("allOf").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
            let variants = ["anyOf", "oneOf"].into_iter().filter_map(|key| self.only_variant(schema, key, value?));
            for schema in self.target(schema).into_iter().chain(parts).chain(variants) {
                if all.len() < MAX_SCHEMAS && !all.iter().any(|known| ptr::eq(*known, schema)) {
                    all.push(schema);
                }
            }
        }
        all
    }

    fn target(&self, schema: &'s Map<String, Value>) -> Option<&'s Map<String, Value>> {
        resolve_reference(self.root, schema.get("$ref")?.as_str()?)
    }

    /// Returns the variant under `key` that accepts `value`, if there is exactly one.
    fn only_variant(&self, schema: &'s Map<String, Value>, key: &str, value: &Value) -> Option<&'s Map<String, Value>> {
        let variants = schema.get(key)?.as_array()?;
        let mut accepting = variants.iter().filter(|variant| match variant {
            Value::Object(variant) => self.accepts(variant, value, MAX_LEVELS),
            other => *other != &Value::Bool(false),
        });
        let only = accepting.next()?.as_object();
        only.filter(|_| accepting.next().is_none())
    }

    /// Returns whether the type, the constants, and the variants of a schema accept `value`. Its other keywords are not
    /// considered.
    fn accepts(&self, schema: &'s Map<String, Value>, value: &Value, levels: usize) -> bool {
        let Some(levels) = levels.checked_sub(1).filter(|_| self.visit()) else { return true };
        let accepts = |schema: &'s Value| match schema {
            Value::Object(schema) => self.accepts(schema, value, levels),
            other => *other != Value::Bool(false),
        };
        let list = |key| schema.get(key).and_then(Value::as_array);
        let has_type = |name: &Value| name.as_str().is_none_or(|name| is_of_type(value, name));
        let type_fits = match schema.get("type") {
            Some(Value::Array(names)) => names.iter().any(has_type),
            Some(name) => has_type(name),
            None => true,
        };
        type_fits
            && schema.get("const").is_none_or(|constant| constant == value)
            && list("enum").is_none_or(|values| values.contains(value))
            && self.target(schema).is_none_or(|target| self.accepts(target, value, levels))
            && list("allOf").is_none_or(|schemas| schemas.iter().all(accepts))
            && ["anyOf", "oneOf"].into_iter().filter_map(list).all(|variants| variants.iter().any(accepts))
    }
}

/// Returns the properties that `schemas` declare or require.
fn properties<'s>(schemas: &[&'s Map<String, Value>]) -> IndexMap<&'s str, Property<'s>> {
    let mut properties: IndexMap<&str, Property<'_>> = IndexMap::new();
    for schema in schemas {
        let declared = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        for (name, schema) in declared.filter_map(|(name, schema)| Some((name, schema.as_object()?))) {
            properties.entry(name).or_default().schemas.push(schema);
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            properties.entry(name).or_default().is_required = true;
        }
    }
    properties
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completed(schema: &Value, value: Value) -> Value {
        let mut value = value;
        apply_defaults(schema.as_object().expect("an object"), &mut value);
        value
    }

    #[test]
    fn missing_required_properties_get_their_defaults() {
        let schema = json!({
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["png", "jpeg"], "default": "png"},
                "scale": {"type": "string", "default": "css"},
                "fullPage": {"type": "boolean", "default": false},
                "filename": {"type": "string"},
            },
            "required": ["type", "scale", "filename"],
        });
        assert_eq!(completed(&schema, json!({"scale": "device"})), json!({"scale": "device", "type": "png"}));
        assert_eq!(completed(&schema, json!({"type": null})), json!({"type": "png", "scale": "css"}));
    }

    #[test]
    fn nulls_of_optional_properties_are_removed_unless_accepted() {
        let schema = json!({
            "type": "object",
            "properties": {
                "verbose": {"type": "boolean"},
                "required": {"type": "boolean"},
                "typed": {"type": ["string", "null"]},
                "variant": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "reference": {"$ref": "#/$defs/optional"},
                "text": {"$ref": "#/$defs/text"},
                "nullable": {"type": "string", "nullable": true},
                "any": {},
                "choice": {"enum": ["a", "b"]},
                "constant": {"const": null},
            },
            "required": ["required"],
            "$defs": {"optional": {"type": ["integer", "null"]}, "text": {"type": "string"}},
        });
        let names = schema["properties"].as_object().expect("an object").keys();
        let nulls: Map<_, _> = names.map(|name| (name.clone(), Value::Null)).collect();
        let kept = ["required", "typed", "variant", "reference", "any", "constant"];
        let kept: Map<_, _> = kept.map(|name| (name.to_owned(), Value::Null)).into_iter().collect();
        assert_eq!(completed(&schema, nulls.into()), Value::Object(kept));
        assert_eq!(completed(&schema, json!({"unknown": null})), json!({"unknown": null}));
    }

    #[test]
    fn nested_objects_are_completed_where_one_schema_applies() {
        let point = json!({
            "type": "object", "properties": {"x": {"type": "integer", "default": 0}, "label": {"type": "string"}},
            "required": ["x"],
        });
        let schema = json!({
            "allOf": [{"properties": {"from": {"$ref": "#/$defs/point"}}}, {"required": ["unit"]}],
            "properties": {
                "unit": {"$ref": "#/$defs/unit"},
                "points": {"type": "array", "items": {"$ref": "#/$defs/point"}},
                "optional": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]},
                "either": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "object", "required": ["y"]}]},
            },
            "$defs": {"point": point, "unit": {"allOf": [{"type": "string"}, {"default": "px"}]}},
        });
        let value = json!({
            "from": {"label": null}, "points": [{}, {"x": 1}, 7], "optional": {}, "either": {"label": null},
        });
        let expected = json!({
            "from": {"x": 0}, "points": [{"x": 0}, {"x": 1}, 7], "optional": {"x": 0}, "either": {"label": null},
            "unit": "px",
        });
        assert_eq!(completed(&schema, value), expected);
    }

    #[test]
    fn recursive_defaults_are_bounded() {
        let schema = json!({
            "properties": {"a": {"$ref": "#", "default": {}}, "b": {"$ref": "#", "default": {}}},
            "required": ["a", "b"],
        });
        let root = schema.as_object().expect("an object");
        let applier = DefaultsApplier { root, visits: Cell::new(0) };
        applier.complete(vec![root], &mut json!({}), MAX_LEVELS);
        assert!(applier.visits.get() > MAX_VISITS);
        let reference = json!({"$ref": "#/$defs/a"});
        let doubling = json!({
            "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"allOf": [reference, reference]}},
        });
        assert_eq!(completed(&doubling, json!({"a": null})), json!({"a": null}));
        let looped = json!({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}});
        assert_eq!(completed(&looped, json!({"a": null})), json!({"a": null}));
    }
}
