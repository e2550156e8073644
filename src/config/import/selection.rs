//! Decides which of the imported agents are added to an agents file.

use super::imported_agents::ImportedAgent;
use crate::config::editing::agents_document::AgentsDocument;

/// The agents that are added to an agents file, each with its name there.
#[derive(Debug, Default)]
pub struct ImportSelection {
    added: Vec<ImportedAgent>,
}

/// What happens to an imported agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStatus {
    /// It is added.
    New,
    /// The file has the same agent under another name, or the same agent of another host is added.
    Duplicate,
    /// The file has an agent with this name, which stays as it is.
    Exists,
}

impl ImportSelection {
    /// Selects an agent, unless it exists in the file or is selected already. If another selected agent has its name, its
    /// name gets a number.
    pub fn select(&mut self, document: &AgentsDocument, agent: &mut ImportedAgent) -> ImportStatus {
        if document.has_agent(&agent.name) {
            return ImportStatus::Exists;
        }
        if document.has_entry(&agent.entry) || self.added.iter().any(|added| added.entry == agent.entry) {
            return ImportStatus::Duplicate;
        }
        let is_free = |name: &String| !document.has_agent(name) && self.added.iter().all(|added| added.name != *name);
        let numbered = (2..).map(|number| format!("{}-{number}", agent.name));
        if let Some(name) = std::iter::once(agent.name.clone()).chain(numbered).find(is_free) {
            agent.name = name;
        }
        self.added.push(agent.clone());
        ImportStatus::New
    }

    /// Returns the selected agents.
    pub fn agents(&self) -> &[ImportedAgent] {
        &self.added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::editing::agent_entry::AgentEntry;

    #[test]
    fn existing_agents_stay_and_other_names_are_numbered() {
        let document =
            AgentsDocument::parse("agents.toml", "[agents.time]\ncommand = \"x\"\n[agents.files-2]\n").expect("TOML");
        let mut selection = ImportSelection::default();
        let mut select = |name: &str, command: &str| {
            let entry = AgentEntry { command: Some(command.to_owned()), ..AgentEntry::default() };
            let (variables, remarks) = (Vec::new(), Vec::new());
            let mut agent = ImportedAgent { name: name.to_owned(), entry, variables, remarks };
            (selection.select(&document, &mut agent), agent.name)
        };
        assert_eq!(select("time", "y"), (ImportStatus::Exists, "time".to_owned()));
        assert_eq!(select("files", "a"), (ImportStatus::New, "files".to_owned()));
        assert_eq!(select("docs", "a"), (ImportStatus::Duplicate, "docs".to_owned()));
        assert_eq!(select("files", "b"), (ImportStatus::New, "files-3".to_owned()));
        assert_eq!(selection.agents().len(), 2);
    }
}
