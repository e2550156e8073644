//! Decides whether a text on the command line names a plan or states a goal.
//!
//! A mistyped plan name must not reach a language model, since its reply would be run as a plan. Therefore, only a text
//! that reads as a sentence counts as a goal; `--goal` accepts any text.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::expression::closest_match;

/// Limits how many entries of a directory are compared with a mistyped name.
const MAX_COMPARED_ENTRIES: usize = 10_000;
/// The number of characters in a script without spaces that make a sentence rather than a name.
const MIN_UNSPACED_CHARS: usize = 4;

/// The target of a command line: a plan or a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandTarget<'a> {
    /// A plan file, or `-` for standard input.
    Plan(&'a str),
    /// A goal to be planned.
    Goal(&'a str),
}

impl<'a> CommandTarget<'a> {
    /// Returns the target of `kapell COMMAND TEXT` or `kapell COMMAND --goal TEXT`.
    ///
    /// # Errors
    /// Fails if the text is blank, or looks like the name of a plan that does not exist.
    pub(crate) fn from_args(command: &str, text: Option<&'a str>, goal: Option<&'a str>) -> Result<Self, CliError> {
        match (goal, text) {
            (Some(goal), _) => require_text(command, goal).map(Self::Goal),
            (None, text) => Self::from_text(command, text.unwrap_or_default()),
        }
    }

    fn from_text(command: &str, text: &'a str) -> Result<Self, CliError> {
        let name = require_text(command, text)?.trim();
        if text == "-" {
            return Ok(Self::Plan(text));
        }
        let explicit = format!("`kapell {command} --goal TEXT` treats any text as a goal");
        let problem = match fs::metadata(text) {
            Ok(metadata) if metadata.is_dir() => {
                let help = format!("name a plan file; {explicit}");
                let message = format!("`{text}` is a directory, not a plan file");
                return Err(CliError::usage("cli::not_a_file", message, help));
            }
            Ok(_) => return Ok(Self::Plan(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        let has_space = name.contains(char::is_whitespace);
        let message = match has_space {
            true if is_yaml(name) => {
                format!("`{text}` looks like the name of a plan file, which {problem}")
            }
            true if is_path(name) || file_with_extension(name).is_some() => {
                format!("`{text}` looks like the path of a plan file, which {problem}")
            }
            false if is_yaml(name) => format!("the plan file `{text}` {problem}"),
            false if name.contains(['/', '\\']) || !is_unspaced_sentence(name) || similar_file(name).is_some() => {
                format!("the plan file `{text}` does not exist")
            }
            _ => return Ok(Self::Goal(text)),
        };
        let help = match similar_file(name) {
            Some(path) => format!("did you mean `{}`? {explicit}", path.display()),
            None => explicit,
        };
        Err(CliError::usage("cli::unknown_plan", message, help))
    }
}

fn require_text<'a>(command: &str, text: &'a str) -> Result<&'a str, CliError> {
    let is_invisible = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    match text.chars().all(is_invisible) {
        true => Err(CliError::usage(
            "cli::blank_goal",
            "the goal is blank",
            format!("state a goal: `kapell {command} \"GOAL\"`"),
        )),
        false => Ok(text),
    }
}

fn is_yaml(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Returns whether a text with spaces is a path rather than a sentence with a slash, such as `compare TCP/IP and UDP`.
fn is_path(name: &str) -> bool {
    let starts_like_one = ["./", "../", "~/", "/"].iter().any(|start| name.starts_with(start));
    starts_like_one || existing_directory(name).is_some_and(Path::is_dir)
}

/// Returns the directory that a path names, if it exists.
fn existing_directory(name: &str) -> Option<&Path> {
    Path::new(name).parent().filter(|directory| !directory.as_os_str().is_empty())
}

/// Returns the plan file whose name is this one and `.yaml` or `.yml`.
fn file_with_extension(name: &str) -> Option<PathBuf> {
    ["yaml", "yml"]
        .into_iter()
        .map(|extension| PathBuf::from(format!("{name}.{extension}")))
        .find(|path| path.is_file())
}

/// Returns the plan file that was probably meant.
fn similar_file(name: &str) -> Option<PathBuf> {
    if let Some(path) = file_with_extension(name) {
        return Some(path);
    }
    let path = Path::new(name);
    let file_name = path.file_name()?.to_str()?;
    let directory = existing_directory(name);
    let entries = fs::read_dir(directory.unwrap_or(Path::new("."))).ok()?.take(MAX_COMPARED_ENTRIES);
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_yaml(name))
        .collect();
    let stem = |name: &str| Path::new(name).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let by_stem = || {
        let stems: Vec<String> = names.iter().filter_map(|name| stem(name)).collect();
        let closest = closest_match(&stem(file_name)?, stems.iter().map(String::as_str))?.to_owned();
        names.iter().find(|name| stem(name).as_ref() == Some(&closest)).map(String::as_str)
    };
    let similar = by_stem().or_else(|| closest_match(file_name, names.iter().map(String::as_str)))?;
    Some(directory.map_or_else(|| PathBuf::from(similar), |directory| directory.join(similar)))
}

/// Returns whether a text without spaces is a sentence in a script without spaces, such as Chinese, Japanese or Thai.
fn is_unspaced_sentence(text: &str) -> bool {
    let has_no_spaces = |c: &char| {
        matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
            | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}')
    };
    text.chars().filter(has_no_spaces).count() >= MIN_UNSPACED_CHARS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the target of `kapell run TEXT`, or the code and help of the error.
    fn target(text: &str) -> Result<CommandTarget<'_>, (&'static str, String)> {
        CommandTarget::from_args("run", Some(text), None).map_err(|error| match error {
            CliError::Usage { code, help, .. } => (code, help.unwrap_or_default()),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn sentences_are_goals() {
        for text in [
            "find me a hotel",
            "- find me a hotel",
            "--help me plan",
            "compare TCP/IP and UDP",
            "summarize https://example.org/a/b for me",
            "Explain `plan.yaml`.",
            "Explain what ${{ tasks.t1.output }} means",
            "line one\nline two",
            "計画を立ててください。予算は￥50,000です",
            "写一首关于春天的诗",
            "วางแผนเที่ยวเชียงใหม่",
            "خطط لرحلة إلى لشبونة",
        ] {
            assert_eq!(target(text), Ok(CommandTarget::Goal(text)));
        }
    }

    #[test]
    fn words_and_paths_are_plan_names() {
        for text in [
            "lisbon",
            "plans/lisbon",
            "lisbon.yam",
            "2+2",
            "no-such.yaml",
            "my plan.YAML",
            "./my plan",
            "src/my plan",
            "計画",
            "lisbon ",
        ] {
            assert_eq!(target(text).expect_err(text).0, "cli::unknown_plan", "{text}");
            assert_eq!(CommandTarget::from_args("run", None, Some(text)).ok(), Some(CommandTarget::Goal(text)));
        }
    }

    #[test]
    fn rejects_directories_and_blank_text() {
        assert_eq!(target("src").expect_err("a directory").0, "cli::not_a_file");
        for text in ["", " ", "\n\t", "\u{200b}\u{feff}", "\u{3000}"] {
            assert_eq!(target(text).expect_err("blank").0, "cli::blank_goal");
            assert!(CommandTarget::from_args("run", None, Some(text)).is_err());
        }
    }

    #[test]
    fn files_and_stdin_are_plans() {
        for text in ["-", "Cargo.toml", "plans/lisbon.yaml"] {
            assert_eq!(target(text), Ok(CommandTarget::Plan(text)));
        }
    }

    #[test]
    fn suggests_the_intended_plan() {
        for text in ["plans/lisbon", "plans/lisbon.yml", "plans/lisbon.yam", "plans/lisbn", "plans/Lisbon.yaml"] {
            let (_, help) = target(text).expect_err(text);
            assert!(help.contains("`plans/lisbon.yaml`"), "{help}");
        }
    }
}
