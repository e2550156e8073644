//! Splits a typed line into the words of a command.

use crate::cli::CliError;

/// Splits a line like a shell: quotation marks and backslashes group words, and `#` begins a comment. A line that begins
/// with a quoted sentence states a goal.
///
/// # Errors
/// Fails for a quotation mark that is not closed, and for several lines, which a paste may contain.
pub(super) fn split_line(line: &str) -> Result<Vec<String>, CliError> {
    let Some(mut words) = shlex::split(line) else {
        return Err(CliError::usage(
            "cli::unclosed_quote",
            "a quotation mark is not closed",
            "put a text with an apostrophe in double quotation marks",
        ));
    };
    if has_several_commands(line) {
        return Err(CliError::usage(
            "cli::several_lines",
            "several lines were pasted, and a command is one line; nothing ran",
            "paste one command at a time, or pass a file with one command a line: `kapell repl < FILE`",
        ));
    }
    // Commands are often copied from a message, a page, or a shell.
    if words.first().is_some_and(|word| word == "kapell") {
        words.remove(0);
    }
    if words.first().is_some_and(|word| word.trim().contains(char::is_whitespace)) {
        words.insert(0, "goal".to_owned());
    }
    Ok(normalize(words))
}

/// Completes commands that have a short form in a session.
fn normalize(mut words: Vec<String>) -> Vec<String> {
    let Some(command) = words.first() else { return words };
    let is_help = |word: &String| word == "--help" || word == "-h" || word == "help";
    match (command.as_str(), words.get(1)) {
        ("runs", second) if second.is_none_or(|word| word.starts_with('-') && !is_help(word)) => {
            words.insert(1, "list".to_owned());
            words
        }
        ("goal", Some(second)) if !is_help(second) => {
            // A goal may be typed without quotation marks; options follow it.
            let end = words.iter().position(|word| word.starts_with("--")).unwrap_or(words.len());
            let options = words.split_off(end);
            let goal = words.split_off(1).join(" ");
            let run = ["run".to_owned(), "--goal".to_owned(), goal];
            run.into_iter().chain(options).collect()
        }
        _ => words,
    }
}

/// Returns whether more than one line outside of quotation marks has words.
fn has_several_commands(line: &str) -> bool {
    let mut lines = line.split('\n').scan(String::new(), |open, part| {
        open.push_str(part);
        Some(match shlex::split(open) {
            Some(words) => {
                open.clear();
                !words.is_empty()
            }
            None => {
                open.push('\n');
                false
            }
        })
    });
    lines.by_ref().filter(|has_words| *has_words).nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, &'static str> {
        split_line(line).map_err(|error| match error {
            CliError::Usage { code, .. } => code,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn lines_are_split_like_in_a_shell() {
        for (line, expected) in [
            ("", &[][..]),
            ("  # a comment", &[]),
            ("list", &["list"]),
            ("kapell list", &["list"]),
            ("travel_agent destination='New York' nights=3", &["travel_agent", "destination=New York", "nights=3"]),
            (r#"call a.b --json '{"x": 1}'"#, &["call", "a.b", "--json", r#"{"x": 1}"#]),
            ("runs", &["runs", "list"]),
            ("runs --limit 3", &["runs", "list", "--limit", "3"]),
            ("runs show last", &["runs", "show", "last"]),
            ("runs --help", &["runs", "--help"]),
            ("\nlist\n", &["list"]),
            ("call a.b text='one\ntwo'", &["call", "a.b", "text=one\ntwo"]),
        ] {
            assert_eq!(words(line).expect(line), expected, "{line}");
        }
    }

    #[test]
    fn quoted_sentences_are_goals() {
        let goal = ["run", "--goal", "Plan a weekend in Lisbon"];
        for line in ["\"Plan a weekend in Lisbon\"", "'Plan a weekend in Lisbon'", "goal Plan a weekend in Lisbon"] {
            assert_eq!(words(line).expect(line), goal, "{line}");
        }
        assert_eq!(words("\"Plan a trip\" --yes").expect("words"), ["run", "--goal", "Plan a trip", "--yes"]);
        assert_eq!(words("goal --help").expect("words"), ["goal", "--help"]);
    }

    #[test]
    fn pasted_lines_do_not_run() {
        assert_eq!(words("list\nruns"), Err("cli::several_lines"));
        assert_eq!(words("call a.b x='1\n2'\nruns"), Err("cli::several_lines"));
        assert_eq!(words("research_agent topic=today's"), Err("cli::unclosed_quote"));
    }
}
