//! Writes the HTTP headers in which requests of MCP 2026-07-28 repeat their method, tool, and arguments for
//! intermediaries.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use rmcp::transport::common::http_header::{
    BASE64_HEADER_PREFIX, BASE64_HEADER_SUFFIX, HEADER_MCP_METHOD, HEADER_MCP_NAME, HEADER_MCP_PARAM_PREFIX,
};
use serde_json::Value;

use crate::mcp::message::call_request::CallRequest;
use crate::model::JsonObject;

/// The schema annotation of a mirrored property. Its value is the suffix of the header name.
const HEADER_ANNOTATION: &str = "x-mcp-header";

/// Inserts headers for the method, the name or URI, and the arguments that the tool's input schema annotates.
pub(crate) fn insert_mcp_headers(request: &CallRequest<'_>, headers: &mut HeaderMap) {
    insert_header(headers, HEADER_MCP_METHOD, request.method());
    insert_header(headers, HEADER_MCP_NAME, request.target());
    if let Some(schema) = request.schema {
        insert_argument_headers(schema, &request.call.arguments, headers);
    }
}

/// Inserts headers for annotated properties, including those of nested objects.
fn insert_argument_headers(schema: &JsonObject, arguments: &JsonObject, headers: &mut HeaderMap) {
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    for (name, property) in properties {
        let (Some(property), Some(argument)) = (property.as_object(), arguments.get(name)) else { continue };
        if let Some(Value::String(header)) = property.get(HEADER_ANNOTATION).filter(|header| **header != "") {
            let header = format!("{HEADER_MCP_PARAM_PREFIX}{header}");
            match argument {
                Value::String(text) => insert_header(headers, &header, text),
                Value::Bool(_) | Value::Number(_) => insert_header(headers, &header, &argument.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => {}
            }
        }
        if let Value::Object(arguments) = argument {
            insert_argument_headers(property, arguments, headers);
        }
    }
}

/// Inserts a header. Skips an invalid header name; tools that request one are rejected when they are listed.
fn insert_header(headers: &mut HeaderMap, name: &str, value: &str) {
    let value = match is_plain(value) {
        true => HeaderValue::from_str(value),
        false => {
            let encoded = BASE64_STANDARD.encode(value);
            HeaderValue::from_str(&format!("{BASE64_HEADER_PREFIX}{encoded}{BASE64_HEADER_SUFFIX}"))
        }
    };
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value) {
        headers.insert(name, value);
    }
}

/// Returns whether `value` is valid as a header value and does not look like an encoded one.
fn is_plain(value: &str) -> bool {
    let padded = value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']);
    let encoded = value.starts_with(BASE64_HEADER_PREFIX) && value.ends_with(BASE64_HEADER_SUFFIX);
    !padded && !encoded && value.bytes().all(|byte| (0x20..=0x7E).contains(&byte))
}

/// Returns why a tool must not be used over Streamable HTTP, by the annotations of its input schema. Each must be on a
/// primitive property of the arguments or of an object in them, and name a header of its own.
pub(crate) fn annotation_error(schema: &JsonObject) -> Option<String> {
    let mut properties = Vec::new();
    collect_annotated_properties(schema, &mut properties);
    if properties.len() != count_annotations(schema) {
        return Some(format!("its input schema has an `{HEADER_ANNOTATION}` that is not on a property"));
    }
    let mut headers = HashSet::new();
    properties.into_iter().find_map(|(name, property)| {
        let annotation = property.get(HEADER_ANNOTATION).and_then(Value::as_str).filter(|header| !header.is_empty());
        let Some(header) = annotation.and_then(|header| HeaderName::try_from(header).ok()) else {
            return Some(format!("the `{HEADER_ANNOTATION}` of its property `{name}` is not the name of a header"));
        };
        if !headers.insert(header) {
            return Some(format!(
                "the `{HEADER_ANNOTATION}` of its property `{name}` is also that of another property"
            ));
        }
        let kind = property.get("type").and_then(Value::as_str).unwrap_or_default();
        let is_primitive = ["string", "integer", "boolean"].contains(&kind);
        (!is_primitive).then(|| format!("its property `{name}` has an `{HEADER_ANNOTATION}`, but is not primitive"))
    })
}

/// Collects the annotated properties of a schema and of the objects in it, with their names.
fn collect_annotated_properties<'a>(schema: &'a JsonObject, found: &mut Vec<(&'a str, &'a JsonObject)>) {
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    for (name, property) in properties {
        let Value::Object(property) = property else { continue };
        if property.contains_key(HEADER_ANNOTATION) {
            found.push((name, property));
        }
        collect_annotated_properties(property, found);
    }
}

