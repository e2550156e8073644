//! Sends the requests of calls and routes their answers, past rmcp's service: the service would try every result as all
//! that it knows, and hold each request in several shapes.
//! Never decides what an answer means.
#![expect(deprecated, reason = "log levels are deprecated in 2026-07-28, and existing servers use them")]

use std::sync::Arc;

use rmcp::model::{ClientConfig, LoggingLevel, ProtocolVersion, RequestMetaObject};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::{
    call_request::{CallRequest, ClientMeta},
    checkpoint::StreamCheckpoint,
    connection_state::ConnectionState,
    http_channel::HttpChannel,
    open_calls::{CallResponse, CallState},
    stdin_writer::StdinSender,
};

/// The way of calls to an agent, over one connection.
pub(super) struct CallTransport {
    state: Arc<ConnectionState>,
    client_meta: ClientMeta,
    channel: Channel,
}

/// What a message goes over.
pub(super) enum Channel {
    Pipe(StdinSender),
    Http(Arc<HttpChannel>),
}

/// A request that waits for its answer. Dropped before that has come, nobody waits for it any more.
pub(super) struct PendingCall {
    state: Arc<ConnectionState>,
    request_id: i64,
    receiver: oneshot::Receiver<CallResponse>,
    /// Over HTTP, what sends the request and reads the response.
    exchange: Option<AbortOnDropHandle<()>>,
}

#[derive(Serialize)]
struct CancelNotification<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: CancelParams<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CancelParams<'a> {
    request_id: i64,
    reason: &'a str,
}

impl CallTransport {
    /// The way of calls over a connection of `client` whose handshake has agreed on `version`.
    pub(super) fn new(
        link: Arc<ConnectionState>,
        client: &ClientConfig,
        version: &ProtocolVersion,
        way: Channel,
    ) -> Self {
        let preamble = match version.has_initialize() {
            true => ClientMeta::default(),
            // Without a handshake, every request says who asks, and for which log messages.
            false => {
                let (info, capabilities) = (client.client_info.clone(), client.capabilities.clone());
                let mut meta = RequestMetaObject::with_client_context(version.clone(), info, capabilities);
                meta.set_log_level(LoggingLevel::Info);
                ClientMeta::new(&meta)
            }
        };
        Self { state: link, client_meta: preamble, channel: way }
    }

    /// Sends a request of `call`, or takes up the response that an earlier process was reading. Ends when there is room
    /// for the request. `None`: nothing more can be sent over the connection.
    pub(super) async fn send(
        &self,
        request: CallRequest<'_>,
        call: &Arc<CallState>,
        resume_from: Option<StreamCheckpoint>,
    ) -> Option<PendingCall> {
        let link = self.state.clone();
        let id = resume_from.as_ref().map_or_else(|| link.session.next_id(), |left| left.request);
        let answer = link.calls.open(id, call);
        let mut pending = PendingCall { state: link, request_id: id, receiver: answer, exchange: None };
        call.prepare();
        match (&self.channel, resume_from) {
            (Channel::Pipe(lines), _) => {
                let text = request.write(id, &self.client_meta);
                lines.send_call(text, call.clone(), id).await.ok()?;
            }
            (Channel::Http(calls), None) => {
                let text = request.write(id, &self.client_meta);
                pending.exchange = Some(calls.send(id, text, &request, call.clone()));
            }
            (Channel::Http(calls), Some(note)) => pending.exchange = Some(calls.reattach(note, call.clone())),
        }
        Some(pending)
    }

    /// Gives up a request and tells the agent. Ends when that is written, or will be.
    pub(super) async fn cancel(&self, pending: PendingCall, reason: &str) {
        let request_id = pending.request_id;
        self.state.calls.abandon(request_id);
        let cancelled = CancelNotification {
            jsonrpc: "2.0",
            method: "notifications/cancelled",
            params: CancelParams { request_id, reason },
        };
        let text = serde_json::to_vec(&cancelled).expect("numbers and text do not refuse");
        match &self.channel {
            // A child that has closed its input is not told.
            Channel::Pipe(lines) => {
                let _ = lines.send_detached(text).await;
            }
            Channel::Http(calls) => {
                let calls = calls.clone();
                // The response stays open meanwhile, since there are legacy servers that say over it how it went. Whoever
                // does not wait for this does not end it either.
                let telling = tokio::spawn(async move {
                    calls.cancel(text).await;
                    drop(pending);
                });
                let _ = telling.await;
            }
        }
    }
}

impl PendingCall {
    /// Waits for the answer. `None`: no more can come of the request, and nobody knows why.
    pub(super) async fn response(&mut self) -> Option<CallResponse> {
        let answer = (&mut self.receiver).await.ok()?;
        if let Some(exchange) = self.exchange.take() {
            // What it still reads leaves the connection fit for another request.
            exchange.detach();
        }
        Some(answer)
    }

    /// No answer can come any more.
    pub(super) fn settle(&self) {
        self.state.calls.settle(self.request_id);
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.state.calls.abandon(self.request_id);
    }
}
