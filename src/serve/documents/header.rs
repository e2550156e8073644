//! The header of a run: everything about it but its tasks.

use serde_json::{Value, json};

use super::markdown::markdown_html;
use crate::model::{Budget, Timestamp};
use crate::serve::live::OpenPage;
use crate::view::phrasebook::end_cause_text;
use crate::view::remaining_time;
use crate::view::text::{printable, printable_text};

/// Returns the header of a run at `now`.
pub(crate) fn header_json(open: &OpenPage, now: Timestamp) -> Value {
    let (page, view) = (open.page(), open.page().view());
    let (result, status) = (view.result(), open.status());
    let is_driven = open.driver().is_some();
    // Without a process, no time passes for a run.
    let now = if is_driven { now.max(view.last_event_at()) } else { view.ended_at().unwrap_or(view.last_event_at()) };
    let spent = result.spent;
    let mut header = json!({
        "run": view.run(),
        "short": view.run().short(),
        "plan": printable(view.plan_name()),
        "status": status,
        "started": view.started_at(),
        "ended": view.ended_at(),
        "now": now,
        "downtime_ms": millis(view.progress().downtime()),
        "process": open.driver().and_then(|driver| driver.pid),
        "reruns": open.reruns(),
        "counts": page.counts(),
        "spent": {
            "calls": spent.tool_calls,
            "llm_calls": spent.llm_calls,
            "tokens_in": spent.input_tokens,
            "tokens_out": spent.output_tokens,
        },
        "inputs": view.start().map_or_else(|| json!({}), |(_, inputs)| inputs.clone()),
        "outputs": result.outputs,
        "problems": problems(open),
        "can": {
            "cancel": status.is_unfinished(),
            "resume": status.is_unfinished() && !is_driven,
            "retry": !status.is_unfinished(),
        },
    });
    if !spent.cost_usd.is_zero() {
        header["spent"]["cost_usd"] = json!(spent.cost_usd);
    }
    if let Some(planning) = &view.history().planning {
        header["goal"] = printable_text(&planning.goal).into();
    }
    if let Some(cause) = &result.cause {
        header["cause"] = end_cause_text(cause, view.run()).into();
    }
    if let Some(earlier) = view.earlier_run() {
        header["rerun_of"] = json!(earlier);
    }
    if is_driven && let Some(remaining) = remaining_time(view, now) {
        header["remaining_ms"] = millis(remaining).into();
    }
    if let Some((plan, _)) = view.start()
        && plan.budget != Budget::default()
    {
        header["budgets"] = json!(plan.budget);
    }
    let answer = result.synthesis.as_ref().and_then(|id| result.tasks.get(id)?.output.as_ref());
    if let Some(answer) = answer.filter(|answer| answer.structured.is_none()) {
        header["answer_markdown_html"] = markdown_html(&answer.text()).into();
    }
    header
}

/// Returns what is wrong with the result, a line each.
fn problems(open: &OpenPage) -> Vec<String> {
    let result = open.page().view().result();
    let missing = result.missing.iter().map(|missing| format!("not reached: {missing}"));
    let outputs = result.output_errors.iter().map(|(name, reason)| format!("output `{name}`: {reason}"));
    let all = result.problems.iter().cloned().chain(missing).chain(outputs);
    all.map(|problem| printable(&problem).into_owned()).collect()
}

/// Returns a duration in milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
