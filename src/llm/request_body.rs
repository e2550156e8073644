//! Converts a request to the wire format of its endpoint, or reports what the model does not support.

use serde_json::{Map, Value, json};

use super::tool_names::ToolNames;
use super::tool_schema;
use crate::model::{
    ChatError, ChatMessage, ChatPart, ChatRequest, ChatRole, Dialect, ForcedToolChoice, LlmSpec, MaxTokensField,
    ReplySchema, StructuredOutput, SystemRole, ToolChoice,
};

/// The maximum number of stop sequences that endpoints accept.
const MAX_STOP_SEQUENCES: usize = 4;

/// A request in its wire form.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// The JSON body.
    pub(super) json: Value,
    /// The tool names of the request, to map names in the reply back.
    pub(super) tool_names: ToolNames,
}

impl RequestBody {
    /// Builds the body of a request.
    ///
    /// # Errors
    /// [`ChatError::Unsupported`] for anything that the model or the endpoint does not support.
    pub(super) fn new(spec: &LlmSpec, request: &ChatRequest) -> Result<Self, ChatError> {
        check_support(spec, request)?;
        let dialect = &spec.dialect;
        let settings = &spec.settings;
        let mut tool_names = ToolNames::default();
        let tools = tools_json(dialect, request, &mut tool_names);
        let tool_choice = tool_choice(dialect, request).filter(|_| !tools.is_empty());
        let max_tokens_field = match dialect.max_tokens_field {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        };
        let max_tokens = request.max_tokens.min(dialect.max_output_tokens.unwrap_or(u32::MAX));
        // Converted through its text, so that 0.7 does not become 0.699999988.
        let requested = request.temperature.and_then(|temperature| temperature.to_string().parse::<f64>().ok());
        let temperature = requested.or(settings.temperature).filter(|_| dialect.temperature);
        let reasoning_effort = request.reasoning_effort.as_ref().or(settings.reasoning_effort.as_ref());
        let stops: Vec<&str> = stop_sequences(request).collect();
        let members = [
            ("model", Some(json!(spec.model))),
            ("messages", Some(messages_json(spec, request, &mut tool_names)?.into())),
            ("stream", Some(json!(true))),
            ("stream_options", dialect.stream_usage.then(|| json!({"include_usage": true}))),
            (max_tokens_field, Some(json!(max_tokens))),
            ("temperature", temperature.map(Value::from)),
            ("seed", settings.seed.map(Value::from)),
            ("reasoning_effort", reasoning_effort.cloned().map(Value::from)),
            ("stop", (dialect.stop && !stops.is_empty()).then(|| json!(stops))),
            ("tools", (!tools.is_empty()).then(|| tools.into())),
            ("tool_choice", tool_choice.map(Value::from)),
            ("response_format", request.output.as_ref().and_then(|output| response_format(dialect, output))),
        ];
        let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let json: Map<_, _> = members.chain(settings.extra_body.clone()).collect();
        Ok(Self { json: json.into(), tool_names })
    }
}

/// Checks that the model supports everything in the request.
///
/// # Errors
/// [`ChatError::Unsupported`] with what the model does not support, and the key that declares it.
pub(super) fn check_support(spec: &LlmSpec, request: &ChatRequest) -> Result<(), ChatError> {
    let dialect = &spec.dialect;
    let has =
        |predicate: fn(&ChatPart) -> bool| request.messages.iter().flat_map(|message| &message.parts).any(predicate);
    let uses_tools =
        !request.tools.is_empty() || has(|part| part.is_tool_use() || matches!(part, ChatPart::ToolResult { .. }));
    for (what, key, is_used, is_supported) in [
        ("images", "images", has(|part| matches!(part, ChatPart::Image { .. })), dialect.images),
        ("audio", "audio", has(|part| matches!(part, ChatPart::Audio { .. })), dialect.audio),
        ("tools", "tools", uses_tools, dialect.tools),
    ] {
        if is_used && !is_supported {
            let section = spec.section_name();
            return unsupported(format!(
                "model `{}` is not declared to support {what}; if it does, set `{key} = true` in {section}",
                spec.model
            ));
        }
    }
    let must = request.tool_choice == ToolChoice::Required;
    if must && request.tools.is_empty() {
        return unsupported("the request requires a tool call but offers no tools".to_owned());
    }
    if must && dialect.tool_choice == ForcedToolChoice::Auto {
        let section = spec.section_name();
        let message =
            format!("model `{}` cannot be forced to call a tool; check `tool_choice` in {section}", spec.model);
        return unsupported(message);
    }
    let count = stop_sequences(request).count();
    if dialect.stop && count > MAX_STOP_SEQUENCES {
        return unsupported(format!(
            "the request has {count} stop sequences, but at most {MAX_STOP_SEQUENCES} are supported"
        ));
    }
    Ok(())
}

