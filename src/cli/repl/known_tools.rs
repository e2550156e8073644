//! The tools that a session knows: those that agents offered when a command last asked them.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::cli::CliError;
use crate::cli::common::args::AgentsArg;
use crate::cli::common::files;
use crate::cli::completion;
use crate::expression::closest_match;
use crate::model::{AgentId, AgentInfo};
use crate::runtime::{Discovery, Freshness, connect_options};
use crate::view::text::printable;

/// The tools of the agents of a session.
pub(super) struct KnownTools {
    agents: AgentsArg,
    /// Held while agents are asked, so that a command waits for the answers that are on their way.
    asking: Mutex<()>,
}

/// What agents offered, by agent.
pub(super) type Offers = BTreeMap<AgentId, AgentInfo>;

/// The tools that a name may mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ToolMatch {
    /// One tool, as `AGENT.TOOL`.
    One(String),
    /// Several agents have a tool of this name. Each is `AGENT.TOOL`.
    Several(Vec<String>),
    /// No tool.
    Unknown,
}

impl KnownTools {
    pub(super) fn new(agents: AgentsArg) -> Self {
        Self { agents, asking: Mutex::default() }
    }

    /// Returns what agents offered when they were last asked. Starts no agent. Without a valid agents file, it is empty.
    pub(super) fn cached(&self) -> Offers {
        cached_offers(&self.agents)
    }

    /// Asks the agents that no command has asked within the last day. A failure is left to the command that needs the
    /// agent.
    pub(super) async fn discover(&self) -> Offers {
        let _asking = self.asking.lock().await;
        let Some(file) = files::load_agents(&self.agents).ok() else { return Offers::new() };
        let Ok(options) = connect_options(&file, None) else { return Offers::new() };
        let discovery = Discovery::new(options, &file.secrets, Freshness::Cached);
        let catalog = discovery.catalog(file.agents.values().cloned().collect()).await;
        catalog.into_iter().filter_map(|(agent, info)| Some((agent, info.ok()?))).collect()
    }

    /// Returns the tool that `name` means, as `AGENT.TOOL`. Asks agents if no known tool has the name.
    ///
    /// # Errors
    /// Fails if no tool or several tools have this name; `commands` are the other words that may be meant.
    pub(super) async fn resolve(&self, name: &str, commands: &[String]) -> Result<String, CliError> {
        let mut offers = self.cached();
        let mut found = match_tool(name, &offers);
        if found == ToolMatch::Unknown {
            offers = self.discover().await;
            found = match_tool(name, &offers);
        }
        match found {
            ToolMatch::One(target) => Ok(target),
            ToolMatch::Several(targets) => Err(CliError::usage(
                "cli::ambiguous_tool",
                format!("several agents have a tool `{}`", printable(name)),
                format!("name the agent too: {}", backticked(&targets).join(", ")),
            )),
            ToolMatch::Unknown => Err(unknown_word(name, commands, &offers)),
        }
    }
}

/// Returns what agents offered when they were last asked.
pub(super) fn cached_offers(agents: &AgentsArg) -> Offers {
    let Some((file, cache)) = completion::agents_and_cache(agents) else { return Offers::new() };
    let offers = file.agents.into_values().filter_map(|agent| {
        let (info, _) = cache.get(&agent)?;
        Some((agent.id, info))
    });
    offers.collect()
}

/// Returns the tools with this name: `AGENT.TOOL`, or the name of a tool.
pub(super) fn match_tool(name: &str, offers: &Offers) -> ToolMatch {
    if let Some((agent, tool)) = name.split_once('.')
        && offers.get(agent).is_some_and(|info| info.tool(tool).is_some())
    {
        return ToolMatch::One(name.to_owned());
    }
    let with_tool = offers.iter().filter(|(_, info)| info.tool(name).is_some());
    let mut targets: Vec<String> = with_tool.map(|(agent, _)| format!("{agent}.{name}")).collect();
    match targets.len() {
        0 => ToolMatch::Unknown,
        1 => ToolMatch::One(targets.remove(0)),
        _ => ToolMatch::Several(targets),
    }
}

