//! Decides which tasks can start while the model still writes the plan.

use serde_json::{Value, json};

use super::answer::plan_draft;
use super::constant_call::{ConstantCall, changes_nothing, is_constant};
use super::planning::{Goal, PlanningContext};
use super::selection::tool_selection::ToolOffer;
use crate::config;
use crate::model::JsonObject;

/// Returns the call of a task that a model has written, if the call can precede the plan. The task is validated like a
/// plan that consists of it.
pub(super) fn streamed_call(
    task: &Value,
    goal: &Goal<'_>,
    context: &PlanningContext<'_>,
    offers: &[ToolOffer<'_>],
) -> Option<ConstantCall> {
    let PlanningContext { agents, catalog, file, .. } = *context;
    let name = task.get("tool")?.as_str()?;
    let offer = offers.iter().find(|offer| offer.name() == name)?;
    if !changes_nothing(offer.agent, &offer.tool.name, (agents, catalog)) || !task.get("args").is_none_or(is_constant) {
        return None;
    }
    let reply = JsonObject::from_iter([("tasks".to_owned(), json!([task]))]);
    let draft = plan_draft::write_plan(goal, &reply, offers);
    if !draft.unknown_keys.is_empty() || !draft.invalid_references.is_empty() {
        return None;
    }
    let validated = config::load_plan(file, &draft.text, agents, Some(catalog)).ok()?;
    // A plan that is synthesized has another task at its end.
    ConstantCall::of_task(validated.plan.tasks.first()?, agents, catalog)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{agents, catalog, object, tool};
    use super::super::selection::tool_selection::tool_offers;
    use super::*;
    use crate::llm::{Llm, OnDelta};
    use crate::model::{ChatError, ChatReply, ChatRequest, Effect, ToolInfo};

    /// A model that is not asked.
    struct NoModel;

    #[async_trait::async_trait]
    impl Llm for NoModel {
        async fn chat_stream(&self, _: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
            unreachable!("nothing is planned")
        }
    }

    #[test]
    fn valid_calls_without_references_can_start() {
        let schema = json!({
            "properties": {"q": {"type": "string", "minLength": 2}, "n": {"type": "integer"}},
            "required": ["q"], "additionalProperties": false,
        });
        let tool = |name: &str, effect| ToolInfo { effect: Some(effect), ..tool(name, schema.clone()) };
        let catalog = catalog(vec![tool("find", Effect::ReadOnly), tool("book", Effect::AtMostOnce)]);
        let agents = agents(&["box", "gone"]);
        let context = PlanningContext {
            llm: &NoModel,
            agents: &agents,
            catalog: &catalog,
            file: "plan.yaml",
            local_time: "noon",
        };
        let offers = tool_offers(&catalog);
        let goal = Goal { text: "Find it", max_replans: 1, ..Goal::default() };
        let call = |task: Value| streamed_call(&task, &goal, &context, &offers);
        let found = |arguments: Value| {
            Some(ConstantCall { agent: "box".into(), tool: "find".into(), arguments: object(arguments) })
        };
        for (task, expected) in [
            (json!({"tool": "box.find", "args": {"q": "Lisbon"}}), found(json!({"q": "Lisbon"}))),
            (
                json!({"title": "x", "tool": "box.find", "args": {"q": "Porto", "n": null}, "after": [], "each": null, "if": ""}),
                found(json!({"q": "Porto"})),
            ),
            (json!({"tool": "box.find", "args": {"q": "Faro", "n": "2"}}), found(json!({"q": "Faro", "n": 2}))),
            (json!({"tool": "box.find", "args": "{\"q\": \"Evora\"}"}), found(json!({"q": "Evora"}))),
            (json!({"tool": "box.find", "args": {"q": "$1.title"}}), None),
            (json!({"tool": "box.find", "args": {"q": "after {$7}"}}), None),
            (json!({"tool": "box.find", "args": {"q": "$item"}, "each": "$1"}), None),
            (json!({"tool": "box.find", "args": {"q": "xy"}, "after": [1]}), None),
            (json!({"tool": "box.find", "args": {"q": "xy"}, "if": "$1.n > 0"}), None),
            (json!({"tool": "box.find", "args": {"q": "x"}}), None),
            (json!({"tool": "box.find", "args": {"q": "xy", "more": 1}}), None),
            (json!({"tool": "box.find", "args": {"q": "xy"}, "effect": "read_only"}), None),
            (json!({"tool": "box.book", "args": {"q": "xy"}}), None),
            (json!({"tool": "box.none", "args": {"q": "xy"}}), None),
            (json!({"tool": "think", "args": {"prompt": "xy"}}), None),
            (json!({"tool": "box.find"}), None),
            (json!("box.find"), None),
        ] {
            assert_eq!(call(task.clone()), expected, "{task}");
        }
    }
}
