//! What shell commands and HTTP requests have in common.

use serde_json::Value;

use crate::config::agents::host_section::HostPermissionError;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::{TASK, TaskKeys};
use crate::config::schema::table::{CheckedTable, Key};
use crate::model::{Effect, Operation, Work};

/// The keys of other work.
pub(super) static OTHER_WORK_KEYS: [&Key<TaskKeys>; 17] = [
    &TASK.agent,
    &TASK.capability,
    &TASK.tool,
    &TASK.with,
    &TASK.read,
    &TASK.awaits,
    &TASK.fallback,
    &TASK.prompt,
    &TASK.use_prompt,
    &TASK.model,
    &TASK.system,
    &TASK.output_schema,
    &TASK.tools,
    &TASK.max_turns,
    &TASK.max_tokens,
    &TASK.shell,
    &TASK.http,
];

/// Warns that a run of the plan is not allowed. A run turns the warning into an error.
pub(super) fn warn_not_allowed(allowed: Result<(), HostPermissionError>, at: SourceSpan, sink: &mut DiagnosticSink) {
    if let Err(HostPermissionError { code, message, help }) = allowed {
        sink.warning(code, at, message).help(help);
    }
}

/// Returns the expected codes of a task, from its own key or the one of its work.
pub(super) fn expected_codes<K>(
    task: CheckedTable<'_, TaskKeys>,
    (work, key): (CheckedTable<'_, K>, &Key<K>),
    sink: &mut DiagnosticSink,
) -> Option<Value> {
    let own = task.has(&TASK.expect);
    if let (true, Some(at)) = (own, work.key_span(key)) {
        sink.error("duplicate_key", at, "`expect` is set for the task, too").help("remove one of them");
    }
    let codes: Vec<u16> = if own { task.integer_list(&TASK.expect) } else { work.integer_list(key) };
    (!codes.is_empty()).then(|| codes.into())
}

/// Returns the effect of what the host does, if neither the task nor the plan sets one. That of a command is unknown.
pub(in crate::config::validate) fn default_effect(work: &Work) -> Option<Effect> {
    let Work::Call(call) = work else { return None };
    if call.operation != Operation::SendRequest {
        return None;
    }
    Some(match call.arguments.0.get("method").and_then(Value::as_str) {
        None | Some("GET" | "HEAD" | "OPTIONS") => Effect::ReadOnly,
        Some("PUT" | "DELETE") => Effect::Idempotent,
        Some(_) => Effect::AtMostOnce,
    })
}
