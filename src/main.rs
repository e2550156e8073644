//! The `kapell` command: a thin shell around the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kapell::cli::main().into()
}
