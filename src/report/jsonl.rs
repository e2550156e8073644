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
    journal::{JournalError, Reader},
    model::{AttemptId, Record, RunId},
    synthesizer::RunResult,
};

/// Why lines are missing.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
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
const MOST_HEARD: usize = 1024 * 1024;

/// Prints a run as lines of JSON. It learns from the events only how far the journal is, so a reader of its output
/// that stops for an hour costs no memory.
#[derive(Debug)]
pub struct JsonLines<W> {
    /// How many events are durable: the number of the next one. Marked as changed when there is text, too.
    durable: watch::Sender<u64>,
    /// Shared with the thread, which takes all at once; held only for that and to append.
    heard: Arc<Mutex<Heard>>,
    writer: JoinHandle<Result<Option<W>, LinesError>>,
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Starts to print the events of `run` from number `from_seq` on.
    ///
    /// # Errors
    /// When the journal cannot be read, or the thread cannot be started.
    pub fn start(journal: &Path, run: &RunId, from_seq: u64, output: W) -> Result<Self, LinesError> {
        let reader = Reader::open(journal)?;
        let run = run.clone();
        let (durable, seen) = watch::channel(from_seq);
        let heard = Arc::<Mutex<Heard>>::default();
        let source = Source { reader, run, from_seq, durable: seen, heard: Arc::clone(&heard) };
        let writer = thread::Builder::new()
            .name("json lines".into())
            .spawn(move || copy(source, BufWriter::new(output)))
            .map_err(|_| LinesError::Thread)?;
        Ok(Self { durable, heard, writer })
    }

    /// Waits until every event is printed, then prints the result and gives the output back. Blocks for as long as
    /// the output does; `None` when nobody reads it any more, which is no error.
    ///
    /// # Errors
    /// When lines are missing.
    pub fn finish(self, result: &RunResult) -> Result<Option<W>, LinesError> {
        // Its end tells the thread that there will be no more.
        drop(self.durable);
        let Some(mut output) = self.writer.join().map_err(|_| LinesError::Thread)?? else { return Ok(None) };
        let last = LastLine { kind: "result", result };
        let written = write_line(&mut output, &last).and_then(|()| output.flush());
        Ok(unless_closed(written)?.map(|()| output))
    }
}

impl<W: Send> Reporter for JsonLines<W> {
    fn report(&mut self, records: &[Record]) {
        if let Some(last) = records.last() {
            self.durable.send_replace(last.seq + 1);
        }
    }

    fn hear(&mut self, turn: &AttemptId, text: &str) {
        lock(&self.heard).add(Piece { after: *self.durable.borrow(), turn: turn.clone(), text: text.to_owned() });
        self.durable.send_modify(|_| ());
    }
}

/// The text of an answer that is not printed yet.
#[derive(Debug, Default)]
struct Heard {
    pieces: Vec<Piece>,
    /// Bytes of text in `pieces`.
    size: usize,
    /// The turn whose text did not fit; what is printed of it stays a beginning.
    missed: Option<AttemptId>,
}

/// Text of one turn of a synthesis.
#[derive(Debug)]
struct Piece {
    /// How many events came before it.
    after: u64,
    turn: AttemptId,
    text: String,
}

impl Heard {
    /// Takes a piece; with the last one, where that goes on in it and still waits.
    fn add(&mut self, piece: Piece) {
        if self.missed.as_ref() == Some(&piece.turn) {
            return;
        }
        if self.size + piece.text.len() > MOST_HEARD {
            self.missed = Some(piece.turn);
            return;
        }
        self.size += piece.text.len();
        match self.pieces.last_mut() {
            Some(last) if (last.after, &last.turn) == (piece.after, &piece.turn) => last.text.push_str(&piece.text),
            _ => self.pieces.push(piece),
        }
    }

    fn take(&mut self) -> Vec<Piece> {
        self.size = 0;
        std::mem::take(&mut self.pieces)
    }
}

/// Appending and taking leave nothing half done.
fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
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
struct LastLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    result: &'a RunResult,
}

/// Where lines come from.
struct Source {
    reader: Reader,
    run: RunId,
    /// The first event to print. The journal may be far beyond it before the thread begins.
    from_seq: u64,
    durable: watch::Receiver<u64>,
    heard: Arc<Mutex<Heard>>,
}

/// Copies lines until there will be no more; `None` when nobody reads them any more.
fn copy<W: Write>(source: Source, mut output: BufWriter<W>) -> Result<Option<W>, LinesError> {
    let Source { reader, run, from_seq: mut next, mut durable, heard } = source;
    let mut records = reader.raw(&run, next);
    loop {
        // Looked at before reading on, so that what was durable at the end is printed before the end is believed.
        let more = block_on(durable.changed()).is_ok();
        // Before the events, so that those which came before a piece are known.
        let pieces = lock(&heard).take();
        let until = *durable.borrow();
        let places = pieces.iter().map(|piece| (piece.after, Some(piece))).chain([(until, None)]);
        for (until, piece) in places {
            while next < until
                && let Some(record) = records.next()
            {
                let record = record?;
                next = record.seq + 1;
                if unless_closed(writeln!(output, "{}", safe_json(&record.json)))?.is_none() {
                    return Ok(None);
                }
            }
            if let Some(Piece { turn, text, .. }) = piece {
                let line = DeltaLine { kind: "answer_delta", attempt: turn, text };
                if unless_closed(write_line(&mut output, &line))?.is_none() {
                    return Ok(None);
                }
            }
        }
        if unless_closed(output.flush())?.is_none() {
            return Ok(None);
        }
        if !more {
            return match output.into_inner() {
                Ok(output) => Ok(Some(output)),
                Err(error) => unless_closed(Err(error.into_error())),
            };
        }
    }
}

