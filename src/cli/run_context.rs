//! The context of a run before it starts: its ID, its journal, its screen, and the human that answers.

use std::{path::PathBuf, sync::Arc};

use super::{
    CliError,
    run_options::{Interaction, RunOptions, RunOutputFormat},
};
use crate::{human::Human, journal::Durability, model::RunId, report::screen::Screen, system::clock};

/// The context of a run before it starts.
pub(super) struct RunContext {
    /// The ID of the run.
    pub(super) run: RunId,
    /// The path of the journal.
    pub(super) journal: PathBuf,
    /// The screen that shows the run.
    pub(super) screen: Screen,
    /// The human that answers questions.
    pub(super) human: Arc<dyn Human>,
    /// The output format of stdout.
    pub(super) output: RunOutputFormat,
    /// The durability of the journal.
    pub(super) durability: Durability,
}

impl RunContext {
    /// Creates the context of `run`, with the journal at `journal`.
    ///
    /// # Errors
    /// Fails if the screen cannot be opened, or as [`RunOptions::build_human`] does.
    pub(super) fn new(
        run: RunId,
        journal: PathBuf,
        drive: &RunOptions,
        otherwise: Interaction,
    ) -> Result<Self, CliError> {
        let screen = open_screen()?;
        let human = drive.build_human(&screen, &run, otherwise)?;
        Ok(Self { run, journal, screen, human, output: drive.output, durability: drive.durability })
    }
}

/// Returns a new run ID, which contains the current time.
pub(super) fn new_run_id() -> RunId {
    RunId::from(clock::new_id().to_string())
}

/// Opens the screen, which shows everything but results.
///
/// # Errors
/// Fails if stderr cannot be written.
pub(super) fn open_screen() -> Result<Screen, CliError> {
    Screen::stderr().map_err(|error| CliError::failed("stderr cannot be written", error))
}
