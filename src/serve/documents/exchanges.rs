//! The exchanges of a task with language models, with their messages.

use serde_json::{Value, json};

use crate::model::text::truncate_chars;
use crate::model::{ChatError, ChatMessage, ChatPart, ChatReply, Event, Record, RequestId, TaskId, Timestamp};
use crate::view::text::{printable, printable_text};

/// The maximum length of a message in the page, in characters.
const MAX_MESSAGE_CHARS: usize = 16_000;

/// The exchanges of one task, from its events.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    list: Vec<Value>,
    /// The requests without a reply, each with its index in the list.
    open: Vec<(RequestId, usize)>,
}

impl Exchanges {
    /// Applies the next event of the run.
    pub(super) fn apply(&mut self, task: &TaskId, record: &Record) {
        let at = record.at;
        match &record.event {
            Event::ModelRequested { attempt, messages, .. } if attempt.task == *task => {
                let messages = messages.iter().map(|message| message_json(message)).collect();
                self.begin(RequestId::from(attempt.to_string()), at, (messages, Vec::new()));
            }
            Event::ModelReplied { attempt, result } if attempt.task == *task => {
                self.end(&RequestId::from(attempt.to_string()), at, result);
            }
            Event::SamplingStarted { request, origin, chat } => {
                if origin.attempt().is_none_or(|attempt| attempt.task != *task) {
                    return;
                }
                let system = chat.system.iter().map(|system| json!({"role": "system", "text": shown(system)}));
                let messages = system.chain(chat.messages.iter().map(|message| message_json(message))).collect();
                let tools = chat.tools.iter().map(|tool| printable(&tool.name).into()).collect();
                self.begin(request.clone(), at, (messages, tools));
            }
            Event::SamplingFinished { request, result } => self.end(request, at, result),
            _ => {}
        }
    }

    pub(super) fn into_json(self) -> Value {
        self.list.into()
    }

    fn begin(&mut self, request: RequestId, at: Timestamp, (messages, tools): (Vec<Value>, Vec<Value>)) {
        let number = self.list.len() + 1;
        self.open.push((request, self.list.len()));
        self.list.push(json!({
            "number": number, "started": at, "ended": null, "messages": messages, "tools": tools,
        }));
    }

    fn end(&mut self, request: &RequestId, at: Timestamp, result: &Result<ChatReply, ChatError>) {
        let Some(place) = self.open.iter().position(|(open, _)| open == request) else { return };
        let exchange = &mut self.list[self.open.remove(place).1];
        exchange["ended"] = json!(at);
        match result {
            Ok(reply) => {
                exchange["model"] = printable(&reply.model).into();
                let message = json!({"role": "assistant", "text": parts_text(&reply.parts)});
                if let Some(messages) = exchange["messages"].as_array_mut() {
                    messages.push(message);
                }
                if let Some(usage) = reply.usage {
                    exchange["tokens_in"] = usage.input_tokens.into();
                    exchange["tokens_out"] = usage.output_tokens.into();
                }
                if let Some(cost) = reply.cost_usd {
                    exchange["cost_usd"] = cost.into();
                }
            }
            Err(error) => exchange["error"] = printable(&error.to_string()).into(),
        }
    }
}

fn message_json(message: &ChatMessage) -> Value {
    json!({"role": message.role, "text": parts_text(&message.parts)})
}

/// Returns all parts of a message as text.
fn parts_text(parts: &[ChatPart]) -> String {
    let text = |part: &ChatPart| match part {
        ChatPart::Text { text } => text.clone(),
        ChatPart::Image { mime_type, .. } | ChatPart::Audio { mime_type, .. } => format!("({mime_type})"),
        ChatPart::ToolUse { name, input, .. } => format!("{name}({})", Value::Object(input.clone())),
        other => serde_json::to_value(other).map(|value| value.to_string()).unwrap_or_default(),
    };
    shown(&parts.iter().map(text).collect::<Vec<_>>().join("\n"))
}

fn shown(text: &str) -> String {
    printable_text(&truncate_chars(text, MAX_MESSAGE_CHARS)).into_owned()
}
