//! Formats the results of `kapell doctor` as text.

use std::iter;

use console::{Alignment, measure_text_width, pad_str};
use owo_colors::{OwoColorize, Style};
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::view::text::{count_text, printable};
use crate::view::{HealthCheck, HealthSection, HealthStatus};

/// The width of the column with the statuses.
const STATUS_WIDTH: usize = 9;
/// A longer name does not make the column of all names wider.
const MAX_NAME_WIDTH: usize = 24;
/// Narrower text is not wrapped, since it would be harder to read.
const MIN_TEXT_WIDTH: usize = 20;

/// Returns the checks by section with styles, each with its fix, and a summary. Lines are wrapped at `width`, if it is known.
pub fn health_text(checks: &[HealthCheck], width: Option<usize>) -> String {
    let names = checks.iter().map(|check| measure_text_width(&printable(&check.name)));
    let name_width = names.filter(|width| *width <= MAX_NAME_WIDTH).max().unwrap_or(0);
    let (mut text, mut section) = (String::new(), None::<HealthSection>);
    for check in checks {
        if section != Some(check.section) {
            section = Some(check.section);
            text += &format!("{}\n", <&str>::from(check.section));
        }
        let status = pad_str(check.status.into(), STATUS_WIDTH, Alignment::Left, None).into_owned();
        let name = printable(&check.name);
        let name = pad_str(&name, name_width, Alignment::Left, None);
        let style = match check.status {
            HealthStatus::Ok => Style::new().green(),
            HealthStatus::Warning => Style::new().yellow(),
            HealthStatus::Failed => Style::new().red(),
            HealthStatus::Absent => Style::new().dimmed(),
        };
        let head = format!("  {}{name}  ", status.style(style));
        let indent = " ".repeat(2 + STATUS_WIDTH + name_width + 2);
        text += &wrapped(&printable(&check.message), &head, &indent, width);
        if let Some(fix) = &check.fix {
            text += &wrapped(&printable(fix), &format!("{indent}fix: "), &format!("{indent}     "), width);
        }
    }
    text + &summary(checks)
}

/// Returns the text after `head`, with further lines after `indent`.
fn wrapped(text: &str, head: &str, indent: &str, width: Option<usize>) -> String {
    match width.filter(|width| *width >= measure_text_width(indent) + MIN_TEXT_WIDTH) {
        Some(width) => {
            let options = Options::new(width).initial_indent(head).subsequent_indent(indent).break_words(false);
            let options = options.word_separator(WordSeparator::AsciiSpace).word_splitter(WordSplitter::NoHyphenation);
            textwrap::fill(text, options) + "\n"
        }
        None => format!("{head}{text}\n"),
    }
}

/// Returns the numbers of failures and warnings.
fn summary(checks: &[HealthCheck]) -> String {
    let number = |status| checks.iter().filter(|check| check.status == status).count();
    let warnings = number(HealthStatus::Warning);
    let parts: Vec<String> = match (number(HealthStatus::Failed), warnings) {
        (0, 0) => vec!["everything works".to_owned()],
        (0, _) => vec![count_text(warnings, "warning")],
        (failed, 0) => vec![format!("{failed} failed")],
        (failed, _) => iter::once(format!("{failed} failed")).chain([count_text(warnings, "warning")]).collect(),
    };
    format!("\n{}\n", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn checks_are_aligned_and_wrapped() {
        let check = |section, name: &str, status, message: &str| HealthCheck::new(section, name, status, message);
        let checks = [
            check(HealthSection::AgentsFile, "project", HealthStatus::Ok, "/home/ana/trips/agents.toml"),
            check(
                HealthSection::Agents,
                "research",
                HealthStatus::Failed,
                "it ended with exit code 1 before it answered",
            )
            .with_fix("`kapell agents logs research` prints what it wrote to standard error"),
            check(HealthSection::Models, "llm", HealthStatus::Absent, "none is configured"),
            check(HealthSection::Journal, "disk", HealthStatus::Warning, "812.0 MiB free").with_fix("free space"),
        ];
        insta::assert_snapshot!(format!(
            "{}\n---- 60 columns\n{}",
            strip_str(&health_text(&checks, None)),
            strip_str(&health_text(&checks, Some(60)))
        ));
        assert!(health_text(&checks[..1], None).ends_with("\neverything works\n"));
    }
}
