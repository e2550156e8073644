//! Executes commands. Each starts an effect without blocking, and its result is a later input.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::llm::{Llm, OnDelta};
use crate::mcp::{Agents, CallContext, ClientHost as _};
use crate::model::{
    Answer, AttemptId, ChatError, ChatPart, ChatReply, ChatRequest, Command, Failure, FailureKind, HOST_AGENT,
    HumanDuration, Input, JsonObject, LogMessage, Origin, Question, RunId, ToolCall, ToolOutput, TraceContext, Watch,
};
use crate::ui::human::HumanResponse;

use super::content::{self, CacheSlot, CachedResult, CallCache, ContentStore};
use super::dispatcher::Dispatcher;
use super::{RuntimeHost, replanner, watches};

/// The `_meta` key that identifies a call, so that an agent can distinguish a repetition from a new call.
pub const IDEMPOTENCY_KEY: &str = "kapell/idempotency-key";

impl Dispatcher {
    pub(super) fn execute(&mut self, command: Command) {
        let host = Arc::clone(&self.host);
        match command {
            Command::ConnectAgent { agent } => {
                let agents = Arc::clone(&self.services.agents);
                let failure = Failure::new(FailureKind::AgentUnavailable, panic_message("connected to the agent"));
                let on_panic = Input::AgentUnavailable { agent: agent.clone(), failure };
                self.spawn_effect(on_panic, async move {
                    Some(match agents.connect(&agent).await {
                        Ok(info) => Input::AgentConnected { agent, info },
                        Err(failure) => Input::AgentUnavailable { agent, failure },
                    })
                });
            }
            Command::StartAttempt(call) => self.start_attempt(call, None),
            Command::Reattach { call, checkpoint } => self.start_attempt(*call, Some(checkpoint)),
            Command::RequestModel { attempt, chat } => {
                let cancel = CancellationToken::new();
                self.attempt_tokens.insert(attempt.clone(), cancel.clone());
                let llm = self.services.llm.clone();
                let is_synthesis = self.synthesis.as_ref() == Some(&attempt.task);
                let result = Err(endpoint_error(&panic_message("asked the model")));
                let on_panic = Input::ModelReplied { attempt: attempt.clone(), result };
                self.spawn_effect(on_panic, async move {
                    let on_delta = |piece: &str| {
                        if is_synthesis {
                            host.push_delta(&attempt, piece);
                        }
                    };
                    let result = tokio::select! {
                        result = ask(llm, &chat, &on_delta) => result,
                        () = cancel.cancelled() => Err(endpoint_error("the run was cancelled")),
                    };
                    Some(Input::ModelReplied { attempt, result })
                });
            }
            Command::CancelAttempt { attempt } => {
                if let Some(cancel) = self.attempt_tokens.get(&attempt) {
                    cancel.cancel();
                }
            }
            Command::Replan(request) => {
                self.replan_token = CancellationToken::new();
                let replanner = self.services.replanner.clone();
                let result = Err(Failure::new(FailureKind::ModelFailed, panic_message("asked the planner")));
                let on_panic = Input::Replanned { number: request.number, result };
                self.spawn_effect(on_panic, replanner::replan(replanner, *request, host, self.replan_token.clone()));
            }
            Command::CancelReplan => self.replan_token.cancel(),
            Command::AskPerson { question } => self.ask_person(question),
            Command::AnswerElicitation { request, answer } => host.answer_elicitation(&request, answer),
            Command::RequestSampling { request, chat } => {
                let llm = self.services.llm.clone();
                let result = Err(endpoint_error(&panic_message("asked the model")));
                let on_panic = Input::SamplingFinished { request: request.clone(), result };
                self.spawn_effect(on_panic, async move {
                    let withdrawn = host.withdrawal_token(&request);
                    let result = tokio::select! {
                        result = ask(llm, &chat, &|_| {}) => result.and_then(|reply| without_unoffered_calls(reply, &chat)),
                        () = withdrawn.cancelled() => Err(endpoint_error("the agent stopped waiting for the model")),
                    };
                    Some(Input::SamplingFinished { request, result })
                });
            }
            Command::AnswerSampling { request, result } => host.answer_sampling(&request, result),
            Command::SaveAnswer { task, output, name } => {
                let store = self.services.content.clone();
                let failure = Failure::new(FailureKind::InvalidResult, panic_message("saved the answer"));
                let on_panic = Input::AnswerSaved { task: task.clone(), result: Err(failure) };
                self.spawn_effect(on_panic, async move {
                    let result = match store {
                        Some(store) => match store.reserve_name(&name, &task) {
                            Ok(()) => content::save_output(&store, &name, output).await,
                            Err(failure) => Err(failure),
                        },
                        None => Err(no_directory()),
                    };
                    Some(Input::AnswerSaved { task, result })
                });
            }
            Command::Watch(watch) => self.watch(*watch),
            Command::EndRun => unreachable!("the loop ends before"),
        }
    }

