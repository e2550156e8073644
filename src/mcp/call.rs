//! Carries out one call of a tool, from its request or from where an earlier process left it, to its output.
//! Never tries twice, except where the agent says that it has not begun.

use std::{pin::pin, sync::Arc, time::Duration};

use rmcp::{
    ServiceError,
    model::{ClientRequest, CustomRequest, ErrorData, ServerResult},
    service::PeerRequestOptions,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    call_guard::{CallGuard, CallStop, canceled_failure},
    call_request::{CallKind, CallRequest},
    call_result::{self, CallResult},
    call_transport::PendingCall,
    catalog::Catalog,
    checkpoint::{self, CallCheckpoint, StreamCheckpoint},
    connect::Connection,
    failure,
    open_calls::CallResponse,
    poll_backoff::PollBackoff,
    pool::{AgentRoute, Pool},
    process_scheduler::ProcessPermit,
};
use crate::model::{AgentId, CheckpointKey, Failure, FailureKind, JsonObject, ResultChecks, StartAttempt, ToolOutput};

/// How long telling the agent about a cancellation may hold up the answer to the caller.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_millis(250);

/// A call on its way.
pub(super) struct ActiveCall<'p> {
    pub(super) route: AgentRoute<'p>,
    pub(super) connection: Arc<Connection>,
    /// Kept as long as the agent may ask on the call's behalf.
    permit: Option<ProcessPermit<'p>>,
    pub(super) request: StartAttempt,
    meta: JsonObject,
    pub(super) guard: CallGuard,
    /// The response that an earlier process was reading, until it is read on.
    resume_from: Option<StreamCheckpoint>,
}

/// What is to be done, and for how long.
pub(super) struct ToolCall {
    pub(super) request: StartAttempt,
    /// Goes into the request's `_meta`.
    pub(super) meta: JsonObject,
    /// When it is cancelled, the agent is told.
    pub(super) cancel: CancellationToken,
}

/// Where a call begins.
pub(super) enum CallOrigin {
    /// With its request.
    New,
    /// Where an earlier process left it.
    Resumed(CallCheckpoint),
}

/// Why a request has no result.
pub(super) enum CallError {
    /// It was answered with a JSON-RPC error.
    Rpc(ErrorData),
    /// No answer came, or none that can be read.
    Failed(Failure),
    /// The call ended first.
    Stopped(Failure),
}

impl Drop for ActiveCall<'_> {
    fn drop(&mut self) {
        self.guard.call.ended.cancel();
    }
}

/// Calls a tool on an agent of `pool`, or takes up a call.
///
/// # Errors
/// A failure whose kind says what is known of the request; [`FailureKind::Interrupted`] for a call that the agent no
/// longer has.
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

