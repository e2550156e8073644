//! Writes a model's reply as a plan file that people can read and edit. Does not validate: a value that is missing or
//! has the wrong type is written unchanged, so the validator can report it.

use serde_json::{Value, json};

use super::planning::Goal;
use super::tool_selection::ToolOffer;
use crate::config;
use crate::json_schema::{alternatives, pointer_tokens};
use crate::model::text::truncate_chars;
use crate::model::{JsonObject, json_candidates, split_reasoning};

/// The first lines of every plan file.
const FILE_HEADER: &str = "# yaml-language-server: $schema=plan.schema.json\n\
                    # `kapell schema plan > plan.schema.json` writes the schema that editors use for completion.\n#\n";
/// The keys of the reply format.
const PLAN_KEYS: [&str; 2] = ["analysis", "tasks"];
const PATCH_KEYS: [&str; 3] = ["analysis", "keep", "tasks"];
const TASK_KEYS: [&str; 5] = ["id", "title", "depends_on", "call", "bindings"];
const CALL_KEYS: [&str; 3] = ["tool", "args", "args_json"];
const BINDING_KEYS: [&str; 3] = ["arg", "task", "output"];
/// The maximum width of a comment line.
const COMMENT_WIDTH: usize = 100;
/// The maximum length of a tool's description in a comment, and of a reply without a plan.
const MAX_DESCRIPTION_CHARS: usize = 160;
const MAX_ANSWER_CHARS: usize = 10_000;
/// The maximum length of a plan's name.
const MAX_NAME_CHARS: usize = 48;

/// A plan file and the lines of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlanDraft {
    /// The text of the file.
    pub(super) text: String,
    /// The unknown keys of the reply and their locations, as text. They are omitted from the file: a model must not set
    /// what only a person may, such as that a call can be repeated.
    pub(super) unknown_keys: Vec<String>,
    /// The first line of each task, from 1, and its ID.
    task_lines: Vec<(usize, String)>,
}

impl PlanDraft {
    /// Returns the ID of the task that contains a line.
    pub(super) fn task_at(&self, line: usize) -> Option<&str> {
        let before = self.task_lines.partition_point(|(start, _)| *start <= line);
        Some(self.task_lines[before.checked_sub(1)?].1.as_str())
    }
}

/// Returns the plan in a model's reply: the first object with `tasks`, even if it is surrounded by text.
pub(super) fn find_plan(answer: &str) -> Option<JsonObject> {
    let (_, answer) = split_reasoning(answer);
    let objects = json_candidates(answer).into_iter().flat_map(|value| match value {
        Value::Array(values) => values,
        value => vec![value],
    });
    let plans = objects.filter_map(|value| match value {
        Value::Object(object) if object.contains_key("tasks") => Some(object),
        _ => None,
    });
    plans.into_iter().next()
}

/// Writes the reply as a plan file.
pub(super) fn write_plan(goal: &Goal<'_>, answer: &JsonObject, offers: &[ToolOffer<'_>]) -> PlanDraft {
    let mut head = json!({"name": plan_name(goal.text), "description": goal.text, "result": "synthesize"});
    if goal.max_replans > 1 {
        head["replan"] = goal.max_replans.into();
    }
    if goal.max_replans > 0 {
        head["defaults"] = json!({"on_failure": "replan"});
    }
    let text = FILE_HEADER.to_owned() + &analysis_comment(answer) + &to_yaml(&head);
    write_tasks(text, answer, offers, &PLAN_KEYS)
}

