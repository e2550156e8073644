//! The demo agents and their settings.

use std::path::PathBuf;

/// The variable with the path of the file to which each effect is appended as one line of JSON.
pub const EFFECTS_VARIABLE: &str = "KAPELL_DEMO_EFFECTS";
/// The variable with the path of the directory for the documents of the archive and the jobs of the bindery.
pub const DIRECTORY_VARIABLE: &str = "KAPELL_DEMO_DIR";

/// The demo agent to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum DemoAgent {
    /// Books trips: progress, and a question to the person before anything is booked.
    Travel,
    /// Finds things to read: progress, log messages, and a request to the host's language model.
    Research,
    /// Keeps documents: resource links, and resources to read.
    Archive,
    /// Works in the background: jobs that continue after the call, and tasks.
    Bindery,
    /// Does the work of several agents: the tools `travel_agent`, `research_agent`, and `long_running_agent`.
    Concierge,
}

impl DemoAgent {
    /// Returns the name of the agent on the command line and in `agents.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Travel => "travel",
            Self::Research => "research",
            Self::Archive => "archive",
            Self::Bindery => "bindery",
            Self::Concierge => "concierge",
        }
    }
}

/// The locations where an agent stores its effects and data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoSettings {
    /// The file to which effects are appended. Without it, none are recorded.
    pub effects: Option<PathBuf>,
    /// The directory of the archive and the bindery. Defaults to the platform's directory for application state.
    pub directory: Option<PathBuf>,
}

impl DemoSettings {
    /// Reads [`EFFECTS_VARIABLE`] and [`DIRECTORY_VARIABLE`]. An empty variable counts as unset.
    pub fn from_environment() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { effects: path(EFFECTS_VARIABLE), directory: path(DIRECTORY_VARIABLE) }
    }
}
