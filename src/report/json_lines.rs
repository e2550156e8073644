//! Prints every event of a run as a line of JSON, the text of its answer among them while it is written, and its result
//! as the last one (`--output stream-json`).
//! Never slows the run: a thread copies the lines from the journal as fast as they are taken, and keeps none.

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use futures::executor::block_on;
use serde::Serialize;
use tokio::sync::watch;

use super::{Reporter, text::safe_json};
use crate::{
    journal::{JournalError, JournalReader},
    model::{AttemptId, Record, RunId},
    synthesizer::RunResult,
};

/// Why lines are missing.
#[derive(Debug, thiserror::Error)]
pub enum JsonLinesError {
    /// The events could not be read.
    #[error("the events of the run cannot be read back")]
    Journal(#[from] JournalError),
    /// They could not be written, for another reason than that nobody reads any more.
    #[error("the events of the run cannot be written out")]
    Output(#[source] io::Error),
    /// The thread could not be started, or ended in a panic.
    #[error("the thread that writes the events of the run has failed")]
    Thread,
}

/// Most bytes of an answer's text that wait to be printed: many times the length of a usual answer. A reader that takes
/// none of it for so long misses the end, and finds the whole in the result.
const MAX_PENDING_DELTA_BYTES: usize = 1024 * 1024;

/// Prints a run as lines of JSON. It learns from the events only how far the journal is, so a reader of its output
/// that stops for an hour costs no memory.
#[derive(Debug)]
pub struct JsonLines<W> {
    /// How many events are durable: the number of the next one. Marked as changed when there is text, too.
    durable_seq: watch::Sender<u64>,
    /// Shared with the thread, which takes all at once; held only for that and to append.
    pending: Arc<Mutex<PendingDeltas>>,
    writer_thread: JoinHandle<Result<Option<W>, JsonLinesError>>,
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Starts to print the events of `run` from number `from_seq` on.
    ///
    /// # Errors
    /// When the journal cannot be read, or the thread cannot be started.
    pub fn start(journal: &Path, run: &RunId, from_seq: u64, output: W) -> Result<Self, JsonLinesError> {
        let reader = JournalReader::open(journal)?;
        let run = run.clone();
        let (durable, seen) = watch::channel(from_seq);
        let heard = Arc::<Mutex<PendingDeltas>>::default();
        let source = LineSource { reader, run, from_seq, durable_seq: seen, pending: Arc::clone(&heard) };
        let writer = thread::Builder::new()
            .name("json lines".into())
            .spawn(move || copy_lines(source, BufWriter::new(output)))
            .map_err(|_| JsonLinesError::Thread)?;
        Ok(Self { durable_seq: durable, pending: heard, writer_thread: writer })
    }

    /// Waits until every event is printed, then prints the result and gives the output back. Blocks for as long as
    /// the output does; `None` when nobody reads it any more, which is no error.
    ///
    /// # Errors
    /// When lines are missing.
    pub fn finish(self, result: &RunResult) -> Result<Option<W>, JsonLinesError> {
        // Its end tells the thread that there will be no more.
        drop(self.durable_seq);
        let Some(mut output) = self.writer_thread.join().map_err(|_| JsonLinesError::Thread)?? else { return Ok(None) };
        let last = ResultLine { kind: "result", result };
        let written = write_line(&mut output, &last).and_then(|()| output.flush());
        Ok(ignore_closed_pipe(written)?.map(|()| output))
    }
}

impl<W: Send> Reporter for JsonLines<W> {
    fn report(&mut self, records: &[Record]) {
        if let Some(last) = records.last() {
            self.durable_seq.send_replace(last.seq + 1);
        }
    }

    fn report_delta(&mut self, attempt: &AttemptId, text: &str) {
        lock(&self.pending).add(TextDelta {
            after_seq: *self.durable_seq.borrow(),
            attempt: attempt.clone(),
            text: text.to_owned(),
        });
        self.durable_seq.send_modify(|_| ());
    }
}

/// The text of an answer that is not printed yet.
#[derive(Debug, Default)]
struct PendingDeltas {
    deltas: Vec<TextDelta>,
    /// Bytes of text in `pieces`.
    size: usize,
    /// The turn whose text did not fit; what is printed of it stays a beginning.
    truncated_attempt: Option<AttemptId>,
}

/// Text of one turn of a synthesis.
#[derive(Debug)]
struct TextDelta {
    /// How many events came before it.
    after_seq: u64,
    attempt: AttemptId,
    text: String,
}

impl PendingDeltas {
    /// Takes a piece; with the last one, where that goes on in it and still waits.
    fn add(&mut self, piece: TextDelta) {
        if self.truncated_attempt.as_ref() == Some(&piece.attempt) {
            return;
        }
        if self.size + piece.text.len() > MAX_PENDING_DELTA_BYTES {
            self.truncated_attempt = Some(piece.attempt);
            return;
        }
        self.size += piece.text.len();
        match self.deltas.last_mut() {
            Some(last) if (last.after_seq, &last.attempt) == (piece.after_seq, &piece.attempt) => {
                last.text.push_str(&piece.text)
            }
            _ => self.deltas.push(piece),
        }
    }

    fn drain(&mut self) -> Vec<TextDelta> {
        self.size = 0;
        std::mem::take(&mut self.deltas)
    }
}

/// Appending and taking leave nothing half done.
fn lock(heard: &Mutex<PendingDeltas>) -> MutexGuard<'_, PendingDeltas> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A piece of an answer among events. It is none: it is in no journal and has no number.
#[derive(Serialize)]
struct DeltaLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    attempt: &'a AttemptId,
    text: &'a str,
}

/// The result as an event among events.
#[derive(Serialize)]
struct ResultLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    result: &'a RunResult,
}

