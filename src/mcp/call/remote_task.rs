//! Watches a call that the agent executes as a task: polls its status, answers its requests, and fetches its result.
//! Never repeats the call.
//!
//! Supports two protocols. In the extension `io.modelcontextprotocol/tasks` of MCP 2026-07-28, the status contains the
//! agent's requests and the result. With the experimental tasks of MCP 2025-11-25, `tasks/result` waits for the result,
//! and the agent sends its requests on that stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rmcp::model::{ErrorData, InputResponses, ServerResult};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::active_call::{ActiveCall, CANCEL_TIMEOUT, CallError};
use super::input_required::missing_input_failure;
use super::poll_backoff::PollBackoff;
use crate::mcp::checkpoint::{self, CallCheckpoint, RemoteTaskCheckpoint, TaskProtocol};
use crate::mcp::message::call_request::CallKind;
use crate::mcp::message::call_response::{self, CallResponse, RemoteTaskState, RemoteTaskStatus};
use crate::mcp::message::failure;
use crate::mcp::message::service_request::custom_request;
use crate::mcp::message::service_result::UNREADABLE;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::open_calls::CallState;
use crate::mcp::transport::call_transport::PendingCall;
use crate::model::{AgentId, Failure, FailureKind, JsonObject};

/// The poll interval if the agent specifies none.
const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The bounds of the poll interval that an agent may specify.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The reason why a task has no result.
enum TaskError {
    /// A poll failed, and a later one may succeed.
    Transient(Failure),
    /// The task has ended, or is unknown to the agent.
    Ended(Failure),
    /// The host abandons the task and cancels it at the agent.
    Abandoned(Failure),
}

impl ActiveCall<'_> {
    /// Watches a task that the agent has just created.
    pub(crate) async fn watch_new_task(&mut self, task: RemoteTaskCheckpoint) -> Result<CallResponse, Failure> {
        let lost_failure = lost_task_failure(&self.request.agent, &self.request.tool, task.ttl_ms);
        if let Err(failure) = self.checkpoint(CallCheckpoint::RemoteTask(task.clone())).await {
            self.cancel_task(&task.id).await;
            return Err(failure);
        }
        self.watch_task(task, lost_failure).await
    }

    /// Watches a task that an earlier process started.
    pub(crate) async fn reattach_task(&mut self, task: RemoteTaskCheckpoint) -> Result<CallResponse, Failure> {
        let lost_failure = checkpoint::interrupted_failure(&self.request);
        self.watch_task(task, lost_failure).await
    }

    async fn watch_task(&mut self, task: RemoteTaskCheckpoint, lost_failure: Failure) -> Result<CallResponse, Failure> {
        let id = task.id.clone();
        let protocol = task.dialect;
        let _ = self.guard.call.remote_task.set(task.clone());
        let mut watcher = TaskWatcher {
            call: self,
            backoff: PollBackoff::new(poll_interval(task.poll_interval_ms)),
            task,
            lost_failure,
        };
        let result = match protocol {
            TaskProtocol::Extension => watcher.watch_extension().await,
            TaskProtocol::Experimental => watcher.watch_experimental().await,
        };
        match result {
            Ok(response) => Ok(response),
            Err(TaskError::Ended(failure) | TaskError::Transient(failure)) => Err(failure),
            Err(TaskError::Abandoned(failure)) => {
                self.cancel_task(&id).await;
                Err(failure)
            }
        }
    }

    async fn cancel_task(&mut self, id: &str) {
        if self.agent.is_closed() {
            // A later process may reattach to the task.
            return;
        }
        let peer = self.connection.peer.clone();
        let cancel = peer.send_request(custom_request("tasks/cancel", json!({"taskId": id})));
        if let Ok(Err(error)) = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await {
            tracing::debug!(agent = %self.request.agent, %error, "the agent did not accept the cancellation of a task");
        }
    }
}

/// A watcher of one task.
struct TaskWatcher<'c, 'p> {
    call: &'c mut ActiveCall<'p>,
    task: RemoteTaskCheckpoint,
    /// The failure to return if the agent does not know the task.
    lost_failure: Failure,
    backoff: PollBackoff,
}

