//! Converts between MCP sampling requests and chat requests.
#![expect(deprecated, reason = "sampling is deprecated in 2026-07-28, still works, and existing servers use it")]

use std::sync::Arc;

use rmcp::model::{CreateMessageResult, ErrorData, Role, SamplingMessage, SamplingMessageContentBlock};
use serde_json::Value;

use crate::mcp::message::{server_info, tool_listing};
use crate::mcp::options::SamplingSupport;
use crate::model::{
    ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, ChatTool, JsonObject, ModelPreferences,
    ToolChoice,
};

/// Parses the parameters of `sampling/createMessage`. `declared` is the support that the agent was offered.
///
/// # Errors
/// Returns the JSON-RPC error -32602 that names the unsupported or missing parameter.
pub(crate) fn read(params: &Value, declared: SamplingSupport) -> Result<ChatRequest, ErrorData> {
    parse(params, declared).map_err(|problem| ErrorData::invalid_params(problem, None))
}

fn parse(params: &Value, declared: SamplingSupport) -> Result<ChatRequest, String> {
    let tools = list(params, "tools")?.iter().map(tool).collect::<Result<Vec<_>, _>>()?;
    // Without tools, `toolChoice` has no meaning.
    let tool_choice = if tools.is_empty() { None } else { tool_choice(params)? };
    if declared != SamplingSupport::WithTools && !tools.is_empty() {
        return Err("`tools` are not supported: no language model of this host supports tools".to_owned());
    }
    let messages = params.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    let messages = messages.ok_or("`messages` must be a non-empty list")?;
    let messages = messages.iter().map(read_message).collect::<Result<Vec<_>, _>>()?;
    check_tool_results(&messages)?;
    let max_tokens = params.get("maxTokens").and_then(Value::as_f64).filter(|n| *n >= 1.0 && n.fract() == 0.0);
    let max_tokens = max_tokens.ok_or("`maxTokens` must be a positive integer")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above; `as` saturates")]
    let max_tokens = max_tokens as u32;
    let stop =
        list(params, "stopSequences").unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(ChatRequest {
        preferences: preferences(params.get("modelPreferences").unwrap_or(&Value::Null)),
        system: text(params, "systemPrompt"),
        messages: messages.into_iter().map(Arc::new).collect(),
        max_tokens,
        temperature: number(params, "temperature"),
        stop,
        tools,
        tool_choice: tool_choice.unwrap_or_default(),
        ..ChatRequest::default()
    })
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

#[expect(clippy::cast_possible_truncation, reason = "a temperature and a priority need no more digits")]
fn number(object: &Value, key: &str) -> Option<f32> {
    object.get(key).and_then(Value::as_f64).map(|number| number as f32)
}

fn list<'v>(object: &'v Value, key: &str) -> Result<&'v [Value], String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("`{key}` must be a list")),
    }
}

/// Describes the hints of a request that this host ignores. None of them affects whether the request is answered.
pub(crate) fn ignored_hints(params: &Value, chat: &ChatRequest) -> Vec<String> {
    let present = |object: &Value, key: &str| object.get(key).filter(|value| !value.is_null()).cloned();
    let mut ignored = Vec::new();
    let mut ignore =
        |key: &str, why: &str| ignored.push(format!("`{key}` of a request to the model is ignored: {why}"));
    if present(params, "includeContext").is_some_and(|context| context != "none") {
        ignore("includeContext", "this host shares no context");
    }
    if present(params, "temperature").is_some() && chat.temperature.is_none() {
        ignore("temperature", "it is not a number");
    }
    if present(params, "stopSequences").is_some_and(|stop| !stop.is_array()) {
        ignore("stopSequences", "it is not a list");
    }
    if present(params, "toolChoice").is_some() && chat.tools.is_empty() {
        ignore("toolChoice", "the request has no `tools`");
    }
    if let Some(preferences) = present(params, "modelPreferences") {
        if !preferences.is_object() && preferences != Value::Array(Vec::new()) {
            ignore("modelPreferences", "it is not an object");
        } else if present(&preferences, "hints").is_some_and(|hints| !hints.is_array()) {
            ignore("modelPreferences.hints", "it is not a list");
        }
    }
    ignored
}

