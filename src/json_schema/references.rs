//! Resolves references within a schema.

use std::collections::HashMap;

use serde_json::Value;

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
        let mut found = Self::default();
        found.collect(schema, &mut String::new());
        found
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
        let meant = self.resources.iter().filter(|(id, _)| document.is_empty() || id.ends_with(last));
        for resource in meant.filter_map(|(_, pointer)| root.pointer(pointer)) {
            if !documents.iter().any(|known| std::ptr::eq(*known, resource)) {
                documents.push(resource);
            }
        }
        let fragment = percent_decode(fragment);
        if fragment.is_empty() {
            return documents;
        }
        if fragment.starts_with('/') {
            return documents.iter().filter_map(|document| document.pointer(&fragment)).collect();
        }
        let anchors = self.anchors.get(&fragment).into_iter().flatten();
        anchors.filter_map(|pointer| root.pointer(pointer)).collect()
    }
}

/// Decodes percent escapes.
fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
