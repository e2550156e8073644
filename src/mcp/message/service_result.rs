//! Represents responses that rmcp must not parse, or that cannot be parsed, as values that rmcp passes on.

use rmcp::model::{CustomResult, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage, ServerResult};
use serde_json::Value;

/// The internal code of an error that represents an unreadable response. No server sends it.
pub(crate) const UNREADABLE: ErrorCode = ErrorCode(i32::MIN);

/// Builds an error that represents the unreadable response to request `id` of rmcp's service.
pub(crate) fn unreadable_response(id: RequestId, reason: String) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(UNREADABLE, reason, None), Some(id))
}

/// Wraps the JSON of a result, so that rmcp passes it on without parsing it.
pub(crate) fn wrap_text(result: &str) -> ServerResult {
    ServerResult::CustomResult(CustomResult(Value::String(result.to_owned())))
}

/// Returns the JSON that [`wrap_text`] wrapped.
pub(crate) fn unwrap_text(result: ServerResult) -> Result<String, Box<ServerResult>> {
    match result {
        ServerResult::CustomResult(CustomResult(Value::String(text))) => Ok(text),
        other => Err(Box::new(other)),
    }
}