fn preferences(object: &Value) -> ModelPreferences {
    ModelPreferences {
        hints: list(object, "hints").unwrap_or_default().iter().filter_map(|hint| text(hint, "name")).collect(),
        cost: number(object, "costPriority"),
        speed: number(object, "speedPriority"),
        intelligence: number(object, "intelligencePriority"),
    }
}

fn tool(tool: &Value) -> Result<ChatTool, String> {
    let name = text(tool, "name").filter(|name| !name.is_empty()).ok_or("a tool has no `name`")?;
    let schema = match tool.get("inputSchema") {
        None | Some(Value::Null) => JsonObject::new(),
        Some(schema) => server_info::as_object(schema.clone())
            .ok_or_else(|| format!("the `inputSchema` of the tool `{name}` is not an object"))?,
    };
    Ok(ChatTool { name, description: text(tool, "description"), input_schema: tool_listing::clean_schema(schema) })
}

fn tool_choice(params: &Value) -> Result<Option<ToolChoice>, String> {
    let Some(choice) = params.get("toolChoice").filter(|choice| !choice.is_null()) else { return Ok(None) };
    match choice.get("mode") {
        None | Some(Value::Null) => Ok(Some(ToolChoice::Auto)),
        Some(mode) => serde_json::from_value(mode.clone())
            .map(Some)
            .map_err(|_| format!("`toolChoice.mode` must be `auto`, `required` or `none`, not {mode}")),
    }
}

fn read_message(message: &Value) -> Result<ChatMessage, String> {
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
    let parts = blocks.iter().map(|block| read_part(role, block)).collect::<Result<_, _>>()?;
    Ok(ChatMessage { role, parts })
}

fn read_part(role: ChatRole, block: &Value) -> Result<ChatPart, String> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or("unknown");
    match (kind, role) {
        ("text", _) => Ok(ChatPart::Text { text: text(block, "text").ok_or("content of type `text` has no `text`")? }),
        ("image" | "audio", ChatRole::User) => ChatPart::media(block, kind),
        ("tool_use", ChatRole::Assistant) => match (text(block, "id"), text(block, "name"), block.get("input")) {
            (Some(id), Some(name), Some(Value::Object(input))) => {
                Ok(ChatPart::ToolUse { id, name, input: input.clone() })
            }
            _ => Err("content of type `tool_use` must have `id`, `name` and an object as `input`".to_owned()),
        },
        ("tool_result", ChatRole::User) => Ok(ChatPart::ToolResult {
            id: text(block, "toolUseId").ok_or("content of type `tool_result` has no `toolUseId`")?,
            text: result_text(block)?,
            is_error: block.get("isError").and_then(Value::as_bool).unwrap_or(false),
        }),
        ("image" | "audio" | "tool_result", ChatRole::Assistant) => {
            Err(format!("content of type `{kind}` is not supported in a message of the assistant"))
        }
        ("tool_use", ChatRole::User) => {
            Err("content of type `tool_use` is not supported in a message of the user".to_owned())
        }
        _ => Err(format!("content of type `{kind}` is not supported")),
    }
}

/// Returns a tool result as text, the only form that models accept.
fn result_text(block: &Value) -> Result<String, String> {
    let mut texts = Vec::new();
    for item in list(block, "content")? {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or("unknown");
        let item_text = match kind {
            "text" => text(item, "text"),
            "resource" => item.get("resource").and_then(|resource| text(resource, "text")),
            "resource_link" => text(item, "uri"),
            _ => None,
        };
        texts.push(
            item_text.ok_or_else(|| format!("content of type `{kind}` is not supported in the result of a tool"))?,
        );
    }
    let structured = block.get("structuredContent").filter(|content| !content.is_null());
    Ok(match structured {
        Some(content) if texts.is_empty() => content.to_string(),
        _ => texts.join("\n"),
    })
}

