//! Sends the requests of one call in progress, and waits for their responses, within the limits of the call.
//! Never sends a request twice.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{ClientRequest, ErrorData, ServerResult};
use tokio_util::sync::CancellationToken;

use super::guard::{CallGuard, CallStop};
use super::poll_backoff::PollBackoff;
use crate::mcp::auth::required_login::MAX_LOGINS;
use crate::mcp::checkpoint::{CallCheckpoint, StreamCheckpoint};
use crate::mcp::message::call_request::{CallKind, CallRequest};
use crate::mcp::message::call_response::CallResponse;
use crate::mcp::message::failure;
use crate::mcp::requests::open_calls::AnswerSource;
use crate::mcp::scheduler::ProcessPermit;
use crate::mcp::session::agent_connections::AgentConnections;
use crate::mcp::session::connection::Connection;
use crate::mcp::transport::call_transport::PendingCall;
use crate::mcp::transport::request_failure;
use crate::model::{AgentId, Failure, FailureKind, JsonObject, Operation, ToolCall};

/// The longest time that notifying the agent of a cancellation may delay the caller.
pub(crate) const CANCEL_TIMEOUT: Duration = Duration::from_millis(250);

/// A call in progress.
pub(crate) struct ActiveCall<'p> {
    pub(crate) agent: &'p AgentConnections,
    pub(crate) connection: Arc<Connection>,
    /// Held as long as the agent may send requests on behalf of the call.
    pub(crate) permit: Option<ProcessPermit<'p>>,
    pub(crate) request: ToolCall,
    pub(crate) meta: JsonObject,
    pub(crate) guard: CallGuard,
    /// The response stream of an earlier process, until it is resumed.
    pub(crate) resume_from: Option<StreamCheckpoint>,
}

/// The reason that a request has no result, for requests about a call.
pub(crate) enum CallError {
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

impl<'p> ActiveCall<'p> {
    /// Returns whether the call executes a tool, so that the catalog describes its arguments and result.
    pub(crate) fn is_tool_call(&self) -> bool {
        self.request.operation == Operation::CallTool
    }

    /// Sends a request of the call itself and waits for its response. Meanwhile, the agent may send requests of its
    /// own. If the server requires a login, the request was not handled, and is sent again after the login.
    ///
    /// # Errors
    /// Returns why the request has no response.
    pub(crate) async fn exchange(&mut self, kind: &CallKind) -> Result<CallResponse, Failure> {
        let is_resumed = self.resume_from.is_some();
        let mut logins = 0;
        loop {
            match self.exchange_once(kind).await {
                // The earlier process sent a resumed request, which must not be sent again.
                Err(failure) if failure.kind == FailureKind::Unauthorized && !is_resumed && logins < MAX_LOGINS => {
                    Box::pin(self.log_in(failure)).await?;
                    logins += 1;
                }
                ended => return ended,
            }
        }
    }

    /// Asks a person to log in if `refusal` requires that, and returns it otherwise. No timeout counts meanwhile.
    async fn log_in(&mut self, refusal: Failure) -> Result<(), Failure> {
        let Some(login) = self.agent.required_login() else { return Err(refusal) };
        let (state, call) = (self.connection.state.clone(), self.guard.call.clone());
        let scope = state.scope_of_call(&call, None, CancellationToken::new());
        let asking = async {
            let _waiting = call.begin_wait(AnswerSource::Person);
            login.ask(refusal, async |question| state.elicit(&scope, question).await).await
        };
        match self.wait(Box::pin(asking)).await {
            Ok(logged_in) => logged_in,
            Err(stop) => Err(self.stop_failure(stop).await),
        }
    }

    async fn exchange_once(&mut self, kind: &CallKind) -> Result<CallResponse, Failure> {
        let mut pending = self.send(kind).await.map_err(|error| error.into_failure(&self.request.agent))?;
        let response = self.wait(pin!(pending.response())).await;
        match response {
            Ok(Some(Ok(response))) => Ok(response),
            Ok(Some(Err(failure))) => Err(self.transport_failure(failure)),
            Ok(None) => Err(Box::pin(self.lost_failure()).await),
            Err(stop) => Err(Box::pin(self.cancel_request(pending, stop)).await),
        }
    }

