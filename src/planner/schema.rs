//! Builds the JSON Schema of the model's reply, in the subset that endpoints with strict structured output accept.
//! Replies are not validated against it, but against the tools' own schemas.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::tool_selection::ToolOffer;
use crate::json_schema::resolve_reference;
use crate::model::JsonObject;

/// The limits of strict structured output by OpenAI, the strictest known: levels of nesting, properties, enum values,
/// and characters of all names and values together.
const STRICT_LIMITS: SchemaSize = SchemaSize { levels: 10, properties: 5_000, values: 1_000, characters: 120_000 };

/// The levels above a tool's arguments: the plan, its list of tasks, a task, and its call.
const LEVELS_ABOVE: usize = 4;

/// The maximum number of argument names that bindings may choose from. OpenAI limits the text of longer enums.
const MAX_ENUM_NAMES: usize = 250;

/// The maximum number of schemas that one tool's arguments may expand to: references can expand a small schema a lot.
const MAX_SCHEMA_NODES: usize = 2_000;

/// The maximum number of references that lead to each other. Strict schemas have fewer levels.
const MAX_REFERENCE_DEPTH: usize = 32;

/// Returns the schema of a plan with these tools: `{analysis, tasks: [{id, title, depends_on, call, bindings}]}`.
///
/// `call` has one variant for each tool. The tool's arguments are strict and nullable: null means that an argument is
/// omitted or bound. Tools whose arguments cannot be made strict share a variant with `args_json`, the arguments as
/// JSON text. A binding can only set arguments that the tools name, if all of them name theirs.
///
/// The validator checks that a plan has tasks, because some endpoints (Azure) do not accept `minItems`.
pub(super) fn plan_schema(offers: &[ToolOffer<'_>], max_tasks: usize) -> Value {
    let ids: Vec<String> = (1..=max_tasks).map(|number| format!("t{number}")).collect();
    let text = json!({"type": "string"});
    object_schema([("analysis", text), ("tasks", tasks_schema(offers, &TaskIds { assignable: &ids, referable: &[] }))])
}

/// Returns the schema of a plan patch: `{analysis, keep, tasks}`, where `keep` lists some of `open`.
pub(super) fn patch_schema(offers: &[ToolOffer<'_>], ids: &TaskIds<'_>, open: &[String]) -> Value {
    let text = json!({"type": "string"});
    let kept = json!({"type": "array", "items": id_enum(open.iter())});
    object_schema([("analysis", text), ("keep", kept), ("tasks", tasks_schema(offers, ids))])
}

/// The task IDs of a plan.
pub(super) struct TaskIds<'a> {
    /// The IDs that new tasks can have.
    pub(super) assignable: &'a [String],
    /// The IDs of existing tasks that new tasks can refer to.
    pub(super) referable: &'a [String],
}

/// The maximum number of IDs in an enum: the limits of strict schemas must leave room for tools.
const MAX_ENUM_IDS: usize = 100;

/// Returns the schema of one of these IDs. Falls back to any string for too many IDs, or for an empty enum.
fn id_enum<'i>(ids: impl ExactSizeIterator<Item = &'i String>) -> Value {
    match ids.len() {
        1..=MAX_ENUM_IDS => json!({"type": "string", "enum": ids.collect::<Vec<_>>()}),
        _ => json!({"type": "string"}),
    }
}

