//! Reads one task. Only the IDs of other tasks are used.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{branches, policy, prompts, resources, secret_arguments, steps};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{AWAIT, FOREACH, ForeachKeys, REPEAT, TASK, TaskKeys};
use crate::config::schema::table::{CheckedTable, NAME_RULE, is_name};
use crate::config::validate::graph::{self, DependencyEdge};
use crate::config::validate::host;
use crate::config::validate::references::{self, UsedNames};
use crate::config::validate::routes::RouteResolver;
use crate::config::validate::symbols::{Names, SymbolTable, TaskDeclaration};
use crate::config::yaml::document::{DocumentNode, NameHasher, NodeLocation, NodeValue};
use crate::expression::{ITERATION_NAMES, PREVIOUS_NAME, RESERVED_NAMES};
use crate::model::{
    Await, Call, Expression, Foreach, Group, JsonObject, Operation, Repeat, SubPlan, Task, TaskId, Template, Work,
};

/// The default name of a `foreach` task's current item.
const DEFAULT_BINDING: &str = "item";

/// A reader of one task.
pub(in crate::config::validate) struct TaskReader<'r, 'n> {
    pub(in crate::config::validate) task: &'r TaskDeclaration<'n>,
    pub(in crate::config::validate) defaults: Option<CheckedTable<'n, TaskKeys>>,
    pub(in crate::config::validate) names: &'r Names<'r, 'n>,
}

impl<'r, 'n> TaskReader<'r, 'n> {
    /// Reads the task, and its dependencies with their locations.
    pub(in crate::config::validate) fn read_task(
        &self,
        router: &mut RouteResolver<'_>,
        used: &mut UsedNames<'n>,
        sink: &mut DiagnosticSink,
    ) -> (Task, Vec<DependencyEdge<'n>>) {
        let fields = self.fields();
        let mut edges = self.read_needs(sink);
        let foreach = self.read_foreach(&mut edges, sink, used);
        let repeat = self.read_repeat(&mut edges, sink, used);
        let binding = fields.node(&TASK.foreach).map(|_| fields.text(&TASK.binding).unwrap_or(DEFAULT_BINDING));
        let bindings: Vec<&'n str> = binding.into_iter().chain(repeat.as_ref().map(|_| PREVIOUS_NAME)).collect();
        let condition = self.read_condition(&bindings, &mut edges, sink, used);
        let templates = [
            &TASK.with,
            &TASK.read,
            &TASK.shell,
            &TASK.http,
            &TASK.prompt,
            &TASK.use_prompt,
            &TASK.system,
            &TASK.approve,
            &TASK.sleep,
            &TASK.until,
            &TASK.wait,
            &TASK.ask,
            &TASK.stop,
            &TASK.cache,
            &TASK.save,
        ];
        for key in templates {
            if let Some(node) = fields.node(key) {
                edges.extend(references::check_references(node, self.names, &bindings, sink, used));
            }
        }
        let (work, outer) = self.read_work(&bindings, router, used, sink);
        edges.extend(outer);
        edges.dedup_by_key(|edge| (edge.level, edge.needs));
        let shared = |key| fields.node(key).map_or(self.defaults, |_| Some(fields));
        let effect = shared(&TASK.effect).and_then(|fields| fields.choice(&TASK.effect));
        let effect = effect.or_else(|| host::default_effect(&work));
        let cache = policy::read_cache(fields, (&work, effect), router, sink).map(Box::new);
        let save = policy::read_save(fields, foreach.as_ref(), sink).map(Box::new);
        // A default is for calls. It would end waits without a limit of their own.
        let limiting = if matches!(work, Work::Wait(_)) { Some(fields) } else { shared(&TASK.deadline) };
        let deadline = limiting.and_then(|fields| fields.duration(&TASK.deadline));
        let task = Task {
            id: self.task.id.clone(),
            title: fields.text(&TASK.title).map(str::to_owned),
            needs: unique_ids(&edges, self.names.own(), used),
            condition,
            foreach: foreach.map(Box::new),
            repeat: repeat.map(Box::new),
            hook: self.task.role.hook.clone().map(Box::new),
            approve: fields.node(&TASK.approve).map(|node| Box::new(Template(node.to_json()))),
            questions: shared(&TASK.questions).and_then(policy::read_question_policy),
            work,
            retry: policy::read_retry(Some(fields), self.defaults, sink),
            effect,
            timeout: shared(&TASK.timeout).and_then(|fields| fields.duration(&TASK.timeout)),
            deadline,
            on_failure: self.read_on_failure(sink),
            budget: policy::read_budget(fields.node(&TASK.budget)),
            cache,
            save,
        };
        let has_branches = fields.has(&TASK.tasks) || fields.has(&TASK.switch);
        if !has_branches {
            fields.report_useless(&[&TASK.otherwise, &TASK.cases], "without `tasks` or `switch`", sink);
        }
        (task, edges)
    }

