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
                self.spawn(async move {
                    let input = match agents.connect(&agent).await {
                        Ok(info) => Input::AgentConnected { agent, info },
                        Err(failure) => Input::AgentUnavailable { agent, failure },
                    };
                    hub.send(input).await;
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
                self.spawn(async move {
                    let hear = |piece: &str| {
                        if is_synthesis {
                            hub.wrote(&attempt, piece);
                        }
                    };
                    let result = tokio::select! {
                        result = ask(llm, &chat, &hear) => result,
                        () = cancel.cancelled() => Err(failed_chat("the run was cancelled")),
                    };
                    hub.send(Input::ModelReplied { attempt, result }).await;
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
                self.spawn(replanner::replan(replanner, *request, hub, self.replan.clone()));
            }
            Command::CancelReplan => self.replan.cancel(),
            Command::Ask { question } => self.ask(question),
            Command::AnswerElicitation { request, answer } => hub.answer_elicitation(&request, answer),
            Command::Sample { request, chat } => {
                let llm = self.services.llm.clone();
                self.spawn(async move {
                    let withdrawn = hub.withdrawal(&request);
                    let result = tokio::select! {
                        result = ask(llm, &chat, &|_| {}) => result.and_then(|reply| with_offered_calls(reply, &chat)),
                        () = withdrawn.cancelled() => Err(failed_chat("the agent stopped waiting for the model")),
                    };
                    hub.send(Input::SamplingEnded { request, result }).await;
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
            let result = result.unwrap_or_else(|_| {
                Err(Failure::new(FailureKind::ConnectionLost, "the host failed while it made the call (a defect)"))
            });
            Input::AttemptEnded { attempt, result }
        });
        self.calls.push(end.boxed());
    }

    fn ask(&mut self, question: Arc<Question>) {
        let (human, hub) = (Arc::clone(&self.services.human), Arc::clone(&self.hub));
        let withdrawn = match self.run.request_of(&question.id) {
            Some(request) => self.hub.withdrawal(request),
            None => CancellationToken::new(),
        };
        let answered = CancellationToken::new();
        if let Some(before) = self.asked.insert(question.id.clone(), answered.clone()) {
            before.cancel();
        }
        self.spawn(async move {
            let reply = tokio::select! {
                reply = human.ask(&question) => reply,
                () = answered.cancelled() => return,
                () = withdrawn.cancelled() => {
                    Reply::Answered { answer: Answer::Cancel, by: "the agent, which stopped waiting".into() }
                }
            };
            let question = question.id.clone();
            hub.send(match reply {
                Reply::Answered { answer, by } => Input::QuestionAnswered { question, answer, by },
                Reply::LeftOpen { reason } => Input::QuestionLeftOpen { question, reason },
            })
            .await;
        });
    }

    fn spawn(&mut self, effect: impl Future<Output = ()> + Send + 'static) {
        self.effects.spawn(effect);
    }
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
