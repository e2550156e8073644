//! Checks the declared capabilities of a model with requests that are as small as possible.
//! It does not change the configuration; it reports the key to set.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::Llm;
use super::openai::{MORE_CONTEXT, OpenAi};
use crate::model::{
    ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, ChatTool, Dialect, ForcedToolChoice, HumanDuration,
    ReplySchema, StructuredOutput, ToolChoice, json_candidates,
};

/// The maximum length of a reply. A dozen tokens suffice, but models that reason first need more.
const MAX_REPLY_TOKENS: u32 = 2_000;

/// A capability that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The name of the check: `reply`, `structured output`, `usage`, `tools`, or `context`.
    pub check: &'static str,
    /// The outcome of the check.
    #[serde(flatten)]
    pub outcome: ProbeOutcome,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "message", rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The capability works; contains the observation.
    Works(String),
    /// The capability is absent, which is not a failure; contains the consequence, or the key that declares it.
    Absent(String),
    /// The capability does not work; contains the failure and the key to set.
    Fails(String),
}

/// Checks a structured reply, a tool call if the model declares tools, and a reply to a prompt of a few thousand words.
pub async fn probe_model(model: &OpenAi) -> Vec<Check> {
    let check = |check, outcome| Check { check, outcome };
    let reply = match model.chat(&structured_request()).await {
        Ok(reply) => reply,
        Err(error) => return vec![check("reply", ProbeOutcome::Fails(error.to_string()))],
    };
    vec![
        check("reply", ProbeOutcome::Works(format!("from `{}`", reply.model))),
        check("structured output", check_structured_output(model, &reply)),
        check("usage", check_usage(model, &reply)),
        check("tools", check_tools(model).await),
        check("context", reads_whole_prompts(model).await),
    ]
}

/// The reply that [`structured_request`] requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProbeAnswer {
    #[serde(rename = "ready")]
    _ready: bool,
    #[serde(rename = "color")]
    _color: Color,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
}

fn structured_request() -> ChatRequest {
    let schema = json!({
        "type": "object",
        "properties": {"ready": {"type": "boolean"}, "color": {"type": "string", "enum": ["red", "green"]}},
        "required": ["ready", "color"],
        "additionalProperties": false,
    });
    ChatRequest {
        messages: vec![ChatMessage::text(ChatRole::User, "State as JSON that you are ready, and name a color.").into()],
        max_tokens: MAX_REPLY_TOKENS,
        output: Some(ReplySchema { name: "answer".to_owned(), schema, is_described: false }),
        ..ChatRequest::default()
    }
}

fn check_structured_output(model: &OpenAi, reply: &ChatReply) -> ProbeOutcome {
    let mut candidates = json_candidates(&reply.text()).into_iter().map(serde_json::from_value::<ProbeAnswer>);
    let error = match candidates.next() {
        Some(Ok(_)) => return ProbeOutcome::Works("the reply matches its schema".to_owned()),
        Some(Err(error)) => error.to_string(),
        None => "it contains no JSON".to_owned(),
    };
    let section = model.spec().section_name();
    if reply.stop_reason == "maxTokens" {
        let limit = model.spec().dialect.max_output_tokens.unwrap_or(u32::MAX).min(MAX_REPLY_TOKENS);
        return ProbeOutcome::Fails(format!(
            "{limit} tokens were not enough for a small reply; raise `max_output_tokens` in {section} or use a model \
             that reasons less"
        ));
    }
    let next = match model.spec().dialect.structured_output {
        StructuredOutput::JsonSchema => format!("set `structured_output = \"json_object\"` in {section}"),
        StructuredOutput::JsonObject => format!("set `structured_output = \"text\"` in {section}"),
        StructuredOutput::Text => "no setting helps: use another model where a schema is required".to_owned(),
    };
    ProbeOutcome::Fails(format!("the reply does not match its schema ({error}); {next}"))
}

fn check_usage(model: &OpenAi, reply: &ChatReply) -> ProbeOutcome {
    let section = model.spec().section_name();
    match (reply.usage, model.spec().dialect.stream_usage) {
        (Some(usage), _) => {
            let cost = reply.cost_usd.map(|cost| format!(", ${cost:.6}")).unwrap_or_default();
            ProbeOutcome::Works(format!("{} tokens in, {} out{cost}", usage.input_tokens, usage.output_tokens))
        }
        (None, false) => ProbeOutcome::Absent(format!("not reported; try `stream_usage = true` in {section}")),
        (None, true) => ProbeOutcome::Absent("not reported by this endpoint".to_owned()),
    }
}

