//! Tests of replies with tool calls, and of dialects that change replies.

use super::*;
use crate::model::{ChatTool, JsonObject, Prices};

/// Returns a model that supports tools, whose endpoint answers with `body`.
fn model_with_tools(body: &str) -> OpenAi {
    let dialect = Dialect { tools: true, ..Dialect::default() };
    let spec = LlmSpec { dialect, ..spec("http://endpoint.test") };
    model_with_spec(spec, vec![Bytes::copy_from_slice(body.as_bytes())])
}

fn tool_request() -> ChatRequest {
    let tool = |name: &str| ChatTool { name: name.to_owned(), description: None, input_schema: JsonObject::new() };
    ChatRequest { tools: vec![tool("geo.find"), tool("book")], ..question() }
}

pub(super) async fn chat_with_tools(body: &str) -> Result<ChatReply, ChatError> {
    model_with_tools(body).chat(&tool_request()).await
}

/// Returns a stream with one chunk for each of these tool call deltas and this finish reason.
fn stream(parts: &[serde_json::Value], finish_reason: &str) -> String {
    let chunk = |choice: serde_json::Value| format!("data: {}\n\n", json!({"choices": [choice]}));
    let parts = parts.iter().map(|part| chunk(json!({"delta": {"tool_calls": part}})));
    parts.collect::<String>() + &chunk(json!({"delta": {}, "finish_reason": finish_reason}))
}

fn expected_tool_uses(uses: &[(&str, &str, serde_json::Value)], stop_reason: &str) -> Result<ChatReply, ChatError> {
    let parts = uses.iter().map(|(id, name, input)| ChatPart::ToolUse {
        id: (*id).to_owned(),
        name: (*name).to_owned(),
        input: input.as_object().expect("an object").clone(),
    });
    Ok(ChatReply { parts: parts.collect(), ..reply("", "small", stop_reason, None) })
}

#[tokio::test]
async fn assembles_tool_calls_from_any_chunks() {
    let (find, book) = (json!({"city": "Porto"}), json!({}));
    let both = expected_tool_uses(&[("a", "geo.find", find.clone()), ("b", "book", book.clone())], "toolUse");
    let numbered = expected_tool_uses(&[("call_1", "geo.find", find.clone()), ("call_2", "book", book)], "toolUse");
    for (what, parts, finish_reason, expected) in [
        (
            "as documented, interleaved",
            vec![
                json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "geo_find", "arguments": ""}}]),
                json!([{"index": 1, "id": "b", "type": "function", "function": {"name": "book", "arguments": "{"}}]),
                json!([{"index": 0, "function": {"arguments": "{\"city\":"}}]),
                json!([{"index": 1, "function": {"arguments": "}"}}]),
                json!([{"index": 0, "id": null, "type": "", "function": {"name": null, "arguments": "\"Porto\"}"}}]),
            ],
            "tool_calls",
            both.clone(),
        ),
        (
            "no index, whole calls, `stop` at the end",
            vec![json!([
                {"id": "a", "function": {"name": "geo_find", "arguments": "{\"city\":\"Porto\"}"}},
                {"id": "b", "function": {"name": "book", "arguments": "{}"}},
            ])],
            "stop",
            both.clone(),
        ),
        (
            "no index, the id in every part",
            vec![
                json!([{"id": "a", "function": {"name": "geo_find", "arguments": "{\"city\""}}]),
                json!([{"id": "a", "function": {"arguments": ":\"Porto\"}"}}]),
                json!([{"id": "b", "function": {"name": "book"}}]),
            ],
            "tool_calls",
            both.clone(),
        ),
        (
            "the same index for all",
            vec![
                json!([{"index": 0, "id": "a", "function": {"name": "geo_find", "arguments": {"city": "Porto"}}}]),
                json!([{"index": 0, "id": "b", "function": {"name": "book", "arguments": null}}]),
            ],
            "tool_calls",
            both,
        ),
        (
            "neither index nor id, arguments as JSON in JSON",
            vec![
                json!([{"function": {"name": "geo_find", "arguments": "\"{\\\"city\\\":\\\"Porto\\\"}\""}}]),
                json!([{"function": {"name": "book", "arguments": ""}}]),
            ],
            "tool_calls",
            numbered,
        ),
        (
            "the last one cut off by the limit",
            vec![
                json!([{"index": 0, "id": "a", "function": {"name": "geo_find", "arguments": "{\"city\":\"Porto\"}"}}]),
                json!([{"index": 1, "id": "b", "function": {"name": "book", "arguments": "{\"da"}}]),
            ],
            "length",
            expected_tool_uses(&[("a", "geo.find", find.clone())], "toolUse"),
        ),
        (
            "the only one cut off by the limit",
            vec![json!([{"index": 0, "id": "a", "function": {"name": "geo_find", "arguments": "{\"ci"}}])],
            "length",
            Ok(reply("", "small", "maxTokens", None)),
        ),
        (
            "two of one id",
            vec![json!([
                {"index": 0, "id": "a", "function": {"name": "geo_find", "arguments": {"city": "Porto"}}},
                {"index": 1, "id": "a", "function": {"name": "book"}},
            ])],
            "tool_calls",
            expected_tool_uses(&[("a", "geo.find", find), ("call_2", "book", json!({}))], "toolUse"),
        ),
    ] {
        assert_eq!(chat_with_tools(&stream(&parts, finish_reason)).await, expected, "{what}");
    }
}

