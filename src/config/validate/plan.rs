//! Reads a plan file.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::graph;
use super::references::{self, UsedNames};
use super::routes::{AgentCatalog, RouteResolver};
use super::symbols::{Names, SymbolTable, TaskRole};
use super::tasks::branches::{TRIGGERS, with_hooks};
use super::tasks::reader::{self, ScopeTasks};
use super::tasks::{policy, prompts};
use super::validated_plan::ValidatedPlan;
use super::{inputs, replan, schedule};
use crate::config::agents::agents_file::AgentsFile;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::read_text;
use crate::config::schema::keys::{PLAN, PlanKeys, TASK, TaskKeys};
use crate::config::schema::table::{self, CheckedTable, ValueType};
use crate::config::yaml::document::DocumentNode;
use crate::config::yaml::parser;
use crate::model::{Hook, OnFailure, Plan, Template};

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
    let mut router = RouteResolver::new(agents, catalog).with_plans(load_sub_plan);
    router.open_plan(Path::new(name));
    let (mut plan, replannable) = read_plan(&root, name, &mut router, &mut sink);
    plan.agents = router.policies();
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
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> (Plan, Vec<usize>) {
    let fields = CheckedTable::new(root);
    let inputs = inputs::read_inputs(fields, sink);
    let task_tables = fields.tables(&PLAN.tasks);
    if fields.has(&PLAN.tasks) && task_tables.is_empty() && !sink.has_errors() {
        sink.error("no_tasks", fields.span(), "the plan has no tasks");
    }
    policy::check_saved_files(&task_tables, sink);
    let tables = task_tables.into_iter().map(|fields| (fields, TaskRole::default()));
    let tables = with_hooks(tables.chain(plan_hooks(fields)).collect(), sink);
    let mut table = SymbolTable::new(&inputs, tables, sink);
    table.env.clone_from(router.plan_env());
    let names = Names::of_plan(&table);
    let defaults = fields.node(&PLAN.defaults).map(CheckedTable::new);
    let mut used = UsedNames::default();
    let ScopeTasks { mut tasks, mut edges, .. } = reader::read_scope(&names, defaults, router, &mut used, sink);
    let (mut replannable, mut first_replan) = (Vec::new(), None);
    for (index, (task, declaration)) in tasks.iter().zip(table.tasks.values()).enumerate() {
        let own = declaration.fields.node(&TASK.on_failure).filter(|node| node.as_text().is_some());
        let on_failure = own.map(|node| node.span).or_else(|| defaults?.key_span(&TASK.on_failure));
        if task.on_failure == OnFailure::Replan {
            first_replan = first_replan.or(on_failure);
        }
        if (task.on_failure == OnFailure::Replan || on_failure.is_none()) && task.hook.is_none() {
            replannable.push(index);
        }
    }
    let outputs = fields.node(&PLAN.outputs).map(|node| {
        references::check_references(node, &names, &[], sink, &mut used);
        let entries = fields.entries(&PLAN.outputs);
        entries.map(|(name, entry)| (name.to_owned(), Template(entry.node.to_json()))).collect()
    });
    if let Some(request) = prompts::synthesis_node(fields) {
        references::check_references(request, &names, &[], sink, &mut used);
    }
    for (id, resource) in &used.resources {
        let needs = reader::unique_ids(&resource.edges, &table, &used);
        tasks.push(Arc::new(resource.task(id, needs, defaults, (router, sink))));
        edges.push(resource.edges.clone());
    }
    graph::check_cycles(&tasks, &edges, sink);
    inputs::check_secret_uses(root, table.inputs, sink);
    let replan = replan::read_replan_policy(fields, first_replan, router, sink);
    if let Some(answer) = prompts::synthesis_task(fields, &tasks, router, sink) {
        tasks.push(Arc::new(answer));
    }
    used.warn_of_unused_inputs(fields, sink);
    let check_goal = fields.boolean(&PLAN.check_goal).unwrap_or(false);
    let has_synthesis = tasks.iter().any(|task| task.is_synthesis());
    if let Some(at) = fields.key_span(&PLAN.check_goal).filter(|_| check_goal && !has_synthesis) {
        let message = "`check_goal` has no effect without `result: synthesize`";
        sink.warning("useless_key", at, message).help("set `result: synthesize`, or remove `check_goal`");
    }
    let schedule = schedule::read(fields, &inputs, sink);
    let plan = Plan {
        name: fields.text(&PLAN.name).map_or_else(|| default_plan_name(file), str::to_owned),
        description: fields.text(&PLAN.description).map(str::to_owned),
        env: used.used_env(),
        missing: fields.text(&PLAN.missing).map(str::to_owned),
        check_goal,
        schedule,
        inputs,
        max_parallel: fields.integer(&PLAN.max_parallel).unwrap_or(DEFAULT_MAX_PARALLEL),
        budget: policy::read_budget(fields.node(&PLAN.budget)),
        replan,
        tasks,
        outputs,
        agents: IndexMap::new(),
    };
    (plan, replannable)
}

/// Returns the tables of the tasks that run after all others.
fn plan_hooks<'n>(fields: CheckedTable<'n, PlanKeys>) -> Vec<(CheckedTable<'n, TaskKeys>, TaskRole)> {
    let keys = [&PLAN.on_success, &PLAN.on_failure, &PLAN.on_cancel, &PLAN.finally];
    let hooks = keys.into_iter().zip(TRIGGERS).flat_map(|(key, on)| {
        let role = TaskRole { hook: Some(Hook { of: None, on }), guard: None };
        fields.tables::<TaskKeys>(key).into_iter().map(move |fields| (fields, role.clone()))
    });
    hooks.collect()
}

/// Reads the plan at `path`, which runs as a task of another plan.
///
/// # Errors
/// Returns each problem with its position.
fn load_sub_plan(path: &Path, router: &mut RouteResolver<'_>) -> Result<Plan, Vec<String>> {
    let shown = path.display().to_string();
    if !router.open_plan(path) {
        return Err(vec![format!("`{shown}` runs itself, directly or through others")]);
    }
    let mut read = || {
        let text = read_text(path).map_err(|error| vec![error.to_string()])?;
        let source = Arc::new(SourceFile::new(&shown, parser::normalize(&text).into_owned()));
        let mut sink = DiagnosticSink::new("plan", Arc::clone(&source));
        let root = parser::read_tree(&source.text, &mut sink);
        let plan = root.as_ref().map(|root| {
            table::check_value(root, &ValueType::Table(&PLAN.table), &"the file", &mut sink);
            read_plan(root, &shown, router, &mut sink).0
        });
        let has_errors = sink.has_errors();
        match plan.filter(|_| !has_errors) {
            Some(plan) if plan.synthesis().is_some() => Err(vec![
                "`result: synthesize` is not supported in a plan that runs as a task; use `prompt`".to_owned(),
            ]),
            Some(plan) => Ok(plan),
            None => Err(sink.finish().to_string().lines().map(str::to_owned).collect()),
        }
    };
    let plan = read();
    router.close_plan();
    plan
}

/// Returns the default name of a plan.
fn default_plan_name(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str());
    stem.filter(|stem| *stem != "-").unwrap_or("plan").to_owned()
}
