//! Reads lines at the terminal with editing, history, and completion. The editor blocks, so it has a thread of its own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc;

use nix::sys::termios::{self, SetArg, Termios};
use rustyline::config::Configurer as _;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Behavior, CompletionType, Config, Editor};
use tokio::sync::oneshot;

use super::line_completer::LineCompleter;
use crate::journal;
use crate::system::files::open_in_own_directory;

/// The maximum number of lines of the history.
const MAX_HISTORY_LINES: usize = 1_000;

/// The text that ends the reporting of pastes, which the editor begins.
const END_BRACKETED_PASTE: &str = "\x1b[?2004l";

/// What a person typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TypedLine {
    /// A line.
    Line(String),
    /// Ctrl-C, which discards the line.
    Cleared,
    /// Ctrl-D on an empty line, or the end of the input.
    End,
}

/// Whether a line is added to the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistoryPolicy {
    /// It is a command.
    Keep,
    /// It is an answer.
    Omit,
}

/// An editor of lines.
pub(super) struct CommandEditor {
    requests: mpsc::Sender<LineRequest>,
    /// The settings of the terminal before the first line.
    settings: Option<Termios>,
}

struct LineRequest {
    prompt: String,
    history: HistoryPolicy,
    typed: oneshot::Sender<TypedLine>,
}

impl CommandEditor {
    /// Starts the thread of the editor.
    ///
    /// # Errors
    /// Fails if the system cannot start another thread, or the terminal cannot be used.
    pub(super) fn start(completer: LineCompleter) -> io::Result<Self> {
        let settings = termios::tcgetattr(io::stdin().as_fd()).ok();
        let (requests, requested) = mpsc::channel::<LineRequest>();
        let (ready, started) = mpsc::channel();
        std::thread::Builder::new().name("line editor".to_owned()).spawn(move || match new_editor(completer) {
            Ok((editor, history)) => {
                // The receiver waits for this message.
                drop(ready.send(Ok(())));
                read_lines(editor, history, &requested);
            }
            Err(error) => drop(ready.send(Err(io::Error::other(error)))),
        })?;
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the line editor ended")))?;
        Ok(Self { requests, settings })
    }

    /// Reads the next line. At most one line is read at a time.
    pub(super) async fn read_line(&self, prompt: &str, history: HistoryPolicy) -> TypedLine {
        let (typed, line) = oneshot::channel();
        let request = LineRequest { prompt: prompt.to_owned(), history, typed };
        if self.requests.send(request).is_err() {
            return TypedLine::End;
        }
        line.await.unwrap_or(TypedLine::End)
    }

    /// Restores the terminal while a line is read, before the process ends.
    pub(super) fn restore_terminal(&self) {
        if let Some(settings) = &self.settings {
            // If the terminal is gone, there is nothing to restore.
            let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, settings);
            let mut out = io::stdout();
            let _ = out.write_all(END_BRACKETED_PASTE.as_bytes()).and_then(|()| out.write_all(b"\n"));
            let _ = out.flush();
        }
    }
}

type RustylineEditor = Editor<LineCompleter, FileHistory>;

fn new_editor(completer: LineCompleter) -> rustyline::Result<(RustylineEditor, Option<PathBuf>)> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .history_ignore_space(true)
        .history_ignore_dups(true)?
        .behavior(Behavior::Stdio)
        .build();
    let mut editor = RustylineEditor::with_config(config)?;
    editor.set_max_history_size(MAX_HISTORY_LINES)?;
    editor.set_helper(Some(completer));
    // Without a history, every line can still be typed.
    let history = open_history().inspect_err(|error| tracing::debug!(%error, "the history cannot be kept")).ok();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    Ok((editor, history))
}

/// Creates the file of the history, private to its owner, and returns its path.
fn open_history() -> io::Result<PathBuf> {
    let path = journal::state_directory().map_err(io::Error::other)?.join("repl_history");
    let _: File = open_in_own_directory(&path, fs::OpenOptions::new().append(true).create(true))?;
    Ok(path)
}

fn read_lines(mut editor: RustylineEditor, history: Option<PathBuf>, requested: &mpsc::Receiver<LineRequest>) {
    while let Ok(LineRequest { prompt, history: policy, typed }) = requested.recv() {
        let line = match editor.readline(&prompt) {
            Ok(line) => TypedLine::Line(line),
            Err(ReadlineError::Interrupted) => TypedLine::Cleared,
            Err(_) => TypedLine::End,
        };
        if let (TypedLine::Line(line), HistoryPolicy::Keep) = (&line, policy)
            && !line.trim().is_empty()
            && editor.add_history_entry(line.as_str()).unwrap_or_default()
            && let Some(path) = &history
        {
            let _ = editor.append_history(path);
        }
        // The session waits for the line, or has ended.
        drop(typed.send(line));
    }
}
