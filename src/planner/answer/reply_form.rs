//! The form of a reply: its keys, and what it can be besides a plan.

use serde_json::Value;

use crate::model::text::truncate_chars;
use crate::model::{JsonObject, json_candidates, split_reasoning};
use crate::planner::planning::ClarifyingQuestion;

/// The name of the tool that asks the language model itself.
pub(in crate::planner) const THINK: &str = "think";

/// The keys of a plan, of a patch, of a task, and of the arguments of [`THINK`].
pub(super) const PLAN_KEYS: [&str; 5] = ["tasks", "missing", "answer", "cannot", "question"];
pub(super) const PATCH_KEYS: [&str; 3] = ["keep", "tasks", "missing"];
pub(super) const TASK_KEYS: [&str; 6] = ["title", "tool", "args", "after", "each", "if"];
pub(super) const THINK_KEYS: [&str; 3] = ["prompt", "tools", "list"];

/// The maximum length of a text of a reply that is not a plan, and of a choice.
const MAX_TEXT_CHARS: usize = 4_000;
const MAX_CHOICE_CHARS: usize = 200;
/// The maximum number of choices of a question.
const MAX_CHOICES: usize = 9;

/// What a model replies instead of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::planner) enum Conclusion {
    /// The answer to a goal that needs no tool.
    Answer(String),
    /// The reason why nothing of the goal can be done.
    Impossible(String),
    /// A question about the goal.
    Question(ClarifyingQuestion),
}

/// Returns the form in a model's reply, even if it is surrounded by text. A list of tasks counts as a plan.
pub(in crate::planner) fn find_reply(answer: &str) -> Option<JsonObject> {
    let (_, answer) = split_reasoning(answer);
    let candidates = json_candidates(answer);
    let is_form = |object: &JsonObject| PLAN_KEYS.iter().any(|key| object.contains_key(*key));
    let plans = candidates.iter().flat_map(|value| match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    });
    let mut plans = plans.filter_map(Value::as_object).filter(|object| is_form(object));
    plans.next().cloned().or_else(|| candidates.iter().find_map(bare_tasks))
}

/// Returns the plan whose tasks a list is.
fn bare_tasks(value: &Value) -> Option<JsonObject> {
    let tasks = value.as_array().filter(|tasks| !tasks.is_empty())?;
    let is_task = |task: &Value| task.get("tool").is_some_and(Value::is_string) && task.get("args").is_some();
    tasks.iter().all(is_task).then(|| JsonObject::from_iter([("tasks".to_owned(), value.clone())]))
}

/// Returns whether a reply has tasks.
pub(in crate::planner) fn has_tasks(reply: &JsonObject) -> bool {
    let is_empty = |tasks: &Value| tasks.is_null() || tasks.as_array().is_some_and(Vec::is_empty);
    reply.get("tasks").is_some_and(|tasks| !is_empty(tasks))
}

/// Returns what a reply without tasks says.
pub(in crate::planner) fn conclusion(reply: &JsonObject) -> Option<Conclusion> {
    if let Some(question) = reply.get("question").and_then(question) {
        return Some(Conclusion::Question(question));
    }
    if let Some(answer) = text_at(reply, "answer") {
        return Some(Conclusion::Answer(answer));
    }
    text_at(reply, "cannot").or_else(|| missing_part(reply)).map(Conclusion::Impossible)
}

/// Returns the part of the goal that a reply does not reach.
pub(in crate::planner) fn missing_part(reply: &JsonObject) -> Option<String> {
    text_at(reply, "missing")
}

fn question(value: &Value) -> Option<ClarifyingQuestion> {
    let text = value.as_str().or_else(|| value.get("text")?.as_str())?.trim();
    let choices = value.get("choices").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let choices = choices.map(|choice| truncate_chars(choice.trim(), MAX_CHOICE_CHARS).into_owned());
    let mut choices: Vec<String> = choices.filter(|choice| !choice.is_empty()).take(MAX_CHOICES).collect();
    choices.dedup();
    let text = truncate_chars(text, MAX_TEXT_CHARS).into_owned();
    (!text.is_empty()).then_some(ClarifyingQuestion { text, choices })
}

/// Returns the text of a key, if it has one that says something.
fn text_at(reply: &JsonObject, key: &str) -> Option<String> {
    let text = reply.get(key)?.as_str()?.trim();
    let says_nothing =
        ["", "none", "null", "nothing", "n/a", "-"].contains(&text.trim_end_matches('.').to_lowercase().as_str());
    (!says_nothing).then(|| truncate_chars(text, MAX_TEXT_CHARS).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::samples::object;
    use super::*;

    #[test]
    fn finds_the_form_anywhere_in_an_answer() {
        let plan = object(json!({"tasks": []}));
        for answer in [
            r#"{"tasks": []}"#,
            "Sure!\n```json\n{\"tasks\": []}\n```\nAnything else?",
            r#"<think>{"tasks": [1]} or {"a": {} }? {</think> {"tasks":[]}"#,
        ] {
            assert_eq!(find_reply(answer).as_ref(), Some(&plan), "{answer}");
        }
        let task = json!({"title": "x", "tool": "a.b", "args": {}});
        assert_eq!(find_reply(&json!([task]).to_string()), Some(object(json!({"tasks": [task]}))));
        for answer in ["", "no", "{", r#"{"tasks": ["#, r#"{"analysis": "no"}"#, r#"[{"id": "t1"}]"#] {
            assert_eq!(find_reply(answer), None, "{answer}");
        }
        assert_eq!(find_reply(&r#"{"tasks":"#.repeat(10_000)), None);
    }

    #[test]
    fn conclusions_are_read_leniently() {
        let asked = |choices: &[&str]| {
            let choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
            Some(Conclusion::Question(ClarifyingQuestion { text: "Which one?".to_owned(), choices }))
        };
        for (reply, expected) in [
            (json!({"tasks": [], "answer": " 4 "}), Some(Conclusion::Answer("4".to_owned()))),
            (json!({"tasks": [], "missing": "e-mail"}), Some(Conclusion::Impossible("e-mail".to_owned()))),
            (json!({"cannot": "e-mail", "missing": "None."}), Some(Conclusion::Impossible("e-mail".to_owned()))),
            (json!({"question": "Which one?"}), asked(&[])),
            (
                json!({"question": {"text": "Which one?", "choices": ["a", "", 5, "b"]}, "answer": "x"}),
                asked(&["a", "b"]),
            ),
            (json!({"question": {"text": "", "choices": []}, "missing": null, "answer": ""}), None),
            (json!({}), None),
        ] {
            assert_eq!(conclusion(&object(reply.clone())), expected, "{reply}");
        }
    }
}
