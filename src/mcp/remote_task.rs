//! Follows a call on which the agent works as a task: asks for its state, answers what it asks, takes its result.
//! Never makes the call again.
//!
//! Two dialects are spoken: the extension `io.modelcontextprotocol/tasks` of 2026-07-28, where the state holds the
//! agent's questions and the result, and the experimental tasks of 2025-11-25, where `tasks/result` waits for the result
//! and the agent asks over it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rmcp::model::{ErrorData, InputResponses, ServerResult};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    call::{CANCEL_GRACE, Call, Unanswered, custom},
    calls::{Answer, InFlight},
    codec::UNREADABLE,
    failure,
    link::Link,
    note::{self, CallNote, Dialect, RemoteTaskNote},
    repeat::Repeat,
    request::Ask,
    result::{self, Answered, TaskState, TaskStatus},
    rounds::no_input,
    wire::Pending,
};
use crate::model::{Failure, FailureKind, JsonObject};

/// The pause between two looks where the agent names none.
const USUAL_PAUSE: Duration = Duration::from_secs(1);
/// The shortest and the longest pause that an agent may ask for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// Why a task is followed no further.
enum End {
    /// It is over, or nobody knows of it.
    Over(Failure),
    /// The host gives it up; the agent is told.
    GivenUp(Failure),
}

/// Why the agent did not say how the task is.
enum Trouble {
    /// It may do so a moment later.
    Passing(Failure),
    Final(End),
}

impl Call<'_> {
    /// Follows a task that the agent has just made.
    pub(super) async fn follow(&mut self, task: RemoteTaskNote) -> Result<Answered, Failure> {
        let gone = lost_task(&self.request.agent, &self.request.tool, task.ttl_ms);
        if let Err(failure) = self.note(CallNote::RemoteTask(task.clone())).await {
            self.cancel_task(&task.id).await;
            return Err(failure);
        }
        self.watch(task, gone).await
    }

    /// Follows a task that an earlier process left behind.
    pub(super) async fn take_up(&mut self, task: RemoteTaskNote) -> Result<Answered, Failure> {
        let gone = note::interrupted(&self.request);
        self.watch(task, gone).await
    }

    async fn watch(&mut self, task: RemoteTaskNote, gone: Failure) -> Result<Answered, Failure> {
        let id = task.id.clone();
        let dialect = task.dialect;
        let _ = self.vigil.flight.remote_task.set(task.clone());
        let mut watch = Watch { call: self, repeat: Repeat::every(pause(task.poll_interval_ms)), task, gone };
        let end = match dialect {
            Dialect::Extension => watch.extension().await,
            Dialect::Experimental => watch.experimental().await,
        };
        match end {
            Ok(answered) => Ok(answered),
            Err(End::Over(failure)) => Err(failure),
            Err(End::GivenUp(failure)) => {
                self.cancel_task(&id).await;
                Err(failure)
            }
        }
    }

    async fn cancel_task(&mut self, id: &str) {
        if self.route.is_closed() {
            // A later process may go on with it.
            return;
        }
        let peer = self.connection.peer.clone();
        let cancel = peer.send_request(custom("tasks/cancel", json!({"taskId": id})));
        if let Ok(Err(error)) = tokio::time::timeout(CANCEL_GRACE, cancel).await {
            tracing::debug!(agent = %self.request.agent, %error, "the agent did not take the end of a task");
        }
    }
}

/// One task under observation.
struct Watch<'c, 'p> {
    call: &'c mut Call<'p>,
    task: RemoteTaskNote,
    /// What it means that the agent does not know the task.
    gone: Failure,
    repeat: Repeat,
}

