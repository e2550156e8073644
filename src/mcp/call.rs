//! Runs one tool call from its request, or from a checkpoint of an earlier process, to its output.
//! Never sends a request twice, unless the agent reports that it has not started the call.

pub(crate) mod checkpoint;
pub(crate) mod guard;
pub(crate) mod input_required;
pub(crate) mod poll_backoff;
pub(crate) mod remote_task;
pub(crate) mod request;
pub(crate) mod resource;
pub(crate) mod timeouts;

use std::{pin::pin, sync::Arc, time::Duration};

use rmcp::{
    ServiceError,
    model::{ClientRequest, CustomRequest, ErrorData, ServerResult},
    service::PeerRequestOptions,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    failure,
    message::tool_result::{self, CallResult},
    pool::{AgentRoute, Pool},
    scheduler::ProcessPermit,
    session::{catalog::Catalog, connect::Connection},
    transport::{call_transport::PendingCall, open_calls::CallResponse},
};
use crate::model::{AgentId, CheckpointKey, Failure, FailureKind, JsonObject, ResultChecks, StartAttempt, ToolOutput};
use checkpoint::{CallCheckpoint, StreamCheckpoint};
use guard::{CallGuard, CallStop, canceled_failure};
use poll_backoff::PollBackoff;
use request::{CallKind, CallRequest};

/// The longest time that notifying the agent of a cancellation may delay the caller.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_millis(250);

/// A call in progress.
pub(super) struct ActiveCall<'p> {
    pub(super) route: AgentRoute<'p>,
    pub(super) connection: Arc<Connection>,
    /// Held as long as the agent may send requests on behalf of the call.
    permit: Option<ProcessPermit<'p>>,
    pub(super) request: StartAttempt,
    meta: JsonObject,
    pub(super) guard: CallGuard,
    /// The response stream of an earlier process, until it is resumed.
    resume_from: Option<StreamCheckpoint>,
}

/// The request of a call, its metadata, and its cancellation.
pub(super) struct ToolCall {
    pub(super) request: StartAttempt,
    /// Copied into the `_meta` of the request.
    pub(super) meta: JsonObject,
    /// The cancellation token of the call. The agent is notified when it is cancelled.
    pub(super) cancel: CancellationToken,
}

/// The point at which a call starts.
pub(super) enum CallOrigin {
    /// A new request.
    New,
    /// A checkpoint of an earlier process.
    Resumed(CallCheckpoint),
}

/// The reason that a request has no result.
pub(super) enum CallError {
    /// The response was a JSON-RPC error.
    Rpc(ErrorData),
    /// No response arrived, or none that can be read.
    Failed(Failure),
    /// The call ended before the response.
    Stopped(Failure),
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.guard.call.ended.cancel();
    }
}

/// Calls a tool of an agent of `pool`, or resumes a call.
///
/// # Errors
/// Returns a failure whose kind says what is known about the request; [`FailureKind::Interrupted`] for a call that the
/// agent no longer has.
pub(super) async fn run(pool: &Pool, order: ToolCall, beginning: CallOrigin) -> Result<Arc<ToolOutput>, Failure> {
    let ToolCall { request, meta, cancel } = order;
    let route = pool.route(&request.agent)?;
    let (connection, turn) = match &beginning {
        CallOrigin::Resumed(CallCheckpoint::RemoteTask(_) | CallCheckpoint::Resource(_)) => {
            Box::pin(connect_with_retry(route, &request, &cancel)).await?
        }
        CallOrigin::New | CallOrigin::Resumed(_) => tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(canceled_failure(&request.tool)),
            ready = route.acquire() => ready?,
        },
    };
    let vigil = CallGuard::new(&request, connection.state.host.clone(), cancel);
    let mut call = ActiveCall { route, connection, permit: turn, request, meta, guard: vigil, resume_from: None };
    let output = call.run_to_output(beginning).await;
    call.guard.report_final_progress();
    output.map(Arc::new)
}

