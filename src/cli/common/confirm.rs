//! Asks for a yes at the terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use super::exit::print_prompt;
use crate::ui::terminal::controlling_terminal::is_in_foreground;
use crate::ui::terminal::line_reader::LineReader;

/// Asks a person at the terminal. Returns false without one, and for every answer but `y` and `yes`.
pub(crate) async fn confirm(question: &str) -> bool {
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    let Ok(terminal) = stdin.as_fd().try_clone_to_owned().map(File::from) else { return false };
    // Reading from the terminal in the background would stop the process.
    if !is_in_foreground(&terminal) {
        return false;
    }
    let Ok(lines) = LineReader::from_terminal(terminal) else { return false };
    print_prompt(&format!("{question} [y/N]"));
    let answer = lines.next_line().await.unwrap_or_default();
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
