//! The options of a session, which apply to all of its commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command};

use crate::cli::common::args::{AgentsArg, JournalArg};
use crate::cli::common::files::absolute;

#[derive(Debug, Clone, Args)]
pub(crate) struct ReplArgs {
    #[command(flatten)]
    pub(super) agents: AgentsArg,
    #[command(flatten)]
    pub(super) journal: JournalArg,
    /// A YAML file with rules that answer questions first
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

impl ReplArgs {
    /// Makes the options of the session the defaults of a command and its subcommands.
    pub(super) fn set_defaults(&self, command: Command) -> Command {
        let journal = self.journal.journal.as_ref().map(ToString::to_string);
        let defaults: [(&str, Option<OsString>); 3] = [
            ("agents", self.agents.agents.as_deref().map(|path| absolute(path).into())),
            ("journal", journal.map(OsString::from)),
            ("answers", self.answers.clone().map(OsString::from)),
        ];
        let defaults: Vec<(&str, OsString)> =
            defaults.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        set_defaults(command, &defaults)
    }
}

fn set_defaults(command: Command, defaults: &[(&'static str, OsString)]) -> Command {
    let command = defaults.iter().fold(command, |command, (name, value)| {
        // Another argument may have the same name.
        let is_option = command.get_arguments().any(|arg| arg.get_id() == *name && arg.get_long() == Some(*name));
        match is_option {
            true => command.mut_arg(*name, |arg| arg.default_value(value.clone()).hide_default_value(true)),
            false => command,
        }
    });
    command.mut_subcommands(|subcommand| set_defaults(subcommand, defaults))
}