/// Connects for a call that is pending at the agent, with retries until the idle timeout.
async fn connect_with_retry<'p>(
    route: AgentRoute<'p>,
    request: &StartAttempt,
    cancel: &CancellationToken,
) -> Result<(Arc<Connection>, Option<ProcessPermit<'p>>), Failure> {
    let mut vigil = CallGuard::new(request, route.host(), cancel.clone());
    let mut repeat = PollBackoff::new(Duration::ZERO);
    loop {
        let stop = match vigil.wait(route.acquire(), std::future::pending()).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(failure)) if route.is_closed() => return Err(failure),
            Ok(Err(failure)) => {
                repeat.record_failure(failure);
                match vigil.wait(tokio::time::sleep(repeat.delay()), std::future::pending()).await {
                    Ok(()) => continue,
                    Err(stop) => stop,
                }
            }
            Err(stop) => stop,
        };
        return Err(repeat
            .explain_failure(vigil.stop_failure(stop).unwrap_or_else(|| checkpoint::interrupted_failure(request))));
    }
}

impl<'p> ActiveCall<'p> {
    /// Returns the output of the tool, or the resource that its result links to.
    async fn run_to_output(&mut self, beginning: CallOrigin) -> Result<ToolOutput, Failure> {
        let awaits = self.request.awaits.clone();
        let beginning = match (beginning, &awaits) {
            (CallOrigin::Resumed(CallCheckpoint::Resource(note)), Some(awaits)) => {
                return Box::pin(self.wait_for_resource(awaits, note)).await;
            }
            (beginning, _) => beginning,
        };
        let answered = self.request_result(beginning).await?;
        let (agent, name) = (&self.request.agent, &self.request.tool);
        let mut output = tool_result::into_output(agent, name, answered)?;
        Box::pin(self.check_result(&mut output)).await?;
        match awaits {
            Some(awaits) => Box::pin(self.wait_for_linked_resource(&awaits, &output)).await,
            None => Ok(output),
        }
    }

    /// Returns the final result of the call, including input rounds and remote tasks.
    async fn request_result(&mut self, beginning: CallOrigin) -> Result<CallResult, Failure> {
        let answered = match beginning {
            CallOrigin::New => {
                self.check_request().await?;
                match self.connection.catalog().needs_task(&self.request.tool) && !self.connection.modern {
                    true => Box::pin(self.request_as_task()).await?,
                    false => self.request_with_input(None).await?,
                }
            }
            CallOrigin::Resumed(CallCheckpoint::Round(round)) => Box::pin(self.request_with_input(Some(round))).await?,
            CallOrigin::Resumed(CallCheckpoint::RemoteTask(task)) => return Box::pin(self.reattach_task(task)).await,
            CallOrigin::Resumed(CallCheckpoint::Stream(stream)) => Box::pin(self.resume_stream(stream)).await?,
            // The input was already sent, or the plan no longer waits for the resource.
            CallOrigin::Resumed(CallCheckpoint::InputGiven | CallCheckpoint::Resource(_)) => {
                return Err(checkpoint::interrupted_failure(&self.request));
            }
        };
        match answered {
            CallResult::Task(task) => Box::pin(self.watch_new_task(task)).await,
            answered => Ok(answered),
        }
    }

    /// Resumes the response stream of an earlier process, in the session that made the request.
    async fn resume_stream(&mut self, stream: StreamCheckpoint) -> Result<CallResult, Failure> {
        if self.connection.state.session.id() != Some(&*stream.session) {
            return Err(checkpoint::interrupted_failure(&self.request));
        }
        let task = stream.task.clone();
        self.resume_from = Some(stream);
        match task {
            Some(task) => Box::pin(self.reattach_task(task)).await,
            None => Box::pin(self.request_with_input(None)).await,
        }
    }

