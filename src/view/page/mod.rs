//! The rows of a run for a page that people look at: one for each task, item, task of a group, and call of a prompt.
//!
//! [`RunPage`] is made on top of [`RunView`](super::RunView). Each part knows the event that changed it last, so what has
//! changed since any event can be sent to a reader that has seen that event.

mod critical_path;
mod row_tree;
mod run_page;
mod segments;
mod task_row;
#[cfg(test)]
mod tests;

pub use run_page::{PageChanges, RunPage};
pub use segments::{Segment, SegmentKind, SegmentOutcome};
pub use task_row::{RowCounts, RowKind, RowProgress, RowState, TaskRow};
