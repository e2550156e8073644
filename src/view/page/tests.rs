//! Rows as events show them, and patches.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::journal::samples as journal_samples;
use crate::model::{Event, Record, RunStatus, TaskId, Timestamp};
use crate::view::samples::{self, SimulatedTask};
use crate::view::{PlanDrawing, TaskStatus};

/// What a reader knows of a page, as JSON.
#[derive(Debug, Default, PartialEq)]
struct ReadPage {
    rows: BTreeMap<String, Value>,
    order: Vec<String>,
    graph: Value,
    questions: BTreeMap<String, String>,
    agents: BTreeMap<String, String>,
}

impl ReadPage {
    fn snapshot(page: &RunPage) -> Self {
        let view = page.view();
        Self {
            rows: page.rows().map(|row| (row.id.to_string(), json(row))).collect(),
            order: page.rows().map(|row| row.id.to_string()).collect(),
            graph: json(&page.graph()),
            questions: view.questions().map(|asked| (asked.question.id.to_string(), format!("{asked:?}"))).collect(),
            agents: view.agents().iter().map(|(id, agent)| (id.to_string(), format!("{agent:?}"))).collect(),
        }
    }

    fn patch(&mut self, page: &RunPage, since: u64) {
        let changes = page.changes_since(since);
        for row in changes.rows {
            if self.rows.insert(row.id.to_string(), json(row)).is_none() {
                self.order.insert(self.place_of(row), row.id.to_string());
            }
        }
        if changes.has_new_graph {
            self.graph = json(&page.graph());
        }
        let questions = changes.questions.into_iter();
        self.questions.extend(questions.map(|asked| (asked.question.id.to_string(), format!("{asked:?}"))));
        self.agents.extend(changes.agents.into_iter().map(|(id, agent)| (id.to_string(), format!("{agent:?}"))));
    }

    /// Returns the place of an added row, as the documentation of the stream says.
    fn place_of(&self, added: &TaskRow) -> usize {
        let parent_of = |id: &str| self.rows[id]["parent"].as_str();
        let is_part = |id: &str, group: &str| {
            std::iter::successors(Some(id), |id| parent_of(id)).any(|ancestor| ancestor == group)
        };
        let place = match &added.parent {
            Some(group) => self.order.iter().rposition(|id| is_part(id, group.as_str())).map(|last| last + 1),
            None if added.kind == RowKind::Synthesis => None,
            None => self
                .order
                .iter()
                .position(|id| parent_of(id).is_none() && self.rows[id]["kind"] == json!(RowKind::Synthesis)),
        };
        place.unwrap_or(self.order.len())
    }
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("serializes")
}

fn page_of(records: &[Record]) -> RunPage {
    let mut page = RunPage::new(&journal_samples::sample_run_id());
    records.iter().for_each(|record| page.apply(record));
    page
}

/// Returns runs of many kinds.
fn sample_runs() -> Vec<Vec<Record>> {
    let resumed = journal_samples::records_from_events(json!([
        journal_samples::run_started_event(json!([
            journal_samples::sample_task("a", json!({})),
            journal_samples::sample_task("b", json!({"needs": ["a"]})),
        ])),
        {"type": "attempt_started", "attempt": {"task": "a", "number": 1}, "agent": "x", "tool": "t"},
        {"type": "run_resumed", "downtime": "5s", "reattached": []},
        {"type": "attempt_failed", "attempt": {"task": "a", "number": 1},
            "failure": {"kind": "interrupted", "message": "the process ended"}},
        {"type": "retry_scheduled", "task": "a", "ready_at": 1_700_000_009_000_u64, "agent": "x", "reason": "again"},
        {"type": "attempt_started", "attempt": {"task": "a", "number": 2}, "agent": "x", "tool": "t"},
        {"type": "attempt_succeeded", "attempt": {"task": "a", "number": 2}, "output": {}},
        {"type": "attempt_started", "attempt": {"task": "b", "number": 1}, "agent": "x", "tool": "t"},
        {"type": "attempt_succeeded", "attempt": {"task": "b", "number": 1}, "output": {}},
        {"type": "run_ended", "status": "succeeded"},
    ]));
    let ended = |mut records: Vec<Record>, status| {
        let end = samples::run_ended(status, records.last().expect("an event"));
        records.push(end);
        records
    };
    let items = [SimulatedTask { millis: 30, items: None }, SimulatedTask { millis: 20, items: Some(40) }];
    vec![
        journal_samples::sample_run(),
        samples::whole_run(),
        samples::replanned_run(),
        samples::calls_with_progress(),
        ended(samples::items_in_progress(30, 20), RunStatus::Interrupted),
        ended(samples::simulated_run(&items, 8), RunStatus::Succeeded),
        resumed,
        prompt_run(),
    ]
}

