//! Collects the tools of all agents and selects which of many a model is shown.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::ranking::{Ranker, SearchDocument};
use super::terms;
use crate::config::AgentCatalog;
use crate::model::{AgentId, ToolInfo};

/// The maximum number of tools that each agent is represented with, however little they match. All agents together get
/// at most a third of the tools.
const MAX_FLOOR: usize = 2;

/// A tool that a plan can call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::planner) struct ToolOffer<'a> {
    /// The agent that offers it.
    pub(in crate::planner) agent: &'a AgentId,
    /// The tool as its agent describes it.
    pub(in crate::planner) tool: &'a ToolInfo,
}

impl ToolOffer<'_> {
    /// Returns the name that the model uses: `AGENT.TOOL`. An agent's name has no dot, so the name is unambiguous.
    pub(in crate::planner) fn name(&self) -> String {
        format!("{}.{}", self.agent, self.tool.name)
    }

    /// Returns the terms to search: the names, the description, and the arguments.
    fn search_document(&self) -> SearchDocument<'_> {
        let ToolInfo { name, title, description, input_schema, .. } = self.tool;
        let arguments = input_schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut words = Vec::new();
        for (text, weight) in [
            (Some(name.as_str()), 3),
            (title.as_deref(), 1),
            (description.as_deref(), 1),
            (Some(self.agent.as_str()), 2),
        ] {
            let found: Vec<String> = text.into_iter().flat_map(terms::terms).collect();
            (0..weight).for_each(|_| words.extend(found.iter().cloned()));
        }
        words.extend(arguments.flat_map(|(argument, _)| terms::terms(argument)));
        SearchDocument { group: self.agent.as_str(), words }
    }
}

/// Returns every tool of every agent that answered, in the order of the agents file.
pub(in crate::planner) fn tool_offers(catalog: &AgentCatalog) -> Vec<ToolOffer<'_>> {
    let answered = catalog.iter().filter_map(|(agent, info)| Some((agent, info.as_ref().ok()?)));
    answered.flat_map(|(agent, info)| info.tools.iter().map(move |tool| ToolOffer { agent, tool })).collect()
}

/// What tools are selected for.
#[derive(Debug, Clone, Default)]
pub(in crate::planner) struct ToolQuery {
    /// The texts that tools are searched for: the steps to the goal, and the goal. The best tools of each are selected.
    pub(in crate::planner) texts: Vec<String>,
    /// The names of tools that are selected in any case.
    pub(in crate::planner) names: Vec<String>,
}

/// Selects the tools that a model is shown, in their original order. Selects all if they are few; otherwise those that
/// the query names, a few of each agent, and those that match a text best, in turns. `max_tools` are few.
pub(in crate::planner) fn select<'a>(
    offers: Vec<ToolOffer<'a>>,
    query: &ToolQuery,
    max_tools: usize,
) -> Vec<ToolOffer<'a>> {
    if offers.len() <= max_tools {
        return offers;
    }
    let mut chosen: HashSet<usize> = named_tools(&offers, query).take(max_tools).collect();
    let ranker = Ranker::new(offers.iter().map(ToolOffer::search_document).collect());
    let rankings: Vec<Vec<usize>> = query.texts.iter().map(|text| ranker.rank(terms::query(text))).collect();
    let limit = max_tools.max(chosen.len());
    let mut agents: BTreeMap<&AgentId, usize> = offers.iter().map(|offer| (offer.agent, 0)).collect();
    let floor = (max_tools / 3 / agents.len()).min(MAX_FLOOR);
    // The best of each text in turns, and then what matches none, in the original order.
    let places = 0..offers.len();
    let interleaved = places.clone().flat_map(|place| rankings.iter().filter_map(move |ranking| ranking.get(place)));
    let order: Vec<usize> = interleaved.copied().chain(places).collect();
    for &index in &order {
        let represented = agents.entry(offers[index].agent).or_default();
        if *represented < floor && chosen.len() < limit && chosen.insert(index) {
            *represented += 1;
        }
    }
    for index in order {
        if chosen.len() < limit {
            chosen.insert(index);
        }
    }
    offers.into_iter().enumerate().filter(|(index, _)| chosen.contains(index)).map(|(_, offer)| offer).collect()
}

