//! Carries JSON-RPC messages over a child's standard input and output, one a line.
//! Never lets one bad line end the connection: what is not a message is logged and skipped.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    RoleClient,
    model::{
        ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, JsonRpcMessage, RequestId,
        ServerJsonRpcMessage,
    },
    transport::Transport,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;

use super::{LARGEST_MESSAGE, calls::normal, link::Link, lock, log::AgentLog, raw};
use crate::model::{Failure, FailureKind};

/// Messages read ahead of the service: enough for a burst of progress, and then the agent has to wait.
const READ_AHEAD: usize = 64;
/// A line of this size is parsed on another thread, which leaves the runtime to the other agents.
const LARGE_LINE: usize = 1024 * 1024;
/// Lines of noise that are reported; the log has them all.
const REPORTED_NOISE: usize = 10;

/// The child's input and output.
pub(super) type Ends = (ChildStdin, ChildStdout);

/// The client's side of a child's pipes.
pub(super) struct Stdio {
    link: Arc<Link>,
    /// Held while one message is written, so that messages do not mix.
    input: Arc<tokio::sync::Mutex<Option<ChildStdin>>>,
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
    /// Feeds a message to the service as if the child had sent it.
    feed: mpsc::WeakSender<ServerJsonRpcMessage>,
    open: Arc<OpenRequests>,
    probe_timeout: Duration,
    _reader: AbortOnDropHandle<()>,
}

/// The requests that wait for an answer. An answer to any other id is not passed on: rmcp would take it for a broken
/// handshake.
#[derive(Debug, Default)]
struct OpenRequests(Mutex<HashSet<RequestId>>);

impl OpenRequests {
    fn add(&self, id: &RequestId) {
        lock(&self.0).insert(id.clone());
    }

    fn take(&self, id: &RequestId) -> bool {
        lock(&self.0).remove(&normal(id))
    }
}

impl Stdio {
    /// A transport over the pipes of a child. A server that has not answered `server/discover` within `probe_timeout`
    /// is taken for one that does not know it; some legacy servers ignore whatever precedes `initialize`.
    pub(super) fn new((input, output): Ends, link: Arc<Link>, log: Arc<AgentLog>, probe_timeout: Duration) -> Self {
        let (sender, messages) = mpsc::channel(READ_AHEAD);
        let feed = sender.downgrade();
        let open = Arc::new(OpenRequests::default());
        let reader = Reader { link: link.clone(), log, open: open.clone(), messages: sender, noise: 0 };
        let reader = AbortOnDropHandle::new(tokio::spawn(reader.run(output)));
        let input = Arc::new(tokio::sync::Mutex::new(Some(input)));
        Self { link, input, messages, feed, open, probe_timeout, _reader: reader }
    }

    /// Answers an unanswered `server/discover` on the server's behalf.
    fn limit_probe(&self, id: RequestId) {
        let (feed, open, timeout) = (self.feed.clone(), self.open.clone(), self.probe_timeout);
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            if let Some(feed) = feed.upgrade()
                && open.take(&id)
            {
                let silence = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "`server/discover` was not answered", None);
                let _ = feed.send(ServerJsonRpcMessage::error(silence, Some(id))).await;
            }
        });
    }
}

impl Transport<RoleClient> for Stdio {
    type Error = std::io::Error;

