//! Shows a run to people and programs, from its events and from the answer as it is written.
//! All displayed state comes from the events.

pub mod json_lines;
pub mod live;
pub mod live_answer;
pub mod plain;
mod reporter;

pub use reporter::{Reporter, Reporters};
