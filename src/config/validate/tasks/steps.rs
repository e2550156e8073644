//! Reads the steps that need no agent: timers, events, questions, and early ends.

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{ASK, STOP, TASK, TaskKeys, WAIT, WaitKeys};
use crate::config::schema::table::{CheckedTable, Key};
use crate::config::validate::routes::RouteResolver;
use crate::config::validate::work_keys::report_other_work;
use crate::config::yaml::document::DocumentNode;
use crate::model::{Ask, DURATION_FORMAT, FileWait, HumanDuration, ResourceWait, Stop, Template, Wait, Work};

/// The keys that name the work of a task without an agent.
static STEP_KEYS: [&Key<TaskKeys>; 8] =
    [&TASK.tasks, &TASK.switch, &TASK.plan, &TASK.sleep, &TASK.until, &TASK.wait, &TASK.ask, &TASK.stop];

/// The keys of other work.
static OTHER_WORK_KEYS: [&Key<TaskKeys>; 11] = [
    &TASK.shell,
    &TASK.http,
    &TASK.agent,
    &TASK.capability,
    &TASK.tool,
    &TASK.read,
    &TASK.prompt,
    &TASK.use_prompt,
    &TASK.fallback,
    &TASK.awaits,
    &TASK.tools,
];

/// Returns the key of the task's work, if it needs no agent. Reports keys of other work next to it.
pub(in crate::config::validate) fn step_key(
    fields: CheckedTable<'_, TaskKeys>,
    sink: &mut DiagnosticSink,
) -> Option<&'static Key<TaskKeys>> {
    let key = *STEP_KEYS.iter().find(|key| fields.has(key))?;
    let others = STEP_KEYS.into_iter().chain(OTHER_WORK_KEYS);
    report_other_work(fields, key.name, others, "split it into two tasks", sink);
    let useless: &[&Key<TaskKeys>] = match key.name {
        "plan" => &[],
        "tasks" | "switch" => &[&TASK.with],
        _ => &[&TASK.with, &TASK.outputs],
    };
    fields.report_useless(useless, &format!("with `{}`", key.name), sink);
    let call_only: [&Key<TaskKeys>; 6] =
        [&TASK.retry, &TASK.effect, &TASK.timeout, &TASK.cache, &TASK.save, &TASK.expect];
    fields.report_useless(&call_only, &format!("with `{}`", key.name), sink);
    match fields.node(&TASK.wait).map(CheckedTable::<WaitKeys>::new) {
        Some(wait) if !wait.has(&WAIT.question) => {}
        Some(_) => fields.report_useless(&[&TASK.deadline], "with `wait: { question }`", sink),
        None => fields.report_useless(&[&TASK.deadline], &format!("with `{}`", key.name), sink),
    }
    Some(key)
}