impl Watch<'_, '_> {
    /// The dialect of 2026-07-28.
    async fn extension(&mut self) -> Result<Answered, End> {
        let mut questions = Questions::default();
        loop {
            let looked = match self.give(&mut questions).await {
                Ok(()) => self.look().await,
                Err(trouble) => Err(trouble),
            };
            match looked {
                Ok(state) => match state.status {
                    TaskStatus::Working => {
                        questions.see(&JsonObject::new(), &self.call.connection.link, &self.call.vigil.flight)
                    }
                    TaskStatus::InputRequired(requests) => {
                        questions.see(&requests, &self.call.connection.link, &self.call.vigil.flight)
                    }
                    TaskStatus::Completed(Some(result)) => return Ok(result::json(result)),
                    TaskStatus::Completed(None) => return Ok(Answered::Other("a task without a result".to_owned())),
                    TaskStatus::Failed(error) => return Err(End::Over(self.failed(error.as_ref(), state.message))),
                    TaskStatus::Cancelled => return Err(End::Over(self.cancelled(state.message))),
                },
                Err(trouble) => self.passing(trouble)?,
            }
            if let Some((key, answer)) = self.rest(questions.answered()).await? {
                let answer = answer.map_err(|error| no_input(&self.call.request.agent, &key, &error));
                questions.take(key, answer).map_err(End::GivenUp)?;
            }
        }
    }

    /// The dialect of 2025-11-25.
    async fn experimental(&mut self) -> Result<Answered, End> {
        let mut result: Option<Pending> = None;
        let mut said = None;
        loop {
            if result.is_none() {
                match self.open_result().await {
                    Ok(pending) => result = Some(pending),
                    Err(trouble) => self.passing(trouble)?,
                }
            }
            match self.look().await {
                Ok(state) => said = state.message,
                Err(trouble) => self.passing(trouble)?,
            }
            if !self.call.connection.is_usable() {
                result = None;
            }
            let answer = async {
                match &mut result {
                    Some(pending) => pending.answer().await,
                    None => std::future::pending().await,
                }
            };
            let Some(answer) = self.rest(answer).await? else { continue };
            result = None;
            match answer {
                Some(Answer::Result(answered)) => return Ok(answered),
                Some(Answer::Error(error)) => {
                    return Err(End::Over(match is_refusal(&error) {
                        true => self.gone.clone(),
                        false => self.failed(serde_json::to_value(&error).ok().as_ref(), said),
                    }));
                }
                Some(Answer::None(failure)) if failure.kind == FailureKind::InvalidResult => {
                    return Err(End::GivenUp(failure));
                }
                // It is asked for again.
                Some(Answer::None(_)) | None => {}
            }
        }
    }

    async fn open_result(&mut self) -> Result<Pending, Trouble> {
        self.call.reconnect().await.map_err(|unanswered| self.trouble(unanswered))?;
        let ask = Ask::TaskResult(self.task.id.clone());
        self.call.send(&ask).await.map_err(|unanswered| self.trouble(unanswered))
    }

    /// Asks how the task is. An answer is a sign of life, unless the task is over.
    async fn look(&mut self) -> Result<TaskState, Trouble> {
        let state = self.ask("tasks/get", json!({"taskId": self.task.id})).await?;
        let state = TaskState::read(serde_json::to_value(state).unwrap_or_default()).map_err(|what| {
            let (agent, tool) = (&self.call.request.agent, &self.call.request.tool);
            let message = format!("agent `{agent}` says of the task of `{tool}` something that is no state: {what}");
            Trouble::Final(End::GivenUp(Failure::new(FailureKind::InvalidResult, message)))
        })?;
        self.repeat.answered();
        if state.poll_interval_ms.is_some() {
            self.repeat.pause = pause(state.poll_interval_ms);
        }
        if matches!(state.status, TaskStatus::Working | TaskStatus::InputRequired(_)) {
            self.call.vigil.heard();
            if let Some(message) = &state.message {
                self.call.vigil.flight.say(message);
            }
        }
        Ok(state)
    }