/// Returns a run of a prompt with two calls, in a group for each of two items.
fn prompt_run() -> Vec<Record> {
    let prompt = json!({"prompt": {"prompt": "Look", "max_turns": 3, "max_tokens": 9}});
    let member = journal_samples::sample_task("ask", json!({"work": prompt}));
    let group = json!({
        "work": {"group": {"tasks": [member, journal_samples::sample_task("keep", json!({"needs": ["ask"]}))]}},
        "foreach": {"items": "${{ inputs.list }}", "as": "item"},
    });
    let call = json!({"id": "c", "agent": "x", "tool": "look", "arguments": {}});
    let reply =
        json!({"parts": [], "model": "m", "stop_reason": "endTurn", "usage": {"input_tokens": 7, "output_tokens": 2}});
    journal_samples::records_from_events(json!([
        journal_samples::run_started_event(json!([journal_samples::sample_task("each", group)])),
        {"type": "tasks_added", "parent": "each", "items": [1, 2]},
        {"type": "group_started", "task": "each[0]"},
        {"type": "model_requested", "attempt": {"task": "each[0].ask", "number": 1}, "messages": []},
        {"type": "model_replied", "attempt": {"task": "each[0].ask", "number": 1}, "result": {"Ok": reply}},
        {"type": "tool_calls_added", "parent": "each[0].ask", "calls": [call, call]},
        {"type": "attempt_started", "attempt": {"task": "each[0].ask/1", "number": 1}, "agent": "x", "tool": "look"},
        {"type": "attempt_succeeded", "attempt": {"task": "each[0].ask/1", "number": 1}, "output": {}},
    ]))
}

#[test]
fn rows_agree_with_the_view() {
    for records in sample_runs() {
        let mut page = RunPage::new(&journal_samples::sample_run_id());
        for record in &records {
            page.apply(record);
            for row in page.rows() {
                let Some(result) = page.view().task_result(&row.id) else { continue };
                let expected = RowState::from(result.status);
                let is_open = matches!(result.status, TaskStatus::Waiting | TaskStatus::Running);
                assert!(if is_open { !row.state.has_ended() } else { row.state == expected }, "{row:?}: {result:?}");
            }
        }
    }
}

#[test]
fn every_row_comes_after_its_parent() {
    for records in sample_runs() {
        let page = page_of(&records);
        let mut seen = Vec::new();
        for row in page.rows() {
            assert!(row.parent.as_ref().is_none_or(|parent| seen.contains(parent)), "{row:?}");
            seen.push(row.id.clone());
        }
    }
}

#[test]
fn segments_are_ordered_and_end_with_their_task() {
    for records in sample_runs() {
        for row in page_of(&records).rows() {
            for pair in row.segments.windows(2) {
                assert!(pair[0].end.is_some_and(|end| end <= pair[1].start), "{row:?}");
            }
            let is_open = row.segments.last().is_some_and(|last| last.end.is_none());
            assert!(!(is_open && row.state.has_ended()), "{row:?}");
        }
    }
}

#[test]
fn states_and_times_of_a_task_are_shown() {
    let records = samples::whole_run();
    let page = page_of(&records);
    let find = page.row(&"find".into()).expect("a row");
    let kinds: Vec<_> = find.segments.iter().map(|segment| (segment.kind, segment.attempt, segment.outcome)).collect();
    use SegmentKind::{Model, Pause, Queued, Running};
    let expected = [
        (Queued, 0, None),
        (Running, 1, Some(SegmentOutcome::Failed)),
        (Pause, 1, None),
        (Running, 2, None),
        (Model, 2, None),
        (Running, 2, Some(SegmentOutcome::Succeeded)),
    ];
    assert_eq!(kinds, expected);
    let read = page.row(&"read".into()).expect("a row");
    let children = read.children.expect("items");
    assert_eq!((children.total, children.succeeded, children.failed), (2, 1, 1));
    let asked_at =
        records.iter().position(|record| matches!(record.event, Event::QuestionAsked { .. })).expect("asked");
    let page = page_of(&records[..=asked_at]);
    let book = page.row(&"book".into()).expect("a row");
    assert_eq!((book.state, book.question.as_ref().map(|id| id.as_str())), (RowState::Asking, Some("q1")));
}

