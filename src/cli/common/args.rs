//! Arguments that several commands have.

use std::path::{Path, PathBuf};

use clap::builder::{EnumValueParser, PathBufValueParser, TypedValueParser as _};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use crate::config::AgentsFiles;
use crate::journal::JournalLocation;
use crate::runtime::Freshness;
use crate::system::environment;

/// The path of the agents file.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentsArg {
    /// The agents file [default: `KAPELL_AGENTS`, or else agents.toml beside the plan or in the current directory or above
    /// it in the repository, and the one of the user]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) agents: Option<PathBuf>,
}

impl AgentsArg {
    /// Returns the agents files of a command, or of a run of the plan file `plan`.
    pub(crate) fn files(&self, plan: Option<&Path>) -> AgentsFiles {
        let named = self.agents.clone().or_else(|| path_variable("KAPELL_AGENTS"));
        named.map_or_else(|| AgentsFiles::find(plan), AgentsFiles::named)
    }
}

/// Returns the path in an environment variable, if it is set.
pub(crate) fn path_variable(name: &str) -> Option<PathBuf> {
    environment::variable(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether agents are asked again what they offer.
#[derive(Debug, Clone, Args)]
pub(crate) struct RefreshArg {
    /// Ask the agents again what they offer, instead of using what they offered within the last day
    #[arg(long)]
    refresh: bool,
}

impl RefreshArg {
    pub(crate) fn freshness(&self) -> Freshness {
        if self.refresh { Freshness::Current } else { Freshness::Cached }
    }
}

/// The location of the journal.
#[derive(Debug, Clone, Args)]
pub(crate) struct JournalArg {
    /// The journal [default: `KAPELL_JOURNAL`, or else journal.db in the state directory]
    #[arg(short, long, value_name = "PATH", value_parser = PathBufValueParser::new().map(JournalLocation::from))]
    pub(crate) journal: Option<JournalLocation>,
}

/// The output format of a command that looks something up: `--output FORMAT`, or `--json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Plain text
    #[default]
    Text,
    /// JSON
    Json,
}

/// The name of the option with the output format.
const OUTPUT: &str = "output";

impl FromArgMatches for OutputFormat {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = matches.get_one(OUTPUT).copied().unwrap_or_default();
        Ok(if JsonArg::from_arg_matches(matches)?.json { Self::Json } else { named })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OutputFormat {
    fn augment_args(command: Command) -> Command {
        let output = Arg::new(OUTPUT).long(OUTPUT).value_name("FORMAT").help("The output format");
        let output = output.value_parser(EnumValueParser::<Self>::new()).default_value("text");
        JsonArg::augment_args(command.arg(output))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Whether `--json` is given to a command whose `--output` has more formats than [`OutputFormat`].
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct JsonArg {
    /// The same as `--output json`
    #[arg(long, conflicts_with = OUTPUT)]
    json: bool,
}

impl JsonArg {
    /// Returns whether the option is given.
    pub(crate) fn is_given(self) -> bool {
        self.json
    }
}
