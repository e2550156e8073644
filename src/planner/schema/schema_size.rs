//! Measures strict schemas.

use serde_json::Value;

/// The limits of strict structured output by OpenAI, the strictest known: levels of nesting, properties, enum values,
/// and characters of all names and values together.
pub(super) const STRICT_LIMITS: SchemaSize =
    SchemaSize { levels: 10, properties: 5_000, values: 1_000, characters: 120_000 };

/// The size of a schema, as endpoints count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SchemaSize {
    pub(super) levels: usize,
    pub(super) properties: usize,
    pub(super) values: usize,
    pub(super) characters: usize,
}

impl SchemaSize {
    pub(super) fn measure_size(schema: &Value) -> Self {
        let characters = schema.to_string().len();
        let (levels, properties, values) = count_nodes(schema);
        Self { levels, properties, values, characters }
    }

    pub(super) fn fits_in(self, available: Self) -> bool {
        self.levels <= available.levels
            && self.properties <= available.properties
            && self.values <= available.values
            && self.characters <= available.characters
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            levels: self.levels.saturating_sub(other.levels),
            properties: self.properties.saturating_sub(other.properties),
            values: self.values.saturating_sub(other.values),
            characters: self.characters.saturating_sub(other.characters),
        }
    }
}

/// Counts the levels, properties, and enum values of a strict schema. The builder bounds its depth.
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
