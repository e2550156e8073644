//! Measures schemas, and estimates the steps of a check before it runs.
//!
//! The estimate walks the schema over the value as a validator does that never stops early. It ends as soon as it
//! exceeds the limit, so it costs no more than the check that it allows.

use serde_json::{Map, Value};

use super::limits::{SchemaCheckError, SchemaLimits};
use super::pattern;
use super::references::SchemaReferences;

/// The maximum number of embedded schemas with their own `$id` for which the scope of `$dynamicRef` is tracked.
const MAX_DYNAMIC_RESOURCES: usize = 4;

/// Properties of a schema, measured before it is compiled.
pub(super) struct SchemaMetrics {
    /// True if a pattern needs a backtracking engine.
    pub(super) has_backtracking_patterns: bool,
    /// The named locations in the schema.
    pub(super) references: SchemaReferences,
}

/// Measures a schema.
///
/// # Errors
/// Returns [`SchemaCheckError::SchemaTooLarge`] with the limit that the schema exceeds.
pub(super) fn measure(schema: &Value, limits: &SchemaLimits) -> Result<SchemaMetrics, SchemaCheckError> {
    let too_large = |what: String| Err(SchemaCheckError::SchemaTooLarge(what));
    let (mut bytes, mut values, mut states) = (0_usize, 0_usize, 0_u64);
    let (mut has_backtracking_patterns, mut is_named, mut is_dynamic) = (false, false, false);
    let mut unevaluated = Vec::new();
    let mut open = vec![(schema, 1_usize)];
    while let Some((value, depth)) = open.pop() {
        values += 1;
        if values > limits.max_values {
            return too_large(format!("more than {} values", limits.max_values));
        }
        if depth > limits.max_depth {
            return too_large(format!("more than {} levels of nesting", limits.max_depth));
        }
        let mut add_pattern = |pattern: &str| {
            states = states.saturating_add(pattern::state_count(pattern));
            has_backtracking_patterns |= pattern::is_backtracking(pattern);
        };
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => bytes += text.len(),
            Value::Array(list) => open.extend(list.iter().map(|value| (value, depth + 1))),
            Value::Object(map) => {
                for (key, value) in map {
                    bytes += key.len();
                    match (key.as_str(), value) {
                        ("pattern", Value::String(pattern)) => add_pattern(pattern),
                        ("patternProperties", Value::Object(patterns)) => {
                            patterns.keys().for_each(|key| add_pattern(key))
                        }
                        ("unevaluatedProperties" | "unevaluatedItems", _) => unevaluated.push(map),
                        ("$anchor" | "$dynamicAnchor" | "$id" | "id", Value::String(_)) => is_named = true,
                        ("$dynamicRef" | "$recursiveRef", _) => is_dynamic = true,
                        _ => {}
                    }
                    open.push((value, depth + 1));
                }
            }
        }
        if bytes > limits.max_bytes {
            return too_large(format!("more than {} bytes", limits.max_bytes));
        }
        if states > limits.max_pattern_states {
            return too_large(format!("its patterns have more than {} states", limits.max_pattern_states));
        }
    }
    let references = if is_named { SchemaReferences::collect_from(schema) } else { SchemaReferences::default() };
    if is_dynamic && references.resource_count() > MAX_DYNAMIC_RESOURCES {
        return too_large(format!("dynamic references over more than {MAX_DYNAMIC_RESOURCES} identified schemas"));
    }
    let mut unfolding = UnfoldingCounter {
        root: schema,
        references: &references,
        active_schemas: Vec::new(),
        remaining: limits.max_unfolded_schemas,
    };
    for map in unevaluated {
        if unfolding.unfold(map).is_none() {
            let limit = limits.max_unfolded_schemas;
            return too_large(format!("its `unevaluated…` keywords unfold to more than {limit} schemas"));
        }
    }
    Ok(SchemaMetrics { has_backtracking_patterns, references })
}

/// A counter of the schemas that apply to the same value, including references. A schema counts each time it is
/// reached.
struct UnfoldingCounter<'s> {
    root: &'s Value,
    references: &'s SchemaReferences,
    /// The schemas that are being unfolded. A repeated schema is a cycle, which the validator cuts.
    active_schemas: Vec<*const Map<String, Value>>,
    remaining: u64,
}

impl<'s> UnfoldingCounter<'s> {
    fn unfold(&mut self, schema: &'s Map<String, Value>) -> Option<()> {
        self.remaining = self.remaining.checked_sub(1)?;
        let identity: *const Map<String, Value> = schema;
        if self.active_schemas.contains(&identity) {
            return Some(());
        }
        if self.active_schemas.len() > SchemaLimits::BACKGROUND.max_depth {
            return None;
        }
        self.active_schemas.push(identity);
        for (key, value) in schema {
            let subschemas = in_place_subschemas(key, value, self.root, self.references);
            subschemas.into_iter().filter_map(Value::as_object).try_for_each(|schema| self.unfold(schema))?;
        }
        self.active_schemas.pop();
        Some(())
    }
}

