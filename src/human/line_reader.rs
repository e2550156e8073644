//! Reads lines that a person types, in a thread of its own, and only while somebody waits for one.
//! Never makes the runtime wait, and never hands a line to a question that was withdrawn.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::termios::{FlushArg, tcflush},
    unistd::{getpgrp, tcgetpgrp},
};
use tokio::sync::oneshot;

/// The longest line that is read; what a person types is far shorter.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// Lines that are typed at a terminal.
pub(super) struct LineReader {
    shared: Arc<LineReaderShared>,
    /// The terminal, for what is typed and not read yet.
    terminal: Option<File>,
}

struct LineReaderShared {
    /// Held for moments only: nothing is read under it.
    slot: Mutex<LineSlot>,
    changed: Condvar,
}

/// At most one line is asked for at a time, so one place is enough.
#[derive(Default)]
struct LineSlot {
    waiter: Option<oneshot::Sender<Option<String>>>,
    /// The thread that reads has ended.
    has_ended: bool,
    /// Nobody will ask again.
    is_closed: bool,
}

impl LineSlot {
    /// Takes the asker, unless the question was withdrawn meanwhile.
    fn pop_waiter(&mut self) -> Option<oneshot::Sender<Option<String>>> {
        self.waiter.take().filter(|asker| !asker.is_closed())
    }

    fn has_waiter(&self) -> bool {
        self.waiter.as_ref().is_some_and(|asker| !asker.is_closed())
    }
}

impl LineReaderShared {
    fn slot(&self) -> MutexGuard<'_, LineSlot> {
        // Each change of the slot is whole before anything in it could panic.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody asks; nothing when nobody will.
    fn wait_for_request(&self) -> Option<MutexGuard<'_, LineSlot>> {
        let mut slot = self.slot();
        while !slot.has_waiter() && !slot.is_closed {
            slot = self.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        (!slot.is_closed).then_some(slot)
    }
}

impl LineReader {
    /// Lines of `input`.
    pub(super) fn new(input: impl BufRead + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(LineReaderShared { slot: Mutex::default(), changed: Condvar::new() });
        let reader = Arc::clone(&shared);
        // The thread may stay in a read for ever, so nobody waits for its end.
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || read_lines(input, &reader))?;
        Ok(Self { shared, terminal: None })
    }

    /// Lines that are typed at a terminal.
    pub(super) fn from_terminal(terminal: File) -> io::Result<Self> {
        let mut lines = Self::new(io::BufReader::new(terminal.try_clone()?))?;
        lines.terminal = Some(terminal);
        Ok(lines)
    }

    /// Throws away what is typed and not read yet, half a line included.
    pub(super) fn discard_pending_input(&self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|terminal| is_in_foreground(terminal)) {
            // A terminal that is gone has nothing to throw away.
            let _ = tcflush(terminal, FlushArg::TCIFLUSH);
        }
    }

    /// The next line without its end, or nothing where the input ends (Ctrl-D), which ends one question only.
    pub(super) async fn next_line(&self) -> Option<String> {
        let (asker, answer) = oneshot::channel();
        {
            let mut slot = self.shared.slot();
            if slot.has_ended {
                return None;
            }
            slot.waiter = Some(asker);
        }
        self.shared.changed.notify_one();
        answer.await.ok().flatten()
    }
}

/// Returns whether this process may use the terminal now: one in the background is stopped for trying.
pub(super) fn is_in_foreground(terminal: &File) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}

impl Drop for LineReader {
    fn drop(&mut self) {
        self.shared.slot().is_closed = true;
        self.shared.changed.notify_one();
    }
}

/// Ends the wait of whoever asks when the thread ends, also by a panic.
struct Ended<'a>(&'a LineReaderShared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut slot = self.0.slot();
        slot.has_ended = true;
        slot.waiter = None;
    }
}

fn read_lines(mut input: impl BufRead, shared: &LineReaderShared) {
    let _ended = Ended(shared);
    while shared.wait_for_request().is_some() {
        let mut line = Vec::new();
        let read = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
        let line = read.ok().filter(|count| *count > 0).map(|_| decode_line(&line));
        // What was typed for a question that is gone must not answer the next one.
        if let Some(asker) = shared.slot().pop_waiter() {
            // Withdrawn in this very moment: the same as a moment earlier.
            let _ = asker.send(line);
        }
    }
}

fn decode_line(line: &[u8]) -> String {
    strip_control_sequences(String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']))
}

/// Removes control sequences, such as those of arrow keys and of pasting, and control characters other than tabs and
/// line ends.
pub(super) fn strip_control_sequences(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let introducer = match c {
            '\x1b' => match rest.next() {
                Some(introducer) => introducer,
                None => break,
            },
            // The eight-bit forms of the same.
            '\u{9b}' => '[',
            '\u{8f}' => 'O',
            '\u{9d}' | '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => ']',
            '\n' | '\t' => {
                kept.push(c);
                continue;
            }
            c => {
                kept.extend((!c.is_control()).then_some(c));
                continue;
            }
        };
        match introducer {
            '[' => {
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(|c| matches!(c, '@'..='~'));
            }
            'O' => {
                rest.next_if(|c| c.is_ascii_alphanumeric());
            }
            ']' | 'P' | 'X' | '^' | '_' => {
                while let Some(c) = rest.next() {
                    if matches!(c, '\x07' | '\u{9c}') || c == '\x1b' && rest.next_if_eq(&'\\').is_some() {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
pub(super) mod tests {
    use std::{io::BufReader, sync::mpsc};

    use super::*;

    /// Keys that a test presses when it wants.
    pub(in crate::human) struct Keyboard(mpsc::Receiver<&'static str>);

    impl Read for Keyboard {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let text = self.0.recv().unwrap_or_default();
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    /// A keyboard and what it is connected to. An empty text is Ctrl-D.
    pub(in crate::human) fn keyboard() -> (mpsc::Sender<&'static str>, BufReader<Keyboard>) {
        let (keys, pressed) = mpsc::channel();
        (keys, BufReader::new(Keyboard(pressed)))
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
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("a mistake in a reader")
            }
        }
        let lines = LineReader::new(BufReader::new(Broken)).expect("a thread");
        assert_eq!([lines.next_line().await, lines.next_line().await], [None, None]);
    }

    #[test]
    fn strips_typed_control_sequences() {
        for (typed, kept) in [
            ("ab\x1b[A\x1b[D\x1b[1;5Cc", "abc"),
            ("\x1b[200~pasted text\x1b[201~", "pasted text"),
            ("\x1bOP\x1bOAx", "x"),
            ("a\x1b]0;title\x07b\x1b]8;;u\x1b\\c", "abc"),
            ("a\u{9b}31mb\u{9d}0;t\u{9c}c\u{85}", "abc"),
            ("a\x08\x7f\x00b\x1b", "ab"),
            ("\x1b[3~\x1bb \u{fc}\t[A", " \u{fc}\t[A"),
        ] {
            assert_eq!(decode_line(typed.as_bytes()), kept, "{typed:?}");
        }
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
