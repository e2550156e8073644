//! Transports JSON-RPC messages over a child's standard input and output, one per line. Lines that are not messages are
//! logged and skipped.

use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, JsonRpcMessage, RequestId,
    ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::stdin_writer::{StdinSender, StdinWriter};
use crate::mcp::message::codec::{self, Incoming, PendingRequests};
use crate::mcp::message::limits::MAX_MESSAGE_BYTES;
use crate::mcp::message::request_id::id_number;
use crate::mcp::message::{failure, lenient_json, service_result};
use crate::mcp::process::log::AgentLog;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::handler::handle_incoming;

/// The number of messages that are read ahead of the service: a burst of progress. After that, the agent is blocked.
const READ_AHEAD: usize = 64;
/// The size at which a line is parsed on another thread, so that it does not delay other agents.
const LARGE_LINE_BYTES: usize = 1024 * 1024;
/// The maximum number of invalid lines that are reported. The log contains all of them.
const MAX_REPORTED_NOISE: usize = 10;
/// The timeout for writing queued lines on close. A child that does not read would block it forever.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(50);

/// The standard input and output of a child.
pub(crate) type ChildPipes = (ChildStdin, ChildStdout);

/// The transport over a child's pipes.
pub(crate) struct StdioTransport {
    input: StdinSender,
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
    /// Injects a message as if the child had sent it.
    feed: mpsc::WeakSender<ServerJsonRpcMessage>,
    state: Arc<ConnectionState>,
    probe_timeout: Duration,
    closing: CancellationToken,
    /// Cancelled when the writer has ended.
    writer_ended: CancellationToken,
    writer: AbortOnDropHandle<()>,
    _reader: AbortOnDropHandle<()>,
}

impl StdioTransport {
    /// Creates a transport over the pipes of a child. If `server/discover` has no response within `probe_timeout`, the
    /// server is treated as legacy. Some legacy servers ignore all messages before `initialize`.
    pub(crate) fn new(
        (input, output): ChildPipes,
        state: Arc<ConnectionState>,
        log: Arc<AgentLog>,
        probe_timeout: Duration,
    ) -> Self {
        let (sender, messages) = mpsc::channel(READ_AHEAD);
        let feed = sender.downgrade();
        let reader = StdoutReader { state: state.clone(), log, messages: sender, noise_lines: 0 };
        let reader = AbortOnDropHandle::new(tokio::spawn(reader.run(output)));
        let closing = CancellationToken::new();
        let (writer, input_lines) = StdinWriter::new(input, state.clone(), closing.clone());
        let writer_ended = writer.ended();
        let writer = AbortOnDropHandle::new(tokio::spawn(writer.run()));
        Self {
            input: input_lines,
            messages,
            feed,
            state,
            probe_timeout,
            closing,
            writer_ended,
            writer,
            _reader: reader,
        }
    }

    /// Returns the sender that calls use to bypass the service.
    pub(crate) fn input(&self) -> StdinSender {
        self.input.clone()
    }