/// Returns the stop sequences that are not blank. An empty one would end every reply at once.
pub(super) fn stop_sequences(request: &ChatRequest) -> impl Iterator<Item = &str> {
    request.stop.iter().map(String::as_str).filter(|stop| !stop.trim().is_empty())
}

fn unsupported<T>(message: String) -> Result<T, ChatError> {
    Err(ChatError::Unsupported { message })
}

/// Returns the tools, or none if the model must not call any and the dialect cannot express that otherwise.
fn tools_json(dialect: &Dialect, request: &ChatRequest, names: &mut ToolNames) -> Vec<Value> {
    if request.tool_choice == ToolChoice::None && dialect.tool_choice == ForcedToolChoice::Auto {
        return Vec::new();
    }
    let described = request.tools.iter().map(|tool| {
        let mut function = Map::from_iter([("name".to_owned(), json!(names.wire_name(&tool.name)))]);
        if let Some(description) = &tool.description {
            function.insert("description".to_owned(), json!(description));
        }
        function.insert("parameters".to_owned(), tool_schema::parameters(&tool.input_schema));
        json!({"type": "function", "function": function})
    });
    described.collect()
}

fn tool_choice(dialect: &Dialect, request: &ChatRequest) -> Option<&'static str> {
    match (request.tool_choice, dialect.tool_choice) {
        (ToolChoice::Auto, _) | (_, ForcedToolChoice::Auto) => None,
        (ToolChoice::None, _) => Some("none"),
        (ToolChoice::Required, ForcedToolChoice::Required) => Some("required"),
        (ToolChoice::Required, ForcedToolChoice::Any) => Some("any"),
    }
}

fn response_format(dialect: &Dialect, output: &ReplySchema) -> Option<Value> {
    match dialect.structured_output {
        StructuredOutput::JsonSchema => {
            let schema = without_schema_keyword(&output.schema);
            // A schema that is not strict is sent as such, so the endpoint does not enforce it.
            let strict = schema.get("type").is_some_and(|kind| kind == "object") && meets_strict_rules(&schema);
            Some(
                json!({"type": "json_schema", "json_schema": {"name": output.name, "schema": schema, "strict": strict}}),
            )
        }
        StructuredOutput::JsonObject => Some(json!({"type": "json_object"})),
        StructuredOutput::Text => None,
    }
}

/// Returns the schema without `$schema`, which some endpoints reject.
fn without_schema_keyword(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(keywords) = schema.as_object_mut() {
        keywords.shift_remove("$schema");
    }
    schema
}

/// Keywords that endpoints reject in a strict schema.
const NON_STRICT_KEYWORDS: [&str; 8] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "unevaluatedProperties",
];

/// Returns whether a schema meets the rules for strict ones: every object is closed, and every property is required.
fn meets_strict_rules(schema: &Value) -> bool {
    let Some(keywords) = schema.as_object() else { return false };
    if NON_STRICT_KEYWORDS.iter().any(|keyword| keywords.contains_key(*keyword)) {
        return false;
    }
    let is_object = match keywords.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
        None => keywords.contains_key("properties"),
    };
    let properties = keywords.get("properties").and_then(Value::as_object);
    if is_object {
        let required: Vec<&str> = keywords
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let closed = keywords.get("additionalProperties") == Some(&Value::Bool(false));
        if !closed || properties.into_iter().flatten().any(|(name, _)| !required.contains(&name.as_str())) {
            return false;
        }
    }
    let definitions = ["$defs", "definitions"].iter().filter_map(|key| keywords.get(*key)?.as_object());
    let variants = keywords.get("anyOf").and_then(Value::as_array);
    let all = properties.into_iter().chain(definitions).flat_map(Map::values);
    all.chain(variants.into_iter().flatten()).chain(keywords.get("items")).all(meets_strict_rules)
}

