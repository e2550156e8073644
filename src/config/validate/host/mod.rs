//! Reads the tasks that the host does itself: shell commands, and HTTP requests.

mod common;
mod http;
mod shell;

pub(super) use common::default_effect;
pub(super) use http::read_request;
pub(super) use shell::read_command;