    fn send(
        &mut self,
        mut message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let call = self.link.calls.outgoing(&mut message);
        match &message {
            JsonRpcMessage::Request(request) => {
                self.open.add(&request.id);
                if matches!(request.request, ClientRequest::DiscoverRequest(_)) {
                    self.limit_probe(request.id.clone());
                }
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.open.take(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        let input = self.input.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut input = input.lock().await;
            let Some(pipe) = input.as_mut() else { return Err(std::io::ErrorKind::NotConnected.into()) };
            if let Some(call) = call {
                call.leaves();
            }
            pipe.write_all(&line).await?;
            pipe.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        // A write that hangs on a child that does not read must not hold up the end.
        if let Ok(mut input) = tokio::time::timeout(Duration::from_millis(50), self.input.lock()).await {
            input.take();
        }
        Ok(())
    }
}

/// Reads a child's output until it ends.
struct Reader {
    link: Arc<Link>,
    log: Arc<AgentLog>,
    open: Arc<OpenRequests>,
    messages: mpsc::Sender<ServerJsonRpcMessage>,
    noise: usize,
}

impl Reader {
    async fn run(mut self, output: ChildStdout) {
        let mut output = BufReader::with_capacity(64 * 1024, output);
        loop {
            let mut line = Vec::new();
            match (&mut output).take(LARGEST_MESSAGE as u64 + 1).read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) if line.len() > LARGEST_MESSAGE => {
                    self.link.overflowed();
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(agent = %self.link.agent, %error, "the agent's output could not be read");
                    return;
                }
            }
            let parsed = if line.len() < LARGE_LINE {
                parse(&line)
            } else {
                match tokio::task::spawn_blocking(move || parse(&line)).await {
                    Ok(parsed) => parsed,
                    Err(_) => return,
                }
            };
            match parsed {
                Parsed::Message(message) => {
                    if self.is_expected(&message) && self.messages.send(*message).await.is_err() {
                        return;
                    }
                }
                Parsed::BadAnswer(id, reason) => self.bad_answer(&id, &reason),
                Parsed::Noise(line) => self.skip(line),
                Parsed::Empty => {}
            }
        }
    }

    fn is_expected(&self, message: &ServerJsonRpcMessage) -> bool {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => return true,
        };
        if let Some(id) = id {
            self.link.calls.answered(id);
        }
        let expected = id.is_none_or(|id| self.open.take(id));
        if !expected {
            let id = id.map(ToString::to_string);
            tracing::warn!(agent = %self.link.agent, id, "the agent answered a request that is not open");
        }
        expected
    }

    fn bad_answer(&self, id: &RequestId, reason: &str) {
        tracing::warn!(agent = %self.link.agent, %id, reason, "the agent sent an answer that is not JSON-RPC");
        if let Some(call) = self.link.calls.find(id) {
            let agent = &self.link.agent;
            let message = format!("agent `{agent}` answered with something that is not a JSON-RPC response: {reason}");
            call.condemn(Failure::new(FailureKind::InvalidResult, message));
        }
    }

    fn skip(&mut self, mut line: Vec<u8>) {
        self.noise += 1;
        if self.noise <= REPORTED_NOISE {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
            let text = text.trim_end();
            tracing::warn!(agent = %self.link.agent, text, "the agent wrote something to standard output that is no message");
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.log.note(line);
    }
}

#[derive(Debug)]
enum Parsed {
    Message(Box<ServerJsonRpcMessage>),
    /// It answers a request, but not as JSON-RPC wants it.
    BadAnswer(RequestId, String),
    Noise(Vec<u8>),
    Empty,
}

fn parse(line: &[u8]) -> Parsed {
    let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
    if text.is_empty() {
        return Parsed::Empty;
    }
    if text[0] == b'{' {
        let error = match serde_json::from_slice(&raw::save(text)) {
            Ok(message) => return Parsed::Message(Box::new(message)),
            Err(error) => error,
        };
        if let Ok(Value::Object(object)) = serde_json::from_slice(text)
            && !object.contains_key("method")
            && (object.contains_key("result") || object.contains_key("error"))
            && let Some(Ok(id)) = object.get("id").map(|id| serde_json::from_value(id.clone()))
        {
            return Parsed::BadAnswer(id, error.to_string());
        }
    }
    Parsed::Noise(line.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &[u8]) -> &'static str {
        match parse(line) {
            Parsed::Message(message) => match *message {
                JsonRpcMessage::Request(_) => "request",
                JsonRpcMessage::Response(_) => "response",
                JsonRpcMessage::Notification(_) => "notification",
                JsonRpcMessage::Error(_) => "error",
            },
            Parsed::BadAnswer(..) => "bad answer",
            Parsed::Noise(_) => "noise",
            Parsed::Empty => "empty",
        }
    }

    #[test]
    fn tells_messages_from_noise() {
        for (line, expected) in [
            (&b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"[..], "response"),
            (b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}\r\n", "response"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "request"),
            (b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n", "notification"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1,\"message\":\"m\"}}\n", "error"),
            (b"{\"id\":1,\"result\":{}}\n", "bad answer"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}\n", "bad answer"),
            (b"Server listening on stdio\n", "noise"),
            (b"{\"level\":\"info\",\"msg\":\"up\"}\n", "noise"),
            (b"[1,2]\n", "noise"),
            (b"42\n", "noise"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xff\xfe\"}\n", "noise"),
            (b"  \r\n", "empty"),
        ] {
            assert_eq!(kind(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }
}
