//! Writes a model's reply as a plan file that people can read and edit. Does not validate: a value that is missing or
//! has the wrong type is written unchanged, so the validator can report it.

use serde_json::{Value, json};

use super::file_text::{comment, plan_name, to_yaml};
use super::reference_scope::{ReferenceScope, ReferringTask, ScopeTask};
use super::reply_form::{PATCH_KEYS, PLAN_KEYS, TASK_KEYS, missing_part};
use super::result_shape::ResultShape;
use super::task_writer::{self, TaskWriter, is_list, is_think};
use crate::model::text::truncate_chars;
use crate::model::{JsonObject, ReplanRequest, Task, TaskProgress, TaskSnapshot};
use crate::planner::planning::Goal;
use crate::planner::selection::tool_selection::ToolOffer;

/// The first lines of every plan file.
const FILE_HEADER: &str = "# yaml-language-server: $schema=plan.schema.json\n\
                    # `kapell schema plan > plan.schema.json` writes the schema that editors use for completion.\n#\n";
/// The maximum length of a tool's description in a comment, and of a reply without a plan.
const MAX_DESCRIPTION_CHARS: usize = 160;
const MAX_ANSWER_CHARS: usize = 10_000;

/// A plan file and the lines of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::planner) struct PlanDraft {
    /// The text of the file.
    pub(in crate::planner) text: String,
    /// The unknown keys of the reply and their locations, as text. They are omitted from the file: a model must not set
    /// what only a person may, such as that a call can be repeated.
    pub(in crate::planner) unknown_keys: Vec<String>,
    /// The problems of references to results.
    pub(in crate::planner) invalid_references: Vec<String>,
    /// The first line of each task, from 1, and its ID.
    task_lines: Vec<(usize, String)>,
}

impl PlanDraft {
    /// Returns the ID of the task that contains a line.
    pub(in crate::planner) fn task_at(&self, line: usize) -> Option<&str> {
        let before = self.task_lines.partition_point(|(start, _)| *start <= line);
        Some(self.task_lines[before.checked_sub(1)?].1.as_str())
    }
}

/// Writes the reply as a plan file.
pub(in crate::planner) fn write_plan(goal: &Goal<'_>, reply: &JsonObject, offers: &[ToolOffer<'_>]) -> PlanDraft {
    let mut head = json!({"name": plan_name(goal.text), "description": goal.text, "result": "synthesize"});
    if let Some(missing) = missing_part(reply) {
        head["missing"] = missing.into();
    }
    if goal.max_replans > 1 {
        head["replan"] = goal.max_replans.into();
    }
    if goal.max_replans > 0 {
        head["check_goal"] = true.into();
        head["defaults"] = json!({"on_failure": "replan"});
    }
    let text = FILE_HEADER.to_owned() + &to_yaml(&head);
    write_tasks(text, reply, ReferenceScope { first_number: 1, ..ReferenceScope::default() }, (offers, &PLAN_KEYS))
}

/// Writes the reply as a plan patch. Its tasks have numbers from `first_number`.
pub(in crate::planner) fn write_patch(
    request: &ReplanRequest,
    first_number: usize,
    reply: &JsonObject,
    offers: &[ToolOffer<'_>],
) -> PlanDraft {
    let keep = reply.get("keep").filter(|keep| !keep.is_null());
    let missing = missing_part(reply).map(|missing| to_yaml(&json!({ "missing": missing })));
    let text = keep.map(|keep| to_yaml(&json!({ "keep": keep }))).unwrap_or_default() + &missing.unwrap_or_default();
    let existing = request.tasks.iter().map(|snapshot| existing_task(snapshot, offers));
    let scope = ReferenceScope {
        existing: existing.collect(),
        first_number,
        inputs: request.plan.inputs.keys().map(String::as_str).collect(),
        ..ReferenceScope::default()
    };
    write_tasks(text, reply, scope, (offers, &PATCH_KEYS))
}

/// Returns a task of the run. Results that exist already are described by the request, so their shape is open.
fn existing_task<'s>(TaskSnapshot { task, progress }: &TaskSnapshot, offers: &[ToolOffer<'s>]) -> ScopeTask<'s> {
    let called = |task: &Task| {
        let route = task.routes().first()?;
        let offer = offers.iter().find(|offer| *offer.agent == route.agent && offer.tool.name == *route.tool)?;
        offer.tool.output_schema.as_ref()
    };
    let result = match progress {
        TaskProgress::Succeeded(_) => ResultShape::Unknown,
        _ => called(task).map_or(ResultShape::Unknown, ResultShape::of_schema),
    };
    ScopeTask { id: task.id.to_string(), is_each: task.foreach.is_some(), result }
}

