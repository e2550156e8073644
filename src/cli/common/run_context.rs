//! The context of a run before it starts: its ID, its journal, its screen, and the human that answers.

use std::path::PathBuf;
use std::sync::Arc;

use super::args::JournalArg;
use super::files;
use super::run_options::{Interaction, RunOptions, RunOutputFormat};
use crate::HostError;
use crate::cli::{CliError, Exit};
use crate::journal::{Durability, JournalLocation};
use crate::model::RunId;
use crate::runtime::new_run_id;
use crate::runtime::shutdown::{self, SessionSignals};
use crate::ui::human::Human;
use crate::ui::terminal::screen::Screen;

/// The context of a run before it starts.
pub(crate) struct RunContext {
    /// The ID of the run.
    pub(crate) run: RunId,
    /// The location of the journal.
    pub(crate) journal: JournalLocation,
    /// The screen that shows the run.
    pub(crate) screen: Screen,
    /// The human that answers questions.
    pub(crate) human: Arc<dyn Human>,
    /// The output format of stdout.
    pub(crate) output: RunOutputFormat,
    /// The durability of the journal.
    pub(crate) durability: Durability,
    /// The directory for copies of binary contents.
    pub(crate) save: Option<PathBuf>,
}

impl RunContext {
    /// Creates the context of `run`.
    ///
    /// # Errors
    /// Fails if the location of the journal is unknown, if the screen cannot be opened, or as [`RunOptions::build_human`]
    /// does.
    pub(crate) fn new(run: RunId, options: &RunOptions, interaction: Interaction) -> Result<Self, CliError> {
        let journal = files::journal_location(&options.journal)?;
        let screen = open_screen()?;
        let human = options.build_human(&screen, &run, interaction)?;
        let RunOptions { output, durability, .. } = *options;
        Ok(Self {
            run,
            journal,
            screen,
            human,
            output,
            durability,
            save: options.save.as_deref().map(|save| files::absolute(save).into()),
        })
    }
}

/// Returns an ID for a new run whose short form no run of the journal has.
pub(crate) fn unused_run_id(journal: &JournalArg) -> Result<RunId, CliError> {
    let store = files::journal_store(journal)?;
    // A journal that cannot be read is reported when the run starts.
    let Ok(reader) = store.open_reader() else { return Ok(new_run_id()) };
    loop {
        let run = new_run_id();
        if !reader.matching_runs(run.short(), 1).is_ok_and(|runs| !runs.is_empty()) {
            return Ok(run);
        }
    }
}

/// Does work before a run begins. A termination signal ends it, and then nothing has run.
///
/// # Errors
/// Fails as the work does, or with [`Exit::Interrupted`] after a signal.
pub(crate) async fn interruptible<T>(
    screen: &Screen,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    if SessionSignals::is_active() {
        // The session ends what it waits for by itself.
        return work.await;
    }
    // Before the work begins: it may change the mode of the terminal, which a signal must not end without restoring.
    let signal = shutdown::interrupted().map_err(HostError::Signals)?;
    tokio::select! {
        done = work => done,
        () = signal => {
            screen.hide();
            screen.println("interrupted before the run began; nothing ran");
            screen.flush();
            Err(CliError::Shown(Exit::Interrupted))
        }
    }
}

/// Opens the screen, which shows everything but results.
///
/// # Errors
/// Fails if stderr cannot be written.
pub(crate) fn open_screen() -> Result<Screen, CliError> {
    Screen::stderr().map_err(|error| CliError::failed("cli::output", "cannot write to stderr", error))
}
