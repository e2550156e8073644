//! Names the servers that may have what a goal needs.

use std::collections::BTreeSet;

use crate::model::text::truncate_chars;
use crate::view::text::printable;

/// The maximum number of servers that are named, and the maximum length of a name.
const MAX_NAMED: usize = 5;
const MAX_NAME_CHARS: usize = 64;
/// The minimum length of words that are compared.
const MIN_WORD_CHARS: usize = 4;
/// Words that say nothing about a server or a goal.
const COMMON_WORDS: [&str; 20] = [
    "agent",
    "can",
    "from",
    "http",
    "https",
    "local",
    "mcp",
    "missing",
    "modelcontextprotocol",
    "none",
    "no",
    "server",
    "servers",
    "that",
    "the",
    "this",
    "tool",
    "tools",
    "with",
    "context",
];

/// A server that is known but not in use.
pub(crate) struct KnownServer {
    /// Its name.
    pub(crate) name: String,
    /// Its command or address.
    pub(crate) about: String,
    /// Where it is known from, and how it can be used.
    pub(crate) place: String,
}

/// Describes the servers that may have what is missing for a goal, or else those that are not in use. `None` if there are
/// none.
pub(crate) fn servers_text(missing: &str, goal: &str, servers: &[KnownServer]) -> Option<String> {
    let wanted: BTreeSet<String> = words(missing).chain(words(goal)).collect();
    let may_help = |server: &&KnownServer| {
        let mut known = words(&server.name).chain(words(&server.about));
        known.any(|word| wanted.iter().any(|wanted| wanted.contains(&word) || word.contains(wanted.as_str())))
    };
    let helpful: Vec<&KnownServer> = servers.iter().filter(may_help).collect();
    let (introduction, named) = match helpful.is_empty() {
        true => ("known servers that are not in use", servers.iter().collect()),
        false => ("known servers that may do it", helpful),
    };
    let names: Vec<String> = named
        .iter()
        .take(MAX_NAMED)
        .map(|server| format!("`{}` ({})", printable(&truncate_chars(&server.name, MAX_NAME_CHARS)), server.place))
        .collect();
    (!names.is_empty()).then(|| format!("{introduction}: {}", names.join(", ")))
}

/// Returns the words of a text that say something.
fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    words.filter(|word| word.chars().count() >= MIN_WORD_CHARS && !COMMON_WORDS.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_a_word_of_the_goal_are_named_first() {
        let server = |name: &str, about: &str, place: &str| KnownServer {
            name: name.to_owned(),
            about: about.to_owned(),
            place: place.to_owned(),
        };
        let servers = [
            server("notes", "npx server-memory", "disabled in the agents file"),
            server("post", "npx -y gmail-mcp-server", "in a.json"),
        ];
        let text = |missing: &str, servers| servers_text(missing, "Write to Ada", servers);
        assert_eq!(
            text("No tool sends mail.", &servers[..]).as_deref(),
            Some("known servers that may do it: `post` (in a.json)")
        );
        let all = "known servers that are not in use: `notes` (disabled in the agents file), `post` (in a.json)";
        assert_eq!(text("No tool makes phone calls.", &servers[..]).as_deref(), Some(all));
        assert_eq!(text("No tool sends mail.", &[]), None);
    }
}
