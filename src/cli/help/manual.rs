//! The manual pages of all commands.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The sections of the help that a manual page has under another name.
const SECTIONS: [(&str, &str); 3] =
    [("Examples:", "EXAMPLES"), ("Exit codes:", "EXIT STATUS"), ("Environment:", "ENVIRONMENT")];

/// Returns the name and the text of the manual page of each command that the help lists.
///
/// # Errors
/// Fails if a page cannot be formatted.
pub(crate) fn manual_pages(root: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    let source = format!("{} {}", root.get_name(), root.get_version().unwrap_or_default());
    add_pages(&root, &source, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, source: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let manual = Man::new(command.clone()).manual("kapell manual").source(source);
    let mut text = Vec::new();
    manual.render_title(&mut text)?;
    manual.render_name_section(&mut text)?;
    manual.render_synopsis_section(&mut text)?;
    manual.render_description_section(&mut text)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        manual.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        manual.render_subcommands_section(&mut text)?;
    }
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::default();
    for part in help.split("\n\n") {
        let (title, lines) = part.split_once('\n').unwrap_or((part, ""));
        let Some((_, section)) = SECTIONS.into_iter().find(|(known, _)| *known == title) else { continue };
        roff.control("SH", [section]);
        // The lines are columns already.
        roff.control("nf", []);
        for line in lines.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("fi", []);
    }
    roff.to_writer(&mut text)?;
    manual.render_version_section(&mut text)?;
    pages.push((manual.get_filename(), text));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| add_pages(below, source, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_sections() {
        let pages = manual_pages(crate::cli::command()).expect("formats");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.starts_with(&["kapell.1", "kapell-init.1"]) && names.contains(&"kapell-runs-list.1"),
            "{names:?}"
        );
        for (name, text) in &pages {
            let text = String::from_utf8_lossy(text);
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "\"EXIT STATUS\"", "ENVIRONMENT"] {
                assert!(text.contains(&format!("\n.SH {section}\n")), "{name} has no section {section}: {text}");
            }
        }
    }
}
