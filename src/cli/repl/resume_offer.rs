//! The offer at the start of a session to resume the run that an earlier process left behind.

use std::time::Duration;

use crate::cli::CliError;
use crate::cli::common::args::{AgentsArg, JournalArg};
use crate::cli::common::files;
use crate::journal::{JournalError, JournalReader, RunSummary};
use crate::model::{Event, Progress, Record, RunId, RunStatus};
use crate::view::RunView;
use crate::view::run_view::RunningCall;
use crate::view::text::printable;

/// The time for which an interrupted run is offered. Servers forget sessions, and a person the run.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// An interrupted run that can be resumed.
pub(super) struct ResumeOffer {
    /// The run.
    pub(super) run: RunId,
    /// What the run was doing, such as `long_running_agent, 34 %`.
    pub(super) activity: String,
    /// The number of other runs that could be offered.
    pub(super) others: usize,
}

impl ResumeOffer {
    /// Returns the latest run that was interrupted within the last day and used the agents file of this session.
    ///
    /// # Errors
    /// Fails if the journal cannot be read.
    pub(super) fn find(journal: &JournalArg, agents: &AgentsArg) -> Result<Option<Self>, CliError> {
        let reader = match files::journal_store(journal)?.open_reader() {
            Err(JournalError::Missing { .. }) => return Ok(None),
            opened => opened?,
        };
        let now = files::display_context().now;
        let (agents_path, _) = files::agents_source(&agents.files(None));
        let is_interrupted = |run: &RunSummary| {
            let has_stopped = matches!(run.status, RunStatus::Running | RunStatus::Interrupted);
            has_stopped && run.driver.is_none() && now.since(run.last_event) < MAX_AGE
        };
        let runs = reader.unfinished_runs()?.into_iter().filter(is_interrupted);
        let mut offered = runs.filter(|run| uses_agents_file(&*reader, &run.run, &agents_path));
        let Some(latest) = offered.next() else { return Ok(None) };
        let activity = describe_activity(&*reader, &latest)?;
        Ok(Some(Self { run: latest.run, activity, others: offered.count() }))
    }
}

/// Returns whether a run began with the agents file at `path`. A run that cannot be read is not offered.
fn uses_agents_file(reader: &dyn JournalReader, run: &RunId, path: &str) -> bool {
    match reader.records(run, 0).next() {
        Some(Ok(Record { event: Event::RunStarted { source: Some(source), .. }, .. })) => source.agents == path,
        _ => false,
    }
}

/// Describes what a run was doing: the first call in progress with its progress, or the number of tasks that have ended.
fn describe_activity(reader: &dyn JournalReader, summary: &RunSummary) -> Result<String, CliError> {
    let mut view = RunView::new(&summary.run);
    let mut at_interrupt = None;
    for record in reader.records(&summary.run, 0) {
        let record = record?;
        match record.event {
            Event::RunResumed { .. } => at_interrupt = None,
            // An orderly end interrupts the calls.
            Event::InterruptRequested => at_interrupt = Some(activity(&view)),
            _ => {}
        }
        view.apply(&record);
    }
    Ok(at_interrupt.unwrap_or_else(|| activity(&view)))
}

fn activity(view: &RunView) -> String {
    match view.running().first() {
        Some((_, RunningCall { route: Some((_, tool)), progress, .. })) => {
            let percent = progress.as_ref().and_then(percent).map(|percent| format!(", {percent} %"));
            format!("{}{}", printable(tool), percent.unwrap_or_default())
        }
        _ => {
            let (ended, tasks) = (view.counts().ended(), view.task_count());
            format!("{}, {ended} of {tasks} tasks", printable(view.plan_name()))
        }
    }
}

/// Returns the progress in whole percent, if the agent reported the total.
fn percent(progress: &Progress) -> Option<u8> {
    // It is within the range of the type.
    progress.percent().map(|percent| percent.round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn percent_needs_a_total() {
        let progress = |progress, total| percent(&Progress { progress, total, message: None });
        assert_eq!(progress(0.335, Some(1.0)), Some(34));
        assert_eq!(progress(7.0, Some(5.0)), Some(100));
        assert_eq!(progress(f64::NAN, Some(5.0)), Some(0));
        assert_eq!((progress(1.0, None), progress(1.0, Some(0.0))), (None, None));
    }

    #[test]
    fn activity_names_the_call_in_progress_or_counts_tasks() {
        let events = samples::sample_run();
        let mut view = RunView::new(&samples::sample_run_id());
        let mut seen: Vec<String> = Vec::new();
        for record in &events {
            view.apply(record);
            seen.push(activity(&view));
        }
        seen.dedup();
        insta::assert_debug_snapshot!(seen);
    }
}
