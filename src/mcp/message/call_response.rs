//! Parses the results of calls leniently: anything that rmcp's types do not know is read from the JSON.

use std::borrow::Cow;

use rmcp::model::{ErrorData, ServerResult};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::service_result::unwrap_text;
use super::{data_result, failure, lenient_json};
use crate::mcp::checkpoint::{RemoteTaskCheckpoint, TaskProtocol};
use crate::model::{ContentBlock, Failure, FailureKind, JsonObject, Operation, ToolCall, ToolOutput};

/// The response to a request of a call. A request without a response has a `Failure` instead.
#[derive(Debug, PartialEq)]
pub(crate) enum CallResponse {
    /// The tool succeeded.
    Output(ToolOutput),
    /// A result with `isError`.
    ToolError(ToolOutput),
    /// The contents of a resource.
    Contents(ToolOutput),
    /// The messages of a prompt.
    Messages(ToolOutput),
    /// The server requires input first.
    InputRequired {
        /// The opaque state of the server, to be returned unchanged.
        state: Option<String>,
        /// The requests, by the keys of the server, each with `method` and `params`.
        requests: JsonObject,
    },
    /// A task that continues at the agent.
    Task(RemoteTaskCheckpoint),
    /// A JSON-RPC error.
    RpcError(ErrorData),
    /// Not a result of a call; the reason is for people.
    Unrecognized(String),
}

/// The state of a task at the agent.
#[derive(Debug, PartialEq)]
pub(crate) struct RemoteTaskState {
    pub(crate) status: RemoteTaskStatus,
    /// The status message of the agent.
    pub(crate) message: Option<String>,
    /// The requested polling interval in milliseconds.
    pub(crate) poll_interval_ms: Option<u64>,
}

/// The status of a task.
#[derive(Debug, PartialEq)]
pub(crate) enum RemoteTaskStatus {
    Working,
    /// With the requests by the keys of the agent; empty in the experimental protocol.
    InputRequired(JsonObject),
    /// With the result of the call; none in the experimental protocol.
    Completed(Option<Value>),
    /// With the JSON-RPC error; none in the experimental protocol.
    Failed(Option<Value>),
    Canceled,
}

impl RemoteTaskState {
    /// Parses the result of `tasks/get`, in either protocol.
    ///
    /// # Errors
    /// Returns a description of the problem.
    pub(crate) fn read(mut state: Value) -> Result<Self, String> {
        let mut take = |key: &str| state.get_mut(key).map(Value::take).filter(|value| !value.is_null());
        let status = match take("status").as_ref().and_then(Value::as_str) {
            Some("working") => RemoteTaskStatus::Working,
            Some("input_required") => match take("inputRequests") {
                Some(Value::Object(requests)) => RemoteTaskStatus::InputRequired(requests),
                None => RemoteTaskStatus::InputRequired(JsonObject::new()),
                Some(_) => return Err("its `inputRequests` is not an object".to_owned()),
            },
            Some("completed") => RemoteTaskStatus::Completed(take("result")),
            Some("failed") => RemoteTaskStatus::Failed(take("error")),
            Some("cancelled") => RemoteTaskStatus::Canceled,
            Some(other) => return Err(format!("its status is `{}`", failure::agent_message(other))),
            None => return Err("it has no `status`".to_owned()),
        };
        let message = take("statusMessage").and_then(|text| text.as_str().map(str::to_owned));
        let interval = take("pollIntervalMs").or_else(|| take("pollInterval"));
        Ok(Self { status, message, poll_interval_ms: interval.as_ref().and_then(Value::as_u64) })
    }
}

/// An ordinary tool result: not a task and not a request for input.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlainToolResult<'a> {
    content: Vec<ContentBlock>,
    structured_content: Option<Value>,
    is_error: Option<bool>,
    #[serde(borrow, default)]
    result_type: Cow<'a, str>,
    task: Option<IgnoredAny>,
}

