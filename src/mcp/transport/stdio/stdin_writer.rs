//! Writes messages to a child's standard input, one per line and in batches. Records for each call whether any part of
//! its request was written.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::open_calls::CallState;
use crate::model::{Failure, FailureKind};

/// The capacity of the line queue of a child that does not read. More than the calls in progress on one process;
/// further senders wait.
const QUEUE_CAPACITY: usize = 1_024;
/// The maximum number of lines in one write.
const MAX_BATCH_LINES: usize = 64;

/// A handle for sending lines to a child's standard input.
#[derive(Debug, Clone)]
pub(crate) struct StdinSender(mpsc::Sender<QueuedLine>);

#[derive(Debug)]
struct QueuedLine {
    /// The line with its line feed.
    text: Vec<u8>,
    owner: LineOwner,
}

/// The receiver of the outcome of a write.
#[derive(Debug)]
enum LineOwner {
    /// A call and the ID of its request.
    Call(Arc<CallState>, i64),
    Service(oneshot::Sender<io::Result<()>>),
    Unowned,
}

/// The task that writes the queued lines.
pub(crate) struct StdinWriter<W> {
    state: Arc<ConnectionState>,
    input: W,
    lines: mpsc::Receiver<QueuedLine>,
    /// Ends the writer when all queued lines are written.
    closing: CancellationToken,
    /// Cancelled when the writer is dropped, even by a panic. Calls in the queue would otherwise get no response.
    ended: DropGuard,
}

impl StdinSender {
    /// Queues the request of a call. Waits for space in the queue.
    pub(crate) async fn send_call(&self, message: Vec<u8>, call: Arc<CallState>, request: i64) -> io::Result<()> {
        self.enqueue(message, LineOwner::Call(call, request)).await
    }

    /// Queues a message without reporting the outcome.
    pub(crate) async fn send_detached(&self, message: Vec<u8>) -> io::Result<()> {
        self.enqueue(message, LineOwner::Unowned).await
    }

    /// Writes a message, and waits until it is written.
    pub(crate) async fn write(&self, message: Vec<u8>) -> io::Result<()> {
        let (written, outcome) = oneshot::channel();
        self.enqueue(message, LineOwner::Service(written)).await?;
        outcome.await.unwrap_or_else(|_| Err(closed_error()))
    }

    async fn enqueue(&self, mut text: Vec<u8>, owner: LineOwner) -> io::Result<()> {
        text.push(b'\n');
        self.0.send(QueuedLine { text, owner }).await.map_err(|_| closed_error())
    }
}

