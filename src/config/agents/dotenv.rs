//! Reads the `.env` file beside an agents file.

use std::collections::HashMap;
use std::path::Path;

use super::environment::Environment;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::yaml::read::read_text;

/// An environment with the variables of a `.env` file. Variables of the environment itself override them.
pub(super) struct DotenvEnvironment<'e> {
    environment: &'e dyn Environment,
    variables: HashMap<String, String>,
}

impl<'e> DotenvEnvironment<'e> {
    /// Reads the `.env` file beside the agents file at `agents`, if there is one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or the line that is not an assignment.
    pub(super) fn beside(agents: &Path, environment: &'e dyn Environment) -> Result<Self, Diagnostics> {
        let path = agents.with_file_name(".env");
        let mut variables = HashMap::new();
        if path.is_file() {
            let text = read_text(&path)?;
            for entry in dotenvy::Iter::new(text.as_bytes()) {
                let (name, value) = entry.map_err(|error| invalid_line(&path, &text, &error))?;
                variables.insert(name, value);
            }
        }
        Ok(Self { environment, variables })
    }
}

/// Returns the error for an invalid line, which may contain a secret and is not shown.
fn invalid_line(path: &Path, text: &str, error: &dotenvy::Error) -> Diagnostics {
    let number = match error {
        dotenvy::Error::LineParse(line, _) => text.lines().position(|known| known == line).map(|index| index + 1),
        _ => None,
    };
    let line = number.map(|number| format!("line {number} of ")).unwrap_or_default();
    let name = path.display().to_string();
    Diagnostics::for_file(&name, "file::invalid_dotenv", format!("{line}`{name}` is not of the form `NAME=VALUE`"))
        .with_help("put values with blanks or special characters in quotes")
}

impl Environment for DotenvEnvironment<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.variable(name).or_else(|| self.variables.get(name).cloned())
    }

    fn executable(&self) -> Result<String, String> {
        self.environment.executable()
    }

    fn free_port(&self) -> Result<u16, String> {
        self.environment.free_port()
    }
}
