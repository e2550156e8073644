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
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    LARGEST_MESSAGE,
    calls::{Answer, normal, number},
    codec::{self, Incoming},
    handler::note,
    link::Link,
    lock,
    log::AgentLog,
    writer::{Lines, Writer},
};
use crate::model::{Failure, FailureKind};

/// Messages read ahead of the service: enough for a burst of progress, and then the agent has to wait.
const READ_AHEAD: usize = 64;
/// A line of this size is parsed on another thread, which leaves the runtime to the other agents.
const LARGE_LINE: usize = 1024 * 1024;
/// Lines of noise that are reported; the log has them all.
const REPORTED_NOISE: usize = 10;
/// How long what waits to be written may hold up the end: a child that does not read never takes it.
const CLOSE_GRACE: Duration = Duration::from_millis(50);

/// The child's input and output.
pub(super) type Ends = (ChildStdin, ChildStdout);

/// The client's side of a child's pipes.
pub(super) struct Stdio {
    lines: Lines,
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
    /// Feeds a message to the service as if the child had sent it.
    feed: mpsc::WeakSender<ServerJsonRpcMessage>,
    open: Arc<OpenRequests>,
    probe_timeout: Duration,
    closing: CancellationToken,
    writer: AbortOnDropHandle<()>,
    _reader: AbortOnDropHandle<()>,
}

/// The requests of the service that wait for an answer. An answer to any other id is not passed on: rmcp would take it for a broken
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
        let closing = CancellationToken::new();
        let (writer, lines) = Writer::new(input, link, closing.clone());
        let writer = AbortOnDropHandle::new(tokio::spawn(writer.run()));
        Self { lines, messages, feed, open, probe_timeout, closing, writer, _reader: reader }
    }

    /// The way past the service, for calls.
    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
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
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
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
        let lines = self.lines.clone();
        async move { lines.write(serde_json::to_vec(&message)?).await }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.closing.cancel();
        if tokio::time::timeout(CLOSE_GRACE, &mut self.writer).await.is_err() {
            self.writer.abort();
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
        let mut line = Vec::new();
        loop {
            line.clear();
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
            let read = if line.len() < LARGE_LINE {
                read(&line, |id| self.link.calls.is_open(id))
            } else {
                let (link, large) = (self.link.clone(), std::mem::take(&mut line));
                let reading = tokio::task::spawn_blocking(move || (read(&large, |id| link.calls.is_open(id)), large));
                let Ok((read, large)) = reading.await else { return };
                if let Read::Noise = read {
                    line = large;
                }
                read
            };
            match read {
                Read::Message(Incoming::Answer(request, answer)) => self.link.calls.answer(request, answer),
                Read::Message(Incoming::Progress(token, progress)) => self.link.progressed(&token, progress),
                Read::Message(Incoming::Log(message)) => self.link.logged(message),
                Read::Message(Incoming::BadAnswer(id, reason)) => self.bad_answer(&id, &reason),
                Read::Message(Incoming::Message(mut message)) => {
                    note(&self.link, &mut message, None);
                    if self.is_expected(&message) && self.messages.send(*message).await.is_err() {
                        return;
                    }
                }
                Read::Noise => self.skip(&line),
                Read::Empty => {}
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
            self.link.calls.answered_late(id);
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
        if let Some(request) = number(id) {
            let agent = &self.link.agent;
            let message = format!("agent `{agent}` answered with something that is not a JSON-RPC response: {reason}");
            let failure = Failure::new(FailureKind::InvalidResult, message);
            self.link.calls.answer(request, Answer::None(failure));
        }
    }

    fn skip(&mut self, line: &[u8]) {
        self.noise += 1;
        if self.noise <= REPORTED_NOISE {
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
            let text = text.trim_end();
            tracing::warn!(agent = %self.link.agent, text, "the agent wrote something to standard output that is no message");
        }
        let mut line = line.to_vec();
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        self.log.note(line);
    }
}

/// What a line is.
#[derive(Debug)]
enum Read {
    Message(Incoming),
    Noise,
    Empty,
}

fn read(line: &[u8], is_call: impl Fn(i64) -> bool) -> Read {
    let text = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
    match (text.first(), std::str::from_utf8(text)) {
        (None, _) => Read::Empty,
        (Some(b'{'), Ok(text)) => codec::read(text, is_call).map_or(Read::Noise, Read::Message),
        _ => Read::Noise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &[u8]) -> &'static str {
        match read(line, |id| id == 7) {
            Read::Message(Incoming::Answer(..)) => "answer to a call",
            Read::Message(Incoming::Progress(..)) => "progress",
            Read::Message(Incoming::Log(..)) => "log",
            Read::Message(Incoming::BadAnswer(..)) => "bad answer",
            Read::Message(Incoming::Message(message)) => match *message {
                JsonRpcMessage::Request(_) => "request",
                JsonRpcMessage::Response(_) => "response",
                JsonRpcMessage::Notification(_) => "notification",
                JsonRpcMessage::Error(_) => "error",
            },
            Read::Noise => "noise",
            Read::Empty => "empty",
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
            (b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"result\":{\"content\":[]}}\r\n", "answer to a call"),
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
