//! Connects rmcp's service with its transports. Assigns the request IDs, merges messages from several sources, and
//! reports incoming messages to the connection state. Adds the trace context to requests.

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, GetExtensions as _, GetMeta as _, JsonRpcError, JsonRpcMessage, RequestId,
    ServerJsonRpcMessage,
};
use rmcp::service::InboundStreamOrigin;
use rmcp::transport::Transport;
use tokio::sync::mpsc;

use super::request_id_map::RequestIdMap;
use crate::mcp::message::call_response::{self, CallResponse};
use crate::mcp::message::request_id::id_number;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::handler::handle_incoming;

/// A transport that maps request IDs to those of the session, and reports its end to the connection state.
pub(crate) struct IdMappingTransport<T> {
    inner: T,
    state: Arc<ConnectionState>,
    ids: RequestIdMap,
}

impl<T> IdMappingTransport<T> {
    /// Wraps `inner` for the connection of `state`.
    pub(crate) fn new(inner: T, state: Arc<ConnectionState>) -> Self {
        Self { inner, ids: RequestIdMap::new(state.clone()), state }
    }

    /// Adds the trace context to the `_meta` of a request. Old servers can be strict about the handshake.
    fn add_trace(&self, message: &mut ClientJsonRpcMessage) {
        if let (JsonRpcMessage::Request(outgoing), Some(trace)) = (message, self.state.trace())
            && !matches!(outgoing.request, ClientRequest::InitializeRequest(_))
        {
            let span = [self.state.agent.as_str(), &outgoing.id.to_string()];
            trace.add_to(&mut outgoing.request.get_meta_mut().0.0, &span);
        }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for IdMappingTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.ids.outgoing(&mut message);
        self.add_trace(&mut message);
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let mut message = self.inner.receive().await;
        match &mut message {
            Some(message) => self.ids.incoming(message),
            // Without this, rmcp would let calls wait until every handler has ended.
            None => self.state.lost.cancel(),
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

/// A transport that merges rmcp's Streamable HTTP transport with messages from the response streams of calls.
pub(crate) struct MergedTransport<T> {
    pub(crate) inner: T,
    /// Messages that have already been recorded.
    pub(crate) side_messages: mpsc::Receiver<ServerJsonRpcMessage>,
    pub(crate) state: Arc<ConnectionState>,
}

impl<T> MergedTransport<T> {
    /// Records a message of rmcp's transport. Returns `None` if it was the response to a call, which can also arrive on
    /// the session's own stream.
    fn intercept(&self, message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let calls = &self.state.calls;
        let is_call = |id: &RequestId| id_number(id).is_some_and(|id| calls.is_open(id));
        let (id, answer) = match message {
            JsonRpcMessage::Response(response) if is_call(&response.id) => {
                (response.id, call_response::read_service_result(response.result))
            }
            JsonRpcMessage::Error(JsonRpcError { id: Some(id), error, .. }) if is_call(&id) => {
                (id, CallResponse::RpcError(error))
            }
            mut other => {
                let stream = origin_stream(&other);
                handle_incoming(&self.state, &mut other, stream.as_ref());
                return Some(other);
            }
        };
        if let Some(request) = id_number(&id) {
            calls.deliver(request, Ok(answer));
        }
        None
    }
}

/// Returns the ID of the service's request on whose response stream a request of the agent arrived.
fn origin_stream(message: &ServerJsonRpcMessage) -> Option<RequestId> {
    let JsonRpcMessage::Request(request) = message else { return None };
    match request.request.extensions().get::<InboundStreamOrigin>() {
        Some(InboundStreamOrigin::OutboundRequest(id)) => Some(id.clone()),
        Some(InboundStreamOrigin::Unassociated) | None => None,
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for MergedTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = tokio::select! {
                message = self.inner.receive() => message?,
                Some(message) = self.side_messages.recv() => return Some(message),
            };
            if let Some(message) = self.intercept(message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
