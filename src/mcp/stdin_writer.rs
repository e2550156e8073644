//! Writes messages to a child's standard input, one a line, and as many at once as wait.
//! Never lets two mix, and says of each call whether its request began to leave.

use std::{io, ops::Range, sync::Arc};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    connection_state::ConnectionState,
    open_calls::{CallResponse, CallState},
};
use crate::model::{Failure, FailureKind};

/// Lines that wait while a child does not read: more than a run has calls under way on one process. Whoever has another
/// one then waits too.
const QUEUE_CAPACITY: usize = 1_024;
/// Lines that are written at once: what gathers while one write is under way, as a rule.
const MAX_BATCH_LINES: usize = 64;

/// The way into a child's input.
#[derive(Debug, Clone)]
pub(super) struct StdinSender(mpsc::Sender<QueuedLine>);

#[derive(Debug)]
struct QueuedLine {
    /// With its end.
    text: Vec<u8>,
    owner: LineOwner,
}

/// Who is told how it went.
#[derive(Debug)]
enum LineOwner {
    /// The request of a call, and its id.
    Call(Arc<CallState>, i64),
    Service(oneshot::Sender<io::Result<()>>),
    Unowned,
}

/// Writes until it is told to stop.
pub(super) struct StdinWriter<W> {
    state: Arc<ConnectionState>,
    input: W,
    lines: mpsc::Receiver<QueuedLine>,
    /// Ends the writer once everything that waits is written.
    closing: CancellationToken,
    /// Cancelled when the writer is dropped, also by a panic: calls that it held get no answer otherwise.
    ended: DropGuard,
}

/// The child's input is closed.
#[derive(Debug)]
pub(super) struct StdinClosed;

impl StdinSender {
    /// Has the request of a call written. Ends when there is room for it.
    pub(super) async fn send_call(
        &self,
        message: Vec<u8>,
        call: Arc<CallState>,
        request: i64,
    ) -> Result<(), StdinClosed> {
        self.enqueue(message, LineOwner::Call(call, request)).await
    }

    /// Has a message written of which nobody wants to know whether it was.
    pub(super) async fn send_detached(&self, message: Vec<u8>) -> Result<(), StdinClosed> {
        self.enqueue(message, LineOwner::Unowned).await
    }

    /// Writes a message. Ends when it is written.
    pub(super) async fn write(&self, message: Vec<u8>) -> io::Result<()> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let (written, outcome) = oneshot::channel();
        self.enqueue(message, LineOwner::Service(written)).await.map_err(|StdinClosed| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn enqueue(&self, mut text: Vec<u8>, whose: LineOwner) -> Result<(), StdinClosed> {
        text.push(b'\n');
        self.0.send(QueuedLine { text, owner: whose }).await.map_err(|_| StdinClosed)
    }
}

impl<W: AsyncWrite + Unpin> StdinWriter<W> {
    /// A writer into `input`, and the way to it.
    pub(super) fn new(input: W, link: Arc<ConnectionState>, closing: CancellationToken) -> (Self, StdinSender) {
        let (sender, lines) = mpsc::channel(QUEUE_CAPACITY);
        let ended = CancellationToken::new().drop_guard();
        (Self { state: link, input, lines, closing, ended }, StdinSender(sender))
    }

    /// Returns what is cancelled when the writer has ended for whatever reason.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.token().clone()
    }

