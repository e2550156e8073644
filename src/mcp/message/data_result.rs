//! Parses the results of `resources/read` and `prompts/get`, leniently like those of tools.

use serde_json::{Value, json};

use super::lenient_json;
use crate::model::{JsonObject, ToolOutput};

/// Parses the `contents` of a resource. Texts become text blocks, and binary contents become `resource` blocks. If there
/// are several, the `_meta` of each text block has its URI. A single JSON document is also the structured content.
///
/// # Errors
/// Returns a description of the problem.
pub(crate) fn read_contents(contents: Value) -> Result<ToolOutput, String> {
    let contents = lenient_json::list_elements(contents).ok_or("its `contents` is not a list")?;
    let mut parts: Vec<JsonObject> = contents.into_iter().filter_map(without_nulls).collect();
    let structured = match parts.as_slice() {
        [only] if has_json_type(only) => {
            only.get("text").and_then(Value::as_str).and_then(|text| lenient_json::parse_value(text).ok())
        }
        _ => None,
    };
    let is_single = parts.len() == 1;
    let blocks = parts.iter_mut().map(|part| match part.remove("text") {
        Some(Value::String(text)) if is_single => Ok(json!({"type": "text", "text": text})),
        Some(Value::String(text)) => Ok(json!({"type": "text", "text": text, "_meta": part})),
        _ if part.get("blob").is_some_and(Value::is_string) => Ok(json!({"type": "resource", "resource": part})),
        _ => Err("its `contents` have neither `text` nor `blob`".to_owned()),
    });
    Ok(ToolOutput::new(blocks.collect::<Result<Vec<_>, _>>()?, structured))
}

/// Returns the members of an object that are not null.
fn without_nulls(value: Value) -> Option<JsonObject> {
    let Value::Object(mut members) = value else { return None };
    members.retain(|_, member| !member.is_null());
    Some(members)
}

/// Returns whether the MIME type is that of JSON, such as `application/json` or `application/geo+json`.
fn has_json_type(part: &JsonObject) -> bool {
    let essence = |mime_type: &str| mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let essence = part.get("mimeType").and_then(Value::as_str).map(essence);
    essence.is_some_and(|essence| {
        matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
    })
}

/// Parses the `messages` of a prompt. They are the structured content: a list of objects with a `role`, and a list of
/// blocks as their `content`.
///
/// # Errors
/// Returns a description of the problem.
pub(crate) fn read_messages(messages: Value) -> Result<ToolOutput, String> {
    let messages = lenient_json::list_elements(messages).ok_or("its `messages` is not a list")?;
    let messages = messages.into_iter().filter_map(without_nulls).map(|mut message| {
        let role = message.remove("role").filter(Value::is_string).ok_or("a message has no `role`")?;
        let blocks = match message.remove("content") {
            Some(Value::String(text)) => vec![json!({"type": "text", "text": text})],
            Some(Value::Array(blocks)) => blocks,
            Some(block @ Value::Object(_)) => vec![block],
            _ => return Err("a message has no `content`".to_owned()),
        };
        Ok(json!({"role": role, "content": blocks}))
    });
    let messages = messages.collect::<Result<Vec<_>, String>>()?;
    if messages.is_empty() {
        return Err("it has no messages".to_owned());
    }
    Ok(ToolOutput { structured: Some(json!({"messages": messages})), ..ToolOutput::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContentBlock;

    #[test]
    fn single_contents_are_text_or_json() {
        let text = |text: &str| vec![json!({"type": "text", "text": text})];
        let part = |mime_type: &str| json!([{"uri": "a:1", "mimeType": mime_type, "text": "[1]", "_meta": null}]);
        assert_eq!(read_contents(part("text/plain")), Ok(ToolOutput::new(text("[1]"), None)));
        for mime_type in ["application/json", "Application/Geo+JSON; charset=utf-8"] {
            assert_eq!(read_contents(part(mime_type)), Ok(ToolOutput::new(text("[1]"), Some(json!([1])))));
        }
        let broken = json!([{"uri": "a:1", "mimeType": "application/json", "text": "{"}]);
        assert_eq!(read_contents(broken), Ok(ToolOutput::new(text("{"), None)));
        assert_eq!(read_contents(json!([])), Ok(ToolOutput::default()));
    }

    #[test]
    fn several_contents_and_blobs_are_kept() {
        let blob = json!({"uri": "a:2", "mimeType": "image/png", "blob": "AAA="});
        let contents = json!([{"uri": "a:1", "text": "one", "mimeType": "application/json"}, blob, null]);
        let meta = json!({"uri": "a:1", "mimeType": "application/json"});
        let expected = [
            ContentBlock::from(json!({"type": "text", "text": "one", "_meta": meta})),
            ContentBlock::from(json!({"type": "resource", "resource": blob})),
        ];
        let output = read_contents(contents).unwrap();
        assert_eq!(output, ToolOutput::new(expected, None));
        assert_eq!(output.text(), "one");
        for invalid in [json!("text"), json!([{"uri": "a:1"}]), json!([{"blob": 1}])] {
            assert!(read_contents(invalid.clone()).is_err(), "{invalid}");
        }
    }

    #[test]
    fn messages_have_lists_of_blocks() {
        let text = json!({"type": "text", "text": "hi"});
        let expected = json!({"messages": [{"role": "user", "content": [text]}]});
        for content in [json!("hi"), text.clone(), json!([text])] {
            let output = read_messages(json!([{"role": "user", "content": content}, null])).unwrap();
            assert_eq!(output, ToolOutput { structured: Some(expected.clone()), ..ToolOutput::default() });
        }
        for invalid in [json!([]), json!("text"), json!([{"content": "hi"}]), json!([{"role": "user"}])] {
            assert!(read_messages(invalid.clone()).is_err(), "{invalid}");
        }
    }
}
