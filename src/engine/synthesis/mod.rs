//! Syntheses: their sources, their prompts, and the check of their answers.

pub mod answer;
mod sources;
pub mod unfinished;