fn write_line(output: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(line)?;
    writeln!(output, "{}", safe_json(&json))
}

/// A pipe that was closed is the reader's right: nothing to say, and nothing left to do.
pub(super) fn unless_closed<T>(result: io::Result<T>) -> Result<Option<T>, LinesError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(LinesError::Output(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        journal::{Durability, Journal, SqliteJournal, samples},
        synthesizer::merge,
    };

    /// A journal that takes what it is given and then tells the reporter, as a dispatcher does.
    fn run_through<W: Write + Send + 'static>(output: W) -> Result<Option<W>, LinesError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let run = samples::run();
        let mut lines = JsonLines::start(&path, &run, 0, output).expect("starts");
        let events = samples::journey();
        for part in events.chunks(4) {
            block_on(journal.append(&run, part.into())).expect("appends");
            lines.report(part);
        }
        lines.finish(&merge(&run, &events))
    }

    fn expected() -> String {
        let events = samples::journey();
        let mut expected = String::new();
        for event in &events {
            expected += &(serde_json::to_string(event).expect("serialises") + "\n");
        }
        let result = serde_json::to_string(&merge(&samples::run(), &events)).expect("serialises");
        expected + "{\"type\":\"result\"," + &result[1..] + "\n"
    }

    #[test]
    fn prints_every_event_in_order_and_the_result_last() {
        let output = run_through(Vec::new()).expect("prints").expect("somebody reads");
        assert_eq!(String::from_utf8(output).expect("UTF-8"), expected());
    }

    #[test]
    fn a_thread_that_begins_late_misses_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let (run, events) = (samples::run(), samples::journey());
        block_on(journal.append(&run, events.as_slice().into())).expect("appends");
        let (durable, seen) = watch::channel(0);
        durable.send_replace(events.len() as u64);
        drop(durable);
        let reader = Reader::open(&path).expect("opens");
        let source = Source { reader, run, from_seq: 0, durable: seen, heard: Arc::default() };
        let output = copy(source, BufWriter::new(Vec::new())).expect("prints").expect("somebody reads");
        assert_eq!(output.iter().filter(|byte| **byte == b'\n').count(), events.len());
    }

    #[test]
    fn an_output_that_takes_nothing_for_the_whole_run_holds_up_nobody_and_gets_everything() {
        /// Writes nothing until it is told to.
        struct Held(mpsc::Receiver<()>, Vec<u8>);
        impl Write for Held {
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
        let run = samples::run();
        let (release, held) = mpsc::channel();
        let mut lines = JsonLines::start(&path, &run, 0, Held(held, Vec::new())).expect("starts");
        let events = samples::journey();
        for event in &events {
            let part = std::slice::from_ref(event);
            block_on(journal.append(&run, part.into())).expect("appends");
            lines.report(part);
        }
        drop(release);
        let output = lines.finish(&merge(&run, &events)).expect("prints").expect("somebody reads");
        assert_eq!(String::from_utf8(output.1).expect("UTF-8"), expected());
    }

    #[test]
    fn the_pieces_of_an_answer_stand_where_they_were_heard() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let run = samples::run();
        let mut lines = JsonLines::start(&path, &run, 0, Vec::new()).expect("starts");
        let events = samples::journey();
        let (first, second) = events.split_at(2);
        let turn = AttemptId { task: "answer".into(), number: 1 };
        block_on(journal.append(&run, first.into())).expect("appends");
        lines.report(first);
        lines.hear(&turn, "a\n");
        lines.hear(&turn, "b");
        block_on(journal.append(&run, second.into())).expect("appends");
        lines.report(second);
        let output = lines.finish(&merge(&run, &events)).expect("prints").expect("somebody reads");
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
    fn what_waits_of_an_answer_is_one_piece_and_of_a_bounded_size() {
        let piece = |number, after, text: &str| Piece {
            after,
            turn: AttemptId { task: "answer".into(), number },
            text: text.to_owned(),
        };
        let mut heard = Heard::default();
        let half = "x".repeat(MOST_HEARD / 2);
        for piece in [piece(1, 7, &half), piece(1, 7, &half), piece(1, 7, "y"), piece(1, 7, "")] {
            heard.add(piece);
        }
        let waiting = |heard: &mut Heard| -> Vec<(u32, u64, usize)> {
            heard.take().iter().map(|piece| (piece.turn.number, piece.after, piece.text.len())).collect()
        };
        assert_eq!(waiting(&mut heard), [(1, 7, MOST_HEARD)]);
        for piece in [piece(1, 7, "the end of what was missed"), piece(2, 9, "again"), piece(2, 10, "and on")] {
            heard.add(piece);
        }
        assert_eq!(waiting(&mut heard), [(2, 9, 5), (2, 10, 6)]);
    }

    /// Fails every write.
    #[derive(Debug)]
    struct Failing(ErrorKind);
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_output_ends_the_printing_and_nothing_else() {
        assert!(run_through(Failing(ErrorKind::BrokenPipe)).expect("is no error").is_none());
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
        assert!(matches!(run_through(Broken), Err(LinesError::Thread)));
    }

    #[test]
    fn any_other_failure_of_the_output_is_told_at_the_end() {
        let error = run_through(Failing(ErrorKind::StorageFull)).expect_err("fails");
        assert!(matches!(&error, LinesError::Output(cause) if cause.kind() == ErrorKind::StorageFull), "{error:?}");
    }
}
