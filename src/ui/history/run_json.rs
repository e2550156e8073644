//! The details of a run as JSON (`kapell runs show --output json`).

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::run_details::RunDetails;
use super::spending::Budgets;
use crate::model::{
    AgentId, Answer, Asker, Failure, GoalPlanning, ProposedCall, QuestionId, RequestId, SentCall, TaskId, Timestamp,
};
use crate::view::run_view::{AgentConnection, AskedQuestion, SamplingSummary, TaskTimes};
use crate::view::{RunResult, SpendingBreakdown};

/// The result of a run with additional fields. Times are in milliseconds since the Unix epoch.
#[derive(Serialize)]
struct RunJson<'a> {
    #[serde(flatten)]
    result: &'a RunResult,
    name: &'a str,
    /// The process that drives the run.
    process: Option<u32>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    agents: IndexMap<&'a AgentId, AgentJson<'a>>,
    times: &'a IndexMap<TaskId, TaskTimes>,
    questions: IndexMap<&'a QuestionId, QuestionJson<'a>>,
    sampling: &'a IndexMap<RequestId, SamplingSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    planning: Option<&'a GoalPlanning>,
    #[serde(skip_serializing_if = "Budgets::is_empty")]
    budgets: Budgets,
    spending: &'a SpendingBreakdown,
}

/// An agent in the JSON output.
#[derive(Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum AgentJson<'a> {
    Connecting,
    Connected { protocol: &'a str, server: Option<&'a str>, tools: usize },
    Unavailable { failure: &'a Failure },
}

impl<'a> From<&'a AgentConnection> for AgentJson<'a> {
    fn from(state: &'a AgentConnection) -> Self {
        match state {
            AgentConnection::Connecting => Self::Connecting,
            AgentConnection::Connected(info) => {
                Self::Connected { protocol: &info.protocol, server: info.server.as_deref(), tools: info.tools.len() }
            }
            AgentConnection::Unavailable(failure) => Self::Unavailable { failure },
        }
    }
}

/// A question in the JSON output.
#[derive(Serialize)]
struct QuestionJson<'a> {
    asker: &'a Asker,
    message: &'a str,
    answer: Option<&'a Answer>,
    answered_by: Option<&'a str>,
    left_open_because: Option<&'a str>,
}

impl<'a> From<&'a AskedQuestion> for QuestionJson<'a> {
    fn from(asked: &'a AskedQuestion) -> Self {
        Self {
            asker: &asked.question.asker,
            message: &asked.question.message,
            answer: asked.answer.as_ref().map(|(answer, _)| answer),
            answered_by: asked.answer.as_ref().map(|(_, by)| by.as_str()),
            left_open_because: asked.deferred_because.as_deref(),
        }
    }
}

impl RunDetails {
    /// Formats the details as JSON. `calls` are the calls of the run; long arguments are shortened to a string.
    ///
    /// # Errors
    /// When the serialization fails, which cannot happen for values that came from JSON.
    pub fn json(&self, calls: Vec<SentCall>) -> serde_json::Result<Value> {
        let (view, history) = (&self.view, self.history());
        let mut whole = serde_json::to_value(RunJson {
            result: view.result(),
            name: view.plan_name(),
            process: self.driver.and_then(|driver| driver.pid),
            started: view.started_at(),
            ended: view.ended_at(),
            agents: view.agents().iter().map(|(agent, state)| (agent, state.into())).collect(),
            times: &history.times,
            questions: view.questions().map(|asked| (&asked.question.id, asked.into())).collect(),
            sampling: &history.samplings,
            planning: history.planning.as_ref(),
            budgets: self.budgets(),
            spending: history.spending(),
        })?;
        whole["status"] = self.status().as_str().into();
        let shortened = |call: SentCall| {
            serde_json::to_value(SentCall { arguments: ProposedCall::truncate_arguments(call.arguments), ..call })
        };
        whole["calls"] = calls.into_iter().map(shortened).collect::<serde_json::Result<Vec<_>>>()?.into();
        Ok(whole)
    }

    /// Returns the budgets of the plan.
    pub(super) fn budgets(&self) -> Budgets {
        self.start().map(|(plan, _)| Budgets::from_plan(plan)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::samples;
    use crate::model::Record;

    fn details(events: &[Record]) -> RunDetails {
        let mut details = RunDetails::new(&samples::sample_run_id(), None);
        events.iter().for_each(|record| details.apply(record));
        details
    }

    #[test]
    fn json_is_the_result_with_metadata() {
        assert_eq!(
            details(&samples::sample_run()[..8]).json(Vec::new()).expect("serializes")["status"],
            json!("interrupted")
        );
        let json = details(&samples::sample_run()).json(Vec::new()).expect("serializes");
        assert_eq!(json["status"], json!("cancelled"));
        assert_eq!(json["tasks"]["book"]["output"], json!({"id": 7}));
        assert_eq!(
            json["agents"],
            json!({
                "travel": {"status": "connected", "protocol": "2025-11-25", "server": "travel 1.0", "tools": 1},
                "archive": {"status": "unavailable", "failure": {
                    "kind": "agent_unavailable", "message": "`archive` ended at once", "help": "run it by hand",
                }},
            })
        );
        assert_eq!(json["times"]["book"], json!({"started": 1_700_000_004_000_u64, "ended": 1_700_000_013_000_u64}));
        assert_eq!(
            json["sampling"]["r2"],
            json!({
                "asker": "research", "task": null, "model": "m", "stop_reason": "endTurn",
                "usage": {"input_tokens": 20, "output_tokens": 3}, "error": null,
            })
        );
        assert_eq!(json["questions"]["q2"]["left_open_because"], json!("no one answered"));
    }
}
