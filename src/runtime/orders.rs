//! Carries out one order after the other: each begins something whose end is an input.
//! Never waits for it.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    human::Reply,
    llm::{Hear, Llm},
    model::{
        Answer, ChatError, ChatPart, ChatReply, ChatRequest, Command, Failure, FailureKind, Input, Question,
        StartAttempt,
    },
};

use super::{call_meta, dispatcher::Dispatcher, replanner};

impl Dispatcher {
    pub(super) fn carry_out(&mut self, command: Command) {
        let hub = Arc::clone(&self.hub);
        match command {
            Command::ConnectAgent { agent } => {
                let agents = Arc::clone(&self.services.agents);
                let failure = Failure::new(FailureKind::AgentUnavailable, bug("connected to the agent"));
                let failed = Input::AgentUnavailable { agent: agent.clone(), failure };
                self.spawn(failed, async move {
                    Some(match agents.connect(&agent).await {
                        Ok(info) => Input::AgentConnected { agent, info },
                        Err(failure) => Input::AgentUnavailable { agent, failure },
                    })
                });
            }
            Command::StartAttempt(call) => self.start_attempt(call, None),
            Command::TakeUp(call) => {
                let note = self.notes.remove(&call.attempt);
                self.start_attempt(call, note);
            }
            Command::AskModel { attempt, chat } => {
                let cancel = CancellationToken::new();
                self.attempts.insert(attempt.clone(), cancel.clone());
                let llm = self.services.llm.clone();
                let is_synthesis = self.synthesis.as_ref() == Some(&attempt.task);
                let result = Err(failed_chat(&bug("asked the model")));
                let failed = Input::ModelReplied { attempt: attempt.clone(), result };
                self.spawn(failed, async move {
                    let hear = |piece: &str| {
                        if is_synthesis {
                            hub.wrote(&attempt, piece);
                        }
                    };
                    let result = tokio::select! {
                        result = ask(llm, &chat, &hear) => result,
                        () = cancel.cancelled() => Err(failed_chat("the run was cancelled")),
                    };
                    Some(Input::ModelReplied { attempt, result })
                });
            }
            Command::CancelAttempt { attempt } => {
                if let Some(cancel) = self.attempts.get(&attempt) {
                    cancel.cancel();
                }
            }
            Command::Replan(request) => {
                self.replan = CancellationToken::new();
                let replanner = self.services.replanner.clone();
                let result = Err(Failure::new(FailureKind::ModelFailed, bug("asked the planner")));
                let failed = Input::Replanned { number: request.number, result };
                self.spawn(failed, replanner::replan(replanner, *request, hub, self.replan.clone()));
            }
            Command::CancelReplan => self.replan.cancel(),
            Command::Ask { question } => self.ask(question),
            Command::AnswerElicitation { request, answer } => hub.answer_elicitation(&request, answer),
            Command::Sample { request, chat } => {
                let llm = self.services.llm.clone();
                let result = Err(failed_chat(&bug("asked the model")));
                let failed = Input::SamplingEnded { request: request.clone(), result };
                self.spawn(failed, async move {
                    let withdrawn = hub.withdrawal(&request);
                    let result = tokio::select! {
                        result = ask(llm, &chat, &|_| {}) => result.and_then(|reply| with_offered_calls(reply, &chat)),
                        () = withdrawn.cancelled() => Err(failed_chat("the agent stopped waiting for the model")),
                    };
                    Some(Input::SamplingEnded { request, result })
                });
            }
            Command::AnswerSampling { request, result } => hub.answer_sampling(&request, result),
            Command::EndRun => unreachable!("the loop ends before"),
        }
    }

