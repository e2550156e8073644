//! `commands.md`: the help of every command.

use std::fmt::Write as _;

use super::page::check_page;
use crate::support::workspace::{CommandOutput, Workspace};

const HEAD: &str = "# Commands

The help of every command, as `kapell COMMAND --help` prints it. The codes that commands exit with are in
[Exit codes](exit-codes.md), the variables that they read in [Environment variables](environment.md).

";

/// Calls a function with the help of each command.
pub(super) fn each_help(visit: &mut dyn FnMut(&str)) {
    visit_commands(&Workspace::new(), &[], &mut |_, help| visit(help));
}

#[test]
fn commands_are_up_to_date() {
    let mut text = HEAD.to_owned();
    visit_commands(&Workspace::new(), &[], &mut |path, help| {
        let (about, details) = help.split_once("\nUsage:").expect("a usage");
        let _ = writeln!(text, "## {}\n", [&["kapell"], path].concat().join(" "));
        let _ = writeln!(text, "{}\n", about.trim_end());
        let details: String = details.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        let _ = writeln!(text, "```text\nUsage:{}\n```\n", details.trim_end());
    });
    check_page("commands.md", &text);
}

/// Calls a function with the path and the help of a command and of its subcommands.
fn visit_commands(place: &Workspace, path: &[&str], visit: &mut dyn FnMut(&[&str], &str)) {
    let mut command = place.command(path.iter().chain(&["--help"]));
    let help = CommandOutput::of(command.env_remove("COLUMNS").env_remove("LINES"));
    assert_eq!(help.code, Some(0), "{help:?}");
    visit(path, &help.stdout);
    for name in subcommands(&help.stdout) {
        visit_commands(place, &[path, &[name]].concat(), visit);
    }
}

/// Returns the names below `Commands:`.
fn subcommands(help: &str) -> Vec<&str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let entries = lines.take_while(|line| line.starts_with("  ")).filter_map(|line| line.strip_prefix("  "));
    let names = entries.filter(|entry| !entry.starts_with(' ')).filter_map(|entry| entry.split(' ').next());
    names.filter(|name| *name != "help").collect()
}
