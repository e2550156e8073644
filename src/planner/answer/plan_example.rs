//! Writes a plan file as the reply that it could be made from, so that it is an example for a new goal.

use serde_json::{Value, json};

use super::reply_form::THINK;
use crate::config;
use crate::model::JsonObject;

/// The form of an example that a plan file is written as.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::planner) struct ExampleReply {
    /// The reply.
    pub(in crate::planner) reply: Value,
    /// The tools that it calls, as `AGENT.TOOL`.
    pub(in crate::planner) tools: Vec<String>,
}

impl ExampleReply {
    /// Returns whether the compact form can express the plan.
    pub(in crate::planner) fn is_compact(&self) -> bool {
        let tasks = self.reply["tasks"].as_array().into_iter().flatten();
        tasks.into_iter().all(|task| task["tool"] != THINK && task.get("each").or_else(|| task.get("after")).is_none())
    }
}

/// The maximum length of an example.
const MAX_REPLY_CHARS: usize = 4_000;

/// The keys of tasks that a reply can express, or that say nothing about the work.
const TASK_KEYS: [&str; 10] = ["id", "title", "needs", "agent", "tool", "with", "prompt", "tools", "foreach", "retry"];

/// Returns the reply for a plan file, or `None` if a reply cannot express the plan.
pub(in crate::planner) fn example_reply(text: &str) -> Option<ExampleReply> {
    let plan = config::read_data("saved plan", text).ok()?;
    let tasks = plan.get("tasks")?.as_array().filter(|tasks| !tasks.is_empty())?;
    let ids: Vec<&str> = tasks.iter().map(|task| task.get("id")?.as_str()).collect::<Option<_>>()?;
    let mut example = ExampleReply { reply: Value::Null, tools: Vec::new() };
    let written = tasks.iter().map(|task| write_task(task.as_object()?, &ids, &mut example.tools));
    example.reply = json!({ "tasks": written.collect::<Option<Vec<_>>>()? });
    (example.reply.to_string().len() <= MAX_REPLY_CHARS).then_some(example)
}

fn write_task(task: &JsonObject, ids: &[&str], used: &mut Vec<String>) -> Option<Value> {
    if task.keys().any(|key| !TASK_KEYS.contains(&key.as_str())) {
        return None;
    }
    let id = task.get("id")?.as_str()?;
    let mut written = json!({"title": task.get("title").and_then(Value::as_str).unwrap_or(id)});
    match (task.get("agent"), task.get("tool"), task.get("prompt")) {
        (Some(Value::String(agent)), Some(Value::String(tool)), None) => {
            let name = format!("{agent}.{tool}");
            written["tool"] = name.as_str().into();
            used.push(name);
            let arguments = task.get("with").map(|value| with_references(value, ids));
            written["args"] = arguments.unwrap_or_else(|| Some(json!({})))?;
        }
        (None, None, Some(prompt)) => {
            written["tool"] = THINK.into();
            written["args"] = json!({"prompt": with_references(prompt, ids)?});
            if let Some(tools) = task.get("tools") {
                used.extend(tools.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned));
                written["args"]["tools"] = tools.clone();
            }
        }
        _ => return None,
    }
    if let Some(items) = task.get("foreach") {
        written["each"] = with_references(items, ids)?;
    }
    if let Some(needs) = task.get("needs") {
        let numbers = needs.as_array()?.iter().map(|need| number_of(need.as_str()?, ids));
        written["after"] = numbers.collect::<Option<Vec<usize>>>()?.into();
    }
    Some(written)
}

/// Returns the number of a task in a reply.
fn number_of(id: &str, ids: &[&str]) -> Option<usize> {
    Some(ids.iter().position(|known| *known == id)? + 1)
}

/// Returns the value with references instead of expressions, or `None` if an expression is more than a reference.
fn with_references(value: &Value, ids: &[&str]) -> Option<Value> {
    Some(match value {
        Value::String(text) => text_with_references(text, ids)?.into(),
        Value::Array(items) => items.iter().map(|item| with_references(item, ids)).collect::<Option<Vec<_>>>()?.into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Some((name.clone(), with_references(value, ids)?)));
            Value::Object(fields.collect::<Option<JsonObject>>()?)
        }
        other => other.clone(),
    })
}

fn text_with_references(text: &str, ids: &[&str]) -> Option<String> {
    let trimmed = text.trim();
    if let Some(inside) = trimmed.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}"))
        && !inside.contains("${{")
    {
        return reference(inside, ids);
    }
    let (mut written, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${{") {
        let end = start + rest[start..].find("}}")?;
        let before = &rest[..start];
        // An escaped opening is literal text, which a reply cannot contain.
        if before.ends_with('$') {
            return None;
        }
        written.push_str(&format!("{before}{{{}}}", reference(&rest[start + 3..end], ids)?));
        rest = &rest[end + 2..];
    }
    Some(written + rest)
}

/// Returns the reference for an expression: `$1.a` for `tasks.first.output.a`.
fn reference(expression: &str, ids: &[&str]) -> Option<String> {
    let expression = expression.trim();
    let is_path = |path: &str| path.chars().all(|c| c.is_alphanumeric() || "._[]-".contains(c));
    if !is_path(expression) {
        return None;
    }
    if let Some(path) = expression.strip_prefix("item")
        && (path.is_empty() || path.starts_with(['.', '[']))
    {
        return Some(format!("$item{path}"));
    }
    let (id, path) = expression.strip_prefix("tasks.")?.split_once('.')?;
    let number = number_of(id, ids)?;
    let path = ["outputs", "output", "text"].iter().find_map(|start| path.strip_prefix(start))?;
    (path.is_empty() || path.starts_with(['.', '['])).then(|| format!("${number}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_becomes_a_reply() {
        let text = "name: x\ndescription: Find it\nresult: synthesize\ntasks:\n\
            - { id: find, title: Find, agent: box, tool: find, with: { q: it, n: 2 } }\n\
            - { id: think, prompt: 'Choose: ${{ tasks.find.text }}', needs: [find] }\n\
            - id: each\n  foreach: ${{ tasks.find.output.hits }}\n  agent: box\n  tool: store\n  \
              with: { text: '${{ item.title }}', about: ['${{ tasks.think.text }}'] }\n";
        let expected = json!({"tasks": [
            {"title": "Find", "tool": "box.find", "args": {"q": "it", "n": 2}},
            {"title": "think", "tool": "think", "args": {"prompt": "Choose: {$1}"}, "after": [1]},
            {
                "title": "each", "tool": "box.store", "args": {"text": "$item.title", "about": ["$2"]},
                "each": "$1.hits",
            },
        ]});
        let example = example_reply(text).expect("an example");
        assert_eq!((example.reply, example.tools), (expected, vec!["box.find".to_owned(), "box.store".to_owned()]));
    }

    #[test]
    fn plans_that_a_reply_cannot_express_are_no_examples() {
        for task in [
            "{ id: a, shell: ls }",
            "{ id: a, agent: box, tool: find, effect: read_only }",
            "{ id: a, agent: box, tool: find, with: { q: '${{ now() }}' } }",
            "{ id: a, agent: box, tool: find, with: { q: '${{ tasks.b.output }}' } }",
            "{ id: a, agent: box, tool: find, with: { q: 'a $${{ x }}' } }",
            "{ id: a, capability: find }",
        ] {
            assert_eq!(example_reply(&format!("name: x\ntasks:\n- {task}\n")), None, "{task}");
        }
        assert_eq!(example_reply("name: x\ntasks: []\n"), None);
        assert_eq!(example_reply("{"), None);
    }
}
