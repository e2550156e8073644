//! The details of a run as JSON (`kapell runs show --output json`).

use serde_json::{Value, json, to_value};

use super::run_details::RunDetails;
use super::spending::Budgets;
use crate::model::{ProposedCall, RunStatus, SentCall};
use crate::view::run_view::{AgentConnection, AskedQuestion};

impl RunDetails {
    /// Formats the details as JSON: the result of the run with additional fields. Times are in milliseconds since the
    /// Unix epoch. `calls` are the calls of the run; long arguments are shortened to a string.
    ///
    /// # Errors
    /// When the serialization fails, which cannot happen for values that came from JSON.
    pub fn json(&self, calls: Vec<SentCall>) -> serde_json::Result<Value> {
        let (view, history) = (&self.view, self.view.history());
        let mut object = serde_json::to_value(view.result())?;
        object["status"] = self.status().as_str().into();
        object["plan"] = view.plan_name().into();
        object["process"] = self.driver.and_then(|driver| driver.pid).into();
        object["rerun_of"] = to_value(view.earlier_run())?;
        object["reruns"] = to_value(&self.reruns)?;
        object["started"] = to_value(view.started_at())?;
        object["ended"] = to_value(view.ended_at())?;
        object["agents"] = view.agents().iter().map(|(agent, state)| (agent.to_string(), agent_json(state))).collect();
        object["times"] = to_value(&history.times)?;
        let questions =
            view.questions().map(|asked| (asked.question.id.to_string(), question_json(asked, self.status())));
        object["questions"] = questions.collect();
        object["sampling"] = to_value(&history.samplings)?;
        if let Some(planning) = &history.planning {
            object["planning"] = to_value(planning)?;
        }
        let budgets = self.budgets();
        if !budgets.is_empty() {
            object["budgets"] = to_value(budgets)?;
        }
        object["spending"] = to_value(history.spending())?;
        let shorten =
            |call: SentCall| to_value(SentCall { arguments: ProposedCall::truncate_arguments(call.arguments), ..call });
        object["calls"] = calls.into_iter().map(shorten).collect::<serde_json::Result<Value>>()?;
        Ok(object)
    }

    /// Returns the budgets of the plan.
    pub(super) fn budgets(&self) -> Budgets {
        self.view.start().map(|(plan, _)| Budgets::from_plan(plan)).unwrap_or_default()
    }
}

fn agent_json(state: &AgentConnection) -> Value {
    match state {
        AgentConnection::Connecting => json!({"status": "connecting"}),
        AgentConnection::Connected(info) => json!({
            "status": "connected", "protocol": info.protocol, "server": info.server, "tools": info.tools.len(),
        }),
        AgentConnection::Unavailable(failure) => json!({"status": "unavailable", "failure": failure}),
    }
}

fn question_json(asked: &AskedQuestion, run: RunStatus) -> Value {
    let status = match &asked.answer {
        Some(_) => "answered",
        None if run.is_unfinished() => "open",
        None => "cancelled",
    };
    let (answer, answered_by) = asked.answer.as_ref().map(|(answer, by)| (answer, by)).unzip();
    json!({
        "status": status, "asker": asked.question.asker, "message": asked.question.message, "answer": answer,
        "answered_by": answered_by, "left_open_because": asked.deferred_because,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::journal::samples;
    use crate::ui::history::run_details::sample_details;

    #[test]
    fn json_is_the_result_with_metadata() {
        assert_eq!(
            sample_details(&samples::sample_run()[..8]).json(Vec::new()).expect("serializes")["status"],
            json!("interrupted")
        );
        let json = sample_details(&samples::sample_run()).json(Vec::new()).expect("serializes");
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
        assert_eq!(json["questions"]["q2"]["status"], json!("cancelled"));
    }
}