/// Returns the schemas under a keyword that apply to the same value as the keyword's own schema.
fn in_place_subschemas<'s>(
    key: &str,
    value: &'s Value,
    root: &'s Value,
    references: &SchemaReferences,
) -> Vec<&'s Value> {
    match (key, value) {
        ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter().collect(),
        ("not" | "if" | "then" | "else", schema) => vec![schema],
        ("dependentSchemas" | "dependencies", Value::Object(schemas)) => schemas.values().collect(),
        ("$ref" | "$dynamicRef", Value::String(reference)) => references.targets(root, reference),
        ("$recursiveRef", _) => references.targets(root, "#"),
        _ => Vec::new(),
    }
}

fn too_expensive<T>(limit: u64, unit: &str) -> Result<T, SchemaCheckError> {
    Err(SchemaCheckError::CheckTooExpensive(format!("more than {limit} {unit}")))
}

/// A walk of a schema over a value that counts the steps.
pub(super) struct CostWalker<'s> {
    root: &'s Value,
    references: &'s SchemaReferences,
    limits: &'s SchemaLimits,
    steps: u64,
    /// The current nesting of schemas.
    depth: usize,
    /// The number of enclosing schemas whose errors the validator collects in a second pass.
    branches: u64,
}

impl<'s> CostWalker<'s> {
    pub(super) fn new(root: &'s Value, references: &'s SchemaReferences, limits: &'s SchemaLimits) -> Self {
        Self { root, references, limits, steps: 0, depth: 0, branches: 0 }
    }

    /// Walks over the whole value.
    pub(super) fn check_value(mut self, value: &Value) -> Result<(), SchemaCheckError> {
        // Messages contain values, so their size and depth count too.
        let size = self.value_count(value)?;
        self.charge(size / 8)?;
        self.visit(self.root, value)
    }

    fn charge(&mut self, steps: u64) -> Result<(), SchemaCheckError> {
        self.steps = self.steps.saturating_add(steps.saturating_mul(1 + self.branches));
        if self.steps > self.limits.max_steps { too_expensive(self.limits.max_steps, "steps") } else { Ok(()) }
    }

    /// Returns the number of values in `value`.
    fn value_count(&mut self, value: &Value) -> Result<u64, SchemaCheckError> {
        let mut size = 0;
        let mut open = vec![(value, 1)];
        while let Some((value, depth)) = open.pop() {
            size += 1;
            if depth > self.limits.max_levels {
                return too_expensive(self.limits.max_levels as u64, "levels of nesting");
            }
            match value {
                Value::Array(list) => open.extend(list.iter().map(|value| (value, depth + 1))),
                Value::Object(map) => open.extend(map.values().map(|value| (value, depth + 1))),
                _ => {}
            }
            if size > 8 * self.limits.max_steps {
                return too_expensive(8 * self.limits.max_steps, "values");
            }
        }
        Ok(size)
    }

