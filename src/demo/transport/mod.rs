//! Serves the demo agents over standard input and output, and over HTTP.

pub(crate) mod event_store;
pub(crate) mod http;
pub(crate) mod sessions;
pub(crate) mod stdio;
