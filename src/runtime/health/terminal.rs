//! Checks the terminal: where progress is shown and questions are asked.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _};

use crate::system::environment;
use crate::view::{HealthCheck, HealthSection, HealthStatus};

/// A narrower terminal drops parts of the live view.
const MIN_COLUMNS: u16 = 60;

/// What is known about the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TerminalFacts {
    /// The rows and columns; absent if stderr is not a terminal.
    size: Option<(u16, u16)>,
    /// Whether stderr is colored.
    is_colored: bool,
    /// The value of `TERM`.
    term: String,
    /// The locale for characters, from `LC_ALL`, `LC_CTYPE`, or `LANG`.
    locale: String,
    /// Whether the process has a controlling terminal.
    has_controlling_terminal: bool,
}

impl TerminalFacts {
    /// Returns the facts about this process.
    pub(super) fn current() -> Self {
        let stderr = console::Term::stderr();
        let text = |name: &str| environment::variable(name).and_then(|value| value.into_string().ok());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(text).find(|value| !value.is_empty());
        Self {
            size: io::stderr().is_terminal().then(|| stderr.size()),
            is_colored: console::colors_enabled_stderr(),
            term: text("TERM").unwrap_or_default(),
            locale: locale.unwrap_or_default(),
            has_controlling_terminal: OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok(),
        }
    }
}

/// Checks the terminal. Nothing of it is a failure, since runs work without one.
pub(super) fn check_terminal(facts: &TerminalFacts) -> Vec<HealthCheck> {
    let check = |name: &str, status, message: String| HealthCheck::new(HealthSection::Terminal, name, status, message);
    let mut checks = vec![match facts.size {
        None => check("stderr", HealthStatus::Absent, "not a terminal: progress is printed as lines".to_owned()),
        Some(_) if facts.term == "dumb" || facts.term.is_empty() => {
            let message = format!("`TERM` is `{}`, so progress is printed as lines", facts.term);
            check("stderr", HealthStatus::Warning, message).with_fix("set `TERM`, for example to `xterm-256color`")
        }
        Some((rows, columns)) if columns < MIN_COLUMNS => {
            let message = format!("{columns} columns and {rows} rows: parts of the live view are not shown");
            check("stderr", HealthStatus::Warning, message).with_fix(format!("use at least {MIN_COLUMNS} columns"))
        }
        Some((rows, columns)) => check("stderr", HealthStatus::Ok, format!("{columns} columns and {rows} rows")),
    }];
    checks.push(match facts.is_colored {
        true => check("colors", HealthStatus::Ok, "on".to_owned()),
        false => check("colors", HealthStatus::Absent, "off".to_owned()),
    });
    let encoding = facts.locale.to_ascii_lowercase().replace('-', "");
    checks.push(if encoding.contains("utf8") {
        check("locale", HealthStatus::Ok, facts.locale.clone())
    } else {
        let shown = if facts.locale.is_empty() { "not set".to_owned() } else { format!("`{}`", facts.locale) };
        let message = format!("the encoding is not UTF-8 ({shown}), so bars and names may be garbled");
        check("locale", HealthStatus::Warning, message).with_fix("set `LANG` to a UTF-8 locale, for example `C.UTF-8`")
    });
    checks.push(match facts.has_controlling_terminal {
        true => check("questions", HealthStatus::Ok, "asked on /dev/tty".to_owned()),
        false => {
            let message =
                "no controlling terminal: questions are declined and approvals pause the run, as with `--no-input`";
            check("questions", HealthStatus::Absent, message.to_owned())
        }
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TerminalFacts {
        TerminalFacts {
            size: Some((24, 80)),
            is_colored: true,
            term: "xterm".to_owned(),
            locale: "en_US.UTF-8".to_owned(),
            has_controlling_terminal: true,
        }
    }

    #[test]
    fn each_restriction_has_a_status_and_each_warning_a_fix() {
        let statuses = |facts: &TerminalFacts| {
            let checks = check_terminal(facts);
            assert!(checks.iter().all(|check| (check.status == HealthStatus::Warning) == check.fix.is_some()));
            checks.iter().map(|check| check.status).collect::<Vec<_>>()
        };
        use HealthStatus::{Absent, Ok, Warning};
        assert_eq!(statuses(&facts()), [Ok, Ok, Ok, Ok]);
        assert_eq!(statuses(&TerminalFacts { size: Some((24, 40)), ..facts() }), [Warning, Ok, Ok, Ok]);
        assert_eq!(statuses(&TerminalFacts { term: "dumb".to_owned(), ..facts() }), [Warning, Ok, Ok, Ok]);
        assert_eq!(statuses(&TerminalFacts { size: None, is_colored: false, ..facts() }), [Absent, Absent, Ok, Ok]);
        assert_eq!(statuses(&TerminalFacts { locale: "C".to_owned(), ..facts() }), [Ok, Ok, Warning, Ok]);
        assert_eq!(statuses(&TerminalFacts { locale: String::new(), ..facts() }), [Ok, Ok, Warning, Ok]);
        assert_eq!(statuses(&TerminalFacts { has_controlling_terminal: false, ..facts() }), [Ok, Ok, Ok, Absent]);
    }
}