/// Returns the schema of a list of tasks.
fn tasks_schema(offers: &[ToolOffer<'_>], ids: &TaskIds<'_>) -> Value {
    let own = id_enum(ids.assignable.iter());
    let known: Vec<&String> = ids.referable.iter().chain(ids.assignable).collect();
    let id = id_enum(known.iter().copied());
    let text = json!({"type": "string"});
    let names = argument_names(offers);
    let argument = match names.is_empty() {
        true => text.clone(),
        false => json!({"type": "string", "enum": names}),
    };
    let binding = object_schema([("arg", argument), ("task", id.clone()), ("output", text.clone())]);
    let mut variants = Vec::new();
    let mut loose: Vec<Value> = Vec::new();
    // The size of the rest of the schema, including the names of loose tools.
    let mut remaining = STRICT_LIMITS.minus(SchemaSize {
        levels: LEVELS_ABOVE,
        properties: 12,
        values: ids.assignable.len() + 2 * known.len().min(MAX_ENUM_IDS) + MAX_ENUM_IDS + offers.len() + names.len(),
        characters: 4_000
            + offers.iter().map(|offer| offer.name().len()).sum::<usize>()
            + names.iter().map(|name| name.len()).sum::<usize>(),
    });
    for offer in offers {
        let strict = strict_arguments(&offer.tool.input_schema).map(|arguments| {
            let tool = json!({"type": "string", "enum": [offer.name()]});
            (SchemaSize::measure_size(&arguments), object_schema([("tool", tool), ("args", arguments)]))
        });
        match strict {
            Some((size, variant)) if size.fits_in(remaining) => {
                remaining = remaining.minus(SchemaSize { levels: 0, properties: size.properties + 2, ..size });
                variants.push(variant);
            }
            _ => loose.push(offer.name().into()),
        }
    }
    if !loose.is_empty() {
        variants.push(object_schema([("tool", json!({"type": "string", "enum": loose})), ("args_json", text.clone())]));
    }
    let task = object_schema([
        ("id", own),
        ("title", text.clone()),
        ("depends_on", json!({"type": "array", "items": id})),
        ("call", json!({"anyOf": variants})),
        ("bindings", json!({"type": "array", "items": binding})),
    ]);
    json!({"type": "array", "items": task})
}

/// Returns the distinct names of all arguments. Returns none if there are too many, or if a tool accepts arguments that
/// it does not name.
fn argument_names<'o>(offers: &[ToolOffer<'o>]) -> Vec<&'o str> {
    let mut names = Vec::new();
    for offer in offers {
        let schema = &offer.tool.input_schema;
        let properties = schema.get("properties").and_then(Value::as_object);
        let is_open = ["$ref", "anyOf", "oneOf", "allOf", "patternProperties", "additionalProperties"]
            .iter()
            .any(|keyword| schema.get(*keyword).is_some_and(|value| *value != Value::Bool(false)));
        if is_open {
            return Vec::new();
        }
        names.extend(properties.into_iter().flatten().map(|(name, _)| name.as_str()));
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(*name));
    if names.len() > MAX_ENUM_NAMES { Vec::new() } else { names }
}

/// Returns the schema of an object with exactly these properties.
fn object_schema<const N: usize>(properties: [(&str, Value); N]) -> Value {
    closed_object(properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect())
}

fn closed_object(properties: JsonObject) -> Value {
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// Converts a tool's arguments to a strict object of nullable properties, if a strict schema can express them.
fn strict_arguments(schema: &JsonObject) -> Option<Value> {
    let mut strict = StrictSchemaBuilder { root: schema, resolving: Vec::new(), remaining: MAX_SCHEMA_NODES };
    let has_keywords = ["$ref", "anyOf", "oneOf", "allOf", "additionalProperties", "patternProperties"]
        .iter()
        .any(|keyword| schema.get(*keyword).is_some_and(|value| *value != Value::Bool(false)));
    let properties = schema.get("properties").and_then(Value::as_object);
    if has_keywords && properties.is_none_or(Map::is_empty) {
        return None;
    }
    let properties = properties.into_iter().flatten();
    let strict = properties.map(|(name, schema)| Some((name.clone(), nullable(strict.schema(schema)?))));
    Some(closed_object(strict.collect::<Option<_>>()?))
}

/// Returns a schema that also accepts null.
fn nullable(schema: Value) -> Value {
    let nothing = json!({"type": "null"});
    if schema == nothing {
        return schema;
    }
    match schema {
        Value::Object(mut schema) if schema.contains_key("anyOf") => {
            if let Some(Value::Array(variants)) = schema.get_mut("anyOf")
                && !variants.contains(&nothing)
            {
                variants.push(nothing);
            }
            Value::Object(schema)
        }
        schema => json!({"anyOf": [schema, nothing]}),
    }
}

/// Makes schemas strict and inlines all references. Omits constraints (formats, bounds, patterns, defaults), which the
/// validator checks later.
struct StrictSchemaBuilder<'s> {
    root: &'s JsonObject,
    /// The references that are being inlined: a repeated one is recursive.
    resolving: Vec<&'s str>,
    /// The number of schemas that may still be added.
    remaining: usize,
}

