//! Collects the tools of all agents and selects which of many a model is shown.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use crate::config::AgentCatalog;
use crate::model::{AgentId, ToolInfo};

/// The maximum number of tools that a model is shown, except for tools that the goal names. Models choose worse from
/// many more: in RAG-MCP (Gan and Sun, 2025), retrieval raised the accuracy of tool selection from 14% to 43%.
pub(super) const MAX_TOOLS: usize = 30;

/// A tool that a plan can call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ToolOffer<'a> {
    /// The agent that offers it.
    pub(super) agent: &'a AgentId,
    /// The tool as its agent describes it.
    pub(super) tool: &'a ToolInfo,
}

impl ToolOffer<'_> {
    /// Returns the name that the model uses: `AGENT.TOOL`. An agent's name has no dot, so the name is unambiguous.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.agent, self.tool.name)
    }

    /// Returns the terms to search: the names, the description, and the arguments.
    fn search_terms(&self) -> Vec<String> {
        let ToolInfo { name, title, description, input_schema, .. } = self.tool;
        let texts = [Some(self.agent.as_str()), Some(name), title.as_deref(), description.as_deref()];
        let arguments = input_schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut words: Vec<String> = texts.into_iter().flatten().flat_map(tokenize).collect();
        words.extend(arguments.flat_map(|(argument, _)| tokenize(argument)));
        words
    }
}

/// Returns every tool of every agent that answered, in the order of the agents file.
pub(super) fn tool_offers(catalog: &AgentCatalog) -> Vec<ToolOffer<'_>> {
    let answered = catalog.iter().filter_map(|(agent, info)| Some((agent, info.as_ref().ok()?)));
    answered.flat_map(|(agent, info)| info.tools.iter().map(move |tool| ToolOffer { agent, tool })).collect()
}

/// Selects the tools that a model is shown for a goal, in their original order. Selects all if they are few; otherwise
/// those that the goal names and those that match it best.
pub(super) fn select<'a>(offers: Vec<ToolOffer<'a>>, goal: &str) -> Vec<ToolOffer<'a>> {
    if offers.len() <= MAX_TOOLS {
        return offers;
    }
    let goal: Vec<String> = tokenize(goal).collect();
    let scores = bm25(&offers.iter().map(ToolOffer::search_terms).collect::<Vec<_>>(), &goal);
    let mut ranking: Vec<usize> = (0..offers.len()).collect();
    // A stable sort prefers the first of equal tools.
    ranking.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let best: HashSet<usize> = ranking.into_iter().take(MAX_TOOLS).collect();
    let is_named = |offer: &ToolOffer<'_>| {
        let name: Vec<String> = tokenize(&offer.tool.name).collect();
        !name.is_empty() && goal.windows(name.len()).any(|window| window == name)
    };
    let selected = offers.into_iter().enumerate().filter(|(index, offer)| best.contains(index) || is_named(offer));
    selected.map(|(_, offer)| offer).collect()
}

/// Scores each document for the query with Okapi BM25 and the usual k1 = 1.2 and b = 0.75 (Robertson and Zaragoza, "The
/// Probabilistic Relevance Framework: BM25 and Beyond", 2009). The +1 in the logarithm keeps a frequent word from
/// counting against a document.
fn bm25(documents: &[Vec<String>], query: &[String]) -> Vec<f64> {
    const K1: f64 = 1.2;
    const B: f64 = 0.75;
    let counts: Vec<HashMap<&str, f64>> = documents.iter().map(|document| term_counts(document)).collect();
    let number = documents.len() as f64;
    let average = documents.iter().map(Vec::len).sum::<usize>() as f64 / number;
    let query: BTreeSet<&str> = query.iter().map(String::as_str).collect();
    let weights: Vec<(&str, f64)> = query
        .into_iter()
        .map(|word| {
            let containing = counts.iter().filter(|counts| counts.contains_key(word)).count() as f64;
            (word, (1.0 + (number - containing + 0.5) / (containing + 0.5)).ln())
        })
        .collect();
    let score = |(counts, document): (&HashMap<&str, f64>, &Vec<String>)| {
        let length = K1 * (1.0 - B + B * document.len() as f64 / average);
        let term_score = |(word, weight): &(&str, f64)| {
            counts.get(word).map_or(0.0, |count| weight * count * (K1 + 1.0) / (count + length))
        };
        weights.iter().map(term_score).sum()
    };
    counts.iter().zip(documents).map(score).collect()
}

fn term_counts(words: &[String]) -> HashMap<&str, f64> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word.as_str()).or_insert(0.0) += 1.0;
    }
    counts
}

/// Splits a text or a name into lowercase words: `searchWeb`, `search_web`, and `Search web` have the same words.
fn tokenize(text: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::with_capacity(text.len());
    let mut after_small = false;
    for c in text.chars() {
        if after_small && c.is_uppercase() {
            spaced.push(' ');
        }
        after_small = c.is_lowercase();
        if c.is_alphanumeric() { spaced.extend(c.to_lowercase()) } else { spaced.push(' ') }
    }
    spaced.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::catalog;
    use super::*;

    fn tool(name: &str, description: &str, arguments: &[&str]) -> ToolInfo {
        let properties: serde_json::Map<_, _> =
            arguments.iter().map(|argument| ((*argument).to_owned(), json!({"type": "string"}))).collect();
        let tool = super::super::samples::tool(name, json!({"type": "object", "properties": properties}));
        ToolInfo { description: Some(description.to_owned()), ..tool }
    }

    /// Returns a number of tools that match no goal.
    fn unrelated_tools(number: usize) -> Vec<ToolInfo> {
        (0..number).map(|index| tool(&format!("other_{index}"), "Does something else", &["thing"])).collect()
    }

    fn selected_names(catalog: &AgentCatalog, goal: &str) -> Vec<String> {
        select(tool_offers(catalog), goal).iter().map(ToolOffer::name).collect()
    }

    #[test]
    fn tokenizes_all_naming_styles_alike() {
        for text in ["search_web", "searchWeb", "Search web", "search-web!"] {
            assert_eq!(tokenize(text).collect::<Vec<_>>(), ["search", "web"], "{text}");
        }
        assert_eq!(tokenize("¿Überraschung?").collect::<Vec<_>>(), ["überraschung"]);
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
        assert_eq!((chosen.len(), chosen.last().map(String::as_str)), (MAX_TOOLS + 1, Some("box.book_trip")));
    }

    #[test]
    fn rare_terms_and_short_documents_score_higher() {
        let document = |text: &str| tokenize(text).collect::<Vec<_>>();
        let documents = ["find a page", "find a book", "find a book in a very long list of all things", "sleep"];
        let scores = bm25(&documents.map(document), &document("find book"));
        assert!(scores[1] > scores[2] && scores[2] > scores[0] && scores[0] > scores[3], "{scores:?}");
        assert_eq!(scores[3], 0.0);
    }
}