/// The number of words in the prompt that measures the context.
///
/// It exceeds the 4096 tokens to which common servers truncate prompts by default, and it is small enough to cost
/// little.
const PROBE_WORDS: usize = 6_000;
/// The words that the prompt repeats. Each is one token in all common tokenizers.
const WORDS: [&str; 10] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
/// Limits the duration of the measurement, since servers without a GPU read only a few dozen tokens per second.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);

/// Sends a long prompt and compares the number of tokens that the endpoint read with the number of words.
///
/// Some servers truncate prompts to their context without an error, and only the reported usage shows it.
async fn reads_whole_prompts(model: &OpenAi) -> ProbeOutcome {
    let words: Vec<&str> = WORDS.into_iter().cycle().take(PROBE_WORDS).collect();
    let question = format!("{}\n\nWhich number comes next? Answer with one word.", words.join(" "));
    let request = ChatRequest {
        messages: vec![ChatMessage::text(ChatRole::User, question).into()],
        max_tokens: PROBE_REPLY_TOKENS,
        deadline: Some(HumanDuration(PROBE_DEADLINE)),
        single_try: true,
        ..ChatRequest::default()
    };
    let tokens_read = match model.request_reply(&request, &|_| {}).await {
        Ok(reply) => reply.tokens_read.unwrap_or_default(),
        Err(failure) if failure.is_too_long => {
            return ProbeOutcome::Fails(format!(
                "a prompt of {PROBE_WORDS} words exceeds its context: {}",
                failure.error
            ));
        }
        Err(failure) => {
            return ProbeOutcome::Absent(format!(
                "not measured with a prompt of {PROBE_WORDS} words: {}",
                failure.error
            ));
        }
    };
    match tokens_read {
        0 => ProbeOutcome::Absent(format!(
            "a prompt of {PROBE_WORDS} words was answered, but the endpoint does not report how much of it was read"
        )),
        // The true count may be a little smaller, if some tokens span several words.
        read if read >= PROBE_WORDS as u64 / 4 * 3 => {
            ProbeOutcome::Works(format!("a prompt of {PROBE_WORDS} words was read completely: {read} tokens"))
        }
        read => ProbeOutcome::Fails(format!(
            "only {read} tokens of a prompt of {PROBE_WORDS} words were read: the endpoint truncated it without an \
             error; {MORE_CONTEXT}"
        )),
    }
}

/// The maximum length of the reply to the measurement. Some endpoints accept no smaller limit.
const PROBE_REPLY_TOKENS: u32 = 16;

async fn check_tools(model: &OpenAi) -> ProbeOutcome {
    let (Dialect { tools, tool_choice, .. }, section) = (model.spec().dialect, model.spec().section_name());
    if !tools {
        return ProbeOutcome::Absent(format!(
            "not declared; if the model supports tools, set `tools = true` in {section}"
        ));
    }
    let schema = json!({
        "type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"],
        "additionalProperties": false,
    });
    let is_forced = tool_choice != ForcedToolChoice::Auto;
    let request = ChatRequest {
        messages: vec![
            ChatMessage::text(ChatRole::User, "Call the tool `report` to report that you are ready.").into(),
        ],
        max_tokens: MAX_REPLY_TOKENS,
        tools: vec![ChatTool {
            name: "report".to_owned(),
            description: Some("Reports whether you are ready.".to_owned()),
            input_schema: schema.as_object().cloned().unwrap_or_default(),
        }],
        tool_choice: if is_forced { ToolChoice::Required } else { ToolChoice::Auto },
        ..ChatRequest::default()
    };
    match model.chat(&request).await {
        Err(error) => ProbeOutcome::Fails(error.to_string()),
        Ok(reply)
            if reply.parts.iter().any(|part| matches!(part, ChatPart::ToolUse { name, .. } if name == "report")) =>
        {
            ProbeOutcome::Works("it calls a tool when instructed to".to_owned())
        }
        Ok(reply) if reply.parts.iter().any(ChatPart::is_tool_use) => ProbeOutcome::Fails(format!(
            "its call of the tool `report` could not be parsed; if it does not support tools, set `tools = false` in \
             {section}"
        )),
        Ok(_) if is_forced => ProbeOutcome::Fails(format!(
            "it did not call a required tool; set `tool_choice = \"auto\"` or `tools = false` in {section}"
        )),
        Ok(_) => ProbeOutcome::Fails(format!(
            "it did not call a tool when instructed to; if it does not support tools, set `tools = false` in {section}"
        )),
    }
}
