//! The terminal: one screen, one reader of lines, and the questions on it.

pub(crate) mod line_reader;
pub mod prompter;
pub mod screen;
