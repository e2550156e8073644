//! Saves what an agent's message says beyond rmcp's types: that a tool can only be called as a task, which 2025-11-25
//! knew and rmcp has dropped.
//! Never changes a message that says nothing of the kind.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// The entry of a tool's `_meta` that tells.
pub(super) const TASK_SUPPORT: &str = "kapell/task-support";
/// What such a message holds somewhere.
const MARK: &str = "\"taskSupport\"";

/// The message with what it says of tasks moved into each tool's `_meta`, which rmcp keeps.
pub(super) fn save(message: &[u8]) -> Cow<'_, [u8]> {
    if !std::str::from_utf8(message).is_ok_and(|text| text.contains(MARK)) {
        return Cow::Borrowed(message);
    }
    let Ok(mut parsed) = serde_json::from_slice::<Value>(message) else { return Cow::Borrowed(message) };
    let tools = parsed.pointer_mut("/result/tools").and_then(Value::as_array_mut);
    let mut saved = false;
    for tool in tools.into_iter().flatten().filter_map(Value::as_object_mut) {
        let Some(support) = tool.get("execution").and_then(|execution| execution.get("taskSupport")).cloned() else {
            continue;
        };
        let meta = tool.entry("_meta").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(meta) = meta {
            meta.insert(TASK_SUPPORT.to_owned(), support);
            saved = true;
        }
    }
    if saved { Cow::Owned(parsed.to_string().into_bytes()) } else { Cow::Borrowed(message) }
}

/// Whether a tool of the list can only be called as a task.
pub(super) fn needs_task(tool: &Value) -> bool {
    tool.get("_meta").and_then(|meta| meta.get(TASK_SUPPORT)) == Some(&json!("required"))
}

#[cfg(test)]
mod tests {
    use rmcp::model::ServerJsonRpcMessage;

    use super::*;

    #[test]
    fn what_is_said_of_tasks_survives_the_library() {
        let schema = json!({"type": "object"});
        let message = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [
            {"name": "a", "inputSchema": schema, "execution": {"taskSupport": "required"}},
            {"name": "b", "inputSchema": schema, "execution": {"taskSupport": "optional"}, "_meta": {"x": 1}},
            {"name": "c", "inputSchema": schema},
        ]}});
        let saved: ServerJsonRpcMessage = serde_json::from_slice(&save(message.to_string().as_bytes())).unwrap();
        let saved = serde_json::to_value(saved).unwrap();
        let tools = saved["result"]["tools"].as_array().unwrap();
        assert_eq!(tools.iter().map(needs_task).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(tools[1]["_meta"]["x"], 1);
    }

    #[test]
    fn any_other_message_stays_as_it_is() {
        for message in [r#"{"id": 1, "result": {"n": 1.0}}"#, r#"{"note": "taskSupport"}"#, r#"{"taskSupport": "#] {
            assert!(matches!(save(message.as_bytes()), Cow::Borrowed(_)), "{message}");
        }
    }
}
