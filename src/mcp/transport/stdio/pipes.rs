//! Transports JSON-RPC messages over a child's standard input and output. Writes one message per line; what the child
//! writes and is not a message is logged and skipped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::message_lines::MessageLines;
use super::probe::{Probe, ProbeAction, ProbeLimits};
use super::stdin_writer::{StdinSender, StdinWriter};
use super::unread_input::UnreadInput;
use crate::mcp::process::log::AgentLog;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::transport::incoming::{IncomingMessages, ServiceEnded};

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
    state: Arc<ConnectionState>,
    probe: Probe,
    closing: CancellationToken,
    /// Cancelled when the writer has ended.
    writer_ended: CancellationToken,
    writer: AbortOnDropHandle<()>,
    _reader: AbortOnDropHandle<()>,
}

impl StdioTransport {
    /// Creates a transport over the pipes of a child, and an observer of its input.
    pub(crate) fn new(
        (input, output): ChildPipes,
        state: Arc<ConnectionState>,
        log: Arc<AgentLog>,
        probe_limits: ProbeLimits,
    ) -> (Self, UnreadInput) {
        let unread = UnreadInput::of(&input);
        let (incoming, messages) = IncomingMessages::new(state.clone());
        let reader = StdoutReader { incoming, log, noise_lines: 0 };
        let reader = AbortOnDropHandle::new(tokio::spawn(reader.run(output)));
        let closing = CancellationToken::new();
        let (writer, input_lines) = StdinWriter::new(input, state.clone(), closing.clone());
        let writer_ended = writer.ended();
        let writer = AbortOnDropHandle::new(tokio::spawn(writer.run()));
        let transport = Self {
            input: input_lines,
            messages,
            probe: Probe::new(probe_limits, state.clone(), unread.downgrade()),
            state,
            closing,
            writer_ended,
            writer,
            _reader: reader,
        };
        (transport, unread)
    }

    /// Returns the sender that calls use to bypass the service.
    pub(crate) fn input(&self) -> StdinSender {
        self.input.clone()
    }
}

impl Transport<RoleClient> for StdioTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.state.requests.record(&message);
        let message = self.probe.intercept_outgoing(message);
        let input_lines = self.input.clone();
        async move {
            match message {
                Some(message) => input_lines.write(serde_json::to_vec(&message)?).await,
                None => Ok(()),
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            // Received messages are delivered before the end of the connection.
            let action = tokio::select! {
                biased;
                message = self.messages.recv() => self.probe.intercept_incoming(message?),
                () = self.writer_ended.cancelled() => return None,
                () = self.probe.wait_for_timeout() => self.probe.time_out(),
            };
            match action {
                ProbeAction::Wait => {}
                ProbeAction::Deliver(message) => return Some(*message),
                ProbeAction::Write(message) => {
                    let message = serde_json::to_vec(&message).ok()?;
                    self.input.write(message).await.ok()?;
                }
            }
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
    incoming: IncomingMessages,
    log: Arc<AgentLog>,
    noise_lines: usize,
}

impl StdoutReader {
    async fn run(mut self, output: ChildStdout) {
        let mut lines = MessageLines::new(output, self.incoming.state.max_message_bytes());
        let mut text = Vec::new();
        loop {
            match lines.next(&mut text).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    self.incoming.state.handle_overflow();
                    return;
                }
                Err(error) => {
                    let agent = &self.incoming.state.agent;
                    tracing::warn!(%agent, %error, "the agent's output could not be read");
                    return;
                }
            }
            match self.incoming.parse(&mut text).await {
                None => return,
                Some(Ok(messages)) => {
                    if let Err(ServiceEnded) = self.incoming.deliver(messages).await {
                        return;
                    }
                }
                Some(Err(reason)) => self.skip_line(&text, &reason),
            }
        }
    }

    fn skip_line(&mut self, line: &[u8], reason: &str) {
        self.noise_lines += 1;
        if self.noise_lines <= MAX_REPORTED_NOISE {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
            let text = text.trim_end();
            let agent = &self.incoming.state.agent;
            tracing::warn!(%agent, text, reason, "the agent wrote a line to stdout that is not a JSON-RPC message");
        }
        let mut line = line.to_vec();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.log.write_noise(&line);
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::JsonRpcMessage;

    use crate::mcp::message::codec::{ExpectedResult, Incoming, PendingRequests};
    use crate::mcp::transport::incoming::parse;

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
        match parse(line, &FakePipeRequests) {
            Ok(messages) if messages.is_empty() => "empty".to_owned(),
            Ok(messages) => messages.into_iter().map(kind).collect::<Vec<_>>().join(", "),
            Err(_) => "noise".to_owned(),
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
