//! Plans, agents files, and answers files in documents are valid.

use std::path::Path;

use kapell::config::{self, Environment};

use super::markdown::{CodeBlock, Document, documents};

/// An environment in which every variable is set.
#[derive(Debug)]
struct EverythingIsSet;

impl Environment for EverythingIsSet {
    fn variable(&self, name: &str) -> Option<String> {
        Some(format!("value-of-{name}"))
    }

    fn executable(&self) -> Result<String, String> {
        Ok("/usr/bin/kapell".to_owned())
    }

    fn free_port(&self) -> Result<u16, String> {
        Ok(7101)
    }
}

/// What a code block contains.
#[derive(Debug, PartialEq, Eq)]
enum Snippet {
    Plan,
    Agents,
    Answers,
    /// Something else, or a part of a file.
    Other,
}

impl Snippet {
    fn of(block: &CodeBlock) -> Self {
        let has_key = |key: &str| block.text.lines().any(|line| line.starts_with(key));
        match block.language.as_str() {
            "yaml" if has_key("tasks:") => Self::Plan,
            "yaml" if has_key("answers:") => Self::Answers,
            "toml" if has_key("[agents.") || has_key("[llm") || has_key("[models.") => Self::Agents,
            _ => Self::Other,
        }
    }

    fn check(&self, block: &CodeBlock) -> Result<(), String> {
        let name = "snippet.yaml";
        match self {
            Self::Plan => config::load_plan_without_agents(name, &block.text).map(drop).map_err(|e| e.to_string()),
            Self::Agents => {
                config::parse_agents("agents.toml", &block.text, &EverythingIsSet).map(drop).map_err(|e| e.to_string())
            }
            Self::Answers => config::read_answer_rules(name, &block.text).map(drop).map_err(|e| e.to_string()),
            Self::Other => Ok(()),
        }
    }
}

#[test]
fn whole_files_in_documents_are_valid() {
    let mut problems = Vec::new();
    let mut counts = [0_usize; 3];
    for document in documents() {
        for block in document.code_blocks() {
            let snippet = Snippet::of(&block);
            match snippet {
                Snippet::Plan => counts[0] += 1,
                Snippet::Agents => counts[1] += 1,
                Snippet::Answers => counts[2] += 1,
                Snippet::Other => continue,
            }
            if let Err(problem) = snippet.check(&block) {
                problems.push(format!("{}:{}: {problem}", document.path.display(), block.line));
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "plans, agents files, and answers files: {counts:?}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn plan_of_the_readme_uses_its_agents() {
    let blocks = Document::read(Path::new("README.md")).code_blocks();
    let text = |kind: Snippet| {
        let block = blocks.iter().find(|block| Snippet::of(block) == kind);
        block.map(|block| block.text.clone()).unwrap_or_else(|| panic!("README.md has no {kind:?}"))
    };
    let agents = config::parse_agents("agents.toml", &text(Snippet::Agents), &EverythingIsSet).expect("valid agents");
    let plan = config::load_plan("README.md", &text(Snippet::Plan), &agents, None);
    assert!(plan.is_ok(), "{}", plan.err().map(|error| error.to_string()).unwrap_or_default());
}
