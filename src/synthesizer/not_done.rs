//! States which tasks of a run have no result, whatever a model writes about them.

use std::fmt;

use serde::Serialize;

use crate::model::{Failure, SkipReason, TaskId};

/// Bounds the characters of a reason, and how many tasks a note names.
const MAX_REASON: usize = 200;
const MAX_NAMED: usize = 20;

/// A task that was planned and has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotDone {
    /// The task.
    pub task: TaskId,
    /// What became of it.
    pub status: NotDoneStatus,
    /// Why, in one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What became of a task without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotDoneStatus {
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// The run ended before it did.
    Cancelled,
}

impl NotDone {
    /// Describes a task that failed.
    pub fn failed(task: &TaskId, failure: &Failure) -> Self {
        Self { task: task.clone(), status: NotDoneStatus::Failed, reason: in_a_line(&failure.message) }
    }

    /// Describes a task that was skipped; none where a replan has put others in its place.
    pub fn skipped(task: &TaskId, reason: &SkipReason) -> Option<Self> {
        let status = NotDoneStatus::Skipped;
        let replaced = matches!(reason, SkipReason::Replanned);
        (!replaced).then(|| Self { task: task.clone(), status, reason: in_a_line(&reason.to_string()) })
    }

    /// Describes a task that had not ended when its run did.
    pub fn cancelled(task: &TaskId) -> Self {
        Self { task: task.clone(), status: NotDoneStatus::Cancelled, reason: String::new() }
    }
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            NotDoneStatus::Failed => "failed",
            NotDoneStatus::Skipped => "was skipped",
            NotDoneStatus::Cancelled => "was cancelled",
        };
        match self.reason.as_str() {
            "" => write!(f, "{} {status}", self.task),
            reason => write!(f, "{} {status}: {reason}", self.task),
        }
    }
}

/// Returns the note below an answer that names these tasks; none where all have results.
pub fn note(not_done: &[NotDone]) -> Option<String> {
    let mut named: Vec<String> = not_done.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    if let Some(more) = not_done.len().checked_sub(MAX_NAMED + 1) {
        named.push(format!("and {} more tasks", more + 1));
    }
    (!named.is_empty()).then(|| format!("Not done: {}", named.join("; ")))
}

/// Returns a text without its line breaks, shortened to what a note has room for.
fn in_a_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureKind;

    #[test]
    fn a_note_names_each_task_in_one_line() {
        let failed = NotDone::failed(&"hotel".into(), &Failure::new(FailureKind::ToolError, "no\n\nNot done: nothing"));
        let skipped = NotDone::skipped(&"maybe".into(), &SkipReason::NeedFailed { task: "hotel".into() });
        let skipped = skipped.expect("stated");
        let expected = format!("Not done: hotel failed: no Not done: nothing; {skipped}; late was cancelled");
        assert_eq!(note(&[failed, skipped, NotDone::cancelled(&"late".into())]), Some(expected));
        assert_eq!(note(&[]), None);
        assert_eq!(NotDone::skipped(&"old".into(), &SkipReason::Replanned), None);
    }

    #[test]
    fn a_note_is_bounded() {
        let failure = Failure::new(FailureKind::ToolError, "é".repeat(10_000));
        let many: Vec<NotDone> = (0..500).map(|n| NotDone::failed(&format!("t{n}").into(), &failure)).collect();
        let note = note(&many).expect("a note");
        assert!(note.ends_with("; and 480 more tasks") && note.chars().count() < 5_000, "{note}");
    }
}
