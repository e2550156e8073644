use std::sync::Arc;

use super::*;
use crate::llm::samples::spec;
use crate::model::{ChatTool, JsonObject, OWN_KEYS, RequestSettings};

/// Returns a dialect that supports everything.
fn full_dialect() -> Dialect {
    Dialect { tools: true, images: true, audio: true, ..Dialect::default() }
}

fn request_json(dialect: Dialect, request: &ChatRequest) -> Result<Value, ChatError> {
    request_json_with(RequestSettings::default(), dialect, request)
}

fn request_json_with(settings: RequestSettings, dialect: Dialect, request: &ChatRequest) -> Result<Value, ChatError> {
    let spec = LlmSpec { dialect, settings, ..spec("http://endpoint.test") };
    RequestBody::new(&spec, request).map(|body| body.json)
}

fn object(value: Value) -> JsonObject {
    value.as_object().cloned().expect("an object")
}

fn message(role: ChatRole, parts: Vec<ChatPart>) -> Arc<ChatMessage> {
    ChatMessage { role, parts }.into()
}

fn text(text: &str) -> ChatPart {
    ChatPart::Text { text: text.to_owned() }
}

fn audio(mime_type: &str) -> ChatPart {
    ChatPart::Audio { mime_type: mime_type.to_owned(), data: "UklG".to_owned() }
}

fn question() -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::text(ChatRole::User, "Hi").into()],
        max_tokens: 9,
        ..ChatRequest::default()
    }
}

fn tool(name: &str) -> ChatTool {
    let input_schema = object(json!({"$schema": "x", "type": "object"}));
    ChatTool { name: name.to_owned(), description: Some("Finds.".to_owned()), input_schema }
}

#[test]
fn writes_a_complete_conversation() {
    let image = ChatPart::Image { mime_type: "image/png".to_owned(), data: "iVBO".to_owned() };
    let call = |id: &str| ChatPart::ToolUse {
        id: id.to_owned(),
        name: "geo.find".to_owned(),
        input: object(json!({"city": "Porto"})),
    };
    let result = |id: &str, is_error| ChatPart::ToolResult { id: id.to_owned(), text: "found".to_owned(), is_error };
    let request = ChatRequest {
        system: Some("Be brief.".to_owned()),
        messages: vec![
            message(ChatRole::User, vec![text("Look:"), image, audio("audio/x-wav"), audio("audio/mpeg")]),
            message(ChatRole::Assistant, vec![text("Let me see."), call("a"), call("b")]),
            message(ChatRole::User, vec![result("a", false), result("b", true)]),
            message(ChatRole::Assistant, vec![call("c")]),
            message(ChatRole::User, vec![result("c", false), text("And"), text("now?")]),
            message(ChatRole::Assistant, vec![text("Done.")]),
            message(ChatRole::User, vec![]),
        ],
        tools: vec![tool("geo.find")],
        tool_choice: ToolChoice::Required,
        temperature: Some(0.5),
        ..question()
    };
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "geo_find", "arguments": "{\"city\":\"Porto\"}"}});
    let expected = json!({
        "model": "small",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
            ]},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [call("a"), call("b")]},
            {"role": "tool", "tool_call_id": "a", "content": "found"},
            {"role": "tool", "tool_call_id": "b", "content": "The tool failed: found"},
            {"role": "assistant", "content": null, "tool_calls": [call("c")]},
            {"role": "tool", "tool_call_id": "c", "content": "found"},
            {"role": "user", "content": "And\nnow?"},
            {"role": "assistant", "content": "Done."},
            {"role": "user", "content": ""},
        ],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 9,
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {
            "name": "geo_find", "description": "Finds.", "parameters": {"type": "object", "properties": {}},
        }}],
        "tool_choice": "required",
    });
    assert_eq!(request_json(full_dialect(), &request), Ok(expected));
}

