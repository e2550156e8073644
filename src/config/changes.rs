//! Describes the differences between two versions of a plan or an agent's section.

use serde_json::{Map, Value};

use crate::model::{AgentId, AgentPolicy, HOST_AGENT, Plan};

/// Describes each difference between two versions of a plan. Ignores the agents: a plan that calls other agents has
/// other tasks.
pub fn plan_changes(before: &Plan, now: &Plan) -> Vec<String> {
    let (before, now) = (to_object(before), to_object(now));
    let mut changes = Vec::new();
    for key in merged_keys(&before, &now) {
        match key {
            "tasks" => push_task_changes(&before, &now, &mut changes),
            "agents" => {}
            key if before.get(key) != now.get(key) => changes.push(format!("the plan's `{key}` has changed")),
            _ => {}
        }
    }
    changes
}

/// Describes how the section of agent `id` has changed, if it has.
pub fn agent_changes(id: &AgentId, before: &AgentPolicy, now: Option<&AgentPolicy>) -> Option<String> {
    if id.as_str() == HOST_AGENT {
        return None;
    }
    let Some(now) = now else { return Some(format!("agent `{id}` is no longer in the agents file")) };
    if before == now {
        return None;
    }
    let (before, now) = (to_object(before), to_object(now));
    let policy =
        merged_keys(&before, &now).into_iter().filter(|key| *key != "fingerprint" && before.get(*key) != now.get(*key));
    let policy: Vec<String> = policy.map(|key| format!("`{key}`")).collect();
    Some(match policy.as_slice() {
        [] => format!("the section of agent `{id}` in the agents file has changed"),
        policy => format!("agent `{id}` has changed: {}", policy.join(", ")),
    })
}

fn push_task_changes(before: &Map<String, Value>, now: &Map<String, Value>, changes: &mut Vec<String>) {
    let by_id = |plan: &Map<String, Value>| -> Map<String, Value> {
        let tasks = plan.get("tasks").and_then(Value::as_array).into_iter().flatten();
        tasks.map(|task| (task["id"].as_str().unwrap_or_default().to_owned(), task.clone())).collect()
    };
    let (before, now) = (by_id(before), by_id(now));
    for id in merged_keys(&before, &now) {
        match (before.get(id), now.get(id)) {
            (Some(Value::Object(before)), Some(Value::Object(now))) if before != now => {
                let parts = merged_keys(before, now).into_iter().filter(|key| before.get(*key) != now.get(*key));
                let parts: Vec<String> = parts.map(file_key).collect();
                changes.push(format!("task `{id}` has changed: {}", parts.join(", ")));
            }
            (Some(_), None) => changes.push(format!("task `{id}` was removed")),
            (None, Some(_)) => changes.push(format!("task `{id}` was added")),
            _ => {}
        }
    }
}

/// Returns the name of a task's field in the plan file.
fn file_key(key: &str) -> String {
    match key {
        "work" => "call or prompt".to_owned(),
        key => format!("`{key}`"),
    }
}

/// Returns the keys of both maps, those of the first map first.
fn merged_keys<'m>(first: &'m Map<String, Value>, second: &'m Map<String, Value>) -> Vec<&'m str> {
    let more = second.keys().filter(|key| !first.contains_key(*key));
    first.keys().chain(more).map(String::as_str).collect()
}

fn to_object(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}
