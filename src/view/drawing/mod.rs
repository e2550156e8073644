//! Drawings of task graphs: places, pictures, text for terminals, and the languages of diagram tools. Pure.

mod box_text;
mod diagram_text;
mod grouping;
mod layout;
mod plan_drawing;
mod scope_metrics;
mod svg;

pub use box_text::{LineCharacters, NotDrawn, box_graph};
pub use diagram_text::{dot, mermaid, task_tree};
pub use layout::Point;
pub use plan_drawing::{DrawnEdge, DrawnTask, PlanDrawing};
pub use svg::svg;
