//! Assembles a reply from the chunks of its stream.

use std::time::Duration;

use async_openai::error::OpenAIError;
use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio::time::Instant;

use super::client::OnDelta;
use super::error::LlmError;
use super::request_body::{RequestBody, stop_sequences};
use super::wire::{ApiError, ChatChunk, FunctionDelta, StreamMarker, ToolCallDelta};
use crate::model::{ChatPart, ChatReply, ChatRequest, JsonObject, LlmSpec, ReasoningFilter, Usage, split_reasoning};

/// A partial reply.
#[derive(Debug, Default)]
pub(super) struct ReplyAccumulator {
    text: String,
    reasoning: String,
    refusal: String,
    calls: Vec<PartialToolCall>,
    model: Option<String>,
    finish_reason: Option<String>,
    stop_reason: Value,
    usage: Option<Usage>,
    /// The number of prompt tokens that the endpoint read, if reported.
    tokens_read: Option<u64>,
    /// Set if the endpoint sent a complete message instead of deltas.
    is_complete_message: bool,
    /// Set once the endpoint marked the end of the stream.
    is_done: bool,
}

/// A partial tool call.
#[derive(Debug, Default)]
struct PartialToolCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl PartialToolCall {
    /// Returns whether a delta with this name starts another call, although its index and ID are those of this call.
    fn is_new_call(&self, name: &str, arguments: &Value) -> bool {
        let is_whole = || arguments_text(arguments).is_some_and(|text| serde_json::from_str::<Value>(&text).is_ok());
        let is_complete = || serde_json::from_str::<Value>(&self.arguments).is_ok();
        match (name.is_empty(), self.name == name) {
            (true, _) => false,
            (false, false) => !self.name.is_empty(),
            (false, true) => is_complete() && is_whole() && !self.is_duplicate(name, arguments),
        }
    }

    /// Returns whether a delta only repeats this call, as some endpoints do at the end.
    fn is_duplicate(&self, name: &str, arguments: &Value) -> bool {
        !name.is_empty() && self.name == name && arguments_text(arguments).is_some_and(|text| text == self.arguments)
    }
}

/// Returns the text of arguments, or `None` if they are absent.
fn arguments_text(arguments: &Value) -> Option<String> {
    match arguments {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        value => Some(value.to_string()),
    }
}

/// Reads the stream to its end and passes the text on as it arrives.
///
/// A stream without a finish reason was interrupted, so its text is not a complete reply.
pub(super) async fn collect(
    mut chunks: impl Stream<Item = Result<Value, OpenAIError>> + Unpin,
    on_delta: OnDelta<'_>,
    timeout: Duration,
) -> Result<ReplyAccumulator, LlmError> {
    let mut accumulator = ReplyAccumulator::default();
    let mut filter = ReasoningFilter::default();
    let emit = |text: String| {
        if !text.is_empty() {
            on_delta(&text);
        }
    };
    let mut idle_deadline = Instant::now() + timeout;
    loop {
        let next = tokio::time::timeout_at(idle_deadline, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| accumulator.interrupted(LlmError::idle_timeout(timeout)))? else { break };
        let chunk = ChatChunk::from_value(chunk.map_err(|error| accumulator.interrupted(error.into()))?);
        let (marker, before) = (chunk.marker.0, accumulator.progress());
        if let Some(error) = &chunk.error {
            let api_error = ApiError::from_value(error);
            return Err(accumulator.interrupted(LlmError::from_response(api_error.status, api_error)));
        }
        let previous_length = accumulator.text.len();
        accumulator.add(chunk);
        // Keep-alive chunks do not reset the idle timeout.
        if marker == Some(StreamMarker::Progress) || accumulator.progress() != before {
            idle_deadline = Instant::now() + timeout;
        }
        accumulator.is_done |= marker == Some(StreamMarker::Done);
        if accumulator.text.len() > previous_length {
            emit(filter.push(&accumulator.text[previous_length..]));
        }
    }
    emit(filter.finish());
    let is_done = accumulator.is_done && accumulator.has_content();
    if accumulator.finish_reason.is_some() || accumulator.is_complete_message || is_done {
        return Ok(accumulator);
    }
    Err(match accumulator.has_content() {
        true => {
            let length = accumulator.text.chars().count();
            accumulator.interrupted(LlmError::transient(format!("interrupted its reply after {length} characters")))
        }
        false => LlmError::transient("ended its response without a reply"),
    })
}

impl ReplyAccumulator {
    /// Returns the number of prompt tokens that the endpoint read, if reported.
    pub(super) fn tokens_read(&self) -> Option<u64> {
        self.tokens_read
    }

    fn has_content(&self) -> bool {
        !self.text.is_empty() || !self.calls.is_empty()
    }

    /// Marks a failure within the stream as final if it has content, since that may already be on the screen.
    fn interrupted(&self, failed: LlmError) -> LlmError {
        LlmError { is_final: failed.is_final || self.has_content(), ..failed }
    }