/// Returns the error of writing to a closed standard input.
fn closed_error() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl<W: AsyncWrite + Unpin> StdinWriter<W> {
    /// Creates a writer to `input` and its sender.
    pub(crate) fn new(input: W, state: Arc<ConnectionState>, closing: CancellationToken) -> (Self, StdinSender) {
        let (sender, lines) = mpsc::channel(QUEUE_CAPACITY);
        let ended = CancellationToken::new().drop_guard();
        (Self { state, input, lines, closing, ended }, StdinSender(sender))
    }

    /// Returns a token that is cancelled when the writer has ended for any reason.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.token().clone()
    }

    pub(crate) async fn run(mut self) {
        let mut lines = Vec::with_capacity(MAX_BATCH_LINES);
        loop {
            let count = tokio::select! {
                biased;
                count = self.lines.recv_many(&mut lines, MAX_BATCH_LINES) => count,
                () = self.closing.cancelled() => 0,
            };
            if count == 0 {
                return;
            }
            self.write(&mut lines).await;
        }
    }

    async fn write(&mut self, lines: &mut Vec<QueuedLine>) {
        let ranges: Vec<Range<usize>> = lines
            .iter()
            .scan(0, |end, line| {
                let start = std::mem::replace(end, *end + line.text.len());
                Some(start..*end)
            })
            .collect();
        let text = match lines.as_mut_slice() {
            [only] => std::mem::take(&mut only.text),
            several => several.iter().map(|line| line.text.as_slice()).collect::<Vec<_>>().concat(),
        };
        let (mut written, mut error) = (0, None);
        while written < text.len() && error.is_none() {
            let before = written;
            match self.input.write(&text[written..]).await {
                Ok(0) => error = Some(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(failed) => error = Some(failed),
            }
            // A call counts as sent when its first byte is written.
            for (line, range) in lines.iter().zip(&ranges) {
                if let LineOwner::Call(call, _) = &line.owner
                    && (before..written).contains(&range.start)
                {
                    call.mark_sent();
                }
            }
        }
        for (line, range) in lines.drain(..).zip(ranges) {
            let outcome = match &error {
                Some(error) if range.end > written => Err(error),
                _ => Ok(()),
            };
            self.report_outcome(line.owner, outcome);
        }
    }

    fn report_outcome(&self, owner: LineOwner, outcome: Result<(), &io::Error>) {
        match (owner, outcome) {
            (LineOwner::Unowned | LineOwner::Call(..), Ok(())) | (LineOwner::Unowned, Err(_)) => {}
            // The child cannot have read a line that was not written completely.
            (LineOwner::Call(_, request), Err(cause)) => {
                let message = format!("the call could not be written to agent `{}`: {cause}", self.state.agent);
                let failure = Failure::new(FailureKind::NotSent, message);
                self.state.calls.deliver(request, Err(failure));
            }
            (LineOwner::Service(waiting), outcome) => {
                let outcome = outcome.map_err(|error| {
                    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
                });
                // The receiver may have been dropped meanwhile.
                let _ = waiting.send(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::AsyncReadExt as _;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::mcp::samples;
    use crate::model::AttemptId;

    /// Returns a running writer, its sender, and the child's end of a pipe that holds eight bytes.
    fn writer(state: &Arc<ConnectionState>) -> (AbortOnDropHandle<()>, StdinSender, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(8);
        let (writer, lines) = StdinWriter::new(ours, state.clone(), CancellationToken::new());
        (AbortOnDropHandle::new(tokio::spawn(writer.run())), lines, theirs)
    }

    fn calls() -> [Arc<CallState>; 3] {
        ["a", "b", "c"].map(|task| CallState::new(AttemptId { task: task.into(), number: 1 }))
    }

    #[tokio::test(start_paused = true)]
    async fn calls_count_as_sent_from_their_first_byte() {
        let state = samples::connection_state();
        let (_writer, lines, mut child) = writer(&state);
        let calls = calls();
        for (call, request) in calls.iter().zip(0..) {
            lines.send_call(b"12345".to_vec(), call.clone(), request).await.unwrap();
        }
        let sent = || calls.each_ref().map(|call| call.was_sent());
        // The paused clock advances when all tasks are idle.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(sent(), [true, true, false]);
        let mut read = [0; 18];
        child.read_exact(&mut read).await.unwrap();
        assert_eq!((&read, sent()), (b"12345\n12345\n12345\n", [true; 3]));
    }

    #[tokio::test]
    async fn a_writer_that_panics_has_ended() {
        struct PanickingPipe;
        impl AsyncWrite for PanickingPipe {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
                panic!("a mistake in an input")
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        let (writer, lines) = StdinWriter::new(PanickingPipe, samples::connection_state(), CancellationToken::new());
        let ended = writer.ended();
        let _writer = AbortOnDropHandle::new(tokio::spawn(writer.run()));
        let [call, ..] = calls();
        lines.send_call(b"12345".to_vec(), call, 1).await.unwrap();
        ended.cancelled().await;
        assert!(lines.write(b"more".to_vec()).await.is_err());
    }

    #[tokio::test]
    async fn partly_written_calls_count_as_not_sent() {
        let state = samples::connection_state();
        let (_writer, lines, mut child) = writer(&state);
        let calls = calls();
        let mut answers = Vec::new();
        for (call, request) in calls.iter().zip(0..) {
            answers.push(state.calls.open(request, call));
            lines.send_call(b"12345".to_vec(), call.clone(), request).await.unwrap();
        }
        let mut read = [0; 6];
        child.read_exact(&mut read).await.unwrap();
        drop(child);
        for answer in &mut answers[1..] {
            let Ok(Err(failure)) = answer.await else { panic!("the call has an answer") };
            assert_eq!(failure.kind, FailureKind::NotSent);
        }
        assert!(answers[0].try_recv().is_err());
        assert!(lines.write(b"more".to_vec()).await.is_err());
    }
}
