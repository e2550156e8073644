//! The results of runs as their events show them.

use std::sync::Arc;

use serde_json::json;

use super::{RunView, run_result};
use crate::journal::samples;
use crate::model::Event;
use crate::view::{RunResult, TaskStatus};

#[test]
fn run_result_serializes_events() {
    let result = run_result(&samples::sample_run_id(), &samples::sample_run());
    let expected = json!({
        "run": "01990000-0000-7000-8000-00000000abcd",
        "status": "cancelled",
        "outputs": {"hotel": 7},
        "output_errors": {"pages": "`read` failed"},
        "spent": {
            "llm_calls": 1, "tool_calls": 4, "input_tokens": 20, "output_tokens": 3, "unreported_replies": 0,
        },
        "tasks": {
            "book": {
                "status": "succeeded", "agent": "travel", "tool": "book", "attempts": 2,
                "output": {"id": 7}, "error": null, "skipped_because": null,
            },
            "read": {
                "status": "failed", "agent": null, "tool": null, "attempts": 2, "output": null,
                "error": {
                    "kind": "items_failed", "message": "1 of 2 items failed",
                    "help": "`on_failure: continue` goes on",
                },
                "skipped_because": null,
                "items": [
                    {
                        "status": "failed", "agent": "research", "tool": "fetch", "attempts": 1, "output": null,
                        "error": {"kind": "tool_error", "message": "no such page"}, "skipped_because": null,
                    },
                    {
                        "status": "succeeded", "agent": "research", "tool": "fetch", "attempts": 1,
                        "output": "second page", "error": null, "skipped_because": null,
                    },
                ],
            },
            "file": {
                "status": "skipped", "agent": null, "tool": null, "attempts": 0, "output": null, "error": null,
                "skipped_because": "its condition `false` is false",
            },
            "post": {
                "status": "cancelled", "agent": null, "tool": null, "attempts": 0, "output": null, "error": null,
                "skipped_because": null,
            },
        },
    });
    assert_eq!(serde_json::to_string(&result).expect("serializes"), expected.to_string());
}

#[test]
fn running_run_reports_task_progress() {
    let events = samples::sample_run();
    let statuses = |until: usize| -> Vec<_> {
        run_result(&samples::sample_run_id(), &events[..until]).tasks.values().map(|task| task.status).collect()
    };
    use TaskStatus::{Running, Succeeded, Waiting};
    assert_eq!(statuses(0), []);
    assert_eq!(statuses(1), [Waiting; 4]);
    assert_eq!(statuses(5), [Running, Waiting, Waiting, Waiting]);
    assert_eq!(statuses(10), [Waiting; 4]);
    assert_eq!(statuses(15), [Succeeded, Running, Waiting, Waiting]);
}

#[test]
fn result_shares_outputs_with_events() {
    let events = samples::sample_run();
    let result = run_result(&samples::sample_run_id(), &events);
    let shared = events.iter().any(|record| match &record.event {
        Event::AttemptSucceeded { output, .. } => {
            result.tasks["book"].output.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, output))
        }
        _ => false,
    });
    assert!(shared);
}

#[test]
fn replanned_tasks_precede_synthesis() {
    let synthesis = json!({"work": {"synthesis": {"prompt": "Sum up", "max_turns": 1, "max_tokens": 9}}});
    let planned = json!([samples::sample_task("a", json!({})), samples::sample_task("answer", synthesis)]);
    let patch = json!({"added": [samples::sample_task("b", json!({}))]});
    let events = samples::records_from_events(json!([
        samples::run_started_event(planned),
        {"type": "replan_started", "number": 1, "failed": ["a"]},
        {"type": "replanned", "number": 1, "result": {"Ok": patch}},
    ]));
    let result = run_result(&samples::sample_run_id(), &events);
    let tasks: Vec<_> = result.tasks.iter().map(|(id, task)| (id.as_str(), task.replanned)).collect();
    assert_eq!(tasks, [("a", Some(1)), ("b", None), ("answer", None)]);
}

#[test]
fn events_of_unknown_tasks_are_ignored() {
    let mut events = samples::sample_run();
    let before = run_result(&samples::sample_run_id(), &events);
    events.extend(samples::records_from_events(json!([
        {"type": "attempt_started", "attempt": {"task": "ghost", "number": 1}, "agent": "travel", "tool": "book"},
        {"type": "tasks_added", "parent": "ghost", "items": [1]},
        {"type": "task_ended", "task": "read[9]", "outcome": "cancelled"},
    ])));
    let after = run_result(&samples::sample_run_id(), &events);
    assert_eq!(RunResult { spent: before.spent, ..after }, before);
}

#[test]
fn question_is_open_until_answered() {
    let mut view = RunView::new(&samples::sample_run_id());
    let open = |view: &RunView| view.open_questions().map(|asked| asked.question.id.to_string()).collect::<Vec<_>>();
    let mut changes = Vec::new();
    for record in samples::sample_run() {
        view.apply(&record);
        if changes.last() != Some(&open(&view)) {
            changes.push(open(&view));
        }
    }
    assert_eq!(changes, [vec![], vec!["q1".to_owned()], vec![], vec!["q2".to_owned()]]);
    let asked = view.question("q2").expect("was asked");
    assert_eq!((asked.deferred_reason(), asked.at.0), (Some("no one answered"), 1_700_000_024_000));
    assert_eq!(view.question("q1").and_then(|asked| asked.answer.clone()).expect("answered").1, "person");
}

#[test]
fn repeated_question_keeps_earlier_reason_in_history() {
    let mut events = samples::sample_run();
    let repeated = json!([{"type": "question_asked_again", "question": "q2", "request": "r9"}]);
    events.extend(samples::records_from_events(repeated));
    let mut view = RunView::new(&samples::sample_run_id());
    events.iter().for_each(|record| view.apply(record));
    let asked = view.question("q2").expect("was asked");
    assert_eq!((asked.deferred_reason(), asked.deferred_because.as_deref()), (None, Some("no one answered")));
}
