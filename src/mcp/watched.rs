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
    calls::{Answer, number},
    handler::note,
    link::Link,
    result,
    session::Numbering,
};

/// A transport whose requests have the session's ids, and whose end the link learns of.
pub(super) struct Watched<T> {
    carrier: T,
    link: Arc<Link>,
    numbering: Numbering,
}

impl<T> Watched<T> {
    /// Watches `carrier` on behalf of `link`.
    pub(super) fn new(carrier: T, link: Arc<Link>) -> Self {
        Self { carrier, numbering: Numbering::new(link.clone()), link }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Watched<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.numbering.outgoing(&mut message);
        self.carrier.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let mut message = self.carrier.receive().await;
        match &mut message {
            Some(message) => self.numbering.incoming(message),
            // rmcp would let calls wait until every handler has ended.
            None => self.link.lost.cancel(),
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.carrier.close().await
    }
}

/// rmcp's transport over Streamable HTTP, and the messages that come along with the responses to calls.
pub(super) struct WithAside<T> {
    pub(super) carrier: T,
    /// Noted already.
    pub(super) aside: mpsc::Receiver<ServerJsonRpcMessage>,
    pub(super) link: Arc<Link>,
}

impl<T> WithAside<T> {
    /// Takes note of a message of rmcp's transport. `None`: it was the answer to a call all the same, which can come on
    /// the session's own stream.
    fn note(&self, message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
        let calls = &self.link.calls;
        let is_call = |id: &RequestId| number(id).is_some_and(|id| calls.is_open(id));
        let (id, answer) = match message {
            JsonRpcMessage::Response(response) if is_call(&response.id) => {
                (response.id, Answer::Result(result::read(response.result)))
            }
            JsonRpcMessage::Error(JsonRpcError { id: Some(id), error, .. }) if is_call(&id) => {
                (id, Answer::Error(error))
            }
            mut other => {
                let stream = stream(&other);
                note(&self.link, &mut other, stream.as_ref());
                return Some(other);
            }
        };
        if let Some(request) = number(&id) {
            calls.answer(request, answer);
        }
        None
    }
}

/// The request of the service on whose response stream a request of the agent arrived.
fn stream(message: &ServerJsonRpcMessage) -> Option<RequestId> {
    let JsonRpcMessage::Request(request) = message else { return None };
    match request.request.extensions().get::<InboundStreamOrigin>() {
        Some(InboundStreamOrigin::OutboundRequest(id)) => Some(id.clone()),
        Some(InboundStreamOrigin::Unassociated) | None => None,
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for WithAside<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.carrier.send(message)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = tokio::select! {
                message = self.carrier.receive() => message?,
                Some(message) = self.aside.recv() => return Some(message),
            };
            if let Some(message) = self.note(message) {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.carrier.close().await
    }
}