    /// Makes a call, or goes on with it by the note of an earlier process.
    fn start_attempt(&mut self, call: StartAttempt, note: Option<Value>) {
        let cancel = CancellationToken::new();
        self.attempts.insert(call.attempt.clone(), cancel.clone());
        let agents = Arc::clone(&self.services.agents);
        let meta = call_meta(&self.id, &call.attempt);
        let attempt = call.attempt.clone();
        let work = async move {
            match note {
                None => agents.call(call, meta, cancel).await,
                Some(note) => agents.take_up(call, note, meta, cancel).await,
            }
        };
        // A defect of ours in one call must not take the other tasks along.
        let end = AssertUnwindSafe(work).catch_unwind().map(move |result| {
            let result =
                result.unwrap_or_else(|_| Err(Failure::new(FailureKind::ConnectionLost, bug("made the call"))));
            Input::AttemptEnded { attempt, result }
        });
        self.calls.push(end.boxed());
    }

    fn ask(&mut self, question: Arc<Question>) {
        let human = Arc::clone(&self.services.human);
        let withdrawn = match self.run.request_of(&question.id) {
            Some(request) => self.hub.withdrawal(request),
            None => CancellationToken::new(),
        };
        let answered = CancellationToken::new();
        if let Some(before) = self.asked.insert(question.id.clone(), answered.clone()) {
            before.cancel();
        }
        let (answer, by) = (Answer::Cancel, bug("asked the question"));
        let failed = Input::QuestionAnswered { question: question.id.clone(), answer, by };
        self.spawn(failed, async move {
            let reply = tokio::select! {
                reply = human.ask(&question) => reply,
                () = answered.cancelled() => return None,
                () = withdrawn.cancelled() => {
                    Reply::Answered { answer: Answer::Cancel, by: "the agent, which stopped waiting".into() }
                }
            };
            let question = question.id.clone();
            Some(match reply {
                Reply::Answered { answer, by } => Input::QuestionAnswered { question, answer, by },
                Reply::AllApproved { by } => Input::RestApproved { question, by },
                Reply::LeftOpen { reason } => Input::QuestionLeftOpen { question, reason },
            })
        });
    }

    /// Starts an effect that gives an input for the dispatcher. A panic gives `failed`, so that nothing waits for it.
    fn spawn(&mut self, failed: Input, effect: impl Future<Output = Option<Input>> + Send + 'static) {
        let hub = Arc::clone(&self.hub);
        self.effects.spawn(async move {
            let input = AssertUnwindSafe(effect).catch_unwind().await.unwrap_or(Some(failed));
            if let Some(input) = input {
                hub.send(input).await;
            }
        });
    }
}

/// Describes a panic in what the host did for a task, for people.
fn bug(what: &str) -> String {
    format!("internal error: kapell failed while it {what} (this is a bug in kapell)")
}

async fn ask(llm: Option<Arc<dyn Llm>>, chat: &ChatRequest, hear: Hear<'_>) -> Result<ChatReply, ChatError> {
    match llm {
        Some(llm) => llm.chat_aloud(chat, hear).await,
        None => Err(ChatError::Unsupported { message: "no language model is configured".into() }),
    }
}

/// Leaves out calls of tools from the reply to an agent that offered none.
///
/// # Errors
/// When nothing is left.
fn with_offered_calls(mut reply: ChatReply, chat: &ChatRequest) -> Result<ChatReply, ChatError> {
    let call = reply.parts.iter().find_map(|part| match part {
        ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } => Some(name.clone()),
        _ => None,
    });
    match call {
        Some(name) if chat.tools.is_empty() => {
            reply.parts.retain(|part| !part.asks_for_tool());
            if reply.text().trim().is_empty() {
                let model = &reply.model;
                return Err(failed_chat(&format!(
                    "model `{model}` asked for tool `{name}`, though it was offered none"
                )));
            }
            if reply.stop_reason == "toolUse" {
                "endTurn".clone_into(&mut reply.stop_reason);
            }
            Ok(reply)
        }
        _ => Ok(reply),
    }
}

fn failed_chat(message: &str) -> ChatError {
    ChatError::Endpoint { message: message.into(), status: None }
}