    /// Sends a call, or reattaches to it by the checkpoint of an earlier process.
    fn start_attempt(&mut self, call: ToolCall, checkpoint: Option<Value>) {
        let cancel = CancellationToken::new();
        self.attempt_tokens.insert(call.attempt.clone(), cancel.clone());
        let agents = Arc::clone(&self.services.agents);
        let meta = call_meta(&self.id, &call.attempt, &self.services.trace);
        let context = CallContext { meta, cancel, checkpoint };
        let attempt = call.attempt.clone();
        let work = call_with_contents(agents, call, context, self.contents(), self.services.cache.clone());
        // A panic in one call must not end the other tasks.
        let ended = AssertUnwindSafe(work).catch_unwind().map(move |result| {
            let result = result
                .unwrap_or_else(|_| Err(Failure::new(FailureKind::ConnectionLost, panic_message("made the call"))));
            Input::AttemptEnded { attempt, result }
        });
        self.calls.push(ended.boxed());
    }

    /// Watches what a task waits for.
    fn watch(&mut self, watch: Watch) {
        let cancel = CancellationToken::new();
        if let Some(before) = self.watches.insert(watch.task.clone(), cancel.clone()) {
            before.cancel();
        }
        let (agents, host) = (Arc::clone(&self.services.agents), Arc::clone(&self.host));
        let (directory, contents) = (self.services.directory.clone(), self.services.content.clone());
        let failure = Failure::new(FailureKind::InvalidResult, panic_message("watched for a change"));
        let on_panic = Input::WatchEnded { task: watch.task.clone(), result: Err(failure) };
        self.spawn_effect(on_panic, async move {
            watches::watch(watch, agents, host, (&directory, contents), cancel).await
        });
    }

    /// Returns the store for the contents of a call, if there is one, and the host that gets its warnings.
    fn contents(&self) -> Option<(Arc<ContentStore>, Arc<RuntimeHost>)> {
        Some((Arc::clone(self.services.content.as_ref()?), Arc::clone(&self.host)))
    }

    fn ask_person(&mut self, question: Arc<Question>) {
        let human = Arc::clone(&self.services.human);
        let withdrawn = match self.run.waiting_request(&question.id) {
            Some(request) => self.host.withdrawal_token(request),
            None => CancellationToken::new(),
        };
        let answered = CancellationToken::new();
        if let Some(before) = self.open_questions.insert(question.id.clone(), answered.clone()) {
            before.cancel();
        }
        let (answer, by) = (Answer::Cancel, panic_message("asked the question"));
        let on_panic = Input::QuestionAnswered { question: question.id.clone(), answer, by };
        self.share_input_schemas();
        self.spawn_effect(on_panic, async move {
            let reply = tokio::select! {
                reply = human.ask(&question) => reply,
                () = answered.cancelled() => return None,
                () = withdrawn.cancelled() => {
                    HumanResponse::Answered { answer: Answer::Cancel, answered_by: "the agent, which stopped waiting".into() }
                }
            };
            let question = question.id.clone();
            Some(match reply {
                HumanResponse::Answered { answer, answered_by: by } => Input::QuestionAnswered { question, answer, by },
                HumanResponse::AllApproved { by } => Input::RestApproved { question, by },
                HumanResponse::Deferred { reason } => Input::QuestionDeferred { question, reason },
            })
        });
    }

    /// Gives open approvals the schemas of the arguments that agents have described, so that a person can change these.
    pub(super) fn share_input_schemas(&self) {
        for entry in self.run.questions.entries().filter(|entry| !entry.is_answered()) {
            if let Some(call) = &entry.question.call
                && let Some(schema) = self.run.input_schema(call)
            {
                call.input_schema.set(schema);
            }
        }
    }

    /// Spawns an effect that produces an input for the dispatcher. A panic produces `on_panic`, so that nothing waits
    /// for it.
    fn spawn_effect(&mut self, on_panic: Input, effect: impl Future<Output = Option<Input>> + Send + 'static) {
        let host = Arc::clone(&self.host);
        self.effects.spawn(async move {
            let input = AssertUnwindSafe(effect).catch_unwind().await.unwrap_or(Some(on_panic));
            if let Some(input) = input {
                host.send(input).await;
            }
        });
    }
}

