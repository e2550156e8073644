//! Drawings of task graphs: places in pixels, pictures, and the languages of diagram tools. Pure.

mod diagram_text;
mod grouping;
mod layout;
mod plan_drawing;
mod svg;

pub use diagram_text::{dot, mermaid, task_tree};
pub use layout::Point;
pub use plan_drawing::{DrawnEdge, DrawnTask, PlanDrawing};
pub use svg::svg;