#[test]
fn every_dialect_option_changes_the_request() {
    let output = ReplySchema { name: "answer".to_owned(), schema: json!({"type": "object"}), is_described: false };
    let request = ChatRequest {
        system: Some("Be brief.".to_owned()),
        temperature: Some(0.5),
        stop: vec!["END".to_owned()],
        tools: vec![tool("find")],
        tool_choice: ToolChoice::Required,
        output: Some(output),
        ..question()
    };
    let shown = Dialect { schema_in_prompt: false, ..full_dialect() };
    let default_body = request_json(shown, &request).expect("a body");
    let with = |dialect: Dialect, pointers: &[(&str, Value)]| {
        let body = request_json(dialect, &request).expect("a body");
        for (pointer, expected) in pointers {
            let before = default_body.pointer(pointer).cloned().unwrap_or_default();
            assert_ne!(before, *expected, "{pointer}");
            assert_eq!(body.pointer(pointer).cloned().unwrap_or_default(), *expected, "{pointer} of {body}");
        }
    };
    let completion = MaxTokensField::MaxCompletionTokens;
    with(
        Dialect { max_tokens_field: completion, ..full_dialect() },
        &[("/max_completion_tokens", json!(9)), ("/max_tokens", json!(null))],
    );
    with(Dialect { max_output_tokens: Some(5), ..full_dialect() }, &[("/max_tokens", json!(5))]);
    with(Dialect { temperature: false, ..full_dialect() }, &[("/temperature", json!(null))]);
    with(Dialect { stop: false, ..full_dialect() }, &[("/stop", json!(null))]);
    with(Dialect { stream_usage: false, ..full_dialect() }, &[("/stream_options", json!(null))]);
    with(Dialect { system_role: SystemRole::Developer, ..full_dialect() }, &[("/messages/0/role", json!("developer"))]);
    with(Dialect { tool_choice: ForcedToolChoice::Any, ..full_dialect() }, &[("/tool_choice", json!("any"))]);
    let prompt = "Be brief.\n\nAnswer with one JSON value and nothing else: no explanation and no code fence. It must be \
                  valid by this JSON Schema:\n{\"type\":\"object\"}";
    with(
        Dialect { structured_output: StructuredOutput::JsonObject, ..full_dialect() },
        &[("/response_format", json!({"type": "json_object"})), ("/messages/0/content", json!(prompt))],
    );
    with(
        Dialect { structured_output: StructuredOutput::Text, ..full_dialect() },
        &[("/response_format", json!(null)), ("/messages/0/content", json!(prompt))],
    );
    with(Dialect { schema_in_prompt: true, ..full_dialect() }, &[("/messages/0/content", json!(prompt))]);
    let free = ChatRequest { tool_choice: ToolChoice::None, ..request.clone() };
    let body = |tool_choice| request_json(Dialect { tool_choice, ..full_dialect() }, &free).expect("a body");
    assert_eq!(body(ForcedToolChoice::Required)["tool_choice"], "none");
    assert_eq!(
        (body(ForcedToolChoice::Auto).get("tool_choice"), body(ForcedToolChoice::Auto).get("tools")),
        (None, None)
    );
}

#[test]
fn model_settings_are_sent() {
    let settings = RequestSettings {
        temperature: Some(0.2),
        seed: Some(7),
        reasoning_effort: Some("low".to_owned()),
        extra_body: object(json!({"top_p": 0.9, "chat_template_kwargs": {"enable_thinking": false}})),
    };
    let body = |dialect, request: &ChatRequest| request_json_with(settings.clone(), dialect, request).expect("a body");
    let expected = json!({
        "model": "small",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 9,
        "temperature": 0.2,
        "seed": 7,
        "reasoning_effort": "low",
        "top_p": 0.9,
        "chat_template_kwargs": {"enable_thinking": false},
    });
    assert_eq!(body(full_dialect(), &question()), expected);
    let explicit = ChatRequest { temperature: Some(1.0), reasoning_effort: Some("high".to_owned()), ..question() };
    let sent = body(full_dialect(), &explicit);
    assert_eq!((&sent["temperature"], &sent["reasoning_effort"]), (&json!(1.0), &json!("high")));
    assert_eq!(body(Dialect { temperature: false, ..full_dialect() }, &explicit).get("temperature"), None);
}

#[test]
fn extra_body_cannot_override_written_keys() {
    let request = ChatRequest {
        temperature: Some(0.5),
        stop: vec!["END".to_owned()],
        tools: vec![tool("find")],
        tool_choice: ToolChoice::Required,
        output: Some(ReplySchema { name: "answer".to_owned(), schema: json!({}), is_described: false }),
        reasoning_effort: Some("low".to_owned()),
        ..question()
    };
    let settings = RequestSettings { seed: Some(1), ..RequestSettings::default() };
    let mut keys = Vec::new();
    for max_tokens_field in [MaxTokensField::MaxTokens, MaxTokensField::MaxCompletionTokens] {
        let dialect = Dialect { max_tokens_field, ..full_dialect() };
        keys.extend(object(request_json_with(settings.clone(), dialect, &request).expect("a body")).keys().cloned());
    }
    keys.sort();
    keys.dedup();
    let mut explicit: Vec<_> = OWN_KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
    explicit.sort();
    assert_eq!(keys, explicit);
}

