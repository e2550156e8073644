//! Prints every event of a run as a line of JSON, with the text of its answer as it is written (`--output
//! stream-json`). The last line is the result.
//! It never delays the run: a thread copies the lines from the journal at the pace of the reader, without buffering
//! them.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures::executor::block_on;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::reporter::Reporter;
use crate::journal::{JournalError, Store};
use crate::model::{AttemptId, Record, RunId};
use crate::view::text::safe_json;
use crate::view::{RunResult, RunView};

/// The reason that lines are missing.
#[derive(Debug, thiserror::Error)]
pub enum JsonLinesError {
    /// The events could not be read.
    #[error("the events of the run cannot be read back")]
    Journal(#[from] JournalError),
    /// The lines could not be written, for another reason than a closed pipe.
    #[error("the events of the run cannot be written out")]
    Output(#[source] io::Error),
    /// The thread could not be started, or it panicked.
    #[error("the thread that writes the events of the run has failed")]
    Thread,
}

/// The maximum size of answer text that waits to be printed: many times the size of a usual answer.
///
/// If the reader is too slow, the rest of the streamed text is dropped. The result has the complete answer.
const MAX_PENDING_DELTA_BYTES: usize = 1024 * 1024;

/// A reporter that prints a run as lines of JSON.
///
/// It keeps only the position in the journal, so a reader that stalls for an hour costs no memory.
#[derive(Debug)]
pub struct JsonLines<W> {
    /// The number of durable events, which is the sequence number of the next one. Also marked as changed for new text.
    durable_seq: watch::Sender<u64>,
    /// Shared with the thread, which drains all text at once. Locked only to drain or append.
    pending: Arc<Mutex<PendingDeltas>>,
    writer_thread: JoinHandle<Result<Option<W>, JsonLinesError>>,
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Starts to print the events of `run` in `store`, from sequence number `from_seq`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(store: Arc<dyn Store>, run: &RunId, from_seq: u64, output: W) -> Result<Self, JsonLinesError> {
        let run = run.clone();
        let (durable, seen) = watch::channel(from_seq);
        let pending = Arc::<Mutex<PendingDeltas>>::default();
        let source = LineSource { store, run, from_seq, durable_seq: seen, pending: Arc::clone(&pending) };
        let writer = thread::Builder::new()
            .name("json lines".into())
            .spawn(move || copy_lines(source, BufWriter::new(output)))
            .map_err(|_| JsonLinesError::Thread)?;
        Ok(Self { durable_seq: durable, pending, writer_thread: writer })
    }

    /// Waits until every event is printed, prints the result, and returns the output.
    ///
    /// Blocks as long as the output does. Returns `None` if the reader closed the output, which is not an error.
    ///
    /// # Errors
    /// When lines are missing.
    pub fn finish(self, result: &RunResult) -> Result<Option<W>, JsonLinesError> {
        // Dropping the sender ends the thread after the last event.
        drop(self.durable_seq);
        let Some(mut output) = self.writer_thread.join().map_err(|_| JsonLinesError::Thread)?? else { return Ok(None) };
        let written = write_line(&mut output, &ExtraLine::Result(result)).and_then(|()| output.flush());
        Ok(ignore_closed_pipe(written)?.map(|()| output))
    }
}

impl<W: Send> Reporter for JsonLines<W> {
    fn report(&mut self, _: &RunView, record: &Record) {
        // The thread is notified once a batch.
        self.durable_seq.send_if_modified(|next| {
            *next = record.seq + 1;
            false
        });
    }

    fn flush(&mut self) {
        self.durable_seq.send_modify(|_| ());
    }

    fn report_delta(&mut self, attempt: &AttemptId, text: &str) {
        self.pending.lock().add(TextDelta {
            after_seq: *self.durable_seq.borrow(),
            attempt: attempt.clone(),
            text: text.to_owned(),
        });
        self.durable_seq.send_modify(|_| ());
    }
}

/// Answer text that is not printed yet.
#[derive(Debug, Default)]
struct PendingDeltas {
    deltas: Vec<TextDelta>,
    /// The bytes of text in `deltas`.
    size: usize,
    /// The attempt whose text exceeded the limit. Only the beginning of its text is printed.
    truncated_attempt: Option<AttemptId>,
}

/// A piece of text from one attempt of a synthesis.
#[derive(Debug)]
struct TextDelta {
    /// The number of events before the text.
    after_seq: u64,
    attempt: AttemptId,
    text: String,
}

impl PendingDeltas {
    /// Adds a piece of text, merged with the last one if both belong to the same attempt and position.
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

/// A line that is not an event: it has no sequence number and is not in the journal.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ExtraLine<'a> {
    /// A piece of answer text.
    AnswerDelta { attempt: &'a AttemptId, text: &'a str },
    /// The result of the run.
    Result(&'a RunResult),
}

/// The source of the lines.
struct LineSource {
    store: Arc<dyn Store>,
    run: RunId,
    /// The first event to print. The journal may be far ahead when the thread starts.
    from_seq: u64,
    durable_seq: watch::Receiver<u64>,
    pending: Arc<Mutex<PendingDeltas>>,
}

/// Copies lines until the sender is dropped. Returns `None` if the reader closed the output.
fn copy_lines<W: Write>(source: LineSource, mut output: BufWriter<W>) -> Result<Option<W>, JsonLinesError> {
    let LineSource { store, run, from_seq: mut next, durable_seq: mut durable, pending } = source;
    // Checked before reading, so that all events that were durable at the end are printed.
    let mut more = block_on(durable.changed()).is_ok();
    // A new journal is there only when the run has begun.
    let reader = store.open_reader()?;
    let mut records = reader.raw_records(&run, next);
    loop {
        // Drained before reading the position, so that all events before a piece are known.
        let pieces = pending.lock().drain();
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
            if let Some(TextDelta { attempt, text, .. }) = piece {
                let line = ExtraLine::AnswerDelta { attempt, text };
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
        more = block_on(durable.changed()).is_ok();
    }
}

fn write_line(output: &mut impl Write, line: &ExtraLine<'_>) -> io::Result<()> {
    let json = serde_json::to_string(line)?;
    writeln!(output, "{}", safe_json(&json))
}

/// Treats a closed pipe as success without a value, because the reader may stop at any time.
pub(crate) fn ignore_closed_pipe<T>(result: io::Result<T>) -> Result<Option<T>, JsonLinesError> {
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
    use crate::journal::{Durability, MemoryJournal, samples};
    use crate::ui::reporters::reporter::report_batch;
    use crate::view::run_result;

    /// Prints a run from a journal that is appended to and then reported, as a dispatcher does.
    fn print_run<W: Write + Send + 'static>(output: W) -> Result<Option<W>, JsonLinesError> {
        let store = MemoryJournal::default();
        let journal = store.open_writer(Durability::Normal).expect("opens");
        let run = samples::sample_run_id();
        let mut lines = JsonLines::start(Arc::new(store.clone()), &run, 0, output).expect("starts");
        let events = samples::sample_run();
        for part in events.chunks(4) {
            block_on(journal.append(&run, part.into())).expect("appends");
            report_batch(&mut lines, part);
        }
        lines.finish(&run_result(&run, &events))
    }

    fn expected() -> String {
        let events = samples::sample_run();
        let mut expected = String::new();
        for event in &events {
            expected += &(serde_json::to_string(event).expect("serializes") + "\n");
        }
        let result = serde_json::to_string(&run_result(&samples::sample_run_id(), &events)).expect("serializes");
        expected + "{\"type\":\"result\"," + &result[1..] + "\n"
    }

    #[test]
    fn prints_events_in_order_and_the_result_last() {
        let output = print_run(Vec::new()).expect("prints").expect("a reader");
        assert_eq!(String::from_utf8(output).expect("UTF-8"), expected());
    }

    #[test]
    fn late_thread_prints_everything() {
        let store = MemoryJournal::default();
        let journal = store.open_writer(Durability::Normal).expect("opens");
        let (run, events) = (samples::sample_run_id(), samples::sample_run());
        block_on(journal.append(&run, events.as_slice().into())).expect("appends");
        let (durable, seen) = watch::channel(0);
        durable.send_replace(events.len() as u64);
        drop(durable);
        let source =
            LineSource { store: Arc::new(store), run, from_seq: 0, durable_seq: seen, pending: Arc::default() };
        let output = copy_lines(source, BufWriter::new(Vec::new())).expect("prints").expect("a reader");
        assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), events.len());
    }

    #[test]
    fn stalled_output_does_not_block_the_run() {
        /// Blocks in each write until the test releases it.
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
        let store = MemoryJournal::default();
        let journal = store.open_writer(Durability::Normal).expect("opens");
        let run = samples::sample_run_id();
        let (release, held) = mpsc::channel();
        let mut lines =
            JsonLines::start(Arc::new(store.clone()), &run, 0, HeldWriter(held, Vec::new())).expect("starts");
        let events = samples::sample_run();
        for event in &events {
            let part = std::slice::from_ref(event);
            block_on(journal.append(&run, part.into())).expect("appends");
            report_batch(&mut lines, part);
        }
        drop(release);
        let output = lines.finish(&run_result(&run, &events)).expect("prints").expect("a reader");
        assert_eq!(String::from_utf8(output.1).expect("UTF-8"), expected());
    }

    #[test]
    fn deltas_keep_their_position() {
        let store = MemoryJournal::default();
        let journal = store.open_writer(Durability::Normal).expect("opens");
        let run = samples::sample_run_id();
        let mut lines = JsonLines::start(Arc::new(store.clone()), &run, 0, Vec::new()).expect("starts");
        let events = samples::sample_run();
        let (first, second) = events.split_at(2);
        let attempt = AttemptId { task: "answer".into(), number: 1 };
        block_on(journal.append(&run, first.into())).expect("appends");
        report_batch(&mut lines, first);
        lines.report_delta(&attempt, "a\n");
        lines.report_delta(&attempt, "b");
        block_on(journal.append(&run, second.into())).expect("appends");
        report_batch(&mut lines, second);
        let output = lines.finish(&run_result(&run, &events)).expect("prints").expect("a reader");
        let printed = String::from_utf8(output).expect("UTF-8");
        // One line or two, depending on when the thread drained the text.
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
        let mut pending = PendingDeltas::default();
        let half = "x".repeat(MAX_PENDING_DELTA_BYTES / 2);
        for piece in [piece(1, 7, &half), piece(1, 7, &half), piece(1, 7, "y"), piece(1, 7, "")] {
            pending.add(piece);
        }
        let waiting = |pending: &mut PendingDeltas| -> Vec<(u32, u64, usize)> {
            pending.drain().iter().map(|piece| (piece.attempt.number, piece.after_seq, piece.text.len())).collect()
        };
        assert_eq!(waiting(&mut pending), [(1, 7, MAX_PENDING_DELTA_BYTES)]);
        for piece in [piece(1, 7, "the end of the truncated text"), piece(2, 9, "again"), piece(2, 10, "and on")] {
            pending.add(piece);
        }
        assert_eq!(waiting(&mut pending), [(2, 9, 5), (2, 10, 6)]);
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
        assert!(print_run(FailingWriter(ErrorKind::BrokenPipe)).expect("a closed pipe is not an error").is_none());
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_at_the_end() {
        struct PanickingSink;
        impl Write for PanickingSink {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("a mistake in an output")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(matches!(print_run(PanickingSink), Err(JsonLinesError::Thread)));
    }

    #[test]
    fn output_errors_are_reported_at_the_end() {
        let error = print_run(FailingWriter(ErrorKind::StorageFull)).expect_err("fails");
        assert!(matches!(&error, JsonLinesError::Output(cause) if cause.kind() == ErrorKind::StorageFull), "{error:?}");
    }
}