    /// Gives the agent the answers that there are.
    async fn give(&mut self, questions: &mut Questions) -> Result<(), Trouble> {
        if questions.ready.is_empty() {
            return Ok(());
        }
        self.ask("tasks/update", json!({"taskId": self.task.id, "inputResponses": questions.ready})).await?;
        questions.ready.clear();
        Ok(())
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<ServerResult, Trouble> {
        self.call.reconnect().await.map_err(|unanswered| self.trouble(unanswered))?;
        self.call.ask(custom(method, params)).await.map_err(|unanswered| self.trouble(unanswered))
    }

    /// Pauses before the next look, unless `early` ends first.
    async fn rest<T>(&mut self, early: impl Future<Output = T>) -> Result<Option<T>, End> {
        self.call.rest(&self.repeat, early).await.map_err(End::GivenUp)
    }

    fn trouble(&self, unanswered: Unanswered) -> Trouble {
        match unanswered {
            Unanswered::Stopped(failure) => Trouble::Final(End::GivenUp(failure)),
            Unanswered::Error(error) if error.code == UNREADABLE => {
                Trouble::Final(End::GivenUp(failure::rpc(&self.call.request.agent, &error)))
            }
            Unanswered::Failed(failure) if failure.kind == FailureKind::InvalidResult => {
                Trouble::Final(End::GivenUp(failure))
            }
            Unanswered::Error(error) if is_refusal(&error) => Trouble::Final(End::Over(self.gone.clone())),
            Unanswered::Error(error) => Trouble::Passing(failure::rpc(&self.call.request.agent, &error)),
            Unanswered::Failed(failure) => Trouble::Passing(failure),
        }
    }

    /// Goes on after a trouble that passes.
    fn passing(&mut self, trouble: Trouble) -> Result<(), End> {
        match trouble {
            Trouble::Final(end) => Err(end),
            Trouble::Passing(latest) => {
                self.repeat.failed(latest);
                Ok(())
            }
        }
    }

    /// The task's own failure: a JSON-RPC error, whatever its code, came of work that was done.
    fn failed(&self, error: Option<&Value>, said: Option<String>) -> Failure {
        let text = error.and_then(|error| error.get("message")).and_then(Value::as_str).map(str::to_owned);
        self.own_failure("failed", text.or(said))
    }

    fn cancelled(&self, said: Option<String>) -> Failure {
        self.own_failure("was cancelled by the agent", said)
    }

    fn own_failure(&self, fate: &str, said: Option<String>) -> Failure {
        let (agent, tool) = (&self.call.request.agent, &self.call.request.tool);
        let said = said.map(|said| format!(": {}", failure::words(&said))).unwrap_or_default();
        Failure::new(FailureKind::ServerError, format!("the task of `{tool}` at agent `{agent}` {fate}{said}"))
    }
}

/// The questions of one task.
#[derive(Default)]
struct Questions {
    /// Those that the agent waits for, answered or not; cancelled when it waits no more.
    open: HashMap<String, CancellationToken>,
    answers: FuturesUnordered<BoxFuture<'static, (String, Result<Value, ErrorData>)>>,
    /// Answers that the agent has not got.
    ready: InputResponses,
}

impl Questions {
    /// The agent waits for `requests` now. Each is put to the host once.
    fn see(&mut self, requests: &JsonObject, link: &Arc<Link>, flight: &Arc<InFlight>) {
        self.open.retain(|key, withdrawn| {
            let waits = requests.contains_key(key);
            if !waits {
                withdrawn.cancel();
                self.ready.remove(key);
            }
            waits
        });
        for (key, request) in requests {
            if self.open.contains_key(key) {
                continue;
            }
            let withdrawn = CancellationToken::new();
            self.open.insert(key.clone(), withdrawn.clone());
            let asker = link.asker_of(flight, Some(format!("task/{key}"))).until(withdrawn);
            let (link, key, request) = (link.clone(), key.clone(), request.clone());
            self.answers.push(Box::pin(async move { (key, link.answer_to(&asker, &request).await) }));
        }
    }

    /// Waits for the next answer.
    async fn answered(&mut self) -> (String, Result<Value, ErrorData>) {
        match self.answers.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    /// Keeps an answer for the agent, if it still waits for it.
    fn take(&mut self, key: String, answer: Result<Value, Failure>) -> Result<(), Failure> {
        if self.open.contains_key(&key) {
            self.ready.insert(key, answer?);
        }
        Ok(())
    }
}

/// Whether an error says that the agent does not know the task.
fn is_refusal(error: &ErrorData) -> bool {
    (-32602..=-32600).contains(&error.code.0)
}

fn pause(milliseconds: Option<u64>) -> Duration {
    milliseconds.map_or(USUAL_PAUSE, Duration::from_millis).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

fn lost_task(agent: &crate::model::AgentId, tool: &str, ttl_ms: Option<u64>) -> Failure {
    let kept = match ttl_ms {
        Some(ttl) => format!("it keeps tasks for {:?}, or was it restarted?", Duration::from_millis(ttl)),
        None => "was it restarted?".to_owned(),
    };
    let message = format!("agent `{agent}` no longer has the task of `{tool}` ({kept})");
    Failure::new(FailureKind::ConnectionLost, message)
}
