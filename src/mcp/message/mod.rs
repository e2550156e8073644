//! Reads and writes the messages of MCP, leniently where their meaning is clear.

pub(crate) mod call_request;
pub(crate) mod call_response;
pub(crate) mod codec;
pub(crate) mod data_result;
pub(crate) mod failure;
pub(crate) mod lenient_json;
pub(crate) mod limits;
pub(crate) mod request_id;
pub(crate) mod server_info;
pub(crate) mod service_request;
pub(crate) mod service_result;
pub(crate) mod tool_listing;
