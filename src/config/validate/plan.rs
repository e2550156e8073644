//! Reads a plan file.

use std::sync::Arc;

use super::graph::{self, DependencyEdge};
use super::references::{self, SymbolTable, UsedInputs};
use super::routes::{AgentCatalog, RouteResolver};
use super::validated_plan::ValidatedPlan;
use super::{inputs, policy, prompts, replan, tasks};
use crate::config::agents::agents_file::AgentsFile;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::schema::keys::{BUDGET, DEFAULTS, PLAN, TASK};
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
    let mut findings = DiagnosticSink::new("plan", Arc::clone(&source));
    let Some(root) = parser::read_tree(&source.text, &mut findings) else {
        if findings.is_empty() {
            findings.file_error("empty", format!("`{name}` is empty")).help("a plan has `tasks`");
        }
        return Err(findings.finish());
    };
    table::check_value(&root, &ValueType::Table(&PLAN), &"the plan", &mut findings);
    let mut lowering = PlanLowering { agents, catalog, findings: &mut findings };
    let (plan, replannable) = lowering.lower_plan(&root, name);
    if findings.has_errors() {
        return Err(findings.finish());
    }
    let lowered = ValidatedPlan { plan, warnings: findings.finish(), replannable };
    Ok(if lowered.plan.replan.is_none() { lowered.with_max_replans(0) } else { lowered })
}

struct PlanLowering<'a, 'f> {
    agents: &'a AgentsFile,
    catalog: Option<&'a AgentCatalog>,
    findings: &'f mut DiagnosticSink,
}

impl PlanLowering<'_, '_> {
    /// Reads the plan, and the indices of the tasks whose failure may trigger a replan.
    fn lower_plan(&mut self, root: &DocumentNode<'_>, file: &str) -> (Plan, Vec<usize>) {
        let fields = CheckedTable::new(root, &PLAN);
        let inputs = inputs::read_inputs(&fields, self.findings);
        let written = fields.tables("tasks", &TASK);
        if fields.has("tasks") && written.is_empty() && !self.findings.has_errors() {
            self.findings.error("no_tasks", fields.span, "the plan has no tasks");
        }
        let names = SymbolTable::new(&inputs, written, self.findings);
        let defaults = fields.node("defaults").map(|node| CheckedTable::new(node, &DEFAULTS));
        let mut router = RouteResolver::new(self.agents, self.catalog);
        let mut used = UsedInputs::default();
        let mut tasks = Vec::with_capacity(names.tasks.len());
        let mut edges: Vec<Vec<DependencyEdge<'_>>> = Vec::with_capacity(names.tasks.len());
        for known in names.tasks.values() {
            let reader = tasks::TaskReader { task: known, defaults: defaults.as_ref(), names: &names };
            let (task, needs) = reader.read_task(&mut router, &mut used, self.findings);
            tasks.push(Arc::new(task));
            edges.push(needs);
        }
        let outputs = fields.node("outputs").and_then(DocumentNode::as_map).map(|outputs| {
            let mut template = |node, findings: &mut DiagnosticSink| {
                references::check_references(node, &names, None, findings, &mut used);
                Template(node.to_json())
            };
            outputs.into_iter().map(|(name, entry)| (name.to_string(), template(&entry.node, self.findings))).collect()
        });
        graph::check_cycles(&tasks, &edges, self.findings);
        let as_written: Vec<replan::TaskDefinition<'_, '_>> = (tasks.iter().zip(names.tasks.values()))
            .map(|(task, known)| replan::TaskDefinition { task, fields: &known.fields, defaults: defaults.as_ref() })
            .collect();
        let replannable = (0..tasks.len()).filter(|index| as_written[*index].is_replannable()).collect();
        let asking = as_written.iter().find(|written| written.task.on_failure == OnFailure::Replan);
        let replan = replan::read_replan_policy(&fields, asking, &router, self.findings);
        if let Some(request) = prompts::synthesis_node(&fields) {
            references::check_references(request, &names, None, self.findings, &mut used);
        }
        if let Some(answer) = prompts::synthesis_task(&fields, &tasks, &router, self.findings) {
            tasks.push(Arc::new(answer));
        }
        used.warn_of_unused_inputs(&fields, self.findings);
        let plan = Plan {
            name: fields.text("name").map_or_else(|| default_plan_name(file), str::to_owned),
            description: fields.text("description").map(str::to_owned),
            inputs,
            max_parallel: fields.integer("max_parallel").unwrap_or(DEFAULT_MAX_PARALLEL),
            budget: policy::read_budget(&fields, &BUDGET),
            replan,
            tasks,
            outputs,
            agents: router.policies(),
        };
        (plan, replannable)
    }
}

/// Returns the default name of a plan.
fn default_plan_name(file: &str) -> String {
    let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str());
    stem.filter(|stem| *stem != "-").unwrap_or("plan").to_owned()
}