    /// Checks the tool and the arguments before anything is sent. A stale catalog never causes a rejection.
    async fn check_request(&mut self) -> Result<(), Failure> {
        let (connection, tool) = (self.connection.clone(), self.request.tool.clone());
        let mut arguments = Value::Object(std::mem::take(&mut self.request.arguments));
        let mut known = connection.catalog();
        if connection.catalog_with(&tool).is_none() {
            known = Box::pin(self.refresh_catalog(&known)).await?;
        }
        if let Err(failure) = Box::pin(self.check_arguments(&known, &mut arguments)).await {
            let by_list = matches!(failure.kind, FailureKind::UnknownTool | FailureKind::InvalidArguments);
            if !by_list || !known.is_stale() {
                return Err(failure);
            }
            let latest = Box::pin(self.refresh_catalog(&known)).await?;
            Box::pin(self.check_arguments(&latest, &mut arguments)).await?;
        }
        if let Value::Object(arguments) = arguments {
            self.request.arguments = arguments;
        }
        Ok(())
    }

    /// Checks the tool and its arguments against `catalog`.
    async fn check_arguments(&mut self, catalog: &Catalog, arguments: &mut Value) -> Result<(), Failure> {
        let (connection, name) = (self.connection.clone(), self.request.tool.clone());
        let tool = catalog.info.tool(&name).ok_or_else(|| catalog.unknown_tool(&connection.spec, &name))?;
        let checking = catalog.check_arguments(&connection.spec.id, tool, arguments);
        match self.guard.wait(checking, std::future::pending()).await {
            Ok(checked) => checked?.into_iter().for_each(|warning| connection.state.warn(warning)),
            Err(stop) => return Err(self.stop_failure(stop).await),
        }
        Ok(())
    }

    /// Checks the result as `check_results` of the agents file requires.
    async fn check_result(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let checks = self.connection.spec.check_results;
        if checks == ResultChecks::Off {
            return Ok(());
        }
        match self.check_result_by_schema(output).await {
            Err(failure) if failure.kind == FailureKind::InvalidResult => match checks {
                ResultChecks::Warn => output.warning = Some(failure.message.into()),
                _ => return Err(with_result_text(failure, output, &self.request.agent)),
            },
            checked => checked?,
        }
        Ok(())
    }

    /// Checks the result against the output schema of the tool. Refreshes a stale catalog before it rejects a result.
    async fn check_result_by_schema(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let known = self.connection.catalog();
        let Err(failure) = self.check_result_against(&known, output).await else { return Ok(()) };
        if failure.kind != FailureKind::InvalidResult || !known.is_stale() || !self.connection.is_usable() {
            return Err(failure);
        }
        // The result is already there, even if the tools cannot be listed again.
        let Ok(latest) = Box::pin(self.refresh_catalog(&known)).await else { return Err(failure) };
        self.check_result_against(&latest, output).await
    }

    async fn check_result_against(&mut self, catalog: &Catalog, output: &mut ToolOutput) -> Result<(), Failure> {
        // A tool that is no longer listed has no output schema.
        let Some(tool) = catalog.info.tool(&self.request.tool) else { return Ok(()) };
        let connection = self.connection.clone();
        let checking = catalog.check_result(&connection.spec.id, tool, output.structured.as_mut());
        match self.guard.wait(checking, std::future::pending()).await {
            Ok(checked) => checked?.into_iter().for_each(|warning| connection.state.warn(warning)),
            Err(stop) => return Err(self.stop_failure(stop).await),
        }
        Ok(())
    }

    /// Returns the catalog, listed again unless it has changed since `known`.
    async fn refresh_catalog(&mut self, known: &Arc<Catalog>) -> Result<Arc<Catalog>, Failure> {
        let connection = self.connection.clone();
        match self.guard.wait(connection.refresh_catalog(known), std::future::pending()).await {
            Ok(catalog) => catalog,
            Err(stop) => Err(self.stop_failure(stop).await),
        }
    }

    /// Sends a request of the call itself and waits for its response. Meanwhile, the agent may send requests of its
    /// own.
    ///
    /// # Errors
    /// Returns why the request has no result.
    pub(super) async fn exchange(&mut self, ask: &CallKind) -> Result<CallResult, CallError> {
        let mut pending = self.send(ask).await?;
        let answer = self.wait(pin!(pending.response())).await;
        match answer {
            Ok(answer) => self.read_response(answer).await,
            Err(stop) => Box::pin(self.cancel_request(pending, stop)).await,
        }
    }

