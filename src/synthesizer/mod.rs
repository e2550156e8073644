//! Merges the results of a run into one answer. Pure.

pub mod answer;
mod run_result;
mod spending;
mod text;
pub mod unfinished;

pub use run_result::{RunResult, RunResultBuilder, TaskResult, TaskStatus, run_result};
pub(crate) use spending::Ledger;
pub use spending::{SpendingBreakdown, SpendingTotals};
pub use text::result_text;
