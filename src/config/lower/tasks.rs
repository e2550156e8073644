//! Reads one task.
//! Never looks at another one, except for its id.

use std::collections::HashSet;

use super::{
    graph::Edge,
    policy, prompts,
    references::{self, Known, Names, Used},
    routes::Router,
};
use crate::{
    config::{
        findings::Findings,
        keys::{AWAIT, TASK_BUDGET},
        map::NameHasher,
        shape::Fields,
        tree::{Node, Spot, Tree},
    },
    expression::RESERVED_NAMES,
    model::{Await, Call, Expression, Foreach, JsonObject, Task, TaskId, Template, Work},
};

/// The name of a `foreach` task's current item where the task gives none.
const BINDING: &str = "item";

/// Reads one task of the plan.
pub(super) struct Reader<'r, 'n> {
    pub(super) task: &'r Known<'n>,
    pub(super) defaults: Option<&'r Fields<'n>>,
    pub(super) names: &'r Names<'n>,
}

impl<'r, 'n> Reader<'r, 'n> {
    /// The task, and the tasks that it needs with the places that say so.
    pub(super) fn task(
        &self,
        router: &mut Router<'_>,
        used: &mut Used,
        findings: &mut Findings,
    ) -> (Task, Vec<Edge<'n>>) {
        let fields = self.fields();
        let mut edges = self.needs(findings);
        let foreach = self.foreach(&mut edges, findings, used);
        let binding = foreach.as_ref().map(|foreach| foreach.binding.as_str());
        let condition = fields.node("if").map(|node| match node.tree {
            Tree::Bool(value) => Expression(value.to_string()),
            _ => {
                let (bare, found) = references::check_expression(node, self.names, binding, findings, used);
                edges.extend(found);
                Expression(bare.to_owned())
            }
        });
        for key in ["with", "prompt", "system", "approve"] {
            if let Some(node) = fields.node(key) {
                edges.extend(references::check(node, self.names, binding, findings, used));
            }
        }
        edges.dedup_by_key(|edge| edge.needs);
        let shared = |name| fields.node(name).map_or(self.defaults, |_| Some(fields));
        let task = Task {
            id: self.task.id.clone(),
            title: fields.text("title").map(str::to_owned),
            needs: self.unique(&edges),
            condition,
            foreach: foreach.map(Box::new),
            approve: fields.node("approve").map(|node| Box::new(Template(node.to_json()))),
            questions: shared("questions").and_then(policy::questions),
            work: match prompts::read(fields, router, findings) {
                Some(prompt) => Work::Prompt(Box::new(prompt)),
                None => Work::Call(Call {
                    routes: router.routes(fields, findings),
                    arguments: Template(fields.node("with").map_or_else(|| JsonObject::new().into(), Node::to_json)),
                    awaits: self.awaits(findings).map(Box::new),
                }),
            },
            retry: policy::retry(fields, self.defaults, findings),
            effect: shared("effect").and_then(|fields| fields.choice("effect")),
            timeout: shared("timeout").and_then(|fields| fields.duration("timeout")),
            deadline: shared("deadline").and_then(|fields| fields.duration("deadline")),
            on_failure: shared("on_failure").and_then(|fields| fields.choice("on_failure")).unwrap_or_default(),
            budget: policy::budget(fields, &TASK_BUDGET),
        };
        (task, edges)
    }

    fn fields(&self) -> &'r Fields<'n> {
        &self.task.fields
    }

    /// The tasks under `needs`.
    fn needs(&self, findings: &mut Findings) -> Vec<Edge<'n>> {
        let mut edges = Vec::new();
        for (id, node) in self.fields().texts("needs") {
            match self.names.find(id) {
                Some((needs, _)) => edges.push(Edge { needs, spot: Spot { node, range: None } }),
                None => {
                    let (problem, help) = self.names.unusable(id, findings);
                    let message = format!("task `{}` needs `{id}`, which {problem}", self.task.id);
                    findings.error("unknown_task", node.extent, message).maybe_help(help);
                }
            }
        }
        edges
    }

    /// The ids of what the edges lead to, each once.
    fn unique(&self, edges: &[Edge<'_>]) -> Vec<TaskId> {
        let mut seen = HashSet::with_capacity_and_hasher(edges.len(), NameHasher::default());
        let fresh = edges.iter().filter(|edge| seen.insert(edge.needs));
        fresh.filter_map(|edge| self.names.id(edge.needs)).cloned().collect()
    }

    /// What the task waits for once its tool has ended.
    fn awaits(&self, findings: &mut Findings) -> Option<Await> {
        let fields = Fields::of(self.fields().node("await")?, &AWAIT);
        let mut read = |key| {
            let node = fields.node(key)?;
            Some(Expression(references::check_document_expression(node, findings).to_owned()))
        };
        Some(Await { resource: read("resource")?, failed: read("failed") })
    }

    fn foreach(&self, edges: &mut Vec<Edge<'n>>, findings: &mut Findings, used: &mut Used) -> Option<Foreach> {
        let fields = self.fields();
        let Some(node) = fields.node("foreach") else {
            for key in ["as", "max_parallel"] {
                if let Some(at) = fields.key_extent(key).filter(|_| !fields.has("foreach")) {
                    findings.error("useless_key", at, format!("`{key}` has no effect without `foreach`"));
                }
            }
            return None;
        };
        let items = match &node.tree {
            Tree::Text(_) => {
                let (bare, found) = references::check_expression(node, self.names, None, findings, used);
                edges.extend(found);
                format!("${{{{ {bare} }}}}").into()
            }
            _ => {
                edges.extend(references::check(node, self.names, None, findings, used));
                node.to_json()
            }
        };
        let binding = fields.text("as").unwrap_or(BINDING);
        if let Some(node) = fields.node("as") {
            if RESERVED_NAMES.contains(&binding) {
                findings.error("bad_name", node.extent, format!("`{binding}` has a meaning of its own"));
            } else if binding.contains('-') {
                let message = format!("`{binding}` holds a hyphen, which an expression would take for a minus sign");
                findings.error("bad_name", node.extent, message).help("use `_`");
            }
        }
        Some(Foreach {
            items: Template(items),
            binding: binding.to_owned(),
            max_parallel: fields.whole("max_parallel"),
        })
    }
}