/// Writes the reply as a plan patch.
pub(super) fn write_patch(answer: &JsonObject, offers: &[ToolOffer<'_>]) -> PlanDraft {
    let keep = answer.get("keep").map(|keep| to_yaml(&json!({ "keep": keep }))).unwrap_or_default();
    write_tasks(analysis_comment(answer) + &keep, answer, offers, &PATCH_KEYS)
}

/// Returns the model's analysis of the goal as a comment.
fn analysis_comment(answer: &JsonObject) -> String {
    comment(answer.get("analysis").and_then(Value::as_str).unwrap_or_default())
}

/// Appends the tasks of a reply to `text`. `keys` are the known top-level keys of the reply.
fn write_tasks(mut text: String, answer: &JsonObject, offers: &[ToolOffer<'_>], keys: &[&str]) -> PlanDraft {
    let mut task_lines = Vec::new();
    match answer.get("tasks") {
        Some(Value::Array(tasks)) if !tasks.is_empty() => {
            text.push_str("\ntasks:\n");
            for (index, task) in tasks.iter().enumerate() {
                // A block scalar may end in blank lines; another blank line would become part of it.
                if index > 0 && !text.ends_with("\n\n") {
                    text.push('\n');
                }
                if let Some(offer) = called_tool(task, offers) {
                    let about = offer.tool.description.as_deref().or(offer.tool.title.as_deref()).unwrap_or_default();
                    let about = truncate_chars(about.lines().next().unwrap_or_default(), MAX_DESCRIPTION_CHARS);
                    text.push_str(&comment(&format!("{}: {about}", offer.name())));
                }
                let id = task.get("id").and_then(Value::as_str).unwrap_or_default();
                task_lines.push((text.lines().count() + 1, id.to_owned()));
                text.push_str(&to_yaml(&json!([task_to_yaml(task, offers)])));
            }
        }
        Some(tasks) => text.push_str(&to_yaml(&json!({ "tasks": tasks }))),
        None => {}
    }
    PlanDraft { text, unknown_keys: find_unknown_keys(answer, keys), task_lines }
}

/// Returns the keys that the reply format does not have.
fn find_unknown_keys(answer: &JsonObject, keys: &[&str]) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut check_keys = |value: Option<&Value>, known: &[&str], location: &str| {
        let keys = value.and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key);
        unknown.extend(
            keys.filter(|key| !known.contains(&key.as_str()))
                .map(|key| format!("`{}` of {location}", truncate_chars(key, 64))),
        );
    };
    let tasks = answer.get("tasks").and_then(Value::as_array);
    for task in tasks.into_iter().flatten() {
        let id = task.get("id").and_then(Value::as_str).unwrap_or_default();
        check_keys(Some(task), &TASK_KEYS, &format!("task `{id}`"));
        check_keys(task.get("call"), &CALL_KEYS, &format!("the call of task `{id}`"));
        for binding in task.get("bindings").and_then(Value::as_array).into_iter().flatten() {
            check_keys(Some(binding), &BINDING_KEYS, &format!("a binding of task `{id}`"));
        }
    }
    let rest = answer.keys().filter(|key| !keys.contains(&key.as_str()));
    unknown.extend(rest.map(|key| format!("`{}` of the plan", truncate_chars(key, 64))));
    unknown
}

/// Writes a reply without a plan as a file that quotes the reply in comments.
pub(super) fn write_unreadable(goal: &Goal<'_>, answer: &str) -> PlanDraft {
    let mut text = FILE_HEADER.to_owned();
    text.push_str("# The model's answer is not a plan:\n#\n");
    for line in truncate_chars(answer, MAX_ANSWER_CHARS).lines() {
        text.push_str(&comment(line));
    }
    text.push_str(&to_yaml(&json!({"name": plan_name(goal.text), "description": goal.text, "tasks": []})));
    PlanDraft { text, unknown_keys: Vec::new(), task_lines: Vec::new() }
}

/// Returns a plan name made of the first words of the goal.
fn plan_name(goal: &str) -> String {
    let mut name = String::new();
    for word in goal.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !name.is_empty() {
            if name.chars().count() + word.chars().count() >= MAX_NAME_CHARS {
                break;
            }
            name.push('-');
        }
        name.extend(word.chars().take(MAX_NAME_CHARS).flat_map(char::to_lowercase));
    }
    if name.is_empty() { "plan".to_owned() } else { name }
}

