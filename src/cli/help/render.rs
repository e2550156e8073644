//! Adds the help of each command to the parser of the command line.

use clap::builder::{Styles, UnknownArgumentValueParser};
use clap::{Arg, Command};

use super::commands::{COMMANDS, CommandHelp};
use super::variables::{AGENTS, ALWAYS, JOURNAL, Variable};

/// Options that people know from other programs: the command, the option, and the one that it means here.
const SIMILAR_OPTIONS: &[(&str, &str, &str)] =
    &[("run", "var", "--param"), ("run", "input", "--param"), ("run", "set", "--param"), ("run", "config", "--agents")];

/// Returns the command with examples, exit codes, and environment variables in the help of each of its subcommands.
pub(crate) fn with_help(root: Command) -> Command {
    with_help_of(root, "")
}

fn with_help_of(command: Command, path: &str) -> Command {
    let mut command = command;
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        let path = format!("{path} {name}");
        command = command.mut_subcommand(&name, |command| with_help_of(command, path.trim_start()));
    }
    for (_, option, meant) in SIMILAR_OPTIONS.iter().filter(|(of, ..)| *of == path) {
        let parser = UnknownArgumentValueParser::suggest_arg(*meant);
        let unknown = Arg::new(*option).long(*option).num_args(0..=1).default_missing_value("").value_parser(parser);
        command = command.arg(unknown.hide(true));
    }
    match COMMANDS.iter().find(|help| help.command == path) {
        Some(help) => {
            let styles = command.get_styles().clone();
            let examples = examples(&styles, help);
            let variables = variables_of(&command, help);
            let more = [examples.clone(), exit_codes(&styles, help), environment(&styles, &variables)];
            command.after_help(examples).after_long_help(more.join("\n\n"))
        }
        None => command,
    }
}

/// Returns the variables that a command reads, each once.
fn variables_of(command: &Command, help: &CommandHelp) -> Vec<Variable> {
    let has_option = |name: &str| command.get_arguments().any(|argument| argument.get_id() == name);
    let mut variables = Vec::new();
    let implied = [(has_option("agents"), AGENTS), (has_option("journal"), JOURNAL)];
    let implied = implied.into_iter().filter_map(|(is_read, group)| is_read.then_some(group));
    for variable in implied.chain(help.variables.iter().copied()).chain([ALWAYS]).flatten() {
        if !variables.contains(variable) {
            variables.push(*variable);
        }
    }
    variables
}

/// Returns the lines of a section of the help: a title, and names with their meanings.
fn section(styles: &Styles, title: &str, lines: &[(String, &str)]) -> String {
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, meaning): &(String, &str)| {
        let pad = if meaning.is_empty() { 0 } else { width + 2 - name.len() };
        format!("\n  {literal}{name}{literal:#}{:pad$}{meaning}", "")
    };
    let lines: String = lines.iter().map(line).collect();
    format!("{header}{title}:{header:#}{lines}")
}

fn examples(styles: &Styles, help: &CommandHelp) -> String {
    let lines: Vec<(String, &str)> = help.examples.iter().map(|line| ((*line).to_owned(), "")).collect();
    section(styles, "Examples", &lines)
}

fn exit_codes(styles: &Styles, help: &CommandHelp) -> String {
    let lines: Vec<(String, &str)> = help.exits.iter().map(|exit| (exit.code().to_string(), exit.meaning())).collect();
    section(styles, "Exit codes", &lines)
}

fn environment(styles: &Styles, variables: &[Variable]) -> String {
    let lines: Vec<(String, &str)> =
        variables.iter().map(|variable| (variable.name.to_owned(), variable.meaning)).collect();
    section(styles, "Environment", &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of a command and its subcommands, such as `runs list`.
    fn names(command: &Command, path: &str) -> Vec<String> {
        let below = command.get_subcommands().filter(|command| !command.is_hide_set());
        let below = below.flat_map(|command| names(command, format!("{path} {}", command.get_name()).trim_start()));
        std::iter::once(path.to_owned()).chain(below).collect()
    }

    #[test]
    fn each_command_has_help_and_each_help_a_command() {
        let mut commands = names(&crate::cli::command(), "");
        let mut described: Vec<String> = COMMANDS.iter().map(|help| help.command.to_owned()).collect();
        commands.sort();
        described.sort();
        assert_eq!(described, commands, "add each command to `src/cli/help/commands.rs`");
        assert!(COMMANDS.iter().all(|help| !help.examples.is_empty() && !help.exits.is_empty()));
    }

    #[test]
    fn help_contains_examples_codes_and_variables() {
        let mut command = crate::cli::command();
        let list = command.find_subcommand_mut("runs").and_then(|runs| runs.find_subcommand_mut("list"));
        insta::assert_snapshot!(list.expect("`runs list`").render_long_help().to_string());
    }
}
