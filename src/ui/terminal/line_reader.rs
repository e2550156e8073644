//! Reads typed lines in a separate thread, and only while a line is requested: on terminals without single keys.
//! It never blocks the runtime, and never passes a line to a question that was withdrawn.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::controlling_terminal::{is_in_foreground, wait_for_input};

/// The maximum length of a line. Typed lines are far shorter.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// Lines that are typed at a terminal.
pub(crate) struct LineReader {
    shared: Arc<LineReaderShared>,
    /// The terminal, to discard input that was typed but not read.
    terminal: Option<File>,
}

struct LineReaderShared {
    /// Held briefly, and never during a read.
    slot: Mutex<LineSlot>,
    changed: Condvar,
}

/// The state of the current request. At most one line is requested at a time, so one slot is enough.
#[derive(Default)]
struct LineSlot {
    waiter: Option<oneshot::Sender<Option<String>>>,
    /// The reader thread has ended.
    has_ended: bool,
    /// No more lines will be requested.
    is_closed: bool,
}

impl LineSlot {
    /// Removes the waiter, unless the question was withdrawn.
    fn pop_waiter(&mut self) -> Option<oneshot::Sender<Option<String>>> {
        self.waiter.take().filter(|waiter| !waiter.is_closed())
    }

    fn has_waiter(&self) -> bool {
        self.waiter.as_ref().is_some_and(|waiter| !waiter.is_closed())
    }
}

impl LineReaderShared {
    fn slot(&self) -> MutexGuard<'_, LineSlot> {
        self.slot.lock()
    }

    /// Waits until a line is requested. Returns `None` if the reader is closed.
    fn wait_for_request(&self) -> Option<MutexGuard<'_, LineSlot>> {
        let mut slot = self.slot();
        while !slot.has_waiter() && !slot.is_closed {
            self.changed.wait(&mut slot);
        }
        (!slot.is_closed).then_some(slot)
    }
}

impl LineReader {
    /// Starts to read lines of `input`.
    pub(crate) fn new(input: impl BufRead + Send + 'static) -> io::Result<Self> {
        Self::start(input, None, || true)
    }

    /// Starts to read lines that are typed at a terminal.
    pub(crate) fn from_terminal(terminal: File) -> io::Result<Self> {
        let (input, awaited) = (io::BufReader::new(terminal.try_clone()?), terminal.try_clone()?);
        // Without a question, a line is for another reader of the terminal, such as the prompt of a session.
        Self::start(input, Some(terminal), move || wait_for_input(&awaited))
    }

    fn start(
        input: impl BufRead + Send + 'static,
        terminal: Option<File>,
        wait_for_input: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(LineReaderShared { slot: Mutex::default(), changed: Condvar::new() });
        let reader = Arc::clone(&shared);
        // The thread may block in a read forever, so it is never joined.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_lines(input, &reader, wait_for_input))?;
        Ok(Self { shared, terminal })
    }

    /// Discards input that was typed but not read, including a partial line.
    pub(crate) fn discard_pending_input(&self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|terminal| is_in_foreground(terminal)) {
            // If the terminal is gone, there is nothing to discard.
            let _ = tcflush(terminal, FlushArg::TCIFLUSH);
        }
    }

    /// Stops the terminal from showing what is typed, until the result is dropped.
    pub(crate) fn hide_echo(&self) -> HiddenEcho<'_> {
        let terminal = self.terminal.as_ref();
        let before = terminal.and_then(|terminal| tcgetattr(terminal).ok());
        if let (Some(terminal), Some(before)) = (terminal, &before) {
            let mut hidden = before.clone();
            hidden.local_flags.remove(LocalFlags::ECHO);
            let _ = tcsetattr(terminal, SetArg::TCSANOW, &hidden);
        }
        HiddenEcho { terminal, before }
    }

    /// Returns whether the lines come from a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Returns whether no further line can be read.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.slot().has_ended
    }

    /// Returns the next line without its line break, or `None` at the end of the input (Ctrl-D). An end applies to one
    /// question only.
    pub(crate) async fn next_line(&self) -> Option<String> {
        let (waiter, answer) = oneshot::channel();
        {
            let mut slot = self.shared.slot();
            if slot.has_ended {
                return None;
            }
            slot.waiter = Some(waiter);
        }
        self.shared.changed.notify_one();
        answer.await.ok().flatten()
    }
}

