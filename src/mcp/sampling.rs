//! Translates between MCP's sampling and the house's chat. Text only.
//! Never asks a model.
#![expect(deprecated, reason = "sampling is deprecated in 2026-07-28, still works, and existing servers use it")]

use rmcp::model::{CreateMessageResult, ErrorData, SamplingMessage};
use serde_json::Value;

use crate::model::{ChatError, ChatMessage, ChatReply, ChatRequest, ChatRole, ModelPreferences};

/// Reads the parameters of `sampling/createMessage`.
///
/// # Errors
/// JSON-RPC -32602 that names what this host does not do, or what is missing.
pub(super) fn read(params: &Value) -> Result<ChatRequest, ErrorData> {
    let refuse = |what: String| ErrorData::invalid_params(what, None);
    for key in ["tools", "toolChoice"] {
        if params.get(key).is_some_and(|value| !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty())) {
            return Err(refuse(format!("`{key}` is not supported: this host samples text without tools")));
        }
    }
    if let Some(context) = params.get("includeContext").and_then(Value::as_str)
        && context != "none"
    {
        return Err(refuse(format!("`includeContext: {context}` is not supported: this host shares no context")));
    }
    let messages = params.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| refuse("`messages` must be a list that is not empty".to_owned()))?;
    let messages = messages.iter().map(message).collect::<Result<_, _>>().map_err(refuse)?;
    let max_tokens = params.get("maxTokens").and_then(Value::as_f64).filter(|n| *n >= 1.0 && n.fract() == 0.0);
    let max_tokens = max_tokens.ok_or_else(|| refuse("`maxTokens` must be a positive whole number".to_owned()))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above; `as` saturates")]
    let max_tokens = max_tokens as u32;
    let text = |key| params.get(key).and_then(Value::as_str).map(str::to_owned);
    let stop = params.get("stopSequences").and_then(Value::as_array);
    let hints = params.pointer("/modelPreferences/hints").and_then(Value::as_array);
    #[expect(clippy::cast_possible_truncation, reason = "a temperature needs no more digits")]
    Ok(ChatRequest {
        system: text("systemPrompt"),
        messages,
        max_tokens,
        temperature: params.get("temperature").and_then(Value::as_f64).map(|n| n as f32),
        stop: stop.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        preferences: ModelPreferences {
            hints: hints
                .into_iter()
                .flatten()
                .filter_map(|hint| hint.get("name")?.as_str().map(str::to_owned))
                .collect(),
            ..ModelPreferences::default()
        },
        ..ChatRequest::default()
    })
}

fn message(message: &Value) -> Result<ChatMessage, String> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("user") => ChatRole::User,
        Some("assistant") => ChatRole::Assistant,
        other => return Err(format!("`role` must be `user` or `assistant`, not `{}`", other.unwrap_or("nothing"))),
    };
    let blocks = match message.get("content") {
        Some(Value::Array(blocks)) => blocks.as_slice(),
        Some(block) => std::slice::from_ref(block),
        None => return Err("a message has no `content`".to_owned()),
    };
    let mut texts = Vec::with_capacity(blocks.len());
    for block in blocks {
        match (block.get("type").and_then(Value::as_str), block.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => texts.push(text),
            (kind, _) => {
                let kind = kind.unwrap_or("unknown");
                return Err(format!("content of type `{kind}` is not supported: this host samples text"));
            }
        }
    }
    Ok(ChatMessage::text(role, texts.join("\n")))
}

/// Writes the reply as MCP's result.
pub(super) fn write(reply: ChatReply) -> CreateMessageResult {
    CreateMessageResult::new(SamplingMessage::assistant_text(reply.text()), reply.model)
        .with_stop_reason(reply.stop_reason)
}

/// The JSON-RPC error of a request that has no reply.
pub(super) fn error(error: ChatError) -> ErrorData {
    match error {
        ChatError::Unsupported { message } => ErrorData::invalid_params(message, None),
        ChatError::Endpoint { message, .. } => ErrorData::internal_error(message, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::ChatPart;

    #[test]
    fn reads_everything_that_a_text_request_can_hold() {
        let params = json!({
            "messages": [
                {"role": "user", "content": {"type": "text", "text": "hi"}},
                {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ],
            "systemPrompt": "be brief", "maxTokens": 100, "temperature": 0.5, "stopSequences": ["END"],
            "includeContext": "none", "tools": [],
            "modelPreferences": {"hints": [{"name": "small"}, {}], "costPriority": 1},
        });
        let expected = ChatRequest {
            system: Some("be brief".to_owned()),
            messages: vec![ChatMessage::text(ChatRole::User, "hi"), ChatMessage::text(ChatRole::Assistant, "a\nb")],
            max_tokens: 100,
            temperature: Some(0.5),
            stop: vec!["END".to_owned()],
            preferences: ModelPreferences { hints: vec!["small".to_owned()], ..ModelPreferences::default() },
            ..ChatRequest::default()
        };
        assert_eq!(read(&params), Ok(expected));
    }

    #[test]
    fn refuses_what_it_cannot_do_and_says_what() {
        let base = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 1});
        for (key, value, said) in [
            ("tools", json!([{"name": "t"}]), "`tools` is not supported"),
            ("toolChoice", json!({"mode": "auto"}), "`toolChoice` is not supported"),
            ("includeContext", json!("allServers"), "`includeContext: allServers` is not supported"),
            ("messages", json!([]), "`messages` must be a list"),
            ("messages", json!([{"role": "user", "content": {"type": "image", "data": ""}}]), "type `image`"),
            ("messages", json!([{"role": "system", "content": {"type": "text", "text": ""}}]), "not `system`"),
            ("maxTokens", json!(0), "`maxTokens` must be"),
            ("maxTokens", json!(1.5), "`maxTokens` must be"),
        ] {
            let mut params = base.clone();
            params[key] = value;
            let error = read(&params).unwrap_err();
            assert_eq!(error.code.0, -32602);
            assert!(error.message.contains(said), "{}", error.message);
        }
    }

    #[test]
    fn reports_the_model_and_why_it_stopped() {
        let reply = ChatReply {
            parts: vec![ChatPart::Text { text: "hello".to_owned() }],
            cost_usd: None,
            model: "m".to_owned(),
            stop_reason: "maxTokens".to_owned(),
            usage: None,
        };
        let expected = json!({
            "role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m", "stopReason": "maxTokens",
        });
        assert_eq!(serde_json::to_value(write(reply)).unwrap(), expected);
    }
}