    /// Sends an error response to `server/discover` if the server does not respond in time.
    fn limit_probe(&self, id: RequestId) {
        let (feed, state, timeout) = (self.feed.clone(), self.state.clone(), self.probe_timeout);
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            if let Some(feed) = feed.upgrade()
                && state.requests.remove(&id)
            {
                let silence = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "`server/discover` was not answered", None);
                let _ = feed.send(ServerJsonRpcMessage::error(silence, Some(id))).await;
            }
        });
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = std::io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        match &message {
            JsonRpcMessage::Request(request) => {
                self.state.requests.add(&request.id, &request.request);
                if matches!(request.request, ClientRequest::DiscoverRequest(_)) {
                    self.limit_probe(request.id.clone());
                }
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.state.requests.remove(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        let input_lines = self.input.clone();
        async move { input_lines.write(serde_json::to_vec(&message)?).await }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        // Received messages are delivered before the end of the connection.
        tokio::select! {
            biased;
            message = self.messages.recv() => message,
            () = self.writer_ended.cancelled() => None,
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.closing.cancel();
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut self.writer).await.is_err() {
            self.writer.abort();
        }
        Ok(())
    }
}

/// A reader of a child's output.
struct StdoutReader {
    state: Arc<ConnectionState>,
    log: Arc<AgentLog>,
    messages: mpsc::Sender<ServerJsonRpcMessage>,
    noise_lines: usize,
}

impl StdoutReader {
    async fn run(mut self, output: ChildStdout) {
        let mut output = BufReader::with_capacity(64 * 1024, output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut output).take(MAX_MESSAGE_BYTES as u64 + 1).read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) if line.len() > MAX_MESSAGE_BYTES => {
                    self.state.handle_overflow();
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(agent = %self.state.agent, %error, "the agent's output could not be read");
                    return;
                }
            }
            let read = if line.len() < LARGE_LINE_BYTES {
                read_line(&line, &*self.state)
            } else {
                let (state, large) = (self.state.clone(), std::mem::take(&mut line));
                let reading = tokio::task::spawn_blocking(move || (read_line(&large, &*state), large));
                let Ok((read, large)) = reading.await else { return };
                line = large;
                read
            };
            match read {
                Some(Ok(messages)) => {
                    for message in messages {
                        if let Some(message) = self.handle_message(message)
                            && self.messages.send(message).await.is_err()
                        {
                            return;
                        }
                    }
                }
                Some(Err(reason)) => self.skip_line(&line, &reason),
                None => {}
            }
        }
    }

    /// Handles a message, and returns it if it is for the service. Responses to requests that are not open are dropped,
    /// because rmcp would treat them as a broken handshake.
    fn handle_message(&self, incoming: Incoming) -> Option<ServerJsonRpcMessage> {
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

    fn skip_line(&mut self, line: &[u8], reason: &str) {
        self.noise_lines += 1;
        if self.noise_lines <= MAX_REPORTED_NOISE {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
            let text = text.trim_end();
            tracing::warn!(agent = %self.state.agent, text, reason, "the agent wrote a line to stdout that is not a \
                                                                     JSON-RPC message");
        }
        let mut line = line.to_vec();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.log.try_write(line);
    }
}

/// Parses the messages of a line. Returns `None` for an empty line.
fn read_line(line: &[u8], requests: &impl PendingRequests) -> Option<Result<Vec<Incoming>, String>> {
    let text = lenient_json::decode(line);
    (!text.is_empty()).then(|| codec::read(&text, requests))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::codec::ExpectedResult;

    /// A table in which call 7 and service request 1 are open.
    struct FakePipeRequests;

    impl PendingRequests for FakePipeRequests {
        fn expected_result(&self, id: i64) -> Option<ExpectedResult> {
            [(7, ExpectedResult::Call), (1, ExpectedResult::Other)]
                .into_iter()
                .find(|(open, _)| *open == id)
                .map(|(_, kind)| kind)
        }

        fn single_open(&self) -> Option<i64> {
            None
        }
    }

    fn kind(line: &[u8]) -> String {
        let kind = |incoming: Incoming| match incoming {
            Incoming::CallResponse(..) => "answer to a call",
            Incoming::Progress(..) => "progress",
            Incoming::Log(..) => "log",
            Incoming::UnreadableResponse(..) => "bad answer",
            Incoming::UnknownResponse(..) => "not open",
            Incoming::Message(message) => match *message {
                JsonRpcMessage::Request(_) => "request",
                JsonRpcMessage::Response(_) => "response",
                JsonRpcMessage::Notification(_) => "notification",
                JsonRpcMessage::Error(_) => "error",
            },
        };
        match read_line(line, &FakePipeRequests) {
            Some(Ok(messages)) => messages.into_iter().map(kind).collect::<Vec<_>>().join(", "),
            Some(Err(_)) => "noise".to_owned(),
            None => "empty".to_owned(),
        }
    }

    #[test]
    fn messages_are_distinguished_from_noise() {
        for (line, expected) in [
            (&b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"[..], "response"),
            (b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}\r\n", "response"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "request"),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n", "notification"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1,\"message\":\"m\"}}\n", "noise"),
            (b"{\"id\":1,\"result\":{}}\n", "response"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n", "not open"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}\n", "bad answer"),
            (b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"result\":{\"content\":[]}}\r\n", "answer to a call"),
            (b"Server listening on stdio\n", "noise"),
            (b"{\"level\":\"info\",\"msg\":\"up\"}\n", "noise"),
            (b"[1,2]\n", "noise"),
            (b"42\n", "noise"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xff\xfe\"}\n", "response"),
            (b"[{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}]\n", "answer to a call"),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}{\"id\":1,\"result\":{}}", "notification, response"),
            (b"50% \x1b[32m{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\x1b[0m\n", "answer to a call"),
            (b"sent {\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"tools/call\",\"params\":{}}\n", "noise"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[{\"ty\n", "bad answer"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{\"content\":[{\"ty\n", "noise"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null,\"error\":{\"message\":\"m\"}}\n", "error"),
            (b"  \r\n", "empty"),
        ] {
            assert_eq!(kind(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}
