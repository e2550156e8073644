//! Resolves references and variants within a schema.

use std::collections::HashMap;
use std::ptr;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// The maximum number of schemas that [`alternatives`] visits: references can expand a small schema a lot.
const MAX_ALTERNATIVES: usize = 64;

/// Returns the reference tokens of a JSON pointer (RFC 6901), unescaped. The first `/` may be missing.
pub(crate) fn pointer_tokens(pointer: &str) -> impl Iterator<Item = String> {
    let before = usize::from(pointer.is_empty() || pointer.starts_with('/'));
    pointer.split('/').skip(before).map(|token| token.replace("~1", "/").replace("~0", "~"))
}

/// Returns the schema that a reference to the same document means: `#`, or `#/…` with a JSON pointer (RFC 6901).
pub(crate) fn resolve_reference<'s>(root: &'s Map<String, Value>, reference: &str) -> Option<&'s Map<String, Value>> {
    let pointer = percent_decode_str(reference.strip_prefix('#')?).decode_utf8_lossy();
    if pointer.is_empty() {
        return Some(root);
    }
    let tokens = pointer.strip_prefix('/')?;
    let (first, rest) = tokens.split_at(tokens.find('/').unwrap_or(tokens.len()));
    root.get(&pointer_tokens(first).next().unwrap_or_default())?.pointer(rest)?.as_object()
}

/// The alternatives: one of these schemas applies to a value.
#[derive(Debug, PartialEq)]
pub(crate) struct Alternatives<'s> {
    /// A schema with all that its `$ref`, `anyOf`, and `oneOf` lead to, each once.
    pub(crate) schemas: Vec<&'s Map<String, Value>>,
    /// False if a reference leads out of the document, a variant is not an object, or there are too many.
    pub(crate) is_complete: bool,
}

/// Collects the alternatives of a schema. Cycles end where they return to a schema that was visited.
pub(crate) fn alternatives<'s>(root: &'s Map<String, Value>, schema: &'s Map<String, Value>) -> Alternatives<'s> {
    let mut alternatives = Alternatives { schemas: vec![schema], is_complete: true };
    let mut next = 0;
    while let Some(schema) = alternatives.schemas.get(next).copied() {
        next += 1;
        let target = schema.get("$ref").map(|reference| resolve_reference(root, reference.as_str()?));
        let variants = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key));
        let variants = variants.flat_map(|variants| match variants {
            Value::Array(variants) => variants.iter().map(Value::as_object).collect(),
            _ => vec![None],
        });
        for alternative in target.into_iter().chain(variants) {
            match alternative {
                Some(known) if alternatives.schemas.iter().any(|schema| ptr::eq(*schema, known)) => {}
                Some(schema) if alternatives.schemas.len() < MAX_ALTERNATIVES => alternatives.schemas.push(schema),
                _ => alternatives.is_complete = false,
            }
        }
    }
    alternatives
}

/// Named locations in a schema, as JSON pointers. Most schemas have none.
#[derive(Debug, Default)]
pub(super) struct SchemaReferences {
    /// Anchors: `$anchor`, `$dynamicAnchor`, or an `$id` that is a fragment.
    anchors: HashMap<String, Vec<String>>,
    /// Embedded schemas with their own `$id`, by that `$id`.
    resources: Vec<(String, String)>,
}

impl SchemaReferences {
    /// Collects the named locations of `schema`, whose depth is bounded.
    pub(super) fn collect_from(schema: &Value) -> Self {
        let mut references = Self::default();
        references.collect(schema, &mut String::new());
        references
    }

    /// Returns the number of embedded schemas with their own `$id`.
    pub(super) fn resource_count(&self) -> usize {
        self.resources.len()
    }