impl PlainToolResult<'_> {
    /// Converts this into the result of the call. Returns `None` if the result needs the lenient parser.
    pub(crate) fn into_call_response(self) -> Option<CallResponse> {
        let Self { content, structured_content, is_error, result_type, task } = self;
        let is_other = task.is_some() || matches!(&*result_type, "input_required" | "task");
        let is_plain = content.iter().all(|block| match block {
            ContentBlock::Text(_) | ContentBlock::Saved(_) => true,
            ContentBlock::Other(block) => block.as_object().is_some_and(|members| {
                let has_null = |members: &JsonObject| members.values().any(Value::is_null);
                let resource = members.get("resource").and_then(Value::as_object);
                !has_null(members) && !resource.is_some_and(has_null)
            }),
        });
        (!is_other && is_plain).then(|| tool_result(content, structured_content, is_error == Some(true)))
    }
}

/// Parses the JSON of a result as it was received.
pub(crate) fn parse(result: &str) -> CallResponse {
    let plain = serde_json::from_str::<PlainToolResult<'_>>(result).ok();
    plain.and_then(PlainToolResult::into_call_response).unwrap_or_else(|| match lenient_json::parse_value(result) {
        Ok(result) => from_json(result),
        Err(error) => CallResponse::Unrecognized(lenient_json::describe_unreadable(
            lenient_json::describe_invalid_json(&error),
            result,
        )),
    })
}

/// Parses a result that was received through rmcp.
pub(crate) fn read_service_result(result: ServerResult) -> CallResponse {
    match unwrap_text(result) {
        Ok(text) => parse(&text),
        Err(other) => from_json(serde_json::to_value(other).unwrap_or_default()),
    }
}

fn tool_result<B: Into<ContentBlock>>(content: Vec<B>, structured: Option<Value>, is_error: bool) -> CallResponse {
    let output = ToolOutput::new(content, structured.filter(|value| !value.is_null()));
    if is_error { CallResponse::ToolError(output) } else { CallResponse::Output(output) }
}

/// Parses a result from its JSON value. `null` counts as absent.
pub(crate) fn from_json(mut result: Value) -> CallResponse {
    let describe = |result: &Value| {
        lenient_json::describe_unreadable("it has neither `content` nor `structuredContent`", &result.to_string())
    };
    let Some(members) = result.as_object() else { return CallResponse::Unrecognized(describe(&result)) };
    let is_error = members.get("isError").is_some_and(is_true);
    let is_empty =
        !["content", "structuredContent"].iter().any(|key| members.get(*key).is_some_and(|it| !it.is_null()));
    match result.get("resultType").and_then(Value::as_str) {
        Some("input_required") => {
            let state = result.get("requestState").and_then(Value::as_str).map(str::to_owned);
            let requests = match result.get_mut("inputRequests").map(Value::take).unwrap_or_default() {
                Value::Object(requests) => requests,
                Value::Array(requests) if requests.is_empty() && state.is_some() => JsonObject::new(),
                Value::Null if state.is_some() => JsonObject::new(),
                _ => return CallResponse::Unrecognized("it requests input without `inputRequests`".to_owned()),
            };
            return CallResponse::InputRequired { state, requests };
        }
        Some("task") => return read_task(&result, TaskProtocol::Extension),
        _ => {}
    }
    if let Some(experimental) = result.get("task").filter(|task| task.get("taskId").is_some()) {
        return read_task(experimental, TaskProtocol::Experimental);
    }
    if is_empty && !is_error {
        let data = |read: fn(Value) -> Result<ToolOutput, String>, value: Value, response: fn(_) -> CallResponse| {
            read(value).map_or_else(CallResponse::Unrecognized, response)
        };
        return match (result.get("contents").is_some(), result.get("messages").is_some()) {
            (true, _) => data(data_result::read_contents, result["contents"].take(), CallResponse::Contents),
            (_, true) => data(data_result::read_messages, result["messages"].take(), CallResponse::Messages),
            _ => CallResponse::Unrecognized(describe(&result)),
        };
    }
    let content = result.get_mut("content").map(Value::take).unwrap_or_default();
    let structured = result.get_mut("structuredContent").map(Value::take);
    let text = match &content {
        Value::String(text) if is_error => text.clone(),
        content if is_error && !content.is_array() => content.to_string(),
        _ => String::new(),
    };
    match lenient_json::list_elements(content) {
        Some(content) => {
            tool_result(content.into_iter().filter_map(read_block).collect::<Vec<_>>(), structured, is_error)
        }
        // The tool's description of its failure matters more than a valid shape.
        None if is_error => tool_result(vec![ContentBlock::Text(text)], structured, is_error),
        None => CallResponse::Unrecognized("its `content` is not a list".to_owned()),
    }
}

