//! The section of an agent without literal secrets.

use super::agent_entry::AgentEntry;
use super::literal_secrets::conceal_secrets;

/// The section of an agent without literal secrets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConcealedEntry {
    /// The section.
    pub entry: AgentEntry,
    /// The variables that stand for secrets, which have to be set.
    pub variables: Vec<String>,
}

impl ConcealedEntry {
    /// Replaces the secrets in the section of `agent` with variables.
    pub fn new(agent: &str, mut entry: AgentEntry) -> Self {
        let variables = conceal_secrets(agent, &mut entry);
        Self { entry, variables }
    }

    /// Returns the section of a program with its arguments.
    pub fn from_command(agent: &str, command: &[String]) -> Self {
        let mut words = command.iter().cloned();
        Self::new(agent, AgentEntry { command: words.next(), args: words.collect(), ..AgentEntry::default() })
    }

    /// Returns the section of a server.
    pub fn from_url(agent: &str, url: &str) -> Self {
        Self::new(agent, AgentEntry { url: Some(url.to_owned()), ..AgentEntry::default() })
    }
}