impl TaskWatcher<'_, '_> {
    /// Watches a task of the extension of MCP 2026-07-28.
    async fn watch_extension(&mut self) -> Result<CallResponse, TaskError> {
        let mut questions = TaskQuestions::default();
        loop {
            let polled = match self.send_answers(&mut questions).await {
                Ok(()) => self.poll().await,
                Err(error) => Err(error),
            };
            match polled {
                Ok(state) => {
                    let requests = match state.status {
                        RemoteTaskStatus::Working => JsonObject::new(),
                        RemoteTaskStatus::InputRequired(requests) => requests,
                        RemoteTaskStatus::Completed(Some(result)) => return Ok(call_response::from_json(result)),
                        RemoteTaskStatus::Completed(None) => {
                            return Ok(CallResponse::Unrecognized("a task without a result".to_owned()));
                        }
                        RemoteTaskStatus::Failed(error) => {
                            return Err(TaskError::Ended(self.task_failure(error.as_ref(), state.message)));
                        }
                        RemoteTaskStatus::Canceled => {
                            let failure = self.server_failure("was cancelled by the agent", state.message);
                            return Err(TaskError::Ended(failure));
                        }
                    };
                    questions.update(&requests, &self.call.connection.state, &self.call.guard.call);
                }
                Err(error) => self.record_transient(error)?,
            }
            // The agent may no longer wait for the answer.
            if let Some((key, answer)) = self.pause(questions.next_answer()).await?
                && questions.open.contains_key(&key)
            {
                let missing = |error| missing_input_failure(&self.call.request.agent, &key, &error);
                let answer = answer.map_err(|error| TaskError::Abandoned(missing(error)))?;
                questions.unsent.insert(key, answer);
            }
        }
    }

    /// Watches an experimental task of MCP 2025-11-25.
    async fn watch_experimental(&mut self) -> Result<CallResponse, TaskError> {
        let mut result: Option<PendingCall> = None;
        let mut status_message = None;
        loop {
            if result.is_none() {
                match self.request_result().await {
                    Ok(pending) => result = Some(pending),
                    Err(error) => self.record_transient(error)?,
                }
            }
            match self.poll().await {
                Ok(state) => status_message = state.message,
                Err(error) => self.record_transient(error)?,
            }
            if !self.call.connection.is_usable() {
                result = None;
            }
            let answer = async {
                match &mut result {
                    Some(pending) => pending.response().await,
                    None => std::future::pending().await,
                }
            };
            let Some(answer) = self.pause(answer).await? else { continue };
            result = None;
            match answer {
                Some(Ok(CallResponse::RpcError(error))) => {
                    return Err(TaskError::Ended(match is_unknown_task(&error) {
                        true => self.lost_failure.clone(),
                        false => self.task_failure(serde_json::to_value(&error).ok().as_ref(), status_message),
                    }));
                }
                Some(Err(failure)) if failure.kind == FailureKind::InvalidResult => {
                    return Err(TaskError::Abandoned(failure));
                }
                Some(Ok(response)) => return Ok(response),
                // The result is requested again.
                Some(Err(_)) | None => {}
            }
        }
    }

    async fn request_result(&mut self) -> Result<PendingCall, TaskError> {
        self.call.reconnect().await.map_err(|error| self.poll_error(error))?;
        let kind = CallKind::TaskResult(self.task.id.clone());
        self.call.send(&kind).await.map_err(|error| self.poll_error(error))
    }

    /// Polls the status of the task. A response counts as activity unless the task has ended.
    async fn poll(&mut self) -> Result<RemoteTaskState, TaskError> {
        let state = self.request("tasks/get", json!({"taskId": self.task.id})).await?;
        let state = RemoteTaskState::read(serde_json::to_value(state).unwrap_or_default()).map_err(|what| {
            let (agent, tool) = (&self.call.request.agent, &self.call.request.tool);
            let message = format!("agent `{agent}` sent an invalid status of the task of `{tool}`: {what}");
            TaskError::Abandoned(Failure::new(FailureKind::InvalidResult, message))
        })?;
        self.backoff.reset();
        if state.poll_interval_ms.is_some() {
            self.backoff.interval = poll_interval(state.poll_interval_ms);
        }
        if matches!(state.status, RemoteTaskStatus::Working | RemoteTaskStatus::InputRequired(_)) {
            self.call.guard.record_activity();
            if let Some(message) = &state.message {
                self.call.guard.call.report_message(message);
            }
        }
        Ok(state)
    }

