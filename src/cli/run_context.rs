//! What a run has of its own before it starts: its id, where it is kept and shown, who answers.
//! Never starts it.

use std::{path::PathBuf, sync::Arc};

use super::{
    CliError,
    run_options::{Interaction, RunOptions, RunOutputFormat},
};
use crate::{human::Human, journal::Durability, model::RunId, report::screen::Screen, system::clock};

/// What a run has of its own before it starts.
pub(super) struct RunContext {
    /// Its id.
    pub(super) run: RunId,
    /// Where its journal is.
    pub(super) journal: PathBuf,
    /// Where it is shown.
    pub(super) screen: Screen,
    /// Who answers.
    pub(super) human: Arc<dyn Human>,
    /// What is printed on stdout.
    pub(super) output: RunOutputFormat,
    /// How surely it is kept.
    pub(super) durability: Durability,
}

impl RunContext {
    /// The desk of `run`, whose journal is at `journal`.
    ///
    /// # Errors
    /// When there is nowhere to show the run, or as for [`RunOptions::build_human`].
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

/// The id of a run that begins now.
pub(super) fn new_run_id() -> RunId {
    RunId::from(clock::new_id().to_string())
}

/// Where everything is shown but results.
///
/// # Errors
/// When stderr cannot be written.
pub(super) fn open_screen() -> Result<Screen, CliError> {
    Screen::stderr().map_err(|error| CliError::failed("stderr cannot be written", error))
}
