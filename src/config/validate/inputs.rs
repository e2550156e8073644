//! Reads the declarations of a plan's inputs, and checks where secrets are used. `config::inputs` resolves their values.

use indexmap::IndexMap;
use serde_json::{Number, Value};

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::inputs::{Violation, compile_pattern, find_violation, has_type, type_conversion_help, type_name};
use crate::config::schema::keys::{HTTP, INPUT, InputKeys, PLAN, PlanKeys, SHELL, TASK};
use crate::config::schema::table::{CheckedTable, Key};
use crate::config::yaml::document::{DocumentNode, NodeValue};
use crate::expression::{self, TemplatePart};
use crate::model::{InputConstraints, InputSpec, InputType};

pub(super) fn read_inputs(plan: CheckedTable<'_, PlanKeys>, sink: &mut DiagnosticSink) -> IndexMap<String, InputSpec> {
    let entries = plan.entries(&PLAN.inputs);
    entries.map(|(name, entry)| (name.to_owned(), read_input(name, CheckedTable::new(&entry.node), sink))).collect()
}

/// Reads an input. Without a valid type it becomes a string, so that references to it are not reported too.
fn read_input(name: &str, fields: CheckedTable<'_, InputKeys>, sink: &mut DiagnosticSink) -> InputSpec {
    let kind = fields.choice(&INPUT.kind);
    let default = fields.node(&INPUT.default);
    let required = fields.boolean(&INPUT.required).unwrap_or(false);
    if let Some(kind) = kind {
        report_useless_keys(fields, kind, sink);
    }
    let spec = InputSpec {
        kind: kind.unwrap_or(InputType::String),
        required: required && default.is_none(),
        default: default.map(DocumentNode::to_json),
        description: fields.text(&INPUT.description).map(str::to_owned),
        constraints: read_constraints(fields, kind, sink),
        from_env: fields.text(&INPUT.from_env).map(str::to_owned),
    };
    if let (Some(kind), Some(default), Some(value)) = (kind, default, &spec.default) {
        // The file of a default is read when a run starts.
        let violation =
            if kind == InputType::File && has_type(value, kind) { None } else { find_violation(value, &spec) };
        if kind == InputType::Secret {
            let error =
                sink.error("input_type", default.span, format!("the secret input `{name}` cannot have a default"));
            error.help("plans are in the journal; `from_env` names the environment variable with the value");
        } else if !has_type(value, kind) {
            let message = format!("the default of `{name}` must be {}, not {}", type_name(kind), default.kind());
            sink.error("input_type", default.span, message).help_if_known(type_conversion_help(value, kind));
        } else if let Some(Violation { problem, help, .. }) = violation {
            let message = format!("the default of `{name}` {problem}");
            sink.error("input_default", default.span, message).help_if_known(help);
        }
    }
    if let (true, Some(_), Some(at)) = (required, default, fields.key_span(&INPUT.required)) {
        let message = format!("`{name}` has a default and cannot be `required`");
        sink.warning("needless_required", at, message).help("remove one of the two");
    }
    spec
}

/// Reports constraints that say nothing about values of this type.
fn report_useless_keys(fields: CheckedTable<'_, InputKeys>, kind: InputType, sink: &mut DiagnosticSink) {
    let is_text = matches!(kind, InputType::String | InputType::File | InputType::Secret);
    let is_number = matches!(kind, InputType::Number | InputType::Integer);
    let has_choices = matches!(kind, InputType::String | InputType::Array | InputType::Object) || is_number;
    let groups: [(bool, &[&Key<InputKeys>]); 5] = [
        (is_text, &[&INPUT.pattern, &INPUT.min_length, &INPUT.max_length]),
        (is_number, &[&INPUT.minimum, &INPUT.maximum]),
        (kind == InputType::Array, &[&INPUT.min_items, &INPUT.max_items]),
        (has_choices, &[&INPUT.choices]),
        (kind == InputType::Secret, &[&INPUT.from_env]),
    ];
    let reason = format!("on an input whose value is {}", type_name(kind));
    let reason = match kind {
        InputType::Secret => "on a secret input",
        _ => reason.as_str(),
    };
    for (_, keys) in groups.iter().filter(|(applies, _)| !applies) {
        fields.report_useless(keys, reason, sink);
    }
}

fn read_constraints(
    fields: CheckedTable<'_, InputKeys>,
    kind: Option<InputType>,
    sink: &mut DiagnosticSink,
) -> InputConstraints {
    let number = |key: &Key<InputKeys>| match &fields.node(key)?.value {
        NodeValue::Number(number) => Some(number.clone()),
        _ => None,
    };
    let constraints = InputConstraints {
        choices: match fields.node(&INPUT.choices).map(DocumentNode::to_json) {
            Some(Value::Array(choices)) => Some(choices),
            _ => None,
        },
        pattern: fields.text(&INPUT.pattern).map(str::to_owned),
        minimum: number(&INPUT.minimum),
        maximum: number(&INPUT.maximum),
        min_length: fields.integer(&INPUT.min_length),
        max_length: fields.integer(&INPUT.max_length),
        min_items: fields.integer(&INPUT.min_items),
        max_items: fields.integer(&INPUT.max_items),
    };
    if let Some(node) = fields.node(&INPUT.pattern)
        && let Err(reason) = compile_pattern(node.as_text().unwrap_or_default())
    {
        sink.error("pattern", node.span, format!("invalid pattern: {reason}"));
    }
    if let (Some(kind), Some(NodeValue::List(choices))) = (kind, fields.node(&INPUT.choices).map(|node| &node.value)) {
        for choice in choices.iter().filter(|choice| !has_type(&choice.to_json(), kind)) {
            let message = format!("each value of `enum` must be {}, not {}", type_name(kind), choice.kind());
            let help = type_conversion_help(&choice.to_json(), kind);
            sink.error("input_type", choice.span, message).help_if_known(help);
        }
    }
    let float = |number: &Option<Number>| number.as_ref().and_then(Number::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "lengths are far smaller")]
    let ranges = [
        (&INPUT.maximum, float(&constraints.minimum), float(&constraints.maximum)),
        (
            &INPUT.max_length,
            constraints.min_length.map(|length| length as f64),
            constraints.max_length.map(|length| length as f64),
        ),
        (
            &INPUT.max_items,
            constraints.min_items.map(|count| count as f64),
            constraints.max_items.map(|count| count as f64),
        ),
    ];
    for (key, min, max) in ranges {
        if let (Some(min), Some(max), Some(at)) = (min, max, fields.key_span(key))
            && max < min
        {
            sink.error("input_range", at, format!("`{}` ({max}) is less than the minimum ({min})", key.name));
        }
    }
    constraints
}

