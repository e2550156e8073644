//! Turns a plan patch into tasks that fit the run, or returns all of its diagnostics at once. Existing tasks of the run
//! are never changed.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::references::{ExistingTask, SymbolTable, UsedInputs};
use super::routes::{AgentCatalog, RouteResolver};
use super::{graph, tasks};
use crate::config::agents::agents_file::AgentsFile;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::schema::keys::{PLAN_PATCH, TASK};
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
    ground: &PatchContext<'a>,
) -> Result<(PlanPatch, Diagnostics), Diagnostics> {
    let source = Arc::new(SourceFile::new(name, text.to_owned()));
    let mut findings = DiagnosticSink::new("plan", Arc::clone(&source));
    let Some(root) = parser::read_tree(&source.text, &mut findings) else { return Err(findings.finish()) };
    table::check_value(&root, &ValueType::Table(&PLAN_PATCH), &"the remainder", &mut findings);
    let fields = CheckedTable::new(&root, &PLAN_PATCH);
    let so_far: IndexMap<&str, &TaskSnapshot> =
        ground.request.tasks.iter().map(|so_far| (so_far.task.id.as_str(), so_far)).collect();
    let kept = kept_tasks(&fields, &so_far, &mut findings);
    check_outputs(ground.request, (&so_far, &kept), &mut findings);

    let written = fields.tables("tasks", &TASK);
    for fields in &written {
        let Some((id, node)) = fields.text("id").zip(fields.node("id")) else { continue };
        if so_far.contains_key(id) || ground.request.used_task_ids.iter().any(|taken| taken.as_str() == id) {
            let message = format!("the run already has a task `{id}`, and the meaning of an ID never changes");
            let found = findings.error("duplicate_task", node.span, message);
            found.help("give a new or changed task a new ID, and list an unchanged one in `keep`");
        }
    }
    let usable = |so_far: &&TaskSnapshot| so_far.progress.has_result() || kept.contains(&so_far.task.id);
    let earlier = |so_far: &&'a TaskSnapshot| ExistingTask {
        id: &so_far.task.id,
        is_foreach: so_far.task.foreach.is_some(),
        is_usable: usable(so_far),
    };
    let mut names = SymbolTable::new(&ground.request.plan.inputs, written, &mut findings);
    names.existing = so_far.iter().map(|(id, so_far)| (*id, earlier(so_far))).collect();
    let mut router = RouteResolver::new(ground.agents, Some(ground.catalog));
    let mut added = Vec::with_capacity(names.tasks.len());
    let mut edges = Vec::with_capacity(names.tasks.len());
    for known in names.tasks.values() {
        let reader = tasks::TaskReader { task: known, defaults: None, names: &names };
        let (task, needs) = reader.read_task(&mut router, &mut UsedInputs::default(), &mut findings);
        let approve = required_approval(&task, ground.request);
        added.push(Arc::new(Task { on_failure: OnFailure::Replan, approve: approve.map(Box::new), ..task }));
        edges.push(needs.into_iter().filter(|edge| edge.needs < names.tasks.len()).collect());
    }
    graph::check_cycles(&without_outside_dependencies(&added), &edges, &mut findings);
    if findings.has_errors() {
        return Err(findings.finish());
    }
    let open = ground.request.tasks.iter().filter(|so_far| so_far.progress.is_pending()).map(|so_far| &so_far.task.id);
    let (kept, removed) = open.cloned().partition(|id| kept.contains(id));
    let remainder = PlanPatch { kept, removed, added, agents: router.policies() };
    Ok((remainder, findings.finish()))
}

/// Returns the tasks that `keep` lists, and reports those that cannot be kept.
fn kept_tasks<'r>(
    fields: &CheckedTable<'_>,
    so_far: &IndexMap<&str, &'r TaskSnapshot>,
    findings: &mut DiagnosticSink,
) -> HashSet<&'r TaskId> {
    let named = fields.text_list("keep");
    let ids: HashSet<&str> = named.iter().map(|(id, _)| *id).collect();
    let mut kept = HashSet::new();
    for (id, node) in named {
        let Some(TaskSnapshot { task, progress: standing }) = so_far.get(id).copied() else {
            let open = so_far.values().filter(|other| other.progress.is_pending()).map(|other| other.task.id.as_str());
            let help = findings.did_you_mean(id, open);
            let message = format!("`keep` lists `{id}`, which is not a task of the run");
            findings.error("unknown_task", node.span, message).help_if_known(help);
            continue;
        };
        kept.insert(&task.id);
        let message = match standing {
            TaskProgress::Pending => {
                let is_gone = |need: &&TaskId| {
                    so_far.get(need.as_str()).is_some_and(|other| other.progress.is_pending())
                        && !ids.contains(need.as_str())
                };
                let Some(need) = task.needs.iter().find(is_gone) else { continue };
                format!("`{id}` cannot be kept without `{need}`, which it depends on")
            }
            TaskProgress::Unreachable(because) => {
                format!("`{id}` cannot be kept: it depends on the result of `{because}`, which has none")
            }
            TaskProgress::Succeeded(_) | TaskProgress::NoResult(_) | TaskProgress::Running => {
                format!("`keep` lists `{id}`, which has already started; only pending tasks can be kept or dropped")
            }
        };
        let found = findings.error("not_kept", node.span, message);
        if standing.is_pending() {
            found.help("remove it, and add a new task if one is needed");
        }
    }
    kept
}

/// Reports each output of the plan that refers to a pending task that is not kept.
fn check_outputs(
    request: &ReplanRequest,
    (so_far, kept): (&IndexMap<&str, &TaskSnapshot>, &HashSet<&TaskId>),
    findings: &mut DiagnosticSink,
) {
    for (output, template) in request.plan.outputs.iter().flatten() {
        for reference in expression::template_references(template).unwrap_or_default() {
            let Reference::Task { id, .. } = reference else { continue };
            let could_run = so_far.get(&*id).filter(|other| other.progress == TaskProgress::Pending);
            if could_run.is_some_and(|other| !kept.contains(&other.task.id)) {
                let message = format!("`{id}` must be kept: the plan's output `{output}` refers to it");
                findings.file_error("lost_output", message);
            }
        }
    }
}

/// Returns the approval that a new task needs if another task of the run needs one for the same tool. A planner must
/// not bypass an approval by dropping the task that requires it.
fn required_approval(task: &Task, request: &ReplanRequest) -> Option<Template> {
    let known = request.plan.tasks.iter().chain(request.tasks.iter().map(|so_far| &so_far.task));
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
