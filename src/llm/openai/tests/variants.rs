//! Response bodies of real endpoints, each as one body and as a stream.

use super::*;

/// A variant of a response body and the result that is expected for it.
struct ReplyVariant {
    name: &'static str,
    /// The complete response; the stream is derived from it.
    response: serde_json::Value,
    expected: Result<ChatReply, &'static str>,
}

fn message(message: serde_json::Value) -> serde_json::Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "small",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "service_tier": null, "system_fingerprint": "fp_1",
    })
}

fn text() -> serde_json::Value {
    message(json!({"role": "assistant", "content": "Hi", "refusal": null, "annotations": []}))
}

/// Returns a plain response in which the field at `path` (a JSON Pointer) is replaced, or removed if `value` is `None`.
fn response_with(path: &str, value: Option<serde_json::Value>) -> serde_json::Value {
    let mut body = text();
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let parent = body.pointer_mut(parent).and_then(serde_json::Value::as_object_mut).expect("an object");
    match value {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.shift_remove(key),
    };
    body
}

fn tool_call_response(call: serde_json::Value) -> serde_json::Value {
    let mut body = message(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    body["choices"][0]["finish_reason"] = json!("tool_calls");
    body
}

fn expected_reply(stop_reason: &str, usage: Option<(u64, u64)>) -> ChatReply {
    reply("Hi", "small", stop_reason, usage)
}

fn expected_tool_call(id: &str) -> ChatReply {
    let input = json!({"city": "Porto"}).as_object().expect("an object").clone();
    let parts = vec![ChatPart::ToolUse { id: id.to_owned(), name: "geo.find".to_owned(), input }];
    ChatReply { parts, ..reply("", "small", "toolUse", Some((3, 2))) }
}

/// Returns the response variants; most of them break strictly typed clients.
fn variants() -> Vec<ReplyVariant> {
    let usual = Some((3, 2));
    let function = json!({"name": "geo_find", "arguments": "{\"city\":\"Porto\"}"});
    let good = |what, response, expected| ReplyVariant { name: what, response, expected: Ok(expected) };
    vec![
        good("everything as documented", text(), expected_reply("endTurn", usual)),
        good("no id", response_with("/id", None), expected_reply("endTurn", usual)),
        good("no object", response_with("/object", None), expected_reply("endTurn", usual)),
        good("no created", response_with("/created", None), expected_reply("endTurn", usual)),
        good(
            "created with a fraction",
            response_with("/created", Some(json!(1.7e9 + 0.5))),
            expected_reply("endTurn", usual),
        ),
        good("no model", response_with("/model", None), expected_reply("endTurn", usual)),
        good("no role", response_with("/choices/0/message/role", None), expected_reply("endTurn", usual)),
        good(
            "an empty role",
            response_with("/choices/0/message/role", Some(json!(""))),
            expected_reply("endTurn", usual),
        ),
        good("no index", response_with("/choices/0/index", None), expected_reply("endTurn", usual)),
        good(
            "an unknown finish reason",
            response_with("/choices/0/finish_reason", Some(json!("eos"))),
            expected_reply("endTurn", usual),
        ),
        good(
            "an unknown service tier",
            response_with("/service_tier", Some(json!("on_demand"))),
            expected_reply("endTurn", usual),
        ),
        good("no usage", response_with("/usage", None), expected_reply("endTurn", None)),
        good(
            "usage with fractions",
            response_with("/usage", Some(json!({"prompt_tokens": 3.0, "completion_tokens": 2.0}))),
            expected_reply("endTurn", usual),
        ),
        good(
            "content in parts",
            response_with(
                "/choices/0/message/content",
                Some(json!([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}])),
            ),
            expected_reply("endTurn", usual),
        ),
        good(
            "a tool call",
            tool_call_response(json!({"index": 0, "id": "a", "type": "function", "function": function})),
            expected_tool_call("a"),
        ),
        good(
            "a tool call without a type",
            tool_call_response(json!({"index": 0, "id": "a", "function": function})),
            expected_tool_call("a"),
        ),
        good(
            "a tool call without an id",
            tool_call_response(json!({"index": 0, "type": "function", "function": function})),
            expected_tool_call("call_1"),
        ),
        good(
            "a tool call without an index",
            tool_call_response(json!({"id": "a", "type": "function", "function": function})),
            expected_tool_call("a"),
        ),
        good(
            "a tool call with an object as arguments",
            tool_call_response(
                json!({"id": "a", "type": "function", "function": {"name": "geo_find", "arguments": {"city": "Porto"}}}),
            ),
            expected_tool_call("a"),
        ),
        ReplyVariant {
            name: "an error in a success",
            response: json!({"error": {"message": "no credit", "code": 402}, "user_id": "u"}),
            expected: Err("answered 402 Payment Required: no credit; the account is out of credit"),
        },
    ]
}

/// Converts a response into a stream: the message in two chunks if possible, and the usage in a separate chunk.
fn as_stream(response: &serde_json::Value) -> String {
    let Some(choice) = response.pointer("/choices/0") else { return format!("data: {response}\n\n") };
    let chunk = |choice: serde_json::Value| {
        let mut chunk = response.clone();
        chunk["choices"] = json!([choice]);
        chunk.as_object_mut().expect("an object").shift_remove("usage");
        format!("data: {chunk}\n\n")
    };
    let mut first = choice.clone();
    let delta = first.as_object_mut().expect("an object").shift_remove("message").expect("a message");
    first["delta"] = delta;
    first["finish_reason"] = json!(null);
    let mut last = choice.clone();
    last.as_object_mut().expect("an object").shift_remove("message");
    last["delta"] = json!({});
    let usage = json!({"choices": [], "usage": response.get("usage")});
    format!("{}{}data: {usage}\n\ndata: [DONE]\n\n", chunk(first), chunk(last))
}

#[tokio::test]
async fn reads_all_variants_plain_and_streamed() {
    let variants = variants();
    assert_eq!(variants.len(), 20);
    for ReplyVariant { name: what, response, expected } in variants {
        let expected = expected.map_err(|failure| {
            let message = format!("model `small` at `http://endpoint.test` {failure}");
            ChatError::Endpoint { message, status: Some(402) }
        });
        for body in [response.to_string(), format!("{response:#}"), as_stream(&response)] {
            assert_eq!(super::tools::chat_with_tools(&body).await, expected, "{what}: {body}");
        }
    }
}
