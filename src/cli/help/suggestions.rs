//! Names the command that is meant by a word of another program, such as `kapell ps`.

use std::ffi::OsStr;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// Words of other programs, and the commands that do the same here.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("add", "kapell agents add"),
    ("chat", "kapell repl"),
    ("check", "kapell validate"),
    ("diff", "kapell runs diff"),
    ("exec", "kapell run"),
    ("format", "kapell fmt"),
    ("history", "kapell runs list"),
    ("import", "kapell agents import"),
    ("install", "kapell agents add"),
    ("invoke", "kapell call"),
    ("list", "kapell runs list"),
    ("login", "kapell agents login"),
    ("logout", "kapell agents logout"),
    ("ls", "kapell runs list"),
    ("mcp", "kapell agents"),
    ("prompts", "kapell agents prompts"),
    ("prune", "kapell runs prune"),
    ("ps", "kapell runs list"),
    ("remove", "kapell agents remove"),
    ("rerun", "kapell retry"),
    ("resources", "kapell agents resources"),
    ("servers", "kapell agents list"),
    ("session", "kapell repl"),
    ("shell", "kapell repl"),
    ("show", "kapell runs show"),
    ("start", "kapell run"),
    ("status", "kapell runs list"),
    ("stop", "kapell cancel"),
    ("test", "kapell agents test"),
    ("tools", "kapell agents tools"),
];

/// Adds the command that is meant to an error about an unknown one. `words` is the command line.
pub(crate) fn with_suggestion<W: AsRef<OsStr>>(
    mut error: clap::Error,
    words: impl IntoIterator<Item = W>,
) -> clap::Error {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let first = words.into_iter().skip(1).find(|word| !word.as_ref().to_string_lossy().starts_with('-'));
    if first.is_none_or(|first| first.as_ref() != OsStr::new(unknown)) {
        return error;
    }
    let Some((_, command)) = OTHER_WORDS.iter().find(|(word, _)| word == unknown) else { return error };
    // Similar words would be a worse advice.
    error.remove(ContextKind::SuggestedSubcommand);
    let tip = StyledStr::from(format!("did you mean `{command}`?"));
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(words: &[&str]) -> String {
        let error = crate::cli::command().try_get_matches_from(words).expect_err("an unknown command");
        with_suggestion(error, words).to_string()
    }

    #[test]
    fn words_of_other_programs_name_the_command() {
        for (word, command) in OTHER_WORDS {
            let text = rendered(&["kapell", "-q", word]);
            assert!(text.contains(&format!("tip: did you mean `{command}`?")), "{word}: {text}");
            let words: Vec<&str> = command.split(' ').collect();
            let known = crate::cli::command();
            let known = words[1..].iter().try_fold(&known, |known, word| known.find_subcommand(word));
            assert!(known.is_some(), "{command}");
        }
        assert!(!rendered(&["kapell", "agents", "ps"]).contains("runs list"));
        assert!(rendered(&["kapell", "rum"]).contains("'run'"));
    }
}
