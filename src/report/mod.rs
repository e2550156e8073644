//! Shows a run to people and programs, from its events, and an answer while it is written.
//! Never keeps state that the events do not give.

mod graph;

pub use graph::{dot, mermaid};

pub mod history;
pub mod json_lines;
pub mod live;
pub mod live_answer;
pub mod plain;
pub mod run_view;
pub mod screen;
pub mod text;

use crate::model::{AttemptId, Record};

/// Somebody who is told of every event, after it is durable, in order.
pub trait Reporter: Send {
    /// Takes the next events of the run.
    fn report(&mut self, records: &[Record]);
    /// Takes events of an earlier process, before any other: they are known, but no news. Those that only pass events
    /// on need none of it.
    fn catch_up(&mut self, _records: &[Record]) {}

    /// Takes more of the text that a synthesis is being answered with, in a turn whose `ModelAsked` was reported. It is
    /// no event: the turn's end says what became of it.
    fn report_delta(&mut self, _attempt: &AttemptId, _text: &str) {}
}
