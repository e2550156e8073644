//! The state of a run as its events show it: the only fold of events for people and programs. It has no clock.
//!
//! [`RunView::apply`] folds the next event. Reporters, the history of runs, and [`RunResult`](super::RunResult) read the
//! view; `phrasebook` says in words what an event changes.

mod activity;
mod apply;
mod history;
mod progress;
mod questions;
mod state;
mod tasks;

pub use activity::{OutcomeCounts, RunningCall, ScheduledRetry, WaitingOn};
pub use history::{AttemptHistory, LoggedMessage, NextAttempt, RunHistory, SamplingSummary, TaskTimes};
pub use progress::{RunProgress, WorkPool};
pub use questions::AskedQuestion;
pub use state::{AgentConnection, RunView, run_result};

#[cfg(test)]
mod tests;