    /// Sends a request of the call itself.
    pub(crate) async fn send(&mut self, kind: &CallKind) -> Result<PendingCall, CallError> {
        let (connection, resume_from) = (self.connection.clone(), self.resume_from.take());
        let catalog = connection.catalog();
        let tool = if self.is_tool_call() { catalog.info.tool(&self.request.tool) } else { None };
        let schema = tool.map(|tool| &tool.input_schema);
        let request = CallRequest { kind, call: &self.request, meta: &self.meta, schema };
        let call = self.guard.call.clone();
        let sending = connection.transport.send(request, &call, resume_from);
        let sent = self.guard.wait(pin!(sending), connection.state.lost.cancelled()).await;
        match sent {
            Ok(Some(pending)) => Ok(pending),
            Ok(None) => Err(CallError::Failed(Box::pin(self.lost_failure()).await)),
            Err(stop) => Err(Box::pin(self.stop_error(stop)).await),
        }
    }

    /// Abandons a request, notifies the agent unless the connection is lost, and returns the failure.
    async fn cancel_request(&mut self, pending: PendingCall, stop: CallStop) -> Failure {
        match &stop {
            // No response can arrive any more.
            CallStop::ConnectionLost => pending.settle(),
            CallStop::Canceled | CallStop::TimedOut(_) | CallStop::Failed(_) => {
                if let CallStop::Failed(_) = stop {
                    // Whatever arrived was not a response.
                    pending.settle();
                }
                // A child that does not read must not delay the caller; the message stays queued.
                let cancelling = self.connection.transport.cancel(pending, stop.reason());
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, cancelling).await;
            }
        }
        self.stop_failure(stop).await
    }