/// Returns the messages, the system prompt first.
///
/// The system prompt contains the output schema if the dialect does not enforce it or asks for it in the prompt.
fn messages_json(spec: &LlmSpec, request: &ChatRequest, names: &mut ToolNames) -> Result<Vec<Value>, ChatError> {
    let dialect = &spec.dialect;
    let mut system: Vec<String> = request.system.iter().cloned().collect();
    let is_unseen = dialect.schema_in_prompt || dialect.structured_output != StructuredOutput::JsonSchema;
    if let Some(output) = request.output.as_ref().filter(|output| is_unseen && !output.is_described) {
        system.push(output.instruction());
    }
    let mut all = Vec::with_capacity(request.messages.len() + 1);
    if !system.is_empty() {
        let role = match dialect.system_role {
            SystemRole::System => "system",
            SystemRole::Developer => "developer",
        };
        all.push(json!({"role": role, "content": system.join("\n\n")}));
    }
    for message in &request.messages {
        match message.role {
            ChatRole::User => push_user_messages(message, &mut all)?,
            ChatRole::Assistant => all.push(assistant_message(spec, message, names)?),
        }
    }
    Ok(all)
}

/// Appends each tool result as a separate message, then the other parts as one message.
fn push_user_messages(message: &ChatMessage, all: &mut Vec<Value>) -> Result<(), ChatError> {
    let mut parts = Vec::new();
    for part in &message.parts {
        match part {
            ChatPart::Text { text } => parts.push(json!({"type": "text", "text": text})),
            ChatPart::Image { mime_type, data } => {
                let url = format!("data:{mime_type};base64,{data}");
                parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
            }
            ChatPart::Audio { mime_type, data } => {
                let format = audio_format(mime_type)?;
                parts.push(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}));
            }
            ChatPart::ToolResult { id, text, is_error } => {
                // The wire format has no other place for the error flag.
                let content = if *is_error { format!("The tool failed: {text}") } else { text.clone() };
                all.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
            }
            ChatPart::ToolUse { .. } | ChatPart::UnreadableToolUse { .. } => {
                return unsupported("a user message cannot contain tool calls".to_owned());
            }
            ChatPart::Reasoning { .. } => return unsupported("a user message cannot contain reasoning".to_owned()),
        }
    }
    let is_text = message.parts.iter().all(|part| matches!(part, ChatPart::Text { .. } | ChatPart::ToolResult { .. }));
    match parts.is_empty() {
        true if message.parts.is_empty() => all.push(json!({"role": "user", "content": ""})),
        true => {}
        // Every endpoint accepts a text, but not all accept parts.
        false if is_text => all.push(json!({"role": "user", "content": joined_text(message)})),
        false => all.push(json!({"role": "user", "content": parts})),
    }
    Ok(())
}

fn assistant_message(spec: &LlmSpec, message: &ChatMessage, names: &mut ToolNames) -> Result<Value, ChatError> {
    let mut calls = Vec::new();
    let mut reasoning = None;
    for part in &message.parts {
        match part {
            ChatPart::Text { .. } => {}
            ChatPart::Reasoning { model, text } => {
                reasoning = Some(text).filter(|_| spec.dialect.echo_reasoning && *model == spec.name);
            }
            ChatPart::ToolUse { id, name, input } => {
                calls.push(tool_call_json(id, names.wire_name(name), &Value::Object(input.clone()).to_string()));
            }
            // Some endpoints reject arguments that are not valid JSON. The tool result describes the problem.
            ChatPart::UnreadableToolUse { id, name, .. } => calls.push(tool_call_json(id, names.wire_name(name), "{}")),
            ChatPart::Image { .. } | ChatPart::Audio { .. } | ChatPart::ToolResult { .. } => {
                return unsupported("an assistant message can contain only text, reasoning, and tool calls".to_owned());
            }
        }
    }
    let text = joined_text(message);
    let mut body = match (calls.is_empty(), text.is_empty()) {
        (true, _) => json!({"role": "assistant", "content": text}),
        (false, true) => json!({"role": "assistant", "content": null, "tool_calls": calls}),
        (false, false) => json!({"role": "assistant", "content": text, "tool_calls": calls}),
    };
    if let Some(reasoning) = reasoning {
        body["reasoning_content"] = json!(reasoning);
    }
    Ok(body)
}

fn tool_call_json(id: &str, name: String, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// Returns the texts of a message, joined with line breaks.
fn joined_text(message: &ChatMessage) -> String {
    let texts = message.parts.iter().filter_map(|part| match part {
        ChatPart::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Returns the name of an audio format on the wire.
fn audio_format(mime_type: &str) -> Result<&'static str, ChatError> {
    match mime_type.to_ascii_lowercase().as_str() {
        "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => Ok("wav"),
        "audio/mpeg" | "audio/mp3" => Ok("mp3"),
        _ => unsupported(format!("audio of type `{mime_type}` is not supported: expected `audio/wav` or `audio/mpeg`")),
    }
}

#[cfg(test)]
mod tests;