/// Connects for a call that waits at the agent, again and again for as long as the agent may be silent.
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
    /// What the call is for: what its tool returned, or the resource to which that links.
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
        let mut output = call_result::into_output(agent, name, answered)?;
        Box::pin(self.check_result(&mut output)).await?;
        match awaits {
            Some(awaits) => Box::pin(self.wait_for_linked_resource(&awaits, &output)).await,
            None => Ok(output),
        }
    }

    /// What the call came back with, in the end.
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
            // The answers have left, or the plan no longer waits for the resource.
            CallOrigin::Resumed(CallCheckpoint::InputGiven | CallCheckpoint::Resource(_)) => {
                return Err(checkpoint::interrupted_failure(&self.request));
            }
        };
        match answered {
            CallResult::Task(task) => Box::pin(self.watch_new_task(task)).await,
            answered => Ok(answered),
        }
    }

    /// Reads on where an earlier process left the response, in the session in which it asked for it.
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

    /// Checks the tool and the arguments before anything is sent. Nothing is refused by a list that is out of date.
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

    /// Checks what came back as the agents file has it.
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

    /// Checks what came back against the tool's schema, the latest one where the known one is out of date.
    async fn check_result_by_schema(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let known = self.connection.catalog();
        let Err(failure) = self.check_result_against(&known, output).await else { return Ok(()) };
        if failure.kind != FailureKind::InvalidResult || !known.is_stale() || !self.connection.is_usable() {
            return Err(failure);
        }
        // The answer is there, whatever becomes of the list.
        let Ok(latest) = Box::pin(self.refresh_catalog(&known)).await else { return Err(failure) };
        self.check_result_against(&latest, output).await
    }

    async fn check_result_against(&mut self, catalog: &Catalog, output: &mut ToolOutput) -> Result<(), Failure> {
        // A tool that is no longer listed has no schema to break.
        let Some(tool) = catalog.info.tool(&self.request.tool) else { return Ok(()) };
        let connection = self.connection.clone();
        let checking = catalog.check_result(&connection.spec.id, tool, output.structured.as_mut());
        match self.guard.wait(checking, std::future::pending()).await {
            Ok(checked) => checked?.into_iter().for_each(|warning| connection.state.warn(warning)),
            Err(stop) => return Err(self.stop_failure(stop).await),
        }
        Ok(())
    }

    /// The tools, listed again unless that was done since they were as in `known`.
    async fn refresh_catalog(&mut self, known: &Arc<Catalog>) -> Result<Arc<Catalog>, Failure> {
        let connection = self.connection.clone();
        match self.guard.wait(connection.refresh_catalog(known), std::future::pending()).await {
            Ok(catalog) => catalog,
            Err(stop) => Err(self.stop_failure(stop).await),
        }
    }

    /// Sends a request of the call itself, on whose behalf the agent may ask back, and waits for its answer.
    ///
    /// # Errors
    /// Why there is none.
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

    /// What an answer, if it came, says.
    pub(super) async fn read_response(&mut self, answer: Option<CallResponse>) -> Result<CallResult, CallError> {
        match answer {
            Some(CallResponse::Result(answered)) => Ok(answered),
            Some(CallResponse::RpcError(error)) => Err(CallError::Rpc(error)),
            Some(CallResponse::Failed(failure)) => Err(CallError::Failed(self.transport_failure(failure))),
            None => Err(CallError::Failed(Box::pin(self.lost_failure()).await)),
        }
    }

    /// Gives up a request, and tells the agent so if there is anybody to tell.
    async fn cancel_request(&mut self, pending: PendingCall, stop: CallStop) -> Result<CallResult, CallError> {
        match &stop {
            // Nothing more comes.
            CallStop::ConnectionLost => pending.settle(),
            CallStop::Canceled | CallStop::TimedOut(_) | CallStop::Failed(_) => {
                if let CallStop::Failed(_) = stop {
                    // What came of it was no answer.
                    pending.settle();
                }
                // A child that does not read must not hold up the caller; the message stays queued.
                let telling = self.connection.transport.cancel(pending, stop.reason());
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, telling).await;
            }
        }
        Err(self.stop_error(stop).await)
    }

    /// Sends a request about the call, with which the agent does nothing but answer.
    ///
    /// # Errors
    /// Why there is no answer.
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

    /// Waits for `work` as long as the call may take and the connection is there.
    pub(super) async fn wait<F: Future>(&mut self, work: F) -> Result<F::Output, CallStop> {
        let connection = self.connection.clone();
        self.guard.wait(work, connection.state.lost.cancelled()).await
    }

    /// Makes a durable note of where the call is.
    pub(super) async fn checkpoint(&mut self, note: CallCheckpoint) -> Result<(), Failure> {
        let kept =
            self.connection.state.host.checkpoint(CheckpointKey::Call(self.request.attempt.clone()), note.to_value());
        // What the agent does meanwhile does not matter, and a lost connection will be seen later.
        match self.guard.wait(kept, std::future::pending()).await {
            Ok(()) => Ok(()),
            Err(stop) => Err(self.stop_failure(stop).await),
        }
    }

    /// Connects again if the connection is no longer good.
    ///
    /// # Errors
    /// [`CallError::Stopped`] when the call has ended meanwhile, or the run is over; [`CallError::Failed`] when there
    /// is no connection now.
    pub(super) async fn reconnect(&mut self) -> Result<(), CallError> {
        if self.connection.is_usable() {
            return Ok(());
        }
        // Waiting for another turn with this one in hand could take for ever.
        self.permit = None;
        let route = self.route;
        self.connect(route.acquire()).await
    }

    /// As [`ActiveCall::reconnect`], and lets others have the call's turn: nothing more makes the agent ask on its behalf.
    ///
    /// # Errors
    /// As [`ActiveCall::reconnect`].
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

    /// Says why the call ended without an answer.
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

    /// Says why a request of the service has no answer.
    async fn service_failure(&mut self, error: &ServiceError) -> Failure {
        match failure::from_service(&self.request.agent, error) {
            Some(failure) => self.transport_failure(failure),
            None => self.lost_failure().await,
        }
    }

    /// A failure of which the transport says why.
    fn transport_failure(&self, failure: Failure) -> Failure {
        if let Some(verdict) = self.guard.call.transport_failure() {
            return verdict.clone();
        }
        if matches!(failure.kind, FailureKind::SessionLost | FailureKind::NotSent) {
            self.connection.state.mark_stale();
        }
        failure
    }

    /// A failure of which nobody has said why.
    async fn lost_failure(&self) -> Failure {
        match self.guard.call.transport_failure() {
            Some(verdict) => verdict.clone(),
            None => self.connection.lost_failure(self.guard.call.was_sent()).await,
        }
    }
}

impl CallError {
    /// What it means where no more can come of the request.
    pub(super) fn into_failure(self, request: &StartAttempt) -> Failure {
        match self {
            Self::Rpc(error) => failure::from_rpc(&request.agent, &error),
            Self::Failed(failure) | Self::Stopped(failure) => failure,
        }
    }
}

/// Shows the text of a result that breaks its schema: it may be all that a person needs.
fn with_result_text(failure: Failure, output: &ToolOutput, agent: &AgentId) -> Failure {
    let help = format!(
        "the server has to correct the tool's `outputSchema`, or what the tool returns; `check_results = \"warn\"` in \
         `[agents.{agent}]` takes such results as they are"
    );
    let text = failure::agent_message(&output.text());
    let message = if text.is_empty() { failure.message } else { format!("{}; its text: {text}", failure.message) };
    Failure { message, ..failure }.with_additional_help(help)
}

/// A request by its method.
pub(super) fn custom_request(method: &str, params: Value) -> ClientRequest {
    ClientRequest::CustomRequest(CustomRequest::new(method, Some(params)))
}
