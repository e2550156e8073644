use serde_json::json;

use super::*;

fn object(value: Value) -> crate::model::JsonObject {
    value.as_object().cloned().unwrap()
}

#[test]
fn every_request_member_is_read() {
    let params = json!({
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "mimeType": "image/svg+xml", "data": "aGk="},
                {"type": "audio", "mimeType": "audio/wav", "data": "aGk="},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "a"},
                {"type": "tool_use", "id": "1", "name": "geo.find", "input": {"city": "Porto"}},
                {"type": "tool_use", "id": "2", "name": "book", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "toolUseId": "2", "content": [{"type": "text", "text": "full"}], "isError": true},
                {"type": "tool_result", "toolUseId": "1", "content": [
                    {"type": "text", "text": "b"},
                    {"type": "resource_link", "uri": "file:///c", "name": "c"},
                    {"type": "resource", "resource": {"uri": "file:///d", "text": "d"}},
                ], "structuredContent": {"n": 1}},
            ]},
            {"role": "assistant", "content": {"type": "tool_use", "id": "1", "name": "book", "input": {}}},
            {"role": "user", "content": {"type": "tool_result", "toolUseId": "1", "content": [], "structuredContent": {"n": 1}}},
        ],
        "systemPrompt": "be brief", "maxTokens": 100, "temperature": 0.5, "stopSequences": ["END"],
        "includeContext": "none", "metadata": {"x": 1},
        "tools": [{"name": "geo.find", "description": "Finds.", "inputSchema": {"type": "object"}, "title": "Find"}],
        "toolChoice": {"mode": "required"},
        "modelPreferences": {
            "hints": [{"name": "small"}, {}], "costPriority": 1, "speedPriority": 0.5, "intelligencePriority": 0,
        },
    });
    let text = |text: &str| ChatPart::Text { text: text.to_owned() };
    let tool_use = |id: &str, name: &str, input| ChatPart::ToolUse { id: id.to_owned(), name: name.to_owned(), input };
    let tool_result =
        |id: &str, text: &str, is_error| ChatPart::ToolResult { id: id.to_owned(), text: text.to_owned(), is_error };
    let message = |role, parts| ChatMessage { role, parts }.into();
    let (wav, data) = ("audio/wav".to_owned(), "aGk=".to_owned());
    let expected = ChatRequest {
        system: Some("be brief".to_owned()),
        messages: vec![
            message(
                ChatRole::User,
                vec![
                    text("look"),
                    ChatPart::Image { mime_type: "image/svg+xml".to_owned(), data: data.clone() },
                    ChatPart::Audio { mime_type: wav, data },
                ],
            ),
            message(
                ChatRole::Assistant,
                vec![
                    text("a"),
                    tool_use("1", "geo.find", object(json!({"city": "Porto"}))),
                    tool_use("2", "book", object(json!({}))),
                ],
            ),
            message(ChatRole::User, vec![tool_result("2", "full", true), tool_result("1", "b\nfile:///c\nd", false)]),
            message(ChatRole::Assistant, vec![tool_use("1", "book", object(json!({})))]),
            message(ChatRole::User, vec![tool_result("1", "{\"n\":1}", false)]),
        ],
        max_tokens: 100,
        temperature: Some(0.5),
        stop: vec!["END".to_owned()],
        tools: vec![ChatTool {
            name: "geo.find".to_owned(),
            description: Some("Finds.".to_owned()),
            input_schema: object(json!({"type": "object"})),
        }],
        tool_choice: ToolChoice::Required,
        preferences: ModelPreferences {
            hints: vec!["small".to_owned()],
            cost: Some(1.0),
            speed: Some(0.5),
            intelligence: Some(0.0),
        },
        ..ChatRequest::default()
    };
    assert_eq!(read(&params, SamplingSupport::WithTools), Ok(expected));
}

/// Returns the message of the error -32602 for a valid request in which `key` is replaced by `value`.
fn refusal_message(key: &str, value: Value, declared: SamplingSupport) -> String {
    let mut params = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 1});
    assert!(read(&params, declared).is_ok());
    params[key] = value;
    let error = read(&params, declared).unwrap_err();
    assert_eq!(error.code.0, -32602);
    error.message.into_owned()
}

