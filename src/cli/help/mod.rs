//! What the help of each command adds to its options: examples, exit codes, and environment variables.

mod commands;
mod render;
mod variables;

pub(crate) use render::with_help;