    /// Returns the amount of each kind of content, to detect progress.
    fn progress(&self) -> (usize, bool, bool) {
        let calls = self.calls.iter().map(|call| 1 + call.id.len() + call.name.len() + call.arguments.len());
        let length = self.text.len() + self.reasoning.len() + self.refusal.len() + calls.sum::<usize>();
        (length, self.finish_reason.is_some(), self.usage.is_some())
    }

    fn add(&mut self, chunk: ChatChunk) {
        self.model = chunk.model.0.filter(|model| !model.is_empty()).or(self.model.take());
        let tokens = chunk.usage.0.unwrap_or_default();
        self.tokens_read = tokens.tokens_read().or(self.tokens_read);
        self.usage = tokens.usage().or(self.usage);
        for choice in chunk.choices.0.into_iter().filter(|choice| choice.index.0.unwrap_or(0) == 0) {
            self.is_complete_message |= choice.message.0.is_some();
            if let Some(part) = choice.delta.0.or(choice.message.0) {
                self.text.push_str(&part.text());
                self.reasoning.push_str(part.reasoning());
                self.refusal.push_str(part.refusal.0.as_deref().unwrap_or_default());
                part.tool_calls.0.into_iter().for_each(|call| self.add_call(call));
            }
            self.finish_reason = choice.finish_reason.0.filter(|word| !word.is_empty()).or(self.finish_reason.take());
            if !choice.stop_reason.is_null() {
                self.stop_reason = choice.stop_reason;
            }
        }
    }

    fn add_call(&mut self, part: ToolCallDelta) {
        let (index, id) = (part.index.0, part.id.0.unwrap_or_default());
        let FunctionDelta { name, arguments } = part.function.0;
        let name = name.0.unwrap_or_default();
        let at = self.calls.iter().rposition(|call| match index {
            // Some endpoints give all calls the same index, and only the IDs differ.
            Some(_) => call.index == index && (id.is_empty() || call.id.is_empty() || call.id == id),
            None if !id.is_empty() => call.id == id,
            // Without an index and an ID, a delta with a name starts a call, and any other delta continues the last
            // call.
            None => name.is_empty() || call.name.is_empty(),
        });
        let at = match at.filter(|at| !self.calls[*at].is_new_call(&name, &arguments)) {
            Some(at) if self.calls[at].is_duplicate(&name, &arguments) => return,
            Some(at) => at,
            None => {
                self.calls.push(PartialToolCall { index, ..PartialToolCall::default() });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        if !id.is_empty() {
            call.id = id;
        }
        if !name.is_empty() {
            call.name = name;
        }
        match arguments {
            Value::Null => {}
            Value::String(text) => call.arguments.push_str(&text),
            value => call.arguments = value.to_string(),
        }
    }

    /// Returns the reply to `request`. The `stopReason` uses MCP's values if possible, and else the value of the
    /// provider.
    ///
    /// # Errors
    /// When the finish reason reports a failure of the endpoint.
    pub(super) fn reply(
        mut self,
        spec: &LlmSpec,
        request: &ChatRequest,
        body: &RequestBody,
    ) -> Result<ChatReply, LlmError> {
        let finish_reason = self.finish_reason.take().map(FinishReason::from_word);
        if let Some(FinishReason::EndpointFault(word)) = &finish_reason {
            return Err(LlmError::transient(format!("ended its reply with the finish reason `{word}`")));
        }
        let (reasoning, answer) = split_reasoning(&self.text);
        if !reasoning.is_empty() {
            self.text = answer.to_owned();
            self.reasoning.push_str(&reasoning);
        }
        let refused = !self.refusal.trim().is_empty() || finish_reason == Some(FinishReason::Refusal);
        let stopped = self.stop_reason.as_str().is_some_and(|at| stop_sequences(request).any(|stop| stop == at));
        let cut = stop_sequences(request).filter(|_| !spec.dialect.stop).filter_map(|stop| self.text.find(stop)).min();
        if let Some(end) = cut {
            self.text.truncate(end);
            self.calls.clear();
        }
        let uses = self.tool_uses(request, body, finish_reason == Some(FinishReason::Length));
        let stop_reason = match finish_reason {
            _ if refused => "refusal",
            _ if cut.is_some() => "stopSequence",
            Some(FinishReason::ContentFilter) => "content_filter",
            // Some endpoints report `stop` even with tool calls.
            _ if !uses.is_empty() => "toolUse",
            Some(FinishReason::Length) => "maxTokens",
            Some(FinishReason::StopSequence) => "stopSequence",
            Some(FinishReason::Stop) if stopped => "stopSequence",
            Some(FinishReason::Stop | FinishReason::ToolCalls) => "endTurn",
            Some(FinishReason::Other(ref word)) => word,
            Some(FinishReason::Refusal | FinishReason::EndpointFault(_)) => "unknown",
            // The endpoint completed the reply without a finish reason.
            None if !self.text.is_empty() => "endTurn",
            None => "unknown",
        };
        let text = if self.text.is_empty() { self.refusal } else { self.text };
        let mut parts = Vec::new();
        // Reasoning is only needed with tool calls, or without an answer, where it shows how the tokens were spent.
        if !self.reasoning.is_empty() && !uses.is_empty() && spec.dialect.echo_reasoning {
            parts.push(ChatPart::Reasoning { model: spec.name.clone(), text: self.reasoning });
        } else if !self.reasoning.is_empty() && uses.is_empty() && text.trim().is_empty() {
            let text = self.reasoning.chars().take(MAX_REASONING_CHARS).collect();
            parts.push(ChatPart::Reasoning { model: spec.name.clone(), text });
        }
        if !text.is_empty() || uses.is_empty() {
            parts.push(ChatPart::Text { text });
        }
        parts.extend(uses);
        Ok(ChatReply {
            parts,
            model: self.model.unwrap_or_else(|| spec.model.clone()),
            stop_reason: stop_reason.to_owned(),
            usage: self.usage,
            cost_usd: self.usage.and_then(|usage| Some(spec.prices?.cost(usage))),
            warning: None,
        })
    }

    /// Returns the tool calls with the original tool names.
    ///
    /// A call that the output limit truncated is omitted. Any other call without a name or with invalid arguments is kept
    /// as unreadable, so that the caller can report it.
    fn tool_uses(&mut self, request: &ChatRequest, body: &RequestBody, was_cut: bool) -> Vec<ChatPart> {
        let earlier = request.messages.iter().flat_map(|message| &message.parts);
        let mut used_ids: Vec<String> = earlier
            .filter_map(|part| match part {
                ChatPart::ToolUse { id, .. } | ChatPart::UnreadableToolUse { id, .. } => Some(id.clone()),
                _ => None,
            })
            .collect();
        let mut uses = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            let name = body.tool_names.original_name(&call.name);
            let input = parse_arguments(&call.arguments);
            if input.is_err() && was_cut {
                continue;
            }
            let numbered = (used_ids.len() + 1..).map(|number| format!("call_{number}"));
            let ids = std::iter::once(call.id).chain(numbered);
            let id = ids.into_iter().find(|id| !id.is_empty() && !used_ids.contains(id));
            let id = id.expect("there are more numbers than requests");
            used_ids.push(id.clone());
            uses.push(match input {
                _ if name.is_empty() => {
                    ChatPart::UnreadableToolUse { id, name, problem: "do not belong to a named tool".to_owned() }
                }
                Ok(input) => ChatPart::ToolUse { id, name, input },
                Err(problem) => ChatPart::UnreadableToolUse { id, name, problem },
            });
        }
        uses
    }
}

/// Limits the characters of reasoning that are kept if the reply has no answer.
const MAX_REASONING_CHARS: usize = 2_000;

/// The normalized finish reason of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FinishReason {
    Stop,
    StopSequence,
    /// Announces tool calls, which may be missing.
    ToolCalls,
    Length,
    ContentFilter,
    Refusal,
    /// The endpoint failed within the reply.
    EndpointFault(String),
    Other(String),
}