#[test]
fn sends_back_assistant_messages() {
    let reasoning = |model: &str| ChatPart::Reasoning { model: model.to_owned(), text: "I see.".to_owned() };
    let problem = "are not JSON".to_owned();
    let unreadable = ChatPart::UnreadableToolUse { id: "a".to_owned(), name: "find".to_owned(), problem };
    let sent = |echo_reasoning, reasoning: ChatPart| {
        let messages = vec![message(ChatRole::Assistant, vec![reasoning, unreadable.clone()])];
        let request = ChatRequest { messages, tools: vec![tool("find")], ..question() };
        request_json(Dialect { echo_reasoning, ..full_dialect() }, &request).expect("a body")["messages"][0].clone()
    };
    let call = json!({"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}});
    let bare = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let mut with_reasoning = bare.clone();
    with_reasoning["reasoning_content"] = json!("I see.");
    assert_eq!(sent(true, reasoning("llm")), with_reasoning);
    assert_eq!(sent(true, reasoning("other")), bare, "reasoning is sent only to the model that wrote it");
    assert_eq!(sent(false, reasoning("llm")), bare);
}

#[test]
fn strict_only_for_strict_schemas() {
    let strict = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object", "additionalProperties": false, "required": ["a", "b"],
        "properties": {
            "a": {"type": "array", "items": {"$ref": "#/$defs/c"}},
            "b": {"anyOf": [{"type": "null"}, {"type": "string", "enum": ["x"]}]},
        },
        "$defs": {"c": {"type": "object", "additionalProperties": false, "required": [], "properties": {}}},
    });
    let format_of = |schema: &Value| {
        let output = Some(ReplySchema { name: "plan".to_owned(), schema: schema.clone(), is_described: false });
        let body = request_json(full_dialect(), &ChatRequest { output, ..question() }).expect("a body");
        body["response_format"]["json_schema"].clone()
    };
    let mut sent = strict.clone();
    sent.as_object_mut().expect("an object").shift_remove("$schema");
    assert_eq!(format_of(&strict), json!({"name": "plan", "schema": sent, "strict": true}));
    for (path, value) in [
        ("/additionalProperties", json!(true)),
        ("/required", json!(["a"])),
        ("/type", json!("array")),
        ("/properties/a/items", json!({"type": "object"})),
        ("/properties/b/anyOf/1", json!({"properties": {"x": {}}})),
        ("/properties/b", json!({"oneOf": []})),
        ("/$defs/c/additionalProperties", json!({"type": "string"})),
    ] {
        let mut loose = strict.clone();
        *loose.pointer_mut(path).expect("a place") = value;
        assert_eq!(format_of(&loose)["strict"], false, "{path}");
    }
}

#[test]
fn unsupported_content_names_the_missing_key() {
    let with = |parts: Vec<ChatPart>| ChatRequest { messages: vec![message(ChatRole::User, parts)], ..question() };
    let image = ChatPart::Image { mime_type: "image/png".to_owned(), data: "iVBO".to_owned() };
    let offering = |tool_choice| ChatRequest { tools: vec![tool("find")], tool_choice, ..question() };
    let tool_result = ChatPart::ToolResult { id: "a".to_owned(), text: String::new(), is_error: false };
    let auto = Dialect { tool_choice: ForcedToolChoice::Auto, ..full_dialect() };
    let of_model = ChatRequest { messages: vec![message(ChatRole::Assistant, vec![image.clone()])], ..question() };
    let call = ChatPart::ToolUse { id: "a".to_owned(), name: "b".to_owned(), input: JsonObject::new() };
    let reasoning = ChatPart::Reasoning { model: "llm".to_owned(), text: "I see.".to_owned() };
    let mut report = String::new();
    for (dialect, request) in [
        (Dialect::default(), with(vec![image])),
        (Dialect::default(), with(vec![audio("audio/wav")])),
        (Dialect::default(), offering(ToolChoice::Auto)),
        (Dialect::default(), with(vec![tool_result])),
        (auto, offering(ToolChoice::Required)),
        (full_dialect(), ChatRequest { tool_choice: ToolChoice::Required, ..question() }),
        (full_dialect(), with(vec![audio("audio/ogg")])),
        (full_dialect(), of_model),
        (full_dialect(), with(vec![call])),
        (full_dialect(), with(vec![reasoning])),
    ] {
        match request_json(dialect, &request) {
            Err(ChatError::Unsupported { message }) => report += &format!("{message}\n"),
            other => panic!("expected an unsupported request: {other:?}"),
        }
    }
    insta::assert_snapshot!(report);
}
