//! `kapell runs clean-tokens`: forgets the sessions and cursors with which calls of earlier processes continue.

use clap::Args;
use serde_json::json;

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::exit::print_json;
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::journal::JournalError;
use crate::model::{CheckpointKey, RunId};
use crate::view::text::count_text;

#[derive(Debug, Args)]
pub(crate) struct CleanTokensArgs {
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

/// What was forgotten.
#[derive(Debug, Default)]
struct ForgottenTokens {
    sessions: usize,
    cursors: usize,
    runs: Vec<RunId>,
}

impl ForgottenTokens {
    fn add(&mut self, run: RunId, keys: &[CheckpointKey]) {
        let sessions = keys.iter().filter(|key| matches!(key, CheckpointKey::Session(_))).count();
        self.sessions += sessions;
        self.cursors += keys.len() - sessions;
        if !keys.is_empty() {
            self.runs.push(run);
        }
    }
}

pub(crate) fn clean_tokens(args: &CleanTokensArgs) -> Result<Exit, CliError> {
    let store = files::journal_store(&args.journal)?;
    let runs = match store.open_reader() {
        Err(JournalError::Missing { .. }) => Vec::new(),
        opened => opened?.unfinished_runs()?,
    };
    let mut forgotten = ForgottenTokens::default();
    for run in runs.into_iter().filter(|run| run.driver.is_none()) {
        match store.delete_checkpoints(&run.run) {
            Ok(keys) => forgotten.add(run.run, &keys),
            // Another process has resumed it since it was listed.
            Err(JournalError::Driven { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let ForgottenTokens { sessions, cursors, runs } = &forgotten;
    match args.output {
        OutputFormat::Json => print_json(&json!({"sessions": sessions, "cursors": cursors, "runs": runs}))?,
        OutputFormat::Text if runs.is_empty() => message!("no saved sessions or cursors"),
        OutputFormat::Text => message!(
            "forgot {} and {} of {}; when resumed, their calls count as interrupted, with unknown outcome",
            count_text(*sessions, "session"),
            count_text(*cursors, "cursor"),
            count_text(runs.len(), "run")
        ),
    }
    Ok(Exit::Success)
}
