//! Opens the agents file for changes, and saves it.

use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::common::args::AgentsArg;
use crate::cli::common::run_options::speaks_for_a_person;
use crate::config::{self, AgentEntry, AgentsDocument, NAME_RULE};
use crate::model::HOST_AGENT;
use crate::system::files;

/// An agents file that is being changed.
pub(super) struct AgentsEditor {
    path: PathBuf,
    document: AgentsDocument,
}

impl AgentsEditor {
    /// Opens the agents file of the project, or else that of the user. A file that does not exist is empty.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is not TOML.
    pub(super) fn open(arg: &AgentsArg) -> Result<Self, CliError> {
        let files = arg.files(None);
        let path = files.first().map(Path::to_owned).or_else(config::user_file).unwrap_or_else(|| "agents.toml".into());
        let document = match path.exists() {
            true => AgentsDocument::parse(&path.display().to_string(), &config::read_text(&path)?)?,
            false => AgentsDocument::default(),
        };
        Ok(Self { path, document })
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the contents of the file.
    pub(super) fn document(&mut self) -> &mut AgentsDocument {
        &mut self.document
    }

    /// Adds an agent.
    ///
    /// # Errors
    /// Fails if the name is invalid, or if the file has an agent with this name.
    pub(super) fn add(&mut self, name: &str, entry: &AgentEntry) -> Result<(), CliError> {
        if !config::is_name(name) {
            return Err(CliError::usage(
                "cli::invalid_name",
                format!("invalid name `{name}` of an agent"),
                format!("expected {NAME_RULE}"),
            ));
        }
        if name == HOST_AGENT {
            return Err(CliError::usage(
                "cli::invalid_name",
                format!("the name `{name}` is reserved for kapell itself"),
                "choose another name for the agent",
            ));
        }
        if self.document.has_agent(name) {
            return Err(CliError::usage(
                "cli::agent_exists",
                format!("`{}` already has the agent `{name}`", self.path.display()),
                format!("choose another name, or remove it first: `kapell agents remove {name}`"),
            ));
        }
        self.document.add(name, entry);
        Ok(())
    }

    /// Saves the file.
    ///
    /// # Errors
    /// Fails if this process does not speak for a person, since a new agent is a program that kapell starts, or if the
    /// file cannot be written.
    pub(super) fn save(&self) -> Result<(), CliError> {
        speaks_for_a_person()?;
        files::replace(&self.path, self.document.to_string().as_bytes()).map_err(|error| {
            CliError::failed("cli::agents_file", format!("`{}` cannot be written", self.path.display()), error)
        })
    }
}
