//! What the help of each command adds to its options: examples, exit codes, and environment variables.

mod commands;
mod manual;
mod render;
mod suggestions;
mod variables;

pub(crate) use manual::manual_pages;
pub(crate) use render::with_help;
pub(crate) use suggestions::with_suggestion;
