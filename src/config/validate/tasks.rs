//! Reads one task. Only the IDs of other tasks are used.

use std::collections::HashSet;

use serde_json::Value;

use super::graph::DependencyEdge;
use super::references::{self, SymbolTable, TaskDeclaration, UsedNames};
use super::routes::RouteResolver;
use super::{host, policy, prompts, resources};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{AWAIT, FOREACH, ForeachKeys, TASK, TaskKeys};
use crate::config::schema::table::{CheckedTable, NAME_RULE, is_name};
use crate::config::yaml::document::{DocumentNode, NameHasher, NodeLocation, NodeValue};
use crate::expression::RESERVED_NAMES;
use crate::model::{Await, Call, Expression, Foreach, JsonObject, Operation, Task, TaskId, Template, Work};

/// The default name of a `foreach` task's current item.
const DEFAULT_BINDING: &str = "item";

/// A reader of one task.
pub(super) struct TaskReader<'r, 'n> {
    pub(super) task: &'r TaskDeclaration<'n>,
    pub(super) defaults: Option<CheckedTable<'n, TaskKeys>>,
    pub(super) names: &'r SymbolTable<'n>,
}

impl<'r, 'n> TaskReader<'r, 'n> {
    /// Reads the task, and its dependencies with their locations.
    pub(super) fn read_task(
        &self,
        router: &mut RouteResolver<'_>,
        used: &mut UsedNames<'n>,
        sink: &mut DiagnosticSink,
    ) -> (Task, Vec<DependencyEdge<'n>>) {
        let fields = self.fields();
        let mut edges = self.read_needs(sink);
        let foreach = self.read_foreach(&mut edges, sink, used);
        let binding = foreach.as_ref().map(|foreach| foreach.binding.as_str());
        let condition = fields.node(&TASK.condition).map(|node| match node.value {
            NodeValue::Bool(value) => Expression(value.to_string()),
            _ => {
                let (bare, references) = references::check_expression(node, self.names, binding, sink, used);
                edges.extend(references);
                Expression(bare.to_owned())
            }
        });
        let templates = [
            &TASK.with,
            &TASK.read,
            &TASK.shell,
            &TASK.http,
            &TASK.prompt,
            &TASK.use_prompt,
            &TASK.system,
            &TASK.approve,
            &TASK.cache,
            &TASK.save,
        ];
        for key in templates {
            if let Some(node) = fields.node(key) {
                edges.extend(references::check_references(node, self.names, binding, sink, used));
            }
        }
        edges.dedup_by_key(|edge| edge.needs);
        let shared = |key| fields.node(key).map_or(self.defaults, |_| Some(fields));
        let work = self.read_work(router, sink);
        let effect = shared(&TASK.effect).and_then(|fields| fields.choice(&TASK.effect));
        let effect = effect.or_else(|| host::default_effect(&work));
        let cache = policy::read_cache(fields, (&work, effect), router, sink).map(Box::new);
        let save = policy::read_save(fields, foreach.as_ref(), sink).map(Box::new);
        let task = Task {
            id: self.task.id.clone(),
            title: fields.text(&TASK.title).map(str::to_owned),
            needs: unique_ids(&edges, self.names, used),
            condition,
            foreach: foreach.map(Box::new),
            approve: fields.node(&TASK.approve).map(|node| Box::new(Template(node.to_json()))),
            questions: shared(&TASK.questions).and_then(policy::read_question_policy),
            work,
            retry: policy::read_retry(Some(fields), self.defaults, sink),
            effect,
            timeout: shared(&TASK.timeout).and_then(|fields| fields.duration(&TASK.timeout)),
            deadline: shared(&TASK.deadline).and_then(|fields| fields.duration(&TASK.deadline)),
            on_failure: shared(&TASK.on_failure).and_then(|fields| fields.choice(&TASK.on_failure)).unwrap_or_default(),
            budget: policy::read_budget(fields.node(&TASK.budget)),
            cache,
            save,
        };
        (task, edges)
    }

    fn fields(&self) -> CheckedTable<'n, TaskKeys> {
        self.task.fields
    }

    /// Returns the command, the request, the resource to read, the prompt, or the tool call of the task.
    fn read_work(&self, router: &mut RouteResolver<'_>, sink: &mut DiagnosticSink) -> Work {
        let fields = self.fields();
        if let Some(call) =
            host::read_command(fields, router, sink).or_else(|| host::read_request(fields, router, sink))
        {
            return Work::Call(call);
        }
        fields.report_useless(&[&TASK.expect], "without `shell` or `http`", sink);
        if let Some(call) = resources::read_resource_call(fields, router, sink) {
            return Work::Call(call);
        }
        if let Some(prompt) = prompts::read_prompt(fields, router, sink) {
            return Work::Prompt(Box::new(prompt));
        }
        Work::Call(Call {
            operation: Operation::CallTool,
            routes: router.routes(fields, sink),
            arguments: Template(
                fields.node(&TASK.with).map_or_else(|| JsonObject::new().into(), DocumentNode::to_json),
            ),
            awaits: self.read_await(sink).map(Box::new),
        })
    }

    /// Returns the dependencies under `needs`.
    fn read_needs(&self, sink: &mut DiagnosticSink) -> Vec<DependencyEdge<'n>> {
        let mut edges = Vec::new();
        for (id, node) in self.fields().text_list(&TASK.needs) {
            match self.names.find(id) {
                Some((needs, _)) => edges.push(DependencyEdge { needs, location: NodeLocation { node, range: None } }),
                None => {
                    let (problem, help) = self.names.explain_unusable(id, sink);
                    let message = format!("task `{}` needs `{id}`, which {problem}", self.task.id);
                    sink.error("unknown_task", node.span, message).help_if_known(help);
                }
            }
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
                let (bare, references) = references::check_expression(node, self.names, None, sink, used);
                edges.extend(references);
                format!("${{{{ {bare} }}}}").into()
            }
            _ => {
                edges.extend(references::check_references(node, self.names, None, sink, used));
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
                    let (bare, references) = references::check_expression(&entry.node, self.names, None, sink, used);
                    edges.extend(references);
                    format!("${{{{ {bare} }}}}").into()
                }
                NodeValue::List(_) => {
                    edges.extend(references::check_references(&entry.node, self.names, None, sink, used));
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
}

/// Returns the distinct task IDs of the edges.
pub(super) fn unique_ids(edges: &[DependencyEdge<'_>], names: &SymbolTable<'_>, used: &UsedNames<'_>) -> Vec<TaskId> {
    let mut seen = HashSet::with_capacity_and_hasher(edges.len(), NameHasher::default());
    let fresh = edges.iter().filter(|edge| seen.insert(edge.needs));
    let id = |edge: &DependencyEdge<'_>| names.id(edge.needs).or_else(|| used.resource_id(edge.needs, names)).cloned();
    fresh.filter_map(id).collect()
}