#[test]
fn parts_of_prompts_and_groups_are_rows() {
    let page = page_of(&prompt_run());
    let states: Vec<_> = page.rows().map(|row| (row.id.to_string(), row.kind, row.state)).collect();
    use RowState::{Queued, Running, Succeeded, Waiting};
    let expected = [
        ("each", RowKind::Foreach, Running),
        ("each[0]", RowKind::Group, Running),
        ("each[0].ask", RowKind::Prompt, Running),
        ("each[0].ask/1", RowKind::Call, Succeeded),
        ("each[0].ask/2", RowKind::Call, Queued),
        ("each[0].keep", RowKind::Call, Waiting),
        ("each[1]", RowKind::Group, Queued),
    ];
    let states: Vec<_> = states.iter().map(|(id, kind, state)| (id.as_str(), *kind, *state)).collect();
    assert_eq!(states, expected);
    // Calls of prompts are no tasks of the run.
    assert_eq!((page.counts().total, page.counts().running, page.counts().waiting), (3, 1, 2));
}

#[test]
fn killed_attempt_ends_with_the_last_event_before_the_pause() {
    let page = page_of(&sample_runs()[6]);
    let row = page.row(&"a".into()).expect("a row");
    let first = &row.segments[1];
    assert_eq!((first.kind, first.end, first.attempt), (SegmentKind::Running, Some(first.start), 1));
    let critical: Vec<_> = page.rows().filter(|row| row.is_critical).map(|row| row.id.to_string()).collect();
    assert_eq!(critical, ["a", "b"]);
}

#[test]
fn no_node_moves_during_a_run() {
    for records in sample_runs() {
        let mut page = RunPage::new(&journal_samples::sample_run_id());
        let mut graph: Option<PlanDrawing> = None;
        for record in &records {
            page.apply(record);
            let changes = matches!(record.event, Event::RunStarted { .. } | Event::Replanned { .. });
            if let Some(before) = graph.filter(|_| !changes) {
                assert_eq!(before, page.graph());
            }
            graph = Some(page.graph());
        }
    }
}

#[test]
fn events_of_unknown_tasks_change_nothing() {
    let mut records = journal_samples::sample_run();
    let before = ReadPage::snapshot(&page_of(&records));
    records.extend(journal_samples::records_from_events(json!([
        {"type": "attempt_started", "attempt": {"task": "ghost", "number": 1}, "agent": "travel", "tool": "book"},
        {"type": "tasks_added", "parent": "ghost", "items": [1]},
        {"type": "tool_calls_added", "parent": "ghost", "calls": []},
        {"type": "group_started", "task": "ghost"},
    ])));
    assert_eq!(ReadPage::snapshot(&page_of(&records)), before);
}

proptest! {
    #[test]
    fn snapshot_equals_earlier_snapshot_with_patches(run in 0_usize..8, steps in prop::collection::vec(1_usize..7, 1..60)) {
        let records = sample_runs().swap_remove(run);
        let mut page = RunPage::new(&journal_samples::sample_run_id());
        page.apply(&records[0]);
        let mut read = ReadPage::snapshot(&page);
        let (mut applied, mut since) = (1, records[0].seq);
        for step in steps.into_iter().chain([records.len()]) {
            let end = (applied + step).min(records.len());
            records[applied..end].iter().for_each(|record| page.apply(record));
            applied = end;
            read.patch(&page, since);
            since = page.seq().expect("an event");
            prop_assert_eq!(&read, &ReadPage::snapshot(&page));
        }
    }
}

#[test]
fn task_that_has_not_started_only_waits() {
    let page = page_of(&samples::whole_run()[..1]);
    let row = page.row(&TaskId::from("post")).expect("a row");
    assert_eq!((row.started, row.ended, row.segments[0].start), (None, None, Timestamp(1_795_000_000_000)));
}