/// Where lines come from.
struct LineSource {
    reader: JournalReader,
    run: RunId,
    /// The first event to print. The journal may be far beyond it before the thread begins.
    from_seq: u64,
    durable_seq: watch::Receiver<u64>,
    pending: Arc<Mutex<PendingDeltas>>,
}

/// Copies lines until there will be no more; `None` when nobody reads them any more.
fn copy_lines<W: Write>(source: LineSource, mut output: BufWriter<W>) -> Result<Option<W>, JsonLinesError> {
    let LineSource { reader, run, from_seq: mut next, durable_seq: mut durable, pending: heard } = source;
    let mut records = reader.raw_records(&run, next);
    loop {
        // Looked at before reading on, so that what was durable at the end is printed before the end is believed.
        let more = block_on(durable.changed()).is_ok();
        // Before the events, so that those which came before a piece are known.
        let pieces = lock(&heard).drain();
        let until = *durable.borrow();
        let places = pieces.iter().map(|piece| (piece.after_seq, Some(piece))).chain([(until, None)]);
        for (until, piece) in places {
            while next < until
                && let Some(record) = records.next()
            {
                let record = record?;
                next = record.seq + 1;
                if ignore_closed_pipe(writeln!(output, "{}", safe_json(&record.json)))?.is_none() {
                    return Ok(None);
                }
            }
            if let Some(TextDelta { attempt: turn, text, .. }) = piece {
                let line = DeltaLine { kind: "answer_delta", attempt: turn, text };
                if ignore_closed_pipe(write_line(&mut output, &line))?.is_none() {
                    return Ok(None);
                }
            }
        }
        if ignore_closed_pipe(output.flush())?.is_none() {
            return Ok(None);
        }
        if !more {
            return match output.into_inner() {
                Ok(output) => Ok(Some(output)),
                Err(error) => ignore_closed_pipe(Err(error.into_error())),
            };
        }
    }
}

fn write_line(output: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(line)?;
    writeln!(output, "{}", safe_json(&json))
}