/// Returns the work of a task with one of the step keys, other than a group or a plan.
pub(in crate::config::validate) fn read_step(
    fields: CheckedTable<'_, TaskKeys>,
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Work {
    let template = |node: &DocumentNode<'_>| Template(node.to_json());
    let nothing = || Work::Wait(Wait::Sleep(Template("0s".into())));
    if let Some(node) = fields.node(&TASK.sleep) {
        check_duration(node, sink);
        return Work::Wait(Wait::Sleep(template(node)));
    }
    if let Some(node) = fields.node(&TASK.until) {
        check_time(node, sink);
        return Work::Wait(Wait::Until(template(node)));
    }
    if let Some(node) = fields.node(&TASK.wait) {
        return read_wait(CheckedTable::new(node), router, sink).unwrap_or_else(nothing);
    }
    if let Some(node) = fields.node(&TASK.ask) {
        let ask = CheckedTable::new(node);
        let message = ask.node(&ASK.message).map_or_else(|| Template("".into()), template);
        let schema = ask.node(&ASK.schema).and_then(|node| check_form(node, sink));
        return Work::Ask(Box::new(Ask { message, schema }));
    }
    if let Some(node) = fields.node(&TASK.stop) {
        if node.as_text().is_some() {
            let message = Some(template(node));
            return Work::Stop(Box::new(Stop { message, ..Stop::default() }));
        }
        let stop = CheckedTable::new(node);
        let outputs = stop.node(&STOP.outputs).map(|_| {
            let entries = stop.entries(&STOP.outputs);
            entries.map(|(name, entry)| (name.to_owned(), template(&entry.node))).collect()
        });
        return Work::Stop(Box::new(Stop {
            status: stop.choice(&STOP.status).unwrap_or_default(),
            message: stop.node(&STOP.message).map(template),
            outputs,
        }));
    }
    nothing()
}

/// The keys of what a task waits for.
static WAIT_KEYS: [&Key<WaitKeys>; 4] = [&WAIT.webhook, &WAIT.question, &WAIT.file, &WAIT.resource];

fn read_wait(
    wait: CheckedTable<'_, WaitKeys>,
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<Work> {
    let mut keys = WAIT_KEYS.into_iter().filter(|key| wait.has(key));
    let Some(key) = keys.next() else {
        let error =
            sink.error("missing_key", wait.span(), "`wait` must have `webhook`, `question`, `file`, or `resource`");
        error.help("`sleep` waits for a duration, and `until` for a time");
        return None;
    };
    if let Some(at) = keys.next().and_then(|other| wait.key_span(other)) {
        let error = sink.error("two_works", at, "`wait` has one of `webhook`, `question`, `file`, and `resource`");
        error.help("split it into several tasks");
        return None;
    }
    if key.name != WAIT.file.name {
        wait.report_useless(&[&WAIT.changed], "without `file`", sink);
    }
    if key.name != WAIT.resource.name {
        wait.report_useless(&[&WAIT.agent], "without `resource`", sink);
    }
    let node = wait.node(key)?;
    let template = Template(node.to_json());
    Some(match key.name {
        "webhook" => Work::Wait(Wait::Signal(template)),
        "question" => Work::Ask(Box::new(Ask { message: template, schema: None })),
        "file" => {
            let changed = wait.boolean(&WAIT.changed).unwrap_or(false);
            Work::Wait(Wait::File(FileWait { path: template, changed }))
        }
        _ => {
            let Some(agent) = wait.node(&WAIT.agent) else {
                if !wait.has(&WAIT.agent) {
                    let error = sink.error("missing_key", node.span, "`wait` for a `resource` must have `agent`");
                    error.help("set the agent that offers the resource");
                }
                return None;
            };
            let route = router.resource_route(agent.as_text().unwrap_or_default(), agent.span, sink)?;
            Work::Wait(Wait::Resource(ResourceWait { agent: route.agent, uri: template }))
        }
    })
}

/// Checks a duration that is not an expression.
fn check_duration(node: &DocumentNode<'_>, sink: &mut DiagnosticSink) {
    let text = node.as_text().unwrap_or_default();
    if !text.contains("${{") && HumanDuration::parse(text).is_err() {
        sink.error("duration", node.span, format!("`sleep` must be a duration: {DURATION_FORMAT}, not `{text}`"));
    }
}

/// Checks a time that is not an expression.
fn check_time(node: &DocumentNode<'_>, sink: &mut DiagnosticSink) {
    let text = node.as_text().unwrap_or_default();
    if !text.contains("${{") && text.parse::<jiff::Timestamp>().is_err() {
        let message = format!("`until` must be a time with its offset, not `{text}`");
        sink.error("time", node.span, message).help("write it like `2026-12-24T18:00:00+01:00`");
    }
}

/// Returns the schema of a form: an object whose properties are flat, as people can fill them in.
fn check_form(node: &DocumentNode<'_>, sink: &mut DiagnosticSink) -> Option<crate::model::JsonObject> {
    let serde_json::Value::Object(mut schema) = node.to_json() else { return None };
    let problem = match schema.get("properties") {
        Some(serde_json::Value::Object(properties)) => {
            let is_nested = |property: &serde_json::Value| {
                property.get("type").is_some_and(|kind| kind == "object") || property.get("properties").is_some()
            };
            let nested = properties.iter().find(|(_, property)| !property.is_object() || is_nested(property));
            nested.map(|(name, _)| format!("the field `{name}` must be text, a number, a boolean, or a choice"))
        }
        Some(_) => Some("`properties` must be a map of fields".to_owned()),
        None => Some("the schema of a form must have `properties`".to_owned()),
    };
    if let Some(problem) = problem {
        let error = sink.error("bad_schema", node.span, problem);
        error.help("write it like `{ properties: { room: { type: string } }, required: [room] }`");
        return None;
    }
    schema.entry("type").or_insert_with(|| "object".into());
    Some(schema)
}
