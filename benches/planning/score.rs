//! Scores plans against recorded calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use kapell::model::Usage;
use serde_json::Value;

use crate::goals::EvalGoal;

/// A call of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The ID of its task.
    pub(crate) id: String,
    pub(crate) tool: String,
    /// The arguments. References to results are `$1.a`, `{$1.a}`, or `tasks.t1.output.a`.
    pub(crate) arguments: Value,
}

impl Call {
    /// Returns the IDs of the tasks whose results it uses.
    fn sources(&self) -> BTreeSet<String> {
        let text = self.arguments.to_string();
        let after = |marker: &str| -> Vec<String> {
            let rests = text.match_indices(marker).map(|(at, _)| &text[at + marker.len()..]);
            rests.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect()).collect()
        };
        let numbers = after("tasks.t").into_iter().chain(after("$"));
        numbers.filter(|number| !number.is_empty()).map(|number| format!("t{number}")).collect()
    }
}

/// Matches of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Matches {
    hits: usize,
    found: usize,
    wanted: usize,
}

impl Matches {
    fn f1(self) -> f64 {
        match self.found + self.wanted {
            0 => 1.0,
            total => 2.0 * self.hits as f64 / total as f64,
        }
    }
}

impl AddAssign for Matches {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.found += other.found;
        self.wanted += other.wanted;
    }
}

/// The score of plans.
#[derive(Debug, Default, Clone)]
pub(crate) struct Score {
    goals: usize,
    /// The plans that are valid, and those that were so without a repair.
    pub(crate) valid: usize,
    valid_at_once: usize,
    /// The tools that are called.
    nodes: Matches,
    /// The pairs of tools whose result the other uses.
    edges: Matches,
    /// The arguments without references that have the recorded value.
    arguments: Matches,
    usage: Usage,
    time: Duration,
}

impl Score {
    pub(crate) const HEADER: &str = " valid at once  node F1 edge F1   args  tokens in    out   seconds";

    /// Scores the calls of a plan.
    pub(crate) fn of_plan(calls: &[Call], goal: &EvalGoal, is_valid_at_once: bool) -> Self {
        let mut score = Self { valid: 1, valid_at_once: usize::from(is_valid_at_once), ..Self::of_nothing(goal) };
        let (mut found, wanted) = (tool_counts(calls), tool_counts(&goal.calls));
        found.retain(|tool, _| !tool.is_empty());
        score.nodes.found = found.values().sum();
        score.nodes.hits = wanted.iter().map(|(tool, count)| (*count).min(*found.get(tool).unwrap_or(&0))).sum();
        let (found, wanted) = (edges(calls), edges(&goal.calls));
        score.edges.found = found.len();
        score.edges.hits = found.intersection(&wanted).count();
        let mut unmatched: Vec<&Call> = calls.iter().collect();
        for wanted in &goal.calls {
            let same =
                |call: &&Call| literals(wanted).filter(|(name, value)| call.arguments.get(name) == Some(value)).count();
            let candidates = unmatched.iter().enumerate().filter(|(_, call)| call.tool == wanted.tool);
            let Some((index, best)) = candidates.max_by_key(|(_, call)| same(call)) else { continue };
            score.arguments.hits += same(best);
            score.arguments.wanted += literals(wanted).count();
            unmatched.remove(index);
        }
        score
    }

    /// Scores a goal without a plan.
    pub(crate) fn of_nothing(goal: &EvalGoal) -> Self {
        let wanted = |wanted: usize| Matches { wanted, ..Matches::default() };
        Self { goals: 1, nodes: wanted(goal.calls.len()), edges: wanted(edges(&goal.calls).len()), ..Self::default() }
    }

    pub(crate) fn with_cost(self, usage: Usage, time: Duration) -> Self {
        Self { usage, time, ..self }
    }
}

fn tool_counts(calls: &[Call]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    calls.iter().for_each(|call| *counts.entry(call.tool.as_str()).or_default() += 1);
    counts
}

fn edges(calls: &[Call]) -> BTreeSet<(String, String)> {
    let tool = |id: &str| calls.iter().find(|call| call.id == id).map(|call| call.tool.clone());
    let pairs = calls.iter().flat_map(|call| {
        call.sources()
            .into_iter()
            .filter_map(move |source| Some((tool(&source)?, call.tool.clone())))
            .collect::<Vec<_>>()
    });
    pairs.collect()
}

/// Returns the arguments of a recorded call that refer to no result.
fn literals(call: &Call) -> impl Iterator<Item = (&String, &Value)> {
    let fields = call.arguments.as_object().into_iter().flatten();
    fields.filter(|(_, value)| !value.is_null() && !value.to_string().contains('$'))
}

impl AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.goals += other.goals;
        self.valid += other.valid;
        self.valid_at_once += other.valid_at_once;
        self.nodes += other.nodes;
        self.edges += other.edges;
        self.arguments += other.arguments;
        self.usage.input_tokens += other.usage.input_tokens;
        self.usage.output_tokens += other.usage.output_tokens;
        self.time += other.time;
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goals = self.goals.max(1);
        let arguments = self.arguments.hits as f64 / self.arguments.wanted.max(1) as f64;
        write!(f, "{:>6} {:>7}", self.valid, self.valid_at_once)?;
        write!(f, "  {:>7.3} {:>7.3} {arguments:>6.3}", self.nodes.f1(), self.edges.f1())?;
        let (read, written) = (self.usage.input_tokens / goals as u64, self.usage.output_tokens / goals as u64);
        write!(f, "  {read:>9} {written:>6}  {:>8.2}", self.time.as_secs_f64() / goals as f64)
    }
}