    fn fields(&self) -> CheckedTable<'n, TaskKeys> {
        self.task.fields
    }

    /// Returns the consequence of a failure: the task's own, or the default of the plan.
    fn read_on_failure(&self, sink: &mut DiagnosticSink) -> crate::model::OnFailure {
        let own = self.fields().node(&TASK.on_failure).filter(|node| node.as_text().is_some());
        let shared = if own.is_some() { Some(self.fields()) } else { self.defaults };
        let policy = shared.and_then(|fields| fields.choice(&TASK.on_failure)).unwrap_or_default();
        let is_replanned = policy == crate::model::OnFailure::Replan;
        if let Some(node) = own.filter(|_| is_replanned && self.names.scopes.len() > 1) {
            let error = sink.error("useless_key", node.span, "a task in a group is not replanned by itself");
            error.help("set `on_failure: replan` of the outermost task");
        }
        policy
    }

    /// Returns the condition of the task, together with that of the branch that it belongs to.
    fn read_condition(
        &self,
        bindings: &[&'n str],
        edges: &mut Vec<DependencyEdge<'n>>,
        sink: &mut DiagnosticSink,
        used: &mut UsedNames<'n>,
    ) -> Option<Expression> {
        let fields = self.fields();
        let own = fields.node(&TASK.condition).map(|node| match node.value {
            NodeValue::Bool(value) => value.to_string(),
            _ => {
                let (bare, references) = references::check_expression(node, self.names, bindings, sink, used);
                edges.extend(references);
                bare.to_owned()
            }
        });
        // With `else`, the condition is that of the tasks of both branches.
        let own = own.filter(|_| !fields.has(&TASK.otherwise));
        match (&self.task.role.guard, own) {
            (Some(guard), Some(own)) => Some(Expression(format!("({guard}) and ({own})"))),
            (guard, own) => own.or_else(|| guard.clone()).map(Expression),
        }
    }

    /// Returns the work of the task, and the dependencies of the tasks within it.
    fn read_work(
        &self,
        bindings: &[&'n str],
        router: &mut RouteResolver<'_>,
        used: &mut UsedNames<'n>,
        sink: &mut DiagnosticSink,
    ) -> (Work, Vec<DependencyEdge<'n>>) {
        let fields = self.fields();
        if let Some(key) = steps::step_key(fields, sink) {
            let group = GroupReader { task: self, bindings };
            return match key.name {
                "tasks" | "switch" => group.read_group(router, used, sink),
                "plan" => (group.read_sub_plan(router, sink), Vec::new()),
                _ => (steps::read_step(fields, router, sink), Vec::new()),
            };
        }
        if let Some(call) =
            host::read_command(fields, router, sink).or_else(|| host::read_request(fields, router, sink))
        {
            return (Work::Call(call), Vec::new());
        }
        fields.report_useless(&[&TASK.expect], "without `shell` or `http`", sink);
        let work = if let Some(call) = resources::read_resource_call(fields, router, sink) {
            Work::Call(call)
        } else if let Some(prompt) = prompts::read_prompt(fields, router, sink) {
            Work::Prompt(Box::new(prompt))
        } else {
            Work::Call(Call {
                operation: Operation::CallTool,
                routes: router.routes(fields, sink),
                arguments: Template(
                    fields.node(&TASK.with).map_or_else(|| JsonObject::new().into(), DocumentNode::to_json),
                ),
                awaits: self.read_await(sink).map(Box::new),
            })
        };
        (work, Vec::new())
    }

    /// Returns the dependencies under `needs`, and the task that a hook belongs to.
    fn read_needs(&self, sink: &mut DiagnosticSink) -> Vec<DependencyEdge<'n>> {
        let mut edges = Vec::new();
        for (id, node) in self.fields().text_list(&TASK.needs) {
            match self.names.find(id) {
                Some((level, needs, _)) => {
                    edges.push(DependencyEdge { needs, level, location: NodeLocation { node, range: None } });
                }
                None => {
                    let (problem, help) = self.names.explain_unusable(id, sink);
                    let message = format!("task `{}` needs `{id}`, which {problem}", self.task.id);
                    sink.error("unknown_task", node.span, message).help_if_known(help);
                }
            }
        }
        let of = self.task.role.hook.as_ref().and_then(|hook| hook.of.as_ref());
        if let (Some(of), Some(node)) = (of, self.fields().node(&TASK.id))
            && let Some((needs, _)) = self.names.own().find(of.as_str())
        {
            edges.push(DependencyEdge { needs, level: 0, location: NodeLocation { node, range: None } });
        }
        edges
    }

    /// Returns the condition that a call waits for after its tool has returned.
    fn read_await(&self, sink: &mut DiagnosticSink) -> Option<Await> {
        let fields = CheckedTable::new(self.fields().node(&TASK.awaits)?);
        let mut read = |key| {
            let node = fields.node(key)?;
            Some(Expression(references::check_document_expression(node, sink).to_owned()))
        };
        Some(Await { resource: read(&AWAIT.resource)?, failed: read(&AWAIT.failed) })
    }

    fn read_foreach(
        &self,
        edges: &mut Vec<DependencyEdge<'n>>,
        sink: &mut DiagnosticSink,
        used: &mut UsedNames<'n>,
    ) -> Option<Foreach> {
        let fields = self.fields();
        let Some(node) = fields.node(&TASK.foreach) else {
            if !fields.has(&TASK.foreach) {
                fields.report_useless(&[&TASK.binding, &TASK.max_parallel], "without `foreach`", sink);
            }
            return None;
        };
        let matrix = matches!(node.value, NodeValue::Map(_)).then(|| CheckedTable::new(node));
        let matrix = matrix.and_then(|fields: CheckedTable<'n, ForeachKeys>| fields.node(&FOREACH.matrix));
        let items = match &node.value {
            NodeValue::Map(_) => self.read_matrix(matrix?, edges, sink, used),
            NodeValue::Text(_) => {
                let (bare, references) = references::check_expression(node, self.names, &[], sink, used);
                edges.extend(references);
                format!("${{{{ {bare} }}}}").into()
            }
            _ => {
                edges.extend(references::check_references(node, self.names, &[], sink, used));
                node.to_json()
            }
        };
        let binding = fields.text(&TASK.binding).unwrap_or(DEFAULT_BINDING);
        if let Some(node) = fields.node(&TASK.binding) {
            if RESERVED_NAMES.contains(&binding) {
                sink.error("bad_name", node.span, format!("`{binding}` is a reserved name"));
            } else if binding.contains('-') {
                let message = format!("`{binding}` contains a hyphen, which is a minus sign in expressions");
                sink.error("bad_name", node.span, message).help("use `_`");
            }
        }
        Some(Foreach {
            items: Template(items),
            is_matrix: matrix.is_some(),
            binding: binding.to_owned(),
            max_parallel: fields.integer(&TASK.max_parallel),
        })
    }

    /// Returns the lists of a matrix as one template.
    fn read_matrix(
        &self,
        matrix: &'n DocumentNode<'n>,
        edges: &mut Vec<DependencyEdge<'n>>,
        sink: &mut DiagnosticSink,
        used: &mut UsedNames<'n>,
    ) -> Value {
        let lists: Vec<_> = matrix.as_map().into_iter().flatten().collect();
        if lists.is_empty() {
            sink.error("empty", matrix.span, "`matrix` is empty").help("it has one list or more, by name");
        }
        let mut templates = JsonObject::new();
        for (name, entry) in lists {
            if !is_name(name) {
                sink.error("bad_name", entry.key_span, format!("invalid name `{name}`: expected {NAME_RULE}"));
            } else if name.contains('-') {
                let message = format!("`{name}` contains a hyphen, which is a minus sign in expressions");
                sink.error("bad_name", entry.key_span, message).help("use `_`");
            }
            let template = match &entry.node.value {
                NodeValue::Text(_) => {
                    let (bare, references) = references::check_expression(&entry.node, self.names, &[], sink, used);
                    edges.extend(references);
                    format!("${{{{ {bare} }}}}").into()
                }
                NodeValue::List(_) => {
                    edges.extend(references::check_references(&entry.node, self.names, &[], sink, used));
                    entry.node.to_json()
                }
                _ => {
                    let kind = entry.node.kind();
                    let message = format!("`{name}` must be a list, or an expression that returns one, not {kind}");
                    sink.error("wrong_type", entry.node.span, message);
                    continue;
                }
            };
            templates.insert(name.to_string(), template);
        }
        templates.into()
    }

    fn read_repeat(
        &self,
        edges: &mut Vec<DependencyEdge<'n>>,
        sink: &mut DiagnosticSink,
        used: &mut UsedNames<'n>,
    ) -> Option<Repeat> {
        let fields = self.fields();
        let repeat = CheckedTable::new(fields.node(&TASK.repeat)?);
        if let Some(at) = fields.key_span(&TASK.foreach) {
            let error = sink.error("two_loops", at, "a task has `foreach` or `repeat`, not both");
            error.help("put the repeated task into a group: `foreach` with `tasks`");
        }
        let until = match repeat.node(&REPEAT.until)? {
            node if matches!(node.value, NodeValue::Bool(_)) => node.to_json().to_string(),
            node => {
                let own: Vec<&'n str> = ITERATION_NAMES.into_iter().chain([PREVIOUS_NAME]).collect();
                let (bare, references) = references::check_expression(node, self.names, &own, sink, used);
                edges.extend(references);
                bare.to_owned()
            }
        };
        Some(Repeat {
            until: Expression(until),
            max: repeat.integer(&REPEAT.max)?,
            delay: repeat.duration(&REPEAT.delay),
        })
    }
}

/// Returns the distinct task IDs of the edges within the scope of `names`.
pub(in crate::config::validate) fn unique_ids(
    edges: &[DependencyEdge<'_>],
    names: &SymbolTable<'_>,
    used: &UsedNames<'_>,
) -> Vec<TaskId> {
    let mut seen = HashSet::with_capacity_and_hasher(edges.len(), NameHasher::default());
    let fresh = edges.iter().filter(|edge| edge.level == 0 && seen.insert(edge.needs));
    let id = |edge: &DependencyEdge<'_>| names.id(edge.needs).or_else(|| used.resource_id(edge.needs, names)).cloned();
    fresh.filter_map(id).collect()
}

/// Limits how deep groups can be nested.
const MAX_DEPTH: usize = 8;

/// The tasks of a scope, with the dependencies of each.
#[derive(Default)]
pub(in crate::config::validate) struct ScopeTasks<'n> {
    pub(in crate::config::validate) tasks: Vec<Arc<Task>>,
    /// The dependencies within the scope.
    pub(in crate::config::validate) edges: Vec<Vec<DependencyEdge<'n>>>,
    /// The dependencies on tasks of the scopes around it, as seen from the scope around it.
    outer: Vec<DependencyEdge<'n>>,
}

/// Reads the tasks of a scope.
pub(in crate::config::validate) fn read_scope<'n>(
    names: &Names<'_, 'n>,
    defaults: Option<CheckedTable<'n, TaskKeys>>,
    router: &mut RouteResolver<'_>,
    used: &mut UsedNames<'n>,
    sink: &mut DiagnosticSink,
) -> ScopeTasks<'n> {
    let mut read = ScopeTasks::default();
    let declared = &names.own().tasks;
    let is_plan_hook = |index: usize| {
        let hook = declared.get_index(index).and_then(|(_, task)| task.role.hook.as_ref());
        hook.is_some_and(|hook| hook.of.is_none())
    };
    for (index, declaration) in declared.values().enumerate() {
        let reader = TaskReader { task: declaration, defaults, names };
        let (mut task, edges) = reader.read_task(router, used, sink);
        let (mut own, outer): (Vec<_>, Vec<_>) = edges.into_iter().partition(|edge| edge.level == 0);
        if is_plan_hook(index) {
            // Everything else has ended when it runs.
            own.retain(|edge| is_plan_hook(edge.needs));
            task.needs.retain(|need| declared.get_index_of(need.as_str()).is_some_and(is_plan_hook));
        }
        read.outer.extend(outer.into_iter().map(|edge| DependencyEdge { level: edge.level - 1, ..edge }));
        read.tasks.push(Arc::new(task));
        read.edges.push(own);
    }
    read
}

