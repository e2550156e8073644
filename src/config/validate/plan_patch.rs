//! Turns a plan patch into tasks that fit the run, or returns all of its diagnostics at once. Existing tasks of the run
//! are never changed.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::graph::DependencyEdge;
use super::references::UsedNames;
use super::routes::{AgentCatalog, RouteResolver};
use super::symbols::{ExistingTask, Names, SymbolTable, TaskRole};
use super::tasks::reader::{TaskReader, unique_ids};
use super::{graph, inputs};
use crate::config::agents::agents_file::AgentsFile;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::schema::keys::{PLAN_PATCH, PlanPatchKeys, TASK};
use crate::config::schema::table::{self, CheckedTable, ValueType};
use crate::config::yaml::parser;
use crate::expression::{self, Reference};
use crate::model::{OnFailure, PlanPatch, ReplanRequest, Route, Task, TaskId, TaskProgress, TaskSnapshot, Template};

/// The agents and the run that a patch is checked against.
#[derive(Clone, Copy)]
pub struct PatchContext<'a> {
    /// The configured agents.
    pub agents: &'a AgentsFile,
    /// The tools of each agent, or the reason why it did not answer.
    pub catalog: &'a AgentCatalog,
    /// The run and the progress of its tasks.
    pub request: &'a ReplanRequest,
}

/// Parses a plan patch; diagnostics use `name` as the file name. Returns the patch with its warnings.
///
/// `keep` lists the IDs of pending tasks. `tasks` are new tasks, which may refer to kept tasks and to tasks that have a
/// result or may still get one. A failure of a new task triggers a replan. A new task needs an approval if the plan
/// requires one for the same tool.
///
/// # Errors
/// Returns all errors and warnings of the patch.
pub fn load_plan_patch<'a>(
    name: &str,
    text: &str,
    context: &PatchContext<'a>,
) -> Result<(PlanPatch, Diagnostics), Diagnostics> {
    let source = Arc::new(SourceFile::new(name, text.to_owned()));
    let mut sink = DiagnosticSink::new("plan", Arc::clone(&source));
    let Some(root) = parser::read_tree(&source.text, &mut sink) else { return Err(sink.finish()) };
    table::check_value(&root, &ValueType::Table(&PLAN_PATCH.table), &"the plan patch", &mut sink);
    let fields = CheckedTable::new(&root);
    let snapshots: IndexMap<&str, &TaskSnapshot> =
        context.request.tasks.iter().map(|snapshot| (snapshot.task.id.as_str(), snapshot)).collect();
    let kept = kept_tasks(fields, &snapshots, &mut sink);
    check_outputs(context.request, (&snapshots, &kept), &mut sink);

    let task_tables = fields.tables(&PLAN_PATCH.tasks);
    for fields in &task_tables {
        let Some((id, node)) = fields.text(&TASK.id).zip(fields.node(&TASK.id)) else { continue };
        if snapshots.contains_key(id) || context.request.used_task_ids.iter().any(|used| used.as_str() == id) {
            let message = format!("the run already has a task `{id}`, and the meaning of an ID never changes");
            let error = sink.error("duplicate_task", node.span, message);
            error.help("give a new or changed task a new ID, and list an unchanged one in `keep`");
        }
    }
    for (key, at) in task_tables.iter().flat_map(|fields| {
        [&TASK.shell, &TASK.http].into_iter().filter_map(|key| Some((key.name, fields.key_span(key)?)))
    }) {
        // A model must not decide what the host does.
        let error = sink.error("host_task", at, format!("a new task cannot have `{key}`"));
        error.help("use the tools of agents");
    }
    let existing = |snapshot: &'a TaskSnapshot| ExistingTask {
        id: &snapshot.task.id,
        is_foreach: snapshot.task.foreach.is_some(),
        is_usable: snapshot.progress.has_result() || kept.contains(&snapshot.task.id),
    };
    let task_tables = task_tables.into_iter().map(|fields| (fields, TaskRole::default())).collect();
    let mut table = SymbolTable::new(&context.request.plan.inputs, task_tables, &mut sink);
    // The run has the values from its start.
    let env = context.request.plan.env.iter();
    table.env = env.map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    table.existing = snapshots.iter().map(|(id, snapshot)| (*id, existing(snapshot))).collect();
    let mut router = RouteResolver::new(context.agents, Some(context.catalog));
    let mut used = UsedNames::default();
    let names = Names::of_plan(&table);
    let mut added = Vec::with_capacity(table.tasks.len());
    let mut edges: Vec<Vec<DependencyEdge<'_>>> = Vec::with_capacity(table.tasks.len());
    for known in table.tasks.values() {
        let reader = TaskReader { task: known, defaults: None, names: &names };
        let (task, needs) = reader.read_task(&mut router, &mut used, &mut sink);
        let approve = required_approval(&task, context.request);
        added.push(Arc::new(Task { on_failure: OnFailure::Replan, approve: approve.map(Box::new), ..task }));
        edges.push(needs);
    }
    for (id, resource) in &used.resources {
        if context.request.used_task_ids.contains(id) {
            let at = resource.location.span(&sink);
            let message = format!("the resource of agent `{}` was dropped by an earlier replan", resource.agent);
            sink.error("unknown_task", at, message).help("read it in a task with `read`");
        }
        let needs = unique_ids(&resource.edges, &table, &used);
        let task = resource.task(id, needs, None, (&mut router, &mut sink));
        added.push(Arc::new(Task { on_failure: OnFailure::Replan, ..task }));
        edges.push(resource.edges.clone());
    }
    // The added tasks have consecutive indices in the patch, without the existing tasks between them.
    let own = table.tasks.len();
    for edges in &mut edges {
        edges.retain(|edge| edge.needs < own || edge.needs >= table.len());
        for edge in edges {
            if let Some(resource) = edge.needs.checked_sub(table.len()) {
                edge.needs = own + resource;
            }
        }
    }
    inputs::check_secret_uses(&root, &context.request.plan.inputs, &mut sink);
    graph::check_cycles(&without_outside_dependencies(&added), &edges, &mut sink);
    if sink.has_errors() {
        return Err(sink.finish());
    }
    let pending = context
        .request
        .tasks
        .iter()
        .filter(|snapshot| snapshot.progress.is_pending())
        .map(|snapshot| &snapshot.task.id);
    let (kept, removed) = pending.cloned().partition(|id| kept.contains(id));
    let missing = fields.text(&PLAN_PATCH.missing).map(str::to_owned);
    let patch = PlanPatch { kept, removed, added, missing, agents: router.policies() };
    Ok((patch, sink.finish()))
}

