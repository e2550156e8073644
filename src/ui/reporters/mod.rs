//! Shows a run to people and programs, from its events and from the answer as it is written.
//! All displayed state comes from the events.

pub mod json_lines;
pub mod live;
pub mod live_answer;
mod live_rows;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod plain;
mod progress;
mod reporter;
mod run_end;
pub mod screenful;

pub use progress::{ProgressOptions, ProgressReporter};
pub use reporter::{Reporter, Reporters};
pub use run_end::{EndContext, RunEnd};
