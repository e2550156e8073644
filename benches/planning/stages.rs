//! A prompt in the manner of hosts that plan stages: steps in sequence, whose tasks in words name an agent that then
//! works with a model. Such a plan has no arguments and no data flow.

use std::time::Instant;

use kapell::llm::Llm;
use kapell::model::{ChatMessage, ChatRequest, ChatRole, ToolInfo, json_candidates};
use serde_json::Value;

use crate::goals::EvalGoal;
use crate::models::CountingModel;
use crate::score::{Call, Score};

const SYSTEM: &str = "You coordinate workers. Given an objective, list the steps that complete it. Each step holds tasks \
that run in parallel, and the next step starts when they are done. Give each task one worker of the list and a \
description. Reply with JSON only: {\"steps\": [{\"description\": \"...\", \"tasks\": [{\"description\": \"...\", \
\"agent\": \"NAME\"}]}], \"is_complete\": false}";

pub(crate) async fn plan_goal(model: &CountingModel<'_>, tools: &[ToolInfo], goal: &EvalGoal) -> Score {
    let start = Instant::now();
    let workers: String = tools
        .iter()
        .map(|tool| format!("- {}: {}\n", tool.name, tool.description.as_deref().unwrap_or_default()))
        .collect();
    let question = format!("Objective: {}\n\nWorkers:\n{workers}\nPlan the steps.", goal.text);
    let request = ChatRequest {
        system: Some(SYSTEM.to_owned()),
        messages: vec![ChatMessage::text(ChatRole::User, question).into()],
        max_tokens: crate::MAX_TOKENS,
        ..ChatRequest::default()
    };
    let reply = model.chat(&request).await.map(|reply| reply.text()).unwrap_or_default();
    let plan = json_candidates(&reply).into_iter().find(|value| value.get("steps").is_some_and(Value::is_array));
    let calls = plan.as_ref().map(|plan| {
        let tasks = plan["steps"].as_array().into_iter().flatten();
        let tasks = tasks.flat_map(|step| step.get("tasks").and_then(Value::as_array).into_iter().flatten());
        let call = |(index, task): (usize, &Value)| Call {
            id: format!("t{}", index + 1),
            tool: task.get("agent").and_then(Value::as_str).unwrap_or_default().to_owned(),
            arguments: Value::Null,
        };
        tasks.enumerate().map(call).collect::<Vec<_>>()
    });
    let known = |call: &Call| tools.iter().any(|tool| tool.name == call.tool);
    match calls.filter(|calls| !calls.is_empty() && calls.iter().all(known)) {
        Some(calls) => Score::of_plan(&calls, goal, true),
        None => Score::of_nothing(goal),
    }
    .with_cost(model.usage(), start.elapsed())
}
