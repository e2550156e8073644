//! The context of a run before it starts: its ID, its journal, its screen, and the human that answers.

use std::path::PathBuf;
use std::sync::Arc;

use super::files;
use super::run_options::{Interaction, RunOptions, RunOutputFormat};
use crate::cli::CliError;
use crate::journal::{Durability, JournalLocation};
use crate::model::RunId;
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

/// Opens the screen, which shows everything but results.
///
/// # Errors
/// Fails if stderr cannot be written.
pub(crate) fn open_screen() -> Result<Screen, CliError> {
    Screen::stderr().map_err(|error| CliError::failed("cli::output", "cannot write to stderr", error))
}
