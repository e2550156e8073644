//! Checks whether a reply to a prompt is complete and conforms to its schema.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::state::run::{CompiledAnswerSchema, Run};
use crate::engine::state::task::Conversation;
use crate::json_schema::{self, CompiledSchema, FormatValidation, SchemaCheckError, SchemaLimits};
use crate::model::text::truncate_chars;
use crate::model::{ChatMessage, ChatPart, Failure, FailureKind, NodeIndex, Prompt, ReplyStatus, json_candidates};

/// Limits the `output_schema` violations that are reported to the model.
const MAX_PROBLEMS: usize = 5;
/// Limits the description of a violation, in bytes.
const MAX_PROBLEM: usize = 1_000;
/// Limits the characters of a refusal that an error message quotes.
const MAX_QUOTED: usize = 300;

impl Run {
    /// Returns the answer schema of a prompt. It is compiled once per planned task.
    pub(super) fn answer_schema(&mut self, node: NodeIndex, prompt: &Prompt) -> Option<Arc<CompiledAnswerSchema>> {
        let schema = prompt.output_schema.as_ref()?;
        let task = self.graph[node].list_parent().unwrap_or(node);
        let compile =
            || Arc::new(CompiledSchema::compile(schema.clone(), FormatValidation::DraftDefault, &SchemaLimits::INLINE));
        Some(Arc::clone(self.schemas.entry(task).or_insert_with(compile)))
    }

    /// Returns the failure of a reply that is not a complete answer.
    pub(super) fn incomplete_answer_failure(&self, node: NodeIndex, prompt: &Prompt, text: &str) -> Option<Failure> {
        let conversation = self.tasks[node.index()].conversation.as_ref()?;
        let key =
            if self.is_synthesis(node) { "`max_tokens` of `result.synthesize`" } else { "`max_tokens` of the task" };
        let limit = prompt.max_tokens;
        let failure = |message: String| Failure::new(FailureKind::ModelFailed, message);
        Some(match &conversation.reply_status {
            ReplyStatus::Complete => return None,
            ReplyStatus::Truncated => {
                let is_below_limit = |counted: &u64| *counted < u64::from(limit) / 10 * 9;
                let (at, help) = match conversation.output_tokens.filter(is_below_limit) {
                    Some(counted) => (
                        format!("after {counted} of at most {limit} tokens (`max_tokens`),"),
                        format!(
                            "the context limit of the model, `max_output_tokens` in its section, or uncounted \
                             reasoning used the rest: raise that limit, or {key}"
                        ),
                    ),
                    None => (
                        format!("at {limit} tokens (`max_tokens`)"),
                        format!(
                            "raise {key}; `max_output_tokens` in the model's section and the context of the model are \
                             limits too"
                        ),
                    ),
                };
                let message = match (text.trim().is_empty(), has_reasoning(conversation)) {
                    (true, true) => format!("the model's reasoning was truncated {at} before an answer began"),
                    (true, false) => format!("the model's reply was truncated {at} before an answer began"),
                    (false, _) => format!("the model's answer was truncated {at}"),
                };
                failure(message.trim_end_matches(',').to_owned()).with_help(help)
            }
            ReplyStatus::Filtered => failure("a content filter of the endpoint stopped the model's answer".to_owned())
                .with_help("change the prompt or the data in it, or use another model"),
            ReplyStatus::Refused => {
                let excerpt = truncate_chars(text.trim(), MAX_QUOTED);
                let colon = if excerpt.is_empty() { "" } else { ": " };
                failure(format!("the model refused to answer{colon}{excerpt}"))
                    .with_help("change the prompt, or use another model")
            }
            ReplyStatus::Unknown(word) => {
                failure(format!("the model's reply ended for an unknown reason (`{word}`) and may be incomplete"))
                    .with_help("use another model or endpoint")
            }
        })
    }

    /// Returns the failure of a reply without text and tool calls.
    pub(super) fn empty_answer_failure(&self, node: NodeIndex) -> Failure {
        let message = match self.tasks[node.index()].conversation.as_deref().is_some_and(has_reasoning) {
            true => "the model returned reasoning without an answer",
            false => "the model returned an empty answer",
        };
        Failure::new(FailureKind::ModelFailed, message).with_help("change the prompt, or use another model")
    }
}

/// Returns whether the last reply contains reasoning.
fn has_reasoning(conversation: &Conversation) -> bool {
    let last = conversation.messages.last();
    last.is_some_and(|reply| reply.parts.iter().any(|part| matches!(part, ChatPart::Reasoning { .. })))
}

/// Returns the names of the tools that a reply calls.
pub(super) fn called_tools(reply: &ChatMessage) -> String {
    let names = reply.parts.iter().filter_map(|part| match part {
        ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } => Some(name.as_str()),
        _ => None,
    });
    let mut tools: Vec<String> = Vec::new();
    for name in names {
        let name = if name.is_empty() { "a tool without a name".to_owned() } else { format!("the tool `{name}`") };
        if !tools.contains(&name) {
            tools.push(name);
        }
    }
    tools.join(" and ")
}

/// Parses an answer that must be JSON and conform to the schema; the JSON may be in a code fence or in prose. If the
/// answer could not be checked, the reason is returned with it.
pub(super) fn answer_by_schema(
    text: &str,
    compiled: &CompiledAnswerSchema,
) -> Result<(Value, Option<SchemaCheckError>), String> {
    let mut candidates = json_candidates(text);
    if candidates.is_empty() {
        let problem = serde_json::from_str::<Value>(text.trim()).err().map(|error| format!(" ({error})"));
        return Err(format!("it is not JSON{}", problem.unwrap_or_default()));
    }
    let schema = match compiled {
        Ok(schema) => schema,
        Err(SchemaCheckError::InvalidSchema(reason)) => return Err(format!("the schema is invalid ({reason})")),
        Err(unchecked) => return Ok((candidates.swap_remove(0), Some(unchecked.clone()))),
    };
    let outcomes: Vec<_> = candidates.iter().map(|value| schema_violations(schema, value)).collect();
    if let Some(valid) = outcomes.iter().position(|outcome| outcome.as_ref().is_ok_and(String::is_empty)) {
        return Ok((candidates.swap_remove(valid), None));
    }
    match outcomes.into_iter().next() {
        Some(Err(unchecked)) => Ok((candidates.swap_remove(0), Some(unchecked))),
        Some(Ok(problems)) => Err(problems),
        None => Err("it is not JSON".to_owned()),
    }
}

/// Describes how an answer violates its schema and where. The description is empty for a valid answer.
fn schema_violations(schema: &CompiledSchema, value: &Value) -> Result<String, SchemaCheckError> {
    let violations = schema.violations(value, &SchemaLimits::INLINE)?;
    let problems = violations.iter().take(MAX_PROBLEMS).map(|error| {
        let message = json_schema::bounded_message(error, MAX_PROBLEM);
        match error.instance_path().as_str() {
            "" => message,
            path => format!("at `{path}`: {message}"),
        }
    });
    Ok(problems.collect::<Vec<_>>().join("; "))
}
