//! Sample runs for tests: one that uses every kind of event, and a helper to write others as JSON.

use serde_json::{Value, json};

use crate::model::{Record, RunId};

/// Returns the ID of [`sample_run`].
pub(crate) fn sample_run_id() -> RunId {
    RunId::from("01990000-0000-7000-8000-00000000abcd")
}

/// Returns records of events in JSON, numbered from 0, one second apart.
pub(crate) fn records_from_events(events: Value) -> Vec<Record> {
    let Value::Array(events) = events else { panic!("expected a list of events") };
    let number = |(seq, mut event): (usize, Value)| {
        event["seq"] = json!(seq);
        event["at"] = json!(1_700_000_000_000_u64 + seq as u64 * 1_000);
        serde_json::from_value(event.clone()).unwrap_or_else(|error| panic!("{error} in {event}"))
    };
    events.into_iter().enumerate().map(number).collect()
}

/// Returns a task of a plan as JSON; `extra` overrides the default fields.
pub(crate) fn sample_task(id: &str, extra: Value) -> Value {
    let mut task = json!({
        "id": id, "needs": [], "work": {"call": {"routes": [{"agent": "travel", "tool": "book"}], "with": {}}},
        "retry": {"max_attempts": 1, "backoff": {"initial": "1s", "factor": 2.0, "max": "30s", "jitter": 0.5}},
        "on_failure": "fail",
    });
    let Value::Object(extra) = extra else { panic!("expected an object") };
    task.as_object_mut().expect("an object").extend(extra);
    task
}

/// Returns the event that starts a run of these tasks.
pub(crate) fn run_started_event(tasks: Value) -> Value {
    json!({
        "type": "run_started", "seed": u64::MAX, "inputs": {"city": "Lisbon"},
        "plan": {"name": "lisbon", "inputs": {}, "max_parallel": 4, "tasks": tasks, "agents": {}},
    })
}

/// Returns a run in which every kind of event occurs once.
pub(crate) fn sample_run() -> Vec<Record> {
    let origin = json!({"agent": "travel", "attempt": {"task": "book", "number": 1}});
    records_from_events(json!([
        run_started_event(json!([
            sample_task("book", json!({"title": "Book a hotel"})),
            sample_task("read", json!({"foreach": {"items": "${{ inputs.pages }}", "as": "page"}})),
            sample_task("file", json!({"needs": ["read"], "if": "false"})),
            sample_task("post", json!({"on_failure": "continue"})),
        ])),
        {"type": "agent_connecting", "agent": "travel"},
        {"type": "agent_connected", "agent": "travel", "info": {
            "protocol": "2025-11-25", "server": "travel 1.0",
            "tools": [{"name": "book", "input_schema": {"type": "object"}, "effect": "at_most_once"}],
        }},
        {"type": "agent_unavailable", "agent": "archive",
            "failure": {"kind": "agent_unavailable", "message": "`archive` ended at once", "help": "run it by hand"}},
        {"type": "attempt_started", "attempt": {"task": "book", "number": 1}, "agent": "travel", "tool": "book"},
        {"type": "attempt_progressed", "attempt": {"task": "book", "number": 1},
            "progress": {"progress": 1.0, "total": 4.0, "message": "looking for hotels"}},
        {"type": "agent_logged", "origin": origin, "message": {"level": "info", "data": {"found": [1, 2.5, null]}}},
        {"type": "question_asked", "request": "r1", "question": {
            "id": "q1", "asker": {"agent": origin}, "message": "Book for 420 €?",
            "form": {"fields": {"schema": {"type": "object"}}},
        }},
        {"type": "question_answered", "question": "q1", "by": "person",
            "answer": {"action": "accept", "content": {"confirm": true}}},
        {"type": "attempt_failed", "attempt": {"task": "book", "number": 1},
            "failure": {"kind": "connection_lost", "message": "the connection was lost"}},
        {"type": "retry_scheduled", "task": "book", "ready_at": 1_700_000_012_000_u64, "agent": "travel",
            "reason": "the connection was lost"},
        {"type": "attempt_started", "attempt": {"task": "book", "number": 2}, "agent": "travel", "tool": "book"},
        {"type": "input_required", "attempt": {"task": "book", "number": 2}, "round": 1, "request_state": "s",
            "requests": {"confirm": {"method": "elicitation/create"}}},
        {"type": "attempt_succeeded", "attempt": {"task": "book", "number": 2},
            "output": {"content": [{"type": "text", "text": "booked"}], "structured": {"id": 7}}},
        {"type": "tasks_added", "parent": "read", "items": ["a", "b"]},
        {"type": "attempt_started", "attempt": {"task": "read[1]", "number": 1}, "agent": "research", "tool": "fetch"},
        {"type": "sampling_started", "request": "r2",
            "origin": {"agent": "research"},
            "chat": {"messages": [{"role": "user", "parts": [{"type": "text", "text": "Sum it up"}]}], "max_tokens": 100, "temperature": 0.5}},
        {"type": "sampling_finished", "request": "r2", "result": {"Ok": {
            "parts": [{"type": "text", "text": "short"}], "model": "m", "stop_reason": "endTurn", "usage": {"input_tokens": 20, "output_tokens": 3},
        }}},
        {"type": "attempt_succeeded", "attempt": {"task": "read[1]", "number": 1},
            "output": {"content": [{"type": "text", "text": "second page"}]}},
        {"type": "attempt_started", "attempt": {"task": "read[0]", "number": 1}, "agent": "research", "tool": "fetch"},
        {"type": "attempt_failed", "attempt": {"task": "read[0]", "number": 1},
            "failure": {"kind": "tool_error", "message": "no such page"}},
        {"type": "task_ended", "task": "read[0]",
            "outcome": {"failed": {"kind": "tool_error", "message": "no such page"}}},
        {"type": "task_ended", "task": "read", "outcome": {"failed":
            {"kind": "items_failed", "message": "1 of 2 items failed", "help": "`on_failure: continue` goes on"}}},
        {"type": "task_ended", "task": "file", "outcome": {"skipped": {"condition_false": {"condition": "false"}}}},
        {"type": "question_asked", "question": {
            "id": "q2", "asker": {"plan": {"task": "post"}}, "message": "Post it?", "form": "approval",
        }},
        {"type": "question_deferred", "question": "q2", "reason": "no one answered"},
        {"type": "cancel_requested"},
        {"type": "task_ended", "task": "post", "outcome": "cancelled"},
        {"type": "tool_approved", "agent": "travel", "tool": "book", "by": "person"},
        {"type": "answer_accepted", "task": "file", "output": {"content": [{"type": "text", "text": "x"}], "cached": true,
            "saved": {"name": "x.txt", "path": "/runs/x.txt", "bytes": 1}}},
        {"type": "run_ended", "status": "cancelled", "outputs": {"hotel": 7},
            "output_errors": {"pages": "`read` failed"}},
    ]))
}
