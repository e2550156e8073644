//! The metrics of the runs in the journal, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::serve::live::ListEntry;

/// Returns the metrics of these runs.
pub(crate) fn metrics_text(runs: &[ListEntry]) -> String {
    let mut text = String::new();
    let mut statuses: BTreeMap<&str, usize> =
        ["running", "paused", "interrupted", "succeeded", "partial", "failed", "cancelled"]
            .map(|name| (name, 0))
            .into();
    let mut states = [0_usize; 8];
    let (mut spent, mut cost) = ([0_u64; 4], 0.0);
    for run in runs {
        *statuses.entry(run.status.as_str()).or_default() += 1;
        let counts = run.counts;
        let of_run = [
            counts.waiting,
            counts.running,
            counts.asking,
            counts.retrying,
            counts.succeeded,
            counts.failed,
            counts.skipped,
            counts.cancelled,
        ];
        states.iter_mut().zip(of_run).for_each(|(sum, count)| *sum += count);
        let spending = run.spent;
        let of_run = [spending.llm_calls, spending.tool_calls, spending.input_tokens, spending.output_tokens];
        spent.iter_mut().zip(of_run).for_each(|(sum, amount)| *sum += amount);
        cost += spending.cost_usd.usd();
    }
    let mut metric = |name: &str, help: &str, samples: &[(String, String)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let runs = statuses.iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), count.to_string()));
    metric("kapell_runs", "Runs in the journal, by status.", &runs.collect::<Vec<_>>());
    let names = ["waiting", "running", "asking", "retrying", "succeeded", "failed", "skipped", "cancelled"];
    let tasks = names.iter().zip(states).map(|(state, count)| (format!("{{state=\"{state}\"}}"), count.to_string()));
    metric("kapell_tasks", "Tasks and items of these runs, by state.", &tasks.collect::<Vec<_>>());
    let plain = |value: String| [(String::new(), value)];
    metric("kapell_llm_calls", "Requests to language models.", &plain(spent[0].to_string()));
    metric("kapell_tool_calls", "Attempts of tool calls.", &plain(spent[1].to_string()));
    let tokens = [("in", spent[2]), ("out", spent[3])]
        .map(|(direction, count)| (format!("{{direction=\"{direction}\"}}"), count.to_string()));
    metric("kapell_tokens", "Tokens of language models, as far as reported.", &tokens);
    metric("kapell_cost_usd", "US dollars, as far as prices are known.", &plain(cost.to_string()));
    text
}
