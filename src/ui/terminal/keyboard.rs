//! The source of typed input: single keys, or lines on a terminal without them.

use super::key_reader::KeyReader;
use super::line_reader::LineReader;

/// The source of typed input.
pub(super) enum Keyboard {
    /// Single keys, which kapell echoes.
    Keys(KeyReader),
    /// Lines, which the terminal echoes.
    Lines(LineReader),
}

impl Keyboard {
    /// Begins a question, for which nothing was typed yet.
    pub(super) fn open(&self) {
        match self {
            Self::Keys(keys) => keys.open(),
            Self::Lines(lines) => lines.discard_pending_input(),
        }
    }

    /// Ends a question. Input that was typed for it must reach neither the next question nor the shell.
    pub(super) fn close(&self) {
        match self {
            Self::Keys(keys) => keys.close(),
            Self::Lines(lines) => lines.discard_pending_input(),
        }
    }

    /// Returns whether the input comes from a terminal, which can ring its bell.
    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Keys(_) => true,
            Self::Lines(lines) => lines.is_terminal(),
        }
    }
}