/// Returns the tasks that `keep` lists, and reports those that cannot be kept.
fn kept_tasks<'r>(
    fields: CheckedTable<'_, PlanPatchKeys>,
    snapshots: &IndexMap<&str, &'r TaskSnapshot>,
    sink: &mut DiagnosticSink,
) -> HashSet<&'r TaskId> {
    let named = fields.text_list(&PLAN_PATCH.keep);
    let ids: HashSet<&str> = named.iter().map(|(id, _)| *id).collect();
    let mut kept = HashSet::new();
    for (id, node) in named {
        let Some(TaskSnapshot { task, progress }) = snapshots.get(id).copied() else {
            let pending =
                snapshots.values().filter(|other| other.progress.is_pending()).map(|other| other.task.id.as_str());
            let help = sink.did_you_mean(id, pending);
            let message = format!("`keep` lists `{id}`, which is not a task of the run");
            sink.error("unknown_task", node.span, message).help_if_known(help);
            continue;
        };
        kept.insert(&task.id);
        let message = match progress {
            TaskProgress::Pending => {
                let is_dropped = |need: &&TaskId| {
                    snapshots.get(need.as_str()).is_some_and(|other| other.progress.is_pending())
                        && !ids.contains(need.as_str())
                };
                let Some(need) = task.needs.iter().find(is_dropped) else { continue };
                format!("`{id}` cannot be kept without `{need}`, which it depends on")
            }
            TaskProgress::Unreachable(because) => {
                format!("`{id}` cannot be kept: it depends on the result of `{because}`, which has none")
            }
            TaskProgress::Succeeded(_) | TaskProgress::NoResult(_) | TaskProgress::Running => {
                format!("`keep` lists `{id}`, which has already started; only pending tasks can be kept or dropped")
            }
        };
        let error = sink.error("not_kept", node.span, message);
        if progress.is_pending() {
            error.help("remove it, and add a new task if one is needed");
        }
    }
    kept
}

/// Reports each output of the plan that refers to a pending task that is not kept.
fn check_outputs(
    request: &ReplanRequest,
    (snapshots, kept): (&IndexMap<&str, &TaskSnapshot>, &HashSet<&TaskId>),
    sink: &mut DiagnosticSink,
) {
    for (output, template) in request.plan.outputs.iter().flatten() {
        for reference in expression::template_references(template).unwrap_or_default() {
            let id = match reference {
                Reference::Task { id, .. } => TaskId::from(id.as_ref()),
                Reference::Resource { agent, uri, .. } => TaskId::resource_read(agent, uri),
                Reference::Input(_) | Reference::Run { .. } | Reference::Name(_) => continue,
            };
            let could_run = snapshots.get(id.as_str()).filter(|other| other.progress == TaskProgress::Pending);
            if could_run.is_some_and(|other| !kept.contains(&other.task.id)) {
                let message = format!("`{id}` must be kept: the plan's output `{output}` refers to it");
                sink.file_error("lost_output", message);
            }
        }
    }
}

/// Returns the approval that a new task needs if another task of the run needs one for the same tool. A planner must
/// not bypass an approval by dropping the task that requires it.
fn required_approval(task: &Task, request: &ReplanRequest) -> Option<Template> {
    let known = request.plan.tasks.iter().chain(request.tasks.iter().map(|snapshot| &snapshot.task));
    let guarded: Vec<_> = known.filter(|other| other.approve.is_some()).flat_map(|other| other.routes()).collect();
    let is_guarded =
        |route: &&Route| guarded.iter().any(|other| other.agent == route.agent && other.tool == route.tool);
    let Route { agent, tool, .. } = task.routes().iter().find(is_guarded)?;
    let question = format!("call `{agent}.{tool}` for the new task `{}`?", task.id);
    // The name of a tool is plain text and must not be parsed as an expression.
    Some(Template(question.replace("${{", "$${{").into()))
}

/// Returns the tasks without their dependencies on other tasks.
fn without_outside_dependencies(tasks: &[Arc<Task>]) -> Vec<Arc<Task>> {
    let ids: HashSet<&TaskId> = tasks.iter().map(|task| &task.id).collect();
    let alone = |task: &Arc<Task>| {
        let needs = task.needs.iter().filter(|need| ids.contains(need)).cloned().collect();
        Arc::new(Task { needs, ..(**task).clone() })
    };
    tasks.iter().map(alone).collect()
}
