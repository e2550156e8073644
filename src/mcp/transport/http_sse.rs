//! Carries messages over HTTP+SSE of 2024-11-05. All messages of the server arrive on one event stream, whose first event
//! names the address for messages to the server. The session ends with the stream.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::HttpEndpoint;
use super::http::{HttpClient, retry_response};
use super::http_response::{EVENT_STREAM_TYPE, HttpError, MAX_ERROR_BYTES, error_from_response, read_body};
use super::incoming::{IncomingMessages, ServiceEnded};
use super::request_failure::from_http;
use super::sse::{self, ENDPOINT_EVENT, EventStream, StreamKind};
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::open_calls::CallState;
use crate::model::redact_url;

/// The time for the body of an accepted message, so that the connection can be reused. It carries no message.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// The transport over an event stream of a server.
pub(crate) struct HttpSseTransport {
    sender: Arc<HttpSseSender>,
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
    reader: AbortOnDropHandle<()>,
}

/// A sender of messages to the address that the event stream named.
pub(crate) struct HttpSseSender {
    client: HttpClient,
    address: Url,
    headers: HeaderMap,
}

impl HttpSseTransport {
    /// Opens the event stream at `endpoint`, and waits for the address for messages.
    ///
    /// # Errors
    /// Returns an error if the server does not speak HTTP+SSE, or names an address of another origin.
    pub(crate) async fn open(client: HttpClient, endpoint: &HttpEndpoint) -> Result<Self, HttpError> {
        let headers = endpoint.headers();
        let mut stream_headers = headers.clone();
        stream_headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM_TYPE));
        let response = client.open_stream(endpoint.url.clone(), stream_headers).await?;
        let base = response.url().clone();
        let max_bytes = client.state.max_message_bytes();
        let mut events = sse::events(response, max_bytes, StreamKind::HttpSse, client.overflow_handler(None));
        let address = message_address(&base, &endpoint_event(&mut events).await?)?;
        let (incoming, messages) = IncomingMessages::new(client.state.clone());
        let reader = AbortOnDropHandle::new(tokio::spawn(read_events(events, incoming)));
        Ok(Self { sender: Arc::new(HttpSseSender { client, address, headers }), messages, reader })
    }

    /// Returns the sender that calls use to bypass the service.
    pub(crate) fn sender(&self) -> Arc<HttpSseSender> {
        self.sender.clone()
    }
}

/// Returns the data of the `endpoint` event.
async fn endpoint_event(events: &mut EventStream) -> Result<String, HttpError> {
    while let Some(Ok(event)) = events.next().await {
        if event.event.as_deref() == Some(ENDPOINT_EVENT) {
            return Ok(event.data.unwrap_or_default());
        }
    }
    Err(HttpError::NotMcp("its event stream has no `endpoint` event".to_owned()))
}

/// Returns the address that an `endpoint` event names. It must have the origin of the stream, since requests contain
/// secrets.
fn message_address(stream: &Url, named: &str) -> Result<Url, HttpError> {
    match stream.join(named.trim()) {
        Ok(address) if address.origin() == stream.origin() => Ok(address),
        Ok(address) => {
            let address = redact_url(address.as_str());
            Err(HttpError::NotMcp(format!("its `endpoint` event names `{address}`, another origin")))
        }
        Err(error) => Err(HttpError::NotMcp(format!("its `endpoint` event names no address: {error}"))),
    }
}

/// Delivers the messages of an event stream until it ends.
async fn read_events(mut events: EventStream, incoming: IncomingMessages) {
    while let Some(Ok(event)) = events.next().await {
        let Some(data) = event.data.filter(|_| event.event.is_none()) else { continue };
        match incoming.parse(&mut data.into_bytes()).await {
            None => return,
            Some(Ok(messages)) => {
                if let Err(ServiceEnded) = incoming.deliver(messages).await {
                    return;
                }
            }
            Some(Err(reason)) => {
                tracing::debug!(agent = %incoming.state.agent, reason, "an event holds no message");
            }
        }
    }
}

impl HttpSseSender {
    fn state(&self) -> &Arc<ConnectionState> {
        &self.client.state
    }

    /// Sends the request of a call. The response arrives on the event stream.
    pub(crate) fn send_call(self: &Arc<Self>, id: i64, text: Vec<u8>, call: Arc<CallState>) -> AbortOnDropHandle<()> {
        let sender = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            call.mark_sent();
            if let Err(error) = sender.post(text).await {
                let state = sender.state();
                state.calls.deliver(id, Err(from_http(&state.agent, &error)));
            }
        }))
    }

    /// Notifies the agent that a call is cancelled.
    pub(crate) async fn cancel(&self, message: Vec<u8>) {
        self.client.notify_cancelled(self.post(message)).await;
    }

    /// Sends a message, once.
    async fn post(&self, text: Vec<u8>) -> Result<(), HttpError> {
        let response = self.client.post_bytes(self.address.clone(), self.headers.clone(), text).await?;
        if !response.status().is_success() {
            return Err(error_from_response(response, true).await);
        }
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, read_body(response, MAX_ERROR_BYTES)).await;
        Ok(())
    }

    /// Sends a message of rmcp's service.
    async fn send(&self, message: ClientJsonRpcMessage) -> Result<(), StreamableHttpError<HttpError>> {
        let text = serde_json::to_vec(&message).map_err(StreamableHttpError::Deserialize)?;
        let sent = match &message {
            JsonRpcMessage::Request(request) => {
                let sent = self.post(text).await;
                if sent.is_err() {
                    self.state().requests.remove(&request.id);
                }
                sent
            }
            // When the host suspends, the agent must not see more than after a sudden end of the host.
            _ if self.state().is_suspended() => Ok(()),
            JsonRpcMessage::Notification(_) => self.post(text).await,
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {
                retry_response(|| self.post(text.clone()), HttpError::is_connection_lost).await
            }
        };
        Ok(sent?)
    }
}

impl Transport<RoleClient> for HttpSseTransport {
    type Error = StreamableHttpError<HttpError>;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.sender.state().requests.record(&message);
        let sender = self.sender.clone();
        async move { sender.send(message).await }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.reader.abort();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_posted_to_the_origin_of_the_stream() {
        let stream = Url::parse("http://a.example:8000/x/sse?key=1").unwrap();
        let address =
            |named: &str| message_address(&stream, named).map(String::from).map_err(|error| error.to_string());
        for (named, expected) in [
            ("/messages/?session_id=1", "http://a.example:8000/messages/?session_id=1"),
            (" messages ", "http://a.example:8000/x/messages"),
            ("?s=1", "http://a.example:8000/x/sse?s=1"),
            ("http://a.example:8000/m", "http://a.example:8000/m"),
        ] {
            assert_eq!(address(named), Ok(expected.to_owned()));
        }
        for named in ["http://b.example:8000/m", "//b.example/m", "https://a.example:8000/m", "http://"] {
            assert!(address(named).is_err(), "{named}");
        }
        assert_eq!(
            address("http://b.example/m?token=secret").unwrap_err(),
            "the response is not MCP: its `endpoint` event names `http://b.example/m`, another origin"
        );
    }
}
