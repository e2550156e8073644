//! Delivers the messages of a stream that all requests of a connection share: the output of a child, or the event stream
//! of HTTP+SSE.

use std::sync::Arc;

use rmcp::model::{RequestId, ServerJsonRpcMessage};
use tokio::sync::mpsc;

use crate::mcp::message::codec::{self, Incoming, PendingRequests};
use crate::mcp::message::request_id::id_number;
use crate::mcp::message::{failure, lenient_json, service_result};
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::handler::handle_incoming;

/// The number of messages that are read ahead of the service: a burst of progress. After that, the agent is blocked.
const READ_AHEAD: usize = 64;
/// The size at which a text is parsed on another thread, so that it does not delay other agents.
const LARGE_TEXT_BYTES: usize = 1024 * 1024;

/// The recipients of the messages of a shared stream.
pub(super) struct IncomingMessages {
    pub(super) state: Arc<ConnectionState>,
    service: mpsc::Sender<ServerJsonRpcMessage>,
}

/// The service no longer receives messages, because the connection is closed.
pub(super) struct ServiceEnded;

impl IncomingMessages {
    /// Creates the recipients of a new connection, and the queue of the messages for rmcp's service.
    pub(super) fn new(state: Arc<ConnectionState>) -> (Self, mpsc::Receiver<ServerJsonRpcMessage>) {
        let (service, messages) = mpsc::channel(READ_AHEAD);
        (Self { state, service }, messages)
    }

    /// Parses the messages in `text`. Returns `None` if the parser panicked.
    pub(super) async fn parse(&self, text: &mut Vec<u8>) -> Option<Result<Vec<Incoming>, String>> {
        if text.len() < LARGE_TEXT_BYTES {
            return Some(parse(text, &*self.state));
        }
        let (state, large) = (self.state.clone(), std::mem::take(text));
        let parsing = tokio::task::spawn_blocking(move || (parse(&large, &*state), large));
        let (parsed, large) = parsing.await.ok()?;
        *text = large;
        Some(parsed)
    }

    /// Delivers messages in order.
    pub(super) async fn deliver(&self, messages: Vec<Incoming>) -> Result<(), ServiceEnded> {
        for message in messages {
            if let Some(message) = self.handle(message) {
                self.service.send(message).await.map_err(|_| ServiceEnded)?;
            }
        }
        Ok(())
    }

    /// Handles a message, and returns it if it is for the service. Responses to requests that are not open are dropped,
    /// because rmcp would treat them as a broken handshake.
    fn handle(&self, incoming: Incoming) -> Option<ServerJsonRpcMessage> {
        match incoming {
            Incoming::CallResponse(request, answer) => self.state.calls.deliver(request, Ok(answer)),
            Incoming::Progress(token, progress) => self.state.report_progress(&token, progress),
            Incoming::Log(message) => self.state.log(message),
            Incoming::UnreadableResponse(id, reason) => return self.handle_unreadable(id, reason),
            Incoming::Message(mut message) => {
                handle_incoming(&self.state, &mut message, None);
                self.state.requests.remove_answered(&message);
                return Some(*message);
            }
            Incoming::UnknownResponse(id) => {
                self.state.calls.settle_abandoned(&id);
                tracing::warn!(agent = %self.state.agent, %id, "the agent answered a request that is not open");
            }
        }
        None
    }

    fn handle_unreadable(&self, id: RequestId, reason: String) -> Option<ServerJsonRpcMessage> {
        tracing::warn!(agent = %self.state.agent, %id, reason, "the agent sent an invalid response");
        if let Some(request) = id_number(&id)
            && self.state.calls.is_open(request)
        {
            let failure = failure::unreadable_response(&self.state.agent, &reason);
            self.state.calls.deliver(request, Err(failure));
            return None;
        }
        self.state.requests.remove(&id).then(|| service_result::unreadable_response(id, reason))
    }
}

/// Parses the messages of a text. An empty text has none.
///
/// # Errors
/// Returns a description of the problem if any other text holds no message.
pub(super) fn parse(text: &[u8], requests: &impl PendingRequests) -> Result<Vec<Incoming>, String> {
    let text = lenient_json::decode(text);
    if text.is_empty() { Ok(Vec::new()) } else { codec::read(&text, requests) }
}
