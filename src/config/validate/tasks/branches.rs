//! Collects the tasks of a scope: those of all branches of a group, and the hooks of each task.

use std::collections::VecDeque;

use serde_json::json;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{TASK, TaskKeys};
use crate::config::schema::table::{CheckedTable, Key};
use crate::config::validate::graph::DependencyEdge;
use crate::config::validate::references::{self, UsedNames};
use crate::config::validate::symbols::{Names, TaskRole};
use crate::config::yaml::document::{DocumentNode, NodeValue};
use crate::model::{Hook, HookTrigger, TaskId};

/// The hooks that a task or a plan can have, by key.
pub(in crate::config::validate) const TRIGGERS: [HookTrigger; 4] =
    [HookTrigger::Success, HookTrigger::Failure, HookTrigger::Cancel, HookTrigger::Always];

/// Returns the tables of tasks, each followed by those of its hooks.
pub(in crate::config::validate) fn with_hooks<'n>(
    tables: Vec<(CheckedTable<'n, TaskKeys>, TaskRole)>,
    sink: &mut DiagnosticSink,
) -> Vec<(CheckedTable<'n, TaskKeys>, TaskRole)> {
    let mut all = Vec::with_capacity(tables.len());
    let mut rest: VecDeque<_> = tables.into();
    while let Some((fields, role)) = rest.pop_front() {
        let is_hook = role.hook.is_some();
        let of = fields.text(&TASK.id).map(TaskId::from);
        all.push((fields, role));
        let hooks: [(&Key<TaskKeys>, HookTrigger); 4] = [
            (&TASK.on_success, HookTrigger::Success),
            (&TASK.on_failure, HookTrigger::Failure),
            (&TASK.on_cancel, HookTrigger::Cancel),
            (&TASK.finally, HookTrigger::Always),
        ];
        for (key, on) in hooks {
            let Some(node) = fields.node(key).filter(|node| matches!(node.value, NodeValue::List(_))) else { continue };
            if is_hook {
                sink.error("nested_hook", node.span, "a hook has no hooks of its own")
                    .help("put its tasks into a group");
                continue;
            }
            let role = TaskRole { hook: Some(Hook { of: of.clone(), on }), guard: None };
            let elements = list_elements(node).map(|fields| (fields, role.clone())).collect::<Vec<_>>();
            // Right after its task, in the order of the file.
            elements.into_iter().rev().for_each(|element| rest.push_front(element));
        }
    }
    all
}

/// Returns the tables of a list of tasks.
pub(in crate::config::validate) fn list_elements<'n>(
    node: &'n DocumentNode<'n>,
) -> impl Iterator<Item = CheckedTable<'n, TaskKeys>> {
    let nodes = match &node.value {
        NodeValue::List(nodes) => nodes.as_slice(),
        _ => &[],
    };
    nodes.iter().map(CheckedTable::new)
}

/// Returns the tables of all branches of the group, each with the condition of its branch.
pub(in crate::config::validate) fn read_branches<'n>(
    fields: CheckedTable<'n, TaskKeys>,
    (names, bindings): (&Names<'_, 'n>, &[&'n str]),
    edges: &mut Vec<DependencyEdge<'n>>,
    used: &mut UsedNames<'n>,
    sink: &mut DiagnosticSink,
) -> Vec<(CheckedTable<'n, TaskKeys>, TaskRole)> {
    let guarded = |tables: Vec<CheckedTable<'n, TaskKeys>>, guard: Option<&str>| {
        let guard = guard.map(str::to_owned);
        tables.into_iter().map(move |fields| (fields, TaskRole { hook: None, guard: guard.clone() }))
    };
    let otherwise = || fields.tables::<TaskKeys>(&TASK.otherwise);
    if let Some(node) = fields.node(&TASK.switch) {
        fields.report_useless(&[&TASK.tasks], "with `switch`", sink);
        let selector = match &node.value {
            NodeValue::Text(text) if text.contains("${{") => {
                let (bare, references) = references::check_expression(node, names, bindings, sink, used);
                edges.extend(references);
                format!("({bare})")
            }
            _ => {
                let error = sink.error("bad_switch", node.span, "`switch` must be one expression in `${{ }}`");
                error.help("write it like `switch: ${{ tasks.classify.output.kind }}`");
                "null".to_owned()
            }
        };
        let cases = fields.table_lists::<TaskKeys>(&TASK.cases);
        if cases.is_empty() && !fields.has(&TASK.cases) {
            sink.error("missing_key", node.span, "`switch` must have `cases`")
                .help("map each value to a list of tasks");
        }
        let conditions: Vec<String> = cases.iter().map(|(value, _)| case_condition(&selector, value)).collect();
        let none = conditions.iter().map(|condition| format!("not ({condition})")).collect::<Vec<_>>().join(" and ");
        let mut tables = Vec::new();
        for ((_, case), condition) in cases.into_iter().zip(&conditions) {
            tables.extend(guarded(case, Some(condition)));
        }
        tables.extend(guarded(otherwise(), Some(none.as_str()).filter(|none| !none.is_empty())));
        return tables;
    }
    fields.report_useless(&[&TASK.cases], "without `switch`", sink);
    let tables = fields.tables::<TaskKeys>(&TASK.tasks);
    if !fields.has(&TASK.otherwise) {
        return guarded(tables, None).collect();
    }
    let Some(node) = fields.node(&TASK.condition) else {
        let at = fields.key_span(&TASK.otherwise).unwrap_or(fields.span());
        sink.error("useless_key", at, "`else` has no effect without `if`").help("set `if`, or `switch` with `cases`");
        return guarded(tables, None).collect();
    };
    let condition = match &node.value {
        NodeValue::Bool(value) => value.to_string(),
        _ => references::check_expression(node, names, bindings, sink, used).0.to_owned(),
    };
    let negated = format!("not ({condition})");
    guarded(tables, Some(&condition)).chain(guarded(otherwise(), Some(&negated))).collect()
}

/// Returns the condition under which a case of `switch` matches. Keys are texts; a value can also be a number or a boolean.
fn case_condition(selector: &str, case: &str) -> String {
    let text = format!("{selector} == {}", json!(case));
    match serde_json::from_str::<serde_json::Value>(case) {
        Ok(serde_json::Value::Number(number)) => format!("{text} or {selector} == {number}"),
        Ok(serde_json::Value::Bool(value)) => format!("{text} or {selector} == {value}"),
        _ => text,
    }
}