/// Appends the tasks of a reply to `text`. `keys` are the known top-level keys of the reply.
fn write_tasks<'s>(
    mut text: String,
    reply: &JsonObject,
    scope: ReferenceScope<'s>,
    (offers, keys): (&'s [ToolOffer<'s>], &[&str]),
) -> PlanDraft {
    let tasks = reply.get("tasks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let list_schema = task_writer::list_schema();
    let mut scope = scope;
    scope.tasks = tasks
        .iter()
        .enumerate()
        .map(|(index, task)| {
            let result = match called_tool(task, offers).and_then(|offer| offer.tool.output_schema.as_ref()) {
                Some(schema) => ResultShape::of_schema(schema),
                None if is_list(task) => ResultShape::of_schema(&list_schema),
                None if is_think(task) => ResultShape::Text,
                None => ResultShape::Unknown,
            };
            let is_each = task.get("each").is_some_and(|items| !task_writer::is_blank(items));
            ScopeTask { id: format!("t{}", scope.first_number + index), is_each, result }
        })
        .collect();
    let (mut task_lines, mut invalid_references) = (Vec::new(), Vec::new());
    match reply.get("tasks") {
        Some(Value::Array(_)) if !tasks.is_empty() => {
            text.push_str("\ntasks:\n");
            for (index, task) in tasks.iter().enumerate() {
                // A block scalar may end in blank lines; another blank line would become part of it.
                if index > 0 && !text.ends_with("\n\n") {
                    text.push('\n');
                }
                let offer = called_tool(task, offers);
                if let Some(offer) = offer {
                    let about = offer.tool.description.as_deref().or(offer.tool.title.as_deref()).unwrap_or_default();
                    let about = truncate_chars(about.lines().next().unwrap_or_default(), MAX_DESCRIPTION_CHARS);
                    text.push_str(&comment(&format!("{}: {about}", offer.name())));
                }
                let id = &scope.tasks[index].id;
                task_lines.push((text.lines().count() + 1, id.clone()));
                let item = task_writer::item_shape(task, index, &scope);
                let mut writer = TaskWriter::new(&scope, ReferringTask { index, item });
                text.push_str(&to_yaml(&json!([writer.write(task, offer)])));
                invalid_references.extend(writer.problems.iter().map(|problem| format!("in task `{id}`: {problem}")));
            }
        }
        Some(Value::Null) | None => {}
        Some(tasks) => text.push_str(&to_yaml(&json!({ "tasks": tasks }))),
    }
    let unknown_keys = find_unknown_keys(reply, keys, &scope);
    PlanDraft { text, unknown_keys, invalid_references, task_lines }
}

/// Returns the keys that the reply format does not have. Keys without a value say nothing.
fn find_unknown_keys(reply: &JsonObject, keys: &[&str], scope: &ReferenceScope<'_>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut check_keys = |fields: &JsonObject, known: &[&str], location: &str| {
        let is_unknown = |(key, value): &(&String, &Value)| !known.contains(&key.as_str()) && !value.is_null();
        let found = fields.iter().filter(is_unknown);
        unknown.extend(found.map(|(key, _)| format!("`{}` of {location}", truncate_chars(key, 64))));
    };
    let tasks = reply.get("tasks").and_then(Value::as_array).into_iter().flatten();
    for (task, ScopeTask { id, .. }) in tasks.zip(&scope.tasks) {
        if let Some(fields) = task.as_object() {
            check_keys(fields, &TASK_KEYS, &format!("task `{id}`"));
        }
    }
    check_keys(reply, keys, "the plan");
    unknown
}

/// Writes a reply without a plan as a file that quotes the reply in comments.
pub(in crate::planner) fn write_unreadable(goal: &Goal<'_>, answer: &str) -> PlanDraft {
    let mut text = FILE_HEADER.to_owned();
    text.push_str("# The model's answer is not a plan:\n#\n");
    for line in truncate_chars(answer, MAX_ANSWER_CHARS).lines() {
        text.push_str(&comment(line));
    }
    text.push_str(&to_yaml(&json!({"name": plan_name(goal.text), "description": goal.text, "tasks": []})));
    PlanDraft { text, unknown_keys: Vec::new(), invalid_references: Vec::new(), task_lines: Vec::new() }
}

