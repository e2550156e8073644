//! Builds the prompts for the model.

pub(super) mod rules;
pub(super) mod tool_lines;