/// Formats text as comment lines, without characters that could end the comment or control a terminal.
fn comment(text: &str) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| !is_unsafe(*c)).collect();
        if word.is_empty() {
            continue;
        }
        if line.len() > 1 && line.chars().count() + word.chars().count() >= COMMENT_WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(&word);
    }
    if line.len() > 1 {
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

/// Formats the entries of a map, or the elements of a list, as YAML.
///
/// The YAML writer wraps texts at Unicode line separators, which alters them. Values with such characters are written
/// as JSON, which is valid YAML, with these characters escaped.
fn to_yaml(value: &Value) -> String {
    let text = config::write_data(value).expect("YAML can express all JSON");
    let is_altered = |c: char| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    if !text.contains(is_altered) {
        return text;
    }
    let json = |value: &Value| {
        let escape =
            |c: char| if is_altered(c) || c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
        value.to_string().chars().map(escape).collect::<String>()
    };
    match value {
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| format!("{}: {}\n", json(&key.as_str().into()), json(value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| format!("- {}\n", json(item))).collect(),
        _ => json(value) + "\n",
    }
}

/// Returns the tool that a task calls, if it exists.
pub(super) fn called_tool<'o>(task: &Value, offers: &'o [ToolOffer<'o>]) -> Option<&'o ToolOffer<'o>> {
    let name = task.pointer("/call/tool")?.as_str()?;
    offers.iter().find(|offer| offer.name() == name)
}

/// Converts a task of a reply to a task of the plan file.
fn task_to_yaml(task: &Value, offers: &[ToolOffer<'_>]) -> Value {
    let Value::Object(fields) = task else { return task.clone() };
    let mut written = JsonObject::new();
    let bindings = fields.get("bindings");
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("call", Value::Object(call)) => {
                written.extend(route_keys(call));
                if let Some(arguments) = arguments(call, bindings, called_tool(task, offers)) {
                    written.insert("with".to_owned(), arguments);
                }
            }
            ("depends_on", Value::Array(needs)) => {
                // Bindings imply these dependencies.
                let bound: Vec<&Value> = bindings
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|binding| binding.get("task"))
                    .collect();
                let needs: Vec<&Value> = needs.iter().filter(|id| !bound.contains(id)).collect();
                if !needs.is_empty() {
                    written.insert("needs".to_owned(), json!(needs));
                }
            }
            ("bindings", Value::Array(_)) | (_, Value::Null) => {}
            (key, _) if TASK_KEYS.contains(&key) => {
                written.insert(key.to_owned(), value.clone());
            }
            _ => {}
        }
    }
    Value::Object(written)
}

/// Returns the `agent` and `tool` keys of a call.
fn route_keys(call: &JsonObject) -> JsonObject {
    match call.get("tool") {
        Some(Value::String(name)) => {
            let (agent, tool) = name.split_once('.').map_or((None, name.as_str()), |(agent, tool)| (Some(agent), tool));
            let agent = agent.map(|agent| ("agent".to_owned(), agent.into()));
            agent.into_iter().chain([("tool".to_owned(), tool.into())]).collect()
        }
        Some(other) => JsonObject::from_iter([("tool".to_owned(), other.clone())]),
        None => JsonObject::new(),
    }
}

/// Returns the arguments with their bindings, or `None` if there are no arguments.
fn arguments(call: &JsonObject, bindings: Option<&Value>, offer: Option<&ToolOffer<'_>>) -> Option<Value> {
    let arguments = match (call.get("args"), call.get("args_json")) {
        (None | Some(Value::Null), Some(Value::String(json))) => {
            serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.clone()))
        }
        (Some(arguments), _) if !arguments.is_null() => arguments.clone(),
        _ => json!({}),
    };
    let Value::Object(mut arguments) = arguments else { return Some(arguments) };
    arguments.retain(|_, value| !value.is_null());
    if let Some(ToolOffer { tool, .. }) = offer {
        for (name, value) in &mut arguments {
            if let Some(schema) = tool.input_schema.get("properties").and_then(|known| known.get(name)) {
                prune_nulls(value, &tool.input_schema, schema);
            }
        }
    }
    for binding in bindings.and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| binding.get(key).and_then(Value::as_str).unwrap_or_default();
        let argument = text("arg").strip_prefix('/').unwrap_or(text("arg"));
        arguments.insert(argument.to_owned(), reference(text("task"), text("output")).into());
    }
    (!arguments.is_empty()).then_some(Value::Object(arguments))
}