/// Parses a content block. A `null` block is absent, and so are `null` members.
fn read_block(mut block: Value) -> Option<ContentBlock> {
    match &mut block {
        Value::Null => return None,
        Value::String(text) => return Some(ContentBlock::Text(std::mem::take(text))),
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            if let Some(Value::Object(resource)) = members.get_mut("resource") {
                resource.retain(|_, value| !value.is_null());
            }
        }
        _ => {}
    }
    Some(block.into())
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        _ => false,
    }
}

fn read_task(task: &Value, dialect: TaskProtocol) -> CallResponse {
    let number = |key: &str| task.get(key).and_then(Value::as_u64);
    match task.get("taskId").and_then(Value::as_str) {
        Some(id) => CallResponse::Task(RemoteTaskCheckpoint {
            id: id.to_owned(),
            dialect,
            poll_interval_ms: number("pollIntervalMs").or_else(|| number("pollInterval")),
            ttl_ms: number("ttlMs").or_else(|| number("ttl")),
        }),
        None => CallResponse::Unrecognized("a task without a `taskId`".to_owned()),
    }
}

/// Returns the output of a call.
///
/// # Errors
/// Returns the failure of a JSON-RPC error, [`FailureKind::ToolError`] with the text of the tool, or
/// [`FailureKind::InvalidResult`] if the result is not that of the operation.
pub(crate) fn into_output(call: &ToolCall, response: CallResponse) -> Result<ToolOutput, Failure> {
    let ToolCall { agent, tool, operation, .. } = call;
    let invalid =
        |what: &str| Err(Failure::new(FailureKind::InvalidResult, format!("`{tool}` of agent `{agent}` {what}")));
    match response {
        CallResponse::Output(output) if *operation == Operation::CallTool => Ok(output),
        CallResponse::Contents(output) if *operation == Operation::ReadResource => Ok(output),
        CallResponse::Messages(output) if *operation == Operation::GetPrompt => Ok(output),
        CallResponse::Output(_) | CallResponse::Contents(_) | CallResponse::Messages(_) => {
            invalid("sent the result of another method")
        }
        CallResponse::ToolError(output) => {
            let text = output.text();
            let message = match (text.trim(), &output.structured) {
                ("", Some(structured)) => failure::agent_message(&structured.to_string()),
                ("", None) => format!("`{tool}` of agent `{agent}` failed without a message"),
                (text, _) => failure::agent_message(text),
            };
            Err(Failure::new(FailureKind::ToolError, message))
        }
        CallResponse::RpcError(error) => Err(failure::of_call(call, &error)),
        CallResponse::InputRequired { .. } => invalid("requested input once more"),
        CallResponse::Task(_) => invalid("answered with another task instead of its result"),
        CallResponse::Unrecognized(what) => invalid(&format!("sent an invalid result: {what}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::message::service_result::wrap_text;

    /// Parses the result from the wire and through rmcp, and compares the two.
    fn read_both_ways(result: Value) -> CallResponse {
        let response = parse(&result.to_string());
        assert_eq!(response, read_service_result(wrap_text(&result.to_string())));
        response
    }

    #[test]
    fn tool_results_are_read() {
        let content = vec![json!({"type": "text", "text": "hi"})];
        let output = ToolOutput::new(content.clone(), Some(json!({"a": 1})));
        assert_eq!(
            read_both_ways(json!({"content": content, "structuredContent": {"a": 1}})),
            CallResponse::Output(output.clone())
        );
        assert_eq!(
            read_both_ways(json!({"content": content, "structuredContent": {"a": 1}, "isError": true})),
            CallResponse::ToolError(output)
        );
        let bare = ToolOutput::new(content.clone(), None);
        assert_eq!(
            read_both_ways(json!({"content": content, "structuredContent": null, "resultType": "complete"})),
            CallResponse::Output(bare)
        );
        assert_eq!(read_both_ways(json!({"content": []})), CallResponse::Output(ToolOutput::default()));
    }

    #[test]
    fn unknown_content_is_preserved() {
        let content = vec![json!({"type": "hologram", "data": 1})];
        let output = ToolOutput::new(content.clone(), None);
        assert_eq!(read_both_ways(json!({"content": content})), CallResponse::Output(output));
    }

    #[test]
    fn input_requests_are_kept_unchanged() {
        let requests = json!({"who": {"method": "elicitation/create", "params": {"message": "name?",
            "requestedSchema": {"type": "object", "properties": {"n": {"type": "string"}}}}},
            "odd": {"method": "elicitation/create", "params": {"requestedSchema": {"x-odd": 1}}}});
        let state = Some("s".to_owned());
        let round =
            CallResponse::InputRequired { state: state.clone(), requests: requests.as_object().cloned().unwrap() };
        assert_eq!(
            read_both_ways(json!({"resultType": "input_required", "inputRequests": requests, "requestState": "s"})),
            round
        );
        assert_eq!(
            read_both_ways(json!({"resultType": "input_required", "requestState": "s"})),
            CallResponse::InputRequired { state, requests: JsonObject::new() }
        );
    }

    #[test]
    fn null_is_absent_and_errors_need_no_text() {
        let output = |content: Value| ToolOutput::new(content.as_array().cloned().unwrap(), None);
        let text = json!([{"type": "text", "text": "hi"}]);
        let nulls = json!({"content": [{"type": "text", "text": "hi", "annotations": null, "_meta": null}, null],
            "structuredContent": null, "isError": null, "_meta": null, "resultType": null, "task": null});
        assert_eq!(read_both_ways(nulls), CallResponse::Output(output(text.clone())));
        let structured = json!({"content": null, "structuredContent": {"a": null}});
        let expected = ToolOutput::new(Vec::<ContentBlock>::new(), Some(json!({"a": null})));
        assert_eq!(read_both_ways(structured), CallResponse::Output(expected));
        let resource = json!({"type": "resource", "resource": {"uri": "x:1", "text": null, "blob": "AAA="}});
        let clean = json!([{"type": "resource", "resource": {"uri": "x:1", "blob": "AAA="}}]);
        assert_eq!(read_both_ways(json!({"content": [resource]})), CallResponse::Output(output(clean)));
        for mute in [json!({"isError": true}), json!({"isError": true, "content": null}), json!({"isError": "true"})] {
            assert_eq!(read_both_ways(mute), CallResponse::ToolError(ToolOutput::default()));
        }
        assert_eq!(
            read_both_ways(json!({"isError": true, "content": "hi"})),
            CallResponse::ToolError(output(text.clone()))
        );
        assert_eq!(
            read_both_ways(json!({"content": {"1": {"type": "text", "text": "hi"}}})),
            CallResponse::Output(output(text))
        );
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        let read = parse(r#"{"content": [{"type": "text", "text": "a\udc00"}], "structuredContent": {"n": 1e999}}"#);
        let content = vec![json!({"type": "text", "text": "a\u{FFFD}"})];
        assert_eq!(read, CallResponse::Output(ToolOutput::new(content, Some(json!({"n": null})))));
    }

    #[test]
    fn other_values_are_unrecognized() {
        for result in [json!({}), json!({"tools": []}), json!("text"), json!({"content": "text"}), json!(null)] {
            assert!(matches!(read_both_ways(result.clone()), CallResponse::Unrecognized(_)), "{result}");
        }
        let task = json!({"resultType": "task", "taskId": "1"});
        assert!(matches!(read_both_ways(task), CallResponse::Task(_)));
    }
}
