//! The terminal: one screen, one source of typed input, and the questions on it.

mod approval;
pub(crate) mod controlling_terminal;
mod dialogue;
mod key_reader;
mod keyboard;
mod keys;
mod line_editor;
pub(crate) mod line_reader;
mod prompt_status;
pub mod prompter;
pub mod screen;
pub(crate) mod status_line;
mod text_editor;