    pub(super) async fn run(mut self) {
        let mut lines = Vec::with_capacity(MAX_BATCH_LINES);
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.lines.recv_many(&mut lines, MAX_BATCH_LINES) => taken,
                () = self.closing.cancelled() => 0,
            };
            if taken == 0 {
                return;
            }
            self.write(&mut lines).await;
        }
    }

    async fn write(&mut self, lines: &mut Vec<QueuedLine>) {
        let places: Vec<Range<usize>> = lines
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
            // A call is on its way as soon as its first byte is.
            for (line, place) in lines.iter().zip(&places) {
                if let LineOwner::Call(call, _) = &line.owner
                    && (before..written).contains(&place.start)
                {
                    call.mark_sent();
                }
            }
        }
        for (line, place) in lines.drain(..).zip(places) {
            let outcome = match &error {
                Some(error) if place.end > written => Err(error),
                _ => Ok(()),
            };
            self.report_outcome(line.owner, outcome);
        }
    }

    fn report_outcome(&self, whose: LineOwner, outcome: Result<(), &io::Error>) {
        match (whose, outcome) {
            (LineOwner::Unowned | LineOwner::Call(..), Ok(())) | (LineOwner::Unowned, Err(_)) => {}
            // A line that was not written to its end is a line that the child has not read.
            (LineOwner::Call(_, request), Err(cause)) => {
                let message = format!("the call could not be written to agent `{}`: {cause}", self.state.agent);
                let failure = Failure::new(FailureKind::NotSent, message);
                self.state.calls.deliver(request, CallResponse::Failed(failure));
            }
            (LineOwner::Service(waiting), outcome) => {
                let outcome = outcome.map_err(|error| {
                    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
                });
                // Whoever waited may be gone by now.
                let _ = waiting.send(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::AsyncReadExt as _;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::{mcp::samples, model::AttemptId};

    /// A writer at work, the way to it, and the child's end of the pipe, which holds eight bytes.
    fn writer(link: &Arc<ConnectionState>) -> (AbortOnDropHandle<()>, StdinSender, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(8);
        let (writer, lines) = StdinWriter::new(ours, link.clone(), CancellationToken::new());
        (AbortOnDropHandle::new(tokio::spawn(writer.run())), lines, theirs)
    }

    fn calls() -> [Arc<CallState>; 3] {
        ["a", "b", "c"].map(|task| CallState::new(AttemptId { task: task.into(), number: 1 }))
    }

    #[tokio::test(start_paused = true)]
    async fn calls_count_as_sent_from_their_first_byte() {
        let link = samples::connection_state();
        let (_writer, lines, mut child) = writer(&link);
        let calls = calls();
        for (call, request) in calls.iter().zip(0..) {
            lines.send_call(b"12345".to_vec(), call.clone(), request).await.unwrap();
        }
        let sent = || calls.each_ref().map(|call| call.was_sent());
        // The clock goes on once nobody can do anything.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(sent(), [true, true, false]);
        let mut read = [0; 18];
        child.read_exact(&mut read).await.unwrap();
        assert_eq!((&read, sent()), (b"12345\n12345\n12345\n", [true; 3]));
    }

    #[tokio::test]
    async fn a_writer_that_panics_has_ended() {
        struct Broken;
        impl AsyncWrite for Broken {
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
        let (writer, lines) = StdinWriter::new(Broken, samples::connection_state(), CancellationToken::new());
        let ended = writer.ended();
        let _writer = AbortOnDropHandle::new(tokio::spawn(writer.run()));
        let [call, ..] = calls();
        lines.send_call(b"12345".to_vec(), call, 1).await.unwrap();
        ended.cancelled().await;
        assert!(lines.write(b"more".to_vec()).await.is_err());
    }

    #[tokio::test]
    async fn partly_written_calls_count_as_not_sent() {
        let link = samples::connection_state();
        let (_writer, lines, mut child) = writer(&link);
        let calls = calls();
        let mut answers = Vec::new();
        for (call, request) in calls.iter().zip(0..) {
            answers.push(link.calls.open(request, call));
            lines.send_call(b"12345".to_vec(), call.clone(), request).await.unwrap();
        }
        let mut read = [0; 6];
        child.read_exact(&mut read).await.unwrap();
        drop(child);
        for answer in &mut answers[1..] {
            let Ok(CallResponse::Failed(failure)) = answer.await else { panic!("the call has an answer") };
            assert_eq!(failure.kind, FailureKind::NotSent);
        }
        assert!(answers[0].try_recv().is_err());
        assert!(lines.write(b"more".to_vec()).await.is_err());
    }
}
