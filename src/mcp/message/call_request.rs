//! Serializes the request of a call directly from the data of the call, without intermediate values.

use rmcp::model::{InputResponses, RequestMetaObject};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::model::{JsonObject, Operation, ToolCall};

/// The key of `_meta` whose value identifies the request in progress notifications.
const PROGRESS_TOKEN: &str = "progressToken";

/// The initial buffer size in bytes, enough for most requests.
const INITIAL_CAPACITY: usize = 1_024;

/// The kind of request that a call sends.
#[derive(Debug)]
pub(crate) enum CallKind {
    /// The operation of the call.
    Initial,
    /// The operation of the call, with the input that the agent requested.
    WithInput {
        /// The opaque state of the agent, returned to it unchanged.
        state: Option<String>,
        /// The responses, by the keys of the agent.
        responses: InputResponses,
    },
    /// A tool call as a task, in the experimental protocol of 2025-11-25.
    ToolAsTask,
    /// A request for the result of such a task, by its ID.
    TaskResult(String),
}

/// The `_meta` entries that all requests of a connection share, serialized once.
#[derive(Debug, Default)]
pub(crate) struct ClientMeta(Vec<(String, Box<RawValue>)>);

impl ClientMeta {
    /// Serializes the entries of `meta`.
    pub(crate) fn new(meta: &RequestMetaObject) -> Self {
        let entry = |(key, value): (&String, &Value)| {
            let value = to_raw_value(value).expect("a JSON value does not refuse");
            (key.clone(), value)
        };
        Self(meta.iter().map(entry).collect())
    }
}

/// The request of a call.
pub(crate) struct CallRequest<'a> {
    pub(crate) kind: &'a CallKind,
    pub(crate) call: &'a ToolCall,
    /// The `_meta` entries of the call itself, in addition to the shared ones.
    pub(crate) meta: &'a JsonObject,
    /// The input schema of the tool, if it is known.
    pub(crate) schema: Option<&'a JsonObject>,
}

impl CallRequest<'_> {
    pub(crate) fn method(&self) -> &'static str {
        match self.kind {
            CallKind::Initial | CallKind::WithInput { .. } | CallKind::ToolAsTask => self.call.operation.method(),
            CallKind::TaskResult(_) => "tasks/result",
        }
    }

    /// Returns the name of the tool or prompt, or the URI of the resource.
    pub(crate) fn target(&self) -> &str {
        match self.call.operation {
            // The host does commands and requests itself.
            Operation::CallTool | Operation::RunCommand | Operation::SendRequest => &self.call.tool,
            Operation::ReadResource => self.parameter("uri").unwrap_or_default(),
            Operation::GetPrompt => self.parameter("name").unwrap_or_default(),
        }
    }

    /// Returns a parameter of an operation that is not a tool.
    fn parameter(&self, key: &str) -> Option<&str> {
        self.call.arguments.get(key).and_then(Value::as_str)
    }

    /// Returns the parameters of the operation.
    fn operation_params(&self) -> RequestParams<'_> {
        match self.call.operation {
            Operation::CallTool | Operation::RunCommand | Operation::SendRequest => RequestParams {
                name: Some(&self.call.tool),
                arguments: Some(&self.call.arguments),
                ..RequestParams::default()
            },
            Operation::ReadResource => RequestParams { uri: self.parameter("uri"), ..RequestParams::default() },
            Operation::GetPrompt => RequestParams {
                name: self.parameter("name"),
                arguments: self.call.arguments.get("arguments").and_then(Value::as_object),
                ..RequestParams::default()
            },
        }
    }

    /// Serializes the message, with `id` as its ID and its progress token.
    pub(crate) fn write(&self, id: i64, client_meta: &ClientMeta) -> Vec<u8> {
        let meta = RequestMeta { client: client_meta, call: self.meta, token: id };
        let params = match self.kind {
            CallKind::Initial => self.operation_params(),
            CallKind::WithInput { state, responses } => RequestParams {
                input_responses: Some(responses),
                request_state: state.as_deref(),
                ..self.operation_params()
            },
            CallKind::ToolAsTask => RequestParams { task: Some(JsonObject::new()), ..self.operation_params() },
            CallKind::TaskResult(task) => RequestParams { task_id: Some(task), ..RequestParams::default() },
        };
        let params = RequestParams { meta: Some(meta), ..params };
        let message = RequestMessage { jsonrpc: "2.0", id, method: self.method(), params };
        let mut text = Vec::with_capacity(INITIAL_CAPACITY);
        serde_json::to_writer(&mut text, &message).expect("keys are text and no JSON value refuses");
        text
    }
}

