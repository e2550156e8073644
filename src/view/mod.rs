//! What people and programs see of a run: its view, its result, its spending, and the words about its events. Pure.

mod drawing;
mod estimate;
mod health;
pub mod page;
pub mod phrasebook;
mod plan_estimate;
pub mod report_line;
mod result_text;
mod run_result;
pub mod run_view;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(feature = "otel")]
pub mod spans;
mod spending;
pub mod text;
pub mod time;

pub use crate::engine::SpendingTotals;
pub use drawing::{
    DrawnEdge, DrawnTask, LineCharacters, NotDrawn, PlanDrawing, Point, box_graph, dot, mermaid, svg, task_tree,
};
pub use estimate::remaining_time;
pub use health::{HealthCheck, HealthSection, HealthStatus};
pub use plan_estimate::{PlanEstimate, WorkHistory};
pub use result_text::{ResultScope, content_lines, result_text, scoped_result_text, task_text};
pub use run_result::{ResultFile, RunResult, TaskResult, TaskStatus};
pub use run_view::{RunView, run_result};
pub use spending::SpendingBreakdown;
