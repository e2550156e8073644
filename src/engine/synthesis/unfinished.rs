//! Lists the tasks of a run that have no result, independently of a model's answer.

use std::fmt;

use serde::Serialize;

use crate::model::text::truncate_chars;
use crate::model::{Failure, SkipReason, TaskId};

/// The maximum number of characters of a reason, and of tasks in a notice.
const MAX_REASON_CHARS: usize = 200;
const MAX_NAMED_TASKS: usize = 20;

/// A planned task without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnfinishedTask {
    /// The task.
    pub task: TaskId,
    /// The outcome.
    pub status: UnfinishedTaskStatus,
    /// The reason, in one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The outcome of a task without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnfinishedTaskStatus {
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// The run ended first.
    Cancelled,
}

impl UnfinishedTask {
    /// Describes a task that failed.
    pub fn failed(task: &TaskId, failure: &Failure) -> Self {
        Self { task: task.clone(), status: UnfinishedTaskStatus::Failed, reason: truncate_to_line(&failure.message) }
    }

    /// Describes a skipped task; `None` if a replan replaced it.
    pub fn skipped(task: &TaskId, reason: &SkipReason) -> Option<Self> {
        let status = UnfinishedTaskStatus::Skipped;
        let replaced = matches!(reason, SkipReason::Replanned);
        (!replaced).then(|| Self { task: task.clone(), status, reason: truncate_to_line(&reason.to_string()) })
    }

    /// Describes a task that had not ended when its run did.
    pub fn cancelled(task: &TaskId) -> Self {
        Self { task: task.clone(), status: UnfinishedTaskStatus::Cancelled, reason: String::new() }
    }
}

impl fmt::Display for UnfinishedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            UnfinishedTaskStatus::Failed => "failed",
            UnfinishedTaskStatus::Skipped => "was skipped",
            UnfinishedTaskStatus::Cancelled => "was cancelled",
        };
        match self.reason.as_str() {
            "" => write!(f, "{} {status}", self.task),
            reason => write!(f, "{} {status}: {reason}", self.task),
        }
    }
}

/// Returns a notice that names these tasks and the part of the goal that no task reaches, to print below an answer.
/// Returns `None` if nothing is missing.
pub fn unfinished_notice(not_done: &[UnfinishedTask], missing: Option<&str>) -> Option<String> {
    let missing = missing.map(truncate_to_line);
    let named = not_done.iter().take(MAX_NAMED_TASKS).map(ToString::to_string);
    let mut named: Vec<String> = missing.into_iter().chain(named).collect();
    if let Some(more) = not_done.len().checked_sub(MAX_NAMED_TASKS + 1) {
        named.push(format!("and {} more tasks", more + 1));
    }
    (!named.is_empty()).then(|| format!("Not done: {}", named.join("; ")))
}

/// Returns the text as a single line, truncated for a notice.
fn truncate_to_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    truncate_chars(&line, MAX_REASON_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureKind;

    #[test]
    fn notice_names_each_task() {
        let failed =
            UnfinishedTask::failed(&"hotel".into(), &Failure::new(FailureKind::ToolError, "no\n\nNot done: nothing"));
        let skipped = UnfinishedTask::skipped(&"maybe".into(), &SkipReason::NeedFailed { task: "hotel".into() });
        let skipped = skipped.expect("stated");
        let expected = format!("Not done: hotel failed: no Not done: nothing; {skipped}; late was cancelled");
        assert_eq!(
            unfinished_notice(&[failed, skipped, UnfinishedTask::cancelled(&"late".into())], None),
            Some(expected)
        );
        assert_eq!(unfinished_notice(&[], None), None);
        assert_eq!(unfinished_notice(&[], Some("no\nmail")), Some("Not done: no mail".to_owned()));
        assert_eq!(UnfinishedTask::skipped(&"old".into(), &SkipReason::Replanned), None);
    }

    #[test]
    fn notice_is_bounded() {
        let failure = Failure::new(FailureKind::ToolError, "é".repeat(10_000));
        let many: Vec<UnfinishedTask> =
            (0..500).map(|n| UnfinishedTask::failed(&format!("t{n}").into(), &failure)).collect();
        let notice = unfinished_notice(&many, None).expect("a notice");
        assert!(notice.ends_with("; and 480 more tasks") && notice.chars().count() < 5_000, "{notice}");
    }
}
