//! Sends the requests of calls and routes their responses.
//! Bypasses rmcp's service, which would try each result as every type that it knows and copy each request several
//! times.
#![expect(deprecated, reason = "log levels are deprecated in 2026-07-28, and existing servers use them")]

use std::sync::Arc;

use rmcp::model::{ClientConfig, LoggingLevel, ProtocolVersion, RequestMetaObject};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::http_channel::HttpChannel;
use super::http_sse::HttpSseSender;
use super::stdio::stdin_writer::StdinSender;
use crate::mcp::checkpoint::StreamCheckpoint;
use crate::mcp::message::call_request::{CallRequest, ClientMeta};
use crate::mcp::message::call_response::CallResponse;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::open_calls::CallState;
use crate::model::{ConnectionTransport, Failure, LogLevel};

/// The transport of calls to an agent, over one connection.
pub(crate) struct CallTransport {
    state: Arc<ConnectionState>,
    client_meta: ClientMeta,
    channel: Channel,
}

/// The channel that messages are sent over.
pub(crate) enum Channel {
    Pipe(StdinSender),
    Http(Arc<HttpChannel>),
    HttpSse(Arc<HttpSseSender>),
}

/// A request that waits for its response. Dropping it abandons the request.
pub(crate) struct PendingCall {
    state: Arc<ConnectionState>,
    request_id: i64,
    receiver: oneshot::Receiver<Result<CallResponse, Failure>>,
    /// Over HTTP, the task that sends the request and reads the response.
    exchange: Option<AbortOnDropHandle<()>>,
}

impl CallTransport {
    /// Creates the transport for a connection of `client` whose handshake agreed on `version`.
    pub(crate) fn new(
        state: Arc<ConnectionState>,
        client: &ClientConfig,
        version: &ProtocolVersion,
        channel: Channel,
    ) -> Self {
        let client_meta = match version.has_initialize() {
            true => ClientMeta::default(),
            // Without a handshake, every request carries the client information and the log level.
            false => {
                let (info, capabilities) = (client.client_info.clone(), client.capabilities.clone());
                let mut meta = RequestMetaObject::with_client_context(version.clone(), info, capabilities);
                meta.set_log_level(logging_level(state.log_level()));
                ClientMeta::new(&meta)
            }
        };
        Self { state, client_meta, channel }
    }

    /// Returns the transport of the connection.
    pub(crate) fn kind(&self) -> ConnectionTransport {
        match self.channel {
            Channel::Pipe(_) => ConnectionTransport::Stdio,
            Channel::Http(_) => ConnectionTransport::StreamableHttp,
            Channel::HttpSse(_) => ConnectionTransport::HttpSse,
        }
    }

    /// Sends a request of `call`, or reattaches to the response that an earlier process was reading. Returns once the
    /// request is queued. `None` means that nothing more can be sent over the connection.
    pub(crate) async fn send(
        &self,
        request: CallRequest<'_>,
        call: &Arc<CallState>,
        resume_from: Option<StreamCheckpoint>,
    ) -> Option<PendingCall> {
        let state = self.state.clone();
        let id = resume_from.as_ref().map_or_else(|| state.session.next_id(), |stream| stream.request);
        let receiver = state.calls.open(id, call);
        let mut pending = PendingCall { state, request_id: id, receiver, exchange: None };
        call.prepare();
        match (&self.channel, resume_from) {
            (Channel::Pipe(stdin), _) => {
                let text = request.write(id, &self.client_meta);
                stdin.send_call(text, call.clone(), id).await.ok()?;
            }
            // A session over HTTP+SSE has no response streams to resume.
            (Channel::HttpSse(sender), _) => {
                let text = request.write(id, &self.client_meta);
                pending.exchange = Some(sender.send_call(id, text, call.clone()));
            }
            (Channel::Http(channel), None) => {
                let text = request.write(id, &self.client_meta);
                pending.exchange = Some(channel.send(id, text, &request, call.clone()));
            }
            (Channel::Http(channel), Some(stream)) => {
                pending.exchange = Some(channel.reattach(stream, call.clone()));
            }
        }
        Some(pending)
    }

    /// Abandons a request and notifies the agent. Returns once the notification is written or queued.
    pub(crate) async fn cancel(&self, pending: PendingCall, reason: &str) {
        let request_id = pending.request_id;
        self.state.calls.abandon(request_id);
        let notification = json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": request_id, "reason": reason},
        });
        let text = notification.to_string().into_bytes();
        match &self.channel {
            // A child that has closed its input is not notified.
            Channel::Pipe(stdin) => {
                let _ = stdin.send_detached(text).await;
            }
            Channel::HttpSse(sender) => {
                let sender = sender.clone();
                // The task also completes if the caller stops waiting.
                let cancelling = tokio::spawn(async move { sender.cancel(text).await });
                let _ = cancelling.await;
            }
            Channel::Http(channel) => {
                let channel = channel.clone();
                // The response stays open meanwhile, since some legacy servers send the outcome over it. The task also
                // completes if the caller stops waiting.
                let cancelling = tokio::spawn(async move {
                    channel.cancel(text).await;
                    drop(pending);
                });
                let _ = cancelling.await;
            }
        }
    }
}

/// Returns rmcp's type of a log level.
pub(crate) fn logging_level(level: LogLevel) -> LoggingLevel {
    match level {
        LogLevel::Debug => LoggingLevel::Debug,
        LogLevel::Info => LoggingLevel::Info,
        LogLevel::Notice => LoggingLevel::Notice,
        LogLevel::Warning => LoggingLevel::Warning,
        LogLevel::Error => LoggingLevel::Error,
        LogLevel::Critical => LoggingLevel::Critical,
        LogLevel::Alert => LoggingLevel::Alert,
        LogLevel::Emergency => LoggingLevel::Emergency,
    }
}

impl PendingCall {
    /// Waits for the response. `None` means that none can arrive any more, for an unknown reason.
    pub(crate) async fn response(&mut self) -> Option<Result<CallResponse, Failure>> {
        let response = (&mut self.receiver).await.ok()?;
        if let Some(exchange) = self.exchange.take() {
            // Reading the rest of the response makes its connection reusable.
            exchange.detach();
        }
        Some(response)
    }

    /// Marks the request as one that cannot get a response any more.
    pub(crate) fn settle(&self) {
        self.state.calls.settle(self.request_id);
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.state.calls.abandon(self.request_id);
    }
}
