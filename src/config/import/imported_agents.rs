//! The agents of other hosts, as they can be added to an agents file.

use std::path::Path;

use crate::config::editing::agent_entry::AgentEntry;

/// What the meaning of a file depends on.
#[derive(Debug, Clone, Copy)]
pub struct ImportContext<'a> {
    /// The directory of the project: the one of the file, or else the working directory.
    pub project: &'a Path,
    /// Whether the file is part of the project.
    pub in_project: bool,
}

/// The agents of a file of another host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportedAgents {
    /// The agents that can be used.
    pub agents: Vec<ImportedAgent>,
    /// The agents that cannot be used.
    pub skipped: Vec<SkippedAgent>,
}

/// An agent that can be added to an agents file.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedAgent {
    /// Its name.
    pub name: String,
    /// Its section.
    pub entry: AgentEntry,
    /// The variables that have to be set, because the values of secrets are not copied.
    pub variables: Vec<String>,
    /// What is different here, and what was not imported.
    pub remarks: Vec<String>,
}

/// An agent that cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub struct SkippedAgent {
    /// Its name at the host.
    pub name: String,
    /// The reason.
    pub reason: String,
}

impl ImportedAgents {
    pub(super) fn push(&mut self, name: &str, agent: Result<ImportedAgent, String>) {
        match agent {
            Ok(agent) => self.agents.push(agent),
            Err(reason) => self.skipped.push(SkippedAgent { name: name.to_owned(), reason }),
        }
    }
}