    /// Sends the available answers to the agent.
    async fn send_answers(&mut self, questions: &mut TaskQuestions) -> Result<(), TaskError> {
        if questions.unsent.is_empty() {
            return Ok(());
        }
        self.request("tasks/update", json!({"taskId": self.task.id, "inputResponses": questions.unsent})).await?;
        questions.unsent.clear();
        Ok(())
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<ServerResult, TaskError> {
        self.call.reconnect().await.map_err(|error| self.poll_error(error))?;
        self.call.service_request(custom_request(method, params)).await.map_err(|error| self.poll_error(error))
    }

    /// Waits for the next poll, or until `early` completes.
    async fn pause<T>(&mut self, early: impl Future<Output = T>) -> Result<Option<T>, TaskError> {
        self.call.pause_polling(&self.backoff, early).await.map_err(TaskError::Abandoned)
    }

    fn poll_error(&self, error: CallError) -> TaskError {
        match error {
            CallError::Stopped(failure) => TaskError::Abandoned(failure),
            CallError::Rpc(error) if error.code == UNREADABLE => {
                TaskError::Abandoned(failure::from_rpc(&self.call.request.agent, &error))
            }
            CallError::Failed(failure) if failure.kind == FailureKind::InvalidResult => TaskError::Abandoned(failure),
            CallError::Rpc(error) if is_unknown_task(&error) => TaskError::Ended(self.lost_failure.clone()),
            CallError::Rpc(error) => TaskError::Transient(failure::from_rpc(&self.call.request.agent, &error)),
            CallError::Failed(failure) => TaskError::Transient(failure),
        }
    }

    /// Records a transient failure for the backoff, and returns a final one as an error.
    fn record_transient(&mut self, error: TaskError) -> Result<(), TaskError> {
        match error {
            TaskError::Transient(latest) => {
                self.backoff.record_failure(latest);
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Returns the failure of the task itself. Any JSON-RPC error code is possible, since the work was done.
    fn task_failure(&self, error: Option<&Value>, message: Option<String>) -> Failure {
        let text = error.and_then(|error| error.get("message")).and_then(Value::as_str).map(str::to_owned);
        self.server_failure("failed", text.or(message))
    }

    fn server_failure(&self, outcome: &str, message: Option<String>) -> Failure {
        let (agent, tool) = (&self.call.request.agent, &self.call.request.tool);
        let reason = message.map(|message| format!(": {}", failure::agent_message(&message))).unwrap_or_default();
        Failure::new(FailureKind::ServerError, format!("the task of `{tool}` of agent `{agent}` {outcome}{reason}"))
    }
}

/// The input requests of one task.
#[derive(Default)]
struct TaskQuestions {
    /// The requests that the agent waits for, answered or not. Cancelled when it no longer waits.
    open: HashMap<String, CancellationToken>,
    answers: FuturesUnordered<BoxFuture<'static, (String, Result<Value, ErrorData>)>>,
    /// Answers that the agent has not received.
    unsent: InputResponses,
}

impl TaskQuestions {
    /// Updates the set of open requests to `requests`. Each request is passed to the host once.
    fn update(&mut self, requests: &JsonObject, state: &Arc<ConnectionState>, call: &Arc<CallState>) {
        self.open.retain(|key, withdrawn| {
            let is_open = requests.contains_key(key);
            if !is_open {
                withdrawn.cancel();
                self.unsent.remove(key);
            }
            is_open
        });
        for (key, request) in requests {
            if self.open.contains_key(key) {
                continue;
            }
            let withdrawn = CancellationToken::new();
            self.open.insert(key.clone(), withdrawn.clone());
            let scope = state.scope_of_call(call, Some(format!("task/{key}")), withdrawn);
            let (state, key, request) = (state.clone(), key.clone(), request.clone());
            self.answers.push(Box::pin(async move { (key, state.answer_input_request(&scope, &request).await) }));
        }
    }

    /// Waits for the next answer.
    async fn next_answer(&mut self) -> (String, Result<Value, ErrorData>) {
        match self.answers.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// Returns whether an error means that the agent does not know the task.
fn is_unknown_task(error: &ErrorData) -> bool {
    (-32602..=-32600).contains(&error.code.0)
}

fn poll_interval(milliseconds: Option<u64>) -> Duration {
    milliseconds.map_or(DEFAULT_POLL_INTERVAL, Duration::from_millis).clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)
}

fn lost_task_failure(agent: &AgentId, tool: &str, ttl_ms: Option<u64>) -> Failure {
    let retention = match ttl_ms {
        Some(ttl) => format!("it keeps tasks for {:?}, or it was restarted", Duration::from_millis(ttl)),
        None => "it may have been restarted".to_owned(),
    };
    let message = format!("agent `{agent}` no longer has the task of `{tool}` ({retention})");
    Failure::new(FailureKind::ConnectionLost, message)
}
