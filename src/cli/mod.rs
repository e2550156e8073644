//! The commands, one file each, in a folder for each subject.

/// Prints a line for people to stderr, as [`common::exit::print_message`] does, from the arguments of `format!`.
macro_rules! message {
    ($($arguments:tt)*) => {
        $crate::cli::common::exit::print_message(&format!($($arguments)*))
    };
}

mod command_line;
mod common;
mod completion;
mod help;
mod history;
mod import;
mod plans;
mod repl;
mod runs;
mod setup;

pub use command_line::{command, main};
pub use common::exit::{CliError, Exit};
