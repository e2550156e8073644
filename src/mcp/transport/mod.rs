//! Carries messages: over the pipes of a process, or over HTTP.

pub(crate) mod call_transport;
pub(crate) mod endpoint;
pub(crate) mod http;
pub(crate) mod http_channel;
pub(crate) mod http_response;
pub(crate) mod http_sse;
mod incoming;
pub(crate) mod mcp_headers;
pub(crate) mod request_failure;
pub(crate) mod request_id_map;
pub(crate) mod resumable_stream;
pub(crate) mod service_transport;
pub(crate) mod sse;
pub(crate) mod stdio;
