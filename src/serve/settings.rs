//! What a server needs of the program that starts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::PageToken;
use super::driver_program::DriverProgram;
use crate::config::AgentsFile;
use crate::journal::Store;
use crate::model::RunSource;

/// Finds the agents files of runs and plans.
pub trait AgentsSource: Send + Sync {
    /// Returns the agents file of a run that began with these files, as far as it can be read.
    fn of_run(&self, source: Option<&RunSource>) -> AgentsFile;

    /// Returns the agents file of a plan; `None` if there is none.
    ///
    /// # Errors
    /// Describes what is wrong with the file.
    fn of_plan(&self, plan: &Path) -> Result<Option<AgentsFile>, String>;
}

/// The settings of a server.
pub struct ServeSettings {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// The directory with the large and binary contents of results.
    pub content_root: PathBuf,
    /// The agents files.
    pub agents: Arc<dyn AgentsSource>,
    /// The directory with the plans that can be started, if any.
    pub plans: Option<PathBuf>,
    /// The program that drives the runs that the page starts.
    pub program: DriverProgram,
    /// The secret that gives access.
    pub token: PageToken,
    /// Further names of this machine that browsers use.
    pub hosts: Vec<String>,
}
