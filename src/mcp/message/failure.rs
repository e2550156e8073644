//! Converts messages of an agent into failures that state precisely what is known about the request.

use rmcp::model::ErrorData;

use super::service_result::UNREADABLE;
use crate::model::text::truncate_bytes;
use crate::model::{AgentId, Failure, FailureKind, Operation, ToolCall};

/// The JSON-RPC error code for a resource that does not exist, up to 2025-11-25.
pub(crate) const RESOURCE_NOT_FOUND: i32 = -32002;
/// The maximum length of an agent's own message in a failure, in bytes.
const MAX_AGENT_MESSAGE_BYTES: usize = 2_000;

/// Returns the trimmed message of an agent, truncated to the length that a failure can hold.
pub(crate) fn agent_message(text: &str) -> String {
    let mut text = text.trim().to_owned();
    truncate_bytes(&mut text, MAX_AGENT_MESSAGE_BYTES);
    text
}

/// Returns the failure for a message that exceeds the limit of `max_bytes`.
pub(crate) fn message_too_large(agent: &AgentId, max_bytes: usize) -> Failure {
    let message = format!("agent `{agent}` sent a message of more than {}", display_bytes(max_bytes));
    Failure::new(FailureKind::ResultTooLarge, message).with_help(format!(
        "let the tool return a resource link or smaller results, or raise `max_message_bytes` in `[agents.{agent}]`"
    ))
}

/// Formats a number of bytes in the largest unit that divides it.
pub(crate) fn display_bytes(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    match bytes {
        bytes if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        bytes if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} bytes"),
    }
}

/// Returns the failure for an unreadable response. The `reason` includes an excerpt.
pub(crate) fn unreadable_response(agent: &AgentId, reason: &str) -> Failure {
    let message = format!("agent `{agent}` sent an invalid response: {}", agent_message(reason));
    Failure::new(FailureKind::InvalidResult, message)
}

/// Returns the failure for a call that was answered with a JSON-RPC error.
pub(crate) fn from_rpc(agent: &AgentId, error: &ErrorData) -> Failure {
    if error.code == UNREADABLE {
        return unreadable_response(agent, &error.message);
    }
    let (kind, outcome) = match error.code.0 {
        -32600 | -32601 | -32602 | -32700 => (FailureKind::Refused, "refused the call"),
        _ => (FailureKind::ServerError, "failed"),
    };
    let reason = agent_message(&error.message);
    Failure::new(kind, format!("agent `{agent}` {outcome}: {reason} (JSON-RPC {})", error.code.0))
}

/// Returns whether the message of an error means that the server's library refuses requests to the client on modern
/// connections. The Python SDK 2, FastMCP 4, and rmcp 3 have such messages.
pub(crate) fn refuses_modern_requests(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let names = |words: &[&str]| words.iter().any(|word| message.contains(word));
    names(&["server-initiated", "server-to-client"]) && names(&["2026-07-28", "back-channel"])
}

/// Returns the failure for `call` that was answered with a JSON-RPC error. A missing resource or method stays missing.
pub(crate) fn of_call(call: &ToolCall, error: &ErrorData) -> Failure {
    let failure = from_rpc(&call.agent, error);
    match (call.operation, error.code.0) {
        (Operation::CallTool, _) => failure,
        (Operation::ReadResource, RESOURCE_NOT_FOUND) => Failure { kind: FailureKind::Refused, ..failure },
        (operation, -32601) => {
            let (agent, method) = (&call.agent, operation.method());
            failure.with_help(format!("agent `{agent}` does not support `{method}`; use another agent or a tool"))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_modern_requests_are_recognized() {
        for message in [
            "elicitation via server-initiated requests is unavailable on 2026-07-28 connections.",
            "server-initiated sampling is not available on MCP 2026-07-28 connections; SEP-2577 removed it",
            "Error executing tool ask: Cannot send 'elicitation/create': this transport context has no back-channel for \
             server-initiated requests.",
            "server-to-client requests are not allowed on protocol 2026-07-28 or later; return InputRequiredResult \
             instead",
        ] {
            assert!(refuses_modern_requests(message), "{message}");
        }
        for message in [
            "the user declined",
            "no flight on 2026-07-28",
            "the server-initiated transfer failed",
            "no back-channel to the camera",
        ] {
            assert!(!refuses_modern_requests(message), "{message}");
        }
    }

    #[test]
    fn rpc_codes_map_to_failure_kinds() {
        for (code, expected) in [
            (-32600, FailureKind::Refused),
            (-32601, FailureKind::Refused),
            (-32602, FailureKind::Refused),
            (-32700, FailureKind::Refused),
            (-32603, FailureKind::ServerError),
            (-32000, FailureKind::ServerError),
            (7, FailureKind::ServerError),
        ] {
            let error = ErrorData::new(rmcp::model::ErrorCode(code), "no", None);
            assert_eq!(from_rpc(&AgentId::from("a"), &error).kind, expected, "{code}");
        }
    }
}