    /// Sends a request of the call itself.
    pub(super) async fn send(&mut self, ask: &CallKind) -> Result<PendingCall, CallError> {
        let (connection, left) = (self.connection.clone(), self.resume_from.take());
        let catalog = connection.catalog();
        let schema = catalog.info.tool(&self.request.tool).map(|tool| &tool.input_schema);
        let request = CallRequest { kind: ask, call: &self.request, meta: &self.meta, schema };
        let flight = self.guard.call.clone();
        let sending = connection.transport.send(request, &flight, left);
        let sent = self.guard.wait(pin!(sending), connection.state.lost.cancelled()).await;
        match sent {
            Ok(Some(pending)) => Ok(pending),
            Ok(None) => Err(CallError::Failed(Box::pin(self.lost_failure()).await)),
            Err(stop) => Err(Box::pin(self.stop_error(stop)).await),
        }
    }

    /// Converts the response, or its absence, into a result or an error.
    pub(super) async fn read_response(&mut self, answer: Option<CallResponse>) -> Result<CallResult, CallError> {
        match answer {
            Some(CallResponse::Result(answered)) => Ok(answered),
            Some(CallResponse::RpcError(error)) => Err(CallError::Rpc(error)),
            Some(CallResponse::Failed(failure)) => Err(CallError::Failed(self.transport_failure(failure))),
            None => Err(CallError::Failed(Box::pin(self.lost_failure()).await)),
        }
    }

