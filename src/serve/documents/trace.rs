//! The requests and replies between host, agents, models, and people about one task, in order.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::model::{Asker, Event, Operation, QuestionId, Record, RequestId, TaskId, Timestamp};
use crate::view::phrasebook::progress_text;
use crate::view::text::{answer_action, truncated};

/// The maximum number of steps. Later ones are omitted.
const MAX_STEPS: usize = 2_000;

/// What was said about one task.
#[derive(Debug, Default)]
pub(super) struct Trace {
    steps: Vec<Value>,
    questions: HashSet<QuestionId>,
    requests: HashSet<RequestId>,
}

/// A party of a step.
const HOST: &str = "host";
const AGENT: &str = "agent";
const MODEL: &str = "model";
const PERSON: &str = "person";

impl Trace {
    pub(super) fn into_json(self) -> Value {
        self.steps.into()
    }

    /// Applies the next event of the run. `operation` is what the calls of the task request.
    pub(super) fn apply(&mut self, task: &TaskId, operation: Operation, record: &Record) {
        let at = record.at;
        match &record.event {
            Event::AttemptStarted { attempt, agent, tool } if attempt.task == *task => {
                let what = match operation {
                    Operation::CallTool => format!("{} {}", operation.method(), truncated(tool)),
                    other => other.method().to_owned(),
                };
                self.push(at, (HOST, AGENT), &what, &format!("attempt {} on {agent}", attempt.number));
            }
            Event::AttemptProgressed { attempt, progress } if attempt.task == *task => {
                self.push(at, (AGENT, HOST), "notifications/progress", &progress_text(progress));
            }
            Event::AgentLogged { origin, message } if origin.attempt.as_ref().is_some_and(|a| a.task == *task) => {
                let data = message.data.as_str().map_or_else(|| message.data.to_string(), str::to_owned);
                self.push(at, (AGENT, HOST), "notifications/message", &format!("{}: {data}", message.level));
            }
            Event::InputRequired { attempt, round, requests, .. } if attempt.task == *task => {
                let count = requests.as_object().map_or(0, serde_json::Map::len);
                self.push(at, (AGENT, HOST), "input required", &format!("round {round}, {count} requests"));
            }
            Event::QuestionAsked { question, .. } if question.asker.task() == Some(task) => {
                if matches!(question.asker, Asker::Agent(_)) {
                    self.push(at, (AGENT, HOST), "elicitation/create", &question.message);
                }
                self.questions.insert(question.id.clone());
                self.push(at, (HOST, PERSON), &format!("question {}", question.id), &question.message);
            }
            Event::QuestionAnswered { question, answer, by } if self.questions.contains(question) => {
                self.push(at, (PERSON, HOST), &format!("{} {question}", answer_action(answer)), by);
            }
            Event::QuestionDeferred { question, reason } if self.questions.contains(question) => {
                self.push(at, (PERSON, HOST), &format!("no answer to {question}"), reason);
            }
            Event::SamplingStarted { request, origin, chat }
                if origin.attempt().is_some_and(|attempt| attempt.task == *task) =>
            {
                self.requests.insert(request.clone());
                let messages = chat.messages.len();
                self.push(at, (AGENT, HOST), "sampling/createMessage", &format!("{messages} messages"));
                self.push(at, (HOST, MODEL), "chat", &format!("{messages} messages"));
            }
            Event::SamplingFinished { request, result } if self.requests.remove(request) => {
                self.push(at, (MODEL, HOST), "reply", &reply_text(result));
                self.push(at, (HOST, AGENT), "sampling result", "");
            }
            Event::ModelRequested { attempt, messages, .. } if attempt.task == *task => {
                self.push(at, (HOST, MODEL), "chat", &format!("{} new messages", messages.len()));
            }
            Event::ModelReplied { attempt, result } if attempt.task == *task => {
                self.push(at, (MODEL, HOST), "reply", &reply_text(result));
            }
            Event::AttemptSucceeded { attempt, .. } if attempt.task == *task => {
                self.push(at, (AGENT, HOST), "result", "");
            }
            Event::AttemptFailed { attempt, failure } if attempt.task == *task => {
                self.push(at, (AGENT, HOST), "error", &failure.message);
            }
            Event::RetryScheduled { task: retried, reason, agent, .. } if retried == task => {
                let on = agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
                self.push(at, (HOST, HOST), &format!("retry{on}"), reason);
            }
            _ => {}
        }
    }

    fn push(&mut self, at: Timestamp, (from, to): (&str, &str), what: &str, detail: &str) {
        if self.steps.len() < MAX_STEPS {
            let detail = truncated(detail);
            self.steps.push(json!({"at": at, "from": from, "to": to, "what": truncated(what), "detail": detail}));
        }
    }
}

fn reply_text(result: &Result<crate::model::ChatReply, crate::model::ChatError>) -> String {
    match result {
        Ok(reply) => match reply.usage {
            Some(usage) => format!("{}, {} tokens in, {} out", reply.model, usage.input_tokens, usage.output_tokens),
            None => reply.model.clone(),
        },
        Err(error) => error.to_string(),
    }
}