    fn collect(&mut self, value: &Value, pointer: &mut String) {
        let length = pointer.len();
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value.as_str()) {
                        ("$anchor" | "$dynamicAnchor", Some(name)) => self.add_anchor(name, pointer),
                        ("$id" | "id", Some(id)) => match id.strip_prefix('#') {
                            Some(name) => self.add_anchor(name, pointer),
                            None => self.resources.push((id.to_owned(), pointer.clone())),
                        },
                        _ => {}
                    }
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                    self.collect(value, pointer);
                    pointer.truncate(length);
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate().filter(|(_, value)| value.is_object() || value.is_array())
                {
                    pointer.push_str(&format!("/{index}"));
                    self.collect(value, pointer);
                    pointer.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn add_anchor(&mut self, name: &str, pointer: &str) {
        self.anchors.entry(name.to_owned()).or_default().push(pointer.to_owned());
    }

    /// Returns every schema that a reference may refer to: all candidates if it is ambiguous.
    pub(super) fn targets<'r>(&self, root: &'r Value, reference: &str) -> Vec<&'r Value> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let mut documents: Vec<&Value> = Vec::new();
        if document.is_empty() {
            documents.push(root);
        }
        let last = document.rsplit('/').next().unwrap_or(document);
        let candidates = self.resources.iter().filter(|(id, _)| document.is_empty() || id.ends_with(last));
        for resource in candidates.filter_map(|(_, pointer)| root.pointer(pointer)) {
            if !documents.iter().any(|known| std::ptr::eq(*known, resource)) {
                documents.push(resource);
            }
        }
        let fragment = percent_decode_str(fragment).decode_utf8_lossy();
        if fragment.is_empty() {
            return documents;
        }
        if fragment.starts_with('/') {
            return documents.iter().filter_map(|document| document.pointer(&fragment)).collect();
        }
        let anchors = self.anchors.get(&*fragment).into_iter().flatten();
        anchors.filter_map(|pointer| root.pointer(pointer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn root() -> Map<String, Value> {
        let root = json!({
            "$defs": {
                "a/b": {"const": 1}, "c~d": {"const": 2}, "~1": {"const": 3}, "e f%": {"const": 4}, "": {"const": 5},
                "list": {"prefixItems": [{"const": 6}, true]},
                "loop": {"$ref": "#/$defs/pool"}, "pool": {"anyOf": [{"$ref": "#/$defs/loop"}, {"const": 7}]},
            },
            "oneOf": [{"const": 8}, {"$ref": "#"}],
        });
        root.as_object().cloned().expect("an object")
    }

    #[test]
    fn resolves_json_pointers() {
        let root = root();
        let resolved = |reference: &str| resolve_reference(&root, reference).map(|schema| schema["const"].clone());
        for (reference, value) in [
            ("#/$defs/a~1b", 1),
            ("#/$defs/c~0d", 2),
            ("#/$defs/~01", 3),
            ("#/%24defs/e%20f%25", 4),
            ("#/$defs/", 5),
            ("#/$defs/list/prefixItems/0", 6),
            ("#/oneOf/0", 8),
        ] {
            assert_eq!(resolved(reference), Some(json!(value)), "{reference}");
        }
        assert_eq!(resolve_reference(&root, "#"), Some(&root));
        for reference in [
            "",
            "/$defs/list",
            "#$defs",
            "#/",
            "#/$defs/a/b",
            "#/$defs/nowhere",
            "#/$defs/list/prefixItems/00",
            "#/$defs/list/prefixItems/1",
            "https://example.com#/$defs/list",
        ] {
            assert_eq!(resolve_reference(&root, reference), None, "{reference}");
        }
        let tokens = |pointer| pointer_tokens(pointer).collect::<Vec<_>>();
        assert_eq!([tokens(""), tokens("/")], [vec![], vec![String::new()]]);
        assert_eq!([tokens("/a~1b//~01").join(" "), tokens("a/0").join(" ")], ["a/b  ~1", "a 0"]);
    }

    #[test]
    fn collects_alternatives_through_cycles() {
        let root = root();
        let values = |schema: &Map<String, Value>| {
            let alternatives = alternatives(&root, schema);
            let values =
                alternatives.schemas.iter().filter_map(|schema| schema.get("const")?.as_u64()).collect::<Vec<_>>();
            (alternatives.schemas.len(), values, alternatives.is_complete)
        };
        assert_eq!(values(&root), (3, vec![8], true));
        let defs = root["$defs"].as_object().expect("an object");
        let looped = defs["loop"].as_object().expect("an object");
        assert_eq!(values(looped), (4, vec![7], true));
        for incomplete in
            [json!({"$ref": "other.json"}), json!({"$ref": 5}), json!({"anyOf": [true]}), json!({"oneOf": {}})]
        {
            assert_eq!(values(incomplete.as_object().expect("an object")), (1, vec![], false), "{incomplete}");
        }
    }

    #[test]
    fn alternatives_are_bounded() {
        let next = |level: usize| json!({"anyOf": [{"$ref": format!("#/{level}")}, {"$ref": format!("#/{level}")}]});
        let root: Map<String, Value> = (0..10_000).map(|level| (level.to_string(), next(level + 1))).collect();
        let alternatives = alternatives(&root, root["0"].as_object().expect("an object"));
        assert_eq!((alternatives.schemas.len(), alternatives.is_complete), (MAX_ALTERNATIVES, false));
    }
}
