//! Carries messages over the pipes of a child process.

mod message_lines;
pub(crate) mod pipes;
pub(crate) mod probe;
pub(crate) mod stdin_writer;
pub(crate) mod unread_input;
