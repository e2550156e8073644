//! The bodies that endpoints really send, each whole and as a stream.

use super::*;

/// What is special about a variant, its message and, where the whole differs in more than that, its other fields.
struct Variant {
    what: &'static str,
    /// The whole answer; the stream is made of it.
    whole: serde_json::Value,
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

/// A plain reply without or with some fields; a path in JSON Pointer's words, nothing for absent.
fn odd(path: &str, value: Option<serde_json::Value>) -> serde_json::Value {
    let mut body = text();
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let parent = body.pointer_mut(parent).and_then(serde_json::Value::as_object_mut).expect("an object");
    match value {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.shift_remove(key),
    };
    body
}

fn call(call: serde_json::Value) -> serde_json::Value {
    let mut body = message(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    body["choices"][0]["finish_reason"] = json!("tool_calls");
    body
}

fn hi(stop_reason: &str, usage: Option<(u64, u64)>) -> ChatReply {
    reply("Hi", "small", stop_reason, usage)
}

fn asks(id: &str) -> ChatReply {
    let input = json!({"city": "Porto"}).as_object().expect("an object").clone();
    let parts = vec![ChatPart::ToolUse { id: id.to_owned(), name: "geo.find".to_owned(), input }];
    ChatReply { parts, ..reply("", "small", "toolUse", Some((3, 2))) }
}

/// The twenty forms by which typed clients break, most of them.
fn variants() -> Vec<Variant> {
    let usual = Some((3, 2));
    let function = json!({"name": "geo_find", "arguments": "{\"city\":\"Porto\"}"});
    let good = |what, whole, expected| Variant { what, whole, expected: Ok(expected) };
    vec![
        good("everything as documented", text(), hi("endTurn", usual)),
        good("no id", odd("/id", None), hi("endTurn", usual)),
        good("no object", odd("/object", None), hi("endTurn", usual)),
        good("no created", odd("/created", None), hi("endTurn", usual)),
        good("created with a fraction", odd("/created", Some(json!(1.7e9 + 0.5))), hi("endTurn", usual)),
        good("no model", odd("/model", None), hi("endTurn", usual)),
        good("no role", odd("/choices/0/message/role", None), hi("endTurn", usual)),
        good("an empty role", odd("/choices/0/message/role", Some(json!(""))), hi("endTurn", usual)),
        good("no index", odd("/choices/0/index", None), hi("endTurn", usual)),
        good("an unknown finish reason", odd("/choices/0/finish_reason", Some(json!("eos"))), hi("endTurn", usual)),
        good("an unknown service tier", odd("/service_tier", Some(json!("on_demand"))), hi("endTurn", usual)),
        good("no usage", odd("/usage", None), hi("endTurn", None)),
        good(
            "usage with fractions",
            odd("/usage", Some(json!({"prompt_tokens": 3.0, "completion_tokens": 2.0}))),
            hi("endTurn", usual),
        ),
        good(
            "content in parts",
            odd(
                "/choices/0/message/content",
                Some(json!([{"type": "text", "text": "H"}, {"type": "text", "text": "i"}])),
            ),
            hi("endTurn", usual),
        ),
        good("a tool call", call(json!({"index": 0, "id": "a", "type": "function", "function": function})), asks("a")),
        good("a tool call without a type", call(json!({"index": 0, "id": "a", "function": function})), asks("a")),
        good(
            "a tool call without an id",
            call(json!({"index": 0, "type": "function", "function": function})),
            asks("call_1"),
        ),
        good(
            "a tool call without an index",
            call(json!({"id": "a", "type": "function", "function": function})),
            asks("a"),
        ),
        good(
            "a tool call with an object as arguments",
            call(
                json!({"id": "a", "type": "function", "function": {"name": "geo_find", "arguments": {"city": "Porto"}}}),
            ),
            asks("a"),
        ),
        Variant {
            what: "an error in a success",
            whole: json!({"error": {"message": "no credit", "code": 402}, "user_id": "u"}),
            expected: Err("answered 402 Payment Required: no credit; the account has no credit left"),
        },
    ]
}

/// The same as a stream: the message in two parts where it can be, the usage in a chunk of its own.
fn streamed(whole: &serde_json::Value) -> String {
    let Some(choice) = whole.pointer("/choices/0") else { return format!("data: {whole}\n\n") };
    let chunk = |choice: serde_json::Value| {
        let mut chunk = whole.clone();
        chunk["choices"] = json!([choice]);
        chunk.as_object_mut().expect("an object").shift_remove("usage");
        format!("data: {chunk}\n\n")
    };
    let mut begins = choice.clone();
    let delta = begins.as_object_mut().expect("an object").shift_remove("message").expect("a message");
    begins["delta"] = delta;
    begins["finish_reason"] = json!(null);
    let mut ends = choice.clone();
    ends.as_object_mut().expect("an object").shift_remove("message");
    ends["delta"] = json!({});
    let usage = json!({"choices": [], "usage": whole.get("usage")});
    format!("{}{}data: {usage}\n\ndata: [DONE]\n\n", chunk(begins), chunk(ends))
}

#[tokio::test]
async fn every_form_of_body_is_understood_whole_and_streamed() {
    let variants = variants();
    assert_eq!(variants.len(), 20);
    for Variant { what, whole, expected } in variants {
        let expected = expected.map_err(|said| {
            let message = format!("model `small` at `http://endpoint.test` {said}");
            ChatError::Endpoint { message, status: Some(402) }
        });
        for body in [whole.to_string(), format!("{whole:#}"), streamed(&whole)] {
            assert_eq!(super::tools::told(&body).await, expected, "{what}: {body}");
        }
    }
}
