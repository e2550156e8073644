//! The colors of statuses, which are the same in the live view, in tables, and in lists.

use owo_colors::Style;

use crate::model::RunStatus;
use crate::view::TaskStatus;
use crate::view::report_line::LineKind;

/// Returns the style of a run's status.
pub fn run_status_style(status: RunStatus) -> Style {
    match status {
        RunStatus::Succeeded => Style::new().green(),
        RunStatus::Failed => Style::new().red(),
        RunStatus::Running => Style::new().cyan(),
        RunStatus::Partial | RunStatus::Paused | RunStatus::Interrupted | RunStatus::Cancelled => Style::new().yellow(),
    }
}

/// Returns the style of a task's status.
pub fn task_status_style(status: TaskStatus) -> Style {
    match status {
        TaskStatus::Succeeded => Style::new().green(),
        TaskStatus::Failed => Style::new().red(),
        TaskStatus::Running => Style::new().cyan(),
        TaskStatus::Waiting | TaskStatus::Cancelled => Style::new().yellow(),
        TaskStatus::Skipped => Style::new().dimmed(),
    }
}

/// Returns the style of the word or symbol that a line about an event has.
pub fn line_style(kind: LineKind) -> Style {
    match kind {
        LineKind::Warning | LineKind::Retrying | LineKind::FailedContinuing | LineKind::Cancelled => {
            Style::new().yellow()
        }
        LineKind::Asked | LineKind::Answered | LineKind::Deferred => Style::new().cyan(),
        LineKind::Succeeded => Style::new().green(),
        LineKind::Failed => Style::new().red(),
        LineKind::Ended(status) => run_status_style(status).bold(),
        LineKind::Started
        | LineKind::Progress
        | LineKind::Info
        | LineKind::Detail
        | LineKind::Log
        | LineKind::Run
        | LineKind::Skipped => Style::new().dimmed(),
    }
}