#[test]
fn unsupported_requests_are_refused_with_a_reason() {
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let model = |content: Value| json!([{"role": "assistant", "content": content}]);
    let result = |content: Value| user(json!({"type": "tool_result", "toolUseId": "1", "content": [content]}));
    let schema = json!({"type": "object"});
    for (key, value, expected) in [
        ("tools", json!({}), "`tools` must be a list"),
        ("tools", json!([{"name": "", "inputSchema": schema}]), "a tool has no `name`"),
        ("tools", json!([{"name": "t", "inputSchema": "x"}]), "the `inputSchema` of the tool `t` is not an object"),
        ("messages", json!([]), "`messages` must be a non-empty list"),
        ("messages", user(json!({"type": "text"})), "content of type `text` has no `text`"),
        ("messages", user(json!({"type": "image", "data": "aGk="})), "content of type `image` must have a `mimeType`"),
        (
            "messages",
            user(json!({"type": "image", "mimeType": "image/png;x,", "data": "aGk="})),
            "content of type `image` must have a `mimeType`",
        ),
        (
            "messages",
            user(json!({"type": "audio", "mimeType": "audio/wav", "data": "a b"})),
            "content of type `audio` must have `data` in base64",
        ),
        ("messages", user(json!({"type": "hologram"})), "content of type `hologram` is not supported"),
        ("messages", model(json!({"type": "image"})), "`image` is not supported in a message of the assistant"),
        ("messages", user(json!({"type": "tool_use"})), "`tool_use` is not supported in a message of the user"),
        (
            "messages",
            model(json!({"type": "tool_use", "id": "1", "name": "t"})),
            "must have `id`, `name` and an object",
        ),
        (
            "messages",
            result(json!({"type": "image"})),
            "content of type `image` is not supported in the result of a tool",
        ),
        ("messages", json!([{"role": "system", "content": {"type": "text", "text": ""}}]), "not `system`"),
        ("messages", json!([{"role": "user"}]), "a message has no `content`"),
        ("maxTokens", json!(0), "`maxTokens` must be"),
        ("maxTokens", json!(1.5), "`maxTokens` must be"),
    ] {
        let message = refusal_message(key, value, SamplingSupport::WithTools);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn ignored_hints_are_reported() {
    let plain = || json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 1});
    let expected = read(&plain(), SamplingSupport::Plain).unwrap();
    for (key, value, is_ignored) in [
        ("includeContext", json!("thisServer"), true),
        ("includeContext", json!("allServers"), true),
        ("includeContext", json!(1), true),
        ("includeContext", json!("none"), false),
        ("temperature", json!("hot"), true),
        ("stopSequences", json!("END"), true),
        ("toolChoice", json!({"mode": "any"}), true),
        ("modelPreferences", json!({"hints": "x"}), true),
        ("modelPreferences", json!("small"), true),
        ("modelPreferences", json!([]), false),
        ("metadata", json!({"x": 1}), false),
    ] {
        let mut params = plain();
        params[key] = value;
        let chat = read(&params, SamplingSupport::Plain).unwrap();
        let ignored = ignored_hints(&params, &chat);
        assert_eq!(ignored.len(), usize::from(is_ignored), "{params}: {ignored:?}");
        assert!(ignored.iter().all(|hint| hint.contains(key)), "{ignored:?}");
        assert_eq!(chat, expected, "{params}");
    }
    for key in
        ["includeContext", "temperature", "stopSequences", "toolChoice", "tools", "modelPreferences", "systemPrompt"]
    {
        let mut params = plain();
        params[key] = Value::Null;
        let chat = read(&params, SamplingSupport::Plain).unwrap();
        assert_eq!((ignored_hints(&params, &chat), chat), (Vec::new(), expected.clone()));
    }
    let tools = json!([{"name": "a", "inputSchema": null}, {"name": "b"}, {"name": "c", "inputSchema": []}]);
    let mut params = plain();
    params["tools"] = tools;
    params["toolChoice"] = json!({"mode": "any"});
    let expected = "`toolChoice.mode` must be `auto`, `required` or `none`, not \"any\"";
    assert_eq!(read(&params, SamplingSupport::WithTools).unwrap_err().message, expected);
    params["toolChoice"] = Value::Null;
    assert_eq!(read(&params, SamplingSupport::WithTools).unwrap().tools.len(), 3);
}