/// Returns the steps of a JSON pointer into a task's output. Models write `/` for the whole output.
pub(super) fn output_path(pointer: &str) -> impl Iterator<Item = String> {
    pointer_tokens(if pointer == "/" { "" } else { pointer })
}

/// Returns the expression for the part of a task's output at a JSON pointer (RFC 6901).
fn reference(task: &str, pointer: &str) -> String {
    let mut path = format!("tasks.{task}.output");
    for step in output_path(pointer) {
        let is_word = |step: &str| step.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if step.parse::<u32>().is_ok_and(|index| index.to_string() == step) {
            path.push_str(&format!("[{step}]"));
        } else if is_word(&step) && !step.is_empty() && !step.starts_with(|first: char| first.is_ascii_digit()) {
            path.push_str(&format!(".{step}"));
        } else {
            path.push_str(&format!("['{}']", step.replace('\\', r"\\").replace('\'', r"\'")));
        }
    }
    format!("${{{{ {path} }}}}")
}

/// Removes nulls that the model wrote only because strict schemas do not have optional properties. The depth is that of
/// the value, which the parser bounds.
fn prune_nulls(value: &mut Value, root: &JsonObject, schema: &Value) {
    let Some(schema) = schema.as_object() else { return };
    let variants = alternatives(root, schema).schemas;
    match value {
        Value::Object(fields) => {
            let known = |name: &str| {
                variants.iter().find_map(|variant| Some((*variant, variant.get("properties")?.get(name)?)))
            };
            let is_required = |variant: &JsonObject, name: &str| {
                let required = variant.get("required").and_then(Value::as_array);
                required.is_some_and(|names| names.iter().any(|required| required == name))
            };
            fields.retain(|name, value| {
                !value.is_null() || known(name).is_none_or(|(variant, _)| is_required(variant, name))
            });
            for (name, value) in fields {
                if let Some((_, schema)) = known(name) {
                    prune_nulls(value, root, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = variants.iter().find_map(|variant| variant.get("items")) {
                items.iter_mut().for_each(|item| prune_nulls(item, root, schema));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{agents, object};
    use super::*;
    use crate::config::load_plan;
    use crate::model::{AgentId, ToolInfo};

    fn tool(schema: Value) -> ToolInfo {
        let description = Some("Does it.\u{1b}[2J\nAnd more.".to_owned());
        ToolInfo { description, ..super::super::samples::tool("do.it", schema) }
    }

    /// Returns the tasks of the file that a reply is written to, parsed again.
    fn tasks(answer: Value, schema: Value) -> Value {
        let (agent, tool) = (AgentId::from("box"), tool(schema));
        let draft = write_plan(
            &Goal { text: "Do it", max_replans: 0 },
            &object(answer),
            &[ToolOffer { agent: &agent, tool: &tool }],
        );
        config::read_data("plan", &draft.text).expect(&draft.text)["tasks"].clone()
    }

    #[test]
    fn finds_the_plan_anywhere_in_an_answer() {
        let plan = object(json!({"tasks": []}));
        for answer in [
            r#"{"tasks": []}"#,
            "Sure!\n```json\n{\"tasks\": []}\n```\nAnything else?",
            r#"<think>{"tasks": [1]} or {"a": {} }? {</think> {"tasks":[]}"#,
        ] {
            assert_eq!(find_plan(answer).as_ref(), Some(&plan), "{answer}");
        }
        for answer in ["", "no", "{", r#"{"tasks": ["#, r#"{"analysis": "no"}"#, r#"[{"id": "t1"}]"#] {
            assert_eq!(find_plan(answer), None, "{answer}");
        }
        assert_eq!(find_plan(&r#"{"tasks":"#.repeat(10_000)), None);
    }

    #[test]
    fn writes_a_readable_plan() {
        let answer = json!({
            "analysis": "word ".repeat(30),
            "tasks": [
                {"id": "t1", "title": "First", "depends_on": [], "call": {"tool": "box.do.it", "args": {"q": "a\n\n"}}, "bindings": []},
                {"id": "t2", "title": "Then", "depends_on": ["t1"], "call": {"tool": "box.do.it", "args": {"q": null}},
                 "bindings": [{"arg": "q", "task": "t1", "output": "/hits/0/web page"}]},
                {"id": "t3", "title": "Last", "depends_on": ["t1", "t2"], "call": {"tool": "box.do.it", "args_json": "{\"q\": \"${{ tasks.t2.text }}!\"}"}, "bindings": []},
            ],
        });
        let (agent, tool) = (AgentId::from("box"), tool(json!({"properties": {"q": {"type": "string"}}})));
        let draft = write_plan(
            &Goal { text: "Do it, \"now\"!", max_replans: 0 },
            &object(answer),
            &[ToolOffer { agent: &agent, tool: &tool }],
        );
        insta::assert_snapshot!(draft.text);
        let line = |text: &str| draft.text.lines().position(|line| line.contains(text)).expect(text) + 1;
        let at = |text: &str| draft.task_at(line(text));
        assert_eq!(
            [at("name"), at("First"), at("title: Then"), at("tasks.t2.text")],
            [None, Some("t1"), Some("t2"), Some("t3")]
        );
    }

    #[test]
    fn prunes_nulls_of_optional_properties() {
        let schema = json!({
            "properties": {
                "needed": {"type": "string"},
                "inner": {"anyOf": [{"$ref": "#/$defs/inner"}, {"type": "null"}]},
                "open": {"type": "object"},
                "list": {"type": "array", "items": {"$ref": "#/$defs/inner"}},
            },
            "required": ["needed"],
            "$defs": {"inner": {"properties": {"a": {"type": "string"}, "b": {"type": ["string", "null"]}}, "required": ["b"]}},
        });
        let inner = json!({"a": null, "b": null, "c": null});
        let call = json!({"tool": "box.do.it", "args": {
            "needed": null, "inner": inner, "open": {"a": null}, "list": [inner, {"a": "x", "b": "y"}],
        }});
        let written = tasks(json!({"tasks": [{"id": "t1", "call": call}]}), schema);
        let keep = json!({"b": null, "c": null});
        assert_eq!(
            written[0]["with"],
            json!({"inner": keep, "open": {"a": null}, "list": [keep, {"a": "x", "b": "y"}]})
        );
    }

    #[test]
    fn pointers_become_expressions_in_yaml() {
        for (pointer, expression) in [
            ("", "tasks.t1.output"),
            ("/a/0/b_c", "tasks.t1.output.a[0].b_c"),
            ("a/b", "tasks.t1.output.a.b"),
            ("/a-b/01/~1~0", "tasks.t1.output['a-b']['01']['/~']"),
            ("/it's \\", r"tasks.t1.output['it\'s \\']"),
            ("/", "tasks.t1.output"),
        ] {
            assert_eq!(reference("t1", pointer), format!("${{{{ {expression} }}}}"), "{pointer}");
            crate::expression::references(&crate::model::Expression(expression.to_owned())).expect(expression);
        }
    }

    #[test]
    fn writes_unexpected_values_unchanged() {
        let unexpected = json!({
            "tasks": [
                "text",
                {"id": 5, "call": "x", "bindings": {}},
                {"id": "t1", "call": {"tool": "nodot", "args": "x"}, "depends_on": "t0"},
                {"id": "t1", "call": {"tool": "a.b", "args_json": "{"}, "bindings": [7]},
                {"id": "t1", "call": {"tool": 7}},
            ],
        });
        let expected = json!([
            "text",
            {"id": 5, "call": "x", "bindings": {}},
            {"id": "t1", "tool": "nodot", "with": "x", "depends_on": "t0"},
            {"id": "t1", "agent": "a", "tool": "b", "with": "{"},
            {"id": "t1", "tool": 7},
        ]);
        assert_eq!(tasks(unexpected, json!({})), expected);
        assert_eq!(tasks(json!({"tasks": "none"}), json!({})), "none");
    }

    #[test]
    fn omits_and_reports_unknown_keys() {
        let answer = json!({
            "outputs": {},
            "tasks": [{
                "id": "t1", "effect": "read_only", "call": {"tool": "a.b", "retry": 9},
                "bindings": [{"arg": "q", "task": "t0", "output": "", "default": 1}],
            }],
        });
        let draft = write_plan(&Goal { text: "Do it", max_replans: 0 }, &object(answer.clone()), &[]);
        let locations = [
            "`effect` of task `t1`",
            "`retry` of the call of task `t1`",
            "`default` of a binding of task `t1`",
            "`outputs` of the plan",
        ];
        assert_eq!(draft.unknown_keys, locations);
        let written = json!([{"id": "t1", "agent": "a", "tool": "b", "with": {"q": "${{ tasks.t0.output }}"}}]);
        assert_eq!(tasks(answer, json!({})), written);
    }

    #[test]
    fn plan_names_are_short_words() {
        assert_eq!(plan_name("¿Wo ist   der Bahnhof?"), "wo-ist-der-bahnhof");
        assert_eq!(plan_name("!?"), "plan");
        assert_eq!(plan_name(&"word ".repeat(50)).chars().count(), 44);
        assert_eq!(plan_name(&"x".repeat(100)), "x".repeat(MAX_NAME_CHARS));
    }

    #[test]
    fn comments_stay_comments() {
        let hostile = "a\nb\r\u{85}c\u{2028}d \u{1b}[2J \u{202e}e \u{feff}";
        assert_eq!(comment(hostile), "# a b c d [2J e\n");
        let long = comment(&"word ".repeat(60));
        assert!(
            long.lines().count() > 2 && long.lines().all(|line| line.starts_with("# ") && line.len() <= COMMENT_WIDTH)
        );
    }

    /// Generates JSON values without `${{`, which has a meaning, and without the key `<<`, which plans reject.
    fn json_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[^$]{0,12}",
            r"[-+.0-9eExobn_:~# \n]{0,6}",
            prop::sample::select(vec![
                "yes",
                "null",
                "~",
                "<<",
                "=",
                "- a",
                "a: b",
                "0x1F",
                "1_000",
                ".inf",
                "|",
                "a\n\n",
                " a",
                "a ",
                "\u{85}",
                "\u{2028}",
                "\u{feff}a"
            ])
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300f64).prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[^$<]{0,8}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The plan file preserves any arguments of a reply.
        #[test]
        fn arguments_round_trip_through_the_file(first in json_value(), second in json_value(), goal in ".{0,80}") {
            let task = |id: &str, value: &Value| json!({
                "id": id, "title": "x", "depends_on": [], "call": {"tool": "box.do.it", "args": {"v": value}}, "bindings": [],
            });
            let answer = json!({"analysis": goal, "tasks": [task("t1", &first), task("t2", &second)]});
            let text = format!("x{goal}");
            let draft = write_plan(&Goal { text: &text, max_replans: 0 }, &object(answer), &[]);
            let validated = load_plan("plan", &draft.text, &agents(&["box"]), None).map_err(|error| {
                TestCaseError::fail(format!("{error}\n{}", draft.text))
            })?;
            let read: Vec<&Value> = validated.plan.tasks.iter().filter_map(|task| Some(&task.arguments()?.0["v"])).collect();
            prop_assert_eq!(read, [&first, &second], "{}", draft.text);
        }
    }
}