impl<'s> StrictSchemaBuilder<'s> {
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
                let mut strict = json!({"type": kind});
                if let Some(values) = enum_values(schema) {
                    let fits = |value: &&Value| json_type(value) == kind || (kind == "number" && value.is_number());
                    strict["enum"] = values.into_iter().filter(fits).cloned().collect();
                }
                Some(strict)
            }
            "null" => Some(json!({"type": "null"})),
            "array" if schema.contains_key("prefixItems") => None,
            "array" => Some(json!({"type": "array", "items": self.schema(schema.get("items")?)?})),
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
            let strict = self.schema(schema)?;
            Some((name.clone(), if required.contains(&name.as_str()) { strict } else { nullable(strict) }))
        });
        Some(closed_object(strict.collect::<Option<_>>()?))
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

/// The size of a schema, as endpoints count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SchemaSize {
    levels: usize,
    properties: usize,
    values: usize,
    characters: usize,
}

impl SchemaSize {
    fn measure_size(schema: &Value) -> Self {
        let characters = schema.to_string().len();
        let (levels, properties, values) = count_nodes(schema);
        Self { levels, properties, values, characters }
    }

    fn fits_in(self, available: Self) -> bool {
        self.levels <= available.levels
            && self.properties <= available.properties
            && self.values <= available.values
            && self.characters <= available.characters
    }

    fn minus(self, other: Self) -> Self {
        Self {
            levels: self.levels.saturating_sub(other.levels),
            properties: self.properties.saturating_sub(other.properties),
            values: self.values.saturating_sub(other.values),
            characters: self.characters.saturating_sub(other.characters),
        }
    }
}

