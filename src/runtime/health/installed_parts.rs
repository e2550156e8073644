//! What `kapell doctor` checks.

use crate::config::{AgentsFile, AgentsFiles, Diagnostics};
use crate::journal::{JournalError, JournalLocation};

/// What is checked.
#[derive(Debug)]
pub struct InstalledParts {
    /// The agents files.
    pub files: AgentsFiles,
    /// The contents of the agents files; absent if there is none.
    pub agents: Option<Result<AgentsFile, Diagnostics>>,
    /// The journal.
    pub journal: Result<JournalLocation, JournalError>,
}
