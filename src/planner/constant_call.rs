//! Decides which calls of a plan can be made before the plan is approved.

use std::sync::Arc;

use serde_json::Value;

use crate::config::{AgentCatalog, AgentsFile};
use crate::model::{AgentId, Effect, JsonObject, Operation, Route, Task};

/// A call of a tool that changes nothing, with constant arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstantCall {
    /// The agent.
    pub agent: AgentId,
    /// The tool.
    pub tool: Arc<str>,
    /// The arguments.
    pub arguments: JsonObject,
}

impl ConstantCall {
    /// Returns the call of a task that nothing has to precede: no other task, no condition, and no approval. Its effect is
    /// `read_only` according to the agents file, or else to the annotations of the tool. A plan cannot claim that.
    pub fn of_task(task: &Task, agents: &AgentsFile, catalog: &AgentCatalog) -> Option<Self> {
        let is_independent = task.needs.is_empty()
            && task.condition.is_none()
            && task.foreach.is_none()
            && task.repeat.is_none()
            && task.hook.is_none()
            && task.approve.is_none();
        // Of the call, only the result is reused.
        let is_ordinary = task.timeout.is_none() && task.deadline.is_none() && task.cache.is_none();
        let call = task.call().filter(|call| call.operation == Operation::CallTool && call.awaits.is_none())?;
        let [Route { agent, tool, .. }] = call.routes.as_slice() else { return None };
        let is_harmless = task.effect.is_none_or(|effect| effect == Effect::ReadOnly)
            && changes_nothing(agent, tool, (agents, catalog));
        let arguments = call.arguments.0.as_object().filter(|_| is_constant(&call.arguments.0))?;
        (is_independent && is_ordinary && is_harmless).then(|| Self {
            agent: agent.clone(),
            tool: Arc::clone(tool),
            arguments: arguments.clone(),
        })
    }
}

/// Returns whether a tool that its agent offers is `read_only`.
pub(super) fn changes_nothing(agent: &AgentId, tool: &str, (agents, catalog): (&AgentsFile, &AgentCatalog)) -> bool {
    let offered = catalog.get(agent).and_then(|info| info.as_ref().ok()?.tool(tool));
    let configured = agents.agents.get(agent).and_then(|spec| spec.policy.effect);
    offered.is_some_and(|tool| configured.or(tool.effect) == Some(Effect::ReadOnly))
}

/// Returns whether a value has no text that could be an expression or a reference.
pub(super) fn is_constant(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('$'),
        Value::Array(items) => items.iter().all(is_constant),
        Value::Object(members) => members.iter().all(|(name, value)| !name.contains('$') && is_constant(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::{agents, catalog, object, tool};
    use super::*;
    use crate::config;

    fn catalog_with(effect: Option<Effect>) -> AgentCatalog {
        let schema = json!({"properties": {"q": {"type": "string"}}});
        catalog(["find", "other"].map(|name| crate::model::ToolInfo { effect, ..tool(name, schema.clone()) }).into())
    }

    /// Returns the calls of a plan's tasks.
    fn calls(tasks: &str, (agents, catalog): (&AgentsFile, &AgentCatalog)) -> Vec<Option<ConstantCall>> {
        let text = format!("name: x\ninputs: {{ q: {{ type: string, default: a }} }}\ntasks:\n{tasks}");
        let plan =
            config::load_plan("plan.yaml", &text, agents, Some(catalog)).unwrap_or_else(|error| panic!("{error}"));
        plan.plan.tasks.iter().map(|task| ConstantCall::of_task(task, agents, catalog)).collect()
    }

    #[test]
    fn only_independent_calls_with_constant_arguments_can_precede_the_plan() {
        let (agents, catalog) = (agents(&["box", "gone"]), catalog_with(Some(Effect::ReadOnly)));
        let call = |query: Value| {
            let arguments = object(json!({ "q": query }));
            Some(ConstantCall { agent: "box".into(), tool: "find".into(), arguments })
        };
        let tasks = r#"
  - { id: first, agent: box, tool: find, with: { q: Lisbon } }
  - { id: saved, agent: box, tool: find, with: { q: Porto }, save: porto.txt, retry: { max_attempts: 3 } }
  - { id: free, agent: box, tool: find, with: { q: Faro }, effect: read_only }
  - { id: refers, agent: box, tool: find, with: { q: "${{ tasks.first.text }}" } }
  - { id: input, agent: box, tool: find, with: { q: "${{ inputs.q }}" } }
  - { id: price, agent: box, tool: find, with: { q: "under $5" } }
  - { id: after, agent: box, tool: find, with: { q: x }, needs: [first] }
  - { id: maybe, agent: box, tool: find, with: { q: x }, if: "true" }
  - { id: each, agent: box, tool: find, with: { q: x }, foreach: [1, 2] }
  - { id: asked, agent: box, tool: find, with: { q: x }, approve: Find it? }
  - { id: slow, agent: box, tool: find, with: { q: x }, timeout: 1s }
  - { id: kept, agent: box, tool: find, with: { q: x }, effect: read_only, cache: 1h }
  - { id: once, agent: box, tool: find, with: { q: x }, effect: at_most_once }
  - { id: away, agent: gone, tool: find, with: { q: x } }
  - { id: think, prompt: What? }
"#;
        let found = calls(tasks, (&agents, &catalog));
        let expected = [call("Lisbon".into()), call("Porto".into()), call("Faro".into())];
        assert_eq!(found[..3], expected);
        assert_eq!(found[3..], vec![None; found.len() - 3]);
    }

    #[test]
    fn agents_file_and_annotations_decide_about_the_effect() {
        let tasks = "  - { id: first, agent: box, tool: find, with: { q: x }, effect: read_only }\n";
        for (configured, annotated, expected) in [
            (None, None, false),
            (None, Some(Effect::ReadOnly), true),
            (None, Some(Effect::Idempotent), false),
            (Some(Effect::ReadOnly), None, true),
            (Some(Effect::ReadOnly), Some(Effect::AtMostOnce), true),
            (Some(Effect::AtMostOnce), Some(Effect::ReadOnly), false),
        ] {
            let mut agents = agents(&["box"]);
            agents.agents[0].policy.effect = configured;
            let found = calls(tasks, (&agents, &catalog_with(annotated)));
            assert_eq!(found[0].is_some(), expected, "{configured:?} {annotated:?}");
        }
    }
}
