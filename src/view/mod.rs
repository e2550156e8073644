//! Merges the results of a run into one answer. Pure.

mod graph;
mod result_text;
mod run_result;
pub mod run_view;
mod spending;
pub mod text;
pub mod time;

pub use crate::engine::SpendingTotals;
pub use graph::{dot, mermaid};
pub use result_text::result_text;
pub use run_result::{RunResult, RunResultBuilder, TaskResult, TaskStatus, run_result};
pub use spending::SpendingBreakdown;
