//! Builds the JSON Schema of the model's reply, in the subset that endpoints with strict structured output accept.
//! Replies are not validated against it, but against the tools' own schemas.

use serde_json::{Value, json};

use super::super::answer::reply_form::THINK;
use super::super::selection::tool_selection::ToolOffer;
use super::schema_size::{STRICT_LIMITS, SchemaSize};
use super::strict_arguments::{
    ArgumentBounds, ArgumentForm, OptionalKeys, nullable, object_with_required, strict_arguments,
};
use crate::config::{AgentsFile, PlannerForm};

/// The levels above a tool's arguments: the plan, its list of tasks, and a task.
const LEVELS_ABOVE: usize = 3;
/// The maximum number of IDs in an enum: the limits of strict schemas must leave room for tools.
const MAX_ENUM_IDS: usize = 100;
/// The maximum lengths of parts of a reply, where the endpoint enforces them. Without them, weak models repeat one part
/// until the token limit.
const MAX_TITLE_CHARS: usize = 120;
const MAX_REFERENCE_CHARS: usize = 200;
const MAX_TEXT_CHARS: usize = 4_000;
const MAX_DEPENDENCIES: usize = 8;
const MAX_THINK_TOOLS: usize = 4;
const MAX_CHOICES: usize = 6;
/// The limits of the compact form: weak models fill what they may, so everything together must fit in a short reply.
const MAX_COMPACT_TASKS: usize = 6;
const COMPACT_BOUNDS: ArgumentBounds = ArgumentBounds { max_chars: 300, max_items: 8 };

/// The form of a plan in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::planner) enum PlanForm {
    /// Calls, prompts, lists, and conditions.
    Full,
    /// Calls of tools alone.
    Compact,
}

/// What the schema of a reply can contain.
#[derive(Debug, Clone, Copy)]
pub(in crate::planner) struct FormLimits {
    /// The maximum number of tasks.
    pub(in crate::planner) max_tasks: usize,
    /// Whether the endpoint accepts `maxItems`, `maxLength`, and `pattern`. Some reject a schema with them.
    pub(in crate::planner) has_bounds: bool,
    /// The form of a plan.
    pub(in crate::planner) form: PlanForm,
}

impl FormLimits {
    /// Returns the limits of the planning model.
    pub(in crate::planner) fn of(agents: &AgentsFile) -> Self {
        let has_bounds = agents.planner_model().is_some_and(|spec| spec.dialect.schema_bounds);
        let limits = Self { max_tasks: agents.planner.max_tasks, has_bounds, form: PlanForm::Full };
        if agents.planner.form == PlannerForm::Compact { limits.compact() } else { limits }
    }

    /// Returns the limits of the compact form.
    pub(in crate::planner) fn compact(self) -> Self {
        Self { max_tasks: self.max_tasks.min(MAX_COMPACT_TASKS), form: PlanForm::Compact, ..self }
    }

    fn text(self, max_chars: usize) -> Value {
        match self.has_bounds {
            true => json!({"type": "string", "maxLength": max_chars}),
            false => json!({"type": "string"}),
        }
    }

    fn list(self, items: Value, max_items: usize) -> Value {
        match self.has_bounds {
            true => json!({"type": "array", "items": items, "maxItems": max_items}),
            false => json!({"type": "array", "items": items}),
        }
    }

    /// Returns how the arguments of tools are written.
    fn arguments(self) -> ArgumentForm {
        let optional = self.optional_keys();
        match self.form {
            PlanForm::Full => ArgumentForm { reference: Some(self.reference()), optional, bounds: None },
            PlanForm::Compact => {
                ArgumentForm { reference: None, optional, bounds: self.has_bounds.then_some(COMPACT_BOUNDS) }
            }
        }
    }

    /// Returns how a key without a value is written.
    fn optional_keys(self) -> OptionalKeys {
        if self.has_bounds { OptionalKeys::Omitted } else { OptionalKeys::Null }
    }

