//! A person at a terminal, who types into a program that has it as all of its standard streams.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::workspace::{CommandOutput, Workspace};

/// What is typed once something was shown, and what a shell runs after it; `$COMMAND` is the process on the terminal.
pub(crate) struct TypedStep<'s> {
    expected: &'s str,
    typed: &'s str,
    command: Option<&'s str>,
}

/// Types `typed` once `expected` was shown after the text before it.
pub(crate) fn step<'s>(expected: &'s str, typed: &'s str) -> TypedStep<'s> {
    TypedStep { expected, typed, command: None }
}

/// Runs a shell command once `expected` was shown.
pub(crate) fn run_after<'s>(expected: &'s str, command: &'s str) -> TypedStep<'s> {
    TypedStep { expected, typed: "", command: Some(command) }
}

/// Runs kapell on a terminal until it ends. Returns what the terminal showed as the standard output.
pub(crate) fn run_at_terminal(place: &Workspace, arguments: &[&str], steps: &[TypedStep<'_>]) -> CommandOutput {
    run_at_terminal_like("xterm", 100, place, (arguments, steps))
}

/// Runs kapell on a terminal of this type with this number of columns, as [`run_at_terminal`] does.
pub(crate) fn run_at_terminal_like(
    term: &str,
    columns: u16,
    place: &Workspace,
    (arguments, steps): (&[&str], &[TypedStep<'_>]),
) -> CommandOutput {
    let steps: Vec<_> = steps
        .iter()
        .map(|step| match step.command {
            Some(command) => json!([step.expected, step.typed, command]),
            None => json!([step.expected, step.typed]),
        })
        .collect();
    let kapell = place.command(arguments);
    let mut session = Command::new("python3");
    session
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/session.py"))
        .arg(json!(steps).to_string())
        .arg(kapell.get_program())
        .args(kapell.get_args())
        .env("SESSION_TERM", term)
        .env("SESSION_COLUMNS", columns.to_string())
        .current_dir(place.path(""))
        .stdin(Stdio::null());
    for (name, value) in kapell.get_envs() {
        match value {
            Some(value) => session.env(name, value),
            None => session.env_remove(name),
        };
    }
    CommandOutput::of(&mut session)
}
