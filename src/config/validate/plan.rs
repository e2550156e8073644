//! Reads a plan file.

use std::sync::Arc;

use super::graph::{self, DependencyEdge};
use super::references::{self, SymbolTable, UsedNames};
use super::routes::{AgentCatalog, RouteResolver};
use super::validated_plan::ValidatedPlan;
use super::{inputs, policy, prompts, replan, tasks};
use crate::config::agents::agents_file::AgentsFile;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::schema::keys::{PLAN, TASK};
use crate::config::schema::table::{self, CheckedTable, ValueType};
use crate::config::yaml::document::DocumentNode;
use crate::config::yaml::parser;
use crate::model::{OnFailure, Plan, Template};

/// The default limit of concurrent calls, which a laptop and most servers can handle.
const DEFAULT_MAX_PARALLEL: usize = 8;

/// Parses the text of a plan file; diagnostics use `name` as the file name. With a catalog, also checks tools and their
/// arguments, except those of agents that it does not contain.
///
/// # Errors
/// Returns all errors and warnings of the plan.
pub fn load_plan(
    name: &str,
    text: &str,
    agents: &AgentsFile,
    catalog: Option<&AgentCatalog>,
) -> Result<ValidatedPlan, Diagnostics> {
    let source = Arc::new(SourceFile::new(name, parser::normalize(text).into_owned()));
    let mut sink = DiagnosticSink::new("plan", Arc::clone(&source));
    let Some(root) = parser::read_tree(&source.text, &mut sink) else {
        if sink.is_empty() {
            sink.file_error("empty", format!("`{name}` is empty")).help("a plan has `tasks`");
        }
        return Err(sink.finish());
    };
    table::check_value(&root, &ValueType::Table(&PLAN.table), &"the file", &mut sink);
    let (plan, replannable) = read_plan(&root, name, RouteResolver::new(agents, catalog), &mut sink);
    if sink.has_errors() {
        return Err(sink.finish());
    }
    let validated = ValidatedPlan { plan, warnings: sink.finish(), replannable };
    Ok(if validated.plan.replan.is_none() { validated.with_max_replans(0) } else { validated })
}

/// Reads the plan, and the indices of the tasks whose failure may trigger a replan.
fn read_plan(
    root: &DocumentNode<'_>,
    file: &str,
    mut router: RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> (Plan, Vec<usize>) {
    let fields = CheckedTable::new(root);
    let inputs = inputs::read_inputs(fields, sink);
    let task_tables = fields.tables(&PLAN.tasks);
    if fields.has(&PLAN.tasks) && task_tables.is_empty() && !sink.has_errors() {
        sink.error("no_tasks", fields.span(), "the plan has no tasks");
    }
    policy::check_saved_files(&task_tables, sink);
    let mut names = SymbolTable::new(&inputs, task_tables, sink);
    names.env.clone_from(router.plan_env());
    let defaults = fields.node(&PLAN.defaults).map(CheckedTable::new);
    let mut used = UsedNames::default();
    let mut tasks = Vec::with_capacity(names.tasks.len());
    let mut edges: Vec<Vec<DependencyEdge<'_>>> = Vec::with_capacity(names.tasks.len());
    let (mut replannable, mut first_replan) = (Vec::new(), None);
    for declaration in names.tasks.values() {
        let reader = tasks::TaskReader { task: declaration, defaults, names: &names };
        let (task, needs) = reader.read_task(&mut router, &mut used, sink);
        let own = declaration.fields.key_span(&TASK.on_failure);
        let on_failure = own.or_else(|| defaults?.key_span(&TASK.on_failure));
        if task.on_failure == OnFailure::Replan {
            first_replan = first_replan.or(on_failure);
        }
        if task.on_failure == OnFailure::Replan || on_failure.is_none() {
            replannable.push(tasks.len());
        }
        tasks.push(Arc::new(task));
        edges.push(needs);
    }
    let outputs = fields.node(&PLAN.outputs).map(|node| {
        references::check_references(node, &names, None, sink, &mut used);
        let entries = fields.entries(&PLAN.outputs);
        entries.map(|(name, entry)| (name.to_owned(), Template(entry.node.to_json()))).collect()
    });
    if let Some(request) = prompts::synthesis_node(fields) {
        references::check_references(request, &names, None, sink, &mut used);
    }
    for (id, resource) in &used.resources {
        let needs = tasks::unique_ids(&resource.edges, &names, &used);
        tasks.push(Arc::new(resource.task(id, needs, defaults, (&mut router, sink))));
        edges.push(resource.edges.clone());
    }
    graph::check_cycles(&tasks, &edges, sink);
    inputs::check_secret_uses(root, names.inputs, sink);
    let replan = replan::read_replan_policy(fields, first_replan, &router, sink);
    if let Some(answer) = prompts::synthesis_task(fields, &tasks, &router, sink) {
        tasks.push(Arc::new(answer));
    }
    used.warn_of_unused_inputs(fields, sink);
    let check_goal = fields.boolean(&PLAN.check_goal).unwrap_or(false);
    let has_synthesis = tasks.iter().any(|task| task.is_synthesis());
    if let Some(at) = fields.key_span(&PLAN.check_goal).filter(|_| check_goal && !has_synthesis) {
        let message = "`check_goal` has no effect without `result: synthesize`";
        sink.warning("useless_key", at, message).help("set `result: synthesize`, or remove `check_goal`");
    }
    let plan = Plan {
        name: fields.text(&PLAN.name).map_or_else(|| default_plan_name(file), str::to_owned),
        description: fields.text(&PLAN.description).map(str::to_owned),
        env: used.used_env(),
        missing: fields.text(&PLAN.missing).map(str::to_owned),
        check_goal,
        inputs,
        max_parallel: fields.integer(&PLAN.max_parallel).unwrap_or(DEFAULT_MAX_PARALLEL),
        budget: policy::read_budget(fields.node(&PLAN.budget)),
        replan,
        tasks,
        outputs,
        agents: router.policies(),
    };
    (plan, replannable)
}

/// Returns the default name of a plan.
fn default_plan_name(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str());
    stem.filter(|stem| *stem != "-").unwrap_or("plan").to_owned()
}