    /// Sends a request about the call, such as `tasks/get`, that makes the agent send no requests of its own.
    ///
    /// # Errors
    /// Returns why the request has no response.
    pub(crate) async fn service_request(&mut self, request: ClientRequest) -> Result<ServerResult, CallError> {
        let peer = self.connection.peer.clone();
        match self.wait(Box::pin(async move { peer.send_request(request).await })).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(ServiceError::McpError(error))) => Err(CallError::Rpc(error)),
            Ok(Err(error)) => {
                Err(CallError::Failed(match request_failure::from_service(&self.request.agent, &error) {
                    Some(failure) => self.transport_failure(failure),
                    None => Box::pin(self.lost_failure()).await,
                }))
            }
            Err(stop) => Err(Box::pin(self.stop_error(stop)).await),
        }
    }

    /// Waits for `work` until a timeout, a cancellation, or the loss of the connection.
    pub(crate) async fn wait<F: Future>(&mut self, work: F) -> Result<F::Output, CallStop> {
        let connection = self.connection.clone();
        self.guard.wait(work, connection.state.lost.cancelled()).await
    }

    /// Waits for `work` until a timeout or a cancellation. The loss of the connection does not matter.
    ///
    /// # Errors
    /// Returns a failure if the call has ended meanwhile.
    pub(crate) async fn wait_unconnected<F: Future>(&mut self, work: F) -> Result<F::Output, Failure> {
        match self.guard.wait(work, std::future::pending()).await {
            Ok(output) => Ok(output),
            Err(stop) => Err(self.stop_failure(stop).await),
        }
    }

    /// Waits for the next poll, or until `early` completes. A lost connection ends the delay.
    ///
    /// # Errors
    /// Returns a failure if the call has ended meanwhile.
    pub(crate) async fn pause_polling<T>(
        &mut self,
        backoff: &PollBackoff,
        early: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        if !backoff.is_failing() {
            self.guard.pause_idle_timeout();
        }
        let pause = async {
            tokio::select! {
                early = early => Some(early),
                () = tokio::time::sleep(backoff.delay()) => None,
            }
        };
        // Without a connection, its loss cannot end the delay.
        let paused = match self.connection.is_usable() {
            true => self.wait(pause).await,
            false => self.guard.wait(pause, std::future::pending()).await,
        };
        self.guard.resume_idle_timeout();
        match paused {
            Ok(early) => Ok(early),
            Err(CallStop::ConnectionLost) => Ok(None),
            Err(stop) => {
                let failure = self.stop_failure(stop).await;
                Err(backoff.explain_failure(failure))
            }
        }
    }

    /// Writes a durable checkpoint of the call.
    pub(crate) async fn checkpoint(&mut self, checkpoint: CallCheckpoint) -> Result<(), Failure> {
        let saved = self.connection.state.save_call(&self.request.attempt, &checkpoint);
        // Messages of the agent can wait, and a lost connection is detected later.
        self.wait_unconnected(saved).await
    }

    /// Connects again if the connection is no longer usable.
    ///
    /// # Errors
    /// Returns [`CallError::Stopped`] if the call has ended meanwhile or the run is over.
    /// Returns [`CallError::Failed`] if connecting failed.
    pub(crate) async fn reconnect(&mut self) -> Result<(), CallError> {
        if self.connection.is_usable() {
            return Ok(());
        }
        // Waiting for another permit while holding this one could deadlock.
        self.permit = None;
        let agent = self.agent;
        self.connect(agent.acquire()).await
    }

    /// Connects as [`ActiveCall::reconnect`] does, but releases the permit of the call: the agent no longer sends
    /// requests on its behalf.
    ///
    /// # Errors
    /// Returns the same errors as [`ActiveCall::reconnect`].
    pub(crate) async fn reconnect_without_permit(&mut self) -> Result<(), CallError> {
        self.permit = None;
        if self.connection.is_usable() {
            return Ok(());
        }
        let agent = self.agent;
        self.connect(async move { Ok((agent.connection().await?, None)) }).await
    }

    async fn connect(
        &mut self,
        connecting: impl Future<Output = Result<(Arc<Connection>, Option<ProcessPermit<'p>>), Failure>>,
    ) -> Result<(), CallError> {
        let agent = self.agent;
        let (connection, permit) = match self.guard.wait(connecting, std::future::pending()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(failure)) if agent.is_closed() => return Err(CallError::Stopped(failure)),
            Ok(Err(failure)) => return Err(CallError::Failed(failure)),
            Err(stop) => return Err(self.stop_error(stop).await),
        };
        (self.connection, self.permit) = (connection, permit);
        Ok(())
    }

    /// Returns the failure of a call that ended without a response.
    pub(crate) async fn stop_failure(&mut self, stop: CallStop) -> Failure {
        match self.guard.stop_failure(stop) {
            Some(failure) => failure,
            None => self.lost_failure().await,
        }
    }

    /// Returns why a request about the call has no response.
    pub(crate) async fn stop_error(&mut self, stop: CallStop) -> CallError {
        match stop {
            CallStop::ConnectionLost => CallError::Failed(self.lost_failure().await),
            stop => CallError::Stopped(self.stop_failure(stop).await),
        }
    }

    /// Returns the failure that the transport recorded, or else `failure`. Marks the connection as stale if it cannot
    /// be used again.
    fn transport_failure(&self, failure: Failure) -> Failure {
        if let Some(failure) = self.guard.call.transport_failure() {
            return failure.clone();
        }
        if matches!(failure.kind, FailureKind::SessionLost | FailureKind::NotSent) {
            self.connection.state.mark_stale();
        }
        failure
    }

    /// Returns the failure that the transport recorded, or else that of a lost connection.
    async fn lost_failure(&self) -> Failure {
        match self.guard.call.transport_failure() {
            Some(failure) => failure.clone(),
            None => self.connection.lost_failure(self.guard.call.was_sent()).await,
        }
    }
}

impl CallError {
    /// Returns the failure for a request that is not retried.
    pub(crate) fn into_failure(self, agent: &AgentId) -> Failure {
        match self {
            Self::Rpc(error) => failure::from_rpc(agent, &error),
            Self::Failed(failure) | Self::Stopped(failure) => failure,
        }
    }
}
