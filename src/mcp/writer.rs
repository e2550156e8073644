//! Writes messages to a child's standard input, one a line, and as many at once as wait.
//! Never lets two mix, and says of each call whether its request began to leave.

use std::{io, sync::Arc};

use tokio::{
    io::AsyncWriteExt as _,
    process::ChildStdin,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{
    calls::{Answer, InFlight},
    link::Link,
};
use crate::model::{Failure, FailureKind};

/// Lines that wait while a child does not read: more than a run has calls under way on one process. Whoever has another
/// one then waits too.
const QUEUE: usize = 1_024;
/// Lines that are written at once: what gathers while one write is under way, as a rule.
const BATCH: usize = 64;

/// The way into a child's input.
#[derive(Debug, Clone)]
pub(super) struct Lines(mpsc::Sender<Line>);

#[derive(Debug)]
struct Line {
    /// With its end.
    text: Vec<u8>,
    whose: Whose,
}

/// Who is told how it went.
#[derive(Debug)]
enum Whose {
    /// The request of a call, and its id.
    Call(Arc<InFlight>, i64),
    Service(oneshot::Sender<io::Result<()>>),
    Nobody,
}

/// Writes until it is told to stop.
pub(super) struct Writer {
    link: Arc<Link>,
    input: ChildStdin,
    lines: mpsc::Receiver<Line>,
    /// Ends the writer once everything that waits is written.
    closing: CancellationToken,
}

/// The child's input is closed.
#[derive(Debug)]
pub(super) struct Closed;

impl Lines {
    /// Has the request of a call written. Ends when there is room for it.
    pub(super) async fn call(&self, message: Vec<u8>, call: Arc<InFlight>, request: i64) -> Result<(), Closed> {
        self.queue(message, Whose::Call(call, request)).await
    }

    /// Has a message written of which nobody wants to know whether it was.
    pub(super) async fn tell(&self, message: Vec<u8>) -> Result<(), Closed> {
        self.queue(message, Whose::Nobody).await
    }

    /// Writes a message. Ends when it is written.
    pub(super) async fn write(&self, message: Vec<u8>) -> io::Result<()> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let (written, outcome) = oneshot::channel();
        self.queue(message, Whose::Service(written)).await.map_err(|Closed| closed())?;
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn queue(&self, mut text: Vec<u8>, whose: Whose) -> Result<(), Closed> {
        text.push(b'\n');
        self.0.send(Line { text, whose }).await.map_err(|_| Closed)
    }
}

impl Writer {
    /// A writer into `input`, and the way to it.
    pub(super) fn new(input: ChildStdin, link: Arc<Link>, closing: CancellationToken) -> (Self, Lines) {
        let (sender, lines) = mpsc::channel(QUEUE);
        (Self { link, input, lines, closing }, Lines(sender))
    }

    pub(super) async fn run(mut self) {
        let mut lines = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.lines.recv_many(&mut lines, BATCH) => taken,
                () = self.closing.cancelled() => 0,
            };
            if taken == 0 {
                return;
            }
            self.write(&mut lines).await;
        }
    }

    async fn write(&mut self, lines: &mut Vec<Line>) {
        let mut text = match lines.as_mut_slice() {
            [only] => std::mem::take(&mut only.text),
            _ => Vec::new(),
        };
        let mut ends = vec![text.len()];
        if lines.len() > 1 {
            ends.clear();
            for line in &*lines {
                text.extend_from_slice(&line.text);
                ends.push(text.len());
            }
        }
        let (mut written, mut begun) = (0, 0);
        let mut error = None;
        while written < text.len() {
            match self.input.write(&text[written..]).await {
                Ok(0) => error = Some(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(failed) => error = Some(failed),
            }
            // A call is on its way as soon as its first byte is.
            while begun < lines.len() && (begun == 0 || ends[begun - 1] < written) && written > 0 {
                if let Whose::Call(call, _) = &lines[begun].whose {
                    call.leaves();
                }
                begun += 1;
            }
            if error.is_some() {
                break;
            }
        }
        for (line, end) in lines.drain(..).zip(ends) {
            let outcome = match &error {
                Some(error) if end > written => Err(error),
                _ => Ok(()),
            };
            self.tell(line.whose, outcome);
        }
    }

    fn tell(&self, whose: Whose, outcome: Result<(), &io::Error>) {
        match (whose, outcome) {
            (Whose::Nobody | Whose::Call(..), Ok(())) | (Whose::Nobody, Err(_)) => {}
            // A line that was not written to its end is a line that the child has not read.
            (Whose::Call(_, request), Err(cause)) => {
                let message = format!("the call could not be written to agent `{}`: {cause}", self.link.agent);
                let failure = Failure::new(FailureKind::NotSent, message);
                self.link.calls.answer(request, Answer::None(failure));
            }
            (Whose::Service(waiting), outcome) => {
                let outcome = outcome.map_err(|error| {
                    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
                });
                // Whoever waited may be gone by now.
                let _ = waiting.send(outcome);
            }
        }
    }
}
