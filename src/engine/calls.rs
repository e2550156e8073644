//! Reconstructs the arguments of calls. Events do not contain them: they follow from the plan and the earlier events.
//! Before each call, the fold has the state from which the run made it.

use std::sync::Arc;

use crate::model::{Event, Record, SentCall};

use super::state::run::{FoldError, Run};

/// Returns all calls that a run has made, in order.
///
/// # Errors
/// Returns an error if `records` are not the history of one run from its start.
pub fn sent_calls<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<SentCall>, FoldError> {
    let mut calls = Vec::new();
    Run::fold_while(records, |run, event| {
        if let Event::AttemptStarted { attempt, agent, tool } = event
            && let Some(node) = run.graph.node_index(attempt.task.as_str())
        {
            // The arguments could be rendered at the time, or the call would not exist.
            let arguments = run.arguments(node).unwrap_or_default();
            let (attempt, agent, tool) = (attempt.clone(), agent.clone(), Arc::clone(tool));
            calls.push(SentCall { attempt, agent, tool, arguments });
        }
    })?;
    Ok(calls)
}
