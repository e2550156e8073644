//! Reads and writes the messages of MCP, leniently where their meaning is clear.

pub(crate) mod codec;
pub(crate) mod lenient_json;
pub(crate) mod server_info;
pub(crate) mod tool_listing;
pub(crate) mod tool_result;
