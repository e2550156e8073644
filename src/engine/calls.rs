//! Finds the arguments of calls that were made. No event holds them: they follow from the plan and the events before.
//! Never guesses: a fold stands at each call where the run stood when it made the call.

use std::sync::Arc;

use crate::model::{Event, Record, SentCall};

use super::run::{FoldError, Run};

/// Returns every call that a run has made, in order.
///
/// # Errors
/// When `records` are not the history of one run from its start.
pub fn sent_calls<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<SentCall>, FoldError> {
    let mut calls = Vec::new();
    Run::fold_while(records, |run, event| {
        if let Event::AttemptStarted { attempt, agent, tool } = event
            && let Some(node) = run.graph.node_index(attempt.task.as_str())
        {
            // They could be rendered then, or there would have been no call.
            let arguments = run.arguments(node).unwrap_or_default();
            let (attempt, agent, tool) = (attempt.clone(), agent.clone(), Arc::clone(tool));
            calls.push(SentCall { attempt, agent, tool, arguments });
        }
    })?;
    Ok(calls)
}