/// Makes a call, or returns the cached result of an earlier one. The arguments get the contents of the files that they
/// refer to, and the contents of the result are in files when this returns.
async fn call_with_contents(
    agents: Arc<dyn Agents>,
    mut call: ToolCall,
    context: CallContext,
    contents: Option<(Arc<ContentStore>, Arc<RuntimeHost>)>,
    cache: Option<Arc<CallCache>>,
) -> Result<Arc<ToolOutput>, Failure> {
    let Some((store, host)) = contents else {
        return if call.save.is_some() { Err(no_directory()) } else { agents.call(call, context).await };
    };
    let (task, save) = (call.attempt.task.clone(), call.save.clone());
    if let Some(name) = &save {
        store.reserve_name(name, &task)?;
    }
    let origin = Origin { agent: call.agent.clone(), attempt: Some(call.attempt.clone()), key: None };
    // The result of a resumed call is not that of an earlier one.
    let cache = cache.zip(call.cache.take()).filter(|_| context.checkpoint.is_none());
    let entry = cache.map(|(cache, request)| CacheSlot::new(cache, &call, &request));
    let found = match entry.clone() {
        Some(entry) => tokio::task::spawn_blocking(move || entry.find()).await.ok().flatten(),
        None => None,
    };
    let output = match found {
        Some(CachedResult { output, age }) => {
            let age = HumanDuration(std::time::Duration::from_secs(age.as_secs()));
            let text = format!("the result comes from the cache; it is {age} old");
            host.on_log(origin.clone(), LogMessage::from_host("info", text));
            output
        }
        None => {
            // The host itself does not read a file that it can hand on.
            if call.agent.as_str() != HOST_AGENT {
                content::restore_arguments(&store, &mut call).await?;
            }
            let output = agents.call(call, context).await?;
            let is_in_file = output.content.iter().any(|block| block.saved_file().is_some());
            if is_in_file && entry.is_some() {
                let text =
                    "the result is not in the cache for later calls: it is a large output, in a file of this run";
                host.on_log(origin.clone(), LogMessage::from_host("warning", text.to_owned()));
            } else if let Some(entry) = entry {
                let stored = Arc::clone(&output);
                let storing = tokio::task::spawn_blocking(move || entry.store(stored));
                if let Err(error) = storing.await.unwrap_or_else(|error| Err(error.into())) {
                    let text = format!("the result is not in the cache for later calls: {error}");
                    host.on_log(origin.clone(), LogMessage::from_host("warning", text));
                }
            }
            output
        }
    };
    let output = match save {
        Some(name) => content::save_output(&store, &name, output).await?,
        None => output,
    };
    let (output, error) = content::save_contents(&store, &task, output).await;
    if let Some(error) = error {
        let text = format!("some contents of the result stay in the journal: they cannot be saved as files: {error}");
        host.on_log(origin, LogMessage::from_host("warning", text));
    }
    Ok(output)
}

/// Returns the failure of a task that saves its output in a run without files.
fn no_directory() -> Failure {
    let message = "`save` requires a directory for the files of the run, and the host has none";
    Failure::new(FailureKind::InvalidArguments, message).with_help("set `HostBuilder::content_directory`")
}

/// Returns the `_meta` of a call: its idempotency key `RUN/TASK/ATTEMPT`, and its trace context.
pub(super) fn call_meta(run: &RunId, attempt: &AttemptId, trace: &TraceContext) -> JsonObject {
    let key = attempt.key(run);
    let mut meta = JsonObject::with_capacity(3);
    trace.add_to(&mut meta, &[&key]);
    meta.insert(IDEMPOTENCY_KEY.to_owned(), key.into());
    meta
}

/// Describes an internal panic, for people.
fn panic_message(what: &str) -> String {
    format!("internal error: kapell failed while it {what} (this is a bug in kapell)")
}

async fn ask(llm: Option<Arc<dyn Llm>>, chat: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
    match llm {
        Some(llm) => llm.chat_stream(chat, on_delta).await,
        None => Err(ChatError::Unsupported { message: "no language model is configured".into() }),
    }
}

/// Removes tool calls from a reply to an agent that offered no tools.
///
/// # Errors
/// Returns an error if nothing remains.
fn without_unoffered_calls(mut reply: ChatReply, chat: &ChatRequest) -> Result<ChatReply, ChatError> {
    let call = reply.parts.iter().find_map(|part| match part {
        ChatPart::ToolUse { name, .. } | ChatPart::UnreadableToolUse { name, .. } => Some(name.clone()),
        _ => None,
    });
    match call {
        Some(name) if chat.tools.is_empty() => {
            reply.parts.retain(|part| !part.is_tool_use());
            if reply.text().trim().is_empty() {
                let model = &reply.model;
                return Err(endpoint_error(&format!(
                    "model `{model}` called tool `{name}`, but the request has no tools"
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

fn endpoint_error(message: &str) -> ChatError {
    ChatError::Endpoint { message: message.into(), status: None }
}
