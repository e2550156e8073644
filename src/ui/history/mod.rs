//! Shows the runs in the journal: the list, a single run, and its events.
//! A run counts as running only while a process drives it.

mod diff;
mod list;
mod logs;
mod rerun_text;
mod run_details;
mod run_json;
mod show;
mod spending;
mod task;

pub use diff::RunsDiff;
pub use list::{ListedRun, runs_json, runs_text};
pub use logs::{LogFilter, LogFormat, Logs, RunLiveness, WatchMode};
pub use rerun_text::rerun_text;
pub use run_details::{RunDetails, read_view};