/// A pipe that was closed is the reader's right: nothing to say, and nothing left to do.
pub(super) fn ignore_closed_pipe<T>(result: io::Result<T>) -> Result<Option<T>, JsonLinesError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(JsonLinesError::Output(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        journal::{Durability, Journal, SqliteJournal, samples},
        synthesizer::run_result,
    };

    /// A journal that takes what it is given and then tells the reporter, as a dispatcher does.
    fn print_run<W: Write + Send + 'static>(output: W) -> Result<Option<W>, JsonLinesError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let run = samples::sample_run_id();
        let mut lines = JsonLines::start(&path, &run, 0, output).expect("starts");
        let events = samples::sample_run();
        for part in events.chunks(4) {
            block_on(journal.append(&run, part.into())).expect("appends");
            lines.report(part);
        }
        lines.finish(&run_result(&run, &events))
    }

    fn expected() -> String {
        let events = samples::sample_run();
        let mut expected = String::new();
        for event in &events {
            expected += &(serde_json::to_string(event).expect("serialises") + "\n");
        }
        let result = serde_json::to_string(&run_result(&samples::sample_run_id(), &events)).expect("serialises");
        expected + "{\"type\":\"result\"," + &result[1..] + "\n"
    }

    #[test]
    fn prints_events_in_order_and_the_result_last() {
        let output = print_run(Vec::new()).expect("prints").expect("somebody reads");
        assert_eq!(String::from_utf8(output).expect("UTF-8"), expected());
    }

    #[test]
    fn late_thread_prints_everything() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let (run, events) = (samples::sample_run_id(), samples::sample_run());
        block_on(journal.append(&run, events.as_slice().into())).expect("appends");
        let (durable, seen) = watch::channel(0);
        durable.send_replace(events.len() as u64);
        drop(durable);
        let reader = JournalReader::open(&path).expect("opens");
        let source = LineSource { reader, run, from_seq: 0, durable_seq: seen, pending: Arc::default() };
        let output = copy_lines(source, BufWriter::new(Vec::new())).expect("prints").expect("somebody reads");
        assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), events.len());
    }

    #[test]
    fn stalled_output_does_not_block_the_run() {
        /// Writes nothing until it is told to.
        struct HeldWriter(mpsc::Receiver<()>, Vec<u8>);
        impl Write for HeldWriter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                self.1.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let run = samples::sample_run_id();
        let (release, held) = mpsc::channel();
        let mut lines = JsonLines::start(&path, &run, 0, HeldWriter(held, Vec::new())).expect("starts");
        let events = samples::sample_run();
        for event in &events {
            let part = std::slice::from_ref(event);
            block_on(journal.append(&run, part.into())).expect("appends");
            lines.report(part);
        }
        drop(release);
        let output = lines.finish(&run_result(&run, &events)).expect("prints").expect("somebody reads");
        assert_eq!(String::from_utf8(output.1).expect("UTF-8"), expected());
    }

    #[test]
    fn deltas_keep_their_position() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let run = samples::sample_run_id();
        let mut lines = JsonLines::start(&path, &run, 0, Vec::new()).expect("starts");
        let events = samples::sample_run();
        let (first, second) = events.split_at(2);
        let turn = AttemptId { task: "answer".into(), number: 1 };
        block_on(journal.append(&run, first.into())).expect("appends");
        lines.report(first);
        lines.report_delta(&turn, "a\n");
        lines.report_delta(&turn, "b");
        block_on(journal.append(&run, second.into())).expect("appends");
        lines.report(second);
        let output = lines.finish(&run_result(&run, &events)).expect("prints").expect("somebody reads");
        let printed = String::from_utf8(output).expect("UTF-8");
        // Two lines or one, as the thread found them.
        let printed: Vec<&str> = printed.lines().collect();
        let deltas: Vec<serde_json::Value> = printed[2..printed.len() - second.len() - 1]
            .iter()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let text: String = deltas.iter().filter_map(|delta| delta["text"].as_str()).collect();
        assert_eq!(text, "a\nb");
        for delta in &deltas {
            let text = &delta["text"];
            let expected = serde_json::json!({
                "type": "answer_delta", "attempt": {"task": "answer", "number": 1}, "text": text,
            });
            assert_eq!(*delta, expected);
        }
    }

    #[test]
    fn pending_deltas_are_merged_and_bounded() {
        let piece = |number, after, text: &str| TextDelta {
            after_seq: after,
            attempt: AttemptId { task: "answer".into(), number },
            text: text.to_owned(),
        };
        let mut heard = PendingDeltas::default();
        let half = "x".repeat(MAX_PENDING_DELTA_BYTES / 2);
        for piece in [piece(1, 7, &half), piece(1, 7, &half), piece(1, 7, "y"), piece(1, 7, "")] {
            heard.add(piece);
        }
        let waiting = |heard: &mut PendingDeltas| -> Vec<(u32, u64, usize)> {
            heard.drain().iter().map(|piece| (piece.attempt.number, piece.after_seq, piece.text.len())).collect()
        };
        assert_eq!(waiting(&mut heard), [(1, 7, MAX_PENDING_DELTA_BYTES)]);
        for piece in [piece(1, 7, "the end of what was missed"), piece(2, 9, "again"), piece(2, 10, "and on")] {
            heard.add(piece);
        }
        assert_eq!(waiting(&mut heard), [(2, 9, 5), (2, 10, 6)]);
    }

    /// Fails every write.
    #[derive(Debug)]
    struct FailingWriter(ErrorKind);
    impl Write for FailingWriter {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn closed_output_ends_printing_only() {
        assert!(print_run(FailingWriter(ErrorKind::BrokenPipe)).expect("is no error").is_none());
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_at_the_end() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("a mistake in an output")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(print_run(Broken), Err(JsonLinesError::Thread)));
    }

    #[test]
    fn output_errors_are_reported_at_the_end() {
        let error = print_run(FailingWriter(ErrorKind::StorageFull)).expect_err("fails");
        assert!(matches!(&error, JsonLinesError::Output(cause) if cause.kind() == ErrorKind::StorageFull), "{error:?}");
    }
}