/// Returns the number of annotations in a schema and all its subschemas.
fn count_annotations(schema: &JsonObject) -> usize {
    let in_value = |value: &Value| match value {
        Value::Object(schema) => count_annotations(schema),
        Value::Array(schemas) => schemas.iter().filter_map(Value::as_object).map(count_annotations).sum(),
        _ => 0,
    };
    let in_member = |(key, value): (&String, &Value)| match key.as_str() {
        HEADER_ANNOTATION => 1,
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
            value.as_object().map_or(0, |schemas| schemas.values().map(in_value).sum())
        }
        "default" | "const" | "enum" | "examples" => 0,
        _ => in_value(value),
    };
    schema.iter().map(in_member).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::mcp::message::call_request::CallKind;
    use crate::model::{AttemptId, Operation, ToolCall};

    #[test]
    fn method_name_and_annotated_arguments_become_headers() {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "absent": {"type": "string", "x-mcp-header": "Absent"},
            "list": {"type": "array", "x-mcp-header": "List"},
            "plain": {"type": "string"},
            "deep": {"type": "object", "properties": {"name": {"type": "string", "x-mcp-header": "Deep-Name"}}},
        }});
        let arguments = json!({"region": "north", "count": 3, "dry": true, "list": [1], "plain": "p",
            "deep": {"name": " Zoë "}});
        let object = |value: &Value| value.as_object().cloned().unwrap();
        let call = ToolCall {
            attempt: AttemptId { task: "t".into(), number: 1 },
            agent: "a".into(),
            operation: Operation::CallTool,
            tool: "wörk".into(),
            arguments: object(&arguments),
            timeout: Duration::ZERO,
            deadline: None,
            awaits: None,
            cache: None,
            save: None,
        };
        let (meta, schema) = (JsonObject::new(), object(&schema));
        let mut headers = HeaderMap::new();
        insert_mcp_headers(
            &CallRequest { kind: &CallKind::Initial, call: &call, meta: &meta, schema: Some(&schema) },
            &mut headers,
        );
        let mut sent: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        sent.sort_unstable();
        assert_eq!(
            sent,
            [
                ("mcp-method", "tools/call"),
                ("mcp-name", "=?base64?d8O2cms=?="),
                ("mcp-param-count", "3"),
                ("mcp-param-deep-name", "=?base64?IFpvw6sg?="),
                ("mcp-param-dry", "true"),
                ("mcp-param-region", "north"),
            ]
        );
    }

    #[test]
    fn tools_with_invalid_annotations_are_rejected() {
        let error = |schema: Value| annotation_error(schema.as_object().unwrap());
        let property = |kind: &str, header: Value| json!({"type": kind, "x-mcp-header": header});
        let properties = |properties: Value| json!({"type": "object", "properties": properties});
        let nested = properties(json!({"a": properties(json!({"b": property("string", json!("B"))}))}));
        let named = properties(json!({"x-mcp-header": {"type": "string"}}));
        let example = json!({"properties": {"a": {"default": {"x-mcp-header": "A"}}}});
        for valid in [nested, named, example, json!({})] {
            assert_eq!(error(valid.clone()), None, "{valid}");
        }

        let no_header = "the `x-mcp-header` of its property `a` is not the name of a header";
        for header in [json!(""), json!("A B"), json!("A:"), json!("é"), json!("A\u{1}"), json!(7)] {
            assert_eq!(error(properties(json!({"a": property("string", header)}))).as_deref(), Some(no_header));
        }
        let twice = json!({"a": property("string", json!("A")), "b": property("string", json!("a"))});
        let expected = "the `x-mcp-header` of its property `b` is also that of another property";
        assert_eq!(error(properties(twice)).as_deref(), Some(expected));
        let expected = "its property `a` has an `x-mcp-header`, but is not primitive";
        for kind in ["object", "array", "number", "null"] {
            assert_eq!(error(properties(json!({"a": property(kind, json!("A"))}))).as_deref(), Some(expected));
        }
        let expected = "its input schema has an `x-mcp-header` that is not on a property";
        let in_items = properties(json!({"a": {"type": "array", "items": property("string", json!("A"))}}));
        for elsewhere in [property("object", json!("A")), in_items, json!({"anyOf": [property("string", json!("A"))]})]
        {
            assert_eq!(error(elsewhere).as_deref(), Some(expected));
        }
    }

    #[test]
    fn unsafe_header_values_are_encoded() {
        let written = |value: &str| {
            let mut headers = HeaderMap::new();
            insert_header(&mut headers, "x", value);
            headers["x"].to_str().unwrap().to_owned()
        };
        assert_eq!(["", "a b", "~"].map(written), ["", "a b", "~"]);
        let encoded =
            [" a", "a\t", "a\nb", "é", "=?base64?YQ==?="].map(|value| written(value).starts_with("=?base64?"));
        assert_eq!(encoded, [true; 5]);
        assert_eq!(written("=?base64?YQ==?="), "=?base64?PT9iYXNlNjQ/WVE9PT89?=");
    }
}
