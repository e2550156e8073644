//! Starts the processes that drive runs. They outlive this one.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Output, Stdio};

use axum::http::StatusCode;
use tokio::process::Command;

use super::page_api_error::PageApiError;
use crate::model::text::truncate_chars;
use crate::system::environment;
use crate::view::text::printable_text;

/// The maximum length of the output of a process in an error, in characters.
const MAX_SHOWN_CHARS: usize = 4_000;

/// The program that drives runs, with the options of all its commands.
#[derive(Debug, Clone)]
pub struct DriverProgram {
    /// The path of the program.
    pub executable: PathBuf,
    /// The options with the agents file.
    pub agents_options: Vec<OsString>,
    /// The options with the journal.
    pub journal_options: Vec<OsString>,
    /// The variables that it does not get.
    pub hidden_variables: Vec<String>,
}

impl DriverProgram {
    /// Runs a command to its end. A command with `--detach` ends once its run has begun.
    ///
    /// # Errors
    /// Returns what the command says is wrong.
    pub(super) async fn run(&self, arguments: &[OsString]) -> Result<String, PageApiError> {
        self.execute(arguments.iter().chain(&self.agents_options).chain(&self.journal_options)).await
    }

    /// Does the same with a command that uses no journal, and whose last argument is a text.
    ///
    /// # Errors
    /// Returns what the command says is wrong.
    pub(super) async fn run_with_text(&self, arguments: &[OsString], text: String) -> Result<String, PageApiError> {
        let text = ["--".into(), text.into()];
        self.execute(arguments.iter().chain(&self.agents_options).chain(&text)).await
    }

    async fn execute(&self, arguments: impl Iterator<Item = &OsString>) -> Result<String, PageApiError> {
        let is_shared =
            |(name, _): &(OsString, OsString)| self.hidden_variables.iter().all(|hidden| OsStr::new(hidden) != name);
        let output = Command::new(&self.executable)
            .args(arguments)
            .env_clear()
            .envs(environment::variables().into_iter().filter(is_shared))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| {
                PageApiError::internal(format_args!("cannot start `{}`: {error}", self.executable.display()))
            })?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(failure(&output)),
        }
    }
}

/// Returns the error that a command printed.
fn failure(output: &Output) -> PageApiError {
    let text = String::from_utf8_lossy(&output.stderr);
    let (code, rest) = text
        .find("error[")
        .and_then(|start| text[start + "error[".len()..].split_once("]: "))
        .map_or(("serve::command_failed", &*text), |(code, rest)| (code, rest));
    let (message, help) = match rest.split_once("\n  help: ") {
        Some((message, help)) => (message, Some(help.trim_end())),
        None => (rest, None),
    };
    let shown = |text: &str| printable_text(&truncate_chars(text.trim(), MAX_SHOWN_CHARS)).into_owned();
    let error = PageApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, shown(message));
    match help {
        Some(help) => error.with_help(shown(help)),
        None => error,
    }
}