    /// Abandons a request, and notifies the agent unless the connection is lost.
    async fn cancel_request(&mut self, pending: PendingCall, stop: CallStop) -> Result<CallResult, CallError> {
        match &stop {
            // No response can arrive any more.
            CallStop::ConnectionLost => pending.settle(),
            CallStop::Canceled | CallStop::TimedOut(_) | CallStop::Failed(_) => {
                if let CallStop::Failed(_) = stop {
                    // Whatever arrived was not a response.
                    pending.settle();
                }
                // A child that does not read must not delay the caller; the message stays queued.
                let telling = self.connection.transport.cancel(pending, stop.reason());
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, telling).await;
            }
        }
        Err(self.stop_error(stop).await)
    }

    /// Sends a request about the call, such as `tasks/get`, that makes the agent send no requests of its own.
    ///
    /// # Errors
    /// Returns why the request has no response.
    pub(super) async fn service_request(&mut self, request: ClientRequest) -> Result<ServerResult, CallError> {
        let peer = self.connection.peer.clone();
        let work = Box::pin(async move {
            let handle = peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
            handle.rx.await.unwrap_or(Err(ServiceError::TransportClosed))
        });
        match self.wait(work).await {
            Ok(answer) => self.read_service_response(answer).await,
            Err(stop) => Err(Box::pin(self.stop_error(stop)).await),
        }
    }

    async fn read_service_response(
        &mut self,
        answer: Result<ServerResult, ServiceError>,
    ) -> Result<ServerResult, CallError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(ServiceError::McpError(error)) => Err(CallError::Rpc(error)),
            Err(error) => Err(CallError::Failed(Box::pin(self.service_failure(&error)).await)),
        }
    }

    /// Waits for `work` until a timeout, a cancellation, or the loss of the connection.
    pub(super) async fn wait<F: Future>(&mut self, work: F) -> Result<F::Output, CallStop> {
        let connection = self.connection.clone();
        self.guard.wait(work, connection.state.lost.cancelled()).await
    }

    /// Writes a durable checkpoint of the call.
    pub(super) async fn checkpoint(&mut self, note: CallCheckpoint) -> Result<(), Failure> {
        let kept =
            self.connection.state.host.checkpoint(CheckpointKey::Call(self.request.attempt.clone()), note.to_value());
        // Messages of the agent can wait, and a lost connection is detected later.
        match self.guard.wait(kept, std::future::pending()).await {
            Ok(()) => Ok(()),
            Err(stop) => Err(self.stop_failure(stop).await),
        }
    }

    /// Connects again if the connection is no longer usable.
    ///
    /// # Errors
    /// Returns [`CallError::Stopped`] if the call has ended meanwhile or the run is over.
    /// Returns [`CallError::Failed`] if connecting failed.
    pub(super) async fn reconnect(&mut self) -> Result<(), CallError> {
        if self.connection.is_usable() {
            return Ok(());
        }
        // Waiting for another permit while holding this one could deadlock.
        self.permit = None;
        let route = self.route;
        self.connect(route.acquire()).await
    }

    /// Connects as [`ActiveCall::reconnect`] does, but releases the permit of the call: the agent no longer sends
    /// requests on its behalf.
    ///
    /// # Errors
    /// Returns the same errors as [`ActiveCall::reconnect`].
    pub(super) async fn reconnect_without_permit(&mut self) -> Result<(), CallError> {
        self.permit = None;
        if self.connection.is_usable() {
            return Ok(());
        }
        let route = self.route;
        self.connect(async move { Ok((route.connection().await?, None)) }).await
    }

    async fn connect(
        &mut self,
        connecting: impl Future<Output = Result<(Arc<Connection>, Option<ProcessPermit<'p>>), Failure>>,
    ) -> Result<(), CallError> {
        let route = self.route;
        let (connection, turn) = match self.guard.wait(connecting, std::future::pending()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(failure)) if route.is_closed() => return Err(CallError::Stopped(failure)),
            Ok(Err(failure)) => return Err(CallError::Failed(failure)),
            Err(stop) => return Err(self.stop_error(stop).await),
        };
        (self.connection, self.permit) = (connection, turn);
        Ok(())
    }

    /// Returns the failure of a call that ended without a response.
    pub(super) async fn stop_failure(&mut self, stop: CallStop) -> Failure {
        match self.guard.stop_failure(stop) {
            Some(failure) => failure,
            None => self.connection.lost_failure(self.guard.call.was_sent()).await,
        }
    }

    pub(super) async fn stop_error(&mut self, stop: CallStop) -> CallError {
        match self.guard.stop_failure(stop) {
            Some(failure) => CallError::Stopped(failure),
            None => CallError::Failed(self.connection.lost_failure(self.guard.call.was_sent()).await),
        }
    }

    /// Returns the failure for an error of rmcp's service.
    async fn service_failure(&mut self, error: &ServiceError) -> Failure {
        match failure::from_service(&self.request.agent, error) {
            Some(failure) => self.transport_failure(failure),
            None => self.lost_failure().await,
        }
    }

    /// Returns the failure that the transport recorded, or else `failure`. Marks the connection as stale if it cannot
    /// be used again.
    fn transport_failure(&self, failure: Failure) -> Failure {
        if let Some(verdict) = self.guard.call.transport_failure() {
            return verdict.clone();
        }
        if matches!(failure.kind, FailureKind::SessionLost | FailureKind::NotSent) {
            self.connection.state.mark_stale();
        }
        failure
    }

    /// Returns the failure that the transport recorded, or else that of a lost connection.
    async fn lost_failure(&self) -> Failure {
        match self.guard.call.transport_failure() {
            Some(verdict) => verdict.clone(),
            None => self.connection.lost_failure(self.guard.call.was_sent()).await,
        }
    }
}

impl CallError {
    /// Returns the failure for a request that is not retried.
    pub(super) fn into_failure(self, request: &StartAttempt) -> Failure {
        match self {
            Self::Rpc(error) => failure::from_rpc(&request.agent, &error),
            Self::Failed(failure) | Self::Stopped(failure) => failure,
        }
    }
}

/// Adds the text of an invalid result to its failure: it may be all that a person needs.
fn with_result_text(failure: Failure, output: &ToolOutput, agent: &AgentId) -> Failure {
    let help = format!(
        "the server has to correct the tool's `outputSchema`, or what the tool returns; `check_results = \"warn\"` in \
         `[agents.{agent}]` takes such results as they are"
    );
    let text = failure::agent_message(&output.text());
    let message = if text.is_empty() { failure.message } else { format!("{}; its text: {text}", failure.message) };
    Failure { message, ..failure }.with_additional_help(help)
}

/// Builds a request from its method and parameters.
pub(super) fn custom_request(method: &str, params: Value) -> ClientRequest {
    ClientRequest::CustomRequest(CustomRequest::new(method, Some(params)))
}