/// Reports each use of a secret input whose value would be in the journal. `root` has `tasks`: a plan or a plan patch.
///
/// Only the arguments of calls are not stored, so the value is allowed only there.
pub(super) fn check_secret_uses(
    root: &DocumentNode<'_>,
    inputs: &IndexMap<String, InputSpec>,
    sink: &mut DiagnosticSink,
) {
    let secrets: Vec<&str> =
        inputs.iter().filter(|(_, spec)| spec.kind == InputType::Secret).map(|(name, _)| name.as_str()).collect();
    let (false, Some(map)) = (secrets.is_empty(), root.as_map()) else { return };
    for (key, entry) in map {
        match &entry.node.value {
            NodeValue::List(tasks) if has_tasks(key) => {
                tasks.iter().for_each(|task| check_task(task, &secrets, sink));
            }
            _ if key == PLAN.inputs.name || key.starts_with("x-") => {}
            _ => check_text(&entry.node, key, &secrets, sink),
        }
    }
}

/// Returns whether the key of a plan or a task has a list of tasks.
fn has_tasks(key: &str) -> bool {
    let keys = [&TASK.tasks, &TASK.otherwise, &TASK.finally, &TASK.on_success, &TASK.on_failure, &TASK.on_cancel];
    keys.into_iter().any(|known| known.name == key)
}

fn check_task(task: &DocumentNode<'_>, secrets: &[&str], sink: &mut DiagnosticSink) {
    let is_sent = |key: &str| TASK.with.names().chain(TASK.read.names()).any(|name| name == key);
    // The messages of a prompt are in the journal, and so are the arguments of the prompt of an agent.
    for (key, entry) in task.as_map().into_iter().flatten() {
        match &entry.node.value {
            NodeValue::List(tasks) if has_tasks(key) => {
                tasks.iter().for_each(|task| check_task(task, secrets, sink));
            }
            NodeValue::Map(cases) if key == TASK.cases.name => {
                for (_, case) in cases {
                    match &case.node.value {
                        NodeValue::List(tasks) => tasks.iter().for_each(|task| check_task(task, secrets, sink)),
                        _ => check_text(&case.node, key, secrets, sink),
                    }
                }
            }
            _ if is_sent(key) || key.starts_with("x-") => {}
            // Other processes see commands, and servers log URLs.
            NodeValue::Map(parts) if key == TASK.shell.name || key == TASK.http.name => {
                let is_sent =
                    |part: &str| [SHELL.env.name, SHELL.stdin.name, HTTP.headers.name, HTTP.body.name].contains(&part);
                for (part, entry) in parts.into_iter().filter(|(part, _)| !is_sent(part)) {
                    check_text(&entry.node, part, secrets, sink);
                }
            }
            _ => check_text(&entry.node, key, secrets, sink),
        }
    }
}

/// Reports the uses of secrets in all texts at or below a node.
fn check_text(node: &DocumentNode<'_>, key: &str, secrets: &[&str], sink: &mut DiagnosticSink) {
    match &node.value {
        NodeValue::Text(text) => {
            let expressions = match expression::split_template(text) {
                Ok(parts) if text.contains("${{") => parts
                    .into_iter()
                    .filter_map(|part| match part {
                        TemplatePart::Expression(expression, _) => Some(expression.to_owned()),
                        TemplatePart::Text(_) => None,
                    })
                    .collect(),
                // The word alone can be any text, such as a name.
                _ if text.trim() == "inputs" => Vec::new(),
                _ => vec![text.to_string()],
            };
            let is_used = |name: &&&str| {
                expressions.iter().any(|text| expression::check(text).is_ok() && expression::uses_input(text, name))
            };
            if let Some(name) = secrets.iter().find(is_used) {
                let message =
                    format!("the secret input `{name}` cannot be used in `{key}`, where its value could be seen");
                let error = sink.error("secret_use", node.span, message);
                error.help(
                    "only `with` and `read` of a call, `env` of `shell`, and `headers` and `body` of `http` can contain \
                     it; `inputs` as a whole contains it too",
                );
            }
        }
        NodeValue::List(nodes) => nodes.iter().for_each(|node| check_text(node, key, secrets, sink)),
        NodeValue::Map(map) => map.values().for_each(|entry| check_text(&entry.node, key, secrets, sink)),
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) => {}
    }
}
