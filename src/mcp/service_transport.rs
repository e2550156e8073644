//! Stands between rmcp's service and its transports: gives requests their ids, joins what comes in several ways, and tells
//! the link what comes.
//! Never answers.

use std::sync::Arc;

use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, GetExtensions as _, JsonRpcError, JsonRpcMessage, RequestId, ServerJsonRpcMessage},
    service::InboundStreamOrigin,
    transport::Transport,
};
use tokio::sync::mpsc;

use super::{
    call_result,
    connection_state::ConnectionState,
    handler::handle_incoming,
    open_calls::{CallResponse, id_number},
    session::RequestIdMap,
};

/// A transport whose requests have the session's ids, and whose end the link learns of.
pub(super) struct IdMappingTransport<T> {
    inner: T,
    state: Arc<ConnectionState>,
    ids: RequestIdMap,
}

impl<T> IdMappingTransport<T> {
    /// Watches `carrier` on behalf of `link`.
    pub(super) fn new(carrier: T, link: Arc<ConnectionState>) -> Self {
        Self { inner: carrier, ids: RequestIdMap::new(link.clone()), state: link }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for IdMappingTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.ids.outgoing(&mut message);
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let mut message = self.inner.receive().await;
        match &mut message {
            Some(message) => self.ids.incoming(message),
            // rmcp would let calls wait until every handler has ended.
            None => self.state.lost.cancel(),
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}

/// rmcp's transport over Streamable HTTP, and the messages that come along with the responses to calls.
pub(super) struct MergedTransport<T> {
    pub(super) inner: T,
    /// Noted already.
    pub(super) side_messages: mpsc::Receiver<ServerJsonRpcMessage>,
    pub(super) state: Arc<ConnectionState>,
}

impl<T> MergedTransport<T> {
    /// Takes note of a message of rmcp's transport. `None`: it was the answer to a call all the same, which can come on
    /// the session's own stream.
    fn intercept(&self, message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let calls = &self.state.calls;
        let is_call = |id: &RequestId| id_number(id).is_some_and(|id| calls.is_open(id));
        let (id, answer) = match message {
            JsonRpcMessage::Response(response) if is_call(&response.id) => {
                (response.id, CallResponse::Result(call_result::read_service_result(response.result)))
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
            calls.deliver(request, answer);
        }
        None
    }
}

/// The request of the service on whose response stream a request of the agent arrived.
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
