//! The text of an agents file that can be changed.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table, TableLike};

use super::agent_entry::AgentEntry;
use crate::config::agents::file;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::schema::keys::AGENTS_FILE;

/// The text of an agents file that can be changed. Comments and the order of the file stay.
#[derive(Debug, Clone, Default)]
pub struct AgentsDocument {
    document: DocumentMut,
}

impl AgentsDocument {
    /// Parses the text of an agents file; diagnostics use `name` as the file name.
    ///
    /// # Errors
    /// Returns the diagnostics of a file that is not TOML, or whose `agents` are not tables.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut sink = DiagnosticSink::new("agents", Arc::new(SourceFile::new(name, text.to_owned())));
        let document = match text.parse::<DocumentMut>() {
            Ok(document) => document,
            Err(error) => {
                file::report_syntax(text, &[(error.message(), error.span())], &mut sink);
                return Err(sink.finish());
            }
        };
        match document.get(AGENTS_FILE.agents.name) {
            Some(agents) if agents.as_table_like().is_none() => {
                sink.file_error("wrong_type", "`agents` must be a map");
                Err(sink.finish())
            }
            _ => Ok(Self { document }),
        }
    }

    fn agents(&self) -> Option<&dyn TableLike> {
        self.document.get(AGENTS_FILE.agents.name)?.as_table_like()
    }

    /// Returns whether the file has the agent `name`, enabled or not.
    pub fn has_agent(&self, name: &str) -> bool {
        self.agents().is_some_and(|agents| agents.contains_key(name))
    }

    /// Returns the names of the agents.
    pub fn agent_names(&self) -> Vec<&str> {
        self.agents().into_iter().flat_map(TableLike::iter).map(|(name, _)| name).collect()
    }

    /// Returns whether the file has an agent with the same section, under any name.
    pub fn has_entry(&self, entry: &AgentEntry) -> bool {
        let file: Value = toml_edit::de::from_str(&self.document.to_string()).unwrap_or_default();
        let agents = file.get(AGENTS_FILE.agents.name).and_then(Value::as_object).into_iter().flatten();
        serde_json::to_value(entry).is_ok_and(|entry| agents.into_iter().any(|(_, section)| *section == entry))
    }

    /// Adds an agent after the others. An agent with this name is replaced.
    pub fn add(&mut self, name: &str, entry: &AgentEntry) {
        let is_empty = self.document.as_table().is_empty();
        let mut section = entry.to_table();
        if is_empty {
            // A file of comments only has them at its end.
            let comments = self.document.trailing().as_str().unwrap_or_default().to_owned();
            let prefix = section.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
            let prefix = if comments.is_empty() { prefix.trim_start().to_owned() } else { comments + prefix };
            section.decor_mut().set_prefix(prefix);
            self.document.set_trailing("");
        }
        let agents = self.document.entry(AGENTS_FILE.agents.name).or_insert_with(|| {
            section.set_position(Some(isize::MAX));
            let mut agents = Table::new();
            agents.set_implicit(true);
            Item::Table(agents)
        });
        match agents {
            Item::Table(agents) => drop(agents.insert(name, Item::Table(section))),
            Item::Value(agents) => {
                if let Some(agents) = agents.as_inline_table_mut() {
                    agents.insert(name, section.into_inline_table().into());
                }
            }
            Item::None | Item::ArrayOfTables(_) => {}
        }
    }

    /// Removes an agent with the comment above it. Returns whether the file had it.
    pub fn remove(&mut self, name: &str) -> bool {
        let agents = self.document.get_mut(AGENTS_FILE.agents.name).and_then(Item::as_table_like_mut);
        let Some(removed) = agents.and_then(|agents| agents.remove(name)) else { return false };
        let Some(removed) = removed.as_table() else { return true };
        let comment = removed.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        // Only the last paragraph is about the agent.
        if let Some((others, _)) = comment.rsplit_once("\n\n")
            && !others.trim().is_empty()
        {
            self.insert_comment(&format!("{others}\n"), removed.position());
        }
        true
    }

    /// Inserts a comment before the table that follows a position, or at the end of the file.
    fn insert_comment(&mut self, comment: &str, after: Option<isize>) {
        let next = positions(self.document.as_table()).into_iter().filter(|position| Some(*position) > after).min();
        match next.and_then(|position| table_at(self.document.as_table_mut(), position)) {
            Some(table) => {
                let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
                let prefix = format!("{comment}{prefix}");
                table.decor_mut().set_prefix(prefix);
            }
            None => {
                let trailing = format!("{comment}{}", self.document.trailing().as_str().unwrap_or_default());
                self.document.set_trailing(trailing);
            }
        }
    }
}