#[test]
fn tool_uses_require_results_in_the_next_message() {
    let text = json!({"type": "text", "text": "hi"});
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "t", "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "toolUseId": id, "content": []});
    let model = |content: Value| json!({"role": "assistant", "content": content});
    let user = |content: Value| json!({"role": "user", "content": content});
    for (messages, expected) in [
        (json!([model(call("1"))]), "the `tool_use` `1` has no `tool_result`"),
        (json!([model(call("1")), user(text.clone())]), "the `tool_use` `1` must be followed by its `tool_result`"),
        (
            json!([model(json!([call("1"), call("2")])), user(result("1")), model(text.clone())]),
            "the `tool_use` `2` must be followed by its `tool_result`",
        ),
        (json!([user(result("1"))]), "the `tool_result` `1` has no `tool_use` before it"),
        (
            json!([model(call("1")), user(json!([result("1"), result("1")]))]),
            "the `tool_result` `1` has no `tool_use` before it",
        ),
        (
            json!([model(call("1")), user(json!([result("1"), text]))]),
            "a message with a `tool_result` must have no other content",
        ),
        (json!([model(json!([call("1"), call("1")]))]), "two `tool_use` share the id `1`"),
    ] {
        assert_eq!(refusal_message("messages", messages, SamplingSupport::WithTools), expected);
    }
}

#[test]
fn undeclared_tools_are_refused() {
    let tools = json!([{"name": "t", "inputSchema": {"type": "object"}}]);
    let expected = "`tools` are not supported: no language model of this host supports tools";
    assert_eq!(refusal_message("tools", tools, SamplingSupport::Plain), expected);
    let empty = json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 1, "tools": [],
    });
    assert!(read(&empty, SamplingSupport::Plain).is_ok());
}

#[test]
fn replies_carry_model_and_stop_reason() {
    let reply = ChatReply {
        parts: vec![ChatPart::Text { text: "hello".to_owned() }],
        cost_usd: None,
        warning: None,
        model: "m".to_owned(),
        stop_reason: "maxTokens".to_owned(),
        usage: None,
    };
    let expected = json!({
        "role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m", "stopReason": "maxTokens",
    });
    let written = |reply| serde_json::to_value(write(reply).unwrap()).unwrap();
    assert_eq!(written(reply.clone()), expected);

    let call = ChatPart::ToolUse { id: "1".to_owned(), name: "t".to_owned(), input: object(json!({"a": 1})) };
    let tool_reply = ChatReply { parts: vec![call.clone()], stop_reason: "toolUse".to_owned(), ..reply.clone() };
    let block = json!({"type": "tool_use", "id": "1", "name": "t", "input": {"a": 1}});
    let expected = json!({"role": "assistant", "content": block, "model": "m", "stopReason": "toolUse"});
    assert_eq!(written(tool_reply), expected);

    let both = ChatReply { parts: [reply.parts.clone(), vec![call.clone()]].concat(), ..reply.clone() };
    assert_eq!(written(both)["content"], json!([{"type": "text", "text": "hello"}, block]));

    let thoughts = ChatPart::Reasoning { model: "llm".to_owned(), text: "Hm.".to_owned() };
    let thought = ChatReply { parts: vec![thoughts, call], ..reply };
    assert_eq!(written(thought)["content"], block, "thoughts are for the model alone");
}

#[test]
fn unreadable_tool_uses_are_internal_errors() {
    let parts = vec![
        ChatPart::Text { text: "Let me see.".to_owned() },
        ChatPart::UnreadableToolUse {
            id: "1".to_owned(),
            name: "t".to_owned(),
            problem: "are no object: 1".to_owned(),
        },
    ];
    let (model, stop_reason) = ("m".to_owned(), "toolUse".to_owned());
    let error = write(ChatReply { parts, model, stop_reason, usage: None, cost_usd: None, warning: None })
        .expect_err("an error");
    let expected = "model `m` called tool `t` with arguments that are no object: 1";
    assert_eq!((error.code.0, error.message.as_ref()), (-32603, expected));
}