#[tokio::test]
async fn keeps_tool_calls_without_a_name() {
    let body = stream(&[json!([{"id": "a", "function": {"arguments": "{}"}}])], "tool_calls");
    let problem = "do not belong to a named tool".to_owned();
    let parts = vec![ChatPart::UnreadableToolUse { id: "a".to_owned(), name: String::new(), problem }];
    assert_eq!(chat_with_tools(&body).await, Ok(ChatReply { parts, ..reply("", "small", "toolUse", None) }));
}

#[tokio::test]
async fn separates_calls_with_the_same_id_and_drops_duplicates() {
    let (find, book) = (json!({"city": "Porto"}), json!({"day": 1}));
    let call = |index: Option<u64>, name: &str, arguments: &str| json!([{"index": index, "id": "a", "function": {"name": name, "arguments": arguments}}]);
    let (porto, other) = (r#"{"city": "Porto"}"#, r#"{"day": 1}"#);
    for index in [None, Some(0)] {
        let two = [call(index, "geo_find", porto), call(index, "book", other)];
        let expected =
            expected_tool_uses(&[("a", "geo.find", find.clone()), ("call_2", "book", book.clone())], "toolUse");
        assert_eq!(chat_with_tools(&stream(&two, "tool_calls")).await, expected, "{index:?}");
        let same_tool = [call(index, "book", porto), call(index, "book", other)];
        let expected = expected_tool_uses(&[("a", "book", find.clone()), ("call_2", "book", book.clone())], "toolUse");
        assert_eq!(chat_with_tools(&stream(&same_tool, "tool_calls")).await, expected, "{index:?}");
        let repeated = [call(index, "geo_find", porto), call(index, "geo_find", porto)];
        let once = expected_tool_uses(&[("a", "geo.find", find.clone())], "toolUse");
        assert_eq!(chat_with_tools(&stream(&repeated, "tool_calls")).await, once, "{index:?}");
        let in_pieces = [call(index, "geo_find", r#"{"city":"#), call(index, "geo_find", r#" "Porto"}"#)];
        assert_eq!(chat_with_tools(&stream(&in_pieces, "tool_calls")).await, once, "{index:?}");
    }
}

#[tokio::test]
async fn recognizes_all_finish_reasons() {
    let body = |finish_reason: &str| {
        json!({"choices": [{"message": {"content": "Hi"}, "finish_reason": finish_reason}]}).to_string()
    };
    for (finish_reasons, stop_reason) in [
        (&["stop", "STOP", "end_turn", "eos_token", "COMPLETE", "FINISH_REASON_STOP"][..], "endTurn"),
        (&["length", "MAX_TOKENS", "max_output_tokens", "model_length"], "maxTokens"),
        (&["content_filter", "SAFETY", "RECITATION", "guardrail_intervened"], "content_filter"),
        (&["refusal"], "refusal"),
        (&["magic"], "magic"),
    ] {
        for finish_reason in finish_reasons {
            assert_eq!(
                chat_with_tools(&body(finish_reason)).await,
                Ok(reply("Hi", "small", stop_reason, None)),
                "{finish_reason}"
            );
        }
    }
}

#[tokio::test]
async fn unreadable_arguments_keep_the_other_parts() {
    let body = stream(
        &[json!([
            {"index": 0, "id": "a", "function": {"name": "book", "arguments": "{\"day\": "}},
            {"index": 1, "id": "b", "function": {"name": "geo_find", "arguments": [1]}},
            {"index": 2, "id": "c", "function": {"name": "book", "arguments": {}}},
        ])],
        "tool_calls",
    );
    let unreadable = |id: &str, name: &str, problem: &str| ChatPart::UnreadableToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        problem: problem.to_owned(),
    };
    let parts = vec![
        unreadable("a", "book", "are not JSON: EOF while parsing a value at line 1 column 8"),
        unreadable("b", "geo.find", "are not an object: [1]"),
        ChatPart::ToolUse { id: "c".to_owned(), name: "book".to_owned(), input: JsonObject::new() },
    ];
    assert_eq!(chat_with_tools(&body).await, Ok(ChatReply { parts, ..reply("", "small", "toolUse", None) }));
}

#[tokio::test]
async fn keeps_reasoning_only_if_it_is_echoed() {
    let reasoning = |part: &str| json!({"choices": [{"delta": {"reasoning_content": part}}]});
    let calling = json!({"choices": [{"delta": {"tool_calls": [{"id": "a", "function": {"name": "book"}}]}}]});
    let answering = json!({"choices": [{"delta": {"content": "Hi"}}]});
    let body = |choice: &serde_json::Value| {
        let end = json!({"choices": [{"delta": {"reasoning_content": null}, "finish_reason": "stop"}]});
        let chunks = [reasoning("I "), reasoning("see."), choice.clone(), end];
        chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect::<String>()
    };
    let request = |echo_reasoning, body: String| async move {
        let dialect = Dialect { tools: true, echo_reasoning, ..Dialect::default() };
        let spec = LlmSpec { dialect, ..spec("http://endpoint.test") };
        model_with_spec(spec, vec![Bytes::from(body)]).chat(&tool_request()).await.expect("a reply").parts
    };
    let book = ChatPart::ToolUse { id: "a".to_owned(), name: "book".to_owned(), input: JsonObject::new() };
    let echoed = ChatPart::Reasoning { model: "llm".to_owned(), text: "I see.".to_owned() };
    assert_eq!(request(true, body(&calling)).await, [echoed, book.clone()]);
    assert_eq!(request(false, body(&calling)).await, [book]);
    assert_eq!(request(true, body(&answering)).await, [ChatPart::Text { text: "Hi".to_owned() }]);
}

#[tokio::test]
async fn generated_ids_are_unique() {
    let earlier = [
        ChatPart::ToolUse { id: "call_1".to_owned(), name: "book".to_owned(), input: JsonObject::new() },
        ChatPart::ToolUse { id: "call_3".to_owned(), name: "book".to_owned(), input: JsonObject::new() },
    ];
    let messages = vec![ChatMessage { role: ChatRole::Assistant, parts: earlier.to_vec() }.into()];
    let body = stream(&[json!([{"function": {"name": "book"}}])], "tool_calls");
    let result = model_with_tools(&body).chat(&ChatRequest { messages, ..tool_request() }).await;
    assert_eq!(result, expected_tool_uses(&[("call_4", "book", json!({}))], "toolUse"));
}

#[tokio::test]
async fn text_precedes_tool_calls() {
    let body = json!({"choices": [{"finish_reason": "tool_calls", "message": {
        "content": "Let me see.", "tool_calls": [{"id": "a", "function": {"name": "book", "arguments": {}}}],
    }}]});
    let parts = vec![
        ChatPart::Text { text: "Let me see.".to_owned() },
        ChatPart::ToolUse { id: "a".to_owned(), name: "book".to_owned(), input: JsonObject::new() },
    ];
    let expected = ChatReply { parts, ..reply("", "small", "toolUse", None) };
    assert_eq!(chat_with_tools(&body.to_string()).await, Ok(expected));
}

#[tokio::test]
async fn applies_stop_sequences_locally() {
    let dialect = Dialect { stop: false, ..Dialect::default() };
    let body = json!({"choices": [{"finish_reason": "length", "message": {"content": "one END two STOP"}}]});
    let spec = LlmSpec { dialect, ..spec("http://endpoint.test") };
    let stop = ["STOP", "END", "a", "b", "c", "d"].map(str::to_owned).to_vec();
    let model = model_with_spec(spec, vec![Bytes::from(body.to_string())]);
    let result = model.chat(&ChatRequest { stop, ..question() }).await;
    assert_eq!(result, Ok(reply("one ", "small", "stopSequence", None)));
}

#[tokio::test]
async fn computes_the_cost_of_a_reply() {
    let body = json!({
        "choices": [{"finish_reason": "stop", "message": {"content": "Hi"}}],
        "usage": {"prompt_tokens": 1_000, "completion_tokens": 100},
    });
    let spec = LlmSpec { prices: Some(Prices { input: 2.0, output: 10.0 }), ..spec("http://endpoint.test") };
    let result = model_with_spec(spec, vec![Bytes::from(body.to_string())]).chat(&question()).await.expect("a reply");
    assert!(result.cost_usd.is_some_and(|cost| (cost - 0.003).abs() < 1e-12), "{result:?}");
}
