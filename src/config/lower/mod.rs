//! Turns a plan file into a plan that can run, or into all its mistakes at once.
//! Never connects: what agents offer comes in as a catalogue.

mod arguments;
mod graph;
mod inputs;
mod policy;
mod prompts;
mod references;
mod remainder;
mod replan;
mod routes;
mod tasks;

use std::sync::Arc;

use indexmap::IndexMap;

pub use self::remainder::{Ground, load_remainder};
use self::{
    graph::Edge,
    references::{Names, Used},
    routes::Router,
};
use super::{
    agents_file::AgentsFile,
    diagnostic::Diagnostics,
    findings::Findings,
    keys::{BUDGET, DEFAULTS, PLAN, TASK},
    plan_file,
    shape::{self, Fields, Shape},
    source::Source,
    tree::Node,
};
use crate::model::{AgentId, AgentInfo, OnFailure, Plan, Template};

/// What each agent that was asked said of itself, or why it could not be asked.
pub type Catalogue = IndexMap<AgentId, Result<AgentInfo, String>>;

/// Most calls in flight where the plan does not say: a number that a laptop and most servers can take.
const MAX_PARALLEL: usize = 8;

/// A plan that can run, and what is odd about it.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The plan.
    pub plan: Plan,
    /// Warnings, in the order of the file.
    pub warnings: Diagnostics,
    /// The places of the tasks whose failures ask for a replan, or say nothing of what they mean.
    replannable: Vec<usize>,
}

/// Reads the text of a plan file that is called `name` in errors. With a catalogue, tools and their arguments
/// are checked too; an agent that is not in it is taken at its word.
///
/// # Errors
/// All mistakes of the plan, and its warnings.
pub fn load_plan(
    name: &str,
    text: &str,
    agents: &AgentsFile,
    catalogue: Option<&Catalogue>,
) -> Result<Lowered, Diagnostics> {
    let source = Arc::new(Source::new(name, plan_file::normalize(text).into_owned()));
    let mut findings = Findings::new("plan", Arc::clone(&source));
    let Some(root) = plan_file::read_tree(&source.text, &mut findings) else {
        if findings.is_empty() {
            findings.whole("empty", format!("`{name}` is empty")).help("a plan has `tasks`");
        }
        return Err(findings.finish());
    };
    shape::check(&root, &Shape::Section(&PLAN), &"the plan", &mut findings);
    let mut lowering = Lowering { agents, catalogue, findings: &mut findings };
    let (plan, replannable) = lowering.plan(&root, name);
    if findings.has_errors() {
        return Err(findings.finish());
    }
    let lowered = Lowered { plan, warnings: findings.finish(), replannable };
    Ok(if lowered.plan.replan.is_none() { lowered.with_replans(0) } else { lowered })
}

struct Lowering<'a, 'f> {
    agents: &'a AgentsFile,
    catalogue: Option<&'a Catalogue>,
    findings: &'f mut Findings,
}

impl Lowering<'_, '_> {
    /// The plan, and the places of its tasks whose failures may be planned around.
    fn plan(&mut self, root: &Node<'_>, file: &str) -> (Plan, Vec<usize>) {
        let fields = Fields::of(root, &PLAN);
        let inputs = inputs::read(&fields, self.findings);
        let written = fields.sections("tasks", &TASK);
        if fields.has("tasks") && written.is_empty() && !self.findings.has_errors() {
            self.findings.error("no_tasks", fields.extent, "the plan has no tasks");
        }
        let names = Names::new(&inputs, written, self.findings);
        let defaults = fields.node("defaults").map(|node| Fields::of(node, &DEFAULTS));
        let mut router = Router::new(self.agents, self.catalogue);
        let mut used = Used::default();
        let mut tasks = Vec::with_capacity(names.tasks.len());
        let mut edges: Vec<Vec<Edge<'_>>> = Vec::with_capacity(names.tasks.len());
        for known in names.tasks.values() {
            let reader = tasks::Reader { task: known, defaults: defaults.as_ref(), names: &names };
            let (task, needs) = reader.task(&mut router, &mut used, self.findings);
            tasks.push(Arc::new(task));
            edges.push(needs);
        }
        let outputs = fields.node("outputs").and_then(Node::as_map).map(|outputs| {
            let mut template = |node, findings: &mut Findings| {
                references::check(node, &names, None, findings, &mut used);
                Template(node.to_json())
            };
            outputs.into_iter().map(|(name, entry)| (name.to_string(), template(&entry.node, self.findings))).collect()
        });
        graph::check(&tasks, &edges, self.findings);
        let as_written: Vec<replan::Written<'_, '_>> = (tasks.iter().zip(names.tasks.values()))
            .map(|(task, known)| replan::Written { task, fields: &known.fields, defaults: defaults.as_ref() })
            .collect();
        let replannable = (0..tasks.len()).filter(|index| as_written[*index].is_replannable()).collect();
        let asking = as_written.iter().find(|written| written.task.on_failure == OnFailure::Replan);
        let replan = replan::policy(&fields, asking, &router, self.findings);
        if let Some(request) = prompts::request(&fields) {
            references::check(request, &names, None, self.findings, &mut used);
        }
        if let Some(answer) = prompts::synthesis(&fields, &tasks, &router, self.findings) {
            tasks.push(Arc::new(answer));
        }
        used.warn_of_unused_inputs(&fields, self.findings);
        let plan = Plan {
            name: fields.text("name").map_or_else(|| stem(file), str::to_owned),
            description: fields.text("description").map(str::to_owned),
            inputs,
            max_parallel: fields.whole("max_parallel").unwrap_or(MAX_PARALLEL),
            budget: policy::budget(&fields, &BUDGET),
            replan,
            tasks,
            outputs,
            agents: router.policies(),
        };
        (plan, replannable)
    }
}

/// What a plan without a name is called.
fn stem(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str());
    stem.filter(|stem| *stem != "-").unwrap_or("plan").to_owned()
}
