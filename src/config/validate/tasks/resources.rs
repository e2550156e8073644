//! Reads the tasks that read a resource, and adds those that read one for `resource()` in expressions.

use serde_json::json;

use super::policy;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{READ, ReadKeys, TASK, TaskKeys};
use crate::config::schema::table::{CheckedTable, Key};
use crate::config::validate::references::UsedResource;
use crate::config::validate::routes::RouteResolver;
use crate::config::validate::work_keys::report_other_work;
use crate::expression::UriTemplate;
use crate::model::{Call, Operation, Task, TaskId, Template, Work};

/// The keys of other work.
static OTHER_WORK_KEYS: [&Key<TaskKeys>; 13] = [
    &TASK.agent,
    &TASK.capability,
    &TASK.tool,
    &TASK.with,
    &TASK.awaits,
    &TASK.prompt,
    &TASK.use_prompt,
    &TASK.model,
    &TASK.system,
    &TASK.output_schema,
    &TASK.tools,
    &TASK.max_turns,
    &TASK.max_tokens,
];

/// Returns the call of a task that reads a resource, if it does. Reports keys of other work next to it.
pub(in crate::config::validate) fn read_resource_call(
    fields: CheckedTable<'_, TaskKeys>,
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<Call> {
    let node = fields.node(&TASK.read)?;
    let read = CheckedTable::new(node);
    let help = "`read` has the `agent`, and the `uri` of the resource";
    report_other_work(fields, TASK.read.name, OTHER_WORK_KEYS, help, sink);
    fields.report_useless(&[&TASK.effect], "with `read`, which is always `read_only`", sink);
    check_address(read, sink);
    let routes = router.resource_routes(read, fields, sink);
    let parameters = [&READ.uri, &READ.template, &READ.with].into_iter();
    let parameters = parameters.filter_map(|key| Some((key.name.to_owned(), read.node(key)?.to_json())));
    let arguments = Template(serde_json::Value::Object(parameters.collect()));
    Some(Call { operation: Operation::ReadResource, routes, arguments, awaits: None })
}

impl UsedResource<'_> {
    /// Returns the task that reads the resource for expressions, with the defaults of the plan.
    pub(in crate::config::validate) fn task(
        &self,
        id: &TaskId,
        needs: Vec<TaskId>,
        defaults: Option<CheckedTable<'_, TaskKeys>>,
        (router, sink): (&mut RouteResolver<'_>, &mut DiagnosticSink),
    ) -> Task {
        let uri = format!("${{{{ {} }}}}", self.uri);
        let call = Call {
            operation: Operation::ReadResource,
            routes: router.resource_route(&self.agent, self.location.span(sink), sink).into_iter().collect(),
            arguments: Template(json!({"uri": uri})),
            awaits: None,
        };
        Task {
            title: Some(format!("{} of {}", self.uri, self.agent)),
            needs,
            questions: defaults.and_then(policy::read_question_policy),
            retry: policy::read_retry(None, defaults, sink),
            timeout: defaults.and_then(|fields| fields.duration(&TASK.timeout)),
            deadline: defaults.and_then(|fields| fields.duration(&TASK.deadline)),
            on_failure: defaults.and_then(|fields| fields.choice(&TASK.on_failure)).unwrap_or_default(),
            ..Task::new(id.clone(), Work::Call(call))
        }
    }
}

/// Checks that there is a `uri`, or a valid `template` and a value for each of its required variables.
fn check_address(read: CheckedTable<'_, ReadKeys>, sink: &mut DiagnosticSink) {
    let Some(template) = read.node(&READ.template) else {
        read.report_useless(&[&READ.with], "without `template`", sink);
        if !read.has(&READ.uri) && !read.has(&READ.template) {
            let error = sink.error("no_uri", read.span(), "`read` must have `uri` or `template`");
            error.help("set the `uri` of the resource");
        }
        return;
    };
    read.report_useless(&[&READ.uri], "with `template`", sink);
    let text = template.as_text().unwrap_or_default();
    if text.contains("${{") {
        let error = sink.error("bad_template", template.span, "a URI template cannot contain `${{ }}`");
        error.help("name a variable in the template, and set its value in `with`");
        return;
    }
    let parsed = match UriTemplate::parse(text) {
        Ok(parsed) => parsed,
        Err(problem) => {
            let error = sink.error("bad_template", template.span, format!("invalid URI template: {problem}"));
            error.help("RFC 6570 defines templates, such as `note://{name}`");
            return;
        }
    };
    let known = || parsed.variables().map(|variable| variable.name);
    for (name, entry) in read.entries(&READ.with) {
        if !known().any(|known| known == name) {
            let help = sink.suggest(name, known(), ("its variables are", "it has no variables"));
            let message = format!("the URI template has no variable `{name}`");
            sink.error("unknown_argument", entry.key_span, message).help(help);
        }
    }
    let given: Vec<&str> = read.entries(&READ.with).map(|(name, _)| name).collect();
    for variable in parsed.variables().filter(|variable| !variable.is_optional && !given.contains(&variable.name)) {
        let message = format!("the URI template requires a value for `{}`", variable.name);
        sink.error("missing_argument", template.span, message).help("set it in `with`");
    }
}
