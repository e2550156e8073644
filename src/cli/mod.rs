//! The commands, one file each.

/// Prints a line for people to stderr, as [`common::exit::print_message`] does, from the arguments of `format!`.
macro_rules! message {
    ($($arguments:tt)*) => {
        $crate::cli::common::exit::print_message(&format!($($arguments)*))
    };
}

mod agents;
mod answer;
mod cancel;
mod command_line;
mod common;
mod demo_agent;
mod doctor;
mod graph;
mod logs;
mod plan;
mod questions;
mod replay;
mod resume;
mod retry;
mod run;
mod runs;
mod schema;
mod validate;

pub use command_line::main;
pub use common::exit::{CliError, Exit};
