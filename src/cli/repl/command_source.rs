//! The source of a session's lines: a person at a terminal, or a pipe or file.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use super::command_editor::{CommandEditor, HistoryPolicy, TypedLine};
use super::line_completer::LineCompleter;
use crate::cli::CliError;

/// The maximum length of a line from a pipe.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// The source of a session's lines.
pub(super) enum CommandSource {
    /// A person at a terminal.
    Terminal(CommandEditor),
    /// A pipe or a file, one command a line. No prompt is printed.
    Input,
}

impl CommandSource {
    /// Returns the terminal if standard input and standard output are one, and standard input otherwise.
    ///
    /// # Errors
    /// Fails if the terminal cannot be used.
    pub(super) fn open(completer: LineCompleter) -> Result<Self, CliError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Input);
        }
        let editor = CommandEditor::start(completer);
        editor.map(Self::Terminal).map_err(|error| CliError::failed("cli::terminal", "cannot read the terminal", error))
    }

    /// Reads the next line.
    ///
    /// # Errors
    /// Fails if standard input cannot be read.
    pub(super) async fn next_line(&self, prompt: &str) -> Result<TypedLine, CliError> {
        match self {
            Self::Terminal(editor) => Ok(editor.read_line(prompt, HistoryPolicy::Keep).await),
            Self::Input => {
                let read =
                    tokio::task::spawn_blocking(read_line).await.unwrap_or_else(|error| Err(io::Error::other(error)));
                read.map_err(|error| CliError::failed("cli::input", "cannot read standard input", error))
            }
        }
    }
}

/// Reads a line of standard input.
fn read_line() -> io::Result<TypedLine> {
    let mut line = Vec::new();
    let read = io::stdin().lock().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    Ok(match read {
        0 => TypedLine::End,
        _ => TypedLine::Line(String::from_utf8_lossy(&line).into_owned()),
    })
}