#[derive(Serialize)]
struct RequestMessage<'a> {
    jsonrpc: &'static str,
    id: i64,
    method: &'static str,
    params: RequestParams<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestParams<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a JsonObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<JsonObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_responses: Option<&'a InputResponses>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_state: Option<&'a str>,
    #[serde(rename = "_meta")]
    meta: Option<RequestMeta<'a>>,
}

/// The entries of the call, the progress token, and the shared entries, with each key once.
struct RequestMeta<'a> {
    client: &'a ClientMeta,
    call: &'a JsonObject,
    token: i64,
}

impl Serialize for RequestMeta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let is_overridden =
            |key: &String| key == PROGRESS_TOKEN || self.client.0.iter().any(|(shared, _)| shared == key);
        for (key, value) in self.call.iter().filter(|(key, _)| !is_overridden(key)) {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry(PROGRESS_TOKEN, &self.token)?;
        for (key, value) in &self.client.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::model::AttemptId;

    fn call(operation: Operation, arguments: &Value) -> ToolCall {
        ToolCall {
            attempt: AttemptId { task: "t".into(), number: 1 },
            agent: "a".into(),
            operation,
            tool: "work".into(),
            arguments: arguments.as_object().cloned().unwrap(),
            timeout: Duration::ZERO,
            deadline: None,
            awaits: None,
            cache: None,
            save: None,
        }
    }

    fn write_request(kind: &CallKind, meta: &Value) -> Value {
        write_call(&call(Operation::CallTool, &json!({"n": 1.0})), kind, meta)
    }

    fn write_call(call: &ToolCall, kind: &CallKind, meta: &Value) -> Value {
        let shared: RequestMetaObject =
            serde_json::from_value(json!({"version": "v", "client": {"name": "c"}})).unwrap();
        let meta = meta.as_object().cloned().unwrap();
        let request = CallRequest { kind, call, meta: &meta, schema: None };
        serde_json::from_slice(&request.write(7, &ClientMeta::new(&shared))).unwrap()
    }

    #[test]
    fn each_request_kind_is_written() {
        let meta = json!({"version": "v", "client": {"name": "c"}, "key": "k", "progressToken": 7});
        let input =
            CallKind::WithInput { state: Some("s".to_owned()), responses: [("who".to_owned(), json!("me"))].into() };
        let tool = json!({"name": "work", "arguments": {"n": 1.0}, "_meta": meta});
        let with = |more: Value| {
            let mut params = tool.clone();
            params.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            params
        };
        for (kind, method, params) in [
            (CallKind::Initial, "tools/call", tool.clone()),
            (input, "tools/call", with(json!({"inputResponses": {"who": "me"}, "requestState": "s"}))),
            (CallKind::ToolAsTask, "tools/call", with(json!({"task": {}}))),
            (CallKind::TaskResult("r".to_owned()), "tasks/result", json!({"taskId": "r", "_meta": meta})),
        ] {
            let expected = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
            assert_eq!(write_request(&kind, &json!({"key": "k"})), expected);
        }
    }

    #[test]
    fn parameters_of_other_operations_are_written() {
        let meta = json!({"version": "v", "client": {"name": "c"}, "progressToken": 7});
        let prompt = json!({"name": "sum", "arguments": {"of": "x"}});
        for (operation, arguments, target) in [
            (Operation::ReadResource, json!({"uri": "a:1"}), "a:1"),
            (Operation::GetPrompt, prompt, "sum"),
            (Operation::GetPrompt, json!({"name": "all"}), "all"),
        ] {
            let call = call(operation, &arguments);
            let mut params = arguments;
            params["_meta"] = meta.clone();
            let expected = json!({"jsonrpc": "2.0", "id": 7, "method": operation.method(), "params": params});
            assert_eq!(write_call(&call, &CallKind::Initial, &json!({})), expected);
            let meta = JsonObject::new();
            let request = CallRequest { kind: &CallKind::Initial, call: &call, meta: &meta, schema: None };
            assert_eq!(request.target(), target);
        }
    }

    #[test]
    fn call_meta_does_not_override_client_meta() {
        let written = write_request(&CallKind::Initial, &json!({"version": "mine", "progressToken": "mine"}));
        assert_eq!(written["params"]["_meta"], json!({"client": {"name": "c"}, "version": "v", "progressToken": 7}));
    }
}