/// Counts the levels, properties, and enum values of a strict schema. [`StrictSchemaBuilder`] bounds its depth.
fn count_nodes(schema: &Value) -> (usize, usize, usize) {
    let inside = |schemas: Vec<&Value>| {
        schemas
            .into_iter()
            .map(count_nodes)
            .fold((0, 0, 0), |(levels, properties, values), (l, p, v)| (levels.max(l), properties + p, values + v))
    };
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let (levels, more, values) = inside(properties.values().collect());
        return (levels + 1, more + properties.len(), values);
    }
    if let Some(items) = schema.get("items") {
        let (levels, properties, values) = count_nodes(items);
        return (levels + 1, properties, values);
    }
    if let Some(variants) = schema.get("anyOf").and_then(Value::as_array) {
        return inside(variants.iter().collect());
    }
    (0, 0, schema.get("enum").and_then(Value::as_array).map_or(0, Vec::len))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{object, tool};
    use super::*;
    use crate::model::ToolInfo;

    fn build_strict(schema: Value) -> Option<Value> {
        strict_arguments(&object(schema))
    }

    /// Returns the strict schema of one argument, without the null that every argument accepts.
    fn argument(schema: Value) -> Option<Value> {
        let root = json!({"properties": {"a": schema}, "$defs": {
            "word": {"type": "string", "enum": ["x"]},
            "tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}},
            "twice": {"type": "object", "properties": {"a": {"$ref": "#/$defs/word"}, "b": {"$ref": "#/$defs/word"}}},
        }});
        build_strict(root).map(|schema| schema["properties"]["a"].clone())
    }

    fn or_null(schema: Value) -> Option<Value> {
        Some(json!({"anyOf": [schema, {"type": "null"}]}))
    }

    #[test]
    fn strict_arguments_are_required_and_nullable() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Arguments", "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 1, "description": "Where to"},
                "nights": {"type": "integer", "default": 3, "minimum": 1, "maximum": 30, "format": "uint32"},
                "budget": {"type": ["number", "null"]},
            },
            "required": ["city"], "additionalProperties": false,
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "city": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "nights": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "budget": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            },
            "required": ["city", "nights", "budget"], "additionalProperties": false,
        });
        assert_eq!(build_strict(schema), Some(expected));
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
        for (schema, expected) in [
            (json!({"enum": ["a", "b"]}), json!({"type": "string", "enum": ["a", "b"]})),
            (json!({"const": 5}), json!({"type": "integer", "enum": [5]})),
            (json!({"type": "number", "enum": [1, 1.5]}), json!({"type": "number", "enum": [1, 1.5]})),
            (json!({"$ref": "#/$defs/word", "description": "d"}), word.clone()),
            (json!({"type": "array", "items": {"$ref": "#/$defs/word"}}), json!({"type": "array", "items": word})),
            (
                json!({"properties": {"x": {"type": "boolean"}, "y": {"type": "string"}}, "required": ["x"]}),
                json!({
                    "type": "object",
                    "properties": {"x": {"type": "boolean"}, "y": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
                    "required": ["x", "y"], "additionalProperties": false,
                }),
            ),
        ] {
            assert_eq!(argument(schema.clone()), or_null(expected), "{schema}");
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
            json!({}),
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

    fn schema_of(tools: &[ToolInfo]) -> Value {
        let agent = "box".into();
        plan_schema(&tools.iter().map(|tool| ToolOffer { agent: &agent, tool }).collect::<Vec<_>>(), 16)
    }

    #[test]
    fn each_task_calls_one_tool() {
        let closed = tool("closed", json!({"properties": {"q": {"type": "string"}}}));
        let open = tool("open", json!({"additionalProperties": true}));
        let schema = schema_of(&[open, closed]);
        let call = &schema["properties"]["tasks"]["items"]["properties"]["call"]["anyOf"];
        assert_eq!(call[0]["properties"]["tool"]["enum"], json!(["box.closed"]));
        assert_eq!(call[0]["required"], json!(["tool", "args"]));
        assert_eq!(call[1]["properties"]["tool"]["enum"], json!(["box.open"]));
        assert_eq!(call[1]["required"], json!(["tool", "args_json"]));
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let plan = |call: Value| {
            json!({"analysis": "", "tasks": [
                {"id": "t1", "title": "", "depends_on": [], "call": call, "bindings": []},
                {"id": "t2", "title": "", "depends_on": ["t1"], "call": {"tool": "box.open", "args_json": "{}"},
                 "bindings": [{"arg": "q", "task": "t1", "output": "/a"}]},
            ]})
        };
        assert!(validator.is_valid(&plan(json!({"tool": "box.closed", "args": {"q": null}}))));
        assert!(!validator.is_valid(&plan(json!({"tool": "box.closed", "args": {}}))));
        assert!(!validator.is_valid(&plan(json!({"tool": "box.other", "args": {"q": "x"}}))));
    }

    #[test]
    fn bindings_name_known_arguments() {
        let argument = |tools: &[ToolInfo]| {
            schema_of(tools).pointer("/properties/tasks/items/properties/bindings/items/properties/arg").cloned()
        };
        let named = |names: &[&str]| {
            let properties: JsonObject =
                names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
            tool("t", json!({"properties": properties}))
        };
        let text = json!({"type": "string"});
        let expected = json!({"type": "string", "enum": ["title", "text", "city"]});
        assert_eq!(argument(&[named(&["title", "text"]), named(&["city", "text"])]), Some(expected));
        let open = tool("open", json!({"properties": {"a": {}}, "additionalProperties": true}));
        assert_eq!(argument(&[named(&["title"]), open]), Some(text.clone()), "it may have others");
        assert_eq!(argument(&[named(&[])]), Some(text.clone()), "an empty enum is not a valid schema");
        let many: Vec<String> = (0..=MAX_ENUM_NAMES).map(|number| format!("a{number}")).collect();
        assert_eq!(argument(&[named(&many.iter().map(String::as_str).collect::<Vec<_>>())]), Some(text));
    }

    #[test]
    fn schema_stays_within_strict_limits() {
        let values: Vec<Value> = (0..400).map(|value| format!("value-{value}").into()).collect();
        let mut deep = json!({"type": "string"});
        for _ in 0..6 {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        let wide: JsonObject = (0..900).map(|index| (format!("argument-{index}"), json!({"type": "string"}))).collect();
        let tools = [
            tool("a", json!({"properties": {"v": {"enum": values}}})),
            tool("b", json!({"properties": {"v": {"enum": values}}})),
            tool("c", json!({"properties": {"v": {"enum": values}}})),
            tool("d", json!({"properties": {"v": deep}})),
            tool("e", json!({"properties": wide})),
            tool("f", json!({"properties": wide})),
            tool("g", json!({"properties": {}})),
        ];
        let schema = schema_of(&tools);
        let call = schema["properties"]["tasks"]["items"]["properties"]["call"]["anyOf"].as_array().expect("a list");
        let names: Vec<&Value> = call.iter().map(|variant| &variant["properties"]["tool"]["enum"]).collect();
        assert_eq!(
            names,
            [
                &json!(["box.a"]),
                &json!(["box.b"]),
                &json!(["box.e"]),
                &json!(["box.g"]),
                &json!(["box.c", "box.d", "box.f"])
            ]
        );
        assert!(SchemaSize::measure_size(&schema).fits_in(STRICT_LIMITS), "{:?}", SchemaSize::measure_size(&schema));
    }
}