    /// Returns the schema of an object with required and optional properties.
    fn object<const R: usize, const O: usize>(
        self,
        required: [(&str, Value); R],
        optional: [(&str, Value); O],
    ) -> Value {
        let optional = optional.into_iter().map(|(name, schema)| match self.optional_keys() {
            OptionalKeys::Null => (name, nullable(schema)),
            OptionalKeys::Omitted => (name, schema),
        });
        let required_names = required.each_ref().map(|(name, _)| *name);
        let properties = required.into_iter().chain(optional).map(|(name, schema)| (name.to_owned(), schema)).collect();
        let is_required = |name: &str| self.optional_keys() == OptionalKeys::Null || required_names.contains(&name);
        object_with_required(properties, is_required)
    }

    /// Returns the schema of a reference to a result.
    fn reference(self) -> Value {
        match self.has_bounds {
            true => json!({"type": "string", "pattern": r"^\$[a-z0-9][^ ]*$"}),
            false => json!({"type": "string"}),
        }
    }
}

/// Returns the schema of a plan with these tools: `{tasks, missing, answer, question}`, whose tasks are
/// `{title, tool, args, after, each, if}`.
///
/// A task has one variant for each tool, whose arguments are strict. Tools whose arguments cannot be made strict share a
/// variant with the arguments as JSON text.
///
/// The validator checks that a plan has tasks, because some endpoints (Azure) do not accept `minItems`.
///
/// In the compact form, a plan is `{tasks, missing}`, and a task is `{title, tool, args}`.
pub(in crate::planner) fn plan_schema(offers: &[ToolOffer<'_>], limits: FormLimits) -> Value {
    if limits.form == PlanForm::Compact {
        let missing = limits.text(COMPACT_BOUNDS.max_chars);
        return limits.object([("tasks", tasks_schema(offers, &json!({}), limits))], [("missing", missing)]);
    }
    let text = limits.text(MAX_TEXT_CHARS);
    let choices = limits.list(limits.text(MAX_TITLE_CHARS), MAX_CHOICES);
    let question = limits.object([("text", text.clone()), ("choices", choices)], []);
    let after = limits.list(json!({"type": "integer"}), MAX_DEPENDENCIES);
    let tasks = tasks_schema(offers, &after, limits);
    limits.object([("tasks", tasks)], [("missing", text.clone()), ("answer", text), ("question", question)])
}

/// Returns the schema of a plan patch: `{keep, tasks, missing}`. `pending` are the tasks that can be kept, and
/// `existing` the references to tasks that new ones can depend on.
pub(in crate::planner) fn patch_schema(
    offers: &[ToolOffer<'_>],
    pending: &[String],
    existing: &[String],
    limits: FormLimits,
) -> Value {
    let kept = limits.list(id_enum(pending), pending.len());
    let after = limits.list(id_enum(existing), MAX_DEPENDENCIES);
    let tasks = tasks_schema(offers, &after, limits);
    limits.object([("keep", kept), ("tasks", tasks)], [("missing", limits.text(MAX_TEXT_CHARS))])
}

/// Returns the schema of one of these IDs. Falls back to any string for too many IDs, or for an empty enum.
fn id_enum(ids: &[String]) -> Value {
    match ids.len() {
        1..=MAX_ENUM_IDS => json!({"type": "string", "enum": ids}),
        _ => json!({"type": "string"}),
    }
}

/// Returns the schema of a list of tasks. `after` is the schema of the tasks that must end first.
fn tasks_schema(offers: &[ToolOffer<'_>], after: &Value, limits: FormLimits) -> Value {
    let task = |tools: Value, arguments: Value| {
        let required = [
            ("title", limits.text(MAX_TITLE_CHARS)),
            ("tool", json!({"type": "string", "enum": tools})),
            ("args", arguments),
        ];
        match limits.form {
            PlanForm::Compact => limits.object(required, []),
            PlanForm::Full => limits.object(
                required,
                [("after", after.clone()), ("each", limits.reference()), ("if", limits.text(MAX_REFERENCE_CHARS))],
            ),
        }
    };
    let names: Vec<String> = offers.iter().map(ToolOffer::name).collect();
    let thinking = limits.object(
        [("prompt", json!({"type": "string"}))],
        [("tools", limits.list(id_enum(&names), MAX_THINK_TOOLS)), ("list", json!({"type": "boolean"}))],
    );
    let mut variants = match limits.form {
        PlanForm::Full => vec![task(json!([THINK]), thinking)],
        PlanForm::Compact => Vec::new(),
    };
    let mut loose: Vec<Value> = Vec::new();
    let overhead = SchemaSize::measure_size(&task(json!([]), json!({})));
    // The size of the rest of the schema, including the names of loose tools.
    let mut remaining = STRICT_LIMITS.minus(SchemaSize {
        levels: LEVELS_ABOVE,
        properties: 20,
        values: 2 * MAX_ENUM_IDS + 2 * offers.len() + 2,
        characters: 4_000 + 2 * names.iter().map(String::len).sum::<usize>(),
    });
    let form = limits.arguments();
    for (offer, name) in offers.iter().zip(&names) {
        let strict = strict_arguments(&offer.tool.input_schema, &form).map(|arguments| {
            let size = SchemaSize::measure_size(&arguments);
            let size = SchemaSize {
                levels: size.levels,
                properties: size.properties + overhead.properties,
                values: size.values + overhead.values,
                characters: size.characters + overhead.characters,
            };
            (size, task(json!([name]), arguments))
        });
        match strict {
            Some((size, variant)) if size.fits_in(remaining) => {
                remaining = remaining.minus(SchemaSize { levels: 0, ..size });
                variants.push(variant);
            }
            _ => loose.push(name.as_str().into()),
        }
    }
    if !loose.is_empty() {
        let text = match limits.form {
            PlanForm::Full => json!({"type": "string"}),
            PlanForm::Compact => limits.text(COMPACT_BOUNDS.max_chars),
        };
        variants.push(task(loose.into(), text));
    }
    limits.list(json!({ "anyOf": variants }), limits.max_tasks)
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::tool;
    use super::*;
    use crate::model::{JsonObject, ToolInfo};

    fn schema_of(tools: &[ToolInfo]) -> Value {
        schema_within(tools, FormLimits { max_tasks: 16, has_bounds: false, form: PlanForm::Full })
    }

    fn schema_within(tools: &[ToolInfo], limits: FormLimits) -> Value {
        let agent = "box".into();
        plan_schema(&tools.iter().map(|tool| ToolOffer { agent: &agent, tool }).collect::<Vec<_>>(), limits)
    }

    #[test]
    fn each_task_calls_one_tool() {
        let closed = tool("closed", json!({"properties": {"q": {"type": "integer"}}}));
        let open = tool("open", json!({"additionalProperties": true}));
        for has_bounds in [false, true] {
            let schema = schema_within(
                &[open.clone(), closed.clone()],
                FormLimits { max_tasks: 2, has_bounds, form: PlanForm::Full },
            );
            let variants = &schema["properties"]["tasks"]["items"]["anyOf"];
            let tools: Vec<_> = (0..3).map(|index| &variants[index]["properties"]["tool"]["enum"]).collect();
            assert_eq!(tools, [&json!(["think"]), &json!(["box.closed"]), &json!(["box.open"])]);
            assert_eq!(variants[2]["properties"]["args"], json!({"type": "string"}));
            let validator = jsonschema::validator_for(&schema).expect("a schema");
            // Without bounds, all keys are required.
            let complete = |mut object: Value, keys: &[&str]| {
                if !has_bounds {
                    keys.iter().for_each(|key| object[*key] = json!(null));
                }
                object
            };
            let task = |tool: &str, arguments: Value| {
                let task = json!({"title": "x", "tool": tool, "args": arguments, "after": [1], "each": "$1.a"});
                complete(task, &["if"])
            };
            let plan = |tasks: Value| complete(json!({ "tasks": tasks }), &["missing", "answer", "question"]);
            let is_valid = |tool: &str, arguments: Value| validator.is_valid(&plan(json!([task(tool, arguments)])));
            assert!(is_valid("box.closed", json!({"q": 5})) && is_valid("box.closed", json!({"q": "$1.n"})));
            assert!(is_valid("box.open", json!("{}")) && !is_valid("box.other", json!({"q": 5})));
            assert!(is_valid("box.closed", complete(json!({}), &["q"])));
            assert!(is_valid("think", complete(json!({"prompt": "x"}), &["tools", "list"])));
            assert_eq!(is_valid("box.closed", json!({})), has_bounds);
            let many =
                json!([task("box.open", json!("{}")), task("box.open", json!("{}")), task("box.open", json!("{}"))]);
            assert_eq!(validator.is_valid(&plan(many)), !has_bounds);
            assert_eq!(is_valid("box.closed", json!({"q": "five"})), !has_bounds);
        }
    }

    #[test]
    fn compact_plan_has_calls_alone() {
        let tools = [
            tool("closed", json!({"properties": {"q": {"type": "integer"}, "t": {"type": "string"}}})),
            tool("open", json!({"additionalProperties": true})),
        ];
        let full = FormLimits { max_tasks: 16, has_bounds: true, form: PlanForm::Full };
        let schema = schema_within(&tools, full.compact());
        let task = |tool: &str, arguments: Value| {
            json!({
                "type": "object",
                "properties": {
                    "title": {"type": "string", "maxLength": MAX_TITLE_CHARS},
                    "tool": {"type": "string", "enum": [tool]}, "args": arguments,
                },
                "required": ["title", "tool", "args"], "additionalProperties": false,
            })
        };
        let text = json!({"type": "string", "maxLength": COMPACT_BOUNDS.max_chars});
        let arguments = json!({
            "type": "object", "properties": {"q": {"type": "integer"}, "t": text}, "required": [],
            "additionalProperties": false,
        });
        let variants = json!([task("box.closed", arguments), task("box.open", text.clone())]);
        let tasks = json!({"type": "array", "items": {"anyOf": variants}, "maxItems": MAX_COMPACT_TASKS});
        assert_eq!(schema["properties"], json!({"tasks": tasks, "missing": text}));
        assert_eq!(schema["required"], json!(["tasks"]));
    }

    #[test]
    fn patch_keeps_and_refers_to_existing_tasks() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let schema =
            patch_schema(&[], &ids(&["t2"]), &[], FormLimits { max_tasks: 16, has_bounds: true, form: PlanForm::Full });
        let kept = json!({"type": "array", "items": {"type": "string", "enum": ["t2"]}, "maxItems": 1});
        assert_eq!(schema["properties"]["keep"], kept);
        let task = &schema["properties"]["tasks"]["items"]["anyOf"][0]["properties"];
        assert_eq!(task["after"]["items"], json!({"type": "string"}), "an empty enum is not a valid schema");
    }

    #[test]
    fn schema_stays_within_strict_limits() {
        let values: Vec<Value> = (0..300).map(|value| format!("value-{value}").into()).collect();
        let mut deep = json!({"type": "string"});
        for _ in 0..7 {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        let wide: JsonObject = (0..900).map(|index| (format!("argument-{index}"), json!({"type": "string"}))).collect();
        let tools = [
            tool("a", json!({"properties": {"v": {"enum": values}}})),
            tool("b", json!({"properties": {"v": {"enum": values}}})),
            tool("c", json!({"properties": {"v": {"enum": values}}})),
            tool("d", json!({"properties": {"v": deep}})),
            tool("e", json!({"properties": wide})),
            tool("f", json!({"properties": wide})),
            tool("g", json!({"properties": {}})),
        ];
        let schema = schema_of(&tools);
        let variants = schema["properties"]["tasks"]["items"]["anyOf"].as_array().expect("a list");
        let names: Vec<&Value> = variants.iter().map(|variant| &variant["properties"]["tool"]["enum"]).collect();
        assert_eq!(
            names,
            [
                &json!(["think"]),
                &json!(["box.a"]),
                &json!(["box.b"]),
                &json!(["box.e"]),
                &json!(["box.g"]),
                &json!(["box.c", "box.d", "box.f"])
            ]
        );
        assert!(SchemaSize::measure_size(&schema).fits_in(STRICT_LIMITS), "{:?}", SchemaSize::measure_size(&schema));
    }
}
