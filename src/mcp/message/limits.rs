//! Defines the size limits of what agents send.

/// The maximum length of the instructions of a server, in bytes.
pub(crate) const MAX_INSTRUCTIONS_BYTES: usize = 16 * 1024;
/// The maximum length of a log message's text, or of its data as JSON, in bytes.
pub(crate) const MAX_LOG_BYTES: usize = 8 * 1024;
/// The maximum size of the parameters of a request or notification that are parsed, in bytes. Parsed JSON takes many
/// times as much memory.
pub(crate) const MAX_PARAMS_BYTES: usize = 4 * 1024 * 1024;