/// Returns the words that call a tool: the name of each tool that one agent has, and `AGENT.TOOL` of the others.
pub(super) fn tool_words(offers: &Offers) -> Vec<(String, Option<String>)> {
    let tools = offers.iter().flat_map(|(agent, info)| info.tools.iter().map(move |tool| (agent, tool)));
    let words = tools.map(|(agent, tool)| {
        let word = match match_tool(&tool.name, offers) {
            ToolMatch::One(_) => tool.name.clone(),
            ToolMatch::Several(_) | ToolMatch::Unknown => format!("{agent}.{}", tool.name),
        };
        (word, completion::first_line(tool.description.as_deref()))
    });
    words.collect()
}

fn unknown_word(name: &str, commands: &[String], offers: &Offers) -> CliError {
    let tools: Vec<String> = tool_words(offers).into_iter().map(|(word, _)| word).collect();
    let full =
        offers.iter().flat_map(|(agent, info)| info.tools.iter().map(move |tool| format!("{agent}.{}", tool.name)));
    let full: Vec<String> = full.collect();
    let words = commands.iter().chain(&tools).chain(&full).map(String::as_str);
    let help = match closest_match(name, words) {
        Some(similar) => format!("did you mean `{}`?", printable(similar)),
        None => "`help` lists the commands, and `list` the tools; put a goal in quotation marks".to_owned(),
    };
    CliError::usage("cli::unknown_command", format!("`{}` is neither a command nor a tool", printable(name)), help)
}

fn backticked(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("`{}`", printable(name))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offers() -> Offers {
        let info = |names: &[&str]| {
            let tools: Vec<_> = names.iter().map(|name| json!({"name": name, "input_schema": {}})).collect();
            let tools = tools.into_iter().map(|tool| serde_json::from_value(tool).expect("a tool")).collect();
            AgentInfo { tools, ..AgentInfo::default() }
        };
        [("one", &["search", "notes.add"][..]), ("two", &["search", "travel_agent"])]
            .map(|(agent, tools)| (AgentId::from(agent), info(tools)))
            .into()
    }

    #[test]
    fn names_of_tools_are_resolved_if_they_are_unambiguous() {
        let one = |target: &str| ToolMatch::One(target.to_owned());
        for (name, expected) in [
            ("travel_agent", one("two.travel_agent")),
            ("two.travel_agent", one("two.travel_agent")),
            ("notes.add", one("one.notes.add")),
            ("one.search", one("one.search")),
            ("search", ToolMatch::Several(vec!["one.search".to_owned(), "two.search".to_owned()])),
            ("one.travel_agent", ToolMatch::Unknown),
            ("travel", ToolMatch::Unknown),
        ] {
            assert_eq!(match_tool(name, &offers()), expected, "{name}");
        }
    }

    #[test]
    fn ambiguous_tools_are_suggested_with_their_agent() {
        let words: Vec<String> = tool_words(&offers()).into_iter().map(|(word, _)| word).collect();
        assert_eq!(words, ["one.search", "notes.add", "two.search", "travel_agent"]);
    }

    #[test]
    fn unknown_words_suggest_a_command_or_a_tool() {
        let help = |name: &str| match unknown_word(name, &["questions".to_owned()], &offers()) {
            CliError::Usage { code: "cli::unknown_command", help: Some(help), .. } => help,
            other => panic!("{other:?}"),
        };
        assert_eq!(help("travel_agnt"), "did you mean `travel_agent`?");
        assert_eq!(help("question"), "did you mean `questions`?");
        assert_eq!(help("one.serch"), "did you mean `one.search`?");
        assert!(help("zzzzzzzzz").contains("`help`"));
    }
}