impl FinishReason {
    fn from_word(word: String) -> Self {
        let lower = word.to_ascii_lowercase();
        match lower.strip_prefix("finish_reason_").unwrap_or(&lower) {
            "stop" | "end_turn" | "eos" | "eos_token" | "end" | "complete" | "completed" | "finished" | "done" => {
                Self::Stop
            }
            "stop_sequence" => Self::StopSequence,
            "tool_calls" | "tool_call" | "tool_use" | "function_call" => Self::ToolCalls,
            "length"
            | "max_tokens"
            | "max_output_tokens"
            | "max_completion_tokens"
            | "model_length"
            | "incomplete"
            | "token_limit"
            | "model_context_window_exceeded"
            | "context_length_exceeded" => Self::Length,
            "content_filter"
            | "content_filtered"
            | "safety"
            | "recitation"
            | "blocklist"
            | "prohibited_content"
            | "spii"
            | "sensitive"
            | "error_toxic"
            | "guardrail_intervened"
            | "guardrails" => Self::ContentFilter,
            "refusal" | "refused" => Self::Refusal,
            "error"
            | "network_error"
            | "server_error"
            | "overloaded"
            | "insufficient_system_resource"
            | "abort"
            | "aborted"
            | "timeout"
            | "malformed_function_call" => Self::EndpointFault(word),
            _ => Self::Other(word),
        }
    }
}

/// Parses the arguments, which some endpoints encode as a JSON string. An empty text has no arguments.
fn parse_arguments(text: &str) -> Result<JsonObject, String> {
    if text.trim().is_empty() {
        return Ok(JsonObject::new());
    }
    let parsed = |text: &str| serde_json::from_str(text).map_err(|error| format!("are not JSON: {error}"));
    let value = match parsed(text)? {
        Value::String(inner) => parsed(&inner)?,
        value => value,
    };
    match value {
        Value::Object(input) => Ok(input),
        Value::Null => Ok(JsonObject::new()),
        other => Err(format!("are not an object: {other}")),
    }
}