impl fmt::Display for AgentsDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.document.to_string().trim_start_matches('\n'))
    }
}

/// Returns the positions of all tables below `table` that have a header.
fn positions(table: &Table) -> Vec<isize> {
    let below = table.iter().filter_map(|(_, item)| item.as_table());
    below.flat_map(|table| table.position().into_iter().chain(positions(table))).collect()
}

/// Returns the table at a position below `table`.
fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    table
        .iter_mut()
        .filter_map(|(_, item)| item.as_table_mut())
        .find_map(|table| if table.position() == Some(position) { Some(table) } else { table_at(table, position) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# My agents.

# The shop.
[agents.shop] # in use
command = \"shop\" # a program

[agents.shop.oauth]
client_id = \"x\"

# The model.
[llm]
model = \"small\"

# The wiki.
[agents.wiki]
url = \"https://wiki.example/mcp\"
# The end.
";

    fn document(text: &str) -> AgentsDocument {
        AgentsDocument::parse("agents.toml", text).expect("TOML")
    }

    #[test]
    fn additions_keep_the_rest_of_the_file() {
        let mut changed = document(FILE);
        assert_eq!(changed.to_string(), FILE);
        let entry = AgentEntry {
            command: Some("npx".to_owned()),
            args: vec!["-y".to_owned(), "files \"x\"".to_owned()],
            env: [("MODE".to_owned(), "a".to_owned())].into_iter().collect(),
            comments: vec!["The files.".to_owned(), "Two\u{7} lines".to_owned()],
            ..AgentEntry::default()
        };
        changed.add("files", &entry);
        let added = "\n# The files.\n# Two  lines\n[agents.files]\ncommand = \"npx\"\n\
                     args = [\"-y\", 'files \"x\"']\nenv = { MODE = \"a\" }\n";
        let end = "# The end.\n";
        assert_eq!(changed.to_string(), format!("{}{added}{end}", FILE.strip_suffix(end).expect("the end")));
        assert_eq!(changed.agent_names(), ["shop", "wiki", "files"]);
        assert!(changed.has_entry(&entry) && !document(FILE).has_entry(&entry));
    }

    #[test]
    fn additions_fit_every_form_of_the_file() {
        let entry = AgentEntry { command: Some("x".to_owned()), ..AgentEntry::default() };
        for (before, after) in [
            ("", "[agents.a]\ncommand = \"x\"\n"),
            ("# Mine.\n", "# Mine.\n\n[agents.a]\ncommand = \"x\"\n"),
            ("[llm]\nmodel = \"m\"", "[llm]\nmodel = \"m\"\n\n[agents.a]\ncommand = \"x\"\n"),
            (
                "agents = { b = { command = \"y\" } }\n",
                "agents = { b = { command = \"y\" } , a = { command = \"x\" } }\n",
            ),
            ("[agents]\nb.command = \"y\"\n", "[agents]\nb.command = \"y\"\n\n[agents.a]\ncommand = \"x\"\n"),
        ] {
            let mut changed = document(before);
            changed.add("a", &entry);
            assert_eq!(changed.to_string(), after);
        }
    }

    #[test]
    fn removals_keep_the_comments_of_the_file() {
        let mut changed = document(FILE);
        assert!(changed.remove("shop") && !changed.remove("shop"));
        let rest = &FILE[FILE.find("\n# The model").expect("the model")..];
        assert_eq!(changed.to_string(), format!("# My agents.\n{rest}"));
        assert!(changed.remove("wiki"));
        assert_eq!(changed.to_string(), "# My agents.\n\n# The model.\n[llm]\nmodel = \"small\"\n# The end.\n");
    }

    #[test]
    fn files_of_another_form_are_refused() {
        for text in ["[agents.a", "agents = 3", "[[agents]]\ncommand = \"x\""] {
            assert!(AgentsDocument::parse("agents.toml", text).is_err(), "{text}");
        }
    }
}