/// A reader of a task that consists of others.
pub(in crate::config::validate) struct GroupReader<'r, 'g, 'n> {
    pub(in crate::config::validate) task: &'g TaskReader<'r, 'n>,
    /// The names that the task binds.
    pub(in crate::config::validate) bindings: &'g [&'n str],
}

impl<'n> GroupReader<'_, '_, 'n> {
    /// Returns the group of the task, and the dependencies of its tasks on others.
    pub(in crate::config::validate) fn read_group(
        &self,
        router: &mut RouteResolver<'_>,
        used: &mut UsedNames<'n>,
        sink: &mut DiagnosticSink,
    ) -> (Work, Vec<DependencyEdge<'n>>) {
        let TaskReader { task, defaults, names } = self.task;
        let (fields, mut edges) = (task.fields, Vec::new());
        if names.scopes.len() >= MAX_DEPTH {
            let message = format!("groups can be nested at most {MAX_DEPTH} levels deep");
            sink.error("nested_too_deep", fields.span(), message).help("move the inner tasks into a plan of their own");
            let group = Group { tasks: Vec::new(), outputs: None, plan: None };
            return (Work::Group(Box::new(group)), edges);
        }
        let tables = branches::read_branches(fields, (names, self.bindings), &mut edges, used, sink);
        if tables.is_empty() && !sink.has_errors() {
            sink.error("no_tasks", fields.span(), format!("the group `{}` has no tasks", task.id));
        }
        let table = SymbolTable::new(names.own().inputs, branches::with_hooks(tables, sink), sink);
        let inner = names.in_group(&table, self.bindings);
        let read = read_scope(&inner, *defaults, router, used, sink);
        graph::check_cycles(&read.tasks, &read.edges, sink);
        let outputs = fields.node(&TASK.outputs).map(|node| {
            let references = references::check_references(node, &inner, &[], sink, used);
            edges.extend(outer_edges(references));
            let entries = fields.entries(&TASK.outputs);
            entries.map(|(name, entry)| (name.to_owned(), Template(entry.node.to_json()))).collect()
        });
        edges.extend(read.outer);
        (Work::Group(Box::new(Group { tasks: read.tasks, outputs, plan: None })), edges)
    }

