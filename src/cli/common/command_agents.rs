//! The agents files for the run pages, as commands find them.

use std::path::Path;

use super::args::AgentsArg;
use super::files;
use crate::config::AgentsFile;
use crate::model::RunSource;
use crate::serve::AgentsSource;

/// The agents files that commands with this argument use.
pub(crate) struct CommandAgents(pub(crate) AgentsArg);

impl AgentsSource for CommandAgents {
    fn of_run(&self, source: Option<&RunSource>) -> AgentsFile {
        files::load_agents_of(&self.0, source).unwrap_or_default()
    }

    fn of_plan(&self, plan: &Path) -> Result<Option<AgentsFile>, String> {
        let agents = self.0.files(Some(plan));
        match agents.first() {
            None => Ok(None),
            Some(_) => files::read_agents(&agents).map(Some).map_err(|error| error.to_string()),
        }
    }
}
