//! Reads the retry policies of tasks, the timeouts of questions, and budgets.

use std::time::Duration;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{BACKOFF, QUESTIONS, RETRY};
use crate::config::schema::table::{CheckedTable, TableSchema};
use crate::config::yaml::document::{DocumentNode, NodeValue};
use crate::model::{Backoff, Budget, HumanDuration, QuestionPolicy, Retry};

/// Returns the retry policy of `task`, with `defaults` for absent keys.
pub(super) fn read_retry(
    task: &CheckedTable<'_>,
    defaults: Option<&CheckedTable<'_>>,
    findings: &mut DiagnosticSink,
) -> Retry {
    let mut retry = Retry::default();
    let sections = defaults.into_iter().chain([task]);
    for node in sections.filter_map(|fields| fields.node("retry")) {
        if let NodeValue::Number(attempts) = &node.value {
            retry.max_attempts = attempts.as_u64().and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(1);
            continue;
        }
        let fields = CheckedTable::new(node, &RETRY);
        if let Some(attempts) = fields.integer("max_attempts") {
            retry.max_attempts = attempts;
        }
        if let Some(node) = fields.node("backoff") {
            retry.backoff = read_backoff(node, findings);
        }
    }
    let pointless = task.node("retry").filter(|node| node.as_map().is_some_and(|map| map.contains_key("backoff")));
    if let (1, Some(node)) = (retry.max_attempts, pointless) {
        let found = findings.warning("pointless_backoff", node.span, "`backoff` has no effect with a single attempt");
        found.help("set the number of attempts, such as `max_attempts: 3`");
    }
    retry
}

/// Returns the policy for unanswered questions, if `fields` set a timeout.
pub(super) fn read_question_policy(fields: &CheckedTable<'_>) -> Option<QuestionPolicy> {
    let section = CheckedTable::new(fields.node("questions")?, &QUESTIONS);
    Some(QuestionPolicy {
        timeout: section.duration("timeout")?,
        default: section.choice("default").unwrap_or_default(),
    })
}

fn read_backoff(node: &DocumentNode<'_>, findings: &mut DiagnosticSink) -> Backoff {
    let fields = CheckedTable::new(node, &BACKOFF);
    let exponential = Backoff::default();
    if node.as_text().or_else(|| fields.text("kind")) == Some("fixed") {
        if let Some(at) = fields.key_span("factor") {
            findings.error("backoff", at, "`factor` has no effect on a fixed delay");
        }
        let initial = fields.duration("initial").unwrap_or(exponential.initial);
        let max = fields.duration("max").unwrap_or(initial).min(initial);
        return Backoff { initial: max, factor: 1.0, max, jitter: fields.number("jitter").unwrap_or(0.0) };
    }
    let initial = fields.duration("initial").unwrap_or(exponential.initial);
    let max = fields.duration("max");
    if let (Some(max), Some(at)) = (max, fields.key_span("max"))
        && max < initial
    {
        findings.error("backoff", at, format!("`max` ({max}) is shorter than `initial` ({initial})"));
    }
    Backoff {
        initial,
        factor: fields.number("factor").unwrap_or(exponential.factor),
        max: max.unwrap_or(HumanDuration(Duration::max(exponential.max.0, initial.0))),
        jitter: fields.number("jitter").unwrap_or(exponential.jitter),
    }
}

/// Returns the `budget` of a plan or a task.
pub(super) fn read_budget(fields: &CheckedTable<'_>, section: &'static TableSchema) -> Budget {
    let Some(node) = fields.node("budget") else { return Budget::default() };
    let fields = CheckedTable::new(node, section);
    Budget {
        tokens: fields.integer("tokens"),
        cost_usd: fields.number("cost_usd"),
        llm_calls: fields.integer("llm_calls"),
        tool_calls: fields.integer("tool_calls"),
        time: fields.duration("time"),
    }
}