/// Returns the tool that a task calls, if it exists.
fn called_tool<'o>(task: &Value, offers: &'o [ToolOffer<'o>]) -> Option<&'o ToolOffer<'o>> {
    let name = task.get("tool")?.as_str()?;
    offers.iter().find(|offer| offer.name() == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::samples::{agents, object};
    use super::*;
    use crate::config::{self, load_plan};
    use crate::model::{AgentId, ToolInfo};

    fn tool(schema: Value) -> ToolInfo {
        let description = Some("Does it.\u{1b}[2J\nAnd more.".to_owned());
        ToolInfo { description, ..super::super::super::samples::tool("do.it", schema) }
    }

    fn goal(text: &str) -> Goal<'_> {
        Goal { text, max_replans: 0, ..Goal::default() }
    }

    /// Returns the file that a reply is written to, and the problems of its references.
    fn draft(tasks: Value, input: Value, output: Option<Value>) -> (Value, Vec<String>) {
        let (agent, tool) = (AgentId::from("box"), ToolInfo { output_schema: output.map(object), ..tool(input) });
        let offers = [ToolOffer { agent: &agent, tool: &tool }];
        let draft = write_plan(&goal("Do it"), &object(json!({ "tasks": tasks })), &offers);
        (config::read_data("plan", &draft.text).expect(&draft.text)["tasks"].clone(), draft.invalid_references)
    }

    #[test]
    fn writes_a_readable_plan() {
        let reply = json!({
            "tasks": [
                {"title": "First", "tool": "box.do.it", "args": {"q": "a\n\n"}},
                {"title": "Then", "tool": "box.do.it", "args": {"q": "$1.hits[0]['web page']"}, "after": [1], "each": null},
                {"title": "Last", "tool": "box.do.it", "args": "{\"q\": \"{$2}!\"}", "after": ["$1", "t2"]},
                {"title": "Think", "tool": "think", "args": {"prompt": "Choose: {$1}", "tools": ["box.do.it"], "list": true}},
                {"title": "Each", "tool": "box.do.it", "args": {"q": "$item"}, "each": "$4.items", "if": "$1.n > 0"},
            ],
            "missing": "The invoice is not paid.",
        });
        let (agent, tool) = (AgentId::from("box"), tool(json!({"properties": {"q": {"type": "string"}}})));
        let draft = write_plan(&goal("Do it, \"now\"!"), &object(reply), &[ToolOffer { agent: &agent, tool: &tool }]);
        assert_eq!(draft.invalid_references, Vec::<String>::new());
        insta::assert_snapshot!(draft.text);
        let line = |text: &str| draft.text.lines().position(|line| line.contains(text)).expect(text) + 1;
        let at = |text: &str| draft.task_at(line(text));
        assert_eq!(
            [at("name"), at("First"), at("title: Then"), at("tasks.t2.text")],
            [None, Some("t1"), Some("t2"), Some("t3")]
        );
        load_plan("plan", &draft.text, &agents(&["box"]), None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
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
        let arguments = json!({
            "needed": null, "inner": inner, "open": {"a": null}, "list": [inner, {"a": "x", "b": "y"}],
        });
        let (written, _) = draft(json!([{"tool": "box.do.it", "args": arguments}]), schema, None);
        let keep = json!({"b": null, "c": null});
        assert_eq!(
            written[0]["with"],
            json!({"inner": keep, "open": {"a": null}, "list": [keep, {"a": "x", "b": "y"}]})
        );
    }

    #[test]
    fn references_become_expressions_of_the_needed_type() {
        let input = json!({"properties": {
            "text": {"type": "string"}, "number": {"type": "integer"}, "any": {}, "list": {"type": "array", "items": {"type": "number"}},
        }});
        let output = json!({"type": "object", "properties": {
            "title": {"type": "string"}, "hits": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "number"}}}},
        }});
        let first = json!({"tool": "box.do.it", "args": {}});
        let each = json!({"tool": "box.do.it", "args": {"number": "$item.n"}, "each": "$1.hits"});
        let expected = |argument: &str, value: Value| {
            let task = json!({"tool": "box.do.it", "args": {argument: value}});
            let (tasks, problems) = draft(json!([first, each, task]), input.clone(), Some(output.clone()));
            assert_eq!(problems, Vec::<String>::new());
            tasks[2]["with"][argument].clone()
        };
        for (argument, value, written) in [
            ("text", json!("$1.title"), json!("${{ tasks.t1.output.title }}")),
            ("text", json!("$1"), json!("${{ tasks.t1.text }}")),
            ("text", json!("$1.hits"), json!("${{ tasks.t1.output.hits | tojson }}")),
            ("text", json!("$2.title"), json!("${{ tasks.t2.outputs | map(attribute='title') | list | tojson }}")),
            ("any", json!("$1"), json!("${{ tasks.t1.output }}")),
            ("any", json!("$2"), json!("${{ tasks.t2.outputs }}")),
            ("any", json!("$2[0].title"), json!("${{ tasks.t2.outputs[0].title }}")),
            ("list", json!("$1.hits[*].n"), json!("${{ tasks.t1.output.hits | map(attribute='n') | list }}")),
            ("list", json!(["$1.hits[0].n", "2.5"]), json!(["${{ tasks.t1.output.hits[0].n }}", 2.5])),
            ("number", json!("15"), json!(15)),
            ("number", json!("fifteen"), json!("fifteen")),
            ("text", json!("15"), json!("15")),
            (
                "text",
                json!("See $1.title. And {$1.title}, {$1}"),
                json!("See ${{ tasks.t1.output.title }}. And ${{ tasks.t1.output.title }}, ${{ tasks.t1.text }}"),
            ),
            (
                "text",
                json!("It costs $5, $1.50, or $HOME; {$x} $$1.title ${{ secret }}"),
                json!("It costs $5, $1.50, or $HOME; {$x} $1.title $${{ secret }}"),
            ),
            ("text", json!("$$1"), json!("$1")),
            ("text", json!("$item.n"), json!("$item.n")),
        ] {
            assert_eq!(expected(argument, value.clone()), written, "{value}");
        }
    }

    #[test]
    fn impossible_references_are_reported() {
        let output = json!({"type": "object", "properties": {"title": {"type": "string"}}});
        let task = |arguments: Value, more: Value| {
            let mut task = json!({"tool": "box.do.it", "args": arguments});
            task.as_object_mut().expect("a task").extend(object(more));
            task
        };
        let think = json!({"tool": "think", "args": {"list": "yes", "extra": 1}});
        let tasks = json!([
            task(json!({}), json!({})),
            task(json!({"a": "$1.name", "b": "$9", "c": "{$9.x}", "d": "$2", "e": "$7.x is a price"}), json!({})),
            task(json!({"a": "$item.x"}), json!({"each": "$1.title"})),
            task(json!({}), json!({"each": 5, "if": "$1.name == env.HOME"})),
            think,
            task(json!({"a": "$5.x"}), json!({})),
        ]);
        let (_, problems) = draft(tasks, json!({}), Some(output));
        insta::assert_snapshot!(problems.join("\n"));
    }

    #[test]
    fn writes_unexpected_values_unchanged() {
        let unexpected = json!([
            "text",
            {"title": 5, "tool": "nodot", "args": "x", "after": "t0"},
            {"tool": "a.b", "args": "{", "each": null, "if": false},
            {"tool": 7},
        ]);
        let expected = json!([
            "text",
            {"id": "t2", "title": 5, "needs": ["t0"], "tool": "nodot", "with": "x"},
            {"id": "t3", "if": false, "agent": "a", "tool": "b", "with": "{"},
            {"id": "t4", "tool": 7},
        ]);
        assert_eq!(draft(unexpected, json!({}), None).0, expected);
        assert_eq!(draft(json!("none"), json!({}), None).0, "none");
    }

    #[test]
    fn omits_and_reports_unknown_keys() {
        let reply = json!({
            "outputs": {}, "notes": null,
            "tasks": [{"tool": "a.b", "args": {}, "effect": "read_only", "approve": null}],
        });
        let draft = write_plan(&goal("Do it"), &object(reply), &[]);
        assert_eq!(draft.unknown_keys, ["`effect` of task `t1`", "`outputs` of the plan"]);
        let written = config::read_data("plan", &draft.text).expect("YAML");
        assert_eq!(written["tasks"], json!([{"id": "t1", "agent": "a", "tool": "b"}]));
    }

    /// Generates JSON values without `$`, which has a meaning, and without the key `<<`, which plans reject.
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
            let task = |value: &Value| json!({"title": "x", "tool": "box.do.it", "args": {"v": value}});
            let reply = json!({"tasks": [task(&first), task(&second)]});
            let text = format!("x{goal}");
            let draft = write_plan(&Goal { text: &text, ..Goal::default() }, &object(reply), &[]);
            let validated = load_plan("plan", &draft.text, &agents(&["box"]), None).map_err(|error| {
                TestCaseError::fail(format!("{error}\n{}", draft.text))
            })?;
            let read: Vec<_> = validated.plan.tasks.iter().filter_map(|task| task.arguments()?.0.get("v").cloned()).collect();
            let given: Vec<Value> = [first, second].into_iter().filter(|value| !value.is_null()).collect();
            prop_assert_eq!(read, given, "{}", draft.text);
        }
    }
}
