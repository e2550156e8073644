//! Merges the results of a run into one answer. Pure.
//! Never shows it.

pub mod answer;
mod merge;
pub mod not_done;
mod spent;
mod text;

pub use merge::{Merge, RunResult, TaskResult, TaskStatus, merge};
pub(crate) use spent::Ledger;
pub use spent::{Spending, Spent};
pub use text::text;