/// Returns the tools that the query names: by its names, or in its texts.
fn named_tools<'o>(offers: &'o [ToolOffer<'_>], query: &'o ToolQuery) -> impl Iterator<Item = usize> + 'o {
    let texts: Vec<Vec<String>> = query.texts.iter().map(|text| terms::tokenize(text).collect()).collect();
    offers.iter().enumerate().filter_map(move |(index, offer)| {
        let words: Vec<String> = terms::tokenize(&offer.tool.name).collect();
        // A name of one word, such as `read`, is too common in texts.
        let is_in_text = words.len() > 1 && texts.iter().any(|text| text.windows(words.len()).any(|at| at == words));
        let is_named = || query.names.iter().any(|name| *name == offer.name() || *name == offer.tool.name);
        (is_in_text || is_named()).then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::planner::samples::catalog;

    const MAX_TOOLS: usize = crate::config::PlannerSettings::DEFAULT_MAX_TOOLS;

    fn tool(name: &str, description: &str, arguments: &[&str]) -> ToolInfo {
        let properties: serde_json::Map<_, _> =
            arguments.iter().map(|argument| ((*argument).to_owned(), json!({"type": "string"}))).collect();
        let tool = crate::planner::samples::tool(name, json!({"type": "object", "properties": properties}));
        ToolInfo { description: Some(description.to_owned()), ..tool }
    }

    /// Returns a number of tools that match no goal.
    fn unrelated_tools(number: usize) -> Vec<ToolInfo> {
        (0..number).map(|index| tool(&format!("other_{index}"), "Does something else", &["thing"])).collect()
    }

    fn query(goal: &str) -> ToolQuery {
        ToolQuery { texts: vec![goal.to_owned()], names: Vec::new() }
    }

    fn selected_names(catalog: &AgentCatalog, goal: &str) -> Vec<String> {
        select(tool_offers(catalog), &query(goal), MAX_TOOLS).iter().map(ToolOffer::name).collect()
    }

    #[test]
    fn shows_all_of_few_tools() {
        let catalog = catalog(unrelated_tools(MAX_TOOLS));
        assert_eq!(selected_names(&catalog, "anything").len(), MAX_TOOLS);
    }

    #[test]
    fn shows_matching_tools_in_catalog_order() {
        let mut tools = unrelated_tools(100);
        tools.insert(70, tool("a", "Converts currency", &["amount"]));
        tools.insert(90, tool("b", "Nothing to see", &["iban"]));
        let catalog = catalog(tools);
        let chosen = selected_names(&catalog, "Transfer to the IBAN in another currency");
        assert_eq!(chosen.len(), MAX_TOOLS);
        assert_eq!(chosen[MAX_TOOLS - 2..], ["box.a", "box.b"]);
        assert_eq!(chosen[0], "box.other_0");
    }

    #[test]
    fn always_shows_tools_named_in_the_goal() {
        let mut tools: Vec<ToolInfo> =
            (0..50).map(|index| tool(&format!("lisbon_{index}"), "A book for a trip", &[])).collect();
        tools.push(tool("book_trip", &"A long text about quite other things. ".repeat(50), &[]));
        let catalog = catalog(tools);
        let chosen = selected_names(&catalog, "Lisbon: book trip");
        assert_eq!((chosen.len(), chosen.last().map(String::as_str)), (MAX_TOOLS, Some("box.book_trip")));
    }

    #[test]
    fn each_text_and_each_agent_gets_tools() {
        let mut catalog = catalog(unrelated_tools(60));
        let mut add = |agent: &str, tools: Vec<ToolInfo>| {
            catalog.insert(agent.into(), Ok(crate::model::AgentInfo { tools, ..Default::default() }));
        };
        add("mail", (0..40).map(|index| tool(&format!("mail_{index}"), "Sends a message", &["subject"])).collect());
        add("clock", vec![tool("now", "Returns the hour", &[])]);
        let texts = ["send the messages", "convert currencies", "Do it"].map(str::to_owned).to_vec();
        let query = ToolQuery { texts, names: vec!["box.other_59".to_owned()] };
        add("bank", vec![tool("exchange", "Converts a currency", &["amount"])]);
        let chosen: Vec<String> =
            select(tool_offers(&catalog), &query, MAX_TOOLS).iter().map(ToolOffer::name).collect();
        assert_eq!(chosen.len(), MAX_TOOLS);
        for name in ["bank.exchange", "clock.now", "mail.mail_0", "box.other_59"] {
            assert!(chosen.iter().any(|chosen| chosen == name), "{name}: {chosen:?}");
        }
    }
}
