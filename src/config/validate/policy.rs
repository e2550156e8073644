//! Reads the retry policies of tasks, the timeouts of questions, and budgets.

use std::time::Duration;

use super::references;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{BACKOFF, BUDGET, QUESTIONS, RETRY, TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::{DocumentNode, NodeValue};
use crate::model::{Backoff, Budget, Expression, HumanDuration, QuestionPolicy, Retry};

/// Returns the retry policy of `task`, with `defaults` for absent keys.
pub(super) fn read_retry(
    task: Option<CheckedTable<'_, TaskKeys>>,
    defaults: Option<CheckedTable<'_, TaskKeys>>,
    sink: &mut DiagnosticSink,
) -> Retry {
    let mut retry = Retry::default();
    let sections = defaults.into_iter().chain(task);
    for node in sections.filter_map(|fields| fields.node(&TASK.retry)) {
        if let NodeValue::Number(attempts) = &node.value {
            retry.max_attempts = attempts.as_u64().and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(1);
            continue;
        }
        let fields = CheckedTable::new(node);
        if let Some(attempts) = fields.integer(&RETRY.max_attempts) {
            retry.max_attempts = attempts;
        }
        if let Some(node) = fields.node(&RETRY.backoff) {
            retry.backoff = read_backoff(node, sink);
        }
        if let Some(node) = fields.node(&RETRY.when) {
            retry.when = Some(match node.value {
                NodeValue::Bool(value) => Expression(value.to_string()),
                _ => Expression(references::check_error_expression(node, sink).to_owned()),
            });
        }
    }
    let pointless =
        task.and_then(|task| task.node(&TASK.retry)).filter(|node| CheckedTable::new(node).has(&RETRY.backoff));
    if let (1, Some(node)) = (retry.max_attempts, pointless) {
        let warning = sink.warning("pointless_backoff", node.span, "`backoff` has no effect with a single attempt");
        warning.help("set the number of attempts, such as `max_attempts: 3`");
    }
    retry
}

/// Returns the policy for unanswered questions, if `fields` set a timeout.
pub(super) fn read_question_policy(fields: CheckedTable<'_, TaskKeys>) -> Option<QuestionPolicy> {
    let questions = CheckedTable::new(fields.node(&TASK.questions)?);
    Some(QuestionPolicy {
        timeout: questions.duration(&QUESTIONS.timeout)?,
        default: questions.choice(&QUESTIONS.default).unwrap_or_default(),
    })
}

fn read_backoff(node: &DocumentNode<'_>, sink: &mut DiagnosticSink) -> Backoff {
    let fields = CheckedTable::new(node);
    let exponential = Backoff::default();
    if node.as_text().or_else(|| fields.text(&BACKOFF.kind)) == Some("fixed") {
        if let Some(at) = fields.key_span(&BACKOFF.factor) {
            sink.error("backoff", at, "`factor` has no effect on a fixed delay");
        }
        let initial = fields.duration(&BACKOFF.initial).unwrap_or(exponential.initial);
        let max = fields.duration(&BACKOFF.max).unwrap_or(initial).min(initial);
        return Backoff { initial: max, factor: 1.0, max, jitter: fields.number(&BACKOFF.jitter).unwrap_or(0.0) };
    }
    let initial = fields.duration(&BACKOFF.initial).unwrap_or(exponential.initial);
    let max = fields.duration(&BACKOFF.max);
    if let (Some(max), Some(at)) = (max, fields.key_span(&BACKOFF.max))
        && max < initial
    {
        sink.error("backoff", at, format!("`max` ({max}) is shorter than `initial` ({initial})"));
    }
    Backoff {
        initial,
        factor: fields.number(&BACKOFF.factor).unwrap_or(exponential.factor),
        max: max.unwrap_or(HumanDuration(Duration::max(exponential.max.0, initial.0))),
        jitter: fields.number(&BACKOFF.jitter).unwrap_or(exponential.jitter),
    }
}

/// Reads the `budget` of a plan or a task.
pub(super) fn read_budget(node: Option<&DocumentNode<'_>>) -> Budget {
    let Some(fields) = node.map(CheckedTable::new) else { return Budget::default() };
    Budget {
        tokens: fields.integer(&BUDGET.tokens),
        cost_usd: fields.number(&BUDGET.cost_usd),
        llm_calls: fields.integer(&BUDGET.llm_calls),
        tool_calls: fields.integer(&BUDGET.tool_calls),
        time: fields.duration(&BUDGET.time),
    }
}
