//! Reads the retry policies of tasks, the timeouts of questions, the use of the cache, saved files, and budgets.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{BACKOFF, BUDGET, CACHE, QUESTIONS, RETRY, TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::validate::references;
use crate::config::validate::routes::RouteResolver;
use crate::config::yaml::document::{DocumentNode, NodeValue};
use crate::expression::{self, LOOP_NAME, Reference};
use crate::model::{
    Backoff, Budget, CachePolicy, Effect, Expression, Foreach, HumanDuration, QuestionPolicy, Retry, Template, Work,
    relative_file_name,
};

/// Returns the retry policy of `task`, with `defaults` for absent keys.
pub(in crate::config::validate) fn read_retry(
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
pub(in crate::config::validate) fn read_question_policy(fields: CheckedTable<'_, TaskKeys>) -> Option<QuestionPolicy> {
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

/// Returns how long results of a call are reused. Reports a call that is not known to change nothing.
pub(super) fn read_cache(
    task: CheckedTable<'_, TaskKeys>,
    (work, effect): (&Work, Option<Effect>),
    router: &RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<CachePolicy> {
    let node = task.node(&TASK.cache)?;
    let at = task.key_span(&TASK.cache).unwrap_or(node.span);
    let Work::Call(call) = work else {
        sink.error("useless_key", at, "`cache` has no effect on a prompt: only results of calls are reused");
        return None;
    };
    let effect = call.operation.guaranteed_effect().or(effect).or_else(|| router.configured_effect(&call.routes));
    if effect != Some(Effect::ReadOnly) {
        let message = match effect {
            Some(_) => "`cache` requires a call whose `effect` is `read_only`",
            None => {
                "`cache` requires a call whose `effect` is `read_only`, and neither the plan nor the agents file sets it"
            }
        };
        sink.error("cache_effect", at, message).help("set `effect: read_only` if the call changes nothing");
    }
    let fields = CheckedTable::new(node);
    let ttl = match node.as_text() {
        Some(text) => HumanDuration::parse(text).ok(),
        None => fields.duration(&CACHE.ttl),
    };
    Some(CachePolicy { key: fields.node(&CACHE.key).map(|node| Template(node.to_json())), ttl: ttl? })
}

/// Returns the name of the file that gets the output of a task. Reports an invalid name, and one that is the same for
/// all items.
pub(super) fn read_save(
    task: CheckedTable<'_, TaskKeys>,
    foreach: Option<&Foreach>,
    sink: &mut DiagnosticSink,
) -> Option<Template> {
    let node = task.node(&TASK.save)?;
    let template = Template(node.to_json());
    let text = node.as_text()?;
    if let (false, Err(problem)) = (text.contains("${{"), relative_file_name(text)) {
        let error = sink.error("bad_file_name", node.span, format!("the file name `{text}` {problem}"));
        error.help("expected a name such as `report.md` or `pages/1.html`");
    }
    let names_item = |foreach: &Foreach| {
        let is_item = |reference: &Reference<'_>| matches!(reference, Reference::Name(name) if *name == foreach.binding || *name == LOOP_NAME);
        // Invalid expressions are reported as such.
        expression::template_references(&template).map_or(true, |references| references.iter().any(is_item))
    };
    if foreach.is_some_and(|foreach| !names_item(foreach)) {
        let error = sink.error("duplicate_file", node.span, "all items would be saved in the same file");
        error.help("use the item in the name, such as `pages/${{ loop.index }}.html`");
    }
    Some(template)
}

/// Reports tasks that save their outputs in the same file.
pub(in crate::config::validate) fn check_saved_files(tasks: &[CheckedTable<'_, TaskKeys>], sink: &mut DiagnosticSink) {
    let mut lines = HashMap::new();
    for node in tasks.iter().filter_map(|task| task.node(&TASK.save)) {
        let Some(name) = node.as_text().filter(|name| !name.contains("${{")) else { continue };
        let line = sink.source.line(node.span);
        if let Some(first) = relative_file_name(name).ok().and_then(|name| lines.insert(name, line)) {
            let error = sink.error("duplicate_file", node.span, format!("another task is saved as `{name}`"));
            error.help(format!("the first is in line {first}; choose another name"));
        }
    }
}

/// Reads the `budget` of a plan or a task.
pub(in crate::config::validate) fn read_budget(node: Option<&DocumentNode<'_>>) -> Budget {
    let Some(fields) = node.map(CheckedTable::new) else { return Budget::default() };
    Budget {
        tokens: fields.integer(&BUDGET.tokens),
        cost_usd: fields.number(&BUDGET.cost_usd),
        llm_calls: fields.integer(&BUDGET.llm_calls),
        tool_calls: fields.integer(&BUDGET.tool_calls),
        time: fields.duration(&BUDGET.time),
    }
}