    /// Returns the plan that runs as the task.
    pub(in crate::config::validate) fn read_sub_plan(
        &self,
        router: &mut RouteResolver<'_>,
        sink: &mut DiagnosticSink,
    ) -> Work {
        let fields = self.task.task.fields;
        fields.report_useless(&[&TASK.outputs], "with `plan`, which has outputs of its own", sink);
        let group = |tasks, outputs, plan| Work::Group(Box::new(Group { tasks, outputs, plan }));
        let (Some(node), Some(name)) = (fields.node(&TASK.plan), fields.text(&TASK.plan)) else {
            return group(Vec::new(), None, None);
        };
        let folder = Path::new(sink.file()).parent().unwrap_or(Path::new(""));
        let plan = match router.load_sub_plan(&folder.join(name)) {
            Ok(plan) => plan,
            Err(problems) => {
                for problem in problems {
                    sink.error("sub_plan", node.span, format!("the plan `{name}` is not valid: {problem}"));
                }
                return group(Vec::new(), None, None);
            }
        };
        let arguments = fields.node(&TASK.with);
        secret_arguments::check_secret_arguments(fields, self.task.names.own().inputs, (name, &plan), sink);
        for (input, entry) in fields.entries(&TASK.with) {
            if !plan.inputs.contains_key(input) {
                let known = plan.inputs.keys().map(String::as_str);
                let help = sink.suggest(input, known, ("its inputs are", "it has no inputs"));
                sink.error("unknown_input", entry.key_span, format!("the plan `{name}` has no input `{input}`"))
                    .help(help);
            }
        }
        let given: Vec<&str> = fields.entries(&TASK.with).map(|(name, _)| name).collect();
        for (input, _) in plan.inputs.iter().filter(|(input, spec)| spec.required && !given.contains(&input.as_str())) {
            let message = format!("the plan `{name}` requires the input `{input}`");
            sink.error("missing_input", node.span, message).help("set it in `with`");
        }
        let arguments = Template(arguments.map_or_else(|| JsonObject::new().into(), DocumentNode::to_json));
        let sub_plan = SubPlan { name: plan.name, inputs: plan.inputs, arguments, budget: plan.budget };
        group(plan.tasks, plan.outputs, Some(Box::new(sub_plan)))
    }
}

/// Returns the edges to tasks around a group, as seen from the scope around it.
fn outer_edges<'n>(edges: Vec<DependencyEdge<'n>>) -> impl Iterator<Item = DependencyEdge<'n>> {
    let outer = edges.into_iter().filter(|edge| edge.level > 0);
    outer.map(|edge| DependencyEdge { level: edge.level - 1, ..edge })
}