/// A terminal that does not show what is typed.
pub(crate) struct HiddenEcho<'t> {
    terminal: Option<&'t File>,
    /// The settings to restore.
    before: Option<Termios>,
}

impl Drop for HiddenEcho<'_> {
    fn drop(&mut self) {
        if let (Some(terminal), Some(before)) = (self.terminal, &self.before) {
            // If the terminal is gone, there is nothing to restore.
            let _ = tcsetattr(terminal, SetArg::TCSANOW, before);
        }
    }
}

impl Drop for LineReader {
    fn drop(&mut self) {
        self.shared.slot().is_closed = true;
        self.shared.changed.notify_one();
    }
}

/// Wakes the waiter when the thread ends, even by a panic.
struct Ended<'a>(&'a LineReaderShared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut slot = self.0.slot();
        slot.has_ended = true;
        slot.waiter = None;
    }
}

/// Reads requested lines. `wait_for_input` waits a moment, and returns whether a read may return a line.
fn read_lines(mut input: impl BufRead, shared: &LineReaderShared, wait_for_input: impl Fn() -> bool) {
    let _ended = Ended(shared);
    while shared.wait_for_request().is_some() {
        if !wait_for_input() || !shared.slot().has_waiter() {
            continue;
        }
        let mut line = Vec::new();
        let read = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        let line = read.ok().filter(|count| *count > 0).map(|_| decode_line(&line));
        // A line that was typed for a withdrawn question must not answer the next one.
        if let Some(waiter) = shared.slot().pop_waiter() {
            // The question may be withdrawn at this moment, which is harmless.
            let _ = waiter.send(line);
        }
    }
}

fn decode_line(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::BufReader;
    use std::sync::mpsc;

    use super::*;

    /// Input that a test provides key by key.
    pub(crate) struct ScriptedKeyboard(mpsc::Receiver<&'static str>);

    impl Read for ScriptedKeyboard {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let text = self.0.recv().unwrap_or_default();
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    /// Returns the sender and the reader of a keyboard. An empty text is Ctrl-D.
    pub(crate) fn keyboard() -> (mpsc::Sender<&'static str>, BufReader<ScriptedKeyboard>) {
        let (keys, pressed) = mpsc::channel();
        (keys, BufReader::new(ScriptedKeyboard(pressed)))
    }

    #[tokio::test]
    async fn lines_come_in_order_whatever_their_bytes() {
        let input: &[u8] = b"one\r\ntw\xff\n\nlast";
        let lines = LineReader::new(input).expect("a thread");
        for expected in [Some("one"), Some("tw\u{fffd}"), Some(""), Some("last"), None, None] {
            assert_eq!(lines.next_line().await.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn a_reader_that_panics_is_the_end_of_the_input() {
        struct PanickingKeyboard;
        impl Read for PanickingKeyboard {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("a mistake in a reader")
            }
        }
        let lines = LineReader::new(BufReader::new(PanickingKeyboard)).expect("a thread");
        assert_eq!([lines.next_line().await, lines.next_line().await], [None, None]);
    }

    #[tokio::test]
    async fn end_of_terminal_input_ends_one_question() {
        let (keys, input) = keyboard();
        let lines = LineReader::new(input).expect("a thread");
        keys.send("").expect("a reader");
        assert_eq!(lines.next_line().await, None);
        keys.send("again\n").expect("a reader");
        assert_eq!(lines.next_line().await.as_deref(), Some("again"));
    }

    #[tokio::test]
    async fn terminal_line_answers_the_open_question() {
        let (keys, input) = keyboard();
        let lines = LineReader::new(input).expect("a thread");
        let withdrawn = tokio::time::timeout(std::time::Duration::ZERO, lines.next_line());
        assert!(withdrawn.await.is_err());
        let (line, ()) = tokio::join!(lines.next_line(), async { keys.send("for the second\n").expect("a reader") });
        assert_eq!(line.as_deref(), Some("for the second"));
    }
}
