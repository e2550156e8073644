//! Arguments that several commands have.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};

use crate::config;
use crate::journal::JournalLocation;

/// The path of the agents file.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentsArg {
    /// The agents file [default: agents.toml in the current directory, or else in the configuration directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) agents: Option<PathBuf>,
}

impl AgentsArg {
    /// Returns the path of the agents file.
    pub(crate) fn path(&self) -> PathBuf {
        config::agents_path(self.agents.as_deref())
    }
}

/// The location of the journal.
#[derive(Debug, Clone, Args)]
pub(crate) struct JournalArg {
    /// The journal [default: journal.db in the state directory]
    #[arg(long, value_name = "PATH", value_parser = PathBufValueParser::new().map(JournalLocation::from))]
    pub(crate) journal: Option<JournalLocation>,
}

/// The output format of a command that looks something up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Plain text
    #[default]
    Text,
    /// JSON
    Json,
}