    fn visit(&mut self, schema: &'s Value, value: &Value) -> Result<(), SchemaCheckError> {
        self.charge(1)?;
        let Value::Object(schema) = schema else { return Ok(()) };
        if self.depth == self.limits.max_levels {
            return too_expensive(self.limits.max_levels as u64, "levels of nested schemas");
        }
        self.depth += 1;
        self.charge(schema.len() as u64 / 4)?;
        let before = self.steps;
        for (key, keyword) in schema {
            self.keyword(key, keyword, schema, value)?;
        }
        if schema.contains_key("unevaluatedProperties") || schema.contains_key("unevaluatedItems") {
            // Everything that applies here is repeated for each member.
            let members = match value {
                Value::Object(map) => map.len(),
                Value::Array(list) => list.len(),
                _ => 0,
            };
            self.steps = self.steps.saturating_add((self.steps - before).saturating_mul(1 + members as u64));
            self.charge(0)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn keyword(
        &mut self,
        key: &str,
        keyword: &'s Value,
        schema: &'s Map<String, Value>,
        value: &Value,
    ) -> Result<(), SchemaCheckError> {
        match (key, keyword, value) {
            ("dependentSchemas" | "dependencies", Value::Object(schemas), Value::Object(map)) => {
                self.charge(schemas.len() as u64 / 4)?;
                let present = schemas.iter().filter(|(name, _)| map.contains_key(*name));
                for (_, schema) in present {
                    self.visit(schema, value)?;
                }
            }
            ("dependentSchemas" | "dependencies", ..) => {}
            (
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" | "$ref" | "$dynamicRef" | "$recursiveRef",
                ..,
            ) => {
                let branch = u64::from(matches!(key, "anyOf" | "oneOf" | "not" | "if"));
                self.branches += branch;
                for schema in in_place_subschemas(key, keyword, self.root, self.references) {
                    self.visit(schema, value)?;
                }
                self.branches -= branch;
            }
            ("enum", Value::Array(options), value) if !value.is_array() && !value.is_object() => {
                self.charge(options.len() as u64 / 4)?;
            }
            ("enum", Value::Array(_), _) | ("const", Value::Array(_) | Value::Object(_), _) => {
                let size = self.value_count(keyword)?;
                self.charge(size)?;
            }
            ("required", Value::Array(names), Value::Object(_)) => self.charge(names.len() as u64 / 4)?,
            ("dependentRequired", Value::Object(names), Value::Object(_)) => {
                let size = self.value_count(keyword)?.max(names.len() as u64);
                self.charge(size / 4)?;
            }
            (_, _, Value::Object(map)) => self.object_keyword(key, keyword, schema, map)?,
            (_, _, Value::Array(list)) => self.array_keyword(key, keyword, schema, list)?,
            (_, _, Value::String(text)) => self.text_keyword(key, keyword, text)?,
            _ => {}
        }
        Ok(())
    }

    fn object_keyword(
        &mut self,
        key: &str,
        keyword: &'s Value,
        schema: &'s Map<String, Value>,
        map: &Map<String, Value>,
    ) -> Result<(), SchemaCheckError> {
        match (key, keyword) {
            ("properties", Value::Object(properties)) => {
                self.charge(properties.len().min(map.len()) as u64 + properties.len() as u64 / 8)?;
                for (name, value) in map {
                    if let Some(property) = properties.get(name) {
                        self.visit(property, value)?;
                    }
                }
            }
            ("patternProperties", Value::Object(patterns)) => {
                for (pattern, schema) in patterns {
                    for (name, value) in map {
                        self.charge_match(pattern, name)?;
                        self.visit(schema, value)?;
                    }
                }
            }
            ("additionalProperties" | "unevaluatedProperties", _) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let patterns = schema.get("patternProperties").and_then(Value::as_object);
                for (name, value) in
                    map.iter().filter(|(name, _)| properties.is_none_or(|known| !known.contains_key(*name)))
                {
                    for pattern in patterns.into_iter().flat_map(Map::keys) {
                        self.charge_match(pattern, name)?;
                    }
                    self.visit(keyword, value)?;
                }
            }
            ("propertyNames", _) => {
                for name in map.keys() {
                    self.visit(keyword, &Value::String(name.clone()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn array_keyword(
        &mut self,
        key: &str,
        keyword: &'s Value,
        schema: &'s Map<String, Value>,
        list: &[Value],
    ) -> Result<(), SchemaCheckError> {
        let positional = |key: &str| schema.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        match (key, keyword) {
            ("prefixItems" | "items", Value::Array(schemas)) => {
                for (schema, value) in schemas.iter().zip(list) {
                    self.visit(schema, value)?;
                }
            }
            ("items" | "contains" | "unevaluatedItems", _) => {
                let first = if key == "items" { positional("prefixItems") } else { 0 };
                for value in list.iter().skip(first) {
                    self.visit(keyword, value)?;
                }
            }
            ("additionalItems", _) => {
                for value in list.iter().skip(positional("items")) {
                    self.visit(keyword, value)?;
                }
            }
            ("uniqueItems", Value::Bool(true)) => {
                let mut size = 0;
                for value in list {
                    size += self.value_count(value)?;
                }
                self.charge(size.saturating_mul(2))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn text_keyword(&mut self, key: &str, keyword: &'s Value, text: &str) -> Result<(), SchemaCheckError> {
        let length = text.len() as u64;
        match (key, keyword) {
            ("pattern", Value::String(pattern)) => self.charge_match(pattern, text),
            ("format", Value::String(format)) if format == "regex" => {
                self.charge(length + pattern::state_count(text) / 8)
            }
            ("format" | "contentEncoding" | "contentMediaType", _) => self.charge(1 + length / 8),
            ("minLength" | "maxLength", _) => self.charge(length / 256),
            _ => Ok(()),
        }
    }

    fn charge_match(&mut self, pattern: &str, text: &str) -> Result<(), SchemaCheckError> {
        let length = text.len() as u64;
        if pattern::is_backtracking(pattern) {
            return self.charge(100 + length.saturating_mul(16));
        }
        let states = pattern::state_count(pattern).saturating_add(16);
        self.charge(1 + pattern.len() as u64 / 16 + length.saturating_mul(states) / 256)
    }
}