/// Checks that each tool use is followed by its result before other content, and that each result belongs to a tool
/// use. The protocol and the model endpoints require this.
fn check_tool_results(messages: &[ChatMessage]) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    for message in messages {
        let results = message.parts.iter().filter(|part| matches!(part, ChatPart::ToolResult { .. })).count();
        if results > 0 && results < message.parts.len() {
            return Err("a message with a `tool_result` must have no other content".to_owned());
        }
        if results == 0 && !open.is_empty() {
            return Err(format!("the `tool_use` `{}` must be followed by its `tool_result`", open.join("`, `")));
        }
        for part in &message.parts {
            match part {
                ChatPart::ToolUse { id, .. } if open.contains(&id.as_str()) => {
                    return Err(format!("two `tool_use` share the id `{id}`"));
                }
                ChatPart::ToolUse { id, .. } => open.push(id),
                ChatPart::ToolResult { id, .. } => match open.iter().position(|use_id| use_id == id) {
                    Some(at) => drop(open.remove(at)),
                    None => return Err(format!("the `tool_result` `{id}` has no `tool_use` before it")),
                },
                ChatPart::Text { .. } | ChatPart::Image { .. } | ChatPart::Audio { .. } => {}
                // Agents never send these parts.
                ChatPart::UnreadableToolUse { .. } | ChatPart::Reasoning { .. } => {}
            }
        }
    }
    match open.as_slice() {
        [] => Ok(()),
        open => Err(format!("the `tool_use` `{}` has no `tool_result`", open.join("`, `"))),
    }
}

/// Converts the reply to an MCP result: a single block alone, several blocks as a list.
///
/// # Errors
/// Returns the JSON-RPC error -32603 if the arguments of a tool use are not an object, since MCP cannot represent them.
pub(crate) fn write(reply: ChatReply) -> Result<CreateMessageResult, ErrorData> {
    let unreadable = reply.parts.iter().find_map(|part| match part {
        ChatPart::UnreadableToolUse { name, problem, .. } => Some((name, problem)),
        _ => None,
    });
    if unreadable.is_some_and(|(name, _)| name.is_empty()) {
        let message = format!("model `{}` called a tool without a name", reply.model);
        return Err(ErrorData::internal_error(message, None));
    }
    if let Some((name, problem)) = unreadable {
        let message = format!("model `{}` called tool `{name}` with arguments that {problem}", reply.model);
        return Err(ErrorData::internal_error(message, None));
    }
    let blocks = reply.parts.into_iter().filter_map(|part| match part {
        ChatPart::Text { text } => Some(SamplingMessageContentBlock::text(text)),
        ChatPart::ToolUse { id, name, input } => Some(SamplingMessageContentBlock::tool_use(id, name, input)),
        // Reasoning stays with the model, unreadable tool uses were rejected above, and models return none of the other
        // parts.
        ChatPart::Reasoning { .. }
        | ChatPart::UnreadableToolUse { .. }
        | ChatPart::Image { .. }
        | ChatPart::Audio { .. }
        | ChatPart::ToolResult { .. } => None,
    });
    let mut blocks: Vec<_> = blocks.collect();
    let message = match (blocks.pop(), blocks.is_empty()) {
        (Some(only), true) => SamplingMessage::new(Role::Assistant, only),
        (last, _) => SamplingMessage::new_multiple(Role::Assistant, blocks.into_iter().chain(last).collect()),
    };
    Ok(CreateMessageResult::new(message, reply.model).with_stop_reason(reply.stop_reason))
}

/// Converts a chat error to the JSON-RPC error of the request.
pub(crate) fn reply_error(error: ChatError) -> ErrorData {
    match error {
        ChatError::Unsupported { message } => ErrorData::invalid_params(message, None),
        ChatError::Endpoint { message, .. } | ChatError::Unavailable { message, .. } => {
            ErrorData::internal_error(message, None)
        }
    }
}

#[cfg(test)]
mod tests;
